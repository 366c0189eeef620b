//! Two kinds of time: the world's, which only the simulator knows, and each node's own.
//!
//! A node's clock runs a little fast or slow, starts at zero on every boot, and may jump forward when the machine was
//! asleep. Keeping the two in different types makes it a compile error to hand a node the truth.

use core::fmt;
use core::time::Duration;

use honeylink_core::time::Time;

/// A point in the world's time, in microseconds since the run began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The beginning of the run.
    pub const START: Self = Self(0);
    /// After every run.
    pub const NEVER: Self = Self(u64::MAX);

    /// So many seconds after the beginning.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// So many milliseconds after the beginning.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the beginning.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Seconds since the beginning.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// This moment and `micros` microseconds more; saturates at [`Moment::NEVER`].
    #[must_use]
    pub const fn plus_us(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// This moment and `duration` more; saturates at [`Moment::NEVER`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        self.plus_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }

    /// Microseconds from `earlier` to here; zero if it lies ahead.
    #[must_use]
    pub const fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const PPB: i128 = 1_000_000_000;

/// One node's clocks: the monotonic one its machines see, and the wall clock it may believe.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The world's time and the node's own at which the current rate began.
    anchor: (Moment, u64),
    /// How much faster than the world it runs, in parts per billion; negative when slower.
    rate_ppb: i64,
    /// Wall clock minus the truth, in milliseconds.
    wall_offset_ms: i64,
}

/// Unix time in milliseconds at which every run begins: 2026-01-01T00:00:00Z.
const WALL_START_MS: i64 = 1_767_225_600_000;

impl Clock {
    /// A clock that starts at zero now and runs `rate_ppb` parts per billion fast.
    #[must_use]
    pub const fn started(now: Moment, rate_ppb: i64, wall_offset_ms: i64) -> Self {
        Self { anchor: (now, 0), rate_ppb, wall_offset_ms }
    }

    /// What the node's monotonic clock shows at `now`.
    #[must_use]
    pub fn local(&self, now: Moment) -> Time {
        let passed = i128::from(now.since_us(self.anchor.0));
        let own = passed * (PPB + i128::from(self.rate_ppb)) / PPB;
        Time::from_micros(self.anchor.1.saturating_add(u64::try_from(own).unwrap_or(0)))
    }

    /// The first moment at which the node's clock shows `local` or more; [`Moment::NEVER`] for [`Time::MAX`].
    #[must_use]
    pub fn moment(&self, local: Time) -> Moment {
        if local == Time::MAX {
            return Moment::NEVER;
        }
        let own = i128::from(local.as_micros().saturating_sub(self.anchor.1));
        let rate = PPB + i128::from(self.rate_ppb);
        let passed = (own * PPB + rate - 1) / rate;
        self.anchor.0.plus_us(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The node starts again: its monotonic clock is at zero.
    pub const fn restart(&mut self, now: Moment) {
        self.anchor = (now, 0);
    }

    /// From now on the clock runs at another rate.
    pub fn set_rate(&mut self, now: Moment, rate_ppb: i64) {
        self.anchor = (now, self.local(now).as_micros());
        self.rate_ppb = rate_ppb;
    }

    /// The monotonic clock leaps forward. It never goes back: no operating system's does.
    pub fn leap(&mut self, now: Moment, by: Duration) {
        self.anchor = (now, (self.local(now) + by).as_micros());
    }

    /// The clock stands still while the node sleeps: on waking it goes on from what it showed then.
    pub fn freeze_until(&mut self, slept_at: Moment, woke_at: Moment) {
        self.anchor = (woke_at, self.local(slept_at).as_micros());
    }

    /// Somebody sets the wall clock wrong (or right) by so much.
    pub const fn shift_wall(&mut self, by_ms: i64) {
        self.wall_offset_ms = self.wall_offset_ms.saturating_add(by_ms);
    }

    /// What the node's wall clock shows, in milliseconds of Unix time.
    #[must_use]
    pub fn wall_ms(&self, now: Moment) -> u64 {
        let truth = WALL_START_MS.saturating_add(i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX));
        u64::try_from(truth.saturating_add(self.wall_offset_ms)).unwrap_or(0)
    }

    /// How much faster than the world the clock runs, in parts per billion.
    #[must_use]
    pub const fn rate_ppb(&self) -> i64 {
        self.rate_ppb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_at_the_moment_it_translates_to_and_not_before() {
        for rate in [-200_000, 0, 37, 5_000_000] {
            let clock = Clock::started(Moment::from_secs(5), rate, 0);
            for local in [0, 1, 999, 1_000_003, 3_600_000_001] {
                let at = clock.moment(Time::from_micros(local));
                assert!(clock.local(at).as_micros() >= local, "rate {rate}, {local}");
                if at > Moment::from_secs(5) {
                    assert!(clock.local(Moment(at.0 - 1)).as_micros() < local, "rate {rate}, {local}");
                }
            }
        }
    }

    #[test]
    fn a_change_of_rate_and_a_sleep_never_turn_the_clock_back() {
        let mut clock = Clock::started(Moment::START, 1_000_000, 0);
        let before = clock.local(Moment::from_secs(100));
        clock.set_rate(Moment::from_secs(100), -1_000_000);
        assert_eq!(clock.local(Moment::from_secs(100)), before);
        clock.freeze_until(Moment::from_secs(100), Moment::from_secs(500));
        assert_eq!(clock.local(Moment::from_secs(500)), before);
        clock.leap(Moment::from_secs(500), Duration::from_secs(7));
        assert_eq!(clock.local(Moment::from_secs(500)), before + Duration::from_secs(7));
    }

    #[test]
    fn wall_clocks_may_be_wrong_in_both_directions() {
        let mut clock = Clock::started(Moment::START, 0, -5_000);
        let early = clock.wall_ms(Moment::START);
        clock.shift_wall(60_000);
        assert_eq!(clock.wall_ms(Moment::START), early + 60_000);
    }
}
