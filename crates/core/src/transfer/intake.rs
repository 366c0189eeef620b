//! What a receiver may be sent next: the accounting that keeps a hostile sender to its own offer.
//!
//! The shell asks before it does anything with what arrived, and does what it is told: make a folder, write a file,
//! nothing. Every count is checked against the offer the user accepted, so that "three photos, 9 MB" cannot become a
//! full disk.

use std::collections::VecDeque;

use super::frame::{Body, Entry, Modified, Offer};
use super::names::{self, Refused};
use crate::limits::{TRANSFER_WHOLE_BYTES_MAX, TRANSFER_WINDOW_ENTRIES_MAX};

/// What a sender did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More entries, files or bytes than the offer said, or fewer at its end.
    #[error("the sender does not keep to its offer: {what}")]
    NotAsOffered {
        /// Which count is wrong.
        what: &'static str,
    },
    /// A path that must not be written.
    #[error("the sender named {path:?}: {why}")]
    Path {
        /// As it was sent.
        path: String,
        /// Why it is refused.
        why: Refused,
    },
    /// Listed twice or not in order; the order is what makes duplicates visible without remembering every name.
    #[error("the sender listed {path:?} out of order")]
    Order {
        /// As it was sent.
        path: String,
    },
    /// Listed further ahead than the window allows.
    #[error("the sender listed more than {TRANSFER_WINDOW_ENTRIES_MAX} entries ahead")]
    Window,
    /// Content, an end or a finish where none may be.
    #[error("the sender sent {what} where none was expected")]
    Unexpected {
        /// What arrived.
        what: &'static str,
    },
}

/// An entry as it will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its number in the listing.
    pub index: u64,
    /// Cleaned by [`names::clean`].
    pub path: String,
    /// As it was sent, if that was repaired.
    pub original: Option<String>,
    /// What it is.
    pub body: Body,
}

/// A file whose content is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileItem {
    /// Its number in the listing.
    pub index: u64,
    /// Where it goes, below the staging folder.
    pub path: String,
    /// As it was sent, if that was repaired.
    pub original: Option<String>,
    /// Bytes of the whole file.
    pub size: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// When it was last changed.
    pub modified: Modified,
}

impl FileItem {
    /// The path both sides put into the digest: as it was sent.
    #[must_use]
    pub fn listed_path(&self) -> &str {
        self.original.as_deref().unwrap_or(&self.path)
    }
}

/// The accounting of one transfer.
#[derive(Debug)]
pub struct Intake {
    offer: Offer,
    pending: VecDeque<Item>,
    last_path: String,
    listed: u64,
    files_listed: u64,
    bytes_listed: u64,
    /// Bytes the file in progress still needs; `None` between files.
    open: Option<u64>,
}

impl Intake {
    /// Starts with the offer that was accepted.
    #[must_use]
    pub const fn new(offer: Offer) -> Self {
        Self {
            offer,
            pending: VecDeque::new(),
            last_path: String::new(),
            listed: 0,
            files_listed: 0,
            bytes_listed: 0,
            open: None,
        }
    }

    /// A piece of the listing arrived. Returns what was added.
    ///
    /// # Errors
    /// [`Violation`] if it is not what the offer allows.
    pub fn list(
        &mut self,
        first: u64,
        entries: Vec<Entry>,
    ) -> Result<impl Iterator<Item = &Item>, Violation> {
        if first != self.listed {
            return Err(Violation::Unexpected { what: "a listing" });
        }
        let known = self.pending.len();
        for entry in entries {
            let item = self.admit(entry)?;
            if self.pending.len() >= TRANSFER_WINDOW_ENTRIES_MAX {
                return Err(Violation::Window);
            }
            self.pending.push_back(item);
        }
        Ok(self.pending.iter().skip(known))
    }

    fn admit(&mut self, entry: Entry) -> Result<Item, Violation> {
        let Entry { path, body } = entry;
        if self.listed > 0 && names::order(&self.last_path, &path).is_ge() {
            return Err(Violation::Order { path });
        }
        let clean = match names::clean(&path) {
            Ok(clean) => clean,
            Err(why) => return Err(Violation::Path { path, why }),
        };
        if self.listed >= self.offer.entries {
            return Err(Violation::NotAsOffered { what: "more entries" });
        }
        if let Body::File { size, .. } = body {
            self.files_listed += 1;
            self.bytes_listed = self.bytes_listed.saturating_add(size);
            if self.files_listed > self.offer.files {
                return Err(Violation::NotAsOffered { what: "more files" });
            }
            if self.bytes_listed > self.offer.bytes {
                return Err(Violation::NotAsOffered { what: "more bytes" });
            }
        }
        let index = self.listed;
        self.listed += 1;
        let original = clean.repaired.then(|| path.clone());
        self.last_path = path;
        Ok(Item { index, path: clean.path, original, body })
    }

    /// The next folder to make before the file `before`, or before the end if that is `None`. Call until it says `None`.
    pub fn next_folder(&mut self, before: Option<u64>) -> Option<String> {
        let next = self.pending.front()?;
        if next.body == Body::Folder && before.is_none_or(|index| next.index < index) {
            return self.pending.pop_front().map(|item| item.path);
        }
        None
    }

    /// Content of file `index` follows, from `offset` on.
    ///
    /// # Errors
    /// [`Violation`] if another file is open, a file would be skipped, or the offset lies outside the file.
    pub fn start(&mut self, index: u64, offset: u64) -> Result<FileItem, Violation> {
        let file = self.take_file(index)?;
        match file.size.checked_sub(offset) {
            Some(left) => self.open = Some(left),
            None => return Err(Violation::Unexpected { what: "an offset behind the end of a file" }),
        }
        Ok(file)
    }

    /// A small file arrived in one frame, with `len` bytes.
    ///
    /// # Errors
    /// As [`Intake::start`], and if the length is not the one that was listed.
    pub fn whole(&mut self, index: u64, len: usize) -> Result<FileItem, Violation> {
        let file = self.take_file(index)?;
        if file.size != len as u64 || len > TRANSFER_WHOLE_BYTES_MAX {
            return Err(Violation::NotAsOffered { what: "a file of another size" });
        }
        Ok(file)
    }

    fn take_file(&mut self, index: u64) -> Result<FileItem, Violation> {
        if self.open.is_some() {
            return Err(Violation::Unexpected { what: "a file inside another" });
        }
        match self.pending.pop_front() {
            Some(Item { index: next, path, original, body: Body::File { size, executable, modified } })
                if next == index =>
            {
                Ok(FileItem { index, path, original, size, executable, modified })
            }
            Some(_) | None => Err(Violation::Unexpected { what: "a file that is not the next one listed" }),
        }
    }

    /// `len` bytes of content arrived.
    ///
    /// # Errors
    /// [`Violation`] if no file is open or it has no room for them.
    pub fn data(&mut self, len: usize) -> Result<(), Violation> {
        let Some(left) = self.open else {
            return Err(Violation::Unexpected { what: "content" });
        };
        match left.checked_sub(len as u64) {
            Some(_) if len == 0 => Err(Violation::Unexpected { what: "an empty content frame" }),
            Some(left) => {
                self.open = Some(left);
                Ok(())
            }
            None => Err(Violation::NotAsOffered { what: "a file with more bytes than listed" }),
        }
    }

    /// The open file is complete.
    ///
    /// # Errors
    /// [`Violation`] if none is open or bytes are missing.
    pub fn end(&mut self) -> Result<(), Violation> {
        match self.open.take() {
            Some(0) => Ok(()),
            Some(_) => Err(Violation::NotAsOffered { what: "a file with fewer bytes than listed" }),
            None => Err(Violation::Unexpected { what: "the end of a file" }),
        }
    }

    /// The sender says that everything was sent; folders left over must have been taken with [`Intake::next_folder`].
    ///
    /// # Errors
    /// [`Violation`] if the offer is not fulfilled.
    pub fn finish(&self) -> Result<(), Violation> {
        let what = if self.open.is_some() || !self.pending.is_empty() {
            "files are missing"
        } else if self.listed != self.offer.entries || self.files_listed != self.offer.files {
            "fewer entries"
        } else if self.bytes_listed != self.offer.bytes {
            "fewer bytes"
        } else {
            return Ok(());
        };
        Err(Violation::NotAsOffered { what })
    }
}

#[cfg(test)]
#[path = "intake_tests.rs"]
mod tests;
