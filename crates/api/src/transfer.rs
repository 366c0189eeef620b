//! Files and folders on their way.

use serde::{Deserialize, Serialize};

use crate::{ErrorBody, PathInfo};

/// Who decides whether an offered transfer is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptPolicy {
    /// A person, each time.
    #[default]
    Ask,
    /// Anything from a paired device that has the grant `files`.
    Paired,
    /// Anything from anyone who may connect at all.
    All,
    /// Nothing.
    Never,
}

/// Where a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// Offered; the receiver has not answered.
    Waiting,
    /// Reading and hashing on the sending side.
    Preparing,
    /// Bytes are moving.
    Running,
    /// Stopped part-way; can be resumed.
    Paused,
    /// Complete and verified.
    Done,
    /// The receiver said no.
    Declined,
    /// Will not be finished.
    Failed,
}

/// One transfer, as listed by `honeylink transfers --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Identifier, unique on this node.
    pub id: String,
    /// `out` when we send, `in` when we receive.
    pub direction: crate::Direction,
    /// Device id of the other side; absent for a one-time code nobody has used yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Name of the other side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_name: Option<String>,
    /// Top-level file or folder names, at most eight of them.
    pub names: Vec<String>,
    /// Files in it, folders counted out.
    pub files: u64,
    /// Where it is.
    pub state: TransferState,
    /// Bytes moved and verified, resumed ones included.
    pub bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Current rate in bytes per second.
    pub rate_bytes_per_s: u64,
    /// Seconds left at this rate; absent if not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_s: Option<u64>,
    /// Why it failed or stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// Body of `POST /v1/send`. Dropping the answer pauses the transfer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRequest {
    /// Absolute paths of the files and folders to send.
    pub paths: Vec<String>,
    /// Name, id or unambiguous id prefix. Absent: make a one-time code and serve whoever brings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The policy to send by, which the other device must acknowledge; only with `to`. Absent: the configured one, if there is
    /// one, which it need not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// Body of `POST /v1/receive`. Dropping the answer stops receiving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveRequest {
    /// A one-time code to fetch. Absent: wait for offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Absolute path of the folder to write into; the configured one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
    /// Who decides; the configured policy if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<AcceptPolicy>,
}

/// One line of `POST /v1/send`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TransferEvent {
    /// First line of a transfer by one-time code: show this to the receiver.
    Offer {
        /// The code to type there.
        code: String,
        /// The text of the QR code.
        qr: String,
        /// Seconds until it expires.
        expires_s: u64,
    },
    /// How far it is.
    Progress(Transfer),
    /// Last line.
    Outcome(TransferOutcome),
}

/// How a transfer ended; the last line of `send --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferOutcome {
    /// Whether everything arrived and was verified.
    pub ok: bool,
    /// Identifier of the transfer.
    pub id: String,
    /// Bytes of content, whether moved now or already there.
    pub bytes: u64,
    /// Bytes that did not have to be moved because an earlier try had.
    #[serde(default)]
    pub resumed_bytes: u64,
    /// Seconds from the answer of the receiver to the last byte verified.
    pub seconds: f64,
    /// The path the bytes took.
    pub path: Option<PathInfo>,
    /// BLAKE3 of the content, 64 hex digits: of the file itself if it is one file, of the list of files otherwise.
    pub blake3: Option<String>,
    /// Where the files are now, on the receiving side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub saved: Vec<String>,
    /// Sending: the policy it went by at last; absent if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What the sender should know: entries that were skipped or renamed, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// One line of `POST /v1/receive`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ReceiveEvent {
    /// The node takes offers now.
    Ready {
        /// Folder files will be written into.
        into: String,
    },
    /// Someone offers files; answer with `POST /v1/transfers/{id}/answer`.
    Asked(Transfer),
    /// How far it is.
    Progress(Transfer),
    /// One transfer ended. Last line when a code was given; more follow otherwise.
    Outcome(TransferOutcome),
}

/// Body of `POST /v1/transfers/{id}/answer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferAnswer {
    /// Take it or not.
    pub accept: bool,
}
