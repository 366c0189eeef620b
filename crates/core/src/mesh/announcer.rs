//! Our own announces: when each port hears of us, in which form, and how much of its air announces may take.
//!
//! ```text
//!   port up ── a random moment later ──▶ key ──▶ anchor ──▶ beacon ──▶ beacon ── ... ──▶ key ──▶ ...
//! ```
//!
//! The key form is for those who never heard of us, the anchor for those who check beacons, and a beacon costs a third
//! of either. Every port is at its own place in this row, but all share one number and one chain: who hears us twice
//! knows one device. A number is used up by a restart, by a chain that came to its end, or by a person who asks.
//!
//! # What it costs
//!
//! Presence is worth little where ways are found by asking, and on radio it costs more than the messages it serves: one
//! announce of 200 devices that everybody repeats is a minute of air for each of them. So where announces are rationed
//! they come twelve times as rarely from devices that store messages or are a gateway, and are repeated once
//! ([`super::herald`]). From all others they come 24 times as rarely and go to those next door only. Together with those
//! of others they take at most 0.2 % of the time: that is 2 % of what the 10 % band allows, and the radio's scheduler
//! holds them to 2 % of whatever the law allows there.

use std::collections::BTreeMap;

use core::time::Duration;

use super::chain::Chain;
use super::frame::{AnnounceAnchor, AnnounceKey, Caps, Frame, Seq20};
use super::line::within;
use super::port::{PortId, PortInfo};
use super::records::{Journal, Key, Mark, Saved, Table};
use super::replay::{NoNumber, SendSeq};
use crate::identity::SecretKey;
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::time::Time;

/// Numbers reserved on disk at a time: what a restart may cost of the 2^20 there are.
const BLOCK: u32 = 16;
/// The record of announce numbers.
const NAME: &[u8] = b"announce";
/// A port hears the key form once in so many turns, for those who came meanwhile.
const KEY_EVERY_TURNS: u32 = 12;
/// Beacons under one number. A listener that missed all of them still follows ([`super::chain`]).
const BEACONS_MAX: u16 = 128;
/// How much rarer announces are where they are rationed, of a device that others may want something of.
const RATIONED_RARER: u32 = 12;
/// As above, of a device that offers no more than to pass things on: whoever writes to it finds it by asking.
const RATIONED_RARER_STILL: u32 = 24;
/// The first announce after a port came up follows within this time, so that a street that gets its power back does not
/// speak at once. On a connection nobody else waits for the air.
const FIRST_WITHIN: Duration = Duration::from_secs(60);
/// See [`FIRST_WITHIN`].
const FIRST_WITHIN_CONNECTED: Duration = Duration::from_secs(2);
/// The part of a rationed port's time that announces may take.
const SHARE: u32 = 500;
/// The announce that the ration is counted in, bytes.
const ANNOUNCE_BYTES: usize = 103;

/// Whose announce wants to be sent on a rationed port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of somebody never heard of before: new names cost a liar nothing.
    Newcomer,
    /// Of somebody known.
    Known,
    /// Ours.
    Ours,
}

impl Whose {
    /// How many announces at once the ration lends.
    const fn lent(self) -> u32 {
        match self {
            Self::Newcomer => 2,
            Self::Known => 3,
            Self::Ours => 4,
        }
    }
}

/// How we say that we are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Key,
    Anchor,
    Beacon,
}

#[derive(Debug)]
struct Turns {
    next_at: Time,
    turn: u32,
    /// The number whose anchor this port has heard.
    anchored: Option<Seq20>,
    /// When the ration is whole again.
    whole_at: Time,
}

/// Our own announces.
#[derive(Debug)]
pub(super) struct Announcer {
    numbers: SendSeq,
    /// The next number is on its way to the disk, and everything waits for it.
    waits: bool,
    chain: Option<Box<Chain>>,
    ports: BTreeMap<PortId, Turns>,
}

impl Announcer {
    /// With the numbers that the disk knows of. A damaged record is no reason to fall silent: no secret hangs on these
    /// numbers. They go on somewhere else on their circle, and with luck ahead.
    pub(super) fn restore(saved: &Saved, rng: &mut Rng, journal: &mut Journal) -> Self {
        let record = saved.find(&Key::new(Table::Sequence, NAME));
        let record = record.filter(|_| !planted::is(Bug::AnnouncesStartAgain)).cloned();
        let known = SendSeq::restore(NAME, record.as_deref(), BLOCK, u32::MAX, journal);
        let numbers = known.unwrap_or_else(|_| {
            let [a, b] = rng.bytes();
            SendSeq::starting(NAME, u32::from_be_bytes([0, a, b, 0]), BLOCK, u32::MAX, journal)
        });
        Self { numbers, waits: false, chain: None, ports: BTreeMap::new() }
    }

    /// A port came up.
    pub(super) fn up(&mut self, now: Time, port: PortId, info: &PortInfo, rng: &mut Rng) {
        let soon = if info.is_radio() { FIRST_WITHIN } else { FIRST_WITHIN_CONNECTED };
        let turns = Turns { next_at: now + within(soon, rng), turn: 0, anchored: None, whole_at: now };
        self.ports.entry(port).or_insert(turns);
    }

    /// A port went down.
    pub(super) fn down(&mut self, port: PortId) {
        self.ports.remove(&port);
    }

    /// Everybody shall hear of us now, under a new number.
    pub(super) fn hurry(&mut self, now: Time) {
        self.chain = None;
        for turns in self.ports.values_mut() {
            (turns.next_at, turns.turn) = (now, 0);
        }
    }

    /// The disk has what it was given.
    pub(super) fn synced(&mut self, mark: Mark) {
        self.numbers.synced(mark);
        self.waits = false;
    }

    /// A port whose turn it is.
    pub(super) fn due(&self, now: Time) -> Option<PortId> {
        let due = self.ports.iter().find(|(_, turns)| turns.next_at <= now && !self.waits);
        due.map(|(port, _)| *port)
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.ports.values().map(|turns| turns.next_at).min().filter(|_| !self.waits)
    }

    /// What a port shall hear now, if its ration allows, and in any case when its next turn is.
    pub(super) fn speak(
        &mut self,
        now: Time,
        (port, info): (PortId, &PortInfo),
        (own, caps, every): (&SecretKey, Caps, Duration),
        rng: &mut Rng,
        journal: &mut Journal,
    ) -> Option<Frame> {
        self.open_chain(own, caps, journal)?;
        let (turns, chain) = (self.ports.get_mut(&port)?, self.chain.as_deref_mut()?);
        let form = match turns.anchored {
            _ if turns.turn.is_multiple_of(KEY_EVERY_TURNS) => Form::Key,
            Some(seq) if seq == chain.seq() => Form::Beacon,
            Some(_) | None => Form::Anchor,
        };
        let airtime = info.airtime(if form == Form::Beacon { 33 } else { ANNOUNCE_BYTES });
        if let Err(at) = turns.spend(now, info, airtime, Whose::Ours) {
            turns.next_at = at;
            return None;
        }
        let rarer = match info.class.rations_announces() {
            true if is_wanted(caps) => RATIONED_RARER,
            true => RATIONED_RARER_STILL,
            false => 1,
        };
        let every = every * rarer;
        // Between nine and eleven tenths: neighbours that once spoke at the same moment do not go on doing so.
        turns.next_at = now + every * 9 / 10 + within(every / 5, rng);
        turns.turn = turns.turn.wrapping_add(1);
        Some(match form {
            Form::Key => Frame::AnnounceKey(AnnounceKey::new(own, chain.seq(), caps)),
            Form::Beacon => Frame::Beacon(chain.beacon()?),
            Form::Anchor => {
                turns.anchored = Some(chain.seq());
                Frame::AnnounceAnchor(AnnounceAnchor::new(own, chain))
            }
        })
    }

    /// A chain with beacons left, if a number can be had for it.
    fn open_chain(&mut self, own: &SecretKey, caps: Caps, journal: &mut Journal) -> Option<()> {
        let used_up = crate::limits::MESH_CHAIN_VALUES_MAX - BEACONS_MAX;
        if self.chain.as_deref().is_some_and(|chain| chain.left() > used_up) {
            return Some(());
        }
        match self.numbers.take(journal) {
            Ok(number) => self.chain = Some(Box::new(Chain::new(own, Seq20::new(number), caps))),
            Err(NoNumber::Wait) => self.waits = true,
            // 2^32 announces are more than a device can make.
            Err(NoNumber::Exhausted) => self.ports.clear(),
        }
        self.chain.as_ref().filter(|_| !self.waits).map(|_| ())
    }

    /// Whether an announce that takes so long may be passed on by this port now.
    pub(super) fn lends(
        &mut self,
        now: Time,
        (port, info): (PortId, &PortInfo),
        airtime: Duration,
        whose: Whose,
    ) -> bool {
        self.ports.get_mut(&port).is_some_and(|turns| turns.spend(now, info, airtime, whose).is_ok())
    }

    pub(super) fn bytes(&self) -> usize {
        self.ports.len() * size_of::<(PortId, Turns)>()
            + self.chain.as_ref().map_or(0, |_| size_of::<Chain>())
    }
}

/// Whether others need to know of a device that offers this.
pub(super) const fn is_wanted(caps: Caps) -> bool {
    caps.has(Caps::STORE) || caps.has(Caps::GATEWAY)
}

impl Turns {
    /// Takes airtime from the ration, or says when there will be enough.
    fn spend(&mut self, now: Time, info: &PortInfo, airtime: Duration, whose: Whose) -> Result<(), Time> {
        if !info.class.rations_announces() {
            return Ok(());
        }
        let whole_at = self.whole_at.max(now) + airtime * SHARE;
        let lent = info.airtime(ANNOUNCE_BYTES) * SHARE * whose.lent();
        if whole_at > now + lent {
            return Err(now + whole_at.saturating_since(now + lent));
        }
        self.whole_at = whole_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::frame::Kind;
    use crate::mesh::net::lora;
    use crate::mesh::records::Write;

    const PORT: PortId = PortId(0);

    struct Bench {
        announcer: Announcer,
        disk: Saved,
        journal: Journal,
        rng: Rng,
        now: Time,
    }

    impl Bench {
        fn new(disk: Saved) -> Self {
            let (mut rng, mut journal) = (Rng::from_u64(1), Journal::default());
            let announcer = Announcer::restore(&disk, &mut rng, &mut journal);
            let mut bench = Self { announcer, disk, journal, rng, now: Time::ZERO };
            bench.announcer.up(Time::ZERO, PORT, &lora(), &mut bench.rng);
            bench.sync();
            bench
        }

        fn sync(&mut self) {
            while let Some(write) = self.journal.poll() {
                self.disk.apply(&write);
                if let Write::Sync(mark) = write {
                    self.announcer.synced(mark);
                }
            }
        }

        fn next(&mut self) -> Option<Frame> {
            self.now = self.announcer.next_at()?;
            let own = SecretKey::from_u64(1);
            let config = (&own, Caps::RELAY, Duration::from_secs(600));
            let port = self.announcer.due(self.now)?;
            let info = lora();
            let said =
                self.announcer.speak(self.now, (port, &info), config, &mut self.rng, &mut self.journal);
            self.sync();
            said
        }

        fn numbers(&mut self, count: usize) -> Vec<u32> {
            let mut numbers = Vec::new();
            while numbers.len() < count {
                match self.next() {
                    Some(Frame::AnnounceKey(frame)) => numbers.push(frame.seq.number()),
                    Some(Frame::AnnounceAnchor(frame)) => numbers.push(frame.seq.number()),
                    Some(Frame::Beacon(frame)) => numbers.push(frame.seq.number()),
                    Some(_) | None => {}
                }
            }
            numbers
        }
    }

    #[test]
    fn a_port_hears_the_key_then_the_anchor_then_beacons_and_the_key_again() {
        let mut bench = Bench::new(Saved::default());
        let kinds: Vec<Kind> = (0..14).filter_map(|_| bench.next()).map(|frame| frame.kind()).collect();
        assert_eq!(kinds[..3], [Kind::AnnounceKey, Kind::AnnounceAnchor, Kind::Beacon]);
        assert_eq!(kinds[12..], [Kind::AnnounceKey, Kind::Beacon]);
    }

    #[test]
    fn numbers_never_go_back_whatever_the_disk_forgot() {
        let mut disk = Saved::default();
        let mut last = None;
        for _ in 0..5 {
            let mut bench = Bench::new(disk);
            let numbers = bench.numbers(3);
            assert!(numbers.iter().all(|number| last.is_none_or(|last| *number > last)), "{numbers:?}");
            last = numbers.last().copied();
            disk = bench.disk;
        }
    }

    #[test]
    fn announces_of_a_flood_keep_to_their_ration_and_leave_room_for_ours() {
        let mut bench = Bench::new(Saved::default());
        let airtime = lora().airtime(103);
        let mut passed = Duration::ZERO;
        for second in 0..7200 {
            let now = Time::from_millis(second * 1000);
            if bench.announcer.lends(now, (PORT, &lora()), airtime, Whose::Newcomer) {
                passed += airtime;
            }
        }
        assert!(passed <= Duration::from_secs(7200) / SHARE + airtime * 2, "{passed:?}");
        let now = Time::from_millis(7_200_000);
        assert!(bench.announcer.lends(now, (PORT, &lora()), airtime, Whose::Ours));
    }

    #[test]
    fn somebody_who_asks_is_announced_at_once_under_a_new_number() {
        let mut bench = Bench::new(Saved::default());
        let before = bench.numbers(2)[1];
        bench.announcer.hurry(bench.now);
        let frame = bench.next();
        assert!(matches!(frame, Some(Frame::AnnounceKey(frame)) if frame.seq.number() > before));
    }
}
