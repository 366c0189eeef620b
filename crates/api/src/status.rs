//! What a node says about itself, and how it ends.

use serde::{Deserialize, Serialize};

/// Answer of `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This device's id, 64 hex digits.
    pub id: String,
    /// The name others see.
    pub name: String,
    /// Device type: `desktop`, `laptop`, `phone`, `tablet`, `server` or `embedded`.
    #[serde(rename = "type")]
    pub device_type: String,
    /// Version of the program.
    pub version: String,
    /// Version of this API.
    pub api: u32,
    /// Socket addresses other devices can reach us at, as `ip:port`.
    pub listen: Vec<String>,
    /// Whether a daemon answers, or a command that runs a node for itself.
    pub mode: Mode,
    /// Where the node is in its life.
    pub phase: Phase,
    /// Process id of the node.
    pub pid: u32,
    /// Seconds since the node started.
    pub uptime_s: u64,
    /// The folder that holds everything of this device.
    pub home: String,
    /// How far the node reaches: `loopback`, `lan` or `wide`.
    pub reach: String,
    /// What idle links are kept for (`node.power`): `mains` or `battery`; empty in answers of older nodes.
    #[serde(default)]
    pub power: String,
    /// The relays through which this device is reached; empty without a wide reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<RelayStatus>,
    /// Relaying between paired devices; absent if this node neither does it nor has others do it (`node.relay_peers`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_relay: Option<PeerRelay>,
    /// Paired (and verified) devices.
    pub peers: usize,
    /// Devices seen now.
    pub nearby: usize,
    /// Transfers that are not finished.
    pub transfers: usize,
    /// The NAT before this device; absent if nobody is asked about it (`nat.observers`, `node.reach`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatSummary>,
    /// The DHT of BitTorrent; absent if this node takes no part in it (`node.dht`, `node.reach`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dht: Option<DhtSummary>,
    /// The mesh; absent if this node takes no part in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<crate::MeshSummary>,
    /// What this device sends on streams, to all devices together.
    #[serde(default)]
    pub streams: crate::Streams,
    /// What paired devices asked for faster than they may, and waited for; absent if nothing had to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<HeldBack>,
    /// Health of the parts.
    pub subsystems: Vec<Subsystem>,
}

/// What had to wait since the node started, because one device asked for more than its share. Nothing of it was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Messages of chat.
    pub messages: u64,
    /// Offers of files.
    pub offers: u64,
    /// New links.
    pub links: u64,
}

/// The NAT before a device, as far as observers could see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatSummary {
    /// How it maps, filters and picks ports, in words.
    pub behavior: String,
    /// Where this device was seen last, as `ip:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// Observers in the settings.
    pub observers: usize,
    /// Those that were asked, the last time.
    #[serde(default)]
    pub observers_asked: usize,
    /// Of these, those that answered.
    pub observers_answered: usize,
    /// Whether holes are made.
    pub punch: bool,
    /// Attempts since the node started.
    pub attempts: u64,
    /// Attempts that made a hole.
    pub punched: u64,
}

/// A node's part in the DHT by which devices find each other across the internet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhtSummary {
    /// Paired devices for which a note with this device's addresses lies there.
    pub told: usize,
    /// When one was stored last, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_unix_ms: Option<u64>,
    /// What is wrong with it now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A relay through which a device is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// As in the settings: `https://host:port#key`.
    pub relay: String,
    /// Whether this device is reached through it first.
    pub home: bool,
    /// Whether it is connected. Others than the home are connected while they are needed.
    pub connected: bool,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Relaying between paired devices: by others for this one, and by this one for others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRelay {
    /// The devices of `node.relay_peers`.
    pub by: Vec<RelayPeerStatus>,
    /// Devices with the grant `relay` that are connected to this one for that.
    pub guests: usize,
    /// Pairs of them that packets are carried between.
    pub pairs: usize,
    /// Packets carried since the node started.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets not carried.
    pub dropped: u64,
}

/// A paired device that is to carry packets for this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayPeerStatus {
    /// As in the settings.
    pub peer: String,
    /// Whether it can be asked to.
    pub connected: bool,
    /// Devices reached through it now.
    pub devices: usize,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Who runs the node that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `honeylink up`: stays until `honeylink down`.
    Daemon,
    /// A single command that started a node for itself and takes it along when it ends.
    Command,
}

/// Where a node is in its life. It only moves downwards in this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Working.
    Running,
    /// Takes nothing new; what was accepted is being finished.
    Draining,
    /// Writes down what is left, so that it can resume.
    Persisting,
    /// Says goodbye on the network, closes sockets, removes the API socket.
    Cleanup,
    /// Done.
    Complete,
}

/// Health of one part of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subsystem {
    /// Which part: `node`, `store`, `carrier`, `discovery`, `mesh`, `relays` and `dht` if they are in the settings, or `radio` with its serial port.
    pub name: String,
    /// How it does.
    pub state: SubsystemState,
    /// Why, if it is not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Answer of `GET /healthz`. The HTTP status is 200 up to `degraded` and 503 beyond.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// That of the worst part.
    pub state: SubsystemState,
    /// Every part, with why it is not healthy.
    pub subsystems: Vec<Subsystem>,
}

/// How a part of the node does, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubsystemState {
    /// Works.
    Healthy,
    /// Works in part; the rest of the node goes on.
    Degraded,
    /// Is being shut down.
    Draining,
    /// Does not work.
    Unhealthy,
}

/// Body of `POST /v1/shutdown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownRequest {
    /// Seconds to wait for running transfers; the configured time if absent. What is not finished by then is left
    /// resumable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_s: Option<u64>,
}

/// One line of the answer to `POST /v1/shutdown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShutdownEvent {
    /// The phase that begins.
    pub phase: Phase,
    /// Transfers still running, in `draining`.
    pub transfers: usize,
}
