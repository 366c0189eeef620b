//! Rows of `target/report/mesh.json`: what was promised, what was measured.

use std::path::Path;

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    /// What it is, in words.
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What it is compared with, if anything, and that one's value.
    pub(crate) peer: Option<(String, f64)>,
    /// The bar, as text: `<= 73`.
    pub(crate) bar: String,
    pub(crate) ok: bool,
    pub(crate) samples: usize,
}

impl Row {
    /// A figure that must not be above `most`.
    pub(crate) fn at_most(id: &'static str, what: &str, value: f64, unit: &'static str, most: f64) -> Self {
        let (what, bar) = (what.to_owned(), format!("<= {most}"));
        Self { id, what, value, unit, peer: None, bar, ok: value <= most, samples: 1 }
    }

    /// A figure that must not be below `least`.
    pub(crate) fn at_least(id: &'static str, what: &str, value: f64, unit: &'static str, least: f64) -> Self {
        let (what, bar) = (what.to_owned(), format!(">= {least}"));
        Self { id, what, value, unit, peer: None, bar, ok: value >= least, samples: 1 }
    }

    pub(crate) const fn of(mut self, samples: usize) -> Self {
        self.samples = samples;
        self
    }
}

/// Puts `rows` into the file at `path`: those with ids that are measured anew replace the old ones.
pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<(), String> {
    let old = std::fs::read_to_string(path).ok();
    let old: Vec<serde_json::Value> =
        old.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let is_new = |row: &serde_json::Value| rows.iter().any(|new| row["id"] == new.id);
    let mut all: Vec<serde_json::Value> = old.into_iter().filter(|row| !is_new(row)).collect();
    for row in rows {
        all.push(serde_json::to_value(row).map_err(|error| error.to_string())?);
    }
    all.sort_by_key(|row| row["id"].as_str().unwrap_or_default().to_owned());
    let text = serde_json::to_string_pretty(&all).map_err(|error| error.to_string())?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
}
