//! Faults begin and end; healing ends them all.

use super::node::Phase;
use super::{Event, World};
use crate::device::NodeId;
use crate::fault::Fault;
use crate::net::Lane;
use crate::trace::What;

/// What is wrong now.
pub(super) struct Active {
    /// By place in the plan.
    on: Vec<bool>,
    partitions: Vec<(usize, Split)>,
    jammers: u32,
}

struct Split {
    side: Vec<NodeId>,
    one_way: bool,
}

impl Split {
    fn blocks(&self, from: NodeId, to: NodeId) -> bool {
        let inside = |id| self.side.binary_search(&id).is_ok();
        inside(from) != inside(to) && (!self.one_way || inside(from))
    }
}

impl Active {
    pub(super) fn new(faults: usize) -> Self {
        Self { on: vec![false; faults], partitions: Vec::new(), jammers: 0 }
    }

    /// Whether a partition lies between two nodes, in this direction.
    pub(super) fn blocks(&self, from: NodeId, to: NodeId) -> bool {
        self.partitions.iter().any(|(_, split)| split.blocks(from, to))
    }

    /// The same for radios, which a jammer silences as well.
    pub(super) fn blocks_air(&self, from: NodeId, to: NodeId) -> bool {
        self.jammers > 0 || self.blocks(from, to)
    }
}

impl World {
    pub(super) fn fault_begins(&mut self, index: usize) {
        let fault = self.plan.faults[index].fault.clone();
        if self.healed {
            return;
        }
        let node = fault.nodes().first().copied().unwrap_or(NodeId(0));
        self.note(node, &What::Fault { what: &fault.describe() });
        if let Some(for_ms) = fault.for_ms() {
            self.faults.on[index] = true;
            self.queue.push(self.now.plus_us(for_ms.saturating_mul(1_000)), Event::FaultEnds(index));
        }
        match fault {
            Fault::Crash { node, .. } => self.crash(node),
            Fault::Sleep { node, clock_runs, .. } => self.sleep(node, clock_runs),
            Fault::Partition { mut side, one_way, .. } => {
                side.sort_unstable();
                self.faults.partitions.push((index, Split { side, one_way }));
            }
            Fault::Cut { link, .. } => self.cables[link].cuts += 1,
            Fault::Degrade { link, .. } => self.dress(link),
            Fault::Jam { .. } => self.faults.jammers += 1,
            Fault::Rebind { node } => {
                for nat in &mut self.nats[node.index()] {
                    nat.rebind();
                }
            }
            Fault::SlowReader { node, per_s, .. } => self.nodes[node.index()].reads_per_s = Some(per_s),
            Fault::ClockRate { node, ppm } => {
                let now = self.now;
                self.nodes[node.index()].clock.set_rate(now, i64::from(ppm) * 1_000);
                self.nodes[node.index()].rearm();
                self.arm(node);
            }
            Fault::ClockLeap { node, by_ms } => {
                let now = self.now;
                let by = core::time::Duration::from_millis(by_ms);
                self.nodes[node.index()].clock.leap(now, by);
                self.nodes[node.index()].rearm();
                self.arm(node);
            }
            Fault::WallShift { node, by_ms } => {
                let clock = &mut self.nodes[node.index()].clock;
                clock.shift_wall(by_ms);
                let wall = clock.wall_ms(self.now);
                self.feed(node, crate::device::Input::WallClock(wall));
            }
        }
    }

    pub(super) fn fault_ends(&mut self, index: usize) {
        if !std::mem::take(&mut self.faults.on[index]) {
            return;
        }
        match self.plan.faults[index].fault.clone() {
            Fault::Crash { node, .. } => {
                // A second crash meanwhile may have a longer wait; the earliest end starts the node.
                self.boot(node);
            }
            Fault::Sleep { node, .. } => self.wake(node),
            Fault::Partition { .. } => self.faults.partitions.retain(|(at, _)| *at != index),
            Fault::Cut { link, .. } => self.cables[link].cuts -= 1,
            Fault::Degrade { link, .. } => self.dress(link),
            Fault::Jam { .. } => self.faults.jammers -= 1,
            Fault::SlowReader { node, .. } => {
                self.nodes[node.index()].reads_per_s = None;
            }
            Fault::Rebind { .. }
            | Fault::ClockRate { .. }
            | Fault::ClockLeap { .. }
            | Fault::WallShift { .. } => {}
        }
    }

    /// Gives a link the nature of the last fault that is still on, or its own.
    fn dress(&mut self, link: usize) {
        let on = self.plan.faults.iter().zip(&self.faults.on).rev().filter(|(_, on)| **on);
        let worn = on.map(|(timed, _)| &timed.fault).find_map(|fault| {
            if let Fault::Degrade { link: at, lane, .. } = fault
                && *at == link
            {
                Some(lane.clone())
            } else {
                None
            }
        });
        let own = &self.plan.links[link];
        let lanes: [Lane; 2] = match worn {
            Some(lane) => [lane.clone(), lane],
            None => [own.there.clone(), own.back.clone()],
        };
        for (flow, lane) in self.cables[link].flows.iter_mut().zip(lanes) {
            flow.set_lane(lane);
        }
    }

    /// Everything that is wrong ends now, and nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        for index in 0..self.plan.faults.len() {
            self.fault_ends(index);
        }
        for id in (0..).map(NodeId).take(self.nodes.len()) {
            match self.nodes[id.index()].phase {
                Phase::Off => self.boot(id),
                Phase::Asleep { .. } => self.wake(id),
                Phase::Running => {}
            }
        }
        self.note(NodeId(0), &What::Heal);
    }
}
