//! Speed: how much a path carries, and what that costs whoever waits for an answer meanwhile.
//!
//! The measuring side pings the link while nothing else happens, then fills it with bulk streams and pings on, then has the
//! other side fill it and pings on. Whoever is filled reads and throws away. What grows between the phases is the queue at
//! the bottleneck ("bufferbloat"), which each direction has its own of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use honeylink_core::wire::link::Class;
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::carrier::PathReport;
use crate::link::{Link, StreamError};
use crate::node::{ConnectError, ListenError, Node, Target};

/// The protocol of speed links.
pub const PROTOCOL: &str = "honeylink/speed/1";
/// Streams that fill the path: enough that none of them is the limit.
const STREAMS: usize = 4;
/// What each side may hold open for a measurement: longest that one may take, and its margin.
pub const DURATION_MAX: Duration = Duration::from_secs(60);
const SERVE_MAX: Duration = Duration::from_secs(75);
/// Measurements this node serves at a time.
const SERVED_MAX: usize = 2;
/// Bytes written and read at a time.
const BLOCK_BYTES: usize = 64 << 10;
/// Between two pings.
const PING_EVERY: Duration = Duration::from_millis(20);
/// A ping without an answer after this counts with it.
const PING_MAX: Duration = Duration::from_secs(5);
/// Asks the other side to fill the way back: this byte, then milliseconds as `u32`, big-endian.
const FILL: u8 = 1;
/// The path fills before anything counts.
const WARM_UP: Duration = Duration::from_millis(500);

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum SpeedError {
    /// No link.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No stream, or not for long enough.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// No ping was answered.
    #[error("the other device answered no ping")]
    NoAnswer,
}

/// Round trips of one phase.
#[derive(Clone, Debug, Default)]
pub struct RoundTrips(Vec<Duration>);

impl RoundTrips {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The one below which the share `per_mille` of them lies, by the nearest rank; zero of none.
    #[must_use]
    pub fn quantile(&self, per_mille: usize) -> Duration {
        let rank = (self.0.len() * per_mille.min(1000)).div_ceil(1000).saturating_sub(1);
        self.0.get(rank).copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for RoundTrips {
    fn from_iter<T: IntoIterator<Item = Duration>>(round_trips: T) -> Self {
        let mut sorted: Vec<_> = round_trips.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }
}

/// How much a full path delays others, after the 95th percentile of what it adds. The bounds are those of the
/// public bufferbloat tests: 5, 30, 60, 200 and 400 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Under 5 ms: nobody notices.
    APlus,
    /// Under 30 ms.
    A,
    /// Under 60 ms.
    B,
    /// Under 200 ms: calls suffer.
    C,
    /// Under 400 ms.
    D,
    /// More.
    F,
}

impl Grade {
    /// The grade for what a full path adds.
    #[must_use]
    pub fn of(added: Duration) -> Self {
        match added.as_millis() {
            0..5 => Self::APlus,
            5..30 => Self::A,
            30..60 => Self::B,
            60..200 => Self::C,
            200..400 => Self::D,
            _ => Self::F,
        }
    }

    /// As people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::APlus => "A+",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::F => "F",
        }
    }
}

/// What one direction came to while it was full.
#[derive(Clone, Debug, Default)]
pub struct Direction {
    /// Round trips while it was full.
    pub loaded: RoundTrips,
    /// Bytes a second.
    pub bytes_per_s: u64,
    /// What its being full adds: the 95th percentile less the idle median.
    pub added: Duration,
}

impl Direction {
    fn new(idle: &RoundTrips, loaded: RoundTrips, bytes: u64, took: Duration) -> Self {
        let micros = took.as_micros().max(1);
        let bytes_per_s = u64::try_from(u128::from(bytes) * 1_000_000 / micros).unwrap_or(u64::MAX);
        let added = loaded.quantile(950).saturating_sub(idle.quantile(500));
        Self { loaded, bytes_per_s, added }
    }

    /// The grade for what is added.
    #[must_use]
    pub fn grade(&self) -> Grade {
        Grade::of(self.added)
    }
}

/// What a measurement came to.
#[derive(Clone, Debug)]
pub struct SpeedReport {
    /// Round trips while nothing else happened.
    pub idle: RoundTrips,
    /// Towards the other device.
    pub there: Direction,
    /// From the other device.
    pub back: Direction,
    /// The path.
    pub path: Option<PathReport>,
}

/// The speed service of a node: lets paired devices measure their way here.
#[derive(Clone, Debug)]
pub struct Speed {
    node: Node,
}

impl Speed {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`ListenError`] if the node has a speed service already.
    pub fn start(node: &Node) -> Result<Self, ListenError> {
        let mut listener = node.listen(PROTOCOL)?;
        let served = Arc::new(tokio::sync::Semaphore::new(SERVED_MAX));
        let serving = node.clone();
        node.spawn(async move {
            while let Some(link) = listener.accept().await {
                let served = served.clone();
                serving.spawn(async move {
                    let Ok(_permit) = served.try_acquire() else {
                        // The reason reaches the peer with the close, or nobody.
                        let _ = link.close("others are measuring their way to that device; try again").await;
                        return;
                    };
                    let _ = tokio::time::timeout(SERVE_MAX, serve(&link)).await;
                });
            }
        });
        Ok(Self { node: node.clone() })
    }

    /// Measures the way to a peer: for a third of `time` nothing but pings, for a third with the way there full, for a third
    /// with the way back full. `time` is at most [`DURATION_MAX`].
    ///
    /// # Errors
    /// [`SpeedError`].
    pub async fn measure(
        &self,
        target: impl Into<Target>,
        time: Duration,
    ) -> Result<SpeedReport, SpeedError> {
        let third = time.min(DURATION_MAX) / 3;
        let link = self.node.connect(target, PROTOCOL).await?;
        let idle = pings(&link, third).await?;
        let moved = Arc::new(AtomicU64::new(0));
        let filling = fill(&link, &moved).await?;
        let there = loaded(&link, &idle, third, &moved).await;
        drop(filling);
        moved.store(0, Ordering::Relaxed);
        let wanted = u32::try_from((WARM_UP + third).as_millis()).unwrap_or(u32::MAX);
        let mut request = vec![FILL];
        request.extend_from_slice(&wanted.to_be_bytes());
        link.send(request).await.map_err(|_| StreamError::Closed(link.why_closed()))?;
        // In a set, so that it ends with the measurement also where nobody waits for that any more.
        let mut reading = JoinSet::new();
        reading.spawn({
            let (link, moved) = (link.clone(), moved.clone());
            async move { discard(&link, &moved).await }
        });
        let back = loaded(&link, &idle, third, &moved).await;
        let path = link.path();
        drop(reading);
        // What is still on its way is of no use to anybody.
        let _ = tokio::time::timeout(PING_MAX, link.close("measured")).await;
        Ok(SpeedReport { idle, there: there?, back: back?, path })
    }
}

/// Pings on while something fills the link and counts in `moved`.
async fn loaded(
    link: &Link,
    idle: &RoundTrips,
    time: Duration,
    moved: &AtomicU64,
) -> Result<Direction, SpeedError> {
    tokio::time::sleep(WARM_UP).await;
    let (before, started) = (moved.load(Ordering::Relaxed), Instant::now());
    let loaded = pings(link, time).await?;
    let bytes = moved.load(Ordering::Relaxed) - before;
    Ok(Direction::new(idle, loaded, bytes, started.elapsed()))
}

/// Opens streams and writes to them until they are dropped with the set.
async fn fill(link: &Link, moved: &Arc<AtomicU64>) -> Result<JoinSet<()>, StreamError> {
    let mut filling = JoinSet::new();
    for _ in 0..STREAMS {
        let mut stream = link.open_stream(Class::Bulk).await?;
        let moved = moved.clone();
        filling.spawn(async move {
            let block = bytes::Bytes::from(vec![0x5a; BLOCK_BYTES]);
            while stream.send.write_chunk(block.clone()).await.is_ok() {
                moved.fetch_add(block.len() as u64, Ordering::Relaxed);
            }
        });
    }
    Ok(filling)
}

/// Round trips for a while, one after the other.
async fn pings(link: &Link, time: Duration) -> Result<RoundTrips, SpeedError> {
    let mut round_trips = Vec::new();
    let mut pace = tokio::time::interval(PING_EVERY);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let until = Instant::now() + time;
    while Instant::now() < until {
        pace.tick().await;
        round_trips.push(link.ping(PING_MAX).await.unwrap_or(PING_MAX));
    }
    if round_trips.iter().all(|took| *took >= PING_MAX) {
        return Err(SpeedError::NoAnswer);
    }
    Ok(round_trips.into_iter().collect())
}

/// Reads whatever comes on streams and throws it away, until the link ends.
async fn discard(link: &Link, moved: &Arc<AtomicU64>) {
    let mut reading = JoinSet::new();
    while let Ok(mut stream) = link.accept_stream().await {
        // Those whose stream is over.
        while reading.try_join_next().is_some() {}
        if reading.len() >= STREAMS {
            continue;
        }
        let moved = moved.clone();
        reading.spawn(async move {
            let mut block = vec![0; BLOCK_BYTES];
            while let Ok(read @ 1..) = stream.recv.read(&mut block).await {
                moved.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
    }
}

/// Lets the other side measure: reads what it fills the link with, and fills it when asked.
async fn serve(link: &Link) {
    let read = Arc::new(AtomicU64::new(0));
    let filling = async {
        while let Ok(message) = link.recv().await {
            let Some(time) = asked_to_fill(&message) else { continue };
            // One after the other: more requests wait in the link's own bounded inbox.
            if let Ok(filling) = fill(link, &Arc::default()).await {
                tokio::time::sleep(time).await;
                drop(filling);
            }
        }
    };
    tokio::select! {
        biased;
        () = discard(link, &read) => {}
        () = filling => {}
    }
}

/// For how long a message asks to fill the way; `None` if it is none of ours.
fn asked_to_fill(message: &[u8]) -> Option<Duration> {
    let (&FILL, ms) = message.split_first()? else { return None };
    let ms = u32::from_be_bytes(ms.try_into().ok()?);
    Some(Duration::from_millis(ms.into()).min(DURATION_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_follow_what_a_full_path_adds() {
        for (added_ms, grade) in
            [(0, "A+"), (4, "A+"), (5, "A"), (59, "B"), (60, "C"), (399, "D"), (400, "F")]
        {
            assert_eq!(Grade::of(Duration::from_millis(added_ms)).as_str(), grade, "{added_ms} ms");
        }
        let trips = |ms: &[u64]| ms.iter().map(|ms| Duration::from_millis(*ms)).collect::<RoundTrips>();
        let added =
            Direction::new(&trips(&[3, 1, 2]), trips(&[40, 42, 41, 12]), 500, Duration::from_millis(250));
        assert_eq!((added.added, added.grade()), (Duration::from_millis(40), Grade::B));
        assert_eq!(added.bytes_per_s, 2000);
        assert_eq!(RoundTrips::default().quantile(950), Duration::ZERO);
    }

    #[test]
    fn only_a_whole_request_makes_this_side_fill_the_way_and_never_for_long() {
        assert_eq!(asked_to_fill(&[1, 0, 0, 3, 232]), Some(Duration::from_secs(1)));
        assert_eq!(asked_to_fill(&[1, 255, 255, 255, 255]), Some(DURATION_MAX));
        for other in [&[][..], &[1], &[1, 0, 0, 0], &[1, 0, 0, 0, 1, 0], &[2, 0, 0, 3, 232]] {
            assert_eq!(asked_to_fill(other), None, "{other:?}");
        }
    }

    async fn pair() -> (Node, Node) {
        let network = crate::MemoryNetwork::new();
        let node = async |name: &str| Node::builder().name(name).memory(&network).build().await.unwrap();
        let (a, b) = (node("a").await, node("b").await);
        crate::testing::introduce(&a, &b).unwrap();
        (a, b)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_measurement_that_nobody_waits_for_any_more_leaves_nothing_behind() {
        let (a, b) = pair().await;
        let (speed, _served) = (Speed::start(&a).unwrap(), Speed::start(&b).unwrap());
        let there = b.id();
        let measuring = tokio::spawn(async move { speed.measure(there, Duration::from_secs(6)).await });
        let fills = || {
            let streams = b.traffic().into_iter().flat_map(|(_, traffic)| traffic.streams);
            streams.into_iter().any(|s| s.options.priority.class() == Class::Bulk && s.stats.bytes_sent > 0)
        };
        // The way back is the last of the three parts.
        while !fills() && !measuring.is_finished() {
            tokio::task::yield_now().await;
        }
        measuring.abort();
        let gone = async {
            while !a.link_policies(&there).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        // The other side would hold it for longer.
        tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_measurement_fills_both_directions_and_ends() {
        let (a, b) = pair().await;
        let (speed, _served) = (Speed::start(&a).unwrap(), Speed::start(&b).unwrap());
        // A second for each phase: a busy machine may take a while to begin.
        let report = speed.measure(b.id(), Duration::from_secs(3)).await.unwrap();
        assert!(report.idle.count() > 0, "{report:?}");
        for direction in [&report.there, &report.back] {
            assert!(direction.bytes_per_s > 0 && direction.loaded.count() > 0, "{report:?}");
        }
    }
}
