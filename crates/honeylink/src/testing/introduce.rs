//! Trust between nodes without two people who compare codes.

use honeylink_core::identity::DeviceId;

use crate::clock::unix_ms;
use crate::node::Node;
use crate::store::{NewPeer, OnNameTaken, PairError, PairingMethod};

/// Makes two nodes know and trust each other, as a pairing ceremony would, and tells each the other's addresses.
///
/// # Errors
/// [`PairError`], for example if one was revoked by the other.
pub fn introduce(a: &Node, b: &Node) -> Result<(), PairError> {
    for (here, there) in [(a, b), (b, a)] {
        let peer = NewPeer {
            id: there.id(),
            name: None,
            announced_name: there.name(),
            device_type: there.device_type(),
            method: PairingMethod::Code,
        };
        here.store().trust().pair(&peer, OnNameTaken::Disambiguate, unix_ms())?;
        let loopback = there.bound_addrs().into_iter().map(reachable);
        for addr in loopback {
            here.add_address(there.id(), addr);
        }
        here.look_at_peers();
    }
    Ok(())
}

/// The same identity for the same number, in every run.
#[must_use]
pub fn device_id(seed: u64) -> DeviceId {
    honeylink_core::identity::SecretKey::from_u64(seed).id()
}

/// A socket bound to every address is reachable on this machine by loopback.
fn reachable(addr: std::net::SocketAddr) -> std::net::SocketAddr {
    let ip = match addr.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip @ (std::net::IpAddr::V4(_) | std::net::IpAddr::V6(_)) => ip,
    };
    std::net::SocketAddr::new(ip, addr.port())
}

/// Lets a node reach another through somebody who passes datagrams on, at `by`: what a relay is to a test that has none.
/// `socket` is what it is sent from and comes back to.
///
/// # Errors
/// If the socket cannot carry QUIC, or the node's reach is not wide.
#[cfg(feature = "testing")]
pub fn pass_on(
    node: &Node,
    peer: DeviceId,
    socket: std::sync::Arc<tokio::net::UdpSocket>,
    by: std::net::SocketAddr,
) -> std::io::Result<()> {
    node.add_forwarder(peer, socket, by)
}
