//! One frame of [`super`] and its two records on disk.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Name;
use crate::limits::MESH_CUSTODY_FRAME_BYTES_MAX;
use crate::mesh::hint::{Far, Near};
use crate::mesh::port::PortId;
use crate::mesh::raw::FrameId;
use crate::mesh::records::{Journal, Key, Mark, Moment, Table, end, open, put_end, versioned};
use crate::mesh::units::Priority;
use crate::time::Time;
use crate::wire::{Invalid, put_bytes};

const VERSION: u8 = 1;
/// Last byte of a record's key.
pub(super) const FRAME: u8 = 0;
/// See [`FRAME`].
pub(super) const STATE: u8 = 1;

/// A frame that is held.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) depositor: Near,
    pub(super) source: Far,
    pub(super) target: Far,
    pub(super) first: u32,
    pub(super) seq: u32,
    pub(super) priority: Priority,
    pub(super) frame: Bytes,
    pub(super) ends_at: Time,
    /// The mark that makes it safe, until that was answered.
    pub(super) safe: Option<Mark>,
    /// Who waits to be told that it is safe, and under which name.
    pub(super) owed: Option<(FrameId, (PortId, Near))>,
    pub(super) tries: u16,
    pub(super) next_at: Time,
    pub(super) tried_at: Option<Time>,
}

impl Held {
    /// What it counts for in a quota.
    pub(super) fn len(&self) -> usize {
        self.frame.len()
    }

    pub(super) const fn name(&self) -> Name {
        (self.source, self.target, self.first)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = versioned(VERSION);
        out.put_u16(self.depositor.0);
        out.put_slice(&self.source.0);
        out.put_slice(&self.target.0);
        out.put_u32(self.first);
        out.put_u32(self.seq);
        out.put_u8(self.priority as u8);
        put_bytes(&mut out, &self.frame);
        out.freeze()
    }

    pub(super) fn encode_state(&self, at: Moment) -> Bytes {
        let mut out = versioned(VERSION);
        put_end(&mut out, self.ends_at, at);
        out.freeze()
    }

    fn decode(value: &[u8], now: Time) -> Result<Self, Invalid> {
        const WHAT: &str = "stored frame";
        let mut reader = open(value, VERSION, WHAT)?;
        let depositor = Near(reader.u16(WHAT)?);
        let (source, target) = (Far(reader.array(WHAT)?), Far(reader.array(WHAT)?));
        let (first, seq, priority) = (reader.u32(WHAT)?, reader.u32(WHAT)?, reader.u8(WHAT)?);
        if priority > 3 {
            return Err(Invalid::Value { what: WHAT });
        }
        let frame = Bytes::copy_from_slice(reader.bytes(MESH_CUSTODY_FRAME_BYTES_MAX, WHAT)?);
        reader.finish(WHAT)?;
        Ok(Self {
            depositor,
            source,
            target,
            first,
            seq,
            priority: Priority::from_bits(priority),
            frame,
            ends_at: now,
            safe: None,
            owed: None,
            tries: 0,
            next_at: now,
            tried_at: None,
        })
    }
}

fn decode_state(value: &[u8], at: Moment) -> Result<Time, Invalid> {
    const WHAT: &str = "end of a stored frame";
    let mut reader = open(value, VERSION, WHAT)?;
    let ends_at = end(&mut reader, at)?;
    reader.finish(WHAT)?;
    Ok(ends_at)
}

pub(super) fn key(id: &FrameId, part: u8) -> Key {
    let mut name = BytesMut::with_capacity(9);
    name.put_slice(id);
    name.put_u8(part);
    Key { table: Table::Custody, id: name.freeze() }
}

/// The frames whose both records are whole, and how many records were damaged. The rest is erased.
pub(super) fn restore(
    records: impl Iterator<Item = (Bytes, Bytes)>,
    at: Moment,
    journal: &mut Journal,
) -> (BTreeMap<FrameId, Held>, usize) {
    let (mut frames, mut ends, mut damaged) = (BTreeMap::new(), BTreeMap::new(), 0);
    for (id, value) in records {
        let name = id.split_last_chunk::<1>();
        let name = name.and_then(|(name, part)| Some((FrameId::try_from(name).ok()?, part[0])));
        let whole = match name {
            Some((name, FRAME)) => Held::decode(&value, at.now).map(|held| frames.insert(name, held)).is_ok(),
            Some((name, STATE)) => decode_state(&value, at).map(|end| ends.insert(name, end)).is_ok(),
            Some(_) | None => false,
        };
        if !whole {
            damaged += 1;
            journal.erase(Key { table: Table::Custody, id });
        }
    }
    frames.retain(|name, held| {
        let Some(ends_at) = ends.remove(name) else {
            journal.erase(key(name, FRAME));
            return false;
        };
        held.ends_at = ends_at;
        // Written again: what was taken off for a restart without a clock must stay taken off.
        journal.save(key(name, STATE), held.encode_state(at));
        true
    });
    for name in ends.into_keys() {
        journal.erase(key(&name, STATE));
    }
    (frames, damaged)
}
