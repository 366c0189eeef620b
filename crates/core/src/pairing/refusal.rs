//! Why a device will not go on with a ceremony; said to the peer in a `Refuse` frame and shown to the person there.

use core::time::Duration;

use bytes::{BufMut as _, BytesMut};

use crate::wire::{Invalid, Reader};

/// One reason to end a ceremony. The text is written for the person at the *other* device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No code is open and comparing without one is not allowed right now.
    #[error("the other device is not in pairing mode; open pairing there first")]
    NotOpen,
    /// The code named by the hint does not exist there.
    #[error("the other device shows no such code; check the number or kind of code")]
    NoSuchCode,
    /// The code was open once, but too long ago.
    #[error("this code has expired; ask for a new one")]
    Expired,
    /// The code has served its one purpose.
    #[error("this code was used already; ask for a new one")]
    Used,
    /// The code was withdrawn by its owner.
    #[error("this code was withdrawn; ask for a new one")]
    Withdrawn,
    /// The code opens something else.
    #[error(
        "this code was made for another purpose (pairing codes do not fetch files, nor the other way round)"
    )]
    WrongPurpose,
    /// The proof did not match.
    #[error("wrong code; if it was typed right, somebody may sit between the two devices")]
    WrongCode,
    /// Wrong codes have used up the tries of this window.
    #[error("too many wrong codes; try again in {} s", retry_after.as_secs())]
    TooManyTries {
        /// How long until a try is allowed again.
        retry_after: Duration,
    },
    /// The other device does not speak a version we do.
    #[error("the other device speaks pairing versions {min} to {max}; one of the two needs an update")]
    Version {
        /// Lowest version the refusing side speaks.
        min: u8,
        /// Highest version the refusing side speaks.
        max: u8,
    },
    /// Both ends are the same device.
    #[error("a device cannot pair with itself")]
    SelfPairing,
    /// Both sides typed a code on the same stream.
    #[error("both devices are entering a code; one of them must show it")]
    BothEntering,
    /// The person at the other device said no or closed the window.
    #[error("the other device cancelled")]
    Cancelled,
    /// The people saw different short strings.
    #[error("the pictures or digits differ on the two devices; somebody may sit between them")]
    SasMismatch,
    /// Another comparison is running there.
    #[error("the other device is busy with another pairing; try again in a moment")]
    Busy,
    /// A message that makes no sense here.
    #[error("the other device could not follow the conversation")]
    Protocol,
    /// A step took too long.
    #[error("the other device waited too long for an answer")]
    TimedOut,
}

impl Refusal {
    /// One byte of reason, four of detail.
    pub(super) fn write(self, out: &mut BytesMut) {
        let (reason, detail) = match self {
            Self::NotOpen => (1, 0),
            Self::NoSuchCode => (2, 0),
            Self::Expired => (3, 0),
            Self::Used => (4, 0),
            Self::Withdrawn => (5, 0),
            Self::WrongPurpose => (6, 0),
            Self::WrongCode => (7, 0),
            // Rounded up, so that nobody is told to come back a moment too early.
            Self::TooManyTries { retry_after } => {
                (8, u32::try_from(retry_after.as_millis().div_ceil(1000)).unwrap_or(u32::MAX))
            }
            Self::Version { min, max } => (9, u32::from_be_bytes([0, 0, min, max])),
            Self::SelfPairing => (10, 0),
            Self::BothEntering => (11, 0),
            Self::Cancelled => (12, 0),
            Self::SasMismatch => (13, 0),
            Self::Busy => (14, 0),
            Self::Protocol => (15, 0),
            Self::TimedOut => (16, 0),
        };
        out.put_u8(reason);
        out.put_u32(detail);
    }

    /// Reads a reason. One this version does not know becomes [`Refusal::Cancelled`]: it is a no in any case.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        let reason = reader.u8("refusal")?;
        let detail = reader.u32("refusal detail")?;
        Ok(match reason {
            1 => Self::NotOpen,
            2 => Self::NoSuchCode,
            3 => Self::Expired,
            4 => Self::Used,
            5 => Self::Withdrawn,
            6 => Self::WrongPurpose,
            7 => Self::WrongCode,
            8 => Self::TooManyTries { retry_after: Duration::from_secs(detail.into()) },
            9 => {
                let [_, _, min, max] = detail.to_be_bytes();
                Self::Version { min, max }
            }
            10 => Self::SelfPairing,
            11 => Self::BothEntering,
            13 => Self::SasMismatch,
            14 => Self::Busy,
            15 => Self::Protocol,
            16 => Self::TimedOut,
            _ => Self::Cancelled,
        })
    }
}
