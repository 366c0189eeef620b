//! The mesh's records: what its machine keeps on disk, and messages that arrived and nobody has taken yet.
//!
//! Two tables. The first is the map that [`honeylink_core::mesh::records`] asks for, key `table (1) id`; its values are the
//! machine's own, versioned by it. The second is the inbox, key `sender (32) number (4)`. Both are changed in one
//! transaction: a message is in the inbox in the same instant in which the replay window says that it was received, so
//! that a receipt is never sent for a message that a crash could still lose.
//!
//! A record that was damaged is given back empty. Leaving it out would be wrong: a machine that finds no sequence numbers
//! begins at the first one, and one that finds broken ones stops.
//!
//! Inbox record version 1: `hops (1) kind (1: 0 radio, 1 IP) at (varint, unix ms) payload (to the end)`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::MESH_RECORD_BYTES_MAX;
use honeylink_core::mesh::frame::PortKind;
use honeylink_core::mesh::records::{Key, Record, Table};
use honeylink_core::wire::{Invalid, put_varint};
use redb::{ReadableTable as _, TableDefinition, TableHandle as _};

use super::db::{StateDb, StateError};
use super::limits::{MESH_INBOX_MESSAGES_MAX, MESH_RECORDS_MAX};
use super::record::{self, RecordError, Unreadable};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("mesh");
const INBOX: TableDefinition<'_, ([u8; 32], u32), &[u8]> = TableDefinition::new("mesh_inbox");
const RECORD_VERSION: u8 = 1;

/// Names a message in the inbox: its sender, and its number there.
pub(crate) type InboxKey = (DeviceId, u32);

/// A message that nobody has taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Transmissions it took.
    pub(crate) hops: u8,
    /// What it came in by.
    pub(crate) kind: PortKind,
    /// When, milliseconds since 1970.
    pub(crate) at: u64,
    /// The message.
    pub(crate) payload: Bytes,
}

/// Changes that belong together. A newer change of the same record replaces the older one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Records of the machine to keep, or to forget.
    pub(crate) records: BTreeMap<Key, Option<Bytes>>,
    /// Messages that arrived, or were taken.
    pub(crate) inbox: BTreeMap<InboxKey, Option<Kept>>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.inbox.is_empty()
    }

    /// Puts these changes before those of `newer`.
    pub(crate) fn before(mut self, newer: Self) -> Self {
        self.records.extend(newer.records);
        self.inbox.extend(newer.inbox);
        self
    }
}

/// Everything the mesh had on disk.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// The machine's records; damaged ones with an empty value.
    pub(crate) records: Vec<Record>,
    /// Messages to be given to the application.
    pub(crate) inbox: BTreeMap<InboxKey, Kept>,
}

/// The mesh's part of the state.
#[derive(Debug)]
pub(crate) struct MeshStore {
    db: Arc<StateDb>,
    unreadable: Vec<Unreadable>,
}

impl MeshStore {
    pub(super) fn load(db: Arc<StateDb>) -> Result<Self, StateError> {
        db.write(|txn| {
            txn.open_table(RECORDS)?;
            txn.open_table(INBOX)?;
            Ok(())
        })?;
        let mut store = Self { db, unreadable: Vec::new() };
        let (_, unreadable) = store.read()?;
        store.unreadable = unreadable;
        Ok(store)
    }

    /// Records that could not be read when the state was opened.
    pub(super) fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Everything there is. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn loaded(&self) -> Result<Loaded, StateError> {
        Ok(self.read()?.0)
    }

    fn read(&self) -> Result<(Loaded, Vec<Unreadable>), StateError> {
        let (mut loaded, mut unreadable) = (Loaded::default(), Vec::new());
        self.db.read(|txn| {
            for row in txn.open_table(RECORDS)?.iter()?.take(MESH_RECORDS_MAX) {
                let (key, value) = row?;
                // A table of a newer version is left alone.
                let Some(name) = key_of(key.value()) else { continue };
                let value = open_record(key.value(), value.value()).unwrap_or_else(|cause| {
                    unreadable.push(Unreadable::new(RECORDS.name(), key.value(), cause));
                    Bytes::new()
                });
                loaded.records.push(Record { key: name, value });
            }
            for row in txn.open_table(INBOX)?.iter()?.take(MESH_INBOX_MESSAGES_MAX) {
                let (key, value) = row?;
                let (sender, number) = key.value();
                let bytes = inbox_key_bytes(sender, number);
                match open_kept(&bytes, value.value()).and_then(|kept| Ok((device(sender)?, kept))) {
                    Ok((sender, kept)) => drop(loaded.inbox.insert((sender, number), kept)),
                    Err(cause) => unreadable.push(Unreadable::new(INBOX.name(), &bytes, cause)),
                }
            }
            Ok(())
        })?;
        Ok((loaded, unreadable))
    }

    /// Makes these changes, all or none. Blocks for one fsync.
    ///
    /// # Errors
    /// The disk; then nothing changed.
    pub(crate) fn apply(&self, batch: &Batch) -> Result<(), StateError> {
        self.db.write(|txn| {
            let mut records = txn.open_table(RECORDS)?;
            for (key, value) in &batch.records {
                let name = key_bytes(key);
                match value {
                    Some(value) => {
                        let body = BytesMut::from(&value[..]);
                        let sealed = record::seal(RECORDS.name(), &name, RECORD_VERSION, &body);
                        records.insert(&name[..], &sealed[..])?;
                    }
                    None => drop(records.remove(&name[..])?),
                }
            }
            let mut inbox = txn.open_table(INBOX)?;
            for ((sender, number), kept) in &batch.inbox {
                let key = (*sender.as_bytes(), *number);
                match kept {
                    Some(kept) => {
                        let bytes = inbox_key_bytes(key.0, key.1);
                        let sealed = record::seal(INBOX.name(), &bytes, RECORD_VERSION, &kept_body(kept));
                        inbox.insert(key, &sealed[..])?;
                    }
                    None => drop(inbox.remove(key)?),
                }
            }
            Ok(())
        })
    }
}

fn key_bytes(key: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.id.len());
    out.push(key.table as u8);
    out.extend_from_slice(&key.id);
    out
}

fn key_of(bytes: &[u8]) -> Option<Key> {
    let (table, id) = bytes.split_first()?;
    Some(Key::new(Table::from_number(*table)?, id))
}

fn open_record(key: &[u8], sealed: &[u8]) -> Result<Bytes, RecordError> {
    let (_, mut reader) = record::open(RECORDS.name(), key, RECORD_VERSION, sealed)?;
    let size = reader.remaining();
    if size > MESH_RECORD_BYTES_MAX {
        let (size, max) = (size as u64, MESH_RECORD_BYTES_MAX as u64);
        return Err(Invalid::TooLarge { what: "mesh record", size, max }.into());
    }
    Ok(Bytes::copy_from_slice(reader.take(size, "mesh record")?))
}

fn inbox_key_bytes(sender: [u8; 32], number: u32) -> [u8; 36] {
    let mut out = [0; 36];
    out[..32].copy_from_slice(&sender);
    out[32..].copy_from_slice(&number.to_be_bytes());
    out
}

fn device(bytes: [u8; 32]) -> Result<DeviceId, RecordError> {
    Ok(DeviceId::from_bytes(bytes).map_err(|_| Invalid::Value { what: "sender" })?)
}

fn kept_body(kept: &Kept) -> BytesMut {
    let mut out = BytesMut::with_capacity(16 + kept.payload.len());
    out.put_u8(kept.hops);
    out.put_u8(match kept.kind {
        PortKind::Broadcast => 0,
        PortKind::PointToPoint => 1,
    });
    put_varint(&mut out, kept.at);
    out.put_slice(&kept.payload);
    out
}

fn open_kept(key: &[u8], sealed: &[u8]) -> Result<Kept, RecordError> {
    let (_, mut reader) = record::open(INBOX.name(), key, RECORD_VERSION, sealed)?;
    let hops = reader.u8("hops")?;
    let kind = match reader.u8("port kind")? {
        0 => PortKind::Broadcast,
        1 => PortKind::PointToPoint,
        _ => return Err(Invalid::Value { what: "port kind" }.into()),
    };
    let at = reader.varint("time of arrival")?;
    let size = reader.remaining();
    if size > MESH_RECORD_BYTES_MAX {
        let (size, max) = (size as u64, MESH_RECORD_BYTES_MAX as u64);
        return Err(Invalid::TooLarge { what: "mesh message", size, max }.into());
    }
    let payload = Bytes::copy_from_slice(reader.take(size, "mesh message")?);
    Ok(Kept { hops, kind, at, payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;
    use proptest::prelude::*;

    fn store() -> MeshStore {
        MeshStore::load(Arc::new(StateDb::in_memory().unwrap())).unwrap()
    }

    fn key(id: &[u8]) -> Key {
        Key::new(Table::Sequence, id)
    }

    fn kept() -> Kept {
        Kept { hops: 3, kind: PortKind::Broadcast, at: 300, payload: Bytes::from_static(b"hey") }
    }

    fn sender() -> DeviceId {
        SecretKey::from_u64(1).id()
    }

    #[test]
    fn what_was_written_last_is_given_back_and_what_was_erased_is_gone() {
        let store = store();
        let mut batch = Batch::default();
        for (id, value) in [(b"a", "1"), (b"b", "2"), (b"c", "3")] {
            batch.records.insert(key(id), Some(Bytes::from(value)));
        }
        batch.inbox.insert((sender(), 7), Some(kept()));
        store.apply(&batch).unwrap();
        let mut newer = Batch::default();
        newer.records.insert(key(b"a"), None);
        newer.records.insert(key(b"b"), Some(Bytes::from_static(b"4")));
        store.apply(&newer).unwrap();
        let loaded = store.loaded().unwrap();
        let records: Vec<_> = loaded.records.iter().map(|r| (&r.key.id[..], &r.value[..])).collect();
        assert_eq!(records, [(&b"b"[..], &b"4"[..]), (b"c", b"3")]);
        assert_eq!(loaded.inbox, BTreeMap::from([((sender(), 7), kept())]));
    }

    #[test]
    fn of_two_changes_of_one_record_the_newer_one_counts() {
        let change = |value: Option<&'static str>| Batch {
            records: BTreeMap::from([(key(b"a"), value.map(Bytes::from))]),
            inbox: BTreeMap::new(),
        };
        assert_eq!(change(Some("1")).before(change(None)), change(None));
        assert_eq!(change(Some("1")).before(Batch::default()), change(Some("1")));
    }

    #[test]
    fn a_damaged_record_is_there_and_empty_and_one_of_a_newer_table_is_left_alone() {
        let store = store();
        let write = |name: &[u8], value: &[u8]| {
            store.db.write(|txn| Ok(txn.open_table(RECORDS)?.insert(name, value).map(drop)?)).unwrap();
        };
        write(&[Table::Sequence as u8, b'x'], b"nonsense");
        write(&[200, b'x'], b"of a newer version");
        let (loaded, unreadable) = store.read().unwrap();
        assert_eq!(loaded.records, [Record { key: key(b"x"), value: Bytes::new() }]);
        assert_eq!(unreadable.len(), 1);
        store.apply(&Batch::default()).unwrap();
        assert_eq!(store.read().unwrap().1.len(), 1, "nothing repairs itself by deleting");
    }

    /// These bytes are on people's disks. A change here needs a new record version and a reader for this one.
    #[test]
    fn golden_inbox_record_has_the_bytes_of_version_1() {
        assert_eq!(kept_body(&kept())[..], [3, 0, 0x41, 0x2c, b'h', b'e', b'y']);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let body = BytesMut::from(&bytes[..]);
            let _ = open_kept(b"k", &record::seal(INBOX.name(), b"k", RECORD_VERSION, &body));
            let _ = open_record(b"k", &record::seal(RECORDS.name(), b"k", RECORD_VERSION, &body));
            let _ = key_of(&bytes);
        }

        #[test]
        fn kept_messages_round_trip(hops: u8, at in 0..1_u64 << 61, payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let kept = Kept { hops, at, payload: payload.into(), ..kept() };
            let sealed = record::seal(INBOX.name(), b"k", RECORD_VERSION, &kept_body(&kept));
            prop_assert_eq!(open_kept(b"k", &sealed), Ok(kept));
        }
    }
}
