//! `honeylink-sim`: what `cargo xtask sim` calls.

#[cfg(feature = "bug-plant")]
mod bugs;
mod chart;
mod ci;
mod compare;
mod figures;
mod report;
mod rows;
mod runs;
mod splice;
mod stats;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
usage: honeylink-sim <command>

  ci ROOT JSON FROM COUNT       everything continuous integration runs
  swarm FROM COUNT              plans drawn from so many seeds; failing ones are made smaller and saved
  seed SEED [TRACE]             the swarm plan of one seed, its events written to TRACE
  replay FILE [TRACE]           a run that was saved
  bugs                          how many seeds find each planted mistake (feature bug-plant)
  compare NODES SEEDS           every protocol on random networks
  figure ID SEEDS               S5 or H1 alone, as it stands in the report
  report ROOT JSON SEEDS MINUTES NODES..  the figures of docs/simulation.md, with as many seeds as fit the minutes";

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
        ["bugs"] => match bugs::report() {
            (_, missed) if missed.is_empty() => Ok(()),
            (_, missed) => Err(format!("not found: {}", missed.join(", "))),
        },
        ["compare", nodes, seeds] => compare(size(nodes)?, number(seeds)?),
        ["figure", id, seeds] => {
            let row = figures::one(id, number(seeds)?)?;
            println!("{row:?}");
            Ok(())
        }
        ["report", root, json, seeds, minutes, nodes @ ..] if !nodes.is_empty() => {
            let counts = nodes.iter().map(|count| size(count)).collect::<Result<_, _>>()?;
            let (root, json) = (Path::new(root), Path::new(json));
            let (seeds, minutes) = (number(seeds)?, number(minutes)?);
            report::report(&report::Options { counts, seeds, minutes, root, json })
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
    cells.retain(|cell| cell.shape == honeylink_sim::topology::Shape::Random);
    let runs = runs::Runs::open(&std::env::temp_dir().join("honeylink-sim-compare.jsonl"))?;
    compare::fill(&mut cells, seeds, &runs, &|| true)?;
    print!("{}", report::main_table(&cells));
    Ok(())
}
