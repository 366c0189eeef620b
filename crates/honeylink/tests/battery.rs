//! What an idle link costs, by the counters of real connections on loopback: with `fast` both sides show all the time that they
//! are there, with `battery` nothing is sent for seconds at a stretch, and the link is alive all the same.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use honeylink::paths::{Failover, Pace};
use honeylink::{Link, Node, Reach, testing};

const PROTOCOL: &str = "idle/1";
/// No wait in these tests is longer; a test that hits it has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Three packets of a `fast` link, and a third of the time between two of a `battery` one.
const SPAN: Duration = Duration::from_secs(5);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

/// Two devices with a link between them on which nothing is said.
struct Idle {
    nodes: [Node; 2],
    ends: [Link; 2],
}

impl Idle {
    async fn new(kept: [Failover; 2]) -> Self {
        let node = async |name: &str, kept: Failover| {
            let builder = Node::builder().name(name).reach(Reach::Loopback).discovery(false).failover(kept);
            builder.build().await.unwrap()
        };
        let (ann, bob) = (node("ann", kept[0]).await, node("bob", kept[1]).await);
        testing::introduce(&ann, &bob).unwrap();
        let mut listener = bob.listen(PROTOCOL).unwrap();
        let from = soon("connect", ann.connect(bob.id(), PROTOCOL)).await.unwrap();
        let to = soon("accept", listener.accept()).await.unwrap();
        Self { nodes: [ann, bob], ends: [from, to] }
    }

    /// Packets that each side sends in [`SPAN`].
    async fn packets(&self) -> [u64; 2] {
        let sent = || [0, 1].map(|side: usize| self.nodes[side].stats().traffic.sent);
        let before = sent();
        // tidy: sleep because what is counted is how little happens in a time
        tokio::time::sleep(SPAN).await;
        let after = sent();
        [after[0] - before[0], after[1] - before[1]]
    }

    /// Counts until it is as wanted: what a connection does at first is over some time, and a busy machine may be late.
    async fn until(&self, what: &str, wanted: impl Fn([u64; 2]) -> bool) {
        let began = Instant::now();
        loop {
            let packets = self.packets().await;
            println!("{what}: in {SPAN:?} the two sent {packets:?}");
            if wanted(packets) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what} did not come: {packets:?}");
        }
    }

    async fn is_alive_and_ends(self) {
        for (from, to) in [(0, 1), (1, 0)] {
            self.ends[from].send("still there?").await.unwrap();
            assert_eq!(soon("a message", self.ends[to].recv()).await.unwrap(), "still there?");
        }
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}

#[tokio::test]
async fn an_idle_link_that_is_kept_for_a_battery_is_silent_for_seconds_and_lives() {
    assert!(Pace::of(Failover::Battery, false).alive_every > 2 * SPAN);
    let idle = Idle::new([Failover::Battery; 2]).await;
    idle.until("silence", |sent| sent == [0, 0]).await;
    idle.is_alive_and_ends().await;
}

#[tokio::test]
async fn an_idle_link_that_is_kept_fast_shows_on_both_sides_that_it_lives() {
    assert!(2 * Pace::of(Failover::Fast, false).alive_every < SPAN);
    for kept in [[Failover::Fast; 2], [Failover::Fast, Failover::Battery]] {
        let idle = Idle::new(kept).await;
        idle.until("life", |sent| sent.iter().all(|sent| (2..100).contains(sent))).await;
        idle.is_alive_and_ends().await;
    }
}
