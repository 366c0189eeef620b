//! Who is at a relay, how much each may hold, and what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use honeylink_core::pairing::limiter::Source;
use tokio::sync::mpsc;

use super::frame;

/// Messages waiting for one guest.
const QUEUE_MESSAGES_MAX: usize = 512;
/// Bytes waiting for one guest.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Devices a guest spoke to that are told when it leaves.
const SPOKEN_TO_MAX: usize = 1024;

/// What a relay counted since it started.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: AtomicU64,
    pub(super) refused_access: AtomicU64,
    pub(super) refused_busy: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) passed: AtomicU64,
    pub(super) passed_bytes: AtomicU64,
    pub(super) absent: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) throttled: AtomicU64,
    pub(super) discoveries: AtomicU64,
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The guests of a relay.
#[derive(Debug, Default)]
pub(super) struct Guests {
    seats: Mutex<BTreeMap<[u8; 32], Seat>>,
    next: AtomicU64,
    pub(super) counts: Counts,
}

#[derive(Clone, Debug)]
struct Seat {
    number: u64,
    inbox: Inbox,
    knows_status: bool,
}

/// Where messages for a guest go.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    messages: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl Inbox {
    /// Adds a message, or says that there is no room for it.
    pub(super) fn put(&self, message: Bytes) -> bool {
        let len = message.len();
        if self.bytes.fetch_add(len, Ordering::Relaxed) + len > QUEUE_BYTES_MAX
            || self.messages.try_send(message).is_err()
        {
            self.bytes.fetch_sub(len, Ordering::Relaxed);
            return false;
        }
        true
    }
}

/// The other end of an [`Inbox`].
#[derive(Debug)]
pub(super) struct Outbox {
    messages: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl Outbox {
    /// Waits for messages and takes up to `max`; none if nobody can put any more in.
    pub(super) async fn take(&mut self, into: &mut Vec<Bytes>, max: usize) -> usize {
        let taken = self.messages.recv_many(into, max).await;
        let bytes = into.iter().map(Bytes::len).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        taken
    }
}

/// A place at the relay; left when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    guests: Arc<Guests>,
    id: DeviceId,
    number: u64,
    spoken_to: BTreeSet<[u8; 32]>,
    pub(super) inbox: Inbox,
}

impl Guests {
    fn seats(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.seats().len()
    }

    /// Gives a device its place. Whoever had it before, most likely its own connection that died unnoticed, gets nothing
    /// more.
    pub(super) fn seat(self: &Arc<Self>, id: DeviceId, knows_status: bool) -> (Place, Outbox) {
        let (messages, receiver) = mpsc::channel(QUEUE_MESSAGES_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        let inbox = Inbox { messages, bytes: bytes.clone() };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { number, inbox: inbox.clone(), knows_status };
        let before = self.seats().insert(*id.as_bytes(), seat);
        if let Some(before) = before.filter(|before| before.knows_status) {
            before.inbox.put(frame::status(frame::Status::Replaced));
        }
        count(&self.counts.accepted);
        let place = Place { guests: self.clone(), id, number, spoken_to: BTreeSet::new(), inbox };
        (place, Outbox { messages: receiver, bytes })
    }

    fn inbox_of(&self, id: &[u8; 32]) -> Option<Inbox> {
        self.seats().get(id).map(|seat| seat.inbox.clone())
    }
}

impl Place {
    /// Passes a message on to another guest, if it is there and has room: datagrams may be lost.
    pub(super) fn pass(&mut self, to: [u8; 32], message: Bytes) {
        let counts = &self.guests.counts;
        let Some(inbox) = self.guests.inbox_of(&to) else {
            count(&counts.absent);
            return;
        };
        let len = message.len() as u64;
        if !inbox.put(message) {
            count(&counts.dropped);
            return;
        }
        count(&counts.passed);
        counts.passed_bytes.fetch_add(len, Ordering::Relaxed);
        if self.spoken_to.len() < SPOKEN_TO_MAX {
            self.spoken_to.insert(to);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut seats = self.guests.seats();
        // Another connection of the same device may have it by now, and then nobody has left.
        if seats.get(self.id.as_bytes()).is_none_or(|seat| seat.number != self.number) {
            return;
        }
        seats.remove(self.id.as_bytes());
        for other in &self.spoken_to {
            if let Some(seat) = seats.get(other) {
                seat.inbox.put(frame::gone(self.id.as_bytes()));
            }
        }
    }
}

/// Connections by where they come from: an IPv4 address or an IPv6 network of 64 bits.
#[derive(Debug)]
pub(super) struct Sources {
    open: Mutex<BTreeMap<Source, usize>>,
    each_max: usize,
}

/// One connection of a source; given back when dropped.
#[derive(Debug)]
pub(super) struct Admission {
    sources: Arc<Sources>,
    source: Source,
}

impl Sources {
    pub(super) fn new(each_max: usize) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), each_max })
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Source, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for one more connection of this source, if there is. The number of sources is bounded by that of connections.
    pub(super) fn admit(self: &Arc<Self>, source: Source) -> Option<Admission> {
        let mut open = self.open();
        let held = open.get(&source).copied().unwrap_or_default();
        if held >= self.each_max {
            return None;
        }
        open.insert(source, held + 1);
        Some(Admission { sources: self.clone(), source })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.sources.open();
        if let Some(held) = open.get_mut(&self.source) {
            *held -= 1;
            if *held == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;

    fn key(seed: u64) -> DeviceId {
        SecretKey::from_u64(seed).id()
    }

    async fn next(outbox: &mut Outbox) -> Bytes {
        let mut messages = Vec::new();
        outbox.take(&mut messages, 1).await;
        messages.remove(0)
    }

    #[tokio::test]
    async fn a_guest_that_left_is_told_to_those_it_spoke_to_and_to_nobody_else() {
        let guests = Arc::new(Guests::default());
        let (mut a, _a) = guests.seat(key(1), true);
        let (_b_place, mut b) = guests.seat(key(2), true);
        let (_c_place, mut c) = guests.seat(key(3), true);
        a.pass(*key(2).as_bytes(), Bytes::from_static(b"x"));
        a.pass(*key(9).as_bytes(), Bytes::from_static(b"nobody is there"));
        drop(a);
        assert_eq!(next(&mut b).await, "x");
        assert_eq!(next(&mut b).await, frame::gone(key(1).as_bytes()));
        assert_eq!(guests.len(), 2);
        assert!(tokio::time::timeout(std::time::Duration::ZERO, next(&mut c)).await.is_err());
        assert_eq!(guests.counts.absent.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_second_connection_of_a_device_gets_its_datagrams_and_the_first_one_leaves_without_a_word() {
        let guests = Arc::new(Guests::default());
        let (mut other, mut outbox) = guests.seat(key(2), true);
        let (mut old, mut old_outbox) = guests.seat(key(1), true);
        old.pass(*key(2).as_bytes(), Bytes::from_static(b"x"));
        let (_new, mut new_outbox) = guests.seat(key(1), true);
        assert_eq!(next(&mut old_outbox).await, frame::status(frame::Status::Replaced));
        drop(old);
        other.pass(*key(1).as_bytes(), Bytes::from_static(b"y"));
        assert_eq!(next(&mut new_outbox).await, "y");
        assert_eq!(next(&mut outbox).await, "x");
        assert!(tokio::time::timeout(std::time::Duration::ZERO, next(&mut outbox)).await.is_err());
    }

    #[tokio::test]
    async fn a_guest_that_takes_nothing_costs_no_more_than_its_queue() {
        let guests = Arc::new(Guests::default());
        let (mut a, _a) = guests.seat(key(1), true);
        let (_b, mut outbox) = guests.seat(key(2), true);
        for _ in 0..4 * QUEUE_BYTES_MAX / (64 << 10) {
            a.pass(*key(2).as_bytes(), Bytes::from(vec![0; 64 << 10]));
        }
        assert_eq!(guests.counts.passed.load(Ordering::Relaxed), (QUEUE_BYTES_MAX / (64 << 10)) as u64);
        assert!(guests.counts.dropped.load(Ordering::Relaxed) > 0);
        let mut messages = Vec::new();
        outbox.take(&mut messages, 100).await;
        a.pass(*key(2).as_bytes(), Bytes::from_static(b"there is room again"));
        assert_eq!(next(&mut outbox).await, "there is room again");
    }

    #[test]
    fn one_source_has_so_many_connections_and_others_have_theirs() {
        let sources = Sources::new(2);
        let from = |ip: &str| Source::of(ip.parse().unwrap());
        let held: Vec<_> = (0..2).map(|_| sources.admit(from("192.0.2.1")).unwrap()).collect();
        assert!(sources.admit(from("192.0.2.1")).is_none());
        assert!(sources.admit(from("192.0.2.2")).is_some());
        drop(held);
        assert!(sources.admit(from("192.0.2.1")).is_some());
    }
}
