//! A tiny network for the tests of [`super`]: radios that hear their neighbours, lines between two, disks that lose what
//! was not synced. One event queue, one seed, no physics beyond loss and airtime; the simulator has those.

use std::collections::BTreeMap;

use super::frame::PortKind;
use super::records::{Saved, Write};
use super::*;
use crate::identity::{DeviceId, SecretKey};
use crate::radio::{Class, CodingRate, Lora, Pace};
use crate::rng::Rng;
use crate::time::Time;
use bytes::Bytes;
use core::time::Duration;

pub(super) const RADIO: PortId = PortId(0);

pub(super) struct Node {
    pub(super) mesh: Mesh,
    pub(super) key: SecretKey,
    pub(super) up: bool,
    disk: Saved,
    unsynced: Vec<Write>,
    pub(super) got: Vec<(DeviceId, Bytes)>,
    pub(super) steps: Vec<(u64, Step)>,
    pub(super) events: Vec<Event>,
    caps: frame::Caps,
    lives: u64,
}

enum What {
    Frame { to: usize, port: PortId, bytes: Bytes, quality: Option<Quality> },
    Sent { to: usize, port: PortId, token: u64, life: u64 },
    Synced { to: usize, mark: u64, life: u64 },
}

pub(super) struct Net {
    config: Config,
    pub(super) now: Time,
    pub(super) nodes: Vec<Node>,
    /// Who hears whom by radio, and how well, quarters of a decibel.
    radio: BTreeMap<(usize, usize), i16>,
    /// Lines: port `1 + n` of one end is line `n`.
    lines: Vec<(usize, usize)>,
    cuts: std::collections::BTreeSet<usize>,
    pub(super) loss_percent: u64,
    pub(super) transmissions: usize,
    /// Every frame that was on the air: who sent it and what.
    pub(super) log: Vec<(usize, Bytes)>,
    queue: BTreeMap<(Time, u64), What>,
    number: u64,
    rng: Rng,
}

pub(super) fn lora() -> PortInfo {
    let pace = Pace::Lora(Lora::new(8, 125_000, CodingRate::Cr45).unwrap());
    PortInfo { kind: PortKind::Broadcast, class: Class::of(&pace, 100_000), mtu: 222, pace }
}

fn wire() -> PortInfo {
    let pace = Pace::Rate { bits_per_s: 10_000_000, latency_us: 5_000 };
    PortInfo { kind: PortKind::PointToPoint, class: Class::Unconstrained, mtu: 1200, pace }
}

impl Net {
    /// `n` nodes that all know each other's keys, nobody in reach of anybody.
    pub(super) fn new(n: usize, seed: u64) -> Self {
        Self::with(n, seed, Config { announces: false, ..Config::default() })
    }

    /// As [`Net::new`], with devices made like this.
    pub(super) fn with(n: usize, seed: u64, config: Config) -> Self {
        let mut net = Self {
            config,
            now: Time::ZERO,
            nodes: Vec::new(),
            radio: BTreeMap::new(),
            lines: Vec::new(),
            cuts: std::collections::BTreeSet::new(),
            loss_percent: 0,
            transmissions: 0,
            log: Vec::new(),
            queue: BTreeMap::new(),
            number: 0,
            rng: Rng::from_u64(seed),
        };
        for index in 0..n {
            let key = SecretKey::from_u64(1000 + index as u64);
            let rng = Rng::from_u64(seed * 1000 + index as u64);
            let mesh = Mesh::new(config, key.clone(), rng, Saved::default(), Time::ZERO);
            net.nodes.push(Node {
                mesh,
                key,
                up: true,
                disk: Saved::default(),
                unsynced: vec![],
                got: vec![],
                steps: vec![],
                events: vec![],
                caps: config.caps,
                lives: 0,
            });
        }
        for index in 0..n {
            net.boot(index);
        }
        net
    }

    /// Nodes in a row, each hearing the next.
    pub(super) fn row(n: usize, seed: u64) -> Self {
        let mut net = Self::new(n, seed);
        for index in 1..n {
            net.hear(index - 1, index);
        }
        net
    }

    /// One more node, which nobody hears and everybody knows.
    pub(super) fn add(&mut self) -> usize {
        let index = self.nodes.len();
        let one = Self::new(index + 1, 1);
        self.nodes.extend(one.nodes.into_iter().skip(index));
        let id = self.id(index);
        for node in 0..index {
            self.input(node, Input::Know(id));
        }
        index
    }

    pub(super) fn hear(&mut self, a: usize, b: usize) {
        self.radio.insert((a, b), 20);
        self.radio.insert((b, a), 20);
    }

    pub(super) fn unhear(&mut self, a: usize, b: usize) {
        self.radio.remove(&(a, b));
        self.radio.remove(&(b, a));
    }

    /// A line between two nodes, up at once.
    pub(super) fn line(&mut self, a: usize, b: usize) {
        self.lines.push((a, b));
        let port = PortId(u16::try_from(self.lines.len()).unwrap());
        for end in [a, b] {
            self.input(end, Input::PortUp { port, info: wire() });
        }
    }

    pub(super) fn cut(&mut self, line: usize) {
        let (a, b) = self.lines[line];
        self.cuts.insert(line);
        let port = PortId(u16::try_from(line + 1).unwrap());
        for end in [a, b] {
            self.input(end, Input::PortDown { port });
        }
    }

    pub(super) fn id(&self, node: usize) -> DeviceId {
        self.nodes[node].key.id()
    }

    fn boot(&mut self, node: usize) {
        let others: Vec<DeviceId> = self.nodes.iter().map(|other| other.key.id()).collect();
        self.input(node, Input::PortUp { port: RADIO, info: lora() });
        for other in others {
            self.input(node, Input::Know(other));
        }
    }

    /// From now on it keeps messages for others.
    pub(super) fn stores(&mut self, node: usize) {
        self.nodes[node].caps = frame::Caps::RELAY.and(frame::Caps::STORE);
        self.restart(node);
    }

    /// Power off and on: what was not synced is gone.
    pub(super) fn restart(&mut self, node: usize) {
        self.nodes[node].lives += 1;
        let lives = self.nodes[node].lives;
        let subject = &mut self.nodes[node];
        subject.unsynced.clear();
        let config = Config { caps: subject.caps, ..self.config };
        let rng = Rng::from_u64(77_000 + lives * 100 + node as u64);
        subject.mesh = Mesh::new(config, subject.key.clone(), rng, subject.disk.clone(), self.now);
        self.boot(node);
        for (line, (a, b)) in self.lines.clone().into_iter().enumerate() {
            if !self.cuts.contains(&line) && (a == node || b == node) {
                let port = PortId(u16::try_from(line + 1).unwrap());
                self.input(node, Input::PortUp { port, info: wire() });
            }
        }
    }

    /// Power off and on with an empty disk.
    pub(super) fn wipe(&mut self, node: usize) {
        self.nodes[node].disk = Saved::default();
        self.restart(node);
    }

    /// How many records of a table are on a node's disk.
    pub(super) fn saved(&self, node: usize, table: records::Table) -> usize {
        self.nodes[node].disk.clone().take(table).count()
    }

    pub(super) fn send(&mut self, from: usize, to: usize, id: u64) {
        self.send_for(from, to, id, Duration::from_secs(3600));
    }

    pub(super) fn send_for(&mut self, from: usize, to: usize, id: u64, lifetime: Duration) {
        let out = Outgoing {
            id,
            to: self.id(to),
            payload: Bytes::from(format!("message {id:08}")),
            priority: frame::Priority::Normal,
            lifetime,
            receipt: true,
        };
        self.input(from, Input::Send(out));
    }

    pub(super) fn input(&mut self, node: usize, input: Input) {
        self.nodes[node].mesh.handle(self.now, input);
        self.drain(node);
    }

    fn schedule(&mut self, after: Duration, what: What) {
        self.number += 1;
        self.queue.insert((self.now + after, self.number), what);
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].mesh.poll_output() {
            match output {
                Output::Transmit { port, token, bytes, .. } => self.transmit(node, port, token, bytes),
                Output::Deliver { from, payload, .. } => self.nodes[node].got.push((from, payload)),
                Output::Progress { id, step } => self.nodes[node].steps.push((id, step)),
                Output::Save(record) => self.nodes[node].unsynced.push(Write::Save(record)),
                Output::Erase(key) => self.nodes[node].unsynced.push(Write::Erase(key)),
                Output::Sync(mark) => {
                    let subject = &mut self.nodes[node];
                    for write in subject.unsynced.drain(..) {
                        subject.disk.apply(&write);
                    }
                    let life = subject.lives;
                    self.schedule(Duration::from_millis(3), What::Synced { to: node, mark, life });
                }
                Output::Event(event) => self.nodes[node].events.push(event),
                Output::Withdraw { .. } => {}
            }
        }
    }

    fn transmit(&mut self, node: usize, port: PortId, token: u64, bytes: Bytes) {
        self.transmissions += 1;
        self.log.push((node, bytes.clone()));
        let life = self.nodes[node].lives;
        if port == RADIO {
            let airtime = lora().airtime(bytes.len());
            let hearers: Vec<(usize, i16)> =
                self.radio.range((node, 0)..=(node, usize::MAX)).map(|((_, to), snr)| (*to, *snr)).collect();
            for (to, snr) in hearers {
                if self.nodes[to].up && self.rng.below(100) >= self.loss_percent {
                    let quality = Some(Quality { rssi_dbm: -100, snr_quarter_db: snr });
                    self.schedule(airtime, What::Frame { to, port, bytes: bytes.clone(), quality });
                }
            }
            self.schedule(airtime, What::Sent { to: node, port, token, life });
        } else {
            let (a, b) = self.lines[usize::from(port.0) - 1];
            let to = if node == a { b } else { a };
            self.schedule(Duration::from_millis(5), What::Frame { to, port, bytes, quality: None });
            self.schedule(Duration::ZERO, What::Sent { to: node, port, token, life });
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut standing = 0;
        for _ in 0..2_000_000 {
            let due = self.nodes.iter().enumerate().filter(|(_, node)| node.up);
            let timer = due.filter_map(|(at, node)| Some((node.mesh.poll_timeout()?.at, at))).min();
            let event = self.queue.first_key_value().map(|((at, _), _)| *at);
            let at = timer.map_or(Time::MAX, |(at, _)| at).min(event.unwrap_or(Time::MAX));
            if at > end {
                break;
            }
            standing = if at > self.now { 0 } else { standing + 1 };
            if let Some((_, node)) = timer.filter(|_| standing > 20_000) {
                panic!("time stands still: {:?}", self.nodes[node].mesh.poll_timeout());
            }
            self.now = self.now.max(at);
            if event == Some(at) {
                let (_, what) = self.queue.pop_first().unwrap();
                self.happen(what);
            } else if let Some((_, node)) = timer {
                self.input(node, Input::Timeout);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Frame { to, port, bytes, quality } => {
                if self.nodes[to].up {
                    self.input(to, Input::Frame { port, bytes, quality });
                }
            }
            What::Sent { to, port, token, life } => {
                if self.nodes[to].lives == life {
                    self.input(to, Input::Sent { port, token, aired: true });
                }
            }
            What::Synced { to, mark, life } => {
                if self.nodes[to].lives == life {
                    self.input(to, Input::Synced(mark));
                }
            }
        }
    }

    pub(super) fn delivered(&self, node: usize, id: u64) -> usize {
        let payload = Bytes::from(format!("message {id:08}"));
        self.nodes[node].got.iter().filter(|(_, got)| *got == payload).count()
    }

    pub(super) fn has(&self, node: usize, id: u64, step: Step) -> bool {
        self.nodes[node].steps.contains(&(id, step))
    }
}
