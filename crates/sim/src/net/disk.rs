//! What a node writes on. A crash takes the last of what was not synced.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::device::Record;

/// What disks are like in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// How long a sync takes, in microseconds.
    pub sync_us: u64,
    /// What a crash does to writes that were not synced.
    pub tear: Tear,
}

impl Default for Disk {
    fn default() -> Self {
        Self { sync_us: 8_000, tear: Tear::All }
    }
}

/// What a crash does to writes that were not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tear {
    /// All are lost.
    #[default]
    All,
    /// The first few survive: writes reach a disk in their order, as the mesh asks of its shell.
    Suffix,
}

type Key = (u8, Bytes);

/// One node's disk.
#[derive(Clone, Debug, Default)]
pub struct Platter {
    durable: BTreeMap<Key, Bytes>,
    /// Written and not synced, in order: a value, or none for an erased record.
    pending: Vec<(Key, Option<Bytes>)>,
    /// How many writes were ever settled or lost.
    done: u64,
}

impl Platter {
    /// Writes a record into the cache.
    pub fn save(&mut self, record: Record) {
        self.pending.push(((record.table, record.key), Some(record.value)));
    }

    /// Removes a record in the cache.
    pub fn erase(&mut self, table: u8, key: Bytes) {
        self.pending.push(((table, key), None));
    }

    /// Everything written so far: what a sync that begins now will cover.
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.done + self.pending.len() as u64
    }

    /// Everything up to `mark` is on the disk.
    pub fn settle(&mut self, mark: u64) {
        let count =
            usize::try_from(mark.saturating_sub(self.done)).unwrap_or(usize::MAX).min(self.pending.len());
        self.done += count as u64;
        let settled: Vec<_> = self.pending.drain(..count).collect();
        for (key, value) in settled {
            self.apply(key, value);
        }
    }

    /// The machine dies. Returns how many writes are lost.
    pub fn crash(&mut self, tear: Tear, chance: &mut Chance) -> u64 {
        let pending = std::mem::take(&mut self.pending);
        self.done += pending.len() as u64;
        let survivors = match tear {
            Tear::All => 0,
            Tear::Suffix => chance.index(pending.len() + 1),
        };
        let mut lost = 0;
        for (at, (key, value)) in pending.into_iter().enumerate() {
            if at < survivors {
                self.apply(key, value);
            } else {
                lost += 1;
            }
        }
        lost
    }

    /// What the disk holds after a restart.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let record = |((table, key), value): (&Key, &Bytes)| Record {
            table: *table,
            key: key.clone(),
            value: value.clone(),
        };
        self.durable.iter().map(record).collect()
    }

    fn apply(&mut self, key: Key, value: Option<Bytes>) {
        match value {
            Some(value) => self.durable.insert(key, value),
            None => self.durable.remove(&key),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Purpose;

    fn record(n: u8) -> Record {
        Record { table: 1, key: Bytes::copy_from_slice(&[n]), value: Bytes::from_static(b"v") }
    }

    #[test]
    fn only_what_was_synced_survives_a_crash_for_certain() {
        for tear in [Tear::All, Tear::Suffix] {
            let mut disk = Platter::default();
            (0..10).for_each(|n| disk.save(record(n)));
            disk.settle(4);
            disk.erase(1, Bytes::from_static(&[0]));
            let mut chance = Chance::new(1, Purpose::Disks, 0);
            let lost = disk.crash(tear, &mut chance);
            let left = disk.records();
            assert!((1..4).all(|n| left.contains(&record(n))), "{tear:?}");
            assert!(left.len() as u64 + lost >= 9, "{tear:?}");
            if tear == Tear::All {
                assert_eq!((left.len(), lost), (4, 7));
            }
        }
    }
}
