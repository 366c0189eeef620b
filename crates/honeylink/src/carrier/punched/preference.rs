//! Which of its open paths a connection uses, and how a punched hole becomes one of them.
//!
//! As iroh would: any direct path before any relay, among direct ones the shortest round trip, with some stickiness. Two
//! things differ, both because of how iroh learns of a path on a custom transport: only by a *new connection* that is
//! dialled there. Once one is up, iroh opens its path on every other connection to the same device. The first packet
//! of a new connection goes
//!
//! - to every known address while no path is *selected*, but
//! - to the selected path alone as soon as one is.
//!
//! So a relay is not selected as long as nothing better was: it carries the connection all the same, since QUIC uses a
//! backup path where there is no other, and when it dies the device can be dialled at another (`node::failover`). And a hole that died stays selected while the relay carries on: nothing is sent
//! through it (its path is closed), but the hole's successor, which has the same address, can be dialled. That would leave
//! other new connections to that device without a first packet, so it is done only while there is one connection.

use std::time::Duration;

use iroh::endpoint::transports::{
    Addr, FourTuple, PathSelection, PathSelectionContext, PathSelectionData, PathSelector,
};

use super::{HoleAddr, Kind};
use crate::carrier::ferry::FerryAddr;

/// What IPv6 may cost more than IPv4 and still be preferred: it has no NAT to forget us.
const IPV6_ADVANTAGE: Duration = Duration::from_millis(3);
/// How much better another direct path must be before anything moves.
const WORTH_MOVING: Duration = Duration::from_millis(5);

/// Whether somebody else passes the packets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Direct,
    PassedOn,
}

/// Lower is better: tier, then round trip in microseconds with the advantage taken off.
type Rank = (Tier, i64);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Preference;

impl PathSelector for Preference {
    fn select(&self, ctx: &PathSelectionContext<'_>) -> PathSelection {
        let open: Vec<(PathSelectionData<'_>, Rank)> = ctx
            .paths()
            .filter_map(|path| {
                let rtt = path.stats()?.rtt;
                let rank = rank(&path.network_path().remote(), rtt);
                Some((path, rank))
            })
            .collect();
        let mut selection = PathSelection::none();
        let Some((best, best_rank)) = open.iter().min_by_key(|(_, rank)| *rank) else { return selection };
        let current = ctx.current();
        let current_rank =
            open.iter().filter(|(path, _)| Some(path.network_path()) == current).map(|(_, rank)| *rank).min();
        let moves = match (current, current_rank) {
            (None, _) => best_rank.0 == Tier::Direct,
            (Some(_), Some(rank)) => best_rank.0 != rank.0 || best_rank.1 + micros(WORTH_MOVING) <= rank.1,
            (Some(dead), None) => best_rank.0 == Tier::Direct || !is_kept(dead, open.len()),
        };
        if moves {
            selection.set(best);
        }
        selection
    }
}

/// Whether a path that is not open any more stays selected, so that its successor can be dialled.
fn is_kept(dead: &FourTuple, open_paths: usize) -> bool {
    open_paths == 1 && kind_of(&dead.remote()) == Some(Kind::Punched)
}

fn rank(remote: &Addr, rtt: Duration) -> Rank {
    let (tier, advantage) = match remote {
        Addr::Ip(ip) if ip.is_ipv6() => (Tier::Direct, IPV6_ADVANTAGE),
        Addr::Ip(_) => (Tier::Direct, Duration::ZERO),
        Addr::Relay(..) => (Tier::PassedOn, Duration::ZERO),
        Addr::Custom(custom) if FerryAddr::from_custom(custom).is_some() => (Tier::PassedOn, Duration::ZERO),
        Addr::Custom(_) if kind_of(remote) == Some(Kind::Forwarded) => (Tier::PassedOn, Duration::ZERO),
        _ => (Tier::Direct, Duration::ZERO),
    };
    (tier, micros(rtt) - micros(advantage))
}

fn kind_of(remote: &Addr) -> Option<Kind> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
    match remote {
        Addr::Custom(custom) => HoleAddr::from_custom(custom).map(|addr| addr.kind),
        _ => None,
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;

    #[test]
    fn whatever_is_direct_comes_before_whatever_is_passed_on() {
        let peer = SecretKey::from_u64(1).id();
        let ms = Duration::from_millis;
        let at = |kind| Addr::Custom(HoleAddr { kind, peer }.to_custom());
        let ip = |text: &str| Addr::Ip(text.parse().unwrap());
        let relayed = rank(&at(Kind::Forwarded), ms(1));
        assert!(rank(&at(Kind::Punched), ms(80)) < relayed);
        let ferried = Addr::Custom(FerryAddr { by: SecretKey::from_u64(2).id(), peer }.to_custom());
        assert_eq!(rank(&ferried, ms(1)), relayed);
        assert!(rank(&ip("198.51.100.1:1"), ms(80)) < relayed);
        assert!(rank(&ip("[2001:db8::1]:1"), ms(12)) < rank(&ip("198.51.100.1:1"), ms(10)));
    }

    #[test]
    fn only_a_dead_hole_stays_selected_and_only_for_a_single_connection() {
        let peer = SecretKey::from_u64(1).id();
        let hole = FourTuple::from_remote(Addr::Custom(HoleAddr::punched(peer).to_custom()));
        let ip = FourTuple::from_remote(Addr::Ip("198.51.100.1:1".parse().unwrap()));
        assert!(is_kept(&hole, 1));
        assert!(!is_kept(&hole, 2));
        assert!(!is_kept(&ip, 1));
    }
}
