//! Keys between two devices, and what is done with them: sealing messages, proving receipts and routes.
//!
//! Any two devices that know each other's id share a secret without a word: X25519 between their identity keys (ME-K1).
//! From it come keys per direction and use, so that nothing said one way can be played back the other way, and no
//! receipt is ever a request. That is all a first message needs: no round trip, which over radio costs minutes.
//!
//! # What is secret, and for how long
//!
//! - **Static keys ([`Pairwise`]) have no forward secrecy.** Whoever learns either device's identity key, even years
//!   later, reads every message sealed with them that was recorded, and can forge new ones to that device.
//! - **A ratchet ([`Ratchet`]) has forward secrecy by blocks.** Once a block of 64 numbers is left behind and its late
//!   frames are given up, its messages cannot be opened any more, not even with both devices in hand. Messages of the
//!   current block and of the few late blocks can. On disk this holds as far as the disk really forgets what is erased.
//! - **Neither heals by itself.** Who copies a ratchet's state reads what follows until the two devices exchange new
//!   ephemeral keys ([`exchange`]).
//! - **Not hidden at all**: hints of both ends, numbers, sizes, times. Receipts, requests, replies, fragment states and
//!   custody are proved with static keys even where a ratchet is in use; they carry no content.
//!
//! # The MAC is the nonce
//!
//! HMAC-SHA256 over everything the origin fixed, the plaintext included, cut to eight bytes; then ChaCha20 (RFC 8439)
//! with that MAC and the frame's number as nonce. It is the construction of SIV (RFC 5297): a device that was restored
//! from an old copy of its disk and uses a number again shows at most that two messages are the same, where a nonce from
//! the number alone would give away both. Numbers are reserved on disk before they are used all the same
//! ([`super::replay`]), because a receiver takes each once. A PRF rather than Poly1305, because a short Poly1305 tag is
//! weaker than its length. One forgery in 2^64 tries succeeds, and every try is a transmission.

pub mod exchange;
pub mod ratchet;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

pub use self::exchange::{ExchangeRefused, KeyExchange, Offer};
pub use self::ratchet::{Ratchet, Root, Starts};
use super::frame::{
    CustodyAccepted, Data, FragmentStatus, MAC_BYTES, Mac, Receipt, RouteReply, RouteRequest,
};
use super::raw::maced_part;
use crate::identity::{DeviceId, SecretKey};
use crate::planted::{self, Bug};

/// Why a frame was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The MAC does not fit: the frame is somebody else's, or was changed on its way.
    #[error("the frame is not from this device to this device, or was changed on its way")]
    Forged,
    /// It asks for a ratchet and these are static keys, or the other way round.
    #[error("the frame was sealed with the other kind of keys")]
    OtherKeys,
    /// Its keys were erased.
    #[error("the frame is so late that its keys were erased")]
    Erased,
    /// Its number is further ahead than a receiver follows.
    #[error("the frame's number is too far ahead to be followed")]
    TooFarAhead,
}

/// The peer's key gives the all-zero secret: no device has such a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no secret can be shared with this device id: it is not a proper key")]
pub struct NoSharedSecret;

/// The static keys between this device and one peer: 64 bytes, from which the key of each use is derived when it is
/// needed. Wiped on drop.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Pairwise {
    to_peer: [u8; 32],
    from_peer: [u8; 32],
}

impl Pairwise {
    /// The keys shared with `peer` (ME-K1, ME-K2). One X25519: about 50 microseconds on a desktop computer.
    ///
    /// # Errors
    /// [`NoSharedSecret`].
    pub fn new(own: &SecretKey, peer: &DeviceId) -> Result<Self, NoSharedSecret> {
        let shared = own.agree(peer).ok_or(NoSharedSecret)?;
        let root = extract(b"honeylink/mesh/1 static", &[&shared[..]]);
        let me = own.id();
        Ok(Self { to_peer: *direction(&root, &me, peer), from_peer: *direction(&root, peer, &me) })
    }

    /// Seals `data`, whose payload is plaintext, for the peer.
    pub fn seal(&self, data: &mut Data) {
        data.ratcheted = false;
        DataKeys::of(&self.to_peer).seal(data);
    }

    /// The plaintext of a message from the peer.
    ///
    /// # Errors
    /// [`Refused::OtherKeys`] if it is ratcheted, else [`Refused::Forged`].
    pub fn open(&self, data: &Data) -> Result<Bytes, Refused> {
        if data.ratcheted {
            return Err(Refused::OtherKeys);
        }
        DataKeys::of(&self.from_peer).open(data)
    }

    /// Sets the MAC of a frame that this device says to the peer.
    pub fn attest<F: Attested>(&self, frame: &mut F) {
        let mac = mac_of(&expand(&self.to_peer, &[F::USE]), &encoded(frame));
        frame.set_mac(mac);
    }

    /// Whether the peer says this frame to this device.
    ///
    /// # Errors
    /// [`Refused::Forged`].
    pub fn check<F: Attested>(&self, frame: &F) -> Result<(), Refused> {
        let mac = mac_of(&expand(&self.from_peer, &[F::USE]), &encoded(frame));
        equal(&mac, frame.mac())
    }
}

impl core::fmt::Debug for Pairwise {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Pairwise(..)")
    }
}

/// Frames without content that one device proves to another with [`Pairwise::attest`].
pub trait Attested: sealed::Sealed {
    /// Names the key; no two kinds of frame share one.
    #[doc(hidden)]
    const USE: &'static [u8];
    /// The MAC it carries.
    fn mac(&self) -> &Mac;
    /// Replaces it.
    fn set_mac(&mut self, mac: Mac);
}

mod sealed {
    /// Only frames are attested.
    pub trait Sealed {
        /// Appends the frame's bytes.
        fn append(&self, out: &mut bytes::BytesMut);
    }
}

macro_rules! attested {
    ($($frame:ident: $label:literal),+) => {$(
        impl sealed::Sealed for $frame {
            fn append(&self, out: &mut BytesMut) {
                self.encode(out);
            }
        }
        impl Attested for $frame {
            const USE: &'static [u8] = $label;
            fn mac(&self) -> &Mac {
                &self.mac
            }
            fn set_mac(&mut self, mac: Mac) {
                self.mac = mac;
            }
        }
    )+};
}

attested!(
    Receipt: b"receipt",
    RouteRequest: b"request",
    RouteReply: b"reply",
    FragmentStatus: b"status",
    CustodyAccepted: b"custody"
);

fn encoded(frame: &impl Attested) -> BytesMut {
    let mut out = BytesMut::with_capacity(64);
    frame.append(&mut out);
    out
}

/// The two keys of one direction's messages (or of one block of them).
struct DataKeys {
    cipher: Zeroizing<[u8; 32]>,
    mac: Zeroizing<[u8; 32]>,
}

impl DataKeys {
    fn of(secret: &[u8; 32]) -> Self {
        Self { cipher: expand(secret, &[b"data key"]), mac: expand(secret, &[b"data mac"]) }
    }

    fn seal(&self, data: &mut Data) {
        data.mac = self.mac(data);
        data.payload = self.stream(data);
    }

    fn open(&self, data: &Data) -> Result<Bytes, Refused> {
        let plain = Data { payload: self.stream(data), ..data.clone() };
        if !planted::is(Bug::MacUnchecked) {
            equal(&self.mac(&plain), &data.mac)?;
        }
        Ok(plain.payload)
    }

    /// Over plaintext.
    fn mac(&self, data: &Data) -> Mac {
        let mut frame = BytesMut::with_capacity(data.payload.len() + 32);
        data.encode(&mut frame);
        mac_of(&self.mac, &frame)
    }

    /// Encrypts or decrypts: the same operation.
    fn stream(&self, data: &Data) -> Bytes {
        let mut nonce = [0; 12];
        nonce[..MAC_BYTES].copy_from_slice(&data.mac);
        nonce[MAC_BYTES..].copy_from_slice(&data.seq.to_be_bytes());
        let mut bytes = data.payload.to_vec();
        // At most 16 KiB here, far below the 256 GiB at which the block counter would end.
        ChaCha20::new((&*self.cipher).into(), &nonce.into()).apply_keystream(&mut bytes);
        bytes.into()
    }
}

/// HMAC-SHA256 over what the origin fixed, cut to [`MAC_BYTES`] (ME-K4).
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac_of(key: &[u8; 32], frame: &[u8]) -> Mac {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    if let Some(fixed) = maced_part(frame) {
        fixed.parts().for_each(|part| mac.update(part));
    }
    let mut tag = mac.finalize().into_bytes();
    let mut out = [0; MAC_BYTES];
    out.copy_from_slice(&tag[..MAC_BYTES]);
    tag.as_mut_slice().zeroize();
    out
}

/// Compares without telling by its duration where the first difference is.
fn equal(a: &Mac, b: &Mac) -> Result<(), Refused> {
    if bool::from(a.ct_eq(b)) { Ok(()) } else { Err(Refused::Forged) }
}

/// What `from` says to `to`. Both whole ids go in, so that a key belongs to exactly this pair.
fn direction(root: &[u8; 32], from: &DeviceId, to: &DeviceId) -> Zeroizing<[u8; 32]> {
    expand(root, &[b"direction", from.as_bytes(), to.as_bytes()])
}

/// HKDF-Extract (RFC 5869) with SHA-256 over the secrets in order.
pub(super) fn extract(salt: &'static [u8], secrets: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let joined = Zeroizing::new(secrets.concat());
    let (prk, _) = Hkdf::<Sha256>::extract(Some(salt), &joined);
    Zeroizing::new(prk.into())
}

/// HKDF-Expand (RFC 5869) with SHA-256 to 32 bytes, for the use that `info` names.
#[expect(clippy::expect_used, reason = "32 bytes are a whole hash, and fewer than HKDF's maximum")]
pub(super) fn expand(prk: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::from_prk(prk)
        .expect("32 bytes are a whole hash")
        .expand_multi_info(info, &mut out[..])
        .expect("32 bytes are fewer than HKDF's maximum");
    out
}
