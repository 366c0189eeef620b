//! Own messages as the disk has them, from the moment the application hands them over until their receipt or their end.
//!
//! This is the book; when and how a message is tried is the affair of the module `messages`. What the book says after a
//! crash is what the application was told before it: a message that was accepted is there, with the numbers that its
//! frames had. Every try uses these, cut into the same pieces, so that the target knows a repeat for one, even if the
//! sender has lost its power in between.
//!
//! # On disk
//!
//! Two records: the message, written once, and a short one with what changes (end, numbers, whether a store node has it).
//! If a crash loses the short one, the message's is erased: the application was never told that it is safe. A short record
//! without its message is erased too.
//!
//! A message whose lifetime is no longer than [`MESH_VOLATILE_LIFETIME_MAX`] is not written: it would be over before
//! the node is up again.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::event::Outgoing;
use super::hint::{Address, Far};
use super::records::{Journal, Key, Moment, Saved, Table, end, open, put_end, versioned};
use super::units::Priority;
use crate::identity::DeviceId;
use crate::limits::{
    MESH_LIFETIME_MAX, MESH_MESSAGE_BYTES_MAX, MESH_OUTBOX_BYTES_MAX, MESH_OUTBOX_MESSAGES_MAX,
    MESH_VOLATILE_LIFETIME_MAX,
};
use crate::planted::{self, Bug};
use crate::time::Time;
use crate::wire::{Invalid, put_bytes};

const VERSION: u8 = 1;
/// Last byte of a record's key.
const MESSAGE: u8 = 0;
/// See [`MESSAGE`].
const STATE: u8 = 1;

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
    pub to: DeviceId,
    /// That device's address.
    pub address: Address,
    /// Its bytes.
    pub payload: Bytes,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether the target is to confirm it.
    pub receipt: bool,
    /// Whether a store node answers for it.
    pub stored: bool,
    /// Its sequence numbers, once it has some.
    pub numbers: Option<Numbers>,
    /// When it is worth nothing any more.
    pub ends_at: Time,
    /// Whether it is kept on disk.
    pub durable: bool,
}

impl Message {
    /// Whether one of its numbers is `seq`.
    fn has(&self, seq: u32) -> bool {
        self.numbers.is_some_and(|n| seq.wrapping_sub(n.first) < u32::from(n.pieces))
    }
}

/// Own messages under way. See the [module](self).
#[derive(Debug, Default)]
pub struct Outbox {
    messages: BTreeMap<u64, Message>,
    bytes: usize,
}

impl Outbox {
    /// The messages as the disk has them, and how many records were damaged and erased.
    pub fn restore(saved: &mut Saved, at: Moment, journal: &mut Journal) -> (Self, usize) {
        let (mut bodies, mut states, mut damaged) = (BTreeMap::new(), BTreeMap::new(), 0);
        for (id, value) in saved.take(Table::Outbox).filter(|_| !planted::is(Bug::OutboxForgotten)) {
            let name = id
                .split_last_chunk::<1>()
                .and_then(|(name, part)| Some((u64::from_be_bytes(name.try_into().ok()?), part[0])));
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
            (message.ends_at, message.stored) = (state.ends_at, state.stored);
            message.numbers = state.numbers.filter(|_| !planted::is(Bug::NumberAfresh));
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
    ) -> Result<Vec<u64>, Refused> {
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
            address: Address::of(&to),
            payload,
            priority,
            receipt,
            stored: false,
            numbers: None,
            ends_at: at.now + lifetime.min(MESH_LIFETIME_MAX),
            durable: lifetime > MESH_VOLATILE_LIFETIME_MAX,
        };
        if message.durable {
            journal.save(key(id, MESSAGE), message.encode());
            journal.save(key(id, STATE), message.encode_state(at));
        }
        self.bytes += message.payload.len();
        self.messages.insert(id, message);
        Ok(displaced)
    }

    /// A message under way.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<&Message> {
        self.messages.get(&id)
    }

    /// All messages under way, by name.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Message)> {
        self.messages.iter().map(|(id, message)| (*id, message))
    }

    /// The message for `to` that has this sequence number, be it of a piece.
    #[must_use]
    pub fn numbered(&self, to: &Address, seq: u32) -> Option<u64> {
        self.iter().find(|(_, message)| message.address == *to && message.has(seq)).map(|(id, _)| id)
    }

    /// As [`Outbox::numbered`], where only a hint of the target is known.
    #[must_use]
    pub fn hinted(&self, to: Far, seq: u32) -> Option<u64> {
        self.iter().find(|(_, message)| message.address.far() == to && message.has(seq)).map(|(id, _)| id)
    }

    /// Gives a message its sequence numbers, before its first try. They are not changed once given.
    pub fn number(&mut self, at: Moment, id: u64, numbers: Numbers, journal: &mut Journal) {
        if let Some(message) = self.messages.get_mut(&id).filter(|message| message.numbers.is_none()) {
            message.numbers = Some(numbers);
            message.save_state(at, id, journal);
        }
    }

    /// A store node answers for a message. True if that is news.
    pub fn stored(&mut self, at: Moment, id: u64, journal: &mut Journal) -> bool {
        let Some(message) = self.messages.get_mut(&id).filter(|message| !message.stored) else {
            return false;
        };
        message.stored = true;
        message.save_state(at, id, journal);
        true
    }

    /// A message is over.
    pub fn remove(&mut self, id: u64, journal: &mut Journal) -> Option<Message> {
        let message = self.messages.remove(&id)?;
        self.bytes -= message.payload.len();
        if message.durable {
            journal.erase(key(id, STATE));
            journal.erase(key(id, MESSAGE));
        }
        Some(message)
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
    fn displaced_by(&self, priority: Priority, len: usize) -> Result<Vec<u64>, Refused> {
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
}

fn key(id: u64, part: u8) -> Key {
    let mut name = BytesMut::with_capacity(9);
    name.put_u64(id);
    name.put_u8(part);
    Key { table: Table::Outbox, id: name.freeze() }
}

/// What changes of a message.
struct State {
    ends_at: Time,
    stored: bool,
    numbers: Option<Numbers>,
}

impl State {
    fn decode(value: &[u8], at: Moment) -> Result<Self, Invalid> {
        const WHAT: &str = "state of an own message";
        let mut reader = open(value, VERSION, WHAT)?;
        let stored = match reader.u8(WHAT)? {
            0 => false,
            1 => true,
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
        Ok(Self { ends_at, stored, numbers })
    }
}

impl Message {
    fn encode(&self) -> Bytes {
        let mut out = versioned(VERSION);
        out.put_slice(self.to.as_bytes());
        out.put_u8(self.priority as u8 | u8::from(self.receipt) << 2);
        put_bytes(&mut out, &self.payload);
        out.freeze()
    }

    fn save_state(&self, at: Moment, id: u64, journal: &mut Journal) {
        if self.durable {
            journal.save(key(id, STATE), self.encode_state(at));
        }
    }

    fn encode_state(&self, at: Moment) -> Bytes {
        let mut out = versioned(VERSION);
        out.put_u8(u8::from(self.stored));
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
        let to = reader.array(WHAT)?;
        let to = DeviceId::from_bytes(to).map_err(|_| Invalid::Value { what: WHAT })?;
        let flags = reader.u8(WHAT)?;
        if flags > 7 {
            return Err(Invalid::Value { what: WHAT });
        }
        let payload = Bytes::copy_from_slice(reader.bytes(MESH_MESSAGE_BYTES_MAX, WHAT)?);
        reader.finish(WHAT)?;
        Ok(Self {
            to,
            address: Address::of(&to),
            payload,
            priority: Priority::from_bits(flags),
            receipt: flags & 4 != 0,
            stored: false,
            numbers: None,
            ends_at: now,
            durable: true,
        })
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
