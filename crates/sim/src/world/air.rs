//! Radios: what they submit, when they listen, what they put on the air, who hears it.

use super::{Event, World};
use crate::device::{Input, NodeId, PortId};
use crate::radio::ether::{Fate, Slot};
use crate::radio::modem::{Next, Word};
use crate::trace::What;

impl World {
    /// Does what a node's modem asks for.
    pub(super) fn drain_modem(&mut self, id: NodeId) {
        let now = self.now;
        while let Some(word) = self.nodes[id.index()].modem.as_mut().and_then(|modem| modem.poll(now)) {
            match word {
                Word::Sent { token, fate } if fate.aired() => {
                    let sent = Input::Sent { port: PortId::RADIO, token, aired: true };
                    self.nodes[id.index()].inbox.push_back(sent);
                }
                Word::Sent { token, .. } => self.unsent(id, PortId::RADIO, token),
                Word::Save { number, bytes } => self.save_duty(id, number, bytes),
                Word::Listen(at) => {
                    let life = self.nodes[id.index()].life;
                    self.queue.push(at, Event::Listen { node: id, life });
                }
            }
        }
    }

    pub(super) fn listen(&mut self, id: NodeId) {
        let Some(ether) = &self.ether else { return };
        let busy = ether.busy_until(self.now, id);
        let state = &mut self.nodes[id.index()];
        let life = state.life;
        let Some(modem) = state.modem.as_mut() else { return };
        match modem.listen(self.now, busy) {
            Next::Nothing => {}
            Next::At(at) => self.queue.push(at, Event::Listen { node: id, life }),
            Next::Speak { bytes, airtime_us, class } => {
                let (now, nodes, faults) = (self.now, &self.nodes, &self.faults);
                let listens =
                    |other: NodeId| nodes[other.index()].is_running() && !faults.blocks_air(id, other);
                let Some(ether) = &mut self.ether else { return };
                let (slot, tx) = ether.begin(now, id, (bytes.clone(), class), airtime_us, listens);
                self.queue.push(now.plus_us(airtime_us), Event::AirEnd { slot, life });
                self.note(id, &What::Air { tx, airtime_us, class, bytes: &bytes });
            }
        }
    }

    pub(super) fn air_end(&mut self, slot: Slot, life: u32) {
        let mut fates = std::mem::take(&mut self.fates);
        let Some(done) = self.ether.as_mut().and_then(|ether| ether.finish(slot, &mut fates)) else { return };
        if self.lives(done.from, life) {
            let state = &mut self.nodes[done.from.index()];
            let local = state.clock.local(self.now);
            if let Some(modem) = &mut state.modem {
                modem.done(local);
            }
            self.pump(done.from);
        }
        for Fate { node, result } in &fates {
            if !self.nodes[node.index()].is_running() {
                continue;
            }
            match result {
                Ok(quality) => {
                    self.note(*node, &What::Heard { tx: done.number, from: done.from });
                    let (port, bytes) = (PortId::RADIO, done.bytes.clone());
                    self.take_in(*node, port, Input::Frame { port, bytes, quality: Some(*quality) });
                }
                Err(why) => self.note(*node, &What::Unheard { tx: done.number, why: *why }),
            }
        }
        self.fates = fates;
    }
}
