//! Who is heard on which port, and how likely a frame arrives there.
//!
//! The chance of a frame is first guessed from the signal-to-noise ratio of what is heard, then corrected by what really
//! happens: each acknowledgement and each missing one moves it. The cost of a link is the airtime of a typical frame
//! divided by the chance that it and its acknowledgement arrive: the expected airtime until it is through (the ETX
//! metric of De Couto et al. 2003, weighted by airtime).

use std::collections::BTreeMap;

use core::time::Duration;

use super::hint::Near;
use super::port::{PortId, PortInfo, Quality, TYPICAL_FRAME_BYTES};
use crate::limits::MESH_NEIGHBOURS_MAX;
use crate::time::Time;

/// A neighbour silent for this long is gone.
const SILENT_MAX: Duration = Duration::from_secs(1800);
/// Chances are in parts of this.
const CERTAIN: u32 = 1000;
/// No link is believed to be better or worse.
const CHANCE_MIN: u32 = 300;
/// See [`CHANCE_MIN`].
const CHANCE_MAX: u32 = 980;

#[derive(Clone, Copy, Debug)]
struct Neighbour {
    heard_at: Time,
    /// Smoothed, in quarters of a decibel; `None` on ports that do not measure.
    snr_quarter_db: Option<i16>,
    /// How the chance from acknowledgements differs from the one guessed from the signal, in thousandths.
    correction: i16,
}

/// A neighbour as others may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourView {
    /// Where it is heard.
    pub port: PortId,
    /// Its hint.
    pub near: Near,
    /// When it was last heard.
    pub heard_at: Time,
    /// Its signal-to-noise ratio, quarters of a decibel.
    pub snr_quarter_db: Option<i16>,
    /// Chance of a frame, in thousandths.
    pub chance_permille: u32,
}

/// Everybody in reach.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    table: BTreeMap<(PortId, Near), Neighbour>,
}

impl Neighbours {
    /// Somebody was heard.
    pub(super) fn heard(&mut self, now: Time, port: PortId, near: Near, quality: Option<Quality>) {
        let key = (port, near);
        if !self.table.contains_key(&key) && self.table.len() >= MESH_NEIGHBOURS_MAX {
            let oldest = self.table.iter().min_by_key(|(_, known)| known.heard_at).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.table.remove(&oldest);
            }
        }
        let snr = quality.map(|quality| quality.snr_quarter_db);
        let known =
            self.table.entry(key).or_insert(Neighbour { heard_at: now, snr_quarter_db: snr, correction: 0 });
        known.heard_at = now;
        known.snr_quarter_db = match (known.snr_quarter_db, snr) {
            (Some(old), Some(new)) => Some(old + (new - old) / 4),
            (old, new) => new.or(old),
        };
    }

    /// A frame sent there was acknowledged, or was not.
    pub(super) fn answered(&mut self, port: PortId, near: Near, info: &PortInfo, arrived: bool) {
        let Some(known) = self.table.get_mut(&(port, near)) else { return };
        let (guess, chance) = (guessed(known.snr_quarter_db, info), chance(known, info));
        let target = if arrived { CERTAIN } else { 0 };
        let moved = chance + target / 6 - chance / 6;
        known.correction = i16::try_from(i64::from(moved) - i64::from(guess)).unwrap_or(0);
    }

    /// What one hop to this neighbour costs, ms.
    pub(super) fn link_cost_ms(&self, port: PortId, near: Near, info: &PortInfo) -> u64 {
        let Some(known) = self.table.get(&(port, near)) else { return info.hop_cost_ms() * 2 };
        let chance = u64::from(chance(known, info));
        let airtime_ms = (info.pace.airtime_us(TYPICAL_FRAME_BYTES) / 1000).max(1);
        // Both ways: the acknowledgement must arrive too.
        airtime_ms * u64::from(CERTAIN).pow(2) / (chance * chance)
    }

    /// How many were heard on this port lately.
    pub(super) fn count(&self, now: Time, port: PortId) -> usize {
        let on_port = self.table.range((port, Near(0))..=(port, Near(u16::MAX)));
        on_port.filter(|(_, known)| now.saturating_since(known.heard_at) <= SILENT_MAX).count()
    }

    /// Where a neighbour was heard last.
    pub(super) fn port_of(&self, near: Near) -> Option<PortId> {
        let heard = self.table.iter().filter(|((_, known), _)| *known == near);
        heard.max_by_key(|(_, known)| known.heard_at).map(|((port, _), _)| *port)
    }

    pub(super) fn forget_port(&mut self, port: PortId) {
        self.table.retain(|(on, _), _| *on != port);
    }

    pub(super) fn view(&self, info: impl Fn(PortId) -> Option<PortInfo>) -> Vec<NeighbourView> {
        let entry = |(&(port, near), known): (&(PortId, Near), &Neighbour)| {
            let chance_permille = info(port).map_or(0, |info| chance(known, &info));
            let Neighbour { heard_at, snr_quarter_db, .. } = *known;
            NeighbourView { port, near, heard_at, snr_quarter_db, chance_permille }
        };
        self.table.iter().map(entry).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

fn chance(known: &Neighbour, info: &PortInfo) -> u32 {
    let guess = i64::from(guessed(known.snr_quarter_db, info));
    let corrected = (guess + i64::from(known.correction)).clamp(CHANCE_MIN.into(), CHANCE_MAX.into());
    u32::try_from(corrected).unwrap_or(CHANCE_MIN)
}

/// From half at the receiver's limit to nearly all at 6 dB above it, in a straight line.
fn guessed(snr_quarter_db: Option<i16>, info: &PortInfo) -> u32 {
    let Some(snr) = snr_quarter_db else { return 950 };
    let margin = i64::from(snr) - i64::from(info.snr_floor_quarter_db());
    let chance = 500 + margin * 450 / 24;
    u32::try_from(chance.clamp(CHANCE_MIN.into(), 950)).unwrap_or(CHANCE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::frame::PortKind;
    use crate::radio::{Class, CodingRate, Lora, Pace};

    const PORT: PortId = PortId(0);

    fn radio() -> PortInfo {
        let pace = Pace::Lora(Lora::new(8, 125_000, CodingRate::Cr45).unwrap());
        PortInfo { kind: PortKind::Broadcast, class: Class::of(&pace, 100_000), mtu: 222, pace }
    }

    fn snr(db: i16) -> Option<Quality> {
        Some(Quality { rssi_dbm: -100, snr_quarter_db: 4 * db })
    }

    #[test]
    fn a_weak_link_costs_more_than_a_strong_one() {
        let mut neighbours = Neighbours::default();
        neighbours.heard(Time::ZERO, PORT, Near(1), snr(5));
        neighbours.heard(Time::ZERO, PORT, Near(2), snr(-9));
        let cost = |near| neighbours.link_cost_ms(PORT, Near(near), &radio());
        assert!(cost(2) > 2 * cost(1), "{} {}", cost(2), cost(1));
    }

    #[test]
    fn what_happens_corrects_what_was_guessed() {
        let mut neighbours = Neighbours::default();
        neighbours.heard(Time::ZERO, PORT, Near(1), snr(5));
        let before = neighbours.link_cost_ms(PORT, Near(1), &radio());
        for _ in 0..3 {
            neighbours.answered(PORT, Near(1), &radio(), false);
        }
        let after = neighbours.link_cost_ms(PORT, Near(1), &radio());
        assert!(after > 2 * before, "{after} {before}");
        for _ in 0..20 {
            neighbours.answered(PORT, Near(1), &radio(), true);
        }
        assert!(neighbours.link_cost_ms(PORT, Near(1), &radio()) <= before);
    }

    #[test]
    fn the_one_silent_for_longest_makes_room() {
        let mut neighbours = Neighbours::default();
        for n in 0..200_u16 {
            neighbours.heard(Time::from_millis(n.into()), PORT, Near(n), None);
        }
        assert_eq!(neighbours.len(), MESH_NEIGHBOURS_MAX);
        assert!(neighbours.table.contains_key(&(PORT, Near(199))));
        assert_eq!(neighbours.count(Time::from_millis(200), PORT), MESH_NEIGHBOURS_MAX);
    }
}
