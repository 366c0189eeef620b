//! The pump of [`honeylink_core::mdns`]: sockets, the clock and the interface list for a machine that decides.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use honeylink_core::mdns::{self, Announcement, Input, Mdns, Output, PACKET_BYTES_MAX};
use honeylink_core::nearby::{self, Finder};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Table;
use super::interfaces::{self, Interface, Scope};
use super::socket::GroupSocket;

/// How often the interfaces are looked at: a link that comes back is used again within this time.
pub(super) const INTERFACE_CHECK: Duration = Duration::from_secs(1);
/// Packets that wait for the machine; more are dropped, as the network may. Times [`PACKET_BYTES_MAX`] this is 0.6 MB.
const PACKET_QUEUE_MAX: usize = 64;

/// A packet and where it came from.
struct Packet {
    interface: u32,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// An interface we speak on. Dropping it ends its readers and leaves the group.
struct Wire {
    interface: Interface,
    sockets: Vec<Arc<GroupSocket>>,
    _readers: JoinSet<()>,
}

pub(super) struct Pump {
    table: Arc<Table>,
    machine: Mdns,
    scope: Scope,
    port: u16,
    wires: BTreeMap<u32, Wire>,
    /// Every interface of the machine, for telling what is on the LAN.
    interfaces: Vec<Interface>,
    packets: mpsc::Sender<Packet>,
    /// What was last reported as the reason that nothing works.
    trouble: Option<String>,
}

/// Discovers until `stop`, then says goodbye. Everything it starts ends with it.
pub(super) async fn run(
    table: Arc<Table>,
    machine: Mdns,
    (scope, port): (Scope, u16),
    mut announcement: watch::Receiver<Announcement>,
    stop: CancellationToken,
) {
    let (packets, mut arriving) = mpsc::channel(PACKET_QUEUE_MAX);
    let mut pump = Pump {
        table,
        machine,
        scope,
        port,
        wires: BTreeMap::new(),
        interfaces: Vec::new(),
        packets,
        trouble: None,
    };
    let mut check = tokio::time::interval(INTERFACE_CHECK);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    announcement.mark_changed();
    loop {
        pump.drain();
        let deadline = pump.machine.poll_timeout().map(|d| pump.table.instant(d.at));
        tokio::select! {
            // In this order, so that a flood of packets delays neither the end nor what we promised to say.
            biased;
            () = stop.cancelled() => break,
            _ = check.tick() => pump.check_interfaces(),
            () = super::sleep_until(deadline) => pump.feed(Input::Timeout),
            Ok(()) = announcement.changed() => {
                let new = announcement.borrow_and_update().clone();
                pump.feed(Input::Announce(Some(new)));
            }
            Some(packet) = arriving.recv() => pump.on_packet(&packet),
        }
    }
    pump.feed(Input::Announce(None));
    pump.drain();
}

impl Pump {
    fn feed(&mut self, input: Input<'_>) {
        self.machine.handle(self.table.now(), input);
    }

    fn on_packet(&mut self, packet: &Packet) {
        // RFC 6762 section 11: what does not come from this link is not ours to believe.
        if self.wires.get(&packet.interface).is_some_and(|wire| wire.interface.is_on_link(packet.from.ip())) {
            self.feed(Input::Packet { interface: packet.interface, bytes: &packet.bytes });
        } else {
            tracing::trace!(from = %packet.from, "mDNS packet from off the link");
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { interface, bytes } => self.send(interface, &bytes),
                Output::Seen(mut observation) => {
                    // A stranger must not make us send to the wide network, whatever it announces.
                    observation.addresses.retain(|a| interfaces::is_on_lan(a.ip(), &self.interfaces));
                    if !observation.addresses.is_empty() {
                        self.table.feed(nearby::Input::Seen { finder: Finder::Mdns, observation });
                    }
                }
                Output::Gone(id) => self.table.feed(nearby::Input::Gone { finder: Finder::Mdns, id }),
                Output::InterfaceGone(name) => self.table.feed(nearby::Input::InterfaceGone { name }),
                Output::Ignored(why) => tracing::trace!(%why, "mDNS packet not used"),
            }
        }
    }

    fn send(&self, interface: u32, bytes: &[u8]) {
        for socket in self.wires.get(&interface).iter().flat_map(|wire| &wire.sockets) {
            if let Err(error) = socket.send(bytes) {
                tracing::debug!(%error, interface, "mDNS packet not sent");
            }
        }
    }

    /// Opens sockets on interfaces that came, closes those that went, and tells the machine.
    fn check_interfaces(&mut self) {
        let mut failure = None;
        match interfaces::all() {
            Ok(all) => self.interfaces = all,
            Err(error) => failure = Some(format!("the system does not list its interfaces: {error}")),
        }
        let usable = interfaces::usable(self.interfaces.clone(), self.scope);
        let gone: Vec<u32> =
            self.wires.keys().copied().filter(|index| usable.iter().all(|i| i.index != *index)).collect();
        for index in gone {
            self.wires.remove(&index);
            self.feed(Input::InterfaceGone(index));
        }
        for interface in usable {
            // A changed address may change what the sockets are bound to, so they are opened anew.
            if self.wires.get(&interface.index).is_none_or(|wire| wire.interface != interface) {
                failure = self.open(interface).or(failure);
            }
        }
        if self.wires.is_empty() {
            let reason = failure.unwrap_or_else(|| "no network interface is up".to_owned());
            if self.trouble.as_ref() != Some(&reason) {
                tracing::warn!(%reason, "mDNS cannot work; other ways to find devices go on");
                self.table.publish(super::Event::FinderDown { finder: Finder::Mdns, reason: reason.clone() });
                self.trouble = Some(reason);
            }
        } else if self.trouble.take().is_some() {
            self.table.publish(super::Event::FinderUp(Finder::Mdns));
        }
    }

    /// Starts to speak on `interface`. Returns why not, if no socket of it opens; it is tried again at the next check.
    fn open(&mut self, interface: Interface) -> Option<String> {
        self.wires.remove(&interface.index);
        let mut failure = None;
        let mut sockets = Vec::new();
        for opened in GroupSocket::open_all(&interface, self.port) {
            match opened {
                Ok(socket) => sockets.push(Arc::new(socket)),
                Err(error) => {
                    failure = Some(format!("UDP port {} on {}: {error}", self.port, interface.name));
                }
            }
        }
        if sockets.is_empty() {
            self.feed(Input::InterfaceGone(interface.index));
            return failure;
        }
        if let Some(failure) = failure {
            tracing::debug!(%failure, "mDNS works with one IP version only here");
        }
        let mut readers = JoinSet::new();
        for socket in &sockets {
            readers.spawn(read(Arc::clone(socket), interface.index, self.packets.clone()));
        }
        self.feed(Input::Interface(mdns::Interface {
            index: interface.index,
            name: interface.name.clone(),
            loopback: interface.loopback,
            addresses: announced(&interface),
        }));
        self.wires.insert(interface.index, Wire { interface, sockets, _readers: readers });
        None
    }
}

/// What to announce on an interface. On loopback only IPv4, because that is what devices of one machine listen on.
fn announced(interface: &Interface) -> Vec<std::net::IpAddr> {
    interface.nets.iter().map(ipnet::IpNet::addr).filter(|ip| ip.is_ipv4() || !interface.loopback).collect()
}

async fn read(socket: Arc<GroupSocket>, interface: u32, packets: mpsc::Sender<Packet>) {
    // One byte more than is allowed, so that a packet that was cut is told from one that just fits.
    let mut buffer = vec![0; PACKET_BYTES_MAX + 1];
    loop {
        match socket.receive(&mut buffer).await {
            Ok((len, from)) if len <= PACKET_BYTES_MAX => {
                let bytes = buffer[..len].to_vec();
                // Full: dropped. Closed: the pump has ended and aborts this task with it.
                let _ = packets.try_send(Packet { interface, from, bytes });
            }
            Ok(_) => {}
            Err(error) => {
                // The interface went down: the next check closes or renews the socket. The pause bounds a hot loop.
                tracing::debug!(%error, interface, "mDNS socket");
                tokio::time::sleep(INTERFACE_CHECK).await;
            }
        }
    }
}
