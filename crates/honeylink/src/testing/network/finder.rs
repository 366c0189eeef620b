//! Discovery in a simulation: what multicast DNS would find, without its packets.

use std::collections::BTreeMap;
use std::time::Duration;

use honeylink_core::limits::NEARBY_TTL_MAX;
use honeylink_sim::device::NodeId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::internet::Internet;
use crate::discovery::{Announcement, Finder, Observation};

/// What is seen is believed for [`NEARBY_TTL_MAX`], and shown again in time.
const SHOW_AGAIN: Duration = Duration::from_secs(1_200);

/// Tells every node which others it hears, when that changes and after the delay.
pub(super) async fn run(inner: std::sync::Weak<Inner>, internet: Internet, delay: Duration) {
    // By who hears, in which of its lives, and whom.
    let mut seen: BTreeMap<(NodeId, u32, NodeId), (Announcement, Instant)> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            () = internet.changed() => {}
            () = tokio::time::sleep(SHOW_AGAIN / 2) => {}
        }
        tokio::time::sleep(delay).await;
        let Some(inner) = inner.upgrade() else { return };
        let nodes = inner.running();
        seen.retain(|(listener, life, other), (said, _)| {
            let same = nodes.iter().find(|node| (node.at, node.life) == (*listener, *life));
            let still = same.is_some() && internet.hears(*listener, *other);
            if let (false, Some(discovery)) = (still, same.and_then(|node| node.node.discovery())) {
                discovery.forget(Finder::Mdns, said.txt.id);
            }
            still
        });
        for hears in &nodes {
            for speaks in nodes.iter().filter(|other| other.at != hears.at) {
                let Some(said) = speaks.node.discovery().map(|d| d.announced().borrow().clone()) else {
                    continue;
                };
                let key = (hears.at, hears.life, speaks.at);
                let old = seen.get(&key);
                let known = old.is_some_and(|(was, at)| *was == said && at.elapsed() < SHOW_AGAIN);
                if known || !internet.hears(hears.at, speaks.at) {
                    continue;
                }
                if let Some(discovery) = hears.node.discovery() {
                    discovery.observe(Finder::Mdns, observed(&said, speaks.at));
                }
                seen.insert(key, (said, Instant::now()));
            }
        }
    }
}

fn observed(said: &Announcement, node: NodeId) -> Observation {
    Observation {
        id: said.txt.id,
        name: said.txt.name.clone(),
        device_type: said.txt.device_type,
        version: said.txt.version.clone(),
        caps: said.txt.caps,
        pairing: said.txt.pairing,
        addresses: vec![Internet::addr(node)],
        interface: Some("simulated".to_owned()),
        rssi: None,
        ttl: NEARBY_TTL_MAX,
    }
}

/// Watches what a node announces, and its end.
pub(super) async fn follow(
    internet: Internet,
    mut announced: watch::Receiver<Announcement>,
    over: CancellationToken,
) {
    while let Some(Ok(())) = over.run_until_cancelled(announced.changed()).await {
        internet.hint_changed();
    }
    internet.hint_changed();
}
