//! Frames on their way over one hop: sent, sent again, sent another way, until somebody is heard to have them.
//!
//! ```text
//!   begin ──▶ in line ──aired──▶ listening ──heard it passed on, a hop ack, a receipt──▶ gone
//!                ▲                   │ nothing heard
//!                ├── same neighbour ◀┤  at most TRIES_PER_WAY times
//!                ├── another one    ◀┤  at most WAYS_MAX of them
//!                ├── whoever knows  ◀┤  once: `next` is anybody
//!                └── gone, and the way back is told
//! ```
//!
//! This machine decides what comes next; which neighbour is "another one" the routing table knows.

use std::collections::BTreeMap;

use bytes::Bytes;
use core::time::Duration;

use super::frame::{Cost, FrameId, Kind, Priority};
use super::hint::{Far, Near};
use super::port::PortId;
use crate::limits::MESH_PASSAGES_MAX;
use crate::planted::{self, Bug};
use crate::time::Time;

/// Transmissions to one neighbour before another is tried.
const TRIES_PER_WAY: u8 = 3;
/// Neighbours tried for one frame.
pub(super) const WAYS_MAX: usize = 3;

/// One frame on its way over one hop.
#[derive(Clone, Debug)]
pub(super) struct Passage {
    /// The frame as it came or was made; each transmission rewrites its head.
    pub(super) bytes: Bytes,
    pub(super) kind: Kind,
    pub(super) priority: Priority,
    /// Where it goes in the end.
    pub(super) to: Far,
    /// Hops that the next transmission says were taken.
    pub(super) hops: u8,
    /// What a route reply says the way has cost.
    pub(super) cost: Cost,
    /// The narrowest link on a route reply's way.
    pub(super) class: u8,
    /// Who sent it to us; nobody if it is our own.
    pub(super) came: Option<(PortId, Near)>,
    /// The neighbour it is tried with now.
    pub(super) via: (PortId, Near),
    /// Whether that neighbour is its target.
    pub(super) last_hop: bool,
    /// Transmissions to that neighbour.
    tries: u8,
    /// All neighbours tried.
    tried: Vec<(PortId, Near)>,
    /// Whoever knows a way was asked.
    asked_anybody: bool,
    /// When silence counts as no; `None` while it is in line.
    answer_by: Option<Time>,
    /// Not sent after this.
    pub(super) expires: Time,
}

impl Passage {
    /// A frame that goes to `via` first.
    pub(super) fn new(bytes: Bytes, kind: Kind, to: Far, via: (PortId, Near), expires: Time) -> Self {
        Self {
            bytes,
            kind,
            priority: Priority::Control,
            to,
            hops: 0,
            cost: Cost::FREE,
            class: 0,
            came: None,
            via,
            last_hop: false,
            tries: 0,
            tried: vec![via],
            asked_anybody: false,
            answer_by: None,
            expires,
        }
    }

    /// Neighbours not to be tried (again): those tried, and whoever sent it here.
    pub(super) fn not(&self) -> Vec<(PortId, Near)> {
        self.tried.iter().copied().chain(self.came).collect()
    }

    /// Transmissions so far to the neighbour of now.
    pub(super) const fn tries(&self) -> u8 {
        self.tries
    }

    /// Whether it was sent at all.
    pub(super) fn was_sent(&self) -> bool {
        self.tries > 0 || self.tried.len() > 1
    }

    /// From now on it goes to `via`.
    pub(super) fn turn_to(&mut self, via: (PortId, Near), last_hop: bool) {
        self.via = via;
        self.last_hop = last_hop;
        self.tries = 0;
        self.answer_by = None;
        self.tried.push(via);
    }

    /// Whether nobody in particular was asked yet.
    pub(super) const fn may_ask_anybody(&self) -> bool {
        !self.asked_anybody
    }

    /// From now on it goes to whoever knows a way.
    pub(super) fn ask_anybody(&mut self) {
        self.turn_to((self.via.0, Near::ANYBODY), false);
        self.asked_anybody = true;
    }
}

/// What to do with a frame nobody is heard to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// To the same neighbour.
    Same,
    /// To another, if there is one.
    Other,
    /// There is nobody left to try.
    GiveUp,
}

/// All frames on their way over one hop.
#[derive(Debug, Default)]
pub(super) struct Forward {
    passages: BTreeMap<FrameId, Passage>,
}

impl Forward {
    /// Begins a passage. False if too many are open or this frame's already is.
    pub(super) fn begin(&mut self, id: FrameId, passage: Passage) -> bool {
        if self.passages.len() >= MESH_PASSAGES_MAX || self.passages.contains_key(&id) {
            return false;
        }
        self.passages.insert(id, passage);
        true
    }

    pub(super) fn passage(&self, id: &FrameId) -> Option<&Passage> {
        self.passages.get(id)
    }

    pub(super) fn passage_mut(&mut self, id: &FrameId) -> Option<&mut Passage> {
        self.passages.get_mut(id)
    }

    /// The passage whose frame's id begins with these bytes, as hop acknowledgements name it.
    pub(super) fn by_prefix(&self, prefix: [u8; 4]) -> Option<FrameId> {
        let [a, b, c, d] = prefix;
        let from = [a, b, c, d, 0, 0, 0, 0];
        let to = [a, b, c, d, 0xff, 0xff, 0xff, 0xff];
        self.passages.range(from..=to).map(|(id, _)| *id).next()
    }

    /// It left; until `answer_by` somebody must be heard to have it.
    pub(super) fn aired(&mut self, id: &FrameId, answer_by: Time) {
        if let Some(passage) = self.passages.get_mut(id) {
            passage.tries += 1;
            passage.answer_by = Some(answer_by);
        }
    }

    /// It did not leave: as if it had, with an answer that is already late.
    pub(super) fn not_aired(&mut self, now: Time, id: &FrameId) {
        self.aired(id, now);
    }

    /// It is over.
    pub(super) fn end(&mut self, id: &FrameId) -> Option<Passage> {
        self.passages.remove(id)
    }

    /// A frame whose answer is late.
    pub(super) fn late(&self, now: Time) -> Option<FrameId> {
        let is_late =
            |passage: &Passage| passage.answer_by.is_some_and(|by| by <= now) || passage.expires < now;
        self.passages.iter().find(|(_, passage)| is_late(passage)).map(|(id, _)| *id)
    }

    /// What to do with a frame whose answer is late.
    pub(super) fn again(&mut self, now: Time, id: &FrameId) -> Again {
        let Some(passage) = self.passages.get_mut(id) else { return Again::GiveUp };
        passage.answer_by = None;
        if now > passage.expires || passage.asked_anybody {
            return Again::GiveUp;
        }
        if passage.tries < TRIES_PER_WAY {
            Again::Same
        } else if passage.tried.len() < WAYS_MAX {
            Again::Other
        } else {
            Again::GiveUp
        }
    }

    /// Ends every passage through a port that went down, and gives them back.
    pub(super) fn forget_port(&mut self, port: PortId) -> Vec<(FrameId, Passage)> {
        let gone: Vec<FrameId> =
            self.passages.iter().filter(|(_, passage)| passage.via.0 == port).map(|(id, _)| *id).collect();
        gone.into_iter().filter_map(|id| Some((id, self.passages.remove(&id)?))).collect()
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        // A passage may still be sent at the moment it expires; it is late a microsecond after.
        let after = if planted::is(Bug::DeadlineTooEarly) { 0 } else { 1 };
        let expired = |passage: &Passage| passage.expires + Duration::from_micros(after);
        self.passages.values().map(|passage| passage.answer_by.unwrap_or_else(|| expired(passage))).min()
    }

    /// All frames on their way.
    pub(super) fn ids(&self) -> impl Iterator<Item = &FrameId> {
        self.passages.keys()
    }

    /// The frames for one destination.
    pub(super) fn toward(&self, to: Far) -> Vec<FrameId> {
        self.passages.iter().filter(|(_, passage)| passage.to == to).map(|(id, _)| *id).collect()
    }

    /// The question of ours or passed on by us that an answer belongs to, if it waits for one.
    pub(super) fn find(&self, is: impl Fn(&Passage) -> bool) -> Option<FrameId> {
        self.passages.iter().find(|(_, passage)| is(passage)).map(|(id, _)| *id)
    }

    pub(super) fn len(&self) -> usize {
        self.passages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId(0);
    const ID: FrameId = [7; 8];

    fn at(seconds: u64) -> Time {
        Time::from_millis(1000 * seconds)
    }

    fn begun() -> Forward {
        let mut forward = Forward::default();
        let passage = Passage::new(Bytes::new(), Kind::Data, Far([1; 3]), (PORT, Near(1)), at(100));
        assert!(forward.begin(ID, passage));
        forward
    }

    #[test]
    fn one_frame_is_transmitted_a_bounded_number_of_times() {
        let mut forward = begun();
        let (mut sent, mut other) = (0, 2);
        for step in 0..100 {
            sent += 1;
            forward.aired(&ID, at(step));
            assert_eq!(forward.late(at(step)), Some(ID));
            match forward.again(at(step), &ID) {
                Again::Same => {}
                Again::Other => {
                    forward.passage_mut(&ID).unwrap().turn_to((PORT, Near(other)), false);
                    other += 1;
                }
                Again::GiveUp => break,
            }
        }
        assert_eq!(sent, usize::from(TRIES_PER_WAY) * WAYS_MAX);
    }

    #[test]
    fn a_frame_that_went_to_anybody_is_not_sent_again() {
        let mut forward = begun();
        forward.passage_mut(&ID).unwrap().ask_anybody();
        forward.aired(&ID, at(1));
        assert_eq!(forward.again(at(1), &ID), Again::GiveUp);
    }

    #[test]
    fn hop_acknowledgements_find_their_frame_by_half_its_name() {
        let forward = begun();
        assert_eq!(forward.by_prefix([7; 4]), Some(ID));
        assert_eq!(forward.by_prefix([8; 4]), None);
    }

    #[test]
    fn passages_are_bounded() {
        let mut forward = begun();
        let passage = forward.passage(&ID).unwrap().clone();
        assert!(!forward.begin(ID, passage.clone()), "one passage per frame");
        for n in 0..=255 {
            forward.begin([n; 8], passage.clone());
        }
        assert_eq!(forward.len(), MESH_PASSAGES_MAX);
    }

    #[test]
    fn what_has_expired_is_late_even_in_line() {
        let forward = begun();
        assert_eq!(forward.late(at(100)), None);
        assert_eq!(forward.late(at(101)), Some(ID));
        let due = forward.next_at().unwrap();
        assert_eq!(forward.late(due), Some(ID), "called at the deadline, there is something to do");
    }
}
