//! The library's errors in the API's words: which stable code each has, and what the person can do.

use honeylink::link::{LinkClosed, PingError, StreamError};
use honeylink::node::{BuildError, ConnectError, JoinError};
use honeylink::pairing::{OpenError, PairingError, Refusal};
use honeylink::store::home::OpenHomeError;
use honeylink::store::{ChangePeerError, PairError, ResolveError};
use honeylink_api::{Candidate, ErrorBody, ErrorCode};

/// A node that did not start.
pub(super) fn build(error: &BuildError) -> ErrorBody {
    let code = match error {
        BuildError::InvalidSetting { .. } | BuildError::Radio(_) => ErrorCode::Config,
        BuildError::Home(OpenHomeError::InUse { .. }) => ErrorCode::Policy,
        BuildError::Home(OpenHomeError::Exposed { .. } | OpenHomeError::Foreign { .. }) => {
            ErrorCode::Permission
        }
        BuildError::Home(OpenHomeError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            ErrorCode::Permission
        }
        BuildError::Home(OpenHomeError::Io { .. })
        | BuildError::Key(_)
        | BuildError::Store(_)
        | BuildError::Bind(_)
        | BuildError::Discovery(_)
        | BuildError::Entropy(_) => ErrorCode::Internal,
    };
    ErrorBody::new(code, error.to_string())
}

/// A name that means no device, or several.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn resolve(error: ResolveError) -> ErrorBody {
    match &error {
        ResolveError::Ambiguous { text, candidates } => ErrorBody {
            candidates: candidates
                .iter()
                .map(|candidate| Candidate { id: candidate.id.to_string(), name: candidate.name.clone() })
                .collect(),
            ..ErrorBody::new(ErrorCode::Ambiguous, format!("`{text}` could be any of these"))
                .with_hint("use more digits of the id")
        },
        ResolveError::NotFound { .. } => ErrorBody::new(ErrorCode::NotFound, error.to_string())
            .with_hint("honeylink devices lists the known ones; honeylink pair makes one known"),
        ResolveError::NotAnId { .. } => ErrorBody::new(ErrorCode::BadRequest, error.to_string()),
    }
}

/// A link that could not be made.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn connect(error: ConnectError) -> ErrorBody {
    connected(&error)
}

/// As [`connect`], for an error that stays where it is.
pub(super) fn connected(error: &ConnectError) -> ErrorBody {
    let code = match error {
        ConnectError::Resolve(error) => return resolve(error.clone()),
        ConnectError::InvalidProtocol(_) => ErrorCode::Internal,
        ConnectError::Myself => ErrorCode::BadRequest,
        ConnectError::NotPaired(_)
        | ConnectError::Revoked(_)
        | ConnectError::Refused { .. }
        | ConnectError::TooManyLinks => ErrorCode::Policy,
        ConnectError::Unreachable { .. } => ErrorCode::Unreachable,
        ConnectError::Stopped => return super::shutting_down(),
    };
    ErrorBody::new(code, error.to_string())
}

/// A link that ended. Closed with words, it was not wanted.
pub(super) fn closed(error: &LinkClosed) -> ErrorBody {
    let code = if error.words_of_peer().is_some() { ErrorCode::Policy } else { ErrorCode::Unreachable };
    ErrorBody::new(code, error.to_string())
}

/// A stream that was not opened.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn stream(error: StreamError) -> ErrorBody {
    match &error {
        StreamError::Closed(why) => closed(why),
        StreamError::ConnectionLost(_) => ErrorBody::new(ErrorCode::Unreachable, error.to_string()),
        StreamError::TooManyStreams { .. } | StreamError::InsufficientBandwidth { .. } => {
            ErrorBody::new(ErrorCode::Policy, error.to_string())
        }
        // Policies are checked when they are read, and in force before a stream is opened under them.
        StreamError::Options(_) | StreamError::UnknownPolicy(_) => {
            ErrorBody::new(ErrorCode::Internal, error.to_string())
        }
    }
}

/// A ping without an answer because the link is over; a mere time-out is a lost ping.
pub(super) fn ping(error: &PingError) -> Option<ErrorBody> {
    match error {
        PingError::Timeout(_) => None,
        PingError::Closed(why) => Some(closed(why)),
    }
}

/// A change to a known device that was not made.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn change(error: ChangePeerError) -> ErrorBody {
    let code = match &error {
        ChangePeerError::Unknown { .. } => ErrorCode::NotFound,
        ChangePeerError::NotPaired { .. } => ErrorCode::Policy,
        ChangePeerError::NameTaken(_)
        | ChangePeerError::Name(_)
        | ChangePeerError::NoteTooLong { .. }
        | ChangePeerError::Grant(_) => ErrorCode::BadRequest,
        ChangePeerError::State(_) => ErrorCode::Internal,
    };
    ErrorBody::new(code, error.to_string())
}

/// A code that was not opened.
pub(super) fn open(error: OpenError) -> ErrorBody {
    let code = match &error {
        OpenError::Locked(_) => ErrorCode::PairingLocked,
        OpenError::TooMany | OpenError::DigitsInUse => ErrorCode::Policy,
    };
    ErrorBody::new(code, error.to_string())
}

/// A pairing that failed on the side of the code's user.
pub(super) fn join(error: &JoinError) -> ErrorBody {
    let code = match error {
        JoinError::NobodyShowsIt
        | JoinError::NobodyShowsItAnywhere(_)
        | JoinError::OnlyFar
        | JoinError::NotOpen => ErrorCode::PairingNotOpen,
        JoinError::Ambiguous(_) => ErrorCode::Ambiguous,
        JoinError::Unreachable(_) => ErrorCode::Unreachable,
        JoinError::Ceremony(error) => return ceremony(error),
        JoinError::Record(error) => return record(error),
        JoinError::OwnName(_) => ErrorCode::Config,
        JoinError::Purpose(_) => ErrorCode::BadRequest,
    };
    ErrorBody::new(code, error.to_string())
}

/// A ceremony that failed.
pub(super) fn ceremony(error: &PairingError) -> ErrorBody {
    let code = match error {
        PairingError::Refused(refusal) | PairingError::TurnedAway(refusal) => refused(refusal),
        PairingError::WrongDevice { .. } => ErrorCode::IdentityChanged,
        PairingError::SelfPairing | PairingError::BothEntering => ErrorCode::BadRequest,
        PairingError::TimedOut(_) => ErrorCode::Timeout,
        PairingError::Cancelled => ErrorCode::Declined,
        PairingError::HostUnproven
        | PairingError::Reflected
        | PairingError::BrokenCommitment
        | PairingError::SasMismatch
        | PairingError::NobodyToCompare
        | PairingError::VersionNotOffered(_)
        | PairingError::Malformed(_)
        | PairingError::OutOfTurn { .. }
        | PairingError::Lost(_) => ErrorCode::PairingFailed,
    };
    ErrorBody::new(code, error.to_string())
}

const fn refused(refusal: &Refusal) -> ErrorCode {
    match refusal {
        Refusal::NotOpen | Refusal::NoSuchCode => ErrorCode::PairingNotOpen,
        Refusal::Expired | Refusal::Used | Refusal::Withdrawn => ErrorCode::CodeExpired,
        Refusal::WrongCode => ErrorCode::WrongCode,
        Refusal::TooManyTries { .. } => ErrorCode::PairingLocked,
        Refusal::Cancelled => ErrorCode::Declined,
        Refusal::TimedOut => ErrorCode::Timeout,
        Refusal::WrongPurpose | Refusal::SelfPairing | Refusal::BothEntering => ErrorCode::BadRequest,
        Refusal::Version { .. } | Refusal::SasMismatch | Refusal::Busy | Refusal::Protocol => {
            ErrorCode::PairingFailed
        }
    }
}

/// A pairing that succeeded and could not be recorded.
pub(super) fn record(error: &PairError) -> ErrorBody {
    let code = match error {
        PairError::Revoked { .. } => ErrorCode::Policy,
        PairError::NameTaken(_) => ErrorCode::IdentityChanged,
        PairError::Name(_) => ErrorCode::BadRequest,
        PairError::Unreadable(_) | PairError::State(_) => ErrorCode::Internal,
    };
    ErrorBody::new(code, error.to_string())
}
