//! What the application's handle, the driver and the node share of one link: the session machine behind a lock, its
//! queues, and the signals between them.
//!
//! Queues and their limits: unacknowledged messages (in the session, `SESSION_WINDOW_*`), bytes to write (`outgoing`,
//! bounded by that window because every message in it is unacknowledged), received messages (`inbox`,
//! `RECEIVE_QUEUE_*`: the driver stops reading beyond them, and QUIC's flow control stops the peer), streams waiting for
//! `accept_stream` (`ACCEPT_QUEUE_MAX`) and datagrams (`DATAGRAM_QUEUE_MAX`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::{
    ACCEPT_QUEUE_MAX, DATAGRAM_QUEUE_MAX, RECEIVE_QUEUE_BYTES_MAX, RECEIVE_QUEUE_MESSAGES_MAX,
    SESSION_WINDOW_BYTES_MAX,
};
use honeylink_core::session::{Config, Input, Output, Role, Session, State};
use honeylink_core::time::{Deadline, Time};
use honeylink_core::wire::link::{
    Class, CloseCode, Frame, FrameDecoder, SessionId, StreamHeader, StreamKind, encode_message,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, oneshot, watch};

use super::{CloseError, DatagramError, LinkClosed, LinkStats, PingError, SendError, Stream, StreamError};
use crate::carrier::Conn;
use crate::clock::Clock;

/// Beyond this much unsent, the driver stops reading: a peer that floods pings and never reads must not grow it.
const OUTGOING_BYTES_MAX: usize = SESSION_WINDOW_BYTES_MAX + (1 << 20);

/// What of a link lives behind its lock.
#[derive(Debug)]
struct Inside {
    session: Session,
    /// Encoded frames for the session stream; empty while no stream is attached.
    outgoing: BytesMut,
    /// Whether a session stream is attached.
    attached: bool,
    /// Whether the session stream should be ended once `outgoing` is written.
    stopping: bool,
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    pings: BTreeMap<u64, oneshot::Sender<()>>,
    conn: Option<Conn>,
    /// The earliest deadline the driver knows of; it is woken when the session sets an earlier one.
    armed: Time,
    /// Why the last attempt to reach the peer failed, for the error when time runs out.
    last_failure: Option<String>,
}

/// One link. See the module's doc.
#[derive(Debug)]
pub(crate) struct LinkShared {
    peer: DeviceId,
    protocol: String,
    id: SessionId,
    role: Role,
    message_max: usize,
    clock: Clock,
    made_us: u64,
    inside: Mutex<Inside>,
    state: watch::Sender<State>,
    /// There is something to write, to stop, or another deadline.
    pub(super) wake_writer: Notify,
    /// The inbox has room again.
    pub(super) wake_reader: Notify,
    wake_recv: Notify,
    wake_send: Notify,
    streams_in: mpsc::Sender<Stream>,
    streams_out: AsyncMutex<mpsc::Receiver<Stream>>,
    datagrams_in: mpsc::Sender<Bytes>,
    datagrams_out: AsyncMutex<mpsc::Receiver<Bytes>>,
    datagrams_dropped: AtomicU64,
    next_ping: AtomicU64,
}

impl LinkShared {
    pub(crate) fn new(
        peer: DeviceId,
        protocol: String,
        id: SessionId,
        role: Role,
        config: Config,
        clock: Clock,
    ) -> Self {
        let (streams_in, streams_out) = mpsc::channel(ACCEPT_QUEUE_MAX);
        let (datagrams_in, datagrams_out) = mpsc::channel(DATAGRAM_QUEUE_MAX);
        let message_max = config.message_max;
        let now = clock.now();
        Self {
            peer,
            protocol,
            id,
            role,
            message_max,
            made_us: now.as_micros(),
            clock,
            inside: Mutex::new(Inside {
                session: Session::new(now, role, config),
                outgoing: BytesMut::new(),
                attached: false,
                stopping: false,
                inbox: VecDeque::new(),
                inbox_bytes: 0,
                pings: BTreeMap::new(),
                conn: None,
                armed: Time::MAX,
                last_failure: None,
            }),
            state: watch::Sender::new(State::Pending),
            wake_writer: Notify::new(),
            wake_reader: Notify::new(),
            wake_recv: Notify::new(),
            wake_send: Notify::new(),
            streams_in,
            streams_out: AsyncMutex::new(streams_out),
            datagrams_in,
            datagrams_out: AsyncMutex::new(datagrams_out),
            datagrams_dropped: AtomicU64::new(0),
            next_ping: AtomicU64::new(0),
        }
    }

    pub(crate) fn peer(&self) -> DeviceId {
        self.peer
    }

    pub(crate) fn protocol(&self) -> &str {
        &self.protocol
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn message_max(&self) -> usize {
        self.message_max
    }

    pub(crate) fn conn(&self) -> Option<Conn> {
        self.inside().conn.clone()
    }

    pub(crate) fn watch_state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // The lock is never held across foreign code, so a poisoned one still guards consistent data.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the session one input and acts on its outputs.
    pub(crate) fn apply(&self, input: Input) {
        let mut inside = self.inside();
        inside.session.handle(self.clock.now(), input);
        self.settle(&mut inside);
    }

    /// Moves the session's outputs to where they belong and wakes whoever waits for them.
    fn settle(&self, inside: &mut Inside) {
        let (mut write, mut delivered, mut room) = (false, false, false);
        while let Some(output) = inside.session.poll_output() {
            match output {
                Output::Transmit(Frame::Message { seq, payload }) if inside.attached => {
                    encode_message(&mut inside.outgoing, seq, &payload);
                    write = true;
                }
                Output::Transmit(frame) if inside.attached => {
                    frame.encode(&mut inside.outgoing);
                    write = true;
                }
                // A session transmits only after `CarrierUp`; what it says while its stream dies is said again later.
                Output::Transmit(_) | Output::SendRefused => {}
                Output::Deliver(payload) => {
                    inside.inbox_bytes += payload.len();
                    inside.inbox.push_back(payload);
                    delivered = true;
                }
                Output::Entered(state) => {
                    self.state.send_replace(state);
                    if state == State::Closed {
                        inside.pings.clear();
                        (delivered, room) = (true, true);
                    }
                    write = true;
                }
                Output::Pong { nonce } => {
                    if let Some(waiting) = inside.pings.remove(&nonce) {
                        // The ping may have given up; then nobody is left to tell.
                        let _ = waiting.send(());
                    }
                }
                Output::Acknowledged => room = true,
                Output::StopCarrier => {
                    inside.stopping = true;
                    write = true;
                }
            }
        }
        let due = inside.session.poll_timeout().map_or(Time::MAX, |d| d.at);
        if write || due < inside.armed {
            inside.armed = due;
            self.wake_writer.notify_one();
        }
        if delivered {
            self.wake_recv.notify_waiters();
        }
        if room {
            self.wake_send.notify_waiters();
        }
    }

    /// A session stream is there: the session may transmit.
    pub(super) fn attach(&self, conn: Conn) {
        let mut inside = self.inside();
        inside.outgoing.clear();
        inside.attached = true;
        inside.conn = Some(conn);
        inside.session.handle(self.clock.now(), Input::CarrierUp);
        self.settle(&mut inside);
    }

    /// The session stream is gone.
    pub(super) fn detach(&self) {
        let mut inside = self.inside();
        inside.attached = false;
        inside.outgoing.clear();
        inside.conn = None;
        inside.session.handle(self.clock.now(), Input::CarrierLost);
        self.settle(&mut inside);
    }

    /// Takes everything there is to write; `stopping` says that nothing will follow.
    pub(super) fn take_outgoing(&self) -> (Bytes, bool) {
        let mut inside = self.inside();
        let bytes = inside.outgoing.split().freeze();
        let stopping = inside.stopping;
        drop(inside);
        if !bytes.is_empty() {
            self.wake_reader.notify_one();
        }
        (bytes, stopping)
    }

    /// The session's next deadline; the driver promises to call back then.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        let mut inside = self.inside();
        let deadline = inside.session.poll_timeout();
        inside.armed = deadline.map_or(Time::MAX, |d| d.at);
        deadline
    }

    /// Ends the session because the peer can never be reached this way.
    pub(super) fn fail(&self, code: CloseCode, text: String) {
        self.apply(Input::Frame(Frame::Refuse { code, reason: text }));
    }

    /// Remembers why the peer could not be reached just now.
    pub(super) fn note_failure(&self, why: String) {
        self.inside().last_failure = Some(why);
    }

    /// Why the peer could not be reached last time.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.inside().last_failure.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.inside().session.state() == State::Closed
    }

    /// Whether the driver may read more from the network.
    pub(super) fn may_read(&self) -> bool {
        let inside = self.inside();
        inside.inbox_bytes < RECEIVE_QUEUE_BYTES_MAX
            && inside.inbox.len() < RECEIVE_QUEUE_MESSAGES_MAX
            && inside.outgoing.len() < OUTGOING_BYTES_MAX
    }

    /// Gives every whole frame in the decoder to the session.
    pub(super) fn take_frames(&self, decoder: &mut FrameDecoder) {
        let mut inside = self.inside();
        let now = self.clock.now();
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => inside.session.handle(now, Input::Frame(frame)),
                Ok(None) => break,
                Err(invalid) => {
                    inside.session.handle(now, Input::Malformed(invalid));
                    break;
                }
            }
        }
        self.settle(&mut inside);
    }

    pub(super) async fn send(&self, message: Bytes) -> Result<(), SendError> {
        loop {
            // Registered before the check, or an acknowledgement between the two would be missed.
            let room = self.wake_send.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.try_send(&message) {
                Err(SendError::Full) => room.await,
                other => return other,
            }
        }
    }

    pub(super) fn try_send(&self, message: &Bytes) -> Result<(), SendError> {
        let mut inside = self.inside();
        let peer_max = usize::try_from(inside.session.peer_message_max()).unwrap_or(usize::MAX);
        let max = self.message_max.min(peer_max);
        if message.len() > max {
            return Err(SendError::TooLarge { size: message.len(), max });
        }
        if let Some(reason) = inside.session.closed() {
            return Err(LinkClosed(reason.clone()).into());
        }
        if inside.session.is_closing() {
            return Err(SendError::Closed(closing()));
        }
        if !inside.session.can_send() {
            return Err(SendError::Full);
        }
        inside.session.handle(self.clock.now(), Input::Send(message.clone()));
        self.settle(&mut inside);
        Ok(())
    }

    pub(super) async fn recv(&self) -> Result<Bytes, LinkClosed> {
        loop {
            let delivered = self.wake_recv.notified();
            tokio::pin!(delivered);
            delivered.as_mut().enable();
            if let Some(message) = self.try_recv()? {
                return Ok(message);
            }
            delivered.await;
        }
    }

    pub(super) fn try_recv(&self) -> Result<Option<Bytes>, LinkClosed> {
        let mut inside = self.inside();
        if let Some(message) = inside.inbox.pop_front() {
            inside.inbox_bytes -= message.len();
            let was_full = inside.inbox.len() + 1 >= RECEIVE_QUEUE_MESSAGES_MAX
                || inside.inbox_bytes + message.len() >= RECEIVE_QUEUE_BYTES_MAX;
            drop(inside);
            if was_full {
                self.wake_reader.notify_one();
            }
            return Ok(Some(message));
        }
        match inside.session.closed() {
            Some(reason) => Err(LinkClosed(reason.clone())),
            None => Ok(None),
        }
    }

    pub(super) async fn open_stream(&self, class: Class) -> Result<Stream, StreamError> {
        let conn = self.active_conn().await?;
        let lost = |e: &dyn std::fmt::Display| StreamError::ConnectionLost(e.to_string());
        let (mut send, recv) = conn.open().await.map_err(|e| lost(&e))?;
        send.set_priority(class.priority());
        let header = StreamHeader {
            kind: StreamKind::Bytes,
            session: self.id,
            class,
            protocol: self.protocol.clone(),
        };
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        send.write_chunk(bytes.freeze()).await.map_err(|e| lost(&e))?;
        Ok(Stream { class, send, recv })
    }

    /// Waits until the session is active and gives the connection it runs on.
    async fn active_conn(&self) -> Result<Conn, LinkClosed> {
        let mut state = self.state.subscribe();
        loop {
            match *state.borrow_and_update() {
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

    pub(crate) fn why_closed(&self) -> LinkClosed {
        self.inside().session.closed().map_or_else(closing, |reason| LinkClosed(reason.clone()))
    }

    pub(super) async fn accept_stream(&self) -> Result<Stream, LinkClosed> {
        let mut streams = self.streams_out.lock().await;
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            stream = streams.recv() => stream.ok_or_else(|| self.why_closed()),
            _ = state.wait_for(|s| *s == State::Closed) => Err(self.why_closed()),
        }
    }

    /// A stream arrived for this link. `false` if the queue is full: the caller resets it.
    pub(crate) fn offer_stream(&self, stream: Stream) -> bool {
        self.streams_in.try_send(stream).is_ok()
    }

    pub(super) fn send_datagram(&self, payload: &[u8]) -> Result<(), DatagramError> {
        let conn = self.conn().ok_or(DatagramError::Dropped)?;
        let max = conn.datagram_bytes_max().saturating_sub(self.id.0.len());
        if payload.len() > max {
            return Err(DatagramError::TooLarge { size: payload.len(), max });
        }
        let mut bytes = BytesMut::with_capacity(self.id.0.len() + payload.len());
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(payload);
        if conn.send_datagram(bytes.freeze()) { Ok(()) } else { Err(DatagramError::Dropped) }
    }

    pub(crate) fn offer_datagram(&self, payload: Bytes) {
        if self.datagrams_in.try_send(payload).is_err() {
            self.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) async fn recv_datagram(&self) -> Result<Bytes, LinkClosed> {
        let mut datagrams = self.datagrams_out.lock().await;
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            datagram = datagrams.recv() => datagram.ok_or_else(|| self.why_closed()),
            _ = state.wait_for(|s| *s == State::Closed) => Err(self.why_closed()),
        }
    }

    pub(super) async fn ping(&self, timeout: Duration) -> Result<Duration, PingError> {
        let started = tokio::time::Instant::now();
        let measured = async {
            self.active_conn().await?;
            let nonce = self.next_ping.fetch_add(1, Ordering::Relaxed);
            let (sender, answered) = oneshot::channel();
            let sent = tokio::time::Instant::now();
            {
                let mut inside = self.inside();
                inside.pings.insert(nonce, sender);
                if inside.attached {
                    Frame::Ping { nonce }.encode(&mut inside.outgoing);
                }
            }
            self.wake_writer.notify_one();
            let _forget = ForgetPing { shared: self, nonce };
            answered.await.map_err(|_| PingError::Closed(self.why_closed()))?;
            Ok(sent.elapsed())
        };
        let left = timeout.saturating_sub(started.elapsed());
        tokio::time::timeout(left, measured).await.unwrap_or(Err(PingError::Timeout(timeout)))
    }

    pub(super) fn stats(&self) -> LinkStats {
        let inside = self.inside();
        let stats = inside.session.stats();
        let conn = inside.conn.clone();
        drop(inside);
        LinkStats {
            messages_sent: stats.messages_sent,
            bytes_sent: stats.bytes_sent,
            messages_received: stats.messages_received,
            bytes_received: stats.bytes_received,
            messages_resent: stats.messages_resent,
            resumes: stats.resumes,
            datagrams_dropped: self.datagrams_dropped.load(Ordering::Relaxed),
            duration: Duration::from_micros(self.clock.now().as_micros() - self.made_us),
            rtt: conn.and_then(|c| c.paths().first().map(|p| p.rtt)),
        }
    }

    pub(crate) async fn close(&self, code: CloseCode, reason: &str) -> Result<(), CloseError> {
        self.apply(Input::Close { code, text: reason.to_owned() });
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = state.wait_for(|s| *s == State::Closed).await;
        let LinkClosed(reason) = self.why_closed();
        match reason.first_undelivered {
            Some(first_undelivered) => Err(CloseError { first_undelivered, reason: reason.text }),
            None => Ok(()),
        }
    }
}

/// What is said while the close is still being agreed.
fn closing() -> LinkClosed {
    LinkClosed(honeylink_core::session::CloseReason {
        by: honeylink_core::session::Closer::Us,
        code: CloseCode::Normal,
        text: "closing".into(),
        first_undelivered: None,
    })
}

/// Takes a ping that gave up out of the table.
struct ForgetPing<'a> {
    shared: &'a LinkShared,
    nonce: u64,
}

impl Drop for ForgetPing<'_> {
    fn drop(&mut self) {
        self.shared.inside().pings.remove(&self.nonce);
    }
}
