//! What there is to be known: the node's own words, this machine's networks, and what becomes of a few packets.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use honeylink::discovery::interfaces::{self, Interface, Scope};
use honeylink_api::client::Client;
use honeylink_api::{NearbyDevice, Peer, Status, Trust, routes};
use ipnet::{IpNet, Ipv4Net};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::back::BackFacts;
use super::firewall::{self, Filter, Packets, Rules};
use super::peer::PeerFacts;
use crate::config::Config;

/// The group of multicast DNS.
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// Who offers our service? (RFC 6762: a header with one question, its name, type PTR, class IN.)
const QUESTION: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x0a_honeylink\x04_udp\x05local\0\0\x0c\0\x01";
/// How long a packet to ourselves may take.
const ECHO_MAX: Duration = Duration::from_millis(500);
/// How long addresses of the network have to answer who has them.
const ANSWER_MAX: Duration = Duration::from_millis(1500);
/// Devices whose addresses are asked for.
const PEERS_MAX: usize = 16;

/// What the node says.
#[derive(Clone, Debug)]
pub(super) struct NodeFacts {
    pub(super) status: Status,
    pub(super) nearby: Vec<NearbyDevice>,
    pub(super) paired: Vec<Peer>,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It left; for one to ourselves, it came.
    Fine,
    /// It left, and did not come.
    Silent,
    /// The system did not let us send it.
    Refused,
    /// There is no way there.
    NoRoute,
}

impl Sent {
    fn of(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            Self::Refused
        } else if matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) {
            Self::NoRoute
        } else {
            Self::Silent
        }
    }
}

/// A local network.
#[derive(Clone, Debug)]
pub(super) struct LanFacts {
    pub(super) name: String,
    /// A broadcast to it.
    pub(super) broadcast: Sent,
    /// A multicast that comes back to us by the system's own doing, so that the network has no part in it.
    pub(super) multicast: Sent,
    /// Its addresses, `192.168.1.0/24`.
    pub(super) net: Ipv4Net,
    pub(super) way: WayThere,
}

/// Where the system sends what is for a local network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WayThere {
    /// There.
    Straight,
    /// Into this other interface.
    TakenBy(String),
    /// Nowhere.
    None,
}

/// Whether a machine of the network answers when asked for its hardware address, as all do that can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    pub(super) name: String,
    pub(super) gateway: bool,
    pub(super) answers: bool,
}

/// Everything that is judged.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// `Err`: why the node does not answer.
    pub(super) node: Result<NodeFacts, String>,
    pub(super) unix_s: u64,
    pub(super) lans: Vec<LanFacts>,
    /// Interfaces with a default route that are not among the local networks.
    pub(super) tunnels: Vec<String>,
    pub(super) filter: Filter,
    pub(super) incoming: Rules,
    pub(super) outgoing: Rules,
    /// What comes in for the group of multicast DNS.
    pub(super) multicast: Rules,
    pub(super) neighbours: Vec<Neighbour>,
    /// UDP ports that have to be open.
    pub(super) ports: Vec<u16>,
    /// The device that was named, if one was.
    pub(super) peer: Option<PeerFacts>,
    /// What paired devices say of this one.
    pub(super) backs: Vec<BackFacts>,
    /// The addresses of this machine.
    pub(super) own: Vec<IpAddr>,
}

impl Facts {
    pub(super) async fn gather(client: &Client, config: &Config, peer: Option<&str>) -> Self {
        let node = ask(client).await;
        let named = peer;
        let (mut peer, mut backs) = (None, Vec::new());
        if let Ok(node) = &node {
            if let Some(named) = named {
                peer = Some(PeerFacts::ask(client, named).await);
            }
            // One that is not reached is not waited for a second time.
            if peer.as_ref().is_none_or(|peer| peer.way.is_ok()) {
                backs = BackFacts::ask(client, node, named).await;
            }
        }
        let mut ports = vec![config.discovery.port, config.discovery.broadcast_port];
        let port_of = |address: &String| address.parse::<SocketAddr>().ok().map(|address| address.port());
        let listening = node.iter().flat_map(|node| &node.status.listen).filter_map(port_of);
        ports.extend(listening.collect::<BTreeSet<_>>());
        let all = interfaces::all().unwrap_or_default();
        let usable: Vec<_> = interfaces::usable(all.clone(), Scope::Lan)
            .into_iter()
            .filter(|interface| !interface.loopback)
            .collect();
        let mut lans = Vec::new();
        for interface in usable.iter().filter(|interface| !is_tunnel(&interface.name)) {
            lans.extend(lan(interface, &all, config).await);
        }
        let routes = default_routes();
        let ours = |name: &String| usable.iter().any(|interface| interface.name == *name && !is_tunnel(name));
        let tunnels = routes.iter().map(|route| route.0.clone()).filter(|name| !ours(name)).collect();
        let listed = firewall::listed().await;
        let rules = |hook, ports, group| firewall::rules(listed.as_ref(), hook, Packets { ports, group });
        let neighbours = neighbours(node.as_ref().ok(), &usable, &routes).await;
        Self {
            node,
            unix_s: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            lans,
            tunnels,
            filter: Filter::find(),
            incoming: rules("input", &ports, None),
            outgoing: rules("output", &ports, None),
            multicast: rules("input", &[config.discovery.port], Some(GROUP)),
            neighbours,
            ports,
            peer,
            backs,
            own: all.iter().flat_map(|one| &one.nets).map(IpNet::addr).collect(),
        }
    }
}

async fn ask(client: &Client) -> Result<NodeFacts, String> {
    let asked = async {
        let status = client.get(routes::STATUS).await?;
        let nearby = client.get(routes::NEARBY).await?;
        Ok(NodeFacts { status, nearby, paired: client.get(routes::DEVICES).await? })
    };
    asked.await.map_err(|error: honeylink_api::client::ClientError| error.into_body().message)
}

/// Tries a local network: a broadcast, and a multicast to ourselves.
async fn lan(interface: &Interface, all: &[Interface], config: &Config) -> Option<LanFacts> {
    let net = interface.nets.iter().find_map(|net| match net {
        IpNet::V4(v4) => Some(*v4),
        IpNet::V6(_) => None,
    })?;
    let (own, everybody) = (net.addr(), net.broadcast());
    let broadcast = match send(own, (everybody, config.discovery.broadcast_port)).await {
        Ok(()) => Sent::Fine,
        Err(error) => Sent::of(&error),
    };
    let multicast = echo(own, config.discovery.port).await.unwrap_or_else(|error| Sent::of(&error));
    let way = way_to(net, all).await;
    Some(LanFacts { name: interface.name.clone(), broadcast, multicast, net: net.trunc(), way })
}

/// Where the system sends what is for a network: asked for the first and the last of its addresses that are not ours, since a
/// tunnel may take it in halves.
async fn way_to(net: Ipv4Net, all: &[Interface]) -> WayThere {
    let (low, high) = (u32::from(net.network()), u32::from(net.broadcast()));
    let not_ours = |ip: &Ipv4Addr| *ip != net.addr();
    let first = (low..=high).skip(1).map(Ipv4Addr::from).find(not_ours);
    let last = (low..high).rev().map(Ipv4Addr::from).find(not_ours);
    for to in first.into_iter().chain(last) {
        let from = async {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
            // Sends nothing: the system decides from which of its addresses it would.
            socket.connect((to, 9)).await?;
            socket.local_addr()
        };
        match from.await.map(|from| from.ip()) {
            Ok(from) if from == IpAddr::V4(net.addr()) => {}
            Ok(from) => {
                let other = all.iter().find(|one| one.nets.iter().any(|net| net.addr() == from));
                return WayThere::TakenBy(other.map_or_else(|| from.to_string(), |one| one.name.clone()));
            }
            Err(_) => return WayThere::None,
        }
    }
    WayThere::Straight
}

async fn send(from: Ipv4Addr, to: (Ipv4Addr, u16)) -> io::Result<()> {
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.set_broadcast(true)?;
    // Nobody takes an empty packet for anything.
    socket.send_to(&[], to).await.map(drop)
}

/// A question of multicast DNS that the system hands back to this machine: what is lost was dropped here.
async fn echo(own: Ipv4Addr, port: u16) -> io::Result<Sent> {
    let ear = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    ear.set_nonblocking(true)?;
    // The node and the system's own responder have the port already.
    ear.set_reuse_address(true)?;
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    ear.set_reuse_port(true)?;
    ear.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    ear.join_multicast_v4(&GROUP, &own)?;
    let ear = UdpSocket::from_std(ear.into())?;
    let mouth = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    mouth.bind(&SocketAddr::from((own, 0)).into())?;
    mouth.set_multicast_if_v4(&own)?;
    mouth.set_multicast_loop_v4(true)?;
    let ours = mouth.local_addr()?.as_socket();
    mouth.send_to(QUESTION, &SocketAddr::from((GROUP, port)).into())?;
    let heard = async {
        let mut buffer = [0; 1500];
        // Others speak on this port too.
        while Some(ear.recv_from(&mut buffer).await?.1) != ours {}
        io::Result::Ok(())
    };
    Ok(match tokio::time::timeout(ECHO_MAX, heard).await {
        Ok(Ok(())) => Sent::Fine,
        Ok(Err(_)) | Err(_) => Sent::Silent,
    })
}

/// Interfaces and gateways of default routes; empty where the system does not say. A tunnel may split the world in two halves,
/// so as to come before the default route without taking it away.
fn default_routes() -> Vec<(String, Ipv4Addr)> {
    let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    table.lines().skip(1).filter_map(route).collect()
}

fn route(line: &str) -> Option<(String, Ipv4Addr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [name, destination, gateway, _, _, _, _, mask, ..] = fields[..] else { return None };
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
    let (destination, mask) = (hex(destination)?, hex(mask)?);
    let halves = mask == Ipv4Addr::new(128, 0, 0, 0);
    let all = destination.is_unspecified() && mask.is_unspecified();
    (all || halves).then(|| Some((name.to_owned(), hex(gateway)?))).flatten()
}

/// Names that systems give tunnels.
fn is_tunnel(name: &str) -> bool {
    ["tun", "tap", "wg", "ppp", "utun", "tailscale", "zt", "vpn"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Asks for the hardware addresses of the gateway and of paired devices on the link, by sending each an empty packet.
async fn neighbours(
    node: Option<&NodeFacts>,
    lans: &[Interface],
    routes: &[(String, Ipv4Addr)],
) -> Vec<Neighbour> {
    let on_link = |ip: Ipv4Addr| lans.iter().any(|lan| lan.is_on_link(IpAddr::V4(ip)));
    let mut wanted: Vec<(String, bool, Ipv4Addr)> = routes
        .iter()
        .filter(|(_, gateway)| !gateway.is_unspecified())
        .map(|(_, gateway)| ("the gateway".to_owned(), true, *gateway))
        .collect();
    for peer in
        node.iter().flat_map(|node| &node.paired).filter(|peer| peer.trust != Trust::Revoked).take(PEERS_MAX)
    {
        let v4 = peer.addresses.iter().filter_map(|address| match address.parse().ok()? {
            SocketAddr::V4(v4) => Some(*v4.ip()),
            SocketAddr::V6(_) => None,
        });
        wanted.extend(v4.take(1).map(|ip| (peer.name.clone(), false, ip)));
    }
    wanted.retain(|(.., ip)| on_link(*ip));
    if wanted.is_empty() {
        return Vec::new();
    }
    let began = tokio::time::Instant::now();
    loop {
        for (.., ip) in &wanted {
            // The answer is what the system learns from it.
            let _ = send(Ipv4Addr::UNSPECIFIED, (*ip, 9)).await;
        }
        let table = std::fs::read_to_string("/proc/net/arp").unwrap_or_default();
        let answers = |ip: &Ipv4Addr| has_hardware_address(&table, *ip);
        if began.elapsed() >= ANSWER_MAX || wanted.iter().all(|(.., ip)| answers(ip)) {
            let told = wanted.iter().map(|(name, gateway, ip)| Neighbour {
                name: name.clone(),
                gateway: *gateway,
                answers: answers(ip),
            });
            return told.collect();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether the system knows the hardware address (`Flags` 0x2, ATF_COM).
fn has_hardware_address(table: &str, ip: Ipv4Addr) -> bool {
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields[..], [address, _, flags, ..] if address == ip.to_string() && flags != "0x0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_tables_are_read() {
        let head = "eth0 00000000 0300A8C0 0003 0 0 0 00000000 0 0 0";
        let gateway = if cfg!(target_endian = "little") { [192, 168, 0, 3] } else { [3, 0, 168, 192] };
        assert_eq!(route(head), Some(("eth0".into(), gateway.into())));
        assert_eq!(route("eth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0"), None);
        let table = "IP address HW type Flags HW address Mask Device\n10.0.0.2 0x1 0x2 aa:bb * eth0\n10.0.0.3 0x1 0x0 00:00 * eth0\n";
        assert!(has_hardware_address(table, [10, 0, 0, 2].into()));
        assert!(!has_hardware_address(table, [10, 0, 0, 3].into()));
        assert!(!has_hardware_address(table, [10, 0, 0, 4].into()));
    }
}
