//! The state database: one redb file, its version, and the two ways to use it (one write, one read).
//!
//! Every write is one transaction with `Durability::Immediate`: when it returns, the data has been fsynced, and a process
//! killed at any instant leaves either the state before or the state after. Calls block; reads do not touch the disk's
//! write path.
//!
//! redb checks its pages when it repairs a file, not each time it reads one, and on some damage its own assertions fail. A
//! node must answer that with the same clear error as any other damage, so calls into redb stop a panic here ([`guarded`]).

use std::fs::{File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase as _, TableDefinition,
    TableHandle as _, WriteTransaction,
};

use super::limits;

/// The newest layout of the state database that this program reads and the one it writes.
pub const STATE_VERSION: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const VERSION_KEY: &str = "version";

/// Why the state database could not be opened. Nothing is ever deleted or replaced because of one of these.
#[derive(Debug, thiserror::Error)]
pub enum OpenStateError {
    /// Written by a newer HoneyLink.
    #[error(
        "{} was written by a newer HoneyLink (state version {found}, this program knows {STATE_VERSION}); \
         update HoneyLink, or use another --home",
        path.display()
    )]
    Newer {
        /// The state file.
        path: PathBuf,
        /// The version it says it has.
        found: u64,
    },
    /// The file is not a state database, or is damaged beyond what redb repairs by itself.
    #[error(
        "{path} is damaged ({cause}). Nothing was changed. If you have a backup, put it back; otherwise move the file \
         aside with `mv '{path}' '{path}.damaged'` and start again: this device keeps its identity, but has to pair again",
        path = path.display()
    )]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// What redb or we found wrong.
        cause: String,
    },
    /// Another process has the file open without holding the home's lock.
    #[error("{} is open in another process; stop it first", path.display())]
    InUse {
        /// The state file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("can not open {}: {source}", path.display())]
    Io {
        /// The state file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Why state could not be read or written. The state on disk is what it was before the call.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No room left.
    #[error("the disk that holds {} is full; free some space and restart HoneyLink", path.display())]
    Full {
        /// The state file.
        path: PathBuf,
    },
    /// Reading or writing failed. redb refuses further use after such an error until the file is opened again.
    #[error("can not write {}: {source}; check the disk, then restart HoneyLink", path.display())]
    Io {
        /// The state file.
        path: PathBuf,
        /// What the operating system or redb said.
        source: Box<redb::Error>,
    },
    /// The file is damaged.
    #[error("{} is damaged: {source}; stop HoneyLink and restore the file from a backup", path.display())]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// What redb found.
        source: Box<redb::Error>,
    },
}

/// The opened state database.
#[derive(Debug)]
pub(super) struct StateDb {
    /// Always there until the drop.
    db: Option<Database>,
    path: PathBuf,
}

impl Drop for StateDb {
    /// Closing writes as well, so it can find damage as well. There is nobody left to tell, and nothing left to lose.
    fn drop(&mut self) {
        let closing = guarded(|| {
            drop(self.db.take());
            Ok(())
        });
        if let Err(error) = closing {
            tracing::warn!(path = %self.path.display(), %error, "the state file is damaged");
        }
    }
}

impl StateDb {
    /// Opens the state file, or makes it if there is none.
    ///
    /// A new file is built under another name and renamed when it is complete, so that no instant of a first start leaves
    /// a half-made state file. The caller holds the home's lock.
    pub(super) fn open(path: &Path) -> Result<Self, OpenStateError> {
        let io = |source| OpenStateError::Io { path: path.to_owned(), source };
        if !path.try_exists().map_err(io)? {
            let unborn = path.with_extension("redb.new");
            let file = private_file(&unborn, true).map_err(io)?;
            drop(Self::prepare(path, || builder().create_file(file))?);
            std::fs::rename(&unborn, path).map_err(io)?;
            sync_parent(path).map_err(io)?;
        }
        let file = private_file(path, false).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            // redb would make a new database of it, but we never leave one empty: its content was lost.
            return Err(OpenStateError::Damaged { path: path.to_owned(), cause: "it is empty".to_owned() });
        }
        Self::prepare(path, || builder().create_file(file))
    }

    /// A database that lives in memory: for tests and for nodes that are to leave no trace.
    pub(super) fn in_memory() -> Result<Self, OpenStateError> {
        Self::prepare(Path::new("(memory)"), || {
            builder().create_with_backend(redb::backends::InMemoryBackend::new())
        })
    }

    /// A database on a simulated disk.
    #[cfg(feature = "testing")]
    pub(super) fn on(disk: crate::testing::network::SimulatedDisk) -> Result<Self, OpenStateError> {
        Self::prepare(Path::new("(simulated)"), || builder().create_with_backend(disk))
    }

    fn prepare(
        path: &Path,
        open: impl FnOnce() -> Result<Database, DatabaseError>,
    ) -> Result<Self, OpenStateError> {
        let db = guarded(|| Ok(open()?)).map_err(|error| open_error(path, error))?;
        let state = Self { db: Some(db), path: path.to_owned() };
        let version = guarded(|| state.version()).map_err(|error| open_error(path, error))?;
        match version {
            Found::Version(STATE_VERSION) => Ok(state),
            Found::Version(found) if found > STATE_VERSION => {
                Err(OpenStateError::Newer { path: path.to_owned(), found })
            }
            Found::Version(found) => Err(OpenStateError::Damaged {
                path: path.to_owned(),
                cause: format!("state version {found}"),
            }),
            Found::Foreign => Err(OpenStateError::Damaged {
                path: path.to_owned(),
                cause: "it is a database of another program".to_owned(),
            }),
            Found::Nothing => {
                state
                    .transact(|txn| Ok(txn.open_table(META)?.insert(VERSION_KEY, STATE_VERSION).map(drop)?))
                    .map_err(|error| open_error(path, error))?;
                Ok(state)
            }
        }
    }

    fn db(&self) -> Result<&Database, redb::Error> {
        self.db.as_ref().ok_or_else(|| redb::Error::Corrupted("the database is closed".to_owned()))
    }

    fn version(&self) -> Result<Found, redb::Error> {
        let txn = self.db()?.begin_read()?;
        let tables: Vec<String> = txn.list_tables()?.map(|table| table.name().to_owned()).collect();
        if tables.is_empty() {
            return Ok(Found::Nothing);
        }
        if !tables.iter().any(|name| name == META.name()) {
            return Ok(Found::Foreign);
        }
        let found = txn.open_table(META)?.get(VERSION_KEY)?.map(|value| value.value());
        Ok(found.map_or(Found::Foreign, Found::Version))
    }

    /// Runs `change` as one transaction and commits it. On return it is on disk; on error nothing of it is.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        self.transact(change).map_err(|error| self.error(error))
    }

    /// Runs `look` on a consistent snapshot.
    pub(super) fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        guarded(|| look(&self.db()?.begin_read()?)).map_err(|error| self.error(error))
    }

    fn transact<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        guarded(|| {
            let mut txn = self.db()?.begin_write()?;
            // This is redb's default; it is said here because every promise of this module rests on it.
            txn.set_durability(Durability::Immediate)?;
            let out = change(&txn)?;
            txn.commit()?;
            Ok(out)
        })
    }

    fn error(&self, error: redb::Error) -> StateError {
        let path = self.path.clone();
        if matches!(&error, redb::Error::Io(e) if e.kind() == io::ErrorKind::StorageFull) {
            return StateError::Full { path };
        }
        let damaged = is_damage(&error);
        let source = Box::new(error);
        if damaged { StateError::Damaged { path, source } } else { StateError::Io { path, source } }
    }
}

/// Runs redb code; a failed assertion in it becomes the error for a damaged file.
///
/// Nothing of ours can be left half-changed by the unwinding: the closures change redb's transaction, which is dropped, and
/// values that are dropped with them. What redb itself holds across it, it marks as poisoned and refuses from then on.
fn guarded<T>(run: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(redb::Error::Corrupted(format!("an assertion of the database failed: {said}")))
    })
}

enum Found {
    Nothing,
    Foreign,
    Version(u64),
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(limits::CACHE_BYTES_MAX);
    builder
}

fn is_damage(error: &redb::Error) -> bool {
    matches!(
        error,
        redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::RepairAborted
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
    )
}

fn open_error(path: &Path, error: redb::Error) -> OpenStateError {
    let path = path.to_owned();
    if matches!(error, redb::Error::DatabaseAlreadyOpen) {
        return OpenStateError::InUse { path };
    }
    // redb reports a file that ends too early as an I/O error of these kinds.
    let ends_early =
        |e: &io::Error| matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData);
    if let redb::Error::Io(source) = error {
        if ends_early(&source) {
            return OpenStateError::Damaged { path, cause: source.to_string() };
        }
        return OpenStateError::Io { path, source };
    }
    OpenStateError::Damaged { path, cause: error.to_string() }
}

fn private_file(path: &Path, fresh: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(fresh).truncate(fresh);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes a rename in the folder of `path` durable: the name is data of the folder, not of the file.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    // Windows can not open a folder for this and does not need it.
    if cfg!(unix)
        && let Some(parent) = path.parent()
    {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::rng::Rng;

    #[test]
    fn a_newer_state_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let db = StateDb::open(&path).unwrap();
        db.write(|txn| Ok(txn.open_table(META)?.insert(VERSION_KEY, 99).map(drop)?)).unwrap();
        drop(db);
        let error = StateDb::open(&path).unwrap_err();
        assert!(matches!(error, OpenStateError::Newer { found: 99, .. }), "{error}");
        assert!(error.to_string().contains("update HoneyLink"));
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_is_no_database_says_where_it_is_and_how_to_move_it_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        for content in [&b""[..], b"hello", &[0; 20_000]] {
            std::fs::write(&path, content).unwrap();
            let error = StateDb::open(&path).unwrap_err();
            assert!(matches!(error, OpenStateError::Damaged { .. }), "{error:?}");
            assert!(error.to_string().contains(&format!("mv '{}'", path.display())));
            assert_eq!(std::fs::read(&path).unwrap(), content, "the file is untouched");
        }
    }

    #[test]
    fn a_database_of_another_program_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let other: TableDefinition<'_, u64, u64> = TableDefinition::new("theirs");
        let db = Database::create(&path).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(other).unwrap().insert(1, 1).unwrap();
        txn.commit().unwrap();
        drop(db);
        assert!(matches!(StateDb::open(&path).unwrap_err(), OpenStateError::Damaged { .. }));
    }

    #[test]
    fn a_second_opener_is_told_that_the_file_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let _first = StateDb::open(&path).unwrap();
        assert!(matches!(StateDb::open(&path).unwrap_err(), OpenStateError::InUse { .. }));
    }

    /// Whatever happens to the file, opening it gives a value or an error. A panic here would fail the test.
    #[test]
    fn no_damage_to_the_file_makes_opening_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        drop(StateDb::open(&path).unwrap());
        let healthy = std::fs::read(&path).unwrap();
        let mut rng = Rng::from_u64(0xdb);
        for round in 0..60 {
            let mut bytes = healthy.clone();
            if round % 4 == 0 {
                bytes.truncate(usize::try_from(rng.below(bytes.len() as u64)).unwrap());
            }
            for _ in 0..8 {
                // Half of the hits go to the first page, where the structure is.
                let span = if rng.below(2) == 0 { 4096 } else { bytes.len() as u64 };
                let at = usize::try_from(rng.below(span.min(bytes.len() as u64))).unwrap();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= rng.bytes::<1>()[0];
                }
            }
            std::fs::write(&path, &bytes).unwrap();
            let _ = StateDb::open(&path);
        }
    }
}
