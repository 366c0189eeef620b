//! `honeylink-sim`: what `cargo xtask sim` calls.

#[cfg(feature = "bug-plant")]
mod bugs;
mod chart;
mod ci;
mod compare;
mod figures;
mod report;
mod rows;
mod splice;
mod stats;

use std::path::Path;
use std::process::ExitCode;

use honeylink_sim::protocol::Protocol;
use honeylink_sim::radio::Physics;

const USAGE: &str = "\
usage: honeylink-sim <command>

  ci ROOT JSON FROM COUNT       everything continuous integration runs
  swarm FROM COUNT              plans drawn from so many seeds; failing ones are made smaller and saved
  seed SEED [TRACE]             the swarm plan of one seed, its events written to TRACE
  replay FILE [TRACE]           a run that was saved
  bugs                          how many seeds find each planted mistake (feature bug-plant)
  compare NODES SEEDS           every protocol on random networks
  report ROOT JSON SEEDS NODES..  the figures of docs/simulation.md";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // A panic in a run is a finding like any other, and is told like any other.
    std::panic::set_hook(Box::new(|_| {}));
    match obey(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn obey(args: &[&str]) -> Result<(), String> {
    match args {
        ["ci", root, json, from, count] => {
            ci::all(Path::new(root), Path::new(json), number(from)?, number(count)?)
        }
        ["swarm", from, count] => ci::swarm(number(from)?, number(count)?),
        ["seed", seed] => ci::seed(number(seed)?, None),
        ["seed", seed, lines] => ci::seed(number(seed)?, Some(lines)),
        ["replay", file] => ci::replay(file, None),
        ["replay", file, lines] => ci::replay(file, Some(lines)),
        #[cfg(feature = "bug-plant")]
        ["bugs"] => bugs::report().map(drop),
        ["compare", nodes, seeds] => compare(size(nodes)?, number(seeds)?),
        ["report", root, json, seeds, nodes @ ..] if !nodes.is_empty() => {
            let counts = nodes.iter().map(|count| size(count)).collect::<Result<_, _>>()?;
            let (root, json) = (Path::new(root), Path::new(json));
            report::report(&report::Options { counts, seeds: number(seeds)?, root, json })
        }
        _ => Err(USAGE.to_owned()),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn size(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn compare(nodes: usize, seeds: u64) -> Result<(), String> {
    let mut cells = compare::main_cells(&[nodes]);
    cells.retain(|cell| {
        cell.shape == honeylink_sim::topology::Shape::Random && cell.physics.1 == Physics::default()
    });
    compare::fill(&mut cells, seeds)?;
    debug_assert_eq!(cells.len(), Protocol::ALL.len());
    print!("{}", report::main_table(&cells));
    Ok(())
}
