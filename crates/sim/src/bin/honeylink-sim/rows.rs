//! Rows of `target/report/mesh.json`: what was promised, what was measured.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    /// What it is, in words.
    pub(crate) what: String,
    pub(crate) value: f64,
    /// Half the width of the value's 95 % interval, where it is a mean over seeds.
    pub(crate) margin: Option<f64>,
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
        Self { id, what, value, margin: None, unit, peer: None, bar, ok: value <= most, samples: 1 }
    }

    /// A figure that must not be below `least`.
    pub(crate) fn at_least(id: &'static str, what: &str, value: f64, unit: &'static str, least: f64) -> Self {
        let (what, bar) = (what.to_owned(), format!(">= {least}"));
        Self { id, what, value, margin: None, unit, peer: None, bar, ok: value >= least, samples: 1 }
    }

    pub(crate) const fn of(mut self, samples: usize) -> Self {
        self.samples = samples;
        self
    }

    /// A mean over seeds that must not be below `least`.
    pub(crate) fn mean_at_least(
        id: &'static str,
        what: &str,
        mean: crate::stats::Estimate,
        unit: &'static str,
        least: f64,
    ) -> Self {
        Self { margin: Some(mean.margin), ..Self::at_least(id, what, mean.mean, unit, least) }
            .of(mean.samples)
    }
}

/// Puts `rows` into the file at `path`: figures that are measured anew replace the old ones.
pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<(), String> {
    let old = std::fs::read_to_string(path).ok();
    let old: Vec<serde_json::Value> =
        old.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    // One figure beside several others has as many rows, which are replaced together.
    let is_new =
        |row: &serde_json::Value| rows.iter().any(|new| row["id"] == new.id && row["what"] == new.what);
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

/// All rows of the file at `path`, as a table for people.
pub(crate) fn table(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let rows: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut out =
        String::from("| id | figure | value | beside | bar | samples | |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let number = |value: &serde_json::Value| match value.as_f64() {
            Some(x) if x.fract() == 0.0 => format!("{x:.0}"),
            Some(x) => format!("{x:.3}"),
            None => value.as_str().unwrap_or_default().to_owned(),
        };
        let margin = row["margin"].as_f64().map_or_else(String::new, |margin| format!(" ± {margin:.3}"));
        let peer = match row["peer"].as_array().map(Vec::as_slice) {
            Some([name, value]) => format!("{}: {}", name.as_str().unwrap_or_default(), number(value)),
            Some(_) | None => number(&row["peer"]),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {}{margin} {} | {peer} | {} | {} | {} |",
            word("id"),
            word("what"),
            number(&row["value"]),
            word("unit"),
            number(&row["bar"]),
            number(&row["samples"]),
            if row["ok"].as_bool() == Some(true) { "ok" } else { "MISSED" }
        );
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_measured_anew_replace_theirs_and_leave_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report/mesh.json");
        let row = |id, value| Row::at_most(id, "a figure", value, "s", 2.0);
        write(&path, &[row("S1", 1.0), row("W1", 9.0)]).unwrap();
        write(&path, &[row("S1", 1.5), row("S1", 2.5)]).unwrap();
        let table = table(&path).unwrap();
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| S1 | a figure | 1.500 s |  | <= 2 | 1 | ok |",
                "| S1 | a figure | 2.500 s |  | <= 2 | 1 | MISSED |",
                "| W1 | a figure | 9 s |  | <= 2 | 1 | MISSED |",
            ]
        );
    }
}
