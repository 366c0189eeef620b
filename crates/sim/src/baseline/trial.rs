//! A bench for one baseline: a handful of devices on a perfect medium, everything they send written down.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::time::Time;

use super::packet::Packet;
use crate::device::{Device, Errand, Input, MessageId, NodeId, Output, PortId, PortKind, Quality, Step};
use crate::message;
use crate::plan::{Message, Plan};
use crate::protocol::Protocol;
use crate::radio::Settings;
use crate::scenario::{Nodes, Radio, Scenario, Traffic};

/// A transmission.
pub(super) struct Sent {
    pub(super) by: usize,
    pub(super) packet: Packet,
    pub(super) length: usize,
}

/// Devices that hear each other without loss, unless told otherwise.
pub(super) struct Trial {
    pub(super) plan: Plan,
    devices: Vec<Box<dyn Device>>,
    hears: Box<dyn Fn(usize, usize) -> bool>,
    deaf: Vec<usize>,
    now: Time,
    coming: BTreeMap<(Time, u64), (usize, Input)>,
    arranged: u64,
    messages: u32,
    pub(super) sent: Vec<Sent>,
    pub(super) delivered: Vec<usize>,
    steps: Vec<Step>,
    /// How well everybody hears whom.
    pub(super) snr_quarter_db: fn(usize, usize) -> i16,
}

impl Trial {
    /// Devices of which each hears those it `hears`. The first and the last talk.
    pub(super) fn new(
        protocol: Protocol,
        count: usize,
        hears: impl Fn(usize, usize) -> bool + 'static,
    ) -> Self {
        let scenario = Scenario {
            nodes: Nodes { count, ..Nodes::default() },
            radio: Some(Radio::default()),
            traffic: Traffic { conversations: 0, ..Traffic::default() },
            ..Scenario::default()
        };
        let mut plan = scenario.plan(1);
        let id = |index: usize| NodeId(u32::try_from(index).unwrap());
        plan.traffic = vec![Message {
            at_ms: 0,
            from: id(0),
            to: id(count - 1),
            bytes: 20,
            priority: 1,
            lifetime_ms: 3_600_000,
        }];
        let devices = (0..count).map(|index| protocol.device(&plan, id(index), 1)).collect();
        let mut trial = Self {
            plan,
            devices,
            hears: Box::new(hears),
            deaf: Vec::new(),
            now: Time::ZERO,
            coming: BTreeMap::new(),
            arranged: 0,
            messages: 0,
            sent: Vec::new(),
            delivered: Vec::new(),
            steps: Vec::new(),
            snr_quarter_db: |_, _| 20,
        };
        for index in 0..count {
            trial.feed(index, Input::PortUp(PortId::RADIO, PortKind::Radio(Settings::default())));
        }
        trial
    }

    /// Devices of which each hears the one before and the one after.
    pub(super) fn line(protocol: Protocol, count: usize) -> Self {
        Self::new(protocol, count, |a, b| a.abs_diff(b) == 1)
    }

    /// From now on this device hears nothing.
    pub(super) fn deaf(&mut self, index: usize) {
        self.deaf.push(index);
    }

    /// Everybody hears again.
    pub(super) fn hears_again(&mut self) {
        self.deaf.clear();
    }

    pub(super) fn send(&mut self, from: usize, to: usize) {
        let id = MessageId(self.messages);
        self.messages += 1;
        let errand = Errand {
            id,
            to: NodeId(u32::try_from(to).unwrap()),
            payload: message::payload(self.plan.seed, id, 20),
            priority: 1,
            lifetime_us: 3_600_000_000,
            receipt: true,
        };
        self.feed(from, Input::App(errand));
    }

    /// How many messages their senders know to have arrived.
    pub(super) fn confirmed(&self) -> usize {
        self.steps.iter().filter(|step| **step == Step::Delivered).count()
    }

    /// How many messages were given up.
    pub(super) fn failed(&self) -> usize {
        self.steps.iter().filter(|step| **step == Step::Failed).count()
    }

    /// Lets so many seconds pass.
    pub(super) fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            let timer = (0..self.devices.len())
                .filter_map(|index| Some((self.devices[index].poll_timeout()?.at, index)))
                .min();
            let next = self.coming.keys().next().map(|(at, _)| *at);
            match (timer, next) {
                (Some((at, index)), _) if at <= end && next.is_none_or(|next| at <= next) => {
                    self.now = self.now.max(at);
                    self.feed(index, Input::Timeout);
                }
                (_, Some(at)) if at <= end => {
                    self.now = at;
                    let Some((_, (index, input))) = self.coming.pop_first() else { return };
                    if !self.deaf.contains(&index) {
                        self.feed(index, input);
                    }
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn feed(&mut self, index: usize, input: Input) {
        self.devices[index].handle(self.now, input);
        while let Some(output) = self.devices[index].poll_output() {
            match output {
                Output::Transmit { bytes, length, .. } => self.transmit(index, &bytes, length.unwrap()),
                Output::Deliver { .. } => self.delivered.push(index),
                Output::Progress { step, .. } => self.steps.push(step),
                Output::Withdraw { .. }
                | Output::Save(_)
                | Output::Erase { .. }
                | Output::Sync(_)
                | Output::Note(_) => {}
            }
        }
    }

    fn transmit(&mut self, by: usize, bytes: &Bytes, length: usize) {
        let airtime = Duration::from_micros(Settings::default().airtime_us(length));
        let packet = Packet::decode(bytes).unwrap();
        self.sent.push(Sent { by, packet, length });
        for other in (0..self.devices.len()).filter(|other| *other != by && (self.hears)(by, *other)) {
            self.arranged += 1;
            let quality = Some(Quality { rssi_dbm: -90, snr_quarter_db: (self.snr_quarter_db)(by, other) });
            let frame = Input::Frame { port: PortId::RADIO, bytes: bytes.clone(), quality };
            self.coming.insert((self.now + airtime, self.arranged), (other, frame));
        }
    }
}
