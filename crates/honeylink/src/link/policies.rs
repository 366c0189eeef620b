//! Policies on a link: each change is one stream of kind `policy`, on which the side that changes says what it steers by
//! and the other answers. The rules are the core's ([`honeylink_core::qos::policy`]); this keeps its deadline and tells
//! the connection's gate.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use honeylink_core::limits::POLICY_ACK_MAX;
use honeylink_core::qos::StreamOptions;
use honeylink_core::qos::policy::{
    Policies, Policy, PolicyFrame, PolicyInput, PolicyOutput, PolicyRejected, TakenBack,
};
use honeylink_core::wire::link::{Class, StreamHeader, StreamKind};
use tokio::io::AsyncReadExt as _;

use super::beside::until_closed;
use super::shared::LinkShared;
use super::{ApplyError, QosEvent};
use crate::carrier::{Conn, RecvStream, SendStream};

/// Frames read from one stream of a peer, and how long the stream may stay open: enough for a change and its way back.
const FRAMES_PER_STREAM_MAX: usize = 8;
const STREAM_OPEN_MAX: Duration = Duration::from_secs(2 * POLICY_ACK_MAX.as_secs());

/// What a link's two sides steer by.
#[derive(Debug, Default)]
pub(super) struct PolicyDesk {
    machine: Mutex<Policies>,
    /// Changes take turns: one is under way at a time, and who asks for the next one need not try again.
    turn: tokio::sync::Mutex<()>,
    /// The name of the policy that all of the link follows.
    followed: Mutex<Option<String>>,
}

impl PolicyDesk {
    pub(super) fn machine(&self) -> MutexGuard<'_, Policies> {
        // Every step leaves the machine whole.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followed(&self) -> MutexGuard<'_, Option<String>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of one step of the machine.
#[derive(Debug, Default)]
struct Step {
    transmit: Vec<PolicyFrame>,
    agreed: bool,
    rejected: Option<PolicyRejected>,
    rolled_back: Option<(String, String)>,
}

impl LinkShared {
    pub(super) fn policy(&self, name: &str) -> Option<Policy> {
        self.policies.machine().policy(name).cloned()
    }

    pub(super) fn peers_policy(&self, name: &str) -> Option<Policy> {
        self.policies.machine().peers_policy(name).cloned()
    }

    pub(crate) fn followed_policy(&self) -> Option<Policy> {
        // Copied out: never both locks at once.
        let name = self.policies.followed().clone()?;
        self.policy(&name)
    }

    pub(crate) fn taken_back(&self) -> Option<TakenBack> {
        self.policies.machine().taken_back().cloned()
    }

    /// Agrees on a policy and lets all of the link follow it.
    pub(crate) async fn follow_policy(&self, policy: Policy) -> Result<(), ApplyError> {
        let Policy { name, options, .. } = policy.clone();
        self.apply_policy(policy).await?;
        // Noted first: a connection that comes up in between looks here.
        *self.policies.followed() = Some(name.clone());
        if let Some(conn) = self.conn() {
            conn.gate().steer(self.id(), &name, options);
        }
        Ok(())
    }

    pub(super) async fn apply_policy(&self, policy: Policy) -> Result<(), ApplyError> {
        let _turn = self.policies.turn.lock().await;
        let conn = self.active_conn().await?;
        let proposed = self.step(&conn, PolicyInput::Propose(policy));
        if let Some(rejected) = proposed.rejected {
            return Err(rejected.into());
        }
        // If this future is dropped half-way the change is taken back too.
        let mut pending = Pending { shared: self, conn: &conn, done: false };
        let mut lines = None;
        let exchange = async {
            let (send, recv) = lines.insert(self.open_policy_stream(&conn).await?);
            for frame in &proposed.transmit {
                write_frame(send, frame).await?;
            }
            // Whoever answers something else that often will not answer this.
            for _ in 0..FRAMES_PER_STREAM_MAX {
                let answer = read_frame(recv).await?;
                let step = self.step(&conn, PolicyInput::Frame(answer));
                if step.agreed || step.rolled_back.is_some() {
                    return Ok(step);
                }
            }
            std::io::Result::Err(std::io::ErrorKind::InvalidData.into())
        };
        let deadline = tokio::time::Instant::now() + POLICY_ACK_MAX;
        let ended = tokio::time::timeout_at(deadline, exchange).await;
        let step = match ended {
            Ok(Ok(step)) => step,
            // Nobody acknowledged, by the deadline or because the stream is dead. One that ends with its link ends a moment
            // before the link's own words arrive, and those say more.
            Ok(Err(_)) => {
                let mut state = self.watch_state();
                let _ = tokio::time::timeout_at(deadline, until_closed(&mut state)).await;
                self.give_up(&conn)
            }
            Err(_) => {
                let late = self.step(&conn, PolicyInput::Timeout);
                if late.rolled_back.is_some() { late } else { self.give_up(&conn) }
            }
        };
        pending.done = true;
        if let Some((mut send, _recv)) = lines {
            for frame in &step.transmit {
                // The peer may be the reason why; it is told if it listens.
                let _ = tokio::time::timeout(Duration::from_secs(1), write_frame(&mut send, frame)).await;
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), send.finish()).await;
        }
        match step.rolled_back {
            Some(_) if self.is_over() => Err(self.why_closed().into()),
            Some((name, why)) => Err(ApplyError::RolledBack { name, why }),
            None => Ok(()),
        }
    }

    /// Takes back the change that nobody acknowledged.
    fn give_up(&self, conn: &Conn) -> Step {
        self.step(conn, PolicyInput::GiveUp)
    }

    async fn open_policy_stream(&self, conn: &Conn) -> std::io::Result<(SendStream, RecvStream)> {
        let (send, recv) = conn.open().await.map_err(std::io::Error::other)?;
        let mut send = send.gated(conn.gate(), Class::Interactive.into());
        let header = StreamHeader {
            kind: StreamKind::Policy,
            session: self.id(),
            priority: Class::Interactive.into(),
            protocol: self.protocol().to_owned(),
        };
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        send.write_chunk(bytes.freeze()).await?;
        Ok((send, recv))
    }

    /// Answers what the peer says about its policies, within limits.
    pub(crate) async fn serve_policies(&self, conn: &Conn, send: &mut SendStream, recv: &mut RecvStream) {
        let answering = async {
            for _ in 0..FRAMES_PER_STREAM_MAX {
                let frame = read_frame(recv).await?;
                // Answers belong on the stream of the change; here they would be to nobody's question.
                if !matches!(frame, PolicyFrame::Apply { .. }) {
                    return Ok(());
                }
                for answer in self.step(conn, PolicyInput::Frame(frame)).transmit {
                    write_frame(send, &answer).await?;
                }
            }
            std::io::Result::Ok(())
        };
        // The end of the stream and a peer that says nothing more are both the end of the change.
        let _ = tokio::time::timeout(STREAM_OPEN_MAX, answering).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), send.finish()).await;
    }

    /// Gives the machine one input and acts on its outputs.
    fn step(&self, conn: &Conn, input: PolicyInput) -> Step {
        let mut machine = self.policies.machine();
        machine.handle(self.now(), input);
        let mut step = Step::default();
        while let Some(output) = machine.poll_output() {
            match output {
                PolicyOutput::Transmit(frame) => step.transmit.push(frame),
                PolicyOutput::Use(policy) => {
                    conn.gate().retune_named(self.id(), &policy.name, policy.options);
                }
                PolicyOutput::Drop { name } => {
                    conn.gate().retune_named(self.id(), &name, StreamOptions::default());
                }
                PolicyOutput::Agreed { .. } => step.agreed = true,
                PolicyOutput::RolledBack { name, why } => step.rolled_back = Some((name, why)),
                PolicyOutput::Rejected(rejected) => step.rejected = Some(rejected),
                PolicyOutput::PeerUses(policy) => conn.gate().tell(QosEvent::PeerPolicy { policy }),
            }
        }
        step
    }
}

/// A change under way; taken back if whoever asked for it stops waiting.
struct Pending<'a> {
    shared: &'a LinkShared,
    conn: &'a Conn,
    done: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.shared.give_up(self.conn);
        }
    }
}

async fn write_frame(send: &mut SendStream, frame: &PolicyFrame) -> std::io::Result<()> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    send.write_chunk(bytes.freeze()).await
}

async fn read_frame(recv: &mut RecvStream) -> std::io::Result<PolicyFrame> {
    let mut field = [0; PolicyFrame::LENGTH_BYTES];
    recv.read_exact(&mut field).await?;
    let len = PolicyFrame::body_len(field).map_err(std::io::Error::other)?;
    let mut body = vec![0; len];
    recv.read_exact(&mut body).await?;
    PolicyFrame::decode(&body).map_err(std::io::Error::other)
}
