//! Bytes on the wire: bounded readers and writers that every codec of this crate is built from.
//!
//! All parsing here is total: any byte string gives a value or an [`Invalid`], never a panic, and nothing is allocated
//! for a length before that length was checked against what is really there and against the limit its caller names.
//! Integers are QUIC variable-length integers (RFC 9000 section 16) or fixed big-endian, as each format says.

pub mod callback;
pub mod chat;
pub mod link;
pub mod relay;

use bytes::{BufMut, BytesMut};

/// Why bytes could not be understood. Carries what was being read, so that a log line explains itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The bytes end before the value does.
    #[error("{what}: the bytes end too early")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A length or count is over its limit.
    #[error("{what}: {size} is over the limit of {max}")]
    TooLarge {
        /// What was being read.
        what: &'static str,
        /// The size that was claimed.
        size: u64,
        /// The largest size allowed.
        max: u64,
    },
    /// A value outside what the format defines.
    #[error("{what}: not a value this format defines")]
    Value {
        /// What was being read.
        what: &'static str,
    },
    /// Bytes are left over after the last field.
    #[error("{what}: {left} bytes are left over")]
    Trailing {
        /// What was being read.
        what: &'static str,
        /// How many bytes too many.
        left: usize,
    },
    /// Text that is not UTF-8.
    #[error("{what}: not UTF-8 text")]
    NotText {
        /// What was being read.
        what: &'static str,
    },
}

/// Largest value of a QUIC variable-length integer: 2^62 - 1.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// A cursor over foreign bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts reading at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Invalid::Truncated`] if fewer are left.
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Invalid> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(Invalid::Truncated { what })?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`Invalid::Truncated`] if fewer are left.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Invalid> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Invalid::Truncated { what })?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Invalid::Truncated`] at the end.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Invalid> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Two bytes, big-endian.
    ///
    /// # Errors
    /// [`Invalid::Truncated`] at the end.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Invalid> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    /// Four bytes, big-endian.
    ///
    /// # Errors
    /// [`Invalid::Truncated`] at the end.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Invalid> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// A QUIC variable-length integer. Longer-than-needed encodings are refused: one value has one encoding here.
    ///
    /// # Errors
    /// [`Invalid::Truncated`] at the end, [`Invalid::Value`] if a shorter encoding exists.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, Invalid> {
        let first = *self.rest.first().ok_or(Invalid::Truncated { what })?;
        let (value, shortest) = match first >> 6 {
            0 => (u64::from(self.u8(what)?), true),
            1 => {
                let v = u64::from(self.u16(what)? & 0x3fff);
                (v, v >= 1 << 6)
            }
            2 => {
                let v = u64::from(self.u32(what)? & 0x3fff_ffff);
                (v, v >= 1 << 14)
            }
            _ => {
                let v = u64::from_be_bytes(self.array(what)?) & VARINT_MAX;
                (v, v >= 1 << 30)
            }
        };
        if shortest { Ok(value) } else { Err(Invalid::Value { what }) }
    }

    /// A byte string with a varint length of at most `max`.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`] if the length is over `max`, [`Invalid::Truncated`] if the bytes are not there.
    pub fn bytes(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], Invalid> {
        let size = self.varint(what)?;
        match usize::try_from(size) {
            Ok(len) if len <= max => self.take(len, what),
            Ok(_) | Err(_) => Err(Invalid::TooLarge { what, size, max: max as u64 }),
        }
    }

    /// UTF-8 text with a varint length of at most `max` bytes.
    ///
    /// # Errors
    /// As [`Reader::bytes`], and [`Invalid::NotText`].
    pub fn text(&mut self, max: usize, what: &'static str) -> Result<&'a str, Invalid> {
        core::str::from_utf8(self.bytes(max, what)?).map_err(|_| Invalid::NotText { what })
    }

    /// Ends reading: nothing may be left.
    ///
    /// # Errors
    /// [`Invalid::Trailing`] if something is.
    pub const fn finish(self, what: &'static str) -> Result<(), Invalid> {
        if self.rest.is_empty() { Ok(()) } else { Err(Invalid::Trailing { what, left: self.rest.len() }) }
    }
}

/// Bytes that [`put_varint`] will use for `value`.
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Appends a QUIC variable-length integer in its shortest form. Values over [`VARINT_MAX`] are clamped to it; every
/// caller writes lengths and counters, which cannot reach it.
pub fn put_varint(out: &mut BytesMut, value: u64) {
    match value {
        0..0x40 => out.put_u8(value as u8),
        0x40..0x4000 => out.put_u16(value as u16 | 0x4000),
        0x4000..0x4000_0000 => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value.min(VARINT_MAX) | 0xc000_0000_0000_0000),
    }
}

/// Appends a byte string with its varint length.
pub fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 9000 appendix A.1.
    #[test]
    fn varints_match_the_published_examples() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d][..], 494_878_333),
            (&[0x7b, 0xbd][..], 15_293),
            (&[0x25][..], 37),
        ] {
            assert_eq!(Reader::new(bytes).varint("v"), Ok(value));
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(&out[..], bytes);
        }
    }

    #[test]
    fn a_longer_encoding_than_needed_is_refused() {
        assert_eq!(Reader::new(&[0x40, 0x25]).varint("v"), Err(Invalid::Value { what: "v" }));
    }

    #[test]
    fn a_claimed_length_is_checked_before_it_is_believed() {
        let claim = [0xff; 8];
        assert!(matches!(Reader::new(&claim).bytes(10, "b"), Err(Invalid::TooLarge { max: 10, .. })));
        assert_eq!(Reader::new(&[5, 1]).bytes(10, "b"), Err(Invalid::Truncated { what: "b" }));
    }

    proptest! {
        #[test]
        fn varints_round_trip(value in 0..=VARINT_MAX) {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint("v"), Ok(value));
            prop_assert!(reader.finish("v").is_ok());
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while reader.remaining() > 0 && reader.varint("v").is_ok() {}
            let _ = reader.text(16, "t");
        }
    }
}
