//! How two paired devices come to share a ratchet: a session of theirs gives both its root, or they exchange keys over the
//! mesh; and what they tell each other about it (ME-K7 to ME-K9).
//!
//! An exchange costs as much air as seven short messages. So it is offered where a conversation bears it: at the first
//! receipt on a link with room, after a number of receipts on a constrained one, and never on a severe one. An offer that
//! is not answered is made again, with growing pauses, when something else was delivered.

use std::collections::BTreeMap;

use bytes::Bytes;
use core::time::Duration;

use super::bucket::{Party, Traffic};
use super::event::{Event, Failure, Step};
use super::frame::Data;
use super::hint::Address;
use super::keys::{KeyExchange, Offer, Ratchet, Root, Starts};
use super::machine::Mesh;
use super::own::Sealed;
use super::records::Mark;
use super::secrets::{Opened, Proof, Readiness};
use super::signed::Body;
use crate::identity::DeviceId;
use crate::limits::MESH_RATCHET_PEERS_MAX;
use crate::radio::Class;
use crate::time::Time;

/// Receipts that a ratchet may take to be proved before keys are exchanged after all.
const PENDING_RECEIPTS: u16 = 4;
/// The pause after an offer that nobody answered; it doubles.
const RETRY_MIN: Duration = Duration::from_secs(1800);
/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(24 * 3600);

/// How far an exchange with one peer is.
#[derive(Debug, Default)]
struct Wish {
    /// Receipts that came since the last offer or the beginning.
    receipts: u16,
    offer: Option<Offer>,
    not_before: Time,
    pause: Duration,
}

/// Exchanges under way.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    wishes: BTreeMap<Address, Wish>,
    /// Answers whose ratchets are on their way to the disk.
    answers: Vec<(Mark, Address, u32, KeyExchange)>,
}

impl Exchanges {
    pub(super) fn len(&self) -> usize {
        self.wishes.len()
    }

    fn forget(&mut self, peer: &Address) {
        self.wishes.remove(peer);
        self.answers.retain(|(_, to, ..)| to != peer);
    }

    fn wish(&mut self, peer: Address) -> Option<&mut Wish> {
        if self.wishes.len() >= MESH_RATCHET_PEERS_MAX && !self.wishes.contains_key(&peer) {
            return None;
        }
        Some(self.wishes.entry(peer).or_default())
    }
}

impl Mesh {
    /// The number that the next message of this device will have at least: where a ratchet from a session begins.
    #[must_use]
    pub fn next_number(&self) -> u32 {
        self.messages.next_number()
    }

    /// A session with a paired device gave both ends this root.
    pub(super) fn root(&mut self, peer: &DeviceId, root: &Root, starts: Starts) {
        let address = Address::of(peer);
        if !self.peers.is_trusted(&address) {
            return;
        }
        let own = self.peers.own().id();
        let proof = Proof { ours: root.proof(&own), theirs: root.proof(peer) };
        let ratchet = Ratchet::new(root, &own, peer, starts);
        self.exchanges.forget(&address);
        // Without room the static keys remain.
        let _ = self.secrets.agree(address, (ratchet, starts, Some(proof)), &mut self.journal);
    }

    /// The device is not trusted any more: what is shared with it is forgotten, and what is under way to it given up. Its
    /// replay window stays, because its static keys come back with it if the two are ever paired again.
    pub(super) fn forget(&mut self, device: &DeviceId) {
        let address = Address::of(device);
        self.secrets.forget(&address, &mut self.journal);
        self.exchanges.forget(&address);
        self.inbox.distrust(&address);
        self.roll.pair(&address, false);
        self.peers.forget(&address);
        for id in self.messages.names_to(&address) {
            self.finish(id, Step::Failed(Failure::Forgotten));
        }
    }

    /// Proofs that are owed, where they cost nothing.
    pub(super) fn advance_secrets(&mut self, now: Time) {
        for (peer, proof) in self.secrets.owed() {
            let way = self.routes.peek(now, peer.far(), &[]);
            let class = way.and_then(|way| self.ports.info(way.port)).map(|info| info.class);
            if class.is_none_or(Class::rations_announces) {
                continue;
            }
            let Ok(number) = self.messages.take_number(&mut self.journal) else { return };
            if self.send_letter(now, &peer, number, &Body::Held { proof }) {
                self.secrets.told(&peer);
            }
        }
    }

    /// The disk has what it was given: answers may leave.
    pub(super) fn secrets_synced(&mut self, now: Time, mark: Mark) {
        self.secrets.synced(mark);
        let (safe, waiting) =
            core::mem::take(&mut self.exchanges.answers).into_iter().partition(|(needs, ..)| *needs <= mark);
        self.exchanges.answers = waiting;
        let safe: Vec<(Mark, Address, u32, KeyExchange)> = safe;
        for (_, peer, number, answer) in safe {
            // An answer without a way is lost, and its offer made again.
            self.send_letter(now, &peer, number, &Body::KeyExchange(answer));
        }
    }

    /// A peer has a message of ours: so there is a way to it and back.
    pub(super) fn got_receipt(&mut self, now: Time, peer: Address) {
        if self.secrets.is_sealing(&peer) || !self.peers.is_trusted(&peer) {
            return;
        }
        let pending = self.secrets.has(&peer);
        let way = self.routes.peek(now, peer.far(), &[]);
        let class = way.and_then(|way| self.ports.info(way.port)).map(|info| info.class);
        let Some(least) = class.and_then(|class| match class {
            Class::Unconstrained | Class::Medium => Some(1),
            Class::Constrained => Some(self.config.exchange_after),
            Class::Severe => None,
        }) else {
            return;
        };
        // One that is not proved soon never will be: the other end missed it.
        let least = if pending { least.max(PENDING_RECEIPTS) } else { least };
        let Some(wish) = self.exchanges.wish(peer) else { return };
        wish.receipts = wish.receipts.saturating_add(1);
        if wish.receipts < least || now < wish.not_before {
            return;
        }
        let Ok(number) = self.messages.take_number(&mut self.journal) else { return };
        let offer = Offer::new(&mut self.rng, number);
        let body = Body::KeyExchange(offer.exchange());
        wish.pause = (wish.pause * 2).clamp(RETRY_MIN, RETRY_MAX);
        (wish.not_before, wish.offer) = (now + wish.pause, Some(offer));
        self.send_letter(now, &peer, number, &body);
    }

    /// A peer tells us something under its signature.
    pub(super) fn told(&mut self, now: Time, (peer, id): (Address, DeviceId), number: u32, body: &Body) {
        let before = self.secrets.is_sealing(&peer);
        match body {
            Body::KeyExchange(exchange) if exchange.answers.is_none() => {
                self.offered(&(peer, id), number, exchange);
            }
            Body::KeyExchange(answer) => self.answered(&(peer, id), number, answer),
            Body::Held { proof } => {
                self.secrets.says_held(&peer, proof, &mut self.journal);
            }
            Body::Lost { number } => self.not_opened(now, &peer, *number),
            // Texts in the open have no reader here.
            Body::Text(_) | Body::Unknown { .. } => {}
        }
        self.tell_progress(&peer, before);
    }

    fn tell_progress(&mut self, peer: &Address, before: bool) {
        if !before && self.secrets.is_sealing(peer) {
            self.out.event(Event::ForwardSecret(*peer));
        }
    }

    fn offered(&mut self, (peer, id): &(Address, DeviceId), number: u32, offer: &KeyExchange) {
        let own = self.peers.own();
        let both = self.exchanges.wishes.get(peer).is_some_and(|wish| wish.offer.is_some());
        if both && own.id().as_bytes() < id.as_bytes() {
            return;
        }
        let Ok(ours) = self.messages.take_number(&mut self.journal) else { return };
        let starts = Starts { ours, theirs: number };
        let Ok((answer, ratchet)) = offer.answer(&mut self.rng, own, id, starts) else { return };
        if let Some(wish) = self.exchanges.wishes.get_mut(peer) {
            wish.offer = None;
        }
        // The answer leaves when its ratchet is on disk: who gets it seals with the ratchet at once.
        if let Some(mark) = self.secrets.agree(*peer, (ratchet, starts, None), &mut self.journal) {
            self.exchanges.answers.retain(|(_, to, ..)| to != peer);
            self.exchanges.answers.push((mark, *peer, ours, answer));
        }
    }

    fn answered(&mut self, (peer, id): &(Address, DeviceId), number: u32, answer: &KeyExchange) {
        let Some(wish) = self.exchanges.wishes.get_mut(peer) else { return };
        let Some(offer) = wish.offer.take() else { return };
        let starts = Starts { ours: offer.number(), theirs: number };
        let Ok(ratchet) = offer.finish(self.peers.own(), id, answer, number) else { return };
        self.exchanges.wishes.remove(peer);
        if self.secrets.agree(*peer, (ratchet, starts, None), &mut self.journal).is_some() {
            // The answer proves that the peer has it.
            self.secrets.proved(peer, &mut self.journal);
        }
    }

    /// A peer has no keys for a message of ours.
    fn not_opened(&mut self, now: Time, peer: &Address, number: u32) {
        let Some(flight) = self.messages.by_seq(peer, number) else { return };
        let frame = flight.seal_again(now);
        self.secrets.gave_up(peer, number, &mut self.journal);
        if self.forward.end(&frame).is_some() {
            self.withdraw(&super::line::Purpose::Pass(frame), None);
        }
    }

    /// Seals a message of ours with the best keys there are for its number.
    pub(super) fn seal_for(&mut self, peer: &Address, data: &mut Data) -> Sealed {
        if self.peers.is_trusted(peer) {
            match self.secrets.prepare(peer, data.seq, &mut self.journal) {
                Readiness::Wait(mark) => return Sealed::Wait(mark),
                Readiness::Ratchet if self.secrets.seal(peer, data, &mut self.journal) => return Sealed::Yes,
                Readiness::Ratchet | Readiness::Static => {}
            }
        }
        let Some(keys) = self.peers.keys(peer) else { return Sealed::No };
        keys.seal(data);
        Sealed::Yes
    }

    /// Opens a message from whoever among `named` sealed it. Says so to whoever is known to have sealed it with keys that
    /// are gone here.
    pub(super) fn open_from(
        &mut self,
        now: Time,
        named: &[Address],
        data: &Data,
    ) -> Option<(Address, Bytes)> {
        if !data.ratcheted {
            return named.iter().find_map(|peer| Some((*peer, self.peers.keys(peer)?.open(data).ok()?)));
        }
        let mut lost = None;
        for peer in named.iter().filter(|peer| self.peers.is_trusted(peer)) {
            let before = self.secrets.is_sealing(peer);
            match self.secrets.open(peer, data, &mut self.journal) {
                Opened::Message(payload) => {
                    self.tell_progress(peer, before);
                    return Some((*peer, payload));
                }
                Opened::Lost => lost = Some(*peer),
                Opened::Forged => {}
            }
        }
        // Which of several it is from nobody can tell.
        if let Some(peer) = lost.filter(|_| named.len() == 1) {
            self.say_lost(now, &peer, data.seq);
        }
        None
    }

    fn say_lost(&mut self, now: Time, peer: &Address, number: u32) {
        let party = Party::Source(peer.far());
        if self.allowance.take(now, party, Traffic::KeyExchange, 1, true).is_err() {
            return;
        }
        let Ok(ours) = self.messages.take_number(&mut self.journal) else { return };
        self.send_letter(now, peer, ours, &Body::Lost { number });
    }
}
