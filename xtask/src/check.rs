//! The lists of steps behind `cargo xtask check`, cheapest first.

use crate::house::House;
use crate::step::{Step, Verdict};
use crate::{deny, no_c, shows, sim, tests, tidy, vectors};

pub(crate) const TIDY: Step = Step { name: "tidy", run: tidy::step };
pub(crate) const VECTORS: Step = Step { name: "vectors", run: vectors::step };
pub(crate) const DENY: Step = Step { name: "deny", run: deny::step };
pub(crate) const NO_C: Step = Step { name: "no-c", run: no_c::step };
const FMT: Step = Step { name: "fmt", run: fmt };
const CLIPPY: Step = Step { name: "clippy", run: clippy };
const DOC: Step = Step { name: "doc", run: doc };
const EXAMPLES: Step = Step { name: "examples", run: shows::examples };
const DEMO: Step = Step { name: "demo", run: shows::demo };
const SIM: Step = Step { name: "sim", run: sim::step };
const TESTS: Step = Step { name: "tests", run: tests::all };
const CORE_TESTS: Step = Step { name: "core tests", run: tests::core };

/// Everything; what CI runs.
pub(crate) const FULL: &[Step] = &[FMT, TIDY, DENY, CLIPPY, DOC, TESTS, VECTORS, SIM, EXAMPLES, DEMO, NO_C];
/// What fits between two edits: under a minute once the dependencies are built.
pub(crate) const FAST: &[Step] = &[FMT, TIDY, CLIPPY, CORE_TESTS, VECTORS];

fn fmt(house: &House) -> Verdict {
    plain(house, house.cargo(&["fmt", "--all", "--check"]))
}

fn clippy(house: &House) -> Verdict {
    let mut command = house.cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--locked"]);
    command.args(["--", "-D", "warnings"]);
    plain(house, command)
}

fn doc(house: &House) -> Verdict {
    let mut command = house.cargo(&["doc", "--quiet", "--no-deps", "--workspace", "--locked"]);
    // What applications test with is behind a feature, and read as much as anything.
    command.args(["--features", "honeylink/testing"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    plain(house, command)
}

/// A step that is one command: it passes when the command does.
pub(crate) fn plain(house: &House, command: std::process::Command) -> Verdict {
    match house.run(command, |_| false) {
        Ok(ran) if ran.ok => Verdict::Passed,
        Ok(ran) => Verdict::failed(ran.output),
        Err(error) => Verdict::failed(format!("cannot run the command: {error}")),
    }
}
