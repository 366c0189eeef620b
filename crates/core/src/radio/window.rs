//! How much of the last hour (or another span) was spent on the air: a rolling window that is never too kind.
//!
//! An entry is one transmission. It counts whole from the moment it is opened, before anything is sent, until its end has
//! left the window. That suffices: among the transmissions that touch any stretch of one span's length, the last one
//! admitted was admitted while all others still counted, so together they were within the budget. Memory is bounded:
//! beyond [`RADIO_WINDOW_ENTRIES_MAX`] two neighbours become one entry that leaves when the later one would have.

use std::collections::VecDeque;

use core::time::Duration;

use crate::limits::RADIO_WINDOW_ENTRIES_MAX;
use crate::time::Time;

/// One or more transmissions that leave the window together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// When they are out of the window.
    pub(super) leaves_at: Time,
    /// Their airtime, microseconds.
    pub(super) airtime_us: u64,
}

/// A rolling sum of airtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    span: Duration,
    /// By the time they leave.
    held: VecDeque<Held>,
    /// Airtime of what is being sent right now and whose end is not known yet.
    open_us: u64,
}

impl Window {
    pub(super) const fn new(span: Duration) -> Self {
        Self { span, held: VecDeque::new(), open_us: 0 }
    }

    pub(super) const fn span(&self) -> Duration {
        self.span
    }

    pub(super) const fn open_us(&self) -> u64 {
        self.open_us
    }

    /// What has not left yet, oldest first.
    pub(super) fn held(&self, now: Time) -> impl Iterator<Item = Held> {
        self.held.iter().copied().filter(move |held| held.leaves_at > now)
    }

    /// Airtime that counts at `now`.
    pub(super) fn used_us(&self, now: Time) -> u64 {
        self.held(now).fold(self.open_us, |sum, held| sum.saturating_add(held.airtime_us))
    }

    /// When `airtime_us` more is within `budget_us`, if nothing else is sent before: `now` or later. `None` if it never
    /// is, or not before what is open has ended.
    pub(super) fn fits_at(&self, now: Time, airtime_us: u64, budget_us: u64) -> Option<Time> {
        let room = budget_us.checked_sub(airtime_us)?;
        let mut used = self.used_us(now);
        let mut at = now;
        let mut held = self.held(now);
        while used > room {
            let next = held.next()?;
            used = used.saturating_sub(next.airtime_us);
            at = next.leaves_at;
        }
        Some(at)
    }

    /// Counts a transmission that is about to start.
    pub(super) fn open(&mut self, airtime_us: u64) {
        self.open_us = self.open_us.saturating_add(airtime_us);
    }

    /// An open transmission ended no later than `end`.
    pub(super) fn settle(&mut self, now: Time, airtime_us: u64, end: Time) {
        self.open_us = self.open_us.saturating_sub(airtime_us);
        self.hold(now, Held { leaves_at: end + self.span, airtime_us });
    }

    /// An open transmission certainly never took place.
    pub(super) fn refund(&mut self, airtime_us: u64) {
        self.open_us = self.open_us.saturating_sub(airtime_us);
    }

    /// Takes an entry whose time of leaving is known.
    pub(super) fn hold(&mut self, now: Time, entry: Held) {
        while self.held.front().is_some_and(|held| held.leaves_at <= now) {
            self.held.pop_front();
        }
        if entry.leaves_at <= now || entry.airtime_us == 0 {
            return;
        }
        let at = self.held.partition_point(|held| held.leaves_at <= entry.leaves_at);
        self.held.insert(at, entry);
        if self.held.len() > RADIO_WINDOW_ENTRIES_MAX {
            self.merge_closest();
        }
    }

    /// Joins the two entries that leave closest together; the earlier one stays as long as the later one. What this
    /// costs is a budget that frees a little late, where it is least felt.
    fn merge_closest(&mut self) {
        let gap = |at: &usize| self.held[at + 1].leaves_at.saturating_since(self.held[*at].leaves_at);
        let Some(at) = (0..self.held.len().saturating_sub(1)).min_by_key(gap) else { return };
        if let Some(earlier) = self.held.remove(at) {
            self.held[at].airtime_us = self.held[at].airtime_us.saturating_add(earlier.airtime_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    #[test]
    fn an_entry_counts_from_before_it_is_sent_until_an_hour_after_its_end() {
        let mut window = Window::new(HOUR);
        window.open(500);
        assert_eq!(window.used_us(at(0)), 500);
        assert_eq!(window.fits_at(at(0), 600, 1000), None, "its end is not known yet");
        window.settle(at(2), 500, at(2));
        assert_eq!(window.fits_at(at(2), 500, 1000), Some(at(2)));
        assert_eq!(window.fits_at(at(2), 501, 1000), Some(at(3602)));
        assert_eq!(window.fits_at(at(2), 1001, 1000), None);
        assert_eq!(window.used_us(at(3601)), 500);
        assert_eq!(window.used_us(at(3602)), 0);
    }

    #[test]
    fn what_was_not_sent_is_given_back() {
        let mut window = Window::new(HOUR);
        window.open(500);
        window.refund(500);
        assert_eq!(window.used_us(at(0)), 0);
    }

    proptest! {
        /// Against a window that forgets nothing and merges nothing.
        #[test]
        fn a_full_window_never_counts_less_than_an_exact_one(
            steps in proptest::collection::vec((0_u64..30_000, 1_u64..90_000), 0..700),
        ) {
            let (mut window, mut exact, mut now) = (Window::new(HOUR), Vec::new(), Time::ZERO);
            for (pause_ms, airtime_us) in steps {
                now += Duration::from_millis(pause_ms);
                window.open(airtime_us);
                window.settle(now, airtime_us, now);
                exact.push((now + HOUR, airtime_us));
                prop_assert!(window.held.len() <= RADIO_WINDOW_ENTRIES_MAX);
                let counted: u64 = exact.iter().filter(|(leaves, _)| *leaves > now).map(|(_, us)| us).sum();
                prop_assert!(window.used_us(now) >= counted);
                prop_assert!(window.held.iter().is_sorted_by_key(|held| held.leaves_at));
            }
            prop_assert_eq!(window.used_us(now + HOUR), 0, "and nothing stays longer than an hour");
        }
    }
}
