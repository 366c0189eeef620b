//! A failing run as a file: the plan itself, not the program that drew it. It fails again as long as the product does,
//! whatever becomes of scenarios and swarms meanwhile.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::oracle::Violation;
use crate::plan::Plan;

/// The format of the file.
const VERSION: u32 = 1;

/// A run to repeat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// The format of this file.
    version: u32,
    /// What was found, if anything.
    pub found: Option<Violation>,
    /// The hash of the trace, in hex: equal as long as the product does exactly the same.
    pub hash: String,
    /// The run.
    pub plan: Plan,
}

/// Why a replay file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It could not be read or written.
    #[error("{file}: {error}")]
    File {
        /// Which.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is no replay.
    #[error("{file} is no replay file: {error}")]
    Format {
        /// Which.
        file: String,
        /// Where it goes wrong.
        error: serde_json::Error,
    },
    /// It is of another version.
    #[error("{file} is of version {version}; this program reads version {VERSION}")]
    Version {
        /// Which.
        file: String,
        /// Its version.
        version: u32,
    },
}

impl Replay {
    /// A run to repeat, and what came of it.
    #[must_use]
    pub fn new(plan: Plan, hash: u64, found: Option<Violation>) -> Self {
        Self { version: VERSION, found, hash: format!("{hash:016x}"), plan }
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// [`ReplayError::File`] if that fails.
    pub fn save(&self, path: &Path) -> Result<(), ReplayError> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| ReplayError::Format { file: name(path), error })?;
        fs::write(path, text + "\n").map_err(|error| ReplayError::File { file: name(path), error })
    }

    /// Reads it from `path`.
    ///
    /// # Errors
    /// [`ReplayError`] says what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, ReplayError> {
        let text = fs::read_to_string(path).map_err(|error| ReplayError::File { file: name(path), error })?;
        let replay: Self =
            serde_json::from_str(&text).map_err(|error| ReplayError::Format { file: name(path), error })?;
        if replay.version != VERSION {
            return Err(ReplayError::Version { file: name(path), version: replay.version });
        }
        Ok(replay)
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}
