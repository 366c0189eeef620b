//! Through which relays this node and its peers are reached, and how they learn it of each other.
//!
//! A node with a wide reach tells every paired device it is connected to its relays, on a stream of kind `relays`, whenever
//! a connection is made. They are kept with the peer's record, so that each finds the other again from any network. A peer
//! that never said is looked for at the relays this node has itself: two devices of one person mostly have the same.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::RELAYS_PER_DEVICE_MAX;
use honeylink_core::wire::link::{Class, SessionId, StreamHeader, StreamKind};
use honeylink_core::wire::relay::{RelayAddr, put_relays, read_relays};
use honeylink_core::wire::{Invalid, Reader};
use tokio::io::AsyncReadExt as _;

use super::{Carriers, Inner, Node, Reach};
use crate::carrier::relays::RelayState;
use crate::carrier::{Conn, ConnLost, RecvStream};
use crate::clock::unix_ms;

/// What the header of a stream of kind `relays` names as its protocol.
const PROTOCOL: &str = "honeylink/relays/1";
/// Relays a peer is looked for at when it is dialled.
const TRIED_MAX: usize = 2 * RELAYS_PER_DEVICE_MAX;
/// Largest list of relays, bytes: four with the longest names and everything said.
const LIST_BYTES_MAX: u64 = 2048;
/// A list must be there within this time.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

impl Node {
    /// The relays of this node and how each does. Empty unless the reach is wide.
    #[must_use]
    pub fn relays(&self) -> Vec<RelayState> {
        match &self.inner.carriers {
            Carriers::Quic(quic) => quic.relays(),
            Carriers::Memory(_) => Vec::new(),
        }
    }

    /// Waits until one of [`Node::relays`] may do otherwise than before; for ever if there is none.
    pub async fn relays_changed(&self) {
        match &self.inner.carriers {
            Carriers::Quic(quic) if !quic.own_relays().is_empty() => quic.relays_changed().await,
            Carriers::Quic(_) | Carriers::Memory(_) => std::future::pending().await,
        }
    }

    /// Remembers a relay through which a device can be reached, for as long as the node runs.
    pub fn add_relay(&self, id: DeviceId, relay: RelayAddr) {
        self.inner.add_relays(id, &[relay]);
    }
}

impl Inner {
    /// The relays of this node that it uses.
    pub(super) fn own_relays(&self) -> &[RelayAddr] {
        match &self.carriers {
            Carriers::Quic(quic) => quic.own_relays(),
            Carriers::Memory(_) => &[],
        }
    }

    /// The relay that an invite names: the one through which this node is reached first, or will be.
    pub(super) fn invite_relay(&self) -> Option<RelayAddr> {
        let Carriers::Quic(quic) = &self.carriers else { return None };
        let states = quic.relays();
        let best =
            states.iter().find(|state| state.connected).or_else(|| states.iter().find(|state| state.home));
        best.or(states.first()).map(|state| state.relay.clone())
    }

    /// Every relay a device may be at: those of its note in the DHT, those given by hand or by ticket, those it named, and
    /// this node's own.
    pub(super) fn relays_of(&self, peer: &DeviceId) -> Vec<RelayAddr> {
        if self.reach != Reach::Wide {
            return Vec::new();
        }
        let mut relays = self.wide.found(peer).relays;
        relays.extend(self.given_relays(peer));
        relays.extend(self.store.trust().find(peer).map(|record| record.relays).unwrap_or_default());
        relays.extend_from_slice(self.own_relays());
        let mut unique: Vec<RelayAddr> = Vec::new();
        for relay in relays {
            if !unique.contains(&relay) {
                unique.push(relay);
            }
        }
        unique.truncate(TRIED_MAX);
        unique
    }

    fn given_relays(&self, peer: &DeviceId) -> Vec<RelayAddr> {
        let manual = self.manual.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        manual.get(peer).map(|known| known.relays.clone()).unwrap_or_default()
    }

    pub(super) fn add_relays(&self, id: DeviceId, relays: &[RelayAddr]) {
        let mut manual = self.manual.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = &mut manual.entry(id).or_default().relays;
        for relay in relays {
            known.retain(|other| other != relay);
            known.insert(0, relay.clone());
        }
        known.truncate(RELAYS_PER_DEVICE_MAX);
    }

    /// Keeps the relays by which a device that was just paired was found.
    pub(super) fn keep_given_relays(&self, peer: &DeviceId) {
        let given = self.given_relays(peer);
        if !given.is_empty() {
            self.store.trust().reached_through(peer, &given, unix_ms());
        }
    }

    /// Tells the peer at the other end of a connection where else this node is reached.
    pub(super) async fn tell_relays(&self, conn: &Conn) -> Result<(), ConnLost> {
        if self.reach != Reach::Wide || matches!(self.carriers, Carriers::Memory(_)) {
            return Ok(());
        }
        let (mut send, _recv) = conn.open().await?;
        let header = StreamHeader {
            kind: StreamKind::Relays,
            session: SessionId([0; 16]),
            priority: Class::Bulk.into(),
            protocol: PROTOCOL.to_owned(),
        };
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        put_relays(&mut bytes, self.own_relays());
        let told = async {
            send.write_chunk(Bytes::from(bytes)).await?;
            send.finish().await?;
            send.finished().await
        };
        told.await.map_err(|error| conn.lost().unwrap_or_else(|| ConnLost::Transport(error.to_string())))
    }

    /// Hears where else the peer is reached.
    pub(super) async fn hear_relays(&self, peer: &DeviceId, recv: RecvStream) {
        let mut bytes = Vec::new();
        let mut recv = recv.take(LIST_BYTES_MAX);
        let reading = tokio::time::timeout(LIST_TIMEOUT, recv.read_to_end(&mut bytes)).await;
        if !matches!(reading, Ok(Ok(_))) {
            return;
        }
        match read_list(&bytes) {
            Ok(relays) => self.store.trust().reached_through(peer, &relays, unix_ms()),
            Err(why) => tracing::debug!(peer = %peer.short(), %why, "a list of relays that is none"),
        }
    }
}

fn read_list(bytes: &[u8]) -> Result<Vec<RelayAddr>, Invalid> {
    let mut reader = Reader::new(bytes);
    let relays = read_relays(&mut reader)?;
    reader.finish("relays")?;
    Ok(relays)
}
