//! The gate of a connection: what all its streams write passes here, in the order the core's [`Scheduler`] says.
//!
//! A carrier's own buffers are large and keep the order in which they were filled. So the gate lets in only about 2 ms of
//! what the path carries beyond what has left already; the rest waits in its writers' hands, where the order can still
//! change. A writer that is alone passes without waiting.
//!
//! The gate holds no bytes of streams. A writer asks with how much it has ([`Ticket`]), is woken when it is its
//! turn, and then writes. Datagrams wait here ([`super::flow`]). The gate's lock is never held while a carrier is called,
//! because carriers call the gate.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use honeylink_core::limits::QOS_STREAMS_MAX;
use honeylink_core::qos::{
    OptionsError, Reservations, ReserveError, Room, Scheduler, Send, StreamId, StreamOptions, Tally,
};
use honeylink_core::time::Time;
use honeylink_core::wire::link::SessionId;
use tokio::sync::{Notify, broadcast};

use super::Conn;
use super::flow::Flows;
use super::paced::Gauge;
use super::ticket::Ticket;
use super::traffic::{LinkTraffic, QosEvent, RefusedStream, Repairs, StreamReport, Totals};
use crate::clock::Clock;

/// How much of what the path carries may be in the connection and not have left, while streams compete.
pub(super) const UNSENT: Duration = Duration::from_millis(2);
/// The same for a stream that is alone: enough that it never waits, little enough that a newcomer waits for it briefly.
pub(super) const UNSENT_ALONE: Duration = Duration::from_millis(10);
/// The least of both, in bytes.
const UNSENT_BYTES_MIN: u64 = 16 << 10;
/// While the path's rate is not known.
const UNSENT_BYTES_UNKNOWN: u64 = 256 << 10;
/// A stream is alone when no other wrote for this long.
const ALONE_AFTER: Duration = Duration::from_millis(20);
/// A writer that does not come for its turn within this time loses it.
const TURN_MAX: Duration = Duration::from_millis(20);
/// If a connection sends nothing for this long, though nothing is on its way and it should hold something, then it holds nothing:
/// what was counted is not quite what packets carry. Whatever a pacer or a window held back is sent sooner.
const QUIET_MAX: Duration = Duration::from_millis(50);
/// A stream whose queue stays full is reported this often.
const WARN_EVERY: Duration = Duration::from_secs(1);
/// Events kept for somebody who does not take them; the oldest go first.
const EVENTS_MAX: usize = 64;
/// How often what the link carries is compared with what is reserved.
const MEASURE_EVERY: Duration = Duration::from_millis(500);

/// A stream at the gate.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) waker: Option<Waker>,
    /// What it may write now, and since when.
    pub(super) granted: u64,
    granted_at: Time,
    /// When its full queue was last reported.
    warned: Option<Time>,
    /// Whose it is; of no link only what is on its way to one.
    owner: Option<Owner>,
}

/// The link that a stream belongs to, and the policy it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) link: SessionId,
    pub(crate) protocol: String,
    pub(crate) policy: Option<String>,
    /// It carries the messages of the link.
    pub(crate) messages: bool,
}

#[derive(Debug)]
pub(super) struct Inside {
    pub(super) scheduler: Scheduler,
    pub(super) flows: Flows,
    reservations: Reservations,
    measured: Time,
    pub(super) writers: BTreeMap<StreamId, Writer>,
    /// Sum of what writers may write and have not.
    pub(super) granted: u64,
    /// Turns given, oldest first, to find those that nobody came for.
    turns: VecDeque<(Time, StreamId)>,
    /// Since when the connection has been quiet while somebody waits.
    quiet_since: Option<Time>,
    /// Who wrote last, and when somebody else last did.
    pub(super) last: Option<StreamId>,
    pub(super) shared_at: Time,
    /// To be told when the lock is free again.
    events: Vec<QosEvent>,
}

/// See the module's doc.
#[derive(Debug)]
pub(crate) struct Gate {
    inside: Mutex<Inside>,
    pub(super) gauge: Option<Arc<Gauge>>,
    clock: Clock,
    /// Somebody waits: the carrier's news are worth a look.
    waiting: AtomicBool,
    /// A deadline may be earlier than the one the gate's task sleeps for, or datagrams leave.
    rearm: Notify,
    events: broadcast::Sender<QosEvent>,
    /// What streams that are over went through; changed under the lock of `inside`, and complete once the gate is gone.
    ended: Arc<Mutex<Totals>>,
}

impl Gate {
    pub(super) fn new(clock: Clock, gauge: Option<Arc<Gauge>>) -> Arc<Self> {
        let gate = Arc::new(Self {
            inside: Mutex::new(Inside {
                scheduler: Scheduler::default(),
                flows: Flows::default(),
                reservations: Reservations::new(QOS_STREAMS_MAX),
                measured: clock.now(),
                writers: BTreeMap::new(),
                granted: 0,
                turns: VecDeque::new(),
                quiet_since: None,
                last: None,
                shared_at: clock.now(),
                events: Vec::new(),
            }),
            gauge,
            clock,
            waiting: AtomicBool::new(false),
            rearm: Notify::new(),
            events: broadcast::Sender::new(EVENTS_MAX),
            ended: Arc::default(),
        });
        if let Some(gauge) = &gate.gauge {
            gauge.attach(&gate);
        }
        gate
    }

    /// A place for a stream.
    pub(crate) fn open(self: &Arc<Self>, options: StreamOptions) -> Result<Ticket, RefusedStream> {
        let mut inside = self.inside();
        let id = inside.scheduler.open(self.now(), options)?;
        self.admit(&mut inside, id, options)?;
        Ok(Ticket::new(self.clone(), id))
    }

    /// A stream that the scheduler knows gets its place, if what it is to be guaranteed is there.
    pub(super) fn admit(
        &self,
        inside: &mut Inside,
        id: StreamId,
        options: StreamOptions,
    ) -> Result<(), ReserveError> {
        if let Some(gauge) = self.gauge.as_ref().filter(|_| options.rate_min.is_some()) {
            inside.measure(gauge);
        }
        inside.admit(id, options)
    }

    /// Takes a stream's place away.
    pub(super) fn close(&self, id: StreamId) {
        let mut inside = self.inside();
        inside.withdraw(id);
        inside.tell_of(self.now(), id, false, &mut self.ended());
        inside.forget(id);
        self.pump_inside(inside);
    }

    /// Keeps the gate's deadlines and hands datagrams to the connection; ends never.
    pub(crate) async fn run(&self, conn: &Conn) {
        loop {
            self.send_leaving(conn);
            match self.deadline() {
                Some(at) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(self.clock.instant(at)) => self.tick(conn),
                    () = self.rearm.notified() => {}
                },
                None => self.rearm.notified().await,
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        let inside = self.inside();
        let turn = inside.turns.front().map(|(given, _)| *given + TURN_MAX);
        let rate = inside.scheduler.poll_timeout().map(|deadline| deadline.at);
        let quiet = inside.quiet_since.map(|since| since + QUIET_MAX);
        turn.into_iter().chain(rate).chain(inside.flows.deadline()).chain(quiet).min()
    }

    /// A deadline came.
    fn tick(&self, conn: &Conn) {
        let now = self.now();
        let (sent, lost) = conn.packets();
        let mut inside = self.inside();
        if inside.quiet_since.is_some_and(|since| now >= since + QUIET_MAX)
            && let Some(gauge) = self.gauge.as_ref().filter(|gauge| gauge.is_quiet())
        {
            gauge.drained();
        }
        inside.flows.look(now, sent, lost);
        for (id, repair) in inside.flows.due(now) {
            for body in repair {
                inside.enqueue_datagram(now, id, &body);
            }
        }
        self.pump_inside(inside);
    }

    /// Hands over the datagrams whose turn has come.
    fn send_leaving(&self, conn: &Conn) {
        loop {
            let leaving = self.inside().flows.take_leaving();
            if leaving.is_empty() {
                return;
            }
            let bytes: u64 = leaving.iter().map(|datagram| datagram.len() as u64).sum();
            for datagram in leaving {
                // One that the connection does not take is lost, as datagrams may be.
                conn.send_datagram(datagram);
            }
            if let Some(gauge) = &self.gauge {
                gauge.admit(bytes);
            }
            let mut inside = self.inside();
            inside.granted = inside.granted.saturating_sub(bytes);
            self.pump_inside(inside);
        }
    }

    /// What is known about the connection's traffic now.
    pub(crate) fn traffic(&self) -> LinkTraffic {
        let now = self.now();
        let inside = self.inside();
        let report = |(id, writer): (&StreamId, &Writer)| {
            let owner = writer.owner.as_ref();
            Some(StreamReport {
                protocol: owner.map(|owner| owner.protocol.clone()),
                policy: owner.and_then(|owner| owner.policy.clone()),
                messages: owner.is_some_and(|owner| owner.messages),
                options: inside.scheduler.options(*id)?,
                datagrams: inside.flows.holds(*id),
                stats: inside.scheduler.stats(now, *id)?,
            })
        };
        let totals = self.totals_inside(&inside);
        LinkTraffic {
            classes: totals.classes(),
            received: totals.received(),
            carries_bytes_per_s: self.gauge.as_ref().and_then(|gauge| gauge.carries_bytes_per_s()),
            queue_delay: self.gauge.as_ref().map(|gauge| gauge.queue_delay()).unwrap_or_default(),
            reserved_bytes_per_s: inside.reservations.reserved(),
            streams: inside.writers.iter().filter_map(report).collect(),
        }
    }

    /// What all streams went through, those that are over included.
    pub(crate) fn totals(&self) -> Totals {
        self.totals_inside(&self.inside())
    }

    /// Bytes a second that are reserved.
    pub(crate) fn reserved(&self) -> u64 {
        self.inside().reservations.reserved()
    }

    fn totals_inside(&self, inside: &Inside) -> Totals {
        let mut totals = self.ended().clone();
        for id in inside.writers.keys() {
            inside.tell_of(self.now(), *id, true, &mut totals);
        }
        totals
    }

    fn ended(&self) -> MutexGuard<'_, Totals> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What streams went through that are over; all there will be, once the gate is gone.
    pub(crate) fn ends(&self) -> Arc<Mutex<Totals>> {
        self.ended.clone()
    }

    /// Datagrams of the peer's flows were put together again, or stayed lost.
    pub(crate) fn repaired(&self, more: Repairs) {
        let mut ended = self.ended();
        let before = ended.received();
        ended.set_received(Repairs {
            recovered: before.recovered + more.recovered,
            lost: before.lost + more.lost,
        });
    }

    /// What happens from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<QosEvent> {
        self.events.subscribe()
    }

    pub(crate) fn tell(&self, event: QosEvent) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    /// Another set of wishes for every stream of a link that follows the policy of that name.
    pub(crate) fn retune_named(&self, link: SessionId, name: &str, options: StreamOptions) {
        self.retune_where(options, |_, owner| owner.link == link && owner.policy.as_deref() == Some(name));
    }

    /// Lets every stream of a link follow a policy: its messages and its byte streams, but not flows of datagrams, whose
    /// repair was settled when they were opened.
    pub(crate) fn steer(&self, link: SessionId, name: &str, options: StreamOptions) {
        self.retune_where(options, |is_flow, owner| {
            let follows = owner.link == link && !is_flow;
            if follows {
                owner.policy = Some(name.to_owned());
            }
            follows
        });
    }

    fn retune_where(&self, options: StreamOptions, mut wanted: impl FnMut(bool, &mut Owner) -> bool) {
        let mut inside = self.inside();
        let Inside { writers, flows, .. } = &mut *inside;
        let fit = writers.iter_mut().filter_map(|(id, writer)| {
            let fits = writer.owner.as_mut().is_some_and(|owner| wanted(flows.holds(*id), owner));
            fits.then_some(*id)
        });
        for id in fit.collect::<Vec<_>>() {
            // What the link cannot promise is not taken back from a policy: the stream gets what there is.
            let _ = inside.reserve(id, options);
            // Options of a policy were checked with it.
            let _ = inside.scheduler.retune(id, options);
        }
        self.pump_inside(inside);
    }

    pub(super) fn retune(&self, id: StreamId, options: StreamOptions) -> Result<(), OptionsError> {
        let mut inside = self.inside();
        inside.scheduler.retune(id, options)?;
        let _ = inside.reserve(id, options);
        self.pump_inside(inside);
        Ok(())
    }

    /// Remembers whose a stream is.
    pub(super) fn belongs(&self, id: StreamId, owner: Owner) {
        if let Some(writer) = self.inside().writers.get_mut(&id) {
            writer.owner = Some(owner);
        }
    }

    pub(super) fn now(&self) -> Time {
        self.clock.now()
    }

    /// The carrier sent something.
    pub(super) fn has_room(&self) {
        if self.waiting.load(Ordering::Relaxed) {
            self.pump();
        }
    }

    pub(super) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pump(&self) {
        self.pump_inside(self.inside());
    }

    /// Gives turns, frees the lock, and wakes whose turn it is.
    pub(super) fn pump_inside(&self, mut inside: MutexGuard<'_, Inside>) {
        let mut woken = Vec::new();
        self.grant(&mut inside, &mut woken);
        let events = std::mem::take(&mut inside.events);
        drop(inside);
        woken.into_iter().for_each(Waker::wake);
        events.into_iter().for_each(|event| self.tell(event));
    }

    /// Gives turns while there is room.
    fn grant(&self, inside: &mut Inside, woken: &mut Vec<Waker>) {
        let now = self.now();
        inside.withdraw_stale(now, woken);
        if let Some(gauge) = self.gauge.as_ref().filter(|_| now >= inside.measured + MEASURE_EVERY) {
            inside.measured = now;
            inside.measure(gauge);
        }
        loop {
            let unsent = if inside.is_shared(now) { UNSENT } else { UNSENT_ALONE };
            let credit = self.room(unsent, inside.granted);
            let next = inside.scheduler.next(now, credit);
            while let Some(late) = inside.scheduler.poll_late() {
                inside.flows.drop_late(late.stream);
            }
            let Some(Send { stream, bytes_max }) = next else { break };
            if inside.flows.holds(stream) {
                inside.scheduler.sent(now, stream, bytes_max);
                inside.granted += inside.flows.leave(stream);
                continue;
            }
            // Somebody who is alone takes what there is; in chunks it would be woken for each. A cap is kept in chunks.
            let capped = inside.scheduler.options(stream).is_some_and(|options| options.rate_max.is_some());
            let all = inside.scheduler.queued(stream).min(credit);
            let bytes = if capped || inside.is_shared(now) { bytes_max } else { bytes_max.max(all) };
            inside.scheduler.sent(now, stream, bytes);
            let Some(writer) = inside.writers.get_mut(&stream) else { continue };
            if writer.granted == 0 {
                writer.granted_at = now;
                inside.turns.push_back((now, stream));
            }
            writer.granted += bytes;
            inside.granted += bytes;
            woken.extend(writer.waker.take());
        }
        let waiting = inside.scheduler.ready() > 0;
        self.waiting.store(waiting, Ordering::Relaxed);
        let quiet = waiting && self.gauge.as_ref().is_some_and(|gauge| gauge.is_quiet());
        inside.quiet_since = quiet.then(|| inside.quiet_since.unwrap_or(now));
        let flows = inside.flows.is_leaving() || inside.flows.deadline().is_some();
        if flows || quiet || !inside.turns.is_empty() || inside.scheduler.poll_timeout().is_some() {
            self.rearm.notify_one();
        }
    }

    /// Bytes that may go into the connection now.
    pub(super) fn room(&self, unsent: Duration, granted: u64) -> u64 {
        let Some(gauge) = &self.gauge else { return u64::MAX };
        let rate = gauge.bytes_per_s();
        let most = if rate == 0 {
            UNSENT_BYTES_UNKNOWN
        } else {
            let micros = u64::try_from(unsent.as_micros()).unwrap_or(u64::MAX);
            (rate.saturating_mul(micros) / 1_000_000).max(UNSENT_BYTES_MIN)
        };
        most.saturating_sub(gauge.unsent() + granted)
    }
}

impl Inside {
    /// A stream that the scheduler knows gets its place, if what it is to be guaranteed is there.
    fn admit(&mut self, id: StreamId, options: StreamOptions) -> Result<(), ReserveError> {
        let reserved = self.reserve(id, options);
        if reserved.is_err() {
            self.scheduler.close(id);
        } else {
            self.writers.insert(id, Writer::default());
        }
        reserved
    }

    fn reserve(&mut self, id: StreamId, options: StreamOptions) -> Result<(), ReserveError> {
        if let Some(rate) = options.rate_min {
            return self.reservations.reserve(id, rate);
        }
        self.reservations.release(id);
        Ok(())
    }

    /// Adds what a stream went through to its class.
    fn tell_of(&self, now: Time, id: StreamId, open: bool, totals: &mut Totals) {
        let Some(options) = self.scheduler.options(id) else { return };
        let mut tally = Tally::default();
        self.scheduler.add_to(now, id, &mut tally);
        if !open {
            tally.end();
        }
        totals.add(options.priority.class(), open, &tally, self.flows.repair_sent(id));
    }

    fn forget(&mut self, id: StreamId) {
        self.scheduler.close(id);
        self.flows.close(id);
        self.reservations.release(id);
        self.writers.remove(&id);
    }

    /// Compares what the link carries with what is reserved.
    fn measure(&mut self, gauge: &Gauge) {
        let Some(carries) = gauge.carries_bytes_per_s() else { return };
        if let Some(over) = self.reservations.measured(carries) {
            let (reserved, allowed) = (over.reserved, over.allowed);
            self.events.push(QosEvent::Overcommitted { reserved, allowed });
        }
    }

    /// Puts a datagram into its flow's queue.
    pub(super) fn enqueue_datagram(&mut self, now: Time, id: StreamId, body: &[u8]) -> Room {
        let bytes = self.flows.put(id, body);
        let room = self.scheduler.enqueue(now, id, bytes);
        if room == Room::Full {
            self.flows.take_back(id);
        }
        self.warn(now, id, room);
        room
    }

    /// Tells that a queue is nearly full, unless it was told just now.
    pub(super) fn warn(&mut self, now: Time, id: StreamId, room: Room) {
        if room == Room::Free {
            return;
        }
        let Some(writer) = self.writers.get_mut(&id) else { return };
        if writer.warned.is_some_and(|told| now < told + WARN_EVERY) {
            return;
        }
        writer.warned = Some(now);
        let Some(options) = self.scheduler.options(id) else { return };
        self.events.push(QosEvent::QueueNearlyFull { options, queued_bytes: self.scheduler.queued(id) });
    }

    /// Whether more than one stream wrote lately.
    pub(super) fn is_shared(&self, now: Time) -> bool {
        now.saturating_since(self.shared_at) <= ALONE_AFTER
    }

    /// Takes turns back that nobody came for: a writer may be gone or busy elsewhere, and the others wait for it.
    fn withdraw_stale(&mut self, now: Time, woken: &mut Vec<Waker>) {
        while let Some((given, id)) = self.turns.front().copied() {
            let waits = |writer: &Writer| writer.granted > 0 && writer.granted_at == given;
            let taken = !self.writers.get(&id).is_some_and(waits);
            if !taken && now.saturating_since(given) < TURN_MAX {
                break;
            }
            self.turns.pop_front();
            if !taken {
                woken.extend(self.withdraw(id));
            }
        }
    }

    pub(super) fn withdraw(&mut self, id: StreamId) -> Option<Waker> {
        let writer = self.writers.get_mut(&id)?;
        self.granted -= std::mem::take(&mut writer.granted);
        let waker = writer.waker.take();
        self.scheduler.forget(id);
        waker
    }
}
