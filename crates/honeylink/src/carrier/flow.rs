//! Flows of datagrams at the [`Gate`]: unlike byte streams their bytes wait here, because a datagram that is too late is
//! dropped, and because repair is added where the losses are known.
//!
//! Repair does not leave at once with the datagram that completes its block: a connection puts small datagrams that leave
//! together into one packet, and a packet that is lost would take both what is to be repaired and what repairs it. It goes
//! in the time until the flow's next datagram.
//!
//! The gate decides when a datagram leaves; its task hands it to the connection, outside the gate's lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use honeylink_core::qos::fec::{Encoder, FecChoice, FecControl, FecLevel, HEADER_BYTES, Layout};
use honeylink_core::qos::{OptionsError, Room, StreamId, StreamOptions, StreamStats};
use honeylink_core::time::Time;

use super::gate::{Gate, Owner};
use super::traffic::RefusedStream;

/// Bytes in front of every datagram that say which flow it belongs to.
pub(crate) const LABEL_BYTES: usize = 16;
/// What repair adds to the longest payload of its block: a length, filled up to an even number.
const REPAIR_BYTES: usize = 3;
/// What a flow without a deadline waits for the rest of a block.
const PATIENCE: Duration = Duration::from_millis(100);
/// What is thought of the time between two datagrams before there were two.
const INTERVAL_FIRST: Duration = Duration::from_millis(20);
/// How often losses are looked at.
const LOSSES_EVERY: Duration = Duration::from_millis(500);
/// Fewer packets than this say nothing about losses.
const LOSSES_PACKETS_MIN: u64 = 50;

/// What a flow is at the gate.
#[derive(Debug)]
pub(super) struct Outbound {
    label: [u8; LABEL_BYTES],
    queue: VecDeque<Bytes>,
    repair: Option<Repair>,
}

/// Repair of one flow.
#[derive(Debug)]
struct Repair {
    control: FecControl,
    encoder: Encoder,
    patience: Duration,
    /// Between two datagrams, smoothed.
    interval: Duration,
    last: Option<Time>,
    /// When the block has to end though it is not full; `None` between blocks.
    ends: Option<Time>,
    /// Repair of blocks that ended, and when it leaves, soonest first.
    spread: VecDeque<(Time, Bytes)>,
    sent: u64,
}

impl Repair {
    fn new(choice: FecChoice, deadline: Option<Duration>) -> Self {
        let control = FecControl::new(choice);
        // Half of the deadline to fill a block, half for its way.
        let patience = deadline.unwrap_or(PATIENCE) / 2;
        let encoder = Encoder::new(Layout { data: 4, repair: 1 });
        let spread = VecDeque::new();
        Self { control, encoder, patience, interval: INTERVAL_FIRST, last: None, ends: None, spread, sent: 0 }
    }

    /// What leaves now that the application sends `payload`.
    fn push(&mut self, now: Time, payload: Bytes) -> Vec<Bytes> {
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_since(last).min(self.patience);
            self.interval = (self.interval * 7 + gap) / 8;
        }
        if self.ends.is_none() {
            let layout = Layout::choose(self.control.level(), self.interval, self.patience);
            self.encoder.set_layout(layout.unwrap_or(Layout { data: 16, repair: 1 }));
            self.ends = Some(now + self.patience);
        }
        let Some((datagram, repair)) = self.encoder.push(payload) else { return Vec::new() };
        let mut out = self.leaving(now);
        out.insert(0, datagram);
        if !repair.is_empty() {
            self.ends = None;
            self.spread(now, repair);
        }
        out
    }

    /// What leaves now without a datagram of the application: repair that is due, and of a block that must end.
    fn due(&mut self, now: Time) -> Vec<Bytes> {
        if self.ends.is_some_and(|at| at <= now) {
            self.ends = None;
            let repair = self.encoder.flush();
            self.spread(now, repair);
        }
        self.leaving(now)
    }

    fn leaving(&mut self, now: Time) -> Vec<Bytes> {
        let due = self.spread.partition_point(|(at, _)| *at <= now);
        self.spread.drain(..due).map(|(_, repair)| repair).collect()
    }

    /// Lets repair leave one by one until the next datagram is expected. Without losses none is sent.
    fn spread(&mut self, now: Time, repair: Vec<Bytes>) {
        if self.control.level() == FecLevel::None {
            return;
        }
        self.sent += repair.len() as u64;
        // What is left of the block before is due now: there is never more than the repair of two.
        self.spread.iter_mut().for_each(|(at, _)| *at = now);
        let gap = self.interval / u32::try_from(repair.len() + 1).unwrap_or(1);
        let mut at = now;
        for datagram in repair {
            at += gap;
            self.spread.push_back((at, datagram));
        }
    }

    /// When something leaves by itself.
    fn deadline(&self) -> Option<Time> {
        self.ends.into_iter().chain(self.spread.front().map(|(at, _)| *at)).min()
    }
}

/// All flows of a gate.
#[derive(Debug, Default)]
pub(super) struct Flows {
    outbound: BTreeMap<StreamId, Outbound>,
    /// Datagrams whose turn has come, for the connection.
    leaving: VecDeque<Bytes>,
    /// Packets the connection had sent and lost when last looked at, and when that was.
    losses: (u64, u64),
    looked: Time,
}

impl Flows {
    pub(super) fn holds(&self, id: StreamId) -> bool {
        self.outbound.contains_key(&id)
    }

    /// It is this flow's turn. The bytes that leave.
    pub(super) fn leave(&mut self, id: StreamId) -> u64 {
        let Some(datagram) = self.outbound.get_mut(&id).and_then(|flow| flow.queue.pop_front()) else {
            return 0;
        };
        let bytes = datagram.len() as u64;
        self.leaving.push_back(datagram);
        bytes
    }

    /// The oldest datagram of a flow waited too long.
    pub(super) fn drop_late(&mut self, id: StreamId) {
        self.outbound.get_mut(&id).and_then(|flow| flow.queue.pop_front());
    }

    pub(super) fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    pub(super) fn take_leaving(&mut self) -> VecDeque<Bytes> {
        std::mem::take(&mut self.leaving)
    }

    /// When a block ends or losses are to be looked at.
    pub(super) fn deadline(&self) -> Option<Time> {
        let repairs = || self.outbound.values().filter_map(|flow| flow.repair.as_ref());
        let ends = repairs().filter_map(Repair::deadline).min();
        // Only while something is sent: an idle flow must not wake anybody.
        let look = repairs().any(|repair| repair.ends.is_some()).then(|| self.looked + LOSSES_EVERY);
        ends.into_iter().chain(look).min()
    }

    /// The connection has sent and lost that many packets so far.
    pub(super) fn look(&mut self, now: Time, sent: u64, lost: u64) {
        if now < self.looked + LOSSES_EVERY {
            return;
        }
        self.looked = now;
        // Each path counts for itself: where there are fewer than before, it is another one.
        let (sent_before, lost_before) = if sent < self.losses.0 { (0, 0) } else { self.losses };
        let (sent_since, lost_since) = (sent.saturating_sub(sent_before), lost.saturating_sub(lost_before));
        if sent_since < LOSSES_PACKETS_MIN {
            return;
        }
        self.losses = (sent, lost);
        let per_mille = u32::try_from(lost_since * 1000 / sent_since).unwrap_or(1000);
        for repair in self.outbound.values_mut().filter_map(|flow| flow.repair.as_mut()) {
            repair.control.lossy(per_mille);
        }
    }

    /// Repair that leaves now, by flow.
    pub(super) fn due(&mut self, now: Time) -> Vec<(StreamId, Vec<Bytes>)> {
        let repairs = self.outbound.iter_mut().filter_map(|(id, flow)| Some((*id, flow.repair.as_mut()?)));
        repairs.map(|(id, repair)| (id, repair.due(now))).collect()
    }

    /// Puts a datagram into a flow's queue, as it goes over the wire. Its size.
    pub(super) fn put(&mut self, id: StreamId, body: &[u8]) -> u64 {
        let Some(flow) = self.outbound.get_mut(&id) else { return 0 };
        let mut datagram = BytesMut::with_capacity(LABEL_BYTES + body.len());
        datagram.extend_from_slice(&flow.label);
        datagram.extend_from_slice(body);
        flow.queue.push_back(datagram.freeze());
        (LABEL_BYTES + body.len()) as u64
    }

    /// Takes back what [`Flows::put`] put last: there was no room for it.
    pub(super) fn take_back(&mut self, id: StreamId) {
        self.outbound.get_mut(&id).and_then(|flow| flow.queue.pop_back());
    }

    /// What is sent for a payload: itself, and repair when it completes a block.
    pub(super) fn made_of(&mut self, now: Time, id: StreamId, payload: Bytes) -> Vec<Bytes> {
        match self.outbound.get_mut(&id).map(|flow| &mut flow.repair) {
            Some(Some(repair)) => repair.push(now, payload),
            Some(None) => vec![payload],
            None => Vec::new(),
        }
    }

    /// Repair datagrams of a flow so far.
    pub(super) fn repair_sent(&self, id: StreamId) -> u64 {
        let repair = self.outbound.get(&id).and_then(|flow| flow.repair.as_ref());
        repair.map_or(0, |repair| repair.sent)
    }

    pub(super) fn close(&mut self, id: StreamId) {
        self.outbound.remove(&id);
    }
}

/// Counters of the sending side of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Rate, queue, waiting times and drops; bytes count as they go over the wire, repair included.
    pub sent: StreamStats,
    /// How much repair is added now.
    pub fec: FecLevel,
    /// Repair datagrams so far.
    pub repair: u64,
}

/// A flow's place at the gate; given back when dropped.
#[derive(Debug)]
pub(crate) struct FlowTicket {
    gate: Arc<Gate>,
    id: StreamId,
    repairs: bool,
}

impl FlowTicket {
    pub(super) fn new(gate: Arc<Gate>, id: StreamId, repairs: bool) -> Self {
        Self { gate, id, repairs }
    }

    /// What a payload grows by.
    pub(crate) fn overhead_bytes(&self) -> usize {
        LABEL_BYTES + if self.repairs { HEADER_BYTES + REPAIR_BYTES } else { 0 }
    }

    /// Queues a datagram. [`Room::Full`]: it was not taken.
    pub(crate) fn send(&self, payload: Bytes) -> Room {
        self.gate.send_datagram(self.id, payload)
    }

    /// Remembers whose the flow is.
    pub(crate) fn belongs(&self, owner: Owner) {
        self.gate.belongs(self.id, owner);
    }

    pub(crate) fn stats(&self) -> FlowStats {
        self.gate.flow_stats(self.id)
    }

    pub(crate) fn retune(&self, options: StreamOptions) -> Result<(), OptionsError> {
        self.gate.retune(self.id, options)
    }
}

impl Drop for FlowTicket {
    fn drop(&mut self) {
        self.gate.close(self.id);
    }
}

impl Gate {
    /// A place for a flow of datagrams.
    pub(crate) fn open_datagrams(
        self: &Arc<Self>,
        options: StreamOptions,
        fec: FecChoice,
        label: [u8; LABEL_BYTES],
    ) -> Result<FlowTicket, RefusedStream> {
        let now = self.now();
        let mut inside = self.inside();
        let id = inside.scheduler.open_datagrams(now, options)?;
        self.admit(&mut inside, id, options)?;
        let repair = (fec != FecChoice::Off).then(|| Repair::new(fec, options.deadline));
        let repairs = repair.is_some();
        inside.flows.outbound.insert(id, Outbound { label, queue: VecDeque::new(), repair });
        drop(inside);
        Ok(FlowTicket::new(self.clone(), id, repairs))
    }

    fn send_datagram(&self, id: StreamId, payload: Bytes) -> Room {
        let now = self.now();
        let mut inside = self.inside();
        // Looked at before repair is made: a block must not miss a datagram that never left.
        let most = (payload.len() + LABEL_BYTES + HEADER_BYTES) as u64;
        if inside.scheduler.room(id) < most {
            return Room::Full;
        }
        let mut room = Room::Free;
        for (nth, body) in inside.flows.made_of(now, id, payload).into_iter().enumerate() {
            let taken = inside.enqueue_datagram(now, id, &body);
            // Repair for which there is no room is not missed by anybody who has the rest.
            room = if nth == 0 { taken } else { room };
        }
        self.pump_inside(inside);
        room
    }

    fn flow_stats(&self, id: StreamId) -> FlowStats {
        let now = self.now();
        let inside = self.inside();
        let sent = inside.scheduler.stats(now, id).unwrap_or_default();
        let repair = inside.flows.outbound.get(&id).and_then(|flow| flow.repair.as_ref());
        let fec = repair.map_or(FecLevel::None, |repair| repair.control.level());
        FlowStats { sent, fec, repair: inside.flows.repair_sent(id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(5);

    /// Sends `count` datagrams, one every [`EVERY`]; what left when, with the flow's own wake-ups in between.
    fn left(repair: &mut Repair, count: u32) -> Vec<(Time, usize)> {
        let mut left = Vec::new();
        for nth in 0..count {
            let now = Time::ZERO + EVERY * nth;
            while let Some(at) = repair.deadline().filter(|at| *at < now) {
                left.push((at, repair.due(at).len()));
            }
            left.push((now, repair.push(now, Bytes::from_static(b"a word")).len()));
        }
        left
    }

    #[test]
    fn repair_leaves_neither_with_what_it_repairs_nor_with_other_repair() {
        let mut repair = Repair::new(FecChoice::AtLeastLight, Some(Duration::from_millis(100)));
        let left = left(&mut repair, 400);
        assert!(repair.sent >= 80, "{}", repair.sent);
        assert!(left.iter().all(|(_, datagrams)| *datagrams <= 1), "{left:?}");
        let repairs = left.iter().filter(|(at, _)| at.as_micros() % 5000 != 0).count() as u64;
        assert!(repair.sent - repairs <= 2, "{repairs} of {} apart", repair.sent);
    }

    #[test]
    fn losses_of_another_path_count_from_its_first_packets_on() {
        let options = StreamOptions::from(honeylink_core::qos::Class::Realtime);
        let gate = Gate::new(crate::clock::Clock::start(), None);
        let flow = gate.open_datagrams(options, FecChoice::Auto, [1; LABEL_BYTES]).unwrap();
        let level = || flow.stats().fec;
        let look = |nth: u32, sent, lost| {
            gate.inside().flows.look(Time::ZERO + LOSSES_EVERY * nth, sent, lost);
        };
        look(1, 1_000_000, 0);
        assert_eq!(level(), FecLevel::None);
        // It carried little before, and loses a fifth.
        look(2, 300, 60);
        assert_eq!(level(), FecLevel::Heavy);
        look(3, 400, 60);
        assert_eq!(level(), FecLevel::None);
    }

    #[test]
    fn no_more_repair_waits_than_two_blocks_have() {
        let mut repair = Repair::new(FecChoice::AtLeastLight, None);
        for _ in 0..1000 {
            // All at once, and nobody looks at the deadlines.
            repair.push(Time::ZERO, Bytes::from_static(b"a word"));
            assert!(repair.spread.len() <= 8, "{}", repair.spread.len());
        }
    }
}
