//! How two devices that never met come to trust each other, and why nobody between them can join in.
//!
//! # The ceremony with a code
//!
//! One device, the *host*, shows a code (or a QR); a person carries it to the other, the *guest*, and types it there.
//! Both already speak over an encrypted channel in which each has proved its key, but neither knows whose key that is.
//! The code settles it:
//!
//! ```text
//! guest                                   host
//!   Hello   versions, purpose, which code →      the host looks the code up; refuses if none is open
//!         ← Welcome  the version chosen
//!   Pake    blinded by the code           →
//!         ← Pake     blinded by the code         both now hold a key, equal only if the codes were
//!   Confirm MAC and card                  →      the host judges: a wrong code is counted here
//!         ← Confirm  MAC and card                and only a right one gets the host's own proof
//!   Done                                 ↔ Done
//! ```
//!
//! SPAKE2 makes each run worth exactly one guess: what crosses the wire can be tested against no list of codes. The
//! guest confirms first, so the host learns of a wrong code and counts it ([`desk`], [`limiter`]) before it has shown
//! anything a guesser could check. Everything both sides must agree on goes into the transcript: version, purpose, kind
//! of code, greeting, both keys in their roles, and the *channel binding*, a value the TLS layer derives from this very
//! connection (RFC 9266 in spirit). A relay that terminates both sides has two connections, hence two bindings, and fails.
//!
//! # The ceremony without a code
//!
//! Two people who see both screens can compare a short string instead ([`sas`]): six digits and four pictures that
//! depend on both keys and the channel. The guest commits to its nonce before it sees the host's, so a man in the middle
//! cannot search for a pair of keys whose strings collide; he has one try in a million. The same comparison after a code
//! raises the peer from paired to verified.
//!
//! # The pieces
//!
//! [`code`] and [`invite`] are what people carry; [`pake`] and [`sas`] are typestates, each step consuming the last;
//! [`desk`] holds what the host has open and judges attempts under [`limiter`]; [`frame`] puts it on the wire.
//! Nothing here prints a secret: codes have an explicit `reveal`, and `Debug` shows only what is public.

pub mod card;
pub mod code;
pub mod desk;
mod emoji;
pub mod frame;
pub mod invite;
mod kdf;
pub mod limiter;
pub mod pake;
pub mod refusal;
pub mod sas;
mod words;

use core::fmt;

use zeroize::{Zeroize as _, Zeroizing};

use crate::wire::{Invalid, Reader};

/// The version of the ceremony this code speaks.
pub const VERSION: u8 = 1;

/// What a ceremony is for. Bound into the transcript, so that a code opened for one purpose never serves the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Both devices will trust each other from now on.
    Pair,
    /// One transfer, then the devices are strangers again.
    Fetch,
}

impl Purpose {
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::Pair => 1,
            Self::Fetch => 2,
        }
    }

    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Pair),
            2 => Some(Self::Fetch),
            _ => None,
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pair => "pairing",
            Self::Fetch => "a one-time transfer",
        })
    }
}

/// By what a peer was recognised; kept in the trust store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// A typed code.
    Code,
    /// A scanned or pasted invite.
    Qr,
    /// Only the comparison of short strings.
    Sas,
}

/// The public part of a code: which of the host's open codes the guest holds. Says nothing about the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    /// The one open code of six digits.
    Digits,
    /// The open code of two words with this number, at least 1.
    Words(u16),
    /// The open invite whose secret hashes to this tag.
    Invite([u8; 4]),
    /// No code: the devices will compare short strings.
    Sas,
}

impl Hint {
    /// How a peer that used this hint was recognised.
    #[must_use]
    pub const fn method(self) -> Method {
        match self {
            Self::Digits | Self::Words(_) => Method::Code,
            Self::Invite(_) => Method::Qr,
            Self::Sas => Method::Sas,
        }
    }

    /// Five bytes: the kind, then its four bytes of detail. One hint has one encoding.
    pub(crate) fn to_bytes(self) -> [u8; 5] {
        let (kind, detail) = match self {
            Self::Digits => (1, [0; 4]),
            Self::Words(nameplate) => (2, u32::from(nameplate).to_be_bytes()),
            Self::Invite(tag) => (3, tag),
            Self::Sas => (4, [0; 4]),
        };
        let [a, b, c, d] = detail;
        [kind, a, b, c, d]
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        let what = "pairing hint";
        let kind = reader.u8(what)?;
        let detail: [u8; 4] = reader.array(what)?;
        let number = u32::from_be_bytes(detail);
        match (kind, u16::try_from(number)) {
            (1, Ok(0)) => Ok(Self::Digits),
            (2, Ok(nameplate @ 1..)) => Ok(Self::Words(nameplate)),
            (3, _) => Ok(Self::Invite(detail)),
            (4, Ok(0)) => Ok(Self::Sas),
            _ => Err(Invalid::Value { what }),
        }
    }
}

/// What a code or an invite contributes to the exchange. Wiped on drop, never printed.
#[derive(Clone)]
pub struct Secret {
    hint: Hint,
    bytes: Zeroizing<Vec<u8>>,
}

impl Secret {
    pub(crate) fn new(hint: Hint, bytes: &[u8]) -> Self {
        Self { hint, bytes: Zeroizing::new(bytes.to_vec()) }
    }

    /// Which open code this is the secret of.
    #[must_use]
    pub const fn hint(&self) -> Hint {
        self.hint
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(of {:?})", self.hint)
    }
}

/// 32 bytes that both ends of one connection derive and nobody else can choose, such as a TLS exporter value (RFC 8446
/// section 7.5). Ties a ceremony to the connection it runs on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChannelBinding(pub [u8; 32]);

impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelBinding(..)")
    }
}

/// The key both devices share after a ceremony with a code. Wiped on drop, never printed.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 key bytes. Derive from them; do not use them for two things.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for SessionKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}
