//! Files: sending files and folders to paired devices, and taking theirs if the rules or a person say so.
//!
//! The bytes are moved by [`crate::transfer`]; this service finds the link, asks for permission, keeps the list of
//! transfers, and tries again when a connection breaks. A transfer continues where it stopped, also after either
//! device was killed and started again: the sender offers the same transfer once more, and the receiver accepts it
//! without asking because it did before.
//!
//! ```text
//! sender                                   receiver
//! connect, open stream ------------------> accept stream
//! offer (id, name, files, bytes) --------> rules: refused by grant | accepted by rule | a person is asked
//! <-------------------------------- accept, with what is already there
//! content, hashes -----------------------> verified, moved to its final name
//! ```

mod incoming;
mod outgoing;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use tokio::sync::{Semaphore, broadcast};

use crate::carrier::PathReport;
use crate::link::{ApplyError, StreamError, TakenBack};
use crate::node::{ConnectError, ListenError, Node};
use crate::store::transfers::{Direction, TransferId, TransferLogError, TransferState};
use crate::transfer::{
    DiskError, Durability, Handle, Hash, Note, Offer, Progress, ReceiveError, SendError, discard_part,
};

use table::{Entry, INCOMING_MAX, Question, Room};

/// The protocol of file links.
pub const PROTOCOL: &str = "honeylink/transfer/1";
/// Events a slow watcher may fall behind.
const EVENT_QUEUE: usize = 256;
/// How long an offer waits for a person.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// Who decides whether an offered transfer is taken. A peer without the grant for files is always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// The grant of the peer: a person is asked unless it says `auto`.
    #[default]
    ByGrant,
    /// Everything from a paired device.
    Everything,
    /// Nothing.
    Nothing,
}

/// Where files go and who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The folder that received files are put into.
    pub into: PathBuf,
    /// Who decides.
    pub accept: Accept,
    /// What a received file must survive.
    pub durability: Durability,
}

/// One transfer that is under way.
#[derive(Clone, Debug)]
pub struct Running {
    /// The transfer.
    pub id: TransferId,
    /// Which way it goes.
    pub direction: Direction,
    /// The other device.
    pub peer: DeviceId,
    /// What people see it as.
    pub name: String,
    /// Steers and watches it.
    pub handle: Handle,
}

/// How a transfer ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The transfer.
    pub id: TransferId,
    /// Which way it went.
    pub direction: Direction,
    /// The other device.
    pub peer: DeviceId,
    /// What people see it as.
    pub name: String,
    /// The result.
    pub result: Result<Done, Arc<FileError>>,
}

/// What a finished transfer did.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Files.
    pub files: u64,
    /// Content bytes, whether moved now or already there.
    pub bytes: u64,
    /// Content bytes that were there from an earlier attempt.
    pub bytes_kept: u64,
    /// From the acceptance until everything was verified.
    pub moving: Duration,
    /// The path the bytes took last.
    pub path: Option<PathReport>,
    /// See [`crate::transfer`].
    pub digest: Hash,
    /// Incoming: where the files are now.
    pub placed: Vec<PathBuf>,
    /// Outgoing: what was skipped or renamed.
    pub notes: Vec<Note>,
    /// Outgoing: by which policy, if one was wished for.
    pub policy: Option<Box<SentBy>>,
}

/// By which policy a transfer went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentBy {
    /// The one it followed at last, if any.
    pub followed: Option<String>,
    /// The one to which the other device did not agree, if there was one.
    pub taken_back: Option<TakenBack>,
}

/// What happens to transfers.
#[derive(Clone, Debug)]
pub enum FileEvent {
    /// A peer offers files and a person is asked; answer with [`Files::answer`].
    Asked {
        /// The peer.
        peer: DeviceId,
        /// What it offers.
        offer: Offer,
    },
    /// Bytes begin to move, or move again.
    Started(Running),
    /// A transfer is over, one way or the other.
    Ended(Ended),
}

/// Why a transfer did not finish.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// No link to the peer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The sending side.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The receiving side.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The policy that was insisted on is not in force; nothing was sent.
    #[error("nothing was sent: {0}")]
    Policy(ApplyError),
    /// What its policy asks for cannot be had.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The connection broke and could not be had again in time.
    #[error("the connection broke and did not come back within {} s; send again to continue", .0.as_secs())]
    GaveUp(Duration),
    /// The node shut down in the middle.
    #[error("stopped because this node shuts down; send again to continue")]
    Stopped,
    /// The same transfer is under way already.
    #[error("this is being sent to that device already")]
    Busy,
}

impl FileError {
    /// Whether sending the same again continues where this stopped.
    #[must_use]
    pub fn is_resumable(&self) -> bool {
        match self {
            Self::GaveUp(_) | Self::Stopped | Self::Connect(ConnectError::Unreachable { .. }) => true,
            Self::Send(error) => matches!(error, SendError::Stream(_)),
            Self::Receive(error) => {
                matches!(
                    error,
                    ReceiveError::Stream(_) | ReceiveError::Disk(_) | ReceiveError::NoSpace { .. }
                )
            }
            Self::Connect(_) | Self::Policy(_) | Self::Stream(_) | Self::Busy => false,
        }
    }

    /// Whether a side said no, rather than something going wrong.
    #[must_use]
    pub const fn is_declined(&self) -> bool {
        matches!(self, Self::Send(SendError::Declined { .. }) | Self::Receive(ReceiveError::Declined))
    }

    /// Whether a person ended it.
    #[must_use]
    pub const fn is_cancelled(&self) -> bool {
        matches!(self, Self::Send(SendError::Cancelled) | Self::Receive(ReceiveError::Cancelled))
    }

    /// What the list of transfers says afterwards.
    fn state(&self) -> TransferState {
        if self.is_declined() {
            TransferState::Declined
        } else if self.is_resumable() {
            TransferState::Paused
        } else {
            TransferState::Failed
        }
    }
}

/// Why a transfer could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// It is not in the list, or the list cannot be written.
    #[error(transparent)]
    Log(#[from] TransferLogError),
    /// What it left cannot be removed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The file service of a node. Clones are the same service.
#[derive(Clone, Debug)]
pub struct Files {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    node: Node,
    events: broadcast::Sender<FileEvent>,
    /// The policies in force: the configured one, then overrides; the last one counts.
    policies: Mutex<Vec<(u64, Policy)>>,
    running: Mutex<BTreeMap<TransferId, Entry>>,
    asked: Mutex<BTreeMap<TransferId, Question>>,
    /// Finished ones whose senders may not know it, and so may offer them once more.
    unheard: Mutex<BTreeSet<TransferId>>,
    /// Room for incoming transfers, of all peers together and of each.
    moving: Arc<Semaphore>,
    rooms: Mutex<BTreeMap<DeviceId, Arc<Room>>>,
}

/// Takes a policy back when it is dropped.
#[derive(Debug)]
pub struct PolicyGuard {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for PolicyGuard {
    fn drop(&mut self) {
        locked(&self.shared.policies).retain(|(number, _)| *number != self.number);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files {
    /// Starts to take offers.
    ///
    /// # Errors
    /// [`ListenError`] if the node has a file service already.
    pub fn start(node: &Node, policy: Policy) -> Result<Self, ListenError> {
        let listener = node.listen(PROTOCOL)?;
        let shared = Arc::new(Shared {
            node: node.clone(),
            events: broadcast::Sender::new(EVENT_QUEUE),
            policies: Mutex::new(vec![(0, policy)]),
            running: Mutex::new(BTreeMap::new()),
            asked: Mutex::new(BTreeMap::new()),
            unheard: Mutex::new(BTreeSet::new()),
            moving: Arc::new(Semaphore::new(INCOMING_MAX)),
            rooms: Mutex::new(BTreeMap::new()),
        });
        node.spawn(incoming::accept(shared.clone(), listener));
        incoming::knock(&shared);
        Ok(Self { shared })
    }

    /// Follows transfers. A watcher that falls 256 events behind is told how many it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<FileEvent> {
        self.shared.events.subscribe()
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.shared.policy()
    }

    /// Puts another policy in force until the guard is dropped; the latest one counts.
    #[must_use]
    pub fn override_policy(&self, policy: Policy) -> PolicyGuard {
        let mut policies = locked(&self.shared.policies);
        let number = policies.last().map_or(0, |(number, _)| number + 1);
        policies.push((number, policy));
        PolicyGuard { shared: self.shared.clone(), number }
    }

    /// Replaces the configured policy.
    pub fn set_policy(&self, policy: Policy) {
        if let Some(first) = locked(&self.shared.policies).first_mut() {
            first.1 = policy;
        }
    }

    /// The transfers under way, with their progress.
    #[must_use]
    pub fn running(&self) -> Vec<(Running, Progress)> {
        let running = locked(&self.shared.running);
        let running = running.values().map(|entry| &entry.running);
        running.map(|r| (r.clone(), r.handle.progress().borrow().clone())).collect()
    }

    /// The offers that wait for an answer, and who makes them.
    #[must_use]
    pub fn waiting(&self) -> Vec<(DeviceId, Offer)> {
        locked(&self.shared.asked).values().map(|asked| (asked.peer, asked.offer.clone())).collect()
    }

    /// Answers an offer. `false` if nobody is asking any more.
    #[must_use]
    pub fn answer(&self, id: &TransferId, accept: bool) -> bool {
        let asking = locked(&self.shared.asked).remove(id);
        asking.is_some_and(|asking| asking.answer.send(accept).is_ok())
    }

    /// Gives up a transfer: one that moves is cancelled, one that was interrupted is taken off the list, and what it left
    /// behind here is removed.
    ///
    /// # Errors
    /// [`DiscardError`].
    pub async fn discard(&self, id: &TransferId) -> Result<(), DiscardError> {
        if let Some(handle) = self.handle(id) {
            handle.cancel();
            return Ok(());
        }
        let (store, id) = (self.shared.node.store().clone(), *id);
        crate::node::on_disk(move || {
            let record = store.transfers().find(&id).ok_or(TransferLogError::Unknown { id })?;
            if let (true, Some(peer), Some(into)) = (record.state.is_open(), record.peer, &record.destination)
                && record.direction == Direction::Incoming
            {
                discard_part(into, &id.0, &record.name, peer.as_bytes())?;
            }
            store.transfers().remove(&id)?;
            Ok(())
        })
        .await
    }

    /// Steers a transfer that is under way.
    #[must_use]
    pub fn handle(&self, id: &TransferId) -> Option<Handle> {
        locked(&self.shared.running).get(id).map(|entry| entry.running.handle.clone())
    }
}

impl Shared {
    fn policy(&self) -> Policy {
        let policies = locked(&self.policies);
        // The configured policy is never removed, so there is always one.
        policies.last().map_or_else(
            || Policy { into: PathBuf::from("."), accept: Accept::Nothing, durability: Durability::Sync },
            |(_, policy)| policy.clone(),
        )
    }

    fn tell(&self, event: FileEvent) {
        // Nobody may be watching.
        let _ = self.events.send(event);
    }
}
