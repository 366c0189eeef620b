//! [`Link`]: what an application holds to one peer, for one protocol.
//!
//! A link carries messages (ordered, exactly once), byte streams and datagrams. It is not a connection: when the
//! connection under it dies, the link is suspended, its node opens another one, and messages go on where they stopped.
//! Byte streams belong to one connection; they end with an error when it dies.
//!
//! The rules live in [`honeylink_core::session`]; this module owns the queues between that machine, the application and
//! the network, and `driver` moves the bytes.

mod beside;
pub(crate) mod driver;
mod errors;
mod inlet;
mod outlet;
pub(crate) mod shared;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use honeylink_core::session::State;
use honeylink_core::wire::link::Class;
use tokio::sync::watch;

pub use honeylink_core::session::{CloseReason, Closer};
pub use honeylink_core::wire::link::CloseCode;

pub use self::errors::{CloseError, DatagramError, LinkClosed, PingError, SendError, StreamError};
use self::shared::LinkShared;
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
    /// Messages sent again after the link was taken up on another connection.
    pub messages_resent: u64,
    /// Times the link was taken up on another connection.
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

    /// Opens a byte stream to the peer.
    ///
    /// # Errors
    /// [`StreamError`] if the link is over or its connection was lost just now.
    pub async fn open_stream(&self, class: Class) -> Result<Stream, StreamError> {
        self.shared().open_stream(class).await
    }

    /// The next byte stream the peer opened.
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

    /// Measures one round trip through the link's session.
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
