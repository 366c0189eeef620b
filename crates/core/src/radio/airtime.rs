//! How long a LoRa packet is on the air, exactly: in integers, to the microsecond.
//!
//! The formula is Semtech's (AN1200.13, "LoRa Modem Designer's Guide", section 4). With a symbol of `Ts = 2^SF / BW`
//!
//! ```text
//! n   = 8 + max(ceil((8 PL - 4 SF + 28 + 16 CRC - 20 IH) / (4 (SF - 2 DE))) (CR + 4), 0)
//! ToA = (Npre + 4.25 + n) Ts
//! ```
//!
//! `PL` payload bytes, `CRC` 1 with a payload checksum, `IH` 1 with an implicit header, `DE` 1 with the low data rate
//! optimisation, `CR` 1 to 4 for 4/5 to 4/8. Four times the sum of symbols is an integer, so nothing here is a float.

use super::RadioError;

/// Shortest and longest spreading factor. SF5 and SF6 exist, but the chip families time them differently, and a wrong
/// airtime is a wrong duty cycle.
pub const SPREADING_FACTORS: core::ops::RangeInclusive<u8> = 7..=12;
/// Bandwidths of the sub-gigahertz LoRa modems, Hz.
pub const BANDWIDTHS_HZ: [u32; 10] =
    [7_800, 10_400, 15_600, 20_800, 31_250, 41_700, 62_500, 125_000, 250_000, 500_000];
/// Shortest preamble a receiver can find, symbols.
pub const PREAMBLE_SYMBOLS_MIN: u16 = 6;
/// Most bytes one LoRa packet holds: its length field is a byte.
pub const PACKET_BYTES_MAX: usize = 255;

const MICROS_PER_SECOND: u64 = 1_000_000;
/// A symbol this long needs the low data rate optimisation (AN1200.13): the oscillator drifts within it.
const LOW_RATE_SYMBOL_US: u64 = 16_000;

/// How much of a packet is error correction: 4 bits of data in this many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CodingRate {
    /// 4/5: one parity bit.
    Cr45 = 5,
    /// 4/6.
    Cr46 = 6,
    /// 4/7.
    Cr47 = 7,
    /// 4/8: as many parity bits as data bits.
    Cr48 = 8,
}

impl CodingRate {
    /// The rate with this denominator.
    ///
    /// # Errors
    /// [`RadioError::CodingRate`] outside 5 to 8.
    pub const fn from_denominator(denominator: u8) -> Result<Self, RadioError> {
        match denominator {
            5 => Ok(Self::Cr45),
            6 => Ok(Self::Cr46),
            7 => Ok(Self::Cr47),
            8 => Ok(Self::Cr48),
            given => Err(RadioError::CodingRate { given }),
        }
    }

    /// 5 to 8, as modems count it.
    #[must_use]
    pub const fn denominator(self) -> u8 {
        self as u8
    }
}

/// Whether packets say their own length and coding rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// They do. What every modem here uses.
    Explicit,
    /// Both sides know: saves 20 bits, and every packet has the same length.
    Implicit,
}

/// Whether symbols carry two bits less, so that a drifting oscillator does not blur long ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowDataRate {
    /// On for symbols of 16 ms and more, as the chips' drivers do.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The settings of a LoRa modem that decide how long a packet takes. Both ends of a link share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lora {
    spreading_factor: u8,
    bandwidth_hz: u32,
    coding_rate: CodingRate,
    preamble_symbols: u16,
    header: Header,
    crc: bool,
    low_data_rate: LowDataRate,
}

impl Lora {
    /// Settings with a preamble of 8 symbols, explicit header, checksum and the usual low data rate rule.
    ///
    /// # Errors
    /// [`RadioError`] naming the value that no modem has.
    pub fn new(spreading_factor: u8, bandwidth_hz: u32, coding_rate: CodingRate) -> Result<Self, RadioError> {
        if !SPREADING_FACTORS.contains(&spreading_factor) {
            return Err(RadioError::SpreadingFactor { given: spreading_factor });
        }
        if !BANDWIDTHS_HZ.contains(&bandwidth_hz) {
            return Err(RadioError::Bandwidth { given_hz: bandwidth_hz });
        }
        Ok(Self {
            spreading_factor,
            bandwidth_hz,
            coding_rate,
            preamble_symbols: 8,
            header: Header::Explicit,
            crc: true,
            low_data_rate: LowDataRate::Auto,
        })
    }

    /// With a preamble of this many symbols (without the 4.25 the chip adds).
    ///
    /// # Errors
    /// [`RadioError::Preamble`] under [`PREAMBLE_SYMBOLS_MIN`].
    pub const fn with_preamble(mut self, symbols: u16) -> Result<Self, RadioError> {
        if symbols < PREAMBLE_SYMBOLS_MIN {
            return Err(RadioError::Preamble { given: symbols });
        }
        self.preamble_symbols = symbols;
        Ok(self)
    }

    /// With or without a header in each packet.
    #[must_use]
    pub const fn with_header(mut self, header: Header) -> Self {
        self.header = header;
        self
    }

    /// With or without a checksum over the payload.
    #[must_use]
    pub const fn with_crc(mut self, crc: bool) -> Self {
        self.crc = crc;
        self
    }

    /// With this rule for the low data rate optimisation.
    #[must_use]
    pub const fn with_low_data_rate(mut self, rule: LowDataRate) -> Self {
        self.low_data_rate = rule;
        self
    }

    /// The spreading factor, 7 to 12.
    #[must_use]
    pub const fn spreading_factor(&self) -> u8 {
        self.spreading_factor
    }

    /// The bandwidth, Hz.
    #[must_use]
    pub const fn bandwidth_hz(&self) -> u32 {
        self.bandwidth_hz
    }

    /// The coding rate.
    #[must_use]
    pub const fn coding_rate(&self) -> CodingRate {
        self.coding_rate
    }

    /// Symbols of preamble that are programmed, without the chip's own 4.25.
    #[must_use]
    pub const fn preamble_symbols(&self) -> u16 {
        self.preamble_symbols
    }

    /// Whether symbols carry two bits less.
    #[must_use]
    pub const fn optimises_low_rate(&self) -> bool {
        match self.low_data_rate {
            LowDataRate::On => true,
            LowDataRate::Off => false,
            LowDataRate::Auto => {
                (MICROS_PER_SECOND << self.spreading_factor) >= LOW_RATE_SYMBOL_US * self.bandwidth_hz as u64
            }
        }
    }

    /// Time on air of a packet with `payload` bytes, microseconds.
    ///
    /// Exact for bandwidths of 31.25, 62.5, 125, 250 and 500 kHz; else rounded up. A radio holds at most
    /// [`PACKET_BYTES_MAX`] bytes in a packet; beyond that the formula goes on as if it could, so that what is timed
    /// before it is refused is never timed too short.
    #[must_use]
    pub fn airtime_us(&self, payload: usize) -> u64 {
        let preamble_quarters = 4 * u64::from(self.preamble_symbols) + 17;
        self.quarters_us(preamble_quarters + 4 * self.payload_symbols(payload))
    }

    /// Duration of one symbol, microseconds, rounded up.
    #[must_use]
    pub fn symbol_us(&self) -> u64 {
        self.quarters_us(4)
    }

    /// The largest payload whose airtime is at most `limit_us`; `None` if not even an empty packet's is.
    #[must_use]
    pub fn payload_within(&self, limit_us: u64) -> Option<usize> {
        // Airtime never falls as the payload grows, so halving finds the edge.
        let fits = |payload: &usize| self.airtime_us(*payload) <= limit_us;
        if !fits(&0) {
            return None;
        }
        let (mut low, mut high) = (0, PACKET_BYTES_MAX);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if fits(&middle) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Some(low)
    }

    /// Bits per second of payload while a packet's payload is on the air, rounded down.
    #[must_use]
    pub fn bits_per_second(&self) -> u64 {
        let symbols_per_megasecond = (u64::from(self.bandwidth_hz) * 1_000_000) >> self.spreading_factor;
        let bits = u64::from(self.spreading_factor - if self.optimises_low_rate() { 2 } else { 0 });
        symbols_per_megasecond * bits * 4 / u64::from(self.coding_rate.denominator()) / 1_000_000
    }

    /// Symbols of header and payload.
    fn payload_symbols(&self, payload: usize) -> u64 {
        let payload = i64::try_from(payload).unwrap_or(i64::MAX / 64);
        let sf = i64::from(self.spreading_factor);
        let crc = if self.crc { 16 } else { 0 };
        let implicit = if self.header == Header::Implicit { 20 } else { 0 };
        let dropped = if self.optimises_low_rate() { 2 } else { 0 };
        let bits = payload.saturating_mul(8) - 4 * sf + 28 + crc - implicit;
        let bits = u64::try_from(bits).unwrap_or(0);
        let per_block = u64::try_from(4 * (sf - dropped)).unwrap_or(1);
        8 + bits.div_ceil(per_block) * u64::from(self.coding_rate.denominator())
    }

    /// `quarters` quarters of a symbol, in microseconds, rounded up.
    fn quarters_us(&self, quarters: u64) -> u64 {
        let scaled = (u128::from(quarters) * u128::from(MICROS_PER_SECOND)) << self.spreading_factor;
        let micros = scaled.div_ceil(4 * u128::from(self.bandwidth_hz));
        u64::try_from(micros).unwrap_or(u64::MAX)
    }
}

/// How long frames take on a port of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A LoRa radio.
    Lora(Lora),
    /// Anything else that has a rate.
    Rate {
        /// Bits per second; 0 counts as 1.
        bits_per_s: u64,
        /// What each frame costs before its first bit, microseconds: key-up, preamble, a round through a stack.
        latency_us: u64,
    },
}

impl Pace {
    /// Time a frame of `bytes` occupies the port, microseconds.
    #[must_use]
    pub fn airtime_us(&self, bytes: usize) -> u64 {
        match *self {
            Self::Lora(lora) => lora.airtime_us(bytes),
            Self::Rate { bits_per_s, latency_us } => {
                let bits = (bytes as u128) * 8;
                let micros = (bits * u128::from(MICROS_PER_SECOND)).div_ceil(u128::from(bits_per_s.max(1)));
                u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(latency_us)
            }
        }
    }

    /// Bits per second, rounded down.
    #[must_use]
    pub fn bits_per_second(&self) -> u64 {
        match *self {
            Self::Lora(lora) => lora.bits_per_second(),
            Self::Rate { bits_per_s, .. } => bits_per_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lora(sf: u8, bandwidth_hz: u32) -> Lora {
        Lora::new(sf, bandwidth_hz, CodingRate::Cr45).unwrap()
    }

    /// 125 kHz, 4/5, preamble 8, explicit header, checksum: what two independent implementations agree on.
    #[test]
    fn airtime_matches_all_48_published_vectors() {
        const PAYLOADS: [usize; 8] = [10, 20, 51, 64, 100, 167, 222, 255];
        const MICROS: [(u8, [u64; 8]); 6] = [
            (7, [41_216, 56_576, 102_656, 118_016, 174_336, 271_616, 348_416, 399_616]),
            (8, [72_192, 102_912, 184_832, 215_552, 307_712, 481_792, 614_912, 707_072]),
            (9, [144_384, 185_344, 328_704, 390_144, 553_984, 861_184, 1_106_944, 1_250_304]),
            (10, [288_768, 370_688, 616_448, 698_368, 1_026_048, 1_558_528, 2_009_088, 2_295_808]),
            (11, [577_536, 741_376, 1_314_816, 1_560_576, 2_215_936, 3_444_736, 4_427_776, 5_001_216]),
            (12, [991_232, 1_318_912, 2_465_792, 2_793_472, 3_940_352, 6_234_112, 8_036_352, 9_019_392]),
        ];
        for (sf, row) in MICROS {
            for (payload, micros) in PAYLOADS.into_iter().zip(row) {
                assert_eq!(lora(sf, 125_000).airtime_us(payload), micros, "SF{sf}, {payload} bytes");
            }
        }
    }

    #[test]
    fn airtime_matches_the_vectors_with_other_settings() {
        let long_fast = lora(11, 250_000).with_preamble(16).unwrap();
        assert_eq!(long_fast.airtime_us(56), 681_984);
        assert_eq!(long_fast.airtime_us(255), 2_156_544);
        assert_eq!(lora(9, 125_000).airtime_us(13), 164_864);
    }

    /// Worked by hand from the formula: SF7 at 125 kHz has symbols of 1024 us.
    #[test]
    fn airtime_vectors_of_header_checksum_and_coding_rate() {
        let base = lora(7, 125_000);
        // 80 - 28 + 28 + 16 = 96 bits, 4 blocks of 28: 8 + 4 * 8 = 40 symbols, and 12.25.
        assert_eq!(Lora::new(7, 125_000, CodingRate::Cr48).unwrap().airtime_us(10), (40 * 4 + 49) * 1024 / 4);
        // Without a checksum 80 bits, 3 blocks.
        assert_eq!(base.with_crc(false).airtime_us(10), (23 * 4 + 49) * 1024 / 4);
        // Implicit: 96 - 20 = 76 bits, 3 blocks.
        assert_eq!(base.with_header(Header::Implicit).airtime_us(10), (23 * 4 + 49) * 1024 / 4);
        // Fewer bits than the first block holds: 8 symbols, never less.
        let bare = lora(12, 125_000).with_header(Header::Implicit).with_crc(false);
        assert_eq!(bare.airtime_us(0), (8 * 4 + 49) * 32_768 / 4);
        // Optimised although SF7 would not need it: blocks of 20 bits, 5 of them.
        assert_eq!(base.with_low_data_rate(LowDataRate::On).airtime_us(10), (33 * 4 + 49) * 1024 / 4);
    }

    #[test]
    fn low_rate_is_optimised_from_16_ms_symbols_on() {
        assert!(!lora(10, 125_000).optimises_low_rate());
        assert!(lora(11, 125_000).optimises_low_rate());
        assert!(!lora(11, 250_000).optimises_low_rate());
        assert!(lora(12, 250_000).optimises_low_rate());
        assert!(lora(9, 31_250).optimises_low_rate());
        assert!(!lora(12, 125_000).with_low_data_rate(LowDataRate::Off).optimises_low_rate());
    }

    #[test]
    fn settings_that_no_modem_has_are_refused_by_name() {
        assert_eq!(Lora::new(6, 125_000, CodingRate::Cr45), Err(RadioError::SpreadingFactor { given: 6 }));
        assert_eq!(Lora::new(7, 100_000, CodingRate::Cr45), Err(RadioError::Bandwidth { given_hz: 100_000 }));
        assert_eq!(CodingRate::from_denominator(9), Err(RadioError::CodingRate { given: 9 }));
        assert_eq!(lora(7, 125_000).with_preamble(5), Err(RadioError::Preamble { given: 5 }));
    }

    #[test]
    fn the_rate_is_that_of_the_data_sheets() {
        assert_eq!(lora(7, 125_000).bits_per_second(), 5_468);
        assert_eq!(lora(8, 125_000).bits_per_second(), 3_125);
        assert_eq!(lora(12, 125_000).bits_per_second(), 244);
    }

    #[test]
    fn a_rate_without_a_radio_is_timed_too() {
        let line = Pace::Rate { bits_per_s: 1_200, latency_us: 300_000 };
        assert_eq!(line.airtime_us(15), 400_000);
        assert_eq!(Pace::Rate { bits_per_s: 0, latency_us: 0 }.airtime_us(1), 8_000_000);
    }

    prop_compose! {
        fn any_lora()(
            sf in SPREADING_FACTORS, bandwidth in 0..BANDWIDTHS_HZ.len(), cr in 5_u8..=8, preamble in 6_u16..=64,
            implicit: bool, crc: bool,
        ) -> Lora {
            let header = if implicit { Header::Implicit } else { Header::Explicit };
            let rate = CodingRate::from_denominator(cr).unwrap();
            let lora = Lora::new(sf, BANDWIDTHS_HZ[bandwidth], rate).unwrap();
            lora.with_preamble(preamble).unwrap().with_header(header).with_crc(crc)
        }
    }

    proptest! {
        #[test]
        fn a_longer_payload_is_never_shorter_on_the_air(lora in any_lora(), payload in 0_usize..600) {
            prop_assert!(lora.airtime_us(payload) <= lora.airtime_us(payload + 1));
        }

        #[test]
        fn the_largest_payload_within_a_time_is_the_largest(lora in any_lora(), limit_us in 0_u64..20_000_000) {
            match lora.payload_within(limit_us) {
                None => prop_assert!(lora.airtime_us(0) > limit_us),
                Some(payload) => {
                    prop_assert!(lora.airtime_us(payload) <= limit_us);
                    prop_assert!(payload == PACKET_BYTES_MAX || lora.airtime_us(payload + 1) > limit_us);
                }
            }
        }
    }
}
