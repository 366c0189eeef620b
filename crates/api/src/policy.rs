//! Policies: named sets of what streams ask for.

use serde::{Deserialize, Serialize};

/// One policy; absent fields ask for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Where it is from: `preset`, or the path of its file.
    pub from: String,
    /// `realtime`, `interactive` or `bulk`: what its priority amounts to.
    pub class: String,
    /// 0 to 7, 7 most urgent.
    pub priority: u8,
    /// Share among streams of the same priority, 1 to 64.
    pub weight: u8,
    /// Bytes a second that are guaranteed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_min_bytes_per_s: Option<u64>,
    /// Bytes a second that are never exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_max_bytes_per_s: Option<u64>,
    /// Milliseconds after which a datagram that waits is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Bytes that may wait.
    pub queue_bytes_max: u64,
    /// Repair of lost datagrams: `off`, `auto` or `at-least-light`.
    pub fec: String,
    /// The verbs that send by it unless told otherwise: `send`, `pipe`, `chat`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_of: Vec<String>,
}

/// Body of `POST /v1/policies/apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyApply {
    /// Its name; its file is read again.
    pub policy: String,
    /// Name, id or unambiguous id prefix.
    pub peer: String,
    /// Of which verbs: `send`, `pipe`, `chat`; all of them if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
}

/// What came of a policy that was applied while something is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyApplied {
    /// Whether everything that was meant follows it.
    pub ok: bool,
    /// The policy.
    pub policy: Policy,
    /// Device id, 64 hex digits.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// Each link that was meant.
    pub links: Vec<PolicyOnLink>,
}

/// What came of a policy on one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyOnLink {
    /// Whose it is: `send`, `pipe`, `chat`.
    pub verb: String,
    /// Whether it follows the policy now.
    pub ok: bool,
    /// Why not; what was before is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// One stream or flow of datagrams that is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenStream {
    /// Name of the device it goes to; absent where it is about one device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Whose it is: `send`, `pipe`, `chat`, `speed`, `ping`, or an application's protocol.
    pub verb: String,
    /// Whether it carries the messages of its link.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub messages: bool,
    /// The policy it follows; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// `realtime`, `interactive` or `bulk`.
    pub class: String,
    /// 0 to 7, 7 most urgent.
    pub priority: u8,
    /// Share among streams of the same priority, 1 to 64.
    pub weight: u8,
    /// Bytes a second that are guaranteed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_min_bytes_per_s: Option<u64>,
    /// Bytes a second that are never exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_max_bytes_per_s: Option<u64>,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes a second, over about the last second.
    pub bytes_per_s: u64,
    /// Bytes that wait now.
    pub queued_bytes: u64,
    /// Median of how long bytes waited lately for their turn, in milliseconds; absent before the first, as are the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p50_ms: Option<f64>,
    /// Its 90th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p90_ms: Option<f64>,
    /// Its 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p99_ms: Option<f64>,
    /// Datagrams dropped because they were too late; 0 for a stream of bytes, of which nothing is dropped.
    #[serde(default)]
    pub datagrams_late: u64,
}

/// A policy that is not in force because the other device did not agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTakenBack {
    /// Name of the device; absent where it is about one device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// On whose link: `send`, `pipe`, `chat`, or an application's protocol.
    pub verb: String,
    /// The policy.
    pub policy: String,
    /// Why.
    pub why: String,
}
