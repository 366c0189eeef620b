//! How often a connection on which nothing happens is shown to be alive, and after which silence a way counts as dead.
//!
//! The two pull against each other. Whoever asks often notices a dead way soon, and keeps a phone's radio awake for it; whoever
//! asks seldom sleeps, and waits. A packet that shows life is acknowledged, and either side takes any packet for a sign of life:
//! so the side that asks more often decides for both, and where one asks a little sooner than the other, the other never asks.

use core::fmt;
use core::time::Duration;

/// What a device runs on, and so what its idle links are kept for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Power {
    /// To go on elsewhere before a person notices.
    #[default]
    Mains,
    /// To cost little: as few packets as QUIC below lets a way live by. They keep the mappings of NAT boxes, most of which
    /// forget one after 30 seconds or more (RFC 4787, REQ-5, asks for two minutes).
    Battery,
}

impl Power {
    /// The word in settings and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mains => "mains",
            Self::Battery => "battery",
        }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The times of one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Silence after which a connection counts as lost. The shorter one of both sides counts.
    pub idle_max: Duration,
    /// How often a connection on which nothing happens is shown to be alive, by whichever way.
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
    const NEAR: Self = Self {
        idle_max: Duration::from_secs(6),
        alive_every: Duration::from_millis(1500),
        way_idle_max: Duration::from_secs(6),
        way_alive_every: Duration::from_millis(1500),
    };
    /// With a wide reach a connection has a relay to fall back on, or an address behind another router. `way_idle_max` bounds what
    /// an application notices of a way that dies without a word; both sides show life, so that six packets must be lost in a row
    /// before a good way is given up.
    const WIDE: Self = Self {
        way_idle_max: Duration::from_millis(1000),
        way_alive_every: Duration::from_millis(320),
        ..Self::NEAR
    };
    /// iroh 1.4 shows life on each way every 5 s at least, and waits 15 s at most. Whoever dialled is half a second sooner, and
    /// so the only one that asks. The connection as a whole needs no packets beside those of its ways.
    const BATTERY: Self = Self {
        idle_max: Duration::from_secs(15),
        alive_every: Duration::from_secs(60),
        way_idle_max: Duration::from_secs(15),
        way_alive_every: Duration::from_secs(5),
    };
    /// See [`Pace::BATTERY`].
    const DIALLER_EVERY: Duration = Duration::from_millis(4500);

    /// The times of a connection that may go beyond its network, or may not, at the end that dialled it or the other.
    #[must_use]
    pub const fn of(power: Power, wide: bool, dialled: bool) -> Self {
        match (power, wide) {
            (Power::Mains, false) => Self::NEAR,
            (Power::Mains, true) => Self::WIDE,
            (Power::Battery, _) if dialled => Self { way_alive_every: Self::DIALLER_EVERY, ..Self::BATTERY },
            (Power::Battery, _) => Self::BATTERY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Pace> {
        let powers = [Power::Mains, Power::Battery].into_iter();
        let of = |power| [(false, false), (false, true), (true, false), (true, true)].map(|at| (power, at));
        powers.flat_map(of).map(|(power, (wide, dialled))| Pace::of(power, wide, dialled))
    }

    #[test]
    fn no_way_is_given_up_before_two_packets_in_a_row_were_lost() {
        for pace in all() {
            assert!(2 * pace.way_alive_every < pace.way_idle_max, "{pace:?}");
            assert!(2 * pace.way_alive_every.min(pace.alive_every) < pace.idle_max, "{pace:?}");
        }
    }

    /// What `docs/manual/configuration.md` says of it.
    #[test]
    fn on_a_battery_one_side_asks_every_four_and_a_half_seconds_and_a_dead_way_is_noticed_in_fifteen() {
        for wide in [false, true] {
            let (dialler, other) =
                (Pace::of(Power::Battery, wide, true), Pace::of(Power::Battery, wide, false));
            assert_eq!(dialler.way_alive_every.as_millis(), 4_500);
            assert!(
                dialler.way_alive_every + Duration::from_millis(400) < other.way_alive_every,
                "a late packet is in time"
            );
            assert!(
                dialler.alive_every > dialler.way_alive_every && other.alive_every > other.way_alive_every
            );
            assert_eq!(
                (dialler.way_idle_max, other.idle_max),
                (Duration::from_secs(15), Duration::from_secs(15))
            );
        }
    }
}
