//! Managed flooding as Meshtastic describes it (meshtastic.org/docs/overview/mesh-algo): who hears a packet weakly repeats
//! it first, and whoever hears another repeat it keeps silent.
//!
//! A repeater waits `2 * 8` slots and a random number of slots below `2^w`, w from 3 at an SNR of -20 dB to 8 at +10 dB;
//! a slot is 8.5 symbols and 7.6 ms. Messages to one node ask for an acknowledgement, which floods back the same way; up
//! to three tries. The routing of direct messages by one remembered next hop, which came with its version 2.6, is not
//! modelled: this is the managed flood that it falls back to, and that everything but direct messages uses.
//!
//! **Given away:** seven hops, the most its frame can count, where three are its default; a wait for the acknowledgement that
//! suits the network's diameter, which is longer than its own and sends less again; no position, telemetry or node information.

use std::collections::BTreeMap;

use honeylink_core::time::{Deadline, Time};

use super::flood::{Open, TRIES_MAX, acknowledgement, class, deliver, length, settle};
use super::packet::{ANYBODY, Kind, Packet};
use super::station::Station;
use crate::device::{Device, Errand, Input, NodeId, Output, Quality, Step};
use crate::plan::Plan;

/// The most hops its frame can count.
pub const HOPS_MAX: u8 = 7;
const WINDOW_BITS_MIN: i32 = 3;
const WINDOW_BITS_MAX: i32 = 8;
const SNR_MIN_DB: i32 = -20;
const SNR_MAX_DB: i32 = 10;

enum Job {
    Repeat((Kind, NodeId, u32)),
    TryAgain(u32),
}

enum Repeat {
    /// Waits for its moment, as this job.
    Planned { packet: Packet, job: (Time, u64) },
    /// Waits in the radio's queue.
    Queued { token: u64 },
}

/// A node that floods with restraint.
pub struct ManagedFlood {
    station: Station<Job>,
    open: BTreeMap<u32, Open>,
    repeats: BTreeMap<(Kind, NodeId, u32), Repeat>,
    hops_max: u8,
}

impl ManagedFlood {
    /// The device of `node` in its `life`th life, whose packets go `hops_max` hops.
    #[must_use]
    pub fn new(plan: &Plan, node: NodeId, life: u32, hops_max: u8) -> Self {
        let station = Station::new(plan, node, life);
        Self { station, open: BTreeMap::new(), repeats: BTreeMap::new(), hops_max }
    }

    fn send(&mut self, now: Time, errand: Errand) {
        let packet = Packet {
            kind: Kind::Data,
            hops: 0,
            origin: self.station.me,
            target: errand.to,
            id: self.station.number(),
            prev: self.station.me,
            next: ANYBODY,
            path: Vec::new(),
            body: errand.payload,
        };
        let number = packet.id;
        self.open.insert(number, Open { id: errand.id, packet, tries: 0 });
        self.attempt(now, number);
    }

    fn attempt(&mut self, now: Time, number: u32) {
        let Some(open) = self.open.get_mut(&number) else { return };
        if open.tries == TRIES_MAX {
            self.station.out(Output::Progress { id: open.id, step: Step::Failed });
            self.open.remove(&number);
            return;
        }
        open.tries += 1;
        let mut packet = open.packet.clone();
        packet.id = number.wrapping_add(u32::from(open.tries) - 1);
        self.station.is_new(&packet);
        let length = length(&packet);
        self.station.transmit(&packet, length, class(&packet));
        let patience = self.station.patience_us(length);
        self.station.later(now, patience, Job::TryAgain(number));
    }

    fn hear(&mut self, now: Time, packet: Packet, quality: Option<Quality>) {
        let key = (packet.kind, packet.origin, packet.id);
        if !self.station.is_new(&packet) {
            // Somebody else has repeated it: once is enough.
            match self.repeats.remove(&key) {
                Some(Repeat::Planned { job, .. }) => drop(self.station.forget(job)),
                Some(Repeat::Queued { token }) => self.station.withdraw(token),
                None => {}
            }
            return;
        }
        let me = self.station.me;
        if packet.target == me {
            return match packet.kind {
                Kind::Data => self.answer(packet),
                Kind::Ack | Kind::Announce | Kind::PathRequest | Kind::Path => self.confirmed(packet.id),
            };
        }
        if packet.hops < self.hops_max {
            let pause = self.pause_us(quality);
            let job = self.station.later(now, pause, Job::Repeat(key));
            let packet = Packet { hops: packet.hops + 1, prev: me, ..packet };
            self.repeats.insert(key, Repeat::Planned { packet, job });
        }
    }

    fn answer(&mut self, packet: Packet) {
        let ack = acknowledgement(self.station.me, &packet);
        if self.station.is_new(&ack) {
            self.station.transmit(&ack, length(&ack), class(&ack));
        }
        deliver(&mut self.station, packet);
    }

    fn confirmed(&mut self, number: u32) {
        if let Some(open) = settle(&mut self.open, number) {
            self.station.out(Output::Progress { id: open.id, step: Step::Delivered });
        }
    }

    fn repeat(&mut self, key: (Kind, NodeId, u32)) {
        let Some(Repeat::Planned { packet, .. }) = self.repeats.remove(&key) else { return };
        let token = self.station.transmit(&packet, length(&packet), class(&packet));
        self.repeats.insert(key, Repeat::Queued { token });
    }

    fn pause_us(&mut self, quality: Option<Quality>) -> u64 {
        let snr_db = quality.map_or(SNR_MIN_DB, |quality| i32::from(quality.snr_quarter_db) / 4);
        let part = (snr_db.clamp(SNR_MIN_DB, SNR_MAX_DB) - SNR_MIN_DB) * (WINDOW_BITS_MAX - WINDOW_BITS_MIN);
        let bits = WINDOW_BITS_MIN + part / (SNR_MAX_DB - SNR_MIN_DB);
        let slot_us = self.station.settings.symbol_us() * 17 / 2 + 7_600;
        let slots = 2 * WINDOW_BITS_MAX.unsigned_abs() as u64 + self.station.chance.below(1 << bits);
        slots * slot_us
    }
}

impl Device for ManagedFlood {
    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::App(errand) => self.send(now, errand),
            Input::Frame { bytes, quality, .. } => {
                if let Some(packet) = Packet::decode(&bytes) {
                    self.hear(now, packet, quality);
                }
            }
            Input::Sent { token, .. } => {
                self.repeats
                    .retain(|_, repeat| !matches!(repeat, Repeat::Queued { token: sent } if *sent == token));
            }
            Input::Timeout => {
                while let Some(job) = self.station.due(now) {
                    match job {
                        Job::Repeat(key) => self.repeat(key),
                        Job::TryAgain(number) => self.attempt(now, number),
                    }
                }
            }
            Input::Boot(_)
            | Input::PortUp(..)
            | Input::PortDown(_)
            | Input::Synced(_)
            | Input::WallClock(_) => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.station.poll_output()
    }

    fn poll_timeout(&mut self) -> Option<Deadline> {
        self.station.poll_timeout()
    }

    fn state_bytes(&self) -> usize {
        self.station.state_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;
    use crate::protocol::Protocol;

    /// 0 reaches 1 and 2, which both reach 3 and each other.
    fn diamond() -> Trial {
        let mut trial = Trial::new(Protocol::ManagedFlood, 4, |a, b| a != b && a.abs_diff(b) != 3);
        // 2 hears everybody weakly, 1 loudly.
        trial.snr_quarter_db = |_, to| if to == 2 { -40 } else { 40 };
        trial
    }

    #[test]
    fn who_hears_weakly_repeats_first_and_the_other_keeps_silent() {
        let mut trial = diamond();
        trial.send(0, 3);
        trial.run(20);
        assert_eq!((trial.delivered.len(), trial.confirmed()), (1, 1));
        let data: Vec<usize> =
            trial.sent.iter().filter(|s| s.packet.kind == Kind::Data).map(|s| s.by).collect();
        assert_eq!(data, [0, 2]);
    }

    #[test]
    fn the_hop_limit_ends_a_message_and_without_one_it_arrives() {
        let hops = usize::from(HOPS_MAX);
        for (protocol, nodes, arrives) in [
            (Protocol::ManagedFlood, hops + 2, 1),
            (Protocol::ManagedFlood, hops + 3, 0),
            (Protocol::ManagedFloodUnlimited, hops + 3, 1),
        ] {
            let mut trial = Trial::line(protocol, nodes);
            trial.send(0, nodes - 1);
            trial.run(300);
            assert_eq!((trial.delivered.len(), trial.confirmed()), (arrives, arrives), "{nodes}");
        }
    }

    #[test]
    fn the_window_grows_with_the_signal() {
        let mut device = ManagedFlood::new(&diamond().plan, NodeId(1), 1, HOPS_MAX);
        let mut longest = |snr_db: i16| {
            let quality = Some(Quality { rssi_dbm: -90, snr_quarter_db: 4 * snr_db });
            (0..2_000).map(|_| device.pause_us(quality)).max().unwrap()
        };
        // SF8 at 125 kHz: slots of 25 ms; 16 of them, and up to 7 or 255 more.
        assert_eq!((longest(-20), longest(10)), (23 * 25_008, 271 * 25_008));
    }
}
