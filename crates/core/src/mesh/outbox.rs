//! Own messages, from the moment the application hands them over until their receipt or their end.
//!
//! # A message's life
//!
//! ```text
//! Queued -> Routed -> Carried -> Stored -> Delivered
//!    `--------`----------`---------`----> expired, cancelled, or displaced by something more urgent
//! ```
//!
//! Queued: kept here. Routed: sent along a route. Carried: a neighbour has it. Stored: a willing node took it into custody.
//! Delivered: the target's receipt is here. Steps only go forward, because they answer "how far did it come"; a message
//! that is Stored may well be sent again directly when its target shows up. A message that wants no receipt ends as
//! Carried.
//!
//! A message is tried, and tried again after a pause that doubles: from twice the path's round trip up to
//! [`MESH_PAUSE_MAX`], a quarter more or less by chance, so that senders that lost the same neighbour do not all come back
//! together. Where a store node holds it, the pause is the longest at once. When its target is heard of, it goes soon
//! ([`Outbox::reachable`]). Every try uses the sequence numbers of the first, so the target knows a repeat for one.
//!
//! # On disk
//!
//! Two records: the message, written once, and a short one with what changes (end, step, numbers). If a crash loses the
//! short one, the message starts again with new numbers and may arrive twice; if it loses the message's, the application
//! was never told that it is safe. A short record without its message is erased.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use core::time::Duration;

use super::hint::Address;
use super::records::{Journal, Key, Moment, Saved, Table, end, open, put_end, versioned};
use super::units::Priority;
use crate::limits::{
    MESH_LIFETIME_MAX, MESH_MESSAGE_BYTES_MAX, MESH_OUTBOX_BYTES_MAX, MESH_OUTBOX_MESSAGES_MAX,
    MESH_PAUSE_MAX, MESH_PAUSE_MIN,
};
use crate::rng::Rng;
use crate::time::{Deadline, Time};
use crate::wire::{Invalid, put_bytes};

const VERSION: u8 = 1;
/// Last byte of a record's key.
const MESSAGE: u8 = 0;
/// See [`MESSAGE`].
const STATE: u8 = 1;

/// Names an own message. The shell chooses it and never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its name.
    pub id: MessageId,
    /// Whom it is for.
    pub to: Address,
    /// Its bytes, at most [`MESH_MESSAGE_BYTES_MAX`].
    pub payload: Bytes,
    /// How urgent it is.
    pub priority: Priority,
    /// How long it is worth delivering; at most [`MESH_LIFETIME_MAX`].
    pub lifetime: Duration,
    /// Whether the target is to confirm it.
    pub receipt: bool,
}

/// How far a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Kept here.
    Queued,
    /// Sent along a route.
    Routed,
    /// A neighbour has it.
    Carried,
    /// A willing node holds it for the target.
    Stored,
    /// The target confirmed it.
    Delivered,
}

/// The sequence numbers of a message: one per piece, in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The first, or only, one.
    pub first: u32,
    /// How many pieces; 1 if it goes whole.
    pub pieces: u8,
    /// Bytes per piece. A repeat must be cut as the first try was.
    pub piece_bytes: u16,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// Longer than the mesh carries.
    #[error("the message is longer than {MESH_MESSAGE_BYTES_MAX} bytes; send it as a file over a link")]
    TooLong,
    /// Its lifetime is over already.
    #[error("the message has no lifetime")]
    NoLifetime,
    /// There is one of this name.
    #[error("a message with this id is under way already")]
    Known,
    /// The outbox is full of messages at least as urgent.
    #[error("the outbox is full of messages that are at least as urgent; wait for some to arrive or expire")]
    Full,
}

/// A message under way.
#[derive(Clone, Debug)]
pub struct Message {
    /// Whom it is for.
    pub to: Address,
    /// Its bytes.
    pub payload: Bytes,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether the target is to confirm it.
    pub receipt: bool,
    /// How far it came.
    pub step: Step,
    /// Its sequence numbers, once it has some.
    pub numbers: Option<Numbers>,
    /// When it is worth nothing any more.
    pub ends_at: Time,
    /// Tries so far, in this life of the node.
    pub tries: u16,
    next_at: Time,
    tried_at: Option<Time>,
}

/// Own messages under way. See the [module](self).
#[derive(Debug, Default)]
pub struct Outbox {
    messages: BTreeMap<MessageId, Message>,
    bytes: usize,
}

impl Outbox {
    /// The messages as the disk has them, each to be tried at once, and how many records were damaged and erased.
    pub fn restore(saved: &mut Saved, at: Moment, journal: &mut Journal) -> (Self, usize) {
        let (mut bodies, mut states, mut damaged) = (BTreeMap::new(), BTreeMap::new(), 0);
        for (id, value) in saved.take(Table::Outbox) {
            let name =
                id.split_last_chunk::<1>().and_then(|(name, part)| Some((name.try_into().ok()?, part[0])));
            let name = name.map(|(name, part)| (MessageId(u64::from_be_bytes(name)), part));
            let fresh = match name {
                Some((name, MESSAGE)) => {
                    Message::decode(&value, at.now).map(|body| bodies.insert(name, body)).is_ok()
                }
                Some((name, STATE)) => {
                    State::decode(&value, at).map(|state| states.insert(name, state)).is_ok()
                }
                Some(_) | None => false,
            };
            if !fresh {
                damaged += 1;
                journal.erase(Key { table: Table::Outbox, id });
            }
        }
        let mut outbox = Self::default();
        for (id, mut message) in bodies {
            // Without its state the end is unknown: then the message was never said to be safe.
            let Some(state) = states.remove(&id) else {
                journal.erase(key(id, MESSAGE));
                continue;
            };
            (message.ends_at, message.step, message.numbers) = (state.ends_at, state.step, state.numbers);
            outbox.bytes += message.payload.len();
            // Written again: what was taken off for a restart without a clock must stay taken off.
            journal.save(key(id, STATE), message.encode_state(at));
            outbox.messages.insert(id, message);
        }
        for id in states.into_keys() {
            journal.erase(key(id, STATE));
        }
        (outbox, damaged)
    }

    /// Takes a message; it is safe once a mark taken after this is answered. Returns what had to go for it: less urgent
    /// ones, the soonest to end first.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn accept(
        &mut self,
        at: Moment,
        message: Outgoing,
        journal: &mut Journal,
    ) -> Result<Vec<MessageId>, Refused> {
        let Outgoing { id, to, payload, priority, lifetime, receipt } = message;
        if payload.len() > MESH_MESSAGE_BYTES_MAX {
            return Err(Refused::TooLong);
        }
        if lifetime.is_zero() {
            return Err(Refused::NoLifetime);
        }
        if self.messages.contains_key(&id) {
            return Err(Refused::Known);
        }
        let displaced = self.displaced_by(priority, payload.len())?;
        for id in &displaced {
            self.remove(*id, journal);
        }
        let message = Message {
            to,
            payload,
            priority,
            receipt,
            step: Step::Queued,
            numbers: None,
            ends_at: at.now + lifetime.min(MESH_LIFETIME_MAX),
            tries: 0,
            next_at: at.now,
            tried_at: None,
        };
        journal.save(key(id, MESSAGE), message.encode());
        journal.save(key(id, STATE), message.encode_state(at));
        self.bytes += message.payload.len();
        self.messages.insert(id, message);
        Ok(displaced)
    }

    /// The message to try next, if one is due: the most urgent, then the one that has waited longest. Answer with
    /// [`Outbox::tried`] or [`Outbox::defer`], or it stays due.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<MessageId> {
        let due = self.messages.iter().filter(|(_, message)| message.next_at <= now && message.ends_at > now);
        due.min_by_key(|(id, message)| (core::cmp::Reverse(message.priority), message.next_at, **id))
            .map(|(id, _)| *id)
    }

    /// A message under way.
    #[must_use]
    pub fn find(&self, id: MessageId) -> Option<&Message> {
        self.messages.get(&id)
    }

    /// All messages under way, by name.
    pub fn iter(&self) -> impl Iterator<Item = (MessageId, &Message)> {
        self.messages.iter().map(|(id, message)| (*id, message))
    }

    /// Gives a message its sequence numbers, before its first try. They are not changed once given.
    pub fn number(&mut self, at: Moment, id: MessageId, numbers: Numbers, journal: &mut Journal) {
        if let Some(message) = self.messages.get_mut(&id)
            && message.numbers.is_none()
        {
            message.numbers = Some(numbers);
            journal.save(key(id, STATE), message.encode_state(at));
        }
    }

    /// A message was put on its way over a path that takes `round_trip` there and back, waiting for duty included. It is
    /// due again after a pause.
    pub fn tried(&mut self, now: Time, id: MessageId, round_trip: Duration, rng: &mut Rng) {
        let Some(message) = self.messages.get_mut(&id) else { return };
        let first = round_trip.saturating_mul(2).max(MESH_PAUSE_MIN);
        let doubled = first.saturating_mul(1 << message.tries.min(16));
        let pause = if message.step >= Step::Stored { MESH_PAUSE_MAX } else { doubled.min(MESH_PAUSE_MAX) };
        message.tries = message.tries.saturating_add(1);
        message.tried_at = Some(now);
        // A path slower than the longest pause still gets the time that an answer takes.
        message.next_at = now + jittered(pause.max(round_trip), rng);
    }

    /// A message cannot be tried before `until`, for instance because a route is being asked for.
    pub fn defer(&mut self, id: MessageId, until: Time) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.next_at = until;
        }
    }

    /// A message came as far as `step`. Says whether that is news; going back never is. A message that wants no receipt
    /// ends with Carried or Stored, every message with Delivered.
    pub fn reached(&mut self, at: Moment, id: MessageId, step: Step, journal: &mut Journal) -> bool {
        let Some(message) = self.messages.get_mut(&id).filter(|message| message.step < step) else {
            return false;
        };
        message.step = step;
        let enough = if message.receipt { Step::Delivered } else { Step::Carried };
        if step >= enough {
            self.remove(id, journal);
        } else if step == Step::Stored {
            // The others are not worth a write: they are found again by trying.
            journal.save(key(id, STATE), message.encode_state(at));
        }
        true
    }

    /// The target confirmed the message with this sequence number (any of its pieces'). Returns the message that this
    /// ended. Ask only after the receipt's MAC was found right.
    pub fn receipt(&mut self, from: &Address, seq: u32, journal: &mut Journal) -> Option<MessageId> {
        let covers = |message: &Message| {
            let numbers = message.numbers.as_ref();
            message.to == *from && numbers.is_some_and(|n| seq.wrapping_sub(n.first) < u32::from(n.pieces))
        };
        let id = self.messages.iter().find(|(_, message)| covers(message)).map(|(id, _)| *id)?;
        self.remove(id, journal);
        Some(id)
    }

    /// The target of messages was heard of: they are due soon, unless they were tried just now. The pauses begin anew.
    pub fn reachable(&mut self, now: Time, to: &Address) {
        for message in self.messages.values_mut().filter(|message| message.to == *to) {
            let soonest = message.tried_at.map_or(now, |tried| now.max(tried + MESH_PAUSE_MIN));
            if soonest < message.next_at {
                message.next_at = soonest;
                message.tries = 0;
            }
        }
    }

    /// Withdraws a message; says whether it was under way. What was sent already may still arrive.
    pub fn cancel(&mut self, id: MessageId, journal: &mut Journal) -> bool {
        self.remove(id, journal).is_some()
    }

    /// When to ask for [`Outbox::timeout`] and [`Outbox::due`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.messages.values().fold(None, |earliest, message| {
            let end = Deadline { at: message.ends_at, why: "own message expires" };
            let next = Deadline { at: message.next_at, why: "own message due" };
            Deadline::earliest(earliest, Deadline::earliest(Some(end), Some(next)))
        })
    }

    /// Ends messages whose lifetime is over and returns them.
    pub fn timeout(&mut self, now: Time, journal: &mut Journal) -> Vec<MessageId> {
        let over = self.messages.iter().filter(|(_, message)| message.ends_at <= now);
        let over: Vec<_> = over.map(|(id, _)| *id).collect();
        for id in &over {
            self.remove(*id, journal);
        }
        over
    }

    /// How many messages are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes of the messages under way.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Which messages have to go for one of `len` bytes.
    fn displaced_by(&self, priority: Priority, len: usize) -> Result<Vec<MessageId>, Refused> {
        let (mut count, mut bytes) = (self.messages.len(), self.bytes);
        let mut lesser: Vec<_> = self.messages.iter().filter(|(_, m)| m.priority < priority).collect();
        lesser.sort_by_key(|(id, message)| (message.priority, message.ends_at, **id));
        let (mut lesser, mut displaced) = (lesser.into_iter(), Vec::new());
        while count >= MESH_OUTBOX_MESSAGES_MAX || bytes + len > MESH_OUTBOX_BYTES_MAX {
            let (id, message) = lesser.next().ok_or(Refused::Full)?;
            count -= 1;
            bytes -= message.payload.len();
            displaced.push(*id);
        }
        Ok(displaced)
    }

    fn remove(&mut self, id: MessageId, journal: &mut Journal) -> Option<Message> {
        let message = self.messages.remove(&id)?;
        self.bytes -= message.payload.len();
        journal.erase(key(id, STATE));
        journal.erase(key(id, MESSAGE));
        Some(message)
    }
}

/// A pause, a quarter shorter to a quarter longer.
pub(super) fn jittered(pause: Duration, rng: &mut Rng) -> Duration {
    let quarter = u64::try_from(pause.as_micros() / 4).unwrap_or(u64::MAX / 4);
    pause.saturating_sub(Duration::from_micros(quarter)) + Duration::from_micros(rng.below(2 * quarter + 1))
}

fn key(id: MessageId, part: u8) -> Key {
    let mut name = BytesMut::with_capacity(9);
    name.put_u64(id.0);
    name.put_u8(part);
    Key { table: Table::Outbox, id: name.freeze() }
}

/// What changes of a message.
struct State {
    ends_at: Time,
    step: Step,
    numbers: Option<Numbers>,
}

impl State {
    fn decode(value: &[u8], at: Moment) -> Result<Self, Invalid> {
        const WHAT: &str = "state of an own message";
        let mut reader = open(value, VERSION, WHAT)?;
        let step = match reader.u8(WHAT)? {
            0 => Step::Queued,
            1 => Step::Stored,
            _ => return Err(Invalid::Value { what: WHAT }),
        };
        let ends_at = end(&mut reader, at)?;
        let numbers = if reader.remaining() == 0 {
            None
        } else {
            let (first, pieces, piece_bytes) = (reader.u32(WHAT)?, reader.u8(WHAT)?, reader.u16(WHAT)?);
            Some(Numbers { first, pieces, piece_bytes })
        };
        reader.finish(WHAT)?;
        Ok(Self { ends_at, step, numbers })
    }
}

impl Message {
    fn encode(&self) -> Bytes {
        let mut out = versioned(VERSION);
        out.put_slice(&self.to.0);
        out.put_u8(self.priority as u8 | u8::from(self.receipt) << 2);
        put_bytes(&mut out, &self.payload);
        out.freeze()
    }

    fn encode_state(&self, at: Moment) -> Bytes {
        let mut out = versioned(VERSION);
        out.put_u8(u8::from(self.step == Step::Stored));
        put_end(&mut out, self.ends_at, at);
        if let Some(Numbers { first, pieces, piece_bytes }) = self.numbers {
            out.put_u32(first);
            out.put_u8(pieces);
            out.put_u16(piece_bytes);
        }
        out.freeze()
    }

    /// The part that never changes; the rest as for a new message.
    fn decode(value: &[u8], now: Time) -> Result<Self, Invalid> {
        const WHAT: &str = "own message";
        let mut reader = open(value, VERSION, WHAT)?;
        let to = Address(reader.array(WHAT)?);
        let flags = reader.u8(WHAT)?;
        if flags > 7 {
            return Err(Invalid::Value { what: WHAT });
        }
        let payload = Bytes::copy_from_slice(reader.bytes(MESH_MESSAGE_BYTES_MAX, WHAT)?);
        reader.finish(WHAT)?;
        Ok(Self {
            to,
            payload,
            priority: Priority::from_bits(flags),
            receipt: flags & 4 != 0,
            step: Step::Queued,
            numbers: None,
            ends_at: now,
            tries: 0,
            next_at: now,
            tried_at: None,
        })
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
