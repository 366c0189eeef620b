//! One UDP socket per interface and address family, joined to the mDNS group on that interface only.
//!
//! A socket of its own is how we know on which interface a packet arrived without platform-specific control messages,
//! and how a packet leaves on the interface we mean. The port is shared with the system's own responder.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use honeylink_core::mdns::{GROUP_V4, GROUP_V6};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::interfaces::Interface;

/// RFC 6762 section 11: responses carry the highest TTL, which proves to old receivers that they come from the link.
const HOP_LIMIT: u32 = 255;

/// A socket that hears and speaks to the group on one interface.
#[derive(Debug)]
pub(super) struct GroupSocket {
    socket: UdpSocket,
    group: SocketAddr,
}

impl GroupSocket {
    /// The sockets for `interface`: IPv4 and IPv6, as far as it has addresses of them. On loopback IPv4 is enough, and
    /// IPv6 multicast there has no route on many systems.
    pub(super) fn open_all(interface: &Interface, port: u16) -> Vec<io::Result<Self>> {
        let v4 = interface
            .nets
            .iter()
            .find_map(|net| if let IpAddr::V4(ip) = net.addr() { Some(ip) } else { None });
        let v6 = interface.nets.iter().any(|net| net.addr().is_ipv6()) && !interface.loopback;
        let v4 = v4.map(|ip| Self::open_v4(interface.index, ip, port));
        v4.into_iter().chain(v6.then(|| Self::open_v6(interface.index, port))).collect()
    }

    fn open_v4(index: u32, ours: Ipv4Addr, port: u16) -> io::Result<Self> {
        let group = SocketAddr::V4(SocketAddrV4::new(GROUP_V4, port));
        let socket = shared_socket(Domain::IPV4)?;
        // Without this, Linux delivers what any socket of the machine joined, from every interface.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_multicast_all_v4(false)?;
        bind(&socket, group, Ipv4Addr::UNSPECIFIED.into())?;
        socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))?;
        socket.set_multicast_if_v4(&ours)?;
        socket.set_multicast_ttl_v4(HOP_LIMIT)?;
        // Several devices may run on one machine.
        socket.set_multicast_loop_v4(true)?;
        Self::new(socket, group)
    }

    fn open_v6(index: u32, port: u16) -> io::Result<Self> {
        let group = SocketAddr::V6(SocketAddrV6::new(GROUP_V6, port, 0, index));
        let socket = shared_socket(Domain::IPV6)?;
        socket.set_only_v6(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket.set_multicast_all_v6(false)?;
        bind(&socket, group, Ipv6Addr::UNSPECIFIED.into())?;
        socket.join_multicast_v6(&GROUP_V6, index)?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_loop_v6(true)?;
        Self::new(socket, group)
    }

    fn new(socket: Socket, group: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, group })
    }

    /// Sends to the group, or fails at once: a full buffer loses the packet, as the network may.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // Past tokio's readiness: a fresh socket is writable before the reactor has heard so, and a goodbye cannot wait.
        SockRef::from(&self.socket).send_to(bytes, &self.group.into()).map(drop)
    }

    /// The next packet: its length and sender.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer).await
    }
}

fn shared_socket(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // On BSD and Apple systems sharing a multicast port takes this one; on Linux it would demand the same user.
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    socket.set_reuse_port(true)?;
    Ok(socket)
}

/// Binds to the group itself, so that unicast packets for the system's own responder are not taken from it. Windows
/// refuses to bind to a group.
fn bind(socket: &Socket, group: SocketAddr, any: IpAddr) -> io::Result<()> {
    let address = if cfg!(windows) { SocketAddr::new(any, group.port()) } else { group };
    socket.bind(&address.into())
}
