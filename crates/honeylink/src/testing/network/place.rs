//! One node's place in a simulated network: its seeds, its disk and its way to the others.

use honeylink_core::identity::SecretKey;
use honeylink_core::rng::Rng;
use honeylink_sim::chance::{Chance, Purpose};
use honeylink_sim::device::NodeId;

use super::disk::SimulatedDisk;
use super::quic::QuicWire;
use crate::carrier::memory::MemoryNetwork;

/// What a node that is built for a simulation is given.
#[derive(Debug)]
pub(crate) struct Place {
    key: SecretKey,
    seed: [u8; 32],
    disk: SimulatedDisk,
    way: Way,
}

/// How packets leave.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Memory(MemoryNetwork),
    Quic(QuicWire),
}

impl Place {
    pub(super) const fn new(key: SecretKey, seed: [u8; 32], disk: SimulatedDisk, way: Way) -> Self {
        Self { key, seed, disk, way }
    }

    pub(crate) fn key(&self) -> SecretKey {
        self.key.clone()
    }

    pub(crate) const fn seed(&self) -> [u8; 32] {
        self.seed
    }

    pub(crate) fn disk(&self) -> SimulatedDisk {
        self.disk.clone()
    }

    pub(crate) fn memory(&self) -> Option<MemoryNetwork> {
        match &self.way {
            Way::Memory(network) => Some(network.clone()),
            Way::Quic(_) => None,
        }
    }

    pub(crate) fn wire(&self) -> Option<QuicWire> {
        match &self.way {
            Way::Memory(_) => None,
            Way::Quic(wire) => Some(wire.clone()),
        }
    }
}

/// The identity of the `node`th node in the run of `seed`.
pub(super) fn key_of(seed: u64, node: u32) -> SecretKey {
    SecretKey::generate(&mut Rng::from_seed(seed_of(seed, NodeId(node), u32::MAX)))
}

/// What a node draws from in one of its lives.
pub(super) fn seed_of(seed: u64, node: NodeId, life: u32) -> [u8; 32] {
    let mut chance = Chance::new(seed, Purpose::Devices, u64::from(node.0) << 32 | u64::from(life));
    let mut bytes = [0; 32];
    for eight in bytes.chunks_exact_mut(8) {
        eight.copy_from_slice(&chance.next_u64().to_le_bytes());
    }
    bytes
}
