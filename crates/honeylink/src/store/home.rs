//! The folder that holds everything of one device, and the lock that lets only one node use it at a time.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Where things are inside a home. Looking needs no lock; only [`Home`] may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeLayout {
    dir: PathBuf,
}

impl HomeLayout {
    /// The layout of the home in `dir`, which need not exist.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The layout of the home in the platform's data folder: `$XDG_DATA_HOME/honeylink` or `~/.local/share/honeylink`,
    /// on macOS `~/Library/Application Support/honeylink`, on Windows `%LOCALAPPDATA%\honeylink`.
    ///
    /// # Errors
    /// [`NoDataFolder`] if the environment names none.
    pub fn of_this_user() -> Result<Self, NoDataFolder> {
        data_folder(|name| std::env::var_os(name)).map(|dir| Self::new(dir.join("honeylink")))
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The identity key.
    #[must_use]
    pub fn identity_key(&self) -> PathBuf {
        self.dir.join("identity.key")
    }

    /// The state database.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state.redb")
    }

    /// The folder of the audit log.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.dir.join("audit")
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// The folder of this device's own policies.
    #[must_use]
    pub fn policies(&self) -> PathBuf {
        self.dir.join("policies")
    }

    /// The socket of the local API.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// The folder of the daemon's logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The folder received files go to unless the user names another.
    #[must_use]
    pub fn inbox(&self) -> PathBuf {
        self.dir.join("inbox")
    }

    /// What remembers the airtime of the radio behind this serial port.
    #[must_use]
    pub fn radio_ledger(&self, serial_port: &Path) -> PathBuf {
        // The last part of the path is for people; the whole decides.
        let text = serial_port.to_string_lossy();
        let [a, b, c, d, ..] = *blake3::hash(text.as_bytes()).as_bytes();
        let last = serial_port.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let safe: String = last.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
        self.dir.join(format!("radio-{safe}-{}.ledger", data_encoding::HEXLOWER.encode(&[a, b, c, d])))
    }

    fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Whether a process holds this home now. One that cannot be asked counts as free.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        let lock = File::open(self.lock());
        lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

/// The environment does not say where this user's data lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("can not tell where to keep this device's data: HOME is not set; use --home DIR")]
pub struct NoDataFolder;

fn data_folder(env: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, NoDataFolder> {
    // The XDG specification says that a relative path there is to be ignored.
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if cfg!(windows) {
        return absolute("LOCALAPPDATA").ok_or(NoDataFolder);
    }
    if cfg!(target_os = "macos") {
        return absolute("HOME").map(|home| home.join("Library/Application Support")).ok_or(NoDataFolder);
    }
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .ok_or(NoDataFolder)
}

/// Why a home could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenHomeError {
    /// Another node runs on it.
    #[error(
        "another HoneyLink{} is using {}; stop it (`honeylink down`) or use another --home",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), dir.display()
    )]
    InUse {
        /// The home.
        dir: PathBuf,
        /// The process that has it, unless it had not said so yet.
        pid: Option<u32>,
    },
    /// Other users could put their own key there.
    #[error("{dir} can be written by other users of this machine; run `chmod go-w '{dir}'`", dir = dir.display())]
    Exposed {
        /// The home.
        dir: PathBuf,
    },
    /// The folder belongs to another user.
    #[error(
        "{} belongs to another user (uid {owner}); use another --home, or run HoneyLink as that user", dir.display()
    )]
    Foreign {
        /// The home.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The operating system refused.
    #[error("can not use {} as HoneyLink's folder: {source}", path.display())]
    Io {
        /// What it was about.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// A home this process has locked. Dropping it unlocks; so does any death of the process.
#[derive(Debug)]
pub struct Home {
    layout: HomeLayout,
    /// Holds the lock for as long as it is open.
    _lock: File,
}

impl Home {
    /// Makes the folder if need be (0700, like the folders in it) and locks it.
    ///
    /// # Errors
    /// [`OpenHomeError`] says what is in the way.
    pub fn open(layout: HomeLayout) -> Result<Self, OpenHomeError> {
        for dir in [layout.dir().to_owned(), layout.audit(), layout.logs(), layout.inbox()] {
            private_dir(&dir).map_err(|source| OpenHomeError::Io { path: dir.clone(), source })?;
            check_dir(&dir)?;
        }
        let lock = lock(&layout)?;
        Ok(Self { layout, _lock: lock })
    }

    /// Where things are.
    #[must_use]
    pub const fn layout(&self) -> &HomeLayout {
        &self.layout
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(unix)]
fn check_dir(dir: &Path) -> Result<(), OpenHomeError> {
    use std::os::unix::fs::MetadataExt as _;
    let found =
        std::fs::metadata(dir).map_err(|source| OpenHomeError::Io { path: dir.to_owned(), source })?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(OpenHomeError::Foreign { dir: dir.to_owned(), owner: found.uid() });
    }
    if found.mode() & 0o022 != 0 {
        return Err(OpenHomeError::Exposed { dir: dir.to_owned() });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_dir(_dir: &Path) -> Result<(), OpenHomeError> {
    Ok(())
}

/// Takes the lock and writes our process id into it for whoever comes second. The lock is the kernel's, on the open
/// file: a stale file left by a killed process locks nothing.
fn lock(layout: &HomeLayout) -> Result<File, OpenHomeError> {
    let path = layout.lock();
    let failed = |source| OpenHomeError::Io { path: path.clone(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.take(16).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenHomeError::InUse { dir: layout.dir().to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_node_on_a_home_is_told_which_process_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = HomeLayout::new(dir.path().join("a/b"));
        let first = Home::open(layout.clone()).unwrap();
        let error = Home::open(layout.clone()).unwrap_err();
        assert!(
            matches!(error, OpenHomeError::InUse { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        assert!(layout.is_in_use());
        drop(first);
        assert!(!layout.is_in_use());
        Home::open(layout).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_home_is_private_and_a_folder_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let layout = HomeLayout::new(dir.path().join("home"));
        drop(Home::open(layout.clone()).unwrap());
        for made in [layout.dir().to_owned(), layout.inbox(), layout.audit()] {
            assert_eq!(std::fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
        std::fs::set_permissions(layout.dir(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = Home::open(layout).unwrap_err();
        assert!(error.to_string().contains("chmod go-w"), "{error}");
    }

    #[cfg(all(unix, not(target_os = "macos")))]
    #[test]
    fn the_data_folder_follows_the_xdg_rules() {
        let env = |xdg: Option<&str>, home: Option<&str>| {
            let (xdg, home) = (xdg.map(OsString::from), home.map(OsString::from));
            data_folder(move |name| if name == "HOME" { home.clone() } else { xdg.clone() })
        };
        assert_eq!(env(Some("/x"), Some("/h")), Ok(PathBuf::from("/x")));
        assert_eq!(env(Some("relative"), Some("/h")), Ok(PathBuf::from("/h/.local/share")));
        assert_eq!(env(None, None), Err(NoDataFolder));
    }
}
