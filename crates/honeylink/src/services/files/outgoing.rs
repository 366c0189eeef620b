//! Sending files: the link, the engine, another try when the connection breaks.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::wire::link::{Class, CloseCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Done, Ended, FileError, FileEvent, Files, PROTOCOL, Running, SentBy, Shared, locked};
use crate::carrier::PathReport;
use crate::clock::unix_ms;
use crate::link::{ApplyError, Link, Stream, StreamError};
use crate::node::{ConnectError, FetchStream, Target};
use crate::services::steer::{self, PolicyChoice};
use crate::store::audit::AuditEvent;
use crate::store::transfers::{Direction, TransferId, TransferRecord, TransferState};
use crate::transfer::{Decision, Handle, Offer, Reason, SendError, SendOptions, SendReport, Sources, send};

/// Interrupted transfers from or to one peer that are remembered as such; older ones count as failed.
const PAUSED_PER_PEER_MAX: usize = 32;
/// How long a broken transfer tries to go on before it is left for another day.
const PATIENCE: Duration = Duration::from_secs(300);
/// First wait before another try; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Longest wait before another try.
const RETRY_MAX: Duration = Duration::from_secs(5);

impl Files {
    /// Sends files and folders to a paired device, and returns when all of it is verified and in place there. A broken
    /// connection is waited out for five minutes.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::is_resumable`] says whether the same call continues later.
    pub async fn send(
        &self,
        target: impl Into<Target>,
        paths: &[PathBuf],
        handle: Handle,
    ) -> Result<Ended, FileError> {
        self.send_under(target, paths, None, handle).await
    }

    /// As [`Files::send`], by a policy. What [`Node::follow_policy`](crate::Node::follow_policy) changes meanwhile holds for
    /// the rest of the transfer, also over another connection.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::Policy`] if the policy that was insisted on is not in force: then nothing was sent.
    pub async fn send_under(
        &self,
        target: impl Into<Target>,
        paths: &[PathBuf],
        choice: Option<PolicyChoice>,
        handle: Handle,
    ) -> Result<Ended, FileError> {
        let shared = &self.shared;
        let peer = shared.node.resolve(target)?;
        let sources = sources_of(paths).await?;
        let id = sources.id(&scope(shared.node.id(), peer));
        let choice = Mutex::new(choice);
        let run = Outgoing { shared, peer, id: TransferId(id), sources, paths, handle, choice };
        run.finish(Via::Link).await
    }

    /// Sends files and folders over a one-time code's stream.
    ///
    /// # Errors
    /// [`FileError`]; a new code for the same files continues where this stopped.
    pub async fn send_once(
        &self,
        stream: FetchStream,
        paths: &[PathBuf],
        handle: Handle,
    ) -> Result<Ended, FileError> {
        let shared = &self.shared;
        let sources = sources_of(paths).await?;
        let peer = stream.peer;
        let id = sources.id(&scope(shared.node.id(), peer));
        let choice = Mutex::new(None);
        let run = Outgoing { shared, peer, id: TransferId(id), sources, paths, handle, choice };
        run.finish(Via::Fetch(Box::new(stream))).await
    }
}

/// Tells pairs of devices apart, so that the same file sent to two peers is two transfers.
fn scope(from: DeviceId, to: DeviceId) -> Vec<u8> {
    [*from.as_bytes(), *to.as_bytes()].concat()
}

async fn sources_of(paths: &[PathBuf]) -> Result<Sources, FileError> {
    let paths = paths.to_vec();
    Ok(crate::node::on_disk(move || Sources::new(paths)).await?)
}

enum Via {
    Link,
    Fetch(Box<FetchStream>),
}

struct Outgoing<'a> {
    shared: &'a Arc<Shared>,
    peer: DeviceId,
    id: TransferId,
    sources: Sources,
    paths: &'a [PathBuf],
    handle: Handle,
    /// The policy it goes by; the next attempt takes up what was changed during the last.
    choice: Mutex<Option<PolicyChoice>>,
}

/// What came of a transfer: the engine's report, the path, and the link if there was one.
type Sent = (SendReport, Option<PathReport>, Option<Link>);

impl Outgoing<'_> {
    async fn finish(self, via: Via) -> Result<Ended, FileError> {
        let name = self.sources.name();
        let running = Running {
            id: self.id,
            direction: Direction::Outgoing,
            peer: self.peer,
            name: name.clone(),
            handle: self.handle.clone(),
        };
        let begun = self.shared.begin(running.clone(), Arc::new(Notify::new()));
        let _running = begun.ok_or(FileError::Busy)?;
        self.shared.tell(FileEvent::Started(running));
        self.record(&name).await;
        let abandoned = Abandoned { shared: self.shared, id: self.id, handle: &self.handle, over: false };
        let result = match via {
            Via::Link => self.over_links().await,
            Via::Fetch(stream) => self.over_fetch(*stream).await,
        };
        let result = result.map(|(report, path, link)| done(report, path, link.as_ref())).map_err(Arc::new);
        self.shared.note_size(self.id, &self.handle);
        abandoned.over();
        self.shared.note_end(self.id, &result).await;
        let ended = Ended { id: self.id, direction: Direction::Outgoing, peer: self.peer, name, result };
        self.shared.tell(FileEvent::Ended(ended.clone()));
        Ok(ended)
    }

    /// Tries until it works, a side says no, or the patience is over.
    async fn over_links(&self) -> Result<Sent, FileError> {
        let mut link: Option<Link> = None;
        let mut wait = RETRY_FIRST;
        let mut broken_since = None;
        let mut moved_most = 0;
        loop {
            let error = match self.attempt(&mut link).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if broken_since.is_some() && matches!(error, FileError::Connect(ConnectError::Stopped)) {
                return Err(FileError::Stopped);
            }
            if !may_retry(&error, broken_since.is_some()) {
                return Err(error);
            }
            // Progress starts the patience afresh: only a peer that stays away uses it up, or one that loses what it got.
            if self.moved() > moved_most {
                moved_most = self.moved();
                (broken_since, wait) = (None, RETRY_FIRST);
            }
            let since = *broken_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= PATIENCE {
                return Err(FileError::GaveUp(PATIENCE));
            }
            tracing::info!(%error, "the transfer was interrupted; trying again");
            tokio::select! {
                biased;
                () = self.handle.cancelled() => return Err(SendError::Cancelled.into()),
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    fn moved(&self) -> u64 {
        self.handle.progress().borrow().bytes_done
    }

    async fn attempt(&self, link: &mut Option<Link>) -> Result<Sent, FileError> {
        // A peer that stays away must not keep a person from giving up.
        let (open, stream) = tokio::select! {
            biased;
            () = self.handle.cancelled() => return Err(SendError::Cancelled.into()),
            opened = self.open(link) => opened?,
        };
        let options = SendOptions { id: self.id.0 };
        let sent = send(stream.recv, stream.send, self.sources.clone(), options, &self.handle).await;
        let path = open.path();
        *link = Some(open.clone());
        Ok((sent?, path, Some(open)))
    }

    async fn open(&self, link: &mut Option<Link>) -> Result<(Link, Stream), FileError> {
        let former = link.take();
        self.keep_policy(former.as_ref());
        let open = match former {
            Some(open) if open.state() != crate::State::Closed => open,
            Some(_) | None => self.shared.node.connect(self.peer, PROTOCOL).await?,
        };
        let choice = locked(&self.choice).clone();
        let opened = match steer::steer(&open, choice.as_ref()).await {
            Ok(policy) => steer::open(&open, policy.as_deref(), choice.as_ref(), Class::Bulk).await,
            Err(ApplyError::Closed(why)) => Err(StreamError::Closed(why)),
            Err(refused @ (ApplyError::RolledBack { .. } | ApplyError::Rejected(_))) => {
                return Err(FileError::Policy(refused));
            }
        };
        match opened {
            Ok(stream) => Ok((open, stream)),
            Err(
                error @ (StreamError::ConnectionLost(_)
                | StreamError::Closed(_)
                | StreamError::TooManyStreams { .. }),
            ) => {
                let lost = std::io::Error::new(std::io::ErrorKind::ConnectionReset, error.to_string());
                Err(SendError::Stream(lost).into())
            }
            Err(
                error @ (StreamError::Options(_)
                | StreamError::InsufficientBandwidth { .. }
                | StreamError::UnknownPolicy(_)),
            ) => Err(FileError::Stream(error)),
        }
    }

    /// What the link followed at last is what the next one is to follow. Bytes are under way: from now on the transfer is
    /// worth more than its policy.
    fn keep_policy(&self, former: Option<&Link>) {
        let mut choice = locked(&self.choice);
        if let Some(policy) = former.and_then(Link::followed_policy) {
            *choice = Some(PolicyChoice { policy, insist: false });
        }
    }

    async fn over_fetch(&self, stream: FetchStream) -> Result<Sent, FileError> {
        let options = SendOptions { id: self.id.0 };
        let (stream, out, inn) = stream.split();
        let sent = send(inn, out, self.sources.clone(), options, &self.handle).await;
        let path = stream.path();
        if sent.is_ok() {
            stream.closed().await;
        } else {
            stream.close();
        }
        Ok((sent?, path, None))
    }

    async fn record(&self, name: &str) {
        let now = unix_ms();
        let record = TransferRecord {
            id: self.id,
            direction: Direction::Outgoing,
            peer: Some(self.peer),
            name: name.to_owned(),
            files: 0,
            total_bytes: 0,
            done_bytes: 0,
            state: TransferState::Active,
            destination: None,
            sources: self.paths.to_vec(),
            error: String::new(),
            created: now,
            updated: now,
        };
        self.shared.note_begin(record).await;
    }
}

/// What the link followed or did not, if it was asked to.
fn sent_by(link: &Link) -> Option<SentBy> {
    let followed = link.followed_policy().map(|policy| policy.name);
    let taken_back = link.taken_back_policy();
    (followed.is_some() || taken_back.is_some()).then_some(SentBy { followed, taken_back })
}

/// Notes a transfer as interrupted when its future is dropped, as when the command that waits for it is.
struct Abandoned<'a> {
    shared: &'a Arc<Shared>,
    id: TransferId,
    handle: &'a Handle,
    over: bool,
}

impl Abandoned<'_> {
    /// It ended by itself.
    fn over(mut self) {
        self.over = true;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.shared.note_size(self.id, self.handle);
        let (shared, id) = (self.shared.clone(), self.id);
        let note =
            async move { shared.note_state(id, TransferState::Paused, "interrupted".into(), None).await };
        self.shared.node.spawn_to_its_end(note);
    }
}

/// Whether another try can help. Before the first stream worked, a refusal is an answer and not an accident.
fn may_retry(error: &FileError, broken_before: bool) -> bool {
    match error {
        FileError::Send(SendError::Stream(_)) => true,
        // A device that was started again may not have all its services yet, or still hold what the former attempt left.
        FileError::Connect(
            ConnectError::Unreachable { .. } | ConnectError::Refused { code: CloseCode::NoListener, .. },
        )
        | FileError::Send(SendError::Declined { reason: Reason::Busy, .. }) => broken_before,
        FileError::Connect(_)
        | FileError::Send(_)
        | FileError::Receive(_)
        | FileError::Policy(_)
        | FileError::Stream(_)
        | FileError::GaveUp(_)
        | FileError::Stopped
        | FileError::Busy => false,
    }
}

fn done(report: SendReport, path: Option<PathReport>, link: Option<&Link>) -> Done {
    Done {
        files: report.files,
        bytes: report.bytes,
        bytes_kept: report.bytes_kept,
        moving: report.moving,
        path,
        digest: report.digest,
        placed: vec![],
        notes: report.notes,
        policy: link.and_then(sent_by).map(Box::new),
    }
}

/// The list of transfers on disk. It serves people; a transfer goes on if it cannot be written.
impl Shared {
    pub(super) async fn note_begin(&self, record: TransferRecord) {
        let store = self.node.store().clone();
        let noted = crate::node::on_disk(move || {
            let log = store.transfers();
            // What is never taken up again must not fill the list. Whoever does take it up is asked once more, at most.
            let stale = log.list().into_iter().filter(|former| {
                former.peer == record.peer
                    && former.direction == record.direction
                    && former.state == TransferState::Paused
                    && former.id != record.id
            });
            for former in stale.skip(PAUSED_PER_PEER_MAX) {
                let why = "interrupted, and not taken up again";
                log.set_state(&former.id, TransferState::Failed, why, record.updated)?;
            }
            log.renew(record)
        })
        .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "the list of transfers could not be written");
        }
    }

    pub(super) async fn note_progress(&self, id: TransferId, bytes: u64) {
        let store = self.node.store().clone();
        let noted = crate::node::on_disk(move || store.transfers().progress(&id, bytes, unix_ms())).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "the progress of a transfer could not be written");
        }
    }

    pub(super) async fn note_end(&self, id: TransferId, result: &Result<Done, Arc<FileError>>) {
        let (state, text, bytes) = match result {
            Ok(done) => (TransferState::Done, String::new(), Some(done.bytes)),
            Err(error) => (error.state(), error.to_string(), None),
        };
        self.note_state(id, state, text, bytes).await;
    }

    /// What is known of a transfer's size goes into its record with the next write.
    fn note_size(&self, id: TransferId, handle: &Handle) {
        let now = handle.progress().borrow().clone();
        if now.bytes_total > 0 || now.files_total > 0 {
            self.node.store().transfers().sized(&id, now.files_total, now.bytes_total, now.bytes_done);
        }
    }

    async fn note_state(&self, id: TransferId, state: TransferState, text: String, bytes: Option<u64>) {
        let store = self.node.store().clone();
        let noted = crate::node::on_disk(move || {
            if let Some(bytes) = bytes {
                store.transfers().progress(&id, bytes, unix_ms())?;
            }
            store.transfers().set_state(&id, state, &text, unix_ms())
        })
        .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "the end of a transfer could not be written");
        }
    }

    pub(super) fn audit_offer(&self, peer: DeviceId, id: TransferId, offer: &Offer, decision: &Decision) {
        let name = &offer.name;
        self.node.audit(&match decision {
            Decision::Accept | Decision::AcceptAgain => {
                AuditEvent::TransferAccepted { peer, transfer: id, name, bytes: offer.bytes }
            }
            Decision::Decline(reason) => AuditEvent::TransferDeclined { peer, transfer: id, name, reason },
        });
    }
}
