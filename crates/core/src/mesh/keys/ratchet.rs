//! Forward secrecy where two devices have met: keys that step on with the numbers, and are erased behind.
//!
//! The number of a message says its block, `seq >> 6`; each block has its own key, made from a chain key that is hashed on
//! from block to block and forgotten (ME-K6). So a receiver finds the key of any later number by itself, however many
//! frames were lost, and there is no counter to agree on. What it skipped stays open for a few blocks, since radio
//! delivers late and in any order; then it is erased too.
//!
//! Nothing moves before a MAC fits: a forged number costs its receiver at most
//! [`MESH_RATCHET_AHEAD_BLOCKS_MAX`] hashes and changes nothing.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{Data, DataKeys, Refused, direction, expand, extract};
use crate::identity::DeviceId;
use crate::limits::{MESH_RATCHET_AHEAD_BLOCKS_MAX, MESH_RATCHET_BLOCK_BITS, MESH_RATCHET_LATE_BLOCKS_MAX};
use crate::wire::{Invalid, Reader};

/// The format of [`Ratchet::save`].
const SAVED_VERSION: u8 = 1;

/// A secret that both devices have from meeting: an exchange of ephemeral keys, or a session that was encrypted with
/// such. Wiped on drop.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Root([u8; 32]);

impl Root {
    /// From a session both devices are in, for example the TLS exporter of their QUIC connection (RFC 8446 section 7.5)
    /// with the label `EXPORTER-honeylink-mesh-root`. The same bytes on both sides, and secret from everybody else.
    #[must_use]
    pub const fn from_session(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// What `device`, one of the two, says to prove that it has the ratchet of this root on its disk (ME-S6). It gives
    /// nothing of the root away.
    #[must_use]
    pub fn proof(&self, device: &DeviceId) -> [u8; 16] {
        let secret = extract(b"honeylink/mesh/1 held", &[&self.0]);
        let mut proof = [0; 16];
        proof.copy_from_slice(&expand(&secret, &[device.as_bytes()])[..16]);
        proof
    }

    pub(super) const fn derived(secret: [u8; 32]) -> Self {
        Self(secret)
    }
}

impl core::fmt::Debug for Root {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Root(..)")
    }
}

/// The numbers from which a ratchet counts: each side's next, as both sides know them from the meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starts {
    /// The first number this device may seal.
    pub ours: u32,
    /// The first number the peer may seal.
    pub theirs: u32,
}

/// Keys of both directions with one peer, stepping on by blocks of 64 numbers.
#[derive(Clone)]
pub struct Ratchet {
    sending: Step,
    receiving: Step,
    /// Blocks left behind whose messages may have to be sealed again, oldest first: as many as the peer still opens.
    sent: VecDeque<Block>,
    /// Blocks left behind whose frames may still come, oldest first.
    late: VecDeque<Block>,
}

/// The chain key of one block: gives this block's secret and every later one's.
#[derive(Clone, ZeroizeOnDrop)]
struct Step {
    #[zeroize(skip)]
    block: u32,
    chain: [u8; 32],
}

/// The secret of one block alone.
#[derive(Clone, ZeroizeOnDrop)]
struct Block {
    #[zeroize(skip)]
    block: u32,
    secret: [u8; 32],
}

impl Step {
    fn next(&self) -> Self {
        Self { block: self.block + 1, chain: *expand(&self.chain, &[b"next block"]) }
    }

    /// The step so many blocks on, and the last few blocks that it leaves behind.
    fn ahead(&self, blocks: u32) -> (Self, VecDeque<Block>) {
        let (mut step, mut passed) = (self.clone(), VecDeque::new());
        for left in (0..blocks).rev() {
            if (left as usize) < MESH_RATCHET_LATE_BLOCKS_MAX {
                passed.push_back(step.block());
            }
            step = step.next();
        }
        (step, passed)
    }

    fn block(&self) -> Block {
        Block { block: self.block, secret: *expand(&self.chain, &[b"block"]) }
    }
}

impl Ratchet {
    /// A ratchet from a fresh root. A root makes one ratchet in its life, or keystreams would repeat.
    #[must_use]
    pub fn new(root: &Root, own: &DeviceId, peer: &DeviceId, starts: Starts) -> Self {
        let root = extract(b"honeylink/mesh/1 ratchet", &[&root.0]);
        Self {
            sending: Step { block: block_of(starts.ours), chain: *direction(&root, own, peer) },
            receiving: Step { block: block_of(starts.theirs), chain: *direction(&root, peer, own) },
            sent: VecDeque::new(),
            late: VecDeque::new(),
        }
    }

    /// Steps on to the block of number `seq`, so that it can be saved before anything is sealed in it. True if it moved.
    ///
    /// # Errors
    /// As [`Ratchet::seal`].
    pub fn prepare(&mut self, seq: u32) -> Result<bool, Refused> {
        let wanted = block_of(seq);
        let Some(ahead) = wanted.checked_sub(self.sending.block) else {
            return if self.sent.iter().any(|sent| sent.block == wanted) {
                Ok(false)
            } else {
                Err(Refused::Erased)
            };
        };
        if ahead > MESH_RATCHET_AHEAD_BLOCKS_MAX {
            return Err(Refused::TooFarAhead);
        }
        let (step, mut passed) = self.sending.ahead(ahead);
        self.sending = step;
        self.sent.append(&mut passed);
        while self.sent.len() > MESH_RATCHET_LATE_BLOCKS_MAX {
            self.sent.pop_front();
        }
        Ok(ahead > 0)
    }

    /// Seals `data`, whose payload is plaintext, and steps on. Save the ratchet before the frame is sent, if the block
    /// has changed ([`Ratchet::prepare`] changes it without sealing): what is on disk can still open what it should not.
    /// A message of one of the few blocks before can be sealed again.
    ///
    /// # Errors
    /// [`Refused::Erased`] if the number is from an earlier block, [`Refused::TooFarAhead`] if it is so far ahead that the
    /// peer would not follow: exchange new keys then. `data` is unchanged.
    pub fn seal(&mut self, data: &mut Data) -> Result<(), Refused> {
        self.prepare(data.seq)?;
        let wanted = block_of(data.seq);
        let block = match self.sent.iter().find(|sent| sent.block == wanted) {
            Some(sent) => sent.clone(),
            None => self.sending.block(),
        };
        data.ratcheted = true;
        DataKeys::of(&block.secret).seal(data);
        Ok(())
    }

    /// The plaintext of a message from the peer; steps on if it is from a later block.
    ///
    /// # Errors
    /// [`Refused`]; the ratchet is unchanged then.
    pub fn open(&mut self, data: &Data) -> Result<Bytes, Refused> {
        if !data.ratcheted {
            return Err(Refused::OtherKeys);
        }
        let wanted = block_of(data.seq);
        let Some(ahead) = wanted.checked_sub(self.receiving.block) else {
            let block = self.late.iter().find(|late| late.block == wanted).ok_or(Refused::Erased)?;
            return DataKeys::of(&block.secret).open(data);
        };
        if ahead > MESH_RATCHET_AHEAD_BLOCKS_MAX {
            return Err(Refused::TooFarAhead);
        }
        let (step, mut passed) = self.receiving.ahead(ahead);
        let plaintext = DataKeys::of(&step.block().secret).open(data)?;
        self.receiving = step;
        self.late.append(&mut passed);
        while self.late.len() > MESH_RATCHET_LATE_BLOCKS_MAX {
            self.late.pop_front();
        }
        Ok(plaintext)
    }

    /// Erases the keys of every block whose numbers are all below `seq`: nothing is expected from them any more.
    pub fn erase_before(&mut self, seq: u32) {
        let block = block_of(seq);
        self.late.retain(|late| late.block >= block);
    }

    /// The state for the disk, 75 to 651 bytes. It is as secret as the messages it opens.
    #[must_use]
    pub fn save(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(75 + 72 * MESH_RATCHET_LATE_BLOCKS_MAX));
        out.put_u8(SAVED_VERSION);
        for step in [&self.sending, &self.receiving] {
            out.put_u32(step.block);
            out.put_slice(&step.chain);
        }
        for blocks in [&self.sent, &self.late] {
            out.put_u8(u8::try_from(blocks.len()).unwrap_or(u8::MAX));
            for block in blocks {
                out.put_u32(block.block);
                out.put_slice(&block.secret);
            }
        }
        out
    }

    /// Reads what [`Ratchet::save`] wrote.
    ///
    /// # Errors
    /// [`Invalid`] if it is damaged or from another version. The peers must exchange new keys then.
    pub fn load(bytes: &[u8]) -> Result<Self, Invalid> {
        const WHAT: &str = "saved ratchet";
        let mut r = Reader::new(bytes);
        if r.u8(WHAT)? != SAVED_VERSION {
            return Err(Invalid::Value { what: WHAT });
        }
        let mut step = || Ok(Step { block: block_number(&mut r)?, chain: r.array(WHAT)? });
        let (sending, receiving) = (step()?, step()?);
        let sent = blocks(&mut r, sending.block)?;
        let late = blocks(&mut r, receiving.block)?;
        r.finish(WHAT)?;
        Ok(Self { sending, receiving, sent, late })
    }

    /// The block that the next message is sealed in. When it changes, the state on disk is out of date.
    #[must_use]
    pub const fn sending_block(&self) -> u32 {
        self.sending.block
    }

    /// The newest block that a message was opened in. When it changes, the state on disk is out of date.
    #[must_use]
    pub const fn receiving_block(&self) -> u32 {
        self.receiving.block
    }
}

impl core::fmt::Debug for Ratchet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ratchet(sending block {}, receiving block {})", self.sending.block, self.receiving.block)
    }
}

const fn block_of(seq: u32) -> u32 {
    seq >> MESH_RATCHET_BLOCK_BITS
}

/// Blocks left behind by a step that is at `before`, in order.
fn blocks(r: &mut Reader<'_>, before: u32) -> Result<VecDeque<Block>, Invalid> {
    const WHAT: &str = "saved ratchet";
    let count = usize::from(r.u8(WHAT)?);
    if count > MESH_RATCHET_LATE_BLOCKS_MAX {
        let max = MESH_RATCHET_LATE_BLOCKS_MAX as u64;
        return Err(Invalid::TooLarge { what: WHAT, size: count as u64, max });
    }
    let mut blocks: VecDeque<Block> = VecDeque::new();
    for _ in 0..count {
        let block = Block { block: block_number(r)?, secret: r.array(WHAT)? };
        let in_order = blocks.back().is_none_or(|last| last.block < block.block);
        if !in_order || block.block >= before {
            return Err(Invalid::Value { what: WHAT });
        }
        blocks.push_back(block);
    }
    Ok(blocks)
}

fn block_number(r: &mut Reader<'_>) -> Result<u32, Invalid> {
    const WHAT: &str = "saved ratchet block";
    let block = r.u32(WHAT)?;
    if block > block_of(u32::MAX) { Err(Invalid::Value { what: WHAT }) } else { Ok(block) }
}
