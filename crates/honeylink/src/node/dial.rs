//! Getting a connection to a peer: the pooled one, or a new one, dialled by one task at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::wire::link::CloseCode;
use honeylink_core::wire::relay::RelayAddr;
use tokio::time::Instant;

use super::{Carriers, Inner, Reach};
use crate::carrier::quic::QuicCarrier;
use crate::carrier::quic_conn::QuicConn;
use crate::carrier::{ALPN_LINK, Conn, ConnLost};
use crate::discovery::Scope;
use crate::discovery::interfaces;
use crate::link::driver::{Dial, DialFailure};

/// How long a device is dialled alone before those that relay for this one are asked for it: longer than a packet there and
/// back takes almost everywhere, and shorter than a person waits.
const CROSS_AFTER: Duration = Duration::from_millis(400);

/// The addresses and relays that a device may be at.
type Whereabouts<'a> = (&'a [SocketAddr], &'a [RelayAddr]);

impl Dial for Arc<Inner> {
    async fn dial(&self, peer: DeviceId) -> Result<Conn, DialFailure> {
        if let Some(conn) = self.pool.current(&peer) {
            return Ok(conn);
        }
        let one_at_a_time = self.pool.dialling(peer);
        let _turn = one_at_a_time.lock().await;
        if let Some(conn) = self.pool.current(&peer) {
            return Ok(conn);
        }
        if !self.store.trust().is_trusted(&peer) {
            return Err(DialFailure::Final(
                CloseCode::NotAllowed,
                "no longer paired with this device".into(),
            ));
        }
        let conn = self.dial_wide(peer).await.map_err(DialFailure::from)?;
        self.adopt(conn.clone());
        Ok(conn)
    }
}

impl Inner {
    /// Dials a device for one ALPN, whatever is pooled.
    pub(super) async fn dial_alpn(&self, peer: DeviceId, alpn: &[u8]) -> Result<Conn, ConnLost> {
        match &self.carriers {
            Carriers::Quic(quic) => {
                let addrs = self.addresses(&peer);
                let relays = self.relays_of(&peer);
                let began = Instant::now();
                let dialled = if alpn == ALPN_LINK && self.has_ferries() {
                    self.dial_or_cross(quic, peer, (&addrs, &relays)).await
                } else if is_somewhere(quic, &peer, (&addrs, &relays)) {
                    quic.connect(peer, &addrs, &relays, alpn).await
                } else {
                    return Err(nowhere());
                };
                self.meter.dialled(dialled.is_ok().then(|| began.elapsed()));
                Ok(Conn::Quic(dialled?))
            }
            Carriers::Memory(network) => {
                let binding = self.random();
                Ok(Conn::Memory(network.connect(self.id, peer, alpn, binding).await?))
            }
        }
    }

    /// Dials a device, and if that leads nowhere, or not soon, also through a paired device that carries packets there: one
    /// that is asked now, or as soon as this node is connected to it.
    async fn dial_or_cross(
        &self,
        quic: &QuicCarrier,
        peer: DeviceId,
        at: Whereabouts<'_>,
    ) -> Result<QuicConn, ConnLost> {
        let dial = || quic.connect(peer, at.0, at.1, ALPN_LINK);
        if !is_somewhere(quic, &peer, at) {
            return if self.cross_soon(&peer).await { dial().await } else { Err(nowhere()) };
        }
        let crossing = async {
            tokio::time::sleep(CROSS_AFTER).await;
            self.cross_ever(&peer).await;
        };
        // On the heap: see `dial_wide`.
        let (mut dialling, mut crossing) = (Box::pin(dial()), Box::pin(crossing));
        tokio::select! {
            biased;
            dialled = &mut dialling => match dialled {
                Ok(_) | Err(ConnLost::ByPeer { .. }) => return dialled,
                Err(lost) => if !self.cross(&peer).await { return Err(lost) },
            },
            () = &mut crossing => {}
        }
        // Anew: what has begun already does not learn of another way.
        drop(dialling);
        dial().await
    }

    /// Every address the device may have, the freshest source first, within this node's reach.
    pub(super) fn addresses(&self, peer: &DeviceId) -> Vec<SocketAddr> {
        let mut addrs = self.discovery.as_ref().map(|d| d.addresses_of(peer)).unwrap_or_default();
        addrs.extend(self.wide.found(peer).addrs);
        let manual = self.manual.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        addrs.extend(manual.get(peer).into_iter().flat_map(|known| &known.addrs).copied());
        drop(manual);
        if let Some(record) = self.store.trust().find(peer) {
            addrs.extend(record.addresses.iter().copied());
        }
        let interfaces = interfaces::all().unwrap_or_default();
        let mut unique: Vec<SocketAddr> = Vec::new();
        for addr in addrs {
            if self.reach.covers(addr.ip(), &interfaces) && !unique.contains(&addr) {
                unique.push(addr);
            }
        }
        keep_scoped_as_last_resort(&mut unique);
        unique.truncate(honeylink_core::limits::ADDRESSES_PER_DEVICE_MAX);
        unique
    }

    /// The addresses others can reach this node at, as far as its interfaces tell.
    pub(super) fn own_addrs(&self) -> Vec<SocketAddr> {
        let Carriers::Quic(quic) = &self.carriers else {
            return Vec::new();
        };
        if quic.is_simulated() {
            return quic.bound();
        }
        let Some(port) = quic.bound().first().map(SocketAddr::port) else {
            return Vec::new();
        };
        let scope = match self.reach {
            Reach::Loopback => Scope::Loopback,
            Reach::Lan | Reach::Wide => Scope::Lan,
        };
        let interfaces = interfaces::usable(interfaces::all().unwrap_or_default(), scope);
        let mut addrs: Vec<_> = interfaces
            .iter()
            .flat_map(|interface| &interface.nets)
            .map(|net| SocketAddr::new(net.addr(), port))
            .filter(|addr| !is_scoped(addr))
            .collect();
        // IPv4 first: shorter in an invite, and never scoped to one interface.
        addrs.sort_by_key(|addr| (addr.is_ipv6(), addr.ip().is_loopback()));
        addrs
    }
}

/// Whether there is anything to dial.
fn is_somewhere(quic: &QuicCarrier, peer: &DeviceId, (addrs, relays): Whereabouts<'_>) -> bool {
    let told = !addrs.is_empty() || !relays.is_empty();
    told || quic.is_simulated() || quic.is_forwarded(*peer) || !quic.ferries().to(*peer).is_empty()
}

fn nowhere() -> ConnLost {
    ConnLost::Transport("no address is known; is it switched on and on this network?".into())
}

/// Leaves link-local IPv6 addresses away where there is any other. iroh 1.4 forgets the interface of a packet that came
/// from such an address, so the answer cannot be sent; and as the far side answers whichever packet comes first, one such
/// address among good ones makes a connection fail now and then.
fn keep_scoped_as_last_resort(addrs: &mut Vec<SocketAddr>) {
    if addrs.iter().any(|addr| !is_scoped(addr)) {
        addrs.retain(|addr| !is_scoped(addr));
    }
}

/// Whether an address means something only together with an interface: useless in an invite or ticket.
fn is_scoped(addr: &SocketAddr) -> bool {
    match addr {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(v6) => v6.ip().is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_is_dialled_only_if_there_is_no_other() {
        let [scoped, global]: [SocketAddr; 2] =
            ["[fe80::1%2]:7843", "10.77.0.1:7843"].map(|text| text.parse().unwrap());
        let mut mixed = vec![scoped, global];
        keep_scoped_as_last_resort(&mut mixed);
        assert_eq!(mixed, [global]);
        let mut alone = vec![scoped];
        keep_scoped_as_last_resort(&mut alone);
        assert_eq!(alone, [scoped]);
    }
}
