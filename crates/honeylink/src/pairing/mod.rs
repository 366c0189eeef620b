//! Pairing over a stream: the ceremonies of [`honeylink_core::pairing`] with timeouts and people attached.
//!
//! Everything cryptographic and every rule lives in the core; here are the parts that wait. [`host`] runs on the device
//! that shows a code, [`guest`] on the one where it is typed. Both take any reliable byte stream between the two devices,
//! the key the channel has proved for the other end, and the channel binding, and know nothing of connections. What a
//! host has open is kept on a [`PairingDesk`], shared by every stream of the node.
//!
//! ```text
//! desk.open(order) ─▶ code, invite      a person carries them over
//! host(stream, here, source, desk) ◀──▶ guest(stream, here, errand, rng)
//!        └──────────── Paired { peer, name, method, verified, .. } ───────────┘
//! ```
//!
//! The guest receives the last frame, so the guest's side closes the connection and the host's waits for that. Nothing
//! is buffered beyond the last frame: the same stream can carry what comes next.

mod ceremony;
mod compare;
mod desk;
mod wire;

pub use ceremony::{guest, host};
pub use desk::{DeskState, DeskWatch, OpenCode, PairingDesk};
pub use honeylink_core::pairing::card::{DeviceCard, InvalidName};
pub use honeylink_core::pairing::code::{Code, Form, InvalidCode};
pub use honeylink_core::pairing::desk::{OpenError, Order, TicketId};
pub use honeylink_core::pairing::invite::{InvalidInvite, Invite};
pub use honeylink_core::pairing::limiter::Source;
pub use honeylink_core::pairing::refusal::Refusal;
pub use honeylink_core::pairing::sas::{Emoji, Language, Sas};
pub use honeylink_core::pairing::{ChannelBinding, Hint, Method, Purpose, SessionKey};

use honeylink_core::identity::{DeviceId, DeviceType};
use honeylink_core::wire::Invalid;
use tokio::sync::{mpsc, oneshot};

/// This end of a ceremony, whichever role it plays.
#[derive(Clone, Debug)]
pub struct Here {
    /// This device.
    pub local: DeviceId,
    /// What it says about itself.
    pub card: DeviceCard,
    /// The key that the channel proved for the other end. Whose it is, the ceremony finds out.
    pub peer: DeviceId,
    /// The exporter value of this very connection.
    pub binding: ChannelBinding,
    /// Whether a person here can compare short strings.
    pub compare: Compare,
}

/// Whether a person can be asked to compare short strings, and whether they want to be.
#[derive(Clone, Debug)]
pub enum Compare {
    /// Nobody can answer here.
    Unable,
    /// If the other side wants it.
    IfAsked(mpsc::Sender<SasPrompt>),
    /// In every ceremony.
    Always(mpsc::Sender<SasPrompt>),
}

/// A question to the person: does the other device show the same?
#[derive(Debug)]
pub struct SasPrompt {
    /// What to show.
    pub sas: Sas,
    /// The device at the other end.
    pub peer: DeviceId,
    /// What it says about itself; true if the strings are equal.
    pub card: DeviceCard,
    /// `true`: the same; `false`: different. Dropping it cancels.
    pub answer: oneshot::Sender<bool>,
}

/// What a guest brings.
#[derive(Clone, Debug)]
pub enum Errand {
    /// A typed code.
    Code(Code, Purpose),
    /// A scanned or pasted invite, which says itself what it is for.
    Invite(Invite),
    /// Nothing: pair by comparing short strings.
    Compare,
}

impl Errand {
    fn purpose(&self) -> Purpose {
        match self {
            Self::Code(_, purpose) => *purpose,
            Self::Invite(invite) => invite.purpose(),
            Self::Compare => Purpose::Pair,
        }
    }

    fn hint(&self) -> Hint {
        match self {
            Self::Code(code, _) => code.hint(),
            Self::Invite(invite) => invite.hint(),
            Self::Compare => Hint::Sas,
        }
    }
}

/// A ceremony that succeeded.
#[derive(Clone, Debug)]
pub struct Paired {
    /// The device at the other end, now known to be the one the person meant.
    pub peer: DeviceId,
    /// Its name, authenticated.
    pub name: String,
    /// Its type, authenticated.
    pub device_type: DeviceType,
    /// What the ceremony was for; only [`Purpose::Pair`] may lead to lasting trust.
    pub purpose: Purpose,
    /// By what the devices recognised each other.
    pub method: Method,
    /// Whether both people compared short strings and found them equal.
    pub verified: bool,
    /// A key only the two devices know. None without a code, as comparing strings makes no key.
    pub session_key: Option<SessionKey>,
    /// On the host: the opening that was used up, to find what it was opened for.
    pub ticket: Option<TicketId>,
}

/// Why a ceremony failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// The other device said no, and why.
    #[error("{0}")]
    Refused(Refusal),
    /// This device said no to the other, and why.
    #[error("the other device was turned away: {0}")]
    TurnedAway(Refusal),
    /// The host could not prove that it knows the code.
    #[error("the other device does not know the code; somebody may sit between the two")]
    HostUnproven,
    /// The invite was made by another device than the one at the other end.
    #[error("the invite is from device {}, but device {} answered", .expected.short(), .found.short())]
    WrongDevice {
        /// Who made the invite.
        expected: DeviceId,
        /// Who is at the other end.
        found: DeviceId,
    },
    /// Both ends are this device.
    #[error("a device cannot pair with itself")]
    SelfPairing,
    /// Both people typed a code on the same stream.
    #[error("both devices are entering a code; one of them must show it")]
    BothEntering,
    /// The other device sent our own message back.
    #[error("the other side only reflects what it is sent; something sits in between")]
    Reflected,
    /// The other device opened another nonce than it had promised.
    #[error("the other device broke its commitment; this is what an attack looks like")]
    BrokenCommitment,
    /// The person here found the strings different.
    #[error("the pictures or digits differ; somebody may sit between the two devices, so nothing was paired")]
    SasMismatch,
    /// The person here gave no answer.
    #[error("cancelled on this device")]
    Cancelled,
    /// The other device wants strings compared, and nobody here can.
    #[error("the other device asks to compare pictures, but nobody can answer on this one")]
    NobodyToCompare,
    /// The other device chose a version this one did not offer.
    #[error("the other device chose pairing version {0}, which was not offered")]
    VersionNotOffered(u8),
    /// The other device sent bytes that are no message.
    #[error("the other device sent a malformed pairing message ({0})")]
    Malformed(Invalid),
    /// The other device sent a message out of turn.
    #[error("the other device sent '{found}' when '{expected}' was due")]
    OutOfTurn {
        /// What should have come.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// Nothing came in time.
    #[error("timed out waiting for the other device's {0}")]
    TimedOut(&'static str),
    /// The stream ended or broke.
    #[error("the connection was lost before the other device's {0}")]
    Lost(&'static str),
}

#[cfg(test)]
mod tests;
