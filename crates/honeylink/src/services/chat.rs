//! Chat: short texts between paired devices, kept on both, delivered once.
//!
//! A message is delivered when the other device has written it to its disk and said so. One that was not confirmed stays
//! `pending` in the log until it is. Who says more than its share (`CHAT_MESSAGES_PER_S_MAX` in
//! [`honeylink_core::limits`]) waits: nothing is lost, its messages are confirmed later.
//!
//! It goes by a link. Where none can be made and the node has a mesh, it goes over that (`over_mesh`): perhaps over
//! several hops, perhaps kept by another device for hours. As soon as a link is there it goes over that too (`owed`). The
//! log says which way each message went, and one that went both ways is shown once.

mod carry;
mod over_mesh;
mod owed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::CHAT_MESSAGE_BYTES_MAX;
use honeylink_core::qos::policy::Policy;
use honeylink_core::wire::chat::ChatFrame;
use honeylink_core::wire::link::{CloseCode, SessionId};
use tokio::sync::{broadcast, oneshot};
use tokio::time::Instant;

use self::carry::Carried;
use self::owed::Owed;
use super::steer::{PolicyChoice, steer};
use crate::carrier::{PathReport, Rung};
use crate::clock::unix_ms;
use crate::link::{ApplyError, Link, LinkClosed};
use crate::mesh::{Failure, MeshSendError};
use crate::node::{ConnectError, ListenError, Node, Target, Work};
use crate::store::StateError;
use crate::store::chat::{Appended, ChatLogError, MessageState, NewMessage};

/// The protocol of chat links.
pub const PROTOCOL: &str = "honeylink/chat/1";
/// How long `send` waits for the other device's confirmation.
const CONFIRM_MAX: Duration = Duration::from_secs(15);
/// For how long a device that no link reached is written to over the mesh at once.
const OUT_OF_REACH: Duration = Duration::from_secs(60);
/// Events a slow watcher may fall behind.
const EVENT_QUEUE: usize = 256;

/// A message that came or went.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatEvent {
    /// The peer.
    pub peer: DeviceId,
    /// The message.
    pub message: NewMessage,
    /// The path it took.
    pub path: Option<PathReport>,
    /// The neighbour that answers for it until the peer is in reach, if it is stored and that is known.
    pub keeper: Option<DeviceId>,
    /// The message was told before, and this is what became of it since.
    pub update: bool,
}

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// Nothing to say.
    #[error("the message is empty")]
    Empty,
    /// Too long for chat.
    #[error("the message has {size} bytes and chat takes {CHAT_MESSAGE_BYTES_MAX}; send it as a file")]
    TooLong {
        /// Its size, bytes.
        size: usize,
    },
    /// No link.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The link ended before the message was confirmed.
    #[error("not confirmed: {0}")]
    Closed(#[from] LinkClosed),
    /// The other device has not confirmed it; it may have it or not.
    #[error("the other device did not confirm the message within {0:?}")]
    Unconfirmed(Duration),
    /// The policy that was insisted on is not in force.
    #[error(transparent)]
    Policy(ApplyError),
    /// The link has no connection just now, so that no policy can be agreed on.
    #[error("the other device was not there to agree on the policy within {0:?}")]
    Unagreed(Duration),
    /// No link could be made, and the mesh did not take it.
    #[error("no link could be made, and over the mesh: {0}")]
    Mesh(#[from] MeshSendError),
    /// No link could be made, and the mesh gave it up.
    #[error("no link could be made, and over the mesh: {0}")]
    GivenUp(Failure),
    /// The log cannot be written.
    #[error("the message log cannot be written: {0}")]
    Log(#[from] ChatLogError),
    /// The log cannot be read.
    #[error("the message log cannot be used: {0}")]
    State(#[from] StateError),
}

impl ChatError {
    /// Whether a message that got into the log stays pending and is said again on the next link: the other device may have it
    /// or not, and did not say that it will not have it.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        match self {
            Self::Unconfirmed(_) => true,
            // Its link ended under way. One that was refused was closed with a reason, or with a code of its own.
            Self::Closed(why) => {
                let ended =
                    matches!(why.0.code, CloseCode::Normal | CloseCode::Shutdown | CloseCode::UnknownSession);
                ended && why.words_of_peer().is_none()
            }
            Self::Empty
            | Self::TooLong { .. }
            | Self::Connect(_)
            | Self::Policy(_)
            | Self::Unagreed(_)
            | Self::Mesh(_)
            | Self::GivenUp(_)
            | Self::Log(_)
            | Self::State(_) => false,
        }
    }
}

/// The chat service of a node. Clones are the same service.
#[derive(Clone, Debug)]
pub struct Chat {
    shared: Arc<Shared>,
}

/// A message by the one it was said to: nobody confirms what was said to another.
type Said = (DeviceId, [u8; 16]);

#[derive(Debug)]
struct Shared {
    node: Node,
    events: broadcast::Sender<ChatEvent>,
    links: Mutex<BTreeMap<DeviceId, Link>>,
    /// What links of this service follow.
    policy: Mutex<Option<PolicyChoice>>,
    /// Devices to which no link could be made lately: their messages go over the mesh at once.
    out_of_reach: Mutex<BTreeMap<DeviceId, Instant>>,
    confirmations: Mutex<BTreeMap<Said, Waiting>>,
    /// Messages whose sender still waits: what becomes of them is told by [`Chat::send`] and nobody else.
    waited_for: Mutex<BTreeSet<[u8; 16]>>,
    /// Messages that nobody confirmed and that are not on their way by a link.
    owed: Owed,
    /// Held while the state of a message is looked up and changed, so that the slower word does not win.
    settling: tokio::sync::Mutex<()>,
}

/// A sender that waits for the confirmation of a message.
#[derive(Debug)]
struct Waiting {
    /// The link on which the message was said last.
    on: Option<SessionId>,
    /// Is told the path by which the confirmation came.
    tell: oneshot::Sender<Option<PathReport>>,
}

/// Takes a message out of `waited_for` when its sender waits no longer. Unless it is settled, it is owed from then on.
struct Waited<'a> {
    shared: &'a Shared,
    peer: DeviceId,
    sequence: u64,
    id: [u8; 16],
    settled: bool,
}

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        self.shared.waited_for().remove(&self.id);
        let waiting = self.shared.confirmations().remove(&(self.peer, self.id));
        if !self.settled {
            self.shared.owed.add(self.peer, self.sequence, self.id, waiting.and_then(|waiting| waiting.on));
        }
    }
}

impl Chat {
    /// Starts to take messages.
    ///
    /// # Errors
    /// [`ListenError`] if the node has a chat service already.
    pub fn start(node: &Node) -> Result<Self, ListenError> {
        let mut listener = node.listen(PROTOCOL)?;
        let shared = Arc::new(Shared {
            node: node.clone(),
            events: broadcast::Sender::new(EVENT_QUEUE),
            links: Mutex::new(BTreeMap::new()),
            policy: Mutex::new(None),
            out_of_reach: Mutex::new(BTreeMap::new()),
            confirmations: Mutex::new(BTreeMap::new()),
            waited_for: Mutex::new(BTreeSet::new()),
            owed: Owed::default(),
            settling: tokio::sync::Mutex::new(()),
        });
        let accepting = shared.clone();
        node.spawn(async move {
            while let Some(link) = listener.accept().await {
                let choice = accepting.policy().clone();
                accepting.adopt(link, choice);
            }
        });
        over_mesh::start(&shared);
        owed::start(&shared);
        Ok(Self { shared })
    }

    /// Lets links that are made from now on follow a policy. What is said meanwhile does not wait for the other device's
    /// agreement.
    pub fn set_policy(&self, policy: Option<Policy>) {
        *self.shared.policy() = policy.map(|policy| PolicyChoice { policy, insist: false });
    }

    /// Follows what comes and goes. A watcher that falls 256 events behind is told how many it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<ChatEvent> {
        self.shared.events.subscribe()
    }

    /// Sends a message and waits until the other device has it. A message that went over the mesh may still be under way
    /// after 15 s: then it is `pending`, and an event with `update` says what became of it.
    ///
    /// # Errors
    /// [`ChatError`]; the message stays in the log as pending or failed.
    pub async fn send(&self, target: impl Into<Target>, text: &str) -> Result<ChatEvent, ChatError> {
        self.send_under(target, text, None).await
    }

    /// As [`Chat::send`], by a policy that the link to the device follows from then on. The mesh knows no policies: without a
    /// link nothing is said.
    ///
    /// # Errors
    /// [`ChatError`]. With [`ChatError::Policy`], or if there is no link to agree on a policy, the message is not in the log.
    pub async fn send_under(
        &self,
        target: impl Into<Target>,
        text: &str,
        choice: Option<PolicyChoice>,
    ) -> Result<ChatEvent, ChatError> {
        if text.is_empty() {
            return Err(ChatError::Empty);
        }
        if text.len() > CHAT_MESSAGE_BYTES_MAX {
            return Err(ChatError::TooLong { size: text.len() });
        }
        let shared = &self.shared;
        let peer = shared.node.resolve(target)?;
        if let Some(choice) = &choice {
            shared.agree(peer, choice).await?;
        }
        let id = shared.new_id();
        let mut message =
            NewMessage { id, state: MessageState::Pending, text: text.to_owned(), at: unix_ms(), rung: None };
        let (Appended::New { sequence } | Appended::Duplicate { sequence }) =
            shared.log(peer, message.clone()).await?;
        shared.waited_for().insert(id);
        let mut waited = Waited { shared, peer, sequence, id, settled: false };
        let mut outcome = shared.carry(peer, sequence, &message).await;
        let _settling = shared.settling.lock().await;
        // A late confirmation, or the mesh, may have said more since the waiting ended.
        let logged = shared.logged(peer, id).await?.map(|logged| logged.state);
        if outcome.is_err() && logged == Some(MessageState::Delivered) {
            outcome = Ok(Carried::by_link(None));
        }
        message.state = match &outcome {
            Ok(carried) if carried.confirmed => MessageState::Delivered,
            Ok(_) => MessageState::Pending,
            Err(error) if error.is_pending() => MessageState::Pending,
            Err(_) => MessageState::Failed,
        };
        message.rung = outcome.as_ref().ok().and_then(|carried| carried.path.as_ref()).map(|path| path.rung);
        if logged == Some(MessageState::Delivered) {
            message.state = MessageState::Delivered;
        } else {
            shared.set_state(peer, id, message.state, message.rung).await?;
        }
        waited.settled = message.state != MessageState::Pending;
        if waited.settled {
            shared.settled(&peer, id).await;
        }
        let owed = !waited.settled;
        drop(waited);
        if owed && outcome.is_err() {
            // The device may have been in reach all the time: started again, it only did not know the link any more.
            shared.approach(peer);
        }
        let Carried { path, keeper, .. } = outcome?;
        let keeper = keeper.filter(|_| message.state == MessageState::Pending);
        let event = ChatEvent { peer, message, path, keeper, update: false };
        // Nobody may be watching.
        let _ = shared.events.send(event.clone());
        Ok(event)
    }
}

impl Shared {
    fn policy(&self) -> MutexGuard<'_, Option<PolicyChoice>> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn confirmations(&self) -> MutexGuard<'_, BTreeMap<Said, Waiting>> {
        self.confirmations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waited_for(&self) -> MutexGuard<'_, BTreeSet<[u8; 16]>> {
        self.waited_for.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out_of_reach(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Instant>> {
        self.out_of_reach.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_reach(&self, peer: &DeviceId) {
        self.out_of_reach().remove(peer);
    }

    /// Whether trying a link would only cost time.
    fn is_out_of_reach(&self, peer: &DeviceId) -> bool {
        let lately = self.out_of_reach().get(peer).is_some_and(|at| at.elapsed() < OUT_OF_REACH);
        lately && !self.node.is_connected(peer)
    }

    /// The open chat link to a peer, if there is one.
    fn open_link(&self, peer: &DeviceId) -> Option<Link> {
        let open = self.links.lock().unwrap_or_else(PoisonError::into_inner).get(peer).cloned();
        open.filter(|link| link.state() != crate::State::Closed)
    }

    /// The open chat link to a peer, unless it is broken and the peer's to take up again: one that was started again does not
    /// know it any more, and will never do so.
    fn sound_link(&self, peer: &DeviceId) -> Option<Link> {
        self.open_link(peer).filter(|link| link.is_ours() || link.state() != crate::State::Suspended)
    }

    /// The open chat link to a peer, or a new one.
    async fn link_to(self: &Arc<Self>, peer: DeviceId) -> Result<Link, ConnectError> {
        let choice = self.policy().clone();
        self.link_by(peer, choice).await
    }

    /// The open chat link to a peer, or a new one that is to follow a policy.
    async fn link_by(
        self: &Arc<Self>,
        peer: DeviceId,
        choice: Option<PolicyChoice>,
    ) -> Result<Link, ConnectError> {
        match self.open_link(&peer) {
            Some(link) => Ok(link),
            None => self.new_link_by(peer, choice).await,
        }
    }

    async fn new_link(self: &Arc<Self>, peer: DeviceId) -> Result<Link, ConnectError> {
        let choice = self.policy().clone();
        self.new_link_by(peer, choice).await
    }

    async fn new_link_by(
        self: &Arc<Self>,
        peer: DeviceId,
        choice: Option<PolicyChoice>,
    ) -> Result<Link, ConnectError> {
        let link = self.node.connect(peer, PROTOCOL).await?;
        self.adopt(link.clone(), choice);
        Ok(link)
    }

    /// Reads a link until it ends.
    fn adopt(self: &Arc<Self>, link: Link, choice: Option<PolicyChoice>) {
        let peer = link.peer();
        self.in_reach(&peer);
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, link.clone());
        if choice.is_some() {
            let link = link.clone();
            self.node.spawn(async move {
                // It was logged, and the link remembers why.
                let _ = steer(&link, choice.as_ref()).await;
            });
        }
        let (shared, offered) = (self.clone(), link.clone());
        self.node.spawn(async move { shared.offer_owed(&offered).await });
        let shared = self.clone();
        self.node.spawn(async move {
            while let Ok(bytes) = link.recv().await {
                if shared.take(&link, &bytes).await.is_err() {
                    break;
                }
            }
            let mut links = shared.links.lock().unwrap_or_else(PoisonError::into_inner);
            if links.get(&peer).is_some_and(|kept| kept.state() == crate::State::Closed) {
                links.remove(&peer);
            }
            drop(links);
            if link.why_closed().0.code == CloseCode::UnknownSession {
                // The device was started again and is there: what was said here is owed, and no other news will come of it.
                shared.approach(peer);
            }
        });
    }

    /// Acts on one message of the peer; an error ends the link.
    async fn take(&self, link: &Link, bytes: &Bytes) -> Result<(), ()> {
        let peer = link.peer();
        match ChatFrame::decode(bytes) {
            Ok(ChatFrame::Say { .. }) if !self.node.grants(&peer).chat => {
                tracing::info!(peer = %peer.short(), "refused a message: no grant for chat");
                // The reason reaches the peer with the close; nothing more can be done if it does not.
                let _ = link.close("messages are not allowed on this device").await;
                Err(())
            }
            Ok(ChatFrame::Say { id, text, .. }) => {
                self.turn(link).await?;
                if self.arrived(peer, id, text, link.path()).await.is_err() {
                    return Ok(());
                }
                link.send(ChatFrame::Got { id }.encode()).await.map_err(|_| ())
            }
            Ok(ChatFrame::Got { id }) => {
                let waiting = self.confirmations().remove(&(peer, id));
                // The sender may have given up waiting.
                if waiting.is_none_or(|waiting| waiting.tell.send(link.path()).is_err()) {
                    self.turn(link).await?;
                    self.confirmed_late(link, id).await;
                }
                Ok(())
            }
            Err(invalid) => {
                tracing::warn!(peer = %peer.short(), %invalid, "not a chat message");
                let _ = link.close("not a chat message").await;
                Err(())
            }
        }
    }

    /// Waits until the peer may have more written here. An error if its link is over before: what such a link still holds was
    /// never confirmed, and a peer that fills one link after the other and closes them must not fill the memory.
    async fn turn(&self, link: &Link) -> Result<(), ()> {
        tokio::select! {
            biased;
            () = self.node.allow(link.peer(), Work::Message) => Ok(()),
            _ = closed(link) => Err(()),
        }
    }

    /// The peer confirms what nobody waits for any more: the log learns of it, and who watches.
    async fn confirmed_late(&self, link: &Link, id: [u8; 16]) {
        let peer = link.peer();
        let _settling = self.settling.lock().await;
        let Ok(Some(logged)) = self.logged(peer, id).await else { return };
        if matches!(logged.state, MessageState::Received | MessageState::Delivered) {
            self.settled(&peer, id).await;
            return;
        }
        let path = link.path();
        let rung = path.as_ref().map(|path| path.rung).or(logged.rung);
        let message = NewMessage { state: MessageState::Delivered, rung, ..logged };
        if let Err(error) = self.set_state(peer, id, message.state, rung).await {
            tracing::error!(%error, "what became of a message could not be written");
            return;
        }
        self.settled(&peer, id).await;
        if !self.waited_for().contains(&id) {
            // Nobody may be watching.
            let _ = self.events.send(ChatEvent { peer, message, path, keeper: None, update: true });
        }
    }

    /// Keeps a message of the peer and tells of it, once. On error it is not to be confirmed.
    async fn arrived(
        &self,
        peer: DeviceId,
        id: [u8; 16],
        text: String,
        path: Option<PathReport>,
    ) -> Result<(), ChatLogError> {
        let rung = path.as_ref().map(|path| path.rung);
        let message = NewMessage { id, state: MessageState::Received, text, at: unix_ms(), rung };
        match self.log(peer, message.clone()).await {
            Ok(Appended::New { .. }) => {
                // Nobody may be watching.
                let _ = self.events.send(ChatEvent { peer, message, path, keeper: None, update: false });
                Ok(())
            }
            Ok(Appended::Duplicate { .. }) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "a message could not be kept and is not confirmed");
                Err(error)
            }
        }
    }

    async fn log(&self, peer: DeviceId, message: NewMessage) -> Result<Appended, ChatLogError> {
        let store = self.node.store().clone();
        crate::node::on_disk(move || store.chat().append(&peer, &message)).await
    }

    async fn logged(&self, peer: DeviceId, id: [u8; 16]) -> Result<Option<NewMessage>, StateError> {
        let store = self.node.store().clone();
        crate::node::on_disk(move || store.chat().find(&peer, &id)).await
    }

    async fn set_state(
        &self,
        peer: DeviceId,
        id: [u8; 16],
        state: MessageState,
        rung: Option<Rung>,
    ) -> Result<(), ChatLogError> {
        let store = self.node.store().clone();
        crate::node::on_disk(move || store.chat().set_state(&peer, &id, state, rung)).await
    }
}

/// Waits until a link is over and says why.
async fn closed(link: &Link) -> LinkClosed {
    let mut state = link.watch_state();
    // The link holds the sender, so waiting cannot fail.
    let _ = state.wait_for(|s| *s == crate::State::Closed).await;
    link.why_closed()
}
