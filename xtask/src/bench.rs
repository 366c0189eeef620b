//! Named benchmark suites, measured by the lab's program `honeylink-bench`, which writes a report per suite.
//!
//! The lab and not the command line's crate is their home: rows about the library need raw iroh beside it, and rows about
//! the program start it as a user would, so it is built first, as it is released. What the suite `instructions`
//! counts is a program of its own. So is the load over Zenoh, which brings C: a workspace of its own, `rivals`, that
//! [`rivals`] builds and that is measured where it was built.

use std::path::PathBuf;

use crate::house::House;

/// Each suite and what begins the ids of its figures.
const SUITES: &[(&str, &[&str])] =
    &[("first-link", &["R", "D", "C", "L", "M", "F"]), ("qos", &["Q", "T", "E"]), ("instructions", &["I"])];

/// The counts that the suite `instructions` compares with.
const BASELINE: &str = "crates/lab/instructions.json";

/// The program that carries the load over Zenoh.
const ZENOH: &str = "honeylink-rival-zenoh";

/// Every suite; or with an id the suite that has it, and of that only this figure.
pub(crate) fn all(house: &House, id: Option<&str>) -> Result<(), String> {
    let Some(id) = id else {
        // A bar that is missed in one suite must not hide the next.
        let ended: Vec<_> = SUITES.iter().filter_map(|(suite, _)| run(house, suite, &[]).err()).collect();
        return if ended.is_empty() { Ok(()) } else { Err(ended.join("\n")) };
    };
    let upper = id.to_ascii_uppercase();
    let suite = SUITES.iter().find(|(_, begins)| begins.iter().any(|begin| upper.starts_with(begin)));
    run(house, suite.ok_or_else(|| format!("no figure is called `{id}`"))?.0, &["--only", id])
}

/// Builds the programs and the benchmarks, and runs suite `name`, handing it `args`, where the programs are and
/// `--report <target>/report/<name>.json`.
pub(crate) fn run(house: &House, name: &str, args: &[&str]) -> Result<(), String> {
    let suite = find(name)?;
    let folder = house.target.join("report");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let report = folder.join(format!("{suite}.json"));
    let mut programs: Vec<(&str, PathBuf)> = Vec::new();
    match suite {
        "instructions" => {
            programs.push(("--counted", counted(house)?));
            programs.push(("--baseline", house.root.join(BASELINE)));
        }
        "qos" if !args.contains(&"--zenoh") => {
            let zenoh = rival(house, ZENOH);
            programs.extend(zenoh.is_file().then_some(("--zenoh", zenoh)));
        }
        "qos" => {}
        _ => {
            house.hand_over(house.cargo(&["build", "--release", "--locked", "-p", "honeylink-cli"]))?;
            programs.push(("--program", built(house, "honeylink")));
        }
    }
    let mut command = house.cargo(&["run", "--release", "--locked", "-p", "honeylink-lab"]);
    command.args(["--bin", "honeylink-bench", "--", "--suite", suite, "--report"]).arg(report).args(args);
    for (flag, file) in programs {
        command.arg(flag).arg(file);
    }
    house.hand_over(command)
}

/// Where a release build of the workspace puts a program.
fn built(house: &House, program: &str) -> PathBuf {
    house.target.join("release").join(format!("{program}{}", std::env::consts::EXE_SUFFIX))
}

/// The program whose instructions are counted, in a target folder of its own: the cryptography looks for instructions that
/// valgrind runs and denies (its bug 494162), and only a build with this variable goes on.
fn counted(house: &House) -> Result<PathBuf, String> {
    let target = house.target.join("counted");
    let mut command = house.cargo(&["build", "--release", "--locked", "-p", "honeylink-lab"]);
    command.args(["--bin", "honeylink-counted"]);
    command.env("VALGRIND_BUG_494162", "1").env("CARGO_TARGET_DIR", &target);
    house.hand_over(command)?;
    Ok(target.join("release").join("honeylink-counted"))
}

/// Builds what suites compare with where that is a library which brings C. The target folder is its own too: nothing of it
/// is unified with a build of the product.
pub(crate) fn rivals(house: &House) -> Result<(), String> {
    let mut command =
        house.cargo(&["build", "--release", "--locked", "--manifest-path", "rivals/Cargo.toml"]);
    command.env("CARGO_TARGET_DIR", house.target.join("rivals"));
    house.hand_over(command)
}

/// Where [`rivals`] puts a program.
fn rival(house: &House, program: &str) -> PathBuf {
    house.target.join("rivals/release").join(program)
}

fn find(name: &str) -> Result<&'static str, String> {
    let known = SUITES.iter().map(|(suite, _)| *suite);
    let list = || known.clone().collect::<Vec<_>>().join(", ");
    known
        .clone()
        .find(|suite| *suite == name)
        .ok_or_else(|| format!("no such suite: `{name}`; there are: {}", list()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_suite_is_an_error_that_lists_the_known() {
        let why = find("second-link").err().unwrap();
        assert!(why.starts_with("no such suite: `second-link`") && why.contains("first-link"), "{why}");
    }

    #[test]
    fn a_figure_nobody_has_is_an_error_that_names_it() {
        assert_eq!(all(&House::open(), Some("X9")).err().unwrap(), "no figure is called `X9`");
    }
}
