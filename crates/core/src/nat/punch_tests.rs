//! Two attempts against each other through two boxes, on a line that delays and loses.

use super::wire::ProbeKeys;
use super::*;
use crate::limits::{NAT_ANSWERS_MAX, NAT_ATTEMPT_MAX, NAT_PROBES_MAX, NAT_SOCKETS_MAX};
use crate::nat::plan::Ports;
use crate::rng::Rng;
use crate::time::Time;
use bytes::Bytes;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

const ONE_WAY: Duration = Duration::from_millis(20);

/// A box with address- and port-dependent filtering.
struct Nat {
    host: [u8; 4],
    mapping: Mapping,
    allocation: Allocation,
    next: u16,
    rng: Rng,
    /// From the socket, and where it matters the destination, to the outside port.
    map: BTreeMap<(u16, Option<SocketAddr>), u16>,
    sent_to: Vec<(u16, SocketAddr)>,
}

impl Nat {
    fn new(host: [u8; 4], behavior: Behavior, seed: u64) -> Self {
        let next = match behavior.allocation {
            Allocation::Sequential { last, .. } => last,
            Allocation::Unknown | Allocation::Preserving | Allocation::Random => 0,
        };
        let (mapping, allocation) = (behavior.mapping, behavior.allocation);
        Self {
            host,
            mapping,
            allocation,
            next,
            rng: Rng::from_u64(seed),
            map: BTreeMap::new(),
            sent_to: Vec::new(),
        }
    }

    fn outbound(&mut self, socket: u16, to: SocketAddr) -> SocketAddr {
        let key = (socket, (!self.mapping.is_stable()).then_some(to));
        let port = match self.map.get(&key) {
            Some(port) => *port,
            None => {
                let port = self.fresh();
                self.map.insert(key, port);
                port
            }
        };
        if !self.sent_to.contains(&(port, to)) {
            self.sent_to.push((port, to));
        }
        SocketAddr::from((self.host, port))
    }

    fn fresh(&mut self) -> u16 {
        if let Allocation::Sequential { step, .. } = self.allocation {
            self.next = self.next.wrapping_add(step);
            return self.next;
        }
        if self.mapping.is_stable() {
            return 40_000;
        }
        loop {
            let port = 1024 + u16::try_from(self.rng.below(64_512)).unwrap();
            if self.map.values().all(|taken| *taken != port) {
                return port;
            }
        }
    }

    fn inbound(&self, from: SocketAddr, port: u16) -> Option<u16> {
        let known = self.sent_to.contains(&(port, from));
        let socket = self.map.iter().find(|(_, outside)| **outside == port).map(|((socket, _), _)| *socket);
        socket.filter(|_| known)
    }
}

struct End {
    punch: Punch,
    nat: Nat,
    won: Option<(u16, SocketAddr)>,
    failed: Option<Failure>,
    sent: u32,
}

/// Runs both ends until both are done. The first one is controlling.
struct Net {
    ends: [End; 2],
    now: Time,
    /// When, to whom, from where to where, what.
    flying: Vec<(Time, usize, SocketAddr, SocketAddr, Bytes)>,
    rng: Rng,
    loss_percent: u64,
}

fn hard() -> Behavior {
    of(Mapping::AddressAndPortDependent, Allocation::Random)
}

fn counting() -> Behavior {
    of(Mapping::AddressAndPortDependent, Allocation::Sequential { step: 1, last: 20_000 })
}

fn home() -> Behavior {
    of(Mapping::EndpointIndependent, Allocation::Unknown)
}

fn of(mapping: Mapping, allocation: Allocation) -> Behavior {
    Behavior { mapping, filtering: Filtering::AddressAndPortDependent, allocation }
}

impl Net {
    fn new(boxes: [Behavior; 2], seed: u64, loss_percent: u64) -> Self {
        let plan = Plan::new(&boxes[0], &boxes[1]).unwrap();
        Self::with(boxes, [plan.ours, plan.theirs], seed, loss_percent)
    }

    fn with(boxes: [Behavior; 2], work: [Work; 2], seed: u64, loss_percent: u64) -> Self {
        let hosts = [[203, 0, 113, 1], [198, 51, 100, 1]];
        let end = |at: usize| {
            let side = if at == 0 { Side::Controlling } else { Side::Controlled };
            let keys = ProbeKeys::new(&[7; 32], *b"attempt!", at == 0);
            let target = SocketAddr::from((hosts[1 - at], 40_000));
            let rng = Rng::from_u64(seed * 4 + at as u64);
            let nat = Nat::new(hosts[at], boxes[at], seed * 4 + 2 + at as u64);
            End {
                punch: Punch::new(side, work[at], target, keys, rng),
                nat,
                won: None,
                failed: None,
                sent: 0,
            }
        };
        let mut net = Self {
            ends: [end(0), end(1)],
            now: Time::ZERO,
            flying: Vec::new(),
            rng: Rng::from_u64(seed ^ 0xfeed),
            loss_percent,
        };
        net.drain(0);
        net.drain(1);
        net
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.ends[at].punch.poll_output() {
            let end = &mut self.ends[at];
            match output {
                Output::Open { sockets } => end.punch.handle(self.now, Input::Opened { sockets }),
                Output::Send { socket, to, bytes } => {
                    end.sent += 1;
                    let from = end.nat.outbound(socket, to);
                    if self.rng.below(100) >= self.loss_percent {
                        self.flying.push((self.now + ONE_WAY, 1 - at, from, to, bytes));
                    }
                }
                Output::Won { socket, remote, .. } => end.won = Some((socket, remote)),
                Output::Failed(failure) => end.failed = Some(failure),
            }
        }
    }

    /// The next thing that happens; false if nothing will.
    fn step(&mut self) -> bool {
        let arrives = self.flying.iter().map(|flight| flight.0).min();
        let due = self.ends.iter().filter_map(|end| end.punch.poll_timeout()).map(|due| due.at).min();
        let Some(next) = arrives.into_iter().chain(due).min() else { return false };
        self.now = self.now.max(next);
        while let Some(at) = self.flying.iter().position(|flight| flight.0 <= self.now) {
            let (_, whom, from, to, bytes) = self.flying.remove(at);
            let end = &mut self.ends[whom];
            if SocketAddr::from((end.nat.host, to.port())) != to {
                continue;
            }
            if let Some(socket) = end.nat.inbound(from, to.port()) {
                end.punch.handle(self.now, Input::Heard { socket, from, bytes });
                self.drain(whom);
            }
        }
        for at in 0..2 {
            self.ends[at].punch.handle(self.now, Input::Timeout);
            self.drain(at);
        }
        true
    }

    fn run(&mut self) -> bool {
        while self.step() {}
        assert!(self.ends.iter().all(|end| end.punch.is_over()));
        let [a, b] = &self.ends;
        match (a.won, b.won) {
            (Some((here, remote_b)), Some((there, remote_a))) => {
                // Both ends mean the same two mappings.
                assert_eq!(a.nat.inbound(remote_b, remote_a.port()), Some(here));
                assert_eq!(b.nat.inbound(remote_a, remote_b.port()), Some(there));
                true
            }
            (None, None) => false,
            (a, b) => panic!("only one side believes in it: {a:?} {b:?}"),
        }
    }
}

#[test]
fn a_box_with_random_ports_is_passed_towards_one_that_filters_by_port() {
    for boxes in [[hard(), home()], [home(), hard()]] {
        let won = (0..40).filter(|seed| Net::new(boxes, *seed, 0).run()).count();
        assert!(won >= 38, "{won} of 40");
    }
}

#[test]
fn it_works_on_a_line_that_loses_one_datagram_in_ten() {
    let won = (100..140).filter(|seed| Net::new([hard(), home()], *seed, 10).run()).count();
    assert!(won >= 36, "{won} of 40");
}

#[test]
fn ports_that_count_up_are_hit_at_once() {
    for boxes in [[counting(), home()], [home(), counting()]] {
        let mut net = Net::new(boxes, 1, 0);
        assert!(net.run());
        let guesser = usize::from(boxes[0].mapping.is_dependent());
        assert!(net.ends[guesser].sent < 150, "{} sent", net.ends[guesser].sent);
    }
    let mut both = Net::new([counting(), counting()], 2, 0);
    assert!(both.run());
}

#[test]
fn a_sequence_that_was_chance_does_not_use_up_all_guesses() {
    let work = [
        Work::Open { sockets: NAT_SOCKETS_MAX },
        Work::Guess { ports: Ports::Sequence { last: 20_000, step: 1 }, probes: NAT_PROBES_MAX },
    ];
    let won = (0..15).filter(|seed| Net::with([hard(), home()], work, *seed, 0).run()).count();
    // 1,024 blind guesses are left: 98 %.
    assert!(won >= 13, "{won} of 15");
}

#[test]
fn an_attempt_that_cannot_work_ends_in_time_and_within_its_budget() {
    let work = [Work::Open { sockets: NAT_SOCKETS_MAX }; 2];
    let mut net = Net::with([hard(), hard()], work, 1, 0);
    assert!(!net.run());
    assert!(net.now <= Time::ZERO + NAT_ATTEMPT_MAX + ONE_WAY);
    for end in &net.ends {
        assert!(matches!(end.failed, Some(Failure::NoWay { .. })));
        assert!(end.sent <= u32::from(NAT_PROBES_MAX));
    }
}

#[test]
fn fewer_sockets_than_wanted_still_try_and_none_is_an_error() {
    let keys = || ProbeKeys::new(&[7; 32], *b"attempt!", true);
    let target = SocketAddr::from(([1, 1, 1, 1], 7));
    let work = Work::Open { sockets: 4 };
    let mut few = Punch::new(Side::Controlling, work, target, keys(), Rng::from_u64(1));
    few.handle(Time::ZERO, Input::Opened { sockets: 2 });
    let sent: Vec<_> = std::iter::from_fn(|| few.poll_output()).collect();
    assert_eq!(sent.iter().filter(|output| matches!(output, Output::Send { .. })).count(), 2);
    let mut none = Punch::new(Side::Controlling, work, target, keys(), Rng::from_u64(1));
    none.handle(Time::ZERO, Input::Opened { sockets: 0 });
    assert_eq!(none.poll_output(), Some(Output::Open { sockets: 4 }));
    assert_eq!(none.poll_output(), Some(Output::Failed(Failure::NoSockets)));
    assert!(none.is_over() && none.poll_timeout().is_none());
}

#[test]
fn whoever_floods_an_attempt_gets_nothing_or_little_out_of_it() {
    let target = SocketAddr::from(([1, 1, 1, 1], 7));
    let work = Work::Open { sockets: 1 };
    let (ours, theirs) =
        (ProbeKeys::new(&[7; 32], *b"attempt!", false), ProbeKeys::new(&[7; 32], *b"attempt!", true));
    let mut punch = Punch::new(Side::Controlled, work, target, ours, Rng::from_u64(1));
    punch.handle(Time::ZERO, Input::Opened { sockets: 1 });
    while punch.poll_output().is_some() {}
    // Foreign bytes: nothing at all.
    let from = |n: u32| SocketAddr::from((n.to_be_bytes(), 9));
    for n in 0..1000 {
        let bytes = Bytes::from(vec![8; (n % 64) as usize]);
        punch.handle(Time::ZERO, Input::Heard { socket: 0, from: from(n), bytes });
        assert_eq!(punch.poll_output(), None);
    }
    // A true probe, replayed from a thousand addresses: a bounded number of answers as long as itself.
    let probe = Bytes::copy_from_slice(&theirs.probe(wire::Step::Probe, 0));
    let mut answers = 0;
    for n in 0..1000 {
        punch.handle(Time::ZERO, Input::Heard { socket: 0, from: from(n), bytes: probe.clone() });
        answers += std::iter::from_fn(|| punch.poll_output()).count();
    }
    assert_eq!(answers, usize::from(NAT_ANSWERS_MAX));
    // On the controlling side it is one choice towards the first of them.
    let keys = ProbeKeys::new(&[7; 32], *b"attempt!", true);
    let theirs = ProbeKeys::new(&[7; 32], *b"attempt!", false);
    let mut punch = Punch::new(Side::Controlling, work, target, keys, Rng::from_u64(1));
    punch.handle(Time::ZERO, Input::Opened { sockets: 1 });
    let probe = Bytes::copy_from_slice(&theirs.probe(wire::Step::Probe, 0));
    for n in 0..1000 {
        punch.handle(Time::ZERO, Input::Heard { socket: 0, from: from(n), bytes: probe.clone() });
    }
    let choices = std::iter::from_fn(|| punch.poll_output())
        .filter(|output| matches!(output, Output::Send { to, .. } if *to != target))
        .count();
    assert_eq!(choices, 1);
}
