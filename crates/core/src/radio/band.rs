//! Where one may transmit, how strong, and for which share of the time: a region's sub-bands as data.
//!
//! EU868 is the table of ERC Recommendation 70-03 annex 1 and EN 300 220-2 annex B for short-range devices without
//! listen-before-talk or agility, in integer hertz and duty cycles in millionths. Frequencies between two sub-bands are
//! gaps: nothing may be sent there. A [`Channel`] exists only if its whole occupied bandwidth lies within one sub-band,
//! so code that holds one cannot transmit where it must not.

use std::borrow::Cow;

use super::RadioError;
use crate::limits::RADIO_BANDS_MAX;

/// A duty cycle in millionths that allows everything.
pub const DUTY_UNLIMITED_PPM: u32 = 1_000_000;

/// Gain of a half-wave dipole over an isotropic antenna, hundredths of a decibel: the difference between ERP and EIRP.
const DIPOLE_GAIN_CDB: i32 = 215;

/// A range of frequencies with one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Band {
    /// Lower edge, Hz.
    pub low_hz: u32,
    /// Upper edge, Hz.
    pub high_hz: u32,
    /// Share of any hour that may be spent sending, in millionths.
    pub duty_ppm: u32,
    /// Largest effective radiated power, dBm.
    pub erp_max_dbm: i8,
}

impl Band {
    const fn new(low_hz: u32, high_hz: u32, duty_ppm: u32, erp_max_dbm: i8) -> Self {
        Self { low_hz, high_hz, duty_ppm, erp_max_dbm }
    }

    /// Airtime that any hour may hold, microseconds.
    #[must_use]
    pub const fn budget_us(&self) -> u64 {
        // 3600 s of 10^6 us, times millionths.
        3_600 * self.duty_ppm as u64
    }

    /// Whether the rule leaves nothing to count.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.duty_ppm >= DUTY_UNLIMITED_PPM
    }

    const fn holds(&self, low_hz: u64, high_hz: u64) -> bool {
        self.low_hz as u64 <= low_hz && high_hz <= self.high_hz as u64
    }
}

const EU868: &[Band] = &[
    Band::new(863_000_000, 865_000_000, 1_000, 14),
    Band::new(865_000_000, 868_000_000, 10_000, 14),
    Band::new(868_000_000, 868_600_000, 10_000, 14),
    Band::new(868_700_000, 869_200_000, 1_000, 14),
    Band::new(869_400_000, 869_650_000, 100_000, 27),
    Band::new(869_700_000, 870_000_000, 10_000, 14),
];

const EU433: &[Band] = &[Band::new(433_050_000, 434_790_000, 100_000, 10)];

/// Everything, for cables, shielded rooms and licences of one's own.
const UNRESTRICTED: &[Band] = &[Band::new(0, u32::MAX, DUTY_UNLIMITED_PPM, i8::MAX)];

/// The rules of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    name: &'static str,
    bands: Cow<'static, [Band]>,
}

impl Region {
    /// Europe, 863 to 870 MHz.
    pub const EU868: Self = Self { name: "eu868", bands: Cow::Borrowed(EU868) };
    /// Europe, 433 MHz.
    pub const EU433: Self = Self { name: "eu433", bands: Cow::Borrowed(EU433) };
    /// No rule at all. Whoever chooses it answers for it: it is meant for cables and for bands one holds a licence for.
    pub const UNRESTRICTED: Self = Self { name: "unrestricted", bands: Cow::Borrowed(UNRESTRICTED) };

    /// A region made of the user's own bands.
    ///
    /// # Errors
    /// [`RadioError::Bands`] if there are none or too many, one is empty or upside down, two overlap, or a duty cycle is
    /// nothing or over the whole time.
    pub fn custom(mut bands: Vec<Band>) -> Result<Self, RadioError> {
        bands.sort_unstable();
        let sound = bands
            .iter()
            .all(|band| band.low_hz < band.high_hz && (1..=DUTY_UNLIMITED_PPM).contains(&band.duty_ppm));
        let apart = bands.windows(2).all(|pair| pair[0].high_hz <= pair[1].low_hz);
        if bands.is_empty() || bands.len() > RADIO_BANDS_MAX || !sound || !apart {
            return Err(RadioError::Bands);
        }
        Ok(Self { name: "custom", bands: Cow::Owned(bands) })
    }

    /// The region with this name in a configuration.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::EU868, Self::EU433, Self::UNRESTRICTED].into_iter().find(|region| region.name == name)
    }

    /// Its name in configuration and messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its bands, by frequency.
    #[must_use]
    pub fn bands(&self) -> &[Band] {
        &self.bands
    }

    /// The channel around `centre_hz` that is `bandwidth_hz` wide.
    ///
    /// # Errors
    /// [`RadioError::BetweenBands`] if the centre is in no band, [`RadioError::CrossesEdge`] if a side lies outside.
    pub fn channel(&self, centre_hz: u32, bandwidth_hz: u32) -> Result<Channel, RadioError> {
        // Doubled, so that half of an odd bandwidth needs no rounding.
        let (centre, width) = (2 * u64::from(centre_hz), u64::from(bandwidth_hz));
        let (low_hz, high_hz) = (centre.saturating_sub(width) / 2, (centre + width).div_ceil(2));
        if let Some(band) = self.bands.iter().find(|band| band.holds(low_hz, high_hz)) {
            return Ok(Channel { centre_hz, bandwidth_hz, band: *band });
        }
        let around = u64::from(centre_hz);
        match self.bands.iter().find(|band| band.holds(around, around)) {
            Some(band) => Err(RadioError::CrossesEdge {
                low_hz,
                high_hz,
                edge_hz: if low_hz < u64::from(band.low_hz) { band.low_hz } else { band.high_hz },
                region: self.name,
            }),
            None => Err(RadioError::BetweenBands { centre_hz, region: self.name }),
        }
    }
}

/// A frequency and width that lie within one band of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    centre_hz: u32,
    bandwidth_hz: u32,
    band: Band,
}

impl Channel {
    /// The centre, Hz.
    #[must_use]
    pub const fn centre_hz(&self) -> u32 {
        self.centre_hz
    }

    /// The occupied bandwidth, Hz.
    #[must_use]
    pub const fn bandwidth_hz(&self) -> u32 {
        self.bandwidth_hz
    }

    /// The band it lies in, whose rule it keeps.
    #[must_use]
    pub const fn band(&self) -> Band {
        self.band
    }

    /// Checks a transmitter's power against the band's limit. `antenna_cdbi` is the antenna's gain over an isotropic
    /// one less the cable's loss, in hundredths of a decibel: 215 for a plain half-wave dipole.
    ///
    /// # Errors
    /// [`RadioError::TooStrong`], with the most that is allowed for this antenna.
    pub fn check_power(&self, power_dbm: i8, antenna_cdbi: i16) -> Result<(), RadioError> {
        let over_dipole = i32::from(antenna_cdbi) - DIPOLE_GAIN_CDB;
        let max_cdbm = 100 * i32::from(self.band.erp_max_dbm) - over_dipole;
        if 100 * i32::from(power_dbm) > max_cdbm {
            let max_dbm = i8::try_from(max_cdbm.div_euclid(100)).unwrap_or(i8::MIN);
            return Err(RadioError::TooStrong {
                given_dbm: power_dbm,
                max_dbm,
                erp_max_dbm: self.band.erp_max_dbm,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eu(centre_hz: u32, bandwidth_hz: u32) -> Result<Channel, RadioError> {
        Region::EU868.channel(centre_hz, bandwidth_hz)
    }

    #[test]
    fn the_budgets_of_eu868_are_those_of_the_table() {
        let seconds: Vec<u64> = EU868.iter().map(|band| band.budget_us() / 100_000).collect();
        assert_eq!(seconds, [36, 360, 360, 36, 3600, 360], "tenths of a second per hour");
        assert_eq!(Region::UNRESTRICTED.bands()[0].budget_us(), 3_600_000_000);
    }

    #[test]
    fn a_channel_that_just_fits_is_a_channel() {
        assert_eq!(eu(869_525_000, 250_000).unwrap().band().duty_ppm, 100_000);
        assert_eq!(eu(868_100_000, 125_000).unwrap().band().low_hz, 868_000_000);
        assert_eq!(eu(867_900_000, 125_000).unwrap().band().low_hz, 865_000_000);
    }

    #[test]
    fn a_channel_across_an_edge_is_refused_with_the_edge() {
        assert_eq!(
            eu(868_550_000, 125_000),
            Err(RadioError::CrossesEdge {
                low_hz: 868_487_500,
                high_hz: 868_612_500,
                edge_hz: 868_600_000,
                region: "eu868"
            })
        );
        // Both neighbours allow 1 %, but their budgets are two: a channel belongs to one.
        assert!(matches!(eu(868_000_000, 125_000), Err(RadioError::CrossesEdge { .. })));
        assert!(matches!(eu(869_525_000, 500_000), Err(RadioError::CrossesEdge { .. })));
    }

    #[test]
    fn the_gaps_of_eu868_hold_no_channel() {
        for centre_hz in [868_650_000, 869_300_000, 869_675_000, 862_000_000, 870_500_000, 0, u32::MAX] {
            assert_eq!(eu(centre_hz, 7_800), Err(RadioError::BetweenBands { centre_hz, region: "eu868" }));
        }
    }

    #[test]
    fn power_is_judged_with_the_antenna() {
        let channel = eu(868_100_000, 125_000).unwrap();
        assert_eq!(channel.check_power(14, 215), Ok(()));
        assert_eq!(channel.check_power(16, 0), Ok(()), "an isotropic antenna is weaker than a dipole");
        assert_eq!(
            channel.check_power(14, 515),
            Err(RadioError::TooStrong { given_dbm: 14, max_dbm: 11, erp_max_dbm: 14 })
        );
        assert_eq!(eu(869_525_000, 125_000).unwrap().check_power(27, 215), Ok(()));
    }

    #[test]
    fn a_region_of_ones_own_must_make_sense() {
        let band = Band::new(433_000_000, 434_000_000, 1_000_000, 20);
        let region = Region::custom(vec![band]).unwrap();
        assert!(region.channel(433_500_000, 125_000).unwrap().band().is_unlimited());
        assert_eq!(Region::custom(Vec::new()), Err(RadioError::Bands));
        assert_eq!(Region::custom(vec![band, band]), Err(RadioError::Bands), "two rules for one frequency");
        assert_eq!(Region::custom(vec![Band { duty_ppm: 0, ..band }]), Err(RadioError::Bands));
        assert_eq!(Region::custom(vec![Band { high_hz: 0, ..band }]), Err(RadioError::Bands));
        assert_eq!(Region::named("eu868"), Some(Region::EU868));
        assert_eq!(Region::named("mars"), None);
    }
}
