//! [`NetworkBuilder`]: what a simulated network is made with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use honeylink_sim::net::lane::{Jitter, Lane, Loss};

use super::internet::Internet;
use super::settings::{Settings, ppm};
use super::trace::Trace;
use super::{Network, Stack};

/// A test that takes longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(3_600);

type Change = Arc<dyn Fn(&mut Lane) + Send + Sync>;

/// Describes a simulated network. What is not said here comes from the environment or is as documented at
/// [`Network::builder`].
#[derive(Clone)]
pub struct NetworkBuilder {
    pub(super) seed: Option<u64>,
    pub(super) time_limit: Duration,
    stack: Option<Stack>,
    changes: Vec<Change>,
    discovery_delay: Option<Duration>,
    connection_timeout: Option<Duration>,
    message_bytes_max: Option<usize>,
}

impl std::fmt::Debug for NetworkBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkBuilder").field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Default for NetworkBuilder {
    fn default() -> Self {
        Self {
            seed: None,
            time_limit: TIME_LIMIT,
            stack: None,
            changes: Vec::new(),
            discovery_delay: None,
            connection_timeout: None,
            message_bytes_max: None,
        }
    }
}

impl NetworkBuilder {
    /// Everything random of the run springs from this number. [`NetworkBuilder::check`] tries many instead.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How nodes speak. Default: [`Stack::Quic`] where it can be, else [`Stack::Memory`].
    #[must_use]
    pub fn stack(mut self, stack: Stack) -> Self {
        self.stack = Some(stack);
        self
    }

    /// Everything about the links at once; what is said after it comes on top.
    #[must_use]
    pub fn links(self, change: impl Fn(&mut Lane) + Send + Sync + 'static) -> Self {
        let mut builder = self;
        builder.changes.push(Arc::new(change));
        builder
    }

    /// Shortest time a packet takes, one way. Default 50 ms.
    #[must_use]
    pub fn latency(self, latency: Duration) -> Self {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.links(move |lane| lane.latency_us = micros)
    }

    /// What comes on top of the latency, packet by packet. Default: nothing.
    #[must_use]
    pub fn jitter(self, jitter: Jitter) -> Self {
        self.links(move |lane| lane.jitter = jitter)
    }

    /// The share of packets that are lost, 0 to 1, each on its own. Default 0.01.
    #[must_use]
    pub fn loss(self, share: f64) -> Self {
        self.links(move |lane| lane.loss = Loss::Independent(ppm(share)))
    }

    /// The share of packets that arrive twice, 0 to 1. Default 0.
    #[must_use]
    pub fn duplication(self, share: f64) -> Self {
        self.links(move |lane| lane.duplicate_ppm = ppm(share))
    }

    /// The share of packets that may overtake others, 0 to 1; it needs some [`NetworkBuilder::jitter`]. Default 0.
    #[must_use]
    pub fn reordering(self, share: f64) -> Self {
        self.links(move |lane| lane.reorder_ppm = ppm(share))
    }

    /// What each direction of a link carries, in bits per second. Default 20 Mbit/s.
    #[must_use]
    pub fn bandwidth(self, bits_per_s: u64) -> Self {
        self.links(move |lane| lane.bits_per_s = bits_per_s)
    }

    /// How long it takes until devices notice that another is there or gone. Default 100 ms.
    #[must_use]
    pub fn discovery_delay(mut self, delay: Duration) -> Self {
        self.discovery_delay = Some(delay);
        self
    }

    /// How long `connect` tries; see [`NodeBuilder::connect_timeout`](crate::NodeBuilder::connect_timeout). Default 30 s.
    #[must_use]
    pub fn connection_timeout(mut self, timeout: Duration) -> Self {
        self.connection_timeout = Some(timeout);
        self
    }

    /// Largest message that nodes accept, in bytes. Default 1 MiB.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = Some(bytes);
        self
    }

    /// How much virtual time a run may take. Default one hour.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    pub(super) fn make(
        &self,
        settings: &Settings,
        seed: u64,
        clock_follows: bool,
        trace: Arc<Mutex<Trace>>,
    ) -> Network {
        let mut settings = settings.clone();
        self.changes.iter().for_each(|change| change(&mut settings.lane));
        settings.discovery_delay = self.discovery_delay.unwrap_or(settings.discovery_delay);
        settings.connection_timeout = self.connection_timeout.unwrap_or(settings.connection_timeout);
        settings.message_bytes_max = self.message_bytes_max.unwrap_or(settings.message_bytes_max);
        let stack = self.stack.unwrap_or(if clock_follows { Stack::Quic } else { Stack::Memory });
        let internet = Internet::new(seed, settings.lane.clone(), trace);
        Network::new(internet, stack, settings)
    }
}
