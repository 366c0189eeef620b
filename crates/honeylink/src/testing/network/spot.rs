//! Putting nodes into a network: one by one, or many that know each other.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use honeylink_sim::net::nat::NatKind;

use super::{Network, NetworkError};
use crate::link::Link;
use crate::node::{ConnectError, ListenError, Node, NodeBuilder};
use crate::store::PairError;

/// What `connected_peers` links its nodes for.
const PROTOCOL: &str = "peers/1";

pub(super) type Configure = Arc<dyn Fn(NodeBuilder) -> NodeBuilder + Send + Sync>;

/// A node that is about to be: await it.
#[must_use = "the node starts when this is awaited"]
pub struct Spot<'a> {
    network: &'a Network,
    name: String,
    behind: Vec<NatKind>,
    configure: Configure,
}

impl std::fmt::Debug for Spot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spot").field("name", &self.name).field("behind", &self.behind).finish_non_exhaustive()
    }
}

impl<'a> Spot<'a> {
    pub(super) fn new(network: &'a Network, name: String) -> Self {
        Self { network, name, behind: Vec::new(), configure: Arc::new(|builder| builder) }
    }

    /// Puts these NAT boxes before the node, the nearest first. Default: none, a public address.
    pub fn behind(mut self, kinds: &[NatKind]) -> Self {
        self.behind = kinds.to_vec();
        self
    }

    /// Changes what the node is built with, for each of its lives. Identity, sockets and reach are the network's.
    pub fn configure(
        mut self,
        configure: impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static,
    ) -> Self {
        self.configure = Arc::new(configure);
        self
    }
}

impl<'a> IntoFuture for Spot<'a> {
    type Output = Result<Node, NetworkError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.network.add(self.name, self.behind, self.configure))
    }
}

/// Nodes that are paired and hold a link each with each.
#[derive(Debug)]
pub struct ConnectedPeers {
    /// The nodes, called `peer-0` and so on.
    pub nodes: Vec<Node>,
    links: BTreeMap<(usize, usize), Link>,
}

impl ConnectedPeers {
    /// The link that node `from` holds to node `to`.
    #[must_use]
    pub fn link(&self, from: usize, to: usize) -> Option<&Link> {
        self.links.get(&(from, to))
    }
}

impl std::ops::Index<(usize, usize)> for ConnectedPeers {
    type Output = Link;

    /// The link from one node to another; panics if either is not there.
    fn index(&self, pair: (usize, usize)) -> &Link {
        &self.links[&pair]
    }
}

/// Why nodes could not be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkUpError {
    /// A node could not be added.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Two nodes could not be paired.
    #[error(transparent)]
    Pair(#[from] PairError),
    /// A node listens already.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The network is so bad that no link came about.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A node went away while the others were linked.
    #[error("a node stopped while its links were made")]
    Stopped,
}

impl Network {
    /// New nodes with these names, paired each with each.
    ///
    /// # Errors
    /// [`LinkUpError`], for example if a name is taken.
    pub async fn paired<const N: usize>(&self, names: [&str; N]) -> Result<[Node; N], LinkUpError> {
        let mut nodes = Vec::with_capacity(N);
        for name in names {
            nodes.push(self.node(name).await?);
        }
        self.pair_all(&nodes)?;
        // As many as names.
        nodes.try_into().map_err(|_| LinkUpError::Stopped)
    }

    /// `count` new nodes, paired and linked each with each: what most tests of a protocol begin with.
    ///
    /// # Errors
    /// [`LinkUpError`], for example if the network is too bad to connect over.
    pub async fn connected_peers(&self, count: usize) -> Result<ConnectedPeers, LinkUpError> {
        let mut nodes = Vec::with_capacity(count);
        let mut listeners = Vec::with_capacity(count);
        for number in 0..count {
            let node = self.node(format!("peer-{number}")).await?;
            listeners.push(node.listen(PROTOCOL)?);
            nodes.push(node);
        }
        self.pair_all(&nodes)?;
        let mut links = BTreeMap::new();
        for (to, listener) in listeners.iter_mut().enumerate() {
            for from in 0..to {
                let (out, inn) =
                    tokio::join!(nodes[from].connect(nodes[to].id(), PROTOCOL), listener.accept());
                links.insert((from, to), out?);
                links.insert((to, from), inn.ok_or(LinkUpError::Stopped)?);
            }
        }
        Ok(ConnectedPeers { nodes, links })
    }

    /// Makes two nodes know and trust each other; see [`introduce`](crate::testing::introduce).
    ///
    /// # Errors
    /// [`PairError`], for example if one was revoked by the other.
    pub fn pair(&self, a: &Node, b: &Node) -> Result<(), PairError> {
        crate::testing::introduce(a, b)
    }

    fn pair_all(&self, nodes: &[Node]) -> Result<(), PairError> {
        for (at, node) in nodes.iter().enumerate() {
            nodes[..at].iter().try_for_each(|other| self.pair(other, node))?;
        }
        Ok(())
    }
}
