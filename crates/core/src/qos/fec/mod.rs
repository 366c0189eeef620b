//! Repair of lost datagrams: how much to add, by the losses that were measured, and the blocks it is added to.
//!
//! Datagrams go out as they are, at once. After every few of them come some that hold nothing new but can stand for any
//! that were lost (Reed-Solomon: of `data + repair` datagrams any `data` are enough). So without losses nothing is
//! later, and a loss costs the time until the block is complete.

mod codec;

pub use self::codec::{Decoder, Encoder, FecStats, HEADER_BYTES, PAYLOAD_BYTES_MAX, Repaired};

use core::time::Duration;

/// How much is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FecLevel {
    /// Nothing.
    #[default]
    None,
    /// A quarter.
    Light,
    /// Half.
    Heavy,
}

/// What a stream of datagrams asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FecChoice {
    /// Never any.
    #[default]
    Off,
    /// By the losses measured: none under 5 %, light under 10 %, heavy above.
    Auto,
    /// As `Auto`, but light from the first datagram on: for streams to which even a few losses matter.
    AtLeastLight,
}

/// Losses from which repair is light, and heavy; per mille.
const LIGHT_PER_MILLE: u32 = 50;
const HEAVY_PER_MILLE: u32 = 100;
/// A level is left only when losses are this far under its bound, or a loss rate near the bound would switch all the time.
const HYSTERESIS_PER_MILLE: u32 = 10;

/// Chooses the level of a stream as losses come and go.
#[derive(Clone, Copy, Debug)]
pub struct FecControl {
    choice: FecChoice,
    measured: FecLevel,
}

impl FecControl {
    /// A control that has seen no losses.
    #[must_use]
    pub const fn new(choice: FecChoice) -> Self {
        Self { choice, measured: FecLevel::None }
    }

    /// The share of packets lost lately, per mille.
    pub fn lossy(&mut self, per_mille: u32) {
        let level = |loss: u32| match loss {
            0..LIGHT_PER_MILLE => FecLevel::None,
            LIGHT_PER_MILLE..HEAVY_PER_MILLE => FecLevel::Light,
            _ => FecLevel::Heavy,
        };
        // Up at the bound, down only well below it.
        self.measured = level(per_mille).max(self.measured.min(level(per_mille + HYSTERESIS_PER_MILLE)));
    }

    /// What to add now.
    #[must_use]
    pub fn level(&self) -> FecLevel {
        match self.choice {
            FecChoice::Off => FecLevel::None,
            FecChoice::Auto => self.measured,
            FecChoice::AtLeastLight => self.measured.max(FecLevel::Light),
        }
    }
}

/// The shape of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Datagrams of the application in a block.
    pub data: u8,
    /// Datagrams added to them.
    pub repair: u8,
}

impl Layout {
    /// The layout for a level, for a stream that sends a datagram every `interval` and can use one that is `patience`
    /// late: the larger a block, the more losses in a row it survives for the same price, and the later it repairs.
    /// `None` for no repair.
    #[must_use]
    pub fn choose(level: FecLevel, interval: Duration, patience: Duration) -> Option<Self> {
        let fits = |data: u32| interval.saturating_mul(data) <= patience;
        let data = if fits(16) {
            16
        } else if fits(8) {
            8
        } else {
            4
        };
        match level {
            FecLevel::None => None,
            FecLevel::Light => Some(Self { data, repair: data / 4 }),
            FecLevel::Heavy => Some(Self { data, repair: data / 2 }),
        }
    }

    /// Datagrams of a block in all.
    #[must_use]
    pub const fn shards(self) -> usize {
        self.data as usize + self.repair as usize
    }
}

#[cfg(test)]
#[path = "../fec_tests.rs"]
mod tests;
