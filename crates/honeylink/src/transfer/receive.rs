//! The receiver's async side: asks for a decision, checks every frame against the offer, feeds the file threads.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a frame that has no place here is refused, whatever it is"
)]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use honeylink_core::transfer::frame::{Hash, Message, Offer, Reason};
use honeylink_core::transfer::intake::Violation;
use honeylink_core::transfer::names;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;

use super::BLOCKS_MAX;
use super::error::ReceiveError;
use super::handle::{Handle, Meter};
use super::inflow::staff;
use super::send::on_file_thread;
use super::staging::{LOCK_PATIENCE, Staging};
use super::store;
use super::wire::{FrameError, encoded, read_message};

/// Bytes read ahead: headers and small files come out of it. Content of more than this goes past it straight to its
/// buffer, and only the rest of a block is copied twice, so it is small beside a block.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// How long a stream that does not move may keep us from saying how it ended.
const LAST_WORD: Duration = Duration::from_secs(2);

/// What a received file must survive once the sender has its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut: data and names are synced once, before the final names.
    #[default]
    Sync,
    /// The end of the process. The system writes to disk when it likes; faster with many small files on slow disks.
    Lazy,
}

/// How to receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveOptions {
    /// Tells peers apart in the names of staging folders: the sender's id, for example.
    pub scope: Vec<u8>,
    /// See [`Durability`].
    pub durability: Durability,
    /// Threads that write, 1 to 8.
    pub file_threads: usize,
}

impl Default for ReceiveOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { scope: Vec::new(), durability: Durability::Sync, file_threads: cores.clamp(1, 4) }
    }
}

/// What a person or a rule says to an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Receive it.
    Accept,
    /// Receive it. An earlier attempt of the same transfer may have put it in place, in whole or in part, without its sender
    /// knowing: what lies there byte by byte the same gets no second name.
    AcceptAgain,
    /// Do not; the text is for the sender.
    Decline(String),
}

/// What was received.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiveReport {
    /// The offer that was fulfilled.
    pub offer: Offer,
    /// The first files and folders, under their final names.
    pub placed: Vec<PathBuf>,
    /// How many were placed.
    pub placed_count: u64,
    /// Content bytes kept from an earlier attempt.
    pub bytes_kept: u64,
    /// From the acceptance until everything was in place.
    pub elapsed: Duration,
    /// The sender has read the receipt. One that has not may offer the same once more ([`Decision::AcceptAgain`]).
    pub heard: bool,
    /// See the module's doc.
    pub digest: Hash,
}

impl From<FrameError> for ReceiveError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Stream(error) => Self::Stream(error),
            FrameError::Invalid(invalid) => Self::Protocol(invalid),
        }
    }
}

/// Receives what [`send`](super::send()) sends at the other end into the folder `into`, if `decide` accepts the offer.
///
/// Dropping the future stops the transfer and leaves what arrived in the staging folder for another attempt.
///
/// # Errors
/// [`ReceiveError`]; in none of its cases is anything under a final name.
pub async fn receive<R, W, D, F>(
    reader: R,
    mut writer: W,
    into: &Path,
    decide: D,
    options: ReceiveOptions,
    handle: &Handle,
) -> Result<ReceiveReport, ReceiveError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    D: FnOnce(Offer) -> F,
    F: Future<Output = Decision>,
{
    let mut reader = BufReader::with_capacity(READ_AHEAD_BYTES, reader);
    let offer = match read_message(&mut reader).await? {
        // The name is shown to a person and printed on terminals: nothing in it may deceive the one or steer the other.
        Message::Offer(offer) => Offer { name: names::repair(&offer.name), ..offer },
        Message::Stop { reason, text } => return Err(ReceiveError::Stopped { reason, text }),
        _ => return Err(Violation::Unexpected { what: "something before an offer" }.into()),
    };
    let staging = match consider(&mut reader, &offer, into, decide, &options, handle).await {
        Ok(staging) => staging,
        Err((error, text)) => {
            decline(&mut writer, &error, text).await;
            return Err(error);
        }
    };
    let started = Instant::now();
    let (out, frames) = mpsc::channel::<BytesMut>(BLOCKS_MAX);
    // Only this sends; so nothing is ever written into the middle of a frame.
    let mut outgoing = pin!(write_frames(&mut writer, frames));
    let outcome = {
        let mut work = pin!(work(&mut reader, staging, &offer, &options, out.clone(), handle));
        tokio::select! {
            biased;
            outcome = &mut work => outcome,
            // Ends before all senders are gone only if it fails.
            ended = &mut outgoing => Err(ReceiveError::Stream(
                ended.err().unwrap_or_else(|| std::io::ErrorKind::BrokenPipe.into()),
            )),
        }
    };
    let last = match &outcome {
        Ok((digest, ..)) => Some(Message::Receipt { digest: *digest }),
        Err(error) => error.stop_reason().map(|reason| Message::Stop { reason, text: error.stop_text() }),
    };
    let say_it = async {
        let Some(last) = last else { return false };
        let _ = out.send(encoded(&last)).await;
        drop(out);
        outgoing.await.is_ok() && was_read(&mut reader).await
    };
    let heard = tokio::time::timeout(LAST_WORD, say_it).await.unwrap_or(false);
    let (digest, bytes_kept, placed, placed_count) = outcome?;
    Ok(ReceiveReport { offer, placed, placed_count, bytes_kept, elapsed: started.elapsed(), heard, digest })
}

/// Waits for the end of the stream: the sender closes its side when it has read the last word, and then the connection may go.
async fn was_read<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> bool {
    let mut rest = [0; 1];
    loop {
        match reader.read(&mut rest).await {
            Ok(0) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

async fn write_frames<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut frames: mpsc::Receiver<BytesMut>,
) -> std::io::Result<()> {
    while let Some(frame) = frames.recv().await {
        writer.write_all(&frame).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

/// Asks for the decision and prepares the staging folder. An error comes with the text for the sender.
async fn consider<R, D, F>(
    reader: &mut BufReader<R>,
    offer: &Offer,
    into: &Path,
    decide: D,
    options: &ReceiveOptions,
    handle: &Handle,
) -> Result<Staging, (ReceiveError, String)>
where
    R: AsyncRead + Unpin,
    D: FnOnce(Offer) -> F,
    F: Future<Output = Decision>,
{
    let plain = |error: ReceiveError| {
        let text = error.stop_text();
        (error, text)
    };
    let decision = tokio::select! {
        biased;
        decision = decide(offer.clone()) => decision,
        () = handle.cancelled() => return Err(plain(ReceiveError::Cancelled)),
        // A sender that gives up while a person thinks must not leave a question on the screen.
        gone = sender_gone(reader) => return Err(plain(gone)),
    };
    let again = match decision {
        Decision::Accept => false,
        Decision::AcceptAgain => true,
        Decision::Decline(text) => return Err((ReceiveError::Declined, text)),
    };
    let (into, for_disk, scope) = (into.to_owned(), offer.clone(), options.scope.clone());
    let opened = on_file_thread(move || {
        let mut staging = Staging::open(&into, &for_disk, &scope, LOCK_PATIENCE)?;
        staging.again = again;
        if let Err(error) = staging.check_space(&for_disk) {
            staging.discard_if_empty();
            return Err(error);
        }
        Ok(staging)
    })
    .await;
    opened.map_err(ReceiveError::Stream).and_then(|staging| staging).map_err(plain)
}

async fn decline<W: AsyncWrite + Unpin>(writer: &mut W, error: &ReceiveError, text: String) {
    let Some(reason) = error.stop_reason() else { return };
    let frame = encoded(&Message::Decline { reason, text });
    let say_it = async {
        writer.write_all(&frame).await?;
        writer.shutdown().await
    };
    let _ = tokio::time::timeout(LAST_WORD, say_it).await;
}

/// Waits for anything before the acceptance: it can only be a stop or the end of the stream.
async fn sender_gone<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> ReceiveError {
    match reader.fill_buf().await {
        Ok([]) => return ReceiveError::Stream(std::io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => {}
        Err(error) => return ReceiveError::Stream(error),
    }
    match read_message(reader).await {
        Ok(Message::Stop { reason, text }) => ReceiveError::Stopped { reason, text },
        Ok(_) => Violation::Unexpected { what: "something before the acceptance" }.into(),
        Err(error) => error.into(),
    }
}

type Done = (Hash, u64, Vec<PathBuf>, u64);

/// From the acceptance until everything is in place.
async fn work<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    staging: Staging,
    offer: &Offer,
    options: &ReceiveOptions,
    out: mpsc::Sender<BytesMut>,
    handle: &Handle,
) -> Result<Done, ReceiveError> {
    let accept = encoded(&Message::Accept { resume: staging.resumed });
    out.send(accept).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
    let meter = Meter::new(handle, offer.bytes, offer.files);
    let (mut inflow, mut crew) = staff(reader, &staging, offer, options, out, meter);
    let outcome = tokio::select! {
        biased;
        () = handle.cancelled() => Err(ReceiveError::Cancelled),
        failed = crew.failure() => Err(failed),
        finished = inflow.run(handle) => finished,
    };
    let kept = inflow.bytes_kept;
    // Without jobs the threads come to their end.
    drop(inflow);
    let settled = crew.join().await;
    let durability = options.durability;
    match outcome.and_then(|digest| settled.map(|()| digest)) {
        Ok(digest) => {
            let many = offer.entries > 1;
            let placed = on_file_thread(move || {
                if many {
                    store::sync_all(&staging, durability)?;
                }
                staging.place(durability)
            })
            .await?;
            let (placed, count) = placed?;
            Ok((digest, kept, placed, count))
        }
        Err(error) => {
            let cancelled = matches!(
                error,
                ReceiveError::Cancelled | ReceiveError::Stopped { reason: Reason::Cancelled, .. }
            );
            on_file_thread(move || {
                if cancelled {
                    return staging.discard();
                }
                staging.discard_if_empty();
                Ok(())
            })
            .await??;
            Err(error)
        }
    }
}
