//! Time on air from the data sheet, in floating point: a second opinion on the product's integers.

/// How a modem sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modulation {
    /// Centre frequency, Hz.
    pub frequency_hz: u32,
    /// Bandwidth, Hz.
    pub bandwidth_hz: u32,
    /// Spreading factor.
    pub spreading_factor: u8,
    /// Denominator of the coding rate, 5 to 8.
    pub coding_rate: u8,
    /// Preamble, symbols.
    pub preamble_symbols: u16,
}

impl Modulation {
    /// Seconds of one symbol.
    fn symbol(&self) -> f64 {
        f64::from(1_u32 << self.spreading_factor.min(12)) / f64::from(self.bandwidth_hz.max(1))
    }

    /// Time on air of a packet with explicit header and checksum, microseconds.
    #[must_use]
    pub fn airtime_us(&self, bytes: usize) -> u64 {
        let (sf, symbol) = (f64::from(self.spreading_factor), self.symbol());
        let drift = if symbol >= 0.016 { 2.0 } else { 0.0 };
        let blocks = ((8.0 * bytes as f64 - 4.0 * sf + 44.0) / (4.0 * (sf - drift))).ceil().max(0.0);
        let symbols = f64::from(self.preamble_symbols) + 4.25 + 8.0 + blocks * f64::from(self.coding_rate);
        (symbols * symbol * 1e6).round() as u64
    }

    /// How long a carrier must be there before others notice it, microseconds: two symbols.
    pub(super) fn notice_us(&self) -> u64 {
        (2e6 * self.symbol()) as u64
    }

    /// A slot of the back-off, microseconds: twelve symbols, but 24 to 100 ms.
    pub(super) fn slot_us(&self) -> u64 {
        ((12e6 * self.symbol()) as u64).clamp(24_000, 100_000)
    }

    /// Whether one can hear the other.
    pub(super) fn matches(&self, other: &Self) -> bool {
        self.frequency_hz == other.frequency_hz
            && self.bandwidth_hz == other.bandwidth_hz
            && self.spreading_factor == other.spreading_factor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::{CodingRate, Lora};

    #[test]
    fn two_ways_to_compute_airtime_agree() {
        for spreading_factor in 7..=12 {
            for bandwidth_hz in [125_000, 250_000, 500_000] {
                let lora = Lora::new(spreading_factor, bandwidth_hz, CodingRate::Cr45).unwrap();
                let lora = lora.with_preamble(18).unwrap();
                let modulation = Modulation {
                    frequency_hz: 868_100_000,
                    bandwidth_hz,
                    spreading_factor,
                    coding_rate: 5,
                    preamble_symbols: 18,
                };
                for bytes in 0..=255 {
                    assert_eq!(
                        modulation.airtime_us(bytes),
                        lora.airtime_us(bytes),
                        "{modulation:?} {bytes}"
                    );
                }
            }
        }
    }
}
