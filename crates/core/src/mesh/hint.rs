//! Names of devices as frames carry them: the whole mesh address, and prefixes of it that are only ever hints.
//!
//! A hint says whom a frame is probably for, so that most nodes need not try their keys on it. Two devices may share one:
//! a collision costs airtime, never correctness, because the MAC decides whom a frame is for (ME-N2 in
//! `docs/wire/mesh.md`).

use core::fmt;

use data_encoding::HEXLOWER;

use crate::identity::DeviceId;

/// A device's mesh address: the first 16 bytes of SHA-256 of its id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 16]);

/// The first eight bytes of an address: names the sender of a beacon.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 8]);

/// The first three bytes of an address: names both ends of a frame over many hops.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Far(pub [u8; 3]);

/// The first two bytes of an address: names the next and the previous hop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Near(pub u16);

impl Near {
    /// Whoever hears it. No device has this hint: one that would gets 0xFFFE.
    pub const ANYBODY: Self = Self(0xffff);

    /// Whether a device with this hint should take up a frame whose `next` is `next`.
    #[must_use]
    pub const fn is_meant_by(self, next: Self) -> bool {
        next.0 == self.0 || next.0 == Self::ANYBODY.0
    }
}

impl Far {
    /// Every device. No device has this hint: one that would gets FF FF FE.
    pub const EVERYBODY: Self = Self([0xff; 3]);
}

impl Address {
    /// The address of a device.
    #[must_use]
    pub fn of(id: &DeviceId) -> Self {
        Self(id.mesh_address())
    }

    /// The lowest address that begins with a tag: its hints are those of every such address.
    #[must_use]
    pub const fn beginning(tag: Tag) -> Self {
        let [a, b, c, d, e, f, g, h] = tag.0;
        Self([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// Its tag.
    #[must_use]
    pub const fn tag(&self) -> Tag {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        Tag([a, b, c, d, e, f, g, h])
    }

    /// Its hint over many hops.
    #[must_use]
    pub const fn far(&self) -> Far {
        match [self.0[0], self.0[1], self.0[2]] {
            [0xff, 0xff, 0xff] => Far([0xff, 0xff, 0xfe]),
            hint => Far(hint),
        }
    }

    /// Its hint over one hop.
    #[must_use]
    pub const fn near(&self) -> Near {
        match u16::from_be_bytes([self.0[0], self.0[1]]) {
            0xffff => Near(0xfffe),
            hint => Near(hint),
        }
    }
}

impl From<&DeviceId> for Address {
    fn from(id: &DeviceId) -> Self {
        Self::of(id)
    }
}

impl From<&DeviceId> for Far {
    fn from(id: &DeviceId) -> Self {
        Address::of(id).far()
    }
}

impl From<&DeviceId> for Near {
    fn from(id: &DeviceId) -> Self {
        Address::of(id).near()
    }
}

impl From<&DeviceId> for Tag {
    fn from(id: &DeviceId) -> Self {
        Address::of(id).tag()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", HEXLOWER.encode(&self.0[..5]))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({})", HEXLOWER.encode(&self.0))
    }
}

impl fmt::Display for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Far({self})")
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Near({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;

    #[test]
    fn hints_are_prefixes_of_the_address() {
        let id = SecretKey::from_u64(1).id();
        let address = Address::from(&id);
        assert_eq!(Tag::from(&id).0, address.0[..8]);
        assert_eq!(Far::from(&id).0, address.0[..3]);
        assert_eq!(Near::from(&id).0.to_be_bytes(), address.0[..2]);
        assert_eq!(address.tag().0, id.tag());
    }

    #[test]
    fn no_device_is_named_anybody_or_everybody() {
        let address = Address([0xff; 16]);
        assert_eq!(address.near(), Near(0xfffe));
        assert_eq!(address.far(), Far([0xff, 0xff, 0xfe]));
        assert!(address.near().is_meant_by(Near::ANYBODY));
        assert!(!Near(1).is_meant_by(Near(2)));
    }
}
