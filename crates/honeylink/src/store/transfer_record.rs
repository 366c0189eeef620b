//! One transfer as it is remembered: its fields, its states and its bytes on disk.
//!
//! Record version 1, key: the transfer id (16):
//!
//! ```text
//! direction (1) state (1) peer (bytes, empty = nobody yet) created (varint, unix ms) updated (varint, unix ms)
//! files (varint) total (varint) done (varint) name (text) destination (bytes, empty = none) error (text)
//! count (varint) { source (bytes) }
//! ```
//!
//! Paths are the operating system's bytes on Unix, UTF-8 elsewhere.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::{BufMut as _, BytesMut};
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::TRANSFER_PATH_BYTES_MAX;
use honeylink_core::wire::{Invalid, Reader, put_bytes, put_varint};
use redb::{TableDefinition, TableHandle as _};

use super::limits::{ERROR_BYTES_MAX, PATH_BYTES_MAX, TRANSFER_SOURCES_MAX};
use super::record::{self, RecordError};
use super::transfers::TransferLogError;

/// Record by transfer id.
pub(super) const TRANSFERS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("transfers");
pub(super) const RECORD_VERSION: u8 = 1;

/// A transfer, unique on this device. Shown as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub [u8; 16]);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the peer.
    Outgoing,
    /// From the peer.
    Incoming,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransferState {
    /// Waits for its turn or for an answer.
    Queued,
    /// Bytes are moving.
    Active,
    /// Stopped by a person, a lost link or a restart; can go on.
    Paused,
    /// Complete and verified.
    Done,
    /// Given up after an error; can be tried again.
    Failed,
    /// The receiver did not want it.
    Declined,
}

impl TransferState {
    /// The word used on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Declined => "declined",
        }
    }

    /// Whether it has not ended.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Active | Self::Paused)
    }

    /// Whether a transfer may go from this state to `next`. `Done` and `Declined` are final.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Queued | Self::Active | Self::Paused => true,
            Self::Failed => matches!(next, Self::Queued | Self::Active | Self::Failed),
            Self::Done => matches!(next, Self::Done),
            Self::Declined => matches!(next, Self::Declined),
        }
    }
}

impl fmt::Display for TransferState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is remembered of one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRecord {
    /// Its id.
    pub id: TransferId,
    /// Which way it goes.
    pub direction: Direction,
    /// The other device; `None` for a one-time code that nobody has used yet.
    pub peer: Option<DeviceId>,
    /// What the user sees it as: the name of its file or folder.
    pub name: String,
    /// How many files it has, folders counted out.
    pub files: u64,
    /// Size of the whole, in bytes.
    pub total_bytes: u64,
    /// How much of it is there and verified, in bytes.
    pub done_bytes: u64,
    /// How far it is.
    pub state: TransferState,
    /// Incoming: the folder it goes to.
    pub destination: Option<PathBuf>,
    /// Outgoing: the files and folders it is made of.
    pub sources: Vec<PathBuf>,
    /// Why it failed, or empty.
    pub error: String,
    /// When it was made, in milliseconds since 1970 (UTC).
    pub created: u64,
    /// When it last changed, in milliseconds since 1970 (UTC).
    pub updated: u64,
}

impl TransferRecord {
    pub(super) fn check(&self) -> Result<(), TransferLogError> {
        let within = |what, size, max| {
            if size > max { Err(TransferLogError::TooLarge { what, size, max }) } else { Ok(()) }
        };
        within("name's bytes", self.name.len(), TRANSFER_PATH_BYTES_MAX)?;
        within("error's bytes", self.error.len(), ERROR_BYTES_MAX)?;
        within("sources", self.sources.len(), TRANSFER_SOURCES_MAX)?;
        for path in self.sources.iter().chain(&self.destination) {
            within("path's bytes", path.as_os_str().len(), PATH_BYTES_MAX)?;
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(match self.direction {
            Direction::Outgoing => 0,
            Direction::Incoming => 1,
        });
        out.put_u8(match self.state {
            TransferState::Queued => 0,
            TransferState::Active => 1,
            TransferState::Paused => 2,
            TransferState::Done => 3,
            TransferState::Failed => 4,
            TransferState::Declined => 5,
        });
        put_bytes(&mut out, self.peer.as_ref().map_or(&[], |peer| &peer.as_bytes()[..]));
        for number in [self.created, self.updated, self.files, self.total_bytes, self.done_bytes] {
            put_varint(&mut out, number);
        }
        put_bytes(&mut out, self.name.as_bytes());
        put_bytes(&mut out, &self.destination.as_deref().map(path_bytes).unwrap_or_default());
        put_bytes(&mut out, self.error.as_bytes());
        put_varint(&mut out, self.sources.len() as u64);
        for source in &self.sources {
            put_bytes(&mut out, &path_bytes(source));
        }
        record::seal(TRANSFERS.name(), &self.id.0, RECORD_VERSION, &out)
    }

    pub(super) fn decode(key: [u8; 16], bytes: &[u8]) -> Result<Self, RecordError> {
        let (_, mut reader) = record::open(TRANSFERS.name(), &key, RECORD_VERSION, bytes)?;
        let record = Self::decode_body(key, &mut reader)?;
        reader.finish("transfer record")?;
        Ok(record)
    }

    fn decode_body(key: [u8; 16], reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        let direction = match reader.u8("direction")? {
            0 => Direction::Outgoing,
            1 => Direction::Incoming,
            _ => return Err(Invalid::Value { what: "direction" }),
        };
        let state = match reader.u8("state")? {
            0 => TransferState::Queued,
            1 => TransferState::Active,
            2 => TransferState::Paused,
            3 => TransferState::Done,
            4 => TransferState::Failed,
            5 => TransferState::Declined,
            _ => return Err(Invalid::Value { what: "state" }),
        };
        let peer = match reader.bytes(DeviceId::LEN, "peer")? {
            [] => None,
            bytes => {
                let id = <[u8; 32]>::try_from(bytes).ok().and_then(|id| DeviceId::from_bytes(id).ok());
                Some(id.ok_or(Invalid::Value { what: "peer" })?)
            }
        };
        let [created, updated] = [reader.varint("created")?, reader.varint("updated")?];
        let files = reader.varint("files")?;
        let [total_bytes, done_bytes] = [reader.varint("total")?, reader.varint("done")?];
        let name = reader.text(TRANSFER_PATH_BYTES_MAX, "name")?.to_owned();
        let destination = reader.bytes(PATH_BYTES_MAX, "destination")?;
        let destination = if destination.is_empty() { None } else { Some(path_of(destination)?) };
        let error = reader.text(ERROR_BYTES_MAX, "error")?.to_owned();
        let (size, max) = (reader.varint("sources")?, TRANSFER_SOURCES_MAX as u64);
        if size > max {
            return Err(Invalid::TooLarge { what: "sources", size, max });
        }
        let sources =
            (0..size).map(|_| path_of(reader.bytes(PATH_BYTES_MAX, "source")?)).collect::<Result<_, _>>()?;
        Ok(Self {
            id: TransferId(key),
            direction,
            peer,
            name,
            files,
            total_bytes,
            done_bytes,
            state,
            destination,
            sources,
            error,
            created,
            updated,
        })
    }
}

#[cfg(unix)]
fn path_bytes(path: &Path) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere not every byte string is a path")]
pub(super) fn path_of(bytes: &[u8]) -> Result<PathBuf, Invalid> {
    Ok(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).into())
}

#[cfg(not(unix))]
fn path_bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

#[cfg(not(unix))]
pub(super) fn path_of(bytes: &[u8]) -> Result<PathBuf, Invalid> {
    core::str::from_utf8(bytes).map(PathBuf::from).map_err(|_| Invalid::NotText { what: "path" })
}
