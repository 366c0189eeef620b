//! Files to send, and comparing what arrived with what was sent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes in one MiB.
pub(crate) const MIB: u64 = 1 << 20;

/// What lies at a path of a tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Folder,
    File { bytes: Vec<u8>, executable: bool },
}

/// Everything below a folder, by path relative to it.
pub(crate) fn read(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if meta.is_dir() {
                found.insert(name, Entry::Folder);
                folders.push(path);
            } else {
                let executable = meta.permissions().mode() & 0o111 != 0;
                found.insert(name, Entry::File { bytes: std::fs::read(&path).unwrap(), executable });
            }
        }
    }
    found
}

/// Writes a file without two equal pages and without a run of zeros, cheaply: one random MiB again and again, with the
/// number of each page stamped into it.
pub(crate) fn write_large(path: &Path, mib: u64) {
    const PAGE: usize = 4096;
    let mut random = Random::new(mib);
    let mut block: Vec<u8> = (0..MIB / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut stamp = 0_u64;
    for _ in 0..mib {
        for page in block.chunks_exact_mut(PAGE) {
            stamp += 1;
            page[..8].copy_from_slice(&stamp.to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
}

/// Whether two files hold the same bytes.
pub(crate) fn equal(one: &Path, other: &Path) -> bool {
    let (one, other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let length = one.metadata().unwrap().len();
    if length != other.metadata().unwrap().len() {
        return false;
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    let (mut left, mut right) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    let mut remaining = length;
    while remaining > 0 {
        let take = remaining.min(left.len() as u64);
        let count = usize::try_from(take).unwrap();
        one.read_exact(&mut left[..count]).unwrap();
        other.read_exact(&mut right[..count]).unwrap();
        if left[..count] != right[..count] {
            return false;
        }
        remaining -= take;
    }
    true
}

/// A small generator (xorshift64*, Vigna 2016): its seed is printed, so that a run can be repeated.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The generator of this run: `HONEYLINK_TEST_SEED`, or a seed from the clock.
    pub(crate) fn of_this_run() -> Self {
        let given = std::env::var("HONEYLINK_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed: u64 = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos())
        });
        println!("seed {seed}: repeat with HONEYLINK_TEST_SEED={seed}");
        Self::new(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}
