//! What goes into the mesh and what comes out of it.

use bytes::Bytes;
use core::time::Duration;

use super::custody::{Counts, Quota};
use super::frame::{Caps, FrameId, Kind, PortKind, Priority};
use super::hint::{Address, Far};
use super::keys::{Root, Starts};
use super::neighbours::NeighbourView;
use super::port::{PortId, PortInfo, Quality};
use super::records::{Key, Record};
use super::routes::{RouteStats, Way};
use crate::identity::DeviceId;
use crate::limits::MESH_CUSTODY_BYTES;
use crate::time::Time;
use crate::wire::Invalid;

/// What a mesh is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What this device offers. Without [`Caps::RELAY`] it sends and receives but forwards nothing.
    pub caps: Caps,
    /// How often the device announces itself (requirement ME1: 10 minutes), with jitter. Where announces are rationed
    /// the port may make it rarer.
    pub announce_every: Duration,
    /// Whether the device announces itself at all.
    pub announces: bool,
    /// Messages to a device that must arrive over a constrained link before keys are exchanged with it there. An exchange
    /// costs as much air as seven short messages, and gives those that follow forward secrecy.
    pub exchange_after: u16,
    /// Milliseconds since 1970 as the mesh starts, if the device knows them: how long it was off.
    pub unix_ms: Option<u64>,
    /// What a device with [`Caps::STORE`] keeps for others.
    pub quota: Quota,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            caps: Caps::RELAY,
            announce_every: Duration::from_secs(600),
            announces: true,
            exchange_after: 16,
            unix_ms: None,
            quota: Quota::of(MESH_CUSTODY_BYTES),
        }
    }
}

/// A message the application wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The application's name for it, back in every [`Output::Progress`]. Unique among those under way.
    pub id: u64,
    /// To whom.
    pub to: DeviceId,
    /// At most [`MESH_MESSAGE_BYTES_MAX`](crate::limits::MESH_MESSAGE_BYTES_MAX) bytes.
    pub payload: Bytes,
    /// How urgent.
    pub priority: Priority,
    /// How long to keep trying.
    pub lifetime: Duration,
    /// Whether the target shall say that it has it. Without, the message is sent once as well as the mesh can.
    pub receipt: bool,
}

/// What can happen to a mesh.
#[derive(Debug)]
pub enum Input {
    /// A port can be used.
    PortUp {
        /// Which.
        port: PortId,
        /// What it is.
        info: PortInfo,
    },
    /// A port cannot be used any more.
    PortDown {
        /// Which.
        port: PortId,
    },
    /// A frame was heard.
    Frame {
        /// Where.
        port: PortId,
        /// The frame: foreign bytes.
        bytes: Bytes,
        /// How well; `None` where that is not measured.
        quality: Option<Quality>,
    },
    /// What became of an [`Output::Transmit`].
    Sent {
        /// Where.
        port: PortId,
        /// Its token.
        token: u64,
        /// Whether it left. On a point-to-point port that counts as arrived.
        aired: bool,
    },
    /// The application sends a message.
    Send(Outgoing),
    /// The application does not want it sent any more.
    Cancel(u64),
    /// A device's key is known and trusted: the two are paired.
    Know(DeviceId),
    /// A device is not trusted any more: everything shared with it is forgotten, and messages to it fail.
    Forget(DeviceId),
    /// A secret from a session with a paired device: from now on messages to it have forward secrecy.
    Root {
        /// Whose.
        peer: DeviceId,
        /// The secret.
        root: Root,
        /// From which numbers.
        starts: Starts,
    },
    /// Everything put out before [`Output::Sync`] with this number is on disk.
    Synced(u64),
    /// Milliseconds since 1970.
    WallClock(u64),
    /// Announce this device now.
    AnnounceNow,
    /// The deadline of `poll_timeout` passed.
    Timeout,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Taken on. One that lives longer than [`MESH_VOLATILE_LIFETIME_MAX`](crate::limits::MESH_VOLATILE_LIFETIME_MAX) is
    /// on disk by now, and goes on after a crash.
    Accepted,
    /// Left this device.
    Sent,
    /// A store node answers for it.
    Stored,
    /// The target has it; proved by its receipt.
    Delivered,
    /// Given up.
    Failed(Failure),
}

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Failure {
    /// Its lifetime ended first.
    #[error("its lifetime ended before a receipt came")]
    Expired,
    /// The application cancelled it.
    #[error("it was cancelled")]
    Cancelled,
    /// Too many messages are under way that are at least as urgent.
    #[error("too many messages are under way that are at least as urgent")]
    QueueFull,
    /// A more urgent message took its place.
    #[error("a more urgent message took its place")]
    Displaced,
    /// There is one of this name.
    #[error("a message of this name is under way already")]
    Known,
    /// Longer than the mesh carries.
    #[error("it is longer than the mesh carries")]
    TooLong,
    /// No secret can be shared with the device: its key is none.
    #[error("the target's key is not a proper key")]
    BadKey,
    /// Its target is not trusted any more.
    #[error("its target is not paired any more")]
    Forgotten,
    /// This device has used up its message numbers.
    #[error("this device has used every message number; it needs a new identity")]
    NoNumbers,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trail {
    /// Transmissions it took, as the last relay said.
    pub hops: u8,
    /// The port it came in by.
    pub port: PortId,
    /// What that port is.
    pub kind: PortKind,
}

/// What a mesh wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this frame; answer with [`Input::Sent`].
    Transmit {
        /// Where.
        port: PortId,
        /// Names the transmission.
        token: u64,
        /// The frame.
        bytes: Bytes,
        /// How urgent.
        priority: Priority,
        /// Not sent after this.
        expires_at: Time,
        /// What it is: announces have a ration of their own.
        kind: Kind,
    },
    /// Drop that frame if it still waits. Needs no answer.
    Withdraw {
        /// Where.
        port: PortId,
        /// Its token.
        token: u64,
    },
    /// A message for the application.
    Deliver {
        /// From whom; proved.
        from: DeviceId,
        /// Its number, unique for this sender.
        seq: u32,
        /// The message.
        payload: Bytes,
        /// How it came.
        trail: Trail,
    },
    /// How far a message of ours has come.
    Progress {
        /// Which.
        id: u64,
        /// How far.
        step: Step,
    },
    /// Keep this record.
    Save(Record),
    /// Forget the record under this key.
    Erase(Key),
    /// Answer with [`Input::Synced`] when everything before is on disk.
    Sync(u64),
    /// Something worth telling.
    Event(Event),
}

/// Something worth telling a person or a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame or a message was dropped. Copies are counted and not told.
    Dropped {
        /// Where it came in; `None` if it was ours.
        port: Option<PortId>,
        /// Why.
        why: Dropped,
    },
    /// Bytes that are no frame.
    Malformed {
        /// Where.
        port: PortId,
        /// What is wrong.
        what: Invalid,
    },
    /// Too many ports are up.
    PortRefused(PortId),
    /// A way to a device was looked for and found.
    WayFound(Far),
    /// A way to a device was looked for, and nobody answered.
    NoWay(Far),
    /// A device announced itself.
    Heard {
        /// Who.
        device: DeviceId,
        /// What it offers.
        caps: Caps,
    },
    /// The record of what was received from a device is damaged: nothing from it is taken until keys are renewed.
    Sealed(Address),
    /// From now on messages to this device are sealed with keys that are erased behind them.
    ForwardSecret(Address),
    /// The record of the ratchets with a device is damaged: messages have no forward secrecy until the two meet again.
    RatchetLost(Address),
    /// The record of our own numbers is damaged: nothing can be sent.
    NumbersLost,
    /// So many records of own messages or of what is kept for others were damaged, and are gone.
    RecordsLost(usize),
}

/// Why a frame was not passed on, delivered or believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// No frame.
    Malformed,
    /// Passed on or taken before.
    Duplicate,
    /// It came back: a way leads in a circle.
    Loop,
    /// It came as far as frames may.
    HopLimit,
    /// Nobody knows a way.
    NoWay,
    /// Its MAC or signature does not fit.
    Forged,
    /// For us, from a device we do not know.
    Stranger,
    /// A number taken before, or too old to know.
    Replayed,
    /// Too many frames wait.
    QueueFull,
    /// Its source or neighbour sends too much.
    Throttled,
    /// This device does not forward.
    NotRelaying,
    /// Waited too long.
    Expired,
    /// Too large for the port.
    TooLarge,
    /// Of no use any more: an older announce, an answer nobody waits for.
    Stale,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::Duplicate,
        Self::Loop,
        Self::HopLimit,
        Self::NoWay,
        Self::Forged,
        Self::Stranger,
        Self::Replayed,
        Self::QueueFull,
        Self::Throttled,
        Self::NotRelaying,
        Self::Expired,
        Self::TooLarge,
        Self::Stale,
    ];

    /// The word in traces and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Duplicate => "duplicate",
            Self::Loop => "loop",
            Self::HopLimit => "hop-limit",
            Self::NoWay => "no-way",
            Self::Forged => "forged",
            Self::Stranger => "stranger",
            Self::Replayed => "replayed",
            Self::QueueFull => "queue-full",
            Self::Throttled => "throttled",
            Self::NotRelaying => "not-relaying",
            Self::Expired => "expired",
            Self::TooLarge => "too-large",
            Self::Stale => "stale",
        }
    }
}

/// Counters since the start (requirement NO4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames sent, by the number of their kind.
    pub sent: [u64; 16],
    /// Bytes sent, by the number of their kind.
    pub sent_bytes: [u64; 16],
    /// Frames heard, by the number of their kind.
    pub heard: [u64; 16],
    /// Frames dropped, by reason, in the order of [`Dropped::ALL`].
    pub dropped: [u64; Dropped::ALL.len()],
    /// Messages delivered to the application.
    pub delivered: u64,
    /// Own messages taken on.
    pub accepted: u64,
    /// Own messages whose receipt came.
    pub receipted: u64,
    /// Own messages given up.
    pub failed: u64,
    /// Frames passed on for others.
    pub forwarded: u64,
    /// Frames taken to be kept for devices that were away.
    pub kept: u64,
    /// Of those, the ones whose target confirmed the message.
    pub kept_delivered: u64,
    /// Frames that needed no repeating, because enough others had said them.
    pub suppressed: u64,
    /// Transmissions nobody was heard to have.
    pub unanswered: u64,
    /// Searches that nobody answered.
    pub searches_failed: u64,
    /// The routing table.
    pub routes: RouteStats,
}

impl Stats {
    /// How often frames were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped.get(why as usize).copied().unwrap_or(0)
    }

    pub(super) fn drop(&mut self, why: Dropped) {
        if let Some(count) = self.dropped.get_mut(why as usize) {
            *count += 1;
        }
    }
}

/// What is known of the way to one device: for `mesh trace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The device.
    pub to: Address,
    /// Ways, the best first.
    pub ways: Vec<Way>,
    /// Whether a search for it is under way.
    pub searching: bool,
    /// Whether messages to it are sealed with keys that are erased behind them.
    pub forward_secret: bool,
    /// Own messages to it under way.
    pub messages: usize,
    /// Neighbours that answer for some of them: each keeps them, or has the word of one that does.
    pub keepers: Vec<DeviceId>,
    /// Frames for it on their way over one hop now.
    pub passing: Vec<FrameId>,
}

/// The mesh as it stands: for `mesh stats`, `mesh routes` and health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Counters.
    pub stats: Stats,
    /// Every destination with its best way.
    pub routes: Vec<(Far, Way)>,
    /// Everybody in reach.
    pub neighbours: Vec<NeighbourView>,
    /// Own messages under way.
    pub messages: usize,
    /// Frames that wait to be sent.
    pub waiting: usize,
    /// Frames kept for devices that are away.
    pub kept: usize,
    /// Their bytes.
    pub kept_bytes: usize,
    /// What became of such frames since the start.
    pub custody: Counts,
}
