//! One stream as the scheduler sees it: what waits, what it may still send in this round, and when its rates allow more.
//! Bytes themselves stay with the caller.

use std::collections::VecDeque;

use core::time::Duration;

use super::class::StreamOptions;
use super::level::{QUANTUM_BYTES, REALTIME};
use super::stats::Counters;
use crate::limits::{QOS_CHUNK_BYTES_MAX, QOS_DATAGRAMS_MAX};
use crate::time::Time;

/// How much of a rate a stream may have saved up: longer and a cap would be a burst, shorter and a late timer would cost
/// rate.
const RATE_SLACK: Duration = Duration::from_millis(10);
/// How many turns a stream may have taken ahead of time.
const DEBT_TURNS_MAX: i64 = 8;
/// Arrivals of a byte stream told apart for the waiting times; further ones count as the last.
const ARRIVALS_MAX: usize = 64;

/// Something that waits: a datagram, or a piece of a byte stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    pub(super) bytes: u64,
    since: Time,
    expires: Time,
}

/// Where in its level a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: nothing to send, or not allowed to.
    Off,
    /// Among those that were quiet and use less than their share.
    New,
    /// In the round.
    Old,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) options: StreamOptions,
    pub(super) datagrams: bool,
    units: VecDeque<Unit>,
    pub(super) backlog: u64,
    pub(super) deficit: i64,
    /// The round of its level from which on a quiet stream has a whole quantum again.
    pub(super) next_round: u64,
    /// It is its turn in the old ring: it has its quantum and goes on until that is used.
    pub(super) in_turn: bool,
    pub(super) place: Place,
    /// Set aside by the caller: the carrier takes nothing of this stream now.
    pub(super) held: bool,
    /// Set aside by `rate_max`.
    pub(super) throttled: bool,
    /// `rate_max` allows nothing before.
    pub(super) allowed_from: Time,
    /// `rate_min` is owed from then on.
    pub(super) owed_from: Time,
    /// Last served, or last became backlogged.
    pub(super) attended: Time,
    pub(super) counters: Counters,
}

/// The time `bytes` take at `rate` bytes a second.
fn at_rate(bytes: u64, rate: u64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

impl Flow {
    pub(super) fn new(now: Time, options: StreamOptions, datagrams: bool) -> Self {
        Self {
            options,
            datagrams,
            units: VecDeque::new(),
            backlog: 0,
            deficit: 0,
            next_round: 0,
            in_turn: false,
            place: Place::Off,
            held: false,
            throttled: false,
            allowed_from: now,
            owed_from: now,
            attended: now,
            counters: Counters::default(),
        }
    }

    pub(super) fn quantum(&self) -> i64 {
        i64::from(self.options.weight.as_u8()) * QUANTUM_BYTES
    }

    /// A quantum for a turn in round `round`. The next comes after a whole round in between: the borders of rounds are not
    /// sharp, and a stream that stands on one would have two each time.
    pub(super) fn fill(&mut self, round: u64) {
        self.deficit = self.deficit.min(0) + self.quantum();
        self.next_round = round + 2;
    }

    /// Where it comes in now that it has something to send.
    pub(super) fn enter(&mut self, round: u64, was_quiet: bool) -> Place {
        if round >= self.next_round {
            self.fill(round);
        }
        self.in_turn = false;
        // Only who was quiet comes in first: who was held or capped would do so each time.
        self.place = if was_quiet && self.deficit > 0 { Place::New } else { Place::Old };
        if self.place == Place::Old {
            self.deficit = self.deficit.min(0);
        }
        self.place
    }

    /// Whether it may be served at the front of its ring; `false`: to the end of the old ring with it.
    pub(super) fn takes_turn(&mut self, round: u64) -> bool {
        if self.place == Place::Old && !self.in_turn {
            self.fill(round);
            self.in_turn = true;
        }
        if self.deficit <= 0 {
            (self.in_turn, self.place) = (false, Place::Old);
            return false;
        }
        true
    }

    /// Whether it has something to send and may.
    pub(super) fn is_ready(&self) -> bool {
        self.backlog > 0 && !self.held && !self.throttled
    }

    /// From when on `rate_min` is owed, while there is something to send. Not for realtime: it went first already, and as
    /// far as it may.
    pub(super) fn owed(&self) -> Option<Time> {
        let counts = self.is_ready() && self.level() < REALTIME;
        self.options.rate_min.filter(|_| counts).map(|_| self.owed_from)
    }

    pub(super) fn level(&self) -> usize {
        usize::from(self.options.priority.as_u8())
    }

    /// Takes new bytes; `false` if there is no room.
    pub(super) fn push(&mut self, now: Time, bytes: u64) -> bool {
        let room = self.options.queue_bytes_max.saturating_sub(self.backlog);
        if bytes > room || (self.datagrams && self.units.len() >= QOS_DATAGRAMS_MAX) {
            return false;
        }
        if self.backlog == 0 {
            self.attended = now;
            // A guarantee is for what there is to send: a quiet hour does not add up to a burst.
            self.owed_from = self.owed_from.max(now);
        }
        self.backlog += bytes;
        let expires = self.options.deadline.filter(|_| self.datagrams).map_or(Time::MAX, |d| now + d);
        let joined = !self.datagrams && self.units.len() >= ARRIVALS_MAX;
        match self.units.back_mut().filter(|_| joined) {
            Some(last) => last.bytes += bytes,
            None => self.units.push_back(Unit { bytes, since: now, expires }),
        }
        true
    }

    /// Takes a datagram off that waited too long.
    pub(super) fn pop_late(&mut self, now: Time) -> Option<u64> {
        let late = *self.units.front().filter(|unit| unit.expires <= now)?;
        self.units.pop_front();
        self.backlog -= late.bytes;
        self.counters.late(late.bytes);
        Some(late.bytes)
    }

    /// Bytes of the next send: a whole datagram, or a chunk of a byte stream. At least a quantum's worth, so that no turn
    /// ends in crumbs; at most a chunk, so that nobody waits long for this one.
    pub(super) fn next_bytes(&self) -> u64 {
        let front = self.units.front().map_or(0, |unit| unit.bytes);
        if self.datagrams {
            return front;
        }
        let turn = u64::try_from(self.deficit.max(QUANTUM_BYTES - 1)).unwrap_or(0);
        self.backlog.min(turn).min(QOS_CHUNK_BYTES_MAX)
    }

    /// Bytes left for the carrier.
    pub(super) fn took(&mut self, now: Time, bytes: u64) {
        let bytes = bytes.min(self.backlog);
        self.backlog -= bytes;
        // What a guarantee sent counts as the stream's turns, but only the last few: a debt must not outlast the crowd.
        let deficit = self.deficit.saturating_sub_unsigned(bytes);
        self.deficit = deficit.max(-DEBT_TURNS_MAX * self.quantum());
        self.attended = now;
        self.counters.sent(now, bytes);
        let slack = now - RATE_SLACK;
        if let Some(rate) = self.options.rate_max {
            self.allowed_from = self.allowed_from.max(slack) + at_rate(bytes, rate);
        }
        if let Some(rate) = self.options.rate_min {
            self.owed_from = self.owed_from.max(slack) + at_rate(bytes, rate);
        }
        let mut left = bytes;
        while let Some(front) = self.units.front_mut() {
            if front.bytes > left {
                front.bytes -= left;
                break;
            }
            left -= front.bytes;
            self.counters.waited(now.saturating_since(front.since));
            self.units.pop_front();
        }
    }

    /// Bytes left for the carrier without having waited.
    pub(super) fn passed(&mut self, now: Time, bytes: u64) {
        self.attended = now;
        self.counters.sent(now, bytes);
        self.counters.waited(Duration::ZERO);
    }

    /// Bytes given up by the sender.
    pub(super) fn forget(&mut self) -> u64 {
        self.units.clear();
        std::mem::take(&mut self.backlog)
    }
}
