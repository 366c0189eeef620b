//! How fast a QUIC connection sends: the core's [`Capacity`] as iroh's congestion controller, and what it learns for the
//! [`Gate`](super::gate::Gate) above it.
//!
//! The default controllers fill the bottleneck's buffer until it drops something. Then every byte waits there, the urgent
//! ones too, and nothing decided above matters any more.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use honeylink_core::qos::{Ack, Capacity, CapacityConfig};
use honeylink_core::time::Time;
use iroh::endpoint::{Controller, ControllerFactory, ControllerMetrics, RttEstimator};

use super::gate::Gate;
use super::soundings::Depths;

/// Bytes of a packet that are not the application's: at least headers, tag and one frame's head, rounded up. What is
/// counted as having left is then never more than what did; what is missing is made up for whenever nothing is unsent.
const PACKET_OVERHEAD_BYTES: u64 = 64;

/// How often it is looked at what goes either way.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The other direction counts when it carries at least one byte for so many of this one.
const BACK_COUNTS_FROM: u64 = 16;
/// Both are busy when each carried so much between two looks: a megabit a second.
const BUSY_FROM_BYTES: u64 = 8 << 10;
/// Another path carries the data once it sent more than this while the one that did sent nothing: more than a packet that looks
/// how large packets may be, and what keeps a path alive.
const ELSEWHERE_MAX: u64 = 2400;
/// The pace before anything is known of the path: none, up to the first window (RFC 9002, section 7.7). Otherwise the second
/// half of a hello would follow the first after a tenth of a round trip that nobody has measured yet, and might take
/// another way.
const UNPACED_BYTES_PER_S: u64 = 1_000_000_000;

/// What the controllers of one connection tell its gate. Bytes are the application's, as well as a packet's size tells.
#[derive(Debug)]
pub(super) struct Gauge {
    /// The first moment a controller saw. The carrier's clock, which need not be the system's.
    start: OnceLock<Instant>,
    /// Bytes given to the connection so far.
    admitted: AtomicU64,
    /// Bytes of those that left.
    left: AtomicU64,
    /// Bytes of streams that the application read.
    received: AtomicU64,
    bytes_per_s: AtomicU64,
    /// What the path carries; 0 while that is not known.
    carries: AtomicU64,
    queue_us: AtomicU64,
    /// The path that carries the data, as its controller is numbered; 0 before there was any. Each path has a controller, and
    /// those of paths that are only kept alive know nothing of what is unsent.
    carrier: AtomicU64,
    /// Bytes that other paths sent since that one last sent something.
    elsewhere: AtomicU64,
    controllers: AtomicU64,
    /// All that was sent is acknowledged, and it is not known whether something is left to send.
    quiet: AtomicBool,
    gate: OnceLock<Weak<Gate>>,
    /// What both ends tell each other about their queues.
    pub(super) depths: Depths,
}

impl Gauge {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: OnceLock::new(),
            admitted: AtomicU64::new(0),
            left: AtomicU64::new(0),
            received: AtomicU64::new(0),
            bytes_per_s: AtomicU64::new(0),
            carries: AtomicU64::new(0),
            queue_us: AtomicU64::new(0),
            carrier: AtomicU64::new(0),
            elsewhere: AtomicU64::new(0),
            controllers: AtomicU64::new(0),
            quiet: AtomicBool::new(false),
            gate: OnceLock::new(),
            depths: Depths::new(),
        })
    }

    /// Whom to tell when there may be room.
    pub(super) fn attach(&self, gate: &Arc<Gate>) {
        // A second gate for the same connection is never made.
        let _ = self.gate.set(Arc::downgrade(gate));
    }

    /// Bytes went into the connection.
    pub(super) fn admit(&self, bytes: u64) {
        self.admitted.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of a stream arrived.
    pub(super) fn receive(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes in the connection that have not left yet.
    pub(super) fn unsent(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed).saturating_sub(self.left.load(Ordering::Relaxed))
    }

    /// Bytes a second that may go to the path in use, used or not; 0 while nothing is known.
    pub(super) fn bytes_per_s(&self) -> u64 {
        self.bytes_per_s.load(Ordering::Relaxed)
    }

    /// Bytes a second the path in use carries, as far as it was ever full.
    pub(super) fn carries_bytes_per_s(&self) -> Option<u64> {
        Some(self.carries.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// How long packets wait at the bottleneck.
    pub(super) fn queue_delay(&self) -> Duration {
        Duration::from_micros(self.queue_us.load(Ordering::Relaxed))
    }

    /// A packet left by the path with this controller.
    fn leave(&self, controller: u64, packet_bytes: u64) {
        self.quiet.store(false, Ordering::Relaxed);
        if self.carrier.load(Ordering::Relaxed) == controller {
            self.elsewhere.store(0, Ordering::Relaxed);
        } else if self.elsewhere.fetch_add(packet_bytes, Ordering::Relaxed) + packet_bytes > ELSEWHERE_MAX {
            self.carrier.store(controller, Ordering::Relaxed);
            self.elsewhere.store(0, Ordering::Relaxed);
        }
        self.left.fetch_add(packet_bytes.saturating_sub(PACKET_OVERHEAD_BYTES), Ordering::Relaxed);
    }

    /// What was lost has to leave again.
    fn come_back(&self, packet_bytes: u64) {
        let bytes = packet_bytes.saturating_sub(PACKET_OVERHEAD_BYTES);
        let _ = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)));
    }

    /// Whether the path with this controller is the one that carries the data, as far as one does.
    fn is_carried_by(&self, controller: u64) -> bool {
        [0, controller].contains(&self.carrier.load(Ordering::Relaxed))
    }

    /// Whether all that was sent is acknowledged, and nobody knows whether something is left to send.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Nothing is unsent, whatever was counted.
    pub(super) fn drained(&self) {
        self.quiet.store(false, Ordering::Relaxed);
        self.left.store(self.admitted.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn tell_gate(&self) {
        if let Some(gate) = self.gate.get().and_then(Weak::upgrade) {
            gate.has_room();
        }
    }

    fn time(&self, at: Instant) -> Time {
        let since = at.saturating_duration_since(*self.start.get_or_init(|| at)).as_micros();
        Time::from_micros(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

/// Makes the controllers of one connection's paths.
#[derive(Debug)]
pub(super) struct Pacing {
    pub(super) gauge: Arc<Gauge>,
}

impl ControllerFactory for Pacing {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let config = CapacityConfig { packet_bytes: current_mtu.into(), ..CapacityConfig::default() };
        let gauge = self.gauge.clone();
        let capacity = Capacity::new(gauge.time(now), config);
        gauge.depths.forget_way();
        let flow = Flow { since: now, sent: 0, received: 0 };
        let number = gauge.controllers.fetch_add(1, Ordering::Relaxed) + 1;
        Box::new(Paced { number, capacity, config, gauge, sent: 0, flow, told: 0 })
    }
}

/// The controller of one path.
#[derive(Clone, Debug)]
struct Paced {
    /// Which controller of its connection it is; the first has 1.
    number: u64,
    capacity: Capacity,
    config: CapacityConfig,
    gauge: Arc<Gauge>,
    /// Bytes sent so far.
    sent: u64,
    flow: Flow,
    /// Words of the far end that were taken.
    told: u64,
}

/// What went either way when it was last looked at.
#[derive(Clone, Copy, Debug)]
struct Flow {
    since: Instant,
    sent: u64,
    received: u64,
}

impl Paced {
    /// A round trip passes the queues of both directions, and only one of them is this side's.
    fn look_both_ways(&mut self, now: Instant) {
        if now.saturating_duration_since(self.flow.since) < LOOK_EVERY {
            return;
        }
        let received = self.gauge.received.load(Ordering::Relaxed);
        let (out, back) = (self.sent - self.flow.sent, received - self.flow.received);
        self.flow = Flow { since: now, sent: self.sent, received };
        self.capacity.set_both_ways(back.saturating_mul(BACK_COUNTS_FROM) >= out);
        if out.min(back) >= BUSY_FROM_BYTES {
            self.gauge.depths.set_busy();
        }
    }
}

impl Controller for Paced {
    fn on_sent(&mut self, _: Instant, _: u64, _: u64) {
        self.gauge.tell_gate();
    }

    fn on_packet_sent(&mut self, _: Instant, bytes: u16, _: u64) {
        self.capacity.sent(bytes.into());
        self.sent += u64::from(bytes);
        self.gauge.leave(self.number, bytes.into());
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _: u64, _: bool, rtt: &RttEstimator) {
        let (now_, sent_) = (self.gauge.time(now), self.gauge.time(sent));
        // Some packets of a handshake count as acknowledged when they are no longer needed, at any time.
        if now.saturating_duration_since(sent) < rtt.min() / 2 {
            self.capacity.left(bytes);
        } else {
            self.capacity.acked(now_, Ack { sent: sent_, bytes });
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _: Option<u64>) {
        self.look_both_ways(now);
        if let Some(told) = self.gauge.depths.told_since(&mut self.told) {
            self.capacity.told(self.gauge.time(now), told);
        }
        if !self.gauge.is_carried_by(self.number) {
            return;
        }
        let could = self.capacity.pacing_bytes_per_s().unwrap_or(0);
        self.gauge.bytes_per_s.store(could, Ordering::Relaxed);
        self.gauge.carries.store(self.capacity.carries_bytes_per_s().unwrap_or(0), Ordering::Relaxed);
        let queue = self.capacity.queue_delay().as_micros();
        self.gauge.queue_us.store(u64::try_from(queue).unwrap_or(u64::MAX), Ordering::Relaxed);
        // That all is acknowledged does not mean that all was sent: on a slow path the window is a few packets, which one
        // acknowledgement covers, and the rest was waiting for it.
        if app_limited {
            self.gauge.drained();
            self.gauge.tell_gate();
        } else if in_flight == 0 {
            self.gauge.quiet.store(true, Ordering::Relaxed);
            self.gauge.tell_gate();
        }
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        _: Instant,
        is_persistent_congestion: bool,
        _: bool,
        _: u64,
        _: u64,
    ) {
        if is_persistent_congestion {
            self.capacity.collapse(self.gauge.time(now));
        }
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, _: u64, _: Instant) {
        self.capacity.lost(lost_bytes.into());
        self.gauge.come_back(lost_bytes.into());
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.config.packet_bytes = new_mtu.into();
        self.capacity.set_packet_bytes(new_mtu.into());
    }

    fn window(&self) -> u64 {
        self.capacity.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.capacity.window();
        metrics.pacing_rate = Some(self.capacity.pacing_bytes_per_s().unwrap_or(UNPACED_BYTES_PER_S));
        metrics.bandwidth_estimate = Some(self.capacity.bytes_per_s().saturating_mul(8));
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.config.window_initial
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gauge, and the controllers of two paths that share it.
    fn two_paths() -> (Arc<Gauge>, [Box<dyn Controller>; 2], Instant) {
        let (gauge, now) = (Gauge::new(), Instant::now());
        let path = || Arc::new(Pacing { gauge: gauge.clone() }).build(now, 1200);
        let paths = [path(), path()];
        (gauge, paths, now)
    }

    #[test]
    fn what_waited_for_the_window_is_unsent_though_all_that_was_sent_is_acknowledged() {
        let (gauge, [mut path, _], now) = two_paths();
        gauge.admit(16_000);
        for number in 0..7 {
            path.on_packet_sent(now, 1200, number);
        }
        let unsent = 16_000 - 7 * (1200 - PACKET_OVERHEAD_BYTES);
        assert_eq!(gauge.unsent(), unsent);
        path.on_end_acks(now, 0, false, Some(6));
        assert_eq!((gauge.unsent(), gauge.is_quiet()), (unsent, true));
        path.on_packet_sent(now, 1200, 7);
        assert!(!gauge.is_quiet(), "there was something left to send");
        path.on_end_acks(now, 0, true, Some(7));
        assert_eq!((gauge.unsent(), gauge.is_quiet()), (0, false));
    }

    #[test]
    fn a_path_that_is_only_kept_alive_says_nothing_of_what_is_unsent_until_it_carries_the_data() {
        let (gauge, [mut busy, mut spare], now) = two_paths();
        gauge.admit(200_000);
        for number in 0..10 {
            busy.on_packet_sent(now, 1200, number);
        }
        let unsent = gauge.unsent();
        for number in 0..100 {
            spare.on_packet_sent(now, 50, number);
            spare.on_end_acks(now, 0, true, Some(number));
            assert!(gauge.unsent() > 0, "it is not the spare path's to say");
            busy.on_packet_sent(now, 1200, number);
        }
        assert!(gauge.unsent() < unsent);
        // The first path is dead, and the data goes by the other.
        gauge.admit(100_000);
        for number in 100..103 {
            spare.on_packet_sent(now, 1200, number);
        }
        spare.on_end_acks(now, 0, true, Some(102));
        assert_eq!(gauge.unsent(), 0);
    }
}
