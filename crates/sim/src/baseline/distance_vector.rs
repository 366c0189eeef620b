//! Announces build routing tables, as Reticulum describes it (reticulum.network/manual/understanding.html).
//!
//! A node announces itself now and then; every other repeats the announce once and remembers from whom it came with the
//! fewest hops. Announces take at most 2 % of the channel's time at each node, and those from nearby go first. A message
//! follows the remembered hops; its proof goes back the way it came. Where a path is missing the sender asks for one, and
//! whoever knows a path answers with the announce it holds (as nodes in Reticulum's gateway mode do; by default only
//! neighbours answer). There are no acknowledgements between neighbours: a message without proof is sent again, three
//! times in all, and a new path is asked for before the last.
//!
//! Length on the air for 20 bytes of text: 131, relayed 147; proof 83; announce 167, relayed 183; path request 51,
//! relayed 67.

use std::collections::BTreeMap;

use bytes::Bytes;
use honeylink_core::time::{Deadline, Time};

use super::flood::{class, deliver};
use super::packet::{ANYBODY, Kind, Packet};
use super::station::Station;
use crate::device::{Class, Device, Errand, Input, MessageId, NodeId, Output, PortId, Step};
use crate::plan::Plan;

/// What a message takes on top of its bytes: header, ephemeral key, padding, authentication.
const OVERHEAD_BYTES: usize = 111;
const PROOF_BYTES: usize = 83;
const ANNOUNCE_BYTES: usize = 167;
const REQUEST_BYTES: usize = 51;
/// A second address in the header of everything that is relayed.
const RELAYED_BYTES: usize = 16;
/// A node announces itself this often: the default of the network's best-known program is six hours.
const ANNOUNCE_EVERY_US: u64 = 6 * 3_600_000_000;
/// And for the first time within this.
const ANNOUNCE_FIRST_US: u64 = 900_000_000;
/// An announce is repeated within this.
const REPEAT_US: u64 = 500_000;
/// The part of the channel's time that announces may take at a node: one in so many.
const ANNOUNCE_PART: u64 = 50;
/// Announces that wait to be repeated.
const ANNOUNCES_WAITING_MAX: usize = 4_096;
/// Waiting for a proof, for each hop there and back.
const PER_HOP_US: u64 = 6_000_000;
/// Waiting for a path.
const PATH_WAIT_US: u64 = 15_000_000;
const TRIES_MAX: u8 = 3;
const HOPS_MAX: u8 = 128;

enum Job {
    Announce,
    /// The share of announces frees.
    Release,
    Transmit(Packet),
    TryAgain(MessageId),
}

struct Route {
    next: NodeId,
    hops: u8,
    number: u32,
}

struct Open {
    to: NodeId,
    payload: Bytes,
    tries: u8,
    asked: u8,
    /// When the next try is due.
    job: Option<(Time, u64)>,
}

/// A node that keeps a routing table.
pub struct DistanceVector {
    station: Station<Job>,
    routes: BTreeMap<NodeId, Route>,
    /// Announces to repeat, the nearest first.
    waiting: BTreeMap<(u8, NodeId), Packet>,
    announces_free_at: Time,
    release_planned: bool,
    open: BTreeMap<MessageId, Open>,
    tries: BTreeMap<u32, MessageId>,
    /// From whom a message or a request came: where its answer goes.
    back: BTreeMap<(NodeId, u32), NodeId>,
}

impl DistanceVector {
    /// The device of `node` in its `life`th life.
    #[must_use]
    pub fn new(plan: &Plan, node: NodeId, life: u32) -> Self {
        Self {
            station: Station::new(plan, node, life),
            routes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            announces_free_at: Time::ZERO,
            release_planned: false,
            open: BTreeMap::new(),
            tries: BTreeMap::new(),
            back: BTreeMap::new(),
        }
    }

    fn packet(&mut self, kind: Kind, target: NodeId, next: NodeId, body: Bytes) -> Packet {
        let (origin, id) = (self.station.me, self.station.number());
        Packet { kind, hops: 0, origin, target, id, prev: origin, next, path: Vec::new(), body }
    }

    fn announce(&mut self, now: Time) {
        let packet = self.packet(Kind::Announce, ANYBODY, ANYBODY, Bytes::new());
        self.station.is_new(&packet);
        self.queue_announce(now, packet);
        self.station.later(now, ANNOUNCE_EVERY_US, Job::Announce);
    }

    fn queue_announce(&mut self, now: Time, packet: Packet) {
        self.waiting.retain(|(_, origin), _| *origin != packet.origin);
        self.waiting.insert((packet.hops, packet.origin), packet);
        if self.waiting.len() > ANNOUNCES_WAITING_MAX {
            self.waiting.pop_last();
        }
        self.plan_release(now);
    }

    fn plan_release(&mut self, now: Time) {
        if !self.release_planned && !self.waiting.is_empty() {
            self.release_planned = true;
            let wait = self.announces_free_at.saturating_since(now).as_micros();
            let pause = self.station.chance.below(REPEAT_US);
            self.station.later(now, u64::try_from(wait).unwrap_or(0) + pause, Job::Release);
        }
    }

    fn release(&mut self, now: Time) {
        self.release_planned = false;
        if let Some((_, packet)) = self.waiting.pop_first() {
            let length = length(&packet);
            self.station.transmit(&packet, length, Class::Announce);
            let rest = self.station.airtime_us(length) * ANNOUNCE_PART;
            self.announces_free_at = now + core::time::Duration::from_micros(rest);
        }
        self.plan_release(now);
    }

    /// Learns a way to the origin of an announce; false if a better one is known.
    fn learn(&mut self, packet: &Packet) -> bool {
        let route = Route { next: packet.prev, hops: packet.hops, number: packet.id };
        let known = self.routes.get(&packet.origin);
        let better = known.is_none_or(|known| known.number != route.number || route.hops < known.hops);
        if better && packet.origin != self.station.me {
            self.routes.insert(packet.origin, route);
        }
        better
    }

    fn attempt(&mut self, now: Time, id: MessageId) {
        let Some(mut open) = self.open.remove(&id) else { return };
        if let Some(job) = open.job.take() {
            self.station.forget(job);
        }
        if open.tries == TRIES_MAX || open.asked > TRIES_MAX {
            return self.station.out(Output::Progress { id, step: Step::Failed });
        }
        let stale = open.tries == TRIES_MAX - 1 && open.asked == 0;
        let wait = match self.routes.get(&open.to).filter(|_| !stale) {
            Some(Route { next, hops, .. }) => {
                let (next, hops) = (*next, u64::from(*hops));
                let packet = self.packet(Kind::Data, open.to, next, open.payload.clone());
                open.tries += 1;
                self.tries.insert(packet.id, id);
                self.station.is_new(&packet);
                self.station.transmit(&packet, length(&packet), Class::Data);
                PER_HOP_US * (hops + 1)
            }
            None => {
                let request = self.packet(Kind::PathRequest, open.to, ANYBODY, Bytes::new());
                open.asked += 1;
                self.station.is_new(&request);
                self.station.transmit(&request, length(&request), Class::Route);
                PATH_WAIT_US
            }
        };
        open.job = Some(self.station.later(now, wait, Job::TryAgain(id)));
        self.open.insert(id, open);
    }

    fn hear(&mut self, now: Time, packet: Packet) {
        if packet.hops >= HOPS_MAX || (packet.next != ANYBODY && packet.next != self.station.me) {
            return;
        }
        match packet.kind {
            Kind::Announce if packet.target == ANYBODY => {
                let fresh = self.station.is_new(&packet);
                self.learn(&packet);
                if fresh {
                    let me = self.station.me;
                    self.queue_announce(now, Packet { hops: packet.hops + 1, prev: me, ..packet });
                }
            }
            Kind::Announce => self.path_answer(now, packet),
            Kind::PathRequest => self.path_request(now, packet),
            Kind::Data => self.data(now, packet),
            Kind::Ack => self.proof(now, packet),
        }
    }

    fn path_request(&mut self, now: Time, packet: Packet) {
        if !self.station.is_new(&packet) {
            return;
        }
        let me = self.station.me;
        self.back.insert((packet.origin, packet.id), packet.prev);
        let known = self.routes.get(&packet.target).map(|route| (route.hops + 1, route.number));
        let answer = if packet.target == me { Some((0, self.station.number())) } else { known };
        let pause = self.station.chance.below(REPEAT_US);
        let Some((hops, number)) = answer else {
            let onward = Packet { hops: packet.hops + 1, prev: me, ..packet };
            self.station.later(now, pause, Job::Transmit(onward));
            return;
        };
        // An announce of the wanted node, addressed: its body names the request whose way it goes back.
        let body = [packet.origin.0.to_be_bytes(), packet.id.to_be_bytes()].concat();
        let answer = Packet {
            kind: Kind::Announce,
            hops,
            origin: packet.target,
            target: packet.origin,
            id: number,
            prev: me,
            next: packet.prev,
            path: Vec::new(),
            body: body.into(),
        };
        self.station.later(now, pause, Job::Transmit(answer));
    }

    fn path_answer(&mut self, now: Time, packet: Packet) {
        self.learn(&packet);
        let me = self.station.me;
        if packet.target == me {
            let waiting: Vec<MessageId> =
                self.open.iter().filter(|(_, open)| open.to == packet.origin).map(|(id, _)| *id).collect();
            for id in waiting {
                self.station.later(now, 0, Job::TryAgain(id));
            }
            return;
        }
        let word = |at: usize| packet.body.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let (Some(origin), Some(id)) = (word(0), word(4)) else { return };
        if let Some(next) = self.back.remove(&(NodeId(origin), id)) {
            let onward = Packet { hops: packet.hops + 1, prev: me, next, ..packet };
            self.station.transmit(&onward, length(&onward), Class::Route);
        }
    }

    fn data(&mut self, now: Time, packet: Packet) {
        if !self.station.is_new(&packet) {
            return;
        }
        let me = self.station.me;
        if packet.target == me {
            let proof = Packet {
                kind: Kind::Ack,
                hops: 0,
                origin: me,
                target: packet.origin,
                id: packet.id,
                prev: me,
                next: packet.prev,
                path: Vec::new(),
                body: Bytes::new(),
            };
            self.station.later(now, 0, Job::Transmit(proof));
            return deliver(&mut self.station, packet);
        }
        let Some(route) = self.routes.get(&packet.target) else { return };
        self.back.insert((packet.origin, packet.id), packet.prev);
        let onward = Packet { hops: packet.hops + 1, prev: me, next: route.next, ..packet };
        self.station.transmit(&onward, length(&onward), Class::Data);
    }

    fn proof(&mut self, now: Time, packet: Packet) {
        let me = self.station.me;
        if packet.target == me {
            if let Some(id) = self.tries.remove(&packet.id).filter(|id| self.open.remove(id).is_some()) {
                self.station.out(Output::Progress { id, step: Step::Delivered });
            }
            return;
        }
        if let Some(next) = self.back.remove(&(packet.target, packet.id)) {
            self.station.later(
                now,
                0,
                Job::Transmit(Packet { hops: packet.hops + 1, prev: me, next, ..packet }),
            );
        }
    }
}

fn length(packet: &Packet) -> usize {
    let relayed = if packet.hops > 0 { RELAYED_BYTES } else { 0 };
    match packet.kind {
        Kind::Data => OVERHEAD_BYTES + packet.body.len() + relayed,
        Kind::Ack => PROOF_BYTES,
        Kind::Announce => ANNOUNCE_BYTES + relayed,
        Kind::PathRequest => REQUEST_BYTES + relayed,
    }
}

impl Device for DistanceVector {
    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::PortUp(PortId::RADIO, _) => {
                let first = self.station.chance.below(ANNOUNCE_FIRST_US);
                self.station.later(now, first, Job::Announce);
            }
            Input::App(Errand { id, to, payload, .. }) => {
                self.open.insert(id, Open { to, payload, tries: 0, asked: 0, job: None });
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
                        Job::Announce => self.announce(now),
                        Job::Release => self.release(now),
                        Job::Transmit(packet) => {
                            let class =
                                if packet.kind == Kind::Announce { Class::Route } else { class(&packet) };
                            self.station.transmit(&packet, length(&packet), class);
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
        self.station.state_bytes() + self.routes.len() * size_of::<(NodeId, Route)>()
    }
}
