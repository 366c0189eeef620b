//! Transmissions in the air and what becomes of them at each receiver.

use std::rc::Rc;

use bytes::Bytes;

use super::hundredths;
use super::reach::{Audible, Reach};
use crate::chance::{Purpose, blend};
use crate::clock::Moment;
use crate::device::{Class, NodeId, Quality};
use crate::plan::Air;
use crate::trace::Missed;

/// A transmission's place in the table of those in the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

struct Transmission {
    number: u64,
    from: NodeId,
    bytes: Bytes,
    class: Class,
    /// Who was in reach when it began: people move, a frame does not follow them.
    audience: Rc<[Audible]>,
}

/// A transmission as one receiver has it.
struct Reception {
    number: u64,
    started: Moment,
    ends: Moment,
    power_cdbm: i32,
    lost: Option<Missed>,
}

/// What is in the air.
pub struct Ether {
    air: Air,
    reach: Reach,
    seed: u64,
    places: Vec<(f64, f64)>,
    has_radio: Vec<bool>,
    audience: Vec<Rc<[Audible]>>,
    /// What arrives at each node now.
    arriving: Vec<Vec<Reception>>,
    /// Whether a node transmits now.
    speaking: Vec<bool>,
    in_air: Vec<Option<Transmission>>,
    free: Vec<u32>,
    count: u64,
    sense_us: u64,
    capture_cdb: Option<i32>,
    fading_cdb: i64,
}

/// What a finished transmission was to one node in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Whose.
    pub node: NodeId,
    /// How it was heard, or why it was not.
    pub result: Result<Quality, Missed>,
}

/// A transmission that has ended.
pub struct Finished {
    /// Counts transmissions from 1.
    pub number: u64,
    /// Who sent it.
    pub from: NodeId,
    /// What it was for.
    pub class: Class,
    /// The frame.
    pub bytes: Bytes,
}

impl Ether {
    /// The air over `places`; only nodes with a radio take part.
    #[must_use]
    pub fn new(air: Air, seed: u64, places: Vec<(f64, f64)>, has_radio: Vec<bool>) -> Self {
        let reach = Reach::new(air.settings, air.terrain, seed);
        let mut ether = Self {
            reach,
            seed,
            audience: Vec::new(),
            arriving: places.iter().map(|_| Vec::new()).collect(),
            speaking: vec![false; places.len()],
            in_air: Vec::new(),
            free: Vec::new(),
            count: 0,
            // Detecting a preamble takes a modem about three symbols.
            sense_us: 3 * air.settings.symbol_us(),
            capture_cdb: air.physics.capture_db.map(hundredths),
            fading_cdb: hundredths(air.terrain.fading_db).into(),
            air,
            places,
            has_radio,
        };
        ether.audience =
            reach.all(&ether.places).into_iter().map(|audible| ether.with_radio(audible)).collect();
        ether
    }

    fn with_radio(&self, audible: Vec<Audible>) -> Rc<[Audible]> {
        audible.into_iter().filter(|a| self.has_radio[a.node.index()]).collect()
    }

    /// How the radios are set.
    #[must_use]
    pub const fn air(&self) -> &Air {
        &self.air
    }

    /// Who receives frames of `node` when nothing disturbs them, on average.
    pub fn neighbours(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let limit = self.reach.limit_cdbm();
        self.audience[node.index()].iter().filter(move |a| a.power_cdbm >= limit).map(|a| a.node)
    }

    /// Puts nodes at new places. What is in the air stays with those it reached.
    pub fn relocate(&mut self, moved: &[(NodeId, (f64, f64))]) {
        for (node, place) in moved {
            self.places[node.index()] = *place;
        }
        for (node, _) in moved {
            let audible = self.reach.one(node.index(), &self.places);
            let fresh = self.with_radio(audible);
            let before = std::mem::replace(&mut self.audience[node.index()], Rc::clone(&fresh));
            for gone in before.iter().filter(|a| !fresh.iter().any(|b| b.node == a.node)) {
                let list = &mut self.audience[gone.node.index()];
                *list = list.iter().filter(|a| a.node != *node).copied().collect();
            }
            for near in fresh.iter() {
                let list = &mut self.audience[near.node.index()];
                let here = Audible { node: *node, power_cdbm: near.power_cdbm };
                let mut others: Vec<Audible> = list.iter().filter(|a| a.node != *node).copied().collect();
                let at = others.partition_point(|a| a.node < *node);
                others.insert(at, here);
                *list = others.into();
            }
        }
    }

    /// Where a node stands.
    #[must_use]
    pub fn place(&self, node: NodeId) -> (f64, f64) {
        self.places[node.index()]
    }

    /// Until when the channel is busy as `node` hears it now; `None` if it seems free.
    #[must_use]
    pub fn busy_until(&self, now: Moment, node: NodeId) -> Option<Moment> {
        if !self.air.physics.carrier_sense {
            return None;
        }
        let limit = self.reach.limit_cdbm();
        let heard = self.arriving[node.index()].iter();
        heard
            .filter(|r| r.power_cdbm >= limit && now.since_us(r.started) >= self.sense_us && r.ends > now)
            .map(|r| r.ends)
            .max()
    }

    /// Whether `node` transmits now.
    #[must_use]
    pub fn is_speaking(&self, node: NodeId) -> bool {
        self.speaking[node.index()]
    }

    /// A transmission begins. `listens` says who can hear this sender now: awake, and on its side of every partition.
    pub fn begin(
        &mut self,
        now: Moment,
        from: NodeId,
        (bytes, class): (Bytes, Class),
        airtime_us: u64,
        listens: impl Fn(NodeId) -> bool,
    ) -> (Slot, u64) {
        self.count += 1;
        let number = self.count;
        self.speaking[from.index()] = true;
        if self.air.physics.half_duplex {
            for reception in &mut self.arriving[from.index()] {
                reception.lost.get_or_insert(Missed::HalfDuplex);
            }
        }
        let audience = Rc::clone(&self.audience[from.index()]);
        for audible in audience.iter().filter(|audible| listens(audible.node)) {
            let power_cdbm = audible.power_cdbm + self.fading(number, audible.node);
            let deaf = self.air.physics.half_duplex && self.speaking[audible.node.index()];
            let fresh = Reception {
                number,
                started: now,
                ends: now.plus_us(airtime_us),
                power_cdbm,
                lost: deaf.then_some(Missed::HalfDuplex),
            };
            self.arrive(audible.node, fresh);
        }
        let transmission = Transmission { number, from, bytes, class, audience };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.in_air.push(None);
                u32::try_from(self.in_air.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.in_air[slot as usize] = Some(transmission);
        (Slot(slot), number)
    }

    /// A reception joins those under way at a node, and they disturb each other.
    fn arrive(&mut self, node: NodeId, mut fresh: Reception) {
        let arriving = &mut self.arriving[node.index()];
        if self.air.physics.collisions {
            for other in arriving.iter_mut() {
                let survives = |a: i32, b: i32| self.capture_cdb.is_some_and(|margin| a - b >= margin);
                if !survives(fresh.power_cdbm, other.power_cdbm) {
                    fresh.lost.get_or_insert(Missed::Collision);
                }
                if !survives(other.power_cdbm, fresh.power_cdbm) {
                    other.lost.get_or_insert(Missed::Collision);
                }
            }
        }
        arriving.push(fresh);
    }

    /// The draw of fading for this transmission at this receiver: a sum of four uniform numbers, near enough to normal.
    fn fading(&self, number: u64, node: NodeId) -> i32 {
        if self.fading_cdb == 0 {
            return 0;
        }
        let bits = blend(&[self.seed ^ (Purpose::Fading as u64) << 56, number, node.0.into()]);
        let sum: i64 = (0..4).map(|i| ((bits >> (16 * i)) & 0xFFFF) as i64).sum();
        // Mean 131070, deviation 65536 / sqrt(3).
        i32::try_from((sum - 131_070) * self.fading_cdb / 37_837).unwrap_or(0)
    }

    /// A transmission ends; `fates` gets what became of it at every node that should have received it.
    pub fn finish(&mut self, slot: Slot, fates: &mut Vec<Fate>) -> Option<Finished> {
        fates.clear();
        let done = self.in_air.get_mut(slot.0 as usize)?.take()?;
        self.free.push(slot.0);
        self.speaking[done.from.index()] = false;
        let limit = self.reach.limit_cdbm();
        for audible in done.audience.iter() {
            let arriving = &mut self.arriving[audible.node.index()];
            let Some(at) = arriving.iter().position(|r| r.number == done.number) else { continue };
            let reception = arriving.swap_remove(at);
            let result = match reception.lost {
                // Only those who would have heard it undisturbed have missed it.
                _ if reception.power_cdbm < limit && audible.power_cdbm < limit => continue,
                _ if reception.power_cdbm < limit => Err(Missed::Weak),
                Some(why) => Err(why),
                None => Ok(self.quality(reception.power_cdbm)),
            };
            fates.push(Fate { node: audible.node, result });
        }
        Some(Finished { number: done.number, from: done.from, class: done.class, bytes: done.bytes })
    }

    /// A node's radio is switched off: what it sends breaks off, what arrives is lost.
    pub fn silence(&mut self, node: NodeId) {
        self.arriving[node.index()].clear();
    }

    fn quality(&self, power_cdbm: i32) -> Quality {
        let clamp = |value: i32| i16::try_from(value).unwrap_or(i16::MIN);
        Quality {
            rssi_dbm: clamp(power_cdbm.div_euclid(100)),
            // A modem reports no more than about 10 dB: its decoder saturates.
            snr_quarter_db: clamp((self.reach.snr_cdb(power_cdbm) / 25).min(40)),
        }
    }
}
