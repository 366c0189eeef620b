//! The test steps: plain `cargo test`, so that doctests run too, with what it printed counted.

use std::process::Command;

use crate::counts::{Counts, failures_only};
use crate::house::House;
use crate::step::Verdict;

/// Every test of the workspace.
pub(crate) fn all(house: &House) -> Verdict {
    // --show-output: a passing test prints `skipped: ..` when the machine lacks something; it must reach us.
    tested(house, house.cargo(&["test", "--workspace", "--locked", "--no-fail-fast", "--", "--show-output"]))
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
