//! Types and client of the local API: how the `honeylink` program, its web page and other people's scripts speak to a
//! running node.
//!
//! A node listens on a Unix socket that only its owner may open (`<home>/api.sock`, mode 0600) and speaks HTTP/1.1
//! with JSON bodies. Things that happen over time (a pairing, a transfer, who is around) answer with NDJSON: one JSON
//! value per line, the last of which is the outcome. Byte pipes use an HTTP upgrade.
//!
//! This crate is serde types only, so that a program which just reads the JSON pays for nothing else. The feature
//! `client` adds [`client::Client`].
//!
//! # Promises
//! * Every request and answer carries [`VERSION_HEADER`]; two ends of different [`API_VERSION`] refuse each other with
//!   [`ErrorCode::ApiVersion`] instead of misreading one another.
//! * Fields are only ever added within a version. Readers ignore fields they do not know.
//! * The names below are what `honeylink <verb> --json` prints, so scripts depend on them; `tests/golden.rs` pins them.
//! * Units are the last word of a name: `_s`, `_ms`, `_bytes`, `_per_s`; a bare `bytes` counts bytes. Moments are
//!   milliseconds since the Unix epoch and end in `_unix_ms`.
//! * Text that came from another device (names, messages, file names) is passed on as it arrived, bounded in length.
//!   Whoever shows it on a terminal or in a page has to neutralise it first.
#![forbid(unsafe_code)]

mod chat;
mod error;
mod mesh;
mod nearby;
mod pairing;
mod path;
mod peers;
mod policy;
pub mod routes;
mod status;
mod transfer;

#[cfg(all(feature = "client", unix))]
pub mod client;

pub use chat::{ChatEvent, ChatMessage, ChatSend, ChatState, Direction};
pub use error::{Candidate, ErrorBody, ErrorCode, ExitCode};
pub use mesh::{
    MeshAnnounced, MeshBand, MeshDevice, MeshDrop, MeshFrames, MeshKept, MeshKind, MeshMessages,
    MeshNeighbour, MeshPort, MeshRadio, MeshRoute, MeshStats, MeshSummary, MeshTable, MeshTrace, MeshWay,
    RadioState,
};
pub use nearby::{NearbyDevice, NearbyEvent, Trust};
pub use pairing::{PairAnswer, PairEvent, PairJoin, PairOpen, PairOutcome, SasEmoji};
pub use path::{
    CallBack, Called, PathChange, PathInfo, PathReport, PingEvent, PingRequest, PingSummary, RoundTrips,
    Rung, SpeedBack, SpeedReport, SpeedRequest, StreamClass, Streams,
};
pub use peers::{Grant, GrantsChange, Peer, PeerChange};
pub use policy::{OpenStream, Policy, PolicyApplied, PolicyApply, PolicyOnLink, PolicyTakenBack};
pub use status::{
    DhtSummary, Health, HeldBack, Mode, NatSummary, PeerRelay, Phase, RelayPeerStatus, RelayStatus,
    ShutdownEvent, ShutdownRequest, Status, Subsystem, SubsystemState,
};
pub use transfer::{
    AcceptPolicy, ReceiveEvent, ReceiveRequest, SendRequest, Transfer, TransferAnswer, TransferEvent,
    TransferOutcome, TransferState,
};

/// Version of this API. Raised when a field changes meaning or goes away; never for an addition.
pub const API_VERSION: u32 = 1;

/// Header that carries [`API_VERSION`] in every request and answer.
pub const VERSION_HEADER: &str = "honeylink-api";

/// Longest line of an NDJSON answer, in bytes. A longer one is a broken or hostile server, not a message.
pub const LINE_BYTES_MAX: usize = 8 << 20;

/// Longest request body, in bytes, other than the bytes of an upgraded pipe.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
