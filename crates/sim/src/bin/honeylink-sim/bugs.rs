//! Planted mistakes: how many seeds it takes to find each.

use honeylink_core::planted::{Bug, plant};
use honeylink_sim::oracle::Violation;
use honeylink_sim::runner::many::{each, processors};
use honeylink_sim::runner::{Judging, run};
use honeylink_sim::swarm;

/// How many seeds may pass before a mistake is found: what continuous integration runs anyway. A mesh whose mistakes have
/// become harder to see than that fails.
const SEEDS_MAX: u64 = 200;

/// A mistake, and what found it.
pub(crate) struct Found {
    pub(crate) name: &'static str,
    /// Counted from 1: the seed that found it, and what it found.
    pub(crate) by: Option<(u64, Violation)>,
}

/// Looks for every mistake, one after the other by seeds from 1 on.
pub(crate) fn hunt() -> Vec<Found> {
    // What seeds find without a planted mistake is not what was looked for.
    each(&Bug::ALL, processors(), |(bug, name)| {
        plant(Some(*bug));
        let by = (1..=SEEDS_MAX).find_map(|seed| {
            let outcome = run(&swarm::plan(seed), Judging::UntilFirst).ok()?;
            let violation = outcome.violations.into_iter().next()?;
            plant(None);
            let honest = run(&swarm::plan(seed), Judging::UntilFirst).ok()?;
            plant(Some(*bug));
            honest.violations.is_empty().then_some((seed, violation))
        });
        plant(None);
        let seeds = by.as_ref().map_or_else(|| "not found".to_owned(), |(seed, _)| format!("seed {seed}"));
        eprintln!("  {name}: {seeds}");
        Found { name, by }
    })
}

/// The table for the documents.
pub(crate) fn table() -> String {
    let mut out = String::from("| planted mistake | found by | seed |\n|---|---|---|\n");
    for Found { name, by } in hunt() {
        let (oracle, seed) = match by {
            Some((seed, violation)) => (violation.oracle, seed.to_string()),
            None => ("nobody".to_owned(), format!("not within {SEEDS_MAX}")),
        };
        out.push_str(&format!("| `{name}` | `{oracle}` | {seed} |\n"));
    }
    out
}

/// Prints what was found of each mistake, and says how many were and which were not.
pub(crate) fn report() -> (usize, Vec<&'static str>) {
    let found = hunt();
    for Found { name, by } in &found {
        match by {
            Some((seed, violation)) => println!("{name:<26} seed {seed:>3}  {violation}"),
            None => println!("{name:<26} NOT FOUND within {SEEDS_MAX} seeds"),
        }
    }
    let missed: Vec<&str> = found.iter().filter(|found| found.by.is_none()).map(|found| found.name).collect();
    (found.len() - missed.len(), missed)
}
