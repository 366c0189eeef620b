//! Gives a device its inputs, one after the other, and carries out what it puts out.

use std::collections::VecDeque;

use honeylink_core::radio::{Frame, Priority};
use honeylink_core::time::Time;

use super::{Event, Syncer, World};
use crate::clock::Moment;
use crate::device::{Class, Errand, Input, NodeId, Output, PortId};
use crate::message;
use crate::plan::Message;
use crate::trace::{Missed, What};

/// What a device may put out after one input.
const OUTPUTS_PER_INPUT_MAX: u32 = 20_000;
/// What may follow from one event at one node.
const INPUTS_PER_EVENT_MAX: u32 = 20_000;
/// Frames a slow reader has room for.
const UNREAD_MAX: usize = 64;

impl World {
    /// Gives a running node an input, and carries out what follows.
    pub(super) fn feed(&mut self, id: NodeId, input: Input) {
        if self.nodes[id.index()].is_running() {
            self.nodes[id.index()].inbox.push_back(input);
            self.pump(id);
        }
    }

    /// A frame has come to a node: into its device, or behind those it has not read yet.
    pub(super) fn take_in(&mut self, id: NodeId, port: PortId, frame: Input) {
        let state = &mut self.nodes[id.index()];
        let Some(per_s) = state.reads_per_s else { return self.feed(id, frame) };
        if state.unread.len() >= UNREAD_MAX {
            return self.note(id, &What::Dropped { port, why: Missed::SlowReader });
        }
        state.unread.push_back(frame);
        if state.unread.len() == 1 {
            let at = self.now.plus_us(1_000_000 / u64::from(per_s.max(1)));
            let life = state.life;
            self.queue.push(at, Event::Read { node: id, life });
        }
    }

    pub(super) fn read(&mut self, id: NodeId, life: u32) {
        if !self.lives(id, life) {
            return;
        }
        let state = &mut self.nodes[id.index()];
        // When it is no longer slow it takes everything at once.
        let now_s = state.reads_per_s.map_or(state.unread.len(), |_| 1);
        let taken: VecDeque<Input> = state.unread.drain(..now_s.min(state.unread.len())).collect();
        state.inbox.extend(taken);
        if let (Some(per_s), false) = (state.reads_per_s, state.unread.is_empty()) {
            let at = self.now.plus_us(1_000_000 / u64::from(per_s.max(1)));
            self.queue.push(at, Event::Read { node: id, life });
        }
        self.pump(id);
    }

    /// Works until the device has no more input and no more output, then arranges its next timer.
    pub(super) fn pump(&mut self, id: NodeId) {
        for _ in 0..INPUTS_PER_EVENT_MAX {
            self.drain_modem(id);
            let state = &mut self.nodes[id.index()];
            let local = state.clock.local(self.now);
            let (Some(device), Some(input)) = (state.device.as_mut(), state.inbox.pop_front()) else {
                return self.arm(id);
            };
            device.handle(local, input);
            if !self.drain_device(id, local) {
                break;
            }
        }
        // Whatever it was, it goes on in the next event and not for ever in this one.
        self.nodes[id.index()].inbox.clear();
        self.note(id, &What::Stuck { why: "puts out without end" });
        self.arm(id);
    }

    /// Carries out everything a device wants; false if it never stops wanting.
    fn drain_device(&mut self, id: NodeId, local: Time) -> bool {
        for _ in 0..OUTPUTS_PER_INPUT_MAX {
            let device = self.nodes[id.index()].device.as_mut();
            let Some(output) = device.and_then(|device| device.poll_output()) else { return true };
            self.carry_out(id, local, output);
        }
        false
    }

    fn carry_out(&mut self, id: NodeId, local: Time, output: Output) {
        match output {
            Output::Transmit { port: PortId::RADIO, token, bytes, priority, expires_at, class, length } => {
                let priority = Priority::from_code(priority).unwrap_or(Priority::Control);
                let announce = class == Class::Announce && self.plan.protocol.announces_are_rationed();
                let expires_at = expires_at.unwrap_or(Time::MAX);
                let frame = Frame { token, bytes, priority, announce, expires_at };
                match self.nodes[id.index()].modem.as_mut() {
                    Some(modem) => modem.submit(local, frame, class, length),
                    None => self.unsent(id, PortId::RADIO, token),
                }
                self.drain_modem(id);
            }
            Output::Transmit { port, token, bytes, class, .. } => {
                self.transmit(id, port, token, &bytes, class);
            }
            Output::Withdraw { port: PortId::RADIO, token } => {
                if let Some(modem) = self.nodes[id.index()].modem.as_mut() {
                    modem.withdraw(local, token);
                }
                self.drain_modem(id);
            }
            // A frame given to a link is on its way.
            Output::Withdraw { .. } => {}
            Output::Deliver { from, payload } => self.note(id, &What::Deliver { from, payload: &payload }),
            Output::Progress { id: message, step } => self.note(id, &What::Progress { id: message, step }),
            Output::Save(record) => self.nodes[id.index()].disk.save(record),
            Output::Erase { table, key } => self.nodes[id.index()].disk.erase(table, key),
            Output::Sync(number) => self.sync(id, Syncer::Device(number)),
            Output::Note(text) => self.note(id, &What::Note { text: &text }),
        }
    }

    /// Tells a device that a frame never left.
    pub(super) fn unsent(&mut self, id: NodeId, port: PortId, token: u64) {
        self.note(id, &What::Unsent { port });
        self.nodes[id.index()].inbox.push_back(Input::Sent { port, token, aired: false });
    }

    /// An application sends. One whose machine is off has nothing to say.
    pub(super) fn send(&mut self, index: usize) {
        let Message { from, to, bytes, priority, lifetime_ms, .. } = self.plan.traffic[index];
        if !self.nodes[from.index()].is_running() {
            return;
        }
        let id = crate::device::MessageId(u32::try_from(index).unwrap_or(u32::MAX));
        let payload = message::payload(self.plan.seed, id, bytes);
        self.note(from, &What::Send { id, to });
        let lifetime_us = Moment::from_millis(lifetime_ms).as_micros();
        self.feed(from, Input::App(Errand { id, to, payload, priority, lifetime_us, receipt: true }));
    }
}
