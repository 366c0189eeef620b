//! The words: why this way, and why no better one.

use core::fmt;

use super::{Cause, Millis, Rung, Way};
use crate::nat::Behavior;

/// What stands in the way of a better rung, as far as the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// This node keeps to its network (`reach = "lan"`), so nothing beyond is tried.
    KeepsToLan,
    /// No relay is configured, so hole punching has nobody to arrange it.
    NoRelay,
    /// UDP does not get out of this network.
    UdpBlocked,
    /// The boxes on both sides.
    Nats {
        /// Ours.
        ours: Behavior,
        /// Theirs.
        theirs: Behavior,
    },
    /// Direct addresses are known and none of them answered.
    NoAnswer,
    /// The user allows no other carrier.
    Policy,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeepsToLan => f.write_str("this node keeps to its network (node.reach = \"lan\")"),
            Self::NoRelay => f.write_str("no relay is configured that could arrange a direct way"),
            Self::UdpBlocked => f.write_str("this network lets no UDP out"),
            Self::Nats { ours, theirs } => {
                write!(f, "no hole could be made through the NATs (here {ours}; there {theirs})")
            }
            Self::NoAnswer => f.write_str("none of its direct addresses answered"),
            Self::Policy => f.write_str("the settings allow no other carrier"),
        }
    }
}

/// Why a way is the one in use. Its text is a clause: `chosen over relayed 41 ms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    cause: Cause,
    used: Rung,
    over: Option<Way>,
    hindrance: Option<Hindrance>,
}

impl Reason {
    pub(super) fn new(used: &Way, other: Option<&Way>, cause: Cause, hindrance: Option<Hindrance>) -> Self {
        // Nothing stands in the way of what is as good as it gets.
        let hindrance = hindrance.filter(|_| !used.rung.is_direct());
        Self { cause, used: used.rung, over: other.cloned(), hindrance }
    }

    /// What hinders a better rung, if the way in use is not direct.
    #[must_use]
    pub const fn hindrance(&self) -> Option<Hindrance> {
        self.hindrance
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.over {
            None => f.write_str("the only way there is")?,
            Some(other) => {
                let kept = other.rung < self.used;
                f.write_str(if kept { "kept, though there is " } else { "chosen over " })?;
                match other.rtt {
                    Some(rtt) => write!(f, "{} {}", other.rung, Millis(rtt))?,
                    None => write!(f, "{}", other.rung)?,
                }
            }
        }
        match self.cause {
            Cause::Failed => f.write_str(", since the way before failed")?,
            Cause::Restored => f.write_str(", since the link was restored")?,
            Cause::First | Cause::Climbed | Cause::Preferred | Cause::Lost => {}
        }
        self.hindrance.map_or(Ok(()), |why| write!(f, "; not direct: {why}"))
    }
}
