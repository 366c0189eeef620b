//! Ways to other devices: for each destination a few next hops, the cheapest first.
//!
//! A destination is named by its [`Far`] hint, because that is what frames carry; two devices with one hint share an
//! entry, and what goes to the wrong one of them is not acknowledged and tried another way. Everything heard teaches:
//! who passes on a frame of `src` is a way back to `src`. So entries are hints like all that a relay can see. Nothing
//! removes a way but age, the limit and its port going down: an error or a missing acknowledgement only demotes it, so
//! that a liar can make us prefer another way but not lose one.
//!
//! Times are kept in whole seconds: the table is most of what an idle node remembers, and 16 bytes a way instead of 24
//! are hundreds of destinations more.

use std::collections::BTreeMap;

use core::time::Duration;

use super::frame::Cost;
use super::hint::{Far, Near};
use super::port::PortId;
use crate::limits::{MESH_ROUTE_AGE_MAX, MESH_ROUTES_MAX};
use crate::time::Time;

/// Ways kept per destination.
const WAYS: usize = 3;
/// A way that was proved or heard this lately may stand for a search.
pub(super) const FRESH: Duration = Duration::from_secs(600);
/// A way counts for twice as costly when this long was not heard of it.
const OLDER: Duration = Duration::from_secs(60);
/// Failures beyond this say nothing more.
const FAILURES_MAX: u8 = 4;

/// One neighbour through which a destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where.
    pub port: PortId,
    /// Through whom.
    pub next: Near,
    /// Hops to the destination: 1 for a neighbour.
    pub hops: u8,
    /// What it costs from that neighbour on, as the neighbour said.
    pub told: Cost,
    /// What it costs from here.
    pub cost: Cost,
    /// Tries that went unanswered since it last worked.
    pub failures: u8,
    /// What the link to that neighbour costs, ms: finer than costs on the air are.
    link_ms: u16,
    heard_s: u32,
}

impl Way {
    /// A way through `next`, which says that it costs `told` from there; the link to it costs `link_ms`.
    pub(super) fn new((port, next): (PortId, Near), hops: u8, told: Cost, link_ms: u64) -> Self {
        Self {
            port,
            next,
            hops,
            told,
            cost: told.plus(link_ms),
            failures: 0,
            link_ms: u16::try_from(link_ms).unwrap_or(u16::MAX),
            heard_s: 0,
        }
    }

    /// How long ago it was last heard of, whole seconds.
    #[must_use]
    pub fn age(&self, now: Time) -> Duration {
        Duration::from_secs(u64::from(seconds(now).saturating_sub(self.heard_s)))
    }

    /// What it counts as: its cost, doubled by every failure, and once more with every [`OLDER`] since it was heard of.
    ///
    /// Age counts because ways that became known together fit together: a frame that follows the freshest ones goes where
    /// the last one came from, while a cheap but older one may lead back here by now.
    fn score(&self, now: Time) -> u64 {
        let cost = (self.told.ms().unwrap_or(1 << 40) + u64::from(self.link_ms)) << self.failures;
        cost + cost * self.age(now).as_secs() / OLDER.as_secs()
    }

    fn is(&self, port: PortId, next: Near) -> bool {
        self.port == port && self.next == next
    }
}

#[derive(Clone, Copy, Debug)]
struct Destination {
    ways: [Option<Way>; WAYS],
    used_s: u32,
}

/// What is known, as counters (requirement NO4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteStats {
    /// Times a way was asked for.
    pub lookups: u64,
    /// Times there was none.
    pub misses: u64,
    /// Destinations forgotten to make room.
    pub evicted: u64,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Routes {
    table: BTreeMap<Far, Destination>,
    stats: RouteStats,
}

fn seconds(now: Time) -> u32 {
    u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

impl Routes {
    /// Bytes of an entry.
    pub(super) const ENTRY_BYTES: usize = size_of::<(Far, Destination)>();

    /// Takes note of a way. Newer word of the same neighbour replaces the older; a new neighbour takes the place of the
    /// worst if it is better. True if there was no usable way before.
    pub(super) fn learn(&mut self, now: Time, to: Far, mut way: Way) -> bool {
        way.heard_s = seconds(now);
        if !self.table.contains_key(&to) && self.table.len() >= MESH_ROUTES_MAX {
            self.evict(now);
        }
        let fresh = Destination { ways: [None; WAYS], used_s: seconds(now) };
        let entry = self.table.entry(to).or_insert(fresh);
        let had = entry.ways.iter().flatten().any(|way| way.age(now) <= MESH_ROUTE_AGE_MAX);
        if let Some(known) = entry.ways.iter_mut().flatten().find(|known| known.is(way.port, way.next)) {
            // It speaks again, so half of what it failed is forgiven; not all, or one that hears but is not heard
            // would be preferred for ever.
            way.failures = known.failures / 2;
            *known = way;
        } else if let Some(place) = entry.ways.iter_mut().find(|place| place.is_none()) {
            *place = Some(way);
        } else {
            let stale = |way: &Way| way.age(now) > MESH_ROUTE_AGE_MAX;
            let rank = |way: &Way| (stale(way), way.score(now));
            let worst = entry.ways.iter_mut().flatten().max_by_key(|way| rank(way));
            if let Some(worst) = worst.filter(|worst| rank(worst) > rank(&way)) {
                *worst = way;
            }
        }
        !had
    }

    /// The best way to `to` that leads through none of `not`.
    pub(super) fn best(&mut self, now: Time, to: Far, not: &[(PortId, Near)]) -> Option<Way> {
        self.stats.lookups += 1;
        let found = self.peek(now, to, not);
        match self.table.get_mut(&to) {
            Some(entry) if found.is_some() => entry.used_s = seconds(now),
            Some(_) | None => self.stats.misses += 1,
        }
        found
    }

    /// As [`Routes::best`], without counting as use.
    pub(super) fn peek(&self, now: Time, to: Far, not: &[(PortId, Near)]) -> Option<Way> {
        let believed = |way: &&Way| way.age(now) <= MESH_ROUTE_AGE_MAX;
        let ways =
            || self.table.get(&to).into_iter().flat_map(|entry| entry.ways.iter().flatten()).filter(believed);
        // Only through neighbours that are nearer to the destination than we are: a way through one that is further leads
        // back here (the feasibility condition of Garcia-Luna-Aceves' DUAL, 1993).
        let ours = ways().map(|way| way.cost).min()?;
        let leads_back = |way: &Way| way.told >= ours;
        let allowed = |way: &&Way| !not.iter().any(|(port, next)| way.is(*port, *next));
        ways().filter(allowed).min_by_key(|way| (leads_back(way), way.score(now))).copied()
    }

    /// All ways to `to`, the best first.
    pub(super) fn ways(&self, now: Time, to: Far) -> Vec<Way> {
        let known = self.table.get(&to).into_iter().flat_map(|entry| entry.ways.iter().flatten());
        let mut ways: Vec<Way> = known.filter(|way| way.age(now) <= MESH_ROUTE_AGE_MAX).copied().collect();
        ways.sort_by_key(|way| way.score(now));
        ways
    }

    /// A way worked.
    pub(super) fn confirm(&mut self, now: Time, to: Far, port: PortId, next: Near) {
        if let Some(way) = self.way_mut(to, port, next) {
            way.failures = 0;
            way.heard_s = seconds(now);
        }
    }

    /// A way did not work.
    pub(super) fn demote(&mut self, to: Far, port: PortId, next: Near) {
        if let Some(way) = self.way_mut(to, port, next) {
            way.failures = (way.failures + 1).min(FAILURES_MAX);
        }
    }

    /// A port went down, and with it every way through it.
    pub(super) fn forget_port(&mut self, port: PortId) {
        for entry in self.table.values_mut() {
            for way in &mut entry.ways {
                way.take_if(|way| way.port == port);
            }
        }
        self.table.retain(|_, entry| entry.ways.iter().any(Option::is_some));
    }

    /// Every destination with its best way.
    pub(super) fn iter(&self, now: Time) -> impl Iterator<Item = (Far, Way)> {
        self.table.keys().filter_map(move |to| Some((*to, self.peek(now, *to, &[])?)))
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) const fn stats(&self) -> RouteStats {
        self.stats
    }

    fn way_mut(&mut self, to: Far, port: PortId, next: Near) -> Option<&mut Way> {
        self.table.get_mut(&to)?.ways.iter_mut().flatten().find(|way| way.is(port, next))
    }

    /// Forgets what is too old, else the destination that was neither used nor heard of for longest.
    fn evict(&mut self, now: Time) {
        let last = |entry: &Destination| {
            let heard = entry.ways.iter().flatten().map(|way| way.heard_s).max().unwrap_or(0);
            heard.max(entry.used_s)
        };
        let longest = self.table.iter().min_by_key(|(_, entry)| last(entry)).map(|(to, _)| *to);
        if let Some(to) = longest {
            self.table.remove(&to);
            self.stats.evicted += 1;
        }
        let too_old = seconds(now - MESH_ROUTE_AGE_MAX);
        if too_old > 0 {
            self.table.retain(|_, entry| last(entry) >= too_old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Far = Far([1, 2, 3]);

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn way(next: u16, cost_ms: u64) -> Way {
        Way::new((PortId(0), Near(next)), 2, Cost::from_ms(cost_ms / 2), cost_ms / 2)
    }

    fn order(routes: &Routes, now: Time) -> Vec<u16> {
        routes.ways(now, TO).iter().map(|way| way.next.0).collect()
    }

    #[test]
    fn the_cheapest_way_is_taken_and_alternatives_are_kept() {
        let mut routes = Routes::default();
        assert!(routes.learn(at(0), TO, way(1, 300)));
        assert!(!routes.learn(at(0), TO, way(2, 200)));
        routes.learn(at(0), TO, way(3, 400));
        assert_eq!(order(&routes, at(1)), [2, 1, 3]);
        routes.learn(at(0), TO, way(4, 250));
        assert_eq!(order(&routes, at(1)), [2, 4, 1], "the worst made room");
        routes.learn(at(0), TO, way(5, 900));
        assert_eq!(order(&routes, at(1)), [2, 4, 1], "a worse one did not get in");
        assert_eq!(routes.best(at(1), TO, &[(PortId(0), Near(2))]).map(|way| way.next), Some(Near(4)));
    }

    #[test]
    fn failures_demote_and_never_remove() {
        let mut routes = Routes::default();
        routes.learn(at(0), TO, way(1, 300));
        routes.learn(at(0), TO, way(2, 200));
        for _ in 0..100 {
            routes.demote(TO, PortId(0), Near(2));
        }
        assert_eq!(order(&routes, at(1)), [1, 2]);
        routes.confirm(at(1), TO, PortId(0), Near(2));
        assert_eq!(order(&routes, at(1)), [2, 1]);
    }

    #[test]
    fn old_ways_are_not_taken_and_give_way_to_any_new_one() {
        let mut routes = Routes::default();
        for next in 1..=3 {
            routes.learn(at(0), TO, way(next, 10));
        }
        let later = at(1) + MESH_ROUTE_AGE_MAX;
        assert_eq!(routes.best(later, TO, &[]), None);
        assert!(routes.learn(later, TO, way(9, 10_000)));
        assert_eq!(order(&routes, later), [9]);
        assert_eq!(routes.stats().misses, 1);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_is_used_least() {
        let mut routes = Routes::default();
        routes.learn(at(0), TO, way(1, 10));
        for n in 0..2 * MESH_ROUTES_MAX as u32 {
            let [_, a, b, c] = (n + 0x10_0000).to_be_bytes();
            let now = at(1 + u64::from(n) / 8);
            assert!(routes.best(now, TO, &[]).is_some(), "what is used stays");
            routes.learn(now, Far([a, b, c]), way(1, 10));
            assert!(routes.len() <= MESH_ROUTES_MAX);
        }
    }

    #[test]
    fn a_port_that_goes_down_takes_its_ways_with_it() {
        let mut routes = Routes::default();
        routes.learn(at(0), TO, way(1, 300));
        routes.learn(at(0), TO, Way::new((PortId(7), Near(1)), 1, Cost::FREE, 5));
        routes.forget_port(PortId(7));
        assert_eq!(order(&routes, at(0)), [1]);
        routes.forget_port(PortId(0));
        assert_eq!(routes.len(), 0);
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Way>() <= 20, "{}", size_of::<Way>());
        assert!(size_of::<Destination>() <= 64, "{}", size_of::<Destination>());
    }
}
