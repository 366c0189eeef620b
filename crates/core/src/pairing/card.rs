//! What a device says about itself when it pairs: a name and a type, authenticated by the ceremony.

use bytes::{BufMut as _, BytesMut};

use crate::identity::DeviceType;
use crate::limits::NAME_BYTES_MAX;
use crate::wire::{Invalid, Reader, put_bytes};

/// A device's self-description. The name is safe to print: no control or direction-changing characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCard {
    name: String,
    device_type: DeviceType,
}

/// Why a name cannot be a device's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing, or only spaces.
    #[error("a device needs a name")]
    Empty,
    /// Too long to announce.
    #[error("a device name has at most {NAME_BYTES_MAX} bytes; this has {0}")]
    TooLong(usize),
    /// A character that could make a terminal or a reader see another name.
    #[error("a device name may not hold control or text-direction characters (U+{:04X})", *.0 as u32)]
    Character(char),
}

impl DeviceCard {
    /// A card with this name, trimmed of surrounding space.
    ///
    /// # Errors
    /// [`InvalidName`] says which rule the name breaks.
    pub fn new(name: &str, device_type: DeviceType) -> Result<Self, InvalidName> {
        let name = name.trim();
        if name.is_empty() {
            return Err(InvalidName::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(InvalidName::TooLong(name.len()));
        }
        if let Some(bad) = name.chars().find(|c| deceives(*c)) {
            return Err(InvalidName::Character(bad));
        }
        Ok(Self { name: name.to_owned(), device_type })
    }

    /// The name, as its owner wrote it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of machine it says it is.
    #[must_use]
    pub const fn device_type(&self) -> DeviceType {
        self.device_type
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        out.put_u8(type_code(self.device_type));
        put_bytes(out, self.name.as_bytes());
    }

    pub(super) fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(2 + self.name.len());
        self.write(&mut out);
        out
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        let type_byte = reader.u8("device type")?;
        let device_type = DeviceType::ALL
            .into_iter()
            .find(|t| type_code(*t) == type_byte)
            .ok_or(Invalid::Value { what: "device type" })?;
        let name = reader.text(NAME_BYTES_MAX, "device name")?;
        let card = Self::new(name, device_type).map_err(|_| Invalid::Value { what: "device name" })?;
        // A name that trimming changed would have two encodings, and the MAC covers only one.
        if card.name == name { Ok(card) } else { Err(Invalid::Value { what: "device name" }) }
    }
}

const fn type_code(device_type: DeviceType) -> u8 {
    match device_type {
        DeviceType::Desktop => 1,
        DeviceType::Laptop => 2,
        DeviceType::Phone => 3,
        DeviceType::Tablet => 4,
        DeviceType::Server => 5,
        DeviceType::Embedded => 6,
    }
}

/// Control characters, and the invisible ones that reorder or hide text (Unicode UAX 9 and zero-width marks). The
/// zero-width joiner stays: emoji and several scripts need it.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_deceive_a_reader_are_refused() {
        let new = |name: &str| DeviceCard::new(name, DeviceType::Phone);
        assert_eq!(new("  "), Err(InvalidName::Empty));
        assert_eq!(new("a\u{1b}[2J"), Err(InvalidName::Character('\u{1b}')));
        assert_eq!(new("photo\u{202e}gpj"), Err(InvalidName::Character('\u{202e}')));
        assert_eq!(new(&"x".repeat(64)), Err(InvalidName::TooLong(64)));
        assert_eq!(new(" Ana's phone ").unwrap().name(), "Ana's phone");
    }

    #[test]
    fn cards_round_trip_and_have_one_encoding() {
        let card = DeviceCard::new("Küche 👩\u{200d}🍳", DeviceType::Tablet).unwrap();
        let bytes = card.to_bytes();
        assert_eq!(DeviceCard::read(&mut Reader::new(&bytes)), Ok(card));
        assert!(DeviceCard::read(&mut Reader::new(b"\x01\x02 a")).is_err(), "untrimmed");
        assert!(DeviceCard::read(&mut Reader::new(b"\x07\x01a")).is_err(), "unknown type");
    }
}
