//! Frames kept for devices that are away: when one is taken, who is told, and how it gets to its target after all. What is
//! held, within which limits, and what of it is on disk is the affair of [`super::custody`].
//!
//! ```text
//!  source ──no way, nobody answered: to anybody──▶ store node ──on disk──▶ custody accepted ──▶ source: "stored"
//!  relay  ──cannot pass it on, stores────────────▶    itself  ──on disk──▶ custody accepted ──▶ back along its way
//!  relay  ──cannot pass it on, does not store────▶ next hop to the nearest store that announced itself
//!                                                       │
//!             the target is heard, a way or a port comes up, or now and then ──▶ target ──receipt──▶ let go
//! ```
//!
//! A source says how long a frame is worth keeping only when it has reason to: a frame without that is never kept. Whoever
//! passes an acceptance back along the way of the frame says it anew, with its own word for whoever is next: each believes
//! its neighbour, and one whose key is not known is not believed. The receipt of the target ends it all. It also passes
//! whoever kept the message, and is said again from there to a source that repeats what was delivered long ago.

use bytes::Bytes;
use core::time::Duration;

use super::bucket::{Party, Traffic};
use super::custody::{Deposit, Taken};
use super::event::{Dropped, Output, Step};
use super::forward::Passage;
use super::frame::{
    Caps, CustodyAccepted, Data, Frame, FrameId, Hop, Kind, Priority, Receipt, Rewrite, identity,
};
use super::hint::{Address, Far, Near};
use super::keys::Pairwise;
use super::line::{Purpose, Turn, within};
use super::machine::Mesh;
use super::pass::{keeping, rewritten};
use super::port::PortId;
use super::receive::Heard;
use super::spread::patience;
use crate::identity::DeviceId;
use crate::limits::{MESH_HANDING_OUT_MAX, MESH_HOPS_MAX, MESH_OFFERS_MAX, MESH_PAUSE_MAX};
use crate::planted::{self, Bug};
use crate::time::Time;

/// How long a kept frame may look for its first hop.
const PASSAGE_MAX: Duration = Duration::from_secs(60);
/// When too many kept frames are on their way already, the others wait so long.
const CROWDED_PAUSE: Duration = Duration::from_secs(5);
/// How long a source leaves a message to those who keep it before it looks for a way itself: they cannot, because a question
/// is proved with keys that they do not have. Two of these are one and a half announce intervals.
const STORED_PAUSE: Duration = Duration::from_secs(480);
/// After so many attempts, an hour or so, it leaves it to them for [`MESH_PAUSE_MAX`].
const STORED_ATTEMPTS_SOON: u8 = 12;
/// Ports on which a message that nobody knows a way for is offered to be kept.
const DEPOSIT_PORTS_MAX: usize = 8;
/// Messages offered after one failed search.
const DEPOSITS_MAX: usize = 4;
/// Stores on the roll that are looked at for one to which a way is known.
const STORES_TRIED_MAX: usize = 8;
/// Devices sharing a hint to whom an acceptance is proved: one, but for chance.
const NAMESAKES_MAX: usize = 2;

/// A frame that somebody offers to whoever keeps it.
#[derive(Debug)]
struct Offer {
    at: Time,
    id: FrameId,
    from: (PortId, Near),
    bytes: Bytes,
}

/// Frames overheard that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Offers {
    list: Vec<Offer>,
}

impl Offers {
    /// Somebody took it.
    pub(super) fn withdraw(&mut self, id: &FrameId) {
        self.list.retain(|offer| offer.id != *id);
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.list.iter().map(|offer| offer.at).min()
    }

    pub(super) fn bytes(&self) -> usize {
        self.list.iter().map(|offer| size_of::<Offer>() + offer.bytes.len()).sum()
    }

    fn add(&mut self, offer: Offer) {
        if self.list.len() < MESH_OFFERS_MAX && self.list.iter().all(|other| other.id != offer.id) {
            self.list.push(offer);
        }
    }

    fn due(&mut self, now: Time) -> Option<Offer> {
        let at = self.list.iter().position(|offer| offer.at <= now)?;
        Some(self.list.remove(at))
    }
}

impl Mesh {
    /// A frame that goes to anybody, and no way for it is known here. If it comes from its source and nobody takes it, it is
    /// kept here, or goes to where it may be.
    pub(super) fn offer(&mut self, heard: &Heard, data: &Data) {
        let Heard { now, port, info, id, quality, .. } = *heard;
        if data.keep.is_none() || data.hop.hops > 0 {
            return;
        }
        let from = (port, data.prev);
        // After those who know a way have spoken, and those who keep it themselves.
        let turns = if self.config.caps.has(Caps::STORE) {
            2
        } else if self.relays() && self.way_to_store(now, from, data.dst, heard.bytes.len()).is_some() {
            4
        } else {
            return;
        };
        let busy = self.ports.busy_percent(now, port);
        let wait = patience(quality, heard.bytes.len(), &info, busy, &mut self.rng) * turns;
        let bytes = Bytes::copy_from_slice(&heard.bytes);
        self.offers.add(Offer { at: now + wait, id, from, bytes });
    }

    /// The first hop to the nearest device that announced that it stores, and its hint. Not back to where the frame came from,
    /// and not to its target, which may store as well and is just what could not be reached.
    fn way_to_store(
        &self,
        now: Time,
        from: (PortId, Near),
        target: Far,
        len: usize,
    ) -> Option<(Far, (PortId, Near))> {
        let stores = self.roll.offering(now, Caps::STORE);
        let addresses = stores.iter().map(|store| (Address::of(&store.device), store));
        let others = addresses.filter(|(address, _)| address.far() != target);
        others.take(STORES_TRIED_MAX).find_map(|(address, store)| {
            let known = self.routes.peek(now, address.far(), &[from]).filter(|way| way.failures == 0);
            let via = match known {
                Some(way) => (way.port, way.next),
                // Ways age sooner than a radio announces itself again.
                None if store.hops <= 1 => (self.neighbours.port_of(address.near())?, address.near()),
                None => return None,
            };
            (via != from && self.fits(via.0, len)).then_some((address.far(), via))
        })
    }

    /// Sends a frame that may be kept, but not here, one hop towards the nearest device that keeps. The leave to keep it is in
    /// the frame, so nothing has to be added: whoever gets it passes it to its target, keeps it, or does the same. False if
    /// no such device is known, or if it was on its way to one: `lost` is whom it did not get to from here.
    pub(super) fn pass_to_store(
        &mut self,
        now: Time,
        from: (PortId, Near),
        bytes: &Bytes,
        lost: Option<Far>,
    ) -> bool {
        let Some(info) = self.ports.info(from.0) else { return false };
        let (Ok(Frame::Data(data)), Some(id)) = (Frame::decode(bytes, info.kind), identity(bytes)) else {
            return false;
        };
        let again = lost.is_some_and(|to| to != data.dst);
        if again || data.keep.is_none() || !self.relays() || data.hop.hops >= MESH_HOPS_MAX {
            return false;
        }
        let Some((store, via)) = self.way_to_store(now, from, data.dst, bytes.len()) else { return false };
        self.remember(now, id, data.hop.hops);
        self.memory.drop_crumb(now, data.src, data.first(), id, from);
        // The store is where it goes: ways to it are tried, and blamed if they fail.
        let mut passage = Passage::new(bytes.clone(), Kind::Data, store, via, now + PASSAGE_MAX);
        passage.priority = data.hop.priority;
        passage.hops = data.hop.hops + 1;
        passage.came = Some(from);
        let departed = self.depart(now, id, passage, Duration::ZERO, false);
        if departed && via.0 != from.0 {
            self.hop_ack(now, from.0, from.1, id);
        }
        departed
    }

    /// Keeps a frame that cannot go on from here. False if it may not be kept, or not here.
    pub(super) fn keep(&mut self, now: Time, from: (PortId, Near), bytes: &Bytes) -> bool {
        if !self.config.caps.has(Caps::STORE) {
            return false;
        }
        let Some(info) = self.ports.info(from.0) else { return false };
        let (Ok(Frame::Data(data)), Some(id)) = (Frame::decode(bytes, info.kind), identity(bytes)) else {
            return false;
        };
        let Some(keep) = data.keep else { return false };
        // Every frame taken is a write to disk.
        let known = !self.peers.named(data.src).is_empty();
        if self.allowance.take(now, Party::Source(data.src), Traffic::Message, 1, known).is_err() {
            self.out.dropped(Some(from.0), Dropped::Throttled);
            return false;
        }
        let deposit = Deposit {
            id,
            depositor: from,
            source: data.src,
            target: data.dst,
            first: data.first(),
            seq: data.seq,
            priority: data.hop.priority,
            lifetime: keep.span(),
            frame: bytes.clone(),
        };
        match self.custody.accept(self.moment(now), deposit, &mut self.journal) {
            Ok(Taken::Pending { .. }) => {
                self.out.stats.kept += 1;
                if planted::is(Bug::KeptUnsynced) {
                    self.say_kept(now, id, from);
                }
            }
            Ok(Taken::Already) => self.say_kept(now, id, from),
            Ok(Taken::Finished { receipt }) => self.say_again(now, from, &receipt),
            Err(_) => return false,
        }
        true
    }

    /// Tells whoever sent a frame here that it is kept. Where it cannot be proved, that a neighbour has it.
    pub(super) fn say_kept(&mut self, now: Time, frame: FrameId, (port, next): (PortId, Near)) {
        let unproved = CustodyAccepted { next, prev: self.me.near, frame, mac: Default::default() };
        let proved = self.with_neighbours(next, |_, keys| {
            let mut accepted = unproved.clone();
            keys.attest(&mut accepted);
            accepted
        });
        if proved.is_empty() {
            self.hop_ack(now, port, next, frame);
        }
        for accepted in proved {
            self.once(now, port, &Frame::CustodyAccepted(accepted));
        }
    }

    /// Does something with the keys shared with each device that a neighbour may be: paired ones, else those that have
    /// announced themselves.
    fn with_neighbours<R>(&mut self, near: Near, mut with: impl FnMut(DeviceId, &Pairwise) -> R) -> Vec<R> {
        let known = self.peers.near(near);
        let mut done = Vec::new();
        for peer in known.iter().take(NAMESAKES_MAX) {
            let id = self.peers.id(peer);
            done.extend(id.zip(self.peers.keys(peer)).map(|(id, keys)| with(id, keys)));
        }
        if done.is_empty() {
            let announced = self.roll.near(near).take(NAMESAKES_MAX);
            let keys = announced.filter_map(|id| Some((id, Pairwise::new(self.peers.own(), &id).ok()?)));
            done.extend(keys.map(|(id, keys)| with(id, &keys)));
        }
        done
    }

    /// Somebody keeps a frame.
    pub(super) fn kept_by(&mut self, heard: &Heard, accepted: &CustodyAccepted) {
        let Heard { now, port, .. } = *heard;
        let (from, frame) = ((port, accepted.prev), accepted.frame);
        if accepted.next != self.me.near {
            // One is enough.
            self.offers.withdraw(&frame);
            return;
        }
        // Proving costs computing, so only of what is waited for.
        let back = self.memory.way_back(&frame);
        let ours = self.messages.by_frame(&frame).is_some() || self.custody.find(&frame).is_some();
        if !ours && back.is_none() {
            self.out.dropped(Some(port), Dropped::Stale);
            return;
        }
        let checks =
            self.with_neighbours(accepted.prev, |id, keys| keys.check(accepted).is_ok().then_some(id));
        let Some(keeper) = checks.iter().flatten().next().copied() else {
            self.out.dropped(Some(port), if checks.is_empty() { Dropped::Stranger } else { Dropped::Forged });
            return;
        };
        if self.forward.passage(&frame).is_some_and(|p| p.via == from || p.via == (port, Near::ANYBODY)) {
            self.passed_on(now, frame, true);
        }
        if let Some(flight) = self.messages.by_frame(&frame) {
            let id = flight.id;
            if flight.parts.as_mut().is_some_and(|parts| !parts.kept(&frame)) {
                return;
            }
            let pause = if flight.attempts < STORED_ATTEMPTS_SOON { STORED_PAUSE } else { MESH_PAUSE_MAX };
            let (at, until) = (self.moment(now), now + pause * 3 / 4 + within(pause / 4, &mut self.rng));
            if self.messages.stored(at, id, (keeper, until), &mut self.journal) {
                self.out.push(Output::Progress { id, step: Step::Stored });
            }
        } else if !self.custody.handed_on(&frame, &mut self.journal)
            && let Some((message, back)) = back.filter(|(_, back)| *back != from)
            // Once for each time it went on: two nodes with two links may each have it from the other.
            && let Some(crumb) = self.memory.crumb(now, message.0, message.1)
            && !core::mem::replace(&mut crumb.kept, true)
        {
            self.say_kept(now, frame, back);
        }
    }

    /// A receipt passes: what it is for need not be kept any more.
    pub(super) fn kept_confirmed(&mut self, heard: &Heard, receipt: &Receipt) {
        let Receipt { dst: source, src: target, seq, .. } = *receipt;
        let ended = self.custody.receipt(heard.now, source, target, seq, &heard.bytes, &mut self.journal);
        self.out.stats.kept_delivered += ended as u64;
    }

    /// Offers messages to whoever keeps them: nobody knows a way to their target.
    pub(super) fn deposit(&mut self, now: Time, target: Far) {
        for id in self.messages.waiting(now, target).into_iter().take(DEPOSITS_MAX) {
            self.deposit_one(now, id);
        }
    }

    /// Offers one message to whoever keeps it.
    pub(super) fn deposit_one(&mut self, now: Time, id: u64) {
        if self.messages.message(id).and_then(|message| message.numbers).is_some_and(|n| n.pieces > 1) {
            for piece in self.pieces_to_keep(now, id) {
                self.say_to_anybody(now, &piece, 0);
            }
            return;
        }
        self.seal(now, id, true);
        if let Some(flight) = self.messages.get(id).filter(|flight| flight.keep.is_some()) {
            let bytes = flight.frame.clone();
            self.say_to_anybody(now, &bytes, 0);
        }
    }

    /// Everything that is kept and due.
    pub(super) fn advance_kept(&mut self, now: Time) {
        while let Some(offer) = self.offers.due(now) {
            if !self.keep(now, offer.from, &offer.bytes) && !self.memory.knows(now, &offer.id) {
                self.pass_to_store(now, offer.from, &offer.bytes, None);
            }
        }
        if self.custody.is_empty() {
            return;
        }
        self.custody.timeout(now, &mut self.journal);
        while let Some(id) = self.custody.due(now) {
            let going = self.forward.ids().filter(|id| self.custody.find(id).is_some()).count();
            if going >= MESH_HANDING_OUT_MAX || self.ports.len() == 0 {
                self.custody.defer(&id, now + CROWDED_PAUSE);
            } else {
                self.hand_out(now, id);
            }
        }
    }

    /// Sends a kept frame on its way again.
    fn hand_out(&mut self, now: Time, id: FrameId) {
        let Some((frame, target, priority)) = self.custody.find(&id) else { return };
        // Whoever keeps it next shall not begin anew: it may go from one to the next, but not live longer by that.
        let bytes = keeping(frame, self.custody.left(now, &id));
        let hops = bytes.get(1).map_or(0, |byte| Hop::from_byte(*byte).hops).saturating_add(1);
        let way = self.routes.best(now, target, &[]).filter(|way| way.failures < 3);
        let way = way.filter(|way| self.fits(way.port, bytes.len()));
        let Some(way) = way.filter(|_| hops <= MESH_HOPS_MAX) else {
            self.custody.tried_blindly(now, &id, &mut self.rng);
            self.say_to_anybody(now, &bytes, hops);
            return;
        };
        let round_trip = self.hop_time() * (u32::from(way.hops) * 3 / 2 + 4);
        self.custody.tried(now, &id, round_trip, &mut self.rng);
        let mut passage = Passage::new(bytes, Kind::Data, target, (way.port, way.next), now + PASSAGE_MAX);
        passage.priority = priority;
        passage.hops = hops;
        passage.last_hop = way.hops <= 1;
        self.remember(now, id, hops);
        self.depart(now, id, passage, Duration::ZERO, false);
    }

    /// Says a frame once on every port: somebody may know a way, be its target, or keep it.
    fn say_to_anybody(&mut self, now: Time, bytes: &Bytes, hops: u8) {
        let to =
            Rewrite { hops, next: Near::ANYBODY, prev: self.me.near, cost: Default::default(), class: 0 };
        let Some(bytes) = rewritten(bytes, &to) else { return };
        if let Some(id) = identity(&bytes) {
            self.remember(now, id, hops);
        }
        let fits = |mtu: usize| bytes.len() <= mtu;
        let ports: Vec<PortId> = self
            .ports
            .iter()
            .filter(|(_, info)| fits(info.mtu))
            .map(|(port, _)| port)
            .take(DEPOSIT_PORTS_MAX)
            .collect();
        for port in ports {
            let purpose = Purpose::Once(bytes.clone());
            self.queue(now, Turn::new(port, purpose, Kind::Data, Priority::Normal, bytes.len()));
        }
    }

    /// Says a receipt again that passed here before.
    fn say_again(&mut self, now: Time, (port, next): (PortId, Near), receipt: &Bytes) {
        let Ok(Frame::Receipt(mut receipt)) = Frame::decode(receipt, super::frame::PortKind::PointToPoint)
        else {
            return;
        };
        (receipt.next, receipt.prev) = (next, self.me.near);
        receipt.hop.hops = receipt.hop.hops.saturating_add(1).min(MESH_HOPS_MAX);
        self.once(now, port, &Frame::Receipt(receipt));
    }
}
