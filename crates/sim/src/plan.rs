//! A run written out: every node, link, message and fault, with nothing left to chance but the seed's streams.
//!
//! A scenario file and a swarm seed both become a plan; a plan and its seed are the whole run. That is what a replay
//! file holds, and what shrinking takes pieces out of.

use serde::{Deserialize, Serialize};

use crate::device::{MessageId, NodeId};
use crate::fault::Fault;
use crate::net::nat::NatKind;
use crate::net::{Disk, Lane};
use crate::protocol::Protocol;
use crate::radio::{Physics, Settings, Terrain};

/// Nodes in a plan at most: what the biggest published run needs, and half as many again.
pub const NODES_MAX: usize = 7_500;
/// Messages in a plan at most.
pub const MESSAGES_MAX: usize = 100_000;
/// Links in a plan at most.
pub const LINKS_MAX: usize = 50_000;

/// Everything about a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What people call it.
    pub name: String,
    /// The seed of every stream of chance in it.
    pub seed: u64,
    /// What the honest nodes run.
    pub protocol: Protocol,
    /// The nodes, by [`NodeId`].
    pub nodes: Vec<Node>,
    /// The air between radios, if any node has one.
    pub air: Option<Air>,
    /// Links between two nodes each.
    pub links: Vec<Link>,
    /// What applications send, by [`MessageId`].
    pub traffic: Vec<Message>,
    /// What goes wrong.
    pub faults: Vec<Timed>,
    /// Whether everything that still has time must be delivered in the end.
    pub demands_delivery: bool,
    /// What disks are like.
    pub disk: Disk,
    /// Whether radios write their duty-cycle ledger down before they send, as the product does. Only comparisons in
    /// which nobody crashes do without.
    pub durable_duty: bool,
    /// Whether the product's nodes announce themselves.
    #[serde(default = "yes")]
    pub announces: bool,
    /// After how many receipts over a radio the product's nodes exchange keys.
    #[serde(default = "usual")]
    pub exchange_after: u16,
    /// How nodes move, if any does.
    pub movement: Option<Movement>,
    /// When every fault is over, in milliseconds.
    pub heal_at_ms: u64,
    /// When the run ends, in milliseconds.
    pub end_at_ms: u64,
    /// Messages before this, in milliseconds, are a warm-up that results leave out; so is the airtime until then.
    pub warm_up_ms: u64,
}

const fn usual() -> u16 {
    16
}

const fn yes() -> bool {
    true
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Where it stands, in metres.
    pub x: f64,
    /// Where it stands, in metres.
    pub y: f64,
    /// Whether it has a radio.
    pub radio: bool,
    /// What it does.
    pub role: Role,
    /// How much faster than the truth its clock runs, in parts per million.
    pub clock_ppm: i32,
    /// How far its wall clock is off, in milliseconds.
    pub wall_offset_ms: i64,
    /// The NAT boxes between it and the internet, innermost first.
    #[serde(default)]
    pub nats: Vec<NatKind>,
    /// When it is first switched on, in milliseconds.
    #[serde(default)]
    pub starts_at_ms: u64,
}

/// What a node does in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Forwards for others.
    Relay,
    /// Forwards, and keeps messages for those who are away.
    Store,
    /// Sends and receives, forwards nothing.
    Leaf,
    /// Lies. See [`crate::hostile`].
    Hostile(crate::hostile::Lie),
}

impl Role {
    /// Whether the node keeps to the protocol.
    #[must_use]
    pub const fn is_honest(self) -> bool {
        !matches!(self, Self::Hostile(_))
    }
}

/// The air and what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Air {
    /// How every radio is set.
    pub settings: Settings,
    /// What lies between them.
    pub terrain: Terrain,
    /// Which effects are simulated.
    pub physics: Physics,
}

/// A link between two nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// One end.
    pub a: NodeId,
    /// The other.
    pub b: NodeId,
    /// From `a` to `b`.
    pub there: Lane,
    /// From `b` to `a`.
    pub back: Lane,
}

/// A message of the traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// Who sends it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// How long, in bytes; at least [`crate::message::BYTES_MIN`].
    pub bytes: usize,
    /// 0 bulk to 3 control.
    pub priority: u8,
    /// How long its delivery may be tried, in milliseconds.
    pub lifetime_ms: u64,
}

/// A fault and when it happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// What.
    pub fault: Fault,
}

/// Nodes that walk from one random place to another (random waypoint).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Movement {
    /// Who moves.
    pub nodes: Vec<NodeId>,
    /// How fast, in metres per second.
    pub speed: f64,
    /// The edge of the square they move in, in metres.
    pub edge: f64,
}

impl Plan {
    /// The messages with their numbers.
    pub fn messages(&self) -> impl Iterator<Item = (MessageId, &Message)> {
        self.traffic.iter().zip(0..).map(|(message, number)| (MessageId(number), message))
    }

    /// What is wrong with the plan, if anything: indices that lead nowhere, sizes out of bounds.
    ///
    /// # Errors
    /// [`PlanError`] names the first thing found.
    pub fn check(&self) -> Result<(), PlanError> {
        let nodes = self.nodes.len();
        let known = |id: NodeId| {
            if id.index() < nodes { Ok(()) } else { Err(PlanError::NoSuchNode { node: id.0, nodes }) }
        };
        if nodes == 0 || nodes > NODES_MAX {
            return Err(PlanError::Nodes(nodes));
        }
        if self.traffic.len() > MESSAGES_MAX {
            return Err(PlanError::Messages(self.traffic.len()));
        }
        if self.links.len() > LINKS_MAX {
            return Err(PlanError::Links(self.links.len()));
        }
        for link in &self.links {
            known(link.a)?;
            known(link.b)?;
            if link.a == link.b {
                return Err(PlanError::LinkToItself(link.a.0));
            }
        }
        for (id, message) in self.messages() {
            known(message.from)?;
            known(message.to)?;
            if !(crate::message::BYTES_MIN..=crate::message::BYTES_MAX).contains(&message.bytes) {
                return Err(PlanError::MessageBytes { message: id.0, bytes: message.bytes });
            }
        }
        for Timed { fault, .. } in &self.faults {
            for node in fault.nodes() {
                known(node)?;
            }
            if let Some(link) = fault.link().filter(|link| *link >= self.links.len()) {
                return Err(PlanError::NoSuchLink { link, links: self.links.len() });
            }
        }
        if self.nodes.iter().any(|node| node.radio) && self.air.is_none() {
            return Err(PlanError::NoAir);
        }
        if self.heal_at_ms > self.end_at_ms {
            return Err(PlanError::HealAfterEnd);
        }
        Ok(())
    }
}

/// Why a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many nodes, or none.
    #[error("a plan has 1 to {NODES_MAX} nodes; this has {0}")]
    Nodes(usize),
    /// Too many messages.
    #[error("a plan has at most {MESSAGES_MAX} messages; this has {0}")]
    Messages(usize),
    /// Too many links.
    #[error("a plan has at most {LINKS_MAX} links; this has {0}")]
    Links(usize),
    /// Something names a node that is not there.
    #[error("node {node} does not exist: the plan has {nodes}, counted from 0")]
    NoSuchNode {
        /// The number.
        node: u32,
        /// How many there are.
        nodes: usize,
    },
    /// A fault names a link that is not there.
    #[error("link {link} does not exist: the plan has {links}, counted from 0")]
    NoSuchLink {
        /// The number.
        link: usize,
        /// How many there are.
        links: usize,
    },
    /// A link from a node to itself.
    #[error("node {0} has a link to itself")]
    LinkToItself(u32),
    /// A message too short for its own number, or too long.
    #[error(
        "message {message} is {bytes} bytes; allowed are {} to {}",
        crate::message::BYTES_MIN,
        crate::message::BYTES_MAX
    )]
    MessageBytes {
        /// Which.
        message: u32,
        /// How long.
        bytes: usize,
    },
    /// Radios without air.
    #[error("nodes have radios, but the plan says nothing about the air between them")]
    NoAir,
    /// The faults end after the run.
    #[error("heal_at_ms lies after end_at_ms")]
    HealAfterEnd,
}
