//! Frames that wait for a radio: four lanes, bounded together, and nothing leaves without a word.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits::{RADIO_QUEUE_ANNOUNCES_MAX, RADIO_QUEUE_BYTES_MAX, RADIO_QUEUE_FRAMES_MAX};
use crate::planted::{self, Bug};
use crate::time::Time;

/// How urgent a frame is. Higher ones go first, and may use more of the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Can wait for hours.
    Bulk = 0,
    /// A message.
    #[default]
    Normal = 1,
    /// A message somebody waits for.
    Urgent = 2,
    /// Receipts, routes, emergencies.
    Control = 3,
}

impl Priority {
    /// Every priority, least urgent first.
    pub const ALL: [Self; 4] = [Self::Bulk, Self::Normal, Self::Urgent, Self::Control];

    /// The number on the wire, 0 to 3.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The priority with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Bulk),
            1 => Some(Self::Normal),
            2 => Some(Self::Urgent),
            3 => Some(Self::Control),
            _ => None,
        }
    }

    pub(super) const fn lane(self) -> usize {
        self as usize
    }
}

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The caller's name for it; comes back with its fate.
    pub token: u64,
    /// What goes on the air.
    pub bytes: Bytes,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether it counts as announce traffic, which has a share of its own.
    pub announce: bool,
    /// When it is not worth sending any more.
    pub expires_at: Time,
}

/// A frame in a lane.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) frame: Frame,
    pub(super) airtime_us: u64,
    /// How often the modem took it and gave it back unsent.
    pub(super) attempts: u8,
}

/// The lanes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lanes: [VecDeque<Waiting>; 4],
    frames: usize,
    bytes: usize,
}

impl Queue {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn frames(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|lane: usize| self.lanes[lane].len())
    }

    pub(super) fn lane(&self, priority: Priority) -> impl Iterator<Item = &Waiting> {
        self.lanes[priority.lane()].iter()
    }

    /// Whether a frame of `bytes` would find room without anybody leaving.
    fn has_room(&self, bytes: usize) -> bool {
        planted::is(Bug::QueueUnbounded)
            || self.frames < RADIO_QUEUE_FRAMES_MAX && self.bytes + bytes <= RADIO_QUEUE_BYTES_MAX
    }

    /// Takes a frame at the end of its lane. If there is no room, frames of less urgent lanes leave, the latest of the
    /// least urgent first: those that came earlier have waited longer. Returns who left; if even that makes no room, the
    /// frame itself comes back as the error and nobody leaves.
    ///
    /// Announces wait for a share of their own, possibly for hours, so few of them may: the one that waited longest is
    /// the most outdated and leaves first.
    pub(super) fn push(&mut self, waiting: Waiting) -> Result<Vec<Frame>, Frame> {
        let size = waiting.frame.bytes.len();
        let below = &self.lanes[..waiting.frame.priority.lane()];
        let could_leave: usize = below.iter().flatten().map(|waiting| waiting.frame.bytes.len()).sum();
        let someone_could = below.iter().any(|lane| !lane.is_empty());
        let room = self.frames < RADIO_QUEUE_FRAMES_MAX || someone_could;
        if self.has_room(size) {
            // Nobody leaves.
        } else if !room || self.bytes - could_leave + size > RADIO_QUEUE_BYTES_MAX {
            return Err(waiting.frame);
        }
        let mut left = Vec::new();
        let announces = self.lanes.iter().flatten().filter(|waiting| waiting.frame.announce).count();
        if waiting.frame.announce && announces >= RADIO_QUEUE_ANNOUNCES_MAX {
            left.extend(self.take_first(|frame| frame.announce));
        }
        while !self.has_room(size) {
            let Some(lane) = self.lanes.iter().position(|lane| !lane.is_empty()) else { break };
            let last = self.lanes[lane].len() - 1;
            left.extend(self.take_from(lane, last).map(|waiting| waiting.frame));
        }
        self.count(size);
        self.lanes[waiting.frame.priority.lane()].push_back(waiting);
        Ok(left)
    }

    /// Puts a frame back to the head of its lane. It may exceed the maximum by itself: it held its place all the time.
    pub(super) fn put_back(&mut self, waiting: Waiting) {
        self.count(waiting.frame.bytes.len());
        self.lanes[waiting.frame.priority.lane()].push_front(waiting);
    }

    pub(super) fn take(&mut self, priority: Priority, index: usize) -> Option<Waiting> {
        self.take_from(priority.lane(), index)
    }

    pub(super) fn cancel(&mut self, token: u64) -> Option<Frame> {
        self.take_first(|frame| frame.token == token)
    }

    /// Any frame, taken out.
    pub(super) fn pop(&mut self) -> Option<Frame> {
        self.take_first(|_| true)
    }

    /// The next frame whose time is over, taken out.
    pub(super) fn expired(&mut self, now: Time) -> Option<Frame> {
        self.take_first(|frame| frame.expires_at <= now)
    }

    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.lanes.iter().flatten().map(|waiting| waiting.frame.expires_at).min()
    }

    /// Airtime of everything that is at least as urgent, microseconds.
    pub(super) fn backlog_us(&self, priority: Priority) -> u64 {
        self.lanes[priority.lane()..].iter().flatten().map(|waiting| waiting.airtime_us).sum()
    }

    fn take_first(&mut self, which: impl Fn(&Frame) -> bool) -> Option<Frame> {
        for lane in 0..self.lanes.len() {
            if let Some(index) = self.lanes[lane].iter().position(|waiting| which(&waiting.frame)) {
                return self.take_from(lane, index).map(|waiting| waiting.frame);
            }
        }
        None
    }

    fn take_from(&mut self, lane: usize, index: usize) -> Option<Waiting> {
        let waiting = self.lanes[lane].remove(index)?;
        self.frames -= 1;
        self.bytes -= waiting.frame.bytes.len();
        Some(waiting)
    }

    fn count(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }
}
