//! A node's life: it boots, sleeps, crashes and boots again; its clock and its disk outlive its device.

use std::collections::VecDeque;

use bytes::Bytes;
use honeylink_core::radio::scheduler::Past;
use honeylink_core::time::{Deadline, Time};

use super::{Event, Syncer, World};
use crate::chance::{Chance, Purpose, blend};
use crate::clock::{Clock, Moment};
use crate::device::{Device, Input, NodeId, PortId, PortKind, Record};
use crate::net::disk::Platter;
use crate::plan::{Node, Plan};
use crate::radio::modem::Modem;
use crate::trace::What;

/// The table of a node's disk that belongs to its radio's scheduler, not to its device.
pub(super) const RADIO_TABLE: u8 = 255;
/// A device may ask to be called again in the same microsecond so often, and no more.
const TIMEOUTS_AT_ONCE_MAX: u32 = 1_000;

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Off,
    Running,
    Asleep { since: Moment, clock_runs: bool },
}

/// A node at work, or not.
pub(super) struct NodeState {
    /// Counts boots; whatever was arranged in an earlier life is void.
    pub(super) life: u32,
    pub(super) phase: Phase,
    pub(super) device: Option<Box<dyn Device>>,
    pub(super) modem: Option<Modem>,
    pub(super) clock: Clock,
    pub(super) disk: Platter,
    disk_chance: Chance,
    /// The links at its ports, from port 1 on.
    pub(super) cables: Vec<usize>,
    /// What the device gets next.
    pub(super) inbox: VecDeque<Input>,
    /// Frames that a slow reader has not taken yet, and how many it takes a second.
    pub(super) unread: VecDeque<Input>,
    pub(super) reads_per_s: Option<u32>,
    /// The earliest timer arranged.
    timer_at: Moment,
    /// How often its timer went at this moment.
    spinning: (Moment, u32),
}

impl NodeState {
    pub(super) fn new(plan: &Plan, id: NodeId, node: &Node) -> Self {
        Self {
            life: 0,
            phase: Phase::Off,
            device: None,
            modem: None,
            clock: Clock::started(Moment::START, i64::from(node.clock_ppm) * 1_000, node.wall_offset_ms),
            disk: Platter::default(),
            disk_chance: Chance::new(plan.seed, Purpose::Disks, id.0.into()),
            cables: Vec::new(),
            inbox: VecDeque::new(),
            unread: VecDeque::new(),
            reads_per_s: None,
            timer_at: Moment::NEVER,
            spinning: (Moment::START, 0),
        }
    }

    /// Attaches a link and says at which port.
    pub(super) fn plug(&mut self, cable: usize) -> PortId {
        self.cables.push(cable);
        PortId(u16::try_from(self.cables.len()).unwrap_or(u16::MAX))
    }

    pub(super) const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// Forgets which timer was arranged: the clock it was computed by has changed.
    pub(super) const fn rearm(&mut self) {
        self.timer_at = Moment::NEVER;
    }

    fn deadline(&mut self) -> Option<Deadline> {
        let device = self.device.as_mut().and_then(|device| device.poll_timeout());
        Deadline::earliest(device, self.modem.as_ref().and_then(Modem::poll_timeout))
    }
}

impl World {
    /// Whether a node runs, and still in this life.
    pub(super) fn lives(&self, node: NodeId, life: u32) -> bool {
        let state = &self.nodes[node.index()];
        state.life == life && state.is_running()
    }

    pub(super) fn boot(&mut self, id: NodeId) {
        if self.nodes[id.index()].phase != Phase::Off {
            return;
        }
        let life = self.nodes[id.index()].life + 1;
        let first = life == 1;
        let device = self.plan.protocol.device(&self.plan, id, life);
        let modem = self.modem_for(id, life, first);
        let state = &mut self.nodes[id.index()];
        state.clock.restart(self.now);
        state.life = life;
        state.phase = Phase::Running;
        state.device = Some(device);
        state.modem = modem;
        state.timer_at = Moment::NEVER;
        let (mine, wall) = (
            state.disk.records().into_iter().filter(|record| record.table != RADIO_TABLE).collect(),
            state.clock.wall_ms(self.now),
        );
        state.inbox.push_back(Input::Boot(mine));
        state.inbox.push_back(Input::WallClock(wall));
        if let (Some(_), Some(air)) = (&state.modem, self.plan.air) {
            state.inbox.push_back(Input::PortUp(PortId::RADIO, PortKind::Radio(air.settings)));
        }
        for cable in state.cables.clone() {
            self.reconnect(cable);
        }
        self.note(id, &What::Boot);
        self.pump(id);
    }

    fn modem_for(&self, id: NodeId, life: u32, first: bool) -> Option<Modem> {
        let (air, config) = (self.plan.air?, self.radio_config.clone()?);
        if !self.plan.nodes[id.index()].radio {
            return None;
        }
        let records = self.nodes[id.index()].disk.records();
        let saved = records.iter().find(|record| record.table == RADIO_TABLE);
        let past = match saved {
            // The wall clock may have been set wrong: it is not trusted with the law.
            Some(record) => Past::Saved { bytes: &record.value, wall_ms: None },
            // Nothing was ever written: whatever was sent before needed a save that did not happen.
            None if first || config.durable => Past::Silent,
            None => Past::Lost,
        };
        let which = blend(&[id.0.into(), life.into()]);
        let chance = Chance::new(self.plan.seed, Purpose::Backoff, which);
        Some(Modem::new(Time::ZERO, &air.settings, config, past, chance))
    }

    pub(super) fn crash(&mut self, id: NodeId) {
        let tear = self.plan.disk.tear;
        let state = &mut self.nodes[id.index()];
        if state.phase == Phase::Off {
            return;
        }
        state.phase = Phase::Off;
        state.device = None;
        state.modem = None;
        state.inbox.clear();
        state.unread.clear();
        let lost_writes = state.disk.crash(tear, &mut state.disk_chance);
        if let Some(ether) = &mut self.ether {
            ether.silence(id);
        }
        self.note(id, &What::Crash { lost_writes });
    }

    pub(super) fn sleep(&mut self, id: NodeId, clock_runs: bool) {
        let now = self.now;
        let state = &mut self.nodes[id.index()];
        if !state.is_running() {
            return;
        }
        state.phase = Phase::Asleep { since: now, clock_runs };
        if let Some(ether) = &mut self.ether {
            ether.silence(id);
        }
        self.note(id, &What::Sleep);
    }

    pub(super) fn wake(&mut self, id: NodeId) {
        let now = self.now;
        let state = &mut self.nodes[id.index()];
        let Phase::Asleep { since, clock_runs } = state.phase else { return };
        if !clock_runs {
            state.clock.freeze_until(since, now);
        }
        state.phase = Phase::Running;
        state.timer_at = Moment::NEVER;
        let wall = state.clock.wall_ms(now);
        state.inbox.push_back(Input::WallClock(wall));
        self.note(id, &What::Wake);
        // What the modem had in hand when the node fell asleep it tries again now.
        let life = self.nodes[id.index()].life;
        self.queue.push(now, Event::Listen { node: id, life });
        self.pump(id);
    }

    pub(super) fn timer(&mut self, id: NodeId, life: u32) {
        if !self.lives(id, life) || self.nodes[id.index()].timer_at != self.now {
            return;
        }
        let state = &mut self.nodes[id.index()];
        state.timer_at = Moment::NEVER;
        let local = state.clock.local(self.now);
        if let Some(modem) = state.modem.as_mut().filter(|modem| is_due(modem.poll_timeout(), local)) {
            modem.timeout(local);
        }
        let asked = state.device.as_mut().and_then(|device| device.poll_timeout());
        if let Some(deadline) = asked.filter(|deadline| deadline.at <= local) {
            state.spinning =
                if state.spinning.0 == self.now { (self.now, state.spinning.1 + 1) } else { (self.now, 1) };
            if state.spinning.1 > TIMEOUTS_AT_ONCE_MAX {
                self.note(id, &What::Stuck { why: deadline.why });
                let later = self.now.plus_us(1_000_000);
                self.nodes[id.index()].timer_at = later;
                self.queue.push(later, Event::Timer { node: id, life });
                return;
            }
            self.nodes[id.index()].inbox.push_back(Input::Timeout);
        }
        self.pump(id);
    }

    /// Arranges the next timer. One that was arranged for earlier is left to go off for nothing, which is cheaper than
    /// taking it out of the queue.
    pub(super) fn arm(&mut self, id: NodeId) {
        let now = self.now;
        let state = &mut self.nodes[id.index()];
        let Some(deadline) = state.deadline() else { return };
        let at = state.clock.moment(deadline.at).max(now);
        if at < state.timer_at {
            state.timer_at = at;
            let life = state.life;
            self.queue.push(at, Event::Timer { node: id, life });
        }
    }

    pub(super) fn synced(&mut self, id: NodeId, life: u32, mark: u64, whom: Syncer) {
        if self.nodes[id.index()].life != life || self.nodes[id.index()].phase == Phase::Off {
            return;
        }
        let state = &mut self.nodes[id.index()];
        state.disk.settle(mark);
        match whom {
            Syncer::Device(number) => state.inbox.push_back(Input::Synced(number)),
            Syncer::Modem(number) => {
                let local = state.clock.local(self.now);
                if let Some(modem) = &mut state.modem {
                    modem.saved(local, number);
                }
            }
        }
        self.note(id, &What::Synced);
        // A sleeper gets it with everything else when it wakes.
        if self.nodes[id.index()].is_running() {
            self.pump(id);
        }
    }

    /// Writes the scheduler's state and syncs it.
    pub(super) fn save_duty(&mut self, id: NodeId, number: u64, value: Bytes) {
        let record = Record { table: RADIO_TABLE, key: Bytes::new(), value };
        self.nodes[id.index()].disk.save(record);
        self.sync(id, Syncer::Modem(number));
    }

    pub(super) fn sync(&mut self, id: NodeId, whom: Syncer) {
        let state = &self.nodes[id.index()];
        let event = Event::Synced { node: id, life: state.life, mark: state.disk.mark(), whom };
        self.queue.push(self.now.plus_us(self.plan.disk.sync_us), event);
    }
}

fn is_due(deadline: Option<Deadline>, now: Time) -> bool {
    deadline.is_some_and(|deadline| deadline.at <= now)
}
