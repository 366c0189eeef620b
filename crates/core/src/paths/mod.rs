//! Which way the bytes to a peer go, why that way, and what it was before.
//!
//! Carriers choose: QUIC moves a connection from path to path by itself. This module is told what there is, again and
//! again, and makes sense of it: it notices changes, names their causes, keeps a bounded history with what each change
//! cost and gained, and says in words why the way in use is the one, and what stands in the way of a better one.

mod candidates;
mod pace;
mod reason;
mod restraint;
mod silence;
#[cfg(test)]
mod tests;

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;

pub use self::candidates::Candidates;
pub use self::pace::{Pace, Power};
pub use self::reason::{Hindrance, Reason};
pub use self::restraint::{Restraint, UNANSWERED_MAX};
pub use self::silence::{LOOK_LATE, Silence};
use crate::limits::{PATH_CHANGES_MAX, PATHS_MAX};
use crate::time::Time;

/// The place of a way on the ladder; lower is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// Inside this machine.
    Local,
    /// Direct on the same network.
    Lan,
    /// Direct through NATs or over the internet.
    Direct,
    /// Direct through a NAT that ordinary hole punching does not pass: by guessing its ports ([`crate::nat`]).
    Punched,
    /// Through a relay that sees ciphertext only.
    Relayed,
    /// Message by message over several hops. No link goes this way.
    Mesh,
    /// Kept by another device until the target shows up. No link goes this way.
    Stored,
}

impl Rung {
    /// All of them, the best first.
    pub const ALL: [Self; 7] =
        [Self::Local, Self::Lan, Self::Direct, Self::Punched, Self::Relayed, Self::Mesh, Self::Stored];

    /// The word shown to people and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Lan => "direct/lan",
            Self::Direct => "direct/wide",
            Self::Punched => "punched",
            Self::Relayed => "relayed",
            Self::Mesh => "mesh",
            Self::Stored => "stored",
        }
    }

    /// Whether the two devices speak to each other without a third.
    #[must_use]
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::Local | Self::Lan | Self::Direct | Self::Punched)
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A way to the peer as a carrier reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its place on the ladder.
    pub rung: Rung,
    /// What carries it: `iroh`, `tcp`, `memory`, ...
    pub carrier: &'static str,
    /// The far address: `ip:port`, a relay's URL.
    pub remote: String,
    /// Smoothed round-trip time; `None` until measured.
    pub rtt: Option<Duration>,
}

impl Way {
    /// Whether both are the same way; round-trip times come and go.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (self.rung, self.carrier, &self.remote) == (other.rung, other.carrier, &other.remote)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.rung, self.carrier, self.remote)?;
        self.rtt.map_or(Ok(()), |rtt| write!(f, ", {}", Millis(rtt)))
    }
}

/// Milliseconds with as many digits as matter.
pub(crate) struct Millis(pub(crate) Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_secs_f64() * 1000.0;
        if ms < 10.0 { write!(f, "{ms:.1} ms") } else { write!(f, "{ms:.0} ms") }
    }
}

/// What made the bytes go another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The first way there was.
    First,
    /// A better rung became possible.
    Climbed,
    /// The way before is gone; this one is on a worse rung, or the same.
    Failed,
    /// A way of the same rung answers sooner, or the carrier prefers it.
    Preferred,
    /// No way is left.
    Lost,
    /// A way was found after there was none.
    Restored,
}

impl Cause {
    /// All of them, in the order of [`Counts`].
    pub const ALL: [Self; 6] =
        [Self::First, Self::Climbed, Self::Failed, Self::Preferred, Self::Lost, Self::Restored];

    /// The word in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Climbed => "climbed",
            Self::Failed => "failed-over",
            Self::Preferred => "preferred",
            Self::Lost => "lost",
            Self::Restored => "restored",
        }
    }
}

/// A change of the way in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When it was noticed.
    pub at: Time,
    /// The way before; `None` if there was none.
    pub from: Option<Way>,
    /// The way since then; its round-trip time is the first one measured on it. `None` if there is none.
    pub to: Option<Way>,
    /// What made it so.
    pub cause: Cause,
    /// How long there was no way; zero for changes from one to another.
    pub gap: Duration,
}

/// How often each [`Cause`] was, in the order of [`Cause::ALL`].
pub type Counts = [u64; Cause::ALL.len()];

/// The ways to one peer.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    used: Option<Way>,
    /// Other ways there are now, the best first.
    others: Vec<Way>,
    lost_at: Option<Time>,
    history: VecDeque<Change>,
    counts: Counts,
}

impl Paths {
    /// Takes note of the ways that there are now: the one in use, and others. Returns the change if the way in use is
    /// another one than before.
    pub fn observe(
        &mut self,
        now: Time,
        used: Option<Way>,
        others: impl IntoIterator<Item = Way>,
    ) -> Option<&Change> {
        self.others = others.into_iter().take(PATHS_MAX).collect();
        self.others.sort_by_key(|way| (way.rung, way.rtt.unwrap_or(Duration::MAX)));
        let same = match (&self.used, &used) {
            (Some(before), Some(now)) => before.is(now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if same {
            // The first time measured is what the change gained; the latest is what is true now.
            if let Some(Change { to: Some(to), .. }) = self.history.back_mut()
                && to.rtt.is_none()
            {
                to.rtt = used.as_ref().and_then(|way| way.rtt);
            }
            self.used = used;
            return None;
        }
        let cause = self.cause(used.as_ref());
        let gap = self.lost_at.take().map_or(Duration::ZERO, |since| now.saturating_since(since));
        if used.is_none() {
            self.lost_at = Some(now);
        }
        if let Some(count) = self.counts.get_mut(cause as usize) {
            *count += 1;
        }
        if self.history.len() >= PATH_CHANGES_MAX {
            self.history.pop_front();
        }
        let from = core::mem::replace(&mut self.used, used.clone());
        self.history.push_back(Change { at: now, from, to: used, cause, gap });
        self.history.back()
    }

    fn cause(&self, to: Option<&Way>) -> Cause {
        match (&self.used, to) {
            (_, None) => Cause::Lost,
            (None, Some(_)) if self.history.is_empty() => Cause::First,
            (None, Some(_)) => Cause::Restored,
            (Some(from), Some(to)) if to.rung < from.rung => Cause::Climbed,
            // A way that is still there was left for a better one; one that is gone was not left by choice.
            (Some(from), Some(_)) if self.others.iter().any(|other| other.is(from)) => Cause::Preferred,
            (Some(_), Some(_)) => Cause::Failed,
        }
    }

    /// The way in use.
    #[must_use]
    pub const fn used(&self) -> Option<&Way> {
        self.used.as_ref()
    }

    /// Other ways there are now, the best first.
    #[must_use]
    pub fn others(&self) -> &[Way] {
        &self.others
    }

    /// The latest changes, the oldest first.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &Change> {
        self.history.iter()
    }

    /// How often each cause was, since the beginning.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Why the way in use is the one, and what stands in the way of a better one; `None` without a way.
    #[must_use]
    pub fn reason(&self, hindrance: Option<Hindrance>) -> Option<Reason> {
        let used = self.used.as_ref()?;
        let cause = self.history.back().map_or(Cause::First, |change| change.cause);
        Some(Reason::new(used, self.others.first(), cause, hindrance))
    }
}
