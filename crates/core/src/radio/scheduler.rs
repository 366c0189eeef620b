//! Between the mesh and a modem: which frame goes next, and when the law allows it.
//!
//! ```text
//!  mesh ── Submit ──▶ [ four lanes ] ── within duty, one at a time ──▶ Transmit ──▶ modem, its CSMA
//!       ◀── Sent ────      ▲                                             │
//!                          └── ledger ◀── Done ──────────────────────────┘
//! ```
//!
//! Three promises (requirement RA1):
//!
//! - **Never over.** A frame is charged to the ledger before it goes out, and where the duty cycle is limited the charge
//!   is on disk before: [`Output::Save`], then [`Input::Saved`], then [`Output::Transmit`].
//! - **Never silent.** Every submitted frame ends in exactly one [`Output::Sent`] with its [`Fate`].
//! - **Nothing idle.** When the modem is free and the most urgent frame that announces' share lets through fits the
//!   budget, it goes. A less urgent frame never takes the airtime a more urgent one waits for.
//!
//! Announces keep to a share of the budget. Where one announce takes more than an hour's share, the share is counted over
//! as many hours as it needs, so that announces still happen, rarely.

use std::collections::VecDeque;

use bytes::Bytes;
use core::time::Duration;

use super::airtime::Pace;
use super::band::{Band, DUTY_UNLIMITED_PPM};
use super::ledger::{Charge, DUTY_SPAN, Ledger, Reserve};
use super::queue::{Frame, Priority, Queue, Waiting};
use crate::limits::{RADIO_BACKOFF_MAX, RADIO_MODEM_REPORT_MAX, RADIO_MODEM_TRIES_MAX};
use crate::time::{Deadline, Time};
use crate::wire::Invalid;

/// The announce that must fit its share, bytes: the longest the mesh sends.
const ANNOUNCE_BYTES: usize = 103;
/// Most hours an announce's share is saved up over.
const ANNOUNCE_HOURS_MAX: u64 = 7 * 24;
/// The reserve written ahead is this part of the hour's budget, or one frame if that is more.
const RESERVE_PARTS: u64 = 50;
/// How long to leave a modem alone that just gave a frame back.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// What a scheduler is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long frames take.
    pub pace: Pace,
    /// Bytes the modem itself puts in front of each packet on the air.
    pub lead_bytes: usize,
    /// Bytes of a frame that fit one packet; the modem cuts longer frames into several.
    pub packet_bytes_max: usize,
    /// Largest frame the modem takes, bytes without the lead.
    pub frame_bytes_max: usize,
    /// The band whose rule is kept.
    pub band: Band,
    /// Share of the budget for announces, in millionths.
    pub announce_share_ppm: u32,
    /// Share of the budget that frames of each priority may fill up, in millionths, least urgent first. What is under
    /// the whole stays free for more urgent frames. Must not fall from one to the next.
    pub ceilings_ppm: [u32; 4],
    /// Whether charges are written down before frames go out. Only simulations and tests do without.
    pub durable: bool,
    /// How long after it reported a frame as sent, or vanished, a modem may still be sending it.
    pub lag: Duration,
}

impl Config {
    /// Usual settings: announces get 2 %, bulk may fill 80 % and messages 95 % of the budget, charges are durable, and a
    /// modem is believed to be done 10 s after it says so.
    #[must_use]
    pub const fn new(pace: Pace, band: Band, frame_bytes_max: usize) -> Self {
        Self {
            pace,
            lead_bytes: 0,
            packet_bytes_max: usize::MAX,
            frame_bytes_max,
            band,
            announce_share_ppm: 20_000,
            ceilings_ppm: [800_000, 950_000, DUTY_UNLIMITED_PPM, DUTY_UNLIMITED_PPM],
            durable: true,
            lag: Duration::from_secs(10),
        }
    }

    /// Time on air of a frame with all its packets, microseconds.
    #[must_use]
    pub fn airtime_us(&self, frame_bytes: usize) -> u64 {
        let packet_bytes = self.packet_bytes_max.max(1);
        let (full, rest) = (frame_bytes / packet_bytes, frame_bytes % packet_bytes);
        let packet_us = |bytes: usize| self.pace.airtime_us(bytes.saturating_add(self.lead_bytes));
        let full_us = if full == 0 { 0 } else { packet_us(packet_bytes).saturating_mul(full as u64) };
        let rest_us = if full > 0 && rest == 0 { 0 } else { packet_us(rest) };
        full_us.saturating_add(rest_us)
    }

    /// Over which time announces keep to their share: one hour, or as many as one announce needs.
    #[must_use]
    pub fn announce_span(&self) -> Duration {
        DUTY_SPAN * u32::try_from(self.announce_hours()).unwrap_or(1)
    }

    fn announce_hours(&self) -> u64 {
        let hourly_us = share(self.band.budget_us(), self.announce_share_ppm).max(1);
        self.airtime_us(ANNOUNCE_BYTES).div_ceil(hourly_us).clamp(1, ANNOUNCE_HOURS_MAX)
    }

    fn announce_budget_us(&self) -> u64 {
        share(self.band.budget_us(), self.announce_share_ppm).saturating_mul(self.announce_hours())
    }

    fn ceiling_us(&self, priority: Priority) -> u64 {
        share(self.band.budget_us(), self.ceilings_ppm[priority.lane()])
    }
}

/// What is known of the transmitter's last hour when a scheduler starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past<'a> {
    /// It was silent: it is new here.
    Silent,
    /// It was used, and what was saved is lost.
    Lost,
    /// The last bytes that were put out as [`Output::Save`] and written, and the wall clock in milliseconds since 1970
    /// if it is known to be right.
    Saved {
        /// The bytes.
        bytes: &'a [u8],
        /// The wall clock now.
        wall_ms: Option<u64>,
    },
}

/// How a frame's transmission ended, as far as the driver knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The modem says it was sent.
    Aired,
    /// The modem never says; its time is over.
    Assumed,
    /// It was certainly not sent: the modem had no room for it.
    NotAired,
    /// Nobody knows.
    Unknown,
}

/// What can happen to a scheduler.
#[derive(Clone, Debug)]
pub enum Input {
    /// A frame to send.
    Submit(Frame),
    /// A queued frame is not wanted any more. One that is in the modem already is sent.
    Cancel(u64),
    /// No queued frame is wanted any more: the radio is being closed.
    CancelAll,
    /// The modem is there and set up.
    Up,
    /// The modem is gone.
    Down,
    /// What became of the frame that was transmitted last.
    Done {
        /// The frame's token.
        token: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// The channel is taken until then: something is being received, or the modem asks for patience.
    Busy {
        /// When to try again; at most [`RADIO_BACKOFF_MAX`] from now.
        until: Time,
    },
    /// The state with this number is on disk.
    Saved(u64),
    /// The wall clock, milliseconds since 1970; `None` while it is not known to be right.
    Wall(Option<u64>),
    /// A deadline passed.
    Timeout,
}

/// How a submitted frame ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// On the air, says the modem.
    Aired,
    /// Handed to a modem that does not report, and its time is over.
    Assumed,
    /// In the modem when that failed or vanished.
    Lost,
    /// The modem gave it back [`RADIO_MODEM_TRIES_MAX`] times.
    Refused,
    /// Its time was over before there was airtime for it.
    Expired,
    /// It had to make room for a more urgent one.
    Evicted,
    /// The queue is full of frames as urgent as this one.
    QueueFull,
    /// Larger than the modem takes.
    TooLong,
    /// It alone would take more than its part of an hour's budget.
    NeverFits,
    /// Cancelled in time.
    Cancelled,
}

impl Fate {
    /// Whether it was put on the air, as far as can be known.
    #[must_use]
    pub const fn aired(self) -> bool {
        matches!(self, Self::Aired | Self::Assumed)
    }
}

/// What a scheduler wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Hand this frame to the modem and report with [`Input::Done`].
    Transmit {
        /// The frame's token.
        token: u64,
        /// Its bytes.
        bytes: Bytes,
        /// How long it is on the air, microseconds.
        airtime_us: u64,
    },
    /// A submitted frame ended.
    Sent {
        /// Its token.
        token: u64,
        /// How.
        fate: Fate,
    },
    /// Write these bytes where a crash cannot take them, then say [`Input::Saved`].
    Save {
        /// The number to confirm.
        number: u64,
        /// What to write; replaces what was written before.
        bytes: Bytes,
    },
    /// The saved state could not be read; the budget counts as used up for an hour.
    Damaged(Invalid),
}

/// Counters of a scheduler. `submitted` is the sum of all that follow up to `cancelled`, and of what is still here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames submitted.
    pub submitted: u64,
    /// Frames the modem reported as sent.
    pub aired: u64,
    /// Frames assumed to be sent.
    pub assumed: u64,
    /// Frames lost in the modem.
    pub lost: u64,
    /// Frames the modem did not take.
    pub refused: u64,
    /// Frames that expired here.
    pub expired: u64,
    /// Frames evicted by more urgent ones.
    pub evicted: u64,
    /// Frames turned away from a full queue.
    pub queue_full: u64,
    /// Frames that no budget or modem could take.
    pub unsendable: u64,
    /// Frames cancelled.
    pub cancelled: u64,
    /// Airtime charged since the start, microseconds.
    pub charged_us: u64,
    /// Of it, announces, microseconds.
    pub charged_announces_us: u64,
    /// Writes asked for.
    pub saves: u64,
}

/// A view of a scheduler for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Frames waiting, least urgent first.
    pub queued_frames: [usize; 4],
    /// Bytes waiting.
    pub queued_bytes: usize,
    /// Airtime used in the band in the last hour, microseconds.
    pub used_us: u64,
    /// Airtime an hour may hold, microseconds.
    pub budget_us: u64,
    /// How long until the next waiting frame fits the budget; zero if nothing waits for it.
    pub frees_in: Duration,
}

/// The frame that the modem has.
#[derive(Debug)]
struct InModem {
    waiting: Waiting,
    charge: Charge,
    overdue_at: Time,
}

/// Charges are only allowed up to what was written down ahead.
#[derive(Debug, Default)]
struct WrittenAhead {
    left: Reserve,
    /// The save that is being written, and what may be charged once it is.
    saving: Option<(u64, Reserve)>,
    number: u64,
}

/// One radio's scheduler. See the [module](self) for what it promises.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    ledger: Ledger,
    queue: Queue,
    in_modem: Option<InModem>,
    ahead: WrittenAhead,
    up: bool,
    quiet_until: Time,
    wall: Option<(Time, u64)>,
    wake: Option<Deadline>,
    outputs: VecDeque<Output>,
    stats: Stats,
}

/// What may be sent now.
enum Choice {
    Send(Priority, usize),
    Wait(Deadline),
    Nothing,
}

impl Scheduler {
    /// A scheduler whose modem is not there yet.
    #[must_use]
    pub fn new(now: Time, config: Config, past: Past<'_>) -> Self {
        let (bands, span) = (core::slice::from_ref(&config.band), config.announce_span());
        let mut outputs = VecDeque::new();
        let (ledger, wall_ms) = match past {
            Past::Silent => (Ledger::fresh(span), None),
            Past::Lost => (Ledger::spent(now, bands, span), None),
            Past::Saved { bytes, wall_ms } => {
                let restored = Ledger::restore(bytes, now, wall_ms, config.lag, bands, span);
                let ledger = restored.unwrap_or_else(|damage| {
                    outputs.push_back(Output::Damaged(damage));
                    Ledger::spent(now, bands, span)
                });
                (ledger, wall_ms)
            }
        };
        Self {
            config,
            ledger,
            queue: Queue::default(),
            in_modem: None,
            ahead: WrittenAhead::default(),
            up: false,
            quiet_until: Time::ZERO,
            wall: wall_ms.map(|ms| (now, ms)),
            wake: None,
            outputs,
            stats: Stats::default(),
        }
    }

    /// Its settings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Counters so far.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// The state of queue and budget.
    #[must_use]
    pub fn load(&self, now: Time) -> Load {
        let frees_in = match self.choose(now) {
            Choice::Wait(deadline) => deadline.at.saturating_since(now),
            Choice::Send(..) | Choice::Nothing => Duration::ZERO,
        };
        Load {
            queued_frames: self.queue.frames(),
            queued_bytes: self.queue.bytes(),
            used_us: self.ledger.used_us(now, self.config.band),
            budget_us: self.config.band.budget_us(),
            frees_in,
        }
    }

    /// A hint for whoever wonders whether to send here: when a frame of `bytes` submitted now would be on the air at the
    /// earliest, behind all that is as urgent. [`Time::MAX`] if that cannot be said.
    #[must_use]
    pub fn would_go_at(&self, now: Time, priority: Priority, bytes: usize) -> Time {
        let ahead_us = self.queue.backlog_us(priority);
        let all_us = ahead_us.saturating_add(self.config.airtime_us(bytes));
        let ceiling_us = self.config.ceiling_us(priority);
        match self.ledger.fits_at(now, self.config.band, all_us, ceiling_us) {
            Some(at) => at.max(self.quiet_until) + Duration::from_micros(ahead_us),
            None => Time::MAX,
        }
    }

    /// Ends the scheduler and returns the state to write: without a reserve, so a clean restart costs no budget. Nothing
    /// may be transmitted afterwards.
    #[must_use]
    pub fn finish(self, now: Time) -> Bytes {
        self.ledger.save(now, self.wall_ms(now), Reserve::default())
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Submit(frame) => self.submit(frame),
            Input::Cancel(token) => {
                if let Some(frame) = self.queue.cancel(token) {
                    self.report(frame.token, Fate::Cancelled);
                }
            }
            Input::CancelAll => {
                while let Some(frame) = self.queue.pop() {
                    self.report(frame.token, Fate::Cancelled);
                }
            }
            Input::Up => self.up = true,
            Input::Down => {
                self.up = false;
                self.settle(now, Fate::Lost);
            }
            Input::Done { token, outcome } => self.done(now, token, outcome),
            Input::Busy { until } => {
                self.quiet_until = self.quiet_until.max(until.min(now + RADIO_BACKOFF_MAX));
            }
            Input::Saved(number) => {
                if let Some((_, granted)) = self.ahead.saving.take_if(|(saving, _)| *saving == number) {
                    self.ahead.left = granted;
                }
            }
            Input::Wall(wall_ms) => self.wall = wall_ms.map(|ms| (now, ms)),
            Input::Timeout => {}
        }
        self.advance(now);
    }

    /// The next thing to do; drain to `None` after every [`Scheduler::handle`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Scheduler::handle`] with [`Input::Timeout`].
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Deadline> {
        self.wake
    }

    fn submit(&mut self, frame: Frame) {
        self.stats.submitted += 1;
        let airtime_us = self.config.airtime_us(frame.bytes.len());
        if frame.bytes.len() > self.config.frame_bytes_max {
            return self.report(frame.token, Fate::TooLong);
        }
        let over_share = frame.announce && airtime_us > self.config.announce_budget_us();
        if airtime_us > self.config.ceiling_us(frame.priority) || over_share {
            return self.report(frame.token, Fate::NeverFits);
        }
        match self.queue.push(Waiting { frame, airtime_us, attempts: 0 }) {
            Ok(evicted) => {
                for frame in evicted {
                    self.report(frame.token, Fate::Evicted);
                }
            }
            Err(frame) => self.report(frame.token, Fate::QueueFull),
        }
    }

    fn done(&mut self, now: Time, token: u64, outcome: Outcome) {
        // A report for a frame that was settled already (the modem was unplugged meanwhile) says nothing new.
        let Some(current) = self.in_modem.take_if(|current| current.waiting.frame.token == token) else {
            return;
        };
        if outcome != Outcome::NotAired {
            self.in_modem = Some(current);
            let fate = match outcome {
                Outcome::Aired => Fate::Aired,
                Outcome::Assumed => Fate::Assumed,
                Outcome::Unknown | Outcome::NotAired => Fate::Lost,
            };
            return self.settle(now, fate);
        }
        let InModem { mut waiting, charge, .. } = current;
        self.ledger.refund(charge);
        waiting.attempts += 1;
        if waiting.attempts < RADIO_MODEM_TRIES_MAX {
            self.quiet_until = self.quiet_until.max(now + REFUSED_PAUSE);
            self.queue.put_back(waiting);
        } else {
            self.report(waiting.frame.token, Fate::Refused);
        }
    }

    /// The frame in the modem, if any, is over: charged, and reported.
    fn settle(&mut self, now: Time, fate: Fate) {
        if let Some(InModem { waiting, charge, .. }) = self.in_modem.take() {
            self.ledger.settle(now, charge, now + self.config.lag);
            self.report(waiting.frame.token, fate);
        }
    }

    /// Everything that time and room allow now; sets the next deadline.
    fn advance(&mut self, now: Time) {
        if self.in_modem.as_ref().is_some_and(|current| current.overdue_at <= now) {
            self.settle(now, Fate::Lost);
        }
        while let Some(frame) = self.queue.expired(now) {
            self.report(frame.token, Fate::Expired);
        }
        let next = self.send_next(now);
        let expiry = self.queue.next_expiry().map(|at| Deadline { at, why: "a waiting frame expires" });
        self.wake = Deadline::earliest(next, expiry);
    }

    /// Sends a frame if one may go; else says until when to wait, if only time is missing.
    fn send_next(&mut self, now: Time) -> Option<Deadline> {
        if let Some(current) = &self.in_modem {
            return Some(Deadline { at: current.overdue_at, why: "the modem has not reported" });
        }
        if !self.up || self.ahead.saving.is_some() {
            return None;
        }
        if now < self.quiet_until {
            let waiting = self.queue.next_expiry().is_some();
            return waiting.then_some(Deadline { at: self.quiet_until, why: "the channel was busy" });
        }
        match self.choose(now) {
            Choice::Nothing => None,
            Choice::Wait(deadline) => Some(deadline),
            Choice::Send(priority, index) => {
                let waiting = self.queue.lane(priority).nth(index)?;
                let announces_us = if waiting.frame.announce { waiting.airtime_us } else { 0 };
                let needed = Reserve { airtime_us: waiting.airtime_us, announces_us };
                if self.must_save(needed) {
                    self.save(now, needed);
                    return None;
                }
                let waiting = self.queue.take(priority, index)?;
                Some(self.transmit(now, waiting))
            }
        }
    }

    /// The most urgent frame that may go, or what it waits for. Frames that wait for announces' share are passed over;
    /// one that waits for the band's budget is not, or smaller ones would use it up first.
    fn choose(&self, now: Time) -> Choice {
        let mut share_frees: Option<Deadline> = None;
        for priority in Priority::ALL.into_iter().rev() {
            for (index, waiting) in self.queue.lane(priority).enumerate() {
                if waiting.frame.announce {
                    let budget_us = self.config.announce_budget_us();
                    match self.ledger.announce_fits_at(now, waiting.airtime_us, budget_us) {
                        Some(at) if at <= now => {}
                        Some(at) => {
                            let frees = Deadline { at, why: "the share of announces frees" };
                            share_frees = Deadline::earliest(share_frees, Some(frees));
                            continue;
                        }
                        None => continue,
                    }
                }
                let ceiling_us = self.config.ceiling_us(priority);
                match self.ledger.fits_at(now, self.config.band, waiting.airtime_us, ceiling_us) {
                    Some(at) if at <= now => return Choice::Send(priority, index),
                    Some(at) => {
                        let frees = Deadline { at, why: "the duty cycle frees" };
                        return Deadline::earliest(share_frees, Some(frees))
                            .map_or(Choice::Nothing, Choice::Wait);
                    }
                    None => {}
                }
            }
        }
        share_frees.map_or(Choice::Nothing, Choice::Wait)
    }

    const fn must_save(&self, needed: Reserve) -> bool {
        let left = self.ahead.left;
        let enough = needed.airtime_us <= left.airtime_us && needed.announces_us <= left.announces_us;
        self.config.durable && !self.config.band.is_unlimited() && !enough
    }

    /// Writes the state down with a reserve for this frame and some after it. Of announces, which are rare and have
    /// little, only this one: after a crash the reserve counts as used.
    fn save(&mut self, now: Time, needed: Reserve) {
        let airtime_us = needed.airtime_us.max(self.config.band.budget_us() / RESERVE_PARTS);
        let reserve = Reserve { airtime_us, ..needed };
        self.ahead.number += 1;
        self.ahead.saving = Some((self.ahead.number, reserve));
        // What is being written replaces what was: the old reserve is not good any more.
        self.ahead.left = Reserve::default();
        self.stats.saves += 1;
        let bytes = self.ledger.save(now, self.wall_ms(now), reserve);
        self.outputs.push_back(Output::Save { number: self.ahead.number, bytes });
    }

    fn transmit(&mut self, now: Time, waiting: Waiting) -> Deadline {
        let Waiting { frame, airtime_us, .. } = &waiting;
        let (airtime_us, announce) = (*airtime_us, frame.announce);
        let left = &mut self.ahead.left;
        left.airtime_us = left.airtime_us.saturating_sub(airtime_us);
        self.stats.charged_us += airtime_us;
        if announce {
            left.announces_us = left.announces_us.saturating_sub(airtime_us);
            self.stats.charged_announces_us += airtime_us;
        }
        let charge = self.ledger.charge(self.config.band, airtime_us, announce);
        let (token, bytes) = (frame.token, frame.bytes.clone());
        self.outputs.push_back(Output::Transmit { token, bytes, airtime_us });
        let overdue_at = now + Duration::from_micros(airtime_us) + RADIO_MODEM_REPORT_MAX;
        self.in_modem = Some(InModem { waiting, charge, overdue_at });
        Deadline { at: overdue_at, why: "the modem has not reported" }
    }

    fn report(&mut self, token: u64, fate: Fate) {
        let counter = match fate {
            Fate::Aired => &mut self.stats.aired,
            Fate::Assumed => &mut self.stats.assumed,
            Fate::Lost => &mut self.stats.lost,
            Fate::Refused => &mut self.stats.refused,
            Fate::Expired => &mut self.stats.expired,
            Fate::Evicted => &mut self.stats.evicted,
            Fate::QueueFull => &mut self.stats.queue_full,
            Fate::TooLong | Fate::NeverFits => &mut self.stats.unsendable,
            Fate::Cancelled => &mut self.stats.cancelled,
        };
        *counter += 1;
        self.outputs.push_back(Output::Sent { token, fate });
    }

    fn wall_ms(&self, now: Time) -> Option<u64> {
        let (then, ms) = self.wall?;
        let elapsed_ms = u64::try_from(now.saturating_since(then).as_millis()).unwrap_or(u64::MAX);
        Some(ms.saturating_add(elapsed_ms))
    }
}

/// `ppm` millionths of an airtime.
fn share(airtime_us: u64, ppm: u32) -> u64 {
    let part = u128::from(airtime_us) * u128::from(ppm.min(DUTY_UNLIMITED_PPM)) / 1_000_000;
    u64::try_from(part).unwrap_or(u64::MAX)
}
