//! Why a request to the node got no good answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{API_VERSION, ErrorBody, ErrorCode};

/// Why a request to the node got no good answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no socket, or nobody listens behind it.
    #[error("no node is running (nothing answers at {})", .0.display())]
    NoNode(PathBuf),
    /// The socket belongs to somebody else.
    #[error("not allowed to open {}: it belongs to another user", .0.display())]
    NotOurs(PathBuf),
    /// The socket cannot be opened for another reason.
    #[error("cannot open {}: {source}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The node speaks another version of the API, or is no HoneyLink node.
    #[error(
        "the running node speaks {}, this program speaks version {API_VERSION} of the local API",
        theirs.as_ref().map_or_else(|| "no version".to_owned(), |v| format!("version {v}"))
    )]
    OtherVersion {
        /// What it said.
        theirs: Option<String>,
    },
    /// The node answered with an error.
    #[error(transparent)]
    Node(#[from] ErrorBody),
    /// The node did not begin to answer.
    #[error("the node did not answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// The answer ended before its end: the node stopped or was killed.
    #[error("the node went away in the middle of an answer")]
    Cut,
    /// The answer is not what this version of the API promises.
    #[error("the node's answer cannot be read: {0}")]
    Unreadable(serde_json::Error),
    /// A line of the answer is longer than any honest one.
    #[error("the node sent a line of more than {} bytes", crate::LINE_BYTES_MAX)]
    LineTooLong,
    /// An HTTP error without our error body.
    #[error("the node answered HTTP status {0}")]
    Status(u16),
    /// HTTP went wrong.
    #[error("speaking to the node failed: {0}")]
    Http(hyper::Error),
    /// The path of the request is none.
    #[error("{0:?} is not a path of the local API")]
    BadPath(String),
}

impl ClientError {
    pub(super) fn from_connect(path: &Path, source: io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open-ended")]
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NoNode(path.to_owned()),
            io::ErrorKind::PermissionDenied => Self::NotOurs(path.to_owned()),
            _ => Self::Connect { path: path.to_owned(), source },
        }
    }

    /// A node that is killed takes its last connections and never answers them.
    pub(super) fn from_http(error: hyper::Error) -> Self {
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
        let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::NotConnected];
        let cut = source.is_some_and(|source| gone.contains(&source.kind()))
            || error.is_incomplete_message()
            || error.is_canceled()
            || error.is_closed();
        if cut { Self::Cut } else { Self::Http(error) }
    }

    /// The error as the commands print it.
    #[must_use]
    pub fn into_body(self) -> ErrorBody {
        let message = self.to_string();
        match self {
            Self::Node(body) => body,
            Self::NoNode(_) => {
                ErrorBody::new(ErrorCode::NoNode, message).with_hint("start one with: honeylink up")
            }
            Self::NotOurs(_) => ErrorBody::new(ErrorCode::Permission, message)
                .with_hint("run the command as that user, or choose your own folder with --home"),
            Self::OtherVersion { .. } => ErrorBody::new(ErrorCode::ApiVersion, message)
                .with_hint("restart the node with this version: honeylink down && honeylink up"),
            Self::Slow(_) => ErrorBody::new(ErrorCode::Timeout, message)
                .with_hint("see what it is doing with: honeylink logs"),
            Self::Cut => {
                ErrorBody::new(ErrorCode::NoNode, message).with_hint("see why with: honeylink logs -n 20")
            }
            Self::Connect { .. }
            | Self::Unreadable(_)
            | Self::LineTooLong
            | Self::Status(_)
            | Self::Http(_)
            | Self::BadPath(_) => ErrorBody::new(ErrorCode::Internal, message),
        }
    }
}
