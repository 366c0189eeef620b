//! The in-process carrier: nodes of one program, joined by pipes. For tests, examples and applications whose parts
//! live together; the rules above it are the same as over QUIC.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::{ConnLost, PathReport, RecvStream, Rung, SendStream, SendWay, Side};
use crate::clock::Clock;
#[cfg(feature = "testing")]
use crate::testing::network::{Internet, Wires};

/// Bytes a pipe holds before its writer waits.
const PIPE_BYTES: usize = 64 << 10;
/// Bytes taken from a pipe in one read.
pub(super) const READ_BYTES: usize = 8 << 10;
/// Connections and streams waiting to be accepted.
const ACCEPT_QUEUE: usize = 64;
/// Datagrams on their way.
const DATAGRAM_QUEUE: usize = 256;
/// Largest datagram, as on a typical QUIC path.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1200;

/// A network inside the process. Clone it into every node that should be able to reach the others.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    hosts: Arc<Mutex<BTreeMap<DeviceId, mpsc::Sender<Incoming>>>>,
    live: Arc<Mutex<Vec<MemoryConn>>>,
    /// Pairs that cannot reach each other, the smaller id first.
    apart: Arc<Mutex<BTreeSet<[DeviceId; 2]>>>,
    /// What lies between the nodes of a simulation; otherwise nothing does.
    #[cfg(feature = "testing")]
    internet: Option<Internet>,
}

/// A connection that arrived, with the protocol it asks for.
pub(crate) struct Incoming {
    pub(crate) alpn: Vec<u8>,
    pub(crate) conn: MemoryConn,
}

impl MemoryNetwork {
    /// An empty network.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A network whose connections go over simulated links.
    #[cfg(feature = "testing")]
    pub(crate) fn over(internet: &Internet) -> Self {
        Self { internet: Some(internet.clone()), ..Self::default() }
    }

    /// Cuts every live connection between two devices, as a dead cable would: each side sees a lost connection. New
    /// connections are possible at once.
    pub fn sever(&self, a: DeviceId, b: DeviceId) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|conn| {
            let between = [conn.local, conn.remote];
            let hit = between == [a, b] || between == [b, a];
            if hit {
                Side::BOTH.iter().for_each(|side| conn.shared.ends.end(*side, ConnLost::TimedOut));
            }
            !hit && conn.lost().is_none()
        });
    }

    /// Keeps two devices out of each other's reach: live connections are cut, and new ones fail until
    /// [`MemoryNetwork::rejoin`].
    pub fn part(&self, a: DeviceId, b: DeviceId) {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).insert([a.min(b), a.max(b)]);
        self.sever(a, b);
    }

    /// Ends [`MemoryNetwork::part`].
    pub fn rejoin(&self, a: DeviceId, b: DeviceId) {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).remove(&[a.min(b), a.max(b)]);
    }

    fn are_apart(&self, a: DeviceId, b: DeviceId) -> bool {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).contains(&[a.min(b), a.max(b)])
    }

    pub(crate) fn attach(&self, id: DeviceId) -> mpsc::Receiver<Incoming> {
        let (sender, receiver) = mpsc::channel(ACCEPT_QUEUE);
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        receiver
    }

    pub(crate) fn detach(&self, id: DeviceId) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    pub(crate) async fn connect(
        &self,
        local: DeviceId,
        remote: DeviceId,
        alpn: &[u8],
        binding: [u8; 32],
    ) -> Result<MemoryConn, ConnLost> {
        if self.are_apart(local, remote) {
            return Err(ConnLost::Transport("the device is out of reach on this network".into()));
        }
        #[cfg(feature = "testing")]
        let wires = match &self.internet {
            Some(internet) => Some(Wires::dial(internet, local, remote).await?),
            None => None,
        };
        let host = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(&remote).cloned();
        let host = host.ok_or_else(|| ConnLost::Transport("no such device on this network".into()))?;
        let shared = Arc::new(Shared {
            ends: Arc::default(),
            binding,
            #[cfg(feature = "testing")]
            wires: wires.clone(),
        });
        #[cfg(feature = "testing")]
        if let Some(wires) = wires {
            // It ends when both ends of the connection are over.
            tokio::spawn(wires.watch(shared.ends.clone()));
        }
        let (ours, theirs) = MemoryConn::pair(local, remote, &shared);
        {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.retain(|conn| conn.lost().is_none());
            live.push(ours.clone());
        }
        host.send(Incoming { alpn: alpn.to_vec(), conn: theirs })
            .await
            .map_err(|_| ConnLost::Transport("the device left this network".into()))?;
        Ok(ours)
    }
}

/// What both ends of a connection share.
#[derive(Debug)]
struct Shared {
    ends: Arc<Ends>,
    binding: [u8; 32],
    #[cfg(feature = "testing")]
    wires: Option<Wires>,
}

/// How each end of a connection sees it: up, or over and why.
#[derive(Debug, Default)]
pub(crate) struct Ends([End; 2]);

#[derive(Debug, Default)]
struct End {
    gone: CancellationToken,
    lost: Mutex<Option<ConnLost>>,
    /// What this end told the other when it closed.
    #[cfg(feature = "testing")]
    goodbye: Mutex<Option<ConnLost>>,
}

impl Ends {
    /// For `side` it is over; the first reason stays.
    pub(crate) fn end(&self, side: Side, why: ConnLost) {
        let end = &self.0[side.index()];
        let mut lost = end.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.is_none() {
            *lost = Some(why);
            end.gone.cancel();
        }
    }

    /// Cancelled when it is over for `side`.
    pub(crate) fn gone(&self, side: Side) -> CancellationToken {
        self.0[side.index()].gone.clone()
    }

    /// Why it is over for `side`, if it is.
    pub(crate) fn lost(&self, side: Side) -> Option<ConnLost> {
        self.0[side.index()].lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[cfg(feature = "testing")]
    fn set_goodbye(&self, side: Side, said: ConnLost) {
        *self.0[side.index()].goodbye.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }

    /// What `side` told the other when it closed.
    #[cfg(feature = "testing")]
    pub(crate) fn goodbye(&self, side: Side) -> Option<ConnLost> {
        self.0[side.index()].goodbye.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Pipe = (SendStream, RecvStream);

/// Whether a direction ended with `finish`: a pipe alone cannot tell a complete stream from a torn one.
type Clean = Arc<AtomicBool>;

/// One end of an in-process connection.
#[derive(Clone, Debug)]
pub struct MemoryConn {
    local: DeviceId,
    remote: DeviceId,
    side: Side,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    streams_out: mpsc::Sender<Pipe>,
    streams_in: Arc<AsyncMutex<mpsc::Receiver<Pipe>>>,
    datagrams_out: mpsc::Sender<Bytes>,
    datagrams_in: Arc<AsyncMutex<mpsc::Receiver<Bytes>>>,
}

impl MemoryConn {
    fn pair(local: DeviceId, remote: DeviceId, shared: &Arc<Shared>) -> (Self, Self) {
        let (streams_a, from_a) = mpsc::channel(ACCEPT_QUEUE);
        let (streams_b, from_b) = mpsc::channel(ACCEPT_QUEUE);
        let (datagrams_a, datagrams_from_a) = mpsc::channel(DATAGRAM_QUEUE);
        let (datagrams_b, datagrams_from_b) = mpsc::channel(DATAGRAM_QUEUE);
        let end = |local, remote, side, out, inn, dout, dinn| Self {
            local,
            remote,
            side,
            shared: shared.clone(),
            gate: Gate::new(Clock::start(), None),
            streams_out: out,
            streams_in: Arc::new(AsyncMutex::new(inn)),
            datagrams_out: dout,
            datagrams_in: Arc::new(AsyncMutex::new(dinn)),
        };
        (
            end(local, remote, Side::Dialer, streams_a, from_b, datagrams_a, datagrams_from_b),
            end(remote, local, Side::Acceptor, streams_b, from_a, datagrams_b, datagrams_from_a),
        )
    }

    pub(super) fn peer(&self) -> DeviceId {
        self.remote
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(super) async fn open(&self) -> Result<Pipe, ConnLost> {
        let (ours, theirs) = self.lay();
        let gone = self.gone();
        tokio::select! {
            biased;
            () = gone.cancelled() => Err(self.why()),
            sent = self.streams_out.send(theirs) => match sent {
                Ok(()) => Ok(ours),
                Err(_) => Err(self.why()),
            },
        }
    }

    /// A new stream: this end of it, and the other's.
    fn lay(&self) -> (Pipe, Pipe) {
        let (ab, ba) = (Clean::default(), Clean::default());
        let gone = [self.side, self.side.other()].map(|side| self.shared.ends.gone(side));
        let halves = |stream, at: usize, out: &Clean, inn: &Clean, arrived| {
            halves(stream, &gone[at], (out.clone(), inn.clone()), arrived)
        };
        #[cfg(feature = "testing")]
        if let Some(wires) = &self.shared.wires {
            let laid = wires.stream(self.side, &self.shared.ends);
            return (
                halves(laid.ours, 0, &ab, &ba, Some(laid.out_arrived)),
                halves(laid.theirs, 1, &ba, &ab, Some(laid.in_arrived)),
            );
        }
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        (halves(ours, 0, &ab, &ba, None), halves(theirs, 1, &ba, &ab, None))
    }

    pub(super) async fn accept(&self) -> Result<Pipe, ConnLost> {
        let mut streams = self.streams_in.lock().await;
        let gone = self.gone();
        tokio::select! {
            biased;
            () = gone.cancelled() => Err(self.why()),
            stream = streams.recv() => stream.ok_or_else(|| self.why()),
        }
    }

    pub(super) fn send_datagram(&self, payload: Bytes) -> bool {
        if payload.len() > DATAGRAM_BYTES_MAX {
            return false;
        }
        #[cfg(feature = "testing")]
        if let Some(wires) = &self.shared.wires {
            let inbox = self.datagrams_out.clone();
            // A full inbox loses it, as the network might have.
            wires.datagram(self.side, &payload, move |payload| drop(inbox.try_send(payload)));
            return true;
        }
        self.datagrams_out.try_send(payload).is_ok()
    }

    pub(super) async fn read_datagram(&self) -> Result<Bytes, ConnLost> {
        let mut datagrams = self.datagrams_in.lock().await;
        let gone = self.gone();
        tokio::select! {
            biased;
            () = gone.cancelled() => Err(self.why()),
            datagram = datagrams.recv() => datagram.ok_or_else(|| self.why()),
        }
    }

    pub(super) fn paths(&self) -> Vec<PathReport> {
        #[cfg(feature = "testing")]
        if let Some(wires) = &self.shared.wires {
            return vec![wires.path(self.side)];
        }
        vec![PathReport {
            rung: Rung::Local,
            carrier: "memory",
            remote: "this process".into(),
            rtt: Duration::ZERO,
            mtu_bytes: 0,
            loss: 0.0,
            selected: true,
        }]
    }

    pub(super) fn channel_binding(&self) -> [u8; 32] {
        self.shared.binding
    }

    pub(super) fn export(&self, label: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.shared.binding, label).as_bytes()
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        if self.lost().is_some() {
            return;
        }
        self.shared.ends.end(self.side, ConnLost::ByUs);
        let said = ConnLost::ByPeer { code: code.into(), reason: reason.to_owned() };
        #[cfg(feature = "testing")]
        if let Some(wires) = &self.shared.wires {
            self.shared.ends.set_goodbye(self.side, said.clone());
            wires.say_closed(self.side, &said, &self.shared.ends);
            return;
        }
        self.shared.ends.end(self.side.other(), said);
    }

    pub(super) async fn closed(&self) -> ConnLost {
        self.gone().cancelled().await;
        self.why()
    }

    pub(super) fn lost(&self) -> Option<ConnLost> {
        self.shared.ends.lost(self.side)
    }

    fn gone(&self) -> CancellationToken {
        self.shared.ends.gone(self.side)
    }

    fn why(&self) -> ConnLost {
        self.lost().unwrap_or(ConnLost::TimedOut)
    }
}

fn halves(
    stream: DuplexStream,
    gone: &CancellationToken,
    (out, inn): (Clean, Clean),
    arrived: Option<CancellationToken>,
) -> Pipe {
    let (read, write) = tokio::io::split(stream);
    (
        SendWay::Memory(MemorySend { inner: write, gone: gone.clone(), clean: out, arrived }).into(),
        RecvStream::Memory(MemoryRecv { inner: read, over: gone.clone(), clean: inn, gone: None }),
    )
}

/// The sending half of an in-process stream.
#[derive(Debug)]
pub struct MemorySend {
    inner: WriteHalf<DuplexStream>,
    gone: CancellationToken,
    clean: Clean,
    /// Cancelled when the end of the stream is at the other side; without it, writing is arriving.
    arrived: Option<CancellationToken>,
}

impl MemorySend {
    /// Ends the pipe without the mark of a clean end: the reader sees an error.
    pub(super) fn reset(&mut self) {
        self.clean.store(false, Ordering::Release);
    }

    pub(super) async fn finished(&self) -> std::io::Result<()> {
        let Some(arrived) = &self.arrived else { return Ok(()) };
        tokio::select! {
            biased;
            () = arrived.cancelled() => Ok(()),
            () = self.gone.cancelled() => Err(broken()),
        }
    }
}

fn broken() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the connection is gone")
}

impl AsyncWrite for MemorySend {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.gone.is_cancelled() {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.clean.store(true, Ordering::Release);
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The receiving half of an in-process stream.
pub struct MemoryRecv {
    inner: ReadHalf<DuplexStream>,
    over: CancellationToken,
    clean: Clean,
    /// Wakes a blocked read when the connection is cut.
    gone: Option<Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>>,
}

impl std::fmt::Debug for MemoryRecv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryRecv").finish_non_exhaustive()
    }
}

impl AsyncRead for MemoryRecv {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        let over = &this.over;
        let gone = this.gone.get_or_insert_with(|| Box::pin(over.clone().cancelled_owned()));
        if gone.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(broken()));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before && buf.remaining() > 0;
        if ended && !this.clean.load(Ordering::Acquire) {
            return Poll::Ready(Err(broken()));
        }
        Poll::Ready(Ok(()))
    }
}
