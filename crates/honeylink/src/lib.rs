//! HoneyLink: direct links between devices. No account, no server, no C compiler.
//!
//! A [`Node`] is one device: an Ed25519 identity, a trust store, sockets. Two paired nodes hold a [`Link`] per protocol:
//! messages in order and exactly once, byte streams, datagrams, whatever happens to the connection below.
//!
//! ```
//! use honeylink::{MemoryNetwork, Node, testing};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Two nodes in this process; leave `memory` out and they use QUIC on the LAN.
//! let network = MemoryNetwork::new();
//! let a = Node::builder().name("a").memory(&network).build().await?;
//! let b = Node::builder().name("b").memory(&network).build().await?;
//! testing::introduce(&a, &b)?;
//!
//! let mut hellos = b.listen("hello/1")?;
//! let link = a.connect("b", "hello/1").await?;
//! link.send("hi").await?;
//! let other = hellos.accept().await.ok_or("node b stopped")?;
//! assert_eq!(other.recv().await?, "hi");
//! link.close("done").await?;
//! # a.shutdown().await; b.shutdown().await; Ok(()) }
//! ```
//!
//! # The map
//!
//! | module | what it is |
//! |---|---|
//! | [`services`] | what people do with links: chat, files, pipes |
//! | [`node`] | the device: builder, connect, listen, shutdown |
//! | [`link`] | what an application holds to one peer |
//! | [`carrier`] | ways to move bytes to a neighbour: QUIC, memory, radio modems on serial ports |
//! | [`mesh`] | messages over several hops, to devices that no link reaches |
//! | [`nat`] | through NAT boxes that ordinary hole punching does not pass |
//! | [`discovery`] | who is around: multicast DNS and the nearby table |
//! | [`crypto`] | QUIC's cryptography without a C compiler |
//! | [`transfer`] | files and folders over one stream |
//! | `relay` | with the feature `relay-server`: a relay for devices that cannot reach each other |
//! | [`store`] | everything that survives a crash: identity, trust, history |
//! | [`testing`] | for tests of applications: pairing without people, simulated networks in virtual time |
//!
//! Protocol decisions live in [`honeylink_core`], as pure machines; this crate is the shell around them.

pub mod carrier;
mod clock;
pub mod crypto;
pub mod discovery;
pub mod link;
pub mod mesh;
pub mod nat;
pub mod node;
pub mod pairing;
pub mod policy;
#[cfg(feature = "relay-server")]
pub mod relay;
pub mod services;
pub mod store;
pub mod testing;
pub mod transfer;
#[cfg_attr(not(feature = "dht"), expect(dead_code, reason = "it is for a DHT that is not there"))]
mod wide;

pub use honeylink_core::identity::{DeviceId, DeviceType, SecretKey};
pub use honeylink_core::limits::{FERRIES_MAX as RELAY_PEERS_MAX, RELAYS_PER_DEVICE_MAX};
pub use honeylink_core::paths;
pub use honeylink_core::qos::fec::FecChoice;
pub use honeylink_core::qos::policy::{Policy, Preset};
pub use honeylink_core::qos::{Priority, Room, StreamOptions, StreamStats, Weight};
pub use honeylink_core::radio;
pub use honeylink_core::session::State;
pub use honeylink_core::wire::link::Class;
pub use honeylink_core::wire::relay::{InvalidRelay, RelayAddr};

pub use carrier::memory::MemoryNetwork;
pub use carrier::relays::RelayState;
pub use carrier::{PathReport, RecvStream, Rung, SendStream};
pub use link::{Link, LinkStats, Stream};
pub use node::{Listener, Node, NodeBuilder, Reach, Target, Ticket, WayChanged, Ways};
pub use wide::{DHT_ENTRIES_MAX, DhtEntry, DhtOptions, DhtState, InvalidDhtEntry};

/// The Rust examples of the documents, compiled and run with the doctests so that they stay true.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    pub struct Readme;
    #[doc = include_str!("../../../docs/manual/library.md")]
    pub struct Library;
    #[doc = include_str!("../../../docs/manual/mesh.md")]
    pub struct Mesh;
    #[doc = include_str!("../../../docs/manual/testing.md")]
    pub struct Testing;
}
