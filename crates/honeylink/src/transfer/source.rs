//! What is sent: files and folders of this machine, walked in the order the protocol wants.
//!
//! The tree is walked twice, once for the totals of the offer and once to send it, instead of being held in memory: only
//! the names of the folders on the way to the current file are. Symbolic links inside a folder are not followed, because
//! following them is how a folder sends what lies outside it; a source that is itself named through a link is.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use honeylink_core::limits::{
    TRANSFER_DEPTH_MAX, TRANSFER_ENTRIES_MAX, TRANSFER_NOTES_MAX, TRANSFER_PATH_BYTES_MAX,
};
use honeylink_core::transfer::frame::{Body, Entry, Modified, TransferId};
use honeylink_core::transfer::names;

use super::error::{DiskError, SendError};

/// Something about an entry that its sender should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A symbolic link, which is not followed.
    SkippedLink(PathBuf),
    /// A socket, pipe or device.
    SkippedSpecial(PathBuf),
    /// Sent under another name, because its own is not acceptable on every system.
    Renamed {
        /// Its path here.
        path: PathBuf,
        /// Its name there.
        name: String,
    },
}

/// The first notes, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) first: Vec<Note>,
    pub(super) count: u64,
}

impl Notes {
    fn add(&mut self, note: Note) {
        self.count += 1;
        if self.first.len() < TRANSFER_NOTES_MAX {
            self.first.push(note);
        }
    }
}

/// Files and folders to send, each under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    roots: Vec<Root>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Root {
    name: String,
    path: PathBuf,
}

impl Sources {
    /// Looks the paths up. Two that end in the same name are numbered (`photos`, `photos (2)`).
    ///
    /// # Errors
    /// [`SendError`] if there is none, or one does not exist or has no name (`/`).
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, SendError> {
        let mut taken = BTreeSet::new();
        let mut roots = Vec::new();
        for path in paths {
            let given = path.as_ref();
            let path = given.canonicalize().map_err(|e| DiskError::new("find", given, e))?;
            // `some/link` keeps the name it was called by; `.` and `..` take that of the folder they mean.
            let Some(name) = given.file_name().or_else(|| path.file_name()) else {
                return Err(SendError::Unsendable { path, why: "it has no name; name a folder in it" });
            };
            roots.push(Root { name: unique(&mut taken, &name.to_string_lossy()), path });
        }
        if roots.is_empty() {
            return Err(SendError::Unsendable { path: PathBuf::new(), why: "nothing was named" });
        }
        roots.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { roots })
    }

    /// The name a person is shown: that of the only source, or the first and a count.
    #[must_use]
    pub fn name(&self) -> String {
        match self.roots.as_slice() {
            [] => String::new(),
            [only] => only.name.clone(),
            [first, rest @ ..] => format!("{} and {} more", first.name, rest.len()),
        }
    }

    /// An id that the same sources sent to the same peer have in each attempt, so that a later one can continue.
    /// `scope` tells pairs of devices apart: the sender's and the receiver's ids, for example.
    #[must_use]
    pub fn id(&self, scope: &[u8]) -> TransferId {
        let mut hasher = blake3::Hasher::new_derive_key("honeylink transfer id v1");
        hasher.update(&(scope.len() as u64).to_be_bytes());
        hasher.update(scope);
        for root in &self.roots {
            let path = root.path.as_os_str().as_encoded_bytes();
            hasher.update(&(path.len() as u64).to_be_bytes());
            hasher.update(path);
        }
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        id
    }

    /// Counts everything. Blocks.
    pub(super) fn scan(&self) -> Result<Totals, SendError> {
        let mut totals = Totals::default();
        let mut walk = Walk::of_sources(self);
        while let Some(found) = walk.next() {
            match found?.what {
                What::Folder => totals.entries += 1,
                What::File(meta) => {
                    totals.entries += 1;
                    totals.files += 1;
                    totals.bytes += meta.len();
                }
                What::Link | What::Special => {}
            }
            if totals.entries > TRANSFER_ENTRIES_MAX as u64 {
                let path = self.roots.first().map(|root| root.path.clone()).unwrap_or_default();
                return Err(SendError::Unsendable { path, why: "more than a million entries" });
            }
        }
        totals.notes = walk.notes;
        Ok(totals)
    }
}

/// What an offer says, and what a report adds.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) notes: Notes,
}

/// What a walk came across.
#[derive(Debug)]
pub(super) struct Found {
    /// As the protocol names it.
    pub(super) path: String,
    /// Where it lies.
    pub(super) place: PathBuf,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Folder,
    File(Metadata),
    Link,
    Special,
}

impl Found {
    /// The entry to list, or nothing for what is not sent.
    pub(super) fn entry(&self) -> Option<Entry> {
        let body = match &self.what {
            What::Folder => Body::Folder,
            What::File(meta) => Body::File {
                size: meta.len(),
                executable: meta.mode() & 0o100 != 0,
                modified: modified(meta),
            },
            What::Link | What::Special => return None,
        };
        Some(Entry { path: self.path.clone(), body })
    }
}

pub(super) fn modified(meta: &Metadata) -> Modified {
    Modified { seconds: meta.mtime(), nanos: u32::try_from(meta.mtime_nsec()).unwrap_or(0) }
}

/// A depth-first walk in listing order.
#[derive(Debug)]
pub(super) struct Walk {
    levels: Vec<Level>,
    pub(super) notes: Notes,
}

#[derive(Debug)]
struct Level {
    /// Path of the folder on the wire, with a `/` behind it unless it is the top.
    prefix: String,
    folder: PathBuf,
    /// Names still to come, the next one last.
    names: Vec<(String, OsString)>,
}

impl Walk {
    fn of_sources(sources: &Sources) -> Self {
        // A source may lie anywhere: joining its absolute path to an empty folder gives just that.
        let names = sources.roots.iter().rev();
        let names = names.map(|root| (root.name.clone(), root.path.clone().into_os_string())).collect();
        let level = Level { prefix: String::new(), folder: PathBuf::new(), names };
        Self { levels: vec![level], notes: Notes::default() }
    }

    /// Walks what is inside `folder`.
    pub(super) fn inside(folder: &Path) -> Result<Self, DiskError> {
        let mut walk = Self { levels: Vec::new(), notes: Notes::default() };
        walk.descend(String::new(), folder.to_owned())?;
        Ok(walk)
    }

    pub(super) fn sources_again(sources: &Sources) -> Self {
        Self::of_sources(sources)
    }

    fn descend(&mut self, prefix: String, folder: PathBuf) -> Result<(), DiskError> {
        let names = sorted_names(&folder, &mut self.notes).map_err(|e| DiskError::new("list", &folder, e))?;
        self.levels.push(Level { prefix, folder, names });
        Ok(())
    }

    /// The next entry. A folder's content follows it, unless [`Walk::skip_content`] is called in between.
    pub(super) fn next(&mut self) -> Option<Result<Found, SendError>> {
        loop {
            let level = self.levels.last_mut()?;
            let Some((name, real)) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            let place = level.folder.join(real);
            let path = format!("{}{name}", level.prefix);
            return Some(self.look_at(path, place));
        }
    }

    fn look_at(&mut self, path: String, place: PathBuf) -> Result<Found, SendError> {
        let meta = place.symlink_metadata().map_err(|e| DiskError::new("read", &place, e))?;
        let kind = meta.file_type();
        let what = if kind.is_dir() {
            What::Folder
        } else if kind.is_file() {
            What::File(meta)
        } else if kind.is_symlink() {
            self.notes.add(Note::SkippedLink(place.clone()));
            What::Link
        } else {
            self.notes.add(Note::SkippedSpecial(place.clone()));
            What::Special
        };
        if path.len() > TRANSFER_PATH_BYTES_MAX || self.levels.len() > TRANSFER_DEPTH_MAX {
            return Err(SendError::Unsendable { path: place, why: "its path is too long or too deep" });
        }
        if matches!(what, What::Folder) {
            self.descend(format!("{path}/"), place.clone())?;
        }
        Ok(Found { path, place, what })
    }

    /// Leaves out what is inside the folder that was just found.
    pub(super) fn skip_content(&mut self) {
        self.levels.pop();
    }
}

/// The names in a folder, repaired, told apart and sorted by what they will be on the wire; last comes first.
fn sorted_names(folder: &Path, notes: &mut Notes) -> io::Result<Vec<(String, OsString)>> {
    let mut found =
        std::fs::read_dir(folder)?.map(|e| e.map(|e| e.file_name())).collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    // Acceptable names keep themselves; only then are repaired ones fitted in between.
    let (fine, odd): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|name| name.to_str().is_some_and(|text| names::repair(text) == text));
    let mut names: Vec<(String, OsString)> =
        fine.into_iter().map(|name| (name.to_string_lossy().into_owned(), name)).collect();
    if !odd.is_empty() {
        let mut taken = names.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>();
        for real in odd {
            let name = unique(&mut taken, &real.to_string_lossy());
            notes.add(Note::Renamed { path: folder.join(&real), name: name.clone() });
            names.push((name, real));
        }
    }
    names.sort_unstable_by(|a, b| b.0.cmp(&a.0));
    Ok(names)
}

/// Repairs a name and numbers it until nobody else has it.
fn unique(taken: &mut BTreeSet<String>, name: &str) -> String {
    let repaired = names::repair(name);
    let mut candidate = repaired.clone();
    let mut n = 2;
    while !taken.insert(candidate.clone()) {
        candidate = names::numbered(&repaired, n);
        n += 1;
    }
    candidate
}
