//! One QUIC connection: its streams, its datagrams, and which paths it goes over.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use iroh::endpoint::{Connection, ConnectionError, VarInt};
use iroh::{RelayUrl, TransportAddr};

use super::ferry::{Ferries, FerryAddr};
use super::gate::Gate;
use super::paced::Gauge;
use super::punched::{HoleAddr, Holes, Kind};
use super::quic::DATAGRAMS_WAITING_BYTES_MAX;
use super::quic_stream::{QuicRecv, QuicSend};
use super::relays;
use super::{BINDING_LABEL, ConnLost, PathReport, RecvStream, Rung, SendStream, SendWay, Side};
use crate::clock::Clock;
use crate::discovery::interfaces::{self, Interface};
#[cfg(feature = "testing")]
use crate::testing::network::QuicWire;

/// One QUIC connection.
#[derive(Clone, Debug)]
pub(crate) struct QuicConn {
    inner: Connection,
    peer: DeviceId,
    gauge: Arc<Gauge>,
    gate: Arc<Gate>,
    holes: Holes,
    ferries: Ferries,
}

impl QuicConn {
    pub(super) fn new(inner: Connection, gauge: Arc<Gauge>, holes: Holes, ferries: Ferries) -> Option<Self> {
        let peer = DeviceId::from_bytes(*inner.remote_id().as_bytes()).ok()?;
        let gate = Gate::new(Clock::start(), Some(gauge.clone()));
        Some(Self { inner, peer, gauge, gate, holes, ferries })
    }

    fn recv(&self, inner: iroh::endpoint::RecvStream) -> RecvStream {
        RecvStream::Quic(QuicRecv::new(inner, self.gauge.clone()))
    }

    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub(super) fn peer(&self) -> DeviceId {
        self.peer
    }

    pub(super) fn side(&self) -> Side {
        if self.inner.side().is_client() { Side::Dialer } else { Side::Acceptor }
    }

    pub(super) async fn open(&self) -> Result<(SendStream, RecvStream), ConnLost> {
        let (send, recv) = self.inner.open_bi().await.map_err(|e| lost(&e))?;
        Ok((SendWay::Quic(QuicSend::new(send)).into(), self.recv(recv)))
    }

    pub(super) async fn accept(&self) -> Result<(SendStream, RecvStream), ConnLost> {
        let (send, recv) = self.inner.accept_bi().await.map_err(|e| lost(&e))?;
        Ok((SendWay::Quic(QuicSend::new(send)).into(), self.recv(recv)))
    }

    pub(super) fn send_datagram(&self, payload: Bytes) -> bool {
        self.inner.send_datagram(payload).is_ok()
    }

    pub(super) async fn read_datagram(&self) -> Result<Bytes, ConnLost> {
        self.inner.read_datagram().await.map_err(|e| lost(&e))
    }

    /// See [`super::Conn::hear`].
    pub(super) fn hear(&self, datagram: Bytes) -> Option<Bytes> {
        self.gauge.depths.hear(datagram)
    }

    /// See [`super::Conn::tell_depths`].
    pub(super) async fn tell_depths(&self) {
        let send = |word| {
            // One that the connection does not take is lost, as datagrams may be.
            self.send_datagram(word);
        };
        self.gauge.depths.tell(|| self.inner.stats().udp_rx.bytes, send).await;
    }

    pub(super) fn datagram_bytes_max(&self) -> usize {
        self.inner.max_datagram_size().unwrap_or(0)
    }

    pub(super) fn datagrams_waiting_bytes(&self) -> usize {
        DATAGRAMS_WAITING_BYTES_MAX.saturating_sub(self.inner.datagram_send_buffer_space())
    }

    pub(super) fn is_ferried(&self) -> bool {
        self.inner.paths().iter().any(|path| ferry_of(path.remote_addr()).is_some())
    }

    pub(super) fn heard(&self) -> u64 {
        self.inner.stats().udp_rx.datagrams
    }

    /// The relays of its paths.
    pub(super) fn relays(&self) -> Vec<RelayUrl> {
        let paths = self.inner.paths();
        let relays = paths.iter().filter_map(|path| {
            let TransportAddr::Relay(url) = path.remote_addr() else { return None };
            Some(url.clone())
        });
        relays.collect()
    }

    /// See [`super::punched::preference`].
    pub(super) fn pins_a_relay(&self) -> bool {
        self.inner
            .paths()
            .iter()
            .any(|path| path.is_selected() && (path.is_relay() || ferry_of(path.remote_addr()).is_some()))
    }

    pub(super) fn packets(&self) -> (u64, u64) {
        let paths = self.inner.paths();
        let path = paths.iter().find(iroh::endpoint::Path::is_selected).or_else(|| paths.iter().next());
        path.map_or((0, 0), |path| {
            let stats = path.stats();
            (stats.sent_packets, stats.lost_packets)
        })
    }

    pub(super) fn paths(&self) -> Vec<PathReport> {
        // Asked each time, because interfaces come and go; a path is looked at a few times a second at most.
        let here = interfaces::all().unwrap_or_default();
        let mut reports: Vec<_> = self
            .inner
            .paths()
            .iter()
            .map(|path| {
                let stats = path.stats();
                let loss = if stats.sent_packets == 0 {
                    0.0
                } else {
                    stats.lost_packets as f64 / stats.sent_packets as f64
                };
                let (rung, remote) = self.describe(path.remote_addr(), &here);
                PathReport {
                    rung,
                    carrier: "iroh",
                    remote,
                    rtt: stats.rtt,
                    mtu_bytes: stats.current_mtu,
                    loss,
                    selected: path.is_selected(),
                }
            })
            .collect();
        // None is selected while there are only paths that others pass on (see `punched::preference`): one of them it is.
        if !reports.iter().any(|report| report.selected)
            && let Some(used) = reports.iter_mut().min_by_key(|report| (report.rung, report.rtt))
        {
            used.selected = true;
        }
        reports.sort_by_key(|report| !report.selected);
        reports
    }

    fn describe(&self, addr: &TransportAddr, here: &[Interface]) -> (Rung, String) {
        if let TransportAddr::Custom(custom) = addr
            && let Some(hole) = HoleAddr::from_custom(custom)
        {
            let rung = match hole.kind {
                Kind::Punched => Rung::Punched,
                Kind::Forwarded => Rung::Relayed,
            };
            let remote =
                self.holes.remote(&hole).map_or_else(|| "closed".to_owned(), |addr| addr.to_string());
            return (rung, remote);
        }
        if let Some(ferry) = ferry_of(addr) {
            return (Rung::Relayed, format!("by {}", self.ferries.name(&ferry.by)));
        }
        describe(addr, here)
    }

    /// The far address of the path in use.
    pub(super) fn far_end(&self) -> Option<TransportAddr> {
        let paths = self.inner.paths();
        paths.iter().find(iroh::endpoint::Path::is_selected).map(|path| path.remote_addr().clone())
    }

    pub(super) fn path_events(&self) -> iroh::endpoint::PathEventStream {
        self.inner.path_events()
    }

    pub(super) fn channel_binding(&self) -> Result<[u8; 32], ConnLost> {
        self.export(BINDING_LABEL)
    }

    pub(super) fn export(&self, label: &[u8]) -> Result<[u8; 32], ConnLost> {
        let mut out = [0; 32];
        self.inner
            .export_keying_material(&mut out, label, b"")
            .map_err(|_| ConnLost::Transport("the connection exports no keys".into()))?;
        Ok(out)
    }

    pub(super) fn remote_addr(&self) -> Option<SocketAddr> {
        let paths = self.inner.paths();
        let path = paths.iter().find(iroh::endpoint::Path::is_selected).or_else(|| paths.iter().next())?;
        #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
        match path.remote_addr() {
            TransportAddr::Ip(addr) => Some(canonical(*addr)),
            _ => None,
        }
    }

    /// See [`Conn::seen_at`](super::Conn::seen_at). A path is listed once its far end has echoed what was sent there (RFC 9000
    /// section 8.2), so it is no address that the peer only wrote onto a packet.
    pub(super) fn seen_at(&self) -> Vec<SocketAddr> {
        let mut addrs = Vec::new();
        for path in self.inner.paths().iter() {
            #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
            match path.remote_addr() {
                TransportAddr::Ip(addr) if !addrs.contains(&canonical(*addr)) => {
                    addrs.push(canonical(*addr));
                }
                _ => {}
            }
        }
        addrs
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        self.inner.close(VarInt::from_u32(code), reason.as_bytes());
    }

    pub(super) async fn closed(&self) -> ConnLost {
        lost(&self.inner.closed().await)
    }

    pub(super) fn lost(&self) -> Option<ConnLost> {
        self.inner.close_reason().as_ref().map(lost)
    }
}

fn ferry_of(addr: &TransportAddr) -> Option<FerryAddr> {
    let TransportAddr::Custom(custom) = addr else { return None };
    FerryAddr::from_custom(custom)
}

/// IPv4 as IPv4, also when it came through an IPv6 socket.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
fn describe(addr: &TransportAddr, here: &[Interface]) -> (Rung, String) {
    #[cfg(feature = "testing")]
    if let TransportAddr::Custom(custom) = addr
        && let Some(shown) = QuicWire::shown(custom)
    {
        return (Rung::Direct, shown.to_string());
    }
    match addr {
        TransportAddr::Ip(addr) => {
            let addr = canonical(*addr);
            (rung_of(addr.ip(), here), addr.to_string())
        }
        TransportAddr::Relay(url) => (Rung::Relayed, relays::shown(url)),
        other => (Rung::Direct, format!("{other:?}")),
    }
}

/// How near an address is, seen from these interfaces. `Lan` is a neighbour on one of their links and nobody else: a private
/// address alone says little, because the networks behind other routers have such addresses too, and the far end of a tunnel
/// may be anywhere. A public address, on the other hand, may well be a neighbour's, or our own.
pub(super) fn rung_of(ip: IpAddr, here: &[Interface]) -> Rung {
    let mut nets = here.iter().flat_map(|interface| &interface.nets);
    let mut links = here.iter().filter(|interface| !interface.point_to_point);
    if ip.is_loopback() || nets.any(|net| net.addr() == ip) {
        Rung::Local
    } else if links.any(|link| link.is_on_link(ip)) {
        Rung::Lan
    } else {
        Rung::Direct
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that may grow")]
fn lost(error: &ConnectionError) -> ConnLost {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnLost::ByPeer { code: close.error_code.into_inner(), reason: printable(&close.reason) }
        }
        ConnectionError::LocallyClosed => ConnLost::ByUs,
        ConnectionError::TimedOut => ConnLost::TimedOut,
        other => ConnLost::Transport(other.to_string()),
    }
}

/// A peer's words, cut and stripped of what could drive a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let end = bytes.len().min(honeylink_core::limits::REASON_BYTES_MAX);
    String::from_utf8_lossy(&bytes[..end]).chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, net: &str) -> Interface {
        let nets = vec![net.parse().unwrap()];
        Interface { index: 1, name: name.to_owned(), loopback: false, point_to_point: name == "tun0", nets }
    }

    #[test]
    fn only_who_is_on_the_same_link_is_on_the_lan() {
        let here = [
            interface("eth0", "192.168.1.7/24"),
            interface("eth0", "fd10::7/64"),
            interface("eth1", "198.51.100.7/24"),
            interface("tun0", "10.8.0.2/24"),
        ];
        for (addr, rung) in [
            ("127.0.0.1", Rung::Local),
            ("fd10::7", Rung::Local),
            ("192.168.1.9", Rung::Lan),
            ("198.51.100.9", Rung::Lan),
            ("fd10::9", Rung::Lan),
            ("fe80::1", Rung::Lan),
            // Private, but behind another router, or at the far end of a tunnel.
            ("192.168.2.9", Rung::Direct),
            ("fd10:0:0:1::9", Rung::Direct),
            ("10.8.0.1", Rung::Direct),
            ("8.8.8.8", Rung::Direct),
        ] {
            assert_eq!(rung_of(addr.parse().unwrap(), &here), rung, "{addr}");
        }
    }
}
