//! The test steps: plain `cargo test`, so that doctests run too, with what it printed counted.

use std::process::Command;

use crate::counts::{Counts, failures_only};
use crate::house::House;
use crate::step::Verdict;

/// So many failed tests are run again by themselves; where more fail, it is not for want of time.
const AGAIN_MAX: usize = 3;

/// Every test of the workspace. Some hundred of them run real networks and processes beside each other, so one that was starved
/// is run again alone; if it passes then, the summary names it as unsteady, which is a fault of the test to be mended.
pub(crate) fn all(house: &House) -> Verdict {
    let verdict = tested(house, everything(house, &[]));
    let Verdict::Failed(output, mut counts) = verdict else { return verdict };
    let few = (1..=AGAIN_MAX).contains(&counts.failing.len());
    if !few || counts.failing.len() != counts.failed as usize {
        return Verdict::Failed(output, counts);
    }
    println!("{}\n   again, alone: {}", output.trim_end(), counts.failing.join(", "));
    match tested(house, everything(house, &counts.failing)) {
        Verdict::Tested(again) if again.passed >= counts.failed => {
            counts.passed += counts.failed;
            counts.failed = 0;
            counts.unsteady = std::mem::take(&mut counts.failing);
            Verdict::Tested(counts)
        }
        Verdict::Failed(again, _) => Verdict::Failed(again, counts),
        // They did not run: their names were read wrongly.
        Verdict::Passed | Verdict::Tested(_) | Verdict::Skipped(_) => Verdict::Failed(output, counts),
    }
}

/// The tests of the workspace, or those so named one after the other.
fn everything(house: &House, names: &[String]) -> Command {
    // --show-output: a passing test prints `skipped: ..` when the machine lacks something; it must reach us.
    let mut command =
        house.cargo(&["test", "--workspace", "--locked", "--no-fail-fast", "--", "--show-output"]);
    if !names.is_empty() {
        command.args(["--exact", "--test-threads", "1"]).args(names);
    }
    command
}

/// The tests of the pure core only.
pub(crate) fn core(house: &House) -> Verdict {
    tested(house, house.cargo(&["test", "-p", "honeylink-core", "--locked", "--no-fail-fast"]))
}

/// Runs a `cargo test` command and turns its output into a verdict.
pub(crate) fn tested(house: &House, command: Command) -> Verdict {
    let moving = |line: &str| line.starts_with("Running ") || line.starts_with("test result:");
    match house.run(command, moving) {
        Ok(ran) if ran.ok => Verdict::Tested(Counts::read(&ran.output)),
        Ok(ran) => Verdict::Failed(failures_only(&ran.output), Counts::read(&ran.output)),
        Err(error) => Verdict::failed(format!("cannot run cargo test: {error}")),
    }
}
