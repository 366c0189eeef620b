//! The load: streams that always have something to send, one that sends 64 bytes now and then and waits for the answer,
//! and what came of it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::Runtime;

use crate::Trouble;

/// Bytes of a ping.
const PING_BYTES: usize = 64;
/// Between two pings: 200 a second.
const PING_EVERY: Duration = Duration::from_millis(5);
/// Bytes a saturating stream writes at a time.
const WRITE_BYTES: usize = 64 << 10;
/// The first byte of a stream says what it is for.
const FOR_PING: u8 = b'p';
const FOR_BULK: u8 = b'b';

pub(crate) type Reader = Pin<Box<dyn AsyncRead + Send>>;
pub(crate) type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Round trips of the pings, milliseconds.
    pub(crate) pings_ms: Vec<f64>,
    /// Bytes that arrived of each saturating stream.
    pub(crate) bytes: Vec<u64>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// The share of the machine's processor time that somebody else had meanwhile.
    pub(crate) stolen: f64,
}

impl Outcome {
    pub(crate) fn goodput_mbit_per_s(&self) -> f64 {
        self.bytes.iter().sum::<u64>() as f64 * 8e-6 / self.seconds
    }

    /// Jain's index over some of the streams: 1 if all got the same.
    pub(crate) fn jain(&self, range: std::ops::Range<usize>) -> f64 {
        let got: Vec<f64> = self.bytes.get(range).unwrap_or_default().iter().map(|b| *b as f64).collect();
        let (sum, squares) = (got.iter().sum::<f64>(), got.iter().map(|b| b * b).sum::<f64>());
        sum * sum / (got.len() as f64 * squares)
    }

    /// The part some of the streams got of all.
    pub(crate) fn share(&self, range: std::ops::Range<usize>) -> f64 {
        let part: u64 = self.bytes.get(range).unwrap_or_default().iter().sum();
        part as f64 / self.bytes.iter().sum::<u64>() as f64
    }
}

/// Bytes that arrived, by stream.
pub(crate) type Counts = Arc<Vec<AtomicU64>>;

pub(crate) fn counts(streams: usize) -> Counts {
    Arc::new((0..streams).map(|_| AtomicU64::new(0)).collect())
}

/// Serves one stream at the far end until it ends.
pub(crate) async fn answer(mut send: Writer, mut recv: Reader, counts: Counts) {
    let mut head = [0; 5];
    if recv.read_exact(&mut head).await.is_err() {
        return;
    }
    if head[0] == FOR_PING {
        let mut ping = [0; PING_BYTES];
        while recv.read_exact(&mut ping).await.is_ok() && send.write_all(&ping).await.is_ok() {}
        return;
    }
    let index = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let Some(count) = counts.get(index as usize) else { return };
    let mut buffer = vec![0; WRITE_BYTES];
    while let Ok(read @ 1..) = recv.read(&mut buffer).await {
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Sends on one stream as fast as it takes it, until told to stop.
pub(crate) async fn saturate(mut send: Writer, index: u32, stop: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut head = vec![FOR_BULK];
    head.extend(index.to_be_bytes());
    send.write_all(&head).await?;
    let buffer = vec![7; WRITE_BYTES];
    while !stop.load(Ordering::Relaxed) {
        send.write_all(&buffer).await?;
    }
    Ok(())
}

/// Pings on a stream, from a thread of its own: a timer of the runtime would be late when the runtime is busy, and count
/// less for it. Gives the round trips in milliseconds.
pub(crate) fn ping(
    runtime: &Runtime,
    mut send: Writer,
    mut recv: Reader,
    count: usize,
) -> Result<Vec<f64>, Trouble> {
    let started = Instant::now();
    let handle = runtime.handle().clone();
    runtime.block_on(send.write_all(&[FOR_PING, 0, 0, 0, 0]))?;
    let sending = std::thread::spawn(move || -> std::io::Result<()> {
        for nth in 0..count as u32 {
            let due = started + PING_EVERY * nth;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut ping = [0; PING_BYTES];
            ping[..16].copy_from_slice(&started.elapsed().as_nanos().to_be_bytes());
            handle.block_on(send.write_all(&ping))?;
        }
        // Kept open until the last answer is there.
        handle.block_on(async { tokio::time::sleep(Duration::from_millis(500)).await });
        Ok(())
    });
    let took = runtime.block_on(async move {
        let mut took = Vec::with_capacity(count);
        let mut answer = [0; PING_BYTES];
        for _ in 0..count {
            let answered = tokio::time::timeout(Duration::from_secs(20), recv.read_exact(&mut answer)).await;
            answered.map_err(|_| "a ping was not answered within 20 s")??;
            let mut sent = [0; 16];
            sent.copy_from_slice(&answer[..16]);
            let sent_ns = u128::from_be_bytes(sent);
            took.push((started.elapsed().as_nanos() - sent_ns) as f64 / 1e6);
        }
        Ok::<_, Trouble>(took)
    })?;
    sending.join().map_err(|_| "the pinging thread panicked")??;
    Ok(took)
}
