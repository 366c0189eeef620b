//! The estimator in front of a simulated bottleneck: a link of a given rate with a buffer that drops what does not fit.

use std::collections::VecDeque;

use core::time::Duration;

use super::*;
use crate::rng::Rng;

const PACKET: u64 = 1200;
const TICK: Duration = Duration::from_micros(100);
const MBIT: f64 = 125_000.0;

/// A sender that always has something to send.
struct Source {
    capacity: Capacity,
    delivered: u64,
}

/// One packet on its way: whose, when it was sent, and when its acknowledgement (or the news of its loss) arrives.
struct News {
    at: Time,
    who: usize,
    sent: Time,
    lost: bool,
}

struct Bottleneck {
    now: Time,
    bytes_per_s: f64,
    buffer_s: f64,
    rtt: Duration,
    jitter: Duration,
    loss_per_mille: u64,
    queue: VecDeque<(usize, Time)>,
    news: Vec<News>,
    earned: f64,
    sources: Vec<Source>,
    /// A sender that follows losses only, as most of the internet does: its window in packets, its packets under way, and
    /// until when a loss is the same event.
    reno: Option<(f64, u64, Time)>,
    rng: Rng,
    worst_queue: Duration,
}

const RENO: usize = usize::MAX;

impl Bottleneck {
    fn new(mbit: f64, buffer_ms: f64, rtt_ms: u64) -> Self {
        Self {
            now: Time::from_millis(1),
            bytes_per_s: mbit * MBIT,
            buffer_s: buffer_ms / 1e3,
            rtt: Duration::from_millis(rtt_ms),
            jitter: Duration::ZERO,
            loss_per_mille: 0,
            queue: VecDeque::new(),
            news: Vec::new(),
            earned: 0.0,
            sources: Vec::new(),
            reno: None,
            rng: Rng::from_u64(1),
            worst_queue: Duration::ZERO,
        }
    }

    fn join(&mut self) {
        let config = Config { packet_bytes: PACKET, ..Config::default() };
        self.sources.push(Source { capacity: Capacity::new(self.now, config), delivered: 0 });
    }

    fn offer(&mut self, who: usize) {
        let full = (self.queue.len() as u64 + 1) * PACKET > (self.bytes_per_s * self.buffer_s) as u64;
        if full || self.rng.below(1000) < self.loss_per_mille {
            // Noticed when the packets behind it are acknowledged.
            let at = self.now + self.rtt + Duration::from_secs_f64(self.wait());
            self.news.push(News { at, who, sent: self.now, lost: true });
        } else {
            self.queue.push_back((who, self.now));
        }
    }

    fn wait(&self) -> f64 {
        self.queue.len() as f64 * PACKET as f64 / self.bytes_per_s
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.earned += self.bytes_per_s * TICK.as_secs_f64();
        while self.earned >= PACKET as f64 {
            let Some((who, sent)) = self.queue.pop_front() else {
                self.earned = 0.0;
                break;
            };
            self.earned -= PACKET as f64;
            let jitter = Duration::from_micros(self.rng.below(self.jitter.as_micros() as u64 + 1));
            self.news.push(News { at: self.now + self.rtt + jitter, who, sent, lost: false });
        }
        let now = self.now;
        for news in self.news.extract_if(.., |news| news.at <= now) {
            match self.sources.get_mut(news.who) {
                Some(source) if news.lost => source.capacity.lost(PACKET),
                Some(source) => {
                    source.delivered += PACKET;
                    let ack = Ack { sent: news.sent, bytes: PACKET };
                    source.capacity.acked(now, ack);
                }
                None => {
                    if let Some((window, flying, quiet)) = &mut self.reno {
                        *flying -= 1;
                        if !news.lost {
                            *window += 1.0 / *window;
                        } else if now >= *quiet {
                            (*window, *quiet) = ((*window / 2.0).max(2.0), now + self.rtt);
                        }
                    }
                }
            }
        }
        for who in 0..self.sources.len() {
            while self.sources[who].capacity.credit(now) >= PACKET {
                self.sources[who].capacity.sent(PACKET);
                self.offer(who);
            }
        }
        while self.reno.is_some_and(|(window, flying, _)| (flying as f64) < window) {
            if let Some((_, flying, _)) = &mut self.reno {
                *flying += 1;
            }
            self.offer(RENO);
        }
        self.worst_queue = self.worst_queue.max(Duration::from_secs_f64(self.wait()));
    }

    /// Runs for a while; the part of the link's rate each source got.
    fn run(&mut self, time: Duration) -> Vec<f64> {
        let end = self.now + time;
        let before: Vec<_> = self.sources.iter().map(|source| source.delivered).collect();
        self.worst_queue = Duration::ZERO;
        while self.now < end {
            self.tick();
        }
        let whole = self.bytes_per_s * time.as_secs_f64();
        self.sources.iter().zip(before).map(|(s, before)| (s.delivered - before) as f64 / whole).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_steady_link_is_full_and_its_queue_short_whatever_the_buffer() {
    for (mbit, buffer_ms, rtt_ms) in
        [(100.0, 10.0, 1), (100.0, 100.0, 1), (100.0, 100.0, 40), (10.0, 500.0, 20)]
    {
        let mut link = Bottleneck::new(mbit, buffer_ms, rtt_ms);
        link.join();
        link.run(3 * SECOND);
        let got = link.run(8 * SECOND)[0];
        assert!(got >= 0.97, "{mbit} Mbit/s, {buffer_ms} ms, rtt {rtt_ms}: {got}");
        assert!(
            link.worst_queue <= Duration::from_millis(11),
            "{mbit}, {buffer_ms}, {rtt_ms}: {:?}",
            link.worst_queue
        );
        let told = link.sources[0].capacity.bytes_per_s() as f64 / link.bytes_per_s;
        assert!((0.9..=1.1).contains(&told), "the rate is told as {told} of what it is");
    }
}

#[test]
fn on_a_slow_link_the_queue_of_the_smallest_window_is_nobody_elses_and_not_the_way_itself() {
    for (mbit, queue_ms) in [(10.0, 12), (3.0, 25)] {
        let mut link = Bottleneck::new(mbit, 200.0, 1);
        link.join();
        link.run(3 * SECOND);
        let got = link.run(40 * SECOND)[0];
        assert!(got >= 0.95, "{mbit} Mbit/s: {got}");
        let queue = link.worst_queue;
        assert!(queue <= Duration::from_millis(queue_ms), "{mbit} Mbit/s: {queue:?}");
    }
}

#[test]
fn a_step_from_100_to_20_to_100_is_followed_within_a_second() {
    for (buffer_ms, rtt_ms) in [(10.0, 1), (100.0, 1), (100.0, 20), (100.0, 40)] {
        let mut link = Bottleneck::new(100.0, buffer_ms, rtt_ms);
        link.join();
        link.run(3 * SECOND);
        for mbit in [20.0, 100.0, 20.0, 100.0] {
            link.bytes_per_s = mbit * MBIT;
            link.run(SECOND);
            let got = link.run(SECOND)[0];
            let queue = link.worst_queue;
            assert!(got >= 0.9, "{mbit} Mbit/s, buffer {buffer_ms}, rtt {rtt_ms}: {got}");
            assert!(queue <= Duration::from_millis(12), "{mbit} Mbit/s, {buffer_ms}, {rtt_ms}: {queue:?}");
            link.run(3 * SECOND);
        }
    }
}

#[test]
fn jitter_of_acknowledgements_costs_little() {
    let mut link = Bottleneck::new(100.0, 100.0, 10);
    link.jitter = Duration::from_millis(3);
    link.join();
    link.run(2 * SECOND);
    let got = link.run(10 * SECOND)[0];
    assert!(got >= 0.95, "{got}");
    assert!(link.worst_queue <= Duration::from_millis(15), "{:?}", link.worst_queue);
}

#[test]
fn random_losses_of_two_percent_do_not_empty_the_link() {
    let mut link = Bottleneck::new(50.0, 100.0, 40);
    link.loss_per_mille = 20;
    link.join();
    link.run(3 * SECOND);
    let got = link.run(10 * SECOND)[0];
    assert!(got >= 0.85, "{got}");
}

#[test]
fn a_buffer_shorter_than_the_target_is_not_flooded() {
    let mut link = Bottleneck::new(100.0, 2.0, 10);
    link.join();
    link.run(3 * SECOND);
    let sent_before = link.sources[0].delivered;
    let got = link.run(10 * SECOND)[0];
    assert!(got >= 0.8, "{got}");
    assert!(link.sources[0].delivered > sent_before);
}

#[test]
fn two_of_us_share() {
    let mut link = Bottleneck::new(100.0, 100.0, 10);
    link.join();
    link.run(5 * SECOND);
    link.join();
    link.run(15 * SECOND);
    let got = link.run(10 * SECOND);
    let fairness = (got[0] + got[1]).powi(2) / (2.0 * (got[0].powi(2) + got[1].powi(2)));
    assert!(fairness >= 0.9, "{got:?}");
}

#[test]
fn beside_a_sender_that_fills_the_queue_we_do_not_starve() {
    for buffer_ms in [10.0, 100.0] {
        let mut link = Bottleneck::new(50.0, buffer_ms, 20);
        link.join();
        link.run(3 * SECOND);
        link.reno = Some((10.0, 0, Time::ZERO));
        link.run(20 * SECOND);
        let got = link.run(20 * SECOND)[0];
        assert!((0.2..=0.95).contains(&got), "{buffer_ms} ms: {got}");
        link.reno = None;
        link.news.retain(|news| news.who != RENO);
        link.queue.retain(|(who, _)| *who != RENO);
        link.run(15 * SECOND);
        link.run(5 * SECOND);
        assert!(link.worst_queue <= Duration::from_millis(12), "afterwards: {:?}", link.worst_queue);
    }
}

#[test]
fn a_longer_way_is_learnt() {
    let mut link = Bottleneck::new(50.0, 200.0, 10);
    link.join();
    link.run(5 * SECOND);
    link.rtt = Duration::from_millis(50);
    link.run(20 * SECOND);
    let got = link.run(5 * SECOND)[0];
    assert!(got >= 0.9, "{got}");
    assert!(link.worst_queue <= Duration::from_millis(20), "{:?}", link.worst_queue);
}

#[test]
fn a_sender_with_little_to_say_is_never_silenced() {
    let mut now = Time::from_millis(1);
    let mut capacity = Capacity::new(now, Config::default());
    let mut refilled = false;
    // Forty bytes a second: what was delivered lately is next to nothing, also after a drain.
    for nth in 0..60 {
        // The base is seen every ten seconds only, so that it is looked for in between.
        let rtt = Duration::from_millis(if nth % 10 == 0 { 100 } else { 108 });
        let sent = now;
        capacity.sent(40);
        if nth == 1 {
            // A loss is the end of the beginning.
            capacity.lost(40);
        }
        capacity.acked(now + rtt, Ack { sent, bytes: 40 });
        refilled |= capacity.mode == Mode::Refill;
        let paced = capacity.pacing_bytes_per_s();
        assert!(paced >= Some(WINDOW_PACKETS_MIN * PACKET * 9), "{paced:?} after {nth} s");
        now += Duration::from_secs(1);
    }
    assert!(refilled, "the estimator never came to the mode that this is about");
}

#[test]
fn without_news_nothing_more_is_sent_than_the_window() {
    let mut capacity = Capacity::new(Time::ZERO, Config::default());
    let mut sent = 0;
    while capacity.credit(Time::ZERO) > 0 {
        capacity.sent(PACKET);
        sent += PACKET;
    }
    assert_eq!(sent, Config::default().window_initial);
    capacity.collapse(Time::from_millis(5));
    assert_eq!(capacity.window(), WINDOW_PACKETS_MIN * PACKET);
}
