//! The two halves of a QUIC stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use iroh::endpoint::VarInt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::paced::Gauge;

/// The sending half of a QUIC stream. Dropped without `finish`, it is reset: QUIC itself would finish it, and the other
/// side would take what it has for the whole.
#[derive(Debug)]
pub(crate) struct QuicSend {
    inner: iroh::endpoint::SendStream,
    finished: bool,
}

impl Drop for QuicSend {
    fn drop(&mut self) {
        if !self.finished {
            self.reset();
        }
    }
}

impl QuicSend {
    pub(super) fn new(inner: iroh::endpoint::SendStream) -> Self {
        Self { inner, finished: false }
    }

    pub(super) fn poll_write_chunk(
        &mut self,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<std::io::Result<()>> {
        let mut rest = std::slice::from_mut(chunk);
        let written = {
            // Dropping it while it is pending loses nothing: it has taken nothing then.
            let writing = std::pin::pin!(self.inner.write_many_chunks(&mut rest));
            ready!(writing.poll(cx))
        };
        if rest.is_empty() {
            chunk.clear();
        }
        written.map(|_| ()).map_err(std::io::Error::from).into()
    }

    pub(super) fn reset(&mut self) {
        // Already closed is what the caller wants.
        let _ = self.inner.reset(VarInt::from_u32(super::code::DONE));
    }

    pub(super) async fn finished(&mut self) -> std::io::Result<()> {
        match self.inner.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(std::io::Error::new(
                std::io::ErrorKind::BrokenPipe,
                "the other device stopped reading the stream",
            )),
            Err(error) => Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, error)),
        }
    }

    pub(super) fn set_priority(&self, priority: u8) {
        // Fails only on a stream that is closed, which needs no priority.
        let _ = self.inner.set_priority(i32::from(priority));
    }
}

impl AsyncWrite for QuicSend {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.inner), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.inner), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.finished = true;
        AsyncWrite::poll_shutdown(Pin::new(&mut self.inner), cx)
    }
}

/// The receiving half of a QUIC stream.
#[derive(Debug)]
pub struct QuicRecv {
    inner: iroh::endpoint::RecvStream,
    gauge: Arc<Gauge>,
}

impl QuicRecv {
    pub(super) fn new(inner: iroh::endpoint::RecvStream, gauge: Arc<Gauge>) -> Self {
        Self { inner, gauge }
    }

    pub(super) async fn read_chunk(&mut self, max: usize) -> std::io::Result<Option<Bytes>> {
        let chunk = self.inner.read_chunk(max).await.map_err(std::io::Error::from)?;
        self.gauge.receive(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        Ok(chunk)
    }

    pub(super) fn stop(&mut self) {
        // Already finished is what the caller wants.
        let _ = self.inner.stop(VarInt::from_u32(super::code::DONE));
    }
}

impl AsyncRead for QuicRecv {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(AsyncRead::poll_read(Pin::new(&mut self.inner), cx, buf))?;
        self.gauge.receive((buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}
