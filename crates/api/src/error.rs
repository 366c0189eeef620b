//! Errors as scripts see them: a stable code, a sentence for a person, and the program's exit code.

use serde::{Deserialize, Serialize};

/// What went wrong, as a stable word. Scripts match on this, never on the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// No node runs in this home, and the command was told not to start one.
    NoNode,
    /// The node speaks another version of this API.
    ApiVersion,
    /// The request makes no sense: a bad option, a missing field, an id that is none.
    BadRequest,
    /// No such device, transfer or file.
    NotFound,
    /// A name or prefix that fits more than one device; the candidates are listed.
    Ambiguous,
    /// It did not happen in the time allowed.
    Timeout,
    /// The device is known, but no way to it works now.
    Unreachable,
    /// The other side said no.
    Declined,
    /// The code was wrong.
    WrongCode,
    /// The code has expired or was used already.
    CodeExpired,
    /// Too many wrong codes; pairing is locked for a while.
    PairingLocked,
    /// Nobody is showing this code: pairing mode is not open over there.
    PairingNotOpen,
    /// The pairing failed in another way, for instance because someone sat in the middle.
    PairingFailed,
    /// A known device came back with another key.
    IdentityChanged,
    /// Some of it worked and some did not; the message says which.
    Partial,
    /// Not allowed: not paired, revoked, no grant, or against the configuration.
    Policy,
    /// Stopped part-way; the same command again continues where it stopped.
    Resumable,
    /// The person stopped it.
    Interrupted,
    /// No space left where the bytes had to go.
    DiskFull,
    /// The operating system does not let us read or write there.
    Permission,
    /// Larger than the limit.
    TooLarge,
    /// The node is shutting down and takes nothing new.
    ShuttingDown,
    /// This node cannot do that (built without it, or switched off in the configuration).
    Unsupported,
    /// A configuration value is wrong.
    Config,
    /// The other side broke the protocol.
    Protocol,
    /// A fault of ours.
    Internal,
    /// A code this build does not know, from a newer node.
    #[serde(other)]
    Other,
}

/// How the program ends. Part of the interface: shell scripts branch on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitCode {
    /// 0: done.
    Ok = 0,
    /// 1: failed in a way no other code names.
    Failed = 1,
    /// 2: the command line or the configuration is wrong.
    Usage = 2,
    /// 3: no node runs.
    NoNode = 3,
    /// 4: no such device, transfer or file.
    NotFound = 4,
    /// 5: not in the time allowed, or not reachable.
    Timeout = 5,
    /// 6: the other side said no.
    Declined = 6,
    /// 7: pairing failed.
    PairingFailed = 7,
    /// 8: a known device came with another key.
    IdentityChanged = 8,
    /// 9: some of it worked.
    Partial = 9,
    /// 10: not allowed.
    Policy = 10,
    /// 75: stopped part-way; try again to continue (`EX_TEMPFAIL` of sysexits.h).
    Resumable = 75,
    /// 130: stopped by the person (128 + SIGINT).
    Interrupted = 130,
}

impl ExitCode {
    /// The number the process ends with.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl ErrorCode {
    /// The exit code a command ends with after this error.
    #[must_use]
    pub const fn exit(self) -> ExitCode {
        match self {
            Self::NoNode => ExitCode::NoNode,
            Self::BadRequest | Self::Ambiguous | Self::Config => ExitCode::Usage,
            Self::NotFound => ExitCode::NotFound,
            Self::Timeout | Self::Unreachable => ExitCode::Timeout,
            Self::Declined => ExitCode::Declined,
            Self::WrongCode
            | Self::CodeExpired
            | Self::PairingLocked
            | Self::PairingNotOpen
            | Self::PairingFailed => ExitCode::PairingFailed,
            Self::IdentityChanged => ExitCode::IdentityChanged,
            Self::Partial => ExitCode::Partial,
            Self::Policy => ExitCode::Policy,
            Self::Resumable => ExitCode::Resumable,
            Self::Interrupted => ExitCode::Interrupted,
            Self::ApiVersion
            | Self::DiskFull
            | Self::Permission
            | Self::TooLarge
            | Self::ShuttingDown
            | Self::Unsupported
            | Self::Protocol
            | Self::Internal
            | Self::Other => ExitCode::Failed,
        }
    }

    /// The HTTP status (RFC 9110 section 15) an answer with this error has.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::Ambiguous | Self::Config => 400,
            Self::NotFound => 404,
            Self::Declined | Self::Policy | Self::Permission | Self::IdentityChanged => 403,
            Self::WrongCode
            | Self::CodeExpired
            | Self::PairingNotOpen
            | Self::PairingFailed
            | Self::Partial
            | Self::Resumable
            | Self::Interrupted => 409,
            Self::TooLarge => 413,
            Self::ApiVersion => 426,
            Self::PairingLocked => 429,
            Self::NoNode | Self::ShuttingDown => 503,
            Self::Unsupported => 501,
            Self::Unreachable | Self::Protocol => 502,
            Self::Timeout => 504,
            Self::DiskFull => 507,
            Self::Internal | Self::Other => 500,
        }
    }
}

/// One of the devices an ambiguous name may mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Device id, 64 hex digits.
    pub id: String,
    /// The name it is known by here.
    pub name: String,
}

/// An error in an answer, and in the last line of a failed command's `--json` output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong, as a stable word.
    pub code: ErrorCode,
    /// What went wrong, as a sentence for a person.
    pub message: String,
    /// What the person can do about it, if we know: often a command to type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// With [`ErrorCode::Ambiguous`]: the devices that fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
}

impl ErrorBody {
    /// An error with a message and no hint.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, candidates: Vec::new() }
    }

    /// The same error with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl core::fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for ErrorBody {}
