//! Links: frames that leave and arrive, and the probes that keep a link open or find it again.

use bytes::Bytes;

use super::{Event, World};
use crate::device::{Class, Input, NodeId, PortId, PortKind};
use crate::net::cable::{KEEPALIVE_US, SEEK_US};
use crate::net::lane::Passage;
use crate::trace::{Missed, What};

impl World {
    /// A device sends a frame over a link.
    pub(super) fn transmit(&mut self, id: NodeId, port: PortId, token: u64, bytes: &Bytes, class: Class) {
        let at =
            usize::from(port.0).checked_sub(1).and_then(|at| self.nodes[id.index()].cables.get(at)).copied();
        let Some(number) = at.filter(|number| self.cables[*number].open) else {
            return self.unsent(id, port, token);
        };
        let side = usize::from(self.cables[number].ends[0].node != id);
        let passage = self.cables[number].flows[side].pass(self.now, bytes.len());
        if passage == Passage::Lost(Missed::QueueFull) {
            return self.unsent(id, port, token);
        }
        self.note(id, &What::Wire { port, class, bytes });
        let life = self.nodes[id.index()].life;
        let departs = if let Passage::Arrives { departs, .. } = passage { departs } else { self.now };
        self.queue.push(departs, Event::Departed { node: id, life, port, token });
        match passage {
            Passage::Lost(why) => self.note(id, &What::Dropped { port, why }),
            Passage::Arrives { .. } if !self.passes(number, side) => {
                self.note(id, &What::Dropped { port, why: Missed::Blocked });
            }
            Passage::Arrives { first, second, .. } => {
                if !self.cables[number].carry(self.now, side, &mut self.nats) {
                    return self.note(id, &What::Dropped { port, why: Missed::Filtered });
                }
                for at in [Some(first), second].into_iter().flatten() {
                    self.queue
                        .push(at, Event::Arrive { cable: number, side: 1 - side, bytes: bytes.clone() });
                }
            }
        }
    }

    pub(super) fn arrive(&mut self, number: usize, side: usize, bytes: Bytes) {
        let end = &self.cables[number].ends[side];
        let (id, port) = (end.node, end.port);
        if !self.nodes[id.index()].is_running() {
            return self.note(id, &What::Dropped { port, why: Missed::Absent });
        }
        self.note(id, &What::Arrived { port, bytes: &bytes });
        self.take_in(id, port, Input::Frame { port, bytes, quality: None });
    }

    /// The two sides of a link probe each other; the devices hear when it opens or closes.
    pub(super) fn probe(&mut self, number: usize, generation: u32) {
        if self.cables[number].generation != generation {
            return;
        }
        let was = self.cables[number].open;
        let passes = [0, 1].map(|side| self.passes(number, side));
        let open = self.cables[number].probe(self.now, passes, &mut self.nats);
        if open != was {
            self.tell_ends(number, open);
        }
        let next = self.now.plus_us(if open { KEEPALIVE_US } else { SEEK_US });
        self.queue.push(next, Event::Probe { cable: number, generation });
    }

    /// A node at one end of a link has started: the connection it had is gone, and a new one is sought at once.
    pub(super) fn reconnect(&mut self, number: usize) {
        if self.cables[number].open {
            self.tell_ends(number, false);
        }
        let cable = &mut self.cables[number];
        cable.forget();
        cable.generation += 1;
        let generation = cable.generation;
        self.queue.push(self.now, Event::Probe { cable: number, generation });
    }

    fn tell_ends(&mut self, number: usize, open: bool) {
        self.cables[number].open = open;
        for side in [0, 1] {
            let end = &self.cables[number].ends[side];
            let (id, port) = (end.node, end.port);
            let lane = self.cables[number].flows[side].lane();
            let kind =
                PortKind::Link { mtu: lane.mtu, bits_per_s: lane.bits_per_s, latency_us: lane.latency_us };
            let (what, input) = if open {
                (What::Up { port }, Input::PortUp(port, kind))
            } else {
                (What::Down { port }, Input::PortDown(port))
            };
            self.note(id, &what);
            self.feed(id, input);
        }
    }

    /// Whether anything gets from `side` of a link to the other.
    fn passes(&self, number: usize, side: usize) -> bool {
        let cable = &self.cables[number];
        let (from, to) = (cable.ends[side].node, cable.ends[1 - side].node);
        let awake = |id: NodeId| self.nodes[id.index()].is_running();
        cable.cuts == 0 && awake(from) && awake(to) && !self.faults.blocks(from, to)
    }
}
