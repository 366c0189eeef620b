//! Announces build routing tables, as Reticulum describes it (reticulum.network/manual/understanding.html, "The Announce
//! Mechanism in Detail"; interfaces.html, "Announce Rate Control" and "Interface Modes").
//!
//! Who wants to be reached announces itself now and then; every other repeats the announce after a random delay and
//! remembers from whom it came with the fewest hops, and repeats it once more if it hears nobody further away pass it on.
//! Announces take at most 2 % of the channel's time at each node, and those from nearby go first. A message follows the
//! remembered hops; its proof goes back the way it came. Where a path is missing the sender asks for one, and whoever
//! knows a path answers with the announce it holds. There are no acknowledgements between neighbours: a message without
//! proof is sent again, five times in all, and a new path is asked for after the second.
//!
//! Only those who talk announce, as their programs do by default every six hours; nodes that only carry never do. A run
//! begins in the middle of this: all have announced themselves at its beginning, and each does so again at its own moment
//! of the next six hours.
//!
//! Length on the air for 20 bytes of text: 131, relayed 147; proof 83; announce 167, relayed 183; path request 51,
//! relayed 67.
//!
//! **Given away:** the message is a bare packet, without the 96 bytes that its messaging format adds. Every node passes path
//! requests on, which by default only gateways do. Of several that could answer a path request, those who hear
//! another answer keep silent. What was announced at the beginning costs nothing.

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
/// How long to listen for somebody further away who repeats an announce.
const REPEATED_WAIT_US: u64 = 5_000_000;
/// Somebody who knows a path answers within this, unless another does.
const ANSWER_US: u64 = 2_000_000;
const TRIES_MAX: u8 = 5;
/// After so many tries without proof a new path is asked for.
const TRIES_ON_OLD_PATH: u8 = 2;
/// Path requests for one message, at most.
const ASKED_MAX: u8 = 4;
const HOPS_MAX: u8 = 128;

enum Job {
    First,
    Announce,
    /// The share of announces frees.
    Release,
    /// Somebody should have repeated the announce.
    Repeated(NodeId),
    /// Answers a path request, if nobody else has.
    Answer(NodeId, u32),
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
    /// Announces to repeat, the nearest first, and whether for the last time.
    waiting: BTreeMap<(u8, NodeId), (Packet, bool)>,
    announces_free_at: Time,
    release_planned: bool,
    /// Announces that this node repeated once and that nobody further away has repeated yet.
    unheard: BTreeMap<NodeId, Packet>,
    /// Answers about to be given, by request.
    answers: BTreeMap<(NodeId, u32), Packet>,
    talks: bool,
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
            unheard: BTreeMap::new(),
            answers: BTreeMap::new(),
            talks: plan.traffic.iter().any(|message| message.from == node || message.to == node),
            open: BTreeMap::new(),
            tries: BTreeMap::new(),
            back: BTreeMap::new(),
        }
    }

    fn packet(&mut self, kind: Kind, target: NodeId, next: NodeId, body: Bytes) -> Packet {
        let (origin, id) = (self.station.me, self.station.number());
        Packet { kind, hops: 0, origin, target, id, prev: origin, next, path: Vec::new(), body }
    }

    fn announce(&mut self, now: Time, again_us: u64) {
        let packet = self.packet(Kind::Announce, ANYBODY, ANYBODY, Bytes::new());
        self.station.is_new(&packet);
        self.queue_announce(now, packet, false);
        self.station.later(now, again_us, Job::Announce);
    }

    fn queue_announce(&mut self, now: Time, packet: Packet, last: bool) {
        self.waiting.retain(|(_, origin), _| *origin != packet.origin);
        self.waiting.insert((packet.hops, packet.origin), (packet, last));
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
        if let Some((_, (packet, last))) = self.waiting.pop_first() {
            let length = length(&packet);
            self.station.transmit(&packet, length, Class::Announce);
            let rest = self.station.airtime_us(length) * ANNOUNCE_PART;
            self.announces_free_at = now + core::time::Duration::from_micros(rest);
            if !last {
                let wait = REPEATED_WAIT_US + self.station.chance.below(REPEAT_US);
                self.station.later(now, wait, Job::Repeated(packet.origin));
                self.unheard.insert(packet.origin, packet);
            }
        }
        self.plan_release(now);
    }

    /// Nobody further away has repeated an announce: once more.
    fn repeat_unheard(&mut self, now: Time, origin: NodeId) {
        if let Some(packet) = self.unheard.remove(&origin) {
            self.queue_announce(now, packet, true);
        }
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
        if open.tries == TRIES_MAX || open.asked > ASKED_MAX {
            return self.station.out(Output::Progress { id, step: Step::Failed });
        }
        let stale = open.tries == TRIES_ON_OLD_PATH && open.asked == 0;
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
        if packet.kind == Kind::Announce && packet.target != ANYBODY && packet.next != self.station.me {
            // Somebody else answers a path request.
            if let Some(request) = request_of(&packet) {
                self.answers.remove(&request);
            }
        }
        if packet.hops >= HOPS_MAX || (packet.next != ANYBODY && packet.next != self.station.me) {
            return;
        }
        match packet.kind {
            Kind::Announce if packet.target == ANYBODY => {
                if self.unheard.get(&packet.origin).is_some_and(|u| u.id == packet.id && u.hops < packet.hops)
                {
                    self.unheard.remove(&packet.origin);
                }
                let fresh = self.station.is_new(&packet);
                self.learn(&packet);
                if fresh {
                    let me = self.station.me;
                    self.queue_announce(now, Packet { hops: packet.hops + 1, prev: me, ..packet }, false);
                }
            }
            Kind::Announce => self.path_answer(now, packet),
            Kind::PathRequest => self.path_request(now, packet),
            Kind::Data => self.data(now, packet),
            Kind::Ack => self.proof(now, packet),
            Kind::Path => {}
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
        let Some((hops, number)) = answer else {
            let pause = self.station.chance.below(REPEAT_US);
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
        self.answers.insert((packet.origin, packet.id), answer);
        let pause = if packet.target == me { 0 } else { self.station.chance.below(ANSWER_US) };
        self.station.later(now, pause, Job::Answer(packet.origin, packet.id));
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
        if let Some(next) = request_of(&packet).and_then(|request| self.back.remove(&request)) {
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

/// The path request that an addressed announce answers: who asked, and its number.
fn request_of(answer: &Packet) -> Option<(NodeId, u32)> {
    let word = |at: usize| answer.body.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    Some((NodeId(word(0)?), word(4)?))
}

fn length(packet: &Packet) -> usize {
    let relayed = if packet.hops > 0 { RELAYED_BYTES } else { 0 };
    match packet.kind {
        Kind::Data => OVERHEAD_BYTES + packet.body.len() + relayed,
        Kind::Ack => PROOF_BYTES,
        Kind::Announce => ANNOUNCE_BYTES + relayed,
        Kind::PathRequest | Kind::Path => REQUEST_BYTES + relayed,
    }
}

impl Device for DistanceVector {
    fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::PortUp(PortId::RADIO, _) if self.talks => {
                let first = self.station.chance.below(ANNOUNCE_FIRST_US);
                self.station.later(now, first, Job::First);
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
                        Job::First => {
                            let again = self.station.chance.below(ANNOUNCE_EVERY_US);
                            self.announce(now, again);
                        }
                        Job::Announce => self.announce(now, ANNOUNCE_EVERY_US),
                        Job::Repeated(origin) => self.repeat_unheard(now, origin),
                        Job::Answer(origin, id) => {
                            if let Some(answer) = self.answers.remove(&(origin, id)) {
                                self.station.transmit(&answer, length(&answer), Class::Route);
                            }
                        }
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

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;
    use crate::protocol::Protocol;

    const QUARTER_HOUR_S: u64 = 900;

    #[test]
    fn only_those_who_talk_announce_themselves_and_everybody_repeats_it_once() {
        let mut trial = Trial::line(Protocol::DistanceVector, 5);
        trial.run(2 * QUARTER_HOUR_S);
        let announces = |origin: u32| trial.sent.iter().filter(move |s| s.packet.origin == NodeId(origin));
        assert_eq!(trial.sent.iter().filter(|sent| sent.packet.kind != Kind::Announce).count(), 0);
        assert_eq!((1..4).map(|middle| announces(middle).count()).sum::<usize>(), 0);
        // The last hears nobody repeat it further away, and says it once more.
        assert_eq!((announces(0).count(), announces(4).count()), (6, 6));
        assert_eq!(announces(0).map(|sent| sent.length).collect::<Vec<_>>(), [167, 183, 183, 183, 183, 183]);
    }

    #[test]
    fn announces_take_one_fiftieth_of_the_time_at_each_node() {
        let mut device = DistanceVector::new(&Trial::line(Protocol::DistanceVector, 2).plan, NodeId(1), 1);
        let airtime_us = device.station.airtime_us(183);
        for origin in 0..20 {
            let heard = Packet {
                origin: NodeId(100 + origin),
                hops: 1,
                ..device.packet(Kind::Announce, ANYBODY, ANYBODY, Bytes::new())
            };
            device.hear(Time::ZERO, Packet { prev: NodeId(0), ..heard });
        }
        let (mut now, mut sent) = (Time::ZERO, Vec::new());
        while let Some(deadline) = device.poll_timeout().filter(|d| d.at < Time::from_micros(300_000_000)) {
            now = now.max(deadline.at);
            device.handle(now, Input::Timeout);
            while let Some(output) = device.poll_output() {
                if matches!(output, Output::Transmit { .. }) {
                    sent.push(now);
                }
            }
        }
        assert!(sent.len() > 5, "{sent:?}");
        for pair in sent.windows(2) {
            let apart = pair[1].saturating_since(pair[0]).as_micros();
            assert!(apart >= u128::from(airtime_us * ANNOUNCE_PART), "{apart}");
        }
    }

    #[test]
    fn messages_take_the_path_of_the_announce_and_proofs_the_way_back() {
        let mut trial = Trial::line(Protocol::DistanceVector, 5);
        trial.run(2 * QUARTER_HOUR_S);
        let before = trial.sent.len();
        trial.send(0, 4);
        trial.run(60);
        assert_eq!((trial.delivered.len(), trial.confirmed()), (1, 1));
        let lengths: Vec<usize> = trial.sent[before..].iter().map(|sent| sent.length).collect();
        assert_eq!(lengths, [131, 147, 147, 147, 83, 83, 83, 83]);
    }

    #[test]
    fn a_missing_path_is_asked_for_and_one_who_knows_it_answers() {
        let mut trial = Trial::line(Protocol::DistanceVector, 5);
        trial.deaf(0);
        trial.run(2 * QUARTER_HOUR_S);
        trial.hears_again();
        let before = trial.sent.len();
        trial.send(0, 4);
        trial.run(60);
        assert_eq!((trial.delivered.len(), trial.confirmed()), (1, 1));
        let route: Vec<(usize, Kind)> =
            trial.sent[before..].iter().take(2).map(|sent| (sent.by, sent.packet.kind)).collect();
        assert_eq!(route, [(0, Kind::PathRequest), (1, Kind::Announce)]);
    }

    #[test]
    fn a_message_without_proof_is_tried_five_times() {
        let mut trial = Trial::line(Protocol::DistanceVector, 3);
        trial.run(2 * QUARTER_HOUR_S);
        trial.deaf(2);
        let before = trial.sent.len();
        trial.send(0, 2);
        trial.run(600);
        let mine = |kind| {
            trial.sent[before..].iter().filter(|sent| sent.by == 0 && sent.packet.kind == kind).count()
        };
        assert_eq!((mine(Kind::Data), mine(Kind::PathRequest)), (5, 1));
        assert_eq!((trial.confirmed(), trial.failed()), (0, 1));
    }
}
