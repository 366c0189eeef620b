//! What continuous integration runs: fresh seeds.

use std::path::Path;

use honeylink_sim::plan::Plan;
use honeylink_sim::runner::many::{each, processors};
use honeylink_sim::runner::replay::Replay;
use honeylink_sim::runner::shrink::shrink;
use honeylink_sim::runner::{Judging, Outcome, run, run_writing};
use honeylink_sim::swarm;

/// Runs spent on making one failing plan smaller.
const SHRINK_RUNS_MAX: u32 = 300;
/// Failing seeds that are shrunk and saved; after some, more tell nothing new.
const SAVED_MAX: usize = 3;

/// Runs the swarm plans of `count` seeds from `from` on.
pub(crate) fn swarm(from: u64, count: u64) -> Result<(), String> {
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
        if !outcome.violations.is_empty() {
            failed.push(outcome);
        }
    }
    println!(
        "{count} seeds from {from}: {delivered} of {sent} messages delivered, {} seeds failed",
        failed.len()
    );
    for outcome in &failed {
        println!("seed {}: {}", outcome.seed, outcome.violations[0]);
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
