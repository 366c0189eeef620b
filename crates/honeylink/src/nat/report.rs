//! What a node says about NAT boxes, and why an attempt came to nothing.

use std::net::SocketAddr;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::nat::plan::NoPlan;
use honeylink_core::nat::talk::{Nowhere, Refusal};
use honeylink_core::nat::{Behavior, Failure};

use super::{HoleCounts, ObserverCounts};

/// Why no hole was made towards a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPunched {
    /// None is known, or none answers.
    #[error(
        "no observer answers, so nobody can say where this device is seen (those of node.relays and nat.observers)"
    )]
    NoObserver,
    /// What the other side says about where it is, is not believed.
    #[error("where the other device is cannot be believed: {0}")]
    Nowhere(#[from] Nowhere),
    /// From how both boxes behave.
    #[error(transparent)]
    NoPlan(#[from] NoPlan),
    /// The other side will not.
    #[error("the other device takes no part: {0}")]
    Refused(Refusal),
    /// The two tried.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A hole was made, but no connection came through it.
    #[error("a hole was made, but the connection did not move to it")]
    NotTaken,
    /// Too many at a time.
    #[error("as many attempts as allowed are under way")]
    Busy,
    /// The link broke, or the other side speaks no such protocol.
    #[error("the two devices could not arrange it: {0}")]
    Arranging(String),
}

/// The latest attempt towards a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptReport {
    /// To whom.
    pub peer: DeviceId,
    /// When it ended, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// From its beginning to its end, the arrangement included.
    pub took: Duration,
    /// Probes that this device sent until it got through, or gave up.
    pub probes: u16,
    /// How the other side's box behaves, if it came to that.
    pub theirs: Option<Behavior>,
    /// `Ok` if there is a hole now; else why not.
    pub result: Result<(), NotPunched>,
}

/// What a node knows of the box before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatReport {
    /// How it behaves, as far as observers showed; [`Mapping::Unknown`](super::Mapping::Unknown) until they did.
    pub behavior: Behavior,
    /// Where this device was seen last.
    pub seen: Option<SocketAddr>,
    /// Observers that are known: those of the settings, and those of the node's relays.
    pub observers: usize,
    /// Observers that were asked the last time: those with an address.
    pub asked: usize,
    /// Of these, those that answered.
    pub answered: usize,
    /// Whether holes are made.
    pub punch: bool,
    /// Attempts so far.
    pub attempts: u64,
    /// Attempts that made a hole.
    pub punched: u64,
    /// The latest attempt towards each device.
    pub latest: Vec<AttemptReport>,
    /// Packets dropped at holes.
    pub dropped: HoleCounts,
    /// What this node did as an observer, if it is one.
    pub observing: Option<ObserverCounts>,
}
