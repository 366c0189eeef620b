//! Taking files: permission, the engine, the record.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use super::table::{Asking, QUESTIONS_PER_PEER_MAX, Question, RunningGuard};
use super::{
    ANSWER_MAX, Accept, Done, Ended, FileError, FileEvent, Files, PROTOCOL, Policy, Running, Shared, locked,
};
use crate::carrier::{PathReport, RecvStream, SendStream};
use crate::clock::unix_ms;
use crate::link::{Link, Stream};
use crate::node::{FetchStream, Listener, Work};
use crate::store::grants::FilesGrant;
use crate::store::transfers::{Direction, TransferId, TransferRecord, TransferState};
use crate::transfer::{Decision, Handle, Offer, ReceiveError, ReceiveOptions, receive};

/// Senders that are called at a start.
const KNOCKS_MAX: usize = 16;
/// How often the record on disk learns of progress.
const RECORD_EVERY: Duration = Duration::from_secs(2);

/// Takes links until the node stops.
pub(super) async fn accept(shared: Arc<Shared>, mut listener: Listener) {
    while let Some(link) = listener.accept().await {
        let shared = shared.clone();
        shared.node.clone().spawn(async move {
            let room = shared.room(link.peer());
            while let Ok(stream) = link.accept_stream().await {
                // It is never closed, so this only waits.
                let place = room.streams.clone().acquire_owned().await;
                let (shared, link) = (shared.clone(), link.clone());
                shared.node.clone().spawn(async move {
                    serve(&shared, &link, stream).await;
                    drop(place);
                });
            }
        });
    }
}

/// Tells the senders of unfinished transfers that this device is back. They may not have noticed yet that their
/// connection to the process before this one is dead; a new one makes them go on at once.
pub(super) fn knock(shared: &Arc<Shared>) {
    let transfers = shared.node.store().transfers().list();
    let unfinished = transfers
        .iter()
        .filter(|record| record.direction == Direction::Incoming && record.state == TransferState::Paused);
    let senders: BTreeSet<DeviceId> = unfinished.filter_map(|record| record.peer).collect();
    for peer in senders.into_iter().take(KNOCKS_MAX) {
        let node = shared.node.clone();
        shared.node.spawn(async move {
            match node.connect(peer, PROTOCOL).await {
                // The connection is what matters; the link closes here.
                Ok(_link) => {
                    tracing::debug!(peer = %peer.short(), "the sender of an unfinished transfer is there");
                }
                Err(error) => tracing::debug!(peer = %peer.short(), %error, "its sender is away"),
            }
        });
    }
}

async fn serve(shared: &Arc<Shared>, link: &Link, stream: Stream) {
    let peer = link.peer();
    let Stream { send, recv, .. } = stream;
    let policy = shared.policy();
    let run = Run::new(shared, peer, policy, Rule::Grants, Handle::new());
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
        let run = Run::new(&self.shared, stream.peer, policy, Rule::CodeWasTyped, handle);
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
    /// A newer attempt of the same transfer took this one's place.
    displaced: Arc<Notify>,
    /// What the peer offers, once it has.
    offer: Mutex<Option<Offer>>,
    /// Held from the acceptance to the end.
    place: Mutex<Option<Place>>,
}

/// An accepted transfer's entry in the table and its share of what the node can do at a time.
#[derive(Debug)]
struct Place {
    _entry: RunningGuard,
    _of_peer: Option<OwnedSemaphorePermit>,
    _of_all: Option<OwnedSemaphorePermit>,
}

impl<'a> Run<'a> {
    fn new(shared: &'a Arc<Shared>, peer: DeviceId, policy: Policy, rule: Rule, handle: Handle) -> Self {
        let (offer, place) = (Mutex::new(None), Mutex::new(None));
        Self { shared, peer, policy, rule, handle, displaced: Arc::new(Notify::new()), offer, place }
    }

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
        let decide = |offer: Offer| {
            locked(&self.offer).replace(offer.clone());
            self.decide(offer)
        };
        let started = tokio::time::Instant::now();
        let work = receive(recv, send, &into, decide, options, &self.handle);
        let result = self.while_recording(work).await;
        let offer = locked(&self.offer).take()?;
        let id = TransferId(offer.id);
        let (direction, peer) = (Direction::Incoming, self.peer);
        let Some(result) = result else {
            // The transfer goes on elsewhere: nothing has ended that a person or the list should hear of.
            let again = io::Error::new(io::ErrorKind::ConnectionReset, "the other device offered it anew");
            let result = Err(Arc::new(FileError::from(ReceiveError::Stream(again))));
            return Some(Ended { id, direction, peer, name: offer.name, result });
        };
        let result = match result {
            Ok(report) => {
                self.shared.note_heard(id, report.heard);
                Ok(Done {
                    files: report.offer.files,
                    bytes: report.offer.bytes,
                    bytes_kept: report.bytes_kept,
                    moving: report.elapsed.min(started.elapsed()),
                    path: path(),
                    digest: report.digest,
                    placed: report.placed,
                    notes: vec![],
                    policy: None,
                })
            }
            Err(error) => Err(Arc::new(FileError::from(error))),
        };
        self.conclude(id, &result).await;
        let ended = Ended { id, direction, peer, name: offer.name, result };
        drop(locked(&self.place).take());
        self.shared.tell(FileEvent::Ended(ended.clone()));
        Some(ended)
    }

    /// Runs the engine and tells the record how far it is now and then; `None` if a newer attempt took its place.
    async fn while_recording<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.displaced.notified() => return None,
                () = tokio::time::sleep(RECORD_EVERY) => {
                    let id = locked(&self.offer).as_ref().map(|offer| TransferId(offer.id));
                    let done = self.handle.progress().borrow().bytes_done;
                    if let Some(id) = id.filter(|_| locked(&self.place).is_some()) {
                        self.shared.note_progress(id, done).await;
                    }
                }
            }
        }
    }

    async fn decide(&self, offer: Offer) -> Decision {
        let id = TransferId(offer.id);
        if matches!(self.rule, Rule::Grants) {
            self.shared.node.allow(self.peer, Work::Offer).await;
        }
        let mut decision = self.judge(id, &offer).await;
        if decision == Decision::Accept && self.was_accepted(id, &offer) {
            decision = Decision::AcceptAgain;
        }
        let accepted = matches!(decision, Decision::Accept | Decision::AcceptAgain);
        if accepted && !self.begin(id, &offer).await {
            decision = Decision::Decline("another transfer has this number".into());
        }
        self.shared.audit_offer(self.peer, id, &offer, &decision);
        decision
    }

    /// Notes the transfer as running and waits for its turn.
    async fn begin(&self, id: TransferId, offer: &Offer) -> bool {
        let running = Running {
            id,
            direction: Direction::Incoming,
            peer: self.peer,
            name: offer.name.clone(),
            handle: self.handle.clone(),
        };
        let Some(entry) = self.shared.begin(running.clone(), self.displaced.clone()) else { return false };
        // Always in this order, and neither is ever closed.
        let of_peer = self.shared.room(self.peer).moving.clone().acquire_owned().await.ok();
        let of_all = self.shared.moving.clone().acquire_owned().await.ok();
        self.record(id, offer).await;
        locked(&self.place).replace(Place { _entry: entry, _of_peer: of_peer, _of_all: of_all });
        self.shared.tell(FileEvent::Started(running));
        true
    }

    async fn judge(&self, id: TransferId, offer: &Offer) -> Decision {
        let no = |why: &str| Decision::Decline(why.to_owned());
        // The sender chooses the id: it must not reach what belongs to somebody else, or to us.
        if self.shared.node.store().transfers().find(&id).is_some_and(|record| !self.owns(&record)) {
            return no("another transfer has this number");
        }
        if matches!(self.rule, Rule::CodeWasTyped) {
            return Decision::Accept;
        }
        let grant = self.shared.node.grants(&self.peer).files;
        match (grant, self.policy.accept) {
            (FilesGrant::No, _) => no("files from this device are not allowed there"),
            (_, Accept::Nothing) => no("the device takes no files now"),
            (_, Accept::Everything) | (FilesGrant::Auto, Accept::ByGrant) => Decision::Accept,
            (FilesGrant::Ask, Accept::ByGrant) if self.was_accepted(id, offer) => Decision::Accept,
            (FilesGrant::Ask, Accept::ByGrant) => self.ask(id, offer).await,
        }
    }

    fn owns(&self, record: &TransferRecord) -> bool {
        record.peer == Some(self.peer) && record.direction == Direction::Incoming
    }

    /// Whether the same transfer was accepted before and only interrupted, perhaps by nothing but the loss of its receipt. The id
    /// alone does not make it the same: who said yes to a photo did not say yes to whatever comes under its number later.
    fn was_accepted(&self, id: TransferId, offer: &Offer) -> bool {
        self.shared.node.store().transfers().find(&id).is_some_and(|record| {
            self.owns(&record)
                && (record.name == offer.name
                    && record.files == offer.files
                    && record.total_bytes == offer.bytes)
                && record.destination.as_deref() == Some(&*self.policy.into)
                && match record.state {
                    TransferState::Paused | TransferState::Active => true,
                    TransferState::Done => locked(&self.shared.unheard).contains(&id),
                    TransferState::Queued | TransferState::Failed | TransferState::Declined => false,
                }
        })
    }

    async fn ask(&self, id: TransferId, offer: &Offer) -> Decision {
        let (sender, answer) = oneshot::channel();
        {
            let mut asked = locked(&self.shared.asked);
            let of_peer = asked.values().filter(|question| question.peer == self.peer).count();
            match asked.get(&id) {
                // An answer names the offer by its id: it must not go to another device than the one that was shown.
                Some(question) if question.peer != self.peer => {
                    return Decision::Decline("another transfer has this number".into());
                }
                None if of_peer >= QUESTIONS_PER_PEER_MAX => {
                    return Decision::Decline("too many offers wait for an answer there".into());
                }
                Some(_) | None => {
                    asked.insert(id, Question { peer: self.peer, offer: offer.clone(), answer: sender })
                }
            };
        }
        let mut asking = Asking { shared: self.shared.clone(), id, answer };
        self.shared.tell(FileEvent::Asked { peer: self.peer, offer: offer.clone() });
        match tokio::time::timeout(ANSWER_MAX, &mut asking.answer).await {
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
        let accepted = locked(&self.place).is_some();
        let record = self.shared.node.store().transfers().find(&id);
        // A refusal ends what was interrupted before, but changes nothing about a transfer of somebody else.
        if !record.is_some_and(|record| self.owns(&record) && (accepted || record.state.is_open())) {
            return;
        }
        self.shared.note_end(id, result).await;
    }
}
