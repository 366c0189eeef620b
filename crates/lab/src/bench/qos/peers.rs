//! Who carries the load: a link of ours, or a raw iroh connection beside it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use honeylink::{Class, Link, Node, Reach, StreamOptions, testing};
use iroh::endpoint::{Connection, QuicTransportConfig, VarInt, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use tokio::runtime::Runtime;

use super::load::{self, Outcome, Reader, Writer};
use super::net::{Cable, THERE};
use crate::Trouble;

const PROTOCOL: &str = "bench/1";
/// Streams raw iroh allows; 100 unless told otherwise, and a row has ten times as many.
const RAW_STREAMS_MAX: u32 = 2048;
/// What is sent before anything counts.
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);

/// What runs over the cable.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// What each saturating stream asks for.
    pub(crate) bulk: Vec<StreamOptions>,
    /// Saturating streams in the other direction too.
    pub(crate) both_ways: bool,
    pub(crate) pings: usize,
    /// How long bytes are counted for where nobody pings.
    pub(crate) seconds: Duration,
    /// What the pings ask for.
    pub(crate) ping: StreamOptions,
}

impl Load {
    /// Ninety-nine equal ones and a realtime ping.
    pub(crate) fn equals(streams: usize, pings: usize) -> Self {
        let bulk = vec![StreamOptions::from(Class::Bulk); streams];
        Self { bulk, both_ways: false, pings, seconds: Duration::ZERO, ping: Class::Realtime.into() }
    }

    /// Nobody pings.
    pub(crate) fn silent(seconds: Duration) -> Self {
        Self { seconds, ..Self::equals(0, 0) }
    }
}

/// Two devices on a cable and what connects them.
pub(crate) struct Devices {
    pub(crate) cable: Cable,
    pub(crate) here: Runtime,
    pub(crate) there: Runtime,
}

impl Devices {
    pub(crate) fn new(mbit_per_s: u32, buffer_ms: u32) -> Result<Self, Trouble> {
        let cable = Cable::new(mbit_per_s, buffer_ms)?;
        let (here, there) = (cable.runtime("here")?, cable.runtime("there")?);
        Ok(Self { cable, here, there })
    }

    pub(crate) fn on<T: Send + 'static>(
        runtime: &Runtime,
        work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
    ) -> Result<T, Trouble> {
        let patient = async { tokio::time::timeout(Duration::from_secs(20), work).await };
        runtime.block_on(runtime.spawn(patient))??
    }
}

/// Either side of either kind.
#[derive(Clone)]
pub(crate) enum Pipe {
    Ours(Link),
    Raw(Connection),
}

impl Pipe {
    async fn open(&self, options: StreamOptions) -> Result<(Writer, Reader), Trouble> {
        match self {
            Self::Ours(link) => {
                let stream = link.open_stream(options).await?;
                Ok((Box::pin(stream.send), Box::pin(stream.recv)))
            }
            Self::Raw(connection) => {
                let (send, recv) = connection.open_bi().await?;
                send.set_priority(options.priority.as_u8().into())?;
                Ok((Box::pin(send), Box::pin(recv)))
            }
        }
    }

    async fn accept(&self) -> Result<(Writer, Reader), Trouble> {
        match self {
            Self::Ours(link) => {
                let stream = link.accept_stream().await?;
                Ok((Box::pin(stream.send), Box::pin(stream.recv)))
            }
            Self::Raw(connection) => {
                let (send, recv) = connection.accept_bi().await?;
                // Only answers to pings are sent on it.
                send.set_priority(7)?;
                Ok((Box::pin(send), Box::pin(recv)))
            }
        }
    }

    /// Serves whatever the other side opens.
    async fn serve(self, counts: load::Counts) {
        while let Ok((send, recv)) = self.accept().await {
            tokio::spawn(load::answer(send, recv, counts.clone()));
        }
    }
}

/// Both ends of a connection, and what keeps them alive.
pub(crate) struct Connected {
    pub(crate) here: Pipe,
    pub(crate) there: Pipe,
    _nodes: Option<(Node, Node)>,
    _endpoints: Option<(Endpoint, Endpoint)>,
}

impl Connected {
    pub(crate) fn ours(devices: &Devices) -> Result<Self, Trouble> {
        let (a, b) = (Self::node(&devices.here, "here")?, Self::node(&devices.there, "there")?);
        let port = b.bound_addrs().first().ok_or("the node listens nowhere")?.port();
        let to = SocketAddr::new(THERE.parse()?, port);
        let (ours, theirs) = link_between((&devices.here, &a), (&devices.there, &b), to)?;
        Ok(Self { here: Pipe::Ours(ours), there: Pipe::Ours(theirs), _nodes: Some((a, b)), _endpoints: None })
    }

    /// A device at one end.
    pub(crate) fn node(runtime: &Runtime, name: &'static str) -> Result<Node, Trouble> {
        Devices::on(runtime, async move {
            Ok(Node::builder().name(name).reach(Reach::Lan).discovery(false).build().await?)
        })
    }

    pub(crate) fn raw(devices: &Devices) -> Result<Self, Trouble> {
        let endpoint = || async {
            Ok(Endpoint::builder(presets::Empty)
                .crypto_provider(honeylink::crypto::provider()?)
                .relay_mode(RelayMode::Disabled)
                .alpns(vec![PROTOCOL.as_bytes().to_vec()])
                .transport_config(
                    QuicTransportConfig::builder()
                        .max_concurrent_bidi_streams(VarInt::from_u32(RAW_STREAMS_MAX))
                        .build(),
                )
                .clear_ip_transports()
                .bind_addr(SocketAddr::from(([0, 0, 0, 0], 0)))?
                .bind()
                .await?)
        };
        let a: Endpoint = Devices::on(&devices.here, endpoint())?;
        let b: Endpoint = Devices::on(&devices.there, endpoint())?;
        let port = b.bound_sockets().first().ok_or("the endpoint listens nowhere")?.port();
        let to = EndpointAddr::new(b.id()).with_ip_addr(SocketAddr::new(THERE.parse()?, port));
        let answering = b.clone();
        let accepting = devices.there.spawn(async move {
            let incoming = answering.accept().await.ok_or("the endpoint is closed")?;
            Ok::<_, Trouble>(incoming.await?)
        });
        let dialler = a.clone();
        let here =
            Devices::on(&devices.here, async move { Ok(dialler.connect(to, PROTOCOL.as_bytes()).await?) })?;
        let there = devices.there.block_on(accepting)??;
        Ok(Self { here: Pipe::Raw(here), there: Pipe::Raw(there), _nodes: None, _endpoints: Some((a, b)) })
    }

    /// Ends both sides.
    pub(crate) fn end(self, devices: &Devices) {
        let Self { here, there, _nodes: nodes, _endpoints: endpoints } = self;
        drop((here, there));
        if let Some((a, b)) = nodes {
            devices.here.block_on(async move { a.shutdown().await });
            devices.there.block_on(async move { b.shutdown().await });
        }
        if let Some((a, b)) = endpoints {
            devices.here.block_on(async move { a.close().await });
            devices.there.block_on(async move { b.close().await });
        }
    }

    /// Runs a load for as long as its pings take. `meanwhile` runs on this thread once it is warm, and sees what arrives there
    /// and here.
    pub(crate) fn run(
        &self,
        devices: &Devices,
        load: &Load,
        meanwhile: impl FnOnce(&[load::Counts; 2], Instant) -> Result<(), Trouble>,
    ) -> Result<Outcome, Trouble> {
        let counts = [load::counts(load.bulk.len()), load::counts(load.bulk.len())];
        let [arrived, back] = &counts;
        let stop = Arc::new(AtomicBool::new(false));
        let mut serving = vec![devices.there.spawn(self.there.clone().serve(arrived.clone()))];
        serving.push(devices.here.spawn(self.here.clone().serve(back.clone())));
        let mut sending = Vec::new();
        for (index, options) in (0..).zip(load.bulk.iter().copied()) {
            sending.push(spawn_bulk(&devices.here, &self.here, options, index, &stop));
            if load.both_ways {
                sending.push(spawn_bulk(&devices.there, &self.there, options, index, &stop));
            }
        }
        std::thread::sleep(WARM_UP);
        let before: Vec<u64> = arrived.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let started = Instant::now();
        let pinged = self.pinged(devices, load, || meanwhile(&counts, started));
        let seconds = started.elapsed().as_secs_f64();
        let bytes = arrived.iter().zip(before).map(|(now, before)| now.load(Ordering::Relaxed) - before);
        let bytes = bytes.collect();
        stop.store(true, Ordering::Relaxed);
        sending.iter().for_each(tokio::task::JoinHandle::abort);
        serving.iter().for_each(tokio::task::JoinHandle::abort);
        Ok(Outcome { bytes, seconds, pings_ms: pinged?, stolen: 0.0 })
    }

    /// Pings as long as the load says, with `meanwhile` beside it; without pings waits as long as it says.
    fn pinged(
        &self,
        devices: &Devices,
        load: &Load,
        meanwhile: impl FnOnce() -> Result<(), Trouble>,
    ) -> Result<Vec<f64>, Trouble> {
        let started = Instant::now();
        if load.pings == 0 {
            meanwhile()?;
            std::thread::sleep(load.seconds.saturating_sub(started.elapsed()));
            return Ok(Vec::new());
        }
        let (pipe, options) = (self.here.clone(), load.ping);
        let (send, recv) = Devices::on(&devices.here, async move { pipe.open(options).await })?;
        std::thread::scope(|scope| {
            let pinging = scope.spawn(|| load::ping(&devices.here, send, recv, load.pings));
            let done = meanwhile();
            let pinged = pinging.join().map_err(|_| "the pinging thread panicked")?;
            done.and(pinged)
        })
    }
}

/// A link between two nodes, of which one reaches the other at `to`.
pub(crate) fn link_between(
    (here, a): (&Runtime, &Node),
    (there, b): (&Runtime, &Node),
    to: SocketAddr,
) -> Result<(Link, Link), Trouble> {
    testing::introduce(a, b)?;
    a.add_address(b.id(), to);
    let mut listener = b.listen(PROTOCOL)?;
    let accepting = there.spawn(async move { listener.accept().await });
    let (dialler, target) = (a.clone(), b.id());
    let ours = Devices::on(here, async move { Ok(dialler.connect(target, PROTOCOL).await?) })?;
    let theirs = there.block_on(accepting)?.ok_or("the node stopped")?;
    Ok((ours, theirs))
}

fn spawn_bulk(
    runtime: &Runtime,
    pipe: &Pipe,
    options: StreamOptions,
    index: u32,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<()> {
    let (pipe, stop) = (pipe.clone(), stop.clone());
    runtime.spawn(async move {
        if let Ok((send, _recv)) = pipe.open(options).await {
            // It ends with the connection, which is how a run ends.
            let _ = load::saturate(send, index, stop).await;
        }
    })
}
