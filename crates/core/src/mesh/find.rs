//! Ways looked for: questions that spread until somebody knows a way, and answers that come back along theirs.

use core::time::Duration;

use super::event::{Dropped, Event};
use super::forward::Passage;
use super::frame::{Cost, Frame, FrameId, Hop, Kind, Priority, RouteReply, RouteRequest, identity};
use super::hint::Address;
use super::line::{Purpose, Turn};
use super::machine::Mesh;
use super::memory::Again;
use super::port::{PortId, PortInfo};
use super::receive::Heard;
use super::request::{Ask, Outcome};
use super::routes::{FRESH, Way};
use super::spread::{Rumour, patience};
use crate::limits::MESH_HOPS_MAX;
use crate::time::Time;

/// How long a question may wait to be repeated.
const SPREAD_MAX: Duration = Duration::from_secs(30);
/// How long an answer may look for its next hop.
const REPLY_MAX: Duration = Duration::from_secs(60);
/// The target waits this many airtimes of the question for a copy over a cheaper way before it answers.
const REPLY_AIRTIMES: u32 = 6;

impl Mesh {
    /// Searches that widen, and searches that failed.
    pub(super) fn advance_searches(&mut self, now: Time) {
        let hop_time = self.hop_time();
        while let Some(outcome) = self.requests.due(now, hop_time, &mut self.rng) {
            match outcome {
                Outcome::Ask(ask) => match self.messages.whom(ask.target) {
                    Some(target) => self.ask(now, &target, ask),
                    None => {
                        self.requests.found(ask.target);
                    }
                },
                Outcome::Failed(target) => {
                    self.out.stats.searches_failed += 1;
                    self.out.event(Event::NoWay(target));
                    if let Some(until) = self.requests.rests_until(target) {
                        self.messages.rest(target, until);
                    }
                    self.deposit(now, target);
                }
            }
        }
    }

    /// Asks everybody near for a way.
    pub(super) fn ask(&mut self, now: Time, target: &Address, ask: Ask) {
        let mut request = RouteRequest {
            ring: ask.ring,
            hop: Hop::first(Priority::Control),
            next: None,
            prev: self.me.near,
            cost: Cost::FREE,
            origin: self.me.far,
            target: ask.target,
            id: ask.id,
            mac: Default::default(),
        };
        let Some(keys) = self.peers.keys(target) else { return };
        keys.attest(&mut request);
        let frame = Frame::RouteRequest(request);
        let (id, bytes) = (frame.identity(), frame.to_bytes().freeze());
        self.remember(now, id, 0);
        self.requests.asked(ask.target, id);
        let rumour = Rumour::new(bytes.clone(), Kind::RouteRequest, 0, Cost::FREE, now + SPREAD_MAX);
        let ports: Vec<PortId> = self.ports.iter().map(|(port, _)| port).collect();
        for port in ports {
            // As if it were lonely: a question that nobody near heard is said once more.
            if self.spread.begin(now, (id, port), 0, rumour.clone()) {
                let turn =
                    Turn::new(port, Purpose::Spread(id), Kind::RouteRequest, Priority::Normal, bytes.len());
                self.queue(now, turn);
            }
        }
    }

    pub(super) fn request(&mut self, heard: &Heard, request: &RouteRequest) {
        let Heard { now, port, info, id, quality, .. } = *heard;
        let from = (port, request.prev);
        if request.origin == self.me.far {
            let further = (request.hop.hops, request.cost);
            if self.spread.heard(id, port, further, quality, &info) {
                self.withdraw(&Purpose::Spread(id), Some(port));
            }
            return;
        }
        let hops = request.hop.hops.saturating_add(1);
        let way = Way::new(from, hops, request.cost, self.neighbours.link_cost_ms(port, request.prev, &info));
        let cost = way.cost;
        self.learn(now, request.origin, way);
        self.requests.came(now, hops);
        self.overheard(now, id, from, request.hop.hops);
        let routed = request.next.is_some();
        let enough = if routed {
            // Somebody knows a way: nobody else need ask.
            self.spread.take(id, port).is_some()
        } else {
            self.spread.heard(id, port, (hops, cost), quality, &info)
        };
        if enough {
            self.out.stats.suppressed += 1;
            self.withdraw(&Purpose::Spread(id), Some(port));
        }
        if request.next.is_some_and(|next| next != self.me.near) {
            self.leave_to_others(heard);
            return;
        }
        let first = self.remember(now, id, request.hop.hops);
        if request.target == self.me.far && self.answer(heard, request, first) {
            return;
        }
        // Once in each form: a question that spread here may still come along a way.
        let fresh = if routed { self.remember(now, routed_form(id), request.hop.hops) } else { first };
        if !fresh {
            if routed {
                self.hop_ack(now, port, request.prev, id);
            }
            self.out.dropped(Some(port), Dropped::Duplicate);
            return;
        }
        if !self.relays() || hops > MESH_HOPS_MAX {
            return;
        }
        self.ask_on(heard, request, hops, cost);
    }

    /// Sends a question on: along a way if a good one is known, else to everybody near.
    fn ask_on(&mut self, heard: &Heard, request: &RouteRequest, hops: u8, cost: Cost) {
        let Heard { now, port, info, id, quality, .. } = *heard;
        let from = (port, request.prev);
        let known = self.routes.peek(now, request.target, &[from]);
        // Only of a device next door: a longer way is too often stale to end a search with.
        let known = known.filter(|way| way.hops <= 1 && way.failures == 0 && way.age(now) <= FRESH);
        let Some(way) = known else {
            if hops < request.ring.hops_max() {
                let rumour =
                    Rumour::new(heard.bytes.clone(), Kind::RouteRequest, hops, cost, now + SPREAD_MAX);
                self.spread_on(heard, &rumour, request.next.is_some());
            }
            return;
        };
        let onward = RouteRequest { next: Some(way.next), ..request.clone() };
        let bytes = Frame::RouteRequest(onward).to_bytes().freeze();
        let mut passage =
            Passage::new(bytes, Kind::RoutedRequest, request.target, (way.port, way.next), now + SPREAD_MAX);
        passage.hops = hops;
        passage.cost = cost;
        passage.came = Some(from);
        passage.last_hop = way.hops <= 1;
        let routed = request.next.is_some();
        let wait = if routed {
            Duration::ZERO
        } else {
            // Several may know a way; the first to speak spares the others.
            let busy = self.ports.busy_percent(now, port);
            patience(quality, heard.bytes.len(), &info, busy, &mut self.rng) / 2
        };
        self.depart(now, id, passage, wait, routed);
    }

    /// Repeats a frame to everybody near, on every port that has not heard it.
    pub(super) fn spread_on(&mut self, heard: &Heard, rumour: &Rumour, everywhere: bool) {
        let Heard { now, id, quality, .. } = *heard;
        let ports: Vec<(PortId, PortInfo)> = self.ports.iter().map(|(port, info)| (port, *info)).collect();
        for (port, info) in ports {
            if port == heard.port && !info.is_radio() && !everywhere {
                continue;
            }
            let near = self.neighbours.count(now, port);
            if !self.spread.begin(now, (id, port), near, rumour.clone()) {
                continue;
            }
            let busy = self.ports.busy_percent(now, port);
            let quality = quality.filter(|_| port == heard.port);
            let len = rumour.bytes.len();
            let wait = patience(quality, len, &info, busy, &mut self.rng);
            self.queue(now + wait, Turn::new(port, Purpose::Spread(id), rumour.kind, Priority::Normal, len));
        }
    }

    /// A question that went along a way which broke: everybody near is asked after all.
    pub(super) fn spread_instead(&mut self, now: Time, id: FrameId, port: PortId, passage: &Passage) {
        let Some(info) = self.ports.info(port).copied() else { return };
        let Ok(Frame::RouteRequest(request)) = Frame::decode(&passage.bytes, info.kind) else { return };
        if passage.hops >= request.ring.hops_max() {
            return;
        }
        let bytes = Frame::RouteRequest(RouteRequest { next: None, ..request }).to_bytes().freeze();
        let rumour =
            Rumour::new(bytes.clone(), Kind::RouteRequest, passage.hops, passage.cost, now + SPREAD_MAX);
        let heard = Heard { now, port, info, bytes, quality: None, id };
        self.spread_on(&heard, &rumour, true);
    }

    /// Answers a question that names us. False if it is not for this device.
    fn answer(&mut self, heard: &Heard, request: &RouteRequest, first: bool) -> bool {
        let Heard { now, port, info, .. } = *heard;
        let Some(peer) = self.peers.check(request.origin, &RouteRequest { next: None, ..request.clone() })
        else {
            return false;
        };
        if !first {
            return true;
        }
        let mut reply = RouteReply {
            hop: Hop::first(Priority::Control),
            next: request.prev,
            prev: self.me.near,
            cost: Cost::FREE,
            class: info.class.code(),
            origin: request.origin,
            target: request.target,
            id: request.id,
            mac: Default::default(),
        };
        let Some(keys) = self.peers.keys(&peer) else { return true };
        keys.attest(&mut reply);
        let bytes = Frame::RouteReply(reply).to_bytes().freeze();
        let Some(id) = identity(&bytes) else { return true };
        self.remember(now, id, 0);
        let via = (port, request.prev);
        let mut passage = Passage::new(bytes, Kind::RouteReply, request.origin, via, now + REPLY_MAX);
        passage.class = info.class.code();
        passage.last_hop = request.hop.hops == 0;
        let wait = if request.next.is_some() || !info.is_radio() {
            Duration::ZERO
        } else {
            info.airtime(heard.bytes.len()) * REPLY_AIRTIMES
        };
        self.depart(now, id, passage, wait, wait.is_zero());
        true
    }

    pub(super) fn reply(&mut self, heard: &Heard, reply: &RouteReply) {
        let Heard { now, port, info, id, .. } = *heard;
        let from = (port, reply.prev);
        self.overheard(now, id, from, reply.hop.hops);
        if reply.target == self.me.far {
            return;
        }
        let hops = reply.hop.hops.saturating_add(1);
        let way = Way::new(from, hops, reply.cost, self.neighbours.link_cost_ms(port, reply.prev, &info));
        let cost = way.cost;
        // The question that this answers went through.
        let asked = self.forward.find(|passage| {
            passage.kind == Kind::RoutedRequest && passage.to == reply.target && passage.via == from
        });
        if let Some(asked) = asked {
            self.passed_on(now, asked, true);
        }
        let ours = reply.origin == self.me.far;
        if ours && self.peers.check(reply.target, reply).is_none() {
            self.out.dropped(Some(port), Dropped::Forged);
            return;
        }
        self.learn(now, reply.target, way);
        if reply.next != self.me.near {
            self.leave_to_others(heard);
            return;
        }
        match self.memory.judge(now, id, reply.hop.hops) {
            Again::New | Again::Repeat => {}
            Again::Retry | Again::Circle | Again::Worn => {
                self.out.dropped(Some(port), Dropped::Duplicate);
                if self.is_taken_on(now, &id) {
                    self.hop_ack(now, port, reply.prev, id);
                }
                return;
            }
        }
        if ours {
            self.hop_ack(now, port, reply.prev, id);
            return;
        }
        if !self.relays() || hops > MESH_HOPS_MAX {
            return;
        }
        let Some(way) = self.routes.best(now, reply.origin, &[from]) else {
            self.out.dropped(Some(port), Dropped::NoWay);
            return;
        };
        let mut passage = Passage::new(
            heard.bytes.clone(),
            Kind::RouteReply,
            reply.origin,
            (way.port, way.next),
            now + REPLY_MAX,
        );
        passage.hops = hops;
        passage.cost = cost;
        passage.class = reply.class.max(info.class.code());
        passage.came = Some(from);
        passage.last_hop = way.hops <= 1;
        let departed = self.depart(now, id, passage, Duration::ZERO, true);
        if departed && way.port != port {
            self.hop_ack(now, port, reply.prev, id);
        }
    }
}

/// The name under which the routed form of a question is remembered.
fn routed_form(id: FrameId) -> FrameId {
    id.map(|byte| !byte)
}
