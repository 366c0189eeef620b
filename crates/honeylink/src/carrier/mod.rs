//! Carriers: ways to move bytes to a neighbour. A closed set, so an enum: the code above sees one `Conn`, whatever
//! carries it.
//!
//! A carrier's connection is always authenticated: its peer is the key the other side has proved to hold. What the
//! peer may do with the connection is decided above, by the trust store.

pub mod code;
pub(crate) mod ferry;
pub(crate) mod flow;
pub(crate) mod gate;
pub mod memory;
mod paced;
pub(crate) mod punched;
pub(crate) mod quic;
pub(crate) mod quic_conn;
mod quic_meter;
mod quic_stream;
pub(crate) mod relays;
mod restrained;
pub mod serial;
pub(crate) mod slots;
mod soundings;
pub(crate) mod tcp;
mod ticket;
pub(crate) mod traffic;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use honeylink_core::identity::DeviceId;
pub use honeylink_core::paths::Rung;
use honeylink_core::qos::{Class, OptionsError, StreamOptions, StreamStats};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use self::gate::{Gate, Owner};
use self::ticket::Ticket;

/// ALPN of connections between paired devices.
pub const ALPN_LINK: &[u8] = b"honeylink/link/1";
/// ALPN of pairing ceremonies and one-time fetches.
pub const ALPN_PAIR: &[u8] = b"honeylink/pair/1";

/// ALPN of mesh ports between paired devices.
pub const ALPN_MESH: &[u8] = b"honeylink/mesh/1";

/// Label of the TLS exporter that binds a ceremony to its connection (RFC 5705, RFC 8446 section 7.5).
const BINDING_LABEL: &[u8] = b"EXPORTER-honeylink-channel-binding-1";
/// Label of the exporter that gives two devices the keys of their probes (NAT-W6 of `docs/wire/nat.md`).
const NAT_LABEL: &[u8] = b"EXPORTER-honeylink-nat";
/// Label of the exporter that gives two devices the root of a mesh ratchet (ME-K7 of `docs/wire/mesh.md`).
const MESH_ROOT_LABEL: &[u8] = b"EXPORTER-honeylink-mesh-root";

/// ALPN of connections between a device and another that carries packets for it.
pub const ALPN_FERRY: &[u8] = b"honeylink/ferry/1";

/// ALPN of connections that bring a path through a punched hole with them, and carry nothing.
pub const ALPN_PUNCH: &[u8] = b"honeylink/punch/1";

/// Which side opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This node dialled.
    Dialer,
    /// The other node dialled.
    Acceptor,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Dialer, Self::Acceptor];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Acceptor,
            Self::Acceptor => Self::Dialer,
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnLost {
    /// The other side closed it.
    #[error("the other device closed the connection: {reason} (code {code})")]
    ByPeer {
        /// Its code, see [`code`].
        code: u64,
        /// Its words.
        reason: String,
    },
    /// This side closed it.
    #[error("the connection was closed here")]
    ByUs,
    /// Nothing was heard for the idle time-out.
    #[error("the other device stopped answering")]
    TimedOut,
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Transport(String),
}

/// One way to the peer, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct PathReport {
    /// Its place on the ladder.
    pub rung: Rung,
    /// The carrier: `iroh`, `tcp` or `memory`.
    pub carrier: &'static str,
    /// The other side's address: `ip:port`, a relay's `host:port`, or `by` and the name of the device that relays.
    pub remote: String,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Largest UDP payload in use, bytes; 0 where the carrier has none.
    pub mtu_bytes: u16,
    /// Packets lost per packet sent on this path so far, 0 to 1.
    pub loss: f64,
    /// Whether data goes this way now.
    pub selected: bool,
}

/// An authenticated connection to one device.
#[derive(Clone, Debug)]
pub(crate) enum Conn {
    Quic(quic_conn::QuicConn),
    Memory(memory::MemoryConn),
    Tcp(tcp::TcpConn),
}

impl Conn {
    /// The key the other side has proved to hold.
    pub(crate) fn peer(&self) -> DeviceId {
        match self {
            Self::Quic(c) => c.peer(),
            Self::Memory(c) => c.peer(),
            Self::Tcp(c) => c.peer(),
        }
    }

    pub(crate) fn side(&self) -> Side {
        match self {
            Self::Quic(c) => c.side(),
            Self::Memory(c) => c.side(),
            Self::Tcp(c) => c.side(),
        }
    }

    /// Opens a bidirectional stream; waits while the other side allows no more.
    pub(crate) async fn open(&self) -> Result<(SendStream, RecvStream), ConnLost> {
        match self {
            Self::Quic(c) => c.open().await,
            Self::Memory(c) => c.open().await,
            Self::Tcp(c) => c.stream().await,
        }
    }

    /// The next stream the other side opened.
    pub(crate) async fn accept(&self) -> Result<(SendStream, RecvStream), ConnLost> {
        match self {
            Self::Quic(c) => c.accept().await,
            Self::Memory(c) => c.accept().await,
            Self::Tcp(c) => c.stream().await,
        }
    }

    /// Queues a datagram. `false` if it was dropped: too large for the path, or the queue is full.
    pub(crate) fn send_datagram(&self, payload: Bytes) -> bool {
        match self {
            Self::Quic(c) => c.send_datagram(payload),
            Self::Memory(c) => c.send_datagram(payload),
            Self::Tcp(_) => false,
        }
    }

    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnLost> {
        match self {
            Self::Quic(c) => c.read_datagram().await,
            Self::Memory(c) => c.read_datagram().await,
            Self::Tcp(c) => Err(c.closed().await),
        }
    }

    /// Takes a datagram of a link connection if it is a word about queues; gives it back otherwise.
    pub(crate) fn hear(&self, datagram: Bytes) -> Option<Bytes> {
        match self {
            Self::Quic(c) => c.hear(datagram),
            Self::Memory(_) | Self::Tcp(_) => Some(datagram),
        }
    }

    /// Tells the peer of a link connection how long its packets wait, while both directions are busy; ends never.
    pub(crate) async fn tell_depths(&self) {
        match self {
            Self::Quic(c) => c.tell_depths().await,
            Self::Memory(_) | Self::Tcp(_) => std::future::pending().await,
        }
    }

    /// Largest datagram payload the path takes now, bytes.
    pub(crate) fn datagram_bytes_max(&self) -> usize {
        match self {
            Self::Quic(c) => c.datagram_bytes_max(),
            Self::Memory(_) => memory::DATAGRAM_BYTES_MAX,
            Self::Tcp(_) => 0,
        }
    }

    /// Bytes of datagrams that wait to be sent.
    pub(crate) fn datagrams_waiting_bytes(&self) -> usize {
        match self {
            Self::Quic(c) => c.datagrams_waiting_bytes(),
            Self::Memory(_) | Self::Tcp(_) => 0,
        }
    }

    /// Where the connection's streams get their turns.
    pub(crate) fn gate(&self) -> &Arc<Gate> {
        match self {
            Self::Quic(c) => c.gate(),
            Self::Memory(c) => c.gate(),
            Self::Tcp(c) => c.gate(),
        }
    }

    /// Packets heard so far, where there are packets; else zero.
    pub(crate) fn heard(&self) -> u64 {
        match self {
            Self::Quic(c) => c.heard(),
            Self::Memory(_) | Self::Tcp(_) => 0,
        }
    }

    /// Whether it is known that a relay this connection needs is gone; otherwise only silence tells.
    pub(crate) fn lost_its_relay(&self, quic: &quic::QuicCarrier) -> bool {
        match self {
            Self::Quic(c) => quic.is_gone(&c.relays()),
            Self::Memory(_) | Self::Tcp(_) => false,
        }
    }

    /// Whether packets of new connections to the peer go to this one's relay and nowhere else.
    pub(crate) fn pins_a_relay(&self) -> bool {
        match self {
            Self::Quic(c) => c.pins_a_relay(),
            Self::Memory(_) | Self::Tcp(_) => false,
        }
    }

    /// Whether both are the same connection.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.gate(), other.gate())
    }

    /// Whether the other side is reached through a paired device that relays.
    pub(crate) fn is_ferried(&self) -> bool {
        match self {
            Self::Quic(c) => c.is_ferried(),
            Self::Memory(_) | Self::Tcp(_) => false,
        }
    }

    /// Packets sent and lost on the path in use so far; zeros where there are none.
    pub(crate) fn packets(&self) -> (u64, u64) {
        match self {
            Self::Quic(c) => c.packets(),
            Self::Memory(_) | Self::Tcp(_) => (0, 0),
        }
    }

    /// Every path of the connection, the selected one first.
    pub(crate) fn paths(&self) -> Vec<PathReport> {
        match self {
            Self::Quic(c) => c.paths(),
            Self::Memory(c) => c.paths(),
            Self::Tcp(c) => c.paths(),
        }
    }

    /// Where the path in use ends, if there is one of several.
    pub(crate) fn far_end(&self) -> Option<FarEnd> {
        match self {
            Self::Quic(c) => c.far_end().map(FarEnd),
            Self::Memory(_) | Self::Tcp(_) => None,
        }
    }

    /// Tells when the paths may have changed.
    pub(crate) fn path_events(&self) -> PathEvents {
        match self {
            Self::Quic(c) => PathEvents::Quic(Box::pin(c.path_events())),
            Self::Memory(_) | Self::Tcp(_) => PathEvents::Never,
        }
    }

    /// 32 bytes that only the two ends of this connection know (TLS exporter).
    pub(crate) fn channel_binding(&self) -> Result<[u8; 32], ConnLost> {
        match self {
            Self::Quic(c) => c.channel_binding(),
            Self::Memory(c) => Ok(c.channel_binding()),
            Self::Tcp(_) => Err(ConnLost::Transport("TCP serves the mesh only".into())),
        }
    }

    /// 32 bytes that only the two ends of this connection know, for a mesh ratchet and nothing else.
    pub(crate) fn mesh_root(&self) -> Result<zeroize::Zeroizing<[u8; 32]>, ConnLost> {
        match self {
            Self::Quic(c) => c.export(MESH_ROOT_LABEL).map(zeroize::Zeroizing::new),
            Self::Memory(c) => Ok(zeroize::Zeroizing::new(c.export(MESH_ROOT_LABEL))),
            Self::Tcp(c) => Ok(c.mesh_root()),
        }
    }

    /// 32 bytes that only the two ends of this connection know, for the keys of probes and nothing else.
    pub(crate) fn nat_secret(&self) -> Result<zeroize::Zeroizing<[u8; 32]>, ConnLost> {
        match self {
            Self::Quic(c) => c.export(NAT_LABEL).map(zeroize::Zeroizing::new),
            Self::Memory(_) | Self::Tcp(_) => Err(ConnLost::Transport("there is no NAT on this way".into())),
        }
    }

    /// The network address of the other side, where there is one.
    pub(crate) fn remote_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Quic(c) => c.remote_addr(),
            Self::Memory(_) => None,
            Self::Tcp(c) => Some(c.remote_addr()),
        }
    }

    /// The addresses at which the peer was shown to be, by the open paths that lead straight to it.
    pub(crate) fn seen_at(&self) -> Vec<SocketAddr> {
        match self {
            Self::Quic(c) => c.seen_at(),
            Self::Memory(_) | Self::Tcp(_) => Vec::new(),
        }
    }

    pub(crate) fn close(&self, code: u32, reason: &str) {
        match self {
            Self::Quic(c) => c.close(code, reason),
            Self::Memory(c) => c.close(code, reason),
            Self::Tcp(c) => c.close(code, reason),
        }
    }

    /// Waits until the connection is gone.
    pub(crate) async fn closed(&self) -> ConnLost {
        match self {
            Self::Quic(c) => c.closed().await,
            Self::Memory(c) => c.closed().await,
            Self::Tcp(c) => c.closed().await,
        }
    }

    /// Why the connection is gone, if it is.
    pub(crate) fn lost(&self) -> Option<ConnLost> {
        match self {
            Self::Quic(c) => c.lost(),
            Self::Memory(c) => c.lost(),
            Self::Tcp(c) => c.lost(),
        }
    }
}

/// Where a path ends, as far as one is told from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FarEnd(iroh::TransportAddr);

/// When to look at a connection's paths again.
pub(crate) enum PathEvents {
    Quic(Pin<Box<iroh::endpoint::PathEventStream>>),
    /// There is one path, and it stays.
    Never,
}

impl PathEvents {
    /// Waits until something changed; for ever if nothing will any more. Says which way is gone, if that is what changed.
    pub(crate) async fn next(&mut self) -> Option<FarEnd> {
        if let Self::Quic(events) = self
            && let Some(event) = events.next().await
        {
            #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
            return match event {
                iroh::endpoint::PathEvent::Closed { remote_addr, .. } => Some(FarEnd(remote_addr)),
                _ => None,
            };
        }
        std::future::pending().await
    }
}

/// The sending half of a stream. Dropping it without [`SendStream::finish`] resets the stream, so the other side never
/// takes a torn stream for a complete one.
#[derive(Debug)]
pub struct SendStream {
    way: SendWay,
    /// Its place at the connection's gate; before it has one it passes freely.
    ticket: Option<Ticket>,
}

#[derive(Debug)]
pub(crate) enum SendWay {
    /// Over QUIC.
    Quic(quic_stream::QuicSend),
    /// Inside the process.
    Memory(memory::MemorySend),
    /// Over TCP; only ever the one of a mesh port.
    Tcp(tokio::io::WriteHalf<tokio::io::DuplexStream>),
}

impl From<SendWay> for SendStream {
    fn from(way: SendWay) -> Self {
        Self { way, ticket: None }
    }
}

impl SendStream {
    /// Sends a chunk without copying it where the carrier can; waits for flow control, and for its turn.
    ///
    /// # Errors
    /// If the other side stopped reading or the connection is gone.
    pub async fn write_chunk(&mut self, mut chunk: Bytes) -> std::io::Result<()> {
        while !chunk.is_empty() {
            poll_fn(|cx| self.poll_write_chunk(cx, &mut chunk)).await?;
        }
        Ok(())
    }

    /// Sends some of the front of `chunk` and takes it off, without copying it where the carrier can. Pending: nothing
    /// was taken.
    pub(crate) fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<std::io::Result<()>> {
        let Self { way, ticket } = self;
        let Some(ticket) = ticket else { return way.poll_write_chunk(cx, chunk) };
        if chunk.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let admitted = ready!(ticket.poll_admit(cx, chunk.len()));
        let mut part = chunk.slice(..admitted);
        let written = way.poll_write_chunk(cx, &mut part);
        let taken = admitted - part.len();
        chunk.advance(taken);
        settle(ticket, written.map_ok(|()| taken)).map_ok(|_| ())
    }

    /// Gives the stream its place at the gate of its connection. Where there is none left it passes freely: the other side
    /// allows fewer streams than that.
    pub(crate) fn gated(self, gate: &Arc<Gate>, options: StreamOptions) -> Self {
        let ticket = gate.open(options).ok();
        self.with_ticket(ticket, options)
    }

    /// As [`SendStream::gated`], with a place that was given before.
    pub(crate) fn with_ticket(mut self, ticket: Option<Ticket>, options: StreamOptions) -> Self {
        self.ticket = ticket;
        // The gate decides the order of all others. Below it they are equals, or what is little and urgent would keep what
        // is less urgent inside, where it takes the place of what could leave.
        let urgent = options.priority.class() == Class::Realtime;
        self.set_priority(if urgent { options.priority.as_u8() } else { 0 });
        self
    }

    /// Remembers whose the stream is.
    pub(crate) fn belongs(&self, owner: Owner) {
        if let Some(ticket) = &self.ticket {
            ticket.belongs(owner);
        }
    }

    /// What the stream went through: rate, waiting times, drops. Zeros for a stream without a place at a gate.
    #[must_use]
    pub fn stats(&self) -> StreamStats {
        self.ticket.as_ref().map(Ticket::stats).unwrap_or_default()
    }

    /// Asks for something else from the next byte on. A guaranteed rate that the link cannot promise any more is served as
    /// far as there is room.
    ///
    /// # Errors
    /// If the options contradict themselves; nothing changed then.
    pub fn retune(&self, options: StreamOptions) -> Result<(), OptionsError> {
        self.ticket.as_ref().map_or(Ok(()), |ticket| ticket.retune(options))
    }

    /// Says that nothing follows. The other side reads to a clean end.
    ///
    /// # Errors
    /// If the stream is already closed.
    pub async fn finish(&mut self) -> std::io::Result<()> {
        self.shutdown().await
    }

    /// Gives up the stream: the other side sees an error, never a clean end.
    pub fn reset(&mut self) {
        match &mut self.way {
            SendWay::Quic(s) => s.reset(),
            SendWay::Memory(s) => s.reset(),
            // It ends with its connection, which is never a clean end.
            SendWay::Tcp(_) => {}
        }
    }

    /// Waits until the other side has everything, after [`SendStream::finish`].
    ///
    /// # Errors
    /// If the other side stopped reading or the connection is gone first.
    pub async fn finished(&mut self) -> std::io::Result<()> {
        match &mut self.way {
            SendWay::Quic(s) => s.finished().await,
            SendWay::Memory(s) => s.finished().await,
            SendWay::Tcp(_) => Ok(()),
        }
    }

    fn set_priority(&self, priority: u8) {
        match &self.way {
            SendWay::Quic(s) => s.set_priority(priority),
            SendWay::Memory(_) | SendWay::Tcp(_) => {}
        }
    }
}

/// Tells the gate what became of an admitted write.
fn settle(ticket: &Ticket, written: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
    match &written {
        Poll::Ready(Ok(bytes)) => ticket.wrote(*bytes),
        Poll::Ready(Err(_)) => ticket.wrote(0),
        Poll::Pending => ticket.blocked(),
    }
    written
}

impl SendWay {
    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<std::io::Result<()>> {
        match self {
            Self::Quic(s) => s.poll_write_chunk(cx, chunk),
            Self::Memory(s) => {
                let taken = ready!(Pin::new(s).poll_write(cx, chunk))?;
                chunk.advance(taken);
                Poll::Ready(Ok(()))
            }
            Self::Tcp(s) => {
                let taken = ready!(Pin::new(s).poll_write(cx, chunk))?;
                chunk.advance(taken);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self {
            Self::Quic(s) => Pin::new(s).poll_write(cx, buf),
            Self::Memory(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
        }
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let Self { way, ticket } = self.get_mut();
        let Some(ticket) = ticket.as_ref().filter(|_| !buf.is_empty()) else {
            return way.poll_write(cx, buf);
        };
        let admitted = ready!(ticket.poll_admit(cx, buf.len()));
        settle(ticket, way.poll_write(cx, &buf[..admitted]))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().way {
            SendWay::Quic(s) => Pin::new(s).poll_flush(cx),
            SendWay::Memory(s) => Pin::new(s).poll_flush(cx),
            SendWay::Tcp(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().way {
            SendWay::Quic(s) => Pin::new(s).poll_shutdown(cx),
            SendWay::Memory(s) => Pin::new(s).poll_shutdown(cx),
            SendWay::Tcp(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// The receiving half of a stream.
#[derive(Debug)]
pub enum RecvStream {
    /// Over QUIC.
    #[doc(hidden)]
    Quic(quic_stream::QuicRecv),
    /// Inside the process.
    #[doc(hidden)]
    Memory(memory::MemoryRecv),
    /// Over TCP; only ever the one of a mesh port.
    #[doc(hidden)]
    Tcp(tcp::TcpRecv),
}

impl RecvStream {
    /// The next bytes, at most `max`, without copying where the carrier can; `None` at the clean end.
    ///
    /// # Errors
    /// If the other side reset the stream or the connection is gone: a torn stream is never silent.
    pub async fn read_chunk(&mut self, max: usize) -> std::io::Result<Option<Bytes>> {
        match self {
            Self::Quic(s) => s.read_chunk(max).await,
            Self::Memory(s) => copied(s, max).await,
            Self::Tcp(s) => copied(s, max).await,
        }
    }

    /// As [`RecvStream::read_chunk`], for a reader that is polled.
    pub(crate) fn poll_read_chunk(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<std::io::Result<Option<Bytes>>> {
        match self {
            // A read that is dropped while it waits has taken nothing.
            Self::Quic(s) => pin!(s.read_chunk(max)).poll(cx),
            Self::Memory(s) => poll_copied(s, cx, max),
            Self::Tcp(s) => poll_copied(s, cx, max),
        }
    }

    /// Tells the other side to stop sending.
    pub fn stop(&mut self) {
        match self {
            Self::Quic(s) => s.stop(),
            Self::Memory(_) | Self::Tcp(_) => {}
        }
    }
}

async fn copied(stream: &mut (impl AsyncRead + Unpin), max: usize) -> std::io::Result<Option<Bytes>> {
    let mut buffer = BytesMut::with_capacity(max.min(64 << 10));
    let count = stream.read_buf(&mut buffer).await?;
    Ok((count > 0).then(|| buffer.freeze()))
}

fn poll_copied(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    max: usize,
) -> Poll<std::io::Result<Option<Bytes>>> {
    let mut space = [0; memory::READ_BYTES];
    let len = max.min(space.len());
    let mut buffer = ReadBuf::new(&mut space[..len]);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    let read = buffer.filled();
    Poll::Ready(Ok((!read.is_empty()).then(|| Bytes::copy_from_slice(read))))
}

impl AsyncRead for RecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Quic(s) => Pin::new(s).poll_read(cx, buf),
            Self::Memory(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}
