//! Numbers of messages, on both sides: never used twice by the sender, never accepted twice by the receiver, across
//! crashes that lose what was not synced.
//!
//! # The sender
//!
//! A sequence number is also a nonce, so using one twice would be worse than losing a message. [`SendSeq`] reserves
//! numbers in blocks: the record on disk says "every number below this may have been used", and a number is given out
//! only once a record above it is safe on disk. After a crash it goes on at the recorded bound: numbers are skipped, none
//! is repeated. Half a block before the end the next one is asked for, so that nobody waits in the normal course.
//!
//! # The receiver
//!
//! [`Window`] is the set of numbers received from one peer, written as the highest one and the stretches missing below
//! it. A peer that numbers its messages to all devices from one counter, or sends a message hours after later ones,
//! leaves wide gaps; a bitmap would have to be as wide as they are, while a list of gaps costs eight bytes each and
//! nothing at all for what arrived in order. When there are more than [`MESH_REPLAY_GAPS_MAX`] gaps the lowest is given
//! up: numbers in it are [`Verdict::TooOld`] from then on, which is not [`Verdict::Seen`]. Only what was seen gets its
//! receipt again; a receipt for a number given up would be a lie.
//!
//! Between two gaps lies at least one received number, so every number of the last `2 * MESH_REPLAY_GAPS_MAX - 1` behind
//! the highest is judged exactly, whatever the pattern of losses.
//!
//! # What a crash does
//!
//! [`Replay::accept`] writes the window into the journal. The order around it is the caller's: put out the delivery, then
//! this record, then a sync, and send the receipt when the mark is answered. So
//!
//! - a number whose receipt has left is on disk: no replay of it is ever accepted, after however many crashes;
//! - a number whose record was lost was delivered in the moments before the crash and never receipted. It counts as not
//!   received: its sender repeats it, and it is delivered again. That is the mesh's promise, at least once. An
//!   application that keeps the message in the same store as the record, which commits what lies between two marks as one
//!   transaction, loses both or neither, and then sees every message exactly once. Where writes only keep their order, a
//!   crash between the two makes one message come twice, never one get lost;
//! - a record that survived without its receipt answers the repeat with [`Verdict::Seen`], and the receipt leaves then.
//!
//! [`Verdict::Seen`] before the mark is answered means that the receipt is on its way: say nothing for it yet. A receipt that
//! leaves before its record is safe makes the sender forget a message that a crash can still take from the target.
//!
//! A record that does not parse is not read as "nothing received yet": its peer is sealed, and everything from it is
//! [`Verdict::TooOld`] until the two have agreed on fresh keys and [`Replay::forget`] was called.
//!
//! The fragments of one message are accepted together, when the message is complete ([`Replay::accept_run`]). Until then
//! they are only in memory, and a crash must leave them acceptable.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes};

use super::hint::Address;
use super::records::{Journal, Key, Mark, Saved, Table, open, versioned};
use crate::limits::{MESH_REPLAY_GAPS_MAX, MESH_REPLAY_PEERS_MAX};
use crate::time::Time;
use crate::wire::{Invalid, Reader, put_varint};

const VERSION: u8 = 1;

/// What a sequence number is, seen from the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not received yet.
    Fresh,
    /// Received before: deliver nothing, and say the receipt again once its mark was answered.
    Seen,
    /// So far back that it is not known: do nothing.
    TooOld,
}

/// A stretch of missing numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    first: u32,
    last: u32,
}

/// The numbers received from one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    highest: u32,
    /// Numbers below this that are in no gap may have been given up rather than received.
    floor: u32,
    /// Ascending, never touching, all between `floor` and `highest`.
    gaps: Vec<Gap>,
}

impl Window {
    /// A window that has received `seq` and nothing else.
    #[must_use]
    pub fn starting(seq: u32) -> Self {
        let gaps = seq.checked_sub(1).map(|last| Gap { first: 0, last }).into_iter().collect();
        Self { highest: seq, floor: 0, gaps }
    }

    /// A window that lets nothing in.
    const SEALED: Self = Self { highest: u32::MAX, floor: u32::MAX, gaps: Vec::new() };

    /// What `seq` is.
    #[must_use]
    pub fn judge(&self, seq: u32) -> Verdict {
        if seq > self.highest || self.gap_of(seq).is_ok() {
            Verdict::Fresh
        } else if seq < self.floor || *self == Self::SEALED {
            Verdict::TooOld
        } else {
            Verdict::Seen
        }
    }

    /// Counts `seq` as received; says whether it was fresh.
    pub fn accept(&mut self, seq: u32) -> bool {
        if seq > self.highest {
            if seq - self.highest > 1 {
                self.gaps.push(Gap { first: self.highest + 1, last: seq - 1 });
            }
            self.highest = seq;
        } else if let Ok(at) = self.gap_of(seq) {
            let gap = self.gaps[at];
            let below = (gap.first < seq).then(|| Gap { first: gap.first, last: seq - 1 });
            let above = (seq < gap.last).then(|| Gap { first: seq + 1, last: gap.last });
            self.gaps.splice(at..=at, below.into_iter().chain(above));
        } else {
            return false;
        }
        while self.gaps.len() > MESH_REPLAY_GAPS_MAX {
            self.floor = self.gaps.remove(0).last.saturating_add(1);
        }
        true
    }

    /// The index of the gap that `seq` lies in.
    fn gap_of(&self, seq: u32) -> Result<usize, usize> {
        self.gaps.binary_search_by(|gap| {
            if gap.last < seq {
                core::cmp::Ordering::Less
            } else if gap.first > seq {
                core::cmp::Ordering::Greater
            } else {
                core::cmp::Ordering::Equal
            }
        })
    }

    /// From the highest number down, each as the distance to the one before: a peer that lost little costs few bytes.
    fn encode(&self) -> Bytes {
        let mut out = versioned(VERSION);
        out.put_u32(self.highest);
        put_varint(&mut out, u64::from(self.floor));
        put_varint(&mut out, self.gaps.len() as u64);
        let mut above = self.highest;
        for gap in self.gaps.iter().rev() {
            put_varint(&mut out, u64::from(above - gap.last));
            put_varint(&mut out, u64::from(gap.last - gap.first));
            above = gap.first;
        }
        out.freeze()
    }

    fn decode(value: &[u8]) -> Result<Self, Invalid> {
        const WHAT: &str = "replay window";
        let wrong = Invalid::Value { what: WHAT };
        let mut reader = open(value, VERSION, WHAT)?;
        let highest = reader.u32(WHAT)?;
        let number =
            |reader: &mut Reader<'_>| reader.varint(WHAT).and_then(|n| u32::try_from(n).map_err(|_| wrong));
        let floor = number(&mut reader)?;
        let count = number(&mut reader)? as usize;
        if floor > highest || count > MESH_REPLAY_GAPS_MAX {
            return Err(wrong);
        }
        let mut gaps = Vec::with_capacity(count);
        let mut above = highest;
        for nth in 0..count {
            let (down, len) = (number(&mut reader)?, number(&mut reader)?);
            // A gap ends below a number that was received, which is itself above nothing of the next gap.
            let nearest = if nth == 0 { 1 } else { 2 };
            let last = above.checked_sub(down).filter(|_| down >= nearest).ok_or(wrong)?;
            let first = last.checked_sub(len).filter(|first| *first >= floor).ok_or(wrong)?;
            gaps.push(Gap { first, last });
            above = first;
        }
        gaps.reverse();
        reader.finish(WHAT)?;
        Ok(Self { highest, floor, gaps })
    }
}

#[derive(Debug)]
struct Peer {
    window: Window,
    trusted: bool,
    heard_at: Time,
}

/// The windows of all peers, within a bound.
#[derive(Debug, Default)]
pub struct Replay {
    peers: BTreeMap<Address, Peer>,
}

/// What [`Replay::restore`] found.
#[derive(Debug, Default)]
pub struct Restored {
    /// Peers whose record was damaged: nothing from them is accepted until they are forgotten.
    pub sealed: Vec<Address>,
}

/// A number could not be accepted because no window could be opened for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for another peer: the windows of {MESH_REPLAY_PEERS_MAX} trusted ones are kept")]
pub struct NoRoom;

impl Replay {
    /// The windows as the disk has them. All count as strangers' until [`Replay::trust`] says otherwise. Records whose key
    /// is no address are erased.
    pub fn restore(saved: &mut Saved, now: Time, journal: &mut Journal) -> (Self, Restored) {
        let (mut peers, mut restored) = (BTreeMap::new(), Restored::default());
        for (id, value) in saved.take(Table::Replay) {
            let Ok(address) = <[u8; 16]>::try_from(&id[..]).map(Address) else {
                journal.erase(Key { table: Table::Replay, id });
                continue;
            };
            let window = Window::decode(&value).unwrap_or_else(|_| {
                restored.sealed.push(address);
                Window::SEALED
            });
            peers.insert(address, Peer { window, trusted: false, heard_at: now });
        }
        (Self { peers }, restored)
    }

    /// What `seq` from `peer` is. Ask only after the frame's MAC was found right.
    #[must_use]
    pub fn judge(&self, peer: &Address, seq: u32) -> Verdict {
        self.peers.get(peer).map_or(Verdict::Fresh, |known| known.window.judge(seq))
    }

    /// Counts `seq` from `peer` as received and writes that down. Returns a stranger whose window was given up for it:
    /// forget its keys too, or its old frames could come again.
    ///
    /// # Errors
    /// [`NoRoom`] if the peer is new and only trusted ones are kept: then the frame must be dropped.
    pub fn accept(
        &mut self,
        now: Time,
        peer: Address,
        seq: u32,
        journal: &mut Journal,
    ) -> Result<Option<Address>, NoRoom> {
        self.accept_run(now, peer, seq, 1, journal)
    }

    /// As [`Replay::accept`] for `count` numbers from `first` on: the fragments of a message that is complete.
    ///
    /// # Errors
    /// As [`Replay::accept`].
    pub fn accept_run(
        &mut self,
        now: Time,
        peer: Address,
        first: u32,
        count: u8,
        journal: &mut Journal,
    ) -> Result<Option<Address>, NoRoom> {
        let mut evicted = None;
        if !self.peers.contains_key(&peer) {
            evicted = self.make_room(journal)?;
            self.peers.insert(peer, Peer { window: Window::starting(first), trusted: false, heard_at: now });
        }
        if let Some(known) = self.peers.get_mut(&peer) {
            known.heard_at = now;
            for nth in 0..u32::from(count) {
                if let Some(seq) = first.checked_add(nth) {
                    known.window.accept(seq);
                }
            }
            journal.save(Key::new(Table::Replay, &peer.0), known.window.encode());
        }
        Ok(evicted)
    }

    /// Whether `peer` is paired. The windows of trusted peers are never given up for others. A peer nothing was received
    /// from yet has no window to keep; say it again when the first number was accepted.
    pub fn trust(&mut self, peer: &Address, trusted: bool) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.trusted = trusted;
        }
    }

    /// Forgets what was received from `peer`. Only when keys were agreed afresh, or its keys are forgotten as well.
    pub fn forget(&mut self, peer: &Address, journal: &mut Journal) {
        if self.peers.remove(peer).is_some() {
            journal.erase(Key::new(Table::Replay, &peer.0));
        }
    }

    /// How many windows are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    fn make_room(&mut self, journal: &mut Journal) -> Result<Option<Address>, NoRoom> {
        if self.peers.len() < MESH_REPLAY_PEERS_MAX {
            return Ok(None);
        }
        let strangers = self.peers.iter().filter(|(_, peer)| !peer.trusted);
        let silent = strangers.min_by_key(|(_, peer)| peer.heard_at).map(|(address, _)| *address);
        let silent = silent.ok_or(NoRoom)?;
        self.forget(&silent, journal);
        Ok(Some(silent))
    }
}

/// Own sequence numbers from one counter, each given out once.
#[derive(Debug)]
pub struct SendSeq {
    key: Key,
    /// The next number to give out.
    next: u32,
    /// Below this the disk knows that numbers may be used.
    safe: u32,
    /// A bound on its way to the disk.
    asked: Option<(u32, Mark)>,
    block: u32,
    /// One past the last number there is.
    end: u32,
}

/// Why there is no sequence number now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoNumber {
    /// The next block is on its way to the disk; ask again when its mark was answered.
    #[error("the next sequence numbers are not safe on disk yet")]
    Wait,
    /// All numbers were used: only fresh keys help.
    #[error("every sequence number was used; agree on fresh keys")]
    Exhausted,
}

impl SendSeq {
    /// The counter that the disk knows under `name`, or a new one that begins at zero. Numbers stay below `end` and are
    /// reserved `block` at a time. The first block is asked for at once.
    ///
    /// A damaged record is an error and not a new counter: numbers would repeat.
    ///
    /// # Errors
    /// [`Invalid`] if the record does not parse.
    pub fn restore(
        name: &[u8],
        value: Option<&[u8]>,
        block: u32,
        end: u32,
        journal: &mut Journal,
    ) -> Result<Self, Invalid> {
        const WHAT: &str = "reserved sequence numbers";
        let used = match value {
            None => 0,
            Some(value) => {
                let mut reader = open(value, VERSION, WHAT)?;
                let used = reader.u32(WHAT)?;
                reader.finish(WHAT)?;
                used
            }
        };
        Ok(Self::starting(name, used, block, end, journal))
    }

    /// A counter that begins at `first`. The first block is asked for at once.
    pub(super) fn starting(name: &[u8], first: u32, block: u32, end: u32, journal: &mut Journal) -> Self {
        let key = Key::new(Table::Sequence, name);
        let mut numbers = Self { key, next: first, safe: first, asked: None, block: block.max(1), end };
        numbers.reserve(1, journal);
        numbers
    }

    /// The number that comes next, or later: reading it takes nothing.
    pub(super) const fn next(&self) -> u32 {
        self.next
    }

    /// The next number.
    ///
    /// # Errors
    /// [`NoNumber`]; after [`NoNumber::Wait`] a block is always under way.
    pub fn take(&mut self, journal: &mut Journal) -> Result<u32, NoNumber> {
        self.take_run(1, journal)
    }

    /// The first of `count` numbers in a row, for the fragments of one message.
    ///
    /// # Errors
    /// As [`SendSeq::take`].
    pub fn take_run(&mut self, count: u8, journal: &mut Journal) -> Result<u32, NoNumber> {
        let count = u32::from(count.max(1));
        let first = self.next;
        let next = first.checked_add(count).filter(|next| *next <= self.end).ok_or(NoNumber::Exhausted)?;
        if next > self.safe {
            self.reserve(count, journal);
            return Err(NoNumber::Wait);
        }
        self.next = next;
        if self.safe - next < self.block / 2 {
            self.reserve(1, journal);
        }
        Ok(first)
    }

    /// Everything up to `mark` is on disk.
    pub fn synced(&mut self, mark: Mark) {
        if let Some((bound, asked)) = self.asked
            && asked <= mark
        {
            self.safe = bound;
            self.asked = None;
        }
    }

    /// Asks for a block with room for `count` more numbers, unless one is under way.
    fn reserve(&mut self, count: u32, journal: &mut Journal) {
        let bound = self.next.max(self.safe).saturating_add(self.block.max(count)).min(self.end);
        if self.asked.is_some() || bound <= self.safe {
            return;
        }
        let mut out = versioned(VERSION);
        out.put_u32(bound);
        journal.save(self.key.clone(), out.freeze());
        self.asked = Some((bound, journal.sync()));
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
