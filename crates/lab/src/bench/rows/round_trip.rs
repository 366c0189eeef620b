//! L1: what the session costs a message that somebody waits for.
//!
//! 64 bytes there and back, one at a time, on a link and on a raw stream; a pair is one block of round trips each. The raw
//! side does what an application would: one `write_all`, one `read_exact`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use honeylink::Link;
use tokio::sync::Mutex;

use super::Scale;
use crate::Trouble;
use crate::pairs::{alternate, median, quantile};
use crate::report::Finding;
use crate::rig::{Linked, Raw, RawStream, Rig};

const MESSAGE: [u8; 64] = [7; 64];
/// Round trips in one half of a pair: about a quarter of a second.
const BLOCK: usize = 2000;

pub(crate) fn measure(scale: &Scale) -> Result<Finding, Trouble> {
    let rig = Rig::new()?;
    let linked = Linked::new(&rig)?;
    let raw = Raw::new(&rig)?;
    let block = scale.samples(BLOCK);
    let echoing = rig.serve(until_error(echo(linked.theirs.clone())));
    let raw_echoing = rig.serve(until_error(raw_echo(raw.theirs)));
    let stream = Arc::new(Mutex::new(raw.ours));
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    let mut one_ours = || keep(&mut ours, rig.here(round_trips(linked.ours.clone(), block))?);
    let mut one_raw = || keep(&mut raws, rig.here(raw_round_trips(stream.clone(), block))?);
    // The first block of each finds the path's MTU and wakes the caches.
    one_ours()?;
    one_raw()?;
    let pairs = alternate(scale.pairs(), &mut one_ours, &mut one_raw)?;
    echoing.abort();
    raw_echoing.abort();
    linked.end(&rig)?;
    let facts = vec![
        ("p50_us", median(&ours)),
        ("p99_us", quantile(&ours, 0.99)),
        ("raw_p50_us", median(&raws)),
        ("raw_p99_us", quantile(&raws, 0.99)),
    ];
    Ok(Finding::median_of(pairs.iter().map(|pair| pair.ours / pair.peers).collect(), facts))
}

/// Adds a block to all samples and gives its median.
fn keep(all: &mut Vec<f64>, block: Vec<f64>) -> Result<f64, Trouble> {
    let p50 = median(&block);
    all.extend(block);
    Ok(p50)
}

/// An echo ends with the link it answers on; the asking side says what went wrong.
async fn until_error(echo: impl Future<Output = Result<(), Trouble>>) {
    let _ = echo.await;
}

async fn echo(link: Link) -> Result<(), Trouble> {
    loop {
        link.send(link.recv().await?).await?;
    }
}

async fn raw_echo((mut send, mut recv): RawStream) -> Result<(), Trouble> {
    let mut message = MESSAGE;
    loop {
        recv.read_exact(&mut message).await?;
        send.write_all(&message).await?;
    }
}

/// Microseconds of each round trip.
async fn round_trips(link: Link, count: usize) -> Result<Vec<f64>, Trouble> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        link.send(Bytes::copy_from_slice(&MESSAGE)).await?;
        let answer = link.recv().await?;
        took.push(started.elapsed().as_secs_f64() * 1e6);
        if answer != MESSAGE[..] {
            return Err("the echo is not what was sent".into());
        }
    }
    Ok(took)
}

async fn raw_round_trips(stream: Arc<Mutex<RawStream>>, count: usize) -> Result<Vec<f64>, Trouble> {
    let mut stream = stream.lock().await;
    let (send, recv) = &mut *stream;
    let mut took = Vec::with_capacity(count);
    let mut answer = [0; MESSAGE.len()];
    for _ in 0..count {
        let started = Instant::now();
        send.write_all(&MESSAGE).await?;
        recv.read_exact(&mut answer).await?;
        took.push(started.elapsed().as_secs_f64() * 1e6);
        if answer != MESSAGE {
            return Err("the echo is not what was sent".into());
        }
    }
    Ok(took)
}
