//! What a stream went through: how long its bytes waited, how fast they left, what was dropped. Fixed size, whatever
//! happens: a node may hold thousands of these.

use core::time::Duration;

use crate::time::Time;

/// Buckets per power of two. A value is told to within 1/16 of itself.
const PER_OCTAVE: u64 = 8;
/// Powers of two covered one by one below `PER_OCTAVE` microseconds and with buckets above, up to 2^32 us (71 minutes).
const BUCKETS: usize = (PER_OCTAVE as usize) * 30;
/// Beyond this many samples all counts are halved, so that the quantiles follow the present.
const SAMPLES_MAX: u32 = 8192;

/// A histogram of durations with logarithmic buckets, in 480 bytes.
#[derive(Clone, Debug)]
pub struct Sketch {
    counts: Box<[u16; BUCKETS]>,
    total: u32,
}

impl Default for Sketch {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0 }
    }
}

/// The bucket of a value: the position of its highest bit, and the three bits after it.
fn bucket(micros: u64) -> usize {
    if micros < PER_OCTAVE {
        return usize::try_from(micros).unwrap_or(0);
    }
    let octave = u64::from(micros.ilog2()) - 3;
    let within = (micros >> octave) - PER_OCTAVE;
    usize::try_from((octave + 1) * PER_OCTAVE + within).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PER_OCTAVE {
        return bucket;
    }
    let octave = bucket / PER_OCTAVE - 1;
    let low = (PER_OCTAVE + bucket % PER_OCTAVE) << octave;
    low + ((1 << octave) >> 1)
}

impl Sketch {
    /// Counts one duration.
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
        self.fade();
    }

    /// Counts what another one counted.
    pub fn merge(&mut self, other: &Self) {
        self.total = 0;
        for (count, others) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count = count.saturating_add(*others);
            self.total += u32::from(*count);
        }
        self.fade();
    }

    fn fade(&mut self) {
        while self.total >= SAMPLES_MAX {
            self.total = 0;
            for count in self.counts.iter_mut() {
                *count /= 2;
                self.total += u32::from(*count);
            }
        }
    }

    /// The duration below which the share `per_mille` of the recent samples lies, to within a sixteenth; `None` without
    /// samples.
    #[must_use]
    pub fn quantile(&self, per_mille: u32) -> Option<Duration> {
        let rank = (self.total * per_mille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u32::from(*count);
            if seen >= rank {
                return Some(Duration::from_micros(middle(bucket)));
            }
        }
        None
    }
}

/// Bytes a second, over the last whole second and the running one.
#[derive(Clone, Copy, Debug, Default)]
struct RateMeter {
    window_start: Time,
    before: u64,
    running: u64,
}

impl RateMeter {
    const WINDOW_US: u64 = 1_000_000;

    fn roll(&mut self, now: Time) {
        let passed = now.as_micros().saturating_sub(self.window_start.as_micros()) / Self::WINDOW_US;
        if passed > 0 {
            self.before = if passed == 1 { self.running } else { 0 };
            self.running = 0;
            self.window_start += Duration::from_micros(passed * Self::WINDOW_US);
        }
    }

    fn add(&mut self, now: Time, bytes: u64) {
        self.roll(now);
        self.running += bytes;
    }

    fn bytes_per_s(mut self, now: Time) -> u64 {
        self.roll(now);
        let into = now.saturating_since(self.window_start).as_micros();
        let into = u64::try_from(into).unwrap_or(0).min(Self::WINDOW_US);
        // The last window counts for the part of a second that the running one does not cover.
        self.running
            + self.before / Self::WINDOW_US * (Self::WINDOW_US - into)
            + self.before % Self::WINDOW_US * (Self::WINDOW_US - into) / Self::WINDOW_US
    }
}

/// What is counted for each stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    waits: Sketch,
    rate: RateMeter,
    bytes_sent: u64,
    datagrams_late: u64,
    bytes_late: u64,
}

impl Counters {
    pub(super) fn sent(&mut self, now: Time, bytes: u64) {
        self.rate.add(now, bytes);
        self.bytes_sent += bytes;
    }

    pub(super) fn waited(&mut self, took: Duration) {
        self.waits.record(took);
    }

    pub(super) fn late(&mut self, bytes: u64) {
        self.datagrams_late += 1;
        self.bytes_late += bytes;
    }

    pub(super) fn report(&self, now: Time, queued_bytes: u64) -> StreamStats {
        StreamStats {
            bytes_sent: self.bytes_sent,
            bytes_per_s: self.rate.bytes_per_s(now),
            queued_bytes,
            wait_p50: self.waits.quantile(500),
            wait_p90: self.waits.quantile(900),
            wait_p99: self.waits.quantile(990),
            datagrams_late: self.datagrams_late,
            bytes_late: self.bytes_late,
        }
    }
}

/// What several streams went through together, also such as are over.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    waits: Sketch,
    now: StreamStats,
}

impl Tally {
    pub(super) fn add(&mut self, counters: &Counters, now: Time, queued_bytes: u64) {
        self.add_stats(&counters.report(now, queued_bytes));
        self.waits.merge(&counters.waits);
    }

    /// Adds what others went through.
    pub fn merge(&mut self, other: &Self) {
        self.add_stats(&other.now);
        self.waits.merge(&other.waits);
    }

    fn add_stats(&mut self, stats: &StreamStats) {
        self.now.bytes_sent += stats.bytes_sent;
        self.now.bytes_per_s += stats.bytes_per_s;
        self.now.queued_bytes += stats.queued_bytes;
        self.now.datagrams_late += stats.datagrams_late;
        self.now.bytes_late += stats.bytes_late;
    }

    /// These streams are over: nothing of them moves or waits any more.
    pub fn end(&mut self) {
        (self.now.bytes_per_s, self.now.queued_bytes) = (0, 0);
    }

    /// The sums, and the times that the latest bytes of all of them waited.
    #[must_use]
    pub fn report(&self) -> StreamStats {
        StreamStats {
            wait_p50: self.waits.quantile(500),
            wait_p90: self.waits.quantile(900),
            wait_p99: self.waits.quantile(990),
            ..self.now
        }
    }
}

/// What a stream went through so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Bytes handed to the carrier.
    pub bytes_sent: u64,
    /// Bytes a second, over about the last second.
    pub bytes_per_s: u64,
    /// Bytes that wait now.
    pub queued_bytes: u64,
    /// Median time in the queue of what was sent lately; `None` before the first.
    pub wait_p50: Option<Duration>,
    /// 90 % waited no longer.
    pub wait_p90: Option<Duration>,
    /// 99 % waited no longer.
    pub wait_p99: Option<Duration>,
    /// Datagrams dropped because they had waited past their deadline.
    pub datagrams_late: u64,
    /// Bytes of those.
    pub bytes_late: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_a_known_set_are_right_to_a_sixteenth() {
        let mut sketch = Sketch::default();
        for ms in 1..=1000_u64 {
            sketch.record(Duration::from_millis(ms));
        }
        for (per_mille, ms) in [(500, 500.0), (900, 900.0), (990, 990.0)] {
            let told = sketch.quantile(per_mille).unwrap().as_secs_f64() * 1e3;
            assert!((told / ms - 1.0).abs() < 1.0 / 16.0, "{per_mille}: {told} for {ms}");
        }
        assert_eq!(Sketch::default().quantile(500), None);
    }

    #[test]
    fn old_samples_fade() {
        let mut sketch = Sketch::default();
        (0..8000).for_each(|_| sketch.record(Duration::from_secs(1)));
        (0..30_000).for_each(|_| sketch.record(Duration::from_millis(1)));
        assert!(sketch.quantile(900).unwrap() < Duration::from_millis(2));
    }

    #[test]
    fn streams_together_have_the_sums_and_the_times_of_all() {
        let mut counters = [Counters::default(), Counters::default()];
        for (at, ms) in [(0, 1), (1, 100)] {
            counters[at].waited(Duration::from_millis(ms));
            counters[at].sent(Time::from_millis(0), 500);
        }
        let mut ended = Tally::default();
        ended.add(&counters[0], Time::from_millis(0), 7);
        ended.end();
        let mut all = Tally::default();
        all.merge(&ended);
        all.add(&counters[1], Time::from_millis(0), 9);
        let told = all.report();
        assert_eq!((told.bytes_sent, told.bytes_per_s, told.queued_bytes), (1000, 500, 9));
        assert!(told.wait_p50 < Some(Duration::from_millis(2)), "{told:?}");
        assert!(told.wait_p99 > Some(Duration::from_millis(90)), "{told:?}");
    }

    #[test]
    fn a_steady_rate_is_told_as_it_is_and_a_silent_stream_comes_to_nothing() {
        let mut meter = RateMeter::default();
        for ms in 0..3500 {
            meter.add(Time::from_millis(ms), 1000);
        }
        let told = meter.bytes_per_s(Time::from_millis(3500));
        assert!((990_000..=1_010_000).contains(&told), "{told}");
        assert_eq!(meter.bytes_per_s(Time::from_millis(9000)), 0);
    }

    proptest! {
        #[test]
        fn every_duration_has_a_bucket_near_it(micros in 0_u64..1 << 32) {
            let told = middle(bucket(micros));
            prop_assert!(told.abs_diff(micros) <= micros / 16 + 1, "{micros} told as {told}");
        }
    }
}
