//! Messages in pieces, as the machine sends and takes them. How a message is cut, which pieces were lost and what a target
//! may hold is the affair of [`super::fragment`].
//!
//! A message is cut once, when it gets its numbers, for the narrowest link it may meet: a repeat over another way has
//! the same pieces, so the target can put together what came by both. Pieces go like messages, each over every hop with its
//! own acknowledgement. On a radio the next one leaves when the one before is out of the way of the first hops; on
//! connections several go at once. A piece that goes again has the bytes it had, and relays take it for a copy while the
//! first one may still be under way: so what was lost is sent again only a while after.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use core::time::Duration;

use super::event::Dropped;
use super::forward::Passage;
use super::fragment::{Arrival as Piecewise, Incoming, Pace, Piece, Refused, Split, Step as Progress};
use super::frame::{
    DATA_OVERHEAD_BYTES, Data, FRAGMENT_HEADER_BYTES, Fragment, FragmentSet, FragmentStatus, Frame, FrameId,
    Hop, KEEP_BYTES, Keep, Kind, Priority, identity,
};
use super::hint::{Address, Near};
use super::inbox::{Arrival, Owed};
use super::machine::Mesh;
use super::messages::State;
use super::outbox::Numbers;
use super::own::Sealed;
use super::port::{PortId, PortInfo};
use super::receive::Heard;
use super::routes::Way;
use crate::limits::{MESH_CUT_FRAME_BYTES_MAX, MESH_DEPOSIT_FRAGMENTS_MAX};
use crate::time::Time;

/// How long a piece may look for its first hop.
const PASSAGE_MAX: Duration = Duration::from_secs(60);
/// A piece is not sent again sooner: until then relays take it for a copy.
const REPEAT_PAUSE: Duration = Duration::from_secs(6);
/// Pieces on the way to the first hop at once, on a connection.
const GOING_MAX: usize = 8;
/// Pieces under way without a word from the target, on a radio and on connections.
const WINDOWS: (u8, u8) = (8, 32);
/// After a piece the first hops are busy with it for so many airtimes.
const CLEAR_AIRTIMES: u32 = 2;
/// How many airtimes a target waits for more pieces before it says what it has.
const HOLD_AIRTIMES: u32 = 8;
/// And this besides: modems wait for a free channel.
const HOLD_MIN: Duration = Duration::from_secs(2);

/// An own message on its way in pieces.
#[derive(Debug)]
pub(super) struct Parts {
    split: Split,
    going: BTreeMap<FrameId, u8>,
    /// Pieces offered to whoever keeps them.
    offered: BTreeMap<FrameId, u8>,
    kept: BTreeSet<u8>,
    aired_at: Time,
    /// Nothing is sent before this.
    resumes_at: Time,
}

impl Parts {
    /// Whether a frame is a piece of it that waits for somebody.
    pub(super) fn has(&self, frame: &FrameId) -> bool {
        self.going.contains_key(frame) || self.offered.contains_key(frame)
    }

    /// Pieces on their way over the first hop.
    pub(super) fn going(&self) -> impl Iterator<Item = FrameId> {
        self.going.keys().copied()
    }

    /// Somebody keeps a piece. True if now every piece is kept.
    pub(super) fn kept(&mut self, frame: &FrameId) -> bool {
        self.kept.extend(self.offered.get(frame).or_else(|| self.going.get(frame)));
        self.kept.len() == usize::from(self.split.count())
    }
}

impl Mesh {
    /// Into how many pieces a message is cut, and of how many bytes. `None` if it would be too many.
    pub(super) fn cut(&self, len: usize) -> Option<(u8, u16)> {
        let narrowest = self.ports.iter().map(|(_, info)| info.mtu).min().unwrap_or(usize::MAX);
        let frame = narrowest.min(MESH_CUT_FRAME_BYTES_MAX);
        let whole = frame.saturating_sub(DATA_OVERHEAD_BYTES + KEEP_BYTES);
        if len <= whole {
            return Some((1, u16::try_from(whole).ok()?));
        }
        let piece = whole.saturating_sub(FRAGMENT_HEADER_BYTES).max(1);
        let count = u8::try_from(len.div_ceil(piece)).ok()?;
        Some((count, u16::try_from(piece).ok()?))
    }

    /// Whether a frame is small enough for a port.
    pub(super) fn fits(&self, port: PortId, bytes: usize) -> bool {
        self.ports.info(port).is_none_or(|info| bytes <= info.mtu)
    }

    /// Sends what may be sent now of a message in pieces.
    pub(super) fn launch_pieces(&mut self, now: Time, id: u64) {
        let Some(flight) = self.messages.get(id) else { return };
        let far = flight.to.far();
        let way = self.routes.best(now, far, &[]);
        let Some((way, info)) =
            way.filter(|way| way.failures < 3).and_then(|w| Some((w, *self.ports.info(w.port)?)))
        else {
            self.look_for(now, id, way.map(|way| way.hops));
            return;
        };
        let pace = pace(&way, &info);
        let Some(message) = self.messages.message(id) else { return };
        let (body, numbers) = (message.payload.clone(), message.numbers);
        let Some((flight, numbers)) = self.messages.get(id).zip(numbers) else { return };
        flight.paused = false;
        if flight.parts.as_ref().is_none_or(|parts| parts.split.step() == Progress::GaveUp) {
            let Ok(split) = Split::new(body, numbers.piece_bytes.into(), pace) else { return };
            flight.parts = Some(Box::new(Parts {
                split,
                going: BTreeMap::new(),
                offered: BTreeMap::new(),
                kept: BTreeSet::new(),
                aired_at: now,
                resumes_at: now,
            }));
        }
        let Some(parts) = &mut flight.parts else { return };
        parts.split.set_pace(pace);
        parts.split.timeout(now);
        match parts.split.step() {
            Progress::Going => self.send_pieces(now, id, &way, &info),
            // The way brings nothing there, or nothing back: it is asked for afresh.
            Progress::GaveUp => self.look_for(now, id, Some(way.hops)),
            Progress::Done => {
                // The target has it all and its receipt was lost: one piece brings it again.
                flight.attempts = flight.attempts.saturating_add(1);
                flight.state = State::Awaiting;
                flight.next_at = now + pace.patience * (1 << flight.attempts.min(6));
                let index = numbers.pieces - 1;
                let body = piece_of(&self.messages, id, numbers, index);
                self.send_piece(now, id, &way, Piece { index, body, ask: true });
            }
        }
    }

    fn send_pieces(&mut self, now: Time, id: u64, way: &Way, info: &PortInfo) {
        let at_once = if info.is_radio() { 1 } else { GOING_MAX };
        loop {
            let Some(flight) = self.messages.get(id) else { return };
            let Some(parts) = &mut flight.parts else { return };
            flight.state = State::Awaiting;
            let waits = parts.resumes_at > now;
            let piece = if parts.going.len() < at_once && !waits { parts.split.next_piece() } else { None };
            let Some(piece) = piece else {
                let later = parts.split.poll_timeout().map(|deadline| deadline.at);
                // While pieces are on their way, what becomes of them brings us back here.
                let idle = if parts.going.is_empty() { now + HOLD_MIN } else { Time::MAX };
                flight.next_at = if waits { parts.resumes_at } else { later.unwrap_or(idle) };
                return;
            };
            let index = piece.index;
            if !self.send_piece(now, id, way, piece)
                && let Some(flight) = self.messages.get(id)
                && let Some(parts) = &mut flight.parts
            {
                parts.split.sent(now, index, false);
                parts.resumes_at = now + HOLD_MIN;
            }
        }
    }

    fn send_piece(&mut self, now: Time, id: u64, way: &Way, piece: Piece) -> bool {
        let index = piece.index;
        let keep = self.messages.get(id).is_some_and(|flight| flight.attempts > 0);
        let Some(bytes) = self.piece_frame(now, id, piece, keep) else { return false };
        let Some(frame) = identity(&bytes).filter(|_| self.fits(way.port, bytes.len())) else { return false };
        let priority = self.messages.message(id).map(|message| message.priority).unwrap_or_default();
        let Some(flight) = self.messages.get(id) else { return false };
        let expires = flight.expires.min(now + PASSAGE_MAX);
        let mut passage = Passage::new(bytes, Kind::Data, flight.to.far(), (way.port, way.next), expires);
        passage.priority = priority;
        passage.last_hop = way.hops <= 1;
        if let Some(parts) = &mut flight.parts {
            parts.going.insert(frame, index);
        }
        self.remember(now, frame, 0);
        let departed = self.depart(now, frame, passage, Duration::ZERO, false);
        if !departed && let Some(parts) = self.messages.get(id).and_then(|flight| flight.parts.as_mut()) {
            parts.going.remove(&frame);
        }
        departed
    }

    /// A piece, sealed: the same bytes every time, but for what it asks.
    fn piece_frame(&mut self, now: Time, id: u64, piece: Piece, keep: bool) -> Option<Bytes> {
        let (src, prev) = (self.me.far, self.me.near);
        let message = self.messages.message(id)?;
        let Numbers { first, pieces: count, .. } = message.numbers?;
        let left = message.ends_at.saturating_since(now);
        let address = message.address;
        let mut data = Data {
            hop: Hop::first(message.priority),
            next: Near::ANYBODY,
            prev,
            dst: address.far(),
            src,
            seq: first.wrapping_add(piece.index.into()),
            receipt: piece.ask,
            ratcheted: false,
            fragment: Some(Fragment { index: piece.index, count, message: first.to_be_bytes()[3] }),
            keep: keep.then(|| Keep::at_most(left)),
            payload: piece.body,
            mac: Default::default(),
        };
        // One that must wait for the disk is asked for again.
        (self.seal_for(&address, &mut data) == Sealed::Yes).then(|| Frame::Data(data).to_bytes().freeze())
    }

    /// A piece is over the first hop, or was given up.
    pub(super) fn piece_out(&mut self, now: Time, id: u64, frame: FrameId, aired: bool) {
        let Some(flight) = self.messages.get(id) else { return };
        let Some(parts) = &mut flight.parts else { return };
        let Some(index) = parts.going.remove(&frame) else { return };
        parts.split.sent(now, index, aired);
        parts.aired_at = now;
        if aired {
            let way = self.routes.peek(now, flight.to.far(), &[]);
            let radio = way.and_then(|way| Some((way.hops, *self.ports.info(way.port)?)));
            if let Some((hops, info)) = radio.filter(|(hops, info)| info.is_radio() && *hops > 1) {
                let clear = info.airtime(MESH_CUT_FRAME_BYTES_MAX) * CLEAR_AIRTIMES.min(u32::from(hops) - 1);
                parts.resumes_at = parts.resumes_at.max(now + clear);
            }
            flight.next_at = flight.next_at.min(now);
        }
    }

    /// The pieces that nobody keeps yet, for whoever does.
    pub(super) fn pieces_to_keep(&mut self, now: Time, id: u64) -> Vec<Bytes> {
        let Some(numbers) = self.messages.message(id).and_then(|message| message.numbers) else {
            return Vec::new();
        };
        if numbers.pieces > MESH_DEPOSIT_FRAGMENTS_MAX {
            return Vec::new();
        }
        let Some(message) = self.messages.message(id) else { return Vec::new() };
        let (body, pace) = (message.payload.clone(), Pace { patience: REPEAT_PAUSE, window: 1 });
        let Ok(split) = Split::new(body, numbers.piece_bytes.into(), pace) else { return Vec::new() };
        if let Some(flight) = self.messages.get(id).filter(|flight| flight.parts.is_none()) {
            let (going, offered, kept) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
            flight.parts =
                Some(Box::new(Parts { split, going, offered, kept, aired_at: now, resumes_at: now }));
        }
        let mut frames = Vec::new();
        for index in 0..numbers.pieces {
            let done = |parts: &Parts| parts.kept.contains(&index);
            if self.messages.get(id).and_then(|flight| flight.parts.as_deref()).is_some_and(done) {
                continue;
            }
            let body = piece_of(&self.messages, id, numbers, index);
            let piece = Piece { index, body, ask: index + 1 == numbers.pieces };
            let Some(bytes) = self.piece_frame(now, id, piece, true) else { continue };
            if let Some(frame) = identity(&bytes)
                && let Some(parts) = self.messages.get(id).and_then(|flight| flight.parts.as_mut())
            {
                parts.offered.retain(|_, other| *other != index);
                parts.offered.insert(frame, index);
            }
            frames.push(bytes);
        }
        frames
    }

    /// A piece of a message for us. Its MAC is right.
    pub(super) fn arrive_piece(
        &mut self,
        heard: &Heard,
        data: &Data,
        Fragment { index, count, .. }: Fragment,
        (peer, body): (Address, Bytes),
    ) {
        let Heard { now, port, info, id, .. } = *heard;
        if data.seq < u32::from(index) {
            self.out.dropped(Some(port), Dropped::Stale);
            return;
        }
        let owed = Owed { peer, seq: data.first(), from: (port, data.prev) };
        match self.inbox.judge(owed, true) {
            None => {}
            Some(Arrival::Again(owed)) if data.receipt => return self.send_receipt(now, owed),
            Some(Arrival::Again(_) | Arrival::Pending | Arrival::New { .. }) => {
                return self.hop_ack(now, port, data.prev, id);
            }
            Some(Arrival::Refused) => return self.out.dropped(Some(port), Dropped::Replayed),
            Some(Arrival::Full) => return self.out.dropped(Some(port), Dropped::QueueFull),
        }
        let trusted = self.peers.is_trusted(&peer);
        let piece = Incoming { from: peer, trusted, first: owed.seq, index, count, ask: data.receipt, body };
        match self.assembly.accept(now, &piece, hold(&info)) {
            Ok(Piecewise::Complete(whole)) => {
                if let Arrival::New { evicted } =
                    self.inbox.arrive(now, owed, count, (trusted, true), &mut self.journal)
                {
                    self.forget_evicted(evicted);
                    self.deliver(heard, &peer, data, whole);
                }
            }
            Ok(Piecewise::Kept | Piecewise::Duplicate | Piecewise::AlreadyDone) => {
                self.hop_ack(now, port, data.prev, id);
            }
            Err(Refused::Impossible | Refused::Contradiction) => self.out.dropped(Some(port), Dropped::Stale),
            Err(Refused::PeerFull | Refused::Full) => self.out.dropped(Some(port), Dropped::QueueFull),
        }
    }

    /// Says which pieces are here, where it is time to, and forgets what nothing came of.
    pub(super) fn advance_pieces(&mut self, now: Time) {
        if self.assembly.is_empty() {
            return;
        }
        self.assembly.timeout(now);
        while let Some(status) = self.assembly.poll_status(now) {
            let arrived = FragmentSet::from_bitmap(&status.bitmap);
            let Some(way) = self.routes.best(now, status.to.far(), &[]) else { continue };
            let mut frame = FragmentStatus {
                hop: Hop::first(Priority::Control),
                next: way.next,
                prev: self.me.near,
                dst: status.to.far(),
                src: self.me.far,
                seq: status.first,
                arrived,
                mac: Default::default(),
            };
            let Some(keys) = self.peers.keys(&status.to) else { continue };
            keys.attest(&mut frame);
            let (to, via) = (frame.dst, (way.port, way.next));
            let bytes = Frame::FragmentStatus(frame).to_bytes().freeze();
            let Some(id) = identity(&bytes) else { continue };
            self.remember(now, id, 0);
            let mut passage = Passage::new(bytes, Kind::FragmentStatus, to, via, now + PASSAGE_MAX);
            passage.last_hop = way.hops <= 1;
            self.depart(now, id, passage, Duration::ZERO, true);
        }
    }

    /// Somebody says which pieces it has.
    pub(super) fn status(&mut self, heard: &Heard, status: &FragmentStatus) {
        let Heard { now, port, id, .. } = *heard;
        let from = (port, status.prev);
        self.overheard(now, id, from, status.hop.hops);
        if status.src == self.me.far {
            return;
        }
        self.learn_back(heard, status.src, status.prev, status.hop.hops);
        if status.dst == self.me.far {
            self.status_for_us(heard, status);
        } else if status.next == self.me.near {
            let way = self.routes.best(now, status.dst, &[from]).map(|way| (way.port, way.next));
            let crumb = self.memory.crumb(now, status.dst, status.seq).map(|crumb| crumb.from);
            let told = (status.dst, status.prev, status.hop.hops);
            self.answer_on(heard, Kind::FragmentStatus, told, way.or(crumb));
        } else {
            self.leave_to_others(heard);
        }
    }

    fn status_for_us(&mut self, heard: &Heard, status: &FragmentStatus) {
        let Heard { now, port, .. } = *heard;
        let Some(peer) = self.peers.check(status.src, status) else {
            self.out.dropped(Some(port), Dropped::Forged);
            return;
        };
        let Some(flight) = self.messages.by_seq(&peer, status.seq) else {
            self.out.dropped(Some(port), Dropped::Stale);
            return;
        };
        let Some(parts) = flight.parts.as_mut() else { return };
        let count = parts.split.count();
        parts.split.status(now, status.arrived.bitmap(count));
        parts.resumes_at = parts.resumes_at.max(parts.aired_at + REPEAT_PAUSE);
        if parts.split.there() == 0 || flight.state == State::Awaiting {
            flight.next_at = now;
        }
        self.routes.confirm(now, peer.far(), port, status.prev);
    }
}

/// What a target waits for more pieces before it says what it has.
fn hold(info: &PortInfo) -> Duration {
    HOLD_MIN
        + if info.is_radio() {
            info.airtime(MESH_CUT_FRAME_BYTES_MAX) * HOLD_AIRTIMES
        } else {
            Duration::ZERO
        }
}

/// What a way costs in time.
fn pace(way: &Way, info: &PortInfo) -> Pace {
    let hops = u32::from(way.hops.max(1));
    if info.is_radio() {
        let hop = info.airtime(MESH_CUT_FRAME_BYTES_MAX) * 3 + Duration::from_secs(1);
        Pace { patience: hold(info) + hop * (hops + 2), window: WINDOWS.0 }
    } else {
        Pace { patience: REPEAT_PAUSE + HOLD_MIN + Duration::from_millis(500) * hops, window: WINDOWS.1 }
    }
}

fn piece_of(messages: &super::messages::Messages, id: u64, numbers: Numbers, index: u8) -> Bytes {
    let Some(message) = messages.message(id) else { return Bytes::new() };
    let (size, len) = (usize::from(numbers.piece_bytes), message.payload.len());
    let from = (usize::from(index) * size).min(len);
    message.payload.slice(from..(from + size).min(len))
}
