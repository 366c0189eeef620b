//! How much of an hour a radio has been on the air: the duty-cycle law, written as plainly as it reads.
//!
//! It judges the product's own ledger and therefore shares no code with it.

use std::collections::VecDeque;

use crate::clock::Moment;

/// The stretch of time a duty cycle is counted over, in microseconds.
pub const HOUR_US: u64 = 3_600_000_000;

/// What one radio sent in the last hour.
#[derive(Clone, Debug, Default)]
pub struct Rolling {
    sent: VecDeque<(Moment, Moment)>,
    /// Airtime of all that is in the list.
    total_us: u64,
}

impl Rolling {
    /// The radio was on the air from `start` to `end`, later than everything before.
    pub fn add(&mut self, start: Moment, end: Moment) {
        self.sent.push_back((start, end));
        self.total_us += end.since_us(start);
    }

    /// Airtime within the `span_us` that end at `now`, in microseconds. Forgets what lies before them.
    pub fn used_us(&mut self, now: Moment, span_us: u64) -> u64 {
        let from = Moment(now.0.saturating_sub(span_us));
        while let Some((start, end)) = self.sent.front().copied().filter(|(_, end)| *end <= from) {
            self.total_us -= end.since_us(start);
            self.sent.pop_front();
        }
        // Only the first can reach back over the beginning, and only the last ones beyond the end.
        let before = self.sent.front().map_or(0, |(start, _)| from.since_us(*start));
        let after = self.sent.iter().rev().take_while(|(_, end)| *end > now);
        self.total_us - before - after.map(|(start, end)| end.since_us((*start).max(now))).sum::<u64>()
    }
}

/// The airtime an hour may hold at this frequency in Europe (ERC Recommendation 70-03 annex 1), in microseconds;
/// `None` where nothing may be sent.
#[must_use]
pub const fn eu868_budget_us(frequency_hz: u32) -> Option<u64> {
    match frequency_hz / 1_000 {
        863_000..=864_999 | 868_700..=869_199 => Some(HOUR_US / 1_000),
        865_000..=868_599 | 869_700..=869_999 => Some(HOUR_US / 100),
        869_400..=869_649 => Some(HOUR_US / 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_rolls() {
        let mut rolling = Rolling::default();
        rolling.add(Moment::from_secs(0), Moment::from_secs(10));
        rolling.add(Moment::from_secs(3_000), Moment::from_secs(3_005));
        assert_eq!(rolling.used_us(Moment::from_secs(3_600), HOUR_US), 15_000_000);
        assert_eq!(rolling.used_us(Moment::from_secs(3_604), HOUR_US), 11_000_000);
        assert_eq!(rolling.used_us(Moment::from_secs(3_610), HOUR_US), 5_000_000);
        assert_eq!(rolling.used_us(Moment::from_secs(9_000), HOUR_US), 0);
    }

    #[test]
    fn gaps_between_sub_bands_allow_nothing() {
        assert_eq!(eu868_budget_us(869_525_000), Some(360_000_000));
        assert_eq!(eu868_budget_us(868_100_000), Some(36_000_000));
        assert_eq!(eu868_budget_us(863_500_000), Some(3_600_000));
        assert_eq!(eu868_budget_us(868_650_000), None);
    }
}
