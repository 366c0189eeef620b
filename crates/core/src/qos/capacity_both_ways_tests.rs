//! Two estimators at the ends of one link, each sending all it may: acknowledgements wait behind the other's packets, and
//! both ends are busy with something else now and then, as processors are.

use std::collections::VecDeque;

use core::time::Duration;

use super::*;
use crate::qos::{Sounding, Soundings};
use crate::rng::Rng;

const PACKET: u64 = 1200;
const ACK_BYTES: u64 = 50;
const WORD_BYTES: u64 = 70;
const TICK: Duration = Duration::from_micros(40);
const WAY: Duration = Duration::from_micros(200);
const BUFFER: Duration = Duration::from_millis(100);
/// Between two looks at what the other side sends.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Clone)]
enum Packet {
    Data { sent: Time },
    Acks(Vec<Time>),
    Word(Sounding),
}

/// One end, and the queue in front of it.
struct End {
    capacity: Capacity,
    /// It has nothing to send before.
    from: Time,
    queue: VecDeque<(u64, Packet)>,
    queued: u64,
    earned: f64,
    inbox: VecDeque<(Time, Packet)>,
    acks: Vec<Time>,
    soundings: Soundings,
    /// Bytes of packets that arrived here.
    received: u64,
    busy_until: Time,
    /// Bytes of it that arrived, and at the last look.
    delivered: u64,
    looked: u64,
}

struct Link {
    now: Time,
    bytes_per_s: f64,
    ends: [End; 2],
    rng: Rng,
    looked: Time,
    /// The ends tell each other how long packets wait.
    telling: bool,
    /// What both queues together last, microseconds, each millisecond.
    waits_us: Vec<u64>,
}

impl Link {
    fn new(mbit: u32, seed: u64) -> Self {
        let now = Time::from_millis(1);
        let end = || End {
            capacity: Capacity::new(now, Config { packet_bytes: PACKET, ..Config::default() }),
            from: now,
            queue: VecDeque::new(),
            queued: 0,
            earned: 0.0,
            inbox: VecDeque::new(),
            acks: Vec::new(),
            soundings: Soundings::default(),
            received: 0,
            busy_until: now,
            delivered: 0,
            looked: 0,
        };
        let ends = [end(), end()];
        let (rng, waits_us) = (Rng::from_u64(seed), Vec::new());
        Self { now, bytes_per_s: rate(mbit), ends, rng, looked: now, telling: false, waits_us }
    }

    fn telling(mbit: u32, seed: u64) -> Self {
        Self { telling: true, ..Self::new(mbit, seed) }
    }

    fn offer(&mut self, who: usize, bytes: u64, packet: Packet) {
        let end = &mut self.ends[who];
        if (end.queued + bytes) as f64 > self.bytes_per_s * BUFFER.as_secs_f64() {
            match packet {
                Packet::Data { .. } => end.capacity.lost(bytes),
                // The next acknowledgement says it again.
                Packet::Acks(acks) => end.acks.extend(acks),
                Packet::Word(_) => {}
            }
            return;
        }
        end.queued += bytes;
        end.queue.push_back((bytes, packet));
    }

    /// Bytes leave both queues.
    fn carry(&mut self) {
        for who in 0..2 {
            let at = self.now + WAY;
            let end = &mut self.ends[who];
            end.earned += self.bytes_per_s * TICK.as_secs_f64();
            let mut arriving = Vec::new();
            while let Some((bytes, packet)) = end.queue.pop_front_if(|(bytes, _)| *bytes as f64 <= end.earned)
            {
                end.earned -= bytes as f64;
                end.queued -= bytes;
                arriving.push((at, packet));
            }
            if end.queue.is_empty() {
                end.earned = 0.0;
            }
            self.ends[1 - who].inbox.extend(arriving);
        }
    }

    /// An end gets the processor: takes what came, and sends what it may.
    fn act(&mut self, who: usize) {
        let now = self.now;
        if now < self.ends[who].busy_until {
            return;
        }
        let stalled = if self.rng.below(500) == 0 { self.rng.below(4000) } else { 0 };
        self.ends[who].busy_until = now + Duration::from_micros(self.rng.below(500) + stalled);
        while let Some((_, packet)) = self.ends[who].inbox.pop_front_if(|(at, _)| *at <= now) {
            match packet {
                Packet::Data { sent } => {
                    self.ends[1 - who].delivered += PACKET;
                    self.ends[who].received += PACKET;
                    self.ends[who].acks.push(sent);
                }
                Packet::Word(word) => {
                    let end = &mut self.ends[who];
                    // Their clocks have nothing to do with each other.
                    let now = now + Duration::from_secs(1000 * who as u64);
                    if let Some(told) = end.soundings.hear(now, word) {
                        end.capacity.told(self.now, told);
                    }
                }
                Packet::Acks(acks) => {
                    for sent in acks {
                        self.ends[who].capacity.acked(now, Ack { sent, bytes: PACKET });
                    }
                }
            }
        }
        if self.ends[who].acks.len() >= 2 {
            let acks = std::mem::take(&mut self.ends[who].acks);
            self.offer(who, ACK_BYTES, Packet::Acks(acks));
        }
        self.tell(who);
        while now >= self.ends[who].from && self.ends[who].capacity.credit(now) >= PACKET {
            self.ends[who].capacity.sent(PACKET);
            self.offer(who, PACKET, Packet::Data { sent: now });
        }
    }

    fn tell(&mut self, who: usize) {
        let end = &mut self.ends[who];
        let now = self.now + Duration::from_secs(1000 * who as u64);
        if self.telling && end.soundings.due(now).is_some_and(|due| due <= now) {
            let word = end.soundings.say(now, end.received);
            self.offer(who, WORD_BYTES, Packet::Word(word));
        }
    }

    fn look(&mut self) {
        self.looked = self.now;
        let new = [0, 1].map(|who| self.ends[who].delivered - self.ends[who].looked);
        for (who, end) in self.ends.iter_mut().enumerate() {
            end.looked = end.delivered;
            end.capacity.set_both_ways(new[1 - who] * 16 >= new[who]);
            if new[0].min(new[1]) >= 8 << 10 {
                end.soundings.set_busy(self.now + Duration::from_secs(1000 * who as u64));
            }
        }
    }

    /// Runs for a while. The part of the rate each direction carried, and the 99th percentile of both queues together.
    fn run(&mut self, time: Duration) -> ([f64; 2], Duration) {
        let end = self.now + time;
        let before = [0, 1].map(|who| self.ends[who].delivered);
        self.waits_us.clear();
        while self.now < end {
            self.now += TICK;
            self.carry();
            self.act(0);
            self.act(1);
            if self.now.saturating_since(self.looked) >= LOOK {
                self.look();
            }
            if self.now.as_micros().is_multiple_of(1000) {
                let bytes = (self.ends[0].queued + self.ends[1].queued) as f64;
                self.waits_us.push((bytes * 1e6 / self.bytes_per_s) as u64);
            }
        }
        self.waits_us.sort_unstable();
        let p99 = Duration::from_micros(self.waits_us[self.waits_us.len() * 99 / 100]);
        let whole = self.bytes_per_s * time.as_secs_f64();
        ([0, 1].map(|who| (self.ends[who].delivered - before[who]) as f64 / whole), p99)
    }
}

fn rate(mbit: u32) -> f64 {
    f64::from(mbit) * 125_000.0
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn with_both_directions_full_neither_yields_to_the_others_queue() {
    for (mbit, seed, queue_ms) in [(100, 1, 10), (10, 3, 16)] {
        let mut link = Link::new(mbit, seed);
        link.run(3 * SECOND);
        let (got, queue) = link.run(5 * SECOND);
        assert!(got.iter().all(|part| *part >= 0.75), "{mbit} Mbit/s, seed {seed}: {got:?}");
        assert!(got[0] + got[1] >= 1.7, "{mbit} Mbit/s, seed {seed}: {got:?}");
        assert!(queue <= Duration::from_millis(queue_ms), "{mbit} Mbit/s, seed {seed}: {queue:?}");
    }
}

#[test]
fn a_direction_that_fills_later_gets_its_rate_within_seconds() {
    let mut link = Link::new(100, 4);
    link.ends[1].from = Time::from_millis(3000);
    link.run(8 * SECOND);
    let (got, queue) = link.run(5 * SECOND);
    assert!(got.iter().all(|part| *part >= 0.7), "{got:?}");
    assert!(queue <= Duration::from_millis(12), "{queue:?}");
}

#[test]
fn both_directions_follow_a_step_within_a_second() {
    let mut link = Link::new(100, 5);
    link.run(3 * SECOND);
    for mbit in [20, 100] {
        link.bytes_per_s = rate(mbit);
        link.run(SECOND);
        let (got, queue) = link.run(2 * SECOND);
        assert!(got.iter().all(|part| *part >= 0.7), "{mbit} Mbit/s: {got:?}");
        assert!(queue <= Duration::from_millis(15), "{mbit} Mbit/s: {queue:?}");
    }
}

#[test]
fn ends_that_tell_each_other_keep_both_directions_full_and_follow_steps_within_a_second() {
    for seed in 10..13 {
        let mut link = Link::telling(100, seed);
        link.run(3 * SECOND);
        for mbit in [100, 20, 100] {
            link.bytes_per_s = rate(mbit);
            link.run(SECOND);
            assert!(
                link.ends.iter().all(|end| end.capacity.depth.is_some()),
                "seed {seed}: nothing was told"
            );
            let (got, queue) = link.run(SECOND);
            assert!(got.iter().all(|part| *part >= 0.9), "{mbit} Mbit/s, seed {seed}: {got:?}");
            assert!(queue <= Duration::from_millis(10), "{mbit} Mbit/s, seed {seed}: {queue:?}");
        }
    }
}

#[test]
fn an_end_that_is_told_no_more_goes_on_by_what_it_sees() {
    let mut link = Link::telling(100, 20);
    link.run(3 * SECOND);
    link.telling = false;
    link.run(SECOND);
    assert!(link.ends[0].capacity.depth.is_none());
    let (got, queue) = link.run(4 * SECOND);
    assert!(got.iter().all(|part| *part >= 0.75), "{got:?}");
    assert!(queue <= Duration::from_millis(12), "{queue:?}");
}

#[test]
fn a_far_end_that_lies_about_the_queue_costs_only_its_own_link_and_not_all_of_it() {
    for waited in [Duration::ZERO, Duration::from_secs(3600)] {
        let mut link = Link::new(100, 21);
        link.run(3 * SECOND);
        for nth in 0..200 {
            let told = Told { waited, at_us: nth * 20_000, received: nth * (u64::MAX / 200) };
            let now = link.now;
            link.ends[0].capacity.told(now, told);
            link.run(Duration::from_millis(20));
        }
        let window = link.ends[0].capacity.window();
        assert!((WINDOW_PACKETS_MIN * PACKET..=Config::default().window_max).contains(&window), "{window}");
        link.run(3 * SECOND);
        let (got, _) = link.run(3 * SECOND);
        assert!(got.iter().all(|part| *part >= 0.6), "{waited:?}: {got:?}");
    }
}

#[test]
fn when_the_other_direction_falls_silent_the_window_steers_again() {
    let mut link = Link::new(100, 6);
    link.run(3 * SECOND);
    assert_eq!(link.ends[0].capacity.mode, Mode::Cruise);
    link.ends[1].from = Time::MAX;
    link.run(SECOND);
    assert_ne!(link.ends[0].capacity.mode, Mode::Cruise);
    let (got, queue) = link.run(5 * SECOND);
    assert!(got[0] >= 0.95, "{got:?}");
    assert!(queue <= Duration::from_millis(11), "{queue:?}");
}

#[test]
fn an_end_that_was_busy_elsewhere_for_long_leaves_no_queue_and_no_idle_link_behind() {
    for seed in [7, 8] {
        let mut link = Link::new(100, seed);
        link.run(3 * SECOND);
        for stall_ms in [15, 120] {
            for who in 0..2 {
                link.ends[who].busy_until = link.now + Duration::from_millis(stall_ms);
                link.run(SECOND / 2);
                let (got, queue) = link.run(SECOND);
                assert!(got.iter().all(|part| *part >= 0.75), "seed {seed}, {stall_ms} ms, {who}: {got:?}");
                assert!(queue <= Duration::from_millis(10), "seed {seed}, {stall_ms} ms, {who}: {queue:?}");
            }
        }
    }
}
