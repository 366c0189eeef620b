//! C1: how long `connect` takes a device that has never spoken to the other since it started.
//!
//! Every sample is a new node, so no connection, no path and no ticket is left from the sample before. The control does
//! the same with a new raw endpoint: connect, open a stream, one byte there and back, which is as many round trips.

use std::time::Instant;

use honeylink::{Listener, Node, testing};
use iroh::{Endpoint, EndpointAddr};

use super::Scale;
use crate::Trouble;
use crate::pairs::{Pair, alternate, median, quantile};
use crate::report::Finding;
use crate::rig::{self, PROTOCOL, Rig};

const CONNECTS: usize = 300;

pub(crate) fn measure(scale: &Scale) -> Result<Finding, Trouble> {
    let rig = Rig::new()?;
    let target = rig.there(rig::node("there"))?;
    let raw_target = rig.there(rig::endpoint())?;
    let serving = rig.serve(serve(target.listen(PROTOCOL)?, raw_target.clone()));
    let (to, raw_to) = (target.clone(), rig::address(&raw_target));
    let pairs =
        alternate(scale.samples(CONNECTS), || rig.here(ours(to.clone())), || rig.here(raw(raw_to.clone())))?;
    serving.abort();
    rig.there(async move {
        target.shutdown().await;
        raw_target.close().await;
        Ok(())
    })?;
    let split = |side: fn(&Pair) -> f64| pairs.iter().map(side).collect::<Vec<_>>();
    let (ours, raw) = (split(|pair| pair.ours), split(|pair| pair.peers));
    let facts = vec![
        ("p50_ms", median(&ours)),
        ("max_ms", quantile(&ours, 1.0)),
        ("raw_p50_ms", median(&raw)),
        ("raw_p99_ms", quantile(&raw, 0.99)),
    ];
    Ok(Finding::Measured { value: quantile(&ours, 0.99), samples: ours, facts })
}

/// Accepts whatever comes, until aborted.
async fn serve(mut listener: Listener, raw: Endpoint) {
    let links = async {
        while let Some(link) = listener.accept().await {
            // Held until the other side closes: `recv` ends then.
            tokio::spawn(async move { link.recv().await.is_ok() });
        }
    };
    let streams = async {
        while let Ok((connection, mut stream)) = rig::answer(&raw).await {
            tokio::spawn(async move {
                let _ = stream.0.write_all(b"!").await;
                connection.closed().await
            });
        }
    };
    tokio::join!(links, streams);
}

async fn ours(target: Node) -> Result<f64, Trouble> {
    let node = rig::node("here").await?;
    testing::introduce(&node, &target)?;
    let started = Instant::now();
    let link = node.connect(target.id(), PROTOCOL).await?;
    let took = started.elapsed();
    link.close("measured").await?;
    node.shutdown().await;
    target.store().trust().forget(&node.id())?;
    Ok(took.as_secs_f64() * 1e3)
}

async fn raw(to: EndpointAddr) -> Result<f64, Trouble> {
    let endpoint = rig::endpoint().await?;
    let started = Instant::now();
    let (connection, mut stream) = rig::dial(&endpoint, to).await?;
    stream.1.read_exact(&mut [0]).await?;
    let took = started.elapsed();
    drop((connection, stream));
    endpoint.close().await;
    Ok(took.as_secs_f64() * 1e3)
}
