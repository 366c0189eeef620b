//! What the application's handle, the driver and the node share of one link: the session machine behind a lock, its
//! queues, and the signals between them.
//!
//! Queues and their limits: unacknowledged messages (in the session, `SESSION_WINDOW_*`), bytes to write (`outgoing`,
//! bounded by that window because every message in it is unacknowledged), received messages (`inbox`,
//! `RECEIVE_QUEUE_*`: the driver stops reading beyond them, and QUIC's flow control stops the peer), streams waiting for
//! `accept_stream` (`STREAM_QUEUE_MAX`), flows of datagrams (`DATAGRAM_FLOWS_MAX`) and datagrams (`DATAGRAM_QUEUE_MAX`).
//!
//! The ways out and in ([`Outlet`], [`Inlet`]) have locks of their own, held while the carrier is called and taken before
//! [`Inside`], which never is.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::{
    DATAGRAM_FLOWS_MAX, DATAGRAM_QUEUE_MAX, MESSAGE_BYTES_CEILING, RECEIVE_QUEUE_BYTES_MAX,
    RECEIVE_QUEUE_MESSAGES_MAX, SESSION_WINDOW_BYTES_MAX, SESSION_WINDOW_MESSAGES_MAX, STREAM_QUEUE_MAX,
};
use honeylink_core::session::{Config, Input, Output, Role, Session, State};
use honeylink_core::time::{Deadline, Time};
use honeylink_core::wire::link::{CloseCode, Frame, FrameDecoder, SessionId, encode_message};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, oneshot, watch};

use super::datagrams::DatagramReceiver;
use super::inlet::{Found, Inlet};
use super::outlet::{Next, Outlet};
use super::policies::PolicyDesk;
use super::{CloseError, LinkClosed, LinkStats, PingError, SendError, Stream};
use crate::carrier::gate::Owner;
use crate::carrier::{Conn, RecvStream, SendStream};
use crate::clock::Clock;

/// Beyond this much unsent, the driver stops reading: a peer that floods pings and never reads must not grow it.
const OUTGOING_BYTES_MAX: usize = SESSION_WINDOW_BYTES_MAX + (1 << 20);

/// How close together a sender may write to the carrier itself. A message on its own leaves at once, from the task that
/// sent it: a hop to the driver's task costs a wake-up on each side of a round trip. Messages that follow faster than
/// this are a flood, and the driver writes them in batches.
const WRITE_THROUGH_GAP: Duration = Duration::from_micros(25);

/// Whom the outputs of a step concern. They are woken when the lock is free again, or they would only wait for it.
#[derive(Clone, Copy, Debug, Default)]
struct Concerned {
    writer: bool,
    recv: bool,
    send: bool,
}

/// As `RECEIVE_QUEUE_BYTES_MAX`, once this side closes: the application may take nothing more, and the peer's answer to the
/// close waits behind everything it sent before.
const CLOSING_QUEUE_BYTES_MAX: usize =
    RECEIVE_QUEUE_BYTES_MAX + SESSION_WINDOW_BYTES_MAX + MESSAGE_BYTES_CEILING;
/// As [`CLOSING_QUEUE_BYTES_MAX`], in messages.
const CLOSING_QUEUE_MESSAGES_MAX: usize = RECEIVE_QUEUE_MESSAGES_MAX + SESSION_WINDOW_MESSAGES_MAX;

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
    /// When a sender last wrote to the carrier itself.
    wrote_through: Time,
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
    outlet: Outlet,
    pub(super) inlet: Inlet,
    pub(super) state: watch::Sender<State>,
    /// There is something to write, to stop, or another deadline.
    pub(super) wake_writer: Notify,
    /// The inbox has room again.
    pub(super) wake_reader: Notify,
    /// The path that the session stream used is gone.
    pub(super) renewal: Notify,
    wake_recv: Notify,
    wake_send: Notify,
    pub(super) streams_in: mpsc::Sender<Stream>,
    pub(super) streams_out: AsyncMutex<mpsc::Receiver<Stream>>,
    pub(super) datagrams_in: mpsc::Sender<Bytes>,
    pub(super) datagrams_out: AsyncMutex<mpsc::Receiver<Bytes>>,
    pub(super) datagrams_dropped: AtomicU64,
    pub(super) flows_in: mpsc::Sender<DatagramReceiver>,
    pub(super) flows_out: AsyncMutex<mpsc::Receiver<DatagramReceiver>>,
    pub(super) policies: PolicyDesk,
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
        let (streams_in, streams_out) = mpsc::channel(STREAM_QUEUE_MAX);
        let (datagrams_in, datagrams_out) = mpsc::channel(DATAGRAM_QUEUE_MAX);
        let (flows_in, flows_out) = mpsc::channel(DATAGRAM_FLOWS_MAX);
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
                wrote_through: now,
                last_failure: None,
            }),
            outlet: Outlet::default(),
            inlet: Inlet::new(),
            state: watch::Sender::new(State::Pending),
            wake_writer: Notify::new(),
            wake_reader: Notify::new(),
            renewal: Notify::new(),
            wake_recv: Notify::new(),
            wake_send: Notify::new(),
            streams_in,
            streams_out: AsyncMutex::new(streams_out),
            datagrams_in,
            datagrams_out: AsyncMutex::new(datagrams_out),
            datagrams_dropped: AtomicU64::new(0),
            flows_in,
            flows_out: AsyncMutex::new(flows_out),
            policies: PolicyDesk::default(),
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

    pub(super) fn now(&self) -> Time {
        self.clock.now()
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
        let concerned = self.settle(&mut inside);
        drop(inside);
        self.wake(concerned);
    }

    /// Moves the session's outputs to where they belong, and says whom they concern.
    fn settle(&self, inside: &mut Inside) -> Concerned {
        let mut concerned = Concerned::default();
        while let Some(output) = inside.session.poll_output() {
            match output {
                Output::Transmit(Frame::Message { seq, payload }) if inside.attached => {
                    encode_message(&mut inside.outgoing, seq, &payload);
                    concerned.writer = true;
                }
                Output::Transmit(frame) if inside.attached => {
                    frame.encode(&mut inside.outgoing);
                    concerned.writer = true;
                }
                // A session transmits only after `CarrierUp`; what it says while its stream dies is said again later.
                Output::Transmit(_) | Output::SendRefused => {}
                Output::Deliver(payload) => {
                    inside.inbox_bytes += payload.len();
                    inside.inbox.push_back(payload);
                    concerned.recv = true;
                }
                Output::Entered(state) => {
                    self.state.send_replace(state);
                    if state == State::Closed {
                        inside.pings.clear();
                        (concerned.recv, concerned.send) = (true, true);
                    }
                    concerned.writer = true;
                }
                Output::Pong { nonce } => {
                    if let Some(waiting) = inside.pings.remove(&nonce) {
                        // The ping may have given up; then nobody is left to tell.
                        let _ = waiting.send(());
                    }
                }
                Output::Acknowledged => concerned.send = true,
                Output::StopCarrier => {
                    inside.stopping = true;
                    concerned.writer = true;
                }
            }
        }
        let due = inside.session.poll_timeout().map_or(Time::MAX, |d| d.at);
        if concerned.writer || due < inside.armed {
            inside.armed = due;
            concerned.writer = true;
        }
        concerned
    }

    fn wake(&self, concerned: Concerned) {
        if concerned.writer {
            self.wake_writer.notify_one();
        }
        if concerned.recv {
            self.wake_recv.notify_waiters();
        }
        if concerned.send {
            self.wake_send.notify_waiters();
        }
    }

    /// A session stream is there: the session may transmit.
    pub(super) fn attach(&self, conn: Conn, send: SendStream, recv: RecvStream) {
        let followed = self.followed_policy();
        let name = followed.as_ref().map(|policy| policy.name.clone());
        send.belongs(Owner { messages: true, ..self.owner(name) });
        if let Some(policy) = followed {
            // Options of a policy were checked with it.
            let _ = send.retune(policy.options);
        }
        self.outlet.open(send);
        let mut inside = self.inside();
        inside.outgoing.clear();
        inside.attached = true;
        inside.conn = Some(conn);
        drop(inside);
        self.apply(Input::CarrierUp);
        // Last: an application that waits in `recv` reads from here on, and the session must not hear of a stream before it
        // knows that there is one.
        self.inlet.open(recv, self.message_max);
    }

    /// The session stream is gone.
    pub(super) fn detach(&self) {
        drop(self.outlet.take());
        self.inlet.close();
        let mut inside = self.inside();
        inside.attached = false;
        inside.outgoing.clear();
        inside.conn = None;
        drop(inside);
        self.apply(Input::CarrierLost);
    }

    /// The path that the session stream used is gone: the initiator goes on by another stream, and both sides say again
    /// what was not acknowledged.
    pub(crate) fn renew(&self) {
        self.renewal.notify_waiters();
    }

    /// Takes the sending half away from senders, to end it.
    pub(super) fn take_outlet(&self) -> Option<SendStream> {
        self.outlet.take()
    }

    /// Bytes that the carrier took of the session stream so far.
    pub(super) fn written(&self) -> u64 {
        self.outlet.written()
    }

    /// Writes everything there is to write. Ready with whether the session wants the stream to end after it.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        self.outlet.poll_write(cx, || self.next_outgoing())
    }

    fn next_outgoing(&self) -> Next {
        let mut inside = self.inside();
        let next = Next { bytes: inside.outgoing.split().freeze(), last: inside.stopping };
        drop(inside);
        if next.bytes.len() >= OUTGOING_BYTES_MAX {
            self.wake_reader.notify_one();
        }
        next
    }

    /// Reads what the carrier has now, in the driver's task.
    pub(super) fn read_next(&self) -> Found {
        self.inlet.read_next(|decoder| self.take_frames(decoder))
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
        // Behind what the peer had sent before it heard of our close comes its answer; what that can be is one window.
        let (bytes, messages) = if inside.session.is_closing() {
            (CLOSING_QUEUE_BYTES_MAX, CLOSING_QUEUE_MESSAGES_MAX)
        } else {
            (RECEIVE_QUEUE_BYTES_MAX, RECEIVE_QUEUE_MESSAGES_MAX)
        };
        inside.inbox_bytes < bytes
            && inside.inbox.len() < messages
            && inside.outgoing.len() < OUTGOING_BYTES_MAX
    }

    /// Gives every whole frame in the decoder to the session.
    fn take_frames(&self, decoder: &mut FrameDecoder) {
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
        let concerned = self.settle(&mut inside);
        drop(inside);
        self.wake(concerned);
    }

    pub(super) async fn send(&self, message: Bytes) -> Result<(), SendError> {
        // Nearly always there is room, and registering for news of it costs more than looking.
        match self.try_send(&message) {
            Err(SendError::Full) => {}
            done => return done,
        }
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
        let now = self.clock.now();
        inside.session.handle(now, Input::Send(message.clone()));
        let mut concerned = self.settle(&mut inside);
        let alone = now >= inside.wrote_through + WRITE_THROUGH_GAP;
        if concerned.writer && inside.attached && alone {
            inside.wrote_through = now;
            drop(inside);
            concerned.writer = !self.outlet.try_write(|| self.next_outgoing());
        } else {
            drop(inside);
        }
        self.wake(concerned);
        Ok(())
    }

    pub(super) async fn recv(&self) -> Result<Bytes, LinkClosed> {
        let lease = self.inlet.lease();
        let mut news = pin!(None);
        poll_fn(|cx| {
            loop {
                // Not on the list while reading here: the messages read would wake this task for itself.
                news.set(None);
                if let Some(done) = self.try_recv().transpose() {
                    return Poll::Ready(done);
                }
                lease.renew(cx.waker());
                if self.may_read() {
                    match self.inlet.try_read(|decoder| self.take_frames(decoder)) {
                        Some(Found::Bytes) => continue,
                        // What to do about it is the driver's to decide.
                        Some(Found::End) => self.inlet.call_driver(),
                        Some(Found::Nothing) | None => {}
                    }
                }
                news.set(Some(self.wake_recv.notified()));
                let told = news.as_mut().as_pin_mut().is_some_and(|news| news.poll(cx).is_ready());
                if told {
                    continue;
                }
                // Once more after getting on the list, or a message between the two would be missed.
                return self.try_recv().transpose().map_or(Poll::Pending, Poll::Ready);
            }
        })
        .await
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

    pub(crate) fn why_closed(&self) -> LinkClosed {
        self.inside().session.closed().map_or_else(closing, |reason| LinkClosed(reason.clone()))
    }

    pub(super) async fn ping(&self, timeout: Duration) -> Result<Duration, PingError> {
        let started = tokio::time::Instant::now();
        let measured = async {
            let nonce = self.next_ping.fetch_add(1, Ordering::Relaxed);
            let _forget = ForgetPing { shared: self, nonce };
            let mut sent = None;
            loop {
                self.active_conn().await?;
                let mut state = self.watch_state();
                let Some(answered) = self.begin_ping(nonce) else { continue };
                let sent = *sent.get_or_insert_with(tokio::time::Instant::now);
                self.wake_writer.notify_one();
                tokio::select! {
                    biased;
                    answered = answered => {
                        return answered.map(|()| sent.elapsed()).map_err(|_| PingError::Closed(self.why_closed()));
                    }
                    // Pings are not kept for a new connection, as messages are: this one goes out again there.
                    _ = state.changed() => {}
                }
            }
        };
        let left = timeout.saturating_sub(started.elapsed());
        tokio::time::timeout(left, measured).await.unwrap_or(Err(PingError::Timeout(timeout)))
    }

    /// Queues a ping; `None` if the session is not active any more: then the peer would take it for a violation.
    fn begin_ping(&self, nonce: u64) -> Option<oneshot::Receiver<()>> {
        let mut inside = self.inside();
        if !inside.attached || inside.session.state() != State::Active {
            return None;
        }
        let (sender, answered) = oneshot::channel();
        inside.pings.insert(nonce, sender);
        Frame::Ping { nonce }.encode(&mut inside.outgoing);
        Some(answered)
    }

    pub(crate) fn stats(&self) -> LinkStats {
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

    /// Says that the application is done; the driver does the rest.
    pub(crate) fn begin_close(&self, code: CloseCode, reason: &str) {
        self.apply(Input::Close { code, text: reason.to_owned() });
        // A reader that waits for room has more of it now.
        self.wake_reader.notify_one();
    }

    /// Ends the link at once, without asking the peer.
    pub(crate) fn abandon(&self, code: CloseCode, reason: &str) {
        self.apply(Input::Abandon { code, text: reason.to_owned() });
    }

    pub(crate) async fn close(&self, code: CloseCode, reason: &str) -> Result<(), CloseError> {
        self.begin_close(code, reason);
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
