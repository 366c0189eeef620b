//! The simulator: what continuous integration runs of it, and the report that goes into the documents.
//!
//! Built with the planted mistakes: without one chosen they change nothing, and so one build serves for both.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::house::House;

/// Fresh seeds of every run.
const SEEDS: u64 = 200;
/// Seeds of each network in the report.
const REPORT_SEEDS: &str = "30";
/// A report takes as long as it takes, unless told otherwise.
const REPORT_MINUTES: &str = "10000";

/// `sim`: scenarios, saved runs, fresh seeds, planted mistakes. `sim --from N` repeats the seeds of a run that failed.
/// `sim --report [--minutes N] [NODES..]`: the figures of docs/simulation.md; what was run before is not run again, and no
/// run begins after so many minutes.
pub(crate) fn run(house: &House, args: &[&str]) -> Result<(), String> {
    let json = house.target.join("report").join("mesh.json");
    let mut command = program(house);
    match args {
        ["--report", rest @ ..] => {
            let (minutes, counts) = match rest {
                ["--minutes", minutes, counts @ ..] => (*minutes, counts),
                counts => (REPORT_MINUTES, counts),
            };
            command.arg("report").arg(&house.root).arg(json).args([REPORT_SEEDS, minutes]);
            command.args(if counts.is_empty() { &["200", "1000"] } else { counts });
        }
        ["--from", seed] => {
            command.arg("ci").arg(&house.root).arg(json).args([seed, SEEDS.to_string().as_str()]);
        }
        [] => {
            // Fresh: whoever runs this often sees many. The first line of the output says which they were.
            let minute = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 60);
            let from = (minute * SEEDS).to_string();
            command.arg("ci").arg(&house.root).arg(json).args([from, SEEDS.to_string()]);
        }
        _ => return Err("usage: cargo xtask sim [--from SEED | --report [--minutes N] [NODES..]]".to_owned()),
    }
    house.hand_over(command)
}

fn program(house: &House) -> Command {
    let mut command = house.cargo(&["run", "--quiet", "--profile", "sim", "--locked", "-p", "honeylink-sim"]);
    command.args(["--features", "bug-plant", "--"]);
    command
}
