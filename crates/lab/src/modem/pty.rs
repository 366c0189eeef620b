//! One pseudo-terminal under a name that stays: the modem's end here, the driver's behind a link.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;

/// A plugged-in line. Dropping it hangs up and removes the name.
#[derive(Debug)]
pub(super) struct Pty {
    modem: AsyncFd<OwnedFd>,
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
        rustix::io::ioctl_fionbio(&modem, true)?;
        // A name that is replaced in one step is never half there.
        let unborn = link.with_extension("unborn");
        std::os::unix::fs::symlink(name.to_string_lossy().as_ref(), &unborn)?;
        std::fs::rename(&unborn, link)?;
        // SAFETY: an `OwnedFd` owns its descriptor and always names the same one until it is dropped.
        let modem = unsafe { AsyncFd::register(modem) }?;
        Ok(Self { modem, _driver: driver, link: link.to_owned() })
    }

    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.modem.readable().await?;
            match ready.try_io(|modem| Ok(rustix::io::read(modem, &mut *buffer)?)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    pub(super) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.modem.writable().await?;
            match ready.try_io(|modem| Ok(rustix::io::write(modem, bytes)?)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.link);
    }
}
