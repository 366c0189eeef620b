//! `honeylink-bench`: the named benchmark suites, run by `cargo xtask bench --suite NAME`.
//!
//! A program of the lab and not an example of the program it measures, for two reasons: rows about the library need raw
//! iroh beside it, which the command line does not depend on, and rows about the program start it as a user would, as a
//! binary that is built already.
//!
//! # How it measures
//!
//! Times on a shared machine drift by the minute, so a figure that has a peer is a ratio: both run in the same process, on
//! the same two runtimes, in the order A B B A, at least seven pairs, and the row's value is the median of the pairs'
//! ratios ([`pairs`]). Figures with an absolute bar say so. No row waits for a time-out to learn something: whatever takes
//! longer than [`rig::PATIENCE`] makes the row fail with words, and never becomes a sample.
//!
//! ```text
//! main      arguments, the suites, exit code
//! report    a row, the JSON report, the table for people and for the docs
//! chart     the rows with one unit as bars, for the docs
//! pairs     A B B A, medians and quartiles
//! rig       two runtimes with two nodes, or two raw endpoints
//! lan       machines on a bridge, made of namespaces
//! device    the program on one machine: its daemon and its commands
//! shelf     files to send, in memory
//! usage     CPU seconds and memory of this process
//! rows/*    the suite `first-link`, one file per figure
//! qos/*     the suite `qos`: many streams on a cable of known rate
//! counts    the suite `instructions`: the cost of hot paths, by callgrind
//! ```

mod chart;
mod counts;
mod device;
mod lan;
mod pairs;
mod qos;
mod report;
mod rig;
mod rows;
mod shelf;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use report::{Report, Row};

/// What went wrong, in words: a benchmark has no caller that could act on a type.
type Trouble = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
usage: honeylink-bench --suite first-link|qos|instructions [--report FILE]
                       [--write-docs FILE] [--program FILE] [--zenoh FILE]
                       [--counted FILE] [--baseline FILE] [--keep-baseline]
                       [--only ID,ID] [--quick]

  --report FILE      the rows as JSON
  --write-docs FILE  puts the table between the markers of this Markdown file, and
                     a chart beside it where the suite has one
  --program FILE     the built program `honeylink`; rows about it are skipped without
  --zenoh FILE       a program that carries the load over Zenoh; what is compared
                     with it is left out or skipped without
  --counted FILE     the built program `honeylink-counted`, for `instructions`
  --baseline FILE    the counts that `instructions` compares with
  --keep-baseline    puts the counts of this run there instead
  --only ID,ID       these rows only; the others stay in the docs as they are
  --quick            smaller samples: to see that the suite runs, not to judge by";

/// Figures that are measured together and shown in one table.
struct Suite {
    name: &'static str,
    figures: &'static [rows::Figure],
    /// The unit of the rows in its chart, if it has one.
    chart: Option<&'static str>,
}

const SUITES: &[Suite] = &[
    Suite { name: "first-link", figures: rows::ALL, chart: None },
    Suite { name: "qos", figures: qos::rows::FIGURES, chart: Some("ms") },
    Suite { name: "instructions", figures: counts::FIGURES, chart: None },
];

/// What the command line asks for.
#[derive(Debug, Default)]
struct Wish {
    suite: String,
    report: Option<PathBuf>,
    docs: Option<PathBuf>,
    only: Option<Vec<String>>,
    scale: rows::Scale,
}

impl Wish {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut wish = Self::default();
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--suite" => wish.suite = args.next()?,
                "--report" => wish.report = Some(args.next()?.into()),
                "--write-docs" => wish.docs = Some(args.next()?.into()),
                "--program" => wish.scale.program = Some(args.next()?.into()),
                "--zenoh" => wish.scale.zenoh = Some(args.next()?.into()),
                "--counted" => wish.scale.counted = Some(args.next()?.into()),
                "--baseline" => wish.scale.baseline = Some(args.next()?.into()),
                "--keep-baseline" => wish.scale.keep_baseline = true,
                "--only" => wish.only = Some(args.next()?.split(',').map(str::to_owned).collect()),
                "--quick" => wish.scale.quick = true,
                _ => return None,
            }
        }
        wish.suite().is_some().then_some(wish)
    }

    fn suite(&self) -> Option<&'static Suite> {
        SUITES.iter().find(|suite| suite.name == self.suite)
    }

    fn wants(&self, id: &str) -> bool {
        self.only.as_ref().is_none_or(|ids| ids.iter().any(|wanted| wanted.eq_ignore_ascii_case(id)))
    }
}

fn main() -> ExitCode {
    let Some(wish) = Wish::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&wish) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("honeylink-bench: {trouble}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the suite and says whether every row that ran holds its bar.
fn run(wish: &Wish) -> Result<bool, Trouble> {
    let suite = wish.suite().ok_or("no such suite")?;
    let mut report = Report::new(suite, wish.scale.quick);
    for figure in suite.figures.iter().filter(|figure| wish.wants(figure.id)) {
        let row = match (figure.measure)(&wish.scale) {
            Ok(finding) => Row::new(figure, finding),
            Err(trouble) => Row::failed(figure, &trouble.to_string()),
        };
        println!("{row}");
        report.rows.push(row);
    }
    if let Some(file) = &wish.report {
        report.write_json(file)?;
    }
    if let Some(file) = &wish.docs {
        report.write_docs(file)?;
    }
    Ok(report.rows.iter().all(Row::holds))
}
