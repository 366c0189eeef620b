//! Which way bytes go to a device, and how long that takes.

use serde::{Deserialize, Serialize};

/// A path's place on the ladder, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rung {
    /// Inside this machine.
    #[serde(rename = "local")]
    Local,
    /// Straight to an address of the same network.
    #[serde(rename = "direct/lan")]
    Lan,
    /// Straight through NATs or over the internet.
    #[serde(rename = "direct/wide")]
    Direct,
    /// Straight through a NAT whose ports had to be guessed.
    #[serde(rename = "punched")]
    Punched,
    /// Through a relay that sees ciphertext only.
    #[serde(rename = "relayed")]
    Relayed,
    /// Over several hops of the mesh.
    #[serde(rename = "mesh")]
    Mesh,
    /// Held by another node until the target shows up.
    #[serde(rename = "stored")]
    Stored,
}

impl Rung {
    /// The word in JSON and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Lan => "direct/lan",
            Self::Direct => "direct/wide",
            Self::Punched => "punched",
            Self::Relayed => "relayed",
            Self::Mesh => "mesh",
            Self::Stored => "stored",
        }
    }
}

/// One way to a device: rung, carrier, address, time and reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathInfo {
    /// Place on the ladder.
    pub rung: Rung,
    /// What carries the bytes: `iroh`, `memory`, ...
    pub carrier: String,
    /// The far address, `ip:port` or a relay's URL.
    pub address: String,
    /// Smoothed round-trip time in milliseconds; absent until measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Why this path and not another, as a clause: `chosen over relay 41 ms`.
    pub why: String,
}

/// A change of path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathChange {
    /// When.
    pub at_unix_ms: u64,
    /// The path from then on; `null` when the link was lost.
    pub path: Option<PathInfo>,
    /// The path before; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<PathInfo>,
    /// What made it so: `first`, `climbed`, `failed-over`, `preferred`, `lost`, `restored`; empty where it is not known.
    #[serde(default)]
    pub cause: String,
    /// How long there was no path before this one, in milliseconds.
    #[serde(default)]
    pub gap_ms: u64,
}

/// Answer of `GET /v1/devices/{peer}/path`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathReport {
    /// Device id, 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The path in use; `null` if no link could be made.
    pub path: Option<PathInfo>,
    /// Other ways that are known now.
    pub others: Vec<PathInfo>,
    /// Latest changes, oldest first.
    pub history: Vec<PathChange>,
    /// What this device sends there on streams; absent if there is no connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Streams>,
}

/// Answer of `POST /v1/devices/{peer}/call-back`: whether the device gets through to this one by itself, and what time it is
/// there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallBack {
    /// Device id, 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// By how many milliseconds its clock is ahead of this node's; behind if negative.
    pub clock_ahead_ms: i64,
    /// Why it did not call: `busy` (it did a moment ago) or `off`; absent if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The addresses it sees this node at, and what came of calling each from a new socket; empty if it sees it through a relay
    /// only.
    pub called: Vec<Called>,
}

/// An address that was called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// `ip:port`.
    pub address: String,
    /// `answered`, `silent`, or `not_sent`.
    pub outcome: String,
    /// Microseconds until the answer; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
}

/// What is sent on streams and flows of datagrams: to one device, or to all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Streams {
    /// Bytes a second that the way carries, as far as it was ever full; absent until then, and where it is about all devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carries_bytes_per_s: Option<u64>,
    /// How long packets wait at the bottleneck, in milliseconds; absent where it is about all devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_delay_ms: Option<f64>,
    /// Bytes a second that streams were promised.
    pub reserved_bytes_per_s: u64,
    /// Datagrams of others that were lost and put together again.
    pub datagrams_repaired: u64,
    /// Datagrams of others that stayed lost, where repair was asked for.
    pub datagrams_lost: u64,
    /// By class: `realtime`, `interactive`, `bulk`.
    pub classes: Vec<StreamClass>,
    /// Those that are open and sent something, the busiest first; at most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<crate::OpenStream>,
    /// Policies that are not in force because the other device did not agree.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_back: Vec<crate::PolicyTakenBack>,
}

/// The streams of one class, those that are over included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamClass {
    /// `realtime`, `interactive` or `bulk`.
    pub class: String,
    /// Open now.
    pub open: usize,
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
    /// Datagrams dropped because they were too late.
    pub datagrams_late: u64,
    /// Repair datagrams sent.
    pub repair_sent: u64,
}

/// Body of `POST /v1/ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingRequest {
    /// Name, id or unambiguous id prefix.
    pub peer: String,
    /// How many; 0 means until the answer is dropped.
    pub count: u32,
    /// Milliseconds from one to the next.
    pub interval_ms: u64,
    /// Milliseconds after which one counts as lost.
    pub timeout_ms: u64,
}

/// Body of `POST /v1/speed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeedRequest {
    /// Name, id or unambiguous id prefix.
    pub peer: String,
    /// Milliseconds in all; at most 60,000 are used.
    pub time_ms: u64,
}

/// What a measurement of the way to a device came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedReport {
    /// Bytes a second towards the device.
    pub bytes_per_s: u64,
    /// Round trips while nothing else happened.
    pub idle: RoundTrips,
    /// Round trips while the way was full.
    pub loaded: RoundTrips,
    /// What the full way adds, in milliseconds: its 95th percentile less the idle median.
    pub added_ms: f64,
    /// `A+`, `A`, `B`, `C`, `D` or `F`, by what is added.
    pub grade: String,
    /// The same with the way back full; absent in answers of older nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<SpeedBack>,
    /// The way.
    pub path: Option<PathInfo>,
}

/// What a measurement of the way back came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedBack {
    /// Bytes a second from the device.
    pub bytes_per_s: u64,
    /// Round trips while the way back was full.
    pub loaded: RoundTrips,
    /// What the full way back adds, in milliseconds.
    pub added_ms: f64,
    /// Its grade.
    pub grade: String,
}

/// Round trips in milliseconds, application to application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundTrips {
    /// How many.
    pub count: usize,
    /// Median.
    pub p50_ms: f64,
    /// 95th percentile.
    pub p95_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// One line of a ping stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PingEvent {
    /// An answer came.
    Reply {
        /// Number, from 0.
        seq: u32,
        /// Round trip in milliseconds, application to application.
        rtt_ms: f64,
        /// The path it took.
        path: Option<PathInfo>,
    },
    /// No answer in time.
    Lost {
        /// Number, from 0.
        seq: u32,
    },
    /// Last line.
    Summary(PingSummary),
}

/// What a series of pings came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PingSummary {
    /// Whether at least one answer came.
    pub ok: bool,
    /// Pings sent.
    pub sent: u32,
    /// Answers received.
    pub received: u32,
    /// Shortest round trip in milliseconds; absent without an answer, as are the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ms: Option<f64>,
    /// Median round trip in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// Longest round trip in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<f64>,
    /// The path in use at the end.
    pub path: Option<PathInfo>,
}
