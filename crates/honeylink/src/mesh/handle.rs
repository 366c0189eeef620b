//! [`MeshHandle`]: what an application does with the mesh.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::{MESH_LIFETIME_MAX, MESH_MESSAGE_BYTES_MAX};
use honeylink_core::mesh::frame::Priority;
use honeylink_core::mesh::hint::Address;
use honeylink_core::mesh::{Failure, Outgoing, Step, Trace};
use tokio::sync::{broadcast, oneshot, watch};

use super::inbox::{Messages, Topic, TopicTaken};
use super::pump::Order;
use super::shared::Shared;
use super::{MeshEvent, MeshSnapshot};
use crate::node::{ConnectError, Node, Target};

/// Largest payload, bytes: one byte of a mesh message is its topic.
pub const PAYLOAD_BYTES_MAX: usize = MESH_MESSAGE_BYTES_MAX - 1;

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendOptions {
    topic: Topic,
    priority: Priority,
    lifetime: Duration,
    receipt: bool,
}

impl Default for SendOptions {
    /// For the application, of normal urgency, tried for a day, with a receipt.
    fn default() -> Self {
        Self {
            topic: Topic::APPLICATION,
            priority: Priority::Normal,
            lifetime: Duration::from_secs(24 * 3600),
            receipt: true,
        }
    }
}

impl SendOptions {
    /// What the message is for on the other device.
    #[must_use]
    pub const fn topic(mut self, topic: Topic) -> Self {
        self.topic = topic;
        self
    }

    /// How urgent it is: what is sent first, and what is dropped last.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How long to keep trying; at most seven days.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime.min(MESH_LIFETIME_MAX);
        self
    }

    /// Whether the target shall say that it has the message. Without, it is sent once as well as the mesh can, and nobody
    /// hears what became of it.
    #[must_use]
    pub const fn receipt(mut self, receipt: bool) -> Self {
        self.receipt = receipt;
        self
    }
}

/// Why a message was not taken on.
#[derive(Debug, thiserror::Error)]
pub enum MeshSendError {
    /// The name fits no paired device.
    #[error(transparent)]
    Target(#[from] ConnectError),
    /// Too long.
    #[error(
        "a mesh message has {PAYLOAD_BYTES_MAX} bytes at most; this has {size}. Send it as a file over a link"
    )]
    TooLong {
        /// Its size, bytes.
        size: usize,
    },
    /// The mesh did not take it.
    #[error("the mesh did not take the message: {0}")]
    Refused(Failure),
    /// The node stops.
    #[error(transparent)]
    Stopped(#[from] MeshStopped),
}

/// Why it is not known that a message was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDelivered {
    /// It was given up.
    #[error("not delivered: {0}")]
    Failed(Failure),
    /// Nobody says any more what becomes of it: it was sent without a receipt, or the node stopped. A message with a
    /// receipt goes on when the node runs again, as far as its outbox is on disk.
    #[error("it is not known whether the message was delivered")]
    Unknown,
}

/// The node has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is shutting down")]
pub struct MeshStopped;

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The name fits no paired device.
    #[error(transparent)]
    Target(#[from] ConnectError),
    /// The node stops.
    #[error(transparent)]
    Stopped(#[from] MeshStopped),
}

/// A message under way. Dropping it stops nothing.
#[derive(Debug)]
pub struct Sending {
    id: u64,
    step: watch::Receiver<Option<Step>>,
}

impl Sending {
    /// The message's name in [`MeshEvent::Progress`] and for [`MeshHandle::cancel`].
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// How far it has come.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step.borrow().unwrap_or(Step::Accepted)
    }

    /// Waits until it is further; `None` when nothing more will be heard of it. Steps that follow each other fast may be
    /// seen as one.
    pub async fn changed(&mut self) -> Option<Step> {
        self.step.changed().await.ok()?;
        Some(self.step())
    }

    /// Waits until the target has it.
    ///
    /// # Errors
    /// [`NotDelivered`].
    pub async fn delivered(&mut self) -> Result<(), NotDelivered> {
        loop {
            match self.step() {
                Step::Delivered => return Ok(()),
                Step::Failed(why) => return Err(NotDelivered::Failed(why)),
                Step::Accepted | Step::Sent | Step::Stored => {}
            }
            self.step.changed().await.map_err(|_| NotDelivered::Unknown)?;
        }
    }

    /// Waits until some other device answers for it: the target, or one that keeps it for the target.
    ///
    /// # Errors
    /// [`NotDelivered`].
    pub async fn stored_or_delivered(&mut self) -> Result<Step, NotDelivered> {
        loop {
            match self.step() {
                step @ (Step::Delivered | Step::Stored) => return Ok(step),
                Step::Failed(why) => return Err(NotDelivered::Failed(why)),
                Step::Accepted | Step::Sent => {}
            }
            self.step.changed().await.map_err(|_| NotDelivered::Unknown)?;
        }
    }
}

/// The mesh of a node. Clones are the same mesh.
#[derive(Clone, Debug)]
pub struct MeshHandle {
    node: Node,
    shared: Arc<Shared>,
}

impl MeshHandle {
    pub(crate) const fn new(node: Node, shared: Arc<Shared>) -> Self {
        Self { node, shared }
    }

    /// Sends a message to a paired device, over as many hops as it takes. Returns when the mesh has taken it on.
    ///
    /// # Errors
    /// [`MeshSendError`].
    pub async fn send(
        &self,
        to: impl Into<Target>,
        payload: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Sending, MeshSendError> {
        self.send_as(self.node.random_name(), to, payload, options).await
    }

    /// As [`MeshHandle::send`], under a name of the caller's own: one that it finds again when the node was restarted in
    /// between. A name that a message under way has already is refused.
    ///
    /// # Errors
    /// [`MeshSendError`].
    pub async fn send_as(
        &self,
        id: u64,
        to: impl Into<Target>,
        payload: impl Into<Bytes>,
        options: SendOptions,
    ) -> Result<Sending, MeshSendError> {
        let payload = payload.into();
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(MeshSendError::TooLong { size: payload.len() });
        }
        let to = self.node.resolve(to)?;
        let mut whole = BytesMut::with_capacity(1 + payload.len());
        whole.put_u8(options.topic.0);
        whole.put_slice(&payload);
        let outgoing = Outgoing {
            id,
            to,
            payload: whole.freeze(),
            priority: options.priority,
            lifetime: options.lifetime,
            receipt: options.receipt,
        };
        let (sender, mut step) = watch::channel(None);
        self.order(Order::Send { outgoing, step: sender }).await?;
        step.wait_for(Option::is_some).await.map_err(|_| MeshStopped)?;
        let sending = Sending { id, step };
        match sending.step() {
            Step::Failed(why) => Err(MeshSendError::Refused(why)),
            Step::Accepted | Step::Sent | Step::Stored | Step::Delivered => Ok(sending),
        }
    }

    /// Gives a message up, if it is still under way.
    ///
    /// # Errors
    /// [`MeshStopped`].
    pub async fn cancel(&self, id: u64) -> Result<(), MeshStopped> {
        self.order(Order::Cancel(id)).await
    }

    /// Takes the messages of a topic, from now on and those that wait. One taker at a time.
    ///
    /// # Errors
    /// [`TopicTaken`].
    pub fn messages(&self, topic: Topic) -> Result<Messages, TopicTaken> {
        self.shared.inbox.subscribe(topic)
    }

    /// Follows what happens. A watcher that falls 1024 events behind is told how many it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<MeshEvent> {
        self.shared.events.subscribe()
    }

    /// The mesh as it stands: ports, neighbours, routes, counters.
    ///
    /// # Errors
    /// [`MeshStopped`].
    pub async fn snapshot(&self) -> Result<MeshSnapshot, MeshStopped> {
        let (answer, snapshot) = oneshot::channel();
        self.order(Order::Snapshot(answer)).await?;
        snapshot.await.map_err(|_| MeshStopped)
    }

    /// What is known of the way to a paired device.
    ///
    /// # Errors
    /// [`TraceError`].
    pub async fn trace(&self, peer: impl Into<Target>) -> Result<Trace, TraceError> {
        let peer = self.node.resolve(peer)?;
        let (answer, trace) = oneshot::channel();
        self.order(Order::Trace(Address::of(&peer), answer)).await?;
        Ok(trace.await.map_err(|_| MeshStopped)?)
    }

    /// The neighbour that answers for a stored message: it keeps the message, or has the word of a device further on that
    /// does. `None` if the message is not stored, or was before the node was restarted.
    ///
    /// # Errors
    /// [`MeshStopped`].
    pub async fn keeper(&self, id: u64) -> Result<Option<DeviceId>, MeshStopped> {
        let (answer, keeper) = oneshot::channel();
        self.order(Order::Keeper(id, answer)).await?;
        keeper.await.map_err(|_| MeshStopped)
    }

    /// Announces this device now, as far as the ration of each port allows.
    ///
    /// # Errors
    /// [`MeshStopped`].
    pub async fn announce_now(&self) -> Result<(), MeshStopped> {
        self.order(Order::Announce).await
    }

    async fn order(&self, order: Order) -> Result<(), MeshStopped> {
        self.shared.orders.send(order).await.map_err(|_| MeshStopped)
    }
}
