//! How often a connection on which nothing happens is shown to be alive, and after which silence a way counts as dead.
//!
//! The two pull against each other. Whoever asks often notices a dead way soon, and keeps a phone's radio awake for it; whoever
//! asks seldom sleeps, and waits. A packet that shows life is answered by one, and both sides take either for a sign of life, so
//! an idle way costs one packet each way per interval, whichever side began. The side that asks more often decides for both.

use core::fmt;
use core::time::Duration;

/// What an idle link is kept for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// To go on elsewhere before a person notices.
    #[default]
    Fast,
    /// To cost next to nothing: every 15 seconds a packet, which keeps the mappings of NAT boxes (RFC 4787, REQ-5 asks for two
    /// minutes and many give 30 seconds).
    Battery,
}

impl Failover {
    /// The word in settings and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Battery => "battery",
        }
    }
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The times of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Silence after which a connection counts as lost. The shorter one of both sides counts.
    pub idle_max: Duration,
    /// How often a connection on which nothing happens is shown to be alive.
    pub alive_every: Duration,
    /// Silence after which one way of it is given up for another; the last one never is.
    pub way_idle_max: Duration,
    /// How often each way is shown to be alive.
    pub way_alive_every: Duration,
}

impl Pace {
    /// On one network there is mostly one way, and nothing is gained by asking often whether it is there. `idle_max` is what a
    /// link waits before it dials again when the other device lost power or was killed, so shorter than QUIC's usual 30 s; long
    /// enough for a machine that is busy to answer late. Three packets may go missing in it.
    const NEAR: Self = Self::same(Duration::from_secs(6), Duration::from_millis(1500));
    /// With a wide reach a connection has a relay to fall back on, or an address behind another router. `way_idle_max` bounds what
    /// an application notices of a way that dies without a word; both sides show life, so that six packets must be lost in a row
    /// before a good way is given up.
    const WIDE: Self = Self {
        way_idle_max: Duration::from_millis(1000),
        way_alive_every: Duration::from_millis(320),
        ..Self::NEAR
    };
    /// A packet that is not answered is repeated by QUIC within a second or so, again and again, so that one interval and a few
    /// seconds are enough to be sure.
    const BATTERY: Self = Self::same(Duration::from_secs(21), Duration::from_secs(15));

    const fn same(idle_max: Duration, alive_every: Duration) -> Self {
        Self { idle_max, alive_every, way_idle_max: idle_max, way_alive_every: alive_every }
    }

    /// The times of a connection that may go beyond its network, or may not.
    #[must_use]
    pub const fn of(failover: Failover, wide: bool) -> Self {
        match (failover, wide) {
            (Failover::Battery, _) => Self::BATTERY,
            (Failover::Fast, false) => Self::NEAR,
            (Failover::Fast, true) => Self::WIDE,
        }
    }

    /// Packets that each side sends in a minute on one way on which nothing happens.
    #[must_use]
    pub fn packets_per_minute(&self) -> f64 {
        60.0 / self.alive_every.min(self.way_alive_every).as_secs_f64()
    }

    /// How long it takes at most to notice that a way is dead, if there is another, or that the peer is gone, if there is not.
    #[must_use]
    pub fn noticed_within(&self, another_way: bool) -> Duration {
        if another_way { self.way_idle_max.min(self.idle_max) } else { self.idle_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `docs/manual/configuration.md`.
    #[test]
    fn what_an_idle_link_costs_and_how_soon_it_notices() {
        let row = |failover, wide| {
            let pace = Pace::of(failover, wide);
            let ms = |another| pace.noticed_within(another).as_millis();
            (pace.packets_per_minute().round() as u32, ms(true), ms(false))
        };
        assert_eq!(row(Failover::Fast, false), (40, 6_000, 6_000));
        assert_eq!(row(Failover::Fast, true), (188, 1_000, 6_000));
        assert_eq!(row(Failover::Battery, false), (4, 21_000, 21_000));
        assert_eq!(row(Failover::Battery, true), (4, 21_000, 21_000));
    }

    #[test]
    fn nothing_is_given_up_before_it_was_asked_and_had_time_to_answer() {
        for (failover, wide) in [(Failover::Fast, false), (Failover::Fast, true), (Failover::Battery, true)] {
            let pace = Pace::of(failover, wide);
            // Two asked again after a lost packet (RFC 9002 section 6.2) and a round trip round the world.
            let answered = Duration::from_millis(600);
            assert!(pace.way_alive_every + answered < pace.way_idle_max, "{failover} {wide}");
            assert!(pace.alive_every + answered < pace.idle_max, "{failover} {wide}");
        }
    }
}
