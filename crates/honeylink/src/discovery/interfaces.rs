//! The network interfaces worth discovering on, and which addresses count as "on the LAN".
//!
//! Discovery speaks on each interface by itself rather than where the default route points, so a VPN that takes the
//! default route does not hide the LAN. Tunnels (point-to-point links) have no neighbours and are left out. Bridges and
//! pairs that container engines make are left out too, by the names those engines give them; a bridge a person made
//! (`br0`, `br-lan`) may well *be* the LAN and stays.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use if_addrs::IfAddr;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An interface that is up, with everything it is addressed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The system's index.
    pub index: u32,
    /// The system's name.
    pub name: String,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// Whether it is a tunnel to one other end.
    pub point_to_point: bool,
    /// Its addresses with their prefixes, IPv4 first.
    pub nets: Vec<IpNet>,
}

impl Interface {
    /// Its IPv4 addresses, each with its subnet's broadcast address.
    pub fn v4(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> + '_ {
        self.nets.iter().filter_map(|net| match net {
            IpNet::V4(v4) => Some((v4.addr(), v4.broadcast())),
            IpNet::V6(_) => None,
        })
    }

    /// Whether `ip` belongs to a neighbour on this interface.
    #[must_use]
    pub fn is_on_link(&self, ip: IpAddr) -> bool {
        is_link_local(ip) || self.nets.iter().any(|net| net.contains(&ip))
    }
}

/// Where discovery may speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Only inside this machine.
    Loopback,
    /// Every LAN this machine is on, and inside it.
    #[default]
    Lan,
}

/// The interfaces that are up, in the order of their indexes.
///
/// # Errors
/// Whatever the system says when asked for its interfaces.
pub fn all() -> io::Result<Vec<Interface>> {
    let mut by_index: BTreeMap<u32, Interface> = BTreeMap::new();
    for found in if_addrs::get_if_addrs()?.into_iter().filter(if_addrs::Interface::is_oper_up) {
        let Some(index) = found.index else { continue };
        let (loopback, point_to_point) = (found.is_loopback(), found.is_p2p());
        let interface = by_index.entry(index).or_insert_with(|| Interface {
            index,
            name: found.name,
            loopback,
            point_to_point,
            nets: Vec::new(),
        });
        let net = match found.addr {
            IfAddr::V4(v4) => Ipv4Net::with_netmask(v4.ip, v4.netmask).map(IpNet::V4),
            IfAddr::V6(v6) => Ipv6Net::with_netmask(v6.ip, v6.netmask).map(IpNet::V6),
        };
        // A netmask with holes describes no prefix, and an empty one would call the whole world a neighbour.
        interface.nets.extend(net.ok().filter(|net| net.prefix_len() > 0));
    }
    let mut interfaces: Vec<_> = by_index.into_values().collect();
    for interface in &mut interfaces {
        interface.nets.sort_unstable();
    }
    Ok(interfaces)
}

/// Of `interfaces`, those to discover on.
///
/// If nothing but virtual interfaces is left (a container, a test bed), they are the LAN.
#[must_use]
pub fn usable(interfaces: Vec<Interface>, scope: Scope) -> Vec<Interface> {
    let in_scope = |i: &Interface| i.loopback || (scope == Scope::Lan && !i.point_to_point);
    let mut kept: Vec<_> = interfaces.into_iter().filter(in_scope).collect();
    if kept.iter().any(|i| !i.loopback && !is_container_name(&i.name)) {
        kept.retain(|i| i.loopback || !is_container_name(&i.name));
    }
    kept
}

/// Whether traffic to `ip` stays on a network this machine is part of: loopback, link-local, private (RFC 1918), unique
/// local (RFC 4193), or in the prefix of one of `interfaces` that is not a tunnel. `reach = lan` allows nothing else.
#[must_use]
pub fn is_on_lan(ip: IpAddr, interfaces: &[Interface]) -> bool {
    let ip = ip.to_canonical();
    let private = match ip {
        IpAddr::V4(v4) => v4.is_private(),
        IpAddr::V6(v6) => v6.is_unique_local(),
    };
    if ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    ip.is_loopback()
        || private
        || is_link_local(ip)
        || interfaces.iter().filter(|i| !i.point_to_point).any(|i| i.is_on_link(ip))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Names that container and virtual-machine engines give their interfaces.
fn is_container_name(name: &str) -> bool {
    const PREFIXES: [&str; 14] = [
        "docker", "veth", "virbr", "vboxnet", "vmnet", "vnet", "podman", "cni", "flannel", "cali", "lxcbr",
        "lxdbr", "cilium", "nerdctl",
    ];
    // Docker names the bridge of a user's network after the first twelve hex digits of its id.
    let docker_bridge = name
        .strip_prefix("br-")
        .is_some_and(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    docker_bridge || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, net: &str) -> Interface {
        Interface {
            index,
            name: name.to_owned(),
            loopback: name == "lo",
            point_to_point: name.starts_with("tun"),
            nets: vec![net.parse().unwrap()],
        }
    }

    fn names(interfaces: &[Interface]) -> Vec<&str> {
        interfaces.iter().map(|i| i.name.as_str()).collect()
    }

    #[test]
    fn containers_and_tunnels_are_left_out_and_a_persons_bridge_stays() {
        let interfaces: Vec<_> = [
            ("lo", "127.0.0.1/8"),
            ("eth0", "192.0.2.7/24"),
            ("docker0", "172.17.0.1/16"),
            ("br-0123456789ab", "172.18.0.1/16"),
            ("br-lan", "10.0.0.1/24"),
            ("veth12ab", "169.254.1.1/16"),
            ("tun0", "10.8.0.2/24"),
        ]
        .into_iter()
        .zip(1..)
        .map(|((name, net), index)| interface(index, name, net))
        .collect();
        assert_eq!(names(&usable(interfaces.clone(), Scope::Lan)), ["lo", "eth0", "br-lan"]);
        assert_eq!(names(&usable(interfaces, Scope::Loopback)), ["lo"]);
    }

    #[test]
    fn virtual_interfaces_are_the_lan_where_there_is_nothing_else() {
        let interfaces = vec![interface(1, "lo", "127.0.0.1/8"), interface(2, "veth0", "10.0.0.2/24")];
        assert_eq!(names(&usable(interfaces, Scope::Lan)), ["lo", "veth0"]);
    }

    #[test]
    fn only_local_addresses_are_on_the_lan() {
        let interfaces = [interface(1, "eth0", "203.0.113.9/24"), interface(2, "tun0", "198.51.100.1/24")];
        let on_lan = |ip: &str| is_on_lan(ip.parse().unwrap(), &interfaces);
        for ip in [
            "127.0.0.1",
            "::1",
            "169.254.3.4",
            "fe80::1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "fd00::1",
            "203.0.113.77",
            "::ffff:192.168.1.1",
        ] {
            assert!(on_lan(ip), "{ip}");
        }
        for ip in [
            "8.8.8.8",
            "198.51.100.2",
            "2001:db8::1",
            "172.32.0.1",
            "0.0.0.0",
            "224.0.0.251",
            "::ffff:8.8.8.8",
        ] {
            assert!(!on_lan(ip), "{ip}");
        }
    }

    #[test]
    fn this_machine_has_a_loopback_interface() {
        let usable = usable(all().unwrap(), Scope::Loopback);
        assert!(usable.iter().all(|i| i.loopback));
        assert!(usable.iter().any(|i| i.is_on_link("127.0.0.1".parse().unwrap())));
    }
}
