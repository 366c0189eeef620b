//! What a node has done since its start, in numbers (requirement NO4): for metrics and health checks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::{Carriers, Inner, Node};
use crate::carrier::gate::Gate;
use crate::carrier::tcp::TcpCarrier;
use crate::carrier::traffic::{ClassTraffic, Repairs, Totals};
use crate::link::LinkStats;

/// Upper edges of the buckets of [`Durations`], milliseconds: two or three for each power of ten, from what a LAN takes
/// to what a person gives up after; then a minute, five, half an hour, two hours and twelve, for messages that others keep.
pub const DURATION_EDGES_MS: [u64; 19] = [
    1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 1_800_000,
    7_200_000, 43_200_000,
];
/// Devices found later than this after the node began to look were switched on or came near meanwhile.
const DISCOVERY_MAX: Duration = Duration::from_secs(60);

/// How long something took, each time: a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many were not longer than the edge with the same place in [`DURATION_EDGES_MS`], and longer than the one
    /// before; the last counts those beyond every edge.
    pub buckets: [u64; DURATION_EDGES_MS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Durations {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        let ms = took.as_micros().div_ceil(1000);
        let place = DURATION_EDGES_MS.iter().position(|edge| ms <= u128::from(*edge));
        if let Some(count) = self.buckets.get_mut(place.unwrap_or(DURATION_EDGES_MS.len())) {
            *count += 1;
        }
        self.sum += took;
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What went over a carrier's connections, closed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent, below encryption: with everything that UDP carries.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// UDP datagrams sent.
    pub sent: u64,
    /// UDP datagrams received.
    pub received: u64,
    /// Packets sent and lost on the way.
    pub lost: u64,
}

impl Traffic {
    /// The sum.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
            sent: self.sent + other.sent,
            received: self.received + other.received,
            lost: self.lost + other.lost,
        }
    }
}

/// What went over TCP connections, closed ones included, in bytes inside TLS: the kernel counts packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpTraffic {
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// What links carried, closed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTotals {
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Bytes of messages sent.
    pub bytes_sent: u64,
    /// Bytes of messages received.
    pub bytes_received: u64,
    /// Messages sent once more after a link was taken up on another connection.
    pub resent: u64,
    /// Times a link was taken up on another connection.
    pub resumes: u64,
    /// Datagrams that came and that the application did not take.
    pub datagrams_dropped: u64,
}

impl LinkTotals {
    const fn add(&mut self, link: &LinkStats) {
        self.messages_sent += link.messages_sent;
        self.messages_received += link.messages_received;
        self.bytes_sent += link.bytes_sent;
        self.bytes_received += link.bytes_received;
        self.resent += link.messages_resent;
        self.resumes += link.resumes;
        self.datagrams_dropped += link.datagrams_dropped;
    }
}

/// What paired devices asked for faster than they may. It waited for its turn, and nothing of it was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// Chat messages.
    pub messages: u64,
    /// Offers of files.
    pub offers: u64,
    /// Links.
    pub links: u64,
}

/// A node since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeStats {
    /// The network; zero in memory.
    pub traffic: Traffic,
    /// Connections that others made to this device, strangers included.
    pub accepted: u64,
    /// Connections that others began and did not bring about.
    pub accepts_failed: u64,
    /// Connections this device made, and how long that took.
    pub dials: Durations,
    /// Connections it could not make.
    pub dials_failed: u64,
    /// Paired devices seen in the first minute of discovery, and how long after its beginning.
    pub discoveries: Durations,
    /// The mesh's TCP connections.
    pub tcp: TcpTraffic,
    /// Links that are open now.
    pub links: usize,
    /// What links carried.
    pub carried: LinkTotals,
    /// What had to wait for its turn.
    pub held_back: HeldBack,
    /// Connections ended because their peers named too many addresses to be tried.
    pub candidates_refused: u64,
}

/// What this device sends on streams and flows of datagrams, to all devices together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamTotals {
    /// By class, those that are over included: realtime, interactive, bulk.
    pub classes: [ClassTraffic; 3],
    /// Datagrams of flows that others send.
    pub received: Repairs,
    /// Bytes a second that are reserved now.
    pub reserved_bytes_per_s: u64,
}

/// Where a node counts.
#[derive(Debug, Default)]
pub(super) struct Meter {
    counted: Mutex<Counted>,
    streams: Mutex<Streams>,
}

/// The streams of connections that are there, and of those that were.
#[derive(Debug, Default)]
struct Streams {
    open: Vec<(Weak<Gate>, Arc<Mutex<Totals>>)>,
    gone: Totals,
}

impl Streams {
    /// Adds up what is over.
    fn look(&mut self) {
        let gone = &mut self.gone;
        self.open.retain(|(gate, ended)| {
            if gate.strong_count() > 0 {
                return true;
            }
            let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
            ended.end();
            gone.merge(&ended);
            false
        });
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    accepted: u64,
    accepts_failed: u64,
    dials: Durations,
    dials_failed: u64,
    discoveries: Durations,
    candidates_refused: u64,
    /// Of links that are closed.
    carried: LinkTotals,
}

impl Meter {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn accepted(&self, done: bool) {
        let mut counted = self.counted();
        if done { counted.accepted += 1 } else { counted.accepts_failed += 1 }
    }

    /// A device was dialled: how long it took, if it worked.
    pub(super) fn dialled(&self, took: Option<Duration>) {
        let mut counted = self.counted();
        match took {
            Some(took) => counted.dials.add(took),
            None => counted.dials_failed += 1,
        }
    }

    /// A paired device was seen for the first time, so long after this node began to look.
    pub(super) fn discovered(&self, took: Duration) {
        if took <= DISCOVERY_MAX {
            self.counted().discoveries.add(took);
        }
    }

    /// A connection was ended because its peer named too many addresses.
    pub(super) fn candidates_refused(&self) {
        self.counted().candidates_refused += 1;
    }

    /// Counts the streams of a connection from now on.
    pub(super) fn follow(&self, gate: &Arc<Gate>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.look();
        streams.open.push((Arc::downgrade(gate), gate.ends()));
    }

    fn streams(&self) -> StreamTotals {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        // Held while they are asked: none of them is over in between.
        let gates: Vec<_> = streams.open.iter().filter_map(|(gate, _)| gate.upgrade()).collect();
        streams.look();
        let mut all = streams.gone.clone();
        let mut reserved_bytes_per_s = 0;
        for gate in gates {
            all.merge(&gate.totals());
            reserved_bytes_per_s += gate.reserved();
        }
        StreamTotals { classes: all.classes(), received: all.received(), reserved_bytes_per_s }
    }

    pub(super) fn link_ended(&self, link: &LinkStats) {
        self.counted().carried.add(link);
    }
}

impl Node {
    /// What this node has done since its start.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        self.inner.stats()
    }

    /// What this node sends on streams and flows since its start, class by class.
    #[must_use]
    pub fn streams(&self) -> StreamTotals {
        self.inner.meter.streams()
    }
}

impl Inner {
    fn stats(&self) -> NodeStats {
        let links = self.pool.links();
        let Counted {
            accepted,
            accepts_failed,
            dials,
            dials_failed,
            discoveries,
            candidates_refused,
            mut carried,
        } = *self.meter.counted();
        for link in &links {
            carried.add(&link.stats());
        }
        let traffic = match &self.carriers {
            Carriers::Quic(quic) => quic.traffic(),
            Carriers::Memory(_) => Traffic::default(),
        };
        let tcp = self.tcp.as_ref().map(TcpCarrier::traffic).unwrap_or_default();
        NodeStats {
            traffic,
            accepted,
            accepts_failed,
            dials,
            dials_failed,
            discoveries,
            tcp,
            links: links.len(),
            carried,
            held_back: self.allowances.held_back(),
            candidates_refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_under_the_first_edge_that_is_not_shorter() {
        let mut durations = Durations::default();
        for us in [0, 1_000, 1_001, 30_000_000, 31_000_000] {
            durations.add(Duration::from_micros(us));
        }
        assert_eq!((durations.buckets[0], durations.buckets[1]), (2, 1));
        assert_eq!(durations.buckets[13..], [1, 1, 0, 0, 0, 0, 0]);
        assert_eq!((durations.count(), durations.sum), (5, Duration::from_micros(61_002_001)));
    }
}
