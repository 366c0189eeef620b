//! Scenarios: what people write down, in terms of shapes and rates; a seed makes a [`Plan`] of it.
//!
//! | file | what it does |
//! |---|---|
//! | `mod.rs` | the scenario as values, with every default |
//! | `draw.rs` | draws a plan from a scenario and a seed |
//! | `parse.rs` | reads scenario files and says what is wrong with one, where, and what would be right |

mod draw;
mod parse;

pub use self::parse::{ScenarioError, parse};

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::hostile::Lie;
use crate::net::nat::NatKind;
use crate::net::{Disk, Lane};
use crate::plan::{Air, Plan};
use crate::protocol::Protocol;
use crate::radio::{Physics, Settings, Terrain};
use crate::topology::Shape;

/// A scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What people call it.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// What the nodes speak.
    pub protocol: Protocol,
    /// How long applications send, in seconds, after the warm-up.
    pub duration_s: u64,
    /// How long everything runs before anything counts, in seconds.
    pub warm_up_s: u64,
    /// How long the run goes on after the last message and the last fault, in seconds.
    pub settle_s: u64,
    /// The nodes.
    pub nodes: Nodes,
    /// Their radios, if they have any.
    pub radio: Option<Radio>,
    /// Links between them.
    pub links: Links,
    /// What applications send.
    pub traffic: Traffic,
    /// What goes wrong at random.
    pub churn: Churn,
    /// What goes wrong at stated moments.
    pub faults: Vec<At>,
    /// What disks are like.
    pub disk: Disk,
    /// What the devices expect to come of it; checked by `sim run`.
    pub expect: Expect,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "unnamed".to_owned(),
            about: String::new(),
            protocol: Protocol::PRODUCT,
            duration_s: 3_600,
            warm_up_s: 0,
            settle_s: 600,
            nodes: Nodes::default(),
            radio: None,
            links: Links::default(),
            traffic: Traffic::default(),
            churn: Churn::default(),
            faults: Vec::new(),
            disk: Disk::default(),
            expect: Expect::default(),
        }
    }
}

/// The nodes of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// How many.
    pub count: usize,
    /// Where they stand.
    pub shape: Shape,
    /// How many others a radio reaches on average.
    pub degree: f64,
    /// How many of a hundred keep messages for others.
    pub store_percent: u32,
    /// Nodes that do in any case.
    pub store: Vec<u32>,
    /// How many of a hundred forward nothing.
    pub leaf_percent: u32,
    /// Nodes that lie, each with how.
    pub hostile: Vec<Lie>,
    /// Clocks differ by at most so many parts per million.
    pub clock_ppm: u32,
    /// How many of a hundred move.
    pub moving_percent: u32,
    /// How fast they do, in metres per second.
    pub speed_m_s: f64,
    /// The kinds of NAT, given out in turn; the links of a node behind none are direct.
    pub nats: Vec<NatKind>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            count: 10,
            shape: Shape::Random,
            degree: 8.0,
            store_percent: 10,
            store: Vec::new(),
            leaf_percent: 0,
            hostile: Vec::new(),
            clock_ppm: 20,
            moving_percent: 0,
            speed_m_s: 1.4,
            nats: Vec::new(),
        }
    }
}

/// The radios of a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Radio {
    /// How they are set.
    pub settings: Settings,
    /// What lies between them.
    pub terrain: Terrain,
    /// Which effects are simulated.
    pub physics: Physics,
}

impl From<Radio> for Air {
    fn from(radio: Radio) -> Self {
        Self { settings: radio.settings, terrain: radio.terrain, physics: radio.physics }
    }
}

/// The links of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// Each node is linked to so many others at random.
    pub random_per_node: usize,
    /// Pairs of nodes.
    pub pairs: Vec<(u32, u32)>,
    /// What all of them are like.
    pub lane: Lane,
}

/// What applications send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    /// Pairs of people who write to each other.
    pub conversations: usize,
    /// Who they are, if it is always the same two. The first writes first.
    pub between: Option<(u32, u32)>,
    /// Messages in each conversation, alternating between the two.
    pub messages_each: usize,
    /// Bytes of a message.
    pub bytes: usize,
    /// How long a message may take, in seconds.
    pub lifetime_s: u64,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { conversations: 5, between: None, messages_each: 6, bytes: 20, lifetime_s: 3_600 }
    }
}

/// Nodes that come and go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Churn {
    /// How many crashes there are in an hour among a hundred nodes.
    pub crashes_per_hour_percent: u32,
    /// How long a crashed node stays away on average, in seconds.
    pub away_s: u64,
}

/// A fault at a stated moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// When, in seconds.
    pub at_s: u64,
    /// What.
    pub fault: Fault,
}

/// What a scenario is expected to come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// At least this part of the messages is delivered.
    pub delivery_ratio_min: Option<f64>,
    /// Half of the messages arrive within so many seconds.
    pub latency_p50_s_max: Option<f64>,
}

impl Scenario {
    /// The plan that `seed` draws from this scenario.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        draw::draw(self, seed)
    }
}
