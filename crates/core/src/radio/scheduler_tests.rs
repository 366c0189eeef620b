//! What the scheduler promises, first by example, then under arbitrary inputs and restarts.

use std::collections::BTreeSet;

use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;

use super::scheduler::{Config, Fate, Input, Outcome, Output, Past, Scheduler};
use super::{CodingRate, Frame, Lora, Pace, Priority, Region};
use crate::limits::{RADIO_QUEUE_ANNOUNCES_MAX, RADIO_QUEUE_FRAMES_MAX};
use crate::time::Time;

const HOUR: Duration = Duration::from_secs(3600);

fn config(sf: u8, duty_band: usize) -> Config {
    let pace = Pace::Lora(Lora::new(sf, 125_000, CodingRate::Cr45).unwrap());
    Config { durable: false, ..Config::new(pace, Region::EU868.bands()[duty_band], 222) }
}

fn frame(token: u64, bytes: usize, priority: Priority) -> Frame {
    let bytes = Bytes::from(vec![0; bytes]);
    Frame { token, bytes, priority, announce: false, expires_at: Time::MAX }
}

fn started(config: Config) -> Scheduler {
    let mut scheduler = Scheduler::new(Time::ZERO, config, Past::Silent);
    scheduler.handle(Time::ZERO, Input::Up);
    scheduler
}

fn drain(scheduler: &mut Scheduler) -> Vec<Output> {
    std::iter::from_fn(|| scheduler.poll_output()).collect()
}

fn transmitted(outputs: &[Output]) -> Vec<u64> {
    let token = |output: &Output| match output {
        Output::Transmit { token, .. } => Some(*token),
        Output::Sent { .. } | Output::Save { .. } | Output::Damaged(_) => None,
    };
    outputs.iter().filter_map(token).collect()
}

/// Lets time pass, with a modem that sends at once, until `until`; returns what was sent and when.
fn run(scheduler: &mut Scheduler, mut now: Time, until: Time) -> Vec<(Time, u64)> {
    let mut sent = Vec::new();
    loop {
        while let Some(output) = scheduler.poll_output() {
            match output {
                Output::Transmit { token, airtime_us, .. } => {
                    sent.push((now, token));
                    now += Duration::from_micros(airtime_us);
                    scheduler.handle(now, Input::Done { token, outcome: Outcome::Aired });
                }
                Output::Save { number, .. } => scheduler.handle(now, Input::Saved(number)),
                Output::Sent { .. } | Output::Damaged(_) => {}
            }
        }
        match scheduler.poll_timeout() {
            Some(deadline) if deadline.at <= until => {
                now = now.max(deadline.at);
                scheduler.handle(now, Input::Timeout);
            }
            Some(_) | None => return sent,
        }
    }
}

#[test]
fn frames_go_one_at_a_time_and_the_urgent_first() {
    let mut scheduler = started(config(7, 2));
    let at = Time::ZERO;
    for (token, priority) in
        [(1, Priority::Bulk), (2, Priority::Normal), (3, Priority::Control), (4, Priority::Normal)]
    {
        scheduler.handle(at, Input::Submit(frame(token, 20, priority)));
    }
    assert_eq!(transmitted(&drain(&mut scheduler)), [1], "nothing was more urgent yet");
    scheduler.handle(at, Input::Done { token: 1, outcome: Outcome::Aired });
    let order: Vec<u64> = run(&mut scheduler, at, at + HOUR).into_iter().map(|(_, token)| token).collect();
    assert_eq!(order, [3, 2, 4]);
}

#[test]
fn a_frame_waits_for_its_airtime_and_goes_the_moment_it_is_there() {
    // 0.1 %: 3.6 s an hour. A frame of 222 bytes at SF12 takes 8 s: never. One of 20 bytes 1.3 s: two, and the third
    // when the first has left.
    let mut scheduler = started(config(12, 0));
    scheduler.handle(Time::ZERO, Input::Submit(frame(9, 222, Priority::Control)));
    assert!(drain(&mut scheduler).contains(&Output::Sent { token: 9, fate: Fate::NeverFits }));
    for token in 0..3 {
        scheduler.handle(Time::ZERO, Input::Submit(frame(token, 20, Priority::Control)));
    }
    let sent = run(&mut scheduler, Time::ZERO, Time::ZERO + HOUR * 2);
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[1].0, Time::from_micros(1_318_912));
    assert_eq!(
        sent[2].0,
        Time::from_micros(1_318_912) + Duration::from_secs(10) + HOUR,
        "the first, its lag, an hour"
    );
}

#[test]
fn a_frame_that_the_modem_cuts_is_charged_for_each_packet() {
    let pace = Pace::Lora(Lora::new(7, 125_000, CodingRate::Cr45).unwrap());
    let cutting =
        Config { lead_bytes: 1, packet_bytes_max: 254, ..Config::new(pace, Region::EU868.bands()[2], 508) };
    assert_eq!(cutting.airtime_us(254), pace.airtime_us(255));
    assert_eq!(cutting.airtime_us(255), pace.airtime_us(255) + pace.airtime_us(2));
    assert_eq!(cutting.airtime_us(508), 2 * pace.airtime_us(255));
    assert_eq!(cutting.airtime_us(0), pace.airtime_us(1));
}

#[test]
fn what_expires_is_reported() {
    let mut scheduler = Scheduler::new(Time::ZERO, config(7, 2), Past::Silent);
    let mortal = Frame { expires_at: Time::from_millis(500), ..frame(1, 20, Priority::Normal) };
    scheduler.handle(Time::ZERO, Input::Submit(mortal));
    let deadline = scheduler.poll_timeout().unwrap();
    assert_eq!((deadline.at, deadline.why), (Time::from_millis(500), "a waiting frame expires"));
    scheduler.handle(deadline.at, Input::Timeout);
    assert_eq!(drain(&mut scheduler), [Output::Sent { token: 1, fate: Fate::Expired }]);
}

#[test]
fn a_full_queue_makes_room_for_the_more_urgent_only_and_says_who_left() {
    let mut scheduler = Scheduler::new(Time::ZERO, config(7, 2), Past::Silent);
    for token in 0..RADIO_QUEUE_FRAMES_MAX as u64 {
        scheduler.handle(Time::ZERO, Input::Submit(frame(token, 20, Priority::Normal)));
    }
    assert_eq!(drain(&mut scheduler), []);
    scheduler.handle(Time::ZERO, Input::Submit(frame(100, 20, Priority::Normal)));
    assert_eq!(drain(&mut scheduler), [Output::Sent { token: 100, fate: Fate::QueueFull }]);
    scheduler.handle(Time::ZERO, Input::Submit(frame(101, 20, Priority::Urgent)));
    let last = RADIO_QUEUE_FRAMES_MAX as u64 - 1;
    assert_eq!(drain(&mut scheduler), [Output::Sent { token: last, fate: Fate::Evicted }]);
}

#[test]
fn announces_keep_to_two_percent_while_messages_pass_them() {
    // SF8, 1 %: 36 s an hour, so 720 ms of announces; one of 103 bytes takes 318 ms.
    let mut scheduler = started(config(8, 2));
    for token in 0..8 {
        let announce = Frame { announce: true, ..frame(token, 103, Priority::Urgent) };
        scheduler.handle(Time::ZERO, Input::Submit(announce));
    }
    scheduler.handle(Time::ZERO, Input::Submit(frame(50, 20, Priority::Bulk)));
    let sent = run(&mut scheduler, Time::ZERO, Time::ZERO + HOUR);
    assert_eq!(sent.iter().map(|(_, token)| *token).collect::<Vec<_>>(), [0, 1, 50]);
    let deadline = scheduler.poll_timeout().unwrap();
    assert_eq!(deadline.why, "the share of announces frees");
    assert!(deadline.at > Time::ZERO + HOUR);
}

#[test]
fn few_announces_wait_and_the_most_outdated_leaves() {
    let mut scheduler = Scheduler::new(Time::ZERO, config(8, 2), Past::Silent);
    for token in 0..=RADIO_QUEUE_ANNOUNCES_MAX as u64 {
        let announce = Frame { announce: true, ..frame(token, 103, Priority::Bulk) };
        scheduler.handle(Time::ZERO, Input::Submit(announce));
    }
    assert_eq!(drain(&mut scheduler), [Output::Sent { token: 0, fate: Fate::Evicted }]);
}

#[test]
fn a_slow_radio_announces_rarely_instead_of_never() {
    // SF12, 1 %: an announce takes 4.1 s, an hour's share is 0.72 s: one in six hours.
    let slow = config(12, 2);
    assert_eq!(slow.announce_span(), HOUR * 6);
    let mut scheduler = started(slow);
    for token in 0..3 {
        let announce = Frame { announce: true, ..frame(token, 103, Priority::Normal) };
        scheduler.handle(Time::ZERO, Input::Submit(announce));
    }
    let sent = run(&mut scheduler, Time::ZERO, Time::ZERO + HOUR * 24);
    let gaps: Vec<_> = sent.windows(2).map(|pair| pair[1].0.saturating_since(pair[0].0)).collect();
    assert!(sent.len() == 3 && gaps.iter().all(|gap| *gap > HOUR * 6), "{sent:?}");
}

#[test]
fn bulk_leaves_a_part_of_the_hour_to_the_urgent() {
    let mut scheduler = started(config(12, 2));
    let (mut token, mut now) = (0, Time::ZERO);
    while scheduler.load(now).frees_in.is_zero() {
        token += 1;
        scheduler.handle(now, Input::Submit(frame(token, 100, Priority::Bulk)));
        for sent in transmitted(&drain(&mut scheduler)) {
            now += Duration::from_micros(3_940_352);
            scheduler.handle(now, Input::Done { token: sent, outcome: Outcome::Aired });
        }
    }
    assert_eq!(scheduler.load(now).used_us, 7 * 3_940_352, "28.8 s of 36 s");
    scheduler.handle(now, Input::Submit(frame(1000, 100, Priority::Control)));
    assert_eq!(transmitted(&drain(&mut scheduler)), [1000]);
}

#[test]
fn a_limited_band_is_charged_on_disk_before_anything_is_sent() {
    let mut scheduler = started(Config { durable: true, ..config(7, 2) });
    scheduler.handle(Time::ZERO, Input::Submit(frame(1, 20, Priority::Normal)));
    let outputs = drain(&mut scheduler);
    let [Output::Save { number, bytes }] = &outputs[..] else { panic!("{outputs:?}") };
    scheduler.handle(Time::ZERO, Input::Saved(number + 1));
    assert_eq!(drain(&mut scheduler), [], "another save is not this one");
    scheduler.handle(Time::ZERO, Input::Saved(*number));
    assert_eq!(transmitted(&drain(&mut scheduler)), [1]);
    // Killed right now: the next start knows of it.
    let past = Past::Saved { bytes, wall_ms: None };
    let next = Scheduler::new(Time::ZERO, config(7, 2), past);
    assert_eq!(next.load(Time::ZERO).used_us, 720_000, "a fiftieth of 36 s was reserved");
}

#[test]
fn a_damaged_state_counts_as_used_up_and_is_reported() {
    let mut scheduler =
        Scheduler::new(Time::ZERO, config(7, 2), Past::Saved { bytes: b"?", wall_ms: Some(1) });
    assert!(matches!(drain(&mut scheduler)[..], [Output::Damaged(_)]));
    assert_eq!(scheduler.load(Time::ZERO).used_us, 36_000_000);
}

#[test]
fn a_modem_that_vanishes_keeps_the_charge_and_the_queue() {
    let mut scheduler = started(config(7, 2));
    for token in [1, 2] {
        scheduler.handle(Time::ZERO, Input::Submit(frame(token, 20, Priority::Normal)));
    }
    let _ = drain(&mut scheduler);
    scheduler.handle(Time::ZERO, Input::Down);
    assert_eq!(drain(&mut scheduler), [Output::Sent { token: 1, fate: Fate::Lost }]);
    assert_eq!(scheduler.load(Time::ZERO).used_us, 56_576);
    scheduler.handle(Time::ZERO, Input::Done { token: 1, outcome: Outcome::Aired });
    scheduler.handle(Time::ZERO, Input::Up);
    assert_eq!(transmitted(&drain(&mut scheduler)), [2]);
}

#[test]
fn a_modem_that_never_reports_is_not_waited_for_for_ever() {
    let mut scheduler = started(config(7, 2));
    scheduler.handle(Time::ZERO, Input::Submit(frame(1, 20, Priority::Normal)));
    let deadline = scheduler.poll_timeout().unwrap();
    assert_eq!(deadline.why, "the modem has not reported");
    scheduler.handle(deadline.at, Input::Timeout);
    assert!(drain(&mut scheduler).contains(&Output::Sent { token: 1, fate: Fate::Lost }));
}

#[test]
fn a_frame_that_the_modem_gives_back_is_offered_again_and_costs_nothing() {
    let mut scheduler = started(config(7, 2));
    scheduler.handle(Time::ZERO, Input::Submit(frame(1, 20, Priority::Normal)));
    let mut now = Time::ZERO;
    for _ in 0..2 {
        assert_eq!(transmitted(&drain(&mut scheduler)), [1]);
        scheduler.handle(now, Input::Done { token: 1, outcome: Outcome::NotAired });
        assert_eq!(scheduler.load(now).used_us, 0);
        now = scheduler.poll_timeout().unwrap().at;
        scheduler.handle(now, Input::Timeout);
    }
    assert_eq!(transmitted(&drain(&mut scheduler)), [1]);
    scheduler.handle(now, Input::Done { token: 1, outcome: Outcome::NotAired });
    assert_eq!(drain(&mut scheduler), [Output::Sent { token: 1, fate: Fate::Refused }]);
}

#[test]
fn a_busy_channel_holds_frames_back_but_not_for_ever() {
    let mut scheduler = started(config(7, 2));
    scheduler.handle(Time::ZERO, Input::Busy { until: Time::MAX });
    scheduler.handle(Time::ZERO, Input::Submit(frame(1, 20, Priority::Normal)));
    assert_eq!(transmitted(&drain(&mut scheduler)), []);
    let deadline = scheduler.poll_timeout().unwrap();
    assert_eq!((deadline.at, deadline.why), (Time::from_millis(10_000), "the channel was busy"));
    scheduler.handle(deadline.at, Input::Timeout);
    assert_eq!(transmitted(&drain(&mut scheduler)), [1]);
}

/// One step of a hostile day.
#[derive(Clone, Copy, Debug)]
enum Step {
    Submit { bytes: usize, priority: u8, announce: bool, life_s: u64 },
    Pass { ms: u64 },
    Finish { outcome: u8, late_ms: u64 },
    Unplug,
    Plug,
    Busy { ms: u64 },
    Cancel { back: u64 },
    WriteDisk,
    Kill { down_s: u64, clock: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..240, 0_u8..4, any::<bool>(), 1_u64..8000).prop_map(|(bytes, priority, announce, life_s)| {
            Step::Submit { bytes, priority, announce, life_s }
        }),
        4 => (0_u64..600_000).prop_map(|ms| Step::Pass { ms }),
        12 => (0_u8..8, 0_u64..9_000).prop_map(|(outcome, late_ms)| Step::Finish { outcome, late_ms }),
        1 => Just(Step::Unplug),
        2 => Just(Step::Plug),
        1 => (0_u64..20_000).prop_map(|ms| Step::Busy { ms }),
        1 => (0_u64..5).prop_map(|back| Step::Cancel { back }),
        8 => Just(Step::WriteDisk),
        1 => (0_u64..7200, 0_u8..3).prop_map(|(down_s, clock)| Step::Kill { down_s, clock }),
    ];
    proptest::collection::vec(step, 0..400)
}

/// A scheduler with its modem, its disk and the true time.
struct World {
    config: Config,
    scheduler: Scheduler,
    /// True time, and the true time at which this process started.
    real: Time,
    started: Time,
    wall_offset_ms: u64,
    disk: Option<Bytes>,
    writing: Option<(u64, Bytes)>,
    in_modem: Option<(u64, u64)>,
    /// True start, end and kind of everything on the air.
    aired: Vec<(Time, Time, bool)>,
    announces: BTreeSet<u64>,
    next_token: u64,
    open: BTreeSet<u64>,
}

impl World {
    fn new(config: Config) -> Self {
        let scheduler = Scheduler::new(Time::ZERO, config.clone(), Past::Silent);
        let mut world = Self {
            config,
            scheduler,
            real: Time::ZERO,
            started: Time::ZERO,
            wall_offset_ms: 1_000_000_000,
            disk: None,
            writing: None,
            in_modem: None,
            aired: Vec::new(),
            announces: BTreeSet::new(),
            next_token: 0,
            open: BTreeSet::new(),
        };
        world.input(Input::Wall(Some(world.wall_ms())));
        world.input(Input::Up);
        world
    }

    fn now(&self) -> Time {
        Time::ZERO + self.real.saturating_since(self.started)
    }

    fn wall_ms(&self) -> u64 {
        self.real.as_micros() / 1000 + self.wall_offset_ms
    }

    fn input(&mut self, input: Input) {
        self.scheduler.handle(self.now(), input);
        for output in drain(&mut self.scheduler) {
            match output {
                Output::Transmit { token, airtime_us, .. } => {
                    assert_eq!(self.in_modem, None, "one frame at a time");
                    self.in_modem = Some((token, airtime_us));
                }
                Output::Sent { token, .. } => {
                    assert!(self.open.remove(&token), "one fate per frame");
                }
                Output::Save { number, bytes } => self.writing = Some((number, bytes)),
                Output::Damaged(damage) => panic!("{damage}"),
            }
        }
    }

    /// Whatever is in the modem goes on the air, ending `late` after the earliest possible moment.
    fn put_on_air(&mut self, late: Duration) -> Option<u64> {
        let (token, airtime_us) = self.in_modem.take()?;
        let start = self.real + late;
        let end = start + Duration::from_micros(airtime_us);
        self.aired.push((start, end, self.announces.contains(&token)));
        Some(token)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit { bytes, priority, announce, life_s } => {
                let token = self.next_token;
                self.next_token += 1;
                self.open.insert(token);
                if announce {
                    self.announces.insert(token);
                }
                let expires_at = self.now() + Duration::from_secs(life_s);
                let priority = Priority::from_code(priority).unwrap();
                self.input(Input::Submit(Frame { announce, expires_at, ..frame(token, bytes, priority) }));
            }
            Step::Pass { ms } => self.pass(Duration::from_millis(ms)),
            // A modem may report up to the lag before the true end.
            Step::Finish { outcome, late_ms } => self.finish(outcome, Duration::from_millis(late_ms)),
            Step::Unplug => {
                // It has its own power and goes on sending.
                let _ = self.put_on_air(Duration::ZERO);
                self.input(Input::Down);
            }
            Step::Plug => self.input(Input::Up),
            Step::Busy { ms } => {
                let until = self.now() + Duration::from_millis(ms);
                self.input(Input::Busy { until });
            }
            Step::Cancel { back } => self.input(Input::Cancel(self.next_token.saturating_sub(back))),
            Step::WriteDisk => {
                if let Some((number, bytes)) = self.writing.take() {
                    self.disk = Some(bytes);
                    self.input(Input::Saved(number));
                }
            }
            Step::Kill { down_s, clock } => self.kill(down_s, clock),
        }
    }

    fn finish(&mut self, outcome: u8, late: Duration) {
        let Some((token, airtime_us)) = self.in_modem else { return };
        if outcome == 0 {
            self.in_modem = None;
            return self.input(Input::Done { token, outcome: Outcome::NotAired });
        }
        let _ = self.put_on_air(late);
        self.real += Duration::from_micros(airtime_us);
        let outcome = if outcome == 1 { Outcome::Unknown } else { Outcome::Aired };
        self.input(Input::Done { token, outcome });
    }

    /// Time passes, deadlines are kept, and the modem finishes what is overdue.
    fn pass(&mut self, time: Duration) {
        let end = self.real + time;
        while let Some(deadline) = self.scheduler.poll_timeout() {
            let at = self.started + deadline.at.saturating_since(Time::ZERO);
            if at > end {
                break;
            }
            self.real = self.real.max(at);
            if deadline.why == "the modem has not reported"
                && let Some((token, airtime_us)) = self.in_modem.take()
            {
                // So slow that the scheduler gives up on it: it has just now ended.
                let start = self.real - Duration::from_micros(airtime_us);
                self.aired.push((start, self.real, self.announces.contains(&token)));
            }
            self.input(Input::Timeout);
        }
        self.real = end;
    }

    fn kill(&mut self, down_s: u64, clock: u8) {
        let _ = self.put_on_air(Duration::ZERO);
        self.open.clear();
        self.writing = None;
        self.real += Duration::from_secs(down_s);
        self.started = self.real;
        let wall_ms = match clock {
            0 => None,
            1 => Some(self.wall_ms()),
            _ => {
                self.wall_offset_ms /= 2; // jumped back
                Some(self.wall_ms())
            }
        };
        let config = self.config.clone();
        let past = match &self.disk {
            Some(bytes) => Past::Saved { bytes, wall_ms },
            None => Past::Silent,
        };
        self.scheduler = Scheduler::new(Time::ZERO, config, past);
        self.input(Input::Wall(wall_ms));
        self.input(Input::Up);
    }

    /// The most airtime in any stretch of `span`, microseconds.
    fn worst_us(&self, span: Duration, announces_only: bool) -> u64 {
        let aired: Vec<_> = self.aired.iter().filter(|(.., announce)| *announce || !announces_only).collect();
        // The worst stretch begins at a start or ends at an end.
        let begins = aired.iter().flat_map(|(start, end, _)| [*start, *end - span]);
        let within = |begin: Time| {
            let overlap = |(start, end, _): &&(Time, Time, bool)| {
                let (low, high) = ((*start).max(begin), (*end).min(begin + span));
                u64::try_from(high.saturating_since(low).as_micros()).unwrap()
            };
            aired.iter().map(overlap).sum::<u64>()
        };
        begins.map(within).max().unwrap_or(0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_hour_is_ever_over_budget_whatever_happens(steps in steps(), sf in 7_u8..=12, band in 0_usize..3) {
        let config = Config { durable: true, ..config(sf, band) };
        let mut world = World::new(config.clone());
        for step in steps {
            world.step(step);
            let stats = world.scheduler.stats();
            let ended = stats.aired + stats.assumed + stats.lost + stats.refused + stats.expired + stats.evicted
                + stats.queue_full + stats.unsendable + stats.cancelled;
            prop_assert_eq!(ended + world.open.len() as u64, stats.submitted, "nothing is lost silently");
        }
        let span = config.announce_span();
        let announce_budget_us = config.band.budget_us() / 50 * (span.as_secs() / 3600);
        prop_assert!(world.worst_us(HOUR, false) <= config.band.budget_us());
        prop_assert!(world.worst_us(span, true) <= announce_budget_us.max(1));
    }

    #[test]
    fn a_frame_that_may_go_is_never_kept_back(
        frames in proptest::collection::vec((1_usize..200, 0_u8..4, 0_u64..300), 1..80),
    ) {
        let mut scheduler = started(config(9, 2));
        let (mut now, mut busy) = (Time::ZERO, None);
        for (token, (bytes, priority, pause_s)) in frames.into_iter().enumerate() {
            let priority = Priority::from_code(priority).unwrap();
            scheduler.handle(now, Input::Submit(frame(token as u64, bytes, priority)));
            for output in drain(&mut scheduler) {
                if let Output::Transmit { token, airtime_us, .. } = output {
                    busy = Some((token, airtime_us));
                }
            }
            if busy.is_none() {
                let load = scheduler.load(now);
                let waiting = load.queued_frames.iter().sum::<usize>() > 0;
                prop_assert!(!waiting || !load.frees_in.is_zero(), "the modem idles without a reason");
            }
            now += Duration::from_secs(pause_s);
            if let Some((token, airtime_us)) = busy.filter(|_| pause_s % 2 == 0) {
                now += Duration::from_micros(airtime_us);
                busy = None;
                scheduler.handle(now, Input::Done { token, outcome: Outcome::Aired });
                for output in drain(&mut scheduler) {
                    if let Output::Transmit { token, airtime_us, .. } = output {
                        busy = Some((token, airtime_us));
                    }
                }
            }
        }
    }
}
