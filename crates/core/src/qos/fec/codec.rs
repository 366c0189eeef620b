//! The blocks on the wire.
//!
//! ```text
//! data     = block u32 | index u8 | 0 u8 | 0 u8 | payload
//! repair   = block u32 | index u8 | data u8 | repair u8 | Reed-Solomon of the padded payloads
//! padded   = length u16 | payload | zeros, all of the same even length
//! ```
//!
//! Only repair tells the shape of its block, so a block can end whenever its sender pauses.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

use super::Layout;
use crate::limits::{FEC_BLOCK_SHARDS_MAX, FEC_BLOCKS_MAX};
use crate::wire::{Invalid, Reader};

/// Bytes in front of every datagram of a block.
pub const HEADER_BYTES: usize = 7;
/// Largest payload; a repair datagram is two bytes longer than the longest payload of its block, three if that is odd.
pub const PAYLOAD_BYTES_MAX: usize = 1400;
const LENGTH_BYTES: usize = 2;
const BODY_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + LENGTH_BYTES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    block: u32,
    index: u8,
    /// Of repair datagrams only.
    layout: Option<Layout>,
}

impl Header {
    fn encode(self, body: &[u8]) -> Bytes {
        let layout = self.layout.unwrap_or(Layout { data: 0, repair: 0 });
        let mut out = BytesMut::with_capacity(HEADER_BYTES + body.len());
        out.put_u32(self.block);
        out.put_slice(&[self.index, layout.data, layout.repair]);
        out.put_slice(body);
        out.freeze()
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Invalid> {
        let block = r.u32("repair block")?;
        let (index, data, repair) = (r.u8("repair index")?, r.u8("repair layout")?, r.u8("repair layout")?);
        let layout = Layout { data, repair };
        let sound = match (data, repair) {
            (0, 0) => usize::from(index) < FEC_BLOCK_SHARDS_MAX,
            _ => data > 0 && index < repair && layout.shards() <= FEC_BLOCK_SHARDS_MAX,
        };
        let layout = (data > 0).then_some(layout);
        if sound { Ok(Self { block, index, layout }) } else { Err(Invalid::Value { what: "repair layout" }) }
    }
}

/// `payload` with its length, filled up to `len` bytes.
fn padded(payload: &[u8], len: usize) -> Vec<u8> {
    let mut shard = Vec::with_capacity(len.max(LENGTH_BYTES + payload.len()));
    shard.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
    shard.extend_from_slice(payload);
    shard.resize(len, 0);
    shard
}

/// Makes blocks of datagrams.
#[derive(Debug)]
pub struct Encoder {
    layout: Layout,
    block: u32,
    payloads: Vec<Bytes>,
}

impl Encoder {
    /// An encoder. Of a layout over [`FEC_BLOCK_SHARDS_MAX`] only what fits is used.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let mut encoder = Self { layout, block: 0, payloads: Vec::new() };
        encoder.set_layout(layout);
        encoder
    }

    /// Another layout, from this block on.
    pub fn set_layout(&mut self, layout: Layout) {
        let max = u8::try_from(FEC_BLOCK_SHARDS_MAX).unwrap_or(u8::MAX);
        let data = layout.data.clamp(1, max - 1);
        self.layout = Layout { data, repair: layout.repair.clamp(1, max - data) };
    }

    /// Takes a payload of at most [`PAYLOAD_BYTES_MAX`] bytes: the datagram to send now, and what follows it when it
    /// completes its block. `None` if it is too large.
    pub fn push(&mut self, payload: Bytes) -> Option<(Bytes, Vec<Bytes>)> {
        if payload.len() > PAYLOAD_BYTES_MAX {
            return None;
        }
        let index = u8::try_from(self.payloads.len()).unwrap_or(u8::MAX);
        let datagram = Header { block: self.block, index, layout: None }.encode(&payload);
        self.payloads.push(payload);
        let complete = self.payloads.len() >= usize::from(self.layout.data);
        let repair = if complete { self.flush() } else { Vec::new() };
        Some((datagram, repair))
    }

    /// Ends the block now, because its sender pauses: its repair datagrams, as many as for a whole block.
    pub fn flush(&mut self) -> Vec<Bytes> {
        let payloads = std::mem::take(&mut self.payloads);
        let Some(longest) = payloads.iter().map(Bytes::len).max() else { return Vec::new() };
        let block = self.block;
        self.block = self.block.wrapping_add(1);
        let data = u8::try_from(payloads.len()).unwrap_or(u8::MAX);
        let layout = Layout { data, repair: self.layout.repair };
        let len = (longest + LENGTH_BYTES).next_multiple_of(2);
        let Ok(repair) = encode(layout, len, &payloads) else { return Vec::new() };
        let header = |index| Header { block, index, layout: Some(layout) };
        (0..).zip(repair).map(|(index, shard)| header(index).encode(&shard)).collect()
    }
}

fn encode(layout: Layout, len: usize, payloads: &[Bytes]) -> Result<Vec<Vec<u8>>, reed_solomon_simd::Error> {
    let mut encoder = ReedSolomonEncoder::new(layout.data.into(), layout.repair.into(), len)?;
    for payload in payloads {
        encoder.add_original_shard(padded(payload, len))?;
    }
    Ok(encoder.encode()?.recovery_iter().map(<[u8]>::to_vec).collect())
}

/// Counters of a [`Decoder`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FecStats {
    /// Payloads that arrived by themselves.
    pub received: u64,
    /// Payloads that were lost and put together again.
    pub recovered: u64,
    /// Payloads that stayed lost, as far as their block tells.
    pub lost: u64,
    /// Repair datagrams that arrived.
    pub repair: u64,
    /// Datagrams that were none of ours, came twice or too late.
    pub dropped: u64,
}

/// A payload for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The payload.
    pub payload: Bytes,
    /// It was lost and put together again, so it may come after later ones.
    pub recovered: bool,
}

#[derive(Debug, Default)]
struct Block {
    data: BTreeMap<u8, Bytes>,
    repair: BTreeMap<u8, Bytes>,
    /// The shape and the length of the repair, once one arrived.
    shape: Option<(Layout, usize)>,
}

impl Block {
    /// Payloads known to be missing.
    fn missing(&self) -> u64 {
        let highest = self.data.last_key_value().map_or(0, |(index, _)| usize::from(*index) + 1);
        let data = self.shape.map_or(highest, |(layout, _)| usize::from(layout.data));
        (data as u64).saturating_sub(self.data.len() as u64)
    }
}

/// Takes datagrams of blocks, gives payloads: at once what arrived, and what was lost as soon as enough of its block is
/// there. Keeps at most [`FEC_BLOCKS_MAX`] blocks.
#[derive(Debug, Default)]
pub struct Decoder {
    blocks: BTreeMap<u32, Block>,
    /// Blocks below were given up.
    oldest: u32,
    stats: FecStats,
}

impl Decoder {
    /// Counters so far. What is missing from the blocks still kept counts as lost.
    #[must_use]
    pub fn stats(&self) -> FecStats {
        let missing: u64 = self.blocks.values().map(Block::missing).sum();
        FecStats { lost: self.stats.lost + missing, ..self.stats }
    }

    /// Takes one datagram and gives what it makes known.
    ///
    /// # Errors
    /// [`Invalid`] if it is no datagram of a block; counted, nothing changed.
    pub fn accept(&mut self, datagram: &Bytes) -> Result<Vec<Repaired>, Invalid> {
        let mut r = Reader::new(datagram);
        let parsed = Header::decode(&mut r).and_then(|header| check_body(header, r.remaining()));
        let header = parsed.inspect_err(|_| self.stats.dropped += 1)?;
        let body = datagram.slice(HEADER_BYTES..);
        let taken = self.block(header.block).and_then(|block| insert(block, header, body.clone()));
        if taken.is_none() {
            self.stats.dropped += 1;
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        if header.layout.is_none() {
            self.stats.received += 1;
            out.push(Repaired { payload: body, recovered: false });
        } else {
            self.stats.repair += 1;
        }
        if let Some(block) = self.blocks.get_mut(&header.block) {
            let recovered = recover(block);
            self.stats.recovered += recovered.len() as u64;
            out.extend(recovered);
        }
        Ok(out)
    }

    /// The block of that number, for which the oldest makes room; `None` if it is older than all.
    fn block(&mut self, number: u32) -> Option<&mut Block> {
        if number < self.oldest {
            return None;
        }
        if !self.blocks.contains_key(&number) && self.blocks.len() >= FEC_BLOCKS_MAX {
            self.blocks.first_key_value().filter(|(first, _)| **first < number)?;
            let (first, gone) = self.blocks.pop_first()?;
            self.oldest = first.saturating_add(1);
            self.stats.lost += gone.missing();
        }
        Some(self.blocks.entry(number).or_default())
    }
}

fn check_body(header: Header, len: usize) -> Result<Header, Invalid> {
    let sound = match header.layout {
        None => len <= PAYLOAD_BYTES_MAX,
        Some(_) => (LENGTH_BYTES..=BODY_BYTES_MAX).contains(&len) && len.is_multiple_of(2),
    };
    if sound { Ok(header) } else { Err(Invalid::Value { what: "repair body" }) }
}

/// `None` if it came before, or contradicts what came before.
fn insert(block: &mut Block, header: Header, body: Bytes) -> Option<()> {
    if let Some(layout) = header.layout {
        let shape = *block.shape.get_or_insert((layout, body.len()));
        if shape != (layout, body.len()) || block.repair.contains_key(&header.index) {
            return None;
        }
        block.repair.insert(header.index, body);
    } else {
        let outside = block.shape.is_some_and(|(layout, _)| header.index >= layout.data);
        if outside || block.data.contains_key(&header.index) {
            return None;
        }
        block.data.insert(header.index, body);
    }
    Some(())
}

/// The lost payloads of a block of which enough arrived.
fn recover(block: &mut Block) -> Vec<Repaired> {
    let Some((layout, len)) = block.shape else { return Vec::new() };
    let enough = block.data.len() + block.repair.len() >= usize::from(layout.data);
    if !enough || block.missing() == 0 {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (index, shard) in decode(block, layout, len).unwrap_or_default() {
        let mut r = Reader::new(&shard);
        let payload = r.u16("payload length").and_then(|len| r.take(len.into(), "payload"));
        // Repair that does not fit its data gives a length that does not fit either: then nothing is made up.
        if let (Ok(payload), Ok(index)) = (payload, u8::try_from(index)) {
            let payload = Bytes::copy_from_slice(payload);
            block.data.insert(index, payload.clone());
            out.push(Repaired { payload, recovered: true });
        }
    }
    out
}

fn decode(
    block: &Block,
    layout: Layout,
    len: usize,
) -> Result<Vec<(usize, Vec<u8>)>, reed_solomon_simd::Error> {
    let mut decoder = ReedSolomonDecoder::new(layout.data.into(), layout.repair.into(), len)?;
    for (index, payload) in block.data.range(..layout.data) {
        decoder.add_original_shard((*index).into(), padded(payload, len))?;
    }
    for (index, shard) in &block.repair {
        decoder.add_recovery_shard((*index).into(), shard)?;
    }
    let restored = decoder.decode()?;
    Ok(restored.restored_original_iter().map(|(index, shard)| (index, shard.to_vec())).collect())
}
