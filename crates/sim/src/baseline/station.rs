//! What every baseline needs: a name, a radio, timers, a memory of what was seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::time::Duration;
use honeylink_core::time::{Deadline, Time};

use super::packet::Packet;
use crate::chance::{Chance, Purpose, blend};
use crate::device::{Class, NodeId, Output, PortId};
use crate::plan::Plan;
use crate::radio::Settings;

/// Packets remembered as seen. Ample for the runs that are published; the real ones remember fewer.
const SEEN_MAX: usize = 8_192;

/// Frames to wait for the answer to a flood in a network of [`PATIENCE_NODES`] nodes or less: there and back across it.
const PATIENCE_FRAMES: f64 = 120.0;
const PATIENCE_NODES: f64 = 200.0;

/// The wait that suits a network: its diameter grows with the root of its size.
fn patience_frames(nodes: usize) -> u64 {
    (PATIENCE_FRAMES * (nodes as f64 / PATIENCE_NODES).max(1.0).sqrt()) as u64
}

/// A node's plumbing. `J` is what its timers remind it of.
pub(super) struct Station<J> {
    pub(super) me: NodeId,
    pub(super) chance: Chance,
    pub(super) settings: Settings,
    outputs: VecDeque<Output>,
    jobs: BTreeMap<(Time, u64), J>,
    jobs_begun: u64,
    tokens: u64,
    /// How long to wait for the answer to a flood, in frames of its length.
    patience_frames: u64,
    seen: BTreeSet<u64>,
    seen_order: VecDeque<u64>,
}

impl<J> Station<J> {
    pub(super) fn new(plan: &Plan, me: NodeId, life: u32) -> Self {
        Self {
            me,
            chance: Chance::new(plan.seed, Purpose::Devices, blend(&[me.0.into(), life.into()])),
            settings: plan.air.map(|air| air.settings).unwrap_or_default(),
            outputs: VecDeque::new(),
            jobs: BTreeMap::new(),
            jobs_begun: 0,
            // A number of the last life must not be taken for one of this.
            tokens: u64::from(life) << 40,
            patience_frames: patience_frames(plan.nodes.len()),
            seen: BTreeSet::new(),
            seen_order: VecDeque::new(),
        }
    }

    /// A new number for a packet of this node.
    pub(super) fn number(&mut self) -> u32 {
        u32::try_from(self.chance.next_u64() >> 32).unwrap_or(0)
    }

    /// Remembers a packet; false if it was known.
    pub(super) fn is_new(&mut self, packet: &Packet) -> bool {
        // One number, because every copy of every flood asks: kinds are few, and nodes fewer than 2^29.
        let key = (packet.kind as u64) << 61 | u64::from(packet.origin.0) << 32 | u64::from(packet.id);
        if !self.seen.insert(key) {
            return false;
        }
        self.seen_order.push_back(key);
        if self.seen_order.len() > SEEN_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        true
    }

    /// Gives a packet to the radio, as long as the modelled protocol makes it. Returns its token.
    pub(super) fn transmit(&mut self, packet: &Packet, length: usize, class: Class) -> u64 {
        self.tokens += 1;
        self.outputs.push_back(Output::Transmit {
            port: PortId::RADIO,
            token: self.tokens,
            bytes: packet.encode(),
            priority: if class == Class::Announce { 0 } else { 1 },
            expires_at: None,
            class,
            length: Some(length),
        });
        self.tokens
    }

    pub(super) fn withdraw(&mut self, token: u64) {
        self.out(Output::Withdraw { port: PortId::RADIO, token });
    }

    pub(super) fn out(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Time on air of a frame, in microseconds.
    pub(super) fn airtime_us(&self, length: usize) -> u64 {
        self.settings.airtime_us(length)
    }

    /// How long to wait for the answer to a flooded frame of this length, in microseconds.
    pub(super) fn patience_us(&self, length: usize) -> u64 {
        self.patience_frames * self.airtime_us(length)
    }

    /// Reminds of `job` after so many microseconds.
    pub(super) fn later(&mut self, now: Time, after_us: u64, job: J) -> (Time, u64) {
        self.jobs_begun += 1;
        let key = (now + Duration::from_micros(after_us), self.jobs_begun);
        self.jobs.insert(key, job);
        key
    }

    pub(super) fn forget(&mut self, key: (Time, u64)) -> Option<J> {
        self.jobs.remove(&key)
    }

    /// The next job that is due.
    pub(super) fn due(&mut self, now: Time) -> Option<J> {
        let first = self.jobs.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        self.jobs.keys().next().map(|(at, _)| Deadline { at: *at, why: "a job is due" })
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.seen.len() * 2 * size_of::<u64>() + self.jobs.len() * size_of::<((Time, u64), J)>()
    }
}
