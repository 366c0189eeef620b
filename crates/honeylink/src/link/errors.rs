//! What can go wrong on a link, one enum per operation.

use honeylink_core::qos::policy::PolicyRejected;
use honeylink_core::qos::{OpenError, OptionsError, ReserveError};
use honeylink_core::session::{CloseReason, Closer};
use honeylink_core::wire::link::CloseCode;

use crate::carrier::traffic::RefusedStream;

/// The link is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link is closed: {}", describe(.0))]
pub struct LinkClosed(
    /// Who closed it and why.
    pub CloseReason,
);

impl LinkClosed {
    /// Whether it ended in the way the application or its peer asked for.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.0.by != Closer::Timeout && matches!(self.0.code, CloseCode::Normal | CloseCode::Shutdown)
    }

    /// The reason that the peer's application gave when it closed the link, if it gave one.
    #[must_use]
    pub fn words_of_peer(&self) -> Option<&str> {
        let said = self.0.by == Closer::Peer && self.0.code == CloseCode::Normal && !self.0.text.is_empty();
        said.then_some(&*self.0.text)
    }
}

fn describe(reason: &CloseReason) -> String {
    let by = match reason.by {
        Closer::Us => "by this device",
        Closer::Peer => "by the other device",
        Closer::Timeout => "because time ran out",
    };
    let text = if reason.text.is_empty() { reason.code.to_string() } else { reason.text.clone() };
    match reason.first_undelivered {
        Some(seq) => format!("{by}, {text}; messages from number {seq} on may not have arrived"),
        None => format!("{by}, {text}"),
    }
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Larger than this side or the peer accepts.
    #[error("the message has {size} bytes and the limit is {max}; send it as a stream or in parts")]
    TooLarge {
        /// The message's size, bytes.
        size: usize,
        /// The smaller of both sides' limits, bytes.
        max: usize,
    },
    /// `try_send` would have to wait.
    #[error("the window of unacknowledged messages is full")]
    Full,
    /// The link is over.
    #[error(transparent)]
    Closed(#[from] LinkClosed),
}

/// Why a stream was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The connection was lost; the link is being taken up again. Try again.
    #[error("the connection was lost while opening the stream: {0}")]
    ConnectionLost(String),
    /// The link is over.
    #[error(transparent)]
    Closed(#[from] LinkClosed),
    /// What the stream asks for cannot be.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// This connection holds as many streams as it may.
    #[error("{max} streams are open already; close one first")]
    TooManyStreams {
        /// The most there may be.
        max: usize,
    },
    /// The link does not carry the guaranteed rate beside what is reserved already.
    #[error("{asked} bytes/s do not fit: {left} bytes/s of this link can still be reserved")]
    InsufficientBandwidth {
        /// Bytes a second.
        asked: u64,
        /// Bytes a second.
        left: u64,
    },
    /// No policy of that name is in force on this link.
    #[error("no policy `{0}` is in force on this link; apply it first")]
    UnknownPolicy(String),
}

impl From<RefusedStream> for StreamError {
    fn from(refused: RefusedStream) -> Self {
        match refused {
            RefusedStream::Open(OpenError::Options(options)) => Self::Options(options),
            RefusedStream::Open(OpenError::TooManyStreams { max })
            | RefusedStream::Reserve(ReserveError::TooManyStreams { max }) => Self::TooManyStreams { max },
            RefusedStream::Reserve(ReserveError::InsufficientBandwidth { asked, left }) => {
                Self::InsufficientBandwidth { asked, left }
            }
        }
    }
}

/// Why a policy is not in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It cannot be used, or another one is still being agreed.
    #[error(transparent)]
    Rejected(#[from] PolicyRejected),
    /// The peer did not acknowledge it within five seconds, or refused it; what was before is back in force.
    #[error("policy `{name}` was taken back: {why}")]
    RolledBack {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// The link is over.
    #[error(transparent)]
    Closed(#[from] LinkClosed),
}

/// Why a datagram was not queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// Larger than the path takes.
    #[error("the datagram has {size} bytes and the path takes {max}")]
    TooLarge {
        /// Its size, bytes.
        size: usize,
        /// What fits now, bytes.
        max: usize,
    },
    /// No connection is up, or its queue is full.
    #[error("the datagram was dropped: no connection is up or its queue is full")]
    Dropped,
}

/// Why a ping has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// The link is over.
    #[error(transparent)]
    Closed(#[from] LinkClosed),
}

/// The link closed without knowing that everything arrived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link closed before message {first_undelivered} was known to have arrived ({reason})")]
pub struct CloseError {
    /// The first message in doubt.
    pub first_undelivered: u64,
    /// Why it ended.
    pub reason: String,
}
