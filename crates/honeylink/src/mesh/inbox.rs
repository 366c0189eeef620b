//! Messages that arrived over the mesh and wait to be taken, by topic.
//!
//! They are on disk before their sender gets a receipt, and stay there until the application asks for the next one. So a
//! process that is killed in between hands them over again when it runs again: at least once, and what is taken for
//! granted twice carries the same sender and number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use honeylink_core::mesh::frame::PortKind;
use tokio::sync::Notify;

use crate::store::limits::{MESH_INBOX_BYTES_MAX, MESH_INBOX_MESSAGES_MAX};
use crate::store::mesh::{InboxKey, Kept};

/// What a message is for: its first byte. Numbers below 128 belong to HoneyLink, the others to applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub u8);

impl Topic {
    /// Chat messages.
    pub const CHAT: Self = Self(1);
    /// For an application that needs no topics of its own.
    pub const APPLICATION: Self = Self(128);
}

/// A message that came over the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// From whom; proved.
    pub from: DeviceId,
    /// Its number, unique for this sender: the same each time the message is handed over.
    pub number: u32,
    /// What it says.
    pub payload: Bytes,
    /// Transmissions it took, as the last relay said.
    pub hops: u8,
    /// Whether it came in by a radio or by a connection.
    pub kind: PortKind,
    /// When it arrived here, milliseconds since 1970.
    pub at: u64,
}

/// Somebody takes these messages already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("somebody takes mesh messages of topic {} already", .0.0)]
pub struct TopicTaken(pub Topic);

#[derive(Debug, Default)]
struct State {
    messages: BTreeMap<InboxKey, Kept>,
    bytes: usize,
    /// Handed over, and not yet known to be dealt with.
    handed: BTreeSet<InboxKey>,
    /// Dealt with, and still on disk.
    done: Vec<InboxKey>,
    takers: BTreeSet<Topic>,
    closed: bool,
}

/// Every message that waits.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    /// Something is done and may be forgotten.
    pub(super) dealt_with: Notify,
}

fn topic_of(kept: &Kept) -> Option<Topic> {
    kept.payload.first().copied().map(Topic)
}

impl Inbox {
    pub(super) fn new(messages: BTreeMap<InboxKey, Kept>) -> Self {
        let bytes = messages.values().map(|kept| kept.payload.len()).sum();
        Self { state: Mutex::new(State { messages, bytes, ..State::default() }), ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message in; false if too many wait.
    pub(super) fn insert(&self, key: InboxKey, kept: Kept) -> bool {
        let mut state = self.state();
        let bytes = state.bytes + kept.payload.len();
        if state.messages.len() >= MESH_INBOX_MESSAGES_MAX || bytes > MESH_INBOX_BYTES_MAX {
            return false;
        }
        state.bytes = bytes;
        state.messages.insert(key, kept);
        drop(state);
        self.arrived.notify_waiters();
        true
    }

    /// What may be forgotten since the last call.
    pub(super) fn done(&self) -> Vec<InboxKey> {
        std::mem::take(&mut self.state().done)
    }

    pub(super) fn len(&self) -> usize {
        self.state().messages.len()
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_waiters();
    }

    pub(super) fn subscribe(self: &Arc<Self>, topic: Topic) -> Result<Messages, TopicTaken> {
        if !self.state().takers.insert(topic) {
            return Err(TopicTaken(topic));
        }
        Ok(Messages { inbox: self.clone(), topic, handed: None })
    }

    /// The oldest message of a topic that nobody has been given; `Err` if no more will come.
    fn hand_over(&self, topic: Topic) -> Result<Option<Message>, ()> {
        let mut state = self.state();
        let oldest = state
            .messages
            .iter()
            .filter(|(key, kept)| topic_of(kept) == Some(topic) && !state.handed.contains(*key))
            .min_by_key(|(_, kept)| kept.at)
            .map(|(key, kept)| (*key, kept.clone()));
        let Some((key, kept)) = oldest else {
            return if state.closed { Err(()) } else { Ok(None) };
        };
        state.handed.insert(key);
        let Kept { hops, kind, at, payload } = kept;
        Ok(Some(Message { from: key.0, number: key.1, payload: payload.slice(1..), hops, kind, at }))
    }

    fn settle(&self, key: InboxKey) {
        let mut state = self.state();
        state.handed.remove(&key);
        if let Some(kept) = state.messages.remove(&key) {
            state.bytes -= kept.payload.len();
            state.done.push(key);
        }
        drop(state);
        self.dealt_with.notify_one();
    }
}

/// The messages of one topic, as they come. Asking for the next says that the one before was dealt with; one that was not
/// is handed over again, to whoever takes the topic next or when the node runs again.
#[derive(Debug)]
pub struct Messages {
    inbox: Arc<Inbox>,
    topic: Topic,
    handed: Option<InboxKey>,
}

impl Messages {
    /// The next message; `None` once the node has stopped.
    pub async fn next(&mut self) -> Option<Message> {
        if let Some(key) = self.handed.take() {
            self.inbox.settle(key);
        }
        loop {
            let arrived = self.inbox.arrived.notified();
            tokio::pin!(arrived);
            // Before the look, so that nothing comes between.
            arrived.as_mut().enable();
            match self.inbox.hand_over(self.topic) {
                Ok(Some(message)) => {
                    self.handed = Some((message.from, message.number));
                    return Some(message);
                }
                Ok(None) => arrived.await,
                Err(()) => return None,
            }
        }
    }

    /// The topic.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        self.topic
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let mut state = self.inbox.state();
        if let Some(key) = self.handed.take() {
            state.handed.remove(&key);
        }
        state.takers.remove(&self.topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;

    fn key(number: u32) -> InboxKey {
        (SecretKey::from_u64(1).id(), number)
    }

    fn kept(at: u64, payload: &'static [u8]) -> Kept {
        Kept { hops: 1, kind: PortKind::PointToPoint, at, payload: Bytes::from_static(payload) }
    }

    #[tokio::test]
    async fn a_message_that_was_not_dealt_with_is_handed_over_again() {
        let inbox = Arc::new(Inbox::new(BTreeMap::from([(key(7), kept(1, b"\x80first"))])));
        let mut messages = inbox.subscribe(Topic::APPLICATION).unwrap();
        assert_eq!(inbox.subscribe(Topic::APPLICATION).unwrap_err(), TopicTaken(Topic::APPLICATION));
        assert!(inbox.insert(key(3), kept(2, b"\x80second")));
        assert!(inbox.insert(key(4), kept(2, b"\x01of another topic")));
        assert_eq!(messages.next().await.unwrap().payload, "first");
        assert_eq!(messages.next().await.unwrap().payload, "second");
        assert_eq!(inbox.done(), [key(7)]);
        drop(messages);
        let mut messages = inbox.subscribe(Topic::APPLICATION).unwrap();
        assert_eq!(messages.next().await.unwrap().payload, "second");
        inbox.close();
        assert_eq!(messages.next().await, None);
        assert_eq!((inbox.done(), inbox.len()), (vec![key(3)], 1));
    }

    #[test]
    fn no_more_messages_wait_than_the_limit() {
        let inbox = Inbox::default();
        let taken = (0..2000).filter(|n| inbox.insert(key(*n), kept(1, b"\x80x"))).count();
        assert_eq!(taken, MESH_INBOX_MESSAGES_MAX);
    }
}
