//! Taking files: permission, the engine, the record.

use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use tokio::sync::oneshot;

use super::{ANSWER_MAX, Accept, Done, Ended, FileError, FileEvent, Files, Policy, Running, Shared, locked};
use crate::carrier::{PathReport, RecvStream, SendStream};
use crate::clock::unix_ms;
use crate::link::{Link, Stream};
use crate::node::{FetchStream, Listener};
use crate::store::grants::FilesGrant;
use crate::store::transfers::{Direction, TransferId, TransferRecord, TransferState};
use crate::transfer::{Decision, Handle, Offer, ReceiveError, ReceiveOptions, receive};

/// How often the record on disk learns of progress.
const RECORD_EVERY: Duration = Duration::from_secs(2);

/// Takes links until the node stops.
pub(super) async fn accept(shared: Arc<Shared>, mut listener: Listener) {
    while let Some(link) = listener.accept().await {
        let shared = shared.clone();
        shared.node.clone().spawn(async move {
            while let Ok(stream) = link.accept_stream().await {
                let (shared, link) = (shared.clone(), link.clone());
                shared.node.clone().spawn(async move { serve(&shared, &link, stream).await });
            }
        });
    }
}

async fn serve(shared: &Arc<Shared>, link: &Link, stream: Stream) {
    let peer = link.peer();
    let Stream { send, recv, .. } = stream;
    let policy = shared.policy();
    let run = Run { shared, peer, policy, rule: Rule::Grants, handle: Handle::new() };
    run.receive(recv, send, || link.path()).await;
}

impl Files {
    /// Receives what a device sends over a one-time code.
    ///
    /// # Errors
    /// [`FileError`]; the same code cannot be used again, but a new one continues where this stopped.
    pub async fn fetch(
        &self,
        stream: FetchStream,
        policy: Policy,
        handle: Handle,
    ) -> Result<Ended, FileError> {
        let run = Run { shared: &self.shared, peer: stream.peer, policy, rule: Rule::CodeWasTyped, handle };
        let (stream, send, recv) = stream.split();
        let ended = run.receive(recv, send, || stream.path()).await;
        stream.close();
        ended.ok_or(FileError::Receive(ReceiveError::Cancelled))
    }
}

/// By what an offer may be accepted without a person.
enum Rule {
    /// The peer's grant and the policy.
    Grants,
    /// The person here typed the code for this very transfer.
    CodeWasTyped,
}

/// One incoming transfer.
struct Run<'a> {
    shared: &'a Arc<Shared>,
    peer: DeviceId,
    policy: Policy,
    rule: Rule,
    handle: Handle,
}

impl Run<'_> {
    /// Runs the transfer to its end; `None` if the peer never made an offer.
    async fn receive(
        self,
        recv: RecvStream,
        send: SendStream,
        path: impl Fn() -> Option<PathReport>,
    ) -> Option<Ended> {
        let options = ReceiveOptions {
            scope: self.peer.as_bytes().to_vec(),
            durability: self.policy.durability,
            ..ReceiveOptions::default()
        };
        let into = self.policy.into.clone();
        let known = std::sync::Mutex::new(None);
        let decide = |offer: Offer| {
            locked(&known).replace(offer.clone());
            self.decide(offer)
        };
        let started = tokio::time::Instant::now();
        let work = receive(recv, send, &into, decide, options, &self.handle);
        let result = self.while_recording(&known, work).await;
        let offer = locked(&known).take()?;
        let id = TransferId(offer.id);
        let result = match result {
            Ok(report) => Ok(Done {
                files: report.offer.files,
                bytes: report.offer.bytes,
                bytes_kept: report.bytes_kept,
                moving: report.elapsed.min(started.elapsed()),
                path: path(),
                digest: report.digest,
                placed: report.placed,
                notes: vec![],
            }),
            Err(error) => Err(Arc::new(FileError::from(error))),
        };
        self.conclude(id, &result).await;
        let ended = Ended { id, direction: Direction::Incoming, peer: self.peer, name: offer.name, result };
        locked(&self.shared.running).remove(&id);
        self.shared.tell(FileEvent::Ended(ended.clone()));
        Some(ended)
    }

    /// Runs the engine and tells the record how far it is now and then.
    async fn while_recording<T>(
        &self,
        known: &std::sync::Mutex<Option<Offer>>,
        work: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(RECORD_EVERY) => {
                    let id = locked(known).as_ref().map(|offer| TransferId(offer.id));
                    let done = self.handle.progress().borrow().bytes_done;
                    if let Some(id) = id {
                        self.shared.note_progress(id, done).await;
                    }
                }
            }
        }
    }

    async fn decide(&self, offer: Offer) -> Decision {
        let id = TransferId(offer.id);
        let decision = self.judge(id, &offer).await;
        self.shared.audit_offer(self.peer, id, &offer, &decision);
        if decision == Decision::Accept {
            self.record(id, &offer).await;
            let running = Running {
                id,
                direction: Direction::Incoming,
                peer: self.peer,
                name: offer.name.clone(),
                handle: self.handle.clone(),
            };
            locked(&self.shared.running).insert(id, running.clone());
            self.shared.tell(FileEvent::Started(running));
        }
        decision
    }

    async fn judge(&self, id: TransferId, offer: &Offer) -> Decision {
        let no = |why: &str| Decision::Decline(why.to_owned());
        if matches!(self.rule, Rule::CodeWasTyped) {
            return Decision::Accept;
        }
        let grant = self.shared.node.grants(&self.peer).files;
        match (grant, self.policy.accept) {
            (FilesGrant::No, _) => no("files from this device are not allowed there"),
            (_, Accept::Nothing) => no("the device takes no files now"),
            (_, Accept::Everything) | (FilesGrant::Auto, Accept::ByGrant) => Decision::Accept,
            (FilesGrant::Ask, Accept::ByGrant) if self.was_accepted(id) => Decision::Accept,
            (FilesGrant::Ask, Accept::ByGrant) => self.ask(id, offer).await,
        }
    }

    /// Whether the same transfer was accepted before and only interrupted.
    fn was_accepted(&self, id: TransferId) -> bool {
        self.shared.node.store().transfers().find(&id).is_some_and(|record| {
            record.peer == Some(self.peer)
                && record.direction == Direction::Incoming
                && record.destination.as_deref() == Some(&*self.policy.into)
                && matches!(record.state, TransferState::Paused | TransferState::Active)
        })
    }

    async fn ask(&self, id: TransferId, offer: &Offer) -> Decision {
        let (sender, answer) = oneshot::channel();
        locked(&self.shared.asked).insert(id, sender);
        self.shared.tell(FileEvent::Asked { peer: self.peer, offer: offer.clone() });
        let answered = tokio::time::timeout(ANSWER_MAX, answer).await;
        locked(&self.shared.asked).remove(&id);
        match answered {
            Ok(Ok(true)) => Decision::Accept,
            Ok(Ok(false)) => Decision::Decline("declined".into()),
            Ok(Err(_)) => Decision::Decline("the same offer came again".into()),
            Err(_) => Decision::Decline("nobody answered there in time".into()),
        }
    }

    /// Writes an accepted transfer into the list, over a former one with the same id.
    async fn record(&self, id: TransferId, offer: &Offer) {
        let now = unix_ms();
        let record = TransferRecord {
            id,
            direction: Direction::Incoming,
            peer: Some(self.peer),
            name: offer.name.clone(),
            files: offer.files,
            total_bytes: offer.bytes,
            done_bytes: 0,
            state: TransferState::Active,
            destination: Some(self.policy.into.clone()),
            sources: vec![],
            error: String::new(),
            created: now,
            updated: now,
        };
        self.shared.note_begin(record).await;
    }

    async fn conclude(&self, id: TransferId, result: &Result<Done, Arc<FileError>>) {
        if self.shared.node.store().transfers().find(&id).is_none() {
            return;
        }
        self.shared.note_end(id, result).await;
    }
}
