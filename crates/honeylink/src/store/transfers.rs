//! The list of transfers, running and ended, so that a restart knows what was under way.
//!
//! The list only says what the user sees; which parts of a file are verified, and so where a resume starts, is the transfer
//! engine's own knowledge beside the `.part` file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use honeylink_core::identity::DeviceId;
use redb::{ReadableTable as _, TableHandle as _};

use super::db::{StateDb, StateError};
use super::limits::{ERROR_BYTES_MAX, PROGRESS_PERSIST_MS, TRANSFERS_MAX, TRANSFERS_OPEN_MAX};
use super::record::Unreadable;
use super::transfer_record::TRANSFERS;
pub use super::transfer_record::{Direction, TransferId, TransferRecord, TransferState};

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
        self.insert(record, false)
    }

    /// Adds a transfer in the place of a former one with its id, if there is one. Blocks for one fsync.
    ///
    /// # Errors
    /// As [`TransferLog::add`], without [`TransferLogError::Exists`]; the former one stays then.
    pub fn renew(&self, record: TransferRecord) -> Result<(), TransferLogError> {
        self.insert(record, true)
    }

    fn insert(&self, record: TransferRecord, over: bool) -> Result<(), TransferLogError> {
        record.check()?;
        let _turn = self.turn();
        let evicted = {
            let mirror = self.mirror();
            let known = mirror.contains_key(&record.id);
            if known && !over {
                return Err(TransferLogError::Exists { id: record.id });
            }
            let others = mirror.values().filter(|entry| entry.record.id != record.id);
            let open = others.filter(|entry| entry.record.state.is_open()).count();
            if record.state.is_open() && open >= TRANSFERS_OPEN_MAX {
                return Err(TransferLogError::TooMany);
            }
            let ended = mirror.values().map(|entry| &entry.record).filter(|record| !record.state.is_open());
            let oldest = ended.min_by_key(|record| (record.updated, record.id)).map(|record| record.id);
            oldest.filter(|_| !known && mirror.len() >= TRANSFERS_MAX)
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

    /// Notes how large a transfer is, once that is known; the next write puts it on disk. An unknown id is ignored.
    pub(crate) fn sized(&self, id: &TransferId, files: u64, total_bytes: u64, done_bytes: u64) {
        if let Some(entry) = self.mirror().get_mut(id) {
            let record = &mut entry.record;
            (record.files, record.total_bytes, record.done_bytes) = (files, total_bytes, done_bytes);
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

#[cfg(test)]
#[path = "transfers_tests.rs"]
mod tests;
