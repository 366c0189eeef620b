//! What comes in, checked frame by frame and handed to the file threads.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a frame that has no place here is refused, whatever it is"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use honeylink_core::limits::{TRANSFER_WHOLE_BYTES_MAX, TRANSFER_WINDOW_ENTRIES_MAX};
use honeylink_core::transfer::frame::{
    Hash, Header, Kind, Message, Offer, WHOLE_PREFIX_BYTES_MAX, split_whole,
};
use honeylink_core::transfer::intake::{FileItem, Intake, Violation};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::mpsc;

use super::claims::{self, Claimer, Held, Listed};
use super::digest::Digest;
use super::disk::Beneath;
use super::error::ReceiveError;
use super::handle::{Handle, Meter};
use super::receive::ReceiveOptions;
use super::staging::Staging;
use super::store::{self, Buffer, Job, Small, Store};
use super::wire::{read_body, read_header};
use super::{BLOCK_BYTES, BLOCKS_MAX};

/// Jobs waiting for one file thread; content among them is bounded by the pool of buffers.
const JOBS_MAX: usize = 64;

/// The threads of one transfer.
pub(super) struct Crew {
    threads: tokio::task::JoinSet<Result<(), ReceiveError>>,
}

impl Crew {
    /// Waits for a thread to fail; threads that end well are no news.
    pub(super) async fn failure(&mut self) -> ReceiveError {
        while let Some(ended) = self.threads.join_next().await {
            if let Err(error) = flatten(ended) {
                return error;
            }
        }
        std::future::pending().await
    }

    pub(super) async fn join(&mut self) -> Result<(), ReceiveError> {
        let mut outcome = Ok(());
        while let Some(ended) = self.threads.join_next().await {
            outcome = outcome.and(flatten(ended));
        }
        outcome
    }
}

fn flatten(ended: Result<Result<(), ReceiveError>, tokio::task::JoinError>) -> Result<(), ReceiveError> {
    ended.unwrap_or_else(|panicked| Err(ReceiveError::Stream(std::io::Error::other(panicked))))
}

/// Starts the file threads and, to resume, the claims thread.
pub(super) fn staff<'a, R>(
    reader: &'a mut BufReader<R>,
    staging: &Staging,
    offer: &Offer,
    options: &ReceiveOptions,
    out: mpsc::Sender<BytesMut>,
    meter: Meter,
) -> (Inflow<'a, R>, Crew) {
    let mut threads = tokio::task::JoinSet::new();
    let (empty_in, empty) = mpsc::channel(BLOCKS_MAX);
    for _ in 0..BLOCKS_MAX {
        // The channel holds exactly as many.
        let _ = empty_in.try_send(vec![0; BLOCK_BYTES]);
    }
    let each = store::sync_each(options.durability, offer.entries);
    let mut jobs = Vec::new();
    for _ in 0..options.file_threads.clamp(1, 8) {
        let (job_in, job_out) = mpsc::channel(JOBS_MAX);
        jobs.push(job_in);
        let beneath = Beneath::new(Arc::clone(&staging.folder), staging.resumed);
        let store = Store::new(&staging.path, beneath, empty_in.clone(), each);
        threads.spawn_blocking(move || store.run(job_out));
    }
    let claimed = staging.resumed.then(|| {
        let (listed_in, listed) = mpsc::channel(claims::QUEUE_MAX);
        let (held, held_out) = mpsc::channel(claims::QUEUE_MAX);
        let upto = Arc::new(AtomicU64::new(0));
        let (entries, lock) = (offer.entries, Arc::clone(&staging.folder));
        let ends = claims::Ends { listed, held, frames: out, upto: Arc::clone(&upto), entries, lock };
        let path = staging.path.clone();
        threads.spawn_blocking(move || Claimer::run(&path, ends));
        Claimed { listed: Some(listed_in), held: held_out, upto, waiting: VecDeque::new() }
    });
    let inflow = Inflow {
        reader,
        intake: Intake::new(offer.clone()),
        digest: Digest::new(offer),
        meter,
        jobs,
        turn: 0,
        empty,
        batch: None,
        claimed,
        entries_left: offer.entries,
        bytes_kept: 0,
    };
    (inflow, Crew { threads })
}

/// The ends of the channels to the claims thread.
struct Claimed {
    /// Closed when the listing is complete.
    listed: Option<mpsc::Sender<Listed>>,
    held: mpsc::Receiver<Held>,
    upto: Arc<AtomicU64>,
    waiting: VecDeque<Held>,
}

impl Claimed {
    /// What is held of file `index`.
    fn take(&mut self, index: u64) -> Result<Option<Held>, Violation> {
        if self.upto.load(Ordering::Acquire) <= index {
            return Err(Violation::Unexpected { what: "a file before its claim was answered" });
        }
        while let Ok(held) = self.held.try_recv() {
            self.waiting.push_back(held);
        }
        while self.waiting.front().is_some_and(|held| held.index < index) {
            self.waiting.pop_front();
        }
        let claimed = self.waiting.front().is_some_and(|held| held.index == index);
        Ok(if claimed { self.waiting.pop_front() } else { None })
    }
}

/// Small files collected in one buffer.
struct Batch {
    buffer: Buffer,
    filled: usize,
    files: Vec<Small>,
}

/// What comes in, checked and handed on.
pub(super) struct Inflow<'a, R> {
    reader: &'a mut BufReader<R>,
    intake: Intake,
    digest: Digest,
    meter: Meter,
    jobs: Vec<mpsc::Sender<Job>>,
    /// The thread that is next, and that has the open file.
    turn: usize,
    empty: mpsc::Receiver<Buffer>,
    batch: Option<Batch>,
    claimed: Option<Claimed>,
    entries_left: u64,
    pub(super) bytes_kept: u64,
}

impl<R: AsyncRead + Unpin> Inflow<'_, R> {
    /// Takes frames until the sender has finished; returns the digest.
    pub(super) async fn run(&mut self, handle: &Handle) -> Result<Hash, ReceiveError> {
        let mut open: Option<FileItem> = None;
        loop {
            handle.clearance().await;
            if self.batch.is_some() && self.reader.buffer().is_empty() {
                // Nothing may wait in a batch while we wait for the network; but one read is not the end of what came.
                let more = self.reader.fill_buf().now_or_never();
                if !more.is_some_and(|read| read.is_ok_and(|bytes| !bytes.is_empty())) {
                    self.flush_batch().await?;
                }
            }
            let header = read_header(self.reader).await?;
            match header.kind {
                Kind::Data => self.content(header.len).await?,
                Kind::Whole => self.whole(header).await?,
                _ => match read_body(self.reader, header).await? {
                    Message::List { first, entries } => {
                        self.entries_left = self.entries_left.saturating_sub(entries.len() as u64);
                        self.list(first, entries).await?;
                    }
                    Message::Start { index, offset } => open = Some(self.start(index, offset).await?),
                    Message::End { hash } => {
                        self.intake.end()?;
                        if let Some(file) = open.take() {
                            self.digest.add(file.listed_path(), &hash);
                        }
                        self.give(Job::End { hash }).await?;
                        self.meter.files(1);
                        self.turn = (self.turn + 1) % self.jobs.len();
                    }
                    Message::Finish { digest } => return self.finish(digest).await,
                    Message::Stop { reason, text } => return Err(ReceiveError::Stopped { reason, text }),
                    _ => return Err(Violation::Unexpected { what: "a receiver's frame" }.into()),
                },
            }
        }
    }

    async fn list(
        &mut self,
        first: u64,
        entries: Vec<honeylink_core::transfer::frame::Entry>,
    ) -> Result<(), ReceiveError> {
        // Folders need no content: made as soon as the claims thread has passed them, any number of them may come in a row.
        let passed = self.claimed.as_ref().map(|claimed| claimed.upto.load(Ordering::Acquire));
        self.folders(passed).await?;
        let added = self.intake.list(first, entries)?;
        let Some(claimed) = self.claimed.as_mut() else { return Ok(()) };
        if let Some(listed) = &claimed.listed {
            for item in added {
                let entry = Listed { index: item.index, path: item.path.clone(), body: item.body };
                // The window keeps an honest sender within the queue; a thread that failed says so itself.
                if let Err(mpsc::error::TrySendError::Full(_)) = listed.try_send(entry) {
                    return Err(Violation::Window.into());
                }
            }
        }
        if self.entries_left == 0 {
            claimed.listed = None;
        }
        Ok(())
    }

    async fn folders(&mut self, before: Option<u64>) -> Result<(), ReceiveError> {
        while let Some(path) = self.intake.next_folder(before) {
            self.give(Job::Folder(path)).await?;
        }
        Ok(())
    }

    async fn start(&mut self, index: u64, offset: u64) -> Result<FileItem, ReceiveError> {
        self.flush_batch().await?;
        self.folders(Some(index)).await?;
        let file = self.intake.start(index, offset)?;
        let held = match self.claimed.as_mut() {
            Some(claimed) => claimed.take(index)?,
            None => None,
        };
        let held = match (held, offset) {
            (Some(held), _) if held.offset == offset => Some(held),
            // The sender's file begins otherwise than ours: from the start, over what is there.
            (_, 0) => None,
            _ => return Err(Violation::Unexpected { what: "an offset that was not claimed" }.into()),
        };
        self.bytes_kept += offset;
        self.meter.kept(offset);
        self.meter.current(&file.path);
        self.give(Job::Begin { file: file.clone(), held }).await?;
        Ok(file)
    }

    async fn content(&mut self, len: usize) -> Result<(), ReceiveError> {
        self.intake.data(len)?;
        let mut left = len;
        while left > 0 {
            let mut buffer = self.take_buffer().await?;
            let len = left.min(buffer.len());
            self.reader.read_exact(&mut buffer[..len]).await?;
            self.give(Job::Content { buffer, len }).await?;
            self.meter.moved(len as u64);
            left -= len;
        }
        Ok(())
    }

    async fn whole(&mut self, header: Header) -> Result<(), ReceiveError> {
        if self.batch.as_ref().is_some_and(|batch| batch.buffer.len() - batch.filled < header.len) {
            self.flush_batch().await?;
        }
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => Batch { buffer: self.take_buffer().await?, filled: 0, files: Vec::new() },
        };
        let body = &mut batch.buffer[batch.filled..batch.filled + header.len];
        self.reader.read_exact(body).await?;
        batch.filled += header.len;
        let (index, hash, content) = split_whole(body)?;
        let len = content.len();
        self.folders(Some(index)).await?;
        let file = self.intake.whole(index, len)?;
        if let Some(claimed) = self.claimed.as_mut() {
            claimed.take(index)?;
        }
        self.digest.add(file.listed_path(), &hash);
        self.meter.current(&file.path);
        self.meter.files(1);
        self.meter.moved(len as u64);
        batch.files.push(Small { file, hash, content: batch.filled - len..batch.filled });
        self.batch = Some(batch);
        Ok(())
    }

    async fn flush_batch(&mut self) -> Result<(), ReceiveError> {
        if let Some(Batch { buffer, files, .. }) = self.batch.take() {
            self.give(Job::Batch { buffer, files }).await?;
            self.turn = (self.turn + 1) % self.jobs.len();
        }
        Ok(())
    }

    async fn finish(&mut self, digest: Hash) -> Result<Hash, ReceiveError> {
        self.flush_batch().await?;
        self.folders(None).await?;
        self.intake.finish()?;
        self.meter.publish();
        let own = self.digest.finish();
        if own == digest {
            return Ok(own);
        }
        Err(Violation::NotAsOffered { what: "the digest does not follow from the files" }.into())
    }

    async fn take_buffer(&mut self) -> Result<Buffer, ReceiveError> {
        // The pool ends only with the threads, and a thread that fails is noticed beside us.
        match self.empty.recv().await {
            Some(buffer) => Ok(buffer),
            None => std::future::pending().await,
        }
    }

    async fn give(&mut self, job: Job) -> Result<(), ReceiveError> {
        let sent = match self.jobs.get(self.turn) {
            Some(thread) => thread.send(job).await.is_ok(),
            None => false,
        };
        if sent { Ok(()) } else { std::future::pending().await }
    }
}

// One frame of either kind of content fits into a buffer.
const _: () = assert!(TRANSFER_WHOLE_BYTES_MAX + WHOLE_PREFIX_BYTES_MAX <= BLOCK_BYTES);
const _: () = assert!(TRANSFER_WINDOW_ENTRIES_MAX <= claims::QUEUE_MAX);
