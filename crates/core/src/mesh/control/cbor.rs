//! As much CBOR (RFC 8949) as control frames need: unsigned and negative integers, byte and text strings, arrays, maps
//! with unsigned keys, false, true and null. In the deterministic encoding of section 4.2.1 only: shortest heads, definite
//! lengths, keys ascending. No tags, no floats.

use bytes::{BufMut as _, BytesMut};

use crate::limits::MESH_CONTROL_DEPTH_MAX;
use crate::wire::{Invalid, Reader};

/// Major types (RFC 8949 section 3.1).
const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;

const FALSE: u64 = 20;
const NULL: u64 = 22;

/// Reads values one after the other. Every length is compared with what is left before it is believed.
pub(super) struct Decoder<'a> {
    rest: Reader<'a>,
}

/// The entries of a map that have not been read yet.
pub(super) struct Fields {
    left: u64,
    last: Option<u64>,
}

impl Fields {
    /// The next entry's key; its value is read next. `None` after the last.
    pub(super) fn next(&mut self, d: &mut Decoder<'_>) -> Result<Option<u64>, Invalid> {
        const WHAT: &str = "CBOR map key";
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let key = d.uint(WHAT)?;
        if self.last.is_some_and(|last| last >= key) {
            return Err(Invalid::Value { what: WHAT });
        }
        self.last = Some(key);
        Ok(Some(key))
    }
}

impl<'a> Decoder<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: Reader::new(bytes) }
    }

    pub(super) fn uint(&mut self, what: &'static str) -> Result<u64, Invalid> {
        self.expect(UINT, what)
    }

    /// Starts a map.
    pub(super) fn map(&mut self, what: &'static str) -> Result<Fields, Invalid> {
        let left = self.expect(MAP, what)?;
        self.fits(left, 2, what)?;
        Ok(Fields { left, last: None })
    }

    /// Starts an array of at most `max` values and says how many follow.
    pub(super) fn array(&mut self, max: usize, what: &'static str) -> Result<u64, Invalid> {
        let count = self.expect(ARRAY, what)?;
        if count > max as u64 {
            return Err(Invalid::TooLarge { what, size: count, max: max as u64 });
        }
        self.fits(count, 1, what)?;
        Ok(count)
    }

    /// A byte string of at most `max` bytes.
    pub(super) fn bytes(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], Invalid> {
        let size = self.expect(BYTES, what)?;
        self.take(size, max, what)
    }

    /// A text of at most `max` bytes.
    pub(super) fn text(&mut self, max: usize, what: &'static str) -> Result<&'a str, Invalid> {
        let size = self.expect(TEXT, what)?;
        core::str::from_utf8(self.take(size, max, what)?).map_err(|_| Invalid::NotText { what })
    }

    /// Reads over one value of any type, and checks it all the same.
    pub(super) fn skip(&mut self) -> Result<(), Invalid> {
        self.skip_at(0)
    }

    pub(super) fn finish(self, what: &'static str) -> Result<(), Invalid> {
        self.rest.finish(what)
    }

    fn skip_at(&mut self, depth: usize) -> Result<(), Invalid> {
        const WHAT: &str = "skipped CBOR value";
        let (major, argument) = self.head(WHAT)?;
        if matches!(major, ARRAY | MAP) && depth >= MESH_CONTROL_DEPTH_MAX {
            let max = MESH_CONTROL_DEPTH_MAX as u64;
            return Err(Invalid::TooLarge { what: "CBOR nesting", size: depth as u64 + 1, max });
        }
        match major {
            UINT | NEGATIVE => {}
            BYTES => {
                self.take(argument, self.rest.remaining(), WHAT)?;
            }
            TEXT => {
                let text = self.take(argument, self.rest.remaining(), WHAT)?;
                core::str::from_utf8(text).map_err(|_| Invalid::NotText { what: WHAT })?;
            }
            ARRAY => {
                self.fits(argument, 1, WHAT)?;
                for _ in 0..argument {
                    self.skip_at(depth + 1)?;
                }
            }
            MAP => {
                self.fits(argument, 2, WHAT)?;
                let mut fields = Fields { left: argument, last: None };
                while fields.next(self)?.is_some() {
                    self.skip_at(depth + 1)?;
                }
            }
            SIMPLE if (FALSE..=NULL).contains(&argument) => {}
            _ => return Err(Invalid::Value { what: WHAT }),
        }
        Ok(())
    }

    fn expect(&mut self, major: u8, what: &'static str) -> Result<u64, Invalid> {
        match self.head(what)? {
            (found, argument) if found == major => Ok(argument),
            _ => Err(Invalid::Value { what }),
        }
    }

    /// Major type and argument, in the shortest form. Of major type 7 only what stands in one byte: the longer forms are
    /// floats, and simple values that nobody has assigned.
    fn head(&mut self, what: &'static str) -> Result<(u8, u64), Invalid> {
        let first = self.rest.u8(what)?;
        let (major, info) = (first >> 5, first & 0x1f);
        let (argument, shortest_from) = match info {
            0..24 => (info.into(), 0),
            _ if major == SIMPLE => return Err(Invalid::Value { what }),
            24 => (self.rest.u8(what)?.into(), 24),
            25 => (self.rest.u16(what)?.into(), 1 << 8),
            26 => (self.rest.u32(what)?.into(), 1 << 16),
            27 => (u64::from_be_bytes(self.rest.array(what)?), 1 << 32),
            // 28 to 30 are not assigned; 31 is an indefinite length.
            _ => return Err(Invalid::Value { what }),
        };
        if argument < shortest_from { Err(Invalid::Value { what }) } else { Ok((major, argument)) }
    }

    /// Whether `count` things of at least `each` bytes can still be there.
    fn fits(&self, count: u64, each: u64, what: &'static str) -> Result<(), Invalid> {
        if count.saturating_mul(each) > self.rest.remaining() as u64 {
            Err(Invalid::Truncated { what })
        } else {
            Ok(())
        }
    }

    fn take(&mut self, size: u64, max: usize, what: &'static str) -> Result<&'a [u8], Invalid> {
        match usize::try_from(size) {
            Ok(len) if len <= max => self.rest.take(len, what),
            Ok(_) | Err(_) => Err(Invalid::TooLarge { what, size, max: max as u64 }),
        }
    }
}

pub(super) fn put_uint(out: &mut BytesMut, value: u64) {
    put_head(out, UINT, value);
}

pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_head(out, BYTES, bytes.len() as u64);
    out.put_slice(bytes);
}

pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    put_head(out, TEXT, text.len() as u64);
    out.put_slice(text.as_bytes());
}

/// Starts an array of `count` values.
pub(super) fn put_array(out: &mut BytesMut, count: u64) {
    put_head(out, ARRAY, count);
}

/// Starts a map of `count` entries; the caller writes keys ascending.
pub(super) fn put_map(out: &mut BytesMut, count: u64) {
    put_head(out, MAP, count);
}

fn put_head(out: &mut BytesMut, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..24 => out.put_u8(major | argument as u8),
        24..0x100 => out.put_slice(&[major | 24, argument as u8]),
        0x100..0x1_0000 => {
            out.put_u8(major | 25);
            out.put_u16(argument as u16);
        }
        0x1_0000..0x1_0000_0000 => {
            out.put_u8(major | 26);
            out.put_u32(argument as u32);
        }
        _ => {
            out.put_u8(major | 27);
            out.put_u64(argument);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8949 appendix A: the integers.
    #[test]
    fn heads_match_the_published_vectors() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (23, &[0x17]),
            (24, &[0x18, 0x18]),
            (100, &[0x18, 0x64]),
            (1000, &[0x19, 0x03, 0xe8]),
            (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
            (1_000_000_000_000, &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00]),
            (u64::MAX, &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] {
            let mut out = BytesMut::new();
            put_uint(&mut out, value);
            assert_eq!(&out[..], bytes);
            assert_eq!(Decoder::new(bytes).uint("v"), Ok(value));
        }
    }

    #[test]
    fn strings_match_the_published_vectors() {
        let mut out = BytesMut::new();
        put_text(&mut out, "IETF");
        put_bytes(&mut out, &[1, 2, 3, 4]);
        assert_eq!(&out[..], b"\x64IETF\x44\x01\x02\x03\x04");
        let mut d = Decoder::new(&out);
        assert_eq!(d.text(4, "t"), Ok("IETF"));
        assert_eq!(d.bytes(4, "b"), Ok(&[1, 2, 3, 4][..]));
        assert_eq!(Decoder::new(&out).text(3, "t"), Err(Invalid::TooLarge { what: "t", size: 4, max: 3 }));
    }
}
