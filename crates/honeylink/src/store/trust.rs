//! The trust store: which devices this one knows, how far it trusts them, and what they may do.
//!
//! ```text
//!            pair              verify
//!   seen ----------> paired ----------> verified
//!     ^                |                   |
//!     +----- forget ---+-------------------+
//!   any of them --- revoke ---> revoked      (for ever; forget does not undo it)
//! ```
//!
//! All records live in memory behind a lock, so reads are cheap and never touch the disk. What the user decides (`pair`,
//! `verify`, `rename`, `set_notes`, `forget`, `revoke`, `set_grants`, `change_grants`) is written through: the call blocks
//! for one fsync, and when it returns `Ok` the decision survives a power cut. What merely happens (`touch`, `connected`, `reached_through`)
//! changes memory only and is written by [`TrustStore::flush`], which the node calls now and then and at shutdown: a flood
//! of strangers on the network must not become a flood of fsyncs.
//!
//! Revocations are also kept in a table of their own, with nothing in it that could fail to decode. A damaged peer record
//! can therefore never turn a revoked device back into an unknown one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use honeylink_core::identity::DeviceId;
use honeylink_core::wire::relay::RelayAddr;
use redb::{ReadableTable as _, TableDefinition};

use super::db::{StateDb, StateError};
use super::grants::{GrantChange, Grants};
use super::limits::NOTE_BYTES_MAX;
use super::names::{self, ResolveError};
use super::peer::{self, PeerRecord, Trust};
use super::record::Unreadable;
use super::trust_change::{ChangePeerError, Forgotten, NameTaken, NewPeer, OnNameTaken, PairError, Sighting};
use super::trust_mirror::{Entry, Mirror};

pub(super) const PEERS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new(peer::TABLE);
/// Device id -> when it was revoked, in unix milliseconds. Presence is what counts.
const REVOKED: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("revoked");

/// Everything known about other devices. Share it behind an `Arc`; all methods take `&self`.
#[derive(Debug)]
pub struct TrustStore {
    db: Arc<StateDb>,
    /// Held over a whole decision: check, write to disk, then show in memory.
    turn: Mutex<()>,
    mirror: RwLock<Mirror>,
}

impl TrustStore {
    /// Reads every record into memory. Records that do not decode are set aside in [`TrustStore::unreadable`].
    pub(super) fn load(db: Arc<StateDb>) -> Result<Self, StateError> {
        db.write(|txn| {
            txn.open_table(PEERS)?;
            txn.open_table(REVOKED)?;
            Ok(())
        })?;
        let mirror = db.read(|txn| {
            let mut mirror = Mirror::default();
            for row in txn.open_table(REVOKED)?.iter()? {
                mirror.revoked.insert(row?.0.value());
            }
            for row in txn.open_table(PEERS)?.iter()? {
                let (key, value) = row?;
                mirror.load(key.value(), value.value());
            }
            Ok(mirror)
        })?;
        for record in mirror.unreadable.values() {
            tracing::warn!(%record, "a peer record is damaged; the device is treated as unknown");
        }
        Ok(Self { db, turn: Mutex::new(()), mirror: RwLock::new(mirror) })
    }

    /// Records that could not be read. Their devices count as unknown, or as revoked if they were.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.mirror().unreadable.values().cloned().collect()
    }

    /// How far a device is trusted; `None` if it is unknown.
    #[must_use]
    pub fn trust(&self, id: &DeviceId) -> Option<Trust> {
        let mirror = self.mirror();
        if mirror.revoked.contains(id.as_bytes()) {
            return Some(Trust::Revoked);
        }
        mirror.peers.get(id).map(|entry| entry.record.trust)
    }

    /// Whether links to and from this device are allowed.
    #[must_use]
    pub fn is_trusted(&self, id: &DeviceId) -> bool {
        self.trust(id).is_some_and(Trust::is_trusted)
    }

    /// What a device may do: nothing if it is not paired.
    #[must_use]
    pub fn grants(&self, id: &DeviceId) -> Grants {
        self.find(id)
            .filter(|record| record.trust.is_trusted())
            .map_or_else(Grants::none, |record| record.grants)
    }

    /// The record of one device.
    #[must_use]
    pub fn find(&self, id: &DeviceId) -> Option<PeerRecord> {
        self.mirror().peers.get(id).map(|entry| entry.record.clone())
    }

    /// All records, by id.
    #[must_use]
    pub fn list(&self) -> Vec<PeerRecord> {
        self.mirror().peers.values().map(|entry| entry.record.clone()).collect()
    }

    /// Finds the device a user means by a full id, an unambiguous prefix of one (4 digits or more) or a name.
    ///
    /// # Errors
    /// [`ResolveError`] lists what the text could mean or what is similar. A full id always resolves, known or not.
    pub fn resolve(&self, text: &str) -> Result<DeviceId, ResolveError> {
        let mirror = self.mirror();
        names::resolve(text, mirror.peers.values().map(|entry| &entry.record))
    }

    /// Records a completed pairing. Blocks for one fsync.
    ///
    /// Pairing a peer again keeps its name, grants and notes, and does not lower `verified` to `paired`.
    ///
    /// # Errors
    /// [`PairError`]; nothing was recorded then.
    pub fn pair(
        &self,
        new: &NewPeer,
        on_taken: OnNameTaken,
        now_unix_ms: u64,
    ) -> Result<PeerRecord, PairError> {
        let _turn = self.turn();
        if self.trust(&new.id) == Some(Trust::Revoked) {
            return Err(PairError::Revoked { id: new.id });
        }
        if let Some(unreadable) = self.mirror().unreadable.get(new.id.as_bytes()) {
            return Err(PairError::Unreadable(Box::new(unreadable.clone())));
        }
        let known = self.find(&new.id);
        let was_trusted = known.as_ref().is_some_and(|record| record.trust.is_trusted());
        let mut record = known.unwrap_or_else(|| PeerRecord::seen(new.id, now_unix_ms));
        let wanted = match &new.name {
            Some(chosen) => names::check_name(chosen)?,
            None if was_trusted => record.name.clone(),
            None => names::tame_name(&new.announced_name, &new.id),
        };
        record.name = match (self.holder_of(&wanted, &new.id), on_taken) {
            (None, _) => wanted,
            (Some(existing), OnNameTaken::Refuse) => {
                return Err(Box::new(NameTaken { name: wanted, existing, offered: new.id }).into());
            }
            (Some(_), OnNameTaken::Disambiguate) => {
                names::disambiguate(&wanted, |name| self.holder_of(name, &new.id).is_some())
            }
        };
        if !was_trusted {
            record.trust = Trust::Paired;
            record.grants = Grants::after_pairing();
        }
        record.announced_name = names::tame_name(&new.announced_name, &new.id);
        record.device_type = new.device_type;
        record.method = Some(new.method);
        record.last_seen = record.last_seen.max(now_unix_ms);
        self.commit(&record)?;
        Ok(record)
    }

    /// Raises a paired peer to verified: the user compared the short authentication string. Blocks for one fsync.
    ///
    /// # Errors
    /// [`ChangePeerError::Unknown`] and [`ChangePeerError::NotPaired`]; verifying twice is not an error.
    pub fn verify(&self, id: &DeviceId) -> Result<PeerRecord, ChangePeerError> {
        self.change_paired(id, |record| {
            record.trust = Trust::Verified;
            Ok(())
        })
    }

    /// Gives a peer another name. Blocks for one fsync.
    ///
    /// # Errors
    /// [`ChangePeerError::Unknown`], [`ChangePeerError::Name`], [`ChangePeerError::NameTaken`].
    pub fn rename(&self, id: &DeviceId, name: &str) -> Result<PeerRecord, ChangePeerError> {
        let name = names::check_name(name)?;
        self.change(id, |record| {
            if let Some(existing) = self.holder_of(&name, id) {
                return Err(Box::new(NameTaken { name: name.clone(), existing, offered: *id }).into());
            }
            record.name.clone_from(&name);
            Ok(())
        })
    }

    /// Replaces the note on a peer. Blocks for one fsync.
    ///
    /// # Errors
    /// [`ChangePeerError::Unknown`], [`ChangePeerError::NoteTooLong`].
    pub fn set_notes(&self, id: &DeviceId, notes: &str) -> Result<PeerRecord, ChangePeerError> {
        if notes.len() > NOTE_BYTES_MAX {
            return Err(ChangePeerError::NoteTooLong { bytes: notes.len() });
        }
        self.change(id, |record| {
            notes.clone_into(&mut record.notes);
            Ok(())
        })
    }

    /// Replaces what a peer may do. Blocks for one fsync.
    ///
    /// # Errors
    /// [`ChangePeerError::Unknown`] and [`ChangePeerError::NotPaired`].
    pub fn set_grants(&self, id: &DeviceId, grants: &Grants) -> Result<PeerRecord, ChangePeerError> {
        self.change_paired(id, |record| {
            record.grants.clone_from(grants);
            Ok(())
        })
    }

    /// Applies changes to what a peer may do, all or none. Blocks for one fsync.
    ///
    /// # Errors
    /// [`ChangePeerError::Unknown`], [`ChangePeerError::NotPaired`], [`ChangePeerError::Grant`].
    pub fn change_grants(
        &self,
        id: &DeviceId,
        changes: &[GrantChange],
    ) -> Result<PeerRecord, ChangePeerError> {
        self.change_paired(id, |record| {
            for change in changes {
                record.grants.apply(change)?;
            }
            Ok(())
        })
    }

    /// Revokes a device, known or not, for ever. Blocks for one fsync.
    ///
    /// # Errors
    /// [`StateError`]: it is not revoked then.
    pub fn revoke(&self, id: &DeviceId, now_unix_ms: u64) -> Result<PeerRecord, StateError> {
        let _turn = self.turn();
        let mut record = self.find(id).unwrap_or_else(|| PeerRecord::seen(*id, now_unix_ms));
        record.trust = Trust::Revoked;
        record.grants = Grants::none();
        self.db.write(|txn| {
            let mut revoked = txn.open_table(REVOKED)?;
            if revoked.get(*id.as_bytes())?.is_none() {
                revoked.insert(*id.as_bytes(), now_unix_ms)?;
            }
            txn.open_table(PEERS)?.insert(*id.as_bytes(), record.encode().as_slice())?;
            Ok(())
        })?;
        let mut mirror = self.mirror_mut();
        mirror.revoked.insert(*id.as_bytes());
        mirror.put(record.clone());
        Ok(record)
    }

    /// Removes what is known of a device, so that it has to pair again. Blocks for one fsync.
    ///
    /// # Errors
    /// [`StateError`]: nothing was forgotten then.
    pub fn forget(&self, id: &DeviceId) -> Result<Forgotten, StateError> {
        let _turn = self.turn();
        if self.trust(id) == Some(Trust::Revoked) {
            if let Some(mut record) = self.find(id) {
                record.notes.clear();
                record.addresses.clear();
                record.relays.clear();
                self.commit(&record)?;
            }
            return Ok(Forgotten::StillRevoked);
        }
        let on_disk = self.db.write(|txn| Ok(txn.open_table(PEERS)?.remove(*id.as_bytes())?.is_some()))?;
        let mut mirror = self.mirror_mut();
        mirror.unreadable.remove(id.as_bytes());
        mirror.stale.remove(id);
        let in_memory = mirror.peers.remove(id).is_some();
        Ok(if on_disk || in_memory { Forgotten::Removed } else { Forgotten::WasUnknown })
    }

    /// Notes that a device was noticed. Memory only; see [`TrustStore::flush`].
    ///
    /// What it announces may be a lie, so it never changes a paired peer's name, trust, grants or addresses. Strangers are
    /// kept up to [`SEEN_PEERS_MAX`](super::limits::SEEN_PEERS_MAX).
    pub fn touch(&self, id: &DeviceId, sighting: &Sighting<'_>, now_unix_ms: u64) {
        let mut mirror = self.mirror_mut();
        if mirror.unreadable.contains_key(id.as_bytes()) {
            return;
        }
        if !mirror.peers.contains_key(id) {
            mirror.make_room();
        }
        let entry = mirror.peers.entry(*id).or_insert_with(|| Entry {
            record: PeerRecord::seen(*id, now_unix_ms),
            stored: false,
            dirty: true,
        });
        let record = &mut entry.record;
        record.last_seen = record.last_seen.max(now_unix_ms);
        if let Some(name) = sighting.name {
            record.announced_name = names::tame_name(name, id);
            if record.trust == Trust::Seen {
                record.name.clone_from(&record.announced_name);
            }
        }
        if let Some(device_type) = sighting.device_type {
            record.device_type = device_type;
        }
        entry.dirty = true;
    }

    /// Notes that an authenticated connection to a known peer worked at `address`. Memory only; see [`TrustStore::flush`].
    pub fn connected(&self, id: &DeviceId, address: SocketAddr, now_unix_ms: u64) {
        let mut mirror = self.mirror_mut();
        if let Some(entry) = mirror.peers.get_mut(id) {
            entry.record.remember_address(address);
            entry.record.last_seen = entry.record.last_seen.max(now_unix_ms);
            entry.dirty = true;
        }
    }

    /// Notes the relays through which a paired peer said it is reached; none takes back what it said before. Memory only;
    /// see [`TrustStore::flush`].
    pub fn reached_through(&self, id: &DeviceId, relays: &[RelayAddr], now_unix_ms: u64) {
        let mut mirror = self.mirror_mut();
        if let Some(entry) = mirror.peers.get_mut(id).filter(|entry| entry.record.trust.is_trusted())
            && entry.record.remember_relays(relays)
        {
            entry.record.last_seen = entry.record.last_seen.max(now_unix_ms);
            entry.dirty = true;
        }
    }

    /// Writes what [`TrustStore::touch`], [`TrustStore::connected`] and [`TrustStore::reached_through`] changed. Blocks for one fsync if there is anything.
    ///
    /// # Errors
    /// [`StateError`]: the changes stay in memory, and the next flush tries again.
    pub fn flush(&self) -> Result<(), StateError> {
        let _turn = self.turn();
        let (stale, records): (Vec<_>, Vec<_>) = {
            let mirror = self.mirror();
            let dirty = mirror.peers.values().filter(|entry| entry.dirty);
            (mirror.stale.iter().copied().collect(), dirty.map(|entry| entry.record.clone()).collect())
        };
        if stale.is_empty() && records.is_empty() {
            return Ok(());
        }
        self.db.write(|txn| {
            let mut table = txn.open_table(PEERS)?;
            for id in &stale {
                table.remove(*id.as_bytes())?;
            }
            for record in &records {
                table.insert(*record.id.as_bytes(), record.encode().as_slice())?;
            }
            Ok(())
        })?;
        let mut mirror = self.mirror_mut();
        for id in &stale {
            mirror.stale.remove(id);
        }
        for record in &records {
            if let Some(entry) = mirror.peers.get_mut(&record.id) {
                entry.stored = true;
                // A sighting during the write stays to be written next time.
                entry.dirty = entry.record != *record;
            } else {
                // Made room for another one during the write: its row is on disk now.
                mirror.stale.insert(record.id);
            }
        }
        Ok(())
    }

    fn change_paired(
        &self,
        id: &DeviceId,
        change: impl FnOnce(&mut PeerRecord) -> Result<(), ChangePeerError>,
    ) -> Result<PeerRecord, ChangePeerError> {
        self.change(id, |record| {
            if !record.trust.is_trusted() {
                return Err(ChangePeerError::NotPaired { id: *id, trust: record.trust });
            }
            change(record)
        })
    }

    fn change(
        &self,
        id: &DeviceId,
        change: impl FnOnce(&mut PeerRecord) -> Result<(), ChangePeerError>,
    ) -> Result<PeerRecord, ChangePeerError> {
        let _turn = self.turn();
        let mut record = self.find(id).ok_or(ChangePeerError::Unknown { id: *id })?;
        change(&mut record)?;
        self.commit(&record)?;
        Ok(record)
    }

    /// Disk first, then memory: nobody acts on a decision that could still be lost.
    fn commit(&self, record: &PeerRecord) -> Result<(), StateError> {
        let id = record.id;
        self.db.write(|txn| {
            Ok(txn.open_table(PEERS)?.insert(*id.as_bytes(), record.encode().as_slice()).map(drop)?)
        })?;
        self.mirror_mut().put(record.clone());
        Ok(())
    }

    /// The paired or revoked device, other than `except`, that has this name.
    fn holder_of(&self, name: &str, except: &DeviceId) -> Option<DeviceId> {
        let wanted = names::fold(name);
        let mirror = self.mirror();
        let mut named =
            mirror.peers.values().map(|entry| &entry.record).filter(|record| record.trust != Trust::Seen);
        named
            .find(|record| record.id != *except && names::fold(&record.name) == wanted)
            .map(|record| record.id)
    }

    // A thread that panicked while it held one of these locks left consistent data: memory changes only after the disk
    // did, in single steps. So poisoning is ignored rather than passed on to every later caller.

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mirror(&self) -> RwLockReadGuard<'_, Mirror> {
        self.mirror.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn mirror_mut(&self) -> RwLockWriteGuard<'_, Mirror> {
        self.mirror.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
