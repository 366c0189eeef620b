//! The file that remembers a transmitter's airtime: replaced whole, and on the disk before it counts as written.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::OpenError;

/// A ledger has at most 64 bands of 256 entries; anything longer is another file.
const FILE_BYTES_MAX: u64 = 512 << 10;
/// How long to wait after the disk refused.
const RETRY: Duration = Duration::from_secs(5);

/// A state to write, by its number.
type Numbered = (u64, Bytes);

/// The file, and at most one write of it.
#[derive(Debug)]
pub(super) struct LedgerFile {
    path: PathBuf,
    found: Option<Bytes>,
    waiting: Option<Numbered>,
    writing: Option<(Numbered, JoinHandle<io::Result<()>>)>,
    not_before: Option<Instant>,
}

impl LedgerFile {
    /// Reads the file, if there is one.
    pub(super) async fn open(path: &Path) -> Result<Self, OpenError> {
        // Whole, so that it stays the same file and its folder has a name.
        let path = std::path::absolute(path)
            .map_err(|source| OpenError::Ledger { path: path.to_owned(), source })?;
        let reading = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || read(&path))
        };
        match reading.await.map_err(io::Error::other).flatten() {
            Ok(found) => Ok(Self { path, found, waiting: None, writing: None, not_before: None }),
            Err(source) => Err(OpenError::Ledger { path, source }),
        }
    }

    /// What was in the file when it was opened.
    pub(super) const fn found(&self) -> Option<&Bytes> {
        self.found.as_ref()
    }

    /// Replaces the file's content; [`LedgerFile::written`] says when that is done.
    pub(super) fn write(&mut self, number: u64, bytes: Bytes) {
        self.waiting = Some((number, bytes));
    }

    /// Waits for a write to end: its number, or why it failed and will be tried again. Never ends if nothing is to be
    /// written. Nothing is lost if the future is dropped.
    pub(super) async fn written(&mut self) -> Result<u64, io::Error> {
        loop {
            if let Some(at) = self.not_before {
                tokio::time::sleep_until(at).await;
                self.not_before = None;
            }
            if self.writing.is_none() {
                let Some(next) = self.waiting.take() else { return std::future::pending().await };
                let (path, bytes) = (self.path.clone(), next.1.clone());
                self.writing = Some((next, tokio::task::spawn_blocking(move || replace(&path, &bytes))));
            }
            let Some((_, job)) = &mut self.writing else { continue };
            let result = job.await.map_err(io::Error::other).flatten();
            let Some((state, _)) = self.writing.take() else { continue };
            return match result {
                Ok(()) => Ok(state.0),
                Err(error) => {
                    // A newer state that came meanwhile goes first.
                    self.waiting.get_or_insert(state);
                    self.not_before = Some(Instant::now() + RETRY);
                    Err(error)
                }
            };
        }
    }

    /// Waits for what is being written, then writes the last state of all.
    pub(super) async fn finish(mut self, bytes: Bytes) -> io::Result<()> {
        if let Some((_, job)) = self.writing.take() {
            // Whether it succeeded does not matter any more.
            let _ = job.await;
        }
        let path = self.path;
        tokio::task::spawn_blocking(move || replace(&path, &bytes)).await.map_err(io::Error::other)?
    }
}

fn read(path: &Path) -> io::Result<Option<Bytes>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes.into()))
}

/// A new file beside the old one takes its place: after a crash there is one of them, whole.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unborn = path.as_os_str().to_owned();
    unborn.push(".new");
    let mut file = File::create(&unborn)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unborn, path)?;
    crate::store::sync_parent(path)
}
