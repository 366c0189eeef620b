//! Frames heard: what each teaches, whether it is ours, and whether we pass it on.

use bytes::Bytes;
use core::time::Duration;

use super::event::{Dropped, Event, Output, Trail};
use super::forward::Passage;
use super::frame::{Cost, Data, Frame, FrameId, Hop, HopAck, Kind, Priority, Receipt, RouteError, identity};
use super::hint::{Address, Far, Near};
use super::inbox::{Arrival, Owed};
use super::line::{Purpose, within};
use super::machine::Mesh;
use super::memory::Again;
use super::port::{PortId, PortInfo, Quality};
use super::routes::{FRESH, Way};
use super::spread::patience;
use crate::limits::MESH_HOPS_MAX;
use crate::planted::{self, Bug};
use crate::time::Time;

/// How long a relayed frame may look for its next hop.
const PASSAGE_MAX: Duration = Duration::from_secs(60);
/// That a message could not go on is passed back once in this time.
const TOLD_ONCE: Duration = Duration::from_secs(30);
/// What a neighbour needs before it passes a frame on.
const TURN: Duration = Duration::from_millis(120);

/// A frame as it was heard.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) now: Time,
    pub(super) port: PortId,
    pub(super) info: PortInfo,
    pub(super) bytes: Bytes,
    pub(super) quality: Option<Quality>,
    pub(super) id: FrameId,
}

impl Mesh {
    /// A frame was heard.
    pub(super) fn frame(&mut self, now: Time, port: PortId, bytes: Bytes, quality: Option<Quality>) {
        let Some(info) = self.ports.info(port).copied() else { return };
        if planted::is(Bug::LengthTrusted) && bytes[0] >> 4 == Kind::HopAck as u8 {
            let _ = bytes[8];
        }
        let frame = match Frame::decode(&bytes, info.kind) {
            Ok(frame) => frame,
            Err(what) => {
                self.out.stats.drop(Dropped::Malformed);
                self.out.event(Event::Malformed { port, what });
                return;
            }
        };
        self.ports.heard(now, port, bytes.len());
        self.out.stats.heard[frame.kind() as usize] += 1;
        let Some(id) = identity(&bytes) else { return };
        if let Some(prev) = prev_of(&frame) {
            self.neighbours.heard(now, port, prev, quality);
        }
        let heard = Heard { now, port, info, bytes, quality, id };
        match frame {
            Frame::Data(data) => self.data(&heard, &data),
            Frame::Receipt(receipt) => self.receipt(&heard, &receipt),
            Frame::RouteRequest(request) => self.request(&heard, &request),
            Frame::RouteReply(reply) => self.reply(&heard, &reply),
            Frame::RouteError(error) => self.route_error(&heard, &error),
            Frame::HopAck(ack) => self.hop_acked(&heard, &ack),
            Frame::AnnounceKey(announce) => self.announce_key(&heard, &announce),
            Frame::AnnounceAnchor(announce) => self.announce_anchor(&heard, &announce),
            Frame::Beacon(beacon) => self.beacon(&heard, &beacon),
            Frame::FragmentStatus(status) => self.status(&heard, &status),
            Frame::CustodyAccepted(accepted) => self.kept_by(&heard, &accepted),
            Frame::Signed(letter) => self.signed(&heard, &letter),
            Frame::IpControl(_) => {}
        }
    }

    fn data(&mut self, heard: &Heard, data: &Data) {
        let Heard { now, port, id, .. } = *heard;
        self.overheard(now, id, (port, data.prev), data.hop.hops);
        if data.src == self.me.far {
            return;
        }
        self.learn_back(heard, data.src, data.prev, data.hop.hops);
        if data.dst == self.me.far && self.arrive(heard, data) {
            return;
        }
        if data.next == Near::ANYBODY {
            self.pick_up(heard, data);
        } else if data.next == self.me.near {
            self.relay(heard, data);
        } else {
            self.leave_to_others(heard);
        }
    }

    /// Whoever passes on a frame of `src` is a way back to it.
    pub(super) fn learn_back(&mut self, heard: &Heard, src: Far, prev: Near, hops: u8) {
        let told = Cost::from_ms(u64::from(hops) * heard.info.hop_cost_ms());
        let link_ms = self.neighbours.link_cost_ms(heard.port, prev, &heard.info);
        self.learn(heard.now, src, Way::new((heard.port, prev), hops.saturating_add(1), told, link_ms));
    }

    /// Takes note of a way, and wakes what waits for one.
    pub(super) fn learn(&mut self, now: Time, to: Far, way: Way) {
        if to == self.me.far || to == Far::EVERYBODY {
            return;
        }
        let new = self.routes.learn(now, to, way);
        if let Some(question) = self.requests.found(to) {
            self.withdraw(&Purpose::Spread(question), None);
            self.out.event(Event::WayFound(to));
        }
        self.messages.wake(now, to, new);
        if new {
            self.custody.contact(now, to);
        }
    }

    /// A copy of a frame that may be on its way here too: somebody having it is the answer our copy waits for.
    pub(super) fn overheard(&mut self, now: Time, id: FrameId, from: (PortId, Near), hops: u8) {
        if hops > 0 {
            self.offers.withdraw(&id);
        }
        let Some(passage) = self.forward.passage(&id) else { return };
        let by_neighbour = passage.via == from;
        // Whoever knew a way was asked: somebody did, or somebody spoke before us.
        let anybody = passage.via.1 == Near::ANYBODY && hops > passage.hops;
        let taken = !passage.was_sent() && hops == passage.hops && passage.came != Some(from);
        if by_neighbour || anybody || taken {
            self.passed_on(now, id, by_neighbour);
        }
    }

    /// The channel is theirs until the frame is passed on.
    pub(super) fn leave_to_others(&mut self, heard: &Heard) {
        let span = heard.info.airtime(heard.bytes.len()) + TURN;
        self.ports.hush(heard.now, heard.port, span);
    }

    /// A message named for us. False if it is not for this device after all: somebody shares its hint.
    fn arrive(&mut self, heard: &Heard, data: &Data) -> bool {
        let Heard { now, port, .. } = *heard;
        let named = self.peers.named(data.src);
        let Some((peer, payload)) = self.open_from(now, &named, data) else {
            self.out.dropped(Some(port), if named.is_empty() { Dropped::Stranger } else { Dropped::Forged });
            return false;
        };
        self.remember(now, heard.id, data.hop.hops);
        if let Some(fragment) = data.fragment {
            self.arrive_piece(heard, data, fragment, (peer, payload));
            return true;
        }
        let owed = Owed { peer, seq: data.seq, from: (port, data.prev) };
        let flags = (self.peers.is_trusted(&peer), data.receipt);
        match self.inbox.arrive(now, owed, 1, flags, &mut self.journal) {
            Arrival::New { evicted } => {
                self.forget_evicted(evicted);
                if !data.receipt {
                    self.hop_ack(now, port, data.prev, heard.id);
                }
                self.deliver(heard, &peer, data, payload);
            }
            Arrival::Again(owed) if data.receipt => self.send_receipt(now, owed),
            Arrival::Again(_) => self.hop_ack(now, port, data.prev, heard.id),
            Arrival::Pending => self.out.stats.drop(Dropped::Duplicate),
            Arrival::Refused => self.out.dropped(Some(port), Dropped::Replayed),
            Arrival::Full => self.out.dropped(Some(port), Dropped::QueueFull),
        }
        true
    }

    /// The replay window of a stranger was given up. Unless something is under way to it: then it is none to our person.
    pub(super) fn forget_evicted(&mut self, evicted: Option<Address>) {
        if let Some(stranger) = evicted.filter(|peer| self.messages.to(peer) == 0) {
            self.peers.forget_stranger(&stranger);
        }
    }

    /// A message for the application; its number is its first piece's.
    pub(super) fn deliver(&mut self, heard: &Heard, peer: &Address, data: &Data, payload: Bytes) {
        let Some(from) = self.peers.id(peer) else { return };
        self.out.stats.delivered += 1;
        let trail = Trail { hops: data.hop.hops + 1, port: heard.port, kind: heard.info.kind };
        self.out.push(Output::Deliver { from, seq: data.first(), payload, trail });
    }

    /// Says that a message is here and safe.
    pub(super) fn send_receipt(&mut self, now: Time, owed: Owed) {
        let hop = Hop::first(Priority::Control);
        let mut receipt = Receipt {
            hop,
            next: owed.from.1,
            prev: self.me.near,
            dst: owed.peer.far(),
            src: self.me.far,
            seq: owed.seq,
            mac: Default::default(),
        };
        let Some(keys) = self.peers.keys(&owed.peer) else { return };
        keys.attest(&mut receipt);
        let (to, frame) = (receipt.dst, Frame::Receipt(receipt));
        let bytes = frame.to_bytes().freeze();
        let Some(id) = identity(&bytes) else { return };
        self.remember(now, id, 0);
        let mut passage = Passage::new(bytes, Kind::Receipt, to, owed.from, now + PASSAGE_MAX);
        passage.last_hop = to == self.hint_of(to, owed.from.1);
        self.depart(now, id, passage, Duration::ZERO, true);
    }

    /// `to` if its device is the neighbour `near`, as far as hints tell.
    pub(super) fn hint_of(&self, to: Far, near: Near) -> Far {
        let [a, b, _] = to.0;
        let neighbour = u16::from_be_bytes([a, b]);
        let neighbour = if neighbour == Near::ANYBODY.0 { 0xfffe } else { neighbour };
        if near.0 == neighbour { to } else { Far::EVERYBODY }
    }

    /// Whether a frame that comes again need not be sent here again: it went on from here, or is about to.
    pub(super) fn is_taken_on(&mut self, now: Time, id: &FrameId) -> bool {
        self.memory.has_moved(now, id) || self.forward.passage(id).is_some_and(Passage::was_sent)
    }

    fn relay(&mut self, heard: &Heard, data: &Data) {
        let Heard { now, port, id, .. } = *heard;
        if !self.relays() {
            self.out.dropped(Some(port), Dropped::NotRelaying);
            return;
        }
        if data.hop.hops >= MESH_HOPS_MAX {
            self.out.dropped(Some(port), Dropped::HopLimit);
            return;
        }
        if self.answer_for_target(heard, data) {
            return;
        }
        match self.memory.judge(now, id, data.hop.hops) {
            Again::New | Again::Repeat => {}
            Again::Circle => {
                self.out.dropped(Some(port), Dropped::Loop);
                if self.is_taken_on(now, &id) {
                    self.hop_ack(now, port, data.prev, id);
                } else {
                    self.say_broken(now, port, data.prev, &heard.bytes);
                }
                return;
            }
            Again::Retry | Again::Worn => {
                self.out.dropped(Some(port), Dropped::Duplicate);
                if self.is_taken_on(now, &id) {
                    self.hop_ack(now, port, data.prev, id);
                }
                return;
            }
        }
        if self.forward.passage(&id).is_some() {
            return;
        }
        self.pass(heard, data, Duration::ZERO);
    }

    /// A message that comes again though its receipt went by here: the receipt was lost further on.
    fn answer_for_target(&mut self, heard: &Heard, data: &Data) -> bool {
        let Heard { now, port, .. } = *heard;
        let Some(crumb) = self.memory.crumb(now, data.src, data.first()) else { return false };
        // Only once: a receipt that nobody here can check must not stop a message for ever.
        let Some(receipt) = crumb.receipt.take() else { return false };
        let Ok(Frame::Receipt(mut receipt)) = Frame::decode(&receipt, heard.info.kind) else { return false };
        (receipt.next, receipt.prev) = (data.prev, self.me.near);
        receipt.hop.hops = receipt.hop.hops.saturating_add(1).min(MESH_HOPS_MAX);
        self.once(now, port, &Frame::Receipt(receipt));
        true
    }

    /// Somebody asks whoever knows a way.
    fn pick_up(&mut self, heard: &Heard, data: &Data) {
        let Heard { now, port, info, id, quality, .. } = *heard;
        let knows = self
            .routes
            .peek(now, data.dst, &[(port, data.prev)])
            .is_some_and(|way| way.failures == 0 && way.age(now) <= FRESH);
        if !knows {
            self.offer(heard, data);
        }
        if !self.relays() || !knows || data.hop.hops >= MESH_HOPS_MAX || self.memory.knows(now, &id) {
            return;
        }
        self.remember(now, id, data.hop.hops);
        let busy = self.ports.busy_percent(now, port);
        let wait = patience(quality, heard.bytes.len(), &info, busy, &mut self.rng);
        self.pass(heard, data, wait);
    }

    /// Passes a message on.
    fn pass(&mut self, heard: &Heard, data: &Data, wait: Duration) {
        let Heard { now, port, info, id, .. } = *heard;
        let from = (port, data.prev);
        self.memory.drop_crumb(now, data.src, data.first(), id, from);
        let way = self.routes.best(now, data.dst, &[from]);
        // Who may keep it does not send it after one that came back.
        let broken =
            self.memory.crumb(now, data.src, data.first()).is_some_and(|crumb| crumb.broken_at.is_some());
        if (broken || way.is_none()) && data.keep.is_some() && self.keep(now, from, &heard.bytes) {
            return;
        }
        let via = way.map_or((port, Near::ANYBODY), |way| (way.port, way.next));
        if !self.fits(via.0, heard.bytes.len()) {
            self.out.dropped(Some(port), Dropped::TooLarge);
            self.say_broken(now, port, data.prev, &heard.bytes);
            return;
        }
        let mut passage = Passage::new(heard.bytes.clone(), Kind::Data, data.dst, via, now + PASSAGE_MAX);
        passage.priority = data.hop.priority;
        passage.hops = if planted::is(Bug::HopsNotCounted) { data.hop.hops } else { data.hop.hops + 1 };
        passage.came = Some(from);
        passage.last_hop = way.is_some_and(|way| way.hops <= 1);
        if way.is_none() {
            if !info.is_radio() {
                if !self.keep(now, from, &heard.bytes) && !self.pass_to_store(now, from, &heard.bytes, None) {
                    self.out.dropped(Some(port), Dropped::NoWay);
                    self.say_broken(now, port, data.prev, &heard.bytes);
                }
                return;
            }
            passage.ask_anybody();
        }
        let jitter = within(info.airtime(heard.bytes.len()) / 8, &mut self.rng);
        let departed = self.depart(now, id, passage, wait + jitter, wait.is_zero());
        // Where it goes on by another port, the neighbour cannot hear that.
        if departed && via.0 != port {
            self.hop_ack(now, port, data.prev, id);
        }
    }

    fn receipt(&mut self, heard: &Heard, receipt: &Receipt) {
        let Heard { now, port, id, .. } = *heard;
        let from = (port, receipt.prev);
        self.overheard(now, id, from, receipt.hop.hops);
        if receipt.src == self.me.far {
            return;
        }
        self.learn_back(heard, receipt.src, receipt.prev, receipt.hop.hops);
        self.kept_confirmed(heard, receipt);
        if receipt.dst == self.me.far {
            self.receipted(heard, receipt);
            return;
        }
        let crumb = self.memory.crumb(now, receipt.dst, receipt.seq).map(|crumb| {
            crumb.receipt = Some(heard.bytes.clone());
            (crumb.data, crumb.from)
        });
        if let Some((data, _)) = crumb
            && self.forward.passage(&data).is_some_and(|passage| passage.via == from)
        {
            self.passed_on(now, data, true);
        }
        if receipt.next != self.me.near {
            self.leave_to_others(heard);
            return;
        }
        let way = self.routes.best(now, receipt.dst, &[from]).map(|way| (way.port, way.next));
        let via = crumb.map(|(_, from)| from).or(way);
        self.answer_on(heard, Kind::Receipt, (receipt.dst, receipt.prev, receipt.hop.hops), via);
    }

    /// Passes an answer to a message on, towards its source.
    pub(super) fn answer_on(
        &mut self,
        heard: &Heard,
        kind: Kind,
        (dst, prev, hops): (Far, Near, u8),
        via: Option<(PortId, Near)>,
    ) {
        let Heard { now, port, id, .. } = *heard;
        if !self.relays() || hops >= MESH_HOPS_MAX {
            self.out.dropped(Some(port), Dropped::HopLimit);
            return;
        }
        match self.memory.judge(now, id, hops) {
            Again::New | Again::Repeat => {}
            Again::Retry | Again::Circle | Again::Worn => {
                self.out.dropped(Some(port), Dropped::Duplicate);
                if self.is_taken_on(now, &id) {
                    self.hop_ack(now, port, prev, id);
                }
                return;
            }
        }
        let Some(via) = via else {
            self.out.dropped(Some(port), Dropped::NoWay);
            return;
        };
        let mut passage = Passage::new(heard.bytes.clone(), kind, dst, via, now + PASSAGE_MAX);
        passage.hops = hops + 1;
        passage.came = Some((port, prev));
        passage.last_hop = self.hint_of(dst, via.1) == dst;
        self.depart(now, id, passage, Duration::ZERO, true);
    }

    fn hop_acked(&mut self, heard: &Heard, ack: &HopAck) {
        let Heard { now, port, .. } = *heard;
        if ack.next != self.me.near {
            return;
        }
        let Some(id) = self.forward.by_prefix(ack.frame) else { return };
        let from = (port, ack.prev);
        if self
            .forward
            .passage(&id)
            .is_some_and(|passage| passage.via == from || passage.via.1 == Near::ANYBODY)
        {
            self.passed_on(now, id, true);
        }
    }

    fn route_error(&mut self, heard: &Heard, error: &RouteError) {
        let Heard { now, port, .. } = *heard;
        if error.next != self.me.near {
            return;
        }
        let from = (port, error.prev);
        // Whoever sends errors without having been asked changes nothing but the order of ways.
        self.routes.demote(error.dst, port, error.prev);
        if self.custody.holds(error.src, error.seq) {
            // It is kept here: its source need not know that it did not get further.
            return;
        }
        if error.src == self.me.far {
            self.own_broken(now, error.dst, error.seq);
            return;
        }
        let told = self.memory.crumb(now, error.src, error.seq).map(|crumb| {
            // Crumbs of different tries may lead in a circle: an error is told once, and not again soon.
            let before = crumb.broken_at.replace(now);
            let told = before.is_some_and(|before| now.saturating_since(before) < TOLD_ONCE);
            (crumb.data, crumb.from, told)
        });
        let Some((data, back, told)) = told else {
            return;
        };
        if let Some(passage) = self.forward.passage(&data) {
            if passage.via == from {
                let other = self.routes.peek(now, error.dst, &passage.not());
                self.another_way(now, data, other);
            }
        } else if back != from && !told {
            let hop = Hop { hops: error.hop.hops.saturating_add(1), ..error.hop };
            if hop.hops <= MESH_HOPS_MAX {
                let onward = RouteError { hop, next: back.1, prev: self.me.near, ..error.clone() };
                self.once(now, back.0, &Frame::RouteError(onward));
            }
        }
    }
}

/// Who sent this copy, where the frame says so.
const fn prev_of(frame: &Frame) -> Option<Near> {
    Some(match frame {
        Frame::AnnounceKey(frame) => frame.prev,
        Frame::AnnounceAnchor(frame) => frame.prev,
        Frame::Beacon(frame) => frame.prev,
        Frame::Data(frame) => frame.prev,
        Frame::Receipt(frame) => frame.prev,
        Frame::RouteRequest(frame) => frame.prev,
        Frame::RouteReply(frame) => frame.prev,
        Frame::FragmentStatus(frame) => frame.prev,
        Frame::Signed(frame) => frame.prev,
        Frame::RouteError(frame) => frame.prev,
        Frame::CustodyAccepted(frame) => frame.prev,
        Frame::HopAck(frame) => frame.prev,
        Frame::IpControl(_) => return None,
    })
}
