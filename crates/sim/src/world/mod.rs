//! The engine: one queue of events in virtual time, and everything they happen to.
//!
//! | file | what it does |
//! |---|---|
//! | `mod.rs` | builds a world from a plan, runs it, takes each event to its place |
//! | `node.rs` | a node's life: boot, crash, sleep, its timers |
//! | `drive.rs` | gives a device its inputs and carries out its outputs |
//! | `air.rs` | radios: submitting, listening, transmitting, hearing |
//! | `wires.rs` | links: sending, arriving, probing |
//! | `faults.rs` | what goes wrong, and healing |
//!
//! A world decides nothing by itself: what is not in the plan comes from streams of chance that spring from its seed.

mod air;
mod drive;
mod faults;
mod node;
mod wires;

use bytes::Bytes;
use honeylink_core::radio::scheduler::Config;

use self::faults::Active;
use self::node::NodeState;
use crate::chance::{Chance, Purpose};
use crate::clock::Moment;
use crate::device::{NodeId, PortId};
use crate::net::cable::{Cable, box_host};
use crate::net::nat::NatBox;
use crate::oracle::Judge;
use crate::plan::Plan;
use crate::radio::ether::{Ether, Fate, Slot};
use crate::tally::Tally;
use crate::trace::{Trace, What};

/// How often the state of every device is sampled, in microseconds.
const SAMPLE_US: u64 = 60_000_000;
/// How often moving nodes take a step, in microseconds.
const STRIDE_US: u64 = 5_000_000;

/// What is going to happen.
enum Event {
    /// A node is switched on, unless it has been meanwhile.
    Boot { node: NodeId, life: u32 },
    /// A node's device or scheduler has a deadline.
    Timer { node: NodeId, life: u32 },
    /// A modem wants to listen.
    Listen { node: NodeId, life: u32 },
    /// A transmission ends.
    AirEnd { slot: Slot, life: u32 },
    /// A frame comes in over a link.
    Arrive { cable: usize, side: usize, bytes: Bytes },
    /// A frame has left for a link.
    Departed { node: NodeId, life: u32, port: PortId, token: u64 },
    /// What was written up to a mark is on disk.
    Synced { node: NodeId, life: u32, mark: u64, whom: Syncer },
    /// The two sides of a link probe each other.
    Probe { cable: usize, generation: u32 },
    /// A slow reader takes its next frame.
    Read { node: NodeId, life: u32 },
    /// An application sends a message of the plan.
    Send(usize),
    /// A fault of the plan begins.
    Fault(usize),
    /// A fault of the plan ends.
    FaultEnds(usize),
    /// All faults end.
    Heal,
    /// Those who move take a step.
    Stride,
    /// Devices are asked for their size.
    Sample,
}

/// Who asked for a sync, with its number.
#[derive(Clone, Copy)]
enum Syncer {
    Device(u64),
    Modem(u64),
}

/// A world at some moment.
pub struct World {
    plan: Plan,
    now: Moment,
    queue: crate::queue::Queue<Event>,
    nodes: Vec<NodeState>,
    ether: Option<Ether>,
    radio_config: Option<Config>,
    cables: Vec<Cable>,
    nats: Vec<Vec<NatBox>>,
    faults: Active,
    movement: Chance,
    goals: Vec<(f64, f64)>,
    trace: Trace,
    judge: Judge,
    tally: Tally,
    fates: Vec<Fate>,
    healed: bool,
}

/// What came of a run.
pub struct Ended {
    /// The hash of everything that happened.
    pub hash: u64,
    /// How many events were recorded.
    pub events: u64,
    /// What the oracles found.
    pub violations: Vec<crate::oracle::Violation>,
    /// What was counted.
    pub tally: Tally,
}

impl World {
    /// The world of `plan` at its beginning.
    ///
    /// # Errors
    /// [`BuildError`] if the plan contradicts itself or its radio settings are those of no radio.
    pub fn new(plan: Plan, trace: Trace, judge: Judge) -> Result<Self, BuildError> {
        plan.check()?;
        let durable = plan.durable_duty;
        let radio_config =
            plan.air.map(|air| crate::radio::modem::scheduler_config(&air.settings, durable)).transpose()?;
        let places: Vec<(f64, f64)> = plan.nodes.iter().map(|node| (node.x, node.y)).collect();
        let radios = plan.nodes.iter().map(|node| node.radio).collect();
        let ether = plan.air.map(|air| Ether::new(air, plan.seed, places.clone(), radios));
        let nodes =
            plan.nodes.iter().zip(0..).map(|(node, id)| NodeState::new(&plan, NodeId(id), node)).collect();
        let nats = plan.nodes.iter().zip(0..).map(|(node, id)| boxes(plan.seed, NodeId(id), node)).collect();
        let mut world = Self {
            now: Moment::START,
            queue: crate::queue::Queue::default(),
            nodes,
            ether,
            radio_config,
            cables: Vec::new(),
            nats,
            faults: Active::new(plan.faults.len()),
            movement: Chance::new(plan.seed, Purpose::Movement, 0),
            goals: places,
            trace,
            tally: Tally::new(&plan),
            judge,
            fates: Vec::new(),
            healed: false,
            plan,
        };
        world.lay_cables();
        world.fill_the_calendar();
        Ok(world)
    }

    fn lay_cables(&mut self) {
        for (number, link) in self.plan.links.clone().into_iter().enumerate() {
            let ends = [link.a, link.b].map(|id| (id, self.nodes[id.index()].plug(number)));
            self.cables.push(Cable::new(self.plan.seed, number, ends, [link.there, link.back]));
            // Staggered, or every link of a large world would probe in the same microsecond.
            let first = Moment((number as u64 * 7_919) % 1_000_000);
            self.queue.push(first, Event::Probe { cable: number, generation: 0 });
        }
    }

    fn fill_the_calendar(&mut self) {
        for (node, id) in self.plan.nodes.iter().zip(0..) {
            let at = Moment::from_millis(node.starts_at_ms);
            self.queue.push(at, Event::Boot { node: NodeId(id), life: 0 });
        }
        for (index, message) in self.plan.traffic.iter().enumerate() {
            self.queue.push(Moment::from_millis(message.at_ms), Event::Send(index));
        }
        for (index, fault) in self.plan.faults.iter().enumerate() {
            self.queue.push(Moment::from_millis(fault.at_ms), Event::Fault(index));
        }
        self.queue.push(Moment::from_millis(self.plan.heal_at_ms), Event::Heal);
        self.queue.push(Moment(SAMPLE_US), Event::Sample);
        if self.plan.movement.is_some() {
            self.queue.push(Moment(STRIDE_US), Event::Stride);
        }
    }

    /// Runs to the end of the plan, or to the first violation if the judge stops there.
    pub fn run(&mut self) {
        let end = Moment::from_millis(self.plan.end_at_ms);
        while let Some((at, event)) = self.queue.pop_until(end) {
            self.now = at;
            self.happen(event);
            if self.judge.has_enough() {
                return;
            }
        }
        self.now = end;
        self.judge.finish(self.now);
    }

    /// Ends the world and says what came of it.
    pub fn finish(mut self) -> Ended {
        // The lines are for people; whoever gave the writer learns of its errors from the writer.
        let _ = self.trace.finish();
        Ended {
            hash: self.trace.hash(),
            events: self.trace.events(),
            violations: self.judge.into_violations(),
            tally: self.tally,
        }
    }

    /// The world's time.
    #[must_use]
    pub const fn now(&self) -> Moment {
        self.now
    }

    /// The mean number of others that a radio reaches.
    #[must_use]
    pub fn mean_degree(&self) -> f64 {
        let Some(ether) = &self.ether else { return 0.0 };
        let ids = (0..).map(NodeId).take(self.nodes.len());
        ids.map(|id| ether.neighbours(id).count()).sum::<usize>() as f64 / self.nodes.len() as f64
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Boot { node, life } => {
                if self.nodes[node.index()].life == life {
                    self.boot(node);
                }
            }
            Event::Timer { node, life } => self.timer(node, life),
            Event::Listen { node, life } => {
                if self.lives(node, life) {
                    self.listen(node);
                }
            }
            Event::AirEnd { slot, life } => self.air_end(slot, life),
            Event::Arrive { cable, side, bytes } => self.arrive(cable, side, bytes),
            Event::Departed { node, life, port, token } => {
                if self.lives(node, life) {
                    self.feed(node, crate::device::Input::Sent { port, token, aired: true });
                }
            }
            Event::Synced { node, life, mark, whom } => self.synced(node, life, mark, whom),
            Event::Probe { cable, generation } => self.probe(cable, generation),
            Event::Read { node, life } => self.read(node, life),
            Event::Send(index) => self.send(index),
            Event::Fault(index) => self.fault_begins(index),
            Event::FaultEnds(index) => self.fault_ends(index),
            Event::Heal => self.heal(),
            Event::Stride => self.stride(),
            Event::Sample => self.sample(),
        }
    }

    /// Takes note of something: into the trace, before the oracles, into the counts.
    fn note(&mut self, node: NodeId, what: &What<'_>) {
        self.trace.record(self.now, node, what);
        self.judge.observe(self.now, node, what);
        self.tally.observe(self.now, node, what);
    }

    fn sample(&mut self) {
        for id in (0..).map(NodeId).take(self.nodes.len()) {
            let state = &self.nodes[id.index()];
            let Some(device) = state.device.as_ref() else { continue };
            let bytes = device.state_bytes() as u64;
            let queued = state.modem.as_ref().map_or(0, |modem| modem.waiting() as u64);
            self.note(id, &What::State { bytes, queued });
        }
        self.queue.push(self.now.plus_us(SAMPLE_US), Event::Sample);
    }

    fn stride(&mut self) {
        let (Some(movement), Some(ether)) = (&self.plan.movement, &mut self.ether) else { return };
        let metres = movement.speed * STRIDE_US as f64 / 1e6;
        let mut moved = Vec::with_capacity(movement.nodes.len());
        for node in &movement.nodes {
            let (x, y) = ether.place(*node);
            let goal = &mut self.goals[node.index()];
            let rest = (goal.0 - x).hypot(goal.1 - y);
            if rest <= metres {
                moved.push((*node, *goal));
                *goal = (self.movement.unit() * movement.edge, self.movement.unit() * movement.edge);
            } else {
                let part = metres / rest;
                moved.push((*node, (x + (goal.0 - x) * part, y + (goal.1 - y) * part)));
            }
        }
        ether.relocate(&moved);
        self.queue.push(self.now.plus_us(STRIDE_US), Event::Stride);
    }
}

/// The NAT boxes before a node, innermost first.
fn boxes(seed: u64, id: NodeId, node: &crate::plan::Node) -> Vec<NatBox> {
    let make = |(level, kind): (u32, &crate::net::nat::NatKind)| {
        let chance = Chance::new(seed, Purpose::Nats, u64::from(id.0) * 8 + u64::from(level));
        kind.rules().map(|rules| NatBox::new(rules, box_host(id, level), chance))
    };
    (0..).zip(&node.nats).filter_map(make).collect()
}

/// Why a plan could not be made into a world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The plan contradicts itself.
    #[error(transparent)]
    Plan(#[from] crate::plan::PlanError),
    /// No radio can be set like this, or it may not be.
    #[error("the radio's settings: {0}")]
    Radio(#[from] honeylink_core::radio::RadioError),
}
