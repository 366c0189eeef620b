//! Searches for ways: who is asked, how far the question spreads, and how long nobody is asked again.
//!
//! A search asks in rings. The first is small, because somebody near may know a way and then the question goes along it;
//! each further one is wider, at last the whole mesh. Nobody answered the widest: the device is not there now, and asking
//! again soon would only cost air. So a search that failed rests, longer each time. A frame heard from the device ends
//! the rest.

use std::collections::BTreeMap;

use core::time::Duration;

use super::frame::{FrameId, Ring};
use super::hint::Far;
use crate::limits::MESH_SEARCHES_MAX;
use crate::rng::Rng;
use crate::time::Time;

/// Rest after the first failed search; doubles up to [`REST_MAX`].
const REST_MIN: Duration = Duration::from_secs(60);
/// Longest rest within the first hour or so: a network that was in two and is one again is found out about within two
/// announce intervals.
const REST_MAX_SOON: Duration = Duration::from_secs(480);
/// Failures that fit into that hour.
const FAILURES_SOON: u8 = 9;
/// Longest rest.
const REST_MAX: Duration = Duration::from_secs(1800);
/// Times the widest ring is asked in one search: once is easily lost to a collision at the source.
const WIDEST_TIMES: u8 = 2;
/// Rings asked in one search where nothing is known of the distance: near, then everywhere.
const RINGS: [Ring; 2] = [Ring::NEAR, Ring::WIDEST];
/// How far others are at least thought to be, and at most, when an answer is waited for, hops.
const REACH: (u8, u8) = (8, 32);
/// A question waits at every hop for others to repeat it before, which the answer does not: both ways together take about
/// so many times what a hop does that nobody waits at. Asking everybody again while the first answer is still on its way
/// would double what a search costs, and run into that answer.
const HOP_TIMES: u32 = 3;
/// How long the furthest question heard counts.
const REACH_AGE: Duration = Duration::from_secs(3600);

/// A question to be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) target: Far,
    pub(super) ring: Ring,
    /// Tells this question from earlier ones.
    pub(super) id: u16,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Ask further.
    Ask(Ask),
    /// Nobody answered.
    Failed(Far),
}

#[derive(Clone, Copy, Debug)]
struct Search {
    ring: Ring,
    times: u8,
    id: u16,
    question: FrameId,
    /// While asking, when to ask further; while resting, when to ask again.
    until: Time,
    failures: u8,
    resting: bool,
}

/// All searches.
#[derive(Debug, Default)]
pub(super) struct Requests {
    searches: BTreeMap<Far, Search>,
    next_id: u16,
    /// The most hops that a question of somebody else came lately, and when that was: what is known of the mesh's width.
    furthest: Option<(u8, Time)>,
}

impl Requests {
    /// A way to `target` is wanted; `hops` is how far it was when last known. Gives the first question, unless one is
    /// open or the search rests.
    pub(super) fn want(
        &mut self,
        now: Time,
        target: Far,
        hops: Option<u8>,
        hop_time: Duration,
    ) -> Option<Ask> {
        let failures = match self.searches.get(&target) {
            Some(search) if !search.resting || search.until > now => return None,
            Some(search) => search.failures,
            None => 0,
        };
        if failures == 0 && self.searches.len() >= MESH_SEARCHES_MAX {
            let (idle, _) = self.searches.iter().filter(|(_, s)| s.resting).min_by_key(|(_, s)| s.until)?;
            let idle = *idle;
            self.searches.remove(&idle);
        }
        let known = hops.map(|hops| ring_for(hops.saturating_add(2)));
        // What failed before is not near.
        let ring = known.unwrap_or(if failures == 0 { RINGS[0] } else { Ring::WIDEST });
        Some(self.ask(
            now,
            Search {
                ring,
                times: 0,
                id: 0,
                question: FrameId::default(),
                until: now,
                failures,
                resting: false,
            },
            target,
            hop_time,
        ))
    }

    /// What is due: a wider ring or a failure.
    pub(super) fn due(&mut self, now: Time, hop_time: Duration, rng: &mut Rng) -> Option<Outcome> {
        let due = |search: &Search| !search.resting && search.until <= now;
        let (target, search) =
            self.searches.iter().find(|(_, search)| due(search)).map(|(to, s)| (*to, *s))?;
        let wider = RINGS.into_iter().find(|ring| *ring > search.ring);
        if let Some(ring) = wider {
            return Some(Outcome::Ask(self.ask(now, Search { ring, times: 0, ..search }, target, hop_time)));
        }
        if search.times < WIDEST_TIMES {
            return Some(Outcome::Ask(self.ask(now, search, target, hop_time)));
        }
        let longest = if search.failures < FAILURES_SOON { REST_MAX_SOON } else { REST_MAX };
        let rest = (REST_MIN * (1 << search.failures.min(6))).min(longest);
        let until = now + rest + super::line::within(rest / 4, rng);
        let failures = search.failures.saturating_add(1);
        self.searches.insert(target, Search { resting: true, until, failures, ..search });
        Some(Outcome::Failed(target))
    }

    /// The frame in which the last question went out.
    pub(super) fn asked(&mut self, target: Far, question: FrameId) {
        if let Some(search) = self.searches.get_mut(&target) {
            search.question = question;
        }
    }

    /// A way is known, or the device was heard: the search is over, and so is its rest. Gives the last question, if there
    /// was a search.
    pub(super) fn found(&mut self, target: Far) -> Option<FrameId> {
        self.searches.remove(&target).map(|search| search.question)
    }

    #[cfg(test)]
    /// Whether this is the question asked last of `target`.
    pub(super) fn is_open(&self, target: Far, id: u16) -> bool {
        self.searches.get(&target).is_some_and(|search| !search.resting && search.id == id)
    }

    /// Whether a question is open.
    pub(super) fn is_searching(&self, target: Far) -> bool {
        self.searches.get(&target).is_some_and(|search| !search.resting)
    }

    /// When a search that rests may be taken up again.
    pub(super) fn rests_until(&self, target: Far) -> Option<Time> {
        self.searches.get(&target).filter(|search| search.resting).map(|search| search.until)
    }

    /// Something has changed: no search rests longer than until `at`.
    pub(super) fn end_rests(&mut self, at: Time) {
        for search in self.searches.values_mut().filter(|search| search.resting) {
            search.until = search.until.min(at);
        }
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.searches.values().filter(|search| !search.resting).map(|search| search.until).min()
    }

    pub(super) fn len(&self) -> usize {
        self.searches.len()
    }

    /// A question of somebody else came so many hops.
    pub(super) fn came(&mut self, now: Time, hops: u8) {
        let nearer = |(most, at): (u8, Time)| most <= hops || now.saturating_since(at) > REACH_AGE;
        if self.furthest.is_none_or(nearer) {
            self.furthest = Some((hops, now));
        }
    }

    /// So that questions of another life of this node are not taken for this one's.
    pub(super) fn begin_at(&mut self, id: u16) {
        self.next_id = id;
    }

    fn ask(&mut self, now: Time, mut search: Search, target: Far, hop_time: Duration) -> Ask {
        self.next_id = self.next_id.wrapping_add(1);
        search.id = self.next_id;
        search.times += 1;
        let (least, most) = REACH;
        let reach = self.furthest.map_or(least, |(hops, _)| hops.clamp(least, most));
        let hops = u32::from(search.ring.hops_max());
        // Near, nobody need wait long: the next question reaches them, too.
        let hop_times = if search.ring == Ring::NEAR { hops } else { hops.min(reach.into()) * HOP_TIMES };
        search.until = now + hop_time * (hop_times + 2);
        self.searches.insert(target, search);
        Ask { target, ring: search.ring, id: search.id }
    }
}

fn ring_for(hops: u8) -> Ring {
    let mut ring = Ring::NEAR;
    while ring.hops_max() < hops {
        match ring.wider() {
            Some(wider) => ring = wider,
            None => break,
        }
    }
    ring
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Far = Far([1, 2, 3]);
    const HOP: Duration = Duration::from_millis(500);

    #[test]
    fn a_search_widens_then_rests_longer_each_time() {
        let (mut requests, mut rng) = (Requests::default(), Rng::from_u64(1));
        let mut now = Time::ZERO;
        let mut rests = Vec::new();
        for _ in 0..3 {
            let mut rings = vec![requests.want(now, TARGET, None, HOP).unwrap().ring];
            assert_eq!(requests.want(now, TARGET, None, HOP), None, "one question at a time");
            loop {
                now = requests.next_at().unwrap();
                match requests.due(now, HOP, &mut rng).unwrap() {
                    Outcome::Ask(ask) => rings.push(ask.ring),
                    Outcome::Failed(target) => {
                        assert_eq!(target, TARGET);
                        break;
                    }
                }
            }
            assert!(rings.is_sorted() && rings.ends_with(&[Ring::WIDEST, Ring::WIDEST]), "{rings:?}");
            let until = requests.rests_until(TARGET).unwrap();
            assert_eq!(requests.want(until - HOP, TARGET, None, HOP), None, "it rests");
            rests.push(until.saturating_since(now));
            now = until;
        }
        assert!(rests[0] < rests[1] && rests[1] < rests[2]);
    }

    #[test]
    fn a_device_that_is_heard_may_be_asked_for_at_once() {
        let (mut requests, mut rng) = (Requests::default(), Rng::from_u64(1));
        requests.want(Time::ZERO, TARGET, None, HOP);
        let mut now = Time::ZERO;
        while requests.rests_until(TARGET).is_none() {
            now = requests.next_at().unwrap();
            requests.due(now, HOP, &mut rng);
        }
        assert!(requests.found(TARGET).is_some());
        assert!(requests.want(now, TARGET, None, HOP).is_some());
    }

    #[test]
    fn an_answer_is_waited_for_as_long_as_it_takes_in_a_mesh_as_wide_as_this_one() {
        let wait = |furthest: &[u8], hops| {
            let mut requests = Requests::default();
            furthest.iter().for_each(|hops| requests.came(Time::ZERO, *hops));
            requests.want(Time::ZERO, TARGET, hops, HOP);
            requests.next_at().unwrap().saturating_since(Time::ZERO)
        };
        let far = Some(40);
        assert_eq!(wait(&[], far), HOP * 26);
        assert_eq!(wait(&[3, 20, 5], far), HOP * 62);
        assert_eq!(wait(&[63], far), HOP * 98, "a liar makes nobody wait for ever");
        assert_eq!(wait(&[20], Some(5)), HOP * 26, "a ring ends where it ends");
        assert!(wait(&[20], None) < HOP * 10);
    }

    #[test]
    fn what_was_near_is_looked_for_near() {
        let mut requests = Requests::default();
        assert_eq!(requests.want(Time::ZERO, TARGET, Some(5), HOP).map(|ask| ask.ring.hops_max()), Some(8));
    }

    #[test]
    fn searches_are_bounded() {
        let mut requests = Requests::default();
        for n in 0..=255 {
            requests.want(Time::ZERO, Far([n; 3]), None, HOP);
        }
        assert_eq!(requests.len(), MESH_SEARCHES_MAX);
    }
}
