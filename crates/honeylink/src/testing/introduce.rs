//! Trust between nodes without two people who compare codes.

use honeylink_core::identity::{DeviceId, DeviceType};

use crate::clock::unix_ms;
use crate::node::Node;
use crate::store::{NewPeer, OnNameTaken, PairError, PairingMethod};

/// Makes two nodes know and trust each other, as a pairing ceremony would, and tells each the other's addresses.
///
/// # Errors
/// [`PairError`], for example if one was revoked by the other.
pub fn introduce(a: &Node, b: &Node) -> Result<(), PairError> {
    for (here, there) in [(a, b), (b, a)] {
        for addr in there.bound_addrs().into_iter().map(reachable) {
            here.add_address(there.id(), addr);
        }
    }
    introduce_by_id(a, b)
}

/// As [`introduce`], but neither is told where the other is: they know each other's id and nothing else.
///
/// # Errors
/// As [`introduce`].
pub fn introduce_by_id(a: &Node, b: &Node) -> Result<(), PairError> {
    for (here, there) in [(a, b), (b, a)] {
        trust(here, there.id(), there.name(), there.device_type())?;
    }
    Ok(())
}

/// Makes a node trust a device of which it knows the id and nothing else, and which need not exist.
///
/// # Errors
/// As [`introduce`].
pub fn know(node: &Node, id: DeviceId) -> Result<(), PairError> {
    trust(node, id, id.short(), DeviceType::default())
}

fn trust(node: &Node, id: DeviceId, name: String, device_type: DeviceType) -> Result<(), PairError> {
    let method = PairingMethod::Code;
    let peer = NewPeer { id, name: None, announced_name: name, device_type, method };
    node.store().trust().pair(&peer, OnNameTaken::Disambiguate, unix_ms())?;
    node.look_at_peers();
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
