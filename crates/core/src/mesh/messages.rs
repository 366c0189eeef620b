//! Own messages under way: numbered, written down, sent, repeated until a receipt comes or their lifetime ends.
//!
//! ```text
//!  Numbering ──number──▶ Writing ──on disk──▶ Ready ──a way──▶ Passing ──first hop has it──▶ Awaiting ──receipt──▶ over
//!                                               ▲                 │ nobody near takes it           │ silence
//!                                               └─────────────────┴────────────────────────────────┘
//! ```
//!
//! What a crash must not take is in the [`Outbox`]; how far a try has come is only here.

use bytes::Bytes;
use core::time::Duration;

use super::event::Outgoing;
use super::frame::{FrameId, Keep};
use super::hint::{Address, Far};
use super::line::within;
use super::outbox::{Message, Numbers, Outbox, Refused};
use super::pieces::Parts;
use super::records::{Journal, Mark, Moment, Saved, Table};
use super::replay::{NoNumber, SendSeq};
use crate::identity::DeviceId;
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::time::Time;

/// Numbers reserved on disk at a time.
const BLOCK: u32 = 256;
/// The record of our numbers.
const NAME: &[u8] = b"data";
/// Longest pause before a message is repeated, for the same reason as the longest rest of a search.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// How long whoever keeps a message has to deliver it, once its target is heard here.
const STORED_GRACE: Duration = Duration::from_secs(60);
/// A message without receipt is sent no more often than this.
pub(super) const BLIND_TRIES_MAX: u8 = 3;

/// Where an own message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It needs a number that the disk knows of.
    Numbering,
    /// It and its number are on their way to the disk.
    Writing(Mark),
    /// It needs a way, or a moment.
    Ready,
    /// It is on its way over the first hop.
    Passing,
    /// It left; its receipt may come.
    Awaiting,
}

/// An own message on its way.
#[derive(Debug)]
pub(super) struct Flight {
    /// Its name in the outbox.
    pub(super) id: u64,
    pub(super) to: Address,
    pub(super) receipt: bool,
    pub(super) state: State,
    /// As it goes over the air; empty until it is sealed.
    pub(super) frame: Bytes,
    pub(super) frame_id: FrameId,
    /// What that frame says of keeping it.
    pub(super) keep: Option<Keep>,
    /// A store node answers for it: not repeated before this, unless its target shows up.
    pub(super) stored_until: Time,
    /// The neighbour that said so: it keeps the message itself, or has the word of one that does.
    pub(super) keeper: Option<DeviceId>,
    /// Its pieces, if it goes in pieces and is on its way.
    pub(super) parts: Option<Box<Parts>>,
    /// How often it was given to a way.
    pub(super) attempts: u8,
    /// Whether the application knows that it was taken on.
    pub(super) told: bool,
    /// Whether the application knows that it left.
    pub(super) left: bool,
    pub(super) next_at: Time,
    /// It waits because ways failed, so hearing from the target again is no reason to try sooner.
    pub(super) paused: bool,
    pub(super) expires: Time,
}

/// All own messages under way, in the order they were taken on.
#[derive(Debug)]
pub(super) struct Messages {
    outbox: Outbox,
    flights: Vec<Flight>,
    numbers: Option<SendSeq>,
}

impl Messages {
    /// What the disk has, and how many records were damaged.
    pub(super) fn restore(saved: &mut Saved, at: Moment, journal: &mut Journal) -> (Self, usize) {
        let mine = saved.take(Table::Sequence).find(|(name, _)| &name[..] == NAME).map(|(_, value)| value);
        let mine = mine.filter(|_| !planted::is(Bug::NumbersStartAgain));
        let numbers = SendSeq::restore(NAME, mine.as_deref(), BLOCK, u32::MAX, journal).ok();
        let (outbox, damaged) = Outbox::restore(saved, at, journal);
        let mut flights: Vec<Flight> = outbox
            .iter()
            .map(|(id, message)| Flight { told: true, ..Flight::new(id, message, at.now) })
            .collect();
        // The order of the numbers is that in which they were taken on.
        flights.sort_by_key(|flight| {
            outbox.find(flight.id).and_then(|message| message.numbers).map(|n| n.first)
        });
        (Self { outbox, flights, numbers }, damaged)
    }

    /// Whether the record of our numbers is damaged.
    pub(super) const fn numbers_lost(&self) -> bool {
        self.numbers.is_none()
    }

    /// Takes a message on; gives the names of those that had to go for it.
    pub(super) fn add(
        &mut self,
        at: Moment,
        out: Outgoing,
        journal: &mut Journal,
    ) -> Result<Vec<u64>, Refused> {
        let id = out.id;
        let displaced = self.outbox.accept(at, out, journal)?;
        self.flights.retain(|flight| !displaced.contains(&flight.id));
        self.flights.extend(self.outbox.find(id).map(|message| Flight::new(id, message, at.now)));
        Ok(displaced)
    }

    /// Gives a message its numbers, one for each piece. Where it is kept on disk it waits there until these are.
    pub(super) fn number(
        &mut self,
        at: Moment,
        id: u64,
        (pieces, piece_bytes): (u8, u16),
        journal: &mut Journal,
    ) -> Result<(), NoNumber> {
        let (Some(message), Some(flight)) =
            (self.outbox.find(id), self.flights.iter_mut().find(|flight| flight.id == id))
        else {
            return Ok(());
        };
        let durable = message.durable;
        let first = self.numbers.as_mut().ok_or(NoNumber::Exhausted)?.take_run(pieces, journal)?;
        self.outbox.number(at, id, Numbers { first, pieces, piece_bytes }, journal);
        (flight.state, flight.next_at) =
            if durable { (State::Writing(journal.sync()), Time::MAX) } else { (State::Ready, at.now) };
        Ok(())
    }

    /// A number for something else than a message.
    pub(super) fn take_number(&mut self, journal: &mut Journal) -> Result<u32, NoNumber> {
        self.numbers.as_mut().ok_or(NoNumber::Exhausted)?.take(journal)
    }

    /// The number that comes next at the earliest.
    pub(super) fn next_number(&self) -> u32 {
        self.numbers.as_ref().map_or(0, SendSeq::next)
    }

    /// The disk has what it was given. Gives the messages that are safe from now on.
    pub(super) fn synced(&mut self, now: Time, mark: Mark) -> Vec<u64> {
        if let Some(numbers) = &mut self.numbers {
            numbers.synced(mark);
        }
        let mut safe = Vec::new();
        for flight in &mut self.flights {
            match flight.state {
                State::Numbering => flight.next_at = now,
                State::Writing(needs) if needs <= mark => {
                    (flight.state, flight.next_at) = (State::Ready, now);
                    if !core::mem::replace(&mut flight.told, true) {
                        safe.push(flight.id);
                    }
                }
                State::Writing(_) | State::Ready | State::Passing | State::Awaiting => {}
            }
        }
        safe
    }

    /// A message that wants attention.
    pub(super) fn due(&mut self, now: Time) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.wants_at() <= now)
    }

    pub(super) fn get(&mut self, id: u64) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.id == id)
    }

    /// What is to be sent under this name.
    pub(super) fn message(&self, id: u64) -> Option<&Message> {
        self.outbox.find(id)
    }

    pub(super) fn by_frame(&mut self, id: &FrameId) -> Option<&mut Flight> {
        let is = |flight: &&mut Flight| match &flight.parts {
            Some(parts) => parts.has(id),
            None => flight.frame_id == *id && !flight.frame.is_empty(),
        };
        self.flights.iter_mut().find(is)
    }

    /// The message for `to` with this number.
    pub(super) fn by_seq(&mut self, to: &Address, seq: u32) -> Option<&mut Flight> {
        let id = self.outbox.numbered(to, seq)?;
        self.get(id)
    }

    /// As [`Messages::by_seq`], where only a hint of the target is known.
    pub(super) fn by_hint(&mut self, to: Far, seq: u32) -> Option<&mut Flight> {
        let id = self.outbox.hinted(to, seq)?;
        self.get(id)
    }

    /// Whom a search by this hint is for.
    pub(super) fn whom(&self, far: Far) -> Option<Address> {
        self.flights.iter().map(|flight| flight.to).find(|to| to.far() == far)
    }

    /// Whom messages under way are for.
    pub(super) fn targets(&self) -> impl Iterator<Item = DeviceId> {
        self.outbox.iter().map(|(_, message)| message.to)
    }

    /// A way there became known, where none was (`new`) or another was.
    pub(super) fn wake(&mut self, now: Time, far: Far, new: bool) {
        for flight in self.flights.iter_mut().filter(|flight| flight.to.far() == far) {
            if flight.stored_until > now {
                // Whoever keeps it is about to deliver it; only if that fails it is our turn.
                if new && matches!(flight.state, State::Ready | State::Awaiting) {
                    flight.next_at = flight.next_at.min(now + STORED_GRACE);
                }
            } else if flight.state == State::Ready && (new || !flight.paused) {
                flight.next_at = flight.next_at.min(now);
            }
        }
    }

    /// There may be ways for all of them at `at`.
    pub(super) fn wake_all(&mut self, at: Time) {
        for flight in self.flights.iter_mut().filter(|flight| flight.state == State::Ready) {
            let at = if flight.stored_until > at { at + STORED_GRACE } else { at };
            flight.next_at = flight.next_at.min(at);
        }
    }

    /// Nothing more is to be hoped for before `at`.
    pub(super) fn rest(&mut self, far: Far, at: Time) {
        for flight in &mut self.flights {
            if flight.to.far() == far && flight.state == State::Ready {
                flight.next_at = at.max(flight.stored_until);
            }
        }
    }

    /// Messages for `far` that nobody answers for yet, with no way to go.
    pub(super) fn waiting(&self, now: Time, far: Far) -> Vec<u64> {
        let waits = |flight: &&Flight| {
            flight.to.far() == far
                && flight.state == State::Ready
                && flight.receipt
                && flight.stored_until <= now
        };
        self.flights.iter().filter(waits).map(|flight| flight.id).collect()
    }

    /// A store node answers for a message. True if that is news.
    pub(super) fn stored(
        &mut self,
        at: Moment,
        id: u64,
        (keeper, until): (DeviceId, Time),
        journal: &mut Journal,
    ) -> bool {
        if let Some(flight) = self.get(id) {
            (flight.keeper, flight.stored_until) = (Some(keeper), until);
            (flight.state, flight.next_at) = (State::Awaiting, until);
        }
        self.outbox.stored(at, id, journal)
    }

    /// A message is over.
    pub(super) fn remove(&mut self, id: u64, journal: &mut Journal) -> Option<Flight> {
        self.outbox.remove(id, journal);
        let at = self.flights.iter().position(|flight| flight.id == id)?;
        Some(self.flights.remove(at))
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.flights.iter().map(Flight::wants_at).min()
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Who answers for messages to one device, each once.
    pub(super) fn keepers(&self, address: &Address) -> Vec<DeviceId> {
        let to = self.flights.iter().filter(|flight| flight.to == *address);
        let mut keepers: Vec<DeviceId> = to.filter_map(|flight| flight.keeper).collect();
        keepers.sort_unstable();
        keepers.dedup();
        keepers
    }

    /// Whether a message for `far` is kept by somebody.
    pub(super) fn is_kept(&self, now: Time, far: Far) -> bool {
        self.flights.iter().any(|flight| flight.to.far() == far && flight.stored_until > now)
    }

    /// Who answers for one message.
    pub(super) fn keeper(&self, id: u64) -> Option<DeviceId> {
        self.flights.iter().find(|flight| flight.id == id)?.keeper
    }

    /// The names of all that are for one device.
    pub(super) fn names_to(&self, address: &Address) -> Vec<u64> {
        self.flights.iter().filter(|flight| flight.to == *address).map(|flight| flight.id).collect()
    }

    pub(super) fn to(&self, address: &Address) -> usize {
        self.flights.iter().filter(|flight| flight.to == *address).count()
    }

    pub(super) fn bytes(&self) -> usize {
        let frames: usize = self.flights.iter().map(|flight| flight.frame.len()).sum();
        self.flights.len() * (size_of::<Flight>() + size_of::<Message>() * 3 / 2)
            + self.outbox.bytes()
            + frames
    }
}

impl Flight {
    const fn new(id: u64, message: &Message, now: Time) -> Self {
        let state = if message.numbers.is_some() { State::Ready } else { State::Numbering };
        Self {
            id,
            to: message.address,
            receipt: message.receipt,
            state,
            frame: Bytes::new(),
            frame_id: [0; 8],
            keep: None,
            stored_until: Time::ZERO,
            keeper: None,
            parts: None,
            attempts: 0,
            told: false,
            left: false,
            next_at: now,
            paused: false,
            expires: message.ends_at,
        }
    }

    /// It must be sealed afresh before it is sent again. Gives the frame that nobody need pass on any more.
    pub(super) fn seal_again(&mut self, now: Time) -> FrameId {
        let frame = self.frame_id;
        self.frame = Bytes::new();
        if matches!(self.state, State::Passing | State::Awaiting) {
            (self.state, self.next_at) = (State::Ready, now);
        }
        frame
    }

    fn wants_at(&self) -> Time {
        match self.state {
            State::Passing => self.expires,
            State::Numbering | State::Writing(_) | State::Ready | State::Awaiting => {
                self.next_at.min(self.expires)
            }
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
    use crate::limits::MESH_OUTBOX_MESSAGES_MAX;
    use crate::mesh::frame::Priority;

    fn at(ms: u64) -> Moment {
        Moment::unclocked(Time::from_millis(ms))
    }

    fn outgoing(id: u64) -> Outgoing {
        Outgoing {
            id,
            to: SecretKey::from_u64(1).id(),
            payload: Bytes::from_static(b"x"),
            priority: Priority::Normal,
            lifetime: Duration::from_secs(3600),
            receipt: true,
        }
    }

    fn messages(journal: &mut Journal) -> Messages {
        Messages::restore(&mut Saved::default(), at(0), journal).0
    }

    #[test]
    fn messages_are_bounded_and_their_names_unique() {
        let mut journal = Journal::default();
        let mut messages = messages(&mut journal);
        let taken = (0..1000).filter(|n| messages.add(at(0), outgoing(*n), &mut journal).is_ok()).count();
        assert_eq!(taken, MESH_OUTBOX_MESSAGES_MAX);
        messages.remove(5, &mut journal);
        assert_eq!(messages.add(at(0), outgoing(6), &mut journal), Err(Refused::Known));
        assert_eq!(messages.len(), MESH_OUTBOX_MESSAGES_MAX - 1);
    }

    #[test]
    fn a_message_waits_for_its_number_and_then_for_the_disk_and_expires_all_the_same() {
        let mut journal = Journal::default();
        let mut messages = messages(&mut journal);
        messages.add(at(0), outgoing(1), &mut journal).unwrap();
        assert_eq!(messages.number(at(0), 1, (1, 200), &mut journal), Err(NoNumber::Wait));
        messages.get(1).unwrap().next_at = Time::MAX;
        assert_eq!(messages.next_at(), Some(Time::from_millis(3_600_000)));
        assert_eq!(messages.synced(Time::from_millis(5), Mark(1)), []);
        assert!(messages.due(Time::from_millis(5)).is_some());
        assert_eq!(messages.number(at(5), 1, (1, 200), &mut journal), Ok(()));
        assert!(messages.due(Time::from_millis(5)).is_none(), "its number is not safe yet");
        assert_eq!(messages.synced(Time::from_millis(9), Mark(2)), [1]);
        assert_eq!(messages.due(Time::from_millis(9)).map(|flight| flight.state), Some(State::Ready));
    }

    #[test]
    fn what_was_accepted_comes_back_after_a_crash_with_its_number() {
        let (mut journal, mut disk) = (Journal::default(), crate::mesh::disk_model::Disk::default());
        let mut messages = messages(&mut journal);
        let mark = disk.sync(&mut journal).unwrap();
        messages.synced(Time::ZERO, mark);
        for id in 1..=3 {
            messages.add(at(0), outgoing(id), &mut journal).unwrap();
            messages.number(at(0), id, (1, 200), &mut journal).unwrap();
        }
        let mark = disk.sync(&mut journal).unwrap();
        assert_eq!(messages.synced(Time::ZERO, mark), [1, 2, 3]);
        let numbers = |messages: &Messages| -> Vec<_> {
            (1..=3).map(|id| messages.message(id).and_then(|message| message.numbers)).collect()
        };
        let before = numbers(&messages);
        let mut saved = disk.crash(&mut journal, 0);
        let (mut messages, damaged) = Messages::restore(&mut saved, at(0), &mut journal);
        assert_eq!((damaged, messages.len()), (0, 3));
        assert_eq!(numbers(&messages), before);
        assert_eq!(messages.due(Time::ZERO).map(|flight| (flight.id, flight.state)), Some((1, State::Ready)));
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        let (mut journal, mut rng) = (Journal::default(), Rng::from_u64(1));
        let mut messages = messages(&mut journal);
        messages.add(at(0), outgoing(1), &mut journal).unwrap();
        let flight = messages.get(1).unwrap();
        let mut pauses = Vec::new();
        for attempts in 1..100 {
            flight.attempts = attempts;
            pauses.push(flight.patience(3, Duration::from_secs(1), &mut rng));
        }
        assert!(pauses[0] < pauses[2] && pauses[2] < pauses[5]);
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX * 5 / 4));
    }
}
