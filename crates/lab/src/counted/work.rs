//! What is counted.

use std::time::Duration;

use honeylink::testing::{BoxError, Network, Stack};
use honeylink::{Class, Link, Node};
use honeylink_core::qos::{Scheduler, StreamOptions};
use honeylink_core::time::Time;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

honeylink::virtual_time!();

const PROTOCOL: &str = "counted/1";
const MESSAGE: [u8; 100] = [7; 100];
const MEGABYTE: usize = 1_000_000;
/// Streams of the scheduler that is counted.
const STREAMS: usize = 100;
/// What each of them sends at a time.
const CHUNK_BYTES: u64 = 4096;

pub(crate) fn run(what: &str, times: u32) -> Result<(), String> {
    match what {
        "message" => simulated(async move |network| messages(&network, times).await),
        "megabyte" => simulated(async move |network| megabytes(&network, times).await),
        "connect" => simulated(async move |network| connects(&network, times).await),
        "decision" => decisions(times),
        _ => Err(format!("no work is called `{what}`")),
    }
}

/// On a network of one millisecond each way that loses nothing.
fn simulated(work: impl AsyncFnOnce(Network) -> Result<(), BoxError> + Send) -> Result<(), String> {
    let network = Network::builder().stack(Stack::Quic).seed(1).latency(Duration::from_millis(1));
    let network = network.loss(0.0).bandwidth(1_000_000_000);
    network.run(|network| work(network)).map_err(|failure| failure.to_string())
}

async fn linked(a: &Node, b: &Node) -> Result<(Link, Link), BoxError> {
    let mut listener = b.listen(PROTOCOL)?;
    let ours = a.connect(b.id(), PROTOCOL).await?;
    Ok((ours, listener.accept().await.ok_or("stopped")?))
}

/// Messages of 100 bytes on one link.
async fn messages(network: &Network, times: u32) -> Result<(), BoxError> {
    let [a, b] = network.paired(["a", "b"]).await?;
    let (ours, theirs) = linked(&a, &b).await?;
    let sending = tokio::spawn(async move {
        for _ in 0..times {
            ours.send(&MESSAGE[..]).await?;
        }
        Ok::<_, BoxError>(ours)
    });
    for _ in 0..times {
        theirs.recv().await?;
    }
    sending.await??;
    Ok(())
}

/// Megabytes on one stream.
async fn megabytes(network: &Network, times: u32) -> Result<(), BoxError> {
    let [a, b] = network.paired(["a", "b"]).await?;
    let (ours, theirs) = linked(&a, &b).await?;
    let sending = tokio::spawn(async move {
        let mut stream = ours.open_stream(Class::Bulk).await?;
        let megabyte = vec![7; MEGABYTE];
        for _ in 0..times {
            stream.send.write_all(&megabyte).await?;
        }
        Ok::<_, BoxError>((ours, stream))
    });
    let mut stream = theirs.accept_stream().await?;
    let mut megabyte = vec![0; MEGABYTE];
    for _ in 0..times {
        stream.recv.read_exact(&mut megabyte).await?;
    }
    sending.await??;
    Ok(())
}

/// Pairs of nodes that start, find each other and link.
async fn connects(network: &Network, times: u32) -> Result<(), BoxError> {
    for nth in 0..times {
        let names = [format!("a{nth}"), format!("b{nth}")];
        let [a, b] = network.paired([names[0].as_str(), names[1].as_str()]).await?;
        let _linked = linked(&a, &b).await?;
        a.shutdown().await;
        b.shutdown().await;
    }
    Ok(())
}

/// Decisions who sends next, among streams that always have something to send.
fn decisions(times: u32) -> Result<(), String> {
    let mut scheduler = Scheduler::default();
    let mut now = Time::from_micros(0);
    let options = StreamOptions::from(Class::Bulk);
    for _ in 0..STREAMS {
        let id = scheduler.open(now, options).map_err(|error| error.to_string())?;
        scheduler.enqueue(now, id, CHUNK_BYTES * 2);
    }
    for _ in 0..times {
        now += Duration::from_micros(300);
        let send = scheduler.next(now, CHUNK_BYTES).ok_or("nobody sends")?;
        scheduler.sent(now, send.stream, send.bytes_max);
        scheduler.enqueue(now, send.stream, send.bytes_max);
    }
    Ok(())
}
