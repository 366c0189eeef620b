//! What others open here: connections, and on them session streams, byte streams and datagrams.
//!
//! A stranger gets as far as a finished handshake and a close code that says what is missing; only paired devices reach
//! the code below [`serve`].

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use honeylink_core::session::{Role, State};
use honeylink_core::wire::link::{CloseCode, Frame, SessionId, StreamHeader, StreamKind};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::Inner;
use super::allowance::Work;
use super::pool::NotInserted;
use crate::carrier::{
    ALPN_FERRY, ALPN_LINK, ALPN_MESH, ALPN_PUNCH, Conn, ConnLost, RecvStream, SendStream, code, memory,
};
use crate::link::driver::{Carriage, drive_responder};
use crate::link::shared::LinkShared;
use crate::link::{Inbound, Link, Stream};

/// A stream's header must be there within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A handshake must be finished within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one connection whose headers are being waited for at a time.
const HEADERS_PENDING_MAX: usize = 64;
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A responder's driver gets the peer's newer session streams through a queue of this length.
const CARRIAGE_QUEUE: usize = 4;

/// Accepts connections until the node stops.
pub(super) async fn run(inner: Arc<Inner>, memory: Option<mpsc::Receiver<memory::Incoming>>) {
    let stop = inner.stop.clone();
    let accepting = async {
        match (&inner.carriers, memory) {
            (super::Carriers::Quic(_), _) => accept_quic(&inner).await,
            (super::Carriers::Memory(_), Some(mut incoming)) => {
                while let Some(memory::Incoming { alpn, conn }) = incoming.recv().await {
                    arrived(&inner, Conn::Memory(conn), &alpn);
                }
            }
            (super::Carriers::Memory(_), None) => {}
        }
    };
    tokio::select! {
        biased;
        () = accepting => {}
        () = stop.cancelled() => {}
    }
}

async fn accept_quic(inner: &Arc<Inner>) {
    let super::Carriers::Quic(quic) = &inner.carriers else {
        return;
    };
    // The carrier gives out no more handshakes than there is room for.
    while let Some(handshake) = quic.accept().await {
        let inner = inner.clone();
        inner.clone().tasks.spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok((conn, alpn))) => {
                    inner.meter.accepted(true);
                    arrived(&inner, Conn::Quic(conn), &alpn);
                    return;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
            inner.meter.accepted(false);
        });
    }
}

/// Accepts TCP connections for the mesh until the node stops.
pub(super) async fn run_tcp(inner: Arc<Inner>, listener: TcpListener) {
    let stop = inner.stop.clone();
    stop.run_until_cancelled(accept_tcp(&inner, &listener)).await;
}

async fn accept_tcp(inner: &Arc<Inner>, listener: &TcpListener) {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // The connection failed already, or this process has no descriptor left for it.
                tracing::debug!(%error, "a TCP connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Dropped: somebody out of reach, or more handshakes than this source may have.
        let Some((tcp, slot)) = inner.tcp.clone().and_then(|tcp| tcp.admit(from).map(|slot| (tcp, slot)))
        else {
            continue;
        };
        let (stop, inner) = (inner.stop.clone(), inner.clone());
        inner.clone().tasks.spawn(async move {
            match stop.run_until_cancelled(tcp.welcome(stream, from)).await {
                Some(Ok((conn, driver))) => {
                    inner.drive(driver);
                    arrived(&inner, Conn::Tcp(conn), ALPN_MESH);
                }
                Some(Err(error)) => tracing::debug!(%error, "a TCP handshake failed"),
                None => {}
            }
            drop(slot);
        });
    }
}

/// A connection finished its handshake: does this device know the peer?
fn arrived(inner: &Arc<Inner>, conn: Conn, alpn: &[u8]) {
    let peer = conn.peer();
    if ![ALPN_LINK, ALPN_MESH, ALPN_PUNCH, ALPN_FERRY].contains(&alpn) {
        inner.pairing_arrived(conn);
        return;
    }
    match inner.store.trust().trust(&peer) {
        Some(trust) if trust.is_trusted() && alpn == ALPN_MESH => inner.mesh_arrived(conn),
        Some(trust) if trust.is_trusted() && alpn == ALPN_PUNCH => inner.guide_arrived(conn),
        Some(trust) if trust.is_trusted() && alpn == ALPN_FERRY => inner.guest_arrived(conn),
        Some(trust) if trust.is_trusted() => inner.adopt(conn),
        Some(crate::store::Trust::Revoked) => {
            inner.audit_rejected(peer, "revoked");
            conn.close(code::REVOKED, "this device was revoked here");
        }
        Some(_) | None => {
            inner.audit_rejected(peer, "not paired");
            conn.close(code::NOT_PAIRED, "not paired with this device");
        }
    }
}

/// Serves one connection of a paired peer until it is gone.
pub(super) async fn serve(inner: &Arc<Inner>, conn: Conn) {
    inner.meter.follow(conn.gate());
    let inbound = Inbound::default();
    let streams = async {
        let room = Arc::new(tokio::sync::Semaphore::new(HEADERS_PENDING_MAX));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else {
                return ConnLost::ByUs;
            };
            let (send, recv) = match conn.accept().await {
                Ok(halves) => halves,
                Err(lost) => return lost,
            };
            let (inner, conn, inbound) = (inner.clone(), conn.clone(), inbound.clone());
            inner.clone().tasks.spawn(async move {
                serve_stream(&inner, conn, &inbound, send, recv).await;
                drop(permit);
            });
        }
    };
    let datagrams = async {
        loop {
            match conn.read_datagram().await {
                Ok(datagram) => {
                    if let Some(datagram) = conn.hear(datagram) {
                        deliver_datagram(inner, &conn, &inbound, datagram);
                    }
                }
                Err(lost) => return lost,
            }
        }
    };
    let lost = tokio::select! {
        biased;
        lost = streams => lost,
        lost = datagrams => lost,
        lost = conn.closed() => lost,
        () = inner.watch_ways(&conn) => ConnLost::ByUs,
        () = inner.keep_punching(&conn) => ConnLost::ByUs,
        () = inner.watch_silence(&conn) => ConnLost::ByUs,
        () = conn.gate().run(&conn) => ConnLost::ByUs,
        () = conn.tell_depths() => ConnLost::ByUs,
        () = inner.stop.cancelled() => {
            // The links are still saying goodbye on this connection; it is closed after them.
            tokio::select! {
                biased;
                lost = conn.closed() => lost,
                () = inner.over.cancelled() => {
                    conn.close(code::SHUTDOWN, "shutting down");
                    ConnLost::ByUs
                }
            }
        }
    };
    inner.pool.remove_lost(&conn.peer());
    inner.close_hole(&conn.peer());
    inner.note_ways(&conn.peer());
    tracing::debug!(peer = %conn.peer().short(), %lost, "connection ended");
}

fn deliver_datagram(inner: &Inner, conn: &Conn, inbound: &Inbound, datagram: bytes::Bytes) {
    let Some(mut datagram) = inbound.deliver(datagram) else {
        return;
    };
    let Some(id) = datagram.split_to_checked(16) else {
        return;
    };
    if let Some((link, _)) = inner.pool.link(&conn.peer(), &SessionId(id)) {
        link.offer_datagram(&datagram);
    }
}

/// Splits a fixed prefix off a datagram, if it is that long.
trait SplitChecked {
    fn split_to_checked(&mut self, len: usize) -> Option<[u8; 16]>;
}

impl SplitChecked for bytes::Bytes {
    fn split_to_checked(&mut self, len: usize) -> Option<[u8; 16]> {
        if self.len() < len {
            return None;
        }
        self.split_to(len).as_ref().try_into().ok()
    }
}

async fn serve_stream(
    inner: &Arc<Inner>,
    conn: Conn,
    inbound: &Inbound,
    mut send: SendStream,
    mut recv: RecvStream,
) {
    let header = match tokio::time::timeout(HEADER_TIMEOUT, read_header(&mut recv)).await {
        Ok(Ok(header)) => header,
        Ok(Err(why)) => {
            tracing::debug!(peer = %conn.peer().short(), %why, "a stream without a proper header");
            return;
        }
        Err(_) => return,
    };
    match header.kind {
        StreamKind::Session | StreamKind::Resume => {
            let send = send.gated(conn.gate(), header.priority.into());
            serve_session(inner, Carriage { conn, send, recv }, header).await;
        }
        StreamKind::Bytes => {
            if let Some((link, _)) = inner.pool.link(&conn.peer(), &header.session) {
                let send = send.gated(conn.gate(), header.priority.into());
                send.belongs(link.owner(None));
                // A full queue drops the stream, which resets it: the peer sees an error, not silence.
                link.offer_stream(Stream { class: header.priority.class(), send, recv });
            }
        }
        StreamKind::Policy => {
            if let Some((link, _)) = inner.pool.link(&conn.peer(), &header.session) {
                link.serve_policies(&conn, &mut send, &mut recv).await;
            }
        }
        StreamKind::Nat => inner.serve_nat(&conn, send, recv).await,
        StreamKind::CallBack => inner.serve_call_back(&conn, send, recv).await,
        StreamKind::Relays => inner.hear_relays(&conn.peer(), recv).await,
        StreamKind::Datagrams => {
            if let Some((link, _)) = inner.pool.link(&conn.peer(), &header.session) {
                let opening = link.serve_datagrams(&conn, inbound, header.priority, send, recv);
                // Its opening belongs to the header.
                let _ = tokio::time::timeout(HEADER_TIMEOUT, opening).await;
            }
        }
    }
}

async fn read_header(recv: &mut RecvStream) -> std::io::Result<StreamHeader> {
    let mut field = [0; StreamHeader::LENGTH_BYTES];
    recv.read_exact(&mut field).await?;
    let len = StreamHeader::body_len(field).map_err(std::io::Error::other)?;
    let mut body = vec![0; len];
    recv.read_exact(&mut body).await?;
    StreamHeader::decode(&body).map_err(std::io::Error::other)
}

async fn serve_session(inner: &Arc<Inner>, carriage: Carriage, header: StreamHeader) {
    let peer = carriage.conn.peer();
    let Some(carriage) = hand_over(inner, &header.session, carriage).await else {
        return;
    };
    if header.kind == StreamKind::Resume {
        refuse(carriage, CloseCode::UnknownSession, "that link is not known here any more").await;
        return;
    }
    let Some(listener) = inner.listeners.find(&header.protocol) else {
        let reason = format!("nobody listens for `{}` on this device", header.protocol);
        refuse(carriage, CloseCode::NoListener, &reason).await;
        return;
    };
    if inner.stop.run_until_cancelled(inner.allowances.take(peer, Work::Link)).await.is_none() {
        return;
    }
    let shared = Arc::new(LinkShared::new(
        peer,
        header.protocol,
        header.session,
        Role::Responder,
        inner.session.clone(),
        inner.clock,
    ));
    let (carriages, driver_carriages) = mpsc::channel(CARRIAGE_QUEUE);
    match inner.pool.insert_link(&shared, Some(carriages.clone())) {
        Ok(()) => {}
        Err(NotInserted::TooMany) => {
            refuse(carriage, CloseCode::TooMany, "too many links are open").await;
            return;
        }
        Err(NotInserted::Known) => {
            // Another stream of the same session was quicker by a moment.
            drop(hand_over(inner, &shared.id(), carriage).await);
            return;
        }
    }
    inner.spawn_link(shared.clone(), drive_responder(shared.clone(), driver_carriages, inner.clock));
    // The queue is new and empty, and its driver has just started.
    let _ = carriages.send(carriage).await;
    let link = Link::new(shared.clone());
    let mut state = shared.watch_state();
    // The sender lives in `shared`, so waiting cannot fail.
    let _ = state.wait_for(|s| matches!(s, State::Active | State::Closed)).await;
    // A peer may say all it has to say and close before this task runs again: its messages count as delivered by then, so
    // the application gets a link that is over and still holds them.
    if link.state() == State::Closed && link.stats().messages_received == 0 {
        return;
    }
    inner.audit_session(&link);
    if let Err(unwanted) = listener.try_send(link) {
        let _ = shared.close(CloseCode::TooMany, "the application does not take new links").await;
        // Only now: dropping it would have closed the link without the reason.
        drop(unwanted);
    }
}

/// Gives a session stream to the link it belongs to; gives it back if there is none.
async fn hand_over(inner: &Inner, session: &SessionId, carriage: Carriage) -> Option<Carriage> {
    let Some((link, carriages)) = inner.pool.link(&carriage.conn.peer(), session) else {
        return Some(carriage);
    };
    match carriages {
        Some(carriages) if link.role() == Role::Responder => {
            // With each everything that was not acknowledged goes out once more.
            inner.allowances.take(carriage.conn.peer(), Work::Link).await;
            // The driver is gone only when the session is over; then the stream is dropped and so reset.
            let _ = carriages.send(carriage).await;
        }
        Some(_) | None => {
            refuse(carriage, CloseCode::ProtocolViolation, "that session is not yours to open").await;
        }
    }
    None
}

/// Answers a session stream that will not become a session.
async fn refuse(carriage: Carriage, code: CloseCode, reason: &str) {
    let Carriage { mut send, .. } = carriage;
    let mut bytes = BytesMut::new();
    Frame::Refuse { code, reason: reason.to_owned() }.encode(&mut bytes);
    if send.write_chunk(bytes.freeze()).await.is_ok() && send.finish().await.is_ok() {
        // The peer may not care to read it.
        let _ = tokio::time::timeout(HEADER_TIMEOUT, send.finished()).await;
    }
}
