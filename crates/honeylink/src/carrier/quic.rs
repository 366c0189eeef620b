//! The QUIC carrier: iroh endpoints, bound and dialled the way this product promises.
//!
//! With `reach = lan` no relay, no address lookup and no port mapping exist at all, and only addresses that
//! [`crate::discovery`] found on the LAN are ever dialled. With `reach = loopback` the sockets themselves are bound to
//! the loopback addresses. With `reach = wide` there are the relays of the settings and those that paired devices name
//! ([`super::relays`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::limits::{STREAMS_PER_PEER_MAX, UNREAD_BYTES_MAX};
use honeylink_core::paths::{Pace, Power};
use honeylink_core::wire::relay::RelayAddr;
use iroh::endpoint::{
    BindOpts, ConnectOptions, Connection, IdleTimeout, IncomingAddr, QuicTransportConfig, VarInt, presets,
};
use iroh::{Endpoint, EndpointAddr, EndpointId, NetReportConfig, RelayMode, Watcher as _};

use super::ferry::{Ferries, FerryAddr};
use super::paced::{Gauge, Pacing};
use super::punched::{HoleAddr, Holes, Kind, preference::Preference};
use super::quic_conn::QuicConn;
use super::quic_meter::Meter;
use super::relays::{RelayState, Relays};
use super::restrained::WithRestraint;
use super::slots::{Slots, Source};
use super::{ALPN_FERRY, ConnLost, Side};
use crate::discovery::interfaces;
use crate::node::{Reach, Traffic};
#[cfg(feature = "testing")]
use crate::testing::network::QuicWire;

/// Dialling one device takes at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of datagrams that wait in one connection; the oldest are dropped for more. It is QUIC's own default, said here
/// because others look how much of it is used.
pub(super) const DATAGRAMS_WAITING_BYTES_MAX: usize = 1 << 20;

/// What nobody is dialled with, see [`QuicCarrier::call_at_relays`].
const ALPN_NOBODY: &[u8] = b"honeylink/nobody";
/// Enough for a first packet and its repetition (after a second, RFC 9002 section 6.2.2).
const CALL_MAX: Duration = Duration::from_millis(1500);

/// Handshakes under way. Beyond a quarter of them, an address must first show that it can be answered (RFC 9000, section
/// 8.1.2), so nobody takes places in the name of others.
const HANDSHAKES_MAX: usize = 128;
/// Handshakes under way of one source: a household or an office behind one address may have as many.
const HANDSHAKES_PER_SOURCE_MAX: usize = 16;

/// Why the node could not open its sockets.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The processor lacks what the pure-Rust cryptography needs.
    #[error(transparent)]
    Cpu(#[from] crate::crypto::CpuUnsupported),
    /// The operating system refused.
    #[error(
        "cannot open UDP port {port}: {reason}; is another program using it? Set node.port = 0 for any free port"
    )]
    Socket {
        /// The port asked for; 0 is any.
        port: u16,
        /// The system's words.
        reason: String,
    },
    /// The TCP port of the mesh cannot be had.
    #[error(
        "cannot open TCP port {port}: {reason}; is another program using it? Choose another node.port, or turn off \
         listening by TCP"
    )]
    Tcp {
        /// The port asked for; 0 is any.
        port: u16,
        /// The system's words.
        reason: String,
    },
    /// The two UDP ports of the observer cannot be had.
    #[error(
        "cannot open UDP port {port} and the next one for the observer: {reason}; choose another nat.observe"
    )]
    Observer {
        /// The first port.
        port: u16,
        /// The system's words.
        reason: String,
    },
    /// The cryptography has no TLS 1.3.
    #[error("this build's cryptography cannot be used for TLS: {0}")]
    Tls(String),
}

/// What an endpoint is bound to.
#[derive(Debug)]
pub(crate) struct Sockets<'a> {
    pub(crate) reach: Reach,
    /// 0 is any free one.
    pub(crate) port: u16,
    pub(crate) alpns: Vec<Vec<u8>>,
    /// Used if the reach is wide.
    pub(crate) relays: &'a [RelayAddr],
    /// No socket of its own.
    pub(crate) relay_only: bool,
    pub(crate) power: Power,
}

/// A bound endpoint.
#[derive(Clone, Debug)]
pub(crate) struct QuicCarrier {
    endpoint: Endpoint,
    reach: Reach,
    power: Power,
    meter: Meter,
    alpns: Vec<Vec<u8>>,
    slots: Slots,
    holes: Holes,
    ferries: Ferries,
    relays: Relays,
    /// In a simulation, the place on its network.
    #[cfg(feature = "testing")]
    wire: Option<QuicWire>,
}

/// Addresses that a device wants to be tried.
pub(crate) struct Naming {
    pub(crate) peer: DeviceId,
    pub(crate) count: u64,
    conn: Connection,
}

impl Naming {
    /// Ends the connection it came by, and with it the trying.
    pub(crate) fn refuse(&self) {
        self.conn.close(VarInt::from_u32(super::code::VIOLATION), b"too many addresses to try");
    }
}

impl QuicCarrier {
    pub(crate) async fn bind(key: &SecretKey, sockets: Sockets<'_>) -> Result<Self, BindError> {
        let Sockets { reach, port, alpns, relay_only, power, .. } = sockets;
        let refused = |reason: String| BindError::Socket { port, reason };
        let mut builder = offline(key, alpns.clone())?;
        let (holes, relays) =
            (Holes::default(), Relays::new(if reach == Reach::Wide { sockets.relays } else { &[] }));
        if reach == Reach::Wide {
            // Also without relays of its own, a node gets to others through theirs.
            let mut report = NetReportConfig::default();
            // It asks port 80 of a relay for a page, which ours do not serve.
            report.captive_portal_check = false;
            builder = builder
                .relay_mode(RelayMode::Custom(relays.map()))
                .ca_tls_config(relays.tls())
                .net_report_config(report);
        }
        let ferries = Ferries::default();
        if reach == Reach::Wide {
            builder =
                builder.path_selector(Arc::new(Preference)).add_custom_transport(Arc::new(ferries.clone()));
        }
        if reach == Reach::Wide && !relay_only {
            builder = builder.add_custom_transport(Arc::new(holes.clone()));
        }
        if !relay_only {
            builder = with_ip(builder, reach, port)?;
        }
        let endpoint = builder.bind().await.map_err(|e| refused(format!("{e:#}")))?;
        Ok(Self {
            endpoint,
            reach,
            power,
            meter: Meter::default(),
            alpns,
            slots: Slots::new(HANDSHAKES_MAX, HANDSHAKES_PER_SOURCE_MAX),
            holes,
            ferries,
            relays,
            #[cfg(feature = "testing")]
            wire: None,
        })
    }

    /// An endpoint whose packets go over a simulated network and nowhere else.
    #[cfg(feature = "testing")]
    pub(crate) async fn bind_simulated(
        key: &SecretKey,
        wire: QuicWire,
        alpns: Vec<Vec<u8>>,
    ) -> Result<Self, BindError> {
        let ferries = Ferries::default();
        let builder = offline(key, alpns.clone())?
            .path_selector(Arc::new(Preference))
            .add_custom_transport(Arc::new(wire.clone()))
            .add_custom_transport(Arc::new(ferries.clone()));
        let endpoint = builder.bind().await;
        let endpoint = endpoint.map_err(|e| BindError::Socket { port: 0, reason: format!("{e:#}") })?;
        let slots = Slots::new(HANDSHAKES_MAX, HANDSHAKES_PER_SOURCE_MAX);
        let (reach, meter, holes) = (Reach::Wide, Meter::default(), Holes::default());
        let power = Power::Mains;
        let relays = Relays::new(&[]);
        Ok(Self { endpoint, reach, power, meter, alpns, slots, holes, ferries, relays, wire: Some(wire) })
    }

    /// Whether devices are found by their key alone.
    pub(crate) fn is_simulated(&self) -> bool {
        #[cfg(feature = "testing")]
        let simulated = self.wire.is_some();
        #[cfg(not(feature = "testing"))]
        let simulated = false;
        simulated
    }

    /// Whether somebody passes packets on to the device.
    pub(crate) fn is_forwarded(&self, peer: DeviceId) -> bool {
        self.holes.remote(&HoleAddr { kind: Kind::Forwarded, peer }).is_some()
    }

    /// The addresses of the sockets, as bound.
    pub(crate) fn bound(&self) -> Vec<SocketAddr> {
        #[cfg(feature = "testing")]
        if let Some(wire) = &self.wire {
            return vec![wire.addr()];
        }
        self.endpoint.bound_sockets()
    }

    pub(crate) async fn connect(
        &self,
        peer: DeviceId,
        addrs: &[SocketAddr],
        relays: &[RelayAddr],
        alpn: &[u8],
    ) -> Result<QuicConn, ConnLost> {
        let id = EndpointId::from_bytes(peer.as_bytes()).map_err(|e| ConnLost::Transport(e.to_string()))?;
        let mut target = EndpointAddr::new(id);
        for addr in addrs {
            target = target.with_ip_addr(*addr);
        }
        for url in relays.iter().filter_map(|relay| self.relays.url(relay)) {
            target = target.with_relay_url(url);
        }
        let forwarded = HoleAddr { kind: Kind::Forwarded, peer };
        if self.holes.remote(&forwarded).is_some() {
            target.addrs.insert(iroh::TransportAddr::Custom(forwarded.to_custom()));
        }
        #[cfg(feature = "testing")]
        if let Some(wire) = &self.wire {
            target = EndpointAddr::from_parts(id, wire.target(&peer));
        }
        if alpn != ALPN_FERRY {
            let crossings = self.ferries.to(peer).into_iter().map(FerryAddr::to_custom);
            target.addrs.extend(crossings.map(iroh::TransportAddr::Custom));
        }
        let dialled = self.dial(target, alpn).await;
        dialled.map_err(|lost| match self.relays.refusal(relays) {
            Some(why) if lost == ConnLost::TimedOut => {
                ConnLost::Transport(format!("nothing answered, and a relay was refused: {why}"))
            }
            Some(_) | None => lost,
        })
    }

    /// Dials a device through a hole that was punched to it, and nowhere else if iroh can help it.
    pub(crate) async fn connect_punched(&self, peer: DeviceId, alpn: &[u8]) -> Result<QuicConn, ConnLost> {
        let id = EndpointId::from_bytes(peer.as_bytes()).map_err(|e| ConnLost::Transport(e.to_string()))?;
        let hole = iroh::TransportAddr::Custom(HoleAddr::punched(peer).to_custom());
        self.dial(EndpointAddr::from_parts(id, [hole]), alpn).await
    }

    async fn dial(&self, target: EndpointAddr, alpn: &[u8]) -> Result<QuicConn, ConnLost> {
        let gauge = Gauge::new();
        let options =
            ConnectOptions::new().with_transport_config(self.transport_config(&gauge, Side::Dialer));
        let connecting = async {
            let connecting = self.endpoint.connect_with_opts(target, alpn, options).await;
            let connecting = connecting.map_err(|e| ConnLost::Transport(format!("{e:#}")))?;
            connecting.await.map_err(|e| ConnLost::Transport(format!("{e:#}")))
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(conn)) => {
                self.counted(conn, gauge).ok_or_else(|| ConnLost::Transport("unusable key".into()))
            }
            Ok(Err(lost)) => Err(lost),
            Err(_) => Err(ConnLost::TimedOut),
        }
    }

    /// Where others may reach this endpoint, as far as it was told: its own addresses, and those that relays see.
    pub(crate) fn known_addrs(&self) -> Vec<SocketAddr> {
        self.endpoint.addr().ip_addrs().copied().collect()
    }

    /// The relays this node is reached at, as they are now.
    pub(crate) fn relays(&self) -> Vec<RelayState> {
        self.relays.states(&self.endpoint.home_relay_status().get())
    }

    /// Whether one of these relays is the one this node is reached at first, and does not answer any more. Of others
    /// nothing is said.
    pub(crate) fn is_gone(&self, relays: &[iroh::RelayUrl]) -> bool {
        let homes = self.endpoint.home_relay_status().get();
        homes.iter().any(|home| !home.is_connected() && relays.contains(home.url()))
    }

    /// Whether devices may be reached through relays.
    pub(crate) fn relays_matter(&self) -> bool {
        self.reach == Reach::Wide && !self.is_simulated()
    }

    /// Sends something to every relay of the settings, so that iroh connects to each and stays there.
    ///
    /// It has no word for that: it keeps the connection to the one relay it chose, and to those that it sent something to
    /// within a minute. So `nobody` is dialled there, a device that does not exist: the relays drop these packets.
    pub(crate) async fn call_at_relays(&self, nobody: DeviceId) {
        let Ok(nobody) = EndpointId::from_bytes(nobody.as_bytes()) else { return };
        let urls = self.relays.own().iter().filter_map(|relay| self.relays.url(relay));
        let target = EndpointAddr::from_parts(nobody, urls.map(iroh::TransportAddr::Relay));
        let options =
            ConnectOptions::new().with_transport_config(self.transport_config(&Gauge::new(), Side::Dialer));
        let calling = async {
            if let Ok(connecting) = self.endpoint.connect_with_opts(target, ALPN_NOBODY, options).await {
                // It ends by the timeout.
                let _ = connecting.await;
            }
        };
        let _ = tokio::time::timeout(CALL_MAX, calling).await;
    }

    /// How the pages of relays are asked for.
    pub(crate) fn https(&self) -> Result<Arc<rustls::ClientConfig>, BindError> {
        self.relays.https()
    }

    /// Those of the settings, if the reach allows any.
    pub(crate) fn own_relays(&self) -> &[RelayAddr] {
        self.relays.own()
    }

    /// Waits until one of them may do otherwise than before.
    pub(crate) async fn relays_changed(&self) {
        // It ends with the endpoint.
        let _ = self.endpoint.home_relay_status().updated().await;
    }

    /// The next connection that finished its handshake, or why one did not; `None` once the endpoint is closed.
    ///
    /// The handshake itself runs in the future returned, so that a slow stranger holds up nobody.
    pub(crate) async fn accept(
        &self,
    ) -> Option<impl Future<Output = Result<(QuicConn, Vec<u8>), ConnLost>> + Send + use<>> {
        let (incoming, slot) = loop {
            let incoming = self.endpoint.accept().await?;
            let from = incoming.remote_addr();
            if !answers(self.reach, &from) || self.is_detour(&from) {
                // Not even refused: a refusal is a packet too, and would leave the network this node keeps to.
                incoming.ignore();
            } else if self.slots.is_crowded() && !incoming.remote_addr_validated() {
                // It fails for those only who have shown already that they can be answered.
                let _ = incoming.retry();
            } else if let Some(slot) = self.slots.take(source(&from)) {
                break (incoming, slot);
            } else {
                // An honest device sends its first packet again, and finds a place then.
                incoming.ignore();
            }
        };
        let carrier = self.clone();
        let gauge = Gauge::new();
        let config = self.endpoint.create_server_config_builder(self.alpns.clone());
        let config =
            Arc::new(config.set_transport_config(self.transport_config(&gauge, Side::Acceptor)).build());
        let hole = hole_of(&incoming.remote_addr());
        let ferried = ferry_of(&incoming.remote_addr());
        Some(async move {
            let _slot = slot;
            let accepting =
                incoming.accept_with(config).map_err(|e| ConnLost::Transport(format!("{e:#}")))?;
            let conn = accepting.await.map_err(|e| ConnLost::Transport(format!("{e:#}")))?;
            let alpn = conn.alpn().to_vec();
            let conn =
                carrier.counted(conn, gauge).ok_or_else(|| ConnLost::Transport("unusable key".into()))?;
            if let Some(hole) = hole {
                if hole.peer != conn.peer() {
                    conn.close(super::code::VIOLATION, "this hole leads to another device");
                    return Err(ConnLost::Transport("a stranger behind a hole".into()));
                }
                carrier.holes.arrived(&hole.peer);
            }
            if ferried.is_some_and(|ferry| ferry.peer != conn.peer()) {
                conn.close(super::code::VIOLATION, "this crossing leads to another device");
                return Err(ConnLost::Transport("a stranger at the other end of a crossing".into()));
            }
            Ok((conn, alpn))
        })
    }

    /// Whether somebody who is to dial through a hole does it some other way at the same time. Only the first packet that is
    /// answered makes a path, and that shall be the hole.
    fn is_detour(&self, from: &IncomingAddr) -> bool {
        let peer = if let IncomingAddr::Relay { endpoint_id, .. } = from {
            DeviceId::from_bytes(*endpoint_id.as_bytes()).ok()
        } else {
            let forwarded = hole_of(from).filter(|hole| hole.kind == Kind::Forwarded);
            forwarded.map(|hole| hole.peer).or(ferry_of(from).map(|ferry| ferry.peer))
        };
        peer.is_some_and(|peer| self.holes.expects(&peer))
    }

    /// The sockets beside iroh's own.
    pub(crate) fn holes(&self) -> &Holes {
        &self.holes
    }

    /// The devices that carry packets for this one.
    pub(crate) fn ferries(&self) -> &Ferries {
        &self.ferries
    }

    /// Makes iroh look for direct ways to every peer now.
    ///
    /// It has no word for that, but does so when the addresses of this endpoint change. So one is added, and taken back the
    /// next time: loopback, which is always true and which the other side's probe never leaves its machine for.
    pub(crate) async fn look_for_ways(&self) {
        let Some(port) = self.bound().first().map(SocketAddr::port) else { return };
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if !self.endpoint.remove_external_addr(&here).await {
            self.endpoint.add_external_addr(here).await;
        }
    }

    /// What an idle link is kept for.
    pub(crate) fn power(&self) -> Power {
        self.power
    }

    fn transport_config(&self, gauge: &Arc<Gauge>, side: Side) -> QuicTransportConfig {
        let dialled = side == Side::Dialer;
        transport_config(gauge, Pace::of(self.power, self.reach == Reach::Wide, dialled))
    }

    fn counted(&self, conn: Connection, gauge: Arc<Gauge>) -> Option<QuicConn> {
        self.meter.follow(&conn);
        QuicConn::new(conn, gauge, self.holes.clone(), self.ferries.clone())
    }

    /// Waits until there are connections. One task may.
    pub(crate) async fn until_connected(&self) {
        self.meter.until_some().await;
    }

    /// The devices that named candidate addresses since this was asked last, how many, and what closes the connection.
    pub(crate) fn newly_named(&self) -> Vec<Naming> {
        let named = self.meter.newly_named().into_iter();
        named
            .filter_map(|(conn, count)| {
                let peer = DeviceId::from_bytes(*conn.remote_id().as_bytes()).ok()?;
                Some(Naming { peer, count, conn })
            })
            .collect()
    }

    /// What went over this carrier's connections so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.meter.traffic()
    }

    pub(crate) async fn close(&self) {
        self.endpoint.close().await;
    }
}

/// What every endpoint has in common: our cryptography and identity, no relay, no lookup, and no socket yet.
pub(super) fn offline(key: &SecretKey, alpns: Vec<Vec<u8>>) -> Result<iroh::endpoint::Builder, BindError> {
    Ok(Endpoint::builder(presets::Empty)
        .crypto_provider(crate::crypto::provider()?)
        .secret_key(iroh::SecretKey::from_bytes(&key.to_bytes()))
        .relay_mode(RelayMode::Disabled)
        .alpns(alpns)
        .transport_config(transport_config(&Gauge::new(), Pace::of(Power::Mains, false, false)))
        .clear_ip_transports())
}

/// Whose place a handshake takes.
fn source(from: &IncomingAddr) -> Source {
    match from {
        IncomingAddr::Ip(from) => Source::network(from.ip()),
        IncomingAddr::Relay { endpoint_id, .. } => {
            DeviceId::from_bytes(*endpoint_id.as_bytes()).map_or(Source::Unnamed, Source::Relayed)
        }
        IncomingAddr::Custom(_) => {
            let peer = hole_of(from).map(|hole| hole.peer).or(ferry_of(from).map(|ferry| ferry.peer));
            peer.map_or(Source::Unnamed, Source::Relayed)
        }
        // Kinds that a later version of the library may bring.
        _ => Source::Unnamed,
    }
}

fn hole_of(from: &IncomingAddr) -> Option<HoleAddr> {
    let IncomingAddr::Custom(addr) = from else { return None };
    HoleAddr::from_custom(addr)
}

fn ferry_of(from: &IncomingAddr) -> Option<FerryAddr> {
    let IncomingAddr::Custom(addr) = from else { return None };
    FerryAddr::from_custom(addr)
}

/// The sockets of an endpoint that has some.
fn with_ip(
    builder: iroh::endpoint::Builder,
    reach: Reach,
    port: u16,
) -> Result<iroh::endpoint::Builder, BindError> {
    let refused = |reason: String| BindError::Socket { port, reason };
    let port = if port == 0 { free_port(reach)? } else { port };
    let (v4, v6) = match reach {
        Reach::Loopback => (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
        Reach::Lan | Reach::Wide => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED),
    };
    let (prefix4, prefix6) = match reach {
        Reach::Loopback => (8, 128),
        Reach::Lan | Reach::Wide => (0, 0),
    };
    let opts = |prefix: u8| BindOpts::default().set_prefix_len(prefix);
    let builder = builder
        .bind_addr_with_opts(SocketAddr::from((v4, port)), opts(prefix4))
        .map_err(|e| refused(e.to_string()))?;
    // A machine without IPv6 is normal, so that socket may fail.
    builder
        .bind_addr_with_opts(SocketAddr::from((v6, port)), opts(prefix6).set_is_required(false))
        .map_err(|e| refused(e.to_string()))
}

/// Whether a stranger at this address is answered at all: a socket bound to every address hears the whole internet on a
/// machine that has a public address.
fn answers(reach: Reach, from: &IncomingAddr) -> bool {
    let IncomingAddr::Ip(from) = from else {
        return reach == Reach::Wide;
    };
    answers_ip(reach, from.ip())
}

/// See [`answers`].
pub(super) fn answers_ip(reach: Reach, from: IpAddr) -> bool {
    // The interfaces are asked only for an address that does not speak for itself.
    reach.covers(from, &[]) || reach.covers(from, &interfaces::all().unwrap_or_default())
}

/// A UDP port that is free for IPv4, so that the IPv6 socket can have the same one: a device announces one port.
fn free_port(reach: Reach) -> Result<u16, BindError> {
    let ip = match reach {
        Reach::Loopback => Ipv4Addr::LOCALHOST,
        Reach::Lan | Reach::Wide => Ipv4Addr::UNSPECIFIED,
    };
    std::net::UdpSocket::bind((ip, 0))
        .and_then(|socket| socket.local_addr())
        .map(|addr| addr.port())
        .map_err(|error| BindError::Socket { port: 0, reason: error.to_string() })
}

/// QUIC parameters of one connection, each with its reason.
fn transport_config(gauge: &Arc<Gauge>, pace: Pace) -> QuicTransportConfig {
    QuicTransportConfig::builder()
        // The bottleneck's queue stays short, or priorities would end where it begins; and little is sent into a silence.
        .congestion_controller_factory(Arc::new(WithRestraint(Arc::new(Pacing { gauge: gauge.clone() }))))
        // A peer may open this many streams at a time; more wait. Unidirectional ones are not used at all.
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_PER_PEER_MAX))
        // Nor does it fill the memory by streams that nobody reads.
        .receive_window(VarInt::from_u32(UNREAD_BYTES_MAX))
        .datagram_send_buffer_size(DATAGRAMS_WAITING_BYTES_MAX)
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        // The conversion fails only beyond 2^62 ms.
        .max_idle_timeout(IdleTimeout::try_from(pace.idle_max).ok())
        .default_path_max_idle_timeout(pace.way_idle_max)
        .keep_alive_interval(pace.alive_every)
        .default_path_keep_alive_interval(pace.way_alive_every)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_neighbours_are_answered_unless_the_reach_is_wide() {
        let from = |addr: &str| IncomingAddr::Ip(addr.parse().unwrap());
        let (near, far) = (["192.168.1.9:1", "[fe80::1]:1", "127.0.0.1:1"], ["8.8.8.8:1", "[2600::1]:1"]);
        for addr in near {
            assert!(answers(Reach::Lan, &from(addr)), "{addr}");
        }
        for addr in far {
            assert!(!answers(Reach::Lan, &from(addr)), "{addr}");
            assert!(answers(Reach::Wide, &from(addr)), "{addr}");
        }
        assert!(answers(Reach::Loopback, &from("[::ffff:127.0.0.1]:1")));
        assert!(!answers(Reach::Loopback, &from("192.168.1.9:1")));
    }
}

#[cfg(test)]
#[path = "quic_crowd_tests.rs"]
mod crowd_tests;
