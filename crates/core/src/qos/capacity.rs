//! How much a link carries, learnt from what arrives and how long that takes; and how much may be under way so that the
//! bottleneck neither idles nor holds a long queue.
//!
//! # The rule
//!
//! The shortest round trip of the last ten seconds is taken for the way itself (*base*); what a packet takes longer than
//! that it spent in a queue. The bytes under way (*window*) are steered so that this queue is a fixed time, 4 ms unless
//! configured: always something to send for the bottleneck, and short enough for a voice. Each *round* is one decision:
//! wait until packets sent after the last decision are acknowledged, take the shortest queueing among them, and scale the
//! window by what is wanted over what was seen (the update is that of FAST TCP, Wei et al., IEEE/ACM ToN 14(6), 2006;
//! the fixed target in time is that of LEDBAT, RFC 6817, and Swift, Kumar et al., SIGCOMM 2020).
//!
//! - A link that got faster shows no queue at all: after two such rounds the window grows by larger and larger steps.
//! - A link that got slower shows in the first round; one decision brings the window down.
//! - A standing queue hides the base, so every five seconds the window is lowered for one round to look at it.
//! - Where the queue stays long although the window is down to what the bare way holds, somebody else fills it, and
//!   politeness would be starvation: the window then follows losses until the queue was seen short again.
//! - Losses without a queue are the medium's; they cost little. Losses with one, or many, cost as usual.
//! - A round trip passes the queues of both directions. While both are full it cannot tell whose is long: one would yield
//!   to the other's. Then the rate that was delivered is sent instead, as long as that leaves the queues short: by what the
//!   far end says of this direction ([`super::depth`]), or by what can be known without ([`super::cadence`]).

use core::time::Duration;

use super::cadence::{Cadence, Wait};
use super::depth::Depth;
use super::sounding::Told;
use crate::time::Time;

/// How long the shortest round trip is believed.
const BASE_MEMORY: Duration = Duration::from_secs(10);
/// How long the base may go unseen before the queue is drained to look at it.
const DRAIN_EVERY: Duration = Duration::from_secs(5);
/// Part of the correction made in one round: less than all, because what was measured is never exact.
const STEP: f64 = 0.8;
/// How much a window grows in a round at first, and most it does later.
const GROWTH_START: f64 = 2.0;
const GROWTH: f64 = 1.25;
/// Least growth of a link that shows no queue for the first, second, .. round in a row, and most.
const GROWTH_IDLE: [f64; 4] = [1.0, 1.12, 1.25, 1.5];
const GROWTH_IDLE_MOST: f64 = 1.5;
/// Losses below this part are the medium's, not a queue's that ran over (the bound is BBRv2's).
const LOSS_TOLERATED: f64 = 0.02;
/// Rounds with a long queue at the lowest window, and how long they must have lasted, after which it is somebody else's. A
/// processor that was busy elsewhere for a moment looks the same, but not for so long.
const FOREIGN_ROUNDS: u32 = 4;
const FOREIGN_AFTER: Duration = Duration::from_millis(150);
/// How soon it is looked at whether the queue really was somebody else's.
const FOREIGN_DOUBTED_AFTER: Duration = Duration::from_millis(500);
/// How much longer both directions' queues may be together than one alone, in halves, while the window is steered by
/// them. Twice as long, and whoever waits in both waits too long; a fifth longer, and the link idles.
const BOTH_WAYS_HALVES: u32 = 3;
/// Both directions are steered by rate from below this many times the target on, and until it was longer than that many for
/// [`FOREIGN_AFTER`]. Enough may be under way for the latter.
const CRUISE_BELOW: f64 = 2.0;
const CRUISE_MOST: f64 = 3.0;
/// Least time in which the smallest window is sent while the far end says how long packets wait, microseconds.
const TOLD_LEAST_IN_US: f64 = 40_000.0;
/// Smallest window, in packets: enough that acknowledgements keep coming.
const WINDOW_PACKETS_MIN: u64 = 4;

/// What an estimator is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long a packet should wait at the bottleneck. Longer costs latency, shorter costs rate where round trips vary.
    pub delay_target: Duration,
    /// Bytes of a full packet.
    pub packet_bytes: u64,
    /// The window before anything is known, bytes.
    pub window_initial: u64,
    /// The largest window, bytes.
    pub window_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delay_target: Duration::from_millis(4),
            packet_bytes: 1200,
            // RFC 9002, section 7.2: ten packets.
            window_initial: 12_000,
            window_max: 256 << 20,
        }
    }
}

/// One acknowledged packet.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When it was sent.
    pub sent: Time,
    /// Its size.
    pub bytes: u64,
}

/// How the window is steered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing known yet: doubles until a queue shows.
    Start,
    /// Holds the queue at its target.
    Steady,
    /// Lowered for a round, to see the base.
    Drain,
    /// Back up again: the queue is still filling, so this round tells nothing.
    Refill,
    /// Somebody else fills the queue: follows losses.
    Contend,
    /// Both directions are full: sends at the rate that was delivered.
    Cruise,
}

/// What is collected between two decisions.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    started: Time,
    /// When the first packet sent in this round was acknowledged.
    first_ack: Option<Time>,
    rtt_us: Option<u64>,
    acked: u64,
    lost: u64,
    /// Most bytes that were under way.
    in_flight_max: u64,
}

/// The shortest round trip of the last ten seconds, in two halves, so that forgetting needs no list.
#[derive(Clone, Copy, Debug, Default)]
struct Base {
    half_started: Time,
    older_us: Option<u64>,
    newer_us: Option<u64>,
    /// When a round trip close to the base was last seen.
    seen: Time,
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Base {
    fn us(&self) -> Option<u64> {
        least(self.older_us, self.newer_us)
    }

    fn record(&mut self, now: Time, rtt_us: u64) {
        if now.saturating_since(self.half_started) >= BASE_MEMORY / 2 {
            (self.older_us, self.newer_us, self.half_started) = (self.newer_us, None, now);
        }
        if self.us().is_none_or(|base| rtt_us <= base + base / 16) {
            self.seen = now;
        }
        self.newer_us = least(self.newer_us, Some(rtt_us));
    }
}

/// Bytes earned over time, for carriers that do not pace by themselves.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    earned: f64,
    at: Time,
}

/// The estimator of one path. See the module for its rule.
#[derive(Clone, Debug)]
pub struct Capacity {
    config: Config,
    mode: Mode,
    window: f64,
    in_flight: u64,
    base: Base,
    round: Round,
    /// Bytes a second of the last two rounds, newest first.
    rates: [f64; 2],
    /// How long packets of the last round waited at least, microseconds.
    queue_us: u64,
    /// Rounds in a row without a queue, and with a long one at the lowest window.
    idle_rounds: usize,
    foreign_rounds: u32,
    foreign_since: Time,
    /// When the queue was last drained, and the window and mode before.
    drained: Time,
    before_drain: (Mode, f64),
    /// Bytes a second when the link was last seen full, or more came through than then; 0 until it was.
    full_rate: f64,
    /// The window at which packets were last lost; growth beyond it is slow.
    ceiling: f64,
    pace: Pace,
    /// The other side sends too, so that its queue is in the round trip.
    both_ways: bool,
    cadence: Cadence,
    /// What the far end said of this direction, while it does.
    depth: Option<Depth>,
}

impl Capacity {
    /// An estimator that knows nothing yet.
    #[must_use]
    pub fn new(now: Time, config: Config) -> Self {
        Self {
            config,
            mode: Mode::Start,
            window: config.window_initial as f64,
            in_flight: 0,
            base: Base { half_started: now, seen: now, ..Base::default() },
            round: Round { started: now, ..Round::default() },
            rates: [0.0; 2],
            queue_us: 0,
            idle_rounds: 0,
            foreign_rounds: 0,
            foreign_since: now,
            drained: now,
            before_drain: (Mode::Start, 0.0),
            full_rate: 0.0,
            ceiling: f64::INFINITY,
            pace: Pace { earned: config.window_initial as f64, at: now },
            both_ways: false,
            cadence: Cadence::new(now),
            depth: None,
        }
    }

    /// Bytes that may be under way.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window as u64
    }

    /// Bytes under way, by [`Capacity::sent`], [`Capacity::acked`] and [`Capacity::lost`].
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Bytes a second the link delivered lately; 0 while nothing is known. What was delivered because no more was sent is
    /// a lower bound only.
    #[must_use]
    pub fn bytes_per_s(&self) -> u64 {
        self.rate() as u64
    }

    /// Bytes a second the link carries, as far as it was ever full; `None` until then. Unlike [`Capacity::bytes_per_s`] it
    /// does not fall when less is sent.
    #[must_use]
    pub fn carries_bytes_per_s(&self) -> Option<u64> {
        (self.full_rate > 0.0).then_some(self.full_rate as u64)
    }

    /// The round trip without a queue, if one was measured.
    #[must_use]
    pub fn base_rtt(&self) -> Option<Duration> {
        self.base.us().map(Duration::from_micros)
    }

    /// How long packets waited at the bottleneck in the last round, at least.
    #[must_use]
    pub const fn queue_delay(&self) -> Duration {
        Duration::from_micros(self.queue_us)
    }

    /// Bytes a second to spread sends over, a little more than the window per round trip; `None` while nothing is known.
    #[must_use]
    pub fn pacing_bytes_per_s(&self) -> Option<u64> {
        let base = self.base.us()?;
        let rtt = (base + self.queue_us).max(1) as f64;
        if self.mode == Mode::Cruise {
            let (rate, least_in_us) = match self.depth {
                // Where the way is short the smallest window in a round trip would be more than a slow link carries.
                Some(depth) => (depth.bytes_per_s(), rtt.max(TOLD_LEAST_IN_US)),
                None => (self.cadence.bytes_per_s(self.wait()), rtt),
            };
            return Some(rate.max(self.floor() * 1e6 / least_in_us) as u64);
        }
        if self.mode == Mode::Refill {
            // After a drain there is a hole in the row of acknowledgements: to fill it at once would be a burst. But what
            // a sender with little to say delivered lately may be next to nothing, and must not silence it for seconds.
            return Some(self.rate().max(self.floor() * 1e6 / rtt) as u64);
        }
        Some((self.window.max(self.floor()) * 1.25 * 1e6 / rtt) as u64)
    }

    /// Bytes that may be sent now: limited by the window, and spread over the round trip.
    pub fn credit(&mut self, now: Time) -> u64 {
        let room = self.window().saturating_sub(self.in_flight);
        let Some(rate) = self.pacing_bytes_per_s() else { return room };
        let passed = now.saturating_since(self.pace.at).as_secs_f64();
        let burst = (rate as f64 / 1000.0).max(4.0 * self.config.packet_bytes as f64);
        self.pace = Pace { earned: (self.pace.earned + rate as f64 * passed).min(burst), at: now };
        room.min(self.pace.earned.max(0.0) as u64)
    }

    /// A packet left.
    pub fn sent(&mut self, bytes: u64) {
        self.in_flight += bytes;
        self.round.in_flight_max = self.round.in_flight_max.max(self.in_flight);
        self.pace.earned -= bytes as f64;
    }

    /// A packet arrived.
    pub fn acked(&mut self, now: Time, ack: Ack) {
        self.in_flight = self.in_flight.saturating_sub(ack.bytes);
        let rtt_us = u64::try_from(now.saturating_since(ack.sent).as_micros()).unwrap_or(u64::MAX).max(1);
        self.base.record(now, rtt_us);
        self.cadence.acked(now, ack, self.base_rtt().unwrap_or_default(), self.wait());
        if ack.sent < self.round.started {
            return;
        }
        let first = *self.round.first_ack.get_or_insert(now);
        self.round.rtt_us = least(self.round.rtt_us, Some(rtt_us));
        // What arrived with the first acknowledgement was on its way before: it would count as infinitely fast.
        if now > first {
            self.round.acked += ack.bytes;
        }
        let collected = now.saturating_since(first);
        if collected >= self.collect_for() {
            self.decide(now, collected);
        }
    }

    /// A packet is not under way any more, and nothing is known about how it fared.
    pub fn left(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Packets went missing.
    pub fn lost(&mut self, bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.round.lost += bytes;
    }

    /// Nothing came through for long: everything that was known may be wrong.
    pub fn collapse(&mut self, now: Time) {
        *self = Self::new(now, self.config);
        self.window = (WINDOW_PACKETS_MIN * self.config.packet_bytes) as f64;
    }

    /// Whether the other side sends too, so that its packets wait in the same round trip.
    pub fn set_both_ways(&mut self, both: bool) {
        self.both_ways = both;
    }

    /// The far end said something about packets of this side.
    pub fn told(&mut self, now: Time, told: Told) {
        let rate = self.most();
        let depth = self.depth.get_or_insert_with(|| Depth::new(now, rate));
        depth.told(now, told, self.config.packet_bytes);
    }

    /// Packets have another size now.
    pub fn set_packet_bytes(&mut self, bytes: u64) {
        self.config.packet_bytes = bytes;
        self.window = self.window.max(self.floor());
    }

    /// How long a round collects round trips: long enough for several packets and for timers that are late.
    fn collect_for(&self) -> Duration {
        let base = Duration::from_micros(self.base.us().unwrap_or(0));
        (base / 4).max(self.config.delay_target / 2)
    }

    fn rate(&self) -> f64 {
        self.rates[0].max(self.rates[1])
    }

    fn floor(&self) -> f64 {
        (WINDOW_PACKETS_MIN * self.config.packet_bytes) as f64
    }

    /// How long packets of this side wait, microseconds: as the far end says, or both directions together.
    fn own_wait_us(&self) -> f64 {
        self.depth.map_or(self.queue_us as f64, |depth| depth.wait_us())
    }

    /// Bytes a second that this direction carries, while both are full.
    fn most(&self) -> f64 {
        self.depth.map_or(self.cadence.most(), |depth| depth.rate())
    }

    fn wait(&self) -> Wait {
        let times = self.own_wait_us() / self.config.delay_target.as_micros() as f64;
        match times {
            _ if times > CRUISE_MOST => Wait::FarTooLong,
            _ if times > 2.0 => Wait::Longer,
            _ if times > 1.0 => Wait::Long,
            _ if times > 0.25 => Wait::Short,
            _ => Wait::Empty,
        }
    }

    /// The end of a round: one decision about the window.
    fn decide(&mut self, now: Time, collected: Duration) {
        let next = Round { started: now, in_flight_max: self.in_flight, ..Round::default() };
        let round = std::mem::replace(&mut self.round, next);
        let (Some(rtt_us), Some(base_us)) = (round.rtt_us, self.base.us()) else { return };
        self.rates = [round.acked as f64 / collected.as_secs_f64(), self.rates[0]];
        self.queue_us = rtt_us.saturating_sub(base_us);
        // Half used counts as used: a sender need not always be there the moment there is room.
        let unused = (round.in_flight_max as f64) < self.window / 2.0;
        let loss = round.lost as f64 / (round.lost + round.acked).max(1) as f64;
        let halves = if self.both_ways { BOTH_WAYS_HALVES } else { 2 };
        let target_us = (self.config.delay_target * halves / 2).as_micros() as f64;
        let (base, queue) = (base_us as f64, self.queue_us as f64);
        let wanted = (base + target_us) / (base + queue);
        let bare = self.rate() * base / 1e6;
        self.idle_rounds = if queue < target_us / 4.0 && !unused { self.idle_rounds + 1 } else { 0 };
        // A queue, losses, or twice the window without more coming through: the link is found.
        let grew = self.rates[0] > self.rates[1] * 1.25;
        let found = !unused && (self.idle_rounds == 0 || !grew);
        if self.mode == Mode::Start && (found || loss > LOSS_TOLERATED) {
            (self.mode, self.idle_rounds) = (Mode::Steady, 0);
        }
        let steered = matches!(self.mode, Mode::Steady | Mode::Contend);
        if steered && queue > target_us / 2.0 && !unused {
            self.full_rate = self.rate();
        } else if self.full_rate > 0.0 {
            // Both rounds: one alone may have got a burst that was held up somewhere.
            self.full_rate = self.full_rate.max(self.rates[0].min(self.rates[1]));
        }
        match self.mode {
            Mode::Drain => self.refill(queue < target_us),
            Mode::Refill => (self.mode, self.idle_rounds) = (Mode::Steady, 0),
            Mode::Contend => self.contend(queue < target_us, loss),
            Mode::Start | Mode::Steady => {
                self.steer(wanted, loss, queue > target_us / 2.0, unused);
                // On a slow link the smallest window itself is a queue of that length.
                let smallest_us = self.floor() * 1e6 / self.rate().max(1.0);
                self.watch_for_others(now, queue > 2.0 * target_us + smallest_us, bare);
            }
            Mode::Cruise => {}
        }
        self.cruise(now, base, queue, unused);
        let looked = match self.mode {
            Mode::Steady => self.drained.max(self.base.seen),
            Mode::Contend => self.drained,
            Mode::Start | Mode::Drain | Mode::Refill | Mode::Cruise => now,
        };
        if now.saturating_since(looked) >= DRAIN_EVERY {
            self.before_drain = (self.mode, self.window);
            (self.mode, self.drained) = (Mode::Drain, now);
            self.window = bare * 0.75;
        }
        // On a slow link the smallest window would hide the base for ever, and be taken for it when that is forgotten.
        let least = if self.mode == Mode::Drain { self.floor() / 2.0 } else { self.floor() };
        self.window = self.window.clamp(least, self.config.window_max as f64);
    }

    fn steer(&mut self, wanted: f64, loss: f64, queued: bool, unused: bool) {
        let mut factor = 1.0 + STEP * (wanted - 1.0);
        if self.mode == Mode::Start {
            factor = GROWTH_START;
        } else if self.idle_rounds > 0 {
            factor = factor.clamp(GROWTH_IDLE[self.idle_rounds.min(GROWTH_IDLE.len()) - 1], GROWTH_IDLE_MOST);
        } else {
            factor = factor.min(GROWTH);
        }
        if loss > LOSS_TOLERATED {
            self.ceiling = self.window;
            self.idle_rounds = 0;
            factor = factor.min(if queued { 1.0 - loss } else { 1.0 - loss / 2.0 }).max(0.5);
        } else if self.idle_rounds >= 8 {
            // Room for so long: what once ran over does not any more.
            self.ceiling = f64::INFINITY;
        } else if factor > 1.02 && self.window * factor > self.ceiling * 0.95 {
            factor = 1.02;
        }
        // A window that was not used says nothing about what a larger one would do.
        if unused && factor > 1.0 {
            return;
        }
        // The constant part makes streams of several senders converge on equal windows.
        self.window = self.window * factor + self.config.packet_bytes as f64;
    }

    /// Begins, ends or goes on with steering by rate: the window is then only what bounds a mistake.
    fn cruise(&mut self, now: Time, base_us: f64, queue_us: f64, unused: bool) {
        let target_us = self.config.delay_target.as_micros() as f64;
        self.depth = self.depth.filter(|depth| !depth.is_old(now));
        // Less than half of what could be sent is a sender with little to say.
        let kept = self.both_ways && self.cadence.latest() * 2.0 >= self.most();
        let own_us = self.own_wait_us();
        if self.mode == Mode::Cruise {
            // A queue of one's own takes a while to drain, where the buffer is large.
            let foreign_after = if self.depth.is_some() { FOREIGN_DOUBTED_AFTER } else { FOREIGN_AFTER };
            if self.wait() < Wait::FarTooLong {
                self.foreign_since = now;
            }
            if !kept || now.saturating_since(self.foreign_since) >= foreign_after {
                (self.mode, self.idle_rounds) = (Mode::Steady, 0);
                self.window = self.most() * (base_us + target_us) / 1e6;
                return;
            }
        } else if self.mode != Mode::Steady || !kept || unused || own_us >= CRUISE_BELOW * target_us {
            return;
        } else {
            self.foreign_since = now;
        }
        self.mode = Mode::Cruise;
        self.full_rate = self.most();
        // Acknowledgements wait in the other direction's queue.
        let back_us = (queue_us - own_us).max(0.0);
        self.window = self.most() * (base_us + CRUISE_MOST * target_us + back_us) / 1e6;
    }

    fn watch_for_others(&mut self, now: Time, long: bool, bare: f64) {
        let lowest = self.window <= bare.max(self.floor()) * 1.1;
        self.foreign_rounds = if long && lowest { self.foreign_rounds + 1 } else { 0 };
        if self.foreign_rounds <= 1 {
            self.foreign_since = now;
        }
        // Below what the bare way holds the link would idle: a queue that is still there is not ours.
        self.window = self.window.max(bare);
        let lasted = now.saturating_since(self.foreign_since) >= FOREIGN_AFTER;
        if self.foreign_rounds >= FOREIGN_ROUNDS && lasted {
            (self.mode, self.foreign_rounds) = (Mode::Contend, 0);
            self.drained = now - (DRAIN_EVERY - FOREIGN_DOUBTED_AFTER);
        }
    }

    /// The end of a drain: the window as the rate and the base say it now, or as it was if somebody else's queue is left.
    fn refill(&mut self, short: bool) {
        let (mode, window) = self.before_drain;
        self.idle_rounds = 0;
        if mode == Mode::Contend && !short {
            (self.mode, self.window) = (mode, window);
        } else {
            let wanted = self.config.delay_target.as_secs_f64();
            let base = Duration::from_micros(self.base.us().unwrap_or(0)).as_secs_f64();
            self.mode = Mode::Refill;
            self.window = self.rate() * (base + wanted);
        }
    }

    /// Follows losses, as the others on this queue do.
    fn contend(&mut self, short: bool, loss: f64) {
        if short {
            self.mode = Mode::Steady;
        } else if loss > 0.0 {
            self.window *= 0.7;
        } else {
            self.window = self.window * 1.05 + self.config.packet_bytes as f64;
        }
    }
}

#[cfg(test)]
#[path = "capacity_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "capacity_both_ways_tests.rs"]
mod both_ways_tests;
