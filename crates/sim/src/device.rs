//! What can be simulated: anything with the four verbs of a machine.
//!
//! The product's mesh, each baseline it is compared with, and each hostile peer implement [`Device`]; the world knows no
//! other difference between them. The contract is the core's: `handle` never fails, outputs are drained after every
//! call, a deadline names its reason, and the same inputs with the same seed give the same outputs.

use bytes::Bytes;
use honeylink_core::time::{Deadline, Time};
use serde::{Deserialize, Serialize};

/// A node's place in the world: an index, and the only name the simulator uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The index into a list of nodes.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl core::fmt::Display for NodeId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// An attachment of a node: its radio is port 0, its links are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PortId(pub u16);

impl PortId {
    /// Where a node's radio is, if it has one.
    pub const RADIO: Self = Self(0);
}

/// A message of the run's traffic. Its number opens its payload, so a checker can tell what was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub u32);

/// How well a frame was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Received power, in dBm.
    pub rssi_dbm: i16,
    /// Signal to noise, in quarters of a decibel, as LoRa modems report it.
    pub snr_quarter_db: i16,
}

/// One record of what a device keeps across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which of the device's tables.
    pub table: u8,
    /// The key in it.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
}

/// What a port is, told to the device when it comes up.
#[derive(Clone, Debug, PartialEq)]
pub enum PortKind {
    /// A radio: everybody in range hears.
    Radio(crate::radio::Settings),
    /// A link to one other node.
    Link {
        /// Largest frame in bytes.
        mtu: usize,
        /// Rate in bits per second.
        bits_per_s: u64,
        /// Usual one-way delay in microseconds.
        latency_us: u64,
    },
}

/// Something an application asks of its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The message's number, back in every [`Output::Progress`].
    pub id: MessageId,
    /// To whom.
    pub to: NodeId,
    /// What: begins with the number, see [`crate::message`].
    pub payload: Bytes,
    /// 0 bulk, 1 normal, 2 urgent, 3 control.
    pub priority: u8,
    /// How long delivery may be tried, in microseconds.
    pub lifetime_us: u64,
    /// Whether the sender wants to know of its arrival.
    pub receipt: bool,
}

/// What happens to a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The first input of every life: what the disk holds.
    Boot(Vec<Record>),
    /// A port can be used.
    PortUp(PortId, PortKind),
    /// A port cannot be used any more.
    PortDown(PortId),
    /// A frame came in. Whoever sent it may be anybody.
    Frame {
        /// Where.
        port: PortId,
        /// The frame.
        bytes: Bytes,
        /// How well it was heard; links have no such thing.
        quality: Option<Quality>,
    },
    /// What became of a transmission.
    Sent {
        /// Where.
        port: PortId,
        /// The number given with [`Output::Transmit`].
        token: u64,
        /// Whether it left; if not, it waited too long or found the queue full.
        aired: bool,
    },
    /// The application wants something sent.
    App(Errand),
    /// Everything put out before this [`Output::Sync`] is on disk.
    Synced(u64),
    /// What the wall clock shows, in milliseconds of Unix time.
    WallClock(u64),
    /// A deadline has come.
    Timeout,
}

/// What a frame is for: how airtime is accounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Carries an application's bytes.
    Data,
    /// Acknowledges: receipts, hop acknowledgements, proofs.
    Ack,
    /// Tells others that somebody is there.
    Announce,
    /// Finds or repairs a way.
    Route,
    /// Anything else.
    Other,
}

impl Class {
    /// Every class, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Data, Self::Ack, Self::Announce, Self::Route, Self::Other];

    /// The word in traces and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Ack => "ack",
            Self::Announce => "announce",
            Self::Route => "route",
            Self::Other => "other",
        }
    }
}

/// How far a message has come, as its sender's device knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Taken on; it survives a crash from here on if the device says so.
    Accepted,
    /// The first frame left.
    Sent,
    /// Another node has promised to keep it.
    Stored,
    /// The target has it: its receipt came.
    Delivered,
    /// Given up before its lifetime ended.
    Failed,
    /// Its lifetime ended.
    Expired,
}

impl Step {
    /// The word in traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Sent => "sent",
            Self::Stored => "stored",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed | Self::Expired)
    }
}

/// What a device wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Transmit {
        /// Where.
        port: PortId,
        /// Comes back in [`Input::Sent`].
        token: u64,
        /// The frame.
        bytes: Bytes,
        /// 0 bulk to 3 control.
        priority: u8,
        /// On the device's own clock: not sent after this.
        expires_at: Option<Time>,
        /// What the frame is for.
        class: Class,
        /// How long the frame would be in the format that is modelled, in bytes, where that is not what `bytes` holds.
        length: Option<usize>,
    },
    /// Do not send that after all, if it is still waiting. Answered by [`Input::Sent`] with `aired: false`.
    Withdraw {
        /// Where.
        port: PortId,
        /// Which.
        token: u64,
    },
    /// A message for the application.
    Deliver {
        /// Who sent it, as far as the device could verify; `None` if it is nobody the simulator knows.
        from: Option<NodeId>,
        /// The message.
        payload: Bytes,
    },
    /// How far a message has come.
    Progress {
        /// Which.
        id: MessageId,
        /// How far.
        step: Step,
    },
    /// Write a record.
    Save(Record),
    /// Remove a record.
    Erase {
        /// Which table.
        table: u8,
        /// Which key.
        key: Bytes,
    },
    /// Bring what was saved and erased so far to the disk and answer [`Input::Synced`] with this number.
    Sync(u64),
    /// Something worth a line in the trace.
    Note(String),
}

/// A machine on a node.
pub trait Device {
    /// Takes an input at this moment of the node's own clock. Never fails.
    fn handle(&mut self, now: Time, input: Input);

    /// The next thing the device wants; drained to `None` after every `handle`.
    fn poll_output(&mut self) -> Option<Output>;

    /// When it wants to be called with [`Input::Timeout`], and why.
    fn poll_timeout(&mut self) -> Option<Deadline>;

    /// How many bytes of state it holds, roughly: what [`crate::oracle`] bounds. Zero means it does not say.
    fn state_bytes(&self) -> usize {
        0
    }
}
