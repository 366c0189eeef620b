//! Outbox, sequence numbers, fragments and replay windows together, between two devices that crash and a path that loses,
//! doubles and reorders. Every message is delivered; an application that keeps its messages in the same transaction as the
//! windows has each exactly once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;

use super::disk_model::Disk;
use super::event::Outgoing;
use super::fragment::{Arrival, Assembly, Incoming, Pace, Split, Step};
use super::hint::Address;
use super::outbox::{Numbers, Outbox};
use super::records::{Journal, Key, Mark, Moment, Saved, Table};
use super::replay::{Replay, SendSeq, Verdict};
use super::units::Priority;
use crate::identity::{DeviceId, SecretKey};
use crate::rng::Rng;
use crate::time::Time;

const ALICE: Address = Address([1; 16]);

fn bob() -> DeviceId {
    SecretKey::from_u64(2).id()
}

const PIECE_BYTES: u16 = 50;
const HOLD: Duration = Duration::from_millis(300);
const ROUND_TRIP: Duration = Duration::from_secs(2);
/// Where Bob's application keeps what it was given. Any table that no part under test owns.
const INBOX: Table = Table::Route;

/// What travels between the two.
#[derive(Clone, Debug)]
enum Frame {
    Data { seq: u32, index: u8, count: u8, ask: bool, body: Bytes },
    Status { first: u32, bitmap: Bytes },
    Receipt { first: u32 },
}

/// The path, and how bad it and the devices are.
struct World {
    rng: Rng,
    now: Time,
    nth: u64,
    to_alice: BTreeMap<(Time, u64), Frame>,
    to_bob: BTreeMap<(Time, u64), Frame>,
    lose_percent: u64,
    crash_per_mille: u64,
    /// Whether the disks keep what lies between two marks as one.
    transactions: bool,
}

impl World {
    fn chance(&mut self, of: u64, outof: u64) -> bool {
        self.rng.below(outof) < of
    }

    fn carry(&mut self, to_bob: bool, frame: &Frame) {
        let copies =
            u64::from(!self.chance(self.lose_percent, 100)) + u64::from(self.chance(self.lose_percent, 200));
        for _ in 0..copies {
            self.nth += 1;
            let at = self.now + Duration::from_millis(20 + self.rng.below(1500));
            if to_bob { &mut self.to_bob } else { &mut self.to_alice }.insert((at, self.nth), frame.clone());
        }
    }

    fn arrived(&mut self, at_bob: bool) -> Option<Frame> {
        let queue = if at_bob { &mut self.to_bob } else { &mut self.to_alice };
        let first = queue.first_entry().filter(|entry| entry.key().0 <= self.now)?;
        Some(first.remove())
    }

    fn crash(&mut self, disk: &mut Disk, journal: &mut Journal) -> Saved {
        let survive = self.rng.below(6) as usize;
        if self.transactions { disk.crash_whole(journal, survive) } else { disk.crash(journal, survive) }
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, unix_ms: Some(1_000_000_000_000 + self.now.as_micros() / 1000) }
    }
}

#[derive(Debug)]
struct Alice {
    outbox: Outbox,
    numbers: SendSeq,
    splits: BTreeMap<u64, Split>,
    /// When each is tried again, and how often it was.
    due: BTreeMap<u64, (Time, u32)>,
    /// Messages whose numbers may go on air once this is answered.
    held_back: BTreeMap<u64, Mark>,
    journal: Journal,
    disk: Disk,
}

impl Alice {
    fn start(mut saved: Saved, disk: Disk, at: Moment) -> Self {
        let mut journal = Journal::default();
        let used = saved.take(Table::Sequence).next().map(|(_, value)| value);
        let numbers = SendSeq::restore(b"own", used.as_deref(), 8, u32::MAX, &mut journal).unwrap();
        let (outbox, damaged) = Outbox::restore(&mut saved, at, &mut journal);
        assert_eq!(damaged, 0);
        let (splits, due, held_back) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { outbox, numbers, splits, due, held_back, journal, disk }
    }

    fn crash(mut self, world: &mut World) -> Self {
        let saved = world.crash(&mut self.disk, &mut self.journal);
        Self::start(saved, self.disk, world.moment())
    }

    /// Sends what is due and what the window has room for.
    fn step(&mut self, world: &mut World) {
        let is_due = |id: &u64| self.due.get(id).is_none_or(|(at, _)| *at <= world.now);
        let ids: Vec<u64> = self.outbox.iter().map(|(id, _)| id).filter(is_due).collect();
        for id in ids {
            self.attempt(id, world);
        }
        let mut frames = Vec::new();
        for (id, split) in &mut self.splits {
            split.timeout(world.now);
            let Some(numbers) = self.outbox.find(*id).and_then(|message| message.numbers) else { continue };
            while let Some(piece) = split.next_piece() {
                let (index, count) = (piece.index, numbers.pieces);
                let seq = numbers.first + u32::from(index);
                frames.push(Frame::Data { seq, index, count, ask: piece.ask, body: piece.body });
                split.sent(world.now, index, true);
            }
        }
        for frame in frames {
            world.carry(true, &frame);
        }
    }

    fn attempt(&mut self, id: u64, world: &mut World) {
        let soon = world.now + Duration::from_millis(100);
        let message = self.outbox.find(id).unwrap();
        let (payload, numbered) = (message.payload.clone(), message.numbers);
        let Some(numbers) = numbered else {
            let pieces = u8::try_from(payload.len().div_ceil(usize::from(PIECE_BYTES))).unwrap();
            if let Ok(first) = self.numbers.take_run(pieces, &mut self.journal) {
                let numbers = Numbers { first, pieces, piece_bytes: PIECE_BYTES };
                self.outbox.number(world.moment(), id, numbers, &mut self.journal);
                self.held_back.insert(id, self.journal.sync());
            }
            self.due.insert(id, (soon, 0));
            return;
        };
        if self.held_back.contains_key(&id) {
            self.due.insert(id, (soon, 0));
            return;
        }
        if numbers.pieces == 1 {
            let frame = Frame::Data { seq: numbers.first, index: 0, count: 1, ask: false, body: payload };
            world.carry(true, &frame);
        } else if self.splits.get(&id).is_none_or(|split| split.step() != Step::Going) {
            let pace = Pace { patience: ROUND_TRIP, window: 4 };
            let split = Split::new(payload, numbers.piece_bytes.into(), pace).unwrap();
            assert_eq!(split.count(), numbers.pieces);
            self.splits.insert(id, split);
        }
        let tries = self.due.get(&id).map_or(0, |(_, tries)| *tries);
        self.due.insert(id, (world.now + ROUND_TRIP * 2 * (1 << tries.min(9)), tries + 1));
    }

    fn take(&mut self, frame: Frame, world: &World) -> Option<u64> {
        match frame {
            Frame::Receipt { first } => {
                let id = self.outbox.numbered(&Address::of(&bob()), first)?;
                self.outbox.remove(id, &mut self.journal);
                self.splits.remove(&id);
                Some(id)
            }
            Frame::Status { first, bitmap } => {
                let named = |id: &u64| {
                    self.outbox.find(*id).and_then(|m| m.numbers).is_some_and(|n| n.first == first)
                };
                if let Some((_, split)) = self.splits.iter_mut().find(|(id, _)| named(id)) {
                    split.status(world.now, &bitmap);
                }
                None
            }
            Frame::Data { .. } => None,
        }
    }

    /// What is left and why, for a run that does not end.
    fn story(&self) -> String {
        let one = |(id, message): (u64, &super::outbox::Message)| {
            let split = self.splits.get(&id).map(|split| (split.step(), split.there(), split.poll_timeout()));
            format!("{id:?} {:?} {split:?} {:?}; ", message.numbers, self.due.get(&id))
        };
        self.outbox.iter().map(one).collect()
    }

    fn sync(&mut self) {
        if let Some(mark) = self.disk.sync(&mut self.journal) {
            self.numbers.synced(mark);
            self.held_back.retain(|_, needs| *needs > mark);
        }
    }
}

#[derive(Debug)]
struct Bob {
    replay: Replay,
    assembly: Assembly,
    /// Receipts that wait for the disk.
    owed: Vec<(Mark, u32)>,
    deliveries: u32,
    journal: Journal,
    disk: Disk,
}

impl Bob {
    fn start(mut saved: Saved, disk: Disk, now: Time, deliveries: u32) -> Self {
        let mut journal = Journal::default();
        let (replay, restored) = Replay::restore(&mut saved, now, &mut journal);
        assert!(restored.sealed.is_empty());
        Self { replay, assembly: Assembly::default(), owed: Vec::new(), deliveries, journal, disk }
    }

    fn crash(mut self, world: &mut World) -> Self {
        let saved = world.crash(&mut self.disk, &mut self.journal);
        Self::start(saved, self.disk, world.now, self.deliveries)
    }

    fn take(&mut self, frame: Frame, world: &mut World) {
        let Frame::Data { seq, index, count, ask, body } = frame else { return };
        let first = seq - u32::from(index);
        match self.replay.judge(&ALICE, first) {
            Verdict::Seen if self.owed.iter().any(|(_, owed)| *owed == first) => {}
            Verdict::Seen => world.carry(false, &Frame::Receipt { first }),
            Verdict::TooOld => panic!("few numbers are ever missing here"),
            Verdict::Fresh if count == 1 => self.deliver(world.now, first, 1, &body),
            Verdict::Fresh => {
                let piece = Incoming { from: ALICE, trusted: true, first, index, count, ask, body };
                match self.assembly.accept(world.now, &piece, HOLD) {
                    Ok(Arrival::Complete(whole)) => self.deliver(world.now, first, count, &whole),
                    Ok(Arrival::Kept | Arrival::Duplicate) => {}
                    done => panic!("the window would have known it: {done:?}"),
                }
            }
        }
    }

    /// The delivery first, then the window, then the mark: the order that the module promises something for.
    fn deliver(&mut self, now: Time, first: u32, count: u8, body: &Bytes) {
        self.deliveries += 1;
        self.journal.save(Key::new(INBOX, &self.deliveries.to_be_bytes()), body.clone());
        self.replay.accept_run(now, ALICE, first, count, &mut self.journal).unwrap();
        self.owed.push((self.journal.sync(), first));
    }

    fn step(&mut self, world: &mut World) {
        self.assembly.timeout(world.now);
        while let Some(status) = self.assembly.poll_status(world.now) {
            world.carry(false, &Frame::Status { first: status.first, bitmap: status.bitmap });
        }
    }

    fn sync(&mut self, world: &mut World) {
        if let Some(mark) = self.disk.sync(&mut self.journal) {
            self.owed.retain(|(needs, first)| {
                if *needs <= mark {
                    world.carry(false, &Frame::Receipt { first: *first });
                }
                *needs > mark
            });
        }
    }
}

fn body(id: u64, len: usize) -> Bytes {
    let mut body = id.to_be_bytes().to_vec();
    body.extend((0..len).map(|n| (n as u64 * 7 + id) as u8));
    body.into()
}

/// Runs until every message was receipted; returns what Bob's application has on disk, once per delivery.
fn run(
    lens: &[usize],
    (lose_percent, crash_per_mille): (u64, u64),
    transactions: bool,
    seed: u64,
) -> Result<Vec<Bytes>, TestCaseError> {
    let mut world = World {
        rng: Rng::from_u64(seed),
        now: Time::ZERO,
        nth: 0,
        to_alice: BTreeMap::new(),
        to_bob: BTreeMap::new(),
        lose_percent,
        crash_per_mille,
        transactions,
    };
    let mut alice = Alice::start(Saved::default(), Disk::default(), world.moment());
    let mut receiver = Bob::start(Saved::default(), Disk::default(), Time::ZERO, 0);
    let to_bob = bob();
    for (id, len) in (0..).zip(lens) {
        let (lifetime, payload) = (Duration::from_secs(24 * 3600), body(id, *len));
        let message =
            Outgoing { id, to: to_bob, payload, priority: Priority::Normal, lifetime, receipt: true };
        alice.outbox.accept(world.moment(), message, &mut alice.journal).unwrap();
    }
    alice.sync();
    let (mut receipted, mut ticks) = (BTreeSet::new(), 0);
    while !(alice.outbox.is_empty() && receipted.len() == lens.len()) {
        ticks += 1;
        prop_assert!(ticks < 30_000, "left at {}: {}", world.now, alice.story());
        if ticks == 1500 {
            // The path heals and nobody crashes any more: from here on everything must come to its end.
            (world.lose_percent, world.crash_per_mille) = (0, 0);
        }
        world.now += Duration::from_millis(100);
        while let Some(frame) = world.arrived(true) {
            receiver.take(frame, &mut world);
        }
        while let Some(frame) = world.arrived(false) {
            receipted.extend(alice.take(frame, &world));
        }
        alice.step(&mut world);
        receiver.step(&mut world);
        if world.chance(1, 3) {
            alice.sync();
        }
        if world.chance(1, 3) {
            receiver.sync(&mut world);
        }
        if world.chance(world.crash_per_mille, 1000) {
            alice = alice.crash(&mut world);
        }
        if world.chance(world.crash_per_mille, 1000) {
            receiver = receiver.crash(&mut world);
        }
    }
    receiver.sync(&mut world);
    Ok(receiver.disk.durable.take(INBOX).map(|(_, body)| body).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_message_arrives_and_with_transactions_once_whatever_is_lost_and_whoever_crashes(
        lens in proptest::collection::vec(prop_oneof![0..40_usize, 0..2500_usize], 1..8),
        bad in (0..40_u64, 0..40_u64), transactions in any::<bool>(), seed in any::<u64>(),
    ) {
        let mut delivered = run(&lens, bad, transactions, seed)?;
        delivered.sort();
        if !transactions {
            delivered.dedup();
        }
        let mut sent: Vec<_> = (0..).zip(&lens).map(|(id, len)| body(id, *len)).collect();
        sent.sort();
        prop_assert_eq!(delivered.len(), sent.len(), "messages delivered");
        prop_assert!(delivered == sent);
    }
}
