//! What the mesh keeps on disk: small records, the order they are written in, and how they come back.
//!
//! The mesh has no disk. Its parts write into a [`Journal`]; the machine that composes them hands the journal on as its
//! outputs, and whoever drives it keeps a map from [`Key`] to bytes. Three promises are all that is asked of that map:
//!
//! 1. Writes reach the disk in the order they were put out. A crash loses a suffix of them, never one in the middle. Better
//!    still, what lies between two syncs is one transaction: [`super::replay`] says what that is good for.
//! 2. [`Write::Sync`] with a mark is answered once everything put out before it cannot be lost any more. An answer to a
//!    later mark answers every earlier one.
//! 3. What the map holds is given back as [`Saved`] when the node starts again.
//!
//! A part that promises something to somebody else (a receipt, custody, a number that is never used twice) makes the
//! promise only after the mark that covers it was answered. Everything else may be lost and is learnt again.
//!
//! Every value begins with a version byte of its table. A value of another version, or one that does not parse to its
//! last byte, is treated as damaged: the part that owns it says what it does then, and it never guesses.
//!
//! # Lifetimes across a restart
//!
//! [`Time`] starts anew with each life of a node, and a device in a field may have no wall clock. An end is written as the
//! time left together with the wall clock of that moment, if there is one. Where both lives knew the wall clock, the time
//! between is taken off. Otherwise an hour is taken off, or half of what was left if that is less: a node that restarts
//! again and again without a clock still comes to the end of everything it holds, and a few restarts cost little.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut as _, Bytes, BytesMut};
use core::time::Duration;

use crate::limits::{MESH_LIFETIME_MAX, MESH_RECORD_BYTES_MAX};
use crate::time::Time;
use crate::wire::{Invalid, Reader, put_varint};

/// What a restart takes off a lifetime where nobody knows how long the node was off.
const UNKNOWN_OFF: Duration = Duration::from_secs(3600);

/// What a record belongs to. The number is part of the format on disk: it is never reused for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Own sequence numbers reserved so far.
    Sequence = 1,
    /// What was received from a peer: its replay window.
    Replay = 2,
    /// Own messages under way.
    Outbox = 3,
    /// Frames held for others.
    Custody = 4,
    /// Routes, written lazily.
    Route = 5,
    /// Peers' keys, announces and chain anchors.
    Peer = 6,
    /// Ratchet state.
    Ratchet = 7,
    /// Airtime used per sub-band.
    Duty = 8,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Sequence,
        Self::Replay,
        Self::Outbox,
        Self::Custody,
        Self::Route,
        Self::Peer,
        Self::Ratchet,
        Self::Duty,
    ];

    /// The table with this number on disk.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }
}

/// Names one record: a table and a few bytes within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The table.
    pub table: Table,
    /// Which record of it; what these bytes mean is the table's affair.
    pub id: Bytes,
}

impl Key {
    /// The key of record `id` in `table`.
    #[must_use]
    pub fn new(table: Table, id: &[u8]) -> Self {
        Self { table, id: Bytes::copy_from_slice(id) }
    }
}

/// One record: replaces whatever was saved under the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// Its bytes, at most [`MESH_RECORD_BYTES_MAX`]. The first is the version.
    pub value: Bytes,
}

/// A point in the journal. Answered marks cover all earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u64);

/// What to do to the disk next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Keep this record.
    Save(Record),
    /// Forget the record under this key; nothing happens if there is none.
    Erase(Key),
    /// Answer with this mark once everything before is safe.
    Sync(Mark),
}

/// Writes on their way to the disk, in order.
#[derive(Debug, Default)]
pub struct Journal {
    writes: VecDeque<Write>,
    last: u64,
}

impl Journal {
    /// Keeps `value` under `key`. A write to the same key that is still waiting behind the last mark is replaced: only
    /// the newer one matters.
    pub fn save(&mut self, key: Key, value: Bytes) {
        self.withdraw(&key);
        self.writes.push_back(Write::Save(Record { key, value }));
    }

    /// Forgets `key`.
    pub fn erase(&mut self, key: Key) {
        self.withdraw(&key);
        self.writes.push_back(Write::Erase(key));
    }

    /// The mark that covers everything written so far. Asks for a sync unless the last thing asked for was one.
    pub fn sync(&mut self) -> Mark {
        if !matches!(self.writes.back(), Some(Write::Sync(_))) {
            self.last += 1;
            self.writes.push_back(Write::Sync(Mark(self.last)));
        }
        Mark(self.last)
    }

    /// The next write, to be put out in this order.
    pub fn poll(&mut self) -> Option<Write> {
        self.writes.pop_front()
    }

    fn withdraw(&mut self, key: &Key) {
        // Only behind the last mark: what a mark covers must stay before it.
        let open = self.writes.iter().rposition(|w| matches!(w, Write::Sync(_))).map_or(0, |at| at + 1);
        let same = self.writes.iter().skip(open).position(|write| match write {
            Write::Save(record) => record.key == *key,
            Write::Erase(erased) => erased == key,
            Write::Sync(_) => false,
        });
        if let Some(at) = same {
            self.writes.remove(open + at);
        }
    }
}

/// Everything the disk held when the node started. Each part takes its own table out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    records: BTreeMap<Key, Bytes>,
}

impl Saved {
    /// The records of one table, which are gone from here afterwards.
    pub fn take(&mut self, table: Table) -> impl Iterator<Item = (Bytes, Bytes)> + use<> {
        let mut rest = BTreeMap::new();
        let mut taken = Vec::new();
        for (key, value) in core::mem::take(&mut self.records) {
            if key.table == table {
                taken.push((key.id, value));
            } else {
                rest.insert(key, value);
            }
        }
        self.records = rest;
        taken.into_iter()
    }

    /// One record, which stays here.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<&Bytes> {
        self.records.get(key)
    }

    /// Does to this map what a disk does. For tests, the simulator's disk, and shells that keep all of it in memory.
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Save(record) => {
                self.records.insert(record.key.clone(), record.value.clone());
            }
            Write::Erase(key) => {
                self.records.remove(key);
            }
            Write::Sync(_) => {}
        }
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl FromIterator<Record> for Saved {
    /// Values over [`MESH_RECORD_BYTES_MAX`] were not written by this program and are left out.
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let fits = |record: &Record| record.value.len() <= MESH_RECORD_BYTES_MAX;
        Self { records: records.into_iter().filter(fits).map(|record| (record.key, record.value)).collect() }
    }
}

/// A moment on the node's own clock, with the wall clock if the device has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since this life of the node began.
    pub now: Time,
    /// Milliseconds since 1970, if known. Only ever used to tell how long the node was off.
    pub unix_ms: Option<u64>,
}

impl Moment {
    /// A moment without a wall clock.
    #[must_use]
    pub const fn unclocked(now: Time) -> Self {
        Self { now, unix_ms: None }
    }
}

/// Begins a value with its version byte.
#[must_use]
pub fn versioned(version: u8) -> BytesMut {
    let mut out = BytesMut::with_capacity(32);
    out.put_u8(version);
    out
}

/// Opens a value whose only known version is `version`.
///
/// # Errors
/// [`Invalid::Value`] for every other version, [`Invalid::Truncated`] if there is no byte at all.
pub fn open<'a>(value: &'a [u8], version: u8, what: &'static str) -> Result<Reader<'a>, Invalid> {
    let mut reader = Reader::new(value);
    if reader.u8(what)? == version { Ok(reader) } else { Err(Invalid::Value { what }) }
}

/// Appends an end, so that [`end`] can find it again in another life of the node.
pub fn put_end(out: &mut BytesMut, end: Time, at: Moment) {
    put_varint(out, u64::try_from(end.saturating_since(at.now).as_millis()).unwrap_or(u64::MAX));
    put_varint(out, at.unix_ms.unwrap_or(0));
}

/// Reads an end written by [`put_end`]. Never further away than [`MESH_LIFETIME_MAX`], whatever the bytes say.
///
/// # Errors
/// [`Invalid`] if the bytes are no end.
pub fn end(reader: &mut Reader<'_>, at: Moment) -> Result<Time, Invalid> {
    const WHAT: &str = "end of a kept record";
    let left = Duration::from_millis(reader.varint(WHAT)?).min(MESH_LIFETIME_MAX);
    let written = reader.varint(WHAT)?;
    let off = match at.unix_ms {
        Some(unix_ms) if written != 0 && unix_ms >= written => Duration::from_millis(unix_ms - written),
        // No clock then or now, or one that was set back: how long the node was off is unknown.
        Some(_) | None => UNKNOWN_OFF.min(left / 2),
    };
    Ok(at.now + left.saturating_sub(off))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(id: u8) -> Key {
        Key::new(Table::Outbox, &[id])
    }

    #[test]
    fn numbers_of_tables_are_found_again_and_distinct() {
        for table in Table::ALL {
            assert_eq!(Table::from_number(table as u8), Some(table));
        }
        assert_eq!(Table::from_number(0), None);
        assert_eq!(Table::from_number(9), None);
    }

    #[test]
    fn a_newer_value_replaces_a_waiting_one_but_not_one_that_a_mark_covers() {
        let mut journal = Journal::default();
        journal.save(key(1), Bytes::from_static(b"a"));
        journal.save(key(1), Bytes::from_static(b"b"));
        let mark = journal.sync();
        assert_eq!(journal.sync(), mark, "nothing new to cover");
        journal.erase(key(1));
        assert!(journal.sync() > mark);
        let mut order = Vec::new();
        while let Some(write) = journal.poll() {
            order.push(write);
        }
        assert_eq!(
            order,
            [
                Write::Save(Record { key: key(1), value: Bytes::from_static(b"b") }),
                Write::Sync(Mark(1)),
                Write::Erase(key(1)),
                Write::Sync(Mark(2)),
            ]
        );
    }

    #[test]
    fn a_table_is_taken_out_whole_and_the_others_stay() {
        let records =
            [Table::Outbox, Table::Replay].map(|t| Record { key: Key::new(t, b"k"), value: Bytes::new() });
        let mut saved: Saved = records.into_iter().collect();
        assert_eq!(saved.take(Table::Outbox).count(), 1);
        assert_eq!(saved.take(Table::Outbox).count(), 0);
        assert_eq!(saved.len(), 1);
    }

    #[test]
    fn time_off_is_taken_away_where_both_lives_knew_the_clock_and_a_little_where_not() {
        let wrote = |unix_ms| Moment { now: Time::from_millis(500_000), unix_ms };
        let reads = |unix_ms| Moment { now: Time::from_millis(10), unix_ms };
        for (before, after, left_ms) in [
            (Some(1_000_000), Some(1_030_000), 70_000),
            (Some(1_000_000), Some(2_000_000), 0),
            (Some(1_000_000), Some(900_000), 50_000),
            (Some(1_000_000), None, 50_000),
            (None, Some(1_030_000), 50_000),
        ] {
            let mut out = BytesMut::new();
            put_end(&mut out, Time::from_millis(600_000), wrote(before));
            let ends = end(&mut Reader::new(&out), reads(after));
            assert_eq!(ends, Ok(Time::from_millis(10 + left_ms)), "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_restart_without_a_clock_costs_a_long_lifetime_an_hour() {
        let mut out = BytesMut::new();
        put_end(&mut out, Time::from_millis(86_400_000), Moment::unclocked(Time::ZERO));
        let ends = end(&mut Reader::new(&out), Moment::unclocked(Time::ZERO));
        assert_eq!(ends, Ok(Time::from_millis(82_800_000)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_an_end_panic_or_lie_beyond_the_longest_lifetime(
            bytes in proptest::collection::vec(any::<u8>(), 0..20),
            unix_ms in any::<Option<u64>>(),
        ) {
            let at = Moment { now: Time::from_millis(7), unix_ms };
            if let Ok(end) = end(&mut Reader::new(&bytes), at) {
                prop_assert!(end <= at.now + MESH_LIFETIME_MAX);
            }
        }
    }
}
