//! Scenario files run and held to what they expect.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Judging, Outcome, run};
use crate::plan::Plan;
use crate::scenario::{Scenario, ScenarioError, parse};
use crate::tally::{Summary, Tally};
use crate::world::BuildError;

/// Why a scenario could not be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file could not be read or written.
    #[error("{file}: {error}")]
    File {
        /// Which.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is no scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// It describes no world.
    #[error("{file}: {error}")]
    Build {
        /// The scenario.
        file: String,
        /// What is wrong with it.
        error: BuildError,
    },
}

/// A scenario that was run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The scenario.
    pub scenario: Scenario,
    /// What the seed made of it.
    pub plan: Plan,
    /// What came of it.
    pub outcome: Outcome,
    /// What it expected and did not get, in words.
    pub unmet: Vec<String>,
}

impl Ran {
    /// Whether nothing was broken and everything expected came.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.outcome.violations.is_empty() && self.unmet.is_empty()
    }

    /// The run in a few numbers; `None` if it panicked.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        self.outcome.tally.as_ref().map(Tally::summary)
    }
}

/// Reads the scenario in `file`.
///
/// # Errors
/// [`RunError`] says what is wrong with the file.
pub fn load(file: &Path) -> Result<Scenario, RunError> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| RunError::File { file: name.clone(), error })?;
    Ok(parse(&name, &text)?)
}

/// Runs the scenario in `file` with `seed`.
///
/// # Errors
/// [`RunError`] says what is wrong with the file.
pub fn run_file(file: &Path, seed: u64) -> Result<Ran, RunError> {
    let scenario = load(file)?;
    let plan = scenario.plan(seed);
    let outcome = run(&plan, Judging::Strict)
        .map_err(|error| RunError::Build { file: file.display().to_string(), error })?;
    let unmet = judge(&scenario, &outcome);
    Ok(Ran { scenario, plan, outcome, unmet })
}

/// The scenario files in a folder, by name.
///
/// # Errors
/// [`RunError::File`] if the folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, RunError> {
    let error = |error| RunError::File { file: folder.display().to_string(), error };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What a scenario expected and did not get, in words.
#[must_use]
pub fn judge(scenario: &Scenario, outcome: &Outcome) -> Vec<String> {
    let Some(summary) = outcome.tally.as_ref().map(Tally::summary) else {
        return vec!["the run panicked".to_owned()];
    };
    let mut unmet = Vec::new();
    if let Some(least) = scenario.expect.delivery_ratio_min.filter(|least| summary.delivery_ratio < *least) {
        unmet.push(format!(
            "delivered {:.3} of what was sent, at least {least} is expected",
            summary.delivery_ratio
        ));
    }
    if let Some(most) = scenario.expect.latency_p50_s_max.filter(|most| summary.latency_p50_s > *most) {
        unmet.push(format!(
            "the median message took {:.1} s, at most {most} is expected",
            summary.latency_p50_s
        ));
    }
    unmet
}
