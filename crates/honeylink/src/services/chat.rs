//! Chat: short texts between paired devices, kept on both, delivered once.
//!
//! A message is delivered when the other device has written it to its disk and said so. One that was not confirmed stays
//! `pending` in the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::CHAT_MESSAGE_BYTES_MAX;
use honeylink_core::wire::chat::ChatFrame;
use tokio::sync::{broadcast, oneshot};

use crate::carrier::PathReport;
use crate::clock::unix_ms;
use crate::link::{Link, LinkClosed};
use crate::node::{ConnectError, ListenError, Node, Target};
use crate::store::StateError;
use crate::store::chat::{Appended, ChatLogError, MessageState, NewMessage};

/// The protocol of chat links.
pub const PROTOCOL: &str = "honeylink/chat/1";
/// How long `send` waits for the other device's confirmation.
const CONFIRM_MAX: Duration = Duration::from_secs(15);
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
    /// The log cannot be written.
    #[error("the message log cannot be written: {0}")]
    Log(#[from] ChatLogError),
    /// The log cannot be read.
    #[error("the message log cannot be used: {0}")]
    State(#[from] StateError),
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
    confirmations: Mutex<BTreeMap<Said, oneshot::Sender<()>>>,
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
            confirmations: Mutex::new(BTreeMap::new()),
        });
        let accepting = shared.clone();
        node.spawn(async move {
            while let Some(link) = listener.accept().await {
                accepting.adopt(link);
            }
        });
        Ok(Self { shared })
    }

    /// Follows what comes and goes. A watcher that falls 256 events behind is told how many it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<ChatEvent> {
        self.shared.events.subscribe()
    }

    /// Sends a message and waits until the other device has it.
    ///
    /// # Errors
    /// [`ChatError`]; the message stays in the log as pending or failed.
    pub async fn send(&self, target: impl Into<Target>, text: &str) -> Result<ChatEvent, ChatError> {
        if text.is_empty() {
            return Err(ChatError::Empty);
        }
        if text.len() > CHAT_MESSAGE_BYTES_MAX {
            return Err(ChatError::TooLong { size: text.len() });
        }
        let shared = &self.shared;
        let peer = shared.node.resolve(target)?;
        let id = shared.node.random_id();
        let mut message =
            NewMessage { id, state: MessageState::Pending, text: text.to_owned(), at: unix_ms() };
        shared.log(peer, message.clone()).await?;
        let outcome = shared.deliver(peer, &message).await;
        message.state = match &outcome {
            Ok(_) => MessageState::Delivered,
            Err(ChatError::Unconfirmed(_)) => MessageState::Pending,
            Err(_) => MessageState::Failed,
        };
        shared.set_state(peer, id, message.state).await?;
        let event = ChatEvent { peer, message, path: outcome? };
        // Nobody may be watching.
        let _ = shared.events.send(event.clone());
        Ok(event)
    }
}

impl Shared {
    /// Says the message on a link and waits for the confirmation; gives the path it took.
    async fn deliver(
        self: &Arc<Self>,
        peer: DeviceId,
        message: &NewMessage,
    ) -> Result<Option<PathReport>, ChatError> {
        let link = self.link_to(peer).await?;
        let (sender, confirmed) = oneshot::channel();
        self.confirmations.lock().unwrap_or_else(PoisonError::into_inner).insert((peer, message.id), sender);
        let frame = ChatFrame::Say { id: message.id, sent_unix_ms: message.at, text: message.text.clone() };
        let said = async {
            if let Err(error) = link.send(frame.encode()).await {
                tracing::debug!(%error, "the chat link ended");
                return Err(ChatError::Closed(closed(&link).await));
            }
            tokio::select! {
                confirmed = confirmed => match confirmed {
                    Ok(()) => Ok(link.path()),
                    Err(_) => Err(ChatError::Closed(closed(&link).await)),
                },
                end = closed(&link) => Err(ChatError::Closed(end)),
            }
        };
        let outcome =
            tokio::time::timeout(CONFIRM_MAX, said).await.unwrap_or(Err(ChatError::Unconfirmed(CONFIRM_MAX)));
        self.confirmations.lock().unwrap_or_else(PoisonError::into_inner).remove(&(peer, message.id));
        outcome
    }

    /// The open chat link to a peer, or a new one.
    async fn link_to(self: &Arc<Self>, peer: DeviceId) -> Result<Link, ConnectError> {
        let open = self.links.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
        if let Some(link) = open.filter(|link| link.state() != crate::State::Closed) {
            return Ok(link);
        }
        let link = self.node.connect(peer, PROTOCOL).await?;
        self.adopt(link.clone());
        Ok(link)
    }

    /// Reads a link until it ends.
    fn adopt(self: &Arc<Self>, link: Link) {
        let peer = link.peer();
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, link.clone());
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
                let message = NewMessage { id, state: MessageState::Received, text, at: unix_ms() };
                match self.log(peer, message.clone()).await {
                    Ok(Appended::New { .. }) => {
                        // Nobody may be watching.
                        let _ = self.events.send(ChatEvent { peer, message, path: link.path() });
                    }
                    Ok(Appended::Duplicate { .. }) => {}
                    Err(error) => {
                        tracing::error!(%error, "a message could not be kept and is not confirmed");
                        return Ok(());
                    }
                }
                link.send(ChatFrame::Got { id }.encode()).await.map_err(|_| ())
            }
            Ok(ChatFrame::Got { id }) => {
                let waiting =
                    self.confirmations.lock().unwrap_or_else(PoisonError::into_inner).remove(&(peer, id));
                if let Some(waiting) = waiting {
                    // The sender may have given up waiting.
                    let _ = waiting.send(());
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

    async fn log(&self, peer: DeviceId, message: NewMessage) -> Result<Appended, ChatLogError> {
        let store = self.node.store().clone();
        crate::node::on_disk(move || store.chat().append(&peer, &message)).await
    }

    async fn set_state(&self, peer: DeviceId, id: [u8; 16], state: MessageState) -> Result<(), ChatLogError> {
        let store = self.node.store().clone();
        crate::node::on_disk(move || store.chat().set_state(&peer, &id, state)).await
    }
}

/// Waits until a link is over and says why.
async fn closed(link: &Link) -> LinkClosed {
    let mut state = link.watch_state();
    // The link holds the sender, so waiting cannot fail.
    let _ = state.wait_for(|s| *s == crate::State::Closed).await;
    link.why_closed()
}
