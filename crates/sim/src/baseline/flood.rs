//! Flooding: every node repeats every packet once, after a random pause.
//!
//! The frame is Meshtastic's, so that the comparison with managed flooding shows the management alone. The target answers
//! with an acknowledgement that floods back. A sender that hears none tries again, three times in all.

use std::collections::BTreeMap;

use honeylink_core::time::{Deadline, Time};

use super::packet::{ANYBODY, Kind, Packet};
use super::station::Station;
use crate::device::{Class, Device, Errand, Input, MessageId, NodeId, Output, Step};
use crate::plan::Plan;

/// What a message takes on top of its bytes: a header of 16 and the encoding of text, port and key.
pub(super) const OVERHEAD_BYTES: usize = 32;
/// What an acknowledgement takes.
pub(super) const ACK_BYTES: usize = 28;
/// How often a message is sent at most.
pub(super) const TRIES_MAX: u8 = 3;
/// The random pause before repeating, in frames.
const PAUSE_FRAMES: u64 = 8;
/// More hops than any path needs: a frame that goes on for ever would be a fault of this model.
const HOPS_MAX: u8 = 63;

pub(super) enum Job {
    Repeat(Packet),
    TryAgain(u32),
}

/// A message without an acknowledgement.
pub(super) struct Open {
    pub(super) id: MessageId,
    pub(super) packet: Packet,
    pub(super) tries: u8,
}

/// A node that floods.
pub struct Flood {
    station: Station<Job>,
    open: BTreeMap<u32, Open>,
}

impl Flood {
    /// The device of `node` in its `life`th life.
    #[must_use]
    pub fn new(plan: &Plan, node: NodeId, life: u32) -> Self {
        Self { station: Station::new(plan, node, life), open: BTreeMap::new() }
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
        self.station.is_new(&packet);
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
        // Those who repeated the first try would take a second one for an echo.
        let mut packet = open.packet.clone();
        packet.id = number.wrapping_add(u32::from(open.tries) - 1);
        let length = length(&packet);
        self.station.is_new(&packet);
        self.station.transmit(&packet, length, class(&packet));
        let patience = self.station.patience_us(length);
        self.station.later(now, patience, Job::TryAgain(number));
    }

    fn hear(&mut self, now: Time, packet: Packet) {
        if !self.station.is_new(&packet) || packet.hops >= HOPS_MAX {
            return;
        }
        let me = self.station.me;
        if packet.target == me {
            return match packet.kind {
                Kind::Data => self.answer(now, packet),
                Kind::Ack | Kind::Announce | Kind::PathRequest | Kind::Path => self.confirmed(packet.id),
            };
        }
        let pause = self.station.chance.below(PAUSE_FRAMES * self.station.airtime_us(length(&packet)));
        let repeated = Packet { hops: packet.hops + 1, prev: me, ..packet };
        self.station.later(now, pause, Job::Repeat(repeated));
    }

    fn answer(&mut self, now: Time, packet: Packet) {
        let ack = acknowledgement(self.station.me, &packet);
        if self.station.is_new(&ack) {
            self.station.later(now, 0, Job::Repeat(ack));
        }
        deliver(&mut self.station, packet);
    }

    fn confirmed(&mut self, number: u32) {
        if let Some(open) = settle(&mut self.open, number) {
            self.station.out(Output::Progress { id: open.id, step: Step::Delivered });
        }
    }
}

/// Takes out the message one of whose tries has this number.
pub(super) fn settle(open: &mut BTreeMap<u32, Open>, number: u32) -> Option<Open> {
    (0..u32::from(TRIES_MAX)).find_map(|tries| open.remove(&number.wrapping_sub(tries)))
}

/// Gives a message to the application, once whatever the number of tries that came through.
pub(super) fn deliver<J>(station: &mut Station<J>, packet: Packet) {
    let body = crate::message::number(&packet.body).map_or(packet.id, |id| id.0);
    let once = Packet { kind: Kind::PathRequest, id: body, path: Vec::new(), ..packet.clone() };
    if station.is_new(&once) {
        station.out(Output::Deliver { from: Some(packet.origin), payload: packet.body });
    }
}

pub(super) fn acknowledgement(me: NodeId, packet: &Packet) -> Packet {
    Packet {
        kind: Kind::Ack,
        hops: 0,
        origin: me,
        target: packet.origin,
        id: packet.id,
        prev: me,
        next: ANYBODY,
        path: Vec::new(),
        body: bytes::Bytes::new(),
    }
}

pub(super) fn length(packet: &Packet) -> usize {
    if packet.kind == Kind::Data { OVERHEAD_BYTES + packet.body.len() } else { ACK_BYTES }
}

pub(super) const fn class(packet: &Packet) -> Class {
    match packet.kind {
        Kind::Data => Class::Data,
        Kind::Ack => Class::Ack,
        Kind::Announce => Class::Announce,
        Kind::PathRequest | Kind::Path => Class::Route,
    }
}

impl Device for Flood {
    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::App(errand) => self.send(now, errand),
            Input::Frame { bytes, .. } => {
                if let Some(packet) = Packet::decode(&bytes) {
                    self.hear(now, packet);
                }
            }
            Input::Timeout => {
                while let Some(job) = self.station.due(now) {
                    match job {
                        Job::Repeat(packet) => {
                            self.station.transmit(&packet, length(&packet), class(&packet));
                        }
                        Job::TryAgain(number) => self.attempt(now, number),
                    }
                }
            }
            Input::Boot(_)
            | Input::PortUp(..)
            | Input::PortDown(_)
            | Input::Sent { .. }
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

    #[test]
    fn everybody_but_the_target_repeats_a_message_once_and_its_acknowledgement_once() {
        let mut trial =
            Trial::new(Protocol::Flood, 9, |a, b| (a / 3).abs_diff(b / 3) + (a % 3).abs_diff(b % 3) == 1);
        trial.send(0, 8);
        trial.run(60);
        assert_eq!((trial.delivered.clone(), trial.confirmed()), (vec![8], 1));
        let by = |kind| trial.sent.iter().filter(move |s| s.packet.kind == kind).map(|s| s.by);
        let (mut data, mut acks): (Vec<_>, Vec<_>) = (by(Kind::Data).collect(), by(Kind::Ack).collect());
        data.sort_unstable();
        acks.sort_unstable();
        assert_eq!((data, acks), ((0..8).collect(), (1..9).collect()));
        assert!(trial.sent.iter().all(|s| s.length == if s.packet.kind == Kind::Data { 52 } else { 28 }));
    }

    #[test]
    fn a_message_nobody_acknowledges_is_sent_three_times_and_given_up() {
        let mut trial = Trial::line(Protocol::Flood, 2);
        trial.deaf(1);
        trial.send(0, 1);
        trial.run(300);
        assert_eq!((trial.sent.len(), trial.failed()), (usize::from(TRIES_MAX), 1));
    }
}
