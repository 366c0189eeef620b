//! Who is around.

use serde::{Deserialize, Serialize};

use crate::PathInfo;

/// How far a device is trusted here. `honeylink` never raises this without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Only seen; its name and type are its own claim.
    Seen,
    /// Paired by a code or QR: its key is pinned.
    Paired,
    /// Paired, and two people compared the short authentication string.
    Verified,
    /// Thrown out for ever.
    Revoked,
}

/// One device around, as printed by `honeylink nearby --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearbyDevice {
    /// Device id, 64 hex digits.
    pub id: String,
    /// The name it announces, or the name a person here gave it.
    pub name: String,
    /// Device type it announces.
    #[serde(rename = "type")]
    pub device_type: String,
    /// The finders that see it now, most preferred first: `mdns`, `manual`, `remembered`, `ble`, ...
    pub seen_by: Vec<String>,
    /// How far it is trusted here.
    pub trust: Trust,
    /// The way a link to it runs now; `null` while there is none.
    pub path: Option<PathInfo>,
    /// Addresses it announces, `ip:port`.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Version of its program, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Signal strength in dBm, for finders that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rssi_dbm: Option<i16>,
}

/// One line of `GET /v1/nearby/watch` and of `honeylink nearby --watch --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum NearbyEvent {
    /// Came into view. Everything in view when the watch starts is reported this way first.
    Found(NearbyDevice),
    /// Still there, but something about it changed.
    Changed(NearbyDevice),
    /// Out of view: it said goodbye, or its announcements expired.
    Lost {
        /// Device id, 64 hex digits.
        id: String,
        /// The name it had.
        name: String,
    },
    /// A device shows the name or address of a paired one under another key. It is not trusted.
    Conflict {
        /// The id that is not the paired one.
        id: String,
        /// The name it shows.
        name: String,
        /// Its id in groups of four.
        fingerprint: String,
        /// The id of the paired device it resembles.
        known_id: String,
        /// That id in groups of four.
        known_fingerprint: String,
    },
}
