//! The pump of [`honeylink_core::knock`]: a socket per interface, the clock and the interface list for a machine that decides.
//!
//! Each socket is tied to its interface, so a packet leaves where we mean even if a VPN holds the default route, and what
//! arrives is known to have arrived there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use honeylink_core::knock::{Input, Interface as Place, Knock, Net, Output, PACKET_BYTES_MAX};
use honeylink_core::mdns::Announcement;
use honeylink_core::nearby::{self, Finder};
use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Table;
use super::interfaces::{self, Interface, Scope};
use super::mdns::INTERFACE_CHECK;

/// Packets that wait for the machine; more are dropped, as the network may.
const PACKET_QUEUE_MAX: usize = 64;

/// Names that systems give modems of mobile networks, where each packet may cost.
const METERED_PREFIXES: [&str; 6] = ["wwan", "wwp", "rmnet", "pdp_ip", "ppp", "usb_rndis"];

/// What is done on every LAN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) port: u16,
    /// Whether small subnets may be scanned.
    pub(super) scan: bool,
}

struct Packet {
    interface: u32,
    from: SocketAddrV4,
    bytes: Vec<u8>,
}

/// An interface we speak on. Dropping it ends its reader.
struct Wire {
    interface: Interface,
    socket: Arc<UdpSocket>,
    _reader: JoinSet<()>,
}

struct Pump {
    table: Arc<Table>,
    machine: Knock,
    settings: Settings,
    wires: BTreeMap<u32, Wire>,
    packets: mpsc::Sender<Packet>,
    /// What was last reported as the reason that nothing works.
    trouble: Option<String>,
}

/// Finds until `stop`, then says goodbye. Everything it starts ends with it.
pub(super) async fn run(
    table: Arc<Table>,
    machine: Knock,
    settings: Settings,
    mut announcement: watch::Receiver<Announcement>,
    mut remembered: watch::Receiver<Vec<IpAddr>>,
    stop: CancellationToken,
) {
    let (packets, mut arriving) = mpsc::channel(PACKET_QUEUE_MAX);
    let mut pump = Pump { table, machine, settings, wires: BTreeMap::new(), packets, trouble: None };
    let mut check = tokio::time::interval(INTERFACE_CHECK);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    announcement.mark_changed();
    remembered.mark_changed();
    loop {
        pump.drain();
        let deadline = pump.machine.poll_timeout().map(|d| pump.table.instant(d.at));
        tokio::select! {
            // In this order, so that a flood of packets delays neither the end nor what we promised to say.
            biased;
            () = stop.cancelled() => break,
            _ = check.tick() => pump.check_interfaces(),
            () = super::sleep_until(deadline) => {
                pump.tell_who_is_seen();
                pump.feed(Input::Timeout);
            }
            Ok(()) = announcement.changed() => {
                let new = announcement.borrow_and_update().clone();
                pump.feed(Input::Announce(Some(new)));
            }
            Ok(()) = remembered.changed() => {
                let new = remembered.borrow_and_update().clone();
                pump.feed(Input::Remembered(new));
            }
            Some(packet) = arriving.recv() => {
                let Packet { interface, from, bytes } = &packet;
                pump.feed(Input::Packet { interface: *interface, from: *from, bytes });
            }
        }
    }
    pump.feed(Input::Announce(None));
    pump.drain();
}

impl Pump {
    fn feed(&mut self, input: Input<'_>) {
        self.machine.handle(self.table.now(), input);
    }

    /// Where multicast finds somebody nothing has to be scanned.
    fn tell_who_is_seen(&mut self) {
        let seen: BTreeSet<String> = {
            let inner = self.table.lock();
            let devices = inner.nearby.snapshot();
            let sightings = devices.iter().filter_map(|device| device.seen_by.get(&Finder::Mdns));
            sightings.flat_map(|sighting| sighting.interfaces.iter().cloned()).collect()
        };
        for name in seen {
            self.feed(Input::SeenElsewhere(&name));
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { interface, to, bytes } => self.send(interface, to, &bytes),
                Output::Seen { finder, observation } => {
                    self.table.feed(nearby::Input::Seen { finder, observation });
                }
                Output::Gone(id) => {
                    for finder in [Finder::Broadcast, Finder::Scan, Finder::Remembered] {
                        self.table.feed(nearby::Input::Gone { finder, id });
                    }
                }
                Output::InterfaceGone(name) => self.table.feed(nearby::Input::InterfaceGone { name }),
                Output::Ignored(why) => tracing::trace!(%why, "a packet was not used"),
            }
        }
    }

    fn send(&self, interface: u32, to: SocketAddrV4, bytes: &[u8]) {
        let Some(wire) = self.wires.get(&interface) else { return };
        let to = if to.port() == honeylink_core::knock::PORT {
            SocketAddrV4::new(*to.ip(), self.settings.port)
        } else {
            to
        };
        // Past tokio's readiness, as a goodbye cannot wait. What does not leave is lost, as the network may lose it.
        if let Err(error) = SockRef::from(&*wire.socket).send_to(bytes, &SocketAddr::V4(to).into()) {
            tracing::trace!(%error, %to, "not sent");
        }
    }

    /// Opens sockets on interfaces that came, closes those that went, and tells the machine.
    fn check_interfaces(&mut self) {
        let mut failure = None;
        let all = interfaces::all().unwrap_or_else(|error| {
            failure = Some(format!("the system does not list its interfaces: {error}"));
            Vec::new()
        });
        let usable =
            interfaces::usable(all, Scope::Lan).into_iter().filter(|i| !i.loopback && !nets(i).is_empty());
        let usable: Vec<_> = usable.collect();
        let gone: Vec<u32> =
            self.wires.keys().copied().filter(|index| usable.iter().all(|i| i.index != *index)).collect();
        for index in gone {
            self.wires.remove(&index);
            self.feed(Input::InterfaceGone(index));
        }
        for interface in usable {
            if self.wires.get(&interface.index).is_none_or(|wire| wire.interface != interface) {
                failure = self.open(interface).or(failure);
            }
        }
        self.report(failure.filter(|_| self.wires.is_empty()));
    }

    fn report(&mut self, failure: Option<String>) {
        if failure == self.trouble {
            return;
        }
        let event = match &failure {
            Some(reason) => super::Event::FinderDown { finder: Finder::Broadcast, reason: reason.clone() },
            None => super::Event::FinderUp(Finder::Broadcast),
        };
        self.table.publish(event);
        self.trouble = failure;
    }

    /// Starts to speak on `interface`. Returns why not; it is tried again at the next check.
    fn open(&mut self, interface: Interface) -> Option<String> {
        // Closed first: it holds the port.
        self.wires.remove(&interface.index);
        let socket = match open(&interface, self.settings.port) {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                self.feed(Input::InterfaceGone(interface.index));
                return Some(format!("UDP port {} on {}: {error}", self.settings.port, interface.name));
            }
        };
        let mut reader = JoinSet::new();
        reader.spawn(read(Arc::clone(&socket), interface.index, self.packets.clone()));
        let metered = METERED_PREFIXES.iter().any(|prefix| interface.name.starts_with(prefix));
        self.feed(Input::Interface(Place {
            index: interface.index,
            name: interface.name.clone(),
            nets: nets(&interface),
            scan: self.settings.scan && !metered,
        }));
        self.wires.insert(interface.index, Wire { interface, socket, _reader: reader });
        None
    }
}

/// The IPv4 subnets of an interface that are not the internet.
fn nets(interface: &Interface) -> Vec<Net> {
    let local = |net: &IpNet| match net {
        IpNet::V4(v4) if interfaces::is_on_lan(v4.addr().into(), &[]) => {
            Some(Net { own: v4.addr(), prefix: v4.prefix_len() })
        }
        IpNet::V4(_) | IpNet::V6(_) => None,
    };
    interface.nets.iter().filter_map(local).collect()
}

/// A socket on this interface alone. Several devices on one machine share the port: each hears what is said to everybody, and
/// the one that came last what is said to the machine.
fn open(interface: &Interface, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    #[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
    socket.set_reuse_port(true)?;
    socket.set_broadcast(true)?;
    tie(&socket, interface)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn tie(socket: &Socket, interface: &Interface) -> io::Result<()> {
    socket.bind_device(Some(interface.name.as_bytes()))
}

#[cfg(any(target_os = "macos", target_os = "ios"))]
fn tie(socket: &Socket, interface: &Interface) -> io::Result<()> {
    socket.bind_device_by_index_v4(std::num::NonZeroU32::new(interface.index))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos", target_os = "ios")))]
fn tie(_: &Socket, _: &Interface) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not tie a socket to an interface"))
}

async fn read(socket: Arc<UdpSocket>, interface: u32, packets: mpsc::Sender<Packet>) {
    // One byte more than is allowed, so that a packet that was cut is told from one that just fits.
    let mut buffer = vec![0; PACKET_BYTES_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, SocketAddr::V4(from))) if len <= PACKET_BYTES_MAX => {
                let bytes = buffer[..len].to_vec();
                // Full: dropped. Closed: the pump has ended and aborts this task with it.
                let _ = packets.try_send(Packet { interface, from, bytes });
            }
            Ok(_) => {}
            // Nobody listens at an address that was asked.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                // The interface went down: the next check closes or renews the socket. The pause bounds a hot loop.
                tracing::debug!(%error, interface, "socket of the broadcast finder");
                tokio::time::sleep(INTERFACE_CHECK).await;
            }
        }
    }
}
