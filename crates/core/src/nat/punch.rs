//! One attempt to get through: sockets are opened, probes go out at a steady pace, and the first pair of endpoints that
//! works both ways is agreed on. One side is controlling (RFC 8445): it chooses, the other confirms.
//!
//! ```text
//! controlling                          controlled
//!     probe   ---- lost in the box        probe ---->       either side's may get through first
//!     <---- answer                        (or <---- choice at once)
//!     choice ---->                        repeated until
//!     <---- chosen                        this one arrives; it is sent again for every choice
//! ```

use bytes::Bytes;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use super::plan::{PORT_FIRST, PORTS, Ports, Work};
use super::wire::{ProbeKeys, Step};
use crate::limits::{NAT_ANSWERS_MAX, NAT_ATTEMPT_MAX, NAT_CANDIDATES_MAX, NAT_PROBES_MAX};
use crate::rng::Rng;
use crate::time::{Deadline, Time};

/// Between two ticks, in each of which [`PER_TICK`] probes leave: a thousand probes a second, 60 KB/s with headers.
const TICK: Duration = Duration::from_millis(4);
const PER_TICK: u16 = 4;
/// How soon each socket says its probe once more: what was lost, or was early.
const AGAIN: Duration = Duration::from_millis(1500);
/// How often a choice is repeated.
const CHOICE_EVERY: Duration = Duration::from_millis(100);
/// How often before the next candidate is tried.
const CHOICES_MAX: u8 = 10;

/// Who chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// This one.
    Controlling,
    /// The other.
    Controlled,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Failure {
    /// No socket could be opened.
    #[error("this device could open no socket to try with")]
    NoSockets,
    /// No probe of the other side arrived.
    #[error("none of {probes} probes found a way, and none of the other side's arrived")]
    NoWay {
        /// How many were sent.
        probes: u16,
    },
    /// Probes arrived one way only.
    #[error("probes of the other side arrived, but it never confirmed ours")]
    OneWay,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The sockets asked for by [`Output::Open`] are there, numbered from 0; perhaps fewer than asked for.
    Opened {
        /// How many.
        sockets: u16,
    },
    /// A datagram came: foreign bytes.
    Heard {
        /// On which socket.
        socket: u16,
        /// From where.
        from: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// The deadline passed.
    Timeout,
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Open this many sockets; answer with [`Input::Opened`].
    Open {
        /// How many.
        sockets: u16,
    },
    /// Send this.
    Send {
        /// From which socket.
        socket: u16,
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Bytes,
    },
    /// These two endpoints work both ways. On the controlled side the last one counts if it comes more than once: the other
    /// side did not hear us confirm the first.
    Won {
        /// Our socket; the others may be closed.
        socket: u16,
        /// The other side.
        remote: SocketAddr,
        /// Since the sockets were there.
        after: Duration,
        /// Probes sent until then.
        probes: u16,
    },
    /// It did not work; nothing more will be sent.
    Failed(Failure),
}

/// Two endpoints: one of our sockets, and where the other side's probe came from.
type Pair = (u16, SocketAddr);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for sockets.
    Opening,
    /// Probes go out.
    Probing,
    /// Nothing more to say.
    Over,
}

/// One attempt of one side.
#[derive(Debug)]
pub struct Punch {
    keys: ProbeKeys,
    side: Side,
    work: Work,
    /// Where the other side's box was seen: for [`Work::Open`] the very endpoint, else only its address counts.
    target: SocketAddr,
    rng: Rng,
    phase: Phase,
    sockets: u16,
    began: Time,
    /// The next tick, and how far this round of sockets or guesses has come.
    tick_at: Time,
    round: u16,
    tried: BTreeSet<u16>,
    probes: u16,
    answers: u16,
    /// Pairs on which the other side was heard, the one in use first.
    candidates: VecDeque<Pair>,
    choices: u8,
    choice_at: Time,
    won: Option<Pair>,
    out: VecDeque<Output>,
}

impl Punch {
    /// An attempt towards `target`, which must have been proved by a [`Ticket`](super::wire::Ticket).
    #[must_use]
    pub fn new(side: Side, work: Work, target: SocketAddr, keys: ProbeKeys, rng: Rng) -> Self {
        Self {
            keys,
            side,
            work,
            target,
            rng,
            phase: Phase::Opening,
            sockets: 0,
            began: Time::ZERO,
            tick_at: Time::MAX,
            round: 0,
            tried: BTreeSet::new(),
            probes: 0,
            answers: 0,
            candidates: VecDeque::new(),
            choices: 0,
            choice_at: Time::MAX,
            won: None,
            out: VecDeque::from([Output::Open { sockets: work.sockets() }]),
        }
    }

    /// Takes note of what happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Opened { sockets } if self.phase == Phase::Opening => self.opened(now, sockets),
            Input::Heard { socket, from, bytes } if self.phase == Phase::Probing && socket < self.sockets => {
                if let Some(step) = self.keys.open(&bytes) {
                    self.heard(now, (socket, from), step);
                }
            }
            Input::Opened { .. } | Input::Heard { .. } | Input::Timeout => {}
        }
        if self.phase == Phase::Probing {
            self.advance(now);
        }
    }

    /// What is wanted next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to call [`Punch::handle`] again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        if self.phase != Phase::Probing {
            return None;
        }
        let tick = Deadline { at: self.tick_at, why: "probes are due" };
        let choice = Deadline { at: self.choice_at, why: "the choice is not confirmed" };
        let end = Deadline { at: self.began + NAT_ATTEMPT_MAX, why: "the attempt ends" };
        Deadline::earliest(Deadline::earliest(Some(tick), Some(choice)), Some(end))
    }

    /// Whether it has ended, one way or the other.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn opened(&mut self, now: Time, sockets: u16) {
        self.sockets = sockets.min(self.work.sockets());
        if self.sockets == 0 {
            self.end(Some(Failure::NoSockets));
            return;
        }
        (self.phase, self.began, self.tick_at) = (Phase::Probing, now, now);
    }

    fn heard(&mut self, now: Time, pair: Pair, step: Step) {
        match (self.side, step) {
            (Side::Controlling, Step::Probe | Step::Answer) => {
                if !self.candidates.contains(&pair) && self.candidates.len() < NAT_CANDIDATES_MAX {
                    self.candidates.push_back(pair);
                    if self.candidates.len() == 1 {
                        (self.choices, self.choice_at) = (0, now);
                    }
                }
            }
            (Side::Controlling, Step::Chosen) if self.candidates.front() == Some(&pair) => {
                self.win(now, pair);
                self.end(None);
            }
            (Side::Controlled, Step::Probe) => self.answer(pair, Step::Answer),
            (Side::Controlled, Step::Choice) => {
                self.answer(pair, Step::Chosen);
                self.win(now, pair);
            }
            // What only the other role says.
            (Side::Controlling, _) | (Side::Controlled, _) => {}
        }
    }

    fn win(&mut self, now: Time, pair: Pair) {
        if self.won == Some(pair) {
            return;
        }
        self.won = Some(pair);
        self.tick_at = Time::MAX;
        let after = now.saturating_since(self.began);
        self.out.push_back(Output::Won { socket: pair.0, remote: pair.1, after, probes: self.probes });
    }

    /// Says something on a pair on which the other side was heard. Whoever repeats its probes with forged sources gets no
    /// more than this out of us.
    fn answer(&mut self, (socket, to): Pair, step: Step) {
        if self.answers < NAT_ANSWERS_MAX {
            self.answers += 1;
            self.send(socket, to, step);
        }
    }

    fn send(&mut self, socket: u16, to: SocketAddr, step: Step) {
        let bytes = Bytes::copy_from_slice(&self.keys.probe(step, self.probes));
        self.out.push_back(Output::Send { socket, to, bytes });
    }

    fn end(&mut self, failure: Option<Failure>) {
        self.phase = Phase::Over;
        self.out.extend(failure.map(Output::Failed));
    }

    fn advance(&mut self, now: Time) {
        if now >= self.began + NAT_ATTEMPT_MAX {
            let failure = match (self.won, self.candidates.is_empty() && self.answers == 0) {
                (Some(_), _) => None,
                (None, true) => Some(Failure::NoWay { probes: self.probes }),
                (None, false) => Some(Failure::OneWay),
            };
            self.end(failure);
            return;
        }
        if self.choice_at <= now {
            self.choose(now);
        }
        if self.tick_at <= now {
            self.tick(now);
        }
    }

    fn choose(&mut self, now: Time) {
        if self.choices >= CHOICES_MAX {
            self.candidates.rotate_left(1);
            self.choices = 0;
        }
        let Some((socket, to)) = self.candidates.front().copied() else { return };
        self.choices += 1;
        self.choice_at = now + CHOICE_EVERY;
        self.send(socket, to, Step::Choice);
    }

    /// Some more probes. While a choice is under way the others can wait.
    fn tick(&mut self, now: Time) {
        self.tick_at = now + TICK;
        for _ in 0..PER_TICK {
            if self.probes >= NAT_PROBES_MAX {
                self.tick_at = Time::MAX;
                return;
            }
            let Some((socket, to)) = self.next_probe() else {
                // Every socket has said its probe; once more after a while.
                self.round = 0;
                self.tick_at = self.tick_at.max(now + AGAIN);
                return;
            };
            self.probes += 1;
            self.send(socket, to, Step::Probe);
        }
    }

    /// Which socket says something next, and to whom; `None` at the end of a round.
    fn next_probe(&mut self) -> Option<(u16, SocketAddr)> {
        let at = self.round;
        let to = |port| SocketAddr::new(self.target.ip(), port);
        let next = match self.work {
            Work::Open { .. } => (at < self.sockets).then_some((at, self.target)),
            Work::Mirror { ports, .. } => {
                let port = ports.predicted(at).filter(|_| at < self.sockets)?;
                Some((at, to(port)))
            }
            Work::Guess { probes, .. } if self.probes >= probes => None,
            Work::Guess { ports, .. } => {
                let port = self.guess(ports, at);
                Some((0, SocketAddr::new(self.target.ip(), port)))
            }
        };
        self.round = self.round.saturating_add(u16::from(next.is_some()));
        next
    }

    /// A port that was not tried yet.
    fn guess(&mut self, ports: Ports, at: u16) -> u16 {
        // Predictions first, but not for ever: a sequence may have been chance.
        let predicted =
            ports.predicted(at).filter(|port| at < NAT_PROBES_MAX / 2 && self.tried.insert(*port));
        if let Some(port) = predicted {
            return port;
        }
        // At most NAT_PROBES_MAX of PORTS are taken, so this ends soon.
        loop {
            let port = PORT_FIRST + u16::try_from(self.rng.below(u64::from(PORTS))).unwrap_or(0);
            if self.tried.insert(port) {
                return port;
            }
        }
    }
}
