//! A simulated disk under a node's store: what was written and not synced does not survive a crash.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use honeylink_sim::chance::Chance;

/// A node's disk. Clones are the same disk, seen through the same life of the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimulatedDisk {
    platter: Arc<Mutex<Platter>>,
    /// Which life this handle belongs to; a process that was killed writes no more.
    life: u32,
}

#[derive(Debug, Default)]
struct Platter {
    durable: Vec<u8>,
    /// What reads see: the durable bytes and everything written since.
    live: Vec<u8>,
    /// Written and not synced, in order.
    pending: Vec<Write>,
    life: u32,
}

impl Platter {
    fn sync(&mut self) {
        for write in std::mem::take(&mut self.pending) {
            write.apply(&mut self.durable);
        }
    }
}

#[derive(Debug)]
enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
}

impl Write {
    fn apply(self, to: &mut Vec<u8>) {
        match self {
            Self::Bytes(at, bytes) => to[at..at + bytes.len()].copy_from_slice(&bytes),
            Self::Length(length) => to.resize(length, 0),
        }
    }
}

impl SimulatedDisk {
    /// The machine dies: of what was not synced the first few writes survive. Returns how many were lost, and the disk as
    /// the next life finds it.
    pub(super) fn crash(&self, chance: &mut Chance) -> (usize, Self) {
        let mut platter = self.platter.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = std::mem::take(&mut platter.pending);
        let survivors = chance.index(pending.len() + 1);
        let lost = pending.len() - survivors;
        for write in pending.into_iter().take(survivors) {
            write.apply(&mut platter.durable);
        }
        platter.live = platter.durable.clone();
        platter.life += 1;
        (lost, Self { platter: self.platter.clone(), life: platter.life })
    }

    /// The machine was shut down: everything is kept, and who held the disk writes no more.
    pub(super) fn pass_on(&self) -> Self {
        let mut platter = self.platter.lock().unwrap_or_else(PoisonError::into_inner);
        platter.sync();
        platter.life += 1;
        Self { platter: self.platter.clone(), life: platter.life }
    }

    fn platter(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.platter.lock().unwrap_or_else(PoisonError::into_inner);
        if platter.life != self.life {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "this machine has crashed"));
        }
        Ok(platter)
    }
}

fn place(offset: u64, length: usize, size: usize) -> io::Result<usize> {
    let at = usize::try_from(offset).ok();
    let fits = at.filter(|at| at.checked_add(length).is_some_and(|end| end <= size));
    fits.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "beyond the end of the disk"))
}

impl redb::StorageBackend for SimulatedDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter()?.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter()?;
        let at = place(offset, out.len(), platter.live.len())?;
        out.copy_from_slice(&platter.live[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let length = usize::try_from(len).map_err(io::Error::other)?;
        let mut platter = self.platter()?;
        platter.live.resize(length, 0);
        platter.pending.push(Write::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.platter()?.sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.platter()?;
        let at = place(offset, data.len(), platter.live.len())?;
        platter.live[at..at + data.len()].copy_from_slice(data);
        platter.pending.push(Write::Bytes(at, data.to_vec()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_sim::chance::Purpose;
    use redb::StorageBackend as _;

    #[test]
    fn a_crash_takes_only_what_was_not_synced_and_ends_the_old_handle() {
        let mut lost_some = false;
        for seed in 0..20 {
            let disk = SimulatedDisk::default();
            disk.set_len(4).unwrap();
            disk.write(0, b"ab").unwrap();
            disk.sync_data().unwrap();
            disk.write(2, b"c").unwrap();
            disk.write(3, b"d").unwrap();
            let (lost, after) = disk.crash(&mut Chance::new(seed, Purpose::Disks, 0));
            let mut found = [0; 4];
            after.read(0, &mut found).unwrap();
            assert_eq!(found, [*b"abcd", *b"abc\0", *b"ab\0\0"][lost]);
            assert!(disk.write(0, b"x").is_err() && disk.len().is_err());
            lost_some |= lost > 0;
        }
        assert!(lost_some);
    }
}
