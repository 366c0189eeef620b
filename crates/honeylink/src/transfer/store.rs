//! The receiver's file threads: write, hash, verify. Everything here may block.
//!
//! A large file stays with one thread from its first byte to its last. Small files come in batches, many in one buffer,
//! and go to whichever thread is next, because making 10,000 files is work for the kernel on every core.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use honeylink_core::transfer::frame::Hash;
use honeylink_core::transfer::intake::FileItem;
use tokio::sync::mpsc;

use super::claims::{Held, HeldState};
use super::disk::{self, Beneath};
use super::error::{DiskError, ReceiveError};
use super::receive::Durability;

/// A buffer of the pool; its length never changes.
pub(super) type Buffer = Vec<u8>;

/// A small file inside a batch's buffer.
#[derive(Debug)]
pub(super) struct Small {
    pub(super) file: FileItem,
    pub(super) hash: Hash,
    pub(super) content: Range<usize>,
}

#[derive(Debug)]
pub(super) enum Job {
    Folder(String),
    Batch { buffer: Buffer, files: Vec<Small> },
    Begin { file: FileItem, held: Option<Held> },
    Content { buffer: Buffer, len: usize },
    End { hash: Hash },
}

/// The file being written.
#[derive(Debug)]
struct Open {
    item: FileItem,
    file: File,
    state: HeldState,
}

#[derive(Debug)]
pub(super) struct Store {
    staging: PathBuf,
    beneath: Beneath,
    empty: mpsc::Sender<Buffer>,
    /// Sync each file when it is complete, because the whole file system will not be synced later.
    sync_each: bool,
    open: Option<Open>,
}

impl Store {
    pub(super) fn new(
        staging: &Path,
        beneath: Beneath,
        empty: mpsc::Sender<Buffer>,
        sync_each: bool,
    ) -> Self {
        Self { staging: staging.to_owned(), beneath, empty, sync_each, open: None }
    }

    /// Runs until there are no more jobs.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) -> Result<(), ReceiveError> {
        while let Some(job) = jobs.blocking_recv() {
            match job {
                Job::Folder(path) => {
                    self.beneath.make_folder(&path).map_err(|e| self.failed("create folder", &path, e))?;
                }
                Job::Batch { buffer, files } => {
                    for small in files {
                        self.write_small(&small, &buffer[small.content.clone()])?;
                    }
                    self.give_back(buffer);
                }
                Job::Begin { file, held } => self.begin(file, held)?,
                Job::Content { buffer, len } => {
                    self.write(&buffer[..len])?;
                    self.give_back(buffer);
                }
                Job::End { hash } => self.end(&hash)?,
            }
        }
        Ok(())
    }

    fn give_back(&self, buffer: Buffer) {
        // The pool has room for every buffer there is; if it is gone, so is the transfer.
        let _ = self.empty.try_send(buffer);
    }

    fn write_small(&mut self, small: &Small, content: &[u8]) -> Result<(), ReceiveError> {
        let Small { file: item, hash, .. } = small;
        if blake3::hash(content).as_bytes() != hash {
            return Err(ReceiveError::Corrupt { path: item.path.clone() });
        }
        let mut file = self
            .beneath
            .create(&item.path, item.executable)
            .map_err(|e| self.failed("create", &item.path, e))?;
        file.write_all(content).map_err(|e| self.failed("write", &item.path, e))?;
        self.settle(&file, item)
    }

    fn begin(&mut self, item: FileItem, held: Option<Held>) -> Result<(), ReceiveError> {
        let (file, state) = match held {
            None => {
                let file = self.beneath.create(&item.path, item.executable);
                let file = file.map_err(|e| self.failed("create", &item.path, e))?;
                (file, HeldState::Part(Box::new(blake3::Hasher::new())))
            }
            Some(Held { offset, state, .. }) => {
                let file = self.reopen(&item, offset).map_err(|e| self.failed("continue", &item.path, e))?;
                (file, state)
            }
        };
        self.open = Some(Open { item, file, state });
        Ok(())
    }

    fn reopen(&mut self, item: &FileItem, offset: u64) -> std::io::Result<File> {
        let mut file = self.beneath.open_held(&item.path)?;
        file.set_len(offset)?;
        file.seek(SeekFrom::Start(offset))?;
        disk::set_executable(&file, item.executable);
        Ok(file)
    }

    fn write(&mut self, content: &[u8]) -> Result<(), ReceiveError> {
        // The intake lets content pass only between a begin and an end.
        let Some(Open { item, file, state: HeldState::Part(hasher) }) = &mut self.open else { return Ok(()) };
        hasher.update(content);
        let written = file.write_all(content);
        written.map_err(|e| DiskError::new("write", self.staging.join(&item.path), e).into())
    }

    fn end(&mut self, hash: &Hash) -> Result<(), ReceiveError> {
        let Some(Open { item, file, state }) = self.open.take() else { return Ok(()) };
        let own = match state {
            HeldState::Complete(hash) => hash,
            HeldState::Part(hasher) => *hasher.finalize().as_bytes(),
        };
        if own != *hash {
            // Nothing of it can be trusted, so the next attempt must not find it.
            let _ = file.set_len(0);
            return Err(ReceiveError::Corrupt { path: item.path });
        }
        self.settle(&file, &item)
    }

    /// The file is complete: gives it its time and makes it durable.
    fn settle(&self, file: &File, item: &FileItem) -> Result<(), ReceiveError> {
        // Some file systems (FAT, storage of phones, some network ones) refuse times; the bytes are what was asked for.
        if let Err(error) = disk::set_modified(file, item.modified) {
            tracing::debug!(path = %item.path, %error, "the time of a file could not be set");
        }
        if self.sync_each {
            file.sync_data().map_err(|e| self.failed("sync", &item.path, e))?;
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, path: &str, error: std::io::Error) -> ReceiveError {
        DiskError::new(action, self.staging.join(path), error).into()
    }
}

/// Whether files are synced one by one; if not, [`sync_all`] does it once at the end.
pub(super) const fn sync_each(durability: Durability, entries: u64) -> bool {
    let once = cfg!(any(target_os = "linux", target_os = "android")) && entries > 1;
    matches!(durability, Durability::Sync) && !once
}

/// Makes everything in the staging folder survive a power cut, with one call for many files.
pub(super) fn sync_all(staging: &super::staging::Staging, durability: Durability) -> Result<(), DiskError> {
    if durability == Durability::Lazy {
        return Ok(());
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let synced = rustix::fs::syncfs(&*staging.folder);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let synced = rustix::fs::fsync(&*staging.folder);
    synced.map_err(|e| DiskError::new("sync", &staging.path, e))
}
