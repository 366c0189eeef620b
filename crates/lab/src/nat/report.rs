//! Rows with their bars, the matrix of NATs, and what becomes of both: a table on the screen, JSON, a page of the docs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::Trouble;
use crate::run::{Figure, Outcome, Sample};
use crate::scenario::{self, Kind, Rung, Scenario};
use crate::subject::Who;

const DOCS_BEGIN: &str = "<!-- lab:begin -->";
const DOCS_END: &str = "<!-- lab:end -->";
/// The scenarios whose figures are rows of their own.
const MATRIX: &str = "matrix";
const LOSSY: &str = "lossy";
/// A third device carries, from the beginning or when the relay died.
const FERRIED: [&str; 2] = ["common-peer", "common-peer-relay"];
/// Kinds of the matrix, as its table names them.
const KINDS: [Kind; 4] = [Kind::Public, Kind::Open, Kind::Home, Kind::Corporate];

/// What counts as soon in N3.
const SOON_MS: f64 = 5000.0;

/// What a row says of the samples it is made of.
#[derive(Clone, Copy)]
enum Sum {
    /// Pairs of the matrix in which every run had it.
    Pairs,
    /// The share of the runs between a NAT that maps by destination and one that filters by port in which it came soon.
    HardShare,
    /// The 95th percentile; a run in which it never came counts as endless.
    P95,
    /// The same without those runs, for which N3 is.
    EasyP95,
    /// All together.
    Total,
    /// Promises broken over the lossy line, whatever the times.
    Broken,
    /// The 95th percentile where a third device carries, and promises broken there.
    FerriedP95,
    FerriedBroken,
}

struct RowPlan {
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    figure: Figure,
    sum: Sum,
    /// At most, or at least if negative is better: see [`RowPlan::holds`].
    bar: f64,
}

const ROWS: [RowPlan; 14] = [
    RowPlan::new("N1", "pairs of NATs connected", "of 16", Figure::Connected, Sum::Pairs, 16.0),
    RowPlan::new("N2", "pairs of NATs direct", "of 16", Figure::Direct, Sum::Pairs, 15.0),
    RowPlan::new("N3", "hard NATs direct within 5 s", "of runs", Figure::FirstDirectMs, Sum::HardShare, 0.95),
    RowPlan::new("N4", "first message", "ms", Figure::FirstMs, Sum::P95, 500.0),
    RowPlan::new("N5", "first message to direct path", "ms", Figure::ToDirectMs, Sum::EasyP95, 1000.0),
    RowPlan::new("N6", "messages harmed on the way to direct", "messages", Figure::Damage, Sum::Total, 0.0),
    RowPlan::new("N7", "gap when the direct path dies", "ms", Figure::SilentDeathMs, Sum::P95, 1500.0),
    RowPlan::new("N8", "healing to direct path", "ms", Figure::HealMs, Sum::P95, 5000.0),
    RowPlan::new("N9", "gap of a move to another router", "ms", Figure::HandoffMs, Sum::P95, 1500.0),
    RowPlan::new("N10", "gap when the relay dies", "ms", Figure::RelayDeathMs, Sum::P95, 3000.0),
    RowPlan::new("N11", "promises broken on the lossy line", "promises", Figure::Damage, Sum::Broken, 0.0),
    RowPlan::new("N12", "first message over a common peer", "ms", Figure::FirstMs, Sum::FerriedP95, 3000.0),
    RowPlan::new("N13", "gap when the only relay dies", "ms", Figure::RelayDeathMs, Sum::FerriedP95, 3000.0),
    RowPlan::new("N14", "promises broken there", "promises", Figure::Damage, Sum::FerriedBroken, 0.0),
];

impl RowPlan {
    const fn new(
        id: &'static str,
        what: &'static str,
        unit: &'static str,
        figure: Figure,
        sum: Sum,
        bar: f64,
    ) -> Self {
        Self { id, what, unit, figure, sum, bar }
    }

    const fn more_is_better(&self) -> bool {
        matches!(self.sum, Sum::Pairs | Sum::HardShare)
    }

    fn holds(&self, value: f64) -> bool {
        if self.more_is_better() { value >= self.bar } else { value <= self.bar }
    }

    fn bar(&self) -> String {
        format!("{} {}", if self.more_is_better() { ">=" } else { "<=" }, self.bar)
    }

    /// The row's samples of one subject.
    fn samples<'a>(&self, all: &'a [Sample], who: Who) -> Vec<&'a Sample> {
        let hard = |sample: &Sample| scenario::is_hard(&sample.variant);
        let ferried = |sample: &Sample| FERRIED.contains(&&*sample.scenario);
        let ours = matches!(self.sum, Sum::FerriedP95 | Sum::FerriedBroken);
        all.iter()
            .filter(|sample| sample.who == who && ferried(sample) == ours)
            .filter(|sample| match self.sum {
                Sum::Pairs => sample.figure == self.figure && sample.scenario == MATRIX,
                Sum::HardShare => sample.figure == self.figure && sample.scenario == MATRIX && hard(sample),
                Sum::EasyP95 => sample.figure == self.figure && sample.scenario != LOSSY && !hard(sample),
                Sum::P95 | Sum::Total => sample.figure == self.figure && sample.scenario != LOSSY,
                Sum::Broken => sample.scenario == LOSSY,
                Sum::FerriedP95 => sample.figure == self.figure && self.is_ferrys(sample),
                Sum::FerriedBroken => true,
            })
            .collect()
    }

    /// Whether it is the third device's doing: with a relay, the first message goes over that.
    fn is_ferrys(&self, sample: &Sample) -> bool {
        self.figure != Figure::FirstMs || FERRIED.first().is_some_and(|alone| *alone == sample.scenario)
    }

    /// `None` if nothing was measured.
    fn value(&self, samples: &[&Sample]) -> Option<f64> {
        if samples.is_empty() {
            return None;
        }
        Some(match self.sum {
            Sum::Pairs => {
                let mut pairs: BTreeMap<&str, bool> = BTreeMap::new();
                for sample in samples {
                    *pairs.entry(&sample.variant).or_insert(true) &= sample.value == Some(1.0);
                }
                pairs.values().filter(|had| **had).count() as f64
            }
            Sum::HardShare => {
                let soon = samples.iter().filter(|sample| sample.value.is_some_and(|ms| ms <= SOON_MS));
                soon.count() as f64 / samples.len() as f64
            }
            Sum::P95 | Sum::EasyP95 | Sum::FerriedP95 => {
                p95(samples.iter().map(|sample| sample.value.unwrap_or(f64::INFINITY)).collect())
            }
            Sum::Total => samples.iter().filter_map(|sample| sample.value).sum(),
            Sum::Broken | Sum::FerriedBroken => samples.iter().filter(|sample| broken(sample)).count() as f64,
        })
    }
}

/// Whether a sample says that something did not come to pass at all, or did harm.
fn broken(sample: &Sample) -> bool {
    match sample.figure {
        Figure::Connected | Figure::Direct => sample.value != Some(1.0),
        Figure::Damage => sample.value != Some(0.0),
        Figure::FirstMs
        | Figure::ToDirectMs
        | Figure::FirstDirectMs
        | Figure::MigrationGapMs
        | Figure::SilentDeathMs
        | Figure::HealMs
        | Figure::HandoffMs
        | Figure::RelayDeathMs => sample.value.is_none(),
    }
}

/// The nearest rank: of 20 samples the 19th.
fn p95(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (samples.len() as f64 * 0.95).ceil() as usize;
    samples.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// A row as the JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    id: &'static str,
    what: &'static str,
    /// Null if it was not measured, or endless: then `ok` is false.
    value: Option<f64>,
    unit: &'static str,
    /// The control's value in the same runs.
    peer: Option<f64>,
    bar: String,
    ok: Option<bool>,
    samples: Vec<Option<f64>>,
    peer_samples: Vec<Option<f64>>,
}

/// One line of the table of scenarios.
#[derive(Debug, Serialize)]
struct Ran {
    scenario: String,
    about: String,
    variant: String,
    runs: u32,
    /// Where each run of the product and of the control ended.
    honeylink: Vec<String>,
    iroh: Vec<String>,
    unmet: Vec<String>,
}

/// Everything that was run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    samples: Vec<Sample>,
    ran: Vec<Ran>,
}

impl Report {
    pub(crate) fn take(&mut self, scenario: &Scenario, variant: &str, outcome: Outcome) {
        let ended = |who: Who| {
            let rung = outcome.ended.iter().find(|(other, _)| *other == who).and_then(|(_, rung)| *rung);
            rung.map_or("none", Rung::name).to_owned()
        };
        let (ours, theirs) = (ended(Who::Honeylink), ended(Who::Iroh));
        self.samples.extend(outcome.samples);
        let same = |ran: &&mut Ran| ran.scenario == scenario.name && ran.variant == variant;
        if let Some(ran) = self.ran.iter_mut().find(same) {
            ran.runs += 1;
            ran.honeylink.push(ours);
            ran.iroh.push(theirs);
            ran.unmet.extend(outcome.unmet);
            return;
        }
        self.ran.push(Ran {
            scenario: scenario.name.clone(),
            about: scenario.about.clone(),
            variant: variant.to_owned(),
            runs: 1,
            honeylink: vec![ours],
            iroh: vec![theirs],
            unmet: outcome.unmet,
        });
    }

    /// Whether every scenario got from the product what it expected.
    pub(crate) fn is_good(&self) -> bool {
        self.ran.iter().all(|ran| ran.unmet.is_empty())
    }

    fn rows(&self) -> Vec<Row> {
        ROWS.iter()
            .map(|plan| {
                let ours = plan.samples(&self.samples, Who::Honeylink);
                let theirs = plan.samples(&self.samples, Who::Iroh);
                let finite = |value: Option<f64>| value.filter(|value| value.is_finite()).map(rounded);
                let values = |samples: &[&Sample]| samples.iter().map(|s| finite(s.value)).collect();
                let value = plan.value(&ours);
                Row {
                    id: plan.id,
                    what: plan.what,
                    value: finite(value),
                    unit: plan.unit,
                    peer: finite(plan.value(&theirs)),
                    bar: plan.bar(),
                    ok: value.map(|value| plan.holds(value)),
                    samples: values(&ours),
                    peer_samples: values(&theirs),
                }
            })
            .collect()
    }

    pub(crate) fn print(&self) {
        println!("\n{}\n{}", self.matrix(), self.table());
    }

    pub(crate) fn write_json(&self, file: &Path) -> Result<(), Trouble> {
        let json = serde_json::json!({
            "suite": "lab",
            "version": env!("CARGO_PKG_VERSION"),
            "rows": self.rows(),
            "scenarios": self.ran,
            "samples": self.samples,
        });
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, format!("{json:#}\n")).map_err(|e| format!("{}: {e}", file.display()).into())
    }

    /// Puts the tables between the markers of a page.
    pub(crate) fn write_docs(&self, file: &Path) -> Result<(), Trouble> {
        let shown = file.display();
        let text = std::fs::read_to_string(file).map_err(|e| format!("{shown}: {e}"))?;
        let spliced = text.split_once(DOCS_BEGIN).and_then(|(head, rest)| {
            let (_, tail) = rest.split_once(DOCS_END)?;
            let tables = format!("{}\n{}\n{}", self.matrix(), self.scenarios(), self.table());
            Some(format!("{head}{DOCS_BEGIN}\n\n{tables}\n{DOCS_END}{tail}"))
        });
        let spliced = spliced.ok_or_else(|| format!("{shown}: no `{DOCS_BEGIN}` and `{DOCS_END}`"))?;
        std::fs::write(file, spliced).map_err(|e| format!("{shown}: {e}").into())
    }

    /// Rows call, columns answer; each cell has the product's way and the control's.
    fn matrix(&self) -> String {
        let mut text = String::from("| from, to |");
        for kind in KINDS {
            let _ = write!(text, " {} |", kind.name());
        }
        text.push_str("\n|---|---|---|---|---|\n");
        for row in KINDS {
            let _ = write!(text, "| {} |", row.name());
            for column in KINDS {
                let variant = format!("{} - {}", row.name(), column.name());
                let _ = write!(text, " {} |", self.cell(&variant));
            }
            text.push('\n');
        }
        text
    }

    fn cell(&self, variant: &str) -> String {
        let of = |who: Who| {
            let mine = |figure: Figure| {
                self.samples
                    .iter()
                    .filter(|s| {
                        s.scenario == MATRIX && s.variant == variant && s.who == who && s.figure == figure
                    })
                    .collect::<Vec<_>>()
            };
            let (connected, direct) = (mine(Figure::Connected), mine(Figure::Direct));
            if connected.is_empty() {
                return "-".to_owned();
            }
            let all = |samples: &[&Sample]| samples.iter().all(|sample| sample.value == Some(1.0));
            match (all(&connected), all(&direct)) {
                (false, _) => "none",
                (true, true) => "direct",
                (true, false) if direct.iter().any(|sample| sample.value == Some(1.0)) => "mostly direct",
                (true, false) => "relayed",
            }
            .to_owned()
        };
        match (of(Who::Honeylink), of(Who::Iroh)) {
            (ours, theirs) if ours == theirs => ours,
            (ours, theirs) => format!("{ours} (iroh: {theirs})"),
        }
    }

    fn scenarios(&self) -> String {
        let mut text =
            String::from("| scenario | between | HoneyLink ends | iroh ends | what did not come |\n");
        text.push_str("|---|---|---|---|---|\n");
        for ran in self.ran.iter().filter(|ran| ran.scenario != MATRIX) {
            let unmet = ran.unmet.first().map_or_else(String::new, |first| {
                let more = ran.unmet.len() - 1;
                let first = first.replace('|', "/");
                if more > 0 { format!("{first}; {more} more") } else { first }
            });
            let _ = writeln!(
                text,
                "| {}: {} | {} | {} | {} | {unmet} |",
                ran.scenario,
                ran.about,
                ran.variant,
                counted(&ran.honeylink),
                counted(&ran.iroh)
            );
        }
        text
    }

    fn table(&self) -> String {
        let mut text = String::from(
            "| id | figure | HoneyLink | iroh | bar | | samples |\n|---|---|---|---|---|---|---|\n",
        );
        for row in self.rows() {
            let shown = |value: Option<f64>, samples: &[Option<f64>]| match value {
                Some(value) => format!("{value} {}", row.unit),
                None if samples.is_empty() => "-".to_owned(),
                None => "never in some runs".to_owned(),
            };
            let verdict = match row.ok {
                Some(true) => "ok",
                Some(false) => "MISSED",
                None => "",
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {verdict} | {} |",
                row.id,
                row.what,
                shown(row.value, &row.samples),
                shown(row.peer, &row.peer_samples),
                row.bar,
                row.samples.len()
            );
        }
        text
    }
}

/// `direct`, or `direct 18, relayed 2`.
fn counted(words: &[String]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
    match counts.len() {
        1 => words.first().cloned().unwrap_or_default(),
        _ => counts.iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", "),
    }
}

/// Three significant digits for times of more than a second would hide nothing; a tenth is enough for the rest.
fn rounded(value: f64) -> f64 {
    if value.abs() >= 100.0 { value.round() } else { (value * 100.0).round() / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(variant: &str, figure: Figure, value: Option<f64>) -> Sample {
        Sample {
            scenario: MATRIX.to_owned(),
            variant: variant.to_owned(),
            who: Who::Honeylink,
            figure,
            value,
        }
    }

    fn row(id: &str, samples: Vec<Sample>) -> Row {
        let report = Report { samples, ran: Vec::new() };
        report.rows().into_iter().find(|row| row.id == id).unwrap()
    }

    #[test]
    fn a_pair_counts_only_if_every_run_had_it() {
        let samples = vec![
            sample("Home - Home", Figure::Direct, Some(1.0)),
            sample("Home - Home", Figure::Direct, Some(0.0)),
            sample("Home - Open", Figure::Direct, Some(1.0)),
        ];
        let row = row("N2", samples);
        assert_eq!((row.value, row.ok), (Some(1.0), Some(false)));
    }

    #[test]
    fn a_run_that_never_came_back_misses_the_bar_and_has_no_number() {
        let never = (0..20).map(|at| sample("Home - Home", Figure::HealMs, (at > 1).then_some(500.0)));
        let missed = row("N8", never.collect());
        assert_eq!((missed.value, missed.ok), (None, Some(false)));
        let once: Vec<_> =
            (0..20).map(|at| sample("Home - Home", Figure::HealMs, (at > 0).then_some(500.0))).collect();
        assert_eq!(row("N8", once).value, Some(500.0));
    }

    #[test]
    fn hard_pairs_have_a_row_of_their_own() {
        let hard = ["Home - Corporate", "Corporate - Home"];
        let soon = |ms: f64| hard.map(|variant| sample(variant, Figure::FirstDirectMs, Some(ms)));
        let late = soon(1900.0).into_iter().chain(soon(5001.0)).collect();
        assert_eq!(row("N3", late).value, Some(0.5));
        let easy = sample("Home - Home", Figure::ToDirectMs, Some(200.0));
        let both = vec![easy, sample(hard[0], Figure::ToDirectMs, Some(1900.0))];
        assert_eq!(row("N5", both).value, Some(200.0));
    }

    #[test]
    fn what_was_not_measured_is_neither_good_nor_bad() {
        assert_eq!(row("N9", Vec::new()).ok, None);
    }

    #[test]
    fn the_tables_go_between_the_markers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.md");
        std::fs::write(&file, format!("a\n{DOCS_BEGIN}\nold\n{DOCS_END}\nb\n")).unwrap();
        Report::default().write_docs(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("a\n<!-- lab:begin -->\n\n| from, to |")
                && text.ends_with("<!-- lab:end -->\nb\n")
        );
        assert!(!text.contains("old"));
    }
}
