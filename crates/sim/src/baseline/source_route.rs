//! Flood, then source routes, as MeshCore describes it: the first message to a node floods and collects its path, the
//! target sends the path back along itself, and from then on messages name the hops they take.
//!
//! Length on the air: `7 + 16 ceil((5 + n) / 16)` for n bytes of text and one byte for each hop of the path; an
//! acknowledgement 6 and the path. A path answer holds the path once more, in blocks of 16. A direct message that is not
//! acknowledged is tried once more and then floods, twice at most. MeshCore's hashes of one byte collide in networks of
//! this size; here they do not. All nodes repeat, as its repeaters do.

use std::collections::BTreeMap;

use bytes::Bytes;
use honeylink_core::time::{Deadline, Time};

use super::flood::{PATIENCE_FRAMES, class, deliver};
use super::packet::{ANYBODY, Kind, Packet};
use super::station::Station;
use crate::device::{Device, Errand, Input, MessageId, NodeId, Output, Step};
use crate::plan::Plan;

/// The longest path a frame has room for.
const PATH_MAX: usize = 64;
const DIRECT_TRIES_MAX: u8 = 2;
const FLOOD_TRIES_MAX: u8 = 2;
/// What an acknowledgement's body says when it brings a path.
const BRINGS_PATH: u8 = 1;

enum Job {
    Transmit(Packet),
    TryAgain(MessageId),
}

struct Open {
    to: NodeId,
    payload: Bytes,
    direct_tries: u8,
    flood_tries: u8,
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
        let number = self.station.number();
        if open.direct_tries == DIRECT_TRIES_MAX {
            self.paths.remove(&open.to);
        }
        let path = self.paths.get(&open.to).cloned();
        if path.is_none() && open.flood_tries == FLOOD_TRIES_MAX {
            return self.station.out(Output::Progress { id, step: Step::Failed });
        }
        let packet = Packet {
            kind: Kind::Data,
            hops: 0,
            origin: self.station.me,
            target: open.to,
            id: number,
            prev: self.station.me,
            next: path.as_ref().and_then(|path| path.first().copied()).unwrap_or(ANYBODY),
            path: path.clone().unwrap_or_default(),
            body: open.payload.clone(),
        };
        self.station.is_new(&packet);
        let length = length(&packet);
        let airtime_us = self.station.airtime_us(length);
        self.station.transmit(&packet, length, class(&packet));
        let patience = match &path {
            Some(path) => {
                open.direct_tries += 1;
                500_000 + (6 * airtime_us + 250_000) * (path.len() as u64 + 1)
            }
            None => {
                open.flood_tries += 1;
                PATIENCE_FRAMES * airtime_us
            }
        };
        self.open.insert(id, open);
        self.tries.insert(number, id);
        self.station.later(now, patience, Job::TryAgain(id));
    }

    fn hear(&mut self, now: Time, packet: Packet) {
        if packet.next != ANYBODY && packet.next != self.station.me {
            return;
        }
        if !self.station.is_new(&packet) {
            return;
        }
        if packet.target == self.station.me {
            return match packet.kind {
                Kind::Data => self.receive(now, packet),
                Kind::Ack | Kind::Announce | Kind::PathRequest => self.confirmed(&packet),
            };
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
            let pause = self.station.chance.below(airtime_us);
            self.station.later(now, pause, Job::Transmit(self.onward(packet, next, path)));
        }
    }

    fn onward(&self, packet: Packet, next: NodeId, path: Vec<NodeId>) -> Packet {
        Packet { hops: packet.hops.saturating_add(1), prev: self.station.me, next, path, ..packet }
    }

    fn receive(&mut self, now: Time, packet: Packet) {
        let flooded = packet.next == ANYBODY;
        if flooded {
            let mut back: Vec<NodeId> = packet.path.iter().rev().copied().collect();
            back.push(packet.origin);
            self.paths.insert(packet.origin, back);
        }
        let path = self.paths.get(&packet.origin).cloned();
        let body = if flooded { path_body(&packet.path) } else { Bytes::new() };
        let ack = Packet {
            kind: Kind::Ack,
            hops: 0,
            origin: self.station.me,
            target: packet.origin,
            id: packet.id,
            prev: self.station.me,
            next: path.as_ref().and_then(|path| path.first().copied()).unwrap_or(ANYBODY),
            path: path.unwrap_or_default(),
            body,
        };
        if self.station.is_new(&ack) {
            self.station.later(now, 0, Job::Transmit(ack));
        }
        deliver(&mut self.station, packet);
    }

    fn confirmed(&mut self, packet: &Packet) {
        if packet.body.first() == Some(&BRINGS_PATH) {
            let mut path: Vec<NodeId> = packet.body[1..]
                .chunks_exact(4)
                .filter_map(|word| word.try_into().ok().map(|word| NodeId(u32::from_be_bytes(word))))
                .collect();
            path.push(packet.origin);
            self.paths.insert(packet.origin, path);
        }
        if let Some(id) = self.tries.remove(&packet.id).filter(|id| self.open.remove(id).is_some()) {
            self.station.out(Output::Progress { id, step: Step::Delivered });
        }
    }
}

/// The path a flooded packet took, for its origin.
fn path_body(path: &[NodeId]) -> Bytes {
    let words = path.iter().flat_map(|node| node.0.to_be_bytes());
    std::iter::once(BRINGS_PATH).chain(words).collect()
}

fn length(packet: &Packet) -> usize {
    let path = packet.path.len();
    if packet.kind == Kind::Data {
        7 + 16 * (5 + packet.body.len()).div_ceil(16) + path
    } else if packet.body.is_empty() {
        6 + path
    } else {
        // A hop of the path it brings takes four bytes in this encoding and one in theirs.
        6 + path + 16 * (6 + packet.body.len() / 4).div_ceil(16)
    }
}

impl Device for SourceRoute {
    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::App(Errand { id, to, payload, .. }) => {
                self.open.insert(id, Open { to, payload, direct_tries: 0, flood_tries: 0 });
                self.attempt(now, id);
            }
            Input::Frame { bytes, .. } => {
                if let Some(packet) = Packet::decode(&bytes) {
                    self.hear(now, packet);
                }
            }
            Input::Timeout => {
                while let Some(job) = self.station.due(now) {
                    match job {
                        Job::Transmit(packet) => {
                            self.station.transmit(&packet, length(&packet), class(&packet));
                        }
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
    use super::*;

    #[test]
    fn lengths_are_those_of_the_modelled_frames() {
        let packet = |kind, body: usize, path: usize| Packet {
            kind,
            hops: 0,
            origin: NodeId(0),
            target: NodeId(1),
            id: 0,
            prev: NodeId(0),
            next: ANYBODY,
            path: vec![NodeId(2); path],
            body: Bytes::from(vec![BRINGS_PATH; body]),
        };
        assert_eq!(length(&packet(Kind::Data, 20, 0)), 39);
        assert_eq!(length(&packet(Kind::Data, 20, 5)), 44);
        assert_eq!(length(&packet(Kind::Ack, 0, 5)), 11);
        assert_eq!(length(&packet(Kind::Ack, 1 + 4 * 5, 5)), 27);
    }
}
