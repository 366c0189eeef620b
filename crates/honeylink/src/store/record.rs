//! The envelope of every record in the state database: `version (1) | body | check (8)`.
//!
//! The check is the first 8 bytes of BLAKE3 over table name, key, version and body. redb verifies its pages after a crash
//! but not on every read, and one flipped bit in a trust record could turn `paired` into `verified`. Binding table and
//! key means that a record can not answer for another device either. The check guards against accidents, not against
//! someone who can write the file: that person can also replace the identity key.

use bytes::BytesMut;
use honeylink_core::wire::{Invalid, Reader};

/// Length of the check, in bytes.
const CHECK_BYTES: usize = 8;

/// Why one record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The check does not match: the bytes are not what was written.
    #[error("the checksum does not match")]
    Check,
    /// Written by a newer HoneyLink.
    #[error("version {found} of this record is newer than this program knows ({newest}); update HoneyLink")]
    Newer {
        /// The version found.
        found: u8,
        /// The newest version this program reads.
        newest: u8,
    },
    /// The bytes do not follow the format.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// A record that could not be read. It stays where it is, and the others are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {key} of table {table} can not be read: {cause}")]
pub struct Unreadable {
    /// The table it is in.
    pub table: &'static str,
    /// Its key, in hex.
    pub key: String,
    /// What is wrong with it.
    #[source]
    pub cause: RecordError,
}

impl Unreadable {
    pub(super) fn new(table: &'static str, key: &[u8], cause: RecordError) -> Self {
        Self { table, key: data_encoding::HEXLOWER.encode(key), cause }
    }
}

/// Wraps a body for storage.
pub(super) fn seal(table: &str, key: &[u8], version: u8, body: &BytesMut) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + body.len() + CHECK_BYTES);
    out.push(version);
    out.extend_from_slice(body);
    let check = check(table, key, &out);
    out.extend_from_slice(&check);
    out
}

/// Unwraps a stored record: its version, at most `newest`, and a reader over its body.
pub(super) fn open<'a>(
    table: &str,
    key: &[u8],
    newest: u8,
    bytes: &'a [u8],
) -> Result<(u8, Reader<'a>), RecordError> {
    let (sealed, found) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(RecordError::Check)?;
    if check(table, key, sealed) != *found {
        return Err(RecordError::Check);
    }
    let (&version, body) = sealed.split_first().ok_or(RecordError::Check)?;
    match version {
        0 => Err(Invalid::Value { what: "record version" }.into()),
        v if v > newest => Err(RecordError::Newer { found: v, newest }),
        v => Ok((v, Reader::new(body))),
    }
}

fn check(table: &str, key: &[u8], sealed: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new();
    // Both lengths go in, so that no table and key can be read as another table and key.
    hasher.update(&(table.len() as u64).to_be_bytes()).update(table.as_bytes());
    hasher.update(&(key.len() as u64).to_be_bytes()).update(key).update(sealed);
    let mut out = [0; CHECK_BYTES];
    hasher.finalize_xof().fill(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_answers_only_for_its_own_table_and_key() {
        let sealed = seal("peers", b"k1", 1, &BytesMut::from(&b"body"[..]));
        assert!(open("peers", b"k1", 1, &sealed).is_ok());
        assert_eq!(open("peers", b"k2", 1, &sealed).unwrap_err(), RecordError::Check);
        assert_eq!(open("peer", b"sk1", 1, &sealed).unwrap_err(), RecordError::Check);
    }

    #[test]
    fn a_newer_record_is_named_as_such() {
        let sealed = seal("t", b"k", 9, &BytesMut::new());
        assert_eq!(open("t", b"k", 1, &sealed).unwrap_err(), RecordError::Newer { found: 9, newest: 1 });
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(body in proptest::collection::vec(any::<u8>(), 0..64), at: prop::sample::Index, bit in 0..8u8) {
            let mut sealed = seal("t", b"k", 1, &BytesMut::from(&body[..]));
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(open("t", b"k", 1, &sealed).unwrap_err(), RecordError::Check);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = open("t", b"k", 1, &bytes);
        }
    }
}
