//! [`Link`]: what an application holds to one peer, for one protocol.
//!
//! A link carries messages (ordered, exactly once), byte streams and datagrams. It is not a connection: when the
//! connection under it dies, the link is suspended, its node opens another one, and messages go on where they stopped.
//! Byte streams belong to one connection; they end with an error when it dies.
//!
//! The rules live in [`honeylink_core::session`]; this module owns the queues between that machine, the application and
//! the network, and `driver` moves the bytes.

mod beside;
mod datagrams;
pub(crate) mod driver;
mod errors;
mod inlet;
mod outlet;
mod policies;
pub(crate) mod shared;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use honeylink_core::qos::StreamOptions;
use honeylink_core::qos::fec::FecChoice;
use honeylink_core::qos::policy::Policy;
use honeylink_core::session::{Role, State};
use honeylink_core::wire::link::{Class, SessionId};
use tokio::sync::{broadcast, watch};

pub use honeylink_core::qos::policy::TakenBack;
pub use honeylink_core::session::{CloseReason, Closer};
pub use honeylink_core::wire::link::CloseCode;

pub(crate) use self::datagrams::Inbound;
pub use self::datagrams::{DatagramReceiver, DatagramSender};
pub use self::errors::{
    ApplyError, CloseError, DatagramError, LinkClosed, PingError, SendError, StreamError,
};
use self::shared::LinkShared;
pub use crate::carrier::flow::FlowStats;
pub use crate::carrier::traffic::{ClassTraffic, LinkTraffic, QosEvent, Repairs, StreamReport};
use crate::carrier::{PathReport, RecvStream, SendStream};

/// Counters and facts of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkStats {
    /// Messages accepted by `send`.
    pub messages_sent: u64,
    /// Payload bytes accepted by `send`.
    pub bytes_sent: u64,
    /// Messages received, whether the application took them yet or not.
    pub messages_received: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Messages sent again after the link was taken up on another connection or stream.
    pub messages_resent: u64,
    /// Times the link was taken up on another connection, or on another stream because a path died.
    pub resumes: u64,
    /// Datagrams that arrived and were dropped because the application did not take them.
    pub datagrams_dropped: u64,
    /// Since the link was made.
    pub duration: Duration,
    /// Smoothed round-trip time of the path in use; `None` while suspended.
    pub rtt: Option<Duration>,
}

/// A byte stream of a link.
#[derive(Debug)]
pub struct Stream {
    /// What the stream asked for.
    pub class: Class,
    /// Our bytes to the peer.
    pub send: SendStream,
    /// The peer's bytes to us.
    pub recv: RecvStream,
}

/// A link to one peer for one protocol. Clones are the same link; it closes when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Link {
    handle: Arc<Handle>,
}

/// Closes the session when the application lets go of it.
#[derive(Debug)]
struct Handle {
    shared: Arc<LinkShared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.begin_close(CloseCode::Normal, "");
    }
}

impl Link {
    pub(crate) fn new(shared: Arc<LinkShared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    fn shared(&self) -> &LinkShared {
        &self.handle.shared
    }

    /// What both sides call this link.
    pub(crate) fn id(&self) -> SessionId {
        self.shared().id()
    }

    /// Whether this side opened it, and so is the one that takes it up again when it breaks.
    pub(crate) fn is_ours(&self) -> bool {
        self.shared().role() == Role::Initiator
    }

    /// The peer's identity, proved by its key.
    #[must_use]
    pub fn peer(&self) -> DeviceId {
        self.shared().peer()
    }

    /// The protocol the link was opened for.
    #[must_use]
    pub fn protocol(&self) -> &str {
        self.shared().protocol()
    }

    /// Sends a message. Returns when the message is queued: in order, exactly once, across changes of path. Waits while
    /// the window of unacknowledged messages is full (8 MiB or 65,536 messages).
    ///
    /// # Errors
    /// [`SendError::TooLarge`] over the limit of either side, before anything is copied; [`SendError::Closed`].
    pub async fn send(&self, message: impl Into<Bytes>) -> Result<(), SendError> {
        self.shared().send(message.into()).await
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    /// As [`Link::send`], and [`SendError::Full`] when it would have to wait.
    pub fn try_send(&self, message: impl Into<Bytes>) -> Result<(), SendError> {
        self.shared().try_send(&message.into())
    }

    /// The next message.
    ///
    /// # Errors
    /// [`LinkClosed`] once the link is over and every message that arrived was taken.
    pub async fn recv(&self) -> Result<Bytes, LinkClosed> {
        self.shared().recv().await
    }

    /// The next message if one is here.
    ///
    /// # Errors
    /// As [`Link::recv`].
    pub fn try_recv(&self) -> Result<Option<Bytes>, LinkClosed> {
        self.shared().try_recv()
    }

    /// Opens a byte stream to the peer. A [`Class`] is a complete answer to what it asks for; [`StreamOptions`] say more. Waits
    /// while 1,024 are open on the connection, which is what a peer allows.
    ///
    /// # Errors
    /// [`StreamError`] if the link is over, its connection was lost just now, the options contradict themselves, or the
    /// connection cannot guarantee what they ask for.
    pub async fn open_stream(&self, options: impl Into<StreamOptions>) -> Result<Stream, StreamError> {
        self.shared().open_stream(options.into()).await
    }

    /// Opens a byte stream that asks for what a policy in force says, now and when it changes.
    ///
    /// # Errors
    /// As [`Link::open_stream`], and [`StreamError::UnknownPolicy`].
    pub async fn open_stream_under(&self, policy: &str) -> Result<Stream, StreamError> {
        self.shared().open_stream_under(policy).await
    }

    /// The next byte stream the peer opened.
    ///
    /// Streams share what a connection holds unread (128 MiB): whoever takes many should read them side by side.
    ///
    /// # Errors
    /// [`LinkClosed`] once the link is over.
    pub async fn accept_stream(&self) -> Result<Stream, LinkClosed> {
        self.shared().accept_stream().await
    }

    /// Sends a datagram: it may be lost, `Ok` means queued.
    ///
    /// # Errors
    /// [`DatagramError`] if it does not fit the path or no connection is up.
    pub fn send_datagram(&self, payload: &[u8]) -> Result<(), DatagramError> {
        self.shared().send_datagram(payload)
    }

    /// The next datagram. While nobody waits, at most 1,024 are kept; newer ones are dropped and counted.
    ///
    /// # Errors
    /// [`LinkClosed`] once the link is over.
    pub async fn recv_datagram(&self) -> Result<Bytes, LinkClosed> {
        self.shared().recv_datagram().await
    }

    /// Opens a flow of datagrams to the peer, with a priority, rates and a deadline of its own, and repair of losses as
    /// `fec` says. Returns when the peer listens.
    ///
    /// # Errors
    /// As [`Link::open_stream`].
    pub async fn open_datagrams(
        &self,
        options: impl Into<StreamOptions>,
        fec: FecChoice,
    ) -> Result<DatagramSender, StreamError> {
        self.shared().open_datagrams(options.into(), fec, None).await
    }

    /// Opens a flow of datagrams that asks for what a policy in force says, now and when it changes.
    ///
    /// # Errors
    /// As [`Link::open_stream_under`].
    pub async fn open_datagrams_under(&self, policy: &str) -> Result<DatagramSender, StreamError> {
        let known = self.policy(policy).ok_or_else(|| StreamError::UnknownPolicy(policy.to_owned()))?;
        self.shared().open_datagrams(known.options, known.fec, Some(policy)).await
    }

    /// The next flow of datagrams the peer opened. At most 64 of one connection exist at a time.
    ///
    /// # Errors
    /// [`LinkClosed`] once the link is over.
    pub async fn accept_datagrams(&self) -> Result<DatagramReceiver, LinkClosed> {
        self.shared().accept_datagrams().await
    }

    /// Steers the streams of that policy's name by it from now on, and tells the peer. If the peer does not acknowledge it
    /// within five seconds, or refuses, what was before is back in force; so it is when the returned future is dropped.
    ///
    /// # Errors
    /// [`ApplyError`], saying why it is not in force.
    pub async fn apply_policy(&self, policy: Policy) -> Result<(), ApplyError> {
        self.shared().apply_policy(policy).await
    }

    /// Agrees on a policy as [`Link::apply_policy`] does; then everything of this link follows it, its messages and its byte
    /// streams, those that are open included, now and when the policy changes. Flows of datagrams keep their own. A byte
    /// stream opened later follows it if it is opened under its name.
    ///
    /// # Errors
    /// [`ApplyError`]; everything goes on as before.
    pub async fn follow_policy(&self, policy: Policy) -> Result<(), ApplyError> {
        self.shared().follow_policy(policy).await
    }

    /// The policy that everything of this link follows, if [`Link::follow_policy`] was called.
    #[must_use]
    pub fn followed_policy(&self) -> Option<Policy> {
        self.shared().followed_policy()
    }

    /// The policy that was taken back last because the peer did not agree, until one of its name is agreed.
    #[must_use]
    pub fn taken_back_policy(&self) -> Option<TakenBack> {
        self.shared().taken_back()
    }

    /// The policy of that name in force here.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<Policy> {
        self.shared().policy(name)
    }

    /// The policy of that name by which the peer steers what it sends.
    #[must_use]
    pub fn peers_policy(&self, name: &str) -> Option<Policy> {
        self.shared().peers_policy(name)
    }

    /// What this side sends on the connection in use, stream by stream, and what the path carries. All links to a device
    /// share one connection. `None` while suspended.
    #[must_use]
    pub fn traffic(&self) -> Option<LinkTraffic> {
        self.shared().conn().map(|conn| conn.gate().traffic())
    }

    /// What happens to the streams of the connection in use from now on; ends with the connection. At most 64 are kept for
    /// a receiver that does not take them. `None` while suspended.
    #[must_use]
    pub fn qos_events(&self) -> Option<broadcast::Receiver<QosEvent>> {
        self.shared().conn().map(|conn| conn.gate().events())
    }

    /// Measures one round trip through the link's session. One that is under way when its connection is lost goes out again
    /// on the next one; its time is from the first.
    ///
    /// # Errors
    /// [`PingError::Timeout`] after `timeout`, or [`PingError::Closed`].
    pub async fn ping(&self, timeout: Duration) -> Result<Duration, PingError> {
        self.shared().ping(timeout).await
    }

    /// Counters and facts.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        self.shared().stats()
    }

    /// The path in use, or `None` while suspended.
    #[must_use]
    pub fn path(&self) -> Option<PathReport> {
        self.paths().into_iter().next()
    }

    /// Every path of the connection in use, the selected one first.
    #[must_use]
    pub fn paths(&self) -> Vec<PathReport> {
        self.shared().conn().map(|conn| conn.paths()).unwrap_or_default()
    }

    /// Where the session is.
    #[must_use]
    pub fn state(&self) -> State {
        *self.shared().watch_state().borrow()
    }

    /// Follows the session's state.
    #[must_use]
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.shared().watch_state()
    }

    /// Why the link is over; says that it is closing while it is not.
    #[must_use]
    pub fn why_closed(&self) -> LinkClosed {
        self.shared().why_closed()
    }

    /// Closes the link. Everything accepted before is delivered, or the error says what may not have been.
    ///
    /// # Errors
    /// [`CloseError`] naming the first message that is not known to have arrived.
    pub async fn close(&self, reason: &str) -> Result<(), CloseError> {
        self.shared().close(CloseCode::Normal, reason).await
    }
}
