//! Our own messages: what each needs next, and what its receipt or its silence means.

use bytes::Bytes;
use core::time::Duration;

use super::event::{Dropped, Failure, Outgoing, Output, Step};
use super::forward::Passage;
use super::frame::{Data, Frame, FrameId, Hop, Kind, Receipt, identity};
use super::hint::{Far, Near};
use super::line::within;
use super::machine::Mesh;
use super::messages::{BLIND_TRIES_MAX, State};
use super::receive::Heard;
use super::replay::NoNumber;
use crate::limits::{MESH_LIFETIME_MAX, MESH_MESSAGE_BYTES_MAX};
use crate::planted::{self, Bug};
use crate::time::Time;

/// How long an own frame may look for its first hop.
const PASSAGE_MAX: Duration = Duration::from_secs(60);
/// Pause after a way broke.
const BROKEN_PAUSE: Duration = Duration::from_secs(2);
/// A message repeated this often without a receipt asks for the way afresh.
const DOUBT_AFTER: u8 = 2;

impl Mesh {
    /// The application sends a message.
    pub(super) fn send(&mut self, now: Time, out: Outgoing) {
        let id = out.id;
        let fail = |why| Output::Progress { id, step: Step::Failed(why) };
        if out.payload.len() > MESH_MESSAGE_BYTES_MAX {
            self.out.push(fail(Failure::TooLong));
            return;
        }
        let address = super::hint::Address::of(&out.to);
        if !self.peers.know(out.to, false) || self.peers.keys(&address).is_none() {
            self.out.push(fail(Failure::BadKey));
            return;
        }
        let endless = planted::is(Bug::LivesForEver);
        let lifetime = if endless { MESH_LIFETIME_MAX } else { out.lifetime.min(MESH_LIFETIME_MAX) };
        if !self.messages.add(now, out, lifetime) {
            self.out.push(fail(Failure::QueueFull));
            return;
        }
        self.out.stats.accepted += 1;
        self.out.push(Output::Progress { id, step: Step::Accepted });
    }

    /// A message is over.
    pub(super) fn finish(&mut self, id: u64, step: Step) {
        let Some(message) = self.messages.remove(id) else { return };
        if let Some(passage) = self.forward.end(&message.id).filter(|_| message.state == State::Passing) {
            drop(passage);
            self.withdraw(&super::line::Purpose::Pass(message.id), None);
        }
        match step {
            Step::Delivered => self.out.stats.receipted += 1,
            Step::Failed(_) => self.out.stats.failed += 1,
            Step::Accepted | Step::Sent | Step::Stored => {}
        }
        self.out.push(Output::Progress { id, step });
    }

    /// Everything that our messages want now.
    pub(super) fn advance_messages(&mut self, now: Time) {
        while let Some(message) = self.messages.due(now) {
            let (id, state) = (message.out.id, message.state);
            if message.expires <= now {
                self.finish(id, Step::Failed(Failure::Expired));
                continue;
            }
            match state {
                State::Unnumbered => self.number(now, id),
                State::Ready | State::Awaiting => self.launch(now, id),
                State::Passing => message.next_at = Time::MAX,
            }
        }
    }

    fn number(&mut self, now: Time, id: u64) {
        let seq = match self.messages.number(&mut self.journal) {
            Ok(seq) => seq,
            Err(NoNumber::Wait) => {
                if let Some(message) = self.messages.get(id) {
                    message.next_at = Time::MAX;
                }
                return;
            }
            Err(NoNumber::Exhausted) => {
                self.finish(id, Step::Failed(Failure::NoNumbers));
                return;
            }
        };
        let src = self.me.far;
        let (Some(message), prev) = (self.messages.get(id), self.me.near) else { return };
        let mut data = Data {
            hop: Hop::first(message.out.priority),
            next: Near::ANYBODY,
            prev,
            dst: message.to.far(),
            src,
            seq,
            receipt: message.out.receipt,
            ratcheted: false,
            fragment: None,
            payload: message.out.payload.clone(),
            mac: Default::default(),
        };
        let Some(keys) = self.peers.keys(&message.to) else { return };
        keys.seal(&mut data);
        let frame: Bytes = Frame::Data(data).to_bytes().freeze();
        message.id = identity(&frame).unwrap_or_default();
        (message.seq, message.frame, message.state, message.next_at) = (seq, frame, State::Ready, now);
    }

    /// Gives a message to a way, or asks for one.
    fn launch(&mut self, now: Time, id: u64) {
        let Some(message) = self.messages.get(id) else { return };
        let far = message.to.far();
        let blind = !message.out.receipt && message.attempts >= BLIND_TRIES_MAX;
        if blind {
            self.finish(id, Step::Failed(Failure::Expired));
            return;
        }
        // A way that did not bring a receipt twice is asked for afresh, but only once each time.
        let doubt = message.state == State::Awaiting && message.attempts >= DOUBT_AFTER;
        let attempts = message.attempts;
        let way = self.routes.best(now, far, &[]);
        let usable = way.filter(|way| way.failures < 3 && !(doubt && attempts % 2 == 0));
        let Some(way) = usable else {
            self.look_for(now, id, way.map(|way| way.hops));
            return;
        };
        let hop_time = self.hop_time();
        let Some(message) = self.messages.get(id) else { return };
        message.state = State::Passing;
        message.attempts = message.attempts.saturating_add(1);
        // Until the receipt; a passage that ends otherwise says so.
        message.next_at = now + message.patience(way.hops, hop_time, &mut self.rng);
        let (frame, frame_id, priority) = (message.frame.clone(), message.id, message.out.priority);
        let expires = message.expires.min(now + PASSAGE_MAX);
        let mut passage = Passage::new(frame, Kind::Data, far, (way.port, way.next), expires);
        passage.priority = priority;
        passage.last_hop = way.hops <= 1;
        self.remember(now, frame_id, 0);
        if !self.depart(now, frame_id, passage, Duration::ZERO, false)
            && let Some(message) = self.messages.get(id)
        {
            message.state = State::Ready;
            message.next_at = now + BROKEN_PAUSE;
        }
    }

    /// A message waits for a way.
    fn look_for(&mut self, now: Time, id: u64, hops: Option<u8>) {
        let hop_time = self.hop_time();
        let Some(message) = self.messages.get(id) else { return };
        let (to, expires) = (message.to, message.expires);
        message.state = State::Ready;
        message.attempts = message.attempts.saturating_add(1);
        message.next_at = expires;
        if self.ports.len() == 0 {
            message.next_at = now + BROKEN_PAUSE * 5;
            return;
        }
        match self.requests.want(now, to.far(), hops, hop_time) {
            Some(ask) => self.ask(now, &to, ask),
            None => {
                if let Some(until) = self.requests.rests_until(to.far()) {
                    message.next_at = until;
                }
            }
        }
    }

    /// A message of ours went over the air.
    pub(super) fn left(&mut self, _now: Time, frame: FrameId) {
        let Some(message) = self.messages.by_frame(&frame) else { return };
        if !message.left {
            message.left = true;
            let id = message.out.id;
            self.out.push(Output::Progress { id, step: Step::Sent });
        }
    }

    /// The first hop has a message of ours.
    pub(super) fn own_passed(&mut self, now: Time, frame: FrameId) {
        let Some(message) = self.messages.by_frame(&frame) else { return };
        if message.out.receipt && planted::is(Bug::HopAckIsReceipt) {
            let id = message.out.id;
            self.finish(id, Step::Delivered);
        } else if message.out.receipt {
            message.state = State::Awaiting;
            message.next_at = message.next_at.max(now);
        } else {
            // Sent as well as the mesh can; nobody will say more.
            let id = message.out.id;
            self.messages.remove(id);
        }
    }

    /// Nobody near takes a message of ours.
    pub(super) fn own_given_up(&mut self, now: Time, frame: FrameId) {
        let pause = BROKEN_PAUSE + within(BROKEN_PAUSE, &mut self.rng);
        let Some(message) = self.messages.by_frame(&frame) else { return };
        message.state = State::Ready;
        message.next_at = now + pause * u32::from(message.attempts.min(8));
        if planted::is(Bug::OneTry) {
            message.next_at = Time::MAX;
        }
    }

    /// A relay says that a message of ours cannot go on.
    pub(super) fn own_broken(&mut self, now: Time, dst: Far, seq: u32) {
        let pause = BROKEN_PAUSE + within(BROKEN_PAUSE, &mut self.rng);
        let Some(message) = self.messages.by_seq(dst, seq) else { return };
        if message.state == State::Awaiting {
            // Not at once: whoever forges errors shall not make us send more.
            message.next_at = message.next_at.min(now + pause * u32::from(message.attempts.min(8)));
        }
    }

    /// A receipt for us.
    pub(super) fn receipted(&mut self, heard: &Heard, receipt: &Receipt) {
        let Heard { now, port, .. } = *heard;
        let Some(peer) = self.peers.check(receipt.src, receipt) else {
            self.out.dropped(Some(port), Dropped::Forged);
            return;
        };
        let Some(message) =
            self.messages.by_seq(peer.far(), receipt.seq).filter(|message| message.to == peer)
        else {
            self.out.dropped(Some(port), Dropped::Duplicate);
            return;
        };
        let (id, frame) = (message.out.id, message.id);
        if let Some(via) = self.forward.passage(&frame).map(|passage| passage.via) {
            self.passed_on(now, frame, via == (port, receipt.prev));
        }
        self.routes.confirm(now, peer.far(), port, receipt.prev);
        self.finish(id, Step::Delivered);
    }
}
