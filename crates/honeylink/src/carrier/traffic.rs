//! What a connection's gate tells about its streams: reports, events and refusals.

use std::time::Duration;

use honeylink_core::qos::policy::Policy;
use honeylink_core::qos::{Class, OpenError, ReserveError, StreamOptions, StreamStats, Tally};

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
#[derive(Clone, Debug)]
pub struct LinkTraffic {
    /// Bytes a second the path carries, as far as it was ever full; `None` until then, and where nothing limits it.
    pub carries_bytes_per_s: Option<u64>,
    /// How long packets wait at the bottleneck.
    pub queue_delay: Duration,
    /// Bytes a second that are reserved.
    pub reserved_bytes_per_s: u64,
    /// Every stream and flow this side sends on.
    pub streams: Vec<StreamReport>,
    /// The same by class, with those that are over: realtime, interactive, bulk.
    pub classes: [ClassTraffic; 3],
    /// Datagrams of flows from the peer.
    pub received: Repairs,
}

/// What the streams and flows of one class went through, those that are over included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassTraffic {
    /// Which class.
    pub class: Class,
    /// How many are open now.
    pub open: usize,
    /// Sums; the times are those of the latest bytes of all of them.
    pub stats: StreamStats,
    /// Repair datagrams sent.
    pub repair_sent: u64,
}

/// What repair did for the datagrams that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Datagrams that were lost and put together again.
    pub recovered: u64,
    /// Datagrams that stayed lost.
    pub lost: u64,
}

/// The classes in the order in which they are told.
pub(crate) const CLASSES: [Class; 3] = [Class::Realtime, Class::Interactive, Class::Bulk];

/// Counts by class and of what came; of a connection or of many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    tallies: [(usize, Tally, u64); 3],
    received: Repairs,
}

impl Totals {
    const fn place(class: Class) -> usize {
        match class {
            Class::Realtime => 0,
            Class::Interactive => 1,
            Class::Bulk => 2,
        }
    }

    /// A stream of this class: whether it is still open, what it went through, how much repair it sent.
    pub(super) fn add(&mut self, class: Class, open: bool, tally: &Tally, repair: u64) {
        let (streams, all, repairs) = &mut self.tallies[Self::place(class)];
        *streams += usize::from(open);
        all.merge(tally);
        *repairs += repair;
    }

    pub(super) const fn set_received(&mut self, received: Repairs) {
        self.received = received;
    }

    /// Adds what another connection carried.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.tallies.iter_mut().zip(&other.tallies) {
            ours.0 += theirs.0;
            ours.1.merge(&theirs.1);
            ours.2 += theirs.2;
        }
        self.received.recovered += other.received.recovered;
        self.received.lost += other.received.lost;
    }

    /// Whatever was counted is over.
    pub(crate) fn end(&mut self) {
        for (open, tally, _) in &mut self.tallies {
            *open = 0;
            tally.end();
        }
    }

    pub(crate) fn classes(&self) -> [ClassTraffic; 3] {
        CLASSES.map(|class| {
            let (open, tally, repair_sent) = &self.tallies[Self::place(class)];
            ClassTraffic { class, open: *open, stats: tally.report(), repair_sent: *repair_sent }
        })
    }

    pub(crate) const fn received(&self) -> Repairs {
        self.received
    }
}

/// One stream or flow of a connection.
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// The protocol of the link it belongs to; `None` for the few that belong to none.
    pub protocol: Option<String>,
    /// The policy it follows, if it follows one.
    pub policy: Option<String>,
    /// Whether it carries the messages of its link.
    pub messages: bool,
    /// What it asks for.
    pub options: StreamOptions,
    /// Whether it is a flow of datagrams.
    pub datagrams: bool,
    /// What it went through.
    pub stats: StreamStats,
}
