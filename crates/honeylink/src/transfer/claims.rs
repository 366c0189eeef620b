//! The receiver's second thread when it resumes: hashes what an earlier attempt left, and clears away what does not belong
//! to the transfer any more.
//!
//! It walks the staging folder beside the listing, in the same order, and so sees in passing what is listed and held
//! (claimed), listed and not held (nothing), held and not listed (removed: its source was deleted since). The intake
//! lets the sender start only files this thread has passed, so it never reads what is being written.

use std::cmp::Ordering as Order;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use honeylink_core::limits::{
    TRANSFER_FRAME_BYTES_MAX, TRANSFER_PARTIAL_CLAIMS_MAX, TRANSFER_WINDOW_ENTRIES_MAX,
};
use honeylink_core::transfer::frame::{Body, Claim, Hash, Message};
use honeylink_core::transfer::{names, plan};
use tokio::sync::mpsc;

use super::BLOCK_BYTES;
use super::disk;
use super::error::{DiskError, ReceiveError};
use super::source::{Found, Walk, What};
use super::wire::encoded;

/// What the claims thread has to look at: part of [`honeylink_core::transfer::intake::Item`].
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) index: u64,
    pub(super) path: String,
    pub(super) body: Body,
}

/// Bytes of a file that are there already.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) index: u64,
    pub(super) offset: u64,
    pub(super) state: HeldState,
}

#[derive(Debug)]
pub(super) enum HeldState {
    /// All of it; its hash.
    Complete(Hash),
    /// A part, hashed so far.
    Part(Box<blake3::Hasher>),
}

/// Claims frames hold at most this many; 48 is the longest claim.
const CLAIMS_PER_FRAME: usize = TRANSFER_FRAME_BYTES_MAX / 48 - 1;
/// A claim over this many bytes took long enough to make that the sender should hear of it at once.
const TELL_AT_ONCE_BYTES: u64 = 1 << 20;

/// Ends of the channels to the async side.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) listed: mpsc::Receiver<Listed>,
    pub(super) held: mpsc::Sender<Held>,
    pub(super) frames: mpsc::Sender<BytesMut>,
    /// Entries below this number have been looked at and told.
    pub(super) upto: Arc<AtomicU64>,
    /// Entries of the whole listing.
    pub(super) entries: u64,
    /// Carries the staging folder's lock until this thread has let go of what is in it.
    #[expect(dead_code, reason = "held, not used")]
    pub(super) lock: Arc<OwnedFd>,
}

#[derive(Debug)]
pub(super) struct Claimer {
    staging: PathBuf,
    walk: Walk,
    here: Option<Found>,
    buffer: Vec<u8>,
    claims: Vec<Claim>,
    partial: usize,
    ends: Ends,
}

impl Claimer {
    /// Runs until the listing ends or the async side is gone. Only a listing that was complete says what does not belong
    /// to the transfer: after a break in its middle, what it did not come to stays for the next attempt.
    pub(super) fn run(staging: &Path, ends: Ends) -> Result<(), ReceiveError> {
        let walk = Walk::inside(staging)?;
        let mut claimer = Self {
            staging: staging.to_owned(),
            walk,
            here: None,
            buffer: vec![0; BLOCK_BYTES],
            claims: Vec::new(),
            partial: 0,
            ends,
        };
        claimer.advance()?;
        let mut seen = 0;
        while let Some(listed) = claimer.ends.listed.blocking_recv() {
            seen = listed.index + 1;
            let large = claimer.look_at(&listed)?;
            let pause = claimer.ends.listed.is_empty();
            if (large || pause || claimer.claims.len() >= CLAIMS_PER_FRAME) && !claimer.tell(listed.index + 1)
            {
                return Ok(());
            }
        }
        if seen == claimer.ends.entries { claimer.remove_rest() } else { Ok(()) }
    }

    /// Says what is held below `upto`; false if nobody listens any more.
    fn tell(&mut self, upto: u64) -> bool {
        let claims = std::mem::take(&mut self.claims);
        self.ends.upto.store(upto, Ordering::Release);
        self.ends.frames.blocking_send(encoded(&Message::Have { upto, claims })).is_ok()
    }

    /// Returns whether it took long.
    fn look_at(&mut self, listed: &Listed) -> Result<bool, ReceiveError> {
        while let Some(here) = &self.here {
            match names::order(&here.path, &listed.path) {
                Order::Less if is_above(&here.path, &listed.path) => self.advance()?,
                Order::Less => self.remove()?,
                Order::Equal => return self.compare(listed),
                Order::Greater => break,
            }
        }
        Ok(false)
    }

    fn compare(&mut self, listed: &Listed) -> Result<bool, ReceiveError> {
        let held = match (&listed.body, self.here.as_ref().map(|found| &found.what)) {
            (Body::Folder, Some(What::Folder)) => {
                self.advance()?;
                return Ok(false);
            }
            (Body::File { size, .. }, Some(What::File(meta))) => {
                plan::worth_claiming(*size, meta.len()).map(|offset| (offset, *size))
            }
            _ => {
                self.remove()?;
                return Ok(false);
            }
        };
        let mut large = false;
        if let Some((offset, size)) = held {
            large = offset > TELL_AT_ONCE_BYTES;
            if offset == size || self.partial < TRANSFER_PARTIAL_CLAIMS_MAX {
                self.claim(listed.index, offset, size)?;
            }
        }
        self.advance()?;
        Ok(large)
    }

    fn claim(&mut self, index: u64, offset: u64, size: u64) -> Result<(), ReceiveError> {
        let Some(found) = &self.here else { return Ok(()) };
        let failed = |e| DiskError::new("read", &found.place, e);
        let mut file = disk::open_source(&found.place).map_err(failed)?;
        // Shorter than a moment ago: somebody else is at work in our folder, and it will be written anew.
        let gone = || self.ends.held.is_closed();
        let Some(hasher) = hash_prefix(&mut file, offset, &mut self.buffer, gone).map_err(failed)? else {
            return Ok(());
        };
        let prefix = *hasher.finalize().as_bytes();
        let state = if offset == size {
            HeldState::Complete(prefix)
        } else {
            self.partial += 1;
            HeldState::Part(Box::new(hasher))
        };
        // Before the claim is told: the intake must know of it when the sender answers.
        if self.ends.held.blocking_send(Held { index, offset, state }).is_ok() {
            self.claims.push(Claim { index, offset, prefix });
        }
        Ok(())
    }

    /// Removes what was found and steps over it.
    fn remove(&mut self) -> Result<(), ReceiveError> {
        let Some(found) = self.here.take() else { return Ok(()) };
        let removed = if matches!(found.what, What::Folder) {
            self.walk.skip_content();
            std::fs::remove_dir_all(&found.place)
        } else {
            std::fs::remove_file(&found.place)
        };
        removed.map_err(|e| DiskError::new("remove", &found.place, e))?;
        self.advance()
    }

    fn remove_rest(&mut self) -> Result<(), ReceiveError> {
        while self.here.is_some() {
            self.remove()?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), ReceiveError> {
        self.here = match self.walk.next() {
            None => None,
            Some(Ok(found)) => Some(found),
            Some(Err(super::error::SendError::Source(error))) => return Err(error.into()),
            Some(Err(_)) => {
                let depth = std::io::Error::from(std::io::ErrorKind::InvalidFilename);
                return Err(DiskError::new("walk", &self.staging, depth).into());
            }
        };
        Ok(())
    }
}

/// Whether `folder` is one of the folders `path` lies in.
fn is_above(folder: &str, path: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Hashes the first `len` bytes; `None` if there are fewer or nobody wants to know any more.
fn hash_prefix(
    file: &mut File,
    len: u64,
    buffer: &mut [u8],
    gone: impl Fn() -> bool,
) -> std::io::Result<Option<blake3::Hasher>> {
    let mut hasher = blake3::Hasher::new();
    let mut left = len;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
        let got = file.read(&mut buffer[..piece])?;
        if got == 0 || gone() {
            return Ok(None);
        }
        hasher.update(&buffer[..got]);
        left -= got as u64;
    }
    Ok(Some(hasher))
}

/// Listed entries and held files waiting at the same time: never more than the window.
pub(super) const QUEUE_MAX: usize = TRANSFER_WINDOW_ENTRIES_MAX;
