//! Runs steps one after the other and reports them: name, seconds, verdict, a closing table, one summary line.
//!
//! Steps are independent, so a failure does not stop the next one: one run tells everything that is wrong.

use std::process::ExitCode;
use std::time::Instant;

use crate::counts::Counts;
use crate::house::House;

/// One check.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&House) -> Verdict,
}

/// What a step found.
pub(crate) enum Verdict {
    Passed,
    /// Nothing wrong, and this many tests were run to know it.
    Tested(Counts),
    /// This machine lacks what the step needs; in CI that is a failure.
    Skipped(String),
    /// What is wrong, ready to print, with the counts of a test run that got that far.
    Failed(String, Counts),
}

impl Verdict {
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into(), Counts::default())
    }
}

struct Row {
    name: &'static str,
    seconds: f64,
    word: &'static str,
    counts: Counts,
}

/// Runs `steps` in order. The exit code is a failure if any of them failed.
pub(crate) fn run_all(house: &House, steps: &[Step]) -> ExitCode {
    let rows: Vec<Row> = steps.iter().map(|step| run_one(house, *step)).collect();
    println!();
    for Row { name, seconds, word, .. } in &rows {
        println!("{name:<10} {seconds:>8.1} s  {word}");
    }
    for line in rows.iter().flat_map(|row| &row.counts.skipped) {
        println!("{line}");
    }
    for name in rows.iter().flat_map(|row| &row.counts.unsteady) {
        println!("unsteady: {name} failed among the other tests and passed by itself");
    }
    println!("{}", summary(&rows));
    if rows.iter().any(|row| row.word == FAILED) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

const FAILED: &str = "FAILED";

fn run_one(house: &House, step: Step) -> Row {
    println!("== {}", step.name);
    let started = Instant::now();
    let verdict = (step.run)(house);
    let seconds = started.elapsed().as_secs_f64();
    let (word, counts) = judge(house.strict, verdict);
    println!("   {} {word} in {seconds:.1} s", step.name);
    Row { name: step.name, seconds, word, counts }
}

fn judge(strict: bool, verdict: Verdict) -> (&'static str, Counts) {
    match verdict {
        Verdict::Passed => ("ok", Counts::default()),
        Verdict::Tested(counts) if strict && !counts.skipped.is_empty() => {
            println!("tests were skipped, and with CI=true nothing may be");
            (FAILED, counts)
        }
        Verdict::Tested(counts) => ("ok", counts),
        Verdict::Skipped(why) => {
            println!("   skipped: {why}");
            (if strict { FAILED } else { "skipped" }, Counts::default())
        }
        Verdict::Failed(output, counts) => {
            println!("{}", output.trim_end());
            (FAILED, counts)
        }
    }
}

/// The last line, in the form `cargo test` uses. A step that is not a test run counts as one test.
fn summary(rows: &[Row]) -> String {
    let mut sum = Counts::default();
    for row in rows {
        let ran_tests = row.counts.passed + row.counts.failed > 0;
        sum.passed += row.counts.passed + u32::from(!ran_tests && row.word == "ok");
        sum.ignored += row.counts.ignored + u32::from(row.word == "skipped");
        // A failed step counts even if none of its tests did: it may not have compiled.
        sum.failed += row.counts.failed.max(u32::from(row.word == FAILED));
    }
    let word = if sum.failed == 0 { "ok" } else { FAILED };
    format!("test result: {word}. {} passed; {} failed; {} ignored", sum.passed, sum.failed, sum.ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(word: &'static str, passed: u32, failed: u32) -> Row {
        Row { name: "step", seconds: 0.0, word, counts: Counts { passed, failed, ..Counts::default() } }
    }

    #[test]
    fn the_summary_adds_tests_and_steps() {
        assert_eq!(
            summary(&[row("ok", 0, 0), row("ok", 40, 0)]),
            "test result: ok. 41 passed; 0 failed; 0 ignored"
        );
    }

    #[test]
    fn a_step_that_failed_before_its_tests_is_a_failure() {
        let line = summary(&[row("ok", 3, 0), row(FAILED, 0, 0), row(FAILED, 5, 2)]);
        assert_eq!(line, "test result: FAILED. 8 passed; 3 failed; 0 ignored");
    }

    #[test]
    fn what_a_laptop_may_skip_fails_in_ci() {
        let skipping = || Counts { passed: 1, skipped: vec!["skipped: x".to_owned()], ..Counts::default() };
        assert_eq!(judge(false, Verdict::Tested(skipping())).0, "ok");
        assert_eq!(judge(true, Verdict::Tested(skipping())).0, FAILED);
        assert_eq!(judge(false, Verdict::Skipped("tool".to_owned())).0, "skipped");
        assert_eq!(judge(true, Verdict::Skipped("tool".to_owned())).0, FAILED);
    }
}
