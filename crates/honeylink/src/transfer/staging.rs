//! The folder everything is received into, and the move to the final names.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use honeylink_core::limits::{TRANSFER_NAME_BYTES_MAX, TRANSFER_NOTES_MAX, TRANSFER_RENAMES_MAX};
use honeylink_core::transfer::frame::Offer;
use honeylink_core::transfer::names;
use rustix::fs::{AtFlags, FlockOperation, Mode};
use rustix::io::Errno;

use super::disk;
use super::error::{DiskError, ReceiveError};
use super::receive::Durability;
use super::same;

/// How long the threads of an attempt that was just dropped may take to let go of the folder: they write what they were
/// given first, on a disk that may be busy.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// How often the folder may be removed under our hands before we give up.
const OPEN_TRIES: usize = 3;

#[derive(Debug)]
pub(super) struct Staging {
    pub(super) path: PathBuf,
    /// Locked while we are at work.
    pub(super) folder: Arc<OwnedFd>,
    pub(super) resumed: bool,
    /// Whether what is received may be in its place already.
    pub(super) again: bool,
    name: String,
    into: PathBuf,
    into_folder: OwnedFd,
}

impl Staging {
    /// Finds or makes the staging folder in `into`. `scope` tells peers apart, so that one peer's offer never continues (and
    /// thereby learns hashes of) what another one sent. Blocks, up to `patience` if the folder is in use.
    pub(super) fn open(
        into: &Path,
        offer: &Offer,
        scope: &[u8],
        patience: Duration,
    ) -> Result<Self, ReceiveError> {
        std::fs::create_dir_all(into).map_err(|e| DiskError::new("create folder", into, e))?;
        let into_folder = disk::open_folder(into).map_err(|e| DiskError::new("open folder", into, e))?;
        let name = staging_name(&offer.id, &offer.name, scope);
        // While we waited for the lock, the former attempt may have moved everything into place and removed the folder.
        for _ in 0..OPEN_TRIES {
            let staging = Self::open_once(into, &into_folder, &name, patience)?;
            if let Some((path, folder, resumed)) = staging {
                return Ok(Self {
                    path,
                    folder: Arc::new(folder),
                    resumed,
                    again: false,
                    name,
                    into: into.to_owned(),
                    into_folder,
                });
            }
        }
        Err(ReceiveError::Busy { path: into.join(name) })
    }

    /// Path and descriptor of the locked folder, and whether it was there before; nothing if it was removed meanwhile.
    fn open_once(
        into: &Path,
        into_folder: &OwnedFd,
        name: &str,
        patience: Duration,
    ) -> Result<Option<(PathBuf, OwnedFd, bool)>, ReceiveError> {
        let path = into.join(name);
        let resumed = match rustix::fs::mkdirat(into_folder, name, Mode::RWXU) {
            Ok(()) => false,
            Err(Errno::EXIST) => true,
            Err(error) => return Err(DiskError::new("create folder", &path, error).into()),
        };
        let folder = disk::open_folder_at(into_folder.as_fd(), name)
            .map_err(|e| DiskError::new("open folder", &path, e))?;
        let ours = rustix::fs::fstat(&folder).map_err(|e| DiskError::new("inspect", &path, e))?;
        if ours.st_uid != rustix::process::geteuid().as_raw() {
            // Somebody prepared it for us; what is in it is theirs.
            return Err(DiskError::new("use", &path, io::Error::from(io::ErrorKind::PermissionDenied)).into());
        }
        lock(&folder, &path, patience)?;
        let named = rustix::fs::statat(into_folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let same = named.is_ok_and(|named| (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino));
        Ok(same.then_some((path, folder, resumed)))
    }

    /// Refuses what cannot fit, before anything is sent. Sparse and compressing file systems may be refused wrongly only if
    /// they are nearly full.
    pub(super) fn check_space(&self, offer: &Offer) -> Result<(), ReceiveError> {
        let stat =
            rustix::fs::fstatvfs(&*self.folder).map_err(|e| DiskError::new("inspect", &self.path, e))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= offer.bytes {
            return Ok(());
        }
        let needed = offer.bytes.saturating_sub(if self.resumed { self.held_bytes() } else { 0 });
        if free >= needed {
            return Ok(());
        }
        Err(ReceiveError::NoSpace { path: self.into.clone(), needed, free })
    }

    fn held_bytes(&self) -> u64 {
        let mut held = 0;
        let Ok(mut walk) = super::source::Walk::inside(&self.path) else { return 0 };
        while let Some(Ok(found)) = walk.next() {
            if let super::source::What::File(meta) = found.what {
                held += meta.len();
            }
        }
        held
    }

    /// Moves everything to its final name; a taken name is numbered, unless the very same lies there and may be an earlier
    /// attempt's. Returns the first names, and how many there are.
    pub(super) fn place(self, durability: Durability) -> Result<(Vec<PathBuf>, u64), DiskError> {
        let listed = std::fs::read_dir(&self.path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let listed = listed.map_err(|e| DiskError::new("list", &self.path, e))?;
        let mut tops: Vec<OsString> = listed.into_iter().map(|entry| entry.file_name()).collect();
        tops.sort_unstable();
        let count = tops.len() as u64;
        let mut placed = Vec::new();
        for top in tops {
            let target = self.place_one(&top.to_string_lossy())?;
            if placed.len() < TRANSFER_NOTES_MAX {
                placed.push(self.into.join(target));
            }
        }
        rustix::fs::unlinkat(&self.into_folder, &self.name, AtFlags::REMOVEDIR)
            .map_err(|e| DiskError::new("remove", &self.path, e))?;
        if durability == Durability::Sync {
            rustix::fs::fsync(&self.into_folder).map_err(|e| DiskError::new("sync", &self.into, e))?;
        }
        Ok((placed, count))
    }

    fn place_one(&self, name: &str) -> Result<String, DiskError> {
        let mut target = name.to_owned();
        for n in 2..TRANSFER_RENAMES_MAX {
            match disk::rename_new(self.folder.as_fd(), name, self.into_folder.as_fd(), &target) {
                Ok(()) => return Ok(target),
                Err(Errno::EXIST | Errno::NOTEMPTY) if self.again && self.is_there(name, &target) => {
                    self.drop_one(name)?;
                    return Ok(target);
                }
                Err(Errno::EXIST | Errno::NOTEMPTY) => target = names::numbered(name, n),
                Err(error) => return Err(DiskError::new("move into place", self.into.join(target), error)),
            }
        }
        Err(DiskError::new("find a free name for", self.into.join(name), Errno::EXIST))
    }

    /// Whether what was received lies under a name already. What cannot be read is not the same.
    fn is_there(&self, name: &str, target: &str) -> bool {
        same::lies_in(&self.path.join(name), &self.into.join(target)).unwrap_or(false)
    }

    fn drop_one(&self, name: &str) -> Result<(), DiskError> {
        let path = self.path.join(name);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(|e| DiskError::new("remove", path, e))
    }

    /// Removes everything that was received.
    pub(super) fn discard(self) -> Result<(), DiskError> {
        std::fs::remove_dir_all(&self.path).map_err(|e| DiskError::new("remove", &self.path, e))
    }

    /// Removes the folder if it holds nothing, as after a refusal.
    pub(super) fn discard_if_empty(&self) {
        let _ = rustix::fs::unlinkat(&self.into_folder, &self.name, AtFlags::REMOVEDIR);
    }
}

/// Removes what an interrupted transfer left in `into`, if anything. It must not be moving: the caller has looked.
pub(crate) fn discard_part(into: &Path, id: &[u8; 16], name: &str, scope: &[u8]) -> Result<(), DiskError> {
    let path = into.join(staging_name(id, name, scope));
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::new("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn lock(folder: &OwnedFd, path: &Path, patience: Duration) -> Result<(), ReceiveError> {
    let started = std::time::Instant::now();
    loop {
        match rustix::fs::flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if started.elapsed() < patience => std::thread::sleep(LOCK_RETRY),
            Err(Errno::WOULDBLOCK) => return Err(ReceiveError::Busy { path: path.to_owned() }),
            // Network file systems without locks: the transfer works, only two at once are not told apart.
            Err(Errno::NOSYS | Errno::NOTSUP | Errno::NOLCK) => return Ok(()),
            Err(error) => return Err(DiskError::new("lock", path, error).into()),
        }
    }
}

/// `NAME.<16 hex digits>.part`. Short enough to read past, long enough that a peer cannot search for an id whose folder is
/// that of another peer's transfer.
fn staging_name(id: &[u8; 16], name: &str, scope: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("honeylink transfer staging v1");
    hasher.update(id);
    hasher.update(scope);
    let hash = hasher.finalize();
    let suffix = format!(".{}.part", data_encoding::HEXLOWER.encode(&hash.as_bytes()[..8]));
    let name = names::repair(name);
    let stem = &name[..name.floor_char_boundary(TRANSFER_NAME_BYTES_MAX - suffix.len())];
    format!("{stem}{suffix}")
}
