//! What a test does to its network while it runs.

use std::time::Duration;

use honeylink_sim::net::lane::Lane;

use super::{Network, NetworkError};
use crate::node::Node;

impl Network {
    /// Cuts the network into groups that do not hear each other. Nodes in no group keep their links. A partition comes on
    /// top of those in force; [`Network::heal`] ends them all.
    ///
    /// ```no_run
    /// # fn example(network: &honeylink::testing::Network, [a, b, c]: [&honeylink::Node; 3]) {
    /// network.partition(&[&[a, b], &[c]]);
    /// network.heal();
    /// # }
    /// ```
    pub fn partition(&self, groups: &[&[&Node]]) {
        let names = groups.iter().map(|group| self.names(group));
        self.note(&format!("partition: {}", names.collect::<Vec<_>>().join(" | ")));
        for (at, group) in groups.iter().enumerate() {
            for other in groups[..at].iter().chain(&groups[at + 1..]) {
                self.block(group, other);
            }
        }
    }

    /// Lets nothing through from the first nodes to the second; the other way stays open.
    pub fn partition_one_way(&self, from: &[&Node], to: &[&Node]) {
        self.note(&format!("one-way partition: {} > {}", self.names(from), self.names(to)));
        self.block(from, to);
    }

    /// Ends every partition. Links are again what they were before: one that was cut or bad by itself still is.
    pub fn heal(&self) {
        self.inner.internet.heal();
    }

    /// Cuts the link between two nodes until it is mended.
    pub fn cut(&self, a: &Node, b: &Node) {
        self.set_cut(a, b, true);
    }

    /// Mends a link that was cut.
    pub fn mend(&self, a: &Node, b: &Node) {
        self.set_cut(a, b, false);
    }

    /// Cuts and mends a link so many times, beginning now.
    pub fn flap(&self, a: &Node, b: &Node, down: Duration, up: Duration, times: u32) {
        let (Some(a), Some(b)) = (self.at(a), self.at(b)) else { return };
        let internet = self.inner.internet.clone();
        self.inner.spawn(async move {
            for _ in 0..times {
                internet.cut(a, b, true);
                tokio::time::sleep(down).await;
                internet.cut(a, b, false);
                tokio::time::sleep(up).await;
            }
        });
    }

    /// Changes every link, those of nodes to come included.
    ///
    /// ```no_run
    /// # use honeylink::testing::{Loss, Network};
    /// # fn example(network: &Network) {
    /// network.links(|lane| {
    ///     lane.latency_us = 300_000;
    ///     lane.loss = Loss::Bursts { enter: 1_000, leave: 100_000, good: 0, bad: 500_000 };
    /// });
    /// # }
    /// ```
    pub fn links(&self, change: impl Fn(&mut Lane)) {
        self.note("every link changes");
        self.inner.internet.shape_all(change);
    }

    /// Changes the link between two nodes, both ways.
    pub fn link(&self, a: &Node, b: &Node, change: impl Fn(&mut Lane)) {
        self.one_way(a, b, &change);
        self.one_way(b, a, &change);
    }

    /// Changes one direction of a link.
    pub fn one_way(&self, from: &Node, to: &Node, change: impl Fn(&mut Lane)) {
        let (Some(from), Some(to)) = (self.at(from), self.at(to)) else { return };
        let internet = &self.inner.internet;
        self.note(&format!("{} > {} changes", internet.name(from), internet.name(to)));
        internet.shape(from, to, change);
    }

    /// Restarts the NAT boxes before a node: every mapping is gone, and the next ports are others.
    pub fn rebind(&self, node: &Node) {
        if let Some(at) = self.at(node) {
            self.inner.internet.rebind(at);
        }
    }

    /// A node loses power: no goodbye, its tasks end where they are, and of what its store had not synced only the first
    /// few writes survive. [`Network::restart`] starts it again.
    ///
    /// # Errors
    /// [`NetworkError::NotRunning`] if it is down already.
    pub fn crash(&self, node: &Node) -> Result<(), NetworkError> {
        let at = self.at(node).ok_or_else(|| NetworkError::NotRunning(node.name()))?;
        self.inner.crash(at)
    }

    /// Starts a node that crashed or shut down, with the same name, identity, NATs and disk.
    ///
    /// # Errors
    /// [`NetworkError`], if it runs or there never was one.
    pub async fn restart(&self, name: &str) -> Result<Node, NetworkError> {
        let at = self.inner.internet.named(name).ok_or_else(|| NetworkError::Unknown(name.to_owned()))?;
        self.inner.start(at).await
    }

    fn set_cut(&self, a: &Node, b: &Node, cut: bool) {
        if let (Some(a), Some(b)) = (self.at(a), self.at(b)) {
            self.inner.internet.cut(a, b, cut);
        }
    }

    fn block(&self, from: &[&Node], to: &[&Node]) {
        for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (from, to))) {
            if let (Some(from), Some(to)) = (self.at(from), self.at(to)) {
                self.inner.internet.part(from, to);
            }
        }
    }

    fn names(&self, nodes: &[&Node]) -> String {
        nodes.iter().map(|node| node.name()).collect::<Vec<_>>().join(" ")
    }
}
