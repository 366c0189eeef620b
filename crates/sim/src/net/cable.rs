//! A link between two nodes over the internet: found through NAT boxes, kept open by probes, noticed when dead.
//!
//! What the product's carriers do with QUIC is here in its outlines: each side learns from somebody both know (the
//! *rendezvous*; how they talk to it is not simulated) how the other looks from outside, both send to what they know,
//! and answer to wherever a frame really came from. A link is open while each side has heard the other lately.

use super::lane::{Flow, Lane};
use super::nat::{Endpoint, NatBox};
use crate::chance::{Chance, Purpose};
use crate::clock::Moment;
use crate::device::{NodeId, PortId};

/// Probes go out this often on an open link, in microseconds.
pub const KEEPALIVE_US: u64 = 10_000_000;
/// And this often while the sides look for each other.
pub const SEEK_US: u64 = 2_000_000;
/// A link on which nothing was heard for this long is dead, in microseconds.
const SILENCE_US: u64 = 25_000_000;
/// Addresses of the other side that are tried at most; the newest first.
const CANDIDATES_MAX: usize = 4;
/// Where everybody asks how they look from outside. Nodes and boxes have other addresses.
const RENDEZVOUS: Endpoint = Endpoint { host: u32::MAX, port: 3_478 };

/// One end of a link.
#[derive(Clone, Debug)]
pub struct End {
    /// Whose.
    pub node: NodeId,
    /// Its port there.
    pub port: PortId,
    inside: Endpoint,
    /// Where the other side may be, the most recently seen first.
    candidates: Vec<Endpoint>,
    heard: Option<Moment>,
}

/// A link.
pub struct Cable {
    /// Its two ends.
    pub ends: [End; 2],
    /// The two directions: index 0 from end 0 to end 1.
    pub flows: [Flow; 2],
    /// Whether both sides hear each other.
    pub open: bool,
    /// Cuts in force.
    pub cuts: u32,
    /// Distinguishes the probes that were scheduled before a restart.
    pub generation: u32,
}

/// A node's address on its own network.
#[must_use]
pub const fn inside_host(node: NodeId) -> u32 {
    1_000_000 + node.0
}

/// The outside address of the `level`th box before a node.
#[must_use]
pub const fn box_host(node: NodeId, level: u32) -> u32 {
    2_000_000 + node.0 * 8 + level
}

impl Cable {
    /// A link with these ends and natures, closed.
    #[must_use]
    pub fn new(seed: u64, number: usize, ends: [(NodeId, PortId); 2], lanes: [Lane; 2]) -> Self {
        let port = 10_000 + u16::try_from(number % 50_000).unwrap_or(0);
        let end = |(node, at): (NodeId, PortId)| End {
            node,
            port: at,
            inside: Endpoint { host: inside_host(node), port },
            candidates: Vec::new(),
            heard: None,
        };
        let [there, back] = lanes;
        let chance = |side: u64| Chance::new(seed, Purpose::Links, 2 * number as u64 + side);
        Self {
            ends: ends.map(end),
            flows: [Flow::new(there, chance(0)), Flow::new(back, chance(1))],
            open: false,
            cuts: 0,
            generation: 0,
        }
    }

    /// Carries one datagram from `side` to the other's most likely address: whether the boxes let it pass.
    pub fn carry(&mut self, now: Moment, side: usize, nats: &mut [Vec<NatBox>]) -> bool {
        let Some(to) = self.ends[side].candidates.first().copied() else { return false };
        self.carry_to(now, side, to, nats)
    }

    fn carry_to(&mut self, now: Moment, side: usize, to: Endpoint, nats: &mut [Vec<NatBox>]) -> bool {
        let (from, other) = (self.ends[side].node, 1 - side);
        let source = leave(now, &mut nats[from.index()], self.ends[side].inside, to);
        let there = &mut nats[self.ends[other].node.index()];
        if enter(now, there, source, to) != Some(self.ends[other].inside) {
            return false;
        }
        let end = &mut self.ends[other];
        end.heard = Some(now);
        end.candidates.retain(|known| *known != source);
        end.candidates.insert(0, source);
        end.candidates.truncate(CANDIDATES_MAX);
        true
    }

    /// Both sides probe: first, if the link is not open, they ask the rendezvous. `passes` says whether anything gets
    /// from a side to the other at all. Returns whether the link is open now.
    pub fn probe(&mut self, now: Moment, passes: [bool; 2], nats: &mut [Vec<NatBox>]) -> bool {
        if !self.open {
            for side in [0, 1] {
                let node = self.ends[side].node;
                let seen = leave(now, &mut nats[node.index()], self.ends[side].inside, RENDEZVOUS);
                let other = &mut self.ends[1 - side].candidates;
                if !other.contains(&seen) {
                    other.push(seen);
                    other.truncate(CANDIDATES_MAX);
                }
            }
        }
        for side in [0, 1] {
            for to in self.ends[side].candidates.clone() {
                if passes[side] {
                    self.carry_to(now, side, to, nats);
                }
            }
        }
        let fresh = |end: &End| end.heard.is_some_and(|at| now.since_us(at) < SILENCE_US);
        let open = self.ends.iter().all(fresh);
        if !open && self.open {
            // What was learned was of a mapping that is gone.
            self.forget();
        }
        self.open = open;
        open
    }

    /// One side starts from nothing.
    pub fn forget(&mut self) {
        for end in &mut self.ends {
            end.candidates.clear();
            end.heard = None;
        }
        self.open = false;
    }
}

/// A datagram leaves through a node's boxes: what its source looks like on the internet.
fn leave(now: Moment, nats: &mut [NatBox], inside: Endpoint, to: Endpoint) -> Endpoint {
    nats.iter_mut().fold(inside, |source, nat| nat.outbound(now, source, to))
}

/// A datagram from `source` comes to `to` through a node's boxes, the outermost first: whom it reaches.
fn enter(now: Moment, nats: &mut [NatBox], source: Endpoint, to: Endpoint) -> Option<Endpoint> {
    nats.iter_mut()
        .rev()
        .try_fold(to, |to, nat| if nat.host() == to.host { nat.inbound(now, source, to.port) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::nat::NatKind;

    fn boxes(node: NodeId, kinds: &[NatKind]) -> Vec<NatBox> {
        let make = |(level, kind): (u32, &NatKind)| {
            let chance = Chance::new(1, Purpose::Nats, u64::from(node.0));
            kind.rules().map(|rules| NatBox::new(rules, box_host(node, level), chance))
        };
        (0..).zip(kinds).filter_map(make).collect()
    }

    fn opens(a: &[NatKind], b: &[NatKind]) -> bool {
        let ends = [(NodeId(0), PortId(1)), (NodeId(1), PortId(1))];
        let mut cable = Cable::new(1, 0, ends, [Lane::default(), Lane::default()]);
        let mut nats = [boxes(NodeId(0), a), boxes(NodeId(1), b)];
        (0..5).any(|second| cable.probe(Moment::from_secs(2 * second), [true; 2], &mut nats))
    }

    /// Who reaches whom without a relay and without guessing ports: what the kernel lab measures with real boxes.
    #[test]
    fn the_matrix_of_nat_kinds_is_the_known_one() {
        use NatKind::{Cgnat, Corporate, Home, Open, Public};
        for kind in [Public, Open, Home, Cgnat] {
            for other in [Public, Open, Home, Cgnat] {
                assert!(opens(&[kind], &[other]), "{kind:?} {other:?}");
            }
        }
        for (kind, expected) in
            [(Public, true), (Open, true), (Home, false), (Cgnat, false), (Corporate, false)]
        {
            assert_eq!(opens(&[Corporate], &[kind]), expected, "Corporate {kind:?}");
            assert_eq!(opens(&[kind], &[Corporate]), expected, "{kind:?} Corporate");
        }
        assert!(opens(&[Home, Cgnat], &[Home, Cgnat]));
        assert!(!opens(&[Home, Corporate], &[Home]));
    }

    #[test]
    fn a_link_dies_with_its_mapping_and_is_found_again() {
        let ends = [(NodeId(0), PortId(1)), (NodeId(1), PortId(1))];
        let mut cable = Cable::new(1, 0, ends, [Lane::default(), Lane::default()]);
        let mut nats = [boxes(NodeId(0), &[NatKind::Home]), boxes(NodeId(1), &[NatKind::Home])];
        let mut at = 0;
        let mut probe = |cable: &mut Cable, nats: &mut [Vec<NatBox>], passes| {
            at += 5;
            cable.probe(Moment::from_secs(at), passes, nats)
        };
        assert!((0..3).any(|_| probe(&mut cable, &mut nats, [true; 2])));
        nats[0][0].rebind();
        let down = (0..10).position(|_| !probe(&mut cable, &mut nats, [true; 2]));
        let up = (0..10).position(|_| probe(&mut cable, &mut nats, [true; 2]));
        assert!(down.is_some_and(|n| n < 8) || up == Some(0), "{down:?} {up:?}");
        assert!(up.is_some());
        // One direction alone keeps nothing open.
        assert!((0..8).any(|_| !probe(&mut cable, &mut nats, [true, false])));
    }
}
