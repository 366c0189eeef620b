//! Signed frames under way: those for one device go along a way as messages do, those for everybody spread once they are
//! checked (ME-S1 to ME-S3).

use core::time::Duration;

use super::bucket::{Party, Traffic};
use super::event::Dropped;
use super::forward::Passage;
use super::frame::{Cost, Frame, Kind, Priority, Signed, identity};
use super::hint::{Address, Near};
use super::inbox::{Arrival, Owed};
use super::machine::Mesh;
use super::memory::Again;
use super::receive::Heard;
use super::signed::Body;
use super::spread::Rumour;
use crate::identity::DeviceId;
use crate::limits::MESH_HOPS_MAX;
use crate::time::Time;

/// How long a signed frame may look for its next hop.
const PASSAGE_MAX: Duration = Duration::from_secs(60);

impl Mesh {
    /// Signs something for one device and sends it there. False if no way is known.
    pub(super) fn send_letter(&mut self, now: Time, to: &Address, number: u32, body: &Body) -> bool {
        let Some(way) = self.routes.best(now, to.far(), &[]) else { return false };
        let Ok(letter) = Signed::new(self.peers.own(), Some(to), number, Priority::Normal, body) else {
            return false;
        };
        let bytes = Frame::Signed(letter).to_bytes().freeze();
        let Some(id) = identity(&bytes) else { return false };
        self.remember(now, id, 0);
        let mut passage =
            Passage::new(bytes, Kind::Signed, to.far(), (way.port, way.next), now + PASSAGE_MAX);
        passage.priority = Priority::Normal;
        passage.last_hop = way.hops <= 1;
        self.depart(now, id, passage, Duration::ZERO, false)
    }

    pub(super) fn signed(&mut self, heard: &Heard, letter: &Signed) {
        let Heard { now, port, id, .. } = *heard;
        self.overheard(now, id, (port, letter.prev), letter.hop.hops);
        if letter.key == *self.peers.own().id().as_bytes() {
            return;
        }
        if letter.is_broadcast() {
            self.broadcast(heard, letter);
            return;
        }
        let Ok(from) = DeviceId::from_bytes(letter.key) else {
            self.out.dropped(Some(port), Dropped::Forged);
            return;
        };
        self.learn_back(heard, Address::of(&from).far(), letter.prev, letter.hop.hops);
        if letter.dst == self.me.far && self.take_letter(heard, letter) {
            return;
        }
        if letter.next == self.me.near {
            self.relay_letter(heard, letter);
        } else if letter.next != Near::ANYBODY {
            self.leave_to_others(heard);
        }
    }

    /// A signed frame named for us. False if it is for another device with our hint.
    fn take_letter(&mut self, heard: &Heard, letter: &Signed) -> bool {
        let Heard { now, port, id, .. } = *heard;
        if self.memory.knows(now, &id) {
            self.out.dropped(Some(port), Dropped::Duplicate);
            self.hop_ack(now, port, letter.prev, id);
            return true;
        }
        if !self.may_verify(heard) {
            return true;
        }
        let Ok(from) = letter.verify(&self.me.address) else { return false };
        self.remember(now, id, letter.hop.hops);
        self.hop_ack(now, port, letter.prev, id);
        let peer = Address::of(&from);
        if !self.peers.is_trusted(&peer) {
            self.out.dropped(Some(port), Dropped::Stranger);
            return true;
        }
        let owed = Owed { peer, seq: letter.seq, from: (port, letter.prev) };
        match self.inbox.arrive(now, owed, 1, (true, false), &mut self.journal) {
            Arrival::New { .. } => match letter.body() {
                Ok(body) => self.told(now, (peer, from), letter.seq, &body),
                Err(_) => self.out.dropped(Some(port), Dropped::Malformed),
            },
            Arrival::Again(_) | Arrival::Pending | Arrival::Refused | Arrival::Full => {
                self.out.dropped(Some(port), Dropped::Replayed);
            }
        }
        true
    }

    fn relay_letter(&mut self, heard: &Heard, letter: &Signed) {
        let Heard { now, port, id, .. } = *heard;
        let from = (port, letter.prev);
        if !self.relays() || letter.hop.hops >= MESH_HOPS_MAX {
            let why = if self.relays() { Dropped::HopLimit } else { Dropped::NotRelaying };
            self.out.dropped(Some(port), why);
            return;
        }
        match self.memory.judge(now, id, letter.hop.hops) {
            Again::New | Again::Repeat => {}
            Again::Retry | Again::Circle | Again::Worn => {
                self.out.dropped(Some(port), Dropped::Duplicate);
                if self.is_taken_on(now, &id) {
                    self.hop_ack(now, port, letter.prev, id);
                }
                return;
            }
        }
        let Some(way) = self.routes.best(now, letter.dst, &[from]) else {
            self.out.dropped(Some(port), Dropped::NoWay);
            return;
        };
        let via = (way.port, way.next);
        let mut passage = Passage::new(heard.bytes.clone(), Kind::Signed, letter.dst, via, now + PASSAGE_MAX);
        passage.priority = letter.hop.priority;
        passage.hops = letter.hop.hops + 1;
        passage.came = Some(from);
        passage.last_hop = way.hops <= 1;
        if self.depart(now, id, passage, Duration::ZERO, true) && via.0 != port {
            self.hop_ack(now, port, letter.prev, id);
        }
    }

    /// A signed frame for everybody is checked before it is said again, or one liar could make everybody speak.
    fn broadcast(&mut self, heard: &Heard, letter: &Signed) {
        let Heard { now, port, info, id, quality, .. } = *heard;
        let hops = letter.hop.hops.saturating_add(1);
        if self.memory.knows(now, &id) {
            self.out.dropped(Some(port), Dropped::Duplicate);
            if self.spread.heard(id, port, (hops, Cost::UNREACHABLE), quality, &info) {
                self.out.stats.suppressed += 1;
                self.withdraw(&super::line::Purpose::Spread(id), Some(port));
            }
            return;
        }
        if !self.may_verify(heard) {
            return;
        }
        let Ok(from) = letter.verify(&self.me.address) else {
            self.out.dropped(Some(port), Dropped::Forged);
            return;
        };
        self.remember(now, id, letter.hop.hops);
        let source = Address::of(&from);
        let paired = self.peers.is_trusted(&source);
        let party = Party::Source(source.far());
        if self.allowance.take(now, party, Traffic::KeyExchange, 1, paired).is_err() {
            self.out.dropped(Some(port), Dropped::Throttled);
            return;
        }
        self.learn_back(heard, source.far(), letter.prev, letter.hop.hops);
        if self.relays() && hops <= MESH_HOPS_MAX {
            let rumour = Rumour::new(heard.bytes.clone(), Kind::Signed, hops, Cost::FREE, now + PASSAGE_MAX);
            self.spread_on(heard, &rumour, false);
        }
    }

    /// Whether this port has not made us check too many signatures lately.
    fn may_verify(&mut self, heard: &Heard) -> bool {
        let party = Party::Neighbour { port: heard.port.0, near: Near::ANYBODY };
        let allowed = self.allowance.take(heard.now, party, Traffic::KeyExchange, 1, true).is_ok();
        if !allowed {
            self.out.dropped(Some(heard.port), Dropped::Throttled);
        }
        allowed
    }
}
