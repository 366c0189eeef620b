//! Calling back: a paired device tries whether this one can be reached from outside, and this one does the same for others.
//! The bytes and the reasons are in [`honeylink_core::wire::callback`].
//!
//! What is sent for others goes to no address that somebody said, only to those at which the asker is seen on the very
//! connection it asks on: QUIC has made sure that it is there. Three packets to each, and who asks again too soon gets none.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::CALLED_ADDRESSES_MAX;
use honeylink_core::wire::callback::{Ask, Desk, Told, call, is_answer};
pub use honeylink_core::wire::callback::{Called, Outcome, Refusal};
use honeylink_core::wire::link::{Class, SessionId, StreamHeader, StreamKind};
use tokio::io::AsyncReadExt as _;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::{Carriers, Inner, Node};
use crate::carrier::{Conn, RecvStream, SendStream};
use crate::clock::unix_ms;

/// The conversation's name in stream headers.
const PROTOCOL: &str = "honeylink/call-back/1";
/// Packets sent to an address before it counts as silent.
const CALLS: usize = 3;
/// Pause after each; an answer that takes longer than all of them together is none.
const CALL_EVERY: Duration = Duration::from_millis(400);
/// The request must be there within this time.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// And what came of it within this.
const TOLD_TIMEOUT: Duration = Duration::from_secs(8);

/// What this node did for those who asked to be called back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallBackCounts {
    /// Requests that were served.
    pub served: u64,
    /// Those that came too soon, or that this node does not serve.
    pub refused: u64,
    /// Those that were no requests.
    pub malformed: u64,
    /// Packets sent.
    pub packets: u64,
}

/// What a device told that was asked to call back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalledBack {
    /// Why it did not call, if it did not.
    pub refusal: Option<Refusal>,
    /// By how much its clock is ahead of this one's, milliseconds; behind if negative. Good to about half a round trip.
    pub clock_ahead_ms: i64,
    /// Where it sees this device, and whether it got through there; empty if it sees it through a relay only.
    pub called: Vec<Called>,
}

/// Why a device told nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallBackError {
    /// There is no connection to it.
    #[error("there is no connection to {}", .0.short())]
    NotConnected(DeviceId),
    /// It said nothing that could be understood.
    #[error("it did not answer: {0}; an older version cannot call back")]
    NoAnswer(String),
}

#[derive(Debug, Default)]
pub(super) struct CallBackDesk(Mutex<(Desk, CallBackCounts)>);

impl CallBackDesk {
    fn state(&self) -> MutexGuard<'_, (Desk, CallBackCounts)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Asks a connected device to call this one back, and what time it is there.
    ///
    /// # Errors
    /// [`CallBackError`] if it is not connected or does not know how.
    pub async fn call_back(&self, peer: &DeviceId) -> Result<CalledBack, CallBackError> {
        let conn = self.inner.pool.current(peer).ok_or(CallBackError::NotConnected(*peer))?;
        let no_answer = |why: String| CallBackError::NoAnswer(why);
        match tokio::time::timeout(TOLD_TIMEOUT, self.inner.ask_to_call_back(&conn)).await {
            Ok(told) => told.map_err(|error| no_answer(error.to_string())),
            Err(_) => Err(no_answer("the time is over".into())),
        }
    }

    /// What this node did for those who asked it to call back.
    #[must_use]
    pub fn call_back_counts(&self) -> CallBackCounts {
        self.inner.call_backs.state().1
    }
}

impl Inner {
    async fn ask_to_call_back(&self, conn: &Conn) -> std::io::Result<CalledBack> {
        let (mut send, recv) = conn.open().await.map_err(std::io::Error::other)?;
        let header = StreamHeader {
            kind: StreamKind::CallBack,
            session: SessionId([0; 16]),
            priority: Class::Interactive.into(),
            protocol: PROTOCOL.to_owned(),
        };
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        bytes.extend_from_slice(&Ask { nonce: self.random() }.to_bytes());
        send.write_chunk(bytes.freeze()).await?;
        send.finish().await?;
        let bytes = read_all(recv, Told::BYTES_MAX).await?;
        let told = Told::from_bytes(&bytes).map_err(std::io::Error::other)?;
        let on_the_way = conn.paths().first().map_or(Duration::ZERO, |path| path.rtt / 2);
        let then = i128::from(told.unix_ms) + on_the_way.as_millis() as i128;
        let ahead = then - i128::from(unix_ms());
        let clock_ahead_ms = i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX });
        Ok(CalledBack { refusal: told.refusal, clock_ahead_ms, called: told.called })
    }

    /// Serves a request of the other side.
    pub(super) async fn serve_call_back(&self, conn: &Conn, mut send: SendStream, recv: RecvStream) {
        let asked = tokio::time::timeout(ASK_TIMEOUT, read_all(recv, Ask::BYTES)).await;
        let ask = asked.ok().and_then(Result::ok).and_then(|bytes| Ask::from_bytes(&bytes).ok());
        let Some(ask) = ask else {
            self.call_backs.state().1.malformed += 1;
            tracing::debug!(peer = %conn.peer().short(), "a request to call back that is none");
            return;
        };
        let (refusal, called) = match self.admit_call_back(conn.peer()) {
            Ok(()) => (None, self.call_all(conn, &ask).await),
            Err(why) => (Some(why), Vec::new()),
        };
        let told = Told { refusal, unix_ms: unix_ms(), called };
        if send.write_chunk(told.to_bytes().freeze()).await.is_ok() && send.finish().await.is_ok() {
            // The stream must not be reset before it is there.
            let _ = tokio::time::timeout(TOLD_TIMEOUT, send.finished()).await;
        }
    }

    fn admit_call_back(&self, peer: DeviceId) -> Result<(), Refusal> {
        let able = matches!(&self.carriers, Carriers::Quic(quic)
            // Without a socket of its own it would show an address that it keeps to itself.
            if !quic.is_simulated() && !quic.bound().is_empty());
        let mut state = self.call_backs.state();
        let (desk, counts) = &mut *state;
        let admitted = if able { desk.admit(self.clock.now(), peer) } else { Err(Refusal::Off) };
        *(if admitted.is_ok() { &mut counts.served } else { &mut counts.refused }) += 1;
        admitted
    }

    async fn call_all(&self, conn: &Conn, ask: &Ask) -> Vec<Called> {
        let mut seen = conn.seen_at();
        seen.retain(|addr| self.covers(*addr));
        seen.truncate(CALLED_ADDRESSES_MAX);
        let calls = seen.into_iter().map(|addr| async move {
            let own = self.random();
            let called = call_one(addr, &ask.nonce, &own).await;
            let (outcome, packets) = called.unwrap_or((Outcome::NotSent, 0));
            self.call_backs.state().1.packets += packets;
            Called { addr, outcome }
        });
        join_all(calls).await
    }

    fn covers(&self, addr: SocketAddr) -> bool {
        self.reach.covers(addr.ip(), &[])
            || self.reach.covers(addr.ip(), &crate::discovery::interfaces::all().unwrap_or_default())
    }
}

/// Calls one address from a socket made for it; what came of it, and how many packets it took.
async fn call_one(addr: SocketAddr, nonce: &[u8; 16], own: &[u8; 16]) -> std::io::Result<(Outcome, u64)> {
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Connected, so that nobody else is heard on it.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(addr).await?;
    let packet = call(nonce, own);
    let mut packets = 0;
    for _ in 0..CALLS {
        socket.send(&packet).await?;
        packets += 1;
        let sent = Instant::now();
        let answered = async {
            let mut buffer = [0; 256];
            loop {
                let len = socket.recv(&mut buffer).await?;
                if is_answer(buffer.get(..len).unwrap_or_default(), nonce, own) {
                    return std::io::Result::Ok(sent.elapsed());
                }
            }
        };
        match tokio::time::timeout(CALL_EVERY, answered).await {
            Ok(Ok(after)) => return Ok((Outcome::Answered(after), packets)),
            // Somebody on the way says that there is no way in.
            Ok(Err(_)) => return Ok((Outcome::Silent, packets)),
            Err(_) => {}
        }
    }
    Ok((Outcome::Silent, packets))
}

/// The whole stream, if it is no longer than this.
async fn read_all(recv: RecvStream, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more shows that it is too long.
    recv.take(bytes_max as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}
