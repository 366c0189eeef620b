//! The list of transfers, running and ended, so that a restart knows what was under way.
//!
//! Record version 1, key: the transfer id (16):
//!
//! ```text
//! direction (1) state (1) peer (bytes, empty = nobody yet) created (varint, unix ms) updated (varint, unix ms)
//! files (varint) total (varint) done (varint) name (text) destination (bytes, empty = none) error (text)
//! count (varint) { source (bytes) }
//! ```
//!
//! Paths are the operating system's bytes on Unix, UTF-8 elsewhere. The list only says what the user sees; which parts of
//! a file are verified, and so where a resume starts, is the transfer engine's own knowledge beside the `.part` file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut as _, BytesMut};
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::TRANSFER_PATH_BYTES_MAX;
use honeylink_core::wire::{Invalid, Reader, put_bytes, put_varint};
use redb::{ReadableTable as _, TableDefinition, TableHandle as _};

use super::db::{StateDb, StateError};
use super::limits::{
    ERROR_BYTES_MAX, PATH_BYTES_MAX, PROGRESS_PERSIST_MS, TRANSFER_SOURCES_MAX, TRANSFERS_MAX,
    TRANSFERS_OPEN_MAX,
};
use super::record::{self, RecordError, Unreadable};

const TRANSFERS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("transfers");
const RECORD_VERSION: u8 = 1;

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

/// Why a transfer could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum TransferLogError {
    /// There is one with this id.
    #[error("a transfer with id {id} exists already")]
    Exists {
        /// The id.
        id: TransferId,
    },
    /// There is none.
    #[error("there is no transfer with id {id}")]
    Unknown {
        /// The id.
        id: TransferId,
    },
    /// Too many are open.
    #[error("{TRANSFERS_OPEN_MAX} transfers are waiting or running; finish or cancel one first")]
    TooMany,
    /// A name, path or list in it is too long.
    #[error("the {what} of a transfer can have {max} at most; this has {size}")]
    TooLarge {
        /// What is too long, with its unit.
        what: &'static str,
        /// How long it is.
        size: usize,
        /// How long it can be.
        max: usize,
    },
    /// It has ended otherwise.
    #[error("the transfer is {from} and can not become {to}")]
    Ended {
        /// What it is.
        from: TransferState,
        /// What it was to become.
        to: TransferState,
    },
    /// The disk.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The list of transfers. Share it behind an `Arc`; all methods take `&self`.
#[derive(Debug)]
pub struct TransferLog {
    db: Arc<StateDb>,
    /// Held over a whole change: check, write, then show in memory.
    turn: Mutex<()>,
    mirror: Mutex<BTreeMap<TransferId, Entry>>,
    unreadable: Vec<Unreadable>,
}

#[derive(Debug)]
struct Entry {
    record: TransferRecord,
    /// `updated` of the record on disk.
    persisted: u64,
}

impl TransferLog {
    /// Reads the list. What was active when the last process ended is paused now.
    pub(super) fn load(db: Arc<StateDb>) -> Result<Self, StateError> {
        db.write(|txn| txn.open_table(TRANSFERS).map(drop).map_err(Into::into))?;
        let (mut records, unreadable) = db.read(|txn| {
            let (mut records, mut unreadable) = (Vec::new(), Vec::new());
            for row in txn.open_table(TRANSFERS)?.iter()? {
                let (key, value) = row?;
                match TransferRecord::decode(key.value(), value.value()) {
                    Ok(record) => records.push(record),
                    Err(cause) => unreadable.push(Unreadable::new(TRANSFERS.name(), &key.value(), cause)),
                }
            }
            Ok((records, unreadable))
        })?;
        let interrupted: Vec<_> =
            records.iter_mut().filter(|record| record.state == TransferState::Active).collect();
        if !interrupted.is_empty() {
            db.write(|txn| {
                let mut table = txn.open_table(TRANSFERS)?;
                for record in interrupted {
                    record.state = TransferState::Paused;
                    table.insert(record.id.0, record.encode().as_slice())?;
                }
                Ok(())
            })?;
        }
        for record in &unreadable {
            tracing::warn!(%record, "a transfer record is damaged; the transfer is not listed");
        }
        let entry = |record: TransferRecord| (record.id, Entry { persisted: record.updated, record });
        let mirror = Mutex::new(records.into_iter().map(entry).collect());
        Ok(Self { db, turn: Mutex::new(()), mirror, unreadable })
    }

    /// Records that could not be read when the state was opened.
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// All transfers, the latest first.
    #[must_use]
    pub fn list(&self) -> Vec<TransferRecord> {
        let mut all: Vec<_> = self.mirror().values().map(|entry| entry.record.clone()).collect();
        all.sort_by_key(|record| (std::cmp::Reverse(record.created), record.id));
        all
    }

    /// One transfer.
    #[must_use]
    pub fn find(&self, id: &TransferId) -> Option<TransferRecord> {
        self.mirror().get(id).map(|entry| entry.record.clone())
    }

    /// Adds a transfer. Blocks for one fsync. When the list is full, the transfer that ended longest ago makes room.
    ///
    /// # Errors
    /// [`TransferLogError::Exists`], [`TransferLogError::TooMany`], [`TransferLogError::TooLarge`], or the disk.
    pub fn add(&self, record: TransferRecord) -> Result<(), TransferLogError> {
        record.check()?;
        let _turn = self.turn();
        let evicted = {
            let mirror = self.mirror();
            if mirror.contains_key(&record.id) {
                return Err(TransferLogError::Exists { id: record.id });
            }
            let open = mirror.values().filter(|entry| entry.record.state.is_open()).count();
            if record.state.is_open() && open >= TRANSFERS_OPEN_MAX {
                return Err(TransferLogError::TooMany);
            }
            let ended = mirror.values().map(|entry| &entry.record).filter(|record| !record.state.is_open());
            let oldest = ended.min_by_key(|record| (record.updated, record.id)).map(|record| record.id);
            oldest.filter(|_| mirror.len() >= TRANSFERS_MAX)
        };
        self.db.write(|txn| {
            let mut table = txn.open_table(TRANSFERS)?;
            if let Some(id) = evicted {
                table.remove(id.0)?;
            }
            Ok(table.insert(record.id.0, record.encode().as_slice()).map(drop)?)
        })?;
        let mut mirror = self.mirror();
        if let Some(id) = evicted {
            mirror.remove(&id);
        }
        mirror.insert(record.id, Entry { persisted: record.updated, record });
        Ok(())
    }

    /// Moves a transfer to another state; `error` says why, or is empty. Blocks for one fsync.
    ///
    /// # Errors
    /// [`TransferLogError::Unknown`], [`TransferLogError::Ended`], or the disk.
    pub fn set_state(
        &self,
        id: &TransferId,
        state: TransferState,
        error: &str,
        now_unix_ms: u64,
    ) -> Result<TransferRecord, TransferLogError> {
        let _turn = self.turn();
        let mut record = self.find(id).ok_or(TransferLogError::Unknown { id: *id })?;
        if !record.state.may_become(state) {
            return Err(TransferLogError::Ended { from: record.state, to: state });
        }
        record.state = state;
        record.error = error[..error.floor_char_boundary(ERROR_BYTES_MAX)].to_owned();
        record.updated = now_unix_ms;
        self.save(&record)?;
        Ok(record)
    }

    /// Names the device that brought the one-time code of a transfer that had no peer. Blocks for one fsync.
    ///
    /// # Errors
    /// [`TransferLogError::Unknown`], or the disk.
    pub fn set_peer(&self, id: &TransferId, peer: DeviceId) -> Result<TransferRecord, TransferLogError> {
        let _turn = self.turn();
        let mut record = self.find(id).ok_or(TransferLogError::Unknown { id: *id })?;
        record.peer = Some(peer);
        self.save(&record)?;
        Ok(record)
    }

    /// Notes how much is there and verified. In memory at once; on disk at most every [`PROGRESS_PERSIST_MS`] per
    /// transfer, and then it blocks for one fsync. An unknown id is ignored: progress may come after a removal.
    ///
    /// # Errors
    /// The disk.
    pub fn progress(&self, id: &TransferId, done_bytes: u64, now_unix_ms: u64) -> Result<(), StateError> {
        let due = {
            let mut mirror = self.mirror();
            let Some(entry) = mirror.get_mut(id) else { return Ok(()) };
            entry.record.done_bytes = done_bytes;
            entry.record.updated = now_unix_ms;
            // A clock that was set back must not silence the progress until it has caught up.
            now_unix_ms.abs_diff(entry.persisted) >= PROGRESS_PERSIST_MS
        };
        if !due {
            return Ok(());
        }
        let _turn = self.turn();
        // Read again now that it is our turn: the state may have changed meanwhile.
        match self.find(id) {
            Some(record) => self.save(&record),
            None => Ok(()),
        }
    }

    /// Removes a transfer from the list. Blocks for one fsync.
    ///
    /// # Errors
    /// [`TransferLogError::Unknown`], or the disk.
    pub fn remove(&self, id: &TransferId) -> Result<TransferRecord, TransferLogError> {
        let _turn = self.turn();
        let record = self.find(id).ok_or(TransferLogError::Unknown { id: *id })?;
        self.db.write(|txn| Ok(txn.open_table(TRANSFERS)?.remove(id.0).map(drop)?))?;
        self.mirror().remove(id);
        Ok(record)
    }

    fn save(&self, record: &TransferRecord) -> Result<(), StateError> {
        self.db.write(|txn| {
            Ok(txn.open_table(TRANSFERS)?.insert(record.id.0, record.encode().as_slice()).map(drop)?)
        })?;
        if let Some(entry) = self.mirror().get_mut(&record.id) {
            // Progress noted during the write is newer than what was written.
            let done_bytes = entry.record.done_bytes;
            entry.record = TransferRecord { done_bytes, ..record.clone() };
            entry.persisted = record.updated;
        }
        Ok(())
    }

    // Poisoning is ignored: memory changes in single steps after the disk did.

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mirror(&self) -> MutexGuard<'_, BTreeMap<TransferId, Entry>> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TransferRecord {
    fn check(&self) -> Result<(), TransferLogError> {
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

    fn encode(&self) -> Vec<u8> {
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

    fn decode(key: [u8; 16], bytes: &[u8]) -> Result<Self, RecordError> {
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
fn path_of(bytes: &[u8]) -> Result<PathBuf, Invalid> {
    Ok(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).into())
}

#[cfg(not(unix))]
fn path_bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Result<PathBuf, Invalid> {
    core::str::from_utf8(bytes).map(PathBuf::from).map_err(|_| Invalid::NotText { what: "path" })
}

#[cfg(test)]
#[path = "transfers_tests.rs"]
mod tests;
