//! What an idle link costs on a battery and on mains, by the packets of real connections on loopback in the same seconds; and
//! that it lives all the same.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use honeylink::paths::{Pace, Power};
use honeylink::{Link, Node, Reach, testing};

const PROTOCOL: &str = "idle/1";
/// No wait in these tests is longer; a test that hits it has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Two packets and their answers on a battery, six on mains.
const SPAN: Duration = Duration::from_secs(9);

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
    async fn new(power: Power) -> Self {
        let node = async |name: &str| {
            let builder = Node::builder().name(name).reach(Reach::Loopback).discovery(false).power(power);
            builder.build().await.unwrap()
        };
        let (ann, bob) = (node("ann").await, node("bob").await);
        testing::introduce(&ann, &bob).unwrap();
        let mut listener = bob.listen(PROTOCOL).unwrap();
        let from = soon("connect", ann.connect(bob.id(), PROTOCOL)).await.unwrap();
        let to = soon("accept", listener.accept()).await.unwrap();
        Self { nodes: [ann, bob], ends: [from, to] }
    }

    /// Packets that both sides sent so far.
    fn sent(&self) -> u64 {
        self.nodes.iter().map(|node| node.stats().traffic.sent).sum()
    }

    async fn talk_and_end(self) {
        for (from, to) in [(0, 1), (1, 0)] {
            self.ends[from].send("still there?").await.unwrap();
            assert_eq!(soon("a message", self.ends[to].recv()).await.unwrap(), "still there?");
        }
        for end in &self.ends {
            assert_eq!(end.stats().resumes, 0, "it lived on one connection");
        }
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}

#[tokio::test]
async fn an_idle_link_costs_less_than_half_on_a_battery_and_lives() {
    assert!(2 * Pace::of(Power::Battery, false, true).way_alive_every <= SPAN);
    let (mains, battery) = (Idle::new(Power::Mains).await, Idle::new(Power::Battery).await);
    let began = Instant::now();
    // What connections do at first is over some time, and a busy machine may be late: counted until it is as it should be.
    loop {
        let before = (mains.sent(), battery.sent());
        // tidy: sleep because what is counted is how little happens in a time
        tokio::time::sleep(SPAN).await;
        let (often, seldom) = (mains.sent() - before.0, battery.sent() - before.1);
        println!("in {SPAN:?}: {often} packets on mains, {seldom} on a battery");
        if seldom > 0 && 2 * seldom < often {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{often} packets on mains and {seldom} on a battery in {SPAN:?}");
    }
    mains.talk_and_end().await;
    battery.talk_and_end().await;
}
