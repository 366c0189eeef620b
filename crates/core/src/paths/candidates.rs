//! How many addresses a device may name to have them tried.
//!
//! Hole punching needs that each side tells the other where it might be, and that the other sends there before anybody has
//! answered from there (RFC 8445, section 7.2.2; draft-seemann-quic-nat-traversal). Who tells lies has another device send
//! small packets to a third one (RFC 8445, section 19.5.1). Nobody can know beforehand whose an address is, so the number is
//! limited: what a device with many networks that change often would name passes, and the rest ends the connection.

use core::time::Duration;

use crate::limits::{CANDIDATES_BURST_MAX, CANDIDATES_PER_S_MAX};
use crate::time::Time;

/// What one device has named, by the generic cell rate algorithm (ITU-T I.371): each address moves a time forward, which may
/// be ahead of the clock by the burst.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidates {
    due: Time,
}

impl Candidates {
    const EVERY: Duration =
        Duration::from_nanos(Duration::from_secs(1).as_nanos() as u64 / CANDIDATES_PER_S_MAX as u64);

    /// The device named this many more: whether that is still within its allowance.
    #[must_use]
    pub fn name(&mut self, now: Time, more: u64) -> bool {
        let burst = Self::EVERY * CANDIDATES_BURST_MAX;
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let due = self.due.max(now) + Self::EVERY.saturating_mul(more);
        // It owes no more than a second burst: who stops is soon forgiven, however much he named.
        self.due = due.min(now + 2 * burst);
        due.saturating_since(now) <= burst
    }

    /// Whether it has its whole allowance again, which is the same as never having been here.
    #[must_use]
    pub fn owes_nothing(&self, now: Time) -> bool {
        self.due <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Time {
        Time::from_millis(1000 * s)
    }

    #[test]
    fn a_laptop_with_many_networks_that_change_every_ten_seconds_is_within_its_allowance() {
        let mut laptop = Candidates::default();
        assert!((0..360).all(|nth| laptop.name(seconds(10 * nth), 32)));
    }

    #[test]
    fn a_device_that_joins_everything_at_once_is_too() {
        let mut phone = Candidates::default();
        // Wi-Fi, cellular and a VPN one after the other, each with a round of all addresses.
        assert!((0..8).all(|_| phone.name(seconds(5), 32)));
    }

    #[test]
    fn a_flood_is_not_and_goes_on_being_one_over_many_connections() {
        let mut liar = Candidates::default();
        let passed = (0..1000).filter(|_| liar.name(seconds(1), 1)).count();
        assert_eq!(passed, CANDIDATES_BURST_MAX as usize);
        assert!(!liar.name(seconds(2), 32));
        assert!(!liar.owes_nothing(seconds(2)));
    }

    #[test]
    fn in_the_long_run_no_more_than_the_rate_passes() {
        let mut liar = Candidates::default();
        let passed = (0..600_000).filter(|ms| liar.name(Time::from_millis(*ms), 1)).count();
        // It owes for what was refused, so it gets less than the rate.
        assert!(passed <= (CANDIDATES_BURST_MAX + 600 * CANDIDATES_PER_S_MAX) as usize, "{passed}");
    }

    #[test]
    fn however_much_was_named_two_pauses_forgive_it() {
        let mut liar = Candidates::default();
        assert!(!liar.name(seconds(1), u64::MAX));
        let burst_s = u64::from(CANDIDATES_BURST_MAX / CANDIDATES_PER_S_MAX);
        assert!(liar.owes_nothing(seconds(1 + 2 * burst_s)));
        assert!(liar.name(seconds(1 + 2 * burst_s), 32));
    }
}
