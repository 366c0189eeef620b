//! Flood, then source routes, as MeshCore describes it (github.com/meshcore-dev/MeshCore: docs/packet_format.md,
//! docs/payloads.md, docs/faq.md 5.3 and 5.4; numbers as in src/Mesh.cpp, src/helpers/BaseChatMesh.cpp and
//! examples/companion_radio).
//!
//! The first message to a node floods and collects its path. The target floods back an acknowledgement that brings this
//! path; the sender answers with the path of the flood it just heard, sent along the one it just learned; from then on
//! messages and acknowledgements name the hops they take. Nobody acknowledges between neighbours. A message that is not
//! acknowledged is sent four times in all; the last time it forgets the path and floods. A sender that overhears its
//! acknowledgement on the way knows.
//!
//! Length on the air: a message of n bytes `6 + 16 ceil((5 + n) / 16)` and a byte for each hop; an acknowledgement 6 and
//! the path; a path of p hops `6 + 16 ceil((6 + p) / 16)` and the path it takes itself.
//!
//! **Given away:** hashes of one byte collide in networks of this size; here they do not. The wait for a flood's answer suits
//! the network's diameter, 120 frames and more; its own is 16 and would send everything again. The "rx
//! delay", by which a weak copy of a flood waits for a stronger one, is off by default and on here, because it finds better
//! paths. Repeaters announce themselves every 12 hours; here nobody does. Tables of what was seen hold thousands, not 128.

use std::collections::BTreeMap;

use bytes::Bytes;
use honeylink_core::time::{Deadline, Time};

use super::flood::{class, deliver};
use super::packet::{ANYBODY, Kind, Packet};
use super::station::Station;
use crate::device::{Device, Errand, Input, MessageId, NodeId, Output, Quality, Step};
use crate::plan::Plan;

/// The longest path a frame has room for.
const PATH_MAX: usize = 64;
/// How often a message is sent along a path before the path is given up.
const DIRECT_TRIES_MAX: u8 = 3;
/// How often a message is sent in all.
const TRIES_MAX: u8 = 4;
/// The pause before an acknowledgement.
const ACK_PAUSE_US: u64 = 200_000;
/// The pause before the answer to a path that was flooded.
const PATH_PAUSE_US: u64 = 500_000;
/// The pause before a path is sent again to somebody who still floods.
const PATH_AGAIN_US: u64 = 3_000_000;
/// Shorter waits for a stronger copy are none.
const HESITATION_US_MIN: u64 = 50_000;
/// Waiting for the acknowledgement of a message along a path: at least, and for each hop six frames and this much.
const DIRECT_WAIT_US: u64 = 500_000;
const DIRECT_WAIT_HOP_US: u64 = 250_000;

enum Job {
    Hear(Packet),
    Transmit(Packet),
    TryAgain(MessageId),
}

struct Open {
    to: NodeId,
    payload: Bytes,
    direct_tries: u8,
    tries: u8,
}

/// A node that routes by source.
pub struct SourceRoute {
    station: Station<Job>,
    /// The hops to others: everyone between, and the other itself at the end.
    paths: BTreeMap<NodeId, Vec<NodeId>>,
    /// Messages without acknowledgement.
    open: BTreeMap<MessageId, Open>,
    /// Which message a packet was a try of.
    tries: BTreeMap<u32, MessageId>,
}

impl SourceRoute {
    /// The device of `node` in its `life`th life.
    #[must_use]
    pub fn new(plan: &Plan, node: NodeId, life: u32) -> Self {
        let station = Station::new(plan, node, life);
        Self { station, paths: BTreeMap::new(), open: BTreeMap::new(), tries: BTreeMap::new() }
    }

    fn attempt(&mut self, now: Time, id: MessageId) {
        let Some(mut open) = self.open.remove(&id) else { return };
        if open.tries == TRIES_MAX {
            return self.station.out(Output::Progress { id, step: Step::Failed });
        }
        if open.direct_tries == DIRECT_TRIES_MAX {
            self.paths.remove(&open.to);
        }
        let path = self.paths.get(&open.to).cloned();
        open.tries += 1;
        open.direct_tries += u8::from(path.is_some());
        let number = self.station.number();
        let packet = self.along(path.as_deref(), Kind::Data, open.to, number, open.payload.clone());
        self.station.is_new(&packet);
        let length = length(&packet);
        let airtime_us = self.station.airtime_us(length);
        self.station.transmit(&packet, length, class(&packet));
        let patience = match &path {
            Some(path) => DIRECT_WAIT_US + (6 * airtime_us + DIRECT_WAIT_HOP_US) * (path.len() as u64 + 1),
            None => self.station.patience_us(length),
        };
        self.open.insert(id, open);
        self.tries.insert(number, id);
        self.station.later(now, patience, Job::TryAgain(id));
    }

    /// A packet of this node that takes `path`, or floods.
    fn along(&self, path: Option<&[NodeId]>, kind: Kind, target: NodeId, id: u32, body: Bytes) -> Packet {
        let path = path.unwrap_or_default();
        Packet {
            kind,
            hops: 0,
            origin: self.station.me,
            target,
            id,
            prev: self.station.me,
            next: path.first().copied().unwrap_or(ANYBODY),
            path: path.to_vec(),
            body,
        }
    }

    fn hear(&mut self, now: Time, packet: Packet) {
        let for_me = packet.target == self.station.me;
        if packet.next != ANYBODY && packet.next != self.station.me {
            // Not to be passed on by this node, but an acknowledgement says what it says.
            if for_me && packet.kind == Kind::Ack {
                self.confirmed(packet.id);
            }
            return;
        }
        if !self.station.is_new(&packet) {
            return;
        }
        if for_me {
            return self.receive(now, packet);
        }
        let airtime_us = self.station.airtime_us(length(&packet));
        if packet.next == ANYBODY {
            if packet.path.len() < PATH_MAX {
                let mut path = packet.path.clone();
                path.push(self.station.me);
                let pause = self.station.chance.below(5 * airtime_us / 2);
                self.station.later(now, pause, Job::Transmit(self.onward(packet, ANYBODY, path)));
            }
        } else {
            let path: Vec<NodeId> = packet.path.iter().skip(1).copied().collect();
            let Some(next) = path.first().copied() else { return };
            let pause = self.station.chance.below(3 * airtime_us / 2);
            self.station.later(now, pause, Job::Transmit(self.onward(packet, next, path)));
        }
    }

    /// How long to wait for a stronger copy of a flooded packet before this one counts: its "rx delay", with the base 10.
    fn hesitation_us(&self, packet: &Packet, quality: Option<Quality>) -> u64 {
        let Some(quality) = quality.filter(|_| packet.next == ANYBODY) else { return 0 };
        let (length, floor_cdb) = (length(packet), self.station.settings.snr_floor_cdb());
        // Success is taken to be certain 10 dB above the limit, and less so for long frames.
        let above = (25 * i32::from(quality.snr_quarter_db) - floor_cdb).clamp(0, 1_000);
        let score = f64::from(above) / 1_000.0 * (1.0 - length as f64 / 256.0);
        let frames = 10_f64.powf(0.85 - score) - 1.0;
        let pause_us = (frames.max(0.0) * self.station.airtime_us(length) as f64) as u64;
        if pause_us < HESITATION_US_MIN { 0 } else { pause_us }
    }

    fn onward(&self, packet: Packet, next: NodeId, path: Vec<NodeId>) -> Packet {
        Packet { hops: packet.hops.saturating_add(1), prev: self.station.me, next, path, ..packet }
    }

    fn receive(&mut self, now: Time, packet: Packet) {
        let flooded = packet.next == ANYBODY;
        match packet.kind {
            Kind::Data => {
                let answer = if flooded {
                    self.along(None, Kind::Path, packet.origin, packet.id, path_body(true, &packet.path))
                } else {
                    let path = self.paths.get(&packet.origin).cloned();
                    self.along(path.as_deref(), Kind::Ack, packet.origin, packet.id, Bytes::new())
                };
                if self.station.is_new(&answer) {
                    self.station.later(now, ACK_PAUSE_US, Job::Transmit(answer));
                }
                deliver(&mut self.station, packet);
            }
            Kind::Ack => {
                self.confirmed(packet.id);
                if flooded {
                    // It has no path to this node: what it was told of one got lost.
                    self.tell_path(now, &packet, PATH_AGAIN_US);
                }
            }
            Kind::Path => {
                let (acknowledges, mut path) = path_of(&packet.body);
                path.push(packet.origin);
                self.paths.insert(packet.origin, path);
                if acknowledges {
                    self.confirmed(packet.id);
                }
                if flooded {
                    self.tell_path(now, &packet, PATH_PAUSE_US);
                }
            }
            Kind::Announce | Kind::PathRequest => {}
        }
    }

    /// Tells the origin of a flooded packet which way it came, if a path to it is known.
    fn tell_path(&mut self, now: Time, packet: &Packet, pause_us: u64) {
        let Some(path) = self.paths.get(&packet.origin).cloned() else { return };
        let number = self.station.number();
        let body = path_body(false, &packet.path);
        let told = self.along(Some(&path), Kind::Path, packet.origin, number, body);
        self.station.is_new(&told);
        self.station.later(now, pause_us, Job::Transmit(told));
    }

    fn confirmed(&mut self, number: u32) {
        if let Some(id) = self.tries.remove(&number).filter(|id| self.open.remove(id).is_some()) {
            self.station.out(Output::Progress { id, step: Step::Delivered });
        }
    }
}

/// A path, and whether it acknowledges a message as well.
fn path_body(acknowledges: bool, path: &[NodeId]) -> Bytes {
    let words = path.iter().flat_map(|node| node.0.to_be_bytes());
    std::iter::once(u8::from(acknowledges)).chain(words).collect()
}

fn path_of(body: &[u8]) -> (bool, Vec<NodeId>) {
    let Some((first, words)) = body.split_first() else { return (false, Vec::new()) };
    let words = words.chunks_exact(4).filter_map(|word| word.try_into().ok());
    (*first == 1, words.map(|word| NodeId(u32::from_be_bytes(word))).collect())
}

fn length(packet: &Packet) -> usize {
    // A packet along a path does not name its target there.
    let path = packet.path.len() - usize::from(packet.next != ANYBODY && !packet.path.is_empty());
    let sealed = |bytes: usize| 6 + path + 16 * bytes.div_ceil(16);
    match packet.kind {
        Kind::Data => sealed(5 + packet.body.len()),
        // A hop of the path it brings takes four bytes in this encoding and one in theirs.
        Kind::Path => sealed(6 + packet.body.len() / 4),
        Kind::Ack | Kind::Announce | Kind::PathRequest => 6 + path,
    }
}

impl Device for SourceRoute {
    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::App(Errand { id, to, payload, .. }) => {
                self.open.insert(id, Open { to, payload, direct_tries: 0, tries: 0 });
                self.attempt(now, id);
            }
            Input::Frame { bytes, quality, .. } => {
                let Some(packet) = Packet::decode(&bytes) else { return };
                match self.hesitation_us(&packet, quality) {
                    0 => self.hear(now, packet),
                    pause => drop(self.station.later(now, pause, Job::Hear(packet))),
                }
            }
            Input::Timeout => {
                while let Some(job) = self.station.due(now) {
                    match job {
                        Job::Transmit(packet) => {
                            self.station.transmit(&packet, length(&packet), class(&packet));
                        }
                        Job::Hear(packet) => self.hear(now, packet),
                        Job::TryAgain(id) => self.attempt(now, id),
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
    fn lengths_are_those_of_the_modelled_frames() {
        let packet = |kind, body: usize, hops: usize, next| Packet {
            kind,
            hops: 0,
            origin: NodeId(0),
            target: NodeId(1),
            id: 0,
            prev: NodeId(0),
            next,
            path: vec![NodeId(2); hops],
            body: Bytes::from(vec![1; body]),
        };
        assert_eq!(length(&packet(Kind::Data, 20, 0, ANYBODY)), 38);
        assert_eq!(length(&packet(Kind::Data, 20, 5, ANYBODY)), 43);
        assert_eq!(length(&packet(Kind::Data, 20, 5, NodeId(2))), 42);
        assert_eq!(length(&packet(Kind::Ack, 0, 5, NodeId(2))), 10);
        assert_eq!(length(&packet(Kind::Path, 1 + 4 * 5, 5, ANYBODY)), 27);
    }

    #[test]
    fn the_first_message_floods_and_both_then_know_a_path() {
        let mut trial = Trial::line(Protocol::SourceRoute, 5);
        trial.send(0, 4);
        trial.run(60);
        assert_eq!((trial.delivered.len(), trial.confirmed()), (1, 1));
        let kinds: Vec<Kind> = trial.sent.iter().map(|sent| sent.packet.kind).collect();
        let count = |kind| kinds.iter().filter(|k| **k == kind).count();
        // Everybody but the target passes the flood on; the path comes back by flood and is answered along itself.
        assert_eq!((count(Kind::Data), count(Kind::Path), count(Kind::Ack)), (4, 4 + 4, 0));

        let before = trial.sent.len();
        trial.send(0, 4);
        trial.run(60);
        trial.send(4, 0);
        trial.run(60);
        assert_eq!((trial.delivered.len(), trial.confirmed()), (3, 3));
        assert!(trial.sent[before..].iter().all(|sent| sent.packet.next != ANYBODY), "nothing floods");
        assert_eq!(trial.sent.len() - before, 2 * (4 + 4), "each hop once there and once back");
    }

    #[test]
    fn a_broken_path_is_tried_three_times_and_then_flooded_around() {
        // 0 and 3 are joined by 1 and by 2.
        let mut trial = Trial::new(Protocol::SourceRoute, 4, |a, b| a.abs_diff(b) != 3 && a + b != 3);
        trial.send(0, 3);
        trial.run(60);
        let path = trial.sent.iter().rev().find(|sent| sent.packet.kind == Kind::Path).unwrap();
        let broken = path.packet.prev.index();
        assert!(broken == 1 || broken == 2);
        trial.deaf(broken);
        let before = trial.sent.len();
        trial.send(0, 3);
        trial.run(120);
        let mine: Vec<bool> = trial.sent[before..]
            .iter()
            .filter(|sent| sent.by == 0 && sent.packet.kind == Kind::Data)
            .map(|sent| sent.packet.next == ANYBODY)
            .collect();
        assert_eq!(mine, [false, false, false, true]);
        assert_eq!((trial.delivered.len(), trial.confirmed()), (2, 2));
    }
}
