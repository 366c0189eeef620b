//! The TCP carrier: mesh ports between paired devices where UDP does not get through (ME-T of `docs/wire/mesh.md`).
//!
//! ```text
//!  Line ── stream ── pipe ── [ driver: chunks, keep-alive, goodbye ] ── TLS 1.3 ── TCP
//! ```
//!
//! One connection carries one stream, so links do not go this way: they need many. A device listens only if it was told to,
//! on the TCP port with the number of its UDP port, so that whoever knows one address knows both.
//!
//! | file | what it does |
//! |---|---|
//! | `tls.rs` | both ends prove their device keys, as they do over QUIC |
//! | `driver.rs` | moves chunks, keeps the connection alive, says goodbye |

mod driver;
#[cfg(test)]
mod tests;
mod tls;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use honeylink_core::identity::{DeviceId, SecretKey};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

pub(crate) use self::driver::Driver;
use self::tls::Identity;
use super::gate::Gate;
use super::quic::{BindError, answers_ip};
use super::quic_conn::{canonical, rung_of};
use super::slots::{Slot, Slots, Source};
use super::{ALPN_MESH, ConnLost, MESH_ROOT_LABEL, PathReport, RecvStream, SendStream, SendWay, Side};
use crate::clock::Clock;
use crate::discovery::interfaces;
use crate::node::{Reach, TcpTraffic};

/// Dialling one device takes at most this long, over all its addresses.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// One address answers within this time or not at all.
const ADDRESS_MAX: Duration = Duration::from_secs(3);
/// From the first byte to the proven key; whoever is slower has no interest in the mesh.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes under way.
const HANDSHAKES_MAX: usize = 64;
/// Handshakes under way of one source.
const HANDSHAKES_PER_SOURCE_MAX: usize = 4;
/// Connections that wait in the kernel before this process has seen them.
const BACKLOG: i32 = 64;
/// Bytes between the driver and whoever reads or writes the stream.
const PIPE_BYTES: usize = 32 << 10;

/// This device's end of all its TCP connections.
#[derive(Clone, Debug)]
pub(crate) struct TcpCarrier {
    identity: Arc<Identity>,
    reach: Reach,
    slots: Slots,
    flow: Arc<Flow>,
}

/// Bytes of all connections, inside TLS.
#[derive(Debug, Default)]
struct Flow {
    sent: AtomicU64,
    received: AtomicU64,
}

impl TcpCarrier {
    pub(crate) fn new(key: &SecretKey, reach: Reach) -> Result<Self, BindError> {
        Ok(Self {
            identity: Arc::new(Identity::new(key)?),
            reach,
            slots: Slots::new(HANDSHAKES_MAX, HANDSHAKES_PER_SOURCE_MAX),
            flow: Arc::default(),
        })
    }

    /// What went over all its connections so far.
    pub(crate) fn traffic(&self) -> TcpTraffic {
        TcpTraffic {
            sent_bytes: self.flow.sent.load(Ordering::Relaxed),
            received_bytes: self.flow.received.load(Ordering::Relaxed),
        }
    }

    /// Dials a device, one address after the other. Only the holder of its key can answer.
    pub(crate) async fn connect(
        &self,
        peer: DeviceId,
        addrs: &[SocketAddr],
    ) -> Result<(TcpConn, Driver), ConnLost> {
        let dialling = async {
            let mut lost = ConnLost::Transport("no address is known".into());
            for addr in addrs {
                match self.connect_to(peer, *addr).await {
                    Ok(connected) => return Ok(connected),
                    Err(why) => lost = why,
                }
            }
            Err(lost)
        };
        tokio::time::timeout(CONNECT_MAX, dialling).await.unwrap_or(Err(ConnLost::TimedOut))
    }

    async fn connect_to(&self, peer: DeviceId, addr: SocketAddr) -> Result<(TcpConn, Driver), ConnLost> {
        let began = Instant::now();
        let connecting = tokio::time::timeout(ADDRESS_MAX, TcpStream::connect(addr));
        let stream = connecting.await.map_err(|_| ConnLost::TimedOut)?.map_err(|e| failed(&e))?;
        let rtt = began.elapsed();
        let shaking = tokio::time::timeout(HANDSHAKE_MAX, self.identity.dial(peer, stream));
        let tls = shaking.await.map_err(|_| ConnLost::TimedOut)?.map_err(|e| failed(&e))?;
        TcpConn::new(tls.into(), Side::Dialer, (addr, rtt), self.flow.clone())
    }

    /// Whether somebody who connected from this address may shake hands now; nothing is to be said to others.
    pub(crate) fn admit(&self, from: SocketAddr) -> Option<Slot> {
        if !answers_ip(self.reach, from.ip()) {
            return None;
        }
        self.slots.take(Source::network(from.ip()))
    }

    /// Shakes hands with somebody who connected. The connection says which key they hold, and nothing about what they may.
    pub(crate) async fn welcome(
        &self,
        stream: TcpStream,
        from: SocketAddr,
    ) -> Result<(TcpConn, Driver), ConnLost> {
        let began = Instant::now();
        let shaking = tokio::time::timeout(HANDSHAKE_MAX, self.identity.accept(stream));
        let tls = shaking.await.map_err(|_| ConnLost::TimedOut)?.map_err(|e| failed(&e))?;
        // One round trip, and the dialler's arithmetic: near enough for an order of magnitude.
        TcpConn::new(tls.into(), Side::Acceptor, (from, began.elapsed()), self.flow.clone())
    }
}

fn failed(error: &std::io::Error) -> ConnLost {
    ConnLost::Transport(error.to_string())
}

/// Listens on a TCP port, on the addresses that the node's UDP sockets have.
pub(crate) fn listen(reach: Reach, port: u16) -> Result<Vec<TcpListener>, BindError> {
    let (v4, v6) = match reach {
        Reach::Loopback => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        Reach::Lan | Reach::Wide => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
    };
    let first = bind(SocketAddr::from((v4, port)));
    let first = first.map_err(|error| BindError::Tcp { port, reason: error.to_string() })?;
    let port = first.local_addr().map_or(port, |addr| addr.port());
    let mut all = vec![first];
    // A machine without IPv6 is normal.
    all.extend(bind(SocketAddr::from((v6, port))));
    Ok(all)
}

fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A node that starts again gets its port back at once, though old connections still linger on it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The two ends of the connection's only stream.
type Halves = (WriteHalf<DuplexStream>, ReadHalf<DuplexStream>);

#[derive(Debug)]
struct Shared {
    peer: DeviceId,
    side: Side,
    remote: SocketAddr,
    rtt: Duration,
    flow: Arc<Flow>,
    mesh_root: Zeroizing<[u8; 32]>,
    stream: Mutex<Option<Halves>>,
    /// With nothing to decide: there is one stream.
    gate: Arc<Gate>,
    gone: CancellationToken,
    lost: Mutex<Option<ConnLost>>,
    /// What the other side is told when this side closes.
    goodbye: Mutex<(u32, String)>,
}

impl Shared {
    fn end(&self, why: ConnLost) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.gone.cancel();
    }

    fn why(&self) -> ConnLost {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.clone().unwrap_or(ConnLost::TimedOut)
    }
}

/// One TCP connection, whose other end has proved its key.
#[derive(Clone, Debug)]
pub(crate) struct TcpConn {
    shared: Arc<Shared>,
}

impl TcpConn {
    fn new(
        tls: TlsStream<TcpStream>,
        side: Side,
        (remote, rtt): (SocketAddr, Duration),
        flow: Arc<Flow>,
    ) -> Result<(Self, Driver), ConnLost> {
        // Frames are small and somebody waits for each.
        tls.get_ref().0.set_nodelay(true).map_err(|e| failed(&e))?;
        let (_, session) = tls.get_ref();
        if session.alpn_protocol() != Some(ALPN_MESH) {
            return Err(ConnLost::Transport("the other device speaks another protocol".into()));
        }
        let peer = tls::proven(session).ok_or_else(|| ConnLost::Transport("unusable key".into()))?;
        let mut mesh_root = Zeroizing::new([0; 32]);
        match &tls {
            TlsStream::Client(tls) => {
                tls.get_ref().1.export_keying_material(&mut mesh_root[..], MESH_ROOT_LABEL, None)
            }
            TlsStream::Server(tls) => {
                tls.get_ref().1.export_keying_material(&mut mesh_root[..], MESH_ROOT_LABEL, None)
            }
        }
        .map_err(|_| ConnLost::Transport("the connection exports no keys".into()))?;
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let (read, write) = tokio::io::split(near);
        let shared = Arc::new(Shared {
            peer,
            side,
            remote: canonical(remote),
            rtt,
            flow,
            mesh_root,
            stream: Mutex::new(Some((write, read))),
            gate: Gate::new(Clock::start(), None),
            gone: CancellationToken::new(),
            lost: Mutex::new(None),
            goodbye: Mutex::default(),
        });
        Ok((Self { shared: shared.clone() }, Driver::new(shared, tls, far)))
    }

    pub(super) fn peer(&self) -> DeviceId {
        self.shared.peer
    }

    pub(super) fn side(&self) -> Side {
        self.shared.side
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.shared.gate
    }

    /// The connection's stream, once; whoever asks again waits for its end.
    pub(super) async fn stream(&self) -> Result<(SendStream, RecvStream), ConnLost> {
        let halves = self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        match halves {
            Some((write, read)) => Ok((SendWay::Tcp(write).into(), RecvStream::Tcp(TcpRecv(read)))),
            None => Err(self.closed().await),
        }
    }

    pub(super) fn paths(&self) -> Vec<PathReport> {
        vec![PathReport {
            rung: rung_of(self.shared.remote.ip(), &interfaces::all().unwrap_or_default()),
            carrier: "tcp",
            remote: self.shared.remote.to_string(),
            rtt: self.shared.rtt,
            mtu_bytes: 0,
            loss: 0.0,
            selected: true,
        }]
    }

    pub(super) fn mesh_root(&self) -> Zeroizing<[u8; 32]> {
        self.shared.mesh_root.clone()
    }

    pub(super) fn remote_addr(&self) -> SocketAddr {
        self.shared.remote
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        if !self.shared.gone.is_cancelled() {
            *self.shared.goodbye.lock().unwrap_or_else(PoisonError::into_inner) = (code, reason.to_owned());
            self.shared.end(ConnLost::ByUs);
        }
    }

    pub(super) async fn closed(&self) -> ConnLost {
        self.shared.gone.cancelled().await;
        self.shared.why()
    }

    pub(super) fn lost(&self) -> Option<ConnLost> {
        self.shared.gone.is_cancelled().then(|| self.shared.why())
    }
}

/// The receiving half of a TCP connection's stream.
#[derive(Debug)]
pub struct TcpRecv(ReadHalf<DuplexStream>);

impl AsyncRead for TcpRecv {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        if buf.filled().len() == before && buf.remaining() > 0 {
            // The stream has no end of its own: it is torn with its connection.
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}
