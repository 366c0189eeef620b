//! Names of devices as frames carry them: the whole mesh address, and prefixes of it that are only ever hints.
//!
//! A hint says whom a frame is probably for, so that most nodes need not try their keys on it. Two devices may share one:
//! a collision costs airtime, never correctness, because the MAC decides whom a frame is for.

use crate::identity::DeviceId;

/// A device's mesh address: the first 16 bytes of SHA-256 of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 16]);

/// The first three bytes of an address: names both ends of a frame over many hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Far(pub [u8; 3]);

/// The first two bytes of an address: names the next and the previous hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Near(pub u16);

impl Near {
    /// Whoever hears it. No device has this hint: one that would gets 0xFFFE.
    pub const ANYBODY: Self = Self(0xffff);
}

impl Address {
    /// The address of a device.
    #[must_use]
    pub fn of(id: &DeviceId) -> Self {
        Self(id.mesh_address())
    }

    /// Its hint over many hops.
    #[must_use]
    pub const fn far(&self) -> Far {
        Far([self.0[0], self.0[1], self.0[2]])
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
