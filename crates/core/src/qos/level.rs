//! The streams of one priority: deficit round robin by weight, with a quick way in for those that use less than their
//! share; and the shares of the priorities among each other.
//!
//! A stream that was quiet is *new* and goes before the *old* ones until it has used the quantum of the running round
//! (the model is RFC 8290, section 4.2). Unlike there, what is left of its quantum stays its own for the whole round: a
//! stream that sends a little every few milliseconds beside a hundred that send always would otherwise be new once per
//! round only.

use std::collections::VecDeque;

use super::flow::Place;
use crate::wire::link::Priority;

/// The lowest realtime level.
pub(super) const REALTIME: usize = 6;
/// Bytes of weight 1 in a round: more than the largest datagram, so that every turn sends something.
pub(super) const QUANTUM_BYTES: i64 = 1536;
/// The whole, in the unit of [`shares`]: fine enough that 1/7 is told to within 0.001 %.
pub(super) const SHARE_ALL: u64 = 1_000_000;
/// The least share of a priority that has something to send is one in this many: 5 % (requirement QS2).
const FLOOR: i64 = 20;
const SHARE_MIN: u64 = SHARE_ALL / FLOOR.unsigned_abs();
/// How far a level falls behind the floor before it goes first.
const BEHIND_BYTES: i64 = 4 << 10;
/// How far it counts.
const BEHIND_MAX: i64 = FLOOR * (64 << 10);

/// A stream by its number in the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(super) u64);

impl StreamId {
    /// The number; never used twice by one scheduler.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// The streams of one priority that have something to send and may.
#[derive(Debug, Default)]
pub(super) struct Level {
    new: VecDeque<StreamId>,
    old: VecDeque<StreamId>,
    /// Streams in the rings that really can be served.
    pub(super) ready: usize,
    /// Counts rounds of the old ring.
    pub(super) round: u64,
    round_left: usize,
    /// Bytes served per share: the level with the least goes next.
    pub(super) served: u128,
    /// Bytes behind the floor of the whole link, times [`FLOOR`].
    behind: i64,
}

impl Level {
    /// The link sent `bytes`, which were this level's or not.
    pub(super) fn link_sent(&mut self, bytes: u64, ours: bool) {
        let sent = i64::try_from(bytes).unwrap_or(i64::MAX / FLOOR);
        let due = if self.ready > 0 { sent } else { 0 };
        let behind = self.behind + due - if ours { sent.saturating_mul(FLOOR) } else { 0 };
        self.behind = behind.clamp(-BEHIND_MAX, BEHIND_MAX);
    }

    /// Whether it is a chunk behind the least that any level gets of the link.
    pub(super) fn is_behind(&self) -> bool {
        self.ready > 0 && self.behind >= FLOOR * BEHIND_BYTES
    }

    /// It has something to send after it had nothing: nobody owes it anything.
    pub(super) fn wake(&mut self, least_served: Option<u128>) {
        self.served = self.served.max(least_served.unwrap_or(0));
        self.behind = self.behind.min(0);
    }

    pub(super) fn front(&self) -> Option<(StreamId, Place)> {
        let new = self.new.front().map(|id| (*id, Place::New));
        new.or_else(|| self.old.front().map(|id| (*id, Place::Old)))
    }

    pub(super) fn first(&self, place: Place) -> Option<StreamId> {
        match place {
            Place::New => self.new.front().copied(),
            Place::Old => self.old.front().copied(),
            Place::Off => None,
        }
    }

    /// Takes a stream out wherever it stands. Costs a walk: for changes of priority, not for sends.
    pub(super) fn remove(&mut self, id: StreamId, place: Place) {
        match place {
            Place::New => self.new.retain(|other| *other != id),
            Place::Old => self.old.retain(|other| *other != id),
            Place::Off => {}
        }
    }

    pub(super) fn push(&mut self, id: StreamId, place: Place) {
        match place {
            Place::New => self.new.push_back(id),
            Place::Old => self.old.push_back(id),
            Place::Off => {}
        }
    }

    /// Takes the first of a ring out.
    pub(super) fn pop(&mut self, place: Place) {
        match place {
            Place::New => self.new.pop_front(),
            Place::Old => {
                let first = self.old.pop_front();
                self.pass();
                first
            }
            Place::Off => None,
        };
    }

    /// A turn in the old ring is over.
    fn pass(&mut self) {
        if self.round_left <= 1 {
            self.round += 1;
            self.round_left = self.old.len();
        } else {
            self.round_left -= 1;
        }
    }
}

/// The share of each level in what is left below realtime, for the levels that have something to send: each priority
/// twice the one below, but nobody under the floor. In parts of [`SHARE_ALL`].
pub(super) fn shares(ready: [bool; Priority::COUNT]) -> [u64; Priority::COUNT] {
    let mut shares = [0; Priority::COUNT];
    let mut open = ready;
    let mut rest = SHARE_ALL;
    loop {
        let weights: u64 = (0_u32..).zip(open).filter(|(_, open)| *open).map(|(level, _)| 1 << level).sum();
        let fair = |level: u32| rest * (1 << level) / weights.max(1);
        // Lowest first: whoever falls under the floor is set to it, and the others share what that leaves.
        let pinned = (0_u32..).zip(open).find(|(level, open)| *open && fair(*level) < SHARE_MIN);
        let Some((level, _)) = pinned else {
            for ((share, open), level) in shares.iter_mut().zip(open).zip(0..) {
                if open {
                    *share = fair(level);
                }
            }
            return shares;
        };
        shares[level as usize] = SHARE_MIN;
        open[level as usize] = false;
        rest = rest.saturating_sub(SHARE_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_two_to_one_and_nobody_gets_less_than_the_floor() {
        let of = |levels: &[usize]| {
            let mut ready = [false; 8];
            levels.iter().for_each(|level| ready[*level] = true);
            shares(ready)
        };
        assert_eq!(of(&[]), [0; 8]);
        assert_eq!(of(&[3]), [0, 0, 0, SHARE_ALL, 0, 0, 0, 0]);
        assert_eq!(of(&[1, 2, 3]), [0, 142_857, 285_714, 571_428, 0, 0, 0, 0]);
        assert_eq!(of(&[0, 5]), [50_000, 0, 0, 0, 0, 950_000, 0, 0]);
        let all = of(&[0, 1, 2, 3, 4, 5]);
        assert!(all[..6].iter().all(|share| *share >= SHARE_MIN) && all[..6].is_sorted(), "{all:?}");
        assert!((SHARE_ALL - 6..=SHARE_ALL).contains(&all.iter().sum::<u64>()));
    }
}
