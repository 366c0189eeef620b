//! Devices this one knows: the trust store, as shown and changed by `honeylink devices`.

use serde::{Deserialize, Serialize};

use crate::{PathInfo, Trust};

/// A device in the trust store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Device id, 64 hex digits.
    pub id: String,
    /// The name it is known by here.
    pub name: String,
    /// Device type.
    #[serde(rename = "type")]
    pub device_type: String,
    /// How far it is trusted.
    pub trust: Trust,
    /// The id in groups of four, for two people to compare.
    pub fingerprint: String,
    /// How it was paired: `code`, `qr`, ...; absent if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What it may do here; rights that are not listed it does not have.
    pub grants: Vec<Grant>,
    /// What a person wrote about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// When it was first seen.
    pub first_seen_unix_ms: u64,
    /// When it was last seen.
    pub last_seen_unix_ms: u64,
    /// Where links to it were, `ip:port`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Whether it is in view now.
    pub nearby: bool,
    /// The way a link to it runs now; `null` while there is none.
    pub path: Option<PathInfo>,
}

/// One right of a paired device here and its value, as in `files=ask`, `chat=yes`, `tunnel:web=yes`. Kept as text so
/// that an older program shows a newer node's grants instead of failing on them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grant(pub String);

/// Body of `PATCH /v1/devices/{peer}`. Absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerChange {
    /// A new name for it, here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New notes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// Body of `POST /v1/devices/{peer}/grants`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantsChange {
    /// The rights to change; the others stay as they are.
    pub changes: Vec<Grant>,
}
