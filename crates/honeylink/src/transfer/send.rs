//! The sender's async side: offers, moves blocks to the stream, listens to the receiver.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a frame that has no place here is refused, whatever it is"
)]

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use honeylink_core::limits::TRANSFER_WINDOW_ENTRIES_MAX;
use honeylink_core::transfer::frame::{Hash, Message, Offer, Reason, TransferId};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::BLOCKS_MAX;
use super::chunks::{self, Afloat, ChunkWriter};
use super::error::SendError;
use super::handle::{Handle, Meter};
use super::produce::{Block, Checked, Ends, Halt, Producer};
use super::source::{Note, Notes, Sources};
use super::wire::{FrameError, encoded, read_message};

/// How long a stream that does not move may keep us from saying why we stop.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendOptions {
    /// Names the transfer across attempts; see [`Sources::id`].
    pub id: TransferId,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct SendReport {
    /// Files of the transfer.
    pub files: u64,
    /// Content bytes of the transfer.
    pub bytes: u64,
    /// Content bytes the receiver kept from an earlier attempt, which were not sent again.
    pub bytes_kept: u64,
    /// From the offer to the receipt, including the time the receiver took to decide.
    pub elapsed: Duration,
    /// From the acceptance to the receipt.
    pub moving: Duration,
    /// See the module's doc.
    pub digest: Hash,
    /// The first entries that were skipped or renamed.
    pub notes: Vec<Note>,
    /// How many were.
    pub notes_count: u64,
}

impl From<FrameError> for SendError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Stream(error) => Self::Stream(error),
            FrameError::Invalid(invalid) => Self::Protocol(invalid),
        }
    }
}

/// Sends `sources` to whoever calls [`receive`](super::receive()) at the other end, and returns when everything is verified
/// and in place there. Dropping the future stops the transfer and leaves what arrived for another attempt.
///
/// # Errors
/// [`SendError`]; nothing wrong is under a final name at the receiver in any of its cases.
pub async fn send<R, W>(
    mut reader: R,
    mut writer: W,
    sources: Sources,
    options: SendOptions,
    handle: &Handle,
) -> Result<SendReport, SendError>
where
    R: AsyncRead + Unpin,
    W: ChunkWriter,
{
    let started = Instant::now();
    let (sources, totals) = on_file_thread(move || {
        let totals = sources.scan();
        (sources, totals)
    })
    .await?;
    let totals = totals?;
    let offer = Offer {
        id: options.id,
        name: sources.name(),
        entries: totals.entries,
        files: totals.files,
        bytes: totals.bytes,
    };
    writer.write_all(&encoded(&Message::Offer(offer.clone()))).await?;
    writer.flush().await?;
    let reply = tokio::select! {
        biased;
        reply = read_message(&mut reader) => reply?,
        () = handle.cancelled() => return Err(give_up(&mut writer, SendError::Cancelled).await),
    };
    let resume = match reply {
        Message::Accept { resume } => resume,
        Message::Decline { reason, text } => return Err(SendError::Declined { reason, text }),
        other => return Err(ended_by(other)),
    };
    let accepted = Instant::now();
    let (digest, bytes_kept) = transmit(reader, writer, sources, &offer, resume, handle).await?;
    let Notes { first: notes, count: notes_count } = totals.notes;
    Ok(SendReport {
        files: offer.files,
        bytes: offer.bytes,
        bytes_kept,
        elapsed: started.elapsed(),
        moving: accepted.elapsed(),
        digest,
        notes,
        notes_count,
    })
}

async fn transmit<R, W>(
    mut reader: R,
    mut writer: W,
    sources: Sources,
    offer: &Offer,
    resume: bool,
    handle: &Handle,
) -> Result<(Hash, u64), SendError>
where
    R: AsyncRead + Unpin,
    W: ChunkWriter,
{
    let (full_in, full_out) = mpsc::channel(BLOCKS_MAX);
    let (empty_in, empty_out) = mpsc::channel(BLOCKS_MAX);
    for _ in 0..BLOCKS_MAX {
        // The channel holds exactly as many.
        let _ = empty_in.try_send(Block::empty(BytesMut::zeroed(Block::ROOM_BYTES)));
    }
    // An honest receiver has never more to tell than the listing is ahead.
    let (checked_in, checked_out) = mpsc::channel(TRANSFER_WINDOW_ENTRIES_MAX);
    let ends = Ends { full: full_in, empty: empty_out, checked: resume.then_some(checked_out) };
    let for_producer = offer.clone();
    let mut producer = pin!(on_file_thread(move || Producer::run(&sources, for_producer, ends)));
    let mut meter = Meter::new(handle, offer.bytes, offer.files);

    let outcome = {
        let mut pump = pin!(pump(&mut writer, full_out, empty_in, &mut meter, handle));
        let mut listen = pin!(listen(&mut reader, checked_in, offer.entries));
        let (mut pumped, mut produced, mut failed, mut receipt) = (None, None, None, None);
        loop {
            // The receipt may be here before we have noticed that we are done.
            if let (Some(kept), Some(digest), Some(receipt)) = (pumped, produced, receipt) {
                break Ok((receipt, kept, digest));
            }
            tokio::select! {
                biased;
                () = handle.cancelled(), if pumped.is_none() => {
                    // Between two blocks a last word can be said; inside one it would be taken for content.
                    let between = tokio::time::timeout(LAST_WORD, &mut pump).await.is_ok();
                    break Err((SendError::Cancelled, between));
                }
                () = handle.cancelled() => break Err((SendError::Cancelled, true)),
                heard = &mut listen, if receipt.is_none() => match heard {
                    Ok(digest) => receipt = Some(digest),
                    Err(error) => break Err((error, false)),
                },
                kept = &mut pump, if pumped.is_none() => match (kept, failed.take()) {
                    (Ok(_), Some(error)) => break Err((error, true)),
                    (Ok(kept), None) => pumped = Some(kept),
                    (Err(error), _) if receipt.is_some() => break Err((error.into(), false)),
                    (Err(error), _) => break Err((why_it_broke(&mut listen, error).await, false)),
                },
                ended = &mut producer, if produced.is_none() && failed.is_none() => match ended? {
                    Ok(digest) => produced = Some(digest),
                    Err(Halt::Failed(error)) if pumped.is_some() => break Err((error, true)),
                    // What is on its way already ends first.
                    Err(Halt::Failed(error)) => failed = Some(error),
                    // The pump has failed, and its error tells more.
                    Err(Halt::Gone) => failed = Some(SendError::Unexpected),
                },
            }
        }
    };
    meter.publish();
    match outcome {
        Ok((receipt, kept, digest)) => {
            let _ = writer.shutdown().await;
            if receipt == digest { Ok((digest, kept)) } else { Err(SendError::Mismatch) }
        }
        Err((error, true)) => Err(give_up(&mut writer, error).await),
        Err((error, false)) => Err(error),
    }
}

/// Writes blocks until the file thread is done or the transfer is cancelled; returns the bytes that need not be sent.
async fn pump<W: ChunkWriter>(
    writer: &mut W,
    mut full: mpsc::Receiver<Block>,
    empty: mpsc::Sender<Block>,
    meter: &mut Meter,
    handle: &Handle,
) -> std::io::Result<u64> {
    let mut kept = 0;
    let mut afloat = Afloat::default();
    loop {
        let block = tokio::select! {
            biased;
            () = handle.cancelled() => break,
            block = full.recv() => match block {
                Some(block) => block,
                None => break,
            },
        };
        handle.clearance().await;
        let bytes = block.buffer.freeze();
        chunks::write_all(writer, bytes.slice(..block.filled)).await?;
        afloat.push(bytes);
        if full.is_empty() {
            writer.flush().await?;
        }
        kept += block.kept;
        meter.current(&block.current);
        meter.kept(block.kept);
        meter.files(block.files);
        meter.moved(block.moved);
        let _ = empty.try_send(Block::empty(afloat.take(Block::ROOM_BYTES)));
    }
    writer.flush().await?;
    Ok(kept)
}

/// Passes claims on until the receipt arrives. Never waits for the file thread, so that a stop is heard at once; and keeps
/// at most one claim for each entry, whatever the receiver sends.
async fn listen<R: AsyncRead + Unpin>(
    reader: &mut R,
    checked: mpsc::Sender<Checked>,
    entries: u64,
) -> Result<Hash, SendError> {
    let mut told = 0;
    loop {
        match read_message(reader).await? {
            Message::Have { upto, mut claims } => {
                let upto = upto.min(entries);
                if upto <= told {
                    continue;
                }
                let mut next = told;
                claims.retain(|claim| {
                    let fits = (next..upto).contains(&claim.index);
                    if fits {
                        next = claim.index + 1;
                    }
                    fits
                });
                told = upto;
                // A file thread that has ended needs no claims any more.
                if let Err(mpsc::error::TrySendError::Full(_)) = checked.try_send((upto, claims)) {
                    return Err(SendError::Unexpected);
                }
            }
            Message::Receipt { digest } => return Ok(digest),
            other => return Err(ended_by(other)),
        }
    }
}

/// A receiver that stops closes its side; what it said before tells more than that writing fails now.
async fn why_it_broke(
    listen: impl Future<Output = Result<Hash, SendError>>,
    error: std::io::Error,
) -> SendError {
    match tokio::time::timeout(LAST_WORD, listen).await {
        Ok(Err(said @ SendError::Stopped { .. })) => said,
        Ok(Ok(_) | Err(_)) | Err(_) => SendError::Stream(error),
    }
}

fn ended_by(message: Message) -> SendError {
    if let Message::Stop { reason, text } = message {
        return SendError::Stopped { reason, text };
    }
    SendError::Unexpected
}

/// Tells the receiver why nothing more comes, if it can still be told.
async fn give_up<W: AsyncWrite + Unpin>(writer: &mut W, error: SendError) -> SendError {
    let reason = match &error {
        SendError::Cancelled => Reason::Cancelled,
        SendError::Source(_) | SendError::SourceChanged { .. } | SendError::Unsendable { .. } => {
            Reason::Source
        }
        SendError::Protocol(_) | SendError::Unexpected => Reason::Protocol,
        SendError::Declined { .. }
        | SendError::Stopped { .. }
        | SendError::Mismatch
        | SendError::Stream(_) => {
            return error;
        }
    };
    // Never a path of this machine.
    let text = match &error {
        SendError::Source(disk) => disk.source.to_string(),
        SendError::SourceChanged { .. } => "a file changed while it was sent".into(),
        SendError::Unsendable { why, .. } => (*why).to_owned(),
        _ => error.to_string(),
    };
    let stop = encoded(&Message::Stop { reason, text });
    let last_word = async {
        writer.write_all(&stop).await?;
        writer.shutdown().await
    };
    let _ = tokio::time::timeout(LAST_WORD, last_word).await;
    error
}

/// Runs blocking file work. A panic in there is a bug; it surfaces as an error of the stream instead of taking the
/// process down.
pub(super) async fn on_file_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}
