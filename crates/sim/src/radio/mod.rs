//! The air: LoRa radios that share one channel.
//!
//! | file | what it models |
//! |---|---|
//! | `reach.rs` | who hears whom, and how loudly: log-distance path loss with shadowing fixed per pair |
//! | `ether.rs` | transmissions in the air: half-duplex, collisions, capture, fading, carrier sensing |
//! | `modem.rs` | a node's modem: queue by priority within the duty cycle, then carrier sensing |
//! | `budget.rs` | the duty-cycle ledger that checks the modems, written apart from them |
//!
//! **What is assumed.** Power at distance d is `tx - loss_1m - 10 n log10(d) + S`, S normal with the terrain's deviation,
//! drawn once per pair and the same in both directions. Each frame and receiver add a fading draw. The noise floor is
//! `-174 + 10 log10(bandwidth) + noise figure` dBm; a frame is received if its signal-to-noise ratio reaches the
//! spreading factor's limit (Semtech SX1276 data sheet, table 13) and it is at least `capture_db` stronger than every
//! frame that overlaps it in time, in whatever order they began (Bor, Roedig, Voigt, Alonso 2016 measure 6 dB; that the
//! later of two may win is the generous end of what they saw). A radio that transmits hears nothing. Before it transmits,
//! a radio listens; a transmission that began less than `sense_us` ago goes unnoticed. All frames use one channel and one
//! spreading factor; other users of the band are not modelled.

pub mod budget;
pub mod ether;
pub mod modem;
pub mod reach;

use serde::{Deserialize, Serialize};

/// How a radio is set: LoRa with explicit header and CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Centre frequency in hertz.
    pub frequency_hz: u32,
    /// Bandwidth in hertz.
    pub bandwidth_hz: u32,
    /// Spreading factor, 7 to 12.
    pub spreading: u8,
    /// The denominator of the code rate 4/n, 5 to 8.
    pub coding: u8,
    /// Preamble in symbols.
    pub preamble: u16,
    /// Transmit power in dBm.
    pub tx_dbm: i8,
}

impl Default for Settings {
    /// SF8, 125 kHz, 4/5 in the band where 10 % duty is allowed: what European networks of this kind use.
    fn default() -> Self {
        Self {
            frequency_hz: 869_525_000,
            bandwidth_hz: 125_000,
            spreading: 8,
            coding: 5,
            preamble: 8,
            tx_dbm: 14,
        }
    }
}

impl Settings {
    /// The least signal-to-noise ratio at which a frame is received, in hundredths of a decibel (SX1276, table 13).
    #[must_use]
    pub const fn snr_floor_cdb(&self) -> i32 {
        // -7.5 dB at SF7, 2.5 dB lower with each step.
        -750 - 250 * (self.spreading as i32 - 7)
    }

    /// The noise floor in hundredths of a dBm.
    #[must_use]
    pub fn noise_cdbm(&self, noise_figure_db: f64) -> i32 {
        hundredths(-174.0 + 10.0 * f64::from(self.bandwidth_hz).log10() + noise_figure_db)
    }

    /// How long a frame of `bytes` is on the air, in microseconds (Semtech AN1200.13, section 4; explicit header, CRC).
    ///
    /// Written apart from the product's formula on purpose: the ledger that judges the product's duty uses this one.
    #[must_use]
    pub fn airtime_us(&self, bytes: usize) -> u64 {
        let (sf, cr) = (i64::from(self.spreading), i64::from(self.coding));
        let slow = i64::from(self.symbol_us() >= 16_000);
        let bits = (8 * i64::try_from(bytes).unwrap_or(i64::MAX / 16) - 4 * sf + 44).max(0);
        let per_block = 4 * (sf - 2 * slow);
        let symbols = 8 + (bits + per_block - 1) / per_block * cr;
        let quarters = 4 * i64::from(self.preamble) + 17 + 4 * symbols;
        u64::try_from(quarters).unwrap_or(u64::MAX / 16) * (1_u64 << self.spreading) * 250_000
            / u64::from(self.bandwidth_hz)
    }

    /// One symbol, in microseconds.
    #[must_use]
    pub const fn symbol_us(&self) -> u64 {
        (1_u64 << self.spreading) * 1_000_000 / self.bandwidth_hz as u64
    }
}

/// What lies between the radios.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terrain {
    /// Path loss at one metre, in decibels.
    pub loss_1m_db: f64,
    /// The path loss exponent: 2 in free space, 3 to 4 among buildings.
    pub exponent: f64,
    /// Deviation of what buildings and hills add to each path, in decibels.
    pub shadow_db: f64,
    /// Deviation of what changes from frame to frame, in decibels.
    pub fading_db: f64,
    /// The receiver's noise figure, in decibels.
    pub noise_figure_db: f64,
}

impl Default for Terrain {
    fn default() -> Self {
        Self { loss_1m_db: 31.2, exponent: 3.0, shadow_db: 4.0, fading_db: 1.5, noise_figure_db: 6.0 }
    }
}

/// Which effects are simulated. Each can be turned off, to see how much of a result is owed to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Physics {
    /// A radio that transmits hears nothing.
    pub half_duplex: bool,
    /// Overlapping frames destroy each other.
    pub collisions: bool,
    /// How much stronger a frame must be to survive an overlapping one, in decibels; none survives without.
    pub capture_db: Option<f64>,
    /// Radios listen before they transmit.
    pub carrier_sense: bool,
}

impl Default for Physics {
    fn default() -> Self {
        Self { half_duplex: true, collisions: true, capture_db: Some(6.0), carrier_sense: true }
    }
}

impl Physics {
    /// Nothing is lost but what is too weak: how most comparisons of mesh protocols are made.
    #[must_use]
    pub const fn ideal() -> Self {
        Self { half_duplex: false, collisions: false, capture_db: Some(6.0), carrier_sense: true }
    }
}

/// Decibels as hundredths, rounded: everything after this point is arithmetic on integers, the same on every machine.
#[must_use]
pub fn hundredths(db: f64) -> i32 {
    // Path losses are within a few hundred decibels; a float cast saturates.
    (db * 100.0).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two independent libraries agree on these, in microseconds.
    #[test]
    fn airtime_matches_the_published_vectors() {
        let with = |spreading| Settings { spreading, ..Settings::default() };
        for (sf, bytes, us) in [
            (7, 10, 41_216),
            (7, 255, 399_616),
            (8, 20, 102_912),
            (8, 51, 184_832),
            (9, 167, 861_184),
            (10, 64, 698_368),
            (11, 222, 4_427_776),
            (12, 10, 991_232),
            (12, 255, 9_019_392),
        ] {
            assert_eq!(with(sf).airtime_us(bytes), us, "SF{sf}, {bytes} bytes");
        }
        let long = Settings { bandwidth_hz: 250_000, preamble: 16, ..with(11) };
        assert_eq!((long.airtime_us(56), long.airtime_us(255)), (681_984, 2_156_544));
    }
}
