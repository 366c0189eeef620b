//! What continuous integration runs: scenarios, runs that once failed, fresh seeds, planted mistakes.

use std::path::Path;

use honeylink_sim::oracle::Violation;
use honeylink_sim::plan::Plan;
use honeylink_sim::runner::many::{each, processors};
use honeylink_sim::runner::replay::Replay;
use honeylink_sim::runner::scenarios;
use honeylink_sim::runner::shrink::shrink;
use honeylink_sim::runner::{Judging, Outcome, run, run_writing};
use honeylink_sim::swarm;

use crate::rows::{self, Row};

/// Nobody waits longer for this with every change.
const SECONDS_MAX: f64 = 180.0;
/// Runs spent on making one failing plan smaller.
const SHRINK_RUNS_MAX: u32 = 300;
/// Failing seeds that are shrunk and saved; after some, more tell nothing new.
const SAVED_MAX: usize = 3;

/// What all runs together came to under the law.
#[derive(Default)]
struct Law {
    runs: usize,
    breaches: usize,
}

impl Law {
    fn judge(&mut self, violations: &[Violation]) {
        self.runs += 1;
        self.breaches += violations.iter().filter(|violation| violation.oracle == "duty").count();
    }
}

/// Scenarios and saved runs of the repository at `root`, then `count` seeds from `from` on, then planted mistakes if this
/// program was built with them. The rows of the report go to `json`.
#[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "people wait for it")]
pub(crate) fn all(root: &Path, json: &Path, from: u64, count: u64) -> Result<(), String> {
    let mut wrong = Vec::new();
    let began = std::time::Instant::now();
    let mut law = Law::default();
    wrong.extend(scenarios(&root.join("scenarios"), &mut law).err());
    wrong.extend(corpus(&root.join("crates/sim/corpus"), &mut law).err());
    wrong.extend(fresh(from, count, &mut law).err());
    let seconds = began.elapsed().as_secs_f64();
    let failed = wrong.len();
    let mut rows = vec![
        Row::at_least("S6", "fresh seeds run", count as f64, "", 200.0)
            .of(usize::try_from(count).unwrap_or(0)),
        Row::at_most("S6", "scenarios, saved runs and fresh seeds", seconds, "s", SECONDS_MAX),
        Row::at_most("S6", "kinds of runs that failed", failed as f64, "", 0.0).of(3),
        Row::at_most("A2", "breaches of the duty cycle in the checks", law.breaches as f64, "", 0.0)
            .of(law.runs),
    ];
    #[cfg(feature = "bug-plant")]
    {
        let (found, missed) = crate::bugs::report();
        let all = found + missed.len();
        rows.push(Row::at_least("S7", "planted mistakes found", found as f64, "", all as f64).of(all));
        if !missed.is_empty() {
            wrong.push(format!("not found: {}", missed.join(", ")));
        }
    }
    rows.sort_by_key(|row| row.id);
    rows::write(json, &rows)?;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn scenarios(folder: &Path, law: &mut Law) -> Result<(), String> {
    let files = scenarios::files(folder).map_err(|error| error.to_string())?;
    let mut bad = 0;
    for (file, ran) in files.iter().zip(each(&files, processors(), |file| scenarios::run_file(file, 1))) {
        let ran = ran.map_err(|error| error.to_string())?;
        let Some(summary) = ran.summary() else { return Err(format!("{} panicked", file.display())) };
        law.judge(&ran.outcome.violations);
        let word = if ran.is_good() { "ok" } else { "FAILED" };
        println!(
            "{:<18} {word}: {} of {} delivered, median {:.1} s",
            ran.scenario.name, summary.delivered, summary.sent, summary.latency_p50_s
        );
        for why in ran.outcome.violations.iter().map(ToString::to_string).chain(ran.unmet.clone()) {
            println!("  {why}");
        }
        bad += usize::from(!ran.is_good());
    }
    if bad == 0 { Ok(()) } else { Err(format!("{bad} of {} scenarios failed", files.len())) }
}

/// Runs that failed once must not fail again.
fn corpus(folder: &Path, law: &mut Law) -> Result<(), String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for file in &files {
        let replay = Replay::load(file).map_err(|error| error.to_string())?;
        let outcome = run(&replay.plan, Judging::Strict).map_err(|error| error.to_string())?;
        law.judge(&outcome.violations);
        if let Some(violation) = outcome.violations.first() {
            let file = file.display();
            return Err(format!("{file} fails again: {violation}\n  again: cargo xtask sim --replay {file}"));
        }
    }
    println!("{} saved runs hold", files.len());
    Ok(())
}

/// Runs the swarm plans of `count` seeds from `from` on.
pub(crate) fn swarm(from: u64, count: u64) -> Result<(), String> {
    fresh(from, count, &mut Law::default())
}

fn fresh(from: u64, count: u64, law: &mut Law) -> Result<(), String> {
    println!("seeds {from} to {}", from.saturating_add(count) - 1);
    let seeds: Vec<u64> = (from..from + count).collect();
    let outcomes = each(&seeds, processors(), |seed| run(&swarm::plan(*seed), Judging::Strict));
    let mut failed: Vec<Outcome> = Vec::new();
    let (mut sent, mut delivered) = (0, 0);
    for outcome in outcomes {
        let outcome = outcome.map_err(|error| error.to_string())?;
        if let Some(summary) = outcome.tally.as_ref().map(honeylink_sim::tally::Tally::summary) {
            sent += summary.sent;
            delivered += summary.delivered;
        }
        law.judge(&outcome.violations);
        if !outcome.violations.is_empty() {
            failed.push(outcome);
        }
    }
    println!(
        "{count} seeds from {from}: {delivered} of {sent} messages delivered, {} seeds failed",
        failed.len()
    );
    for outcome in &failed {
        let seed = outcome.seed;
        println!("seed {seed}: {}\n  again: cargo xtask sim --seed {seed}", outcome.violations[0]);
    }
    for outcome in failed.iter().take(SAVED_MAX) {
        save(swarm::plan(outcome.seed), outcome)?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("{} of {count} seeds failed", failed.len())) }
}

fn save(plan: Plan, outcome: &Outcome) -> Result<(), String> {
    let Some(found) = outcome.violations.first().cloned() else { return Ok(()) };
    let name = format!("sim-{}-{}.json", found.oracle, outcome.seed);
    let shrunk = shrink(plan, found, SHRINK_RUNS_MAX);
    let path = Path::new("target").join(name);
    std::fs::create_dir_all("target").map_err(|error| error.to_string())?;
    let Shape { nodes, messages, faults } = Shape::of(&shrunk.plan);
    Replay::new(shrunk.plan, 0, Some(shrunk.found)).save(&path).map_err(|error| error.to_string())?;
    println!("  smaller: {nodes} nodes, {messages} messages, {faults} faults: {}", path.display());
    println!("  again: cargo xtask sim --replay {}", path.display());
    Ok(())
}

struct Shape {
    nodes: usize,
    messages: usize,
    faults: usize,
}

impl Shape {
    fn of(plan: &Plan) -> Self {
        let on = plan.nodes.iter().filter(|node| node.starts_at_ms < plan.end_at_ms).count();
        Self { nodes: on, messages: plan.traffic.len(), faults: plan.faults.len() }
    }
}

/// Runs a plan that was saved.
pub(crate) fn replay(file: &str, lines: Option<&str>) -> Result<(), String> {
    let replay = Replay::load(Path::new(file)).map_err(|error| error.to_string())?;
    one(&replay.plan, lines)
}

/// Runs the swarm plan of one seed.
pub(crate) fn seed(seed: u64, lines: Option<&str>) -> Result<(), String> {
    one(&swarm::plan(seed), lines)
}

fn one(plan: &Plan, lines: Option<&str>) -> Result<(), String> {
    let outcome = match lines {
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|error| format!("{path}: {error}"))?;
            run_writing(plan, Judging::Strict, Box::new(std::io::BufWriter::new(file)))
        }
        None => run(plan, Judging::Strict),
    };
    let outcome = outcome.map_err(|error| error.to_string())?;
    println!("seed {} hash {:016x} events {}", outcome.seed, outcome.hash, outcome.events);
    if let Some(tally) = &outcome.tally {
        println!("{:?}", tally.summary());
    }
    for violation in &outcome.violations {
        println!("{violation}");
    }
    if outcome.violations.is_empty() { Ok(()) } else { Err("promises were broken".to_owned()) }
}
