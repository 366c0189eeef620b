//! Own messages under way: numbered, sealed, sent, repeated until a receipt comes or their lifetime ends.

use bytes::Bytes;
use core::time::Duration;

use super::event::Outgoing;
use super::frame::FrameId;
use super::hint::{Address, Far};
use super::line::within;
use super::records::{Journal, Mark, Saved, Table};
use super::replay::{NoNumber, SendSeq};
use crate::limits::MESH_MESSAGES_MAX;
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::time::Time;

/// Numbers reserved on disk at a time.
const BLOCK: u32 = 256;
/// The record of our numbers.
const NAME: &[u8] = b"data";
/// Longest pause before a message is repeated.
const PAUSE_MAX: Duration = Duration::from_secs(900);
/// A message without receipt is sent no more often than this.
pub(super) const BLIND_TRIES_MAX: u8 = 3;

/// Where an own message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It needs a number that the disk knows of.
    Unnumbered,
    /// It needs a way, or a moment.
    Ready,
    /// It is on its way over the first hop.
    Passing,
    /// It left; its receipt may come.
    Awaiting,
}

/// An own message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) out: Outgoing,
    pub(super) to: Address,
    pub(super) state: State,
    pub(super) seq: u32,
    pub(super) frame: Bytes,
    pub(super) id: FrameId,
    /// How often it was given to a way.
    pub(super) attempts: u8,
    /// Whether the application knows that it left.
    pub(super) left: bool,
    pub(super) next_at: Time,
    pub(super) expires: Time,
}

/// All own messages under way, in the order they were taken on.
#[derive(Debug)]
pub(super) struct Messages {
    list: Vec<Message>,
    numbers: Option<SendSeq>,
}

impl Messages {
    pub(super) fn restore(saved: &mut Saved, journal: &mut Journal) -> Self {
        let mine = saved.take(Table::Sequence).find(|(name, _)| &name[..] == NAME).map(|(_, value)| value);
        let mine = mine.filter(|_| !planted::is(Bug::NumbersStartAgain));
        let numbers = SendSeq::restore(NAME, mine.as_deref(), BLOCK, u32::MAX, journal).ok();
        Self { list: Vec::new(), numbers }
    }

    /// Whether the record of our numbers is damaged.
    pub(super) const fn numbers_lost(&self) -> bool {
        self.numbers.is_none()
    }

    /// Takes a message on. False if there are too many.
    pub(super) fn add(&mut self, now: Time, out: Outgoing, lifetime: Duration) -> bool {
        if self.list.len() >= MESH_MESSAGES_MAX || self.list.iter().any(|known| known.out.id == out.id) {
            return false;
        }
        let to = Address::of(&out.to);
        self.list.push(Message {
            out,
            to,
            state: State::Unnumbered,
            seq: 0,
            frame: Bytes::new(),
            id: FrameId::default(),
            attempts: 0,
            left: false,
            next_at: now,
            expires: now + lifetime,
        });
        true
    }

    /// A fresh number.
    pub(super) fn number(&mut self, journal: &mut Journal) -> Result<u32, NoNumber> {
        self.numbers.as_mut().ok_or(NoNumber::Exhausted)?.take(journal)
    }

    /// The disk has what it was given: numbers may have become free.
    pub(super) fn synced(&mut self, now: Time, mark: Mark) {
        if let Some(numbers) = &mut self.numbers {
            numbers.synced(mark);
        }
        for message in self.list.iter_mut().filter(|message| message.state == State::Unnumbered) {
            message.next_at = now;
        }
    }

    /// A message that wants attention.
    pub(super) fn due(&mut self, now: Time) -> Option<&mut Message> {
        self.list.iter_mut().find(|message| message.wants_at() <= now)
    }

    pub(super) fn get(&mut self, id: u64) -> Option<&mut Message> {
        self.list.iter_mut().find(|message| message.out.id == id)
    }

    pub(super) fn by_frame(&mut self, id: &FrameId) -> Option<&mut Message> {
        self.list.iter_mut().find(|message| message.id == *id && message.state != State::Unnumbered)
    }

    pub(super) fn by_seq(&mut self, to: Far, seq: u32) -> Option<&mut Message> {
        let is = |message: &Message| {
            message.to.far() == to && message.seq == seq && message.state != State::Unnumbered
        };
        self.list.iter_mut().find(|message| is(message))
    }

    /// Whom a search by this hint is for.
    pub(super) fn whom(&self, far: Far) -> Option<Address> {
        self.list.iter().map(|message| message.to).find(|to| to.far() == far)
    }

    /// A way there became known, or the device was heard.
    pub(super) fn wake(&mut self, now: Time, far: Far) {
        for message in &mut self.list {
            if message.to.far() == far && message.state == State::Ready {
                message.next_at = message.next_at.min(now);
            }
        }
    }

    /// Nothing more is to be hoped for before `at`.
    pub(super) fn rest(&mut self, far: Far, at: Time) {
        for message in &mut self.list {
            if message.to.far() == far && message.state == State::Ready {
                message.next_at = at;
            }
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Message> {
        let at = self.list.iter().position(|message| message.out.id == id)?;
        Some(self.list.remove(at))
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.list.iter().map(Message::wants_at).min()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn to(&self, address: &Address) -> usize {
        self.list.iter().filter(|message| message.to == *address).count()
    }

    pub(super) fn bytes(&self) -> usize {
        self.list
            .iter()
            .map(|message| size_of::<Message>() + message.out.payload.len() + message.frame.len())
            .sum()
    }
}

impl Message {
    fn wants_at(&self) -> Time {
        match self.state {
            State::Passing => self.expires,
            State::Unnumbered | State::Ready | State::Awaiting => self.next_at.min(self.expires),
        }
    }

    /// How long to wait for the receipt of a message that went `hops` hops, at `hop_time` each. Doubles each time.
    pub(super) fn patience(&self, hops: u8, hop_time: Duration, rng: &mut Rng) -> Duration {
        let once = hop_time * (u32::from(hops) * 3 / 2 + 4);
        let wait = (once * (1 << self.attempts.saturating_sub(1).min(6))).min(PAUSE_MAX);
        wait + within(wait / 4, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;
    use crate::mesh::frame::Priority;

    fn outgoing(id: u64) -> Outgoing {
        let to = SecretKey::from_u64(1).id();
        let lifetime = Duration::from_secs(60);
        Outgoing {
            id,
            to,
            payload: Bytes::from_static(b"x"),
            priority: Priority::Normal,
            lifetime,
            receipt: true,
        }
    }

    fn messages() -> Messages {
        Messages::restore(&mut Saved::default(), &mut Journal::default())
    }

    #[test]
    fn messages_are_bounded_and_their_names_unique() {
        let mut messages = messages();
        let taken =
            (0..1000).filter(|n| messages.add(Time::ZERO, outgoing(*n), Duration::from_secs(60))).count();
        assert_eq!(taken, MESH_MESSAGES_MAX);
        messages.remove(5);
        assert!(!messages.add(Time::ZERO, outgoing(6), Duration::from_secs(60)), "a name twice");
    }

    #[test]
    fn a_message_waits_for_its_number_and_expires_without() {
        let mut messages = messages();
        messages.add(Time::ZERO, outgoing(1), Duration::from_secs(60));
        assert_eq!(messages.number(&mut Journal::default()), Err(NoNumber::Wait));
        messages.due(Time::ZERO).unwrap().next_at = Time::MAX;
        assert_eq!(messages.next_at(), Some(Time::from_millis(60_000)), "it expires all the same");
        messages.synced(Time::from_millis(5), Mark(1));
        assert!(messages.due(Time::from_millis(5)).is_some());
        assert_eq!(messages.number(&mut Journal::default()), Ok(0));
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        let mut messages = messages();
        messages.add(Time::ZERO, outgoing(1), Duration::from_secs(60));
        let mut rng = Rng::from_u64(1);
        let message = messages.get(1).unwrap();
        let mut pauses = Vec::new();
        for attempts in 1..100 {
            message.attempts = attempts;
            pauses.push(message.patience(3, Duration::from_secs(1), &mut rng));
        }
        assert!(pauses[0] < pauses[2] && pauses[2] < pauses[5]);
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX * 5 / 4));
    }
}
