//! Runs that were made, in a file that grows with each: a report that is interrupted goes on where it stopped, and one
//! with more seeds makes only those that are missing.
//!
//! A line holds for the program that wrote it and for no other: whatever is built anew runs anew.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::Hasher as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use honeylink_sim::tally::Summary;
use serde::{Deserialize, Serialize};

/// What a run came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Ran {
    /// Nothing if it panicked.
    pub(crate) summary: Option<Summary>,
    /// Broken laws.
    pub(crate) violations: usize,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    program: u64,
    cell: String,
    seed: u64,
    #[serde(flatten)]
    ran: Ran,
}

/// The runs made so far by this program.
pub(crate) struct Runs {
    program: u64,
    made: Mutex<Made>,
}

struct Made {
    /// By cell and seed.
    known: BTreeMap<(String, u64), Ran>,
    file: File,
}

impl Runs {
    /// Those in the file at `path`, and room for more.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let said = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(said)?;
        }
        let program = fingerprint().map_err(|error| format!("reading this program: {error}"))?;
        let text = fs::read_to_string(path).unwrap_or_default();
        // A line cut short by whatever ended the last report is a run not made.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let known = lines
            .filter(|line| line.program == program)
            .map(|line| ((line.cell, line.seed), line.ran))
            .collect();
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(said)?;
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(file).map_err(said)?;
        }
        Ok(Self { program, made: Mutex::new(Made { known, file }) })
    }

    /// What a run came to, if it was made.
    pub(crate) fn known(&self, cell: &str, seed: u64) -> Option<Ran> {
        let made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        made.known.get(&(cell.to_owned(), seed)).copied()
    }

    /// Writes a run down at once.
    pub(crate) fn append(&self, cell: &str, seed: u64, ran: Ran) -> Result<(), String> {
        let line = Line { program: self.program, cell: cell.to_owned(), seed, ran };
        let text = serde_json::to_string(&line).map_err(|error| error.to_string())?;
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(made.file, "{text}").map_err(|error| format!("the file of runs: {error}"))?;
        made.known.insert((line.cell, seed), ran);
        Ok(())
    }
}

/// A number that is another one for another program.
fn fingerprint() -> std::io::Result<u64> {
    // The hasher with fixed keys: the number must be the same tomorrow.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(&fs::read(std::env::current_exe()?)?);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_run_is_known_the_next_time_even_after_a_line_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        let ran = Ran { summary: None, violations: 2 };
        Runs::open(&path).unwrap().append("a", 1, ran).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"program\":1,\"ce").unwrap();
        Runs::open(&path).unwrap().append("a", 2, ran).unwrap();
        let runs = Runs::open(&path).unwrap();
        assert_eq!((1..4).filter_map(|seed| runs.known("a", seed)).count(), 2);
        assert!(runs.known("b", 1).is_none());
    }
}
