//! A log file that starts anew at a size, and keeps a few old ones: the space logs take has a maximum.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// A log file that rotates by size. Clones write to the same file.
#[derive(Clone, Debug)]
pub(crate) struct RotatingFile(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    files_max: u32,
}

impl RotatingFile {
    /// Opens or makes the file at `path`, its folder included. A new file is begun at `bytes_max`; `files_max` files
    /// are kept, the current one counted.
    pub(crate) fn open(path: PathBuf, bytes_max: u64, files_max: u32) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = append(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(State { path, file, bytes, bytes_max, files_max }))))
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The `n`th file: 0 is the current one.
pub(crate) fn numbered(path: &Path, n: u32) -> PathBuf {
    if n == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

impl State {
    fn rotate(&mut self) -> io::Result<()> {
        let last = self.files_max.saturating_sub(1);
        for n in (0..last).rev() {
            match std::fs::rename(numbered(&self.path, n), numbered(&self.path, n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
        }
        if last == 0 {
            std::fs::remove_file(&self.path)?;
        }
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

/// One event at a time: tracing writes each whole event with one call.
#[derive(Debug)]
pub(crate) struct Handle(RotatingFile);

impl Write for Handle {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.bytes > 0 && state.bytes + line.len() as u64 > state.bytes_max {
            state.rotate()?;
        }
        state.file.write_all(line)?;
        state.bytes += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for RotatingFile {
    type Writer = Handle;

    fn make_writer(&'a self) -> Handle {
        Handle(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_never_take_more_than_their_share() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/x.log");
        let log = RotatingFile::open(path.clone(), 100, 3).unwrap();
        for i in 0..100 {
            log.make_writer().write_all(format!("line {i:>10} of many\n").as_bytes()).unwrap();
        }
        let names: Vec<_> = std::fs::read_dir(dir.path().join("logs")).unwrap().collect();
        assert_eq!(names.len(), 3);
        for n in 0..3 {
            assert!(std::fs::metadata(numbered(&path, n)).unwrap().len() <= 100);
        }
        let newest = std::fs::read_to_string(&path).unwrap();
        assert!(newest.ends_with("line         99 of many\n"), "{newest}");
    }
}
