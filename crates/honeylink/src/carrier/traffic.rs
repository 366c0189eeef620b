//! What a connection's gate tells about its streams: reports, events and refusals.

use std::time::Duration;

use honeylink_core::qos::policy::Policy;
use honeylink_core::qos::{OpenError, ReserveError, StreamOptions, StreamStats};

/// What is worth knowing about the streams of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QosEvent {
    /// A stream's queue is at least 90 % full: its sender is about to wait, or, for datagrams, to lose some. Told at most
    /// once a second for each stream.
    QueueNearlyFull {
        /// What the stream asks for.
        options: StreamOptions,
        /// Bytes that wait.
        queued_bytes: u64,
    },
    /// The link carries less than is reserved on it; told once until it fits again.
    Overcommitted {
        /// Bytes a second that are reserved.
        reserved: u64,
        /// Bytes a second that could be.
        allowed: u64,
    },
    /// The peer steers by this policy now.
    PeerPolicy {
        /// Its policy.
        policy: Policy,
    },
}

/// Why a stream has no place at the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedStream {
    /// Too many streams, or options that contradict themselves.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What it asks to be guaranteed is not there.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
}

/// The traffic of one connection, which all links to a device share.
#[derive(Clone, Debug, Default)]
pub struct LinkTraffic {
    /// Bytes a second the path carries, as far as it was ever full; `None` until then, and where nothing limits it.
    pub carries_bytes_per_s: Option<u64>,
    /// How long packets wait at the bottleneck.
    pub queue_delay: Duration,
    /// Bytes a second that are reserved.
    pub reserved_bytes_per_s: u64,
    /// Every stream and flow this side sends on.
    pub streams: Vec<StreamReport>,
}

/// One stream or flow of a connection.
#[derive(Clone, Copy, Debug)]
pub struct StreamReport {
    /// What it asks for.
    pub options: StreamOptions,
    /// Whether it is a flow of datagrams.
    pub datagrams: bool,
    /// What it went through.
    pub stats: StreamStats,
}
