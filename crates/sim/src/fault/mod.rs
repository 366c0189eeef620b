//! What goes wrong. A fault is laid over the world and taken off again: nothing it covers is changed, so that healing
//! brings back exactly what was there.

use serde::{Deserialize, Serialize};

use crate::device::NodeId;
use crate::net::Lane;

/// A fault. Those with `for_ms` end by themselves, and all end when the plan heals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A node dies and loses what it had not synced.
    Crash {
        /// Which.
        node: NodeId,
        /// Until it is started again.
        for_ms: u64,
    },
    /// A node sleeps: it neither hears nor sends, and forgets nothing.
    Sleep {
        /// Which.
        node: NodeId,
        /// How long.
        for_ms: u64,
        /// Whether its monotonic clock goes on meanwhile.
        clock_runs: bool,
    },
    /// Nothing gets from one side to the other, nor back unless `one_way`.
    Partition {
        /// One side; all others are the other.
        side: Vec<NodeId>,
        /// Only what this side sends is lost.
        one_way: bool,
        /// How long.
        for_ms: u64,
    },
    /// A link is cut.
    Cut {
        /// Which, by its place in the plan.
        link: usize,
        /// How long.
        for_ms: u64,
    },
    /// A link is worse (or better) than it was, in both directions.
    Degrade {
        /// Which.
        link: usize,
        /// What it is like meanwhile.
        lane: Lane,
        /// How long.
        for_ms: u64,
    },
    /// Noise on the channel: no radio hears anything.
    Jam {
        /// How long.
        for_ms: u64,
    },
    /// The NAT boxes before a node restart.
    Rebind {
        /// Whose.
        node: NodeId,
    },
    /// A node takes in only so many frames a second, and has room for so many more.
    SlowReader {
        /// Which.
        node: NodeId,
        /// Frames a second.
        per_s: u32,
        /// How long.
        for_ms: u64,
    },
    /// A clock runs at another rate from now on.
    ClockRate {
        /// Whose.
        node: NodeId,
        /// Parts per million fast.
        ppm: i32,
    },
    /// A monotonic clock leaps forward.
    ClockLeap {
        /// Whose.
        node: NodeId,
        /// How far.
        by_ms: u64,
    },
    /// Somebody sets the wall clock.
    WallShift {
        /// Whose.
        node: NodeId,
        /// How far, in either direction.
        by_ms: i64,
    },
}

impl Fault {
    /// How long it lasts, in milliseconds; `None` if it is over at once.
    #[must_use]
    pub const fn for_ms(&self) -> Option<u64> {
        match self {
            Self::Crash { for_ms, .. }
            | Self::Sleep { for_ms, .. }
            | Self::Partition { for_ms, .. }
            | Self::Cut { for_ms, .. }
            | Self::Degrade { for_ms, .. }
            | Self::Jam { for_ms }
            | Self::SlowReader { for_ms, .. } => Some(*for_ms),
            Self::Rebind { .. }
            | Self::ClockRate { .. }
            | Self::ClockLeap { .. }
            | Self::WallShift { .. } => None,
        }
    }

    /// The nodes it names.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        match self {
            Self::Crash { node, .. }
            | Self::Sleep { node, .. }
            | Self::Rebind { node }
            | Self::SlowReader { node, .. }
            | Self::ClockRate { node, .. }
            | Self::ClockLeap { node, .. }
            | Self::WallShift { node, .. } => vec![*node],
            Self::Partition { side, .. } => side.clone(),
            Self::Cut { .. } | Self::Degrade { .. } | Self::Jam { .. } => Vec::new(),
        }
    }

    /// The link it names.
    #[must_use]
    pub const fn link(&self) -> Option<usize> {
        match self {
            Self::Cut { link, .. } | Self::Degrade { link, .. } => Some(*link),
            Self::Crash { .. }
            | Self::Sleep { .. }
            | Self::Partition { .. }
            | Self::Jam { .. }
            | Self::Rebind { .. }
            | Self::SlowReader { .. }
            | Self::ClockRate { .. }
            | Self::ClockLeap { .. }
            | Self::WallShift { .. } => None,
        }
    }

    /// In a few words, for traces.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Crash { node, for_ms } => format!("{node} crashes for {for_ms} ms"),
            Self::Sleep { node, for_ms, .. } => format!("{node} sleeps for {for_ms} ms"),
            Self::Partition { side, one_way, for_ms } => {
                let way = if *one_way { "one-way " } else { "" };
                format!("{way}partition of {} nodes for {for_ms} ms", side.len())
            }
            Self::Cut { link, for_ms } => format!("link {link} is cut for {for_ms} ms"),
            Self::Degrade { link, for_ms, .. } => format!("link {link} degrades for {for_ms} ms"),
            Self::Jam { for_ms } => format!("the channel is jammed for {for_ms} ms"),
            Self::Rebind { node } => format!("the NAT boxes of {node} restart"),
            Self::SlowReader { node, per_s, for_ms } => {
                format!("{node} reads {per_s} frames a second for {for_ms} ms")
            }
            Self::ClockRate { node, ppm } => format!("the clock of {node} runs {ppm} ppm fast"),
            Self::ClockLeap { node, by_ms } => format!("the clock of {node} leaps {by_ms} ms"),
            Self::WallShift { node, by_ms } => format!("the wall clock of {node} is set by {by_ms} ms"),
        }
    }
}
