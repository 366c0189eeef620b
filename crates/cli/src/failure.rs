//! How a command can end other than well.

use honeylink_api::client::ClientError;
use honeylink_api::{ErrorBody, ErrorCode, ExitCode};

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error to print; its code decides the exit code.
    Error(Box<ErrorBody>),
    /// The outcome was printed already; only the exit code is left to give.
    Reported(ExitCode),
    /// Whoever read our stdout is gone (`honeylink nearby --watch | head -1`): no error, and nobody to tell.
    OutputClosed,
}

impl Failure {
    /// An error with a code and a sentence.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Error(Box::new(ErrorBody::new(code, message)))
    }

    /// An error with advice.
    pub(crate) fn hint(code: ErrorCode, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Error(Box::new(ErrorBody::new(code, message).with_hint(hint)))
    }

    /// A fault of ours.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::Internal, error.to_string())
    }

    /// A file that cannot be read or written.
    pub(crate) fn file(action: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open-ended")]
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorCode::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorCode::Permission,
            std::io::ErrorKind::StorageFull => ErrorCode::DiskFull,
            _ => ErrorCode::Internal,
        };
        Self::new(code, format!("cannot {action} {}: {error}", path.display()))
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self::Error(Box::new(body))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        error.into_body().into()
    }
}
