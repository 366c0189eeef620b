//! Frames for everybody near and beyond: route requests, announces, beacons, signed broadcasts. Said again only by those
//! whose saying adds something.
//!
//! Who hears such a frame for the first time waits a while before repeating it, and counts the copies that others send
//! meanwhile. Enough copies, and it stays silent (the counter-based scheme of Ni et al. 1999). Two things make it fit
//! radio. The wait is shorter for who heard the frame from afar: it covers new ground, and those between hear it and stay
//! silent. Only who hears it so faintly that the link hardly holds waits longest: ways are built on what spreads. And a copy heard loudly counts more than a faint one: its sender stands close by and
//! reaches the same devices. In a thin network one lost copy would end the frame there, so who has few neighbours listens
//! whether any of them goes on, and says it once more if not. A connection to one neighbour hides nothing from anybody: there every frame is said once.

use std::collections::BTreeMap;

use bytes::Bytes;
use core::time::Duration;

use super::frame::{Cost, FrameId, Kind};
use super::line::within;
use super::port::{PortId, PortInfo, Quality};
use crate::limits::MESH_SPREADS_MAX;
use crate::rng::Rng;
use crate::time::Time;

/// Copies weighed in halves: one heard loudly.
const LOUD: u8 = 3;
/// One heard as usual.
const USUAL: u8 = 2;
/// A copy this far above the receiver's limit is loud, quarters of a decibel.
const LOUD_MARGIN_QUARTER_DB: i16 = 4 * 14;
/// Weight of copies at which a frame needs no repeating, where enough others are near.
const ENOUGH: u8 = 5;
/// With no more neighbours than this a node repeats nearly always: it may be the only bridge.
const LONELY_NEIGHBOURS: usize = 3;
/// Weight that silences a lonely node.
const ENOUGH_FOR_LONELY: u8 = 8;
/// The wait of the best-heard node, as airtimes of the frame, before the random part.
const NEAR_AIRTIMES: u32 = 2;
/// The random part of the wait, as airtimes of the frame.
const RANDOM_AIRTIMES: u32 = 16;
/// Under this margin a link is too weak to build ways on, quarters of a decibel.
const FAINT_MARGIN_QUARTER_DB: u32 = 4 * 3;
/// Who hears a frame that faintly waits this many airtimes more: for a better copy, and for others who have one.
const FAINT_AIRTIMES: u32 = 8;
/// Above this margin, quarters of a decibel, a node counts as nearest.
const NEAREST_MARGIN_QUARTER_DB: i16 = 4 * 24;

/// A frame that may be repeated on one port.
#[derive(Clone, Debug)]
pub(super) struct Rumour {
    pub(super) bytes: Bytes,
    pub(super) kind: Kind,
    /// The fewest hops it was heard with, own one included.
    pub(super) hops: u8,
    /// The least cost it was heard with, own link included.
    pub(super) cost: Cost,
    heard: u8,
    enough: u8,
    /// How often it was said here already.
    said: u8,
    until: Time,
}

impl Rumour {
    pub(super) const fn new(bytes: Bytes, kind: Kind, hops: u8, cost: Cost, until: Time) -> Self {
        Self { bytes, kind, hops, cost, heard: 0, enough: u8::MAX, said: 0, until }
    }
}

/// Frames that wait to be repeated.
#[derive(Debug, Default)]
pub(super) struct Spread {
    waiting: BTreeMap<(FrameId, PortId), Rumour>,
}

impl Spread {
    /// Takes a frame to be repeated on a port where `neighbours` are near. False if too many wait, or this one does.
    pub(super) fn begin(
        &mut self,
        now: Time,
        (id, port): (FrameId, PortId),
        neighbours: usize,
        mut rumour: Rumour,
    ) -> bool {
        self.waiting.retain(|_, other| other.until > now);
        if self.waiting.len() >= MESH_SPREADS_MAX || self.waiting.contains_key(&(id, port)) {
            return false;
        }
        rumour.enough = if neighbours <= LONELY_NEIGHBOURS { ENOUGH_FOR_LONELY } else { ENOUGH };
        self.waiting.insert((id, port), rumour);
        true
    }

    /// A copy was heard. True if that was enough: the frame need not be repeated there, and is gone from here.
    pub(super) fn heard(
        &mut self,
        id: FrameId,
        port: PortId,
        (hops, cost): (u8, Cost),
        quality: Option<Quality>,
        info: &PortInfo,
    ) -> bool {
        let Some(rumour) = self.waiting.get_mut(&(id, port)) else { return false };
        if rumour.said > 0 && hops <= rumour.hops {
            // From somebody before us: it says nothing of those behind.
            return false;
        }
        if cost < rumour.cost {
            (rumour.cost, rumour.hops) = (cost, hops);
        }
        rumour.heard = rumour.heard.saturating_add(if margin(quality, info) >= LOUD_MARGIN_QUARTER_DB {
            LOUD
        } else {
            USUAL
        });
        let enough = rumour.heard >= rumour.enough;
        if enough {
            self.waiting.remove(&(id, port));
        }
        enough
    }

    /// The frame as it is to be said now. Copies count on until it is on the air.
    pub(super) fn say(&self, id: FrameId, port: PortId) -> Option<Rumour> {
        self.waiting.get(&(id, port)).cloned()
    }

    /// It was on the air. True if it may have to be said once more.
    pub(super) fn aired(&mut self, id: FrameId, port: PortId) -> bool {
        let Some(rumour) = self.waiting.get_mut(&(id, port)) else { return false };
        let again = rumour.enough == ENOUGH_FOR_LONELY && rumour.said == 0;
        if again {
            // From now on any copy from further along will do.
            (rumour.said, rumour.heard, rumour.enough) = (1, 0, USUAL);
        } else {
            self.waiting.remove(&(id, port));
        }
        again
    }

    /// Takes a frame out, because it need not be said.
    pub(super) fn take(&mut self, id: FrameId, port: PortId) -> Option<Rumour> {
        self.waiting.remove(&(id, port))
    }

    pub(super) fn forget_port(&mut self, port: PortId) {
        self.waiting.retain(|(_, on), _| *on != port);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// How long to wait before repeating a frame heard with this quality on a channel this busy.
pub(super) fn patience(
    quality: Option<Quality>,
    bytes: usize,
    info: &PortInfo,
    busy_percent: u64,
    rng: &mut Rng,
) -> Duration {
    if !info.is_radio() {
        return Duration::ZERO;
    }
    let margin = u32::from(margin(quality, info).clamp(0, NEAREST_MARGIN_QUARTER_DB).unsigned_abs());
    let airtime = info.airtime(bytes);
    let by_distance = airtime * NEAR_AIRTIMES * margin / u32::from(NEAREST_MARGIN_QUARTER_DB.unsigned_abs());
    // A busy channel is given time in proportion: twice as long at 50 %.
    let spread = airtime * RANDOM_AIRTIMES * (100 + 2 * u32::try_from(busy_percent).unwrap_or(100)) / 100;
    let faint = if margin < FAINT_MARGIN_QUARTER_DB { airtime * FAINT_AIRTIMES } else { Duration::ZERO };
    faint + by_distance + within(spread, rng)
}

fn margin(quality: Option<Quality>, info: &PortInfo) -> i16 {
    quality.map_or(NEAREST_MARGIN_QUARTER_DB / 2, |quality| {
        quality.snr_quarter_db.saturating_sub(info.snr_floor_quarter_db())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::frame::PortKind;
    use crate::radio::{Class, CodingRate, Lora, Pace};

    const PORT: PortId = PortId(0);
    const ID: FrameId = [1; 8];

    fn radio() -> PortInfo {
        let pace = Pace::Lora(Lora::new(8, 125_000, CodingRate::Cr45).unwrap());
        PortInfo { kind: PortKind::Broadcast, class: Class::of(&pace, 100_000), mtu: 222, pace }
    }

    fn snr(db: i16) -> Option<Quality> {
        Some(Quality { rssi_dbm: -100, snr_quarter_db: 4 * db })
    }

    fn rumour(cost: u64) -> Rumour {
        Rumour::new(Bytes::new(), Kind::RouteRequest, 3, Cost::from_ms(cost), Time::from_millis(1000))
    }

    fn copies_until_silent(db: i16, neighbours: usize) -> usize {
        let mut spread = Spread::default();
        assert!(spread.begin(Time::ZERO, (ID, PORT), neighbours, rumour(100)));
        let copy = (4, Cost::from_ms(200));
        1 + (0..100).take_while(|_| !spread.heard(ID, PORT, copy, snr(db), &radio())).count()
    }

    #[test]
    fn loud_copies_silence_sooner_and_a_lonely_node_last() {
        assert!(copies_until_silent(10, 8) < copies_until_silent(-5, 8));
        assert!(copies_until_silent(-5, 8) < copies_until_silent(-5, 2));
    }

    #[test]
    fn the_cheapest_copy_is_the_one_that_is_repeated() {
        let mut spread = Spread::default();
        spread.begin(Time::ZERO, (ID, PORT), 8, rumour(300));
        spread.heard(ID, PORT, (4, Cost::from_ms(200)), snr(-5), &radio());
        let taken = spread.take(ID, PORT).unwrap();
        assert_eq!((taken.hops, taken.cost), (4, Cost::from_ms(200)));
    }

    #[test]
    fn in_a_thin_network_a_frame_that_nobody_takes_further_is_said_once_more() {
        let mut spread = Spread::default();
        spread.begin(Time::ZERO, (ID, PORT), 2, rumour(100));
        assert!(spread.aired(ID, PORT));
        assert!(!spread.heard(ID, PORT, (3, Cost::FREE), snr(0), &radio()), "from before us");
        assert!(spread.heard(ID, PORT, (5, Cost::FREE), snr(0), &radio()), "from behind us");
        assert!(spread.say(ID, PORT).is_none());
        spread.begin(Time::ZERO, (ID, PORT), 2, rumour(100));
        assert!(spread.aired(ID, PORT));
        assert!(!spread.aired(ID, PORT), "and then no more");
        assert_eq!(spread.len(), 0);
    }

    #[test]
    fn who_hears_far_but_well_speaks_first_on_average() {
        let mut rng = Rng::from_u64(1);
        let mut mean = |db, busy| {
            (0..200).map(|_| patience(snr(db), 21, &radio(), busy, &mut rng)).sum::<Duration>() / 200
        };
        assert!(mean(-6, 0) < mean(10, 0));
        assert!(mean(-6, 0) < mean(-9, 0), "a link that hardly holds is no way");
        assert!(mean(-6, 0) < mean(-6, 50), "a busy channel gets time");
    }

    #[test]
    fn a_flood_of_frames_never_waits_in_more_memory_than_allowed() {
        let mut spread = Spread::default();
        for n in 0..=255 {
            spread.begin(Time::ZERO, ([n; 8], PORT), 8, rumour(1));
        }
        assert_eq!(spread.len(), MESH_SPREADS_MAX);
    }
}
