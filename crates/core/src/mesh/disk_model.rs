//! A disk for tests of the mesh's parts: writes wait in order, a sync makes them safe, a crash loses a suffix.

use super::records::{Journal, Mark, Saved, Write};

/// What is safe, and what a crash may lose.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) durable: Saved,
    unsynced: Vec<Write>,
}

impl Disk {
    /// A disk that holds these records.
    pub(super) fn holding(durable: Saved) -> Self {
        Self { durable, unsynced: Vec::new() }
    }

    /// Takes what the journal holds, makes everything safe, and answers with the last mark, if there was one.
    pub(super) fn sync(&mut self, journal: &mut Journal) -> Option<Mark> {
        let mut last = None;
        self.pull(journal);
        for write in self.unsynced.drain(..) {
            self.durable.apply(&write);
            if let Write::Sync(mark) = write {
                last = Some(mark);
            }
        }
        last
    }

    /// Takes what the journal holds without making it safe.
    pub(super) fn pull(&mut self, journal: &mut Journal) {
        while let Some(write) = journal.poll() {
            self.unsynced.push(write);
        }
    }

    /// As [`Disk::crash`] of a disk that keeps what lies between two marks as one: a transaction survives whole or not.
    pub(super) fn crash_whole(&mut self, journal: &mut Journal, transactions: usize) -> Saved {
        self.pull(journal);
        let ends = self.unsynced.iter().enumerate().filter(|(_, write)| matches!(write, Write::Sync(_)));
        let survive = ends.map(|(at, _)| at + 1).take(transactions).last().unwrap_or(0);
        self.crash(journal, survive)
    }

    /// What a node finds after a crash of which the first `survive` unsynced writes reached the disk. The journal is that
    /// of the next life.
    pub(super) fn crash(&mut self, journal: &mut Journal, survive: usize) -> Saved {
        self.pull(journal);
        for write in self.unsynced.drain(..).take(survive) {
            self.durable.apply(&write);
        }
        *journal = Journal::default();
        self.durable.clone()
    }
}
