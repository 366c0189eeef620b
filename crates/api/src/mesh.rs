//! The mesh of a node: who is in reach, which ways lead where, what each radio may still send.
//!
//! What a relay sees of other devices are hints, 3 bytes of an address for a destination and 2 for a neighbour. A hint
//! that fits exactly one paired device comes with that device's id and name.

use serde::{Deserialize, Serialize};

/// One line's worth of the mesh, in [`Status`](crate::Status).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshSummary {
    /// Neighbours heard lately, over connections and radios.
    pub neighbours: usize,
    /// Devices to which a way is known.
    pub destinations: usize,
    /// Own messages under way.
    pub messages: usize,
    /// Radios in the configuration.
    pub radios: usize,
    /// Of them, those that can send now.
    pub radios_up: usize,
}

/// Answer of `GET /v1/mesh/stats`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshStats {
    /// This device's mesh address, 32 hex digits.
    pub address: String,
    /// Whether frames of others are passed on.
    pub relay: bool,
    /// Whether messages for devices that are away are kept for them.
    pub store: bool,
    /// Connections and radios that carry the mesh now.
    pub ports: Vec<MeshPort>,
    /// Who is heard there.
    pub neighbours: Vec<MeshNeighbour>,
    /// Every radio of the configuration, up or not.
    pub radios: Vec<MeshRadio>,
    /// Messages since the start.
    pub messages: MeshMessages,
    /// Messages kept for devices that are away.
    #[serde(default)]
    pub kept: MeshKept,
    /// Frames since the start.
    pub frames: MeshFrames,
    /// The routing table.
    pub routes: MeshTable,
    /// Roughly what the mesh holds in memory.
    pub state_bytes: usize,
    /// The disk's last refusal, as long as it lasts: until then the mesh promises nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

/// A connection or a radio that carries the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshPort {
    /// Its number while it is up.
    pub port: u16,
    /// Device id of the other end, 64 hex digits; absent for a radio, which everybody near hears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The device's name, or the radio's serial port.
    pub name: String,
    /// What the other end offers the mesh: `relay`, `store`, `gateway`, `constrained`.
    pub offers: Vec<String>,
    /// What it can carry: `unconstrained`, `medium`, `constrained` or `severe`.
    pub class: String,
    /// Largest frame.
    pub frame_bytes_max: usize,
    /// How long it is up.
    pub age_s: u64,
}

/// A device heard on a port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshNeighbour {
    /// Its hint, 4 hex digits.
    pub hint: String,
    /// Its device id, if a paired device fits, and only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// That device's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is heard.
    pub port: u16,
    /// When it was last heard, seconds ago.
    pub heard_s: u64,
    /// Signal to noise in decibels, on radios that measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snr_db: Option<f64>,
    /// Chance that a frame arrives there, 0 to 1.
    pub chance: f64,
}

/// A radio of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshRadio {
    /// The serial port of its modem.
    pub port: String,
    /// Whether it can send.
    pub state: RadioState,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Version of the modem's firmware, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// Centre of its channel.
    pub frequency_hz: u32,
    /// The band whose rule it keeps.
    pub band: MeshBand,
    /// What it can carry: `medium`, `constrained` or `severe`.
    pub class: String,
    /// Airtime used in the last hour.
    pub used_ms: u64,
    /// Airtime that is left of the hour's budget now.
    pub left_ms: u64,
    /// Airtime that any hour may hold.
    pub budget_ms: u64,
    /// Seconds until the next waiting frame fits the budget; 0 if none waits for it.
    pub frees_in_s: u64,
    /// Frames that wait.
    pub queued: usize,
    /// Bytes that wait.
    pub queued_bytes: usize,
    /// Frames that went out.
    pub sent: u64,
    /// Frames given to it that did not: lost in the modem, refused, expired, or with no room in the queue.
    pub unsent: u64,
    /// Frames from the modem that have no known form.
    pub malformed: u64,
    /// Times the modem started anew by itself.
    pub restarts: u64,
}

/// Where a radio's modem is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RadioState {
    /// It takes frames.
    Up,
    /// The port is open and the modem is being set up.
    SettingUp,
    /// Not there, or not usable; it is tried again by itself.
    Down,
}

/// A frequency band with one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshBand {
    /// Lower edge.
    pub low_hz: u32,
    /// Upper edge.
    pub high_hz: u32,
    /// Share of any hour that may be spent sending, in millionths.
    pub duty_ppm: u32,
}

/// Messages since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshMessages {
    /// Own messages taken on.
    pub accepted: u64,
    /// Own messages whose receipt came.
    pub delivered: u64,
    /// Own messages given up.
    pub failed: u64,
    /// Own messages under way now.
    pub under_way: usize,
    /// Messages that came for this device.
    pub received: u64,
    /// Of them, those that wait to be taken now.
    pub waiting: usize,
    /// Of them, those lost because too many waited.
    pub lost: u64,
}

/// Frames of messages that this node keeps for devices that are away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshKept {
    /// Kept now.
    pub frames: usize,
    /// Their bytes.
    pub frame_bytes: usize,
    /// Taken since the start.
    pub taken: u64,
    /// Of them, those whose target said that it has the message.
    pub delivered: u64,
    /// Those that another node took over.
    pub handed_on: u64,
    /// Those whose lifetime ended.
    pub expired: u64,
    /// Those given up for more urgent ones.
    pub displaced: u64,
    /// Frames that were not taken: too much is kept, or they were not for keeping.
    pub refused: u64,
}

/// Frames since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshFrames {
    /// Frames that wait to be sent now.
    pub waiting: usize,
    /// Frames passed on for others.
    pub forwarded: u64,
    /// Frames that needed no repeating, because enough others had said them.
    pub suppressed: u64,
    /// Transmissions nobody was heard to have.
    pub unanswered: u64,
    /// By kind; kinds never seen are left away.
    pub kinds: Vec<MeshKind>,
    /// Dropped, by reason; reasons that never came up are left away.
    pub dropped: Vec<MeshDrop>,
}

/// Frames of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshKind {
    /// Which: `data`, `receipt`, `announce-key`, ...
    pub kind: String,
    /// Sent.
    pub sent: u64,
    /// Bytes of those.
    pub sent_bytes: u64,
    /// Heard.
    pub heard: u64,
}

/// Frames dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshDrop {
    /// Why: `duplicate`, `no-way`, `forged`, ...
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// The routing table in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshTable {
    /// Devices to which a way is known now.
    pub destinations: usize,
    /// Times a way was asked for.
    pub lookups: u64,
    /// Times there was none.
    pub misses: u64,
    /// Destinations forgotten to make room.
    pub evicted: u64,
    /// Searches that nobody answered.
    pub searches_failed: u64,
}

/// One destination, as listed by `GET /v1/mesh/routes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshRoute {
    /// The destination's hint, 6 hex digits.
    pub hint: String,
    /// Its device id, if a paired device fits, and only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// That device's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The best way there.
    pub way: MeshWay,
}

/// One way to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshWay {
    /// Hint of the neighbour it leads through, 4 hex digits.
    pub next: String,
    /// That neighbour's name, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_name: Option<String>,
    /// The port it leads through.
    pub port: u16,
    /// What that port is: a device's name, or a radio's serial port.
    pub over: String,
    /// Hops to the device: 1 for a neighbour.
    pub hops: u8,
    /// Expected airtime and latency to there; absent if it is beyond counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_ms: Option<u64>,
    /// Tries that went unanswered since it last worked.
    pub failures: u8,
    /// When it was last heard of, seconds ago.
    pub age_s: u64,
}

/// A device that announced itself in the mesh, as listed by `GET /v1/mesh/devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshDevice {
    /// Device id, 64 hex digits; proved by its signature.
    pub id: String,
    /// The name it is known by here; absent for a device that is not paired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it offers the mesh: `relay`, `store`, `gateway`, `constrained`.
    pub offers: Vec<String>,
    /// Hops its announce took to here, as the last relay said.
    pub hops: u8,
    /// When it was last heard, seconds ago.
    pub heard_s: u64,
}

/// Answer of `GET /v1/mesh/trace/{peer}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshTrace {
    /// Device id, 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its mesh address, 32 hex digits.
    pub address: String,
    /// Ways, the best first.
    pub ways: Vec<MeshWay>,
    /// Whether a way is being looked for now.
    pub searching: bool,
    /// Whether messages to it are sealed with keys that are erased behind them.
    #[serde(default)]
    pub forward_secret: bool,
    /// Own messages to it under way.
    pub messages: usize,
    /// Names of the neighbours that answer for some of them: each keeps them, or has the word of a device that does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keepers: Vec<String>,
    /// Frames for it that this node passes on now.
    pub passing: usize,
}

/// Answer of `POST /v1/mesh/announce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshAnnounced {
    /// Ports that are up, to which the announce goes as far as their ration allows.
    pub ports: usize,
}
