//! Reads scenario files.

use super::Scenario;

/// Why a scenario file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not what a scenario is written in, or with a key or value that means nothing.
    #[error("{file}: {why}")]
    Text {
        /// The file.
        file: String,
        /// Where, what, and what would be right.
        why: String,
    },
}

/// The scenario that `text` describes; `file` is what errors call it.
///
/// # Errors
/// [`ScenarioError`] names the file, the line, the key and the values that are allowed.
pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    toml::from_str(text).map_err(|error| ScenarioError::Text {
        file: file.to_owned(),
        why: error.to_string().trim_end().to_owned(),
    })
}
