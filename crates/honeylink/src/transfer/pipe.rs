//! `pipe`: a local reader copied to a peer's writer, and nothing else.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Large enough that a terminal or a program's output passes in one piece.
const PIPE_BYTES: usize = 64 << 10;

/// Copies `from` to `to` until `from` ends, flushes whenever nothing more waits, then closes `to` for writing (half-close),
/// so that the other side sees the end and may still answer on its own direction. Returns the bytes copied.
///
/// # Errors
/// Of either side; what was copied before has been delivered to `to`.
pub async fn copy_pipe<R, W>(mut from: R, mut to: W) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; PIPE_BYTES];
    let mut copied = 0;
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            to.shutdown().await?;
            return Ok(copied);
        }
        to.write_all(&buffer[..len]).await?;
        // A person may be typing: what was read is on its way before the next read waits.
        to.flush().await?;
        copied += len as u64;
    }
}
