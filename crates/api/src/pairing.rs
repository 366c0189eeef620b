//! Pairing, as a stream of events from "here is your code" to the outcome.

use serde::{Deserialize, Serialize};

use crate::{ErrorBody, Trust};

/// Body of `POST /v1/pair/open`: show a code and wait for the other side. Dropping the answer closes pairing mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairOpen {
    /// Ask both people to compare the short authentication string, which raises the trust to `verified`.
    #[serde(default)]
    pub verify: bool,
}

/// Body of `POST /v1/pair/join`: pair with whoever shows this code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairJoin {
    /// The code, or the whole text of the QR.
    pub code: String,
    /// Ask for the comparison of the short authentication string, as in [`PairOpen::verify`].
    #[serde(default)]
    pub verify: bool,
}

/// One line of a pairing stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PairEvent {
    /// First line of `pair`: show this to the other side.
    Open {
        /// The code to type there.
        code: String,
        /// The text of the QR code.
        qr: String,
        /// Seconds until it expires.
        expires_s: u64,
    },
    /// First line of `pair CODE`: looking for the device that shows the code.
    Searching,
    /// Someone answered; the keys are being agreed on.
    Connected {
        /// Device id of the other side, 64 hex digits. Not trusted yet.
        id: String,
        /// The name it gives itself.
        name: String,
    },
    /// An attempt failed. If it used up the code, a new one follows with [`PairEvent::Open`].
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// Both people compare this. Answer with `POST /v1/pair/answer`.
    Compare {
        /// Six digits.
        digits: String,
        /// The same as four named emoji.
        emoji: Vec<SasEmoji>,
    },
    /// Last line.
    Outcome(PairOutcome),
}

/// One emoji of a short authentication string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SasEmoji {
    /// The picture.
    pub symbol: String,
    /// Its name, for people who read it aloud and for terminals without the picture.
    pub name: String,
}

/// How a pairing ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairOutcome {
    /// Whether both sides now trust each other.
    pub ok: bool,
    /// Device id of the new peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How far it is trusted now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// How it was paired: `code`, `qr`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Seconds the machines took, people's time not counted.
    pub seconds: f64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// Body of `POST /v1/pair/answer`: what the person said about [`PairEvent::Compare`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairAnswer {
    /// Whether both screens show the same; `null` if nobody can tell, which ends the pairing without a verdict.
    pub same: Option<bool>,
}
