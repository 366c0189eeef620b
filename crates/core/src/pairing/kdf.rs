//! The three uses of SHA-256 in a ceremony: a transcript hash, a key derivation (HKDF, RFC 5869) and a MAC (HMAC, RFC
//! 2104). Kept in one place so that every field is length-prefixed and no two uses can be confused.

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A hash over fields that cannot run into each other: each is preceded by its length in four bytes.
pub(super) struct Transcript(Sha256);

impl Transcript {
    /// Starts with the label that separates this use from every other.
    pub(super) fn new(label: &'static [u8]) -> Self {
        Self(Sha256::new()).field(label)
    }

    /// Adds one field. Fields here are short; a length over `u32` would be a bug and is clamped, not wrapped.
    pub(super) fn field(mut self, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.update(len.to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// HKDF-SHA256: `N` bytes (at most a few dozen) from `secret`, for the use that `info` names.
#[expect(clippy::expect_used, reason = "HKDF-SHA256 only refuses outputs over 8160 bytes")]
pub(super) fn derive<const N: usize>(
    salt: &'static [u8],
    secret: &[u8],
    info: &[&[u8]],
) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * 32) };
    let mut out = Zeroizing::new([0; N]);
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand_multi_info(info, &mut out[..])
        .expect("the length was checked at compile time");
    out
}

/// HMAC-SHA256 over length-prefixed parts.
#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
pub(super) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
        mac.update(&len.to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Compares without telling by its duration where the first difference is.
pub(super) fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}
