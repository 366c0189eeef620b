//! The scheduler's promises, over random mixes of streams.

use core::time::Duration;

use proptest::prelude::*;

use super::super::{Class, Priority, StreamOptions, Weight};
use super::*;
use crate::limits::QOS_CHUNK_BYTES_MAX;

/// A link of fixed rate: sends what the scheduler says, each byte takes its time.
struct Bench {
    scheduler: Scheduler,
    now: Time,
    bytes_per_s: u64,
}

impl Bench {
    fn new(bytes_per_s: u64) -> Self {
        Self { scheduler: Scheduler::default(), now: Time::ZERO, bytes_per_s }
    }

    fn open(&mut self, options: impl Into<StreamOptions>) -> StreamId {
        self.scheduler.open(self.now, options.into()).unwrap()
    }

    /// A stream that always has something to send.
    fn saturate(&mut self, options: impl Into<StreamOptions>) -> StreamId {
        let id = self.open(options);
        self.refill(id);
        id
    }

    fn refill(&mut self, id: StreamId) {
        while self.scheduler.enqueue(self.now, id, 64 << 10) != Room::Full {}
    }

    /// One send, or a jump to the next deadline. `None` if there is neither.
    fn step(&mut self) -> Option<Send> {
        let send = self.scheduler.next(self.now, 1);
        assert_eq!(send, self.scheduler.next(self.now, 1), "asking again changes nothing");
        match send {
            Some(Send { stream, bytes_max }) => {
                self.scheduler.sent(self.now, stream, bytes_max);
                self.now += Duration::from_nanos(bytes_max * 1_000_000_000 / self.bytes_per_s + 999);
                send
            }
            None => {
                self.now = self.now.max(self.scheduler.poll_timeout()?.at);
                None
            }
        }
    }

    /// Runs for a while with every stream of `full` saturated; bytes sent of each.
    fn run(&mut self, full: &[StreamId], time: Duration) -> Vec<u64> {
        let end = self.now + time;
        let before: Vec<_> = full.iter().map(|id| self.sent_of(*id)).collect();
        while self.now < end {
            if let Some(send) = self.step()
                && full.contains(&send.stream)
            {
                self.scheduler.enqueue(self.now, send.stream, send.bytes_max);
            }
        }
        full.iter().zip(before).map(|(id, before)| self.sent_of(*id) - before).collect()
    }

    fn sent_of(&self, id: StreamId) -> u64 {
        self.scheduler.stats(self.now, id).unwrap().bytes_sent
    }
}

const MBIT: u64 = 125_000;

fn weighted(priority: Class, weight: u8) -> StreamOptions {
    StreamOptions { weight: Weight::new(weight).unwrap(), ..priority.into() }
}

fn priority(value: u8) -> StreamOptions {
    Priority::new(value).unwrap().into()
}

/// Jain's fairness index: 1 when all are equal, 1/n when one has everything.
fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|s| *s as f64).sum();
    let squares: f64 = shares.iter().map(|s| (*s as f64).powi(2)).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[test]
fn a_hundred_equals_get_the_same() {
    let mut bench = Bench::new(100 * MBIT);
    let all: Vec<_> = (0..100).map(|_| bench.saturate(Class::Bulk)).collect();
    let got = bench.run(&all, Duration::from_secs(2));
    assert!(jain(&got) >= 0.999, "{}", jain(&got));
}

#[test]
fn weights_four_two_one_are_kept_within_five_percent() {
    let mut bench = Bench::new(100 * MBIT);
    let all: Vec<_> =
        (0..33).flat_map(|_| [4, 2, 1]).map(|w| bench.saturate(weighted(Class::Bulk, w))).collect();
    let got = bench.run(&all, Duration::from_secs(5));
    let of =
        |nth: usize| got.iter().skip(nth).step_by(3).sum::<u64>() as f64 / got.iter().sum::<u64>() as f64;
    for (nth, weight) in [(0, 4.0), (1, 2.0), (2, 1.0)] {
        let share = of(nth) / (weight / 7.0);
        assert!((0.95..=1.05).contains(&share), "weight {weight}: {share} of its share");
    }
}

/// Writers hand over a piece, and the next when it is gone and they were woken: for a moment they look as if they had
/// nothing to send.
#[test]
fn writers_that_come_back_a_moment_late_keep_their_weights() {
    let mut bench = Bench::new(100 * MBIT);
    let all: Vec<_> =
        (0..33).flat_map(|_| [16, 8, 4]).map(|w| bench.open(weighted(Class::Bulk, w))).collect();
    let mut rng = crate::rng::Rng::from_u64(3);
    let mut late: VecDeque<(Time, StreamId)> = all.iter().map(|id| (Time::ZERO, *id)).collect();
    let end = Time::from_millis(20_000);
    while bench.now < end {
        while let Some((_, id)) = late.pop_front_if_due(bench.now) {
            bench.scheduler.enqueue(bench.now, id, 64 << 10);
        }
        match bench.step() {
            Some(send) if bench.scheduler.queued(send.stream) == 0 => {
                late.push_back((bench.now + Duration::from_micros(rng.below(400)), send.stream));
            }
            Some(_) => {}
            None => bench.now += Duration::from_micros(50),
        }
    }
    for (nth, weight) in [(0, 4.0), (1, 2.0), (2, 1.0)] {
        let got: Vec<u64> = all.iter().skip(nth).step_by(3).map(|id| bench.sent_of(*id)).collect();
        let total: u64 = all.iter().map(|id| bench.sent_of(*id)).sum();
        let share = got.iter().sum::<u64>() as f64 / total as f64 / (weight / 7.0);
        assert!((0.95..=1.05).contains(&share), "weight {weight}: {share} of its share");
        assert!(jain(&got) >= 0.999, "weight {weight}: {}", jain(&got));
    }
}

/// The first entry whose time has come.
trait PopDue {
    fn pop_front_if_due(&mut self, now: Time) -> Option<(Time, StreamId)>;
}

impl PopDue for VecDeque<(Time, StreamId)> {
    fn pop_front_if_due(&mut self, now: Time) -> Option<(Time, StreamId)> {
        self.front().filter(|(at, _)| *at <= now)?;
        self.pop_front()
    }
}

#[test]
fn neighbouring_priorities_share_four_two_one_however_many_streams_each_has() {
    let mut bench = Bench::new(100 * MBIT);
    let mut all = vec![bench.saturate(priority(3))];
    all.extend((0..5).map(|_| bench.saturate(priority(2))));
    all.extend((0..50).map(|_| bench.saturate(priority(1))));
    let got = bench.run(&all, Duration::from_secs(5));
    let total = got.iter().sum::<u64>() as f64;
    for (range, share) in [(0..1, 4.0 / 7.0), (1..6, 2.0 / 7.0), (6..56, 1.0 / 7.0)] {
        let got = got[range].iter().sum::<u64>() as f64 / total / share;
        assert!((0.95..=1.05).contains(&got), "{got} of its share");
    }
}

#[test]
fn a_realtime_send_waits_for_one_chunk_at_most() {
    let mut bench = Bench::new(100 * MBIT);
    let bulk: Vec<_> = (0..99).map(|_| bench.saturate(Class::Bulk)).collect();
    let ping = bench.open(Class::Realtime);
    for _ in 0..500 {
        bench.run(&bulk, Duration::from_millis(5));
        bench.scheduler.enqueue(bench.now, ping, 64);
        assert_eq!(bench.step().unwrap().stream, ping);
    }
}

#[test]
fn an_undeclared_stream_that_is_modest_waits_for_a_few_chunks_at_most() {
    let mut bench = Bench::new(100 * MBIT);
    let bulk: Vec<_> = (0..99).map(|_| bench.saturate(StreamOptions::default())).collect();
    let ping = bench.open(StreamOptions::default());
    bench.run(&bulk, Duration::from_secs(1));
    for _ in 0..200 {
        bench.run(&bulk, Duration::from_millis(5));
        bench.scheduler.enqueue(bench.now, ping, 64);
        assert_eq!(bench.step().unwrap().stream, ping);
    }
}

#[test]
fn realtime_that_wants_everything_leaves_five_percent_of_the_link_to_each_priority() {
    let mut bench = Bench::new(100 * MBIT);
    let greedy = bench.saturate(Class::Realtime);
    let mut all = vec![greedy];
    all.extend((0..6).map(|p| bench.saturate(priority(p))));
    let got = bench.run(&all, Duration::from_secs(5));
    let total = got.iter().sum::<u64>() as f64;
    assert!((0.65..0.82).contains(&(got[0] as f64 / total)), "{}", got[0] as f64 / total);
    for lower in &got[1..] {
        assert!(*lower as f64 / total >= 0.045, "{got:?}");
    }
}

#[test]
fn guaranteed_rates_hold_beside_any_crowd_and_caps_are_never_exceeded() {
    let mut bench = Bench::new(100 * MBIT);
    let crowd: Vec<_> = (0..500).map(|_| bench.saturate(Class::Interactive)).collect();
    let promised = bench.saturate(StreamOptions { rate_min: Some(20 * MBIT), ..Class::Bulk.into() });
    let capped = bench.saturate(StreamOptions { rate_max: Some(MBIT), ..Class::Interactive.into() });
    let mut all = crowd;
    all.extend([promised, capped]);
    let got = bench.run(&all, Duration::from_secs(10));
    let (promised, capped) = (got[500] as f64 / (200 * MBIT) as f64, got[501] as f64 / (10 * MBIT) as f64);
    assert!((0.98..=1.05).contains(&promised), "{promised} of what was promised");
    assert!(capped <= 1.01, "{capped} of the cap");
}

#[test]
fn a_cap_alone_on_the_link_is_reached() {
    let mut bench = Bench::new(100 * MBIT);
    let capped = bench.saturate(StreamOptions { rate_max: Some(5 * MBIT), ..Class::Bulk.into() });
    let got = bench.run(&[capped], Duration::from_secs(4))[0] as f64 / (20 * MBIT) as f64;
    assert!((0.98..=1.01).contains(&got), "{got}");
}

#[test]
fn datagrams_past_their_deadline_are_dropped_counted_and_told() {
    let mut scheduler = Scheduler::default();
    let options = StreamOptions { deadline: Some(Duration::from_millis(10)), ..Class::Realtime.into() };
    let id = scheduler.open_datagrams(Time::ZERO, options).unwrap();
    for _ in 0..3 {
        scheduler.enqueue(Time::ZERO, id, 100);
    }
    scheduler.enqueue(Time::from_millis(9), id, 50);
    let send = scheduler.next(Time::from_millis(12), 1);
    assert_eq!(send, Some(Send { stream: id, bytes_max: 50 }));
    let late: Vec<_> = std::iter::from_fn(|| scheduler.poll_late()).collect();
    assert_eq!(late, vec![Late { stream: id, bytes: 100 }; 3]);
    scheduler.sent(Time::from_millis(12), id, 50);
    let stats = scheduler.stats(Time::from_millis(12), id).unwrap();
    assert_eq!((stats.datagrams_late, stats.bytes_late, stats.bytes_sent), (3, 300, 50));
    assert_eq!(scheduler.next(Time::from_millis(12), 1), None);
}

#[test]
fn a_full_queue_takes_nothing_and_warns_before() {
    let mut scheduler = Scheduler::default();
    let options = StreamOptions { queue_bytes_max: 1000, ..Class::Bulk.into() };
    let id = scheduler.open(Time::ZERO, options).unwrap();
    assert_eq!(scheduler.enqueue(Time::ZERO, id, 899), Room::Free);
    assert_eq!(scheduler.enqueue(Time::ZERO, id, 1), Room::Nearly);
    assert_eq!(scheduler.enqueue(Time::ZERO, id, 101), Room::Full);
    assert_eq!(scheduler.enqueue(Time::ZERO, id, 100), Room::Nearly);
    assert_eq!(scheduler.stats(Time::ZERO, id).unwrap().queued_bytes, 1000);
}

#[test]
fn without_credit_only_realtime_within_its_allowance_is_let_through() {
    let mut bench = Bench::new(MBIT);
    bench.saturate(Class::Bulk);
    assert_eq!(bench.scheduler.next(bench.now, 0), None);
    let urgent = bench.saturate(Class::Realtime);
    let mut let_through = 0;
    while let Some(send) = bench.scheduler.next(bench.now, 0) {
        assert_eq!(send.stream, urgent);
        bench.scheduler.sent(bench.now, urgent, send.bytes_max);
        let_through += send.bytes_max;
        bench.refill(urgent);
    }
    assert_eq!(let_through, REALTIME_BURST_BYTES);
}

#[test]
fn a_stream_held_by_its_carrier_holds_up_nobody_and_loses_nothing() {
    let mut bench = Bench::new(MBIT);
    let (stuck, other) = (bench.saturate(Class::Realtime), bench.saturate(Class::Bulk));
    bench.scheduler.hold(stuck);
    assert_eq!(bench.step().unwrap().stream, other);
    bench.scheduler.release(stuck);
    assert_eq!(bench.step().unwrap().stream, stuck);
}

#[test]
fn a_new_priority_counts_from_the_next_byte() {
    let mut bench = Bench::new(MBIT);
    let (a, b) = (bench.saturate(Class::Bulk), bench.saturate(Class::Bulk));
    bench.run(&[a, b], Duration::from_secs(1));
    bench.scheduler.retune(b, Class::Realtime.into()).unwrap();
    assert_eq!(bench.step().unwrap().stream, b);
    bench.scheduler.close(b);
    assert_eq!(bench.step().unwrap().stream, a);
    assert_eq!((bench.scheduler.streams(), bench.scheduler.ready()), (1, 1));
}

#[test]
fn a_send_costs_a_few_steps_among_ten_thousand_streams() {
    let mut bench = Bench::new(1000 * MBIT);
    let all: Vec<_> = (0..10_000_u64)
        .map(|n| {
            let rate_max = (n % 7 == 0).then_some(MBIT / 10);
            let rate_min = (n % 11 == 0).then_some(1000);
            let weight = Weight::new(u8::try_from(n % 64 + 1).unwrap()).unwrap();
            let priority = Priority::new(u8::try_from(n % 8).unwrap()).unwrap();
            bench.saturate(StreamOptions { rate_max, rate_min, weight, ..priority.into() })
        })
        .collect();
    let before = bench.scheduler.steps();
    let mut sends = 0_u64;
    while sends < 50_000 {
        if let Some(send) = bench.step() {
            bench.scheduler.enqueue(bench.now, send.stream, send.bytes_max);
            sends += 1;
        }
    }
    let steps = (bench.scheduler.steps() - before) as f64 / sends as f64;
    assert!(steps < 12.0, "{steps} ring positions looked at per send");
    all.iter().for_each(|id| bench.scheduler.close(*id));
    assert_eq!((bench.scheduler.streams(), bench.scheduler.ready(), bench.step()), (0, 0, None));
}

#[test]
fn too_many_streams_are_refused_with_the_limit() {
    let mut scheduler = Scheduler::new(2);
    let first = scheduler.open(Time::ZERO, Class::Bulk.into()).unwrap();
    scheduler.open(Time::ZERO, Class::Bulk.into()).unwrap();
    let refused = scheduler.open(Time::ZERO, Class::Bulk.into());
    assert_eq!(refused, Err(OpenError::TooManyStreams { max: 2 }));
    scheduler.close(first);
    assert!(scheduler.open(Time::ZERO, Class::Bulk.into()).is_ok());
}

fn any_options() -> impl Strategy<Value = StreamOptions> {
    let rate = || proptest::option::of(10_000_u64..2_000_000);
    (0_u8..8, 1_u8..=64, rate(), rate(), proptest::option::of(1_u64..50)).prop_map(
        |(priority, weight, a, b, deadline)| {
            let (rate_min, rate_max) = match (a, b) {
                (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
                other => other,
            };
            StreamOptions {
                priority: Priority::new(priority).unwrap(),
                weight: Weight::new(weight).unwrap(),
                rate_min,
                rate_max,
                deadline: deadline.map(Duration::from_millis),
                ..StreamOptions::default()
            }
        },
    )
}

#[derive(Clone, Debug)]
enum Act {
    Enqueue(usize, u64),
    Send,
    Hold(usize),
    Release(usize),
    Forget(usize),
    Retune(usize, StreamOptions),
    Close(usize),
    Pass(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_usize..12, 1_u64..20_000).prop_map(|(n, bytes)| Act::Enqueue(n, bytes)),
        8 => Just(Act::Send),
        1 => (0_usize..12).prop_map(Act::Hold),
        1 => (0_usize..12).prop_map(Act::Release),
        1 => (0_usize..12).prop_map(Act::Forget),
        1 => (0_usize..12, any_options()).prop_map(|(n, options)| Act::Retune(n, options)),
        1 => (0_usize..12).prop_map(Act::Close),
        3 => (1_u64..30_000).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Work conserving: while a stream has something to send and may, there is always an answer; what comes out is what
    /// went in; a closed or held stream never sends.
    #[test]
    fn nothing_waits_while_the_link_is_free_and_every_byte_is_accounted_for(
        options in proptest::collection::vec((any_options(), any::<bool>()), 12),
        acts in proptest::collection::vec(any_act(), 1..300),
    ) {
        let mut scheduler = Scheduler::default();
        let mut now = Time::ZERO;
        let ids: Vec<_> = options
            .iter()
            .map(|(options, datagrams)| match datagrams {
                true => scheduler.open_datagrams(now, *options).unwrap(),
                false => scheduler.open(now, *options).unwrap(),
            })
            .collect();
        let mut waiting = [0_u64; 12];
        let mut off = [false; 12];
        let mut closed = [false; 12];
        for act in acts {
            match act {
                Act::Enqueue(n, bytes) => {
                    let room = scheduler.enqueue(now, ids[n], bytes);
                    prop_assert!(!closed[n] || room == Room::Full);
                    waiting[n] += if room == Room::Full { 0 } else { bytes };
                }
                Act::Hold(n) => { scheduler.hold(ids[n]); off[n] = true; }
                Act::Release(n) => { scheduler.release(ids[n]); off[n] = false; }
                Act::Forget(n) => { scheduler.forget(ids[n]); waiting[n] = 0; }
                Act::Retune(n, options) => scheduler.retune(ids[n], options).unwrap(),
                Act::Close(n) => { scheduler.close(ids[n]); (waiting[n], closed[n]) = (0, true); }
                Act::Pass(micros) => now += Duration::from_micros(micros),
                Act::Send => {
                    let send = scheduler.next(now, 1);
                    while let Some(late) = scheduler.poll_late() {
                        let n = ids.iter().position(|id| *id == late.stream).unwrap();
                        waiting[n] -= late.bytes;
                    }
                    match send {
                        Some(Send { stream, bytes_max }) => {
                            let n = ids.iter().position(|id| *id == stream).unwrap();
                            prop_assert!(!off[n] && !closed[n]);
                            prop_assert!(bytes_max >= 1 && bytes_max <= waiting[n]);
                            prop_assert!(options[n].1 || bytes_max <= QOS_CHUNK_BYTES_MAX);
                            scheduler.sent(now, stream, bytes_max);
                            waiting[n] -= bytes_max;
                        }
                        None => {
                            prop_assert_eq!(scheduler.ready(), 0);
                            let capped = scheduler.poll_timeout().is_some();
                            let free = (0..12).any(|n| waiting[n] > 0 && !off[n]);
                            prop_assert!(!free || capped, "something could have been sent");
                        }
                    }
                }
            }
            for (n, id) in ids.iter().enumerate().filter(|(n, _)| !closed[*n]) {
                prop_assert_eq!(scheduler.stats(now, *id).unwrap().queued_bytes, waiting[n]);
            }
        }
    }

}

proptest! {
    // Each case is 22 s of a link.
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever the mix, everybody who has something to send gets some of it within the limit.
    #[test]
    fn nobody_starves(options in proptest::collection::vec(any_options(), 2..40)) {
        let mut bench = Bench::new(10 * MBIT);
        let all: Vec<_> = options.iter().map(|options| bench.saturate(*options)).collect();
        for _ in 0..2 {
            let got = bench.run(&all, QOS_STARVATION_MAX + Duration::from_secs(1));
            prop_assert!(got.iter().all(|bytes| *bytes > 0), "{:?}", got);
        }
    }
}
