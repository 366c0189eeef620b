//! Our own messages: what each needs next, and what its receipt or its silence means.

use bytes::Bytes;
use core::time::Duration;

use super::event::{Dropped, Failure, Outgoing, Output, Step};
use super::forward::Passage;
use super::frame::{Data, Frame, FrameId, Hop, Keep, Kind, Receipt, identity};
use super::hint::{Far, Near};
use super::line::within;
use super::machine::Mesh;
use super::messages::{BLIND_TRIES_MAX, State};
use super::outbox::{Numbers, Refused};
use super::pass::keeping;
use super::receive::Heard;
use super::records::Mark;
use super::replay::NoNumber;
use crate::limits::MESH_LIFETIME_MAX;
use crate::planted::{self, Bug};
use crate::time::Time;

/// How long an own frame may look for its first hop.
const PASSAGE_MAX: Duration = Duration::from_secs(60);
/// Pause after a way broke.
const BROKEN_PAUSE: Duration = Duration::from_secs(2);
/// A message with less time left is not given to others to keep.
const KEEP_MIN: Duration = Duration::from_secs(300);
/// The pause doubles with each further way that broke, at most so often.
const BROKEN_DOUBLINGS_MAX: u8 = 6;
/// A message repeated this often without a receipt asks for the way afresh.
const DOUBT_AFTER: u8 = 2;

/// Whether a message could be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sealed {
    /// It is.
    Yes,
    /// When the disk has everything up to this mark.
    Wait(Mark),
    /// There are no keys for its target.
    No,
}

impl Mesh {
    /// The application sends a message.
    pub(super) fn send(&mut self, now: Time, mut out: Outgoing) {
        let id = out.id;
        let fail = |why| Output::Progress { id, step: Step::Failed(why) };
        let address = super::hint::Address::of(&out.to);
        if !self.peers.know(out.to, false) || self.peers.keys(&address).is_none() {
            self.out.push(fail(Failure::BadKey));
            return;
        }
        let endless = planted::is(Bug::LivesForEver);
        out.lifetime = if endless { MESH_LIFETIME_MAX } else { out.lifetime.min(MESH_LIFETIME_MAX) };
        let at = self.moment(now);
        let displaced = match self.messages.add(at, out, &mut self.journal) {
            Ok(displaced) => displaced,
            Err(why) => {
                self.out.push(fail(match why {
                    Refused::TooLong => Failure::TooLong,
                    Refused::NoLifetime => Failure::Expired,
                    Refused::Known => Failure::Known,
                    Refused::Full => Failure::QueueFull,
                }));
                return;
            }
        };
        for other in displaced {
            self.out.stats.failed += 1;
            self.out.push(Output::Progress { id: other, step: Step::Failed(Failure::Displaced) });
        }
        self.out.stats.accepted += 1;
        // What is written to disk is accepted when it is there.
        let durable = self.messages.message(id).is_some_and(|message| message.durable);
        if let Some(flight) = self.messages.get(id).filter(|_| !durable) {
            flight.told = true;
            self.out.push(Output::Progress { id, step: Step::Accepted });
        }
    }

    /// The disk has these messages.
    pub(super) fn accepted(&mut self, safe: Vec<u64>) {
        for id in safe {
            self.out.push(Output::Progress { id, step: Step::Accepted });
        }
    }

    /// A message is over.
    pub(super) fn finish(&mut self, id: u64, step: Step) {
        let Some(flight) = self.messages.remove(id, &mut self.journal) else { return };
        let whole = (flight.state == State::Passing).then_some(flight.frame_id);
        for frame in whole.into_iter().chain(flight.parts.iter().flat_map(|parts| parts.going())) {
            if self.forward.end(&frame).is_some() {
                self.withdraw(&super::line::Purpose::Pass(frame), None);
            }
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
        while let Some(flight) = self.messages.due(now) {
            let (id, state) = (flight.id, flight.state);
            if flight.expires <= now {
                self.finish(id, Step::Failed(Failure::Expired));
                continue;
            }
            match state {
                State::Numbering => self.number(now, id),
                State::Ready | State::Awaiting => self.launch(now, id),
                State::Passing | State::Writing(_) => flight.next_at = Time::MAX,
            }
        }
    }

    fn number(&mut self, now: Time, id: u64) {
        let at = self.moment(now);
        let len = self.messages.message(id).map_or(0, |message| message.payload.len());
        let Some(cut) = self.cut(len) else {
            self.finish(id, Step::Failed(Failure::TooLong));
            return;
        };
        match self.messages.number(at, id, cut, &mut self.journal) {
            Ok(()) => {}
            Err(NoNumber::Wait) => {
                if let Some(flight) = self.messages.get(id) {
                    flight.next_at = Time::MAX;
                }
            }
            Err(NoNumber::Exhausted) => self.finish(id, Step::Failed(Failure::NoNumbers)),
        }
    }

    /// Makes the frame of a message. The first try says nothing of keeping it: most messages arrive, and the byte is saved.
    /// Later ones say how much is left of the message's lifetime. False if it has to wait for the disk.
    pub(super) fn seal(&mut self, now: Time, id: u64, keep: bool) -> bool {
        let Some(flight) = self.messages.get(id) else { return false };
        let left = flight.expires.saturating_since(now);
        let keep = keep && flight.receipt && left >= KEEP_MIN;
        let keep = keep.then(|| Keep::at_most(left));
        if keep.is_some() == flight.keep.is_some() && !flight.frame.is_empty() {
            flight.frame = keeping(&flight.frame, left);
            flight.keep = keep;
            return true;
        }
        let (src, prev) = (self.me.far, self.me.near);
        let Some(message) = self.messages.message(id) else { return false };
        let Some(Numbers { first, .. }) = message.numbers else { return false };
        let address = message.address;
        let mut data = Data {
            hop: Hop::first(message.priority),
            next: Near::ANYBODY,
            prev,
            dst: address.far(),
            src,
            seq: first,
            receipt: message.receipt,
            ratcheted: false,
            fragment: None,
            keep,
            payload: message.payload.clone(),
            mac: Default::default(),
        };
        match self.seal_for(&address, &mut data) {
            Sealed::Yes => {}
            Sealed::Wait(mark) => {
                if let Some(flight) = self.messages.get(id) {
                    (flight.state, flight.next_at) = (State::Writing(mark), Time::MAX);
                }
                return false;
            }
            Sealed::No => return false,
        }
        let frame: Bytes = Frame::Data(data).to_bytes().freeze();
        if let Some(flight) = self.messages.get(id) {
            flight.frame_id = identity(&frame).unwrap_or_default();
            flight.frame = frame;
            flight.keep = keep;
        }
        true
    }

    /// Gives a message to a way, or asks for one.
    fn launch(&mut self, now: Time, id: u64) {
        let Some(flight) = self.messages.get(id) else { return };
        let far = flight.to.far();
        let blind = !flight.receipt && flight.attempts >= BLIND_TRIES_MAX;
        if blind {
            self.finish(id, Step::Failed(Failure::Expired));
            return;
        }
        if self.messages.message(id).and_then(|message| message.numbers).is_some_and(|n| n.pieces > 1) {
            self.launch_pieces(now, id);
            return;
        }
        let Some(flight) = self.messages.get(id) else { return };
        // A way that did not bring a receipt twice is asked for afresh, but only once each time.
        let doubt = flight.state == State::Awaiting && flight.attempts >= DOUBT_AFTER;
        let attempts = flight.attempts;
        let way = self.routes.best(now, far, &[]);
        let usable = way.filter(|way| way.failures < 3 && !(doubt && attempts % 2 == 0));
        let Some(way) = usable else {
            self.look_for(now, id, way.map(|way| way.hops));
            return;
        };
        if !self.seal(now, id, attempts > 0) {
            return;
        }
        let len = self.messages.get(id).map_or(0, |flight| flight.frame.len());
        if !self.fits(way.port, len) {
            self.look_for(now, id, None);
            return;
        }
        let hop_time = self.hop_time();
        let priority = self.messages.message(id).map(|message| message.priority).unwrap_or_default();
        let Some(flight) = self.messages.get(id) else { return };
        flight.state = State::Passing;
        flight.paused = false;
        flight.attempts = flight.attempts.saturating_add(1);
        // Until the receipt; a passage that ends otherwise says so.
        flight.next_at = now + flight.patience(way.hops, hop_time, &mut self.rng);
        let (frame, frame_id) = (flight.frame.clone(), flight.frame_id);
        let expires = flight.expires.min(now + PASSAGE_MAX);
        let mut passage = Passage::new(frame, Kind::Data, far, (way.port, way.next), expires);
        passage.priority = priority;
        passage.last_hop = way.hops <= 1;
        self.remember(now, frame_id, 0);
        if !self.depart(now, frame_id, passage, Duration::ZERO, false)
            && let Some(flight) = self.messages.get(id)
        {
            flight.state = State::Ready;
            flight.next_at = now + BROKEN_PAUSE;
        }
    }

    /// A message waits for a way.
    pub(super) fn look_for(&mut self, now: Time, id: u64, hops: Option<u8>) {
        let hop_time = self.hop_time();
        let Some(flight) = self.messages.get(id) else { return };
        let (to, expires) = (flight.to, flight.expires);
        flight.state = State::Ready;
        flight.paused = false;
        flight.attempts = flight.attempts.saturating_add(1);
        // A way that is found wakes it, and so does a port that comes up.
        flight.next_at = expires;
        if self.ports.len() == 0 {
            return;
        }
        let unkept = flight.receipt && flight.stored_until <= now;
        let (unknown, mut away) = (hops.is_none(), false);
        match self.requests.want(now, to.far(), hops, hop_time) {
            Some(ask) => self.ask(now, &to, ask),
            None => {
                if let Some(until) = self.requests.rests_until(to.far()) {
                    flight.next_at = until.max(flight.stored_until);
                    away = true;
                }
            }
        }
        // A search failed lately, or another message is kept: this one need not wait until the next search has failed.
        if unkept && (away && unknown || self.messages.is_kept(now, to.far())) {
            self.deposit_one(now, id);
        }
    }

    /// A message of ours went over the air.
    pub(super) fn left(&mut self, _now: Time, frame: FrameId) {
        let Some(flight) = self.messages.by_frame(&frame) else { return };
        if !flight.left {
            flight.left = true;
            let id = flight.id;
            self.out.push(Output::Progress { id, step: Step::Sent });
        }
    }

    /// The first hop has a message of ours.
    pub(super) fn own_passed(&mut self, now: Time, frame: FrameId) {
        let Some(flight) = self.messages.by_frame(&frame) else { return };
        let id = flight.id;
        if flight.parts.is_some() {
            self.piece_out(now, id, frame, true);
            return;
        }
        if flight.receipt && planted::is(Bug::HopAckIsReceipt) {
            self.finish(id, Step::Delivered);
        } else if flight.receipt {
            flight.state = State::Awaiting;
            flight.next_at = flight.next_at.max(now);
        } else {
            // Sent as well as the mesh can; nobody will say more.
            self.messages.remove(id, &mut self.journal);
        }
    }

    /// Nobody near takes a message of ours.
    pub(super) fn own_given_up(&mut self, now: Time, frame: FrameId) {
        let pause = BROKEN_PAUSE + within(BROKEN_PAUSE, &mut self.rng);
        let Some(flight) = self.messages.by_frame(&frame) else { return };
        let id = flight.id;
        if flight.parts.is_some() {
            flight.attempts = flight.attempts.saturating_add(1);
            self.piece_out(now, id, frame, false);
        }
        let Some(flight) = self.messages.get(id) else { return };
        flight.state = State::Ready;
        // Doubled each time: a liar that makes ways look good must not make us send without end.
        flight.next_at = now + pause * (1 << flight.attempts.saturating_sub(1).min(BROKEN_DOUBLINGS_MAX));
        flight.paused = true;
        if planted::is(Bug::OneTry) {
            flight.next_at = Time::MAX;
        }
    }

    /// A relay says that a message of ours cannot go on.
    pub(super) fn own_broken(&mut self, now: Time, dst: Far, seq: u32) {
        let pause = BROKEN_PAUSE + within(BROKEN_PAUSE, &mut self.rng);
        let Some(flight) = self.messages.by_hint(dst, seq) else { return };
        if flight.state == State::Awaiting {
            // Not at once: whoever forges errors shall not make us send more.
            flight.next_at = flight.next_at.min(now + pause * u32::from(flight.attempts.min(8)));
        }
    }

    /// A receipt for us.
    pub(super) fn receipted(&mut self, heard: &Heard, receipt: &Receipt) {
        let Heard { now, port, .. } = *heard;
        let Some(peer) = self.peers.check(receipt.src, receipt) else {
            self.out.dropped(Some(port), Dropped::Forged);
            return;
        };
        let Some(flight) = self.messages.by_seq(&peer, receipt.seq) else {
            self.out.dropped(Some(port), Dropped::Duplicate);
            return;
        };
        let (id, frame) = (flight.id, flight.frame_id);
        if let Some(via) = self.forward.passage(&frame).map(|passage| passage.via) {
            self.passed_on(now, frame, via == (port, receipt.prev));
        }
        self.routes.confirm(now, peer.far(), port, receipt.prev);
        self.finish(id, Step::Delivered);
        self.got_receipt(now, peer);
    }
}
