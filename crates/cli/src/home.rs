//! The folder that holds everything of one device: identity, trust store, configuration, logs, the API socket.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use honeylink_api::ErrorCode;

use crate::failure::Failure;

/// Longest path of a Unix socket, in bytes: `sun_path` has 108 on Linux and 104 on macOS, one of them for the NUL.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// The folder that holds everything of one device.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    dir: PathBuf,
}

impl Home {
    /// The folder given with `--home` or `HONEYLINK_HOME`, or the platform's place for it.
    pub(crate) fn locate(given: Option<&Path>) -> Result<Self, Failure> {
        if let Some(dir) = given {
            let dir = std::path::absolute(dir).map_err(|e| Failure::file("find", dir, &e))?;
            return Ok(Self { dir });
        }
        default_dir().map(|dir| Self { dir }).ok_or_else(|| {
            Failure::hint(
                ErrorCode::Config,
                "no home folder: neither HOME nor HONEYLINK_HOME is set",
                "name one with --home DIR",
            )
        })
    }

    /// The folder itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration file; it need not exist.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// The socket of the local API.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// The folder of log files.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Makes the folder, readable by its owner only, and checks that it is ours and fit for a socket.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::file("make the folder", &self.dir, &e);
        if !self.dir.exists() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(failed)?;
        }
        let metadata = std::fs::metadata(&self.dir).map_err(failed)?;
        if !metadata.is_dir() {
            return Err(Failure::new(ErrorCode::Config, format!("{} is not a folder", self.dir.display())));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(Failure::hint(
                ErrorCode::Permission,
                format!("{} belongs to another user", self.dir.display()),
                "choose a folder of your own with --home DIR",
            ));
        }
        if metadata.mode() & 0o077 != 0 {
            // Keys live here. Tightening is safe: nobody else had business in it.
            std::fs::set_permissions(&self.dir, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        let length = self.socket().as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            return Err(Failure::hint(
                ErrorCode::Config,
                format!(
                    "the home folder's path is too long for a socket in it ({length} bytes, {SOCKET_PATH_BYTES_MAX} fit)"
                ),
                "choose a shorter one with --home DIR",
            ));
        }
        Ok(())
    }
}

fn default_dir() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if cfg!(target_os = "macos") {
        return Some(var("HOME")?.join("Library/Application Support/honeylink"));
    }
    let data = var("XDG_DATA_HOME").filter(|dir| dir.is_absolute());
    Some(data.or_else(|| Some(var("HOME")?.join(".local/share")))?.join("honeylink"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_made_private_even_if_it_was_open() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(&dir.path().join("h"))).unwrap();
        home.prepare().unwrap();
        assert_eq!(std::fs::metadata(home.dir()).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(home.dir(), std::fs::Permissions::from_mode(0o755)).unwrap();
        home.prepare().unwrap();
        assert_eq!(std::fs::metadata(home.dir()).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(&dir.path().join("x".repeat(120)))).unwrap();
        let Err(Failure::Error(error)) = home.prepare() else { panic!("accepted") };
        assert!(error.message.contains("too long"), "{}", error.message);
    }
}
