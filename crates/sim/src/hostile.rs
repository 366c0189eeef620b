//! Nodes that do not keep to the product's protocol. Each lies in one way, as hard as the law of the air lets it: they use
//! the same radio as everybody, because a liar with a jammer needs no lies.

use std::collections::VecDeque;

use bytes::Bytes;
use core::time::Duration;
use honeylink_core::identity::SecretKey;
use honeylink_core::limits::MESH_FRAGMENTS_MAX;
use honeylink_core::mesh::frame::{
    AnnounceKey, Caps, Cost, Data, Fragment, Frame, Hop, HopAck, PortKind, Priority, Receipt, Seq20,
};
use honeylink_core::mesh::hint::{Address, Far, Near};
use honeylink_core::mesh::raw::Kind;
use honeylink_core::time::{Deadline, Time};
use serde::{Deserialize, Serialize};

use crate::chance::{Chance, Purpose, blend};
use crate::device::{Class, Device, Input, NodeId, Output, PortId};
use crate::plan::Plan;
use crate::product::{Product, key_of};

/// How a node lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// Sends random bytes and broken copies of what it hears.
    Malformed,
    /// Keeps what it hears and sends it again later, as often as it can.
    Replay,
    /// Announces itself under one new key after the other.
    Sybil,
    /// Sends on what it hears with no hops and no cost, so that all ways seem to lead past it.
    Shortcut,
    /// Acknowledges what it should pass on and drops it.
    BlackHole,
    /// Answers other people's messages with receipts of its own making.
    FalseReceipt,
    /// Begins messages of many fragments and never ends one.
    EndlessFragments,
}

impl Lie {
    /// Every lie.
    pub const ALL: [Self; 7] = [
        Self::Malformed,
        Self::Replay,
        Self::Sybil,
        Self::Shortcut,
        Self::BlackHole,
        Self::FalseReceipt,
        Self::EndlessFragments,
    ];
}

/// Frames a liar keeps.
const KEPT_MAX: usize = 64;
/// How often it lies by itself, at most, in microseconds.
const EVERY_US: u64 = 4_000_000;

/// A liar.
pub struct Liar {
    lie: Lie,
    me: Near,
    chance: Chance,
    kept: VecDeque<Bytes>,
    ports: Vec<PortId>,
    outputs: VecDeque<Output>,
    tokens: u64,
    next: Time,
    /// A black hole behaves like everybody else but for what it drops.
    honest: Option<Product>,
}

impl Liar {
    /// The device of `node` in its `life`th life.
    #[must_use]
    pub fn new(plan: &Plan, node: NodeId, life: u32, lie: Lie) -> Self {
        let address = Address::of(&key_of(plan.seed, node).id());
        Self {
            lie,
            me: address.near(),
            chance: Chance::new(plan.seed, Purpose::Hostility, blend(&[node.0.into(), life.into()])),
            kept: VecDeque::new(),
            ports: Vec::new(),
            outputs: VecDeque::new(),
            // Far from those the honest half counts.
            tokens: 1 << 62,
            next: Time::ZERO,
            honest: (lie == Lie::BlackHole).then(|| Product::new(plan, node, life)),
        }
    }

    fn say(&mut self, port: PortId, bytes: Bytes) {
        self.tokens += 1;
        self.outputs.push_back(Output::Transmit {
            port,
            token: self.tokens,
            bytes,
            priority: 3,
            expires_at: None,
            class: Class::Other,
            length: None,
        });
    }

    fn say_everywhere(&mut self, bytes: &Bytes) {
        for port in self.ports.clone() {
            self.say(port, bytes.clone());
        }
    }

    fn hear(&mut self, port: PortId, bytes: &Bytes) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(bytes.clone());
        match self.lie {
            Lie::Shortcut if self.chance.happens(300_000) => {
                if let Some(bent) = self.shorten(bytes) {
                    self.say(port, bent);
                }
            }
            Lie::FalseReceipt => {
                if let Ok(Frame::Data(data)) = Frame::decode(bytes, PortKind::PointToPoint) {
                    let receipt = self.false_receipt(&data);
                    self.say(port, receipt);
                }
            }
            Lie::BlackHole => {
                if let Ok(frame @ Frame::Data(_)) = Frame::decode(bytes, PortKind::PointToPoint)
                    && let Frame::Data(data) = &frame
                    && data.next == self.me
                {
                    let [a, b, c, d, ..] = frame.identity();
                    let ack = HopAck { next: data.prev, prev: self.me, frame: [a, b, c, d] };
                    self.say(port, Frame::HopAck(ack).to_bytes().freeze());
                }
            }
            Lie::Malformed | Lie::Replay | Lie::Sybil | Lie::Shortcut | Lie::EndlessFragments => {}
        }
    }

    /// The same frame as if it came straight from its origin, by way of this node.
    fn shorten(&self, bytes: &Bytes) -> Option<Bytes> {
        let layout = Kind::of(*bytes.first()?)?.layout();
        let mut bent = bytes.to_vec();
        if let Some(at) = layout.hop {
            // Its priority is kept, its hops are not.
            *bent.get_mut(usize::from(at))? &= 0xC0;
        } else {
            bent[0] &= 0xF0;
        }
        if let Some(at) = layout.cost {
            *bent.get_mut(usize::from(at))? = Cost::FREE.0;
        }
        let prev = usize::from(layout.prev?);
        bent.get_mut(prev..prev + 2)?.copy_from_slice(&self.me.0.to_be_bytes());
        Some(bent.into())
    }

    fn false_receipt(&mut self, data: &Data) -> Bytes {
        let receipt = Receipt {
            hop: Hop::first(Priority::Control),
            next: data.prev,
            prev: self.me,
            dst: data.src,
            src: data.dst,
            seq: data.seq,
            mac: self.chance.next_u64().to_be_bytes(),
        };
        Frame::Receipt(receipt).to_bytes().freeze()
    }

    fn lie_now(&mut self) {
        let heard = self.chance.pick(&Vec::from(self.kept.clone())).cloned();
        let words = match self.lie {
            Lie::Malformed => Some(self.broken(heard)),
            Lie::Replay => heard,
            Lie::Sybil => {
                let key = SecretKey::from_u64(self.chance.next_u64());
                let announce = AnnounceKey::new(&key, Seq20::new(1), Caps::RELAY.and(Caps::STORE));
                Some(Frame::AnnounceKey(announce).to_bytes().freeze())
            }
            Lie::EndlessFragments => Some(self.fragment(heard)),
            Lie::Shortcut | Lie::BlackHole | Lie::FalseReceipt => None,
        };
        if let Some(words) = words {
            self.say_everywhere(&words);
        }
    }

    fn broken(&mut self, heard: Option<Bytes>) -> Bytes {
        let random =
            |chance: &mut Chance, len: usize| (0..len).map(|_| chance.next_u64() as u8).collect::<Vec<u8>>();
        let Some(heard) = heard.filter(|bytes| !bytes.is_empty() && self.chance.happens(700_000)) else {
            let len = 1 + self.chance.index(120);
            return random(&mut self.chance, len).into();
        };
        let mut bytes = heard.to_vec();
        match self.chance.below(3) {
            0 => bytes.truncate(self.chance.index(bytes.len()).max(1)),
            1 => {
                let at = self.chance.index(bytes.len());
                bytes[at] ^= 1 << self.chance.below(8);
            }
            _ => bytes.extend(random(&mut self.chance, 8)),
        }
        bytes.into()
    }

    fn fragment(&mut self, heard: Option<Bytes>) -> Bytes {
        // To and from whoever was heard, so that somebody believes it may be theirs.
        let known = heard.and_then(|bytes| Frame::decode(&bytes, PortKind::PointToPoint).ok());
        let (dst, src) = match known {
            Some(Frame::Data(data)) => (data.dst, data.src),
            _ => (Far([1, 2, 3]), Far([4, 5, 6])),
        };
        let number = self.chance.next_u64();
        let data = Data {
            hop: Hop::first(Priority::Normal),
            next: Near(0xFFFF),
            prev: self.me,
            dst,
            src,
            seq: (number >> 32) as u32,
            receipt: true,
            ratcheted: false,
            fragment: Some(Fragment { index: 0, count: MESH_FRAGMENTS_MAX, message: number as u8 }),
            keep: None,
            payload: vec![number as u8; 40].into(),
            mac: number.to_be_bytes(),
        };
        Frame::Data(data).to_bytes().freeze()
    }
}

impl Device for Liar {
    fn handle(&mut self, now: Time, input: Input) {
        match &input {
            Input::PortUp(port, _) if !self.ports.contains(port) => self.ports.push(*port),
            Input::PortDown(port) => self.ports.retain(|known| known != port),
            Input::Frame { port, bytes, .. } => self.hear(*port, bytes),
            Input::Timeout if now >= self.next => {
                self.next = now + Duration::from_micros(1 + self.chance.below(EVERY_US));
                self.lie_now();
            }
            Input::Boot(_)
            | Input::PortUp(..)
            | Input::Sent { .. }
            | Input::App(_)
            | Input::Synced(_)
            | Input::WallClock(_)
            | Input::Timeout => {}
        }
        if let Some(honest) = &mut self.honest {
            honest.handle(now, input);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        loop {
            let output = self.honest.as_mut()?.poll_output()?;
            // Everything but what it should pass on.
            let passes_on = |bytes: &Bytes| matches!(Frame::decode(bytes, PortKind::PointToPoint), Ok(Frame::Data(data)) if data.hop.hops > 0);
            let swallowed =
                if let Output::Transmit { bytes, .. } = &output { passes_on(bytes) } else { false };
            if !swallowed {
                return Some(output);
            }
        }
    }

    fn poll_timeout(&mut self) -> Option<Deadline> {
        let own = Deadline { at: self.next, why: "the next lie" };
        match &mut self.honest {
            Some(honest) => honest.poll_timeout(),
            None => Some(own),
        }
    }
}
