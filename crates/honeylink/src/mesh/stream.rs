//! A mesh port over a connection: one bidirectional stream, frames with a length before each (ME-P of
//! `docs/wire/mesh.md`). The first frame of each end is its hello.
//!
//! What arrives waits for room in the mesh's queue before more is read, so the carrier's flow control holds a neighbour
//! that sends faster than it is heard. What leaves waits in a bounded [`Queue`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use honeylink_core::limits::MESH_FRAME_BYTES_MAX;
use honeylink_core::mesh::PortId;
use honeylink_core::mesh::control::{Control, Hello};
use honeylink_core::mesh::frame::{Frame, PortKind};
use honeylink_core::wire::Invalid;
use tokio::io::{AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::ports::Declined;
use super::pump::{Greeted, PortEvent};
use super::queue::{Queue, Waiting};
use super::shared::Shared;
use crate::carrier::{Conn, ConnLost, RecvStream, SendStream, Side, code};

/// Both hellos must be there within this time.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// Bytes read ahead from the stream.
const READ_BYTES: usize = 8 << 10;
/// Bytes of frames written in one go.
const WRITE_BYTES: usize = 16 << 10;
/// Length of the field before each frame.
const LENGTH_BYTES: usize = 2;

/// Why a connection did not become a port, or is none any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The connection ended.
    #[error(transparent)]
    Lost(#[from] ConnLost),
    /// The stream ended.
    #[error("the stream ended: {0}")]
    Io(#[from] io::Error),
    /// The neighbour said what no neighbour may say.
    #[error("the neighbour broke the protocol: {0}")]
    Violation(#[from] Invalid),
    /// Nothing was said in time.
    #[error("no hello within {HELLO_MAX:?}")]
    Silent,
    /// The two ends have no version in common.
    #[error("no common version of the mesh")]
    Version,
    /// This device does not want it.
    #[error("declined: {0}")]
    Declined(#[from] Declined),
    /// The mesh stopped.
    #[error("the mesh stopped")]
    Stopped,
}

impl StreamError {
    /// How the connection is closed because of it.
    fn close_code(&self) -> u32 {
        match self {
            Self::Violation(_) | Self::Version | Self::Silent => code::VIOLATION,
            Self::Declined(Declined::TooMany) => code::TOO_MANY,
            Self::Declined(Declined::NotPaired) => code::NOT_PAIRED,
            Self::Stopped => code::SHUTDOWN,
            Self::Declined(Declined::Served) | Self::Lost(_) | Self::Io(_) => code::DONE,
        }
    }
}

/// A connection whose ends know each other.
#[derive(Debug)]
pub(crate) struct Line {
    conn: Conn,
    send: SendStream,
    recv: BufReader<RecvStream>,
    port: PortId,
    queue: Arc<Queue>,
}

impl Line {
    /// Says hello on a connection, hears the other's, and asks the mesh for a port.
    pub(crate) async fn open(shared: &Shared, conn: Conn, hello: Hello) -> Result<Self, StreamError> {
        let greeting = Self::greet(shared, &conn, hello);
        let line = tokio::time::timeout(HELLO_MAX, greeting).await.unwrap_or(Err(StreamError::Silent));
        if let Err(error) = &line {
            conn.close(error.close_code(), &error.to_string());
        }
        line
    }

    async fn greet(shared: &Shared, conn: &Conn, ours: Hello) -> Result<Self, StreamError> {
        let (mut send, recv) = match conn.side() {
            Side::Dialer => conn.open().await?,
            Side::Acceptor => conn.accept().await?,
        };
        let mut out = BytesMut::new();
        put_frame(&mut out, &Frame::IpControl(ours.encode()?).to_bytes());
        send.write_chunk(out.freeze()).await?;
        let mut recv = BufReader::with_capacity(READ_BYTES, recv);
        let theirs = read_hello(&mut recv).await?;
        ours.common_version(&theirs).ok_or(StreamError::Version)?;
        let root = conn.mesh_root()?;
        let (answer, answered) = oneshot::channel();
        let greeted = Greeted { conn: conn.clone(), ours: ours.seq, theirs, root, answer };
        shared.port_events.send(PortEvent::Up(Box::new(greeted))).await.map_err(|_| StreamError::Stopped)?;
        let (port, queue) = answered.await.map_err(|_| StreamError::Stopped)??;
        Ok(Self { conn: conn.clone(), send, recv, port, queue })
    }

    /// Moves frames until the connection ends.
    pub(crate) async fn run(self, shared: &Shared) {
        let Self { conn, mut send, mut recv, port, queue } = self;
        let error = tokio::select! {
            biased;
            error = hear(shared, port, &mut recv) => error,
            error = speak(shared, port, &queue, &mut send) => error,
            lost = conn.closed() => lost.into(),
        };
        tracing::debug!(peer = %conn.peer().short(), %error, "a mesh port ended");
        if matches!(error, StreamError::Violation(_)) {
            shared.violations.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        conn.close(error.close_code(), &error.to_string());
        // A mesh that stopped needs no word.
        let _ = shared.port_events.send(PortEvent::Down { port }).await;
    }
}

async fn read_hello(recv: &mut (impl AsyncRead + Unpin)) -> Result<Hello, StreamError> {
    const WHAT: &str = "hello";
    let bytes = read_frame(recv).await?;
    let Frame::IpControl(control) = Frame::decode(&bytes, PortKind::PointToPoint)? else {
        return Err(Invalid::Value { what: WHAT }.into());
    };
    match Control::decode(&control.body)? {
        Control::Hello(hello) => Ok(hello),
        Control::Unknown { .. } => Err(Invalid::Value { what: WHAT }.into()),
    }
}

async fn hear(shared: &Shared, port: PortId, recv: &mut (impl AsyncRead + Unpin)) -> StreamError {
    loop {
        let bytes = match read_frame(recv).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        if shared.port_events.send(PortEvent::Frame { port, bytes, quality: None }).await.is_err() {
            return StreamError::Stopped;
        }
    }
}

async fn speak(shared: &Shared, port: PortId, queue: &Queue, send: &mut SendStream) -> StreamError {
    loop {
        let (mut out, mut tokens) = (BytesMut::new(), Vec::new());
        let mut next = Some(queue.pop().await);
        while let Some(Waiting { token, bytes, expires_at, .. }) = next {
            let aired = expires_at >= Instant::now();
            if aired {
                put_frame(&mut out, &bytes);
            }
            tokens.push((token, aired));
            next = if out.len() < WRITE_BYTES { queue.try_pop() } else { None };
        }
        if let Err(error) = send.write_chunk(out.freeze()).await {
            return error.into();
        }
        for (token, aired) in tokens {
            if shared.port_events.send(PortEvent::Sent { port, token, aired }).await.is_err() {
                return StreamError::Stopped;
            }
        }
    }
}

/// Appends a frame with its length. The mesh makes none over the limit.
pub(super) fn put_frame(out: &mut BytesMut, frame: &[u8]) {
    let Ok(len) = u16::try_from(frame.len()) else { return };
    out.reserve(LENGTH_BYTES + frame.len());
    out.put_u16(len);
    out.put_slice(frame);
}

/// The next frame. Its length is judged before anything is allocated for it.
pub(super) async fn read_frame(recv: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, StreamError> {
    const WHAT: &str = "mesh frame";
    let len = usize::from(recv.read_u16().await?);
    if len == 0 {
        return Err(Invalid::Value { what: WHAT }.into());
    }
    if len > MESH_FRAME_BYTES_MAX {
        let (size, max) = (len as u64, MESH_FRAME_BYTES_MAX as u64);
        return Err(Invalid::TooLarge { what: WHAT, size, max }.into());
    }
    let mut frame = BytesMut::zeroed(len);
    recv.read_exact(&mut frame).await?;
    Ok(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::mesh::frame::Caps;

    fn least_hello() -> Hello {
        Hello {
            version_min: 1,
            version_max: 1,
            caps: Caps::NONE,
            services: vec![],
            name: String::new(),
            key_package: None,
            seq: 0,
        }
    }

    #[tokio::test]
    async fn golden_hello_on_a_stream_has_the_bytes_of_version_1() {
        let mut out = BytesMut::new();
        put_frame(&mut out, &Frame::IpControl(least_hello().encode().unwrap()).to_bytes());
        let golden = [0, 12, 0xf0, 0xa4, 0, 1, 1, 0x82, 1, 1, 2, 0, 6, 0];
        assert_eq!(out[..], golden);
        assert_eq!(read_hello(&mut &golden[..]).await.unwrap(), least_hello());
    }

    #[tokio::test]
    async fn a_length_is_judged_before_its_bytes_are_awaited() {
        for (length, fits) in
            [(0_u16, false), (1, true), (16 << 10, true), ((16 << 10) + 1, false), (u16::MAX, false)]
        {
            let bytes = [&length.to_be_bytes()[..], &vec![0xc0; usize::from(length)]].concat();
            assert_eq!(read_frame(&mut &bytes[..]).await.is_ok(), fits, "{length}");
            let error = read_frame(&mut &bytes[..2]).await.unwrap_err();
            assert_eq!(matches!(error, StreamError::Violation(_)), !fits, "{length}: {error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_hello_is_refused() {
        for bytes in [&[0, 1, 0xf0][..], &[0, 9, 0xc0, 1, 2, 3, 4, 5, 6, 7, 8], &[0, 3, 0xf0, 0xa0, 0]] {
            assert!(read_hello(&mut &bytes[..]).await.is_err(), "{bytes:?}");
        }
    }
}
