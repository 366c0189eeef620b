//! The test bench itself: two runtimes, as two devices would have, with two nodes on them or two raw endpoints.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use honeylink::{Link, Node, Reach, testing};
use iroh::endpoint::{Connection, RecvStream, SendStream, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use crate::Trouble;

/// Nothing that works takes this long. A wait that reaches it fails its row and is never a sample.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The protocol of both sides of every benchmark.
pub(crate) const PROTOCOL: &str = "bench/1";

/// The two devices' runtimes. What is measured runs as a task on their workers, where an application's code runs.
pub(crate) struct Rig {
    here: Runtime,
    there: Runtime,
}

impl Rig {
    pub(crate) fn new() -> Result<Self, Trouble> {
        Ok(Self { here: runtime("here")?, there: runtime("there")? })
    }

    /// Runs `work` on the first device's workers and waits for it.
    pub(crate) fn here<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
    ) -> Result<T, Trouble> {
        self.here.block_on(self.here.spawn(patiently(work)))?
    }

    /// The same on the second device.
    pub(crate) fn there<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Trouble>> + Send + 'static,
    ) -> Result<T, Trouble> {
        self.there.block_on(self.there.spawn(patiently(work)))?
    }

    /// Leaves `work` running on the second device: what answers there.
    pub(crate) fn serve(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.there.spawn(work).abort_handle()
    }

    /// Starts `theirs` on the second device, runs `ours` on the first, and gives what both came to.
    pub(crate) fn both<T: Send + 'static, U: Send + 'static>(
        &self,
        ours: impl Future<Output = Result<T, Trouble>> + Send + 'static,
        theirs: impl Future<Output = Result<U, Trouble>> + Send + 'static,
    ) -> Result<(T, U), Trouble> {
        let theirs = self.there.spawn(patiently(theirs));
        let ours = self.here(ours)?;
        let theirs = self.there.block_on(theirs)??;
        Ok((ours, theirs))
    }
}

fn runtime(name: &str) -> Result<Runtime, Trouble> {
    // The defaults, as the program itself has: a worker per processor.
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().thread_name(name).build()?)
}

async fn patiently<T>(work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(format!("nothing after {PATIENCE:?}").into()),
    }
}

/// A node of this machine only.
pub(crate) async fn node(name: &str) -> Result<Node, Trouble> {
    Ok(Node::builder().name(name).reach(Reach::Loopback).build().await?)
}

/// Two paired nodes and a link between them.
pub(crate) struct Linked {
    nodes: (Node, Node),
    pub(crate) ours: Link,
    pub(crate) theirs: Link,
}

impl Linked {
    pub(crate) fn new(rig: &Rig) -> Result<Self, Trouble> {
        let a = rig.here(node("here"))?;
        let b = rig.there(node("there"))?;
        testing::introduce(&a, &b)?;
        let (dialler, target) = (a.clone(), b.id());
        let mut listener = b.listen(PROTOCOL)?;
        let (ours, theirs) = rig
            .both(async move { Ok(dialler.connect(target, PROTOCOL).await?) }, async move {
                listener.accept().await.ok_or_else(|| "the node stopped".into())
            })?;
        Ok(Self { nodes: (a, b), ours, theirs })
    }

    /// Ends both nodes; what is left running would steal time from the next row.
    pub(crate) fn end(self, rig: &Rig) -> Result<(), Trouble> {
        let Self { nodes: (a, b), ours, theirs } = self;
        drop((ours, theirs));
        rig.here(async move {
            a.shutdown().await;
            Ok(())
        })?;
        rig.there(async move {
            b.shutdown().await;
            Ok(())
        })
    }
}

/// The control: a plain iroh endpoint with the transport's defaults, and the cryptography that ours has.
pub(crate) async fn endpoint() -> Result<Endpoint, Trouble> {
    Ok(Endpoint::builder(presets::Empty)
        .crypto_provider(honeylink::crypto::provider()?)
        .relay_mode(RelayMode::Disabled)
        .alpns(vec![PROTOCOL.as_bytes().to_vec()])
        .clear_ip_transports()
        .bind_addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?
        .bind()
        .await?)
}

/// Where a raw endpoint of this machine is.
pub(crate) fn address(endpoint: &Endpoint) -> EndpointAddr {
    endpoint.bound_sockets().into_iter().fold(EndpointAddr::new(endpoint.id()), EndpointAddr::with_ip_addr)
}

/// A raw bidirectional stream.
pub(crate) type RawStream = (SendStream, RecvStream);

/// Dials, opens a stream and sends one byte; iroh tells the other side of a stream by its first byte.
pub(crate) async fn dial(endpoint: &Endpoint, to: EndpointAddr) -> Result<(Connection, RawStream), Trouble> {
    let connection = endpoint.connect(to, PROTOCOL.as_bytes()).await?;
    let mut stream = connection.open_bi().await?;
    stream.0.write_all(b"!").await?;
    Ok((connection, stream))
}

/// The other side of [`dial`].
pub(crate) async fn answer(endpoint: &Endpoint) -> Result<(Connection, RawStream), Trouble> {
    let incoming = endpoint.accept().await.ok_or("the endpoint is closed")?;
    let connection = incoming.await?;
    let mut stream = connection.accept_bi().await?;
    stream.1.read_exact(&mut [0]).await?;
    Ok((connection, stream))
}

/// What keeps raw streams alive.
pub(crate) type Held = ((Endpoint, Connection), (Endpoint, Connection));

/// Two raw endpoints and a stream between them.
pub(crate) struct Raw {
    /// Dropping it would close the streams.
    pub(crate) held: Held,
    pub(crate) ours: RawStream,
    pub(crate) theirs: RawStream,
}

impl Raw {
    pub(crate) fn new(rig: &Rig) -> Result<Self, Trouble> {
        let a = rig.here(endpoint())?;
        let b = rig.there(endpoint())?;
        let (dialler, to, answerer) = (a.clone(), address(&b), b.clone());
        let ((c1, ours), (c2, theirs)) =
            rig.both(async move { dial(&dialler, to).await }, async move { answer(&answerer).await })?;
        Ok(Self { held: ((a, c1), (b, c2)), ours, theirs })
    }
}
