//! Who sends next. See the [module](super) for the rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::class::{OptionsError, StreamOptions};
use super::flow::{Flow, Place};
use super::level::{Level, REALTIME, SHARE_ALL, StreamId, shares};
use super::stats::{StreamStats, Tally};
use crate::limits::{QOS_STARVATION_MAX, QOS_STREAMS_MAX};
use crate::time::{Deadline, Time};
use crate::wire::link::Priority;

/// Realtime may send this many bytes for each byte of the others: 80 % of a contended link.
const REALTIME_PER_OTHER: u64 = 4;
/// What realtime may send in one go while others wait.
const REALTIME_BURST_BYTES: u64 = 256 << 10;
/// Guaranteed rates may send this many bytes for each byte sent by weight: a reservation never takes everything.
const OWED_PER_WEIGHTED: u64 = 7;
/// What guaranteed rates may send in one go.
const OWED_BURST_BYTES: u64 = 256 << 10;
/// At most one send in this many goes to a stream only because it waited too long.
const RESCUE_EVERY: u32 = 16;

/// Whether a queue took what it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Taken; there is room for more.
    Free,
    /// Taken; the queue is at least 90 % full.
    Nearly,
    /// Not taken: the sender has to wait.
    Full,
}

/// Leave to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// Who.
    pub stream: StreamId,
    /// How much at most; for a stream of datagrams exactly the next one.
    pub bytes_max: u64,
}

/// A datagram that waited past its deadline: drop the oldest one of this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// Whose.
    pub stream: StreamId,
    /// Its size.
    pub bytes: u64,
}

/// Why a stream was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too many.
    #[error("{max} streams are open already; close one first")]
    TooManyStreams {
        /// The most there may be.
        max: usize,
    },
    /// Its options contradict themselves.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// The scheduler of one link. It holds counts, never bytes. See the [module](super) for its rules and how to drive it.
#[derive(Debug)]
pub struct Scheduler {
    streams_max: usize,
    flows: BTreeMap<StreamId, Flow>,
    levels: [Level; Priority::COUNT],
    throttled: BTreeSet<(Time, StreamId)>,
    owed: BTreeSet<(Time, StreamId)>,
    /// Bytes realtime may send before the others, and guaranteed rates before weights.
    realtime_bytes: u64,
    owed_bytes: u64,
    since_rescue: u32,
    /// The carrier had no room when [`Scheduler::next`] was last asked.
    full: bool,
    /// What it said then was for a guaranteed rate.
    for_owed: bool,
    late: VecDeque<Late>,
    opened: u64,
    /// Ring positions looked at: what a send costs, in a number that does not depend on the machine.
    steps: u64,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new(QOS_STREAMS_MAX)
    }
}

impl Scheduler {
    /// A scheduler for at most `streams_max` streams, itself at most [`QOS_STREAMS_MAX`].
    #[must_use]
    pub fn new(streams_max: usize) -> Self {
        Self {
            streams_max: streams_max.min(QOS_STREAMS_MAX),
            flows: BTreeMap::new(),
            levels: Default::default(),
            throttled: BTreeSet::new(),
            owed: BTreeSet::new(),
            realtime_bytes: REALTIME_BURST_BYTES,
            owed_bytes: OWED_BURST_BYTES,
            since_rescue: 0,
            full: false,
            for_owed: false,
            late: VecDeque::new(),
            opened: 0,
            steps: 0,
        }
    }

    /// Takes a stream of bytes.
    ///
    /// # Errors
    /// [`OpenError`]; nothing changed then.
    pub fn open(&mut self, now: Time, options: StreamOptions) -> Result<StreamId, OpenError> {
        self.add(now, options, false)
    }

    /// Takes a stream of datagrams: each [`Scheduler::enqueue`] is one, sent whole or dropped when it is late.
    ///
    /// # Errors
    /// [`OpenError`]; nothing changed then.
    pub fn open_datagrams(&mut self, now: Time, options: StreamOptions) -> Result<StreamId, OpenError> {
        self.add(now, options, true)
    }

    fn add(&mut self, now: Time, options: StreamOptions, datagrams: bool) -> Result<StreamId, OpenError> {
        options.check()?;
        if self.flows.len() >= self.streams_max {
            return Err(OpenError::TooManyStreams { max: self.streams_max });
        }
        let id = StreamId(self.opened);
        self.opened += 1;
        self.flows.insert(id, Flow::new(now, options, datagrams));
        Ok(id)
    }

    /// Forgets a stream and what it had waiting.
    pub fn close(&mut self, id: StreamId) {
        self.change(id, Flow::forget);
        if let Some(flow) = self.flows.remove(&id) {
            self.throttled.remove(&(flow.allowed_from, id));
            self.levels[flow.level()].remove(id, flow.place);
        }
    }

    /// Changes what a stream asks for, from its next byte on.
    ///
    /// # Errors
    /// [`OptionsError`]; nothing changed then.
    pub fn retune(&mut self, id: StreamId, options: StreamOptions) -> Result<(), OptionsError> {
        options.check()?;
        let Some(flow) = self.flows.get(&id) else { return Ok(()) };
        let (held, place, level) = (flow.held, flow.place, flow.level());
        self.throttled.remove(&(flow.allowed_from, id));
        // Taken out of its level and put into the new one as if it had just become ready.
        self.change(id, |flow| (flow.held, flow.place) = (true, Place::Off));
        self.levels[level].remove(id, place);
        self.change(id, |flow| {
            flow.options = options;
            flow.throttled = false;
            flow.deficit = 0;
            flow.held = held;
        });
        Ok(())
    }

    /// Streams there are.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.flows.len()
    }

    /// Streams that have something to send and may.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.levels.iter().map(|level| level.ready).sum()
    }

    /// Ring positions looked at so far: divided by the sends, what a send costs.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// What a stream asked for.
    #[must_use]
    pub fn options(&self, id: StreamId) -> Option<StreamOptions> {
        self.flows.get(&id).map(|flow| flow.options)
    }

    /// What a stream went through.
    #[must_use]
    pub fn stats(&self, now: Time, id: StreamId) -> Option<StreamStats> {
        self.flows.get(&id).map(|flow| flow.counters.report(now, flow.backlog))
    }

    /// Adds what a stream went through to a tally.
    pub fn add_to(&self, now: Time, id: StreamId, tally: &mut Tally) {
        if let Some(flow) = self.flows.get(&id) {
            tally.add(&flow.counters, now, flow.backlog);
        }
    }

    /// `bytes` more wait in a stream. [`Room::Full`] if they were not taken, or the stream is not known.
    pub fn enqueue(&mut self, now: Time, id: StreamId, bytes: u64) -> Room {
        let taken = self.change(id, |flow| {
            flow.push(now, bytes).then(|| flow.backlog * 10 >= flow.options.queue_bytes_max * 9)
        });
        match taken.flatten() {
            Some(true) => Room::Nearly,
            Some(false) => Room::Free,
            None => Room::Full,
        }
    }

    /// Bytes that wait in a stream.
    #[must_use]
    pub fn queued(&self, id: StreamId) -> u64 {
        self.flows.get(&id).map_or(0, |flow| flow.backlog)
    }

    /// Bytes that [`Scheduler::enqueue`] would take of a stream.
    #[must_use]
    pub fn room(&self, id: StreamId) -> u64 {
        self.flows.get(&id).map_or(0, |flow| flow.options.queue_bytes_max.saturating_sub(flow.backlog))
    }

    /// `bytes` of a stream go to the carrier without having waited. `false` if they have to: others do, or the stream has
    /// a cap.
    pub fn pass(&mut self, now: Time, id: StreamId, bytes: u64) -> bool {
        if self.ready() > 0 {
            return false;
        }
        let passes =
            self.flows.get_mut(&id).filter(|flow| flow.backlog == 0 && flow.options.rate_max.is_none());
        passes.map(|flow| flow.passed(now, bytes)).is_some()
    }

    /// The sender gave up what it had waiting.
    pub fn forget(&mut self, id: StreamId) {
        self.change(id, Flow::forget);
    }

    /// The carrier takes nothing of this stream now: it keeps its backlog and holds up nobody.
    pub fn hold(&mut self, id: StreamId) {
        self.change(id, |flow| flow.held = true);
    }

    /// The carrier takes bytes of this stream again.
    pub fn release(&mut self, id: StreamId) {
        self.change(id, |flow| flow.held = false);
    }

    /// Who sends next, with `credit` bytes of room in the carrier; asking again gives the same answer until
    /// [`Scheduler::sent`] or another change. A stream may be given more than the credit, once: chunks are not cut to
    /// crumbs. Without credit only realtime within its allowance is let through, because it overtakes what the carrier
    /// still holds.
    pub fn next(&mut self, now: Time, credit: u64) -> Option<Send> {
        self.wake(now);
        self.full = credit == 0;
        loop {
            let id = self.pick(now, credit)?;
            let dropped = self.change(id, |flow| flow.pop_late(now)).flatten();
            match dropped {
                Some(bytes) => self.late.push_back(Late { stream: id, bytes }),
                None => {
                    let bytes_max = self.flows.get(&id).map_or(0, Flow::next_bytes);
                    return Some(Send { stream: id, bytes_max });
                }
            }
        }
    }

    /// `bytes` of a stream went to the carrier.
    pub fn sent(&mut self, now: Time, id: StreamId, bytes: u64) {
        let Some(flow) = self.flows.get(&id) else { return };
        let (level, starved) = (flow.level(), starves(flow, now));
        self.charge(level, bytes);
        self.change(id, |flow| {
            flow.took(now, bytes);
            flow.throttled = flow.allowed_from > now;
        });
        if let Some(flow) = self.flows.get(&id).filter(|flow| flow.throttled) {
            self.throttled.insert((flow.allowed_from, id));
        }
        // Counts up to the next look at who starves, and starts again after it.
        self.since_rescue = if self.since_rescue >= RESCUE_EVERY { 0 } else { self.since_rescue + 1 };
        self.settle(level);
        if starved && let Some(flow) = self.flows.get_mut(&id) {
            // To the end of the round, or the next look would find the same one again.
            let place = std::mem::replace(&mut flow.place, Place::Old);
            if self.levels[level].first(place) == Some(id) {
                self.levels[level].pop(place);
                self.levels[level].push(id, Place::Old);
            } else {
                flow.place = place;
            }
        }
    }

    /// The next datagram that was dropped because it was late; drain to `None` after every [`Scheduler::next`].
    pub fn poll_late(&mut self) -> Option<Late> {
        self.late.pop_front()
    }

    /// When [`Scheduler::next`] may have an answer without a change from outside.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.throttled.first().map(|(at, _)| Deadline { at: *at, why: "a stream's rate allows more" })
    }

    /// Changes a flow and keeps the indexes true.
    fn change<T>(&mut self, id: StreamId, act: impl FnOnce(&mut Flow) -> T) -> Option<T> {
        let flow = self.flows.get_mut(&id)?;
        let (was_ready, was_quiet, owed) = (flow.is_ready(), flow.backlog == 0, flow.owed());
        let done = act(flow);
        let (is_ready, owes) = (flow.is_ready(), flow.owed());
        if owed != owes {
            owed.map(|from| self.owed.remove(&(from, id)));
            owes.map(|from| self.owed.insert((from, id)));
        }
        let index = flow.level();
        if was_ready && !is_ready {
            self.levels[index].ready -= 1;
        }
        if is_ready && !was_ready {
            if self.levels[index].ready == 0 {
                let least = self.levels[..REALTIME].iter().filter(|l| l.ready > 0).map(|l| l.served).min();
                self.levels[index].wake(least);
            }
            let level = &mut self.levels[index];
            level.ready += 1;
            if flow.place == Place::Off {
                let place = flow.enter(level.round, was_quiet);
                level.push(id, place);
            }
        }
        Some(done)
    }

    /// Lets streams back in whose rate allows more.
    fn wake(&mut self, now: Time) {
        while let Some((at, id)) = self.throttled.first().copied()
            && at <= now
        {
            self.throttled.remove(&(at, id));
            self.change(id, |flow| flow.throttled = false);
        }
    }

    fn pick(&mut self, now: Time, credit: u64) -> Option<StreamId> {
        let others = self.levels[..REALTIME].iter().any(|level| level.ready > 0);
        self.for_owed = false;
        if credit > 0
            && let Some(id) = self.rescue(now).or_else(|| self.first_behind())
        {
            return Some(id);
        }
        if self.realtime_bytes > 0 || (credit > 0 && !others) {
            for level in (REALTIME..Priority::COUNT).rev() {
                if let Some(id) = self.front(level) {
                    return Some(id);
                }
            }
        }
        if credit == 0 || !others {
            return None;
        }
        let owed = self.first_owed(now);
        self.for_owed = owed.is_some();
        owed.or_else(|| self.by_weight())
    }

    /// A stream that waited too long, now and then.
    fn rescue(&mut self, now: Time) -> Option<StreamId> {
        if self.since_rescue < RESCUE_EVERY {
            return None;
        }
        (0..Priority::COUNT).find_map(|level| {
            self.settle(level);
            let fronts = [Place::New, Place::Old].map(|place| self.levels[level].first(place));
            fronts
                .into_iter()
                .flatten()
                .find(|id| self.flows.get(id).is_some_and(|flow| flow.is_ready() && starves(flow, now)))
        })
    }

    /// A level that got less than the floor of the link.
    fn first_behind(&mut self) -> Option<StreamId> {
        let level = (0..Priority::COUNT).find(|level| self.levels[*level].is_behind())?;
        self.front(level)
    }

    /// The stream whose guaranteed rate is owed for the longest.
    fn first_owed(&self, now: Time) -> Option<StreamId> {
        let (from, id) = self.owed.first()?;
        (*from <= now && self.owed_bytes > 0).then_some(*id)
    }

    /// The level that is furthest behind its share, and there whoever's turn it is.
    fn by_weight(&mut self) -> Option<StreamId> {
        let ready = (0..REALTIME).rev().filter(|level| self.levels[*level].ready > 0);
        let level = ready.min_by_key(|level| self.levels[*level].served)?;
        self.front(level)
    }

    fn front(&mut self, level: usize) -> Option<StreamId> {
        if self.levels[level].ready == 0 {
            return None;
        }
        self.settle(level);
        self.levels[level].front().map(|(id, _)| id)
    }

    /// Books what a level sent.
    fn charge(&mut self, level: usize, bytes: u64) {
        let others = self.levels[..REALTIME].iter().any(|level| level.ready > 0);
        for (index, other) in self.levels.iter_mut().enumerate() {
            // Nor is a promise kept the floor: the others of that level have none.
            other.link_sent(bytes, index == level && !self.for_owed);
        }
        if level >= REALTIME {
            self.realtime_bytes = if others || self.full {
                self.realtime_bytes.saturating_sub(bytes)
            } else {
                REALTIME_BURST_BYTES
            };
            return;
        }
        let allowed = self.realtime_bytes.saturating_add(bytes.saturating_mul(REALTIME_PER_OTHER));
        self.realtime_bytes = allowed.min(REALTIME_BURST_BYTES);
        if self.for_owed {
            // Not booked against the level's share: its other streams made no promise that they would have to pay for.
            self.owed_bytes = self.owed_bytes.saturating_sub(bytes);
            return;
        }
        let allowed = self.owed_bytes.saturating_add(bytes.saturating_mul(OWED_PER_WEIGHTED));
        self.owed_bytes = allowed.min(OWED_BURST_BYTES);
        let ready = std::array::from_fn(|level| level < REALTIME && self.levels[level].ready > 0);
        let share = shares(ready)[level].max(1);
        self.levels[level].served += u128::from(bytes) * u128::from(SHARE_ALL) / u128::from(share);
    }

    /// Brings streams to the front of a level's rings that can be served. Each step takes one out that was put in before,
    /// or gives one a quantum with which it is served: over time a send costs a constant number of them.
    fn settle(&mut self, index: usize) {
        for place in [Place::New, Place::Old] {
            while let Some(id) = self.levels[index].first(place) {
                self.steps += 1;
                let level = &mut self.levels[index];
                let Some(flow) = self.flows.get_mut(&id) else {
                    level.pop(place);
                    continue;
                };
                if !flow.is_ready() {
                    flow.place = Place::Off;
                    level.pop(place);
                } else if !flow.takes_turn(level.round) {
                    level.pop(place);
                    level.push(id, Place::Old);
                } else {
                    break;
                }
            }
        }
    }
}

fn starves(flow: &Flow, now: Time) -> bool {
    flow.backlog > 0 && now.saturating_since(flow.attended) >= QOS_STARVATION_MAX
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
