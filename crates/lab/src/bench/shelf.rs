//! Files to send and folders to receive into, in memory where the system has such a place: the figures are about the
//! network and the engine, and a disk would only add its own mood.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Trouble;

/// A folder that goes when this is dropped.
pub(crate) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    pub(crate) fn new() -> Result<Self, Trouble> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = base.join(format!("honeylink-bench-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// A place on the shelf; nothing is there yet.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An empty folder of this name, whatever was in it.
    pub(crate) fn emptied(&self, name: &str) -> Result<PathBuf, Trouble> {
        let folder = self.path(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// A file of `mebibytes` that no compression and no hole could make smaller.
    pub(crate) fn file(&self, name: &str, mebibytes: usize) -> Result<PathBuf, Trouble> {
        let path = self.path(name);
        let mut file = std::fs::File::create(&path)?;
        let mut noise = Noise(1);
        for _ in 0..mebibytes {
            file.write_all(&noise.bytes(1 << 20))?;
        }
        Ok(path)
    }

    /// A folder of `count` files of `bytes` each, in subfolders of 100.
    pub(crate) fn folder(&self, name: &str, count: usize, bytes: usize) -> Result<PathBuf, Trouble> {
        let folder = self.emptied(name)?;
        let mut noise = Noise(2);
        for n in 0..count {
            let sub = folder.join(format!("{:03}", n / 100));
            if n % 100 == 0 {
                std::fs::create_dir_all(&sub)?;
            }
            std::fs::write(sub.join(format!("{n:05}")), noise.bytes(bytes))?;
        }
        Ok(folder)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // What cannot be removed stays in a folder that says whose it is.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Bytes without a pattern: splitmix64.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = self.0;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            out.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        out.truncate(len);
        out
    }
}
