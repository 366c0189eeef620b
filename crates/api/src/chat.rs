//! Messages between people.

use serde::{Deserialize, Serialize};

use crate::PathInfo;

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The peer, to us.
    In,
    /// We, to the peer.
    Out,
}

/// How far a message got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatState {
    /// On its way; it will be delivered or reported.
    Sent,
    /// Another device keeps it until the peer is in reach.
    Stored,
    /// The other node has it.
    Delivered,
    /// It will not arrive.
    Failed,
}

/// One message, as printed by `honeylink chat --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// Names the message, 32 hex digits: an update has the name of the message it is about.
    #[serde(default)]
    pub id: String,
    /// Device id of the peer, 64 hex digits.
    pub peer: String,
    /// Its name.
    pub name: String,
    /// Who wrote it.
    pub direction: Direction,
    /// What it says.
    pub text: String,
    /// When this node sent or received it.
    pub at_unix_ms: u64,
    /// How far it got.
    pub state: ChatState,
    /// The path it took, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathInfo>,
    /// Of a stored message: the name of the neighbour that answers for it, if it is known. It keeps the message, or has the
    /// word of a device further on that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeper: Option<String>,
}

/// Body of `POST /v1/chat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatSend {
    /// Name, id or unambiguous id prefix.
    pub peer: String,
    /// What to say, UTF-8.
    pub text: String,
    /// The policy that the other device must acknowledge first, and messages to it go by from then on. Absent: the configured
    /// one, if there is one, which it need not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

/// One line of `GET /v1/chat/watch`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ChatEvent {
    /// The node listens now; nothing sent after this is missed. First line.
    Ready,
    /// A message came or went.
    Message(ChatMessage),
    /// What became of a message of ours that was told before: `sent` turned into `stored`, `delivered` or `failed`.
    Update(ChatMessage),
    /// The watcher read too slowly and this many messages were skipped.
    Skipped {
        /// How many.
        count: u64,
    },
}
