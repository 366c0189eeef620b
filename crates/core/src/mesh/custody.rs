//! Frames that a willing node holds for devices that are not there now.
//!
//! # The promise
//!
//! Whoever deposits a frame is told "accepted" only after it is safe on disk, and then need not repeat it soon. From then
//! on the node carries it to its target: when the target or a way to it shows up ([`Custody::contact`]), and otherwise now
//! and then with growing pauses. It lets go when the target's receipt passes, when another node accepts custody, when the
//! frame's lifetime ends, or when something with a better claim needs the room. The last is why custody is a help and no
//! guarantee: the source keeps its message until the target's own receipt, and repeats it, rarely.
//!
//! The same frame deposited twice is held once and acknowledged twice. One whose receipt passed lately is not taken again
//! ([`Taken::Finished`]); that memory does not survive a restart, and costs one delivery that the target knows for a copy.
//!
//! # Who may take how much
//!
//! A node decides how many bytes it gives ([`Quota`]), of which one depositor and one target may have a part each. When
//! it is full, what is less urgent makes room, first that of the depositor who holds most, the soonest to end first. Among
//! equally urgent frames only a depositor with more than twice the newcomer's share gives way. Hints can be forged, so a
//! depositor's share is a brake and not a proof; the total is a wall.
//!
//! # On disk
//!
//! Two records per frame, as in [`super::outbox`]: the frame, written once, and its end. A frame without an end was never
//! acknowledged and is erased.

use std::collections::BTreeMap;

use bytes::Bytes;
use core::time::Duration;

use super::hint::{Far, Near};
use super::port::PortId;
use super::raw::FrameId;
use super::records::{Journal, Mark, Moment, Saved, Table};
use super::seen::Recent;
use super::units::Priority;
use crate::limits::{
    MESH_CUSTODY_DONE_MAX, MESH_CUSTODY_FRAME_BYTES_MAX, MESH_CUSTODY_FRAMES_MAX, MESH_LIFETIME_MAX,
    MESH_PAUSE_MAX, MESH_PAUSE_MIN,
};
use crate::rng::Rng;
use crate::time::{Deadline, Time};

mod held;

use held::{FRAME, Held, STATE, key};

/// How long a receipt that passed is remembered: a source that was told "stored" repeats its message at most so rarely.
const DONE_WINDOW: Duration = Duration::from_secs(2 * 3600);
/// A frame that was tried within this time is not tried again because a port came up.
const HURRY_MIN: Duration = Duration::from_secs(10);
/// Pause between tries where no way is known. Two of them, a quarter longer each, are two announce intervals.
const BLIND_PAUSE: Duration = Duration::from_secs(480);
/// So many tries without a way are a pause apart; then pauses double. A network in two halves is mostly one again within
/// that hour, and what is kept shall arrive soon after; a target that is away for longer costs little.
const BLIND_STEADY_TRIES: u16 = 8;

/// Names a message on its way: source, target, and the sequence number of its first piece.
type Name = (Far, Far, u32);

/// What a node gives to others, in bytes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// In all. Zero: the node does not store for others.
    pub bytes: usize,
    /// Of that for one depositor.
    pub depositor_bytes: usize,
    /// Of that for one target.
    pub target_bytes: usize,
}

impl Quota {
    /// Stores nothing.
    pub const NONE: Self = Self { bytes: 0, depositor_bytes: 0, target_bytes: 0 };

    /// `bytes` in all, a quarter of it for one depositor and for one target.
    #[must_use]
    pub const fn of(bytes: usize) -> Self {
        Self { bytes, depositor_bytes: bytes / 4, target_bytes: bytes / 4 }
    }
}

/// A frame to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// What tells it from every other.
    pub id: FrameId,
    /// Who wants to be told that it is held, and where.
    pub depositor: (PortId, Near),
    /// Where it comes from.
    pub source: Far,
    /// Where it is to go.
    pub target: Far,
    /// The sequence number of its message's first piece: what the receipt will name.
    pub first: u32,
    /// Its own sequence number.
    pub seq: u32,
    /// How urgent it is.
    pub priority: Priority,
    /// How long it is worth delivering; at most [`MESH_LIFETIME_MAX`].
    pub lifetime: Duration,
    /// The frame.
    pub frame: Bytes,
}

/// What became of a deposit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is on its way to the disk; [`Custody::synced`] says when to acknowledge it. These had to go for it.
    Pending {
        /// Frames given up.
        displaced: Vec<FrameId>,
    },
    /// It is held and safe: acknowledge it again.
    Already,
    /// Its receipt has passed here: say that instead, there is nothing left to do for it.
    Finished {
        /// The receipt, as it passed.
        receipt: Bytes,
    },
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// The node stores nothing for others.
    #[error("this node does not store for others")]
    Unwilling,
    /// The frame is too long, or over what one party may have.
    #[error("the frame is too long to be held")]
    TooLong,
    /// It has no lifetime.
    #[error("the frame's lifetime is over")]
    NoLifetime,
    /// The depositor has its part.
    #[error("the depositor holds as much as one may")]
    DepositorFull,
    /// The target has its part.
    #[error("as much is held for the target as may be")]
    TargetFull,
    /// Everything is taken by frames with at least as good a claim.
    #[error("the store is full of frames with at least as good a claim")]
    Full,
}

/// What custody did since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames taken.
    pub stored: u64,
    /// Frames whose receipt passed.
    pub delivered: u64,
    /// Frames that another node took over.
    pub handed_on: u64,
    /// Frames whose lifetime ended.
    pub expired: u64,
    /// Frames given up for others.
    pub displaced: u64,
    /// Deposits refused, by reason.
    pub refused: BTreeMap<Refused, u64>,
}

/// Frames held for others. See the [module](self).
#[derive(Debug)]
pub struct Custody {
    quota: Quota,
    held: BTreeMap<FrameId, Held>,
    done: Recent<Name, Bytes>,
    bytes: usize,
    counts: Counts,
}

impl Custody {
    /// Bytes of a frame held, besides its own.
    pub(super) const ENTRY_BYTES: usize = size_of::<(FrameId, Held)>();

    /// Nothing held yet.
    #[must_use]
    pub const fn new(quota: Quota) -> Self {
        Self {
            quota,
            held: BTreeMap::new(),
            done: Recent::new(DONE_WINDOW, MESH_CUSTODY_DONE_MAX),
            bytes: 0,
            counts: Counts {
                stored: 0,
                delivered: 0,
                handed_on: 0,
                expired: 0,
                displaced: 0,
                refused: BTreeMap::new(),
            },
        }
    }

    /// What the disk has, and how many records were damaged and erased. If the quota has shrunk, the least urgent frames
    /// are given up until the rest fits.
    pub fn restore(quota: Quota, saved: &mut Saved, at: Moment, journal: &mut Journal) -> (Self, usize) {
        let mut custody = Self::new(quota);
        let (held, damaged) = held::restore(saved.take(Table::Custody), at, journal);
        custody.bytes = held.values().map(Held::len).sum();
        custody.held = held;
        while custody.bytes > quota.bytes || custody.held.len() > MESH_CUSTODY_FRAMES_MAX {
            let least = custody.held.iter().min_by_key(|(id, held)| (held.priority, held.ends_at, **id));
            let Some(id) = least.map(|(id, _)| *id) else { break };
            custody.remove(&id, journal);
            custody.counts.displaced += 1;
        }
        (custody, damaged)
    }

    /// Takes a frame, or says why not.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then but the count.
    pub fn accept(&mut self, at: Moment, deposit: Deposit, journal: &mut Journal) -> Result<Taken, Refused> {
        let taken = self.try_accept(at, deposit, journal);
        if let Err(why) = taken {
            *self.counts.refused.entry(why).or_default() += 1;
        }
        taken
    }

    fn try_accept(&mut self, at: Moment, deposit: Deposit, journal: &mut Journal) -> Result<Taken, Refused> {
        if self.quota.bytes == 0 {
            return Err(Refused::Unwilling);
        }
        if deposit.lifetime.is_zero() {
            return Err(Refused::NoLifetime);
        }
        let name = (deposit.source, deposit.target, deposit.first);
        if let Some(receipt) = self.done.find(at.now, &name) {
            return Ok(Taken::Finished { receipt: receipt.clone() });
        }
        // With another wish for a receipt, or sealed afresh, it is another frame and the same message.
        let same = |held: &&mut Held| held.name() == name && held.seq == deposit.seq;
        if let Some(held) = self.held.values_mut().find(same) {
            // Whoever asked last is told; the share stays with who deposited first.
            held.owed = held.safe.map(|_| (deposit.id, deposit.depositor));
            let pending = Taken::Pending { displaced: Vec::new() };
            return Ok(if held.owed.is_some() { pending } else { Taken::Already });
        }
        let displaced = self.displaced_by(&deposit)?;
        for id in &displaced {
            self.remove(id, journal);
        }
        self.counts.displaced += displaced.len() as u64;
        self.counts.stored += 1;
        let Deposit { id, depositor, source, target, first, seq, priority, lifetime, frame } = deposit;
        let mut held = Held {
            depositor: depositor.1,
            source,
            target,
            first,
            seq,
            priority,
            // A copy of its own: a slice would keep a whole read buffer alive.
            frame: Bytes::copy_from_slice(&frame),
            ends_at: at.now + lifetime.min(MESH_LIFETIME_MAX),
            safe: None,
            owed: Some((id, depositor)),
            tries: 0,
            next_at: at.now + MESH_PAUSE_MIN,
            tried_at: None,
        };
        journal.save(key(&id, FRAME), held.encode());
        journal.save(key(&id, STATE), held.encode_state(at));
        held.safe = Some(journal.sync());
        self.bytes += held.len();
        self.held.insert(id, held);
        Ok(Taken::Pending { displaced })
    }

    /// Everything up to `mark` is on disk. Returns the frames to acknowledge now, as they were deposited, and to whom.
    pub fn synced(&mut self, mark: Mark) -> Vec<(FrameId, (PortId, Near))> {
        let mut accepted = Vec::new();
        for held in self.held.values_mut() {
            if held.safe.is_some_and(|needs| needs <= mark) {
                held.safe = None;
                accepted.extend(held.owed.take());
            }
        }
        accepted
    }

    /// A target, or a way to it, showed up: what is held for it is due now, unless it was tried just before.
    pub fn contact(&mut self, now: Time, target: Far) {
        for held in self.held.values_mut().filter(|held| held.target == target) {
            let soonest = held.tried_at.map_or(now, |tried| now.max(tried + MESH_PAUSE_MIN));
            if soonest < held.next_at {
                held.next_at = soonest;
                held.tries = 0;
            }
        }
    }

    /// Targets may have shown up that say nothing: one frame for each is due now, unless one was tried just before.
    pub fn hurry(&mut self, now: Time) {
        let mut asked = std::collections::BTreeSet::new();
        for held in self.held.values_mut() {
            let lately = held.tried_at.is_some_and(|tried| now < tried + HURRY_MIN);
            if asked.insert(held.target) && !lately {
                held.next_at = held.next_at.min(now);
            }
        }
    }

    /// Whether the frame with this number from `source` is held.
    #[must_use]
    pub fn holds(&self, source: Far, seq: u32) -> bool {
        self.held.values().any(|held| held.source == source && (held.seq == seq || held.first == seq))
    }

    /// The frame to try next, if one is due: the most urgent, then the one that has waited longest. Answer with
    /// [`Custody::tried`] or [`Custody::defer`], or it stays due.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<FrameId> {
        let due = self.held.iter().filter(|(_, held)| held.next_at <= now && held.ends_at > now);
        due.min_by_key(|(id, held)| (core::cmp::Reverse(held.priority), held.next_at, **id))
            .map(|(id, _)| *id)
    }

    /// How much longer the frame of this name is worth delivering.
    #[must_use]
    pub fn left(&self, now: Time, id: &FrameId) -> Duration {
        self.held.get(id).map_or(Duration::ZERO, |held| held.ends_at.saturating_since(now))
    }

    /// The frame of this name, with its target and how urgent it is.
    #[must_use]
    pub fn find(&self, id: &FrameId) -> Option<(&Bytes, Far, Priority)> {
        self.held.get(id).map(|held| (&held.frame, held.target, held.priority))
    }

    /// A frame was sent over a path that takes `round_trip` there and back. It is due again after a pause that doubles.
    pub fn tried(&mut self, now: Time, id: &FrameId, round_trip: Duration, rng: &mut Rng) {
        let Some(held) = self.held.get_mut(id) else { return };
        let first = round_trip.saturating_mul(2).max(MESH_PAUSE_MIN);
        let pause = first.saturating_mul(1 << held.tries.min(16)).min(MESH_PAUSE_MAX).max(round_trip);
        held.tries = held.tries.saturating_add(1);
        held.tried_at = Some(now);
        held.next_at = now + jittered(pause, rng);
    }

    /// A frame was sent although no way to its target is known: one for all that are held for it. They are due again
    /// after a pause, which doubles once there were many.
    pub fn tried_blindly(&mut self, now: Time, id: &FrameId, rng: &mut Rng) {
        let Some(held) = self.held.get_mut(id) else { return };
        let doublings = held.tries.saturating_sub(BLIND_STEADY_TRIES).min(16);
        let pause = BLIND_PAUSE.saturating_mul(1 << doublings).min(MESH_PAUSE_MAX);
        held.tries = held.tries.saturating_add(1);
        held.tried_at = Some(now);
        let (target, until) = (held.target, now + jittered(pause, rng));
        for held in self.held.values_mut().filter(|held| held.target == target) {
            held.next_at = held.next_at.max(until);
        }
    }

    /// A frame cannot be tried before `until`.
    pub fn defer(&mut self, id: &FrameId, until: Time) {
        if let Some(held) = self.held.get_mut(id) {
            held.next_at = until;
        }
    }

    /// The receipt of `target` for the message of `source` that begins with number `first` passed here, on its way along
    /// the message's trail. Clears all its pieces and says how many there were.
    ///
    /// A relay cannot check a receipt. Letting go of a frame for a forged one costs the help, not the message.
    pub fn receipt(
        &mut self,
        now: Time,
        source: Far,
        target: Far,
        first: u32,
        receipt: &Bytes,
        journal: &mut Journal,
    ) -> usize {
        let name = (source, target, first);
        let of_it = self.held.iter().filter(|(_, held)| held.name() == name);
        let of_it: Vec<_> = of_it.map(|(id, _)| *id).collect();
        for id in &of_it {
            self.remove(id, journal);
        }
        if !of_it.is_empty() {
            self.done.insert(now, name, Bytes::copy_from_slice(receipt));
        }
        self.counts.delivered += of_it.len() as u64;
        of_it.len()
    }

    /// Another node accepted custody of a frame. Ask only after the acceptance was found right.
    pub fn handed_on(&mut self, id: &FrameId, journal: &mut Journal) -> bool {
        let known = self.remove(id, journal);
        self.counts.handed_on += u64::from(known);
        known
    }

    /// When to call [`Custody::timeout`] and [`Custody::due`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.held.values().fold(None, |earliest, held| {
            let end = Deadline { at: held.ends_at, why: "stored frame expires" };
            let next = Deadline { at: held.next_at, why: "stored frame due" };
            Deadline::earliest(earliest, Deadline::earliest(Some(end), Some(next)))
        })
    }

    /// Lets go of frames whose lifetime is over; says how many.
    pub fn timeout(&mut self, now: Time, journal: &mut Journal) -> usize {
        let over: Vec<_> =
            self.held.iter().filter(|(_, held)| held.ends_at <= now).map(|(id, _)| *id).collect();
        for id in &over {
            self.remove(id, journal);
        }
        self.counts.expired += over.len() as u64;
        over.len()
    }

    /// Counts so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Bytes of frames held.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many frames are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Which frames have to go for a deposit.
    fn displaced_by(&self, deposit: &Deposit) -> Result<Vec<FrameId>, Refused> {
        let len = deposit.frame.len();
        if len > MESH_CUSTODY_FRAME_BYTES_MAX || len > self.quota.depositor_bytes.min(self.quota.target_bytes)
        {
            return Err(Refused::TooLong);
        }
        let mut shares: BTreeMap<Near, usize> = BTreeMap::new();
        let mut for_target = 0;
        for held in self.held.values() {
            *shares.entry(held.depositor).or_default() += held.len();
            for_target += if held.target == deposit.target { held.len() } else { 0 };
        }
        let share = shares.get(&deposit.depositor.1).copied().unwrap_or(0) + len;
        if share > self.quota.depositor_bytes {
            return Err(Refused::DepositorFull);
        }
        if for_target + len > self.quota.target_bytes {
            return Err(Refused::TargetFull);
        }
        let (mut count, mut bytes, mut displaced) = (self.held.len(), self.bytes, Vec::new());
        while count >= MESH_CUSTODY_FRAMES_MAX || bytes + len > self.quota.bytes {
            let gives_way = |id: &FrameId, held: &Held| {
                let greedy = shares.get(&held.depositor).is_some_and(|theirs| *theirs > 2 * share);
                let lesser =
                    held.priority < deposit.priority || (held.priority == deposit.priority && greedy);
                lesser && !displaced.contains(id)
            };
            let victims = self.held.iter().filter(|(id, held)| gives_way(id, held));
            let (id, held) = victims
                .min_by_key(|(id, held)| {
                    let theirs = shares.get(&held.depositor).copied().unwrap_or(0);
                    (held.priority, core::cmp::Reverse(theirs), held.ends_at, **id)
                })
                .ok_or(Refused::Full)?;
            displaced.push(*id);
            count -= 1;
            bytes -= held.len();
            if let Some(theirs) = shares.get_mut(&held.depositor) {
                *theirs -= held.len();
            }
        }
        Ok(displaced)
    }

    fn remove(&mut self, id: &FrameId, journal: &mut Journal) -> bool {
        let Some(held) = self.held.remove(id) else { return false };
        self.bytes -= held.len();
        journal.erase(key(id, STATE));
        journal.erase(key(id, FRAME));
        true
    }
}

/// A pause, a quarter shorter to a quarter longer.
fn jittered(pause: Duration, rng: &mut Rng) -> Duration {
    let quarter = u64::try_from(pause.as_micros() / 4).unwrap_or(u64::MAX / 4);
    pause.saturating_sub(Duration::from_micros(quarter)) + Duration::from_micros(rng.below(2 * quarter + 1))
}

#[cfg(test)]
mod tests;
