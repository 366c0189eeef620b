//! What can go wrong, in words for the person who waits for the file.

use std::io;
use std::path::{Path, PathBuf};

use honeylink_core::transfer::frame::Reason;
use honeylink_core::transfer::intake::Violation;
use honeylink_core::wire::Invalid;

/// The disk refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl DiskError {
    pub(super) fn new(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.as_ref().to_owned(), source: source.into() }
    }

    /// Whether the reason is a full disk or an exceeded quota.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Why sending ended.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A source could not be read.
    #[error(transparent)]
    Source(#[from] DiskError),
    /// A source is not what it was when it was listed.
    #[error("{} changed while it was sent; send it again", path.display())]
    SourceChanged {
        /// Which.
        path: PathBuf,
    },
    /// Neither a file nor a folder, or a path the protocol cannot carry.
    #[error("{} cannot be sent: {why}", path.display())]
    Unsendable {
        /// Which.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The receiver said no.
    #[error("the receiver declined: {text}")]
    Declined {
        /// Its reason.
        reason: Reason,
        /// In its words.
        text: String,
    },
    /// The receiver stopped in the middle; what it has is kept unless it cancelled.
    #[error("the receiver stopped ({reason:?}): {text}")]
    Stopped {
        /// Its reason.
        reason: Reason,
        /// In its words.
        text: String,
    },
    /// Cancelled through the [`Handle`](super::Handle).
    #[error("cancelled")]
    Cancelled,
    /// The receiver confirmed other bytes than were sent.
    #[error("the receiver confirmed a different digest than was sent")]
    Mismatch,
    /// The receiver speaks something else.
    #[error("the receiver broke the transfer protocol: {0}")]
    Protocol(#[from] Invalid),
    /// A frame that has no place here.
    #[error("the receiver broke the transfer protocol: unexpected frame")]
    Unexpected,
    /// The stream broke; sending again continues where it stopped.
    #[error("the connection broke: {0}; send again to continue")]
    Stream(#[from] io::Error),
}

/// Why receiving ended.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The decision was no.
    #[error("declined")]
    Declined,
    /// Cancelled through the [`Handle`](super::Handle); what was received is removed.
    #[error("cancelled")]
    Cancelled,
    /// Not enough room; nothing was written.
    #[error("not enough space in {}: {needed} bytes needed, {free} free", path.display())]
    NoSpace {
        /// The destination.
        path: PathBuf,
        /// Bytes still to come.
        needed: u64,
        /// Bytes the file system has for us.
        free: u64,
    },
    /// The disk refused; what was received so far is kept for another attempt.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The bytes of a file do not match the hash its sender gave.
    #[error("{path:?} arrived damaged; receive it again")]
    Corrupt {
        /// Relative path of the file.
        path: String,
    },
    /// The same transfer is already being received.
    #[error("{} is already being received", path.display())]
    Busy {
        /// The staging folder.
        path: PathBuf,
    },
    /// The sender broke its own offer.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The sender speaks something else.
    #[error("the sender broke the transfer protocol: {0}")]
    Protocol(#[from] Invalid),
    /// The sender stopped.
    #[error("the sender stopped ({reason:?}): {text}")]
    Stopped {
        /// Its reason.
        reason: Reason,
        /// In its words.
        text: String,
    },
    /// The stream broke; what was received so far is kept for another attempt.
    #[error("the connection broke: {0}; what arrived is kept, send again to continue")]
    Stream(#[from] io::Error),
}

impl ReceiveError {
    /// What the sender is told, if it is to be told.
    pub(super) fn stop_reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Declined => Reason::Declined,
            Self::Cancelled => Reason::Cancelled,
            Self::NoSpace { .. } => Reason::NoSpace,
            Self::Disk(error) if error.is_no_space() => Reason::NoSpace,
            Self::Disk(_) => Reason::Disk,
            Self::Corrupt { .. } => Reason::Corrupt,
            Self::Busy { .. } => Reason::Busy,
            Self::Violation(_) | Self::Protocol(_) => Reason::Protocol,
            Self::Stopped { .. } | Self::Stream(_) => return None,
        })
    }

    /// What the sender is told of it: never a path of this machine.
    pub(super) fn stop_text(&self) -> String {
        match self {
            Self::NoSpace { needed, free, .. } => format!("{needed} bytes needed, {free} free"),
            Self::Disk(error) => error.source.to_string(),
            Self::Busy { .. } => "already being received".into(),
            Self::Declined
            | Self::Cancelled
            | Self::Corrupt { .. }
            | Self::Violation(_)
            | Self::Protocol(_)
            | Self::Stopped { .. }
            | Self::Stream(_) => self.to_string(),
        }
    }
}
