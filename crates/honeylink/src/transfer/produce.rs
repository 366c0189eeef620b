//! The sender's file thread: walks, reads, hashes and fills blocks with frames. Everything here may block.
//!
//! A block holds whole frames only, so that the async side may stop between two blocks and still say why.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use honeylink_core::limits::{
    TRANSFER_FRAME_BYTES_MAX, TRANSFER_WHOLE_BYTES_MAX, TRANSFER_WINDOW_ENTRIES_MAX,
};
use honeylink_core::transfer::frame::{
    Body, Claim, Entry, HEADER_BYTES, Hash, Header, Kind, Message, Modified, Offer, WHOLE_PREFIX_BYTES_MAX,
    entry_len_max, put_whole,
};
use honeylink_core::transfer::plan;
use tokio::sync::mpsc;

use super::BLOCK_BYTES;
use super::digest::Digest;
use super::disk;
use super::error::{DiskError, SendError};
use super::source::{Sources, Walk, modified};

/// Frames ready to be written, and what they mean for the progress.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) buffer: BytesMut,
    pub(super) filled: usize,
    /// Content bytes in it.
    pub(super) moved: u64,
    /// Content bytes that need not be in it, because the receiver has them.
    pub(super) kept: u64,
    /// Files that end in it.
    pub(super) files: u64,
    /// The file its last content belongs to.
    pub(super) current: String,
}

impl Block {
    /// One data frame of a full block of content; small frames share the same room.
    pub(super) const ROOM_BYTES: usize = BLOCK_BYTES + HEADER_BYTES;

    /// `buffer` is [`Self::ROOM_BYTES`] long.
    pub(super) const fn empty(buffer: BytesMut) -> Self {
        Self { buffer, filled: 0, moved: 0, kept: 0, files: 0, current: String::new() }
    }
}

/// The receiver's claims as they arrive: everything below `upto` was looked at.
pub(super) type Checked = (u64, Vec<Claim>);

/// The async side is gone: whoever dropped it knows why.
#[derive(Debug)]
pub(super) struct Gone;

/// Why the file thread ended early.
#[derive(Debug)]
pub(super) enum Halt {
    Gone,
    Failed(SendError),
}

impl From<Gone> for Halt {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<SendError> for Halt {
    fn from(error: SendError) -> Self {
        Self::Failed(error)
    }
}

impl From<DiskError> for Halt {
    fn from(error: DiskError) -> Self {
        Self::Failed(error.into())
    }
}

/// The file thread's ends of the channels to the async side.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) full: mpsc::Sender<Block>,
    pub(super) empty: mpsc::Receiver<Block>,
    /// `None` if the receiver holds nothing and need not be waited for.
    pub(super) checked: Option<mpsc::Receiver<Checked>>,
}

/// An entry that is listed but not sent yet.
#[derive(Debug)]
struct Planned {
    place: PathBuf,
    path: String,
    body: Body,
}

#[derive(Debug)]
pub(super) struct Producer {
    ends: Ends,
    block: Block,
    scratch: BytesMut,
    walk: Walk,
    window: VecDeque<Planned>,
    offer: Offer,
    listed: u64,
    bytes_listed: u64,
    next: u64,
    checked_upto: u64,
    claims: VecDeque<Claim>,
    digest: Digest,
}

impl Producer {
    /// Sends everything; returns the digest.
    pub(super) fn run(sources: &Sources, offer: Offer, mut ends: Ends) -> Result<Hash, Halt> {
        let block = ends.empty.blocking_recv().ok_or(Gone)?;
        let mut producer = Self {
            ends,
            block,
            scratch: BytesMut::with_capacity(TRANSFER_FRAME_BYTES_MAX),
            walk: Walk::sources_again(sources),
            window: VecDeque::new(),
            digest: Digest::new(&offer),
            offer,
            listed: 0,
            bytes_listed: 0,
            next: 0,
            checked_upto: 0,
            claims: VecDeque::new(),
        };
        producer.list_ahead()?;
        while let Some(planned) = producer.window.pop_front() {
            let index = producer.next;
            producer.next += 1;
            match planned.body {
                Body::File { size, modified, .. } => producer.send_file(index, &planned, size, modified)?,
                // Nothing is sent of it, but the listing must not run away from a receiver that looks at what it holds.
                Body::Folder => drop(producer.claim_for(index)?),
            }
            if producer.window.len() <= TRANSFER_WINDOW_ENTRIES_MAX / 2 {
                producer.list_ahead()?;
            }
        }
        if producer.listed != producer.offer.entries || producer.bytes_listed != producer.offer.bytes {
            return Err(changed(Path::new(&producer.offer.name)).into());
        }
        let digest = producer.digest.finish();
        producer.put(&Message::Finish { digest })?;
        producer.flush()?;
        Ok(digest)
    }

    /// Fills the window with the next entries and lists them.
    fn list_ahead(&mut self) -> Result<(), Halt> {
        let mut entries = Vec::new();
        let mut first = self.listed;
        let mut bytes = 0;
        while self.window.len() < TRANSFER_WINDOW_ENTRIES_MAX {
            let Some(found) = self.walk.next() else { break };
            let found = found?;
            let Some(entry) = found.entry() else { continue };
            if let Body::File { size, .. } = entry.body {
                self.bytes_listed += size;
            }
            self.listed += 1;
            // The receiver holds us to the offer: better to say what happened than to be called a cheat.
            if self.listed > self.offer.entries || self.bytes_listed > self.offer.bytes {
                return Err(changed(&found.place).into());
            }
            let len = entry_len_max(entry.path.len());
            if bytes + len > TRANSFER_FRAME_BYTES_MAX - 8 {
                self.put_list(first, std::mem::take(&mut entries))?;
                (first, bytes) = (self.listed - 1, 0);
            }
            bytes += len;
            self.window.push_back(Planned { place: found.place, path: entry.path.clone(), body: entry.body });
            entries.push(entry);
        }
        self.put_list(first, entries)
    }

    fn put_list(&mut self, first: u64, entries: Vec<Entry>) -> Result<(), Halt> {
        if entries.is_empty() {
            return Ok(());
        }
        Ok(self.put(&Message::List { first, entries })?)
    }

    fn send_file(&mut self, index: u64, planned: &Planned, size: u64, stamp: Modified) -> Result<(), Halt> {
        let place = planned.place.as_path();
        let claim = self.claim_for(index)?;
        let mut file = disk::open_source(place).map_err(|e| DiskError::new("open", place, e))?;
        unchanged(&file, place, size, stamp)?;
        self.block.current.clone_from(&planned.path);
        let hash = match claim {
            None if size <= TRANSFER_WHOLE_BYTES_MAX as u64 => {
                self.send_whole(index, &mut file, place, size)?
            }
            claim => self.send_large(index, &mut file, place, size, claim)?,
        };
        unchanged(&file, place, size, stamp)?;
        self.digest.add(&planned.path, &hash);
        Ok(())
    }

    /// Waits until the receiver has looked at this entry, if it wants to be waited for.
    fn claim_for(&mut self, index: u64) -> Result<Option<Claim>, Gone> {
        let Some(checked) = self.ends.checked.as_mut() else { return Ok(None) };
        while self.checked_upto <= index {
            // What it waits for may still lie in our own block.
            if self.block.filled > 0 {
                let empty = self.ends.empty.blocking_recv().ok_or(Gone)?;
                let full = std::mem::replace(&mut self.block, empty);
                self.ends.full.blocking_send(full).map_err(|_| Gone)?;
            }
            let (upto, claims) = checked.blocking_recv().ok_or(Gone)?;
            self.checked_upto = self.checked_upto.max(upto);
            self.claims.extend(claims);
        }
        while self.claims.front().is_some_and(|claim| claim.index < index) {
            self.claims.pop_front();
        }
        let answered = self.claims.front().is_some_and(|claim| claim.index == index);
        Ok(if answered { self.claims.pop_front() } else { None })
    }

    fn send_whole(&mut self, index: u64, file: &mut File, place: &Path, size: u64) -> Result<Hash, Halt> {
        let len = usize::try_from(size).unwrap_or(TRANSFER_WHOLE_BYTES_MAX);
        self.reserve(HEADER_BYTES + WHOLE_PREFIX_BYTES_MAX + len)?;
        // The hash stands before the content, so the content is read to where it will be and the rest filled in after.
        let prefix = HEADER_BYTES + honeylink_core::wire::varint_len(index) + size_of::<Hash>();
        let at = self.block.filled;
        let content = &mut self.block.buffer[at + prefix..at + prefix + len];
        read_exactly(file, content, place)?;
        let hash = *blake3::hash(content).as_bytes();
        self.scratch.clear();
        put_whole(&mut self.scratch, index, &hash, len);
        self.block.buffer[at..at + prefix].copy_from_slice(&self.scratch);
        self.block.filled += prefix + len;
        self.block.moved += size;
        self.block.files += 1;
        Ok(hash)
    }

    fn send_large(
        &mut self,
        index: u64,
        file: &mut File,
        place: &Path,
        size: u64,
        claim: Option<Claim>,
    ) -> Result<Hash, Halt> {
        let (offset, mut hasher) = match claim {
            Some(claim) => self.agree(file, place, size, &claim)?,
            None => (0, blake3::Hasher::new()),
        };
        self.put(&Message::Start { index, offset })?;
        self.block.kept += offset;
        let mut left = size - offset;
        while left > 0 {
            // A block of its own for each frame keeps content at block boundaries all the way to the receiver's disk.
            if self.block.filled > 0 {
                let current = self.block.current.clone();
                self.flush()?;
                self.block.current = current;
            }
            let len = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let content = &mut self.block.buffer[HEADER_BYTES..HEADER_BYTES + len];
            read_exactly(file, content, place)?;
            hasher.update(content);
            let header = Header { kind: Kind::Data, len }.encode();
            self.block.buffer[..HEADER_BYTES].copy_from_slice(&header);
            self.block.filled = HEADER_BYTES + len;
            self.block.moved += len as u64;
            left -= len as u64;
        }
        let hash = *hasher.finalize().as_bytes();
        self.put(&Message::End { hash })?;
        self.block.files += 1;
        Ok(hash)
    }

    /// Hashes our own prefix and decides where to continue; leaves the file's cursor there.
    fn agree(
        &mut self,
        file: &mut File,
        place: &Path,
        size: u64,
        claim: &Claim,
    ) -> Result<(u64, blake3::Hasher), Halt> {
        let Some(len) = plan::prefix_to_check(size, claim) else { return Ok((0, blake3::Hasher::new())) };
        if self.block.filled > 0 {
            self.flush()?;
        }
        let mut hasher = blake3::Hasher::new();
        let mut left = len;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            let content = &mut self.block.buffer[..piece];
            read_exactly(file, content, place)?;
            hasher.update(content);
            left -= piece as u64;
        }
        if plan::resume_offset(claim, hasher.finalize().as_bytes()) == len {
            return Ok((len, hasher));
        }
        rustix::fs::seek(&*file, rustix::fs::SeekFrom::Start(0))
            .map_err(|e| DiskError::new("read", place, e))?;
        Ok((0, blake3::Hasher::new()))
    }

    fn put(&mut self, message: &Message) -> Result<(), Gone> {
        self.scratch.clear();
        message.encode(&mut self.scratch);
        self.reserve(self.scratch.len())?;
        let at = self.block.filled;
        self.block.buffer[at..at + self.scratch.len()].copy_from_slice(&self.scratch);
        self.block.filled += self.scratch.len();
        Ok(())
    }

    fn reserve(&mut self, len: usize) -> Result<(), Gone> {
        if self.block.buffer.len() - self.block.filled < len { self.flush() } else { Ok(()) }
    }

    /// Hands the block over and takes an empty one; waits while the stream is slower than the disk.
    fn flush(&mut self) -> Result<(), Gone> {
        let empty = self.ends.empty.blocking_recv().ok_or(Gone)?;
        let full = std::mem::replace(&mut self.block, empty);
        self.ends.full.blocking_send(full).map_err(|_| Gone)
    }
}

fn read_exactly(file: &mut File, content: &mut [u8], place: &Path) -> Result<(), SendError> {
    file.read_exact(content).map_err(|error| {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return changed(place);
        }
        DiskError::new("read", place, error).into()
    })
}

/// Checks that the open file is the one that was listed.
fn unchanged(file: &File, place: &Path, size: u64, stamp: Modified) -> Result<(), SendError> {
    let meta = file.metadata().map_err(|e| DiskError::new("read", place, e))?;
    let same = meta.is_file() && meta.len() == size && modified(&meta) == stamp;
    if same { Ok(()) } else { Err(changed(place)) }
}

fn changed(place: &Path) -> SendError {
    SendError::SourceChanged { path: place.to_owned() }
}
