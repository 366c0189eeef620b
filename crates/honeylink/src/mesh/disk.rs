//! Writes on their way to the disk: collected, one transaction at a time, off the async threads.
//!
//! Everything put out while a transaction is written goes into the next one, so a burst costs two fsyncs and not one per
//! message. A later state of a record replaces an earlier one that still waits: a transaction is all or nothing, so
//! nobody can see the difference.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::mesh::records::Key;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::store::mesh::{Batch, InboxKey, Kept};
use crate::store::{StateError, Store};

/// What nobody waits for is written after this time.
const LAZY: Duration = Duration::from_secs(1);
/// How long to wait after the disk refused.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Writing {
    batch: Arc<Batch>,
    mark: Option<u64>,
    task: JoinHandle<Result<(), StateError>>,
}

/// The mesh's way to the disk.
#[derive(Debug)]
pub(super) struct Disk {
    store: Arc<Store>,
    open: Batch,
    /// What is answered once `open` is written.
    mark: Option<u64>,
    /// When the oldest change of `open` came.
    since: Option<Instant>,
    writing: Option<Writing>,
    not_before: Option<Instant>,
}

impl Disk {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, open: Batch::default(), mark: None, since: None, writing: None, not_before: None }
    }

    pub(super) fn record(&mut self, key: Key, value: Option<Bytes>) {
        self.open.records.insert(key, value);
        self.since.get_or_insert_with(Instant::now);
    }

    /// A message arrived, or was taken.
    pub(super) fn inbox(&mut self, key: InboxKey, kept: Option<Kept>) {
        self.open.inbox.insert(key, kept);
        self.since.get_or_insert_with(Instant::now);
    }

    /// Everything so far is to be written soon, and `mark` answered then.
    pub(super) fn sync(&mut self, mark: u64) {
        self.mark = Some(mark);
    }

    /// Starts to write if it is time to.
    pub(super) fn start(&mut self) {
        if self.writing.is_none() && self.due().is_some_and(|due| due <= Instant::now()) {
            self.write();
        }
    }

    /// When [`Disk::start`] is to be called again; nothing while a write is under way.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.writing.is_some() { None } else { self.due() }
    }

    fn due(&self) -> Option<Instant> {
        let due = match (self.mark, self.since) {
            (Some(_), since) => since.unwrap_or_else(Instant::now),
            (None, Some(since)) => since + LAZY,
            (None, None) => return None,
        };
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    fn write(&mut self) {
        let batch = Arc::new(std::mem::take(&mut self.open));
        let mark = self.mark.take();
        self.since = None;
        let (store, changes) = (self.store.clone(), batch.clone());
        let task = tokio::task::spawn_blocking(move || {
            // A mark behind nothing new is answered for what was written before it.
            if changes.is_empty() { Ok(()) } else { store.mesh().apply(&changes) }
        });
        self.writing = Some(Writing { batch, mark, task });
    }

    /// Waits until a write is over: the mark that it answers, if any. What could not be written is tried again later.
    pub(super) async fn written(&mut self) -> Result<Option<u64>, String> {
        let Some(writing) = &mut self.writing else {
            return std::future::pending().await;
        };
        let outcome = (&mut writing.task).await;
        let Some(Writing { batch, mark, .. }) = self.writing.take() else { return Ok(None) };
        let why = match outcome {
            Ok(Ok(())) => {
                self.not_before = None;
                return Ok(mark);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let failed = Arc::try_unwrap(batch).unwrap_or_else(|shared| (*shared).clone());
        self.open = failed.before(std::mem::take(&mut self.open));
        self.mark = self.mark.max(mark);
        self.since.get_or_insert_with(Instant::now);
        self.not_before = Some(Instant::now() + RETRY);
        Err(why)
    }

    /// Writes everything that is left.
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        if self.writing.is_some() {
            self.written().await?;
        }
        if self.open.is_empty() {
            return Ok(());
        }
        self.write();
        self.written().await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::mesh::records::Table;

    fn key(n: u8) -> Key {
        Key::new(Table::Outbox, &[n])
    }

    fn disk() -> Disk {
        Disk::new(Arc::new(Store::in_memory().unwrap()))
    }

    #[tokio::test]
    async fn a_mark_is_answered_when_everything_before_it_is_there() {
        let mut disk = disk();
        for n in 0..10 {
            disk.record(key(n), Some(Bytes::from_static(b"x")));
            disk.sync(u64::from(n));
        }
        disk.start();
        disk.record(key(10), Some(Bytes::from_static(b"later")));
        assert_eq!(disk.written().await, Ok(Some(9)));
        assert_eq!(disk.store.mesh().loaded().unwrap().records.len(), 10);
        disk.finish().await.unwrap();
        assert_eq!(disk.store.mesh().loaded().unwrap().records.len(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_written_a_little_later() {
        let mut disk = disk();
        disk.record(key(1), Some(Bytes::new()));
        disk.start();
        assert!(disk.writing.is_none());
        tokio::time::sleep_until(disk.deadline().unwrap()).await; // tidy: sleep because virtual time has to pass
        disk.start();
        assert_eq!(disk.written().await, Ok(None));
    }

    #[tokio::test]
    async fn a_mark_behind_nothing_is_answered_all_the_same() {
        let mut disk = disk();
        disk.sync(1);
        disk.start();
        assert_eq!(disk.written().await, Ok(Some(1)));
    }
}
