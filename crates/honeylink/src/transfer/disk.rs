//! Files below a staging folder, reached without ever following a symbolic link.
//!
//! Every path is walked from the folder's descriptor part by part with `O_NOFOLLOW`, so a link that somebody plants inside
//! cannot redirect a write. The last parent stays open, because files of one folder come one after another.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use honeylink_core::transfer::frame::Modified;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a folder that is trusted by its path: the destination a person named.
pub(super) fn open_folder(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens the folder `name` directly inside `parent`.
pub(super) fn open_folder_at(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(parent, name, FOLDER, Mode::empty())
}

/// Opens a regular file to read, without following a link and without hanging on a FIFO.
pub(super) fn open_source(path: &std::path::Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Reaches files below one folder.
#[derive(Debug)]
pub(super) struct Beneath {
    root: Arc<OwnedFd>,
    /// Whether files of an earlier attempt may be in the way, to be overwritten.
    reuse: bool,
    last: Option<(String, OwnedFd)>,
}

impl Beneath {
    pub(super) const fn new(root: Arc<OwnedFd>, reuse: bool) -> Self {
        Self { root, reuse, last: None }
    }

    /// Makes the folder at `path` and those above it.
    pub(super) fn make_folder(&mut self, path: &str) -> io::Result<()> {
        self.folder(path).map(drop)
    }

    /// Creates an empty file to write.
    pub(super) fn create(&mut self, path: &str, executable: bool) -> io::Result<File> {
        let mode = if executable { 0o777 } else { 0o666 };
        let fate = if self.reuse { OFlags::TRUNC | OFlags::NONBLOCK } else { OFlags::EXCL };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | fate;
        let reuse = self.reuse;
        let (parent, name) = self.parent(path)?;
        let file = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode))?);
        if reuse {
            // One that was in the way keeps the mode it had.
            set_executable(&file, executable);
        }
        Ok(file)
    }

    /// Opens a file of an earlier attempt to read and write.
    pub(super) fn open_held(&mut self, path: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let (parent, name) = self.parent(path)?;
        Ok(File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?))
    }

    fn parent<'a>(&mut self, path: &'a str) -> io::Result<(BorrowedFd<'_>, &'a str)> {
        match path.rsplit_once('/') {
            Some((folder, name)) => Ok((self.folder(folder)?, name)),
            None => Ok((self.root.as_fd(), path)),
        }
    }

    fn folder(&mut self, path: &str) -> io::Result<BorrowedFd<'_>> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let mut at: Option<OwnedFd> = None;
            for part in path.split('/') {
                let parent = at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
                at = Some(enter(parent, part)?);
            }
            self.last = at.map(|fd| (path.to_owned(), fd));
        }
        Ok(self.last.as_ref().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }
}

/// Opens a folder and makes it first if it is not there. Another thread may make it at the same moment.
fn enter(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match open_folder_at(parent, name) {
        Err(Errno::NOENT) => {}
        other => return Ok(other?),
    }
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) | Err(Errno::EXIST) => Ok(open_folder_at(parent, name)?),
        Err(error) => Err(error.into()),
    }
}

/// Gives a received file the modification time it had.
pub(super) fn set_modified(file: &File, modified: Modified) -> io::Result<()> {
    let time = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanos.into() };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?)
}

/// Gives a kept file the executable bits it should have, for those who may read it. A file system that has no such bits is
/// no reason to refuse the bytes.
pub(super) fn set_executable(file: &File, executable: bool) {
    let Ok(stat) = rustix::fs::fstat(file) else { return };
    let mode = stat.st_mode & 0o777;
    let wanted = if executable { mode | ((mode & 0o444) >> 2) } else { mode & !0o111 };
    if wanted != mode
        && let Err(error) = rustix::fs::fchmod(file, Mode::from_raw_mode(wanted))
    {
        tracing::debug!(%error, "the mode of a file could not be set");
    }
}

/// Renames without replacing what is there: `EXIST` if the target name is taken.
pub(super) fn rename_new(
    from: BorrowedFd<'_>,
    name: &str,
    to: BorrowedFd<'_>,
    target: &str,
) -> Result<(), Errno> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match rustix::fs::renameat_with(from, name, to, target, rustix::fs::RenameFlags::NOREPLACE) {
        // Some file systems (older network ones) do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        other => return other,
    }
    match rustix::fs::statat(to, target, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, target),
        Ok(_) => Err(Errno::EXIST),
        Err(error) => Err(error),
    }
}
