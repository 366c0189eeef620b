//! Who a device is: its Ed25519 public key, and the short forms derived from it.
//!
//! The key is also the QUIC endpoint's key, so a handshake that completes has proved it; there is no unverified mode.
//! The secret half never leaves [`SecretKey`], which is wiped when dropped and never printed.

use core::fmt;
use core::str::FromStr;

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::rng::Rng;

/// A device's identity: its Ed25519 public key, 32 bytes (RFC 8032).
///
/// Shown as 64 lower-case hex digits, or as the first ten with [`DeviceId::short`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId([u8; 32]);

/// Why some text or bytes are not a device id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not 64 hex digits.
    #[error("a device id is 64 hex digits; this has {0} characters")]
    Length(usize),
    /// A character that is not a hex digit.
    #[error("a device id is 64 hex digits; this has other characters")]
    NotHex,
    /// 32 bytes that are no point on the curve, or a weak one: no secret key belongs to them.
    #[error("these 32 bytes are not a usable Ed25519 public key")]
    NotAKey,
}

impl DeviceId {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Takes 32 bytes as a device id.
    ///
    /// # Errors
    /// [`InvalidId::NotAKey`] if no usable secret key can belong to them (not on the curve, or of small order).
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, InvalidId> {
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| InvalidId::NotAKey)?;
        if key.is_weak() {
            return Err(InvalidId::NotAKey);
        }
        Ok(Self(bytes))
    }

    /// The 32 bytes of the public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten hex digits: enough to tell devices apart on a screen, never enough to trust one.
    #[must_use]
    pub fn short(&self) -> String {
        HEXLOWER.encode(&self.0[..5])
    }

    /// The mesh address: the first 16 bytes of SHA-256 of the id.
    #[must_use]
    pub fn mesh_address(&self) -> [u8; 16] {
        self.digest_prefix()
    }

    /// The tag in BLE and radio headers: the first 8 bytes of SHA-256 of the id.
    #[must_use]
    pub fn tag(&self) -> [u8; 8] {
        self.digest_prefix()
    }

    /// The id as groups of four hex digits, for two people to compare aloud.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hex = HEXLOWER.encode(&self.0);
        let mut out = String::with_capacity(hex.len() + hex.len() / 4);
        for (i, c) in hex.chars().enumerate() {
            if i > 0 && i % 4 == 0 {
                out.push(' ');
            }
            out.push(c);
        }
        out
    }

    /// Whether `signature` over `message` was made by this device (RFC 8032, strict).
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
        })
    }

    fn digest_prefix<const N: usize>(&self) -> [u8; N] {
        let digest = Sha256::digest(self.0);
        let mut out = [0; N];
        out.copy_from_slice(&digest[..N]);
        out
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({})", self.short())
    }
}

impl FromStr for DeviceId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() != 64 {
            return Err(InvalidId::Length(text.chars().count()));
        }
        let mut bytes = [0; 32];
        let lower = text.to_ascii_lowercase();
        match HEXLOWER.decode_mut(lower.as_bytes(), &mut bytes) {
            Ok(32) => Self::from_bytes(bytes),
            Ok(_) | Err(_) => Err(InvalidId::NotHex),
        }
    }
}

/// The secret half of a device's identity. Wiped on drop; `Debug` shows only the public id.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new identity from the node's generator.
    #[must_use]
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_bytes(&rng.bytes())
    }

    /// The identity that belongs to a stored 32-byte seed (RFC 8032 section 5.1.5).
    #[must_use]
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The same identity for the same number, for tests and simulation.
    #[must_use]
    pub fn from_u64(seed: u64) -> Self {
        Self::generate(&mut Rng::from_u64(seed))
    }

    /// The seed to store. Whoever holds it is this device.
    #[must_use]
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId(self.0.verifying_key().to_bytes())
    }

    /// A secret that only this device and `peer` can compute: X25519 (RFC 7748) between the two identity keys, each taken
    /// to the Montgomery curve. Not uniform: put it through a key derivation that names its use.
    ///
    /// Ed25519 signatures and X25519 may share a key: E. Thormarker, "On using the same key pair for Ed25519 and an
    /// X25519 based KEM", 2021. `None` if the peer's key yields the all-zero secret, which everybody knows.
    #[must_use]
    pub fn agree(&self, peer: &DeviceId) -> Option<zeroize::Zeroizing<[u8; 32]>> {
        let scalar = zeroize::Zeroizing::new(self.0.to_scalar_bytes());
        let point = VerifyingKey::from_bytes(&peer.0).ok()?.to_montgomery();
        let secret = zeroize::Zeroizing::new(point.mul_clamped(*scalar).to_bytes());
        (*secret != [0; 32]).then_some(secret)
    }

    /// Signs `message` (Ed25519, deterministic).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.id())
    }
}

/// What kind of machine a device says it is; shown as a symbol, never trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceType {
    /// A desktop computer.
    #[default]
    Desktop,
    /// A laptop.
    Laptop,
    /// A phone.
    Phone,
    /// A tablet.
    Tablet,
    /// A server or other machine without a screen.
    Server,
    /// A small device: sensor, radio node, appliance.
    Embedded,
}

impl DeviceType {
    /// Every type, in the order shown to people.
    pub const ALL: [Self; 6] =
        [Self::Desktop, Self::Laptop, Self::Phone, Self::Tablet, Self::Server, Self::Embedded];

    /// The word used in TXT records, configuration and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Laptop => "laptop",
            Self::Phone => "phone",
            Self::Tablet => "tablet",
            Self::Server => "server",
            Self::Embedded => "embedded",
        }
    }
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no device type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a device type (one of desktop, laptop, phone, tablet, server, embedded)")]
pub struct UnknownDeviceType;

impl FromStr for DeviceType {
    type Err = UnknownDeviceType;

    fn from_str(text: &str) -> Result<Self, UnknownDeviceType> {
        Self::ALL.into_iter().find(|t| t.as_str() == text).ok_or(UnknownDeviceType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_text_in_either_case() {
        let id = SecretKey::from_u64(1).id();
        assert_eq!(id.to_string().parse::<DeviceId>().unwrap(), id);
        assert_eq!(id.to_string().to_uppercase().parse::<DeviceId>().unwrap(), id);
        assert_eq!(id.short(), id.to_string()[..10]);
    }

    #[test]
    fn bad_ids_say_what_is_wrong() {
        assert_eq!("abc".parse::<DeviceId>(), Err(InvalidId::Length(3)));
        assert_eq!("zz".repeat(32).parse::<DeviceId>(), Err(InvalidId::NotHex));
        // y = 1 is the neutral element: on the curve, of small order, nobody's key.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert_eq!(DeviceId::from_bytes(neutral), Err(InvalidId::NotAKey));
    }

    /// RFC 8032 section 7.1, test 1: pins the key derivation and the signature to the published vector.
    #[test]
    fn matches_the_published_ed25519_vector() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let mut bytes = [0; 32];
        HEXLOWER.decode_mut(seed.as_bytes(), &mut bytes).unwrap();
        let key = SecretKey::from_bytes(&bytes);
        assert_eq!(key.id().to_string(), public);
        assert!(key.id().verify(b"", &key.sign(b"")));
        assert!(!key.id().verify(b"x", &key.sign(b"")));
    }

    #[test]
    fn two_devices_agree_on_a_secret_that_a_third_has_not() {
        let [a, b, c] = [1, 2, 3].map(SecretKey::from_u64);
        assert_eq!(a.agree(&b.id()), b.agree(&a.id()));
        assert_ne!(a.agree(&b.id()), a.agree(&c.id()));
        assert_ne!(a.agree(&b.id()), c.agree(&b.id()));
    }

    #[test]
    fn derived_forms_are_prefixes_of_one_digest() {
        let id = SecretKey::from_u64(1).id();
        assert_eq!(id.mesh_address()[..8], id.tag());
    }

    #[test]
    fn debug_never_shows_the_secret() {
        let key = SecretKey::from_u64(1);
        let shown = format!("{key:?}");
        assert!(!shown.contains(&HEXLOWER.encode(&key.to_bytes()[..])[..8]));
    }

    #[test]
    fn device_types_round_trip() {
        for t in DeviceType::ALL {
            assert_eq!(t.as_str().parse::<DeviceType>(), Ok(t));
        }
    }
}
