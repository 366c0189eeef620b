//! Devices whose keys are known, and the secrets shared with them.
//!
//! A paired device stays until it is forgotten; a stranger's place may be taken by another. Keys are computed when they
//! are first needed: one X25519 each, and most peers of a busy relay never write to it.

use std::collections::BTreeMap;

use super::hint::{Address, Far, Near};
use super::keys::{Attested, Pairwise};
use crate::identity::{DeviceId, SecretKey};
use crate::limits::MESH_PEERS_MAX;
use crate::planted::{self, Bug};

#[derive(Debug)]
struct Peer {
    id: DeviceId,
    /// Paired with this device.
    trusted: bool,
    keys: Option<Pairwise>,
}

/// The peers.
#[derive(Debug)]
pub(super) struct Peers {
    own: SecretKey,
    table: BTreeMap<Address, Peer>,
}

impl Peers {
    pub(super) const fn new(own: SecretKey) -> Self {
        Self { own, table: BTreeMap::new() }
    }

    /// Takes a device up. A trusted one takes the place of a stranger if it must. False if there is no room.
    pub(super) fn know(&mut self, id: DeviceId, trusted: bool) -> bool {
        let address = Address::of(&id);
        if let Some(peer) = self.table.get_mut(&address) {
            peer.trusted |= trusted;
            return true;
        }
        if self.table.len() >= MESH_PEERS_MAX {
            let stranger = self.table.iter().find(|(_, peer)| !peer.trusted).map(|(address, _)| *address);
            let Some(stranger) = stranger.filter(|_| trusted) else { return false };
            self.table.remove(&stranger);
        }
        self.table.insert(address, Peer { id, trusted, keys: None });
        true
    }

    /// This device's own key.
    pub(super) const fn own(&self) -> &SecretKey {
        &self.own
    }

    pub(super) fn id(&self, address: &Address) -> Option<DeviceId> {
        self.table.get(address).map(|peer| peer.id)
    }

    pub(super) fn is_trusted(&self, address: &Address) -> bool {
        self.table.get(address).is_some_and(|peer| peer.trusted)
    }

    /// The keys shared with a peer; `None` if it is not known or its key is none.
    pub(super) fn keys(&mut self, address: &Address) -> Option<&Pairwise> {
        let peer = self.table.get_mut(address)?;
        if peer.keys.is_none() {
            peer.keys = Pairwise::new(&self.own, &peer.id).ok();
        }
        peer.keys.as_ref()
    }

    /// Peers that a hint may mean.
    pub(super) fn named(&self, far: Far) -> Vec<Address> {
        let [a, b, c] = far.0;
        let (mut low, mut high) = ([0; 16], [0xff; 16]);
        low[..3].copy_from_slice(&[a, b, c]);
        // The hint that means everybody is nobody's; who would have it uses the one below.
        if far.0 != [0xff, 0xff, 0xfe] {
            high[..3].copy_from_slice(&[a, b, c]);
        }
        self.table.range(Address(low)..=Address(high)).map(|(address, _)| *address).collect()
    }

    /// Peers that the hint of a neighbour may mean, paired ones first.
    pub(super) fn near(&self, near: Near) -> Vec<Address> {
        let [a, b] = near.0.to_be_bytes();
        let (mut low, mut high) = ([0; 16], [0xff; 16]);
        low[..2].copy_from_slice(&[a, b]);
        // As with far hints: whoever would be anybody uses the hint below.
        if near.0 != Near::ANYBODY.0 - 1 {
            high[..2].copy_from_slice(&[a, b]);
        }
        let mut near: Vec<Address> =
            self.table.range(Address(low)..=Address(high)).map(|(a, _)| *a).collect();
        near.sort_by_key(|address| !self.is_trusted(address));
        near
    }

    /// The peer among those whom `from` may mean that says this frame to us.
    pub(super) fn check<F: Attested>(&mut self, from: Far, frame: &F) -> Option<Address> {
        self.named(from).into_iter().find(|peer| {
            self.keys(peer)
                .is_some_and(|keys| keys.check(frame).is_ok() || planted::is(Bug::ReceiptUnchecked))
        })
    }

    /// Forgets a stranger and its keys.
    pub(super) fn forget_stranger(&mut self, address: &Address) {
        if !self.is_trusted(address) {
            self.table.remove(address);
        }
    }

    /// A device that is not trusted any more is not known any more.
    pub(super) fn forget(&mut self, address: &Address) {
        self.table.remove(address);
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_finds_its_device_and_a_paired_device_finds_room() {
        let mut peers = Peers::new(SecretKey::from_u64(0));
        for n in 1..=MESH_PEERS_MAX as u64 {
            assert!(peers.know(SecretKey::from_u64(n).id(), n > 5));
        }
        let late = SecretKey::from_u64(1_000_000).id();
        assert!(!peers.know(late, false));
        assert!(peers.know(late, true));
        assert_eq!(peers.len(), MESH_PEERS_MAX);
        assert!(peers.named(Far::from(&late)).contains(&Address::of(&late)));
        assert!(peers.is_trusted(&Address::of(&late)));
    }
}
