//! Notes in a public place: how two devices find each other across the internet when nobody runs a server for them.
//!
//! The place is the Mainline DHT of BitTorrent, where anybody may store a signed value of at most 1,000 bytes under an
//! Ed25519 key for about two hours (BEP 44). Whoever stores such values, or crawls the DHT, sees their keys, their bytes
//! and the addresses of those who put and ask. So nothing about them may say whose they are:
//!
//! - **For a paired device** ([`Pair`]) a device leaves one note each. Its key, and the keys that seal it, come from the
//!   secret that the two identity keys share and from the day. Nobody else can tell where it lies, whom it is for, or what
//!   it says, not even somebody who knows both ids; and tomorrow's note has nothing in common with today's. A device that
//!   is forgotten gets no more notes, and nothing has to be taken back.
//! - **For a code** ([`of_code`]) the key comes from the number in front of its words, the public half. Whoever tries all
//!   numbers finds every code that is open; what makes a code safe is the exchange that follows, as on a local network.
//!
//! A note is proved by its keys: only the two devices of a pair can make one that opens. It is still only a hint where to
//! knock; the handshake proves who opens ([`crate::identity`]).
//!
//! Clauses `WA-..` are those of `docs/wire/wide-area.md`.

mod note;
#[cfg(test)]
mod tests;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{ZeroizeOnDrop, Zeroizing};

pub use self::note::{CodeNote, Whereabouts};
use crate::identity::{DeviceId, SecretKey};
use crate::limits::WIDE_NOTE_BYTES;
use crate::wire::Invalid;

/// Bytes of the MAC in front of a note.
const MAC_BYTES: usize = 16;
/// Bytes of what a note says, zeros at its end included.
const BODY_BYTES: usize = WIDE_NOTE_BYTES - MAC_BYTES;
/// How long one key of a pair is used.
const DAY_MS: u64 = 86_400_000;

/// Why a note was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteRefused {
    /// Every note has the same length (WA-N1).
    #[error("a note has {WIDE_NOTE_BYTES} bytes; this has {0}")]
    Length(usize),
    /// Its MAC does not fit: nobody who may leave a note here made it.
    #[error("the note is not from this device, or was changed")]
    Forged,
    /// It was made by one of the two, and says nothing this version understands.
    #[error("the note cannot be read: {0}")]
    Unreadable(#[from] Invalid),
    /// There was a newer one before.
    #[error("the note is older than one that was read before")]
    Old,
}

/// Where a note lies and what seals it. Wiped on drop.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Place {
    item: [u8; 32],
    cipher: [u8; 32],
    mac: [u8; 32],
}

impl Place {
    fn derived(root: &Hkdf<Sha256>, info: &[&[u8]]) -> Self {
        let key = |used: &'static [u8]| {
            let mut parts: Vec<&[u8]> = vec![used];
            parts.extend_from_slice(info);
            *expand(root, &parts)
        };
        Self { item: key(b"item "), cipher: key(b"cipher "), mac: key(b"mac ") }
    }

    /// The seed of the Ed25519 key (RFC 8032) under which the note is stored and signed.
    #[must_use]
    pub const fn seed(&self) -> &[u8; 32] {
        &self.item
    }

    /// The public half of that key: where to look.
    #[must_use]
    pub fn key(&self) -> [u8; 32] {
        SigningKey::from_bytes(&self.item).verifying_key().to_bytes()
    }

    /// Seals what a note says (WA-N2). The construction is that of SIV (RFC 5297): the MAC over everything is the nonce, so
    /// that a number used twice gives nothing away.
    fn seal(&self, seq: u64, mut body: [u8; BODY_BYTES]) -> Vec<u8> {
        let mac = self.mac(seq, &body);
        self.apply_stream(&mac, &mut body);
        [&mac[..], &body[..]].concat()
    }

    fn open(&self, seq: u64, note: &[u8]) -> Result<[u8; BODY_BYTES], NoteRefused> {
        let length = NoteRefused::Length(note.len());
        let (said, body) = note.split_first_chunk::<MAC_BYTES>().ok_or(length)?;
        let mut body: [u8; BODY_BYTES] = body.try_into().map_err(|_| length)?;
        self.apply_stream(said, &mut body);
        if bool::from(self.mac(seq, &body).ct_eq(said)) { Ok(body) } else { Err(NoteRefused::Forged) }
    }

    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    fn mac(&self, seq: u64, body: &[u8; BODY_BYTES]) -> [u8; MAC_BYTES] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.mac).expect("HMAC takes a key of any length");
        mac.update(&seq.to_be_bytes());
        mac.update(body);
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        let mut cut = [0; MAC_BYTES];
        cut.copy_from_slice(&whole[..MAC_BYTES]);
        cut
    }

    fn apply_stream(&self, mac: &[u8; MAC_BYTES], body: &mut [u8; BODY_BYTES]) {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&mac[..12]);
        ChaCha20::new(&self.cipher.into(), &nonce.into()).apply_keystream(body);
    }
}

impl core::fmt::Debug for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Place(..)")
    }
}

/// The notes between this device and one that it is paired with.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Pair {
    root: [u8; 32],
    #[zeroize(skip)]
    own: DeviceId,
    #[zeroize(skip)]
    peer: DeviceId,
}

impl Pair {
    /// What the two devices share (WA-K1). One X25519. `None` if the peer's id is no proper key.
    #[must_use]
    pub fn new(own: &SecretKey, peer: &DeviceId) -> Option<Self> {
        let shared = own.agree(peer)?;
        let (root, _) = Hkdf::<Sha256>::extract(Some(b"honeylink/wide/1 pair"), &shared[..]);
        Some(Self { root: root.into(), own: own.id(), peer: *peer })
    }

    /// Where this device leaves its notes for the peer on that [day](day_of).
    #[must_use]
    pub fn to_peer(&self, day: u64) -> Place {
        self.place(&self.own, &self.peer, day)
    }

    /// Where the peer leaves its notes for this device on that [day](day_of).
    #[must_use]
    pub fn from_peer(&self, day: u64) -> Place {
        self.place(&self.peer, &self.own, day)
    }

    #[expect(clippy::expect_used, reason = "32 bytes are a whole hash")]
    fn place(&self, from: &DeviceId, to: &DeviceId, day: u64) -> Place {
        let root = Hkdf::<Sha256>::from_prk(&self.root).expect("32 bytes are a whole hash");
        Place::derived(&root, &[from.as_bytes(), to.as_bytes(), &day.to_be_bytes()])
    }
}

impl core::fmt::Debug for Pair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Pair({:?}, {:?}, ..)", self.own, self.peer)
    }
}

/// Where the note for an open code of words lies: by its number, which is public (WA-C1).
#[must_use]
pub fn of_code(number: u16) -> Place {
    let root = Hkdf::<Sha256>::new(Some(b"honeylink/wide/1 code"), &number.to_be_bytes());
    Place::derived(&root, &[])
}

/// The day of a time by the wall clock, in milliseconds since 1970 (WA-K2).
#[must_use]
pub const fn day_of(unix_ms: u64) -> u64 {
    unix_ms / DAY_MS
}

/// HKDF-Expand (RFC 5869) to 32 bytes, for the use that `info` names.
#[expect(clippy::expect_used, reason = "32 bytes are fewer than HKDF's maximum")]
fn expand(root: &Hkdf<Sha256>, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    root.expand_multi_info(info, &mut out[..]).expect("32 bytes are fewer than HKDF's maximum");
    out
}
