//! The session machine: states and legal transitions over the two halves of [`super::deliver`].

use std::collections::VecDeque;

use bytes::Bytes;
use core::time::Duration;

use super::deliver::{Arrival, ReceiveHalf, SendHalf};
use super::{VERSION_MAX, VERSION_MIN};
use crate::limits::{MESSAGE_BYTES_CEILING, MESSAGE_BYTES_MAX, SESSION_PENDING_MAX, SESSION_SUSPENDED_MAX};
use crate::time::{Deadline, Time};
use crate::wire::Invalid;
use crate::wire::link::{CloseCode, Frame};

/// How long an acknowledgement may wait for company.
const ACK_DELAY: Duration = Duration::from_millis(25);
/// How long a closing side waits for the other's `Closed`, counted from the last sign of progress: messages still arrive
/// there, or what the other said before it heard of the close still arrives here.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How long a closing side waits in all: a peer that trickles must not hold it for ever.
const CLOSE_WAIT_TOTAL: Duration = SESSION_SUSPENDED_MAX;
/// How long a suspended session with nothing left to deliver waits for a connection to say its `Close` on.
const CLOSE_WAIT_SUSPENDED: Duration = Duration::from_secs(2);

/// Which side of the session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens the session stream, and opens it again after a loss.
    Initiator,
    /// Answers.
    Responder,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection yet.
    Pending,
    /// Connected and authenticated as a paired device; versions are being agreed.
    Paired,
    /// Messages flow.
    Active,
    /// The connection was lost; waiting for another.
    Suspended,
    /// Over. Nothing leaves this state.
    Closed,
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// This side.
    Us,
    /// The other side.
    Peer,
    /// Nobody: time ran out.
    Timeout,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// Who ended it.
    pub by: Closer,
    /// Why.
    pub code: CloseCode,
    /// For people.
    pub text: String,
    /// The first message of ours that is not known to have arrived, if any.
    pub first_undelivered: Option<u64>,
}

/// What a session is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest message this side accepts, bytes; at most [`MESSAGE_BYTES_CEILING`].
    pub message_max: usize,
    /// How long to wait in `Pending` and `Paired` before giving up.
    pub pending_max: Duration,
    /// How long to stay `Suspended` before giving up.
    pub suspended_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            message_max: MESSAGE_BYTES_MAX,
            pending_max: SESSION_PENDING_MAX,
            suspended_max: SESSION_SUSPENDED_MAX,
        }
    }
}

/// What can happen to a session.
#[derive(Debug)]
pub enum Input {
    /// A session stream is open on an authenticated connection to the paired peer.
    CarrierUp,
    /// The stream or its connection is gone.
    CarrierLost,
    /// A frame arrived.
    Frame(Frame),
    /// The bytes of the stream are no frames.
    Malformed(Invalid),
    /// The application sends a message. Ask [`Session::can_send`] first: without room it is refused with an event.
    Send(Bytes),
    /// The application closes.
    Close {
        /// Why.
        code: CloseCode,
        /// For people.
        text: String,
    },
    /// The session ends here and now: the peer lost its right to it, or nobody is left to drive it.
    Abandon {
        /// Why.
        code: CloseCode,
        /// For people.
        text: String,
    },
    /// A deadline passed.
    Timeout,
}

/// What a session wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this frame on the session stream.
    Transmit(Frame),
    /// Give this message to the application.
    Deliver(Bytes),
    /// The state changed.
    Entered(State),
    /// The peer answered a ping.
    Pong {
        /// The ping's nonce.
        nonce: u64,
    },
    /// Messages were acknowledged: there may be room again.
    Acknowledged,
    /// A message was not accepted: no room, too large for the peer, or the session is closing.
    SendRefused,
    /// The session stream is no longer needed: close it.
    StopCarrier,
}

/// Counters of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages accepted from the application.
    pub messages_sent: u64,
    /// Payload bytes accepted from the application.
    pub bytes_sent: u64,
    /// Messages delivered to the application.
    pub messages_received: u64,
    /// Payload bytes delivered to the application.
    pub bytes_received: u64,
    /// Messages sent again after a resume.
    pub messages_resent: u64,
    /// Messages that arrived twice and were dropped.
    pub duplicates: u64,
    /// Times the session was taken up again.
    pub resumes: u64,
}

/// Our part and the peer's part in a close.
#[derive(Debug, Default)]
struct Closing {
    /// Our `Close`, once the application asked for it.
    ours: Option<(CloseCode, String)>,
    /// When it asked.
    since: Time,
    /// The peer's `Close`: one past its last message.
    peer: Option<(CloseCode, u64, String)>,
}

/// One session. See the [module](super) for its protocol and how to drive it.
#[derive(Debug)]
pub struct Session {
    role: Role,
    config: Config,
    state: State,
    /// The state's own deadline: pending, suspended or closing too long.
    state_deadline: Option<Deadline>,
    ack_at: Option<Time>,
    peer_message_max: u64,
    send: SendHalf,
    receive: ReceiveHalf,
    closing: Closing,
    closed: Option<CloseReason>,
    outputs: VecDeque<Output>,
    stats: Stats,
}

impl Session {
    /// A session in `Pending`.
    #[must_use]
    pub fn new(now: Time, role: Role, mut config: Config) -> Self {
        config.message_max = config.message_max.min(MESSAGE_BYTES_CEILING);
        let state_deadline = Some(Deadline { at: now + config.pending_max, why: "session still pending" });
        Self {
            role,
            config,
            state: State::Pending,
            state_deadline,
            ack_at: None,
            peer_message_max: u64::MAX,
            send: SendHalf::default(),
            receive: ReceiveHalf::default(),
            closing: Closing::default(),
            closed: None,
            outputs: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Where the session is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Counters so far.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    /// Why the session is over, once it is.
    #[must_use]
    pub const fn closed(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    /// Whether a message would be accepted now.
    #[must_use]
    pub fn can_send(&self) -> bool {
        self.closing.ours.is_none() && self.state != State::Closed && self.send.has_room()
    }

    /// Whether `close` was called or the peer said `Close`.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.state == State::Closed || self.closing.ours.is_some() || self.closing.peer.is_some()
    }

    /// Largest message the peer accepts, bytes; `u64::MAX` until it said so.
    #[must_use]
    pub const fn peer_message_max(&self) -> u64 {
        self.peer_message_max
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: Input) {
        if self.state == State::Closed {
            if matches!(input, Input::Send(_)) {
                self.outputs.push_back(Output::SendRefused);
            }
            return;
        }
        match input {
            Input::CarrierUp => self.carrier_up(now),
            Input::CarrierLost => self.carrier_lost(now),
            Input::Frame(frame) => self.frame(now, frame),
            Input::Malformed(Invalid::TooLarge { what: "message", size, max }) => {
                self.violation(CloseCode::TooLarge, format!("message of {size} bytes, the limit is {max}"));
            }
            Input::Malformed(invalid) => self.violation(CloseCode::ProtocolViolation, invalid.to_string()),
            Input::Send(payload) => self.accept_message(payload),
            Input::Close { code, text } => self.begin_close(now, code, text),
            Input::Abandon { code, text } => self.finish(Closer::Us, code, text),
            Input::Timeout => self.timeout(now),
        }
    }

    /// What to do next; drain to `None` after every [`Session::handle`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Timeout`], and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let ack = self.ack_at.map(|at| Deadline { at, why: "acknowledgement due" });
        Deadline::earliest(ack, self.state_deadline)
    }

    fn carrier_up(&mut self, now: Time) {
        // A responder may see the new stream before it notices that the old one is dead: the new one wins.
        if self.state == State::Active {
            self.carrier_lost(now);
        }
        if self.state != State::Suspended {
            self.enter(State::Paired);
        }
        if self.role == Role::Initiator {
            self.transmit(Frame::Hello {
                version_min: VERSION_MIN,
                version_max: VERSION_MAX,
                message_max: self.config.message_max as u64,
                next: self.receive.next(),
            });
        }
    }

    fn carrier_lost(&mut self, now: Time) {
        self.ack_at = None;
        match self.state {
            State::Active => {
                self.enter(State::Suspended);
                self.state_deadline =
                    Some(Deadline { at: now + self.config.suspended_max, why: "session still suspended" });
            }
            State::Paired => self.enter(State::Pending),
            State::Pending | State::Suspended | State::Closed => {}
        }
    }

    fn frame(&mut self, now: Time, frame: Frame) {
        match frame {
            Frame::Hello { version_min, version_max, message_max, next } => {
                self.hello(now, version_min, version_max, message_max, next);
            }
            Frame::Welcome { version, message_max, next } => self.welcome(now, version, message_max, next),
            Frame::Refuse { code, reason } => self.refused(code, reason),
            Frame::Close { code, reason, .. } if is_abort(code) => self.finish(Closer::Peer, code, reason),
            Frame::Message { seq, payload } if self.state == State::Active => {
                self.message(now, seq, payload);
            }
            Frame::Ack { next } if self.state == State::Active => self.ack(now, next),
            Frame::Close { code, next, reason } if self.state == State::Active => {
                self.peer_close(code, next, reason);
            }
            Frame::Closed if self.state == State::Active && self.closing.ours.is_some() => {
                let sent = self.send.next_seq();
                self.ack(now, sent);
                self.finish_closing(Closer::Us);
            }
            Frame::Ping { nonce } if self.state == State::Active => self.transmit(Frame::Pong { nonce }),
            Frame::Pong { nonce } if self.state == State::Active => {
                self.outputs.push_back(Output::Pong { nonce });
            }
            Frame::Message { .. }
            | Frame::Ack { .. }
            | Frame::Close { .. }
            | Frame::Closed
            | Frame::Ping { .. }
            | Frame::Pong { .. } => {
                self.violation(CloseCode::ProtocolViolation, "a frame that this state does not allow".into());
            }
        }
    }

    fn refused(&mut self, code: CloseCode, reason: String) {
        if self.state == State::Active {
            self.violation(CloseCode::ProtocolViolation, "refuse after welcome".into());
        } else if code == CloseCode::UnknownSession && self.closing.ours.is_some() && self.send.is_empty() {
            // The peer answered our close and forgot the session; only the answer was lost.
            self.finish_closing(Closer::Us);
        } else {
            self.finish(Closer::Peer, code, reason);
        }
    }

    fn hello(&mut self, now: Time, version_min: u8, version_max: u8, message_max: u64, next: u64) {
        let awaited = matches!(self.state, State::Paired | State::Suspended);
        if self.role != Role::Responder || !awaited {
            self.violation(CloseCode::ProtocolViolation, "hello from the wrong side or twice".into());
            return;
        }
        let version = version_max.min(VERSION_MAX);
        if version < VERSION_MIN.max(version_min) {
            let reason = format!("this side speaks session versions {VERSION_MIN} to {VERSION_MAX}");
            self.transmit(Frame::Refuse { code: CloseCode::Version, reason: reason.clone() });
            self.finish(Closer::Us, CloseCode::Version, reason);
            return;
        }
        // Welcome goes first, then what the peer has not seen: it must know the session is agreed.
        self.transmit(Frame::Welcome {
            version,
            message_max: self.config.message_max as u64,
            next: self.receive.next(),
        });
        self.activate(now, message_max, next);
    }

    fn welcome(&mut self, now: Time, version: u8, message_max: u64, next: u64) {
        let awaited = matches!(self.state, State::Paired | State::Suspended);
        if self.role != Role::Initiator || !awaited || !(VERSION_MIN..=VERSION_MAX).contains(&version) {
            self.violation(CloseCode::ProtocolViolation, "unexpected welcome".into());
            return;
        }
        self.activate(now, message_max, next);
    }

    fn activate(&mut self, now: Time, message_max: u64, next: u64) {
        if next < self.send.first_unacked() || self.send.acknowledge(next).is_none() {
            // It forgot what it acknowledged, or claims what was never sent: going on would lose or double messages.
            self.violation(CloseCode::ProtocolViolation, "resume at an impossible sequence number".into());
            return;
        }
        self.peer_message_max = message_max;
        let resumed = self.state == State::Suspended;
        self.stats.resumes += u64::from(resumed);
        self.receive.take_ack();
        self.state_deadline = None;
        self.enter(State::Active);
        let again: Vec<_> = self.send.pending().collect();
        if resumed {
            self.stats.messages_resent += again.len() as u64;
        }
        for (seq, payload) in again {
            self.transmit(Frame::Message { seq, payload });
        }
        self.outputs.push_back(Output::Acknowledged);
        if let Some((code, text)) = self.closing.ours.clone() {
            self.say_close(now, code, text);
        }
    }

    fn message(&mut self, now: Time, seq: u64, payload: Bytes) {
        if self.closing.peer.is_some() {
            self.violation(CloseCode::ProtocolViolation, "a message after close".into());
            return;
        }
        match self.receive.arrive(seq, payload.len()) {
            Arrival::InOrder => {
                self.stats.messages_received += 1;
                self.stats.bytes_received += payload.len() as u64;
                self.outputs.push_back(Output::Deliver(payload));
                if self.closing.ours.is_some() {
                    // The peer's answer waits behind what it said before, and that still moves.
                    self.await_closed(now);
                }
                if self.receive.ack_is_urgent() {
                    self.acknowledge();
                } else if self.ack_at.is_none() {
                    self.ack_at = Some(now + ACK_DELAY);
                }
            }
            Arrival::Duplicate => self.stats.duplicates += 1,
            Arrival::Gap => {
                self.violation(CloseCode::ProtocolViolation, "a message out of order".into());
            }
        }
    }

    fn acknowledge(&mut self) {
        self.ack_at = None;
        if self.receive.owes_ack() {
            let next = self.receive.take_ack();
            self.transmit(Frame::Ack { next });
        }
    }

    fn ack(&mut self, now: Time, next: u64) {
        match self.send.acknowledge(next) {
            Some(0) => {}
            Some(_) => {
                self.outputs.push_back(Output::Acknowledged);
                if self.closing.ours.is_some() {
                    // The peer is slow, not silent: what it still takes is worth waiting for.
                    self.await_closed(now);
                }
            }
            None => self.violation(CloseCode::ProtocolViolation, "an ack for what was never sent".into()),
        }
    }

    fn accept_message(&mut self, payload: Bytes) {
        if !self.can_send() || payload.len() as u64 > self.peer_message_max {
            self.outputs.push_back(Output::SendRefused);
            return;
        }
        self.stats.messages_sent += 1;
        self.stats.bytes_sent += payload.len() as u64;
        let seq = self.send.push(payload.clone());
        if self.state == State::Active {
            self.transmit(Frame::Message { seq, payload });
        }
    }

    fn begin_close(&mut self, now: Time, code: CloseCode, text: String) {
        if self.closing.ours.is_some() {
            return;
        }
        self.closing.ours = Some((code, text.clone()));
        self.closing.since = now;
        match self.state {
            State::Active => {
                self.acknowledge();
                self.say_close(now, code, text);
            }
            // With undelivered messages the state's own deadline decides.
            _ if !self.send.is_empty() => {}
            // The peer would wait for us as long as a suspension lasts: give it a moment to hear of the close.
            State::Suspended => {
                let goodbye = Deadline { at: now + CLOSE_WAIT_SUSPENDED, why: "close while suspended" };
                self.state_deadline = Deadline::earliest(self.state_deadline, Some(goodbye));
            }
            State::Paired if self.role == Role::Initiator => {
                // Our hello is on its way, so the peer may be active by now.
                self.transmit(Frame::Close { code, next: self.send.next_seq(), reason: text });
                self.finish_closing(Closer::Us);
            }
            State::Pending | State::Paired | State::Closed => self.finish_closing(Closer::Us),
        }
    }

    fn say_close(&mut self, now: Time, code: CloseCode, reason: String) {
        self.transmit(Frame::Close { code, next: self.send.next_seq(), reason });
        self.await_closed(now);
    }

    fn await_closed(&mut self, now: Time) {
        let at = (now + CLOSE_WAIT).min(self.closing.since + CLOSE_WAIT_TOTAL);
        self.state_deadline = Some(Deadline { at, why: "the other side did not answer the close in time" });
    }

    fn peer_close(&mut self, code: CloseCode, next: u64, reason: String) {
        if self.receive.next() != next {
            self.violation(CloseCode::ProtocolViolation, "a close that skips messages".into());
            return;
        }
        self.acknowledge();
        self.transmit(Frame::Closed);
        self.closing.peer = Some((code, next, reason));
        // When both close at once, each still waits to hear that its own messages arrived.
        if self.closing.ours.is_none() {
            self.finish_closing(Closer::Peer);
        }
    }

    /// Ends the session with whatever close is known.
    fn finish_closing(&mut self, by: Closer) {
        let (code, text) = match (by, self.closing.peer.take(), self.closing.ours.clone()) {
            (Closer::Peer, Some((code, _, text)), _) => (code, text),
            (_, _, Some(ours)) => ours,
            (_, Some((code, _, text)), None) => (code, text),
            (_, None, None) => (CloseCode::Normal, String::new()),
        };
        self.finish(by, code, text);
    }

    fn violation(&mut self, code: CloseCode, text: String) {
        self.transmit(Frame::Close { code, next: self.send.next_seq(), reason: text.clone() });
        self.finish(Closer::Us, code, text);
    }

    fn timeout(&mut self, now: Time) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.acknowledge();
        }
        let Some(deadline) = self.state_deadline.filter(|d| d.at <= now) else {
            return;
        };
        match self.state {
            State::Active if self.send.is_empty() => self.finish_closing(Closer::Us),
            State::Suspended if self.closing.ours.is_some() && self.send.is_empty() => {
                self.finish_closing(Closer::Us);
            }
            State::Pending | State::Paired | State::Active | State::Suspended => {
                self.finish(Closer::Timeout, CloseCode::Normal, deadline.why.to_owned());
            }
            State::Closed => {}
        }
    }

    fn finish(&mut self, by: Closer, code: CloseCode, text: String) {
        let first_undelivered = (!self.send.is_empty()).then(|| self.send.first_unacked());
        self.closed = Some(CloseReason { by, code, text, first_undelivered });
        self.state_deadline = None;
        self.ack_at = None;
        self.outputs.push_back(Output::StopCarrier);
        self.enter(State::Closed);
    }

    fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.outputs.push_back(Output::Entered(state));
        }
    }

    fn transmit(&mut self, frame: Frame) {
        self.outputs.push_back(Output::Transmit(frame));
    }
}

/// Codes that give a session up in whatever state it is, rather than end it in order.
const fn is_abort(code: CloseCode) -> bool {
    matches!(code, CloseCode::ProtocolViolation | CloseCode::TooLarge)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
