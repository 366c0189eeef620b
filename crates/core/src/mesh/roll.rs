//! The roll: who announced itself, what it offers, and what its next announce must prove.
//!
//! A device gets on the roll by an announce under its signature, and only newer ones are taken after that: a copy or one
//! played back changes nothing. The roll is bounded. A device heard once makes room for another before one that was heard
//! again, and a paired one for nobody, so a flood of new names pushes out new names.

use std::collections::BTreeMap;

use super::chain::{BeaconRefused, Head};
use super::frame::{AnnounceAnchor, AnnounceKey, Beacon, Caps, Seq20};
use super::hint::{Address, Near, Tag};
use crate::identity::DeviceId;
use crate::limits::{MESH_ROLL_AGE_MAX, MESH_ROLL_MAX};
use crate::planted::{self, Bug};
use crate::time::Time;

/// Announces after which a device has shown that it stays.
const SETTLED: u8 = 2;

#[derive(Clone, Debug)]
struct Entry {
    id: DeviceId,
    seq: Seq20,
    caps: Caps,
    /// Whether the key form of `seq` was taken.
    keyed: bool,
    /// The chain of `seq`, once its anchor was taken.
    head: Option<Head>,
    heard_at: Time,
    hops: u8,
    /// Announces and beacons taken, as far as it matters.
    times: u8,
    paired: bool,
}

/// A device that announced itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// Who.
    pub device: DeviceId,
    /// What it offers.
    pub caps: Caps,
    /// How many hops its announce took to here, as the last relay said.
    pub hops: u8,
    /// When it was last heard.
    pub heard_at: Time,
}

/// What an announce was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Worth telling: never heard, gone for long, or offering something else.
    News,
    /// Still there.
    Refresh,
}

/// Why an announce was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Taken before.
    Copy,
    /// Older than what is known, or of another chain.
    Stale,
    /// Its signature or value does not fit.
    Forged,
    /// Its device's key is not known, so it cannot be checked.
    Stranger,
}

/// The roll.
#[derive(Debug, Default)]
pub(super) struct Roll {
    table: BTreeMap<Address, Entry>,
}

impl Roll {
    /// Bytes of an entry.
    pub(super) const ENTRY_BYTES: usize = size_of::<(Address, Entry)>();

    /// Whether this announce could be news, judged before its signature is.
    pub(super) fn expects(&self, address: &Address, seq: Seq20, anchor: bool) -> Result<(), Refused> {
        let Some(known) = self.table.get(address) else { return Ok(()) };
        let has = if anchor { known.head.is_some() } else { known.keyed };
        match seq {
            _ if seq.is_newer_than(known.seq) => Ok(()),
            _ if seq != known.seq => Err(Refused::Stale),
            _ if has => Err(Refused::Copy),
            _ => Ok(()),
        }
    }

    /// Whether a device is on the roll.
    pub(super) fn knows(&self, address: &Address) -> bool {
        self.table.contains_key(address)
    }

    /// The key of a device on the roll.
    pub(super) fn key_of(&self, address: &Address) -> Option<DeviceId> {
        self.table.get(address).map(|known| known.id)
    }

    /// Devices on the roll that the hint of a neighbour may mean.
    pub(super) fn near(&self, near: Near) -> impl Iterator<Item = DeviceId> {
        self.table.iter().filter(move |(address, _)| address.near() == near).map(|(_, known)| known.id)
    }

    /// Takes an announce whose signature was checked.
    pub(super) fn take_key(
        &mut self,
        now: Time,
        id: DeviceId,
        announce: &AnnounceKey,
        paired: bool,
    ) -> Taken {
        let (entry, news) = self.entry(now, id, (announce.seq, announce.caps), paired);
        entry.keyed = true;
        entry.hops = announce.hops.saturating_add(1);
        news
    }

    /// Takes an announce whose signature was checked; its beacons can be checked from now on.
    pub(super) fn take_anchor(
        &mut self,
        now: Time,
        id: DeviceId,
        (announce, head): (&AnnounceAnchor, Head),
        paired: bool,
    ) -> Taken {
        let (entry, news) = self.entry(now, id, (announce.seq, announce.caps), paired);
        entry.head = Some(head);
        entry.hops = announce.hops.saturating_add(1);
        news
    }

    /// Checks a beacon and takes it.
    pub(super) fn take_beacon(&mut self, now: Time, beacon: &Beacon) -> Result<(Address, Taken), Refused> {
        let (low, high) = range(beacon.tag);
        let known = self.table.range_mut(low..=high).next();
        let (address, entry) = known.ok_or(Refused::Stranger)?;
        let head = entry.head.as_mut().ok_or(Refused::Stale)?;
        let judged = if planted::is(Bug::BeaconUnchecked) { Ok(()) } else { head.accept(beacon) };
        judged.map_err(|why| match why {
            BeaconRefused::NotNewer => Refused::Copy,
            BeaconRefused::OtherChain | BeaconRefused::TooFarAhead => Refused::Stale,
            BeaconRefused::Forged => Refused::Forged,
        })?;
        let news = entry.refresh(now);
        entry.hops = beacon.hops.saturating_add(1);
        Ok((*address, news))
    }

    /// Whoever has all of these capabilities and was heard lately, the nearest first.
    pub(super) fn offering(&self, now: Time, caps: Caps) -> Vec<Present> {
        let lately = |entry: &&Entry| now.saturating_since(entry.heard_at) <= MESH_ROLL_AGE_MAX;
        let offers = self.table.values().filter(lately).filter(|entry| entry.caps.has(caps));
        let mut found: Vec<Present> = offers.map(Entry::view).collect();
        found.sort_by_key(|present| (present.hops, core::cmp::Reverse(present.heard_at)));
        found
    }

    /// A device is paired now, or is not any more.
    pub(super) fn pair(&mut self, address: &Address, paired: bool) {
        if let Some(entry) = self.table.get_mut(address) {
            entry.paired = paired;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn entry(
        &mut self,
        now: Time,
        id: DeviceId,
        (seq, caps): (Seq20, Caps),
        paired: bool,
    ) -> (&mut Entry, Taken) {
        let address = Address::of(&id);
        if !self.table.contains_key(&address) {
            self.make_room();
        }
        let mut new = false;
        let entry = self.table.entry(address).or_insert_with(|| {
            new = true;
            Entry { id, seq, caps, keyed: false, head: None, heard_at: now, hops: 0, times: 0, paired }
        });
        let other = entry.caps != caps;
        if seq != entry.seq {
            (entry.seq, entry.keyed, entry.head) = (seq, false, None);
        }
        entry.caps = caps;
        entry.paired |= paired;
        let seen = entry.refresh(now);
        (entry, if new || other { Taken::News } else { seen })
    }

    fn make_room(&mut self) {
        if self.table.len() < MESH_ROLL_MAX {
            return;
        }
        let worth = |entry: &Entry| (entry.paired, entry.times >= SETTLED, entry.heard_at);
        if let Some(least) = self.table.iter().min_by_key(|(_, entry)| worth(entry)).map(|(at, _)| *at) {
            self.table.remove(&least);
        }
    }
}

impl Entry {
    fn refresh(&mut self, now: Time) -> Taken {
        let gone = now.saturating_since(self.heard_at) > MESH_ROLL_AGE_MAX;
        self.heard_at = now;
        self.times = self.times.saturating_add(1);
        if gone { Taken::News } else { Taken::Refresh }
    }

    const fn view(&self) -> Present {
        Present { device: self.id, caps: self.caps, hops: self.hops, heard_at: self.heard_at }
    }
}

fn range(tag: Tag) -> (Address, Address) {
    let mut high = [0xff; 16];
    high[..8].copy_from_slice(&tag.0);
    (Address::beginning(tag), Address(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;
    use crate::mesh::chain::Chain;

    fn at(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    fn announce(n: u64, seq: u32) -> (DeviceId, AnnounceKey) {
        let key = SecretKey::from_u64(n);
        (key.id(), AnnounceKey::new(&key, Seq20::new(seq), Caps::STORE))
    }

    fn hear(roll: &mut Roll, now: Time, n: u64, seq: u32, paired: bool) -> Result<Taken, Refused> {
        let (id, frame) = announce(n, seq);
        roll.expects(&Address::of(&id), frame.seq, false)?;
        Ok(roll.take_key(now, id, &frame, paired))
    }

    #[test]
    fn only_newer_announces_are_taken_and_each_form_of_a_number_once() {
        let mut roll = Roll::default();
        assert_eq!(hear(&mut roll, at(0), 1, 7, false), Ok(Taken::News));
        assert_eq!(hear(&mut roll, at(1), 1, 7, false), Err(Refused::Copy));
        assert_eq!(hear(&mut roll, at(1), 1, 6, false), Err(Refused::Stale));
        let address = Address::of(&announce(1, 7).0);
        assert_eq!(roll.expects(&address, Seq20::new(7), true), Ok(()));
        assert_eq!(hear(&mut roll, at(2), 1, 8, false), Ok(Taken::Refresh));
        assert_eq!(hear(&mut roll, at(2) + MESH_ROLL_AGE_MAX * 2, 1, 9, false), Ok(Taken::News));
    }

    #[test]
    fn a_beacon_needs_the_anchor_it_leads_to() {
        let (key, mut roll) = (SecretKey::from_u64(1), Roll::default());
        let mut chain = Chain::new(&key, Seq20::new(7), Caps::STORE);
        let beacon = chain.beacon().unwrap();
        assert_eq!(roll.take_beacon(at(0), &beacon), Err(Refused::Stranger));
        hear(&mut roll, at(0), 1, 7, false).unwrap();
        assert_eq!(roll.take_beacon(at(0), &beacon), Err(Refused::Stale));
        let anchor = AnnounceAnchor::new(&key, &chain);
        let head = anchor.verify(&key.id()).unwrap();
        roll.take_anchor(at(1), key.id(), (&anchor, head), false);
        let forged = Beacon { value: [9; 16], ..beacon.clone() };
        assert_eq!(roll.take_beacon(at(2), &forged), Err(Refused::Forged));
        assert!(roll.take_beacon(at(2), &beacon).is_ok());
        assert_eq!(roll.take_beacon(at(2), &beacon), Err(Refused::Copy));
    }

    #[test]
    fn a_flood_of_new_names_pushes_out_new_names() {
        let mut roll = Roll::default();
        hear(&mut roll, at(0), 1, 1, true).unwrap();
        hear(&mut roll, at(0), 2, 1, false).unwrap();
        hear(&mut roll, at(1), 2, 2, false).unwrap();
        for n in 10..10 + 2 * MESH_ROLL_MAX as u64 {
            hear(&mut roll, at(n), n, 1, false).unwrap();
        }
        assert_eq!(roll.len(), MESH_ROLL_MAX);
        for n in [1, 2] {
            assert!(roll.knows(&Address::of(&announce(n, 1).0)), "{n}");
        }
    }

    #[test]
    fn the_nearest_store_comes_first_and_the_silent_are_left_out() {
        let mut roll = Roll::default();
        for (n, hops) in [(1, 3), (2, 0), (3, 1)] {
            let (id, frame) = announce(n, 1);
            roll.take_key(at(n * 1000), id, &AnnounceKey { hops, ..frame }, false);
        }
        let near =
            |now| -> Vec<u8> { roll.offering(now, Caps::STORE).iter().map(|present| present.hops).collect() };
        assert_eq!(near(at(4000)), [1, 2, 4]);
        assert_eq!(near(at(2500) + MESH_ROLL_AGE_MAX), [2]);
        assert!(roll.offering(at(4000), Caps::GATEWAY).is_empty());
    }
}
