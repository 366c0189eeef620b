//! The simulator: what continuous integration runs of it, and the report that goes into the documents.
//!
//! Built with the planted mistakes: without one chosen they change nothing, and so one build serves for both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use crate::house::House;
use crate::step::Verdict;

/// Fresh seeds of every run.
const SEEDS: u64 = 200;
/// What the seeds of the check are drawn from: everything that decides what a seed finds.
const DECIDING: [&str; 3] = ["crates/core/src/mesh", "crates/core/src/radio", "crates/sim/src"];
/// Seeds of each network in the report.
const REPORT_SEEDS: &str = "30";
/// A report takes as long as it takes, unless told otherwise.
const REPORT_MINUTES: &str = "10000";

/// `sim`: scenarios, saved runs, fresh seeds, planted mistakes. `sim --from N` repeats the seeds of a run that failed,
/// `sim --seed N` one of them, `sim --replay FILE` a plan that was saved.
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
        ["--seed", seed] => {
            command.args(["seed", seed]);
        }
        ["--replay", file] => {
            command.args(["replay", file]);
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
        _ => {
            let usage = "[--from SEED | --seed SEED | --replay FILE | --report [--minutes N] [NODES..]]";
            return Err(format!("usage: cargo xtask sim {usage}"));
        }
    }
    house.hand_over(command)
}

/// The step of the check. Its seeds are other ones whenever the mesh, the radio or the simulator is changed and the same
/// ones until then: what passes here passes everywhere, and a failure belongs to the change that it came with.
pub(crate) fn step(house: &House) -> Verdict {
    let from = match drawn(house) {
        Ok(digest) => digest % 1_000_000 * SEEDS,
        Err(error) => return Verdict::failed(format!("cannot read the sources: {error}")),
    };
    let mut command = program(house);
    let json = house.target.join("report").join("mesh.json");
    command.arg("ci").arg(&house.root).arg(json).args([from, SEEDS].map(|number| number.to_string()));
    match house.run(command, |line| line.starts_with("seeds ")) {
        Ok(ran) if ran.ok => Verdict::Passed,
        Ok(ran) => Verdict::failed(format!("{}\nall of it again: cargo xtask sim --from {from}", ran.output)),
        Err(error) => Verdict::failed(format!("cannot run the simulator: {error}")),
    }
}

/// A digest of the deciding sources, FNV-1a: the same on every machine and with every compiler.
fn drawn(house: &House) -> io::Result<u64> {
    let mut files = Vec::new();
    for folder in DECIDING {
        list(&house.root.join(folder), &mut files)?;
    }
    files.sort();
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        for byte in fs::read(file)? {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(digest)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn program(house: &House) -> Command {
    let mut command = house.cargo(&["run", "--quiet", "--profile", "sim", "--locked", "-p", "honeylink-sim"]);
    command.args(["--features", "bug-plant", "--"]);
    command
}
