//! A lossy line: three namespaces in a row, and in the middle one a forwarder that holds every UDP packet for a while and
//! loses some. In user space, because not every kernel has `netem`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use honeylink::{Class, FecChoice, Link, Node, StreamOptions};
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use super::net::{self, Cable};
use super::peers::{Connected, Devices, link_between};
use crate::Trouble;
use crate::report::Finding;
use crate::rows::Scale;

/// Each way.
const DELAY: Duration = Duration::from_millis(20);
/// Each way, per mille.
const LOST_PER_MILLE: u32 = 20;
/// Packets on their way at a time; more are lost, as on any line.
const PACKETS_MAX: usize = 4096;
/// Datagrams of one run.
const DATAGRAMS: usize = 10_000;
/// Between two datagrams.
const EVERY: Duration = Duration::from_millis(5);
const DATAGRAM_BYTES: usize = 200;
/// After this a datagram is worth nothing.
const DEADLINE: Duration = Duration::from_millis(100);

const NEAR: &str = "10.98.0.2:7000";
const FAR: &str = "10.97.0.1:7000";

/// Two devices with the line between them.
struct Line {
    here: Runtime,
    there: Runtime,
    middle: Runtime,
    _spaces: net::Spaces,
}

impl Line {
    fn new() -> Result<Self, Trouble> {
        let spaces = net::Spaces::new(&["here", "middle", "there"])?;
        spaces.join(("here", "10.98.0.1"), ("middle", "10.98.0.2"))?;
        spaces.join(("there", "10.97.0.2"), ("middle", "10.97.0.1"))?;
        let runtime = |name| spaces.runtime(name);
        Ok(Self {
            here: runtime("here")?,
            there: runtime("there")?,
            middle: runtime("middle")?,
            _spaces: spaces,
        })
    }

    /// Forwards between whoever speaks to [`NEAR`] and `to`.
    fn forward(&self, to: SocketAddr) -> Result<(), Trouble> {
        let bound = async {
            let near = UdpSocket::bind(NEAR.parse::<SocketAddr>()?).await?;
            Ok((Arc::new(near), Arc::new(UdpSocket::bind(FAR.parse::<SocketAddr>()?).await?)))
        };
        let (near, far) = Devices::on(&self.middle, bound)?;
        let caller = Arc::new(Mutex::new(None));
        let target = Arc::new(Mutex::new(Some(to)));
        self.middle.spawn(carry(near.clone(), far.clone(), caller.clone(), target.clone(), 1));
        self.middle.spawn(carry(far, near, target, caller, 2));
        Ok(())
    }
}

/// Moves packets from one socket to whoever is known on the other side, late and not all of them. Ends with its runtime.
async fn carry(
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    sender: Arc<Mutex<Option<SocketAddr>>>,
    receiver: Arc<Mutex<Option<SocketAddr>>>,
    seed: u32,
) {
    let mut random = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let due = held.front().map_or_else(|| Instant::now() + Duration::from_secs(60), |(due, _)| *due);
        tokio::select! {
            received = from.recv_from(&mut buffer) => {
                let Ok((len, addr)) = received else { continue };
                *sender.lock().await = Some(addr);
                // Marsaglia's xorshift: repeats exactly, and nothing here is a secret.
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                if random % 1000 >= LOST_PER_MILLE && held.len() < PACKETS_MAX {
                    held.push_back((Instant::now() + DELAY, buffer[..len].to_vec()));
                }
            }
            () = tokio::time::sleep_until(due.into()) => {
                if let (Some((_, packet)), Some(addr)) = (held.pop_front(), *receiver.lock().await) {
                    // A packet that cannot be sent is one more that is lost.
                    let _ = to.send_to(&packet, addr).await;
                }
            }
        }
    }
}

/// E1: the share of realtime datagrams that stays lost with repair, and without beside it.
pub(crate) fn repaired(scale: &Scale) -> Result<Finding, Trouble> {
    if !Cable::possible() {
        return Ok(Finding::Skipped("needs root and network namespaces".into()));
    }
    let line = Line::new()?;
    let (a, b): (Node, Node) = (Connected::node(&line.here, "here")?, Connected::node(&line.there, "there")?);
    let port = b.bound_addrs().first().ok_or("the node listens nowhere")?.port();
    line.forward(SocketAddr::new("10.97.0.2".parse()?, port))?;
    let (ours, theirs) = link_between((&line.here, &a), (&line.there, &b), NEAR.parse()?)?;
    let count = scale.samples(DATAGRAMS);
    let bare = flow(&line, &ours, &theirs, FecChoice::Off, count)?;
    let repaired = flow(&line, &ours, &theirs, FecChoice::AtLeastLight, count)?;
    drop((ours, theirs));
    line.here.block_on(async move { a.shutdown().await });
    line.there.block_on(async move { b.shutdown().await });
    let percent = |fate: &Fate| 100.0 * (1.0 - fate.arrived as f64 / count as f64);
    let facts = vec![
        ("without_repair_percent", percent(&bare)),
        ("recovered", repaired.recovered as f64),
        ("repair_per_datagram", repaired.repair as f64 / count as f64),
    ];
    Ok(Finding::Measured { value: percent(&repaired), samples: Vec::new(), facts })
}

/// What became of a flow's datagrams.
struct Fate {
    arrived: usize,
    recovered: u64,
    repair: u64,
}

fn flow(line: &Line, ours: &Link, theirs: &Link, fec: FecChoice, count: usize) -> Result<Fate, Trouble> {
    let listening = theirs.clone();
    let receiving = line.there.spawn(async move {
        let mut flow = listening.accept_datagrams().await?;
        let mut seen = vec![false; count];
        // The flow's end is a word on a stream, and so is never lost.
        while let Some(datagram) = flow.recv().await {
            let nth = datagram.first_chunk().map_or(usize::MAX, |nth| u32::from_be_bytes(*nth) as usize);
            if let Some(seen) = seen.get_mut(nth) {
                *seen = true;
            }
        }
        let arrived = seen.iter().filter(|seen| **seen).count();
        Ok::<_, Trouble>((arrived, flow.stats().recovered))
    });
    let link = ours.clone();
    let sending = async move {
        let options = StreamOptions { deadline: Some(DEADLINE), ..Class::Realtime.into() };
        let flow = link.open_datagrams(options, fec).await?;
        let started = tokio::time::Instant::now();
        for nth in 0..u32::try_from(count)? {
            tokio::time::sleep_until(started + EVERY * nth).await;
            let mut datagram = vec![0; DATAGRAM_BYTES];
            datagram[..4].copy_from_slice(&nth.to_be_bytes());
            flow.send(Bytes::from(datagram))?;
        }
        // Until the last repair has left.
        tokio::time::sleep(DEADLINE * 2).await;
        let repair = flow.stats().repair;
        flow.finish().await?;
        Ok::<_, Trouble>(repair)
    };
    let repair = line.here.block_on(line.here.spawn(sending))??;
    let (arrived, recovered) = line.there.block_on(receiving)??;
    Ok(Fate { arrived, recovered, repair })
}
