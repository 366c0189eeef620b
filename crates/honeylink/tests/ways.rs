//! Which way the bytes to a peer go is told as it happens, with its cause, and remembered.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use honeylink::paths::Cause;
use honeylink::{Node, Reach, Rung, WayChanged, testing};
use tokio::sync::broadcast::Receiver;

const PROTOCOL: &str = "ways/1";
const PATIENCE: Duration = Duration::from_secs(30);

async fn node(name: &str) -> Node {
    Node::builder().name(name).reach(Reach::Loopback).discovery(false).build().await.unwrap()
}

/// Whether a change is one between the loopback addresses of IPv4 and IPv6: both lead there, which of them is quicker
/// changes with the weather, and when a connection ends one is gone before the other.
fn is_between_loopbacks(cause: Cause) -> bool {
    ![Cause::First, Cause::Lost, Cause::Restored].contains(&cause)
}

async fn next(changes: &mut Receiver<WayChanged>) -> WayChanged {
    loop {
        match tokio::time::timeout(PATIENCE, changes.recv()).await.map(Result::unwrap) {
            Ok(change) if is_between_loopbacks(change.change.cause) => {}
            Ok(change) => return change,
            Err(_) => panic!("no change was told"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_lost_and_restored_is_told_with_its_cause_and_gap_and_remembered() {
    let (a, b) = (node("a").await, node("b").await);
    testing::introduce(&a, &b).unwrap();
    let _listener = b.listen(PROTOCOL).unwrap();
    let mut changes = a.way_changes();
    assert_eq!(a.ways(&b.id()), honeylink::Ways::default());

    let link = a.connect(b.id(), PROTOCOL).await.unwrap();
    let first = next(&mut changes).await;
    assert_eq!((first.peer, first.change.cause), (b.id(), Cause::First));
    assert_eq!(first.change.to.as_ref().unwrap().rung, Rung::Local);
    assert!(first.reason.is_some());

    // The connection ends, and with it the link; a later link brings another.
    b.disconnect(&a.id(), "for a moment");
    let lost = next(&mut changes).await;
    assert_eq!((lost.change.cause, lost.change.to), (Cause::Lost, None));
    drop(link);
    let link = a.connect(b.id(), PROTOCOL).await.unwrap();
    let restored = next(&mut changes).await;
    assert_eq!(restored.change.cause, Cause::Restored);
    assert!(restored.change.gap > Duration::ZERO);

    let ways = a.ways(&b.id());
    let causes = ways.history.iter().map(|change| change.change.cause);
    let causes: Vec<_> = causes.filter(|cause| !is_between_loopbacks(*cause)).collect();
    assert_eq!(causes, [Cause::First, Cause::Lost, Cause::Restored]);
    assert_eq!(ways.counts.iter().sum::<u64>(), ways.history.len() as u64);
    assert!(ways.reason.is_some());
    drop(link);
    a.shutdown().await;
    b.shutdown().await;
}
