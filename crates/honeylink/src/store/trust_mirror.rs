//! The records of the trust store in memory, and what of them is not on disk yet.

use std::collections::{BTreeMap, BTreeSet};

use honeylink_core::identity::DeviceId;
use redb::TableHandle as _;

use super::grants::Grants;
use super::limits::SEEN_PEERS_MAX;
use super::peer::{PeerRecord, Trust};
use super::record::Unreadable;
use super::trust::PEERS;

#[derive(Debug, Default)]
pub(super) struct Mirror {
    pub(super) peers: BTreeMap<DeviceId, Entry>,
    pub(super) revoked: BTreeSet<[u8; 32]>,
    pub(super) unreadable: BTreeMap<[u8; 32], Unreadable>,
    /// Rows on disk whose record has been dropped from memory since.
    pub(super) stale: BTreeSet<DeviceId>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: PeerRecord,
    /// There is a row on disk.
    pub(super) stored: bool,
    /// The row on disk is older than the record.
    pub(super) dirty: bool,
}

impl Mirror {
    pub(super) fn load(&mut self, key: [u8; 32], value: &[u8]) {
        match PeerRecord::decode(&key, value) {
            Ok(mut record) => {
                if self.revoked.contains(&key) {
                    record.trust = Trust::Revoked;
                    record.grants = Grants::none();
                }
                self.peers.insert(record.id, Entry { record, stored: true, dirty: false });
            }
            Err(cause) => {
                self.unreadable.insert(key, Unreadable::new(PEERS.name(), &key, cause));
            }
        }
    }

    /// Takes over a record that was just written. What was noticed of the device during the write is newer and is kept.
    pub(super) fn put(&mut self, mut record: PeerRecord) {
        self.stale.remove(&record.id);
        self.unreadable.remove(record.id.as_bytes());
        let mut dirty = false;
        if let Some(live) = self.peers.remove(&record.id).map(|entry| entry.record)
            && live.last_seen > record.last_seen
        {
            record.last_seen = live.last_seen;
            if record.trust.is_trusted() {
                record.addresses = live.addresses;
                record.relays = live.relays;
            }
            dirty = true;
        }
        self.peers.insert(record.id, Entry { record, stored: true, dirty });
    }

    /// Drops the stranger unseen for longest if there are as many as there may be.
    pub(super) fn make_room(&mut self) {
        let strangers = || self.peers.values().filter(|entry| entry.record.trust == Trust::Seen);
        if strangers().count() < SEEN_PEERS_MAX {
            return;
        }
        let oldest =
            strangers().map(|entry| &entry.record).min_by_key(|record| (record.last_seen, record.id));
        let Some(id) = oldest.map(|record| record.id) else { return };
        if self.peers.remove(&id).is_some_and(|entry| entry.stored) {
            self.stale.insert(id);
        }
    }
}
