//! Frames on a stream: exact reads, bounded waits, and a goodbye that arrives.

use std::future::Future;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use honeylink_core::limits::{PAIRING_FRAME_BYTES_MAX, PAIRING_STEP_MAX};
use honeylink_core::pairing::frame::{Frame, HEADER_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{PairingError, Refusal};

/// How long to wait for the other side to take note of a refusal before letting go of the stream.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// A stream that speaks frames.
pub(super) struct Wire<'a, S> {
    stream: &'a mut S,
    /// The frame being read; never more than one, so nothing behind the last frame is swallowed.
    partial: BytesMut,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Wire<'a, S> {
    pub(super) fn new(stream: &'a mut S) -> Self {
        Self { stream, partial: BytesMut::new() }
    }

    /// Sends a frame. `after` names what we wait for next, in case the stream is gone.
    pub(super) async fn send(&mut self, frame: &Frame, after: &'static str) -> Result<(), PairingError> {
        let bytes = frame.encode();
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        match timeout(PAIRING_STEP_MAX, write).await {
            Ok(Ok(())) => Ok(()),
            // A refusal may be why the other side stopped reading; it says more than "lost".
            Ok(Err(_)) => Err(self.last_word().await.unwrap_or(PairingError::Lost(after))),
            Err(_) => Err(PairingError::TimedOut(after)),
        }
    }

    /// The next frame within the step's time. A refusal becomes an error here, so no caller can overlook it.
    pub(super) async fn receive(&mut self, expected: &'static str) -> Result<Frame, PairingError> {
        match timeout(PAIRING_STEP_MAX, self.receive_unhurried(expected)).await {
            Ok(received) => received,
            Err(_) => Err(PairingError::TimedOut(expected)),
        }
    }

    /// The next frame, however long it takes. Dropping the future loses nothing that was read.
    pub(super) async fn receive_unhurried(&mut self, expected: &'static str) -> Result<Frame, PairingError> {
        loop {
            let missing = match self.partial.first_chunk::<HEADER_BYTES>() {
                None => HEADER_BYTES - self.partial.len(),
                Some(header) => {
                    let len = Frame::body_len(*header).map_err(PairingError::Malformed)?;
                    HEADER_BYTES + len - self.partial.len()
                }
            };
            if missing == 0 {
                self.partial.advance(HEADER_BYTES);
                let frame = Frame::decode(&self.partial).map_err(PairingError::Malformed);
                self.partial.clear();
                let frame = frame?;
                if let Frame::Refuse(refusal) = frame {
                    return Err(PairingError::Refused(refusal));
                }
                return Ok(frame);
            }
            let mut exactly = (&mut *self.stream).take(missing as u64);
            match exactly.read_buf(&mut self.partial).await {
                Ok(0) | Err(_) => return Err(PairingError::Lost(expected)),
                Ok(_) => {}
            }
        }
    }

    /// Runs `ceremony`'s error path: tells the other side why this one stops, unless the other side stopped first.
    pub(super) async fn part(&mut self, error: &PairingError) {
        let Some(refusal) = farewell(error) else {
            return;
        };
        let goodbye = async {
            let _ = self.stream.write_all(&Frame::Refuse(refusal).encode()).await;
            let _ = self.stream.shutdown().await;
            // Closing a connection at once may overtake the refusal, so wait until the other side has hung up.
            let mut rest = (&mut *self.stream).take(4 * PAIRING_FRAME_BYTES_MAX as u64);
            let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
        };
        let _ = within(GOODBYE_MAX, goodbye).await;
    }

    /// After a failed write: a refusal that is still readable.
    async fn last_word(&mut self) -> Option<PairingError> {
        match within(GOODBYE_MAX, self.receive_unhurried("refusal")).await {
            Some(Err(error @ PairingError::Refused(_))) => Some(error),
            Some(_) | None => None,
        }
    }
}

/// The error for a frame that had no business coming now.
pub(super) const fn out_of_turn(expected: &'static str, found: &Frame) -> PairingError {
    PairingError::OutOfTurn { expected, found: found.name() }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(limit, work).await.ok()
}

/// What to tell the other side when this one fails.
fn farewell(error: &PairingError) -> Option<Refusal> {
    match error {
        PairingError::Refused(_) | PairingError::Lost(_) => None,
        PairingError::TurnedAway(refusal) => Some(*refusal),
        PairingError::SelfPairing => Some(Refusal::SelfPairing),
        PairingError::BothEntering => Some(Refusal::BothEntering),
        PairingError::SasMismatch => Some(Refusal::SasMismatch),
        PairingError::TimedOut(_) => Some(Refusal::TimedOut),
        PairingError::Cancelled | PairingError::NobodyToCompare | PairingError::WrongDevice { .. } => {
            Some(Refusal::Cancelled)
        }
        PairingError::HostUnproven
        | PairingError::Reflected
        | PairingError::BrokenCommitment
        | PairingError::VersionNotOffered(_)
        | PairingError::Malformed(_)
        | PairingError::OutOfTurn { .. } => Some(Refusal::Protocol),
    }
}
