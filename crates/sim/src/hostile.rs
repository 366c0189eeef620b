//! Nodes that do not keep to the protocol.

use serde::{Deserialize, Serialize};

/// How a node lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// Sends random bytes and broken copies of what it hears.
    Malformed,
}
