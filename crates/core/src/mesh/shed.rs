//! What to drop when a queue is full, and a count of everything that was dropped, by reason.
//!
//! A full queue drops in this order: what has expired; what is less urgent than the newcomer, the least urgent first; and
//! among equals, the newest of the source that has most in the queue. The newcomer is judged like all others, so a
//! source that floods a queue drops its own frames, and one that sends little always finds room among its equals. The
//! oldest of a source is kept: it has waited longest, and its repeats are on their way behind it.

use std::collections::BTreeMap;

use super::hint::Far;
use super::units::Priority;
use crate::time::Time;

/// Why a frame or a message went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The bytes are no frame.
    Malformed,
    /// A signature or MAC is wrong.
    Forged,
    /// It was seen before.
    Copy,
    /// Its number was received before, or lies too far back.
    Replayed,
    /// It took as many hops as it may.
    Hops,
    /// A sequence number older than one that is known.
    Stale,
    /// Nobody here knows a way.
    NoRoute,
    /// A neighbour used up its allowance.
    NeighbourThrottled,
    /// A source used up its allowance.
    SourceThrottled,
    /// A queue was full of what is more urgent or from sources with less in it.
    QueueFull,
    /// It waited longer than it was worth.
    Expired,
    /// It is too long for the way it has to take.
    TooLong,
    /// The table that would have to remember it is full.
    TableFull,
    /// It came by a port of a kind that such frames do not come by.
    WrongPort,
}

/// Counts of what was dropped. Takes memory only for reasons that occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    counts: BTreeMap<Reason, u64>,
}

impl Drops {
    /// Counts one.
    pub fn count(&mut self, reason: Reason) {
        *self.counts.entry(reason).or_default() += 1;
    }

    /// How many were dropped for this reason.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.counts.get(&reason).copied().unwrap_or(0)
    }

    /// How many were dropped in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// All counts that are not zero.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        self.counts.iter().map(|(reason, count)| (*reason, *count))
    }
}

/// What has to be known of a queued thing to judge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How urgent it is.
    pub priority: Priority,
    /// Whose it is.
    pub source: Far,
    /// When it came into the queue; orders the things of one source.
    pub queued_at: Time,
    /// After this it is worth nothing.
    pub expires_at: Time,
    /// What it takes of the queue.
    pub bytes: usize,
}

/// Who makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loser {
    /// The thing at this place of the queue, for this reason.
    Queued(usize, Reason),
    /// The newcomer.
    Newcomer,
}

/// Judges who leaves a full queue when `newcomer` comes. Call again while there is still no room.
#[must_use]
pub fn shed(now: Time, queue: &[Claim], newcomer: &Claim) -> Loser {
    if newcomer.expires_at <= now {
        return Loser::Newcomer;
    }
    if let Some(at) = queue.iter().position(|claim| claim.expires_at <= now) {
        return Loser::Queued(at, Reason::Expired);
    }
    let lowest = queue.iter().map(|claim| claim.priority).min();
    let Some(lowest) = lowest.filter(|lowest| *lowest <= newcomer.priority) else {
        return Loser::Newcomer;
    };
    let peers = || queue.iter().chain([newcomer]).filter(|claim| claim.priority == lowest);
    let mut shares: BTreeMap<Far, usize> = BTreeMap::new();
    for claim in peers() {
        *shares.entry(claim.source).or_default() += claim.bytes;
    }
    let most = shares.values().copied().max().unwrap_or(0);
    let of_newcomer = shares.get(&newcomer.source).copied().filter(|_| newcomer.priority == lowest);
    if of_newcomer == Some(most) {
        return Loser::Newcomer;
    }
    let heaviest = |claim: &Claim| claim.priority == lowest && shares.get(&claim.source) == Some(&most);
    let newest =
        queue.iter().enumerate().filter(|(_, claim)| heaviest(claim)).max_by_key(|(_, c)| c.queued_at);
    newest.map_or(Loser::Newcomer, |(at, _)| Loser::Queued(at, Reason::QueueFull))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim(priority: Priority, source: u8, queued_at: u64) -> Claim {
        let far = Far([source; 3]);
        Claim {
            priority,
            source: far,
            queued_at: Time::from_millis(queued_at),
            expires_at: Time::from_millis(1000),
            bytes: 10,
        }
    }

    #[test]
    fn the_expired_go_first_then_the_least_urgent_then_the_newest_of_the_greediest() {
        let now = Time::from_millis(100);
        let newcomer = claim(Priority::Normal, 9, 100);
        let mut queue = vec![
            claim(Priority::Urgent, 1, 1),
            claim(Priority::Normal, 2, 2),
            claim(Priority::Normal, 2, 3),
            claim(Priority::Bulk, 3, 4),
            Claim { expires_at: now, ..claim(Priority::Control, 4, 5) },
        ];
        let mut lost = Vec::new();
        while let Loser::Queued(at, reason) = shed(now, &queue, &newcomer) {
            lost.push((queue.remove(at).queued_at.as_micros() / 1000, reason));
        }
        assert_eq!(lost, [(5, Reason::Expired), (4, Reason::QueueFull), (3, Reason::QueueFull)]);
    }

    #[test]
    fn a_flood_drops_its_own_and_a_quiet_source_finds_room() {
        let now = Time::ZERO;
        let mut queue: Vec<_> = (0..8).map(|n| claim(Priority::Normal, 1, n)).collect();
        assert_eq!(shed(now, &queue, &claim(Priority::Normal, 1, 9)), Loser::Newcomer);
        assert_eq!(shed(now, &queue, &claim(Priority::Normal, 2, 9)), Loser::Queued(7, Reason::QueueFull));
        assert_eq!(shed(now, &queue, &claim(Priority::Bulk, 2, 9)), Loser::Newcomer);
        queue[0].priority = Priority::Bulk;
        assert_eq!(shed(now, &queue, &claim(Priority::Normal, 1, 9)), Loser::Queued(0, Reason::QueueFull));
    }

    proptest! {
        #[test]
        fn nothing_more_urgent_ever_makes_room_for_something_less_urgent(
            queue in proptest::collection::vec((0..4_u8, 0..4_u8), 1..20), p in 0..4_u8, source in 0..4_u8,
        ) {
            let queue: Vec<_> =
                queue.iter().zip(0..).map(|((p, s), n)| claim(Priority::from_bits(*p), *s, n)).collect();
            let newcomer = claim(Priority::from_bits(p), source, 50);
            if let Loser::Queued(at, _) = shed(Time::ZERO, &queue, &newcomer) {
                prop_assert!(queue[at].priority <= newcomer.priority);
                prop_assert!(queue.iter().all(|claim| claim.priority >= queue[at].priority));
            }
        }
    }
}
