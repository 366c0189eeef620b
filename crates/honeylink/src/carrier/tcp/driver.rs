//! The task of one TCP connection: chunks between its TLS stream and the pipe of whoever holds it.
//!
//! ```text
//!  length u16, 1 to 16384 | bytes of the stream
//!  0000                                              still here
//!  ffff | code u32 | length u8 | reason              closed, and why
//! ```
//!
//! TLS has no close code and TCP no word for "still here", and the mesh needs both: a device that is not wanted must learn
//! that it is not, and a neighbour that is gone must be noticed in seconds.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use honeylink_core::limits::REASON_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::Shared;
use crate::carrier::ConnLost;
use crate::carrier::quic_conn::printable;

/// Largest chunk, bytes.
const CHUNK_BYTES_MAX: usize = 16 << 10;
/// In the place of a length: the connection is closed.
const CLOSED: u16 = u16::MAX;
/// Something is said at least this often.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(3);
/// Silence after which a connection counts as lost: three signs of life are missing.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(12);
/// How long the other side may leave what it was sent unread.
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// How long a goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// See the module's doc.
#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    tls: TlsStream<TcpStream>,
    pipe: DuplexStream,
}

impl Driver {
    pub(super) const fn new(shared: Arc<Shared>, tls: TlsStream<TcpStream>, pipe: DuplexStream) -> Self {
        Self { shared, tls, pipe }
    }

    /// Moves bytes until the connection is gone.
    pub(crate) async fn run(self) {
        let Self { shared, tls, pipe } = self;
        let (mut from_peer, mut to_peer) = tokio::io::split(tls);
        let (mut from_here, mut to_here) = tokio::io::split(pipe);
        let why = tokio::select! {
            why = hear(&shared, &mut from_peer, &mut to_here) => why,
            why = speak(&shared, &mut from_here, &mut to_peer) => why,
        };
        if why == ConnLost::ByUs {
            let goodbye = say_goodbye(&shared, &mut to_peer);
            if !matches!(tokio::time::timeout(GOODBYE_MAX, goodbye).await, Ok(Ok(()))) {
                tracing::debug!(peer = %shared.peer.short(), "a TCP connection ended without a goodbye");
            }
        }
        shared.end(why);
    }
}

async fn hear(
    shared: &Shared,
    from_peer: &mut (impl AsyncRead + Unpin),
    to_here: &mut (impl AsyncWrite + Unpin),
) -> ConnLost {
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    loop {
        let len = match in_time(from_peer.read_u16()).await {
            Ok(0) => {
                shared.flow.received.fetch_add(2, Ordering::Relaxed);
                continue;
            }
            Ok(CLOSED) => return in_time(read_goodbye(from_peer)).await.unwrap_or_else(|lost| lost),
            Ok(len) => usize::from(len),
            Err(lost) => return lost,
        };
        let Some(chunk) = chunk.get_mut(..len) else {
            return ConnLost::Transport("the other device broke the protocol".into());
        };
        if let Err(lost) = in_time(from_peer.read_exact(chunk)).await {
            return lost;
        }
        shared.flow.received.fetch_add(2 + chunk.len() as u64, Ordering::Relaxed);
        // Whoever does not read any more closes the connection, and until then nothing is missed by anybody.
        if to_here.write_all(chunk).await.is_err() {
            tracing::trace!("bytes for a stream that nobody reads");
        }
    }
}

/// A read, unless nothing comes for too long. While nothing is read here for want of room, no time passes.
async fn in_time<T>(read: impl Future<Output = io::Result<T>>) -> Result<T, ConnLost> {
    match tokio::time::timeout(IDLE_MAX, read).await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(ConnLost::Transport(error.to_string())),
        Err(_) => Err(ConnLost::TimedOut),
    }
}

async fn read_goodbye(from_peer: &mut (impl AsyncRead + Unpin)) -> io::Result<ConnLost> {
    let code = from_peer.read_u32().await?.into();
    let mut reason = vec![0; from_peer.read_u8().await?.into()];
    from_peer.read_exact(&mut reason).await?;
    Ok(ConnLost::ByPeer { code, reason: printable(&reason) })
}

async fn speak(
    shared: &Shared,
    from_here: &mut (impl AsyncRead + Unpin),
    to_peer: &mut (impl AsyncWrite + Unpin),
) -> ConnLost {
    let mut chunk = vec![0; 2 + CHUNK_BYTES_MAX];
    loop {
        let read = tokio::select! {
            // What was written before the close goes first.
            biased;
            read = tokio::time::timeout(KEEP_ALIVE_EVERY, from_here.read(&mut chunk[2..])) => read,
            () = shared.gone.cancelled() => return ConnLost::ByUs,
        };
        let len = match read {
            Err(_) => 0,
            Ok(Ok(len @ 1..)) => len,
            // Whoever held the stream dropped it, which is no way to say why.
            Ok(Ok(0) | Err(_)) => return ConnLost::ByUs,
        };
        let [high, low] = u16::try_from(len).unwrap_or(CLOSED).to_be_bytes();
        (chunk[0], chunk[1]) = (high, low);
        let writing = async {
            to_peer.write_all(&chunk[..2 + len]).await?;
            to_peer.flush().await
        };
        let wrote = tokio::select! {
            wrote = tokio::time::timeout(UNREAD_MAX, writing) => wrote,
            // Half a chunk is out, so nothing more can be said.
            () = shared.gone.cancelled() => return ConnLost::Transport("closed while it was stuck".into()),
        };
        match wrote {
            Ok(Ok(())) => shared.flow.sent.fetch_add(2 + len as u64, Ordering::Relaxed),
            Ok(Err(error)) => return ConnLost::Transport(error.to_string()),
            Err(_) => return ConnLost::TimedOut,
        };
    }
}

async fn say_goodbye(shared: &Shared, to_peer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let (code, reason) = {
        let goodbye = shared.goodbye.lock().unwrap_or_else(PoisonError::into_inner);
        goodbye.clone()
    };
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX.min(255))];
    let mut bytes = CLOSED.to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.push(u8::try_from(reason.len()).unwrap_or(0));
    bytes.extend(reason);
    to_peer.write_all(&bytes).await?;
    to_peer.shutdown().await
}
