//! M0: messages of 100 bytes from one application to another over one link, as fast as they go.
//!
//! Each message is made anew and carries its number, and the receiver checks every one: a benchmark of lost or doubled
//! messages would be none. The control writes the same messages with a length before each on one raw stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use honeylink::Link;
use tokio::sync::Mutex;

use super::Scale;
use crate::Trouble;
use crate::pairs::{alternate, median};
use crate::report::Finding;
use crate::rig::{Linked, Raw, Rig};
use crate::usage;

const MESSAGE_BYTES: usize = 100;
/// Messages in one run: about a second.
const MESSAGES: usize = 1_000_000;

pub(crate) fn measure(scale: &Scale) -> Result<Finding, Trouble> {
    let rig = Rig::new()?;
    let linked = Linked::new(&rig)?;
    let raw = Raw::new(&rig)?;
    let count = scale.samples(MESSAGES) as u64;
    let (raw_send, raw_recv) = (Arc::new(Mutex::new(raw.ours.0)), Arc::new(Mutex::new(raw.theirs.1)));
    let (mut cpu, mut raw_cpu) = (Vec::new(), Vec::new());
    let mut ours = || {
        let (from, to) = (linked.ours.clone(), linked.theirs.clone());
        timed(&mut cpu, count, || rig.both(send(from, count), receive(to, count)))
    };
    let mut raws = || {
        let (from, to) = (raw_send.clone(), raw_recv.clone());
        timed(&mut raw_cpu, count, || rig.both(raw_write(from, count), raw_read(to, count)))
    };
    // The first run of each opens the congestion window.
    ours()?;
    raws()?;
    let pairs = alternate(scale.pairs(), &mut ours, &mut raws)?;
    linked.end(&rig)?;
    let facts = vec![
        ("cpu_us_per_message", median(&cpu)),
        ("raw_messages_per_s", median(&pairs.iter().map(|pair| pair.peers).collect::<Vec<_>>())),
        ("raw_cpu_us_per_message", median(&raw_cpu)),
        ("ratio_to_raw", median(&pairs.iter().map(|pair| pair.ours / pair.peers).collect::<Vec<_>>())),
    ];
    Ok(Finding::median_of(pairs.iter().map(|pair| pair.ours).collect(), facts))
}

/// Messages per second of one run, from the first sent to the last received; notes the CPU time of both sides.
fn timed(
    cpu: &mut Vec<f64>,
    count: u64,
    run: impl FnOnce() -> Result<((), ()), Trouble>,
) -> Result<f64, Trouble> {
    let (started, used) = (Instant::now(), usage::cpu());
    run()?;
    let (took, spent): (Duration, Duration) = (started.elapsed(), usage::cpu() - used);
    cpu.push(spent.as_secs_f64() * 1e6 / count as f64);
    Ok(count as f64 / took.as_secs_f64())
}

fn message(number: u64) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    message[..8].copy_from_slice(&number.to_be_bytes());
    message
}

fn check(message: &[u8], number: u64) -> Result<(), Trouble> {
    if message.len() == MESSAGE_BYTES && message.starts_with(&number.to_be_bytes()) {
        Ok(())
    } else {
        Err(format!("message {number} is not the one that was sent").into())
    }
}

async fn send(link: Link, count: u64) -> Result<(), Trouble> {
    for number in 0..count {
        link.send(Bytes::copy_from_slice(&message(number))).await?;
    }
    Ok(())
}

async fn receive(link: Link, count: u64) -> Result<(), Trouble> {
    for number in 0..count {
        check(&link.recv().await?, number)?;
    }
    Ok(())
}

async fn raw_write(send: Arc<Mutex<iroh::endpoint::SendStream>>, count: u64) -> Result<(), Trouble> {
    let mut send = send.lock().await;
    for number in 0..count {
        let mut framed = [0; 2 + MESSAGE_BYTES];
        framed[..2].copy_from_slice(&(MESSAGE_BYTES as u16).to_be_bytes());
        framed[2..].copy_from_slice(&message(number));
        send.write_all(&framed).await?;
    }
    Ok(())
}

async fn raw_read(recv: Arc<Mutex<iroh::endpoint::RecvStream>>, count: u64) -> Result<(), Trouble> {
    let mut recv = recv.lock().await;
    let mut buffer = BytesMut::new();
    let mut number = 0;
    while number < count {
        let chunk = recv.read_chunk(64 << 10).await?.ok_or("the stream ended early")?;
        buffer.extend_from_slice(&chunk);
        while let Some(head) = buffer.first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*head));
            if buffer.len() < 2 + len {
                break;
            }
            buffer.advance(2);
            check(&buffer.split_to(len), number)?;
            number += 1;
        }
    }
    Ok(())
}
