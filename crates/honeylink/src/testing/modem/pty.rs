//! One pseudo-terminal under a name that stays: the modem's end here, the driver's behind a link.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::net::unix::pipe::{Receiver, Sender};

/// A plugged-in line. Dropping it hangs up and removes the name.
#[derive(Debug)]
pub(super) struct Pty {
    /// The modem's end, twice: tokio's pipes wait for any descriptor, and each of them for one direction.
    heard: Receiver,
    said: Sender,
    /// Kept open, or this end would see a hang-up whenever no driver has the other open.
    _driver: OwnedFd,
    link: PathBuf,
}

impl Pty {
    /// A new terminal whose other end is reached through `link`.
    pub(super) fn plugged(link: &Path) -> io::Result<Self> {
        let modem = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&modem)?;
        unlockpt(&modem)?;
        let name = ptsname(&modem, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let driver = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
        // Until a driver sets it up, the line must not echo or edit what the modem says.
        let mut settings = tcgetattr(&driver)?;
        settings.make_raw();
        tcsetattr(&driver, OptionalActions::Now, &settings)?;
        // Both descriptors are one open file, so this holds for both.
        rustix::io::ioctl_fionbio(&modem, true)?;
        let said = Sender::from_owned_fd_unchecked(modem.try_clone()?)?;
        let heard = Receiver::from_owned_fd_unchecked(modem)?;
        // A name that is replaced in one step is never half there.
        let unborn = link.with_extension("unborn");
        std::os::unix::fs::symlink(name.to_string_lossy().as_ref(), &unborn)?;
        std::fs::rename(&unborn, link)?;
        Ok(Self { heard, said, _driver: driver, link: link.to_owned() })
    }

    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.heard.readable().await?;
            match self.heard.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.said.writable().await?;
            match self.said.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.link);
    }
}
