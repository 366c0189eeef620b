//! Blocks on their way out: given to the carrier whole, and used again when the receiver has them.
//!
//! QUIC keeps what it sent until the other side has acknowledged it. Handing the block over instead of having it copied
//! saves a copy of every byte; the block comes back when the last packet made of it is acknowledged.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncWrite, WriteHalf};

use crate::carrier::SendStream;

/// A writer that can take bytes over, where copying them can be spared.
pub trait ChunkWriter: AsyncWrite + Unpin {
    /// Takes some of the front of `chunk` off and writes it. Pending: nothing was taken.
    ///
    /// # Errors
    /// As of [`AsyncWrite::poll_write`].
    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>>;
}

impl ChunkWriter for SendStream {
    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        Self::poll_write_chunk(self, cx, chunk)
    }
}

/// Copies: what is behind a half is not known.
impl<T: AsyncWrite> ChunkWriter for WriteHalf<T> {
    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        let taken = ready!(Pin::new(self).poll_write(cx, chunk))?;
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        chunk.advance(taken);
        Poll::Ready(Ok(()))
    }
}

/// Writes all of `chunk`.
pub(super) async fn write_all<W: ChunkWriter>(writer: &mut W, mut chunk: Bytes) -> io::Result<()> {
    while !chunk.is_empty() {
        std::future::poll_fn(|cx| writer.poll_write_chunk(cx, &mut chunk)).await?;
    }
    Ok(())
}

/// Blocks that were written and that the carrier may still hold, oldest first. They are acknowledged in about that order.
#[derive(Debug, Default)]
pub(super) struct Afloat {
    blocks: VecDeque<Bytes>,
}

/// Blocks kept to be used again. More are under way only on a path that is long and fast; those are freed when they are
/// acknowledged, and how many there can be is bounded by the carrier's send window.
const AFLOAT_MAX: usize = 32;

impl Afloat {
    /// Adds a block that was just written.
    pub(super) fn push(&mut self, block: Bytes) {
        if self.blocks.len() == AFLOAT_MAX {
            self.blocks.pop_front();
        }
        self.blocks.push_back(block);
    }

    /// A block that nobody holds any more, or a new one of `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> BytesMut {
        match self.blocks.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(block)) if block.len() == len => block,
            Some(Err(held)) => {
                self.blocks.push_front(held);
                BytesMut::zeroed(len)
            }
            Some(Ok(_)) | None => BytesMut::zeroed(len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_back_when_nobody_holds_it_and_not_before() {
        let mut afloat = Afloat::default();
        let block = BytesMut::zeroed(64).freeze();
        let (place, part) = (block.as_ptr(), block.slice(3..9));
        afloat.push(block);
        let fresh = afloat.take(64);
        assert_ne!(fresh.as_ptr(), place, "a part of it is still held");
        drop(part);
        let again = afloat.take(64);
        assert_eq!((again.as_ptr(), again.len()), (place, 64));
        assert_eq!(afloat.take(64).len(), 64);
    }

    #[test]
    fn no_more_blocks_are_kept_than_the_bound() {
        let mut afloat = Afloat::default();
        for _ in 0..2 * AFLOAT_MAX {
            afloat.push(Bytes::from_static(b"held elsewhere"));
        }
        assert_eq!(afloat.blocks.len(), AFLOAT_MAX);
    }
}
