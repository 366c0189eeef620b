//! Ports: where frames come in and go out, and what the air at each of them is like.
//!
//! A port is a radio, which everybody near hears, or a connection to one neighbour. Two things are kept per port besides
//! what its owner said of it: until when the channel belongs to others, and how busy it was lately. Both come from
//! frames heard, so they cost nothing, and both spare the air: whoever hears a frame for somebody else waits for that
//! one to pass it on before speaking itself.

use std::collections::BTreeMap;

use core::time::Duration;

use super::frame::PortKind;
use crate::limits::MESH_PORTS_MAX;
use crate::radio::{Class, Pace};
use crate::time::Time;

/// The frame a link is judged by, bytes: a short message under way.
pub(super) const TYPICAL_FRAME_BYTES: usize = 44;
/// What was heard counts half as much after this time.
const BUSY_HALF_LIFE: Duration = Duration::from_secs(15);
/// What a constant stream heard adds up to. Between halvings the decay is a straight line, and a stream starts a new one
/// with each frame: it loses half per half-life.
const BUSY_FULL_US: u64 = 30_000_000;

/// Names a port of this node, for as long as it is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u16);

/// How well a frame was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Received power, dBm.
    pub rssi_dbm: i16,
    /// Signal to noise, quarters of a decibel, as LoRa modems report it.
    pub snr_quarter_db: i16,
}

/// What a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Heard by everybody near, or by one neighbour.
    pub kind: PortKind,
    /// What it can carry.
    pub class: Class,
    /// Largest frame, bytes.
    pub mtu: usize,
    /// How long a frame takes.
    pub pace: Pace,
}

impl PortInfo {
    /// Time a frame of `bytes` takes here.
    #[must_use]
    pub fn airtime(&self, bytes: usize) -> Duration {
        Duration::from_micros(self.pace.airtime_us(bytes))
    }

    /// Whether others hear what is said to one of them.
    #[must_use]
    pub fn is_radio(&self) -> bool {
        self.kind == PortKind::Broadcast
    }

    /// What one hop costs where nothing better is known, ms.
    #[must_use]
    pub fn hop_cost_ms(&self) -> u64 {
        (self.pace.airtime_us(TYPICAL_FRAME_BYTES) * 5 / 4 / 1000).max(1)
    }

    /// The signal-to-noise ratio at which half of the frames are lost, quarters of a decibel (SX1276 data sheet, table
    /// 13: -7.5 dB at SF7, 2.5 dB lower with each step). Zero for what is no LoRa radio.
    #[must_use]
    pub fn snr_floor_quarter_db(&self) -> i16 {
        match self.pace {
            Pace::Lora(lora) => -30 - 10 * (i16::from(lora.spreading_factor()) - 7),
            Pace::Rate { .. } => 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Port {
    info: PortInfo,
    quiet_until: Time,
    busy_us: u64,
    busy_at: Time,
}

/// The ports that are up.
#[derive(Debug, Default)]
pub(super) struct Ports {
    ports: BTreeMap<PortId, Port>,
}

impl Ports {
    /// Takes a port up, or replaces what is known of it. False if there are too many.
    pub(super) fn up(&mut self, id: PortId, info: PortInfo) -> bool {
        let room = self.ports.len() < MESH_PORTS_MAX || self.ports.contains_key(&id);
        if room {
            let port = Port { info, quiet_until: Time::ZERO, busy_us: 0, busy_at: Time::ZERO };
            self.ports.insert(id, port);
        }
        room
    }

    pub(super) fn down(&mut self, id: PortId) -> bool {
        self.ports.remove(&id).is_some()
    }

    pub(super) fn info(&self, id: PortId) -> Option<&PortInfo> {
        self.ports.get(&id).map(|port| &port.info)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PortId, &PortInfo)> {
        self.ports.iter().map(|(id, port)| (*id, &port.info))
    }

    pub(super) fn len(&self) -> usize {
        self.ports.len()
    }

    /// A frame of `bytes` was heard.
    pub(super) fn heard(&mut self, now: Time, id: PortId, bytes: usize) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.busy_us = decayed(port, now).saturating_add(port.info.pace.airtime_us(bytes));
            port.busy_at = now;
        }
    }

    /// The channel belongs to others for `span` from now.
    pub(super) fn hush(&mut self, now: Time, id: PortId, span: Duration) {
        if let Some(port) = self.ports.get_mut(&id).filter(|port| port.info.is_radio()) {
            port.quiet_until = port.quiet_until.max(now + span);
        }
    }

    /// Until when the channel belongs to others; in the past if it does not.
    pub(super) fn quiet_until(&self, id: PortId) -> Time {
        self.ports.get(&id).map_or(Time::ZERO, |port| port.quiet_until)
    }

    /// Share of the last half minute in which frames were heard here, percent.
    pub(super) fn busy_percent(&self, now: Time, id: PortId) -> u64 {
        self.ports.get(&id).map_or(0, |port| (decayed(port, now) * 100 / BUSY_FULL_US).min(100))
    }
}

fn decayed(port: &Port, now: Time) -> u64 {
    let age = now.saturating_since(port.busy_at).as_micros();
    let half_life = BUSY_HALF_LIFE.as_micros();
    let halvings = u32::try_from(age / half_life).unwrap_or(u32::MAX);
    let whole = port.busy_us.checked_shr(halvings).unwrap_or(0);
    // Straight lines between the halvings are near enough.
    let part = u64::try_from(age % half_life * 500 / half_life).unwrap_or(0);
    whole - whole * part / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::radio::{CodingRate, Lora};

    fn radio() -> PortInfo {
        let pace = Pace::Lora(Lora::new(8, 125_000, CodingRate::Cr45).unwrap());
        PortInfo { kind: PortKind::Broadcast, class: Class::of(&pace, 100_000), mtu: 222, pace }
    }

    #[test]
    fn a_channel_is_as_busy_as_it_was_lately() {
        let (mut ports, id) = (Ports::default(), PortId(1));
        assert!(ports.up(id, radio()));
        assert_eq!(ports.busy_percent(Time::ZERO, id), 0);
        let mut now = Time::ZERO;
        for _ in 0..600 {
            now += Duration::from_micros(2 * radio().pace.airtime_us(44));
            ports.heard(now, id, 44);
        }
        let busy = ports.busy_percent(now, id);
        assert!((45..=57).contains(&busy), "half of the time: {busy} %");
        assert!(ports.busy_percent(now + Duration::from_secs(15), id) <= busy / 2 + 1);
        assert_eq!(ports.busy_percent(now + Duration::from_secs(600), id), 0);
    }

    #[test]
    fn only_a_radio_is_hushed() {
        let mut ports = Ports::default();
        ports.up(PortId(1), radio());
        ports.up(PortId(2), PortInfo { kind: PortKind::PointToPoint, ..radio() });
        for id in [PortId(1), PortId(2), PortId(3)] {
            ports.hush(Time::ZERO, id, Duration::from_secs(1));
        }
        assert_eq!(ports.quiet_until(PortId(1)), Time::from_millis(1000));
        assert_eq!(ports.quiet_until(PortId(2)), Time::ZERO);
    }

    #[test]
    fn there_are_never_more_ports_than_the_limit() {
        let mut ports = Ports::default();
        let taken = (0..1000).filter(|n| ports.up(PortId(*n), radio())).count();
        assert_eq!((taken, ports.len()), (MESH_PORTS_MAX, MESH_PORTS_MAX));
    }
}
