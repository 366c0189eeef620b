//! What a link carries beside its messages: byte streams and datagrams. They use the connection that the session runs on,
//! and name the session, but the session machine knows nothing of them.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use honeylink_core::qos::StreamOptions;
use honeylink_core::session::State;
use honeylink_core::wire::link::{StreamHeader, StreamKind};
use tokio::sync::watch;

use super::shared::LinkShared;
use super::{DatagramError, LinkClosed, Stream, StreamError};
use crate::carrier::Conn;
use crate::carrier::gate::Owner;

impl LinkShared {
    pub(super) async fn open_stream(&self, options: StreamOptions) -> Result<Stream, StreamError> {
        self.open_stream_by(options, None).await
    }

    /// Opens a stream that asks for what the policy of that name says, and goes on to when the policy changes.
    pub(super) async fn open_stream_under(&self, policy: &str) -> Result<Stream, StreamError> {
        let known = self.policy(policy).ok_or_else(|| StreamError::UnknownPolicy(policy.to_owned()))?;
        self.open_stream_by(known.options, Some(policy)).await
    }

    async fn open_stream_by(
        &self,
        options: StreamOptions,
        policy: Option<&str>,
    ) -> Result<Stream, StreamError> {
        let conn = self.active_conn().await?;
        let lost = |e: &dyn std::fmt::Display| StreamError::ConnectionLost(e.to_string());
        // Asked for before anything is opened: what cannot be had costs the peer nothing.
        let ticket = conn.gate().open(options)?;
        ticket.belongs(self.owner(policy.map(str::to_owned)));
        let (send, recv) = conn.open().await.map_err(|e| lost(&e))?;
        // Before its first byte: a header without priority would wait behind everything that has some.
        let mut send = send.with_ticket(Some(ticket), options);
        let header = StreamHeader {
            kind: StreamKind::Bytes,
            session: self.id(),
            priority: options.priority,
            protocol: self.protocol().to_owned(),
        };
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        send.write_chunk(bytes.freeze()).await.map_err(|e| lost(&e))?;
        Ok(Stream { class: options.priority.class(), send, recv })
    }

    /// What the gate remembers about this link's streams.
    pub(crate) fn owner(&self, policy: Option<String>) -> Owner {
        Owner { link: self.id(), protocol: self.protocol().to_owned(), policy, messages: false }
    }

    /// Waits until the session is active and gives the connection it runs on.
    pub(super) async fn active_conn(&self) -> Result<Conn, LinkClosed> {
        let mut state = self.state.subscribe();
        loop {
            // Copied out, so that the channel's lock is free again: whoever changes the state holds this link's own lock
            // and then takes the channel's. Taking them the other way round here would stop both for ever.
            let now = *state.borrow_and_update();
            match now {
                State::Active => {
                    if let Some(conn) = self.conn() {
                        return Ok(conn);
                    }
                }
                State::Closed => return Err(self.why_closed()),
                State::Pending | State::Paired | State::Suspended => {}
            }
            // The sender lives in `self`, so waiting cannot fail.
            if state.changed().await.is_err() {
                return Err(self.why_closed());
            }
        }
    }

    pub(super) async fn accept_stream(&self) -> Result<Stream, LinkClosed> {
        let mut streams = self.streams_out.lock().await;
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            stream = streams.recv() => stream.ok_or_else(|| self.why_closed()),
            () = until_closed(&mut state) => Err(self.why_closed()),
        }
    }

    /// A stream arrived for this link. `false` if the queue is full: the caller resets it.
    pub(crate) fn offer_stream(&self, stream: Stream) -> bool {
        self.streams_in.try_send(stream).is_ok()
    }

    pub(super) fn send_datagram(&self, payload: &[u8]) -> Result<(), DatagramError> {
        let conn = self.conn().ok_or(DatagramError::Dropped)?;
        let max = conn.datagram_bytes_max().saturating_sub(self.id().0.len());
        if payload.len() > max {
            return Err(DatagramError::TooLarge { size: payload.len(), max });
        }
        let mut bytes = BytesMut::with_capacity(self.id().0.len() + payload.len());
        bytes.extend_from_slice(&self.id().0);
        bytes.extend_from_slice(payload);
        if conn.send_datagram(bytes.freeze()) { Ok(()) } else { Err(DatagramError::Dropped) }
    }

    /// A datagram arrived for this link. What waits is a copy, for the reason that flows of datagrams have.
    pub(crate) fn offer_datagram(&self, payload: &[u8]) {
        match self.datagrams_in.try_reserve() {
            Ok(place) => place.send(Bytes::copy_from_slice(payload)),
            Err(_) => {
                self.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) async fn recv_datagram(&self) -> Result<Bytes, LinkClosed> {
        let mut datagrams = self.datagrams_out.lock().await;
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            datagram = datagrams.recv() => datagram.ok_or_else(|| self.why_closed()),
            () = until_closed(&mut state) => Err(self.why_closed()),
        }
    }
}

/// Waits for the end of the session. A function, so that what `wait_for` gives, which locks the channel, is gone before
/// anything else is locked; see [`LinkShared::active_conn`].
pub(super) async fn until_closed(state: &mut watch::Receiver<State>) {
    // The sender lives in the link, so waiting cannot fail.
    let _ = state.wait_for(|s| *s == State::Closed).await;
}
