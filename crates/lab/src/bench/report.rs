//! A row, the JSON report made of rows, and the table for people and for the docs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::pairs::{median, quantile};
use crate::rows::Figure;
use crate::{Suite, Trouble, chart};

const DOCS_BEGIN: &str = "<!-- bench:begin -->";
const DOCS_END: &str = "<!-- bench:end -->";

/// What a figure must keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bar) => value <= bar,
            Self::AtLeast(bar) => value >= bar,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bar) => write!(f, "<= {}", plain(*bar)),
            Self::AtLeast(bar) => write!(f, ">= {}", plain(*bar)),
        }
    }
}

/// What measuring one figure gave.
#[derive(Debug)]
pub(crate) enum Finding {
    /// The figure, and what it was made of.
    Measured {
        /// In the figure's unit.
        value: f64,
        /// One number per run or pair, in the figure's unit.
        samples: Vec<f64>,
        /// More numbers from the same runs, by name; units last in the name.
        facts: Vec<(&'static str, f64)>,
    },
    /// Something it needs is not here.
    Skipped(String),
}

impl Finding {
    /// The median of the samples.
    pub(crate) fn median_of(samples: Vec<f64>, facts: Vec<(&'static str, f64)>) -> Self {
        Self::Measured { value: median(&samples), samples, facts }
    }
}

/// One figure of the report.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    what: &'static str,
    /// Null if it was skipped or failed.
    value: Option<f64>,
    unit: &'static str,
    /// What the value is a ratio to, or null for an absolute figure.
    peer: Option<&'static str>,
    bar: String,
    /// Null if it was skipped.
    ok: Option<bool>,
    samples: Vec<f64>,
    /// First quartile, median, third quartile of the samples.
    quartiles: Option<[f64; 3]>,
    facts: BTreeMap<&'static str, f64>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Row {
    pub(crate) fn new(figure: &Figure, finding: Finding) -> Self {
        match finding {
            Finding::Measured { value, samples, facts } => Self {
                value: Some(rounded(value)),
                ok: Some(figure.bar.holds(value)),
                quartiles: (samples.len() > 1)
                    .then(|| [0.25, 0.5, 0.75].map(|q| rounded(quantile(&samples, q)))),
                samples: samples.into_iter().map(rounded).collect(),
                facts: facts.into_iter().map(|(name, value)| (name, rounded(value))).collect(),
                ..Self::empty(figure)
            },
            Finding::Skipped(why) => Self { note: Some(format!("skipped: {why}")), ..Self::empty(figure) },
        }
    }

    /// A figure that could not be measured although it should.
    pub(crate) fn failed(figure: &Figure, why: &str) -> Self {
        Self { ok: Some(false), note: Some(format!("failed: {why}")), ..Self::empty(figure) }
    }

    fn empty(figure: &Figure) -> Self {
        Self {
            id: figure.id,
            what: figure.what,
            value: None,
            unit: figure.unit,
            peer: figure.peer,
            bar: figure.bar.to_string(),
            ok: None,
            samples: Vec::new(),
            quartiles: None,
            facts: BTreeMap::new(),
            note: None,
        }
    }

    /// Whether the bar is held; a skipped row breaks nothing.
    pub(crate) fn holds(&self) -> bool {
        self.ok != Some(false)
    }

    /// Its line of the docs' table.
    fn line(&self) -> String {
        let quartiles = self.quartiles.map(|[low, _, high]| format!("{} .. {}", plain(low), plain(high)));
        let peer = self.peer.map(|peer| format!(", against {peer}")).unwrap_or_default();
        format!(
            "| {} | {}{peer} | {} | {} | {} | {} | {} |",
            self.id,
            self.what,
            self.shown(),
            quartiles.unwrap_or_default(),
            self.bar,
            self.verdict(),
            self.facts_shown()
        )
    }

    fn verdict(&self) -> &'static str {
        match self.ok {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "-",
        }
    }

    fn shown(&self) -> String {
        match self.value {
            Some(value) => format!("{} {}", plain(value), self.unit),
            None => self.note.clone().unwrap_or_default(),
        }
    }

    fn facts_shown(&self) -> String {
        let facts: Vec<_> =
            self.facts.iter().map(|(name, value)| format!("{name} {}", plain(*value))).collect();
        facts.join(", ")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<3} {:<6} {:<34} {}", self.id, self.verdict(), self.what, self.shown())?;
        if let Some([low, _, high]) = self.quartiles {
            write!(f, " [{} .. {}]", plain(low), plain(high))?;
        }
        write!(f, "  bar {}", self.bar)?;
        if !self.facts.is_empty() {
            write!(f, "  ({})", self.facts_shown())?;
        }
        Ok(())
    }
}

/// Everything one run of a suite found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    suite: &'static str,
    #[serde(skip)]
    figures: &'static [Figure],
    #[serde(skip)]
    chart: Option<&'static str>,
    version: &'static str,
    /// Small samples: shows that the suite runs and nothing more.
    quick: bool,
    cpus: usize,
    /// Runnable tasks on the machine over the last minute when the suite began: how much company it had.
    load: Option<f64>,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(suite: &Suite, quick: bool) -> Self {
        Self {
            suite: suite.name,
            figures: suite.figures,
            chart: suite.chart,
            version: env!("CARGO_PKG_VERSION"),
            quick,
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            load: load(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn write_json(&self, file: &Path) -> Result<(), Trouble> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()).into())
    }

    /// Puts this report's rows into the table between the markers of `file`. A row that was not measured now stays as it
    /// is there, so that a figure can be measured anew by itself. The chart, a file of the same name ending in `.svg`,
    /// shows that table.
    pub(crate) fn write_docs(&self, file: &Path) -> Result<(), Trouble> {
        let shown = file.display();
        let text = std::fs::read_to_string(file).map_err(|e| format!("{shown}: {e}"))?;
        let measured: Vec<_> = self.rows.iter().map(|row| (row.id, row.line())).collect();
        let mut whole = String::new();
        let spliced = splice(&text, |old| {
            whole = table(self.figures, &measured, old);
            whole.clone()
        });
        let spliced =
            spliced.ok_or_else(|| format!("{shown}: no `{DOCS_BEGIN}` and `{DOCS_END}` in this order"))?;
        std::fs::write(file, spliced).map_err(|e| format!("{shown}: {e}"))?;
        let Some(unit) = self.chart else { return Ok(()) };
        let drawing = file.with_extension("svg");
        std::fs::write(&drawing, chart::draw(unit, &whole))
            .map_err(|e| format!("{}: {e}", drawing.display()).into())
    }
}

/// The table of all figures of the suite, in its order: the line measured now, or else the one in `old`.
fn table(figures: &[Figure], measured: &[(&str, String)], old: &str) -> String {
    let kept = |id: &str| old.lines().find(|line| line.starts_with(&format!("| {id} |"))).map(str::to_owned);
    let mut table = String::from("| id | figure | value | quartiles | bar | | from the same runs |\n");
    table.push_str("|---|---|---|---|---|---|---|\n");
    for figure in figures {
        let new = measured.iter().find(|(id, _)| *id == figure.id).map(|(_, line)| line.clone());
        if let Some(line) = new.or_else(|| kept(figure.id)) {
            table.push_str(&line);
            table.push('\n');
        }
    }
    table
}

/// Replaces what is between the markers by what `table` makes of it.
fn splice(text: &str, table: impl FnOnce(&str) -> String) -> Option<String> {
    let (head, rest) = text.split_once(DOCS_BEGIN)?;
    let (old, tail) = rest.split_once(DOCS_END)?;
    Some(format!("{head}{DOCS_BEGIN}\n{}{DOCS_END}{tail}", table(old)))
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Four significant digits: more would be noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

fn plain(value: f64) -> String {
    let value = rounded(value);
    if value.abs() >= 1e6 { format!("{} M", value / 1e6) } else { format!("{value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(rounded(1.234_56), 1.235);
        assert_eq!(plain(1_234_567.0), "1.235 M");
        assert_eq!(plain(0.0), "0");
    }

    #[test]
    fn a_table_goes_between_its_markers_and_touches_nothing_else() {
        let text = format!("before\n{DOCS_BEGIN}\nold\n{DOCS_END}\nafter\n");
        assert_eq!(
            splice(&text, |old| format!("new, not {}\n", old.trim())).as_deref(),
            Some("before\n<!-- bench:begin -->\nnew, not old\n<!-- bench:end -->\nafter\n")
        );
        assert_eq!(splice("no markers", str::to_owned), None);
    }

    #[test]
    fn a_row_measured_alone_leaves_the_others_as_they_are() {
        let old = "| id |\n|---|\n| C1 | connect, old |\n| F1 | file, old |\n| F1b | first byte, old |\n";
        let new = table(crate::rows::ALL, &[("F1", "| F1 | file, new |".to_owned())], old);
        let rows: Vec<_> = new.lines().skip(2).collect();
        assert_eq!(rows, ["| C1 | connect, old |", "| F1 | file, new |", "| F1b | first byte, old |"]);
    }

    #[test]
    fn a_bar_holds_at_its_edge() {
        assert!(Bar::AtMost(1.25).holds(1.25) && !Bar::AtMost(1.25).holds(1.26));
        assert!(Bar::AtLeast(1e6).holds(1e6) && !Bar::AtLeast(1e6).holds(9e5));
    }
}
