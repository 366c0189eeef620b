//! A congestion controller that stops sending to a path from which nothing comes back: the core's [`Restraint`] around
//! another controller.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use honeylink_core::paths::Restraint;
use honeylink_core::time::Time;
use iroh::endpoint::{Controller, ControllerFactory, ControllerMetrics, RttEstimator};

/// The round trip before any was measured (RFC 9002, section 6.2.2).
const ROUND_TRIP_INITIAL: Duration = Duration::from_millis(333);
/// A window in which nothing has room. QUIC wants one that is not zero.
const NO_ROOM: u64 = 1;

/// Makes controllers that know restraint out of those of another factory.
#[derive(Debug)]
pub(super) struct WithRestraint<F>(pub(super) Arc<F>);

impl<F: ControllerFactory + Send + Sync + std::fmt::Debug + 'static> ControllerFactory for WithRestraint<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Restrained {
            inner: self.0.clone().build(now, current_mtu),
            restraint: Restraint::default(),
            began: now,
            round_trip: ROUND_TRIP_INITIAL,
            held: false,
        })
    }
}

/// The controller of one path.
#[derive(Debug)]
struct Restrained {
    inner: Box<dyn Controller>,
    restraint: Restraint,
    began: Instant,
    /// The smoothed one or the latest, whichever is longer.
    round_trip: Duration,
    held: bool,
}

impl Restrained {
    fn answered(&mut self) {
        self.restraint.answered();
        self.held = false;
    }
}

impl Controller for Restrained {
    fn on_sent(&mut self, now: Instant, bytes: u64, largest_pn: u64) {
        self.inner.on_sent(now, bytes, largest_pn);
    }

    fn on_packet_sent(&mut self, now: Instant, bytes: u16, pn: u64) {
        let at = now.saturating_duration_since(self.began);
        let at = Time::from_micros(u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
        self.restraint.sent(at);
        self.held = self.restraint.holds(at, self.round_trip);
        self.inner.on_packet_sent(now, bytes, pn);
    }

    fn on_cwnd_limited(&mut self) {
        // Held back is not what a full window means: it would be taken for a path that carries no more.
        if !self.held {
            self.inner.on_cwnd_limited();
        }
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        pn: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.round_trip = rtt.conservative();
        self.answered();
        self.inner.on_ack(now, sent, bytes, pn, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        is_ecn: bool,
        lost_bytes: u64,
        largest_lost_pn: u64,
    ) {
        self.answered();
        self.inner.on_congestion_event(
            now,
            sent,
            is_persistent_congestion,
            is_ecn,
            lost_bytes,
            largest_lost_pn,
        );
    }

    fn on_packet_lost(&mut self, lost_bytes: u16, pn: u64, now: Instant) {
        self.answered();
        self.inner.on_packet_lost(lost_bytes, pn, now);
    }

    fn on_spurious_congestion_event(&mut self) {
        self.inner.on_spurious_congestion_event();
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn on_ack_frequency_update(&mut self, ack_eliciting_threshold: u64, requested_max_ack_delay: Duration) {
        self.inner.on_ack_frequency_update(ack_eliciting_threshold, requested_max_ack_delay);
    }

    fn window(&self) -> u64 {
        if self.held { NO_ROOM } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.inner.metrics();
        if self.held {
            metrics.congestion_window = NO_ROOM;
        }
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let Self { inner, restraint, began, round_trip, held } = self;
        Box::new(Self {
            inner: inner.clone_box(),
            restraint: *restraint,
            began: *began,
            round_trip: *round_trip,
            held: *held,
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.inner.into_any()
    }
}
