//! Named benchmark suites, measured by the lab's program `honeylink-bench`, which writes a report per suite.
//!
//! The lab and not the command line's crate is their home: rows about the library need raw iroh beside it, and rows about
//! the program start it as a user would, so it is built first, as it is released.

use crate::house::House;

const SUITES: &[&str] = &["first-link", "qos"];

/// Builds the program and the benchmarks, and runs suite `name`, handing it `args`, where the program is and
/// `--report <target>/report/<name>.json`.
pub(crate) fn run(house: &House, name: &str, args: &[&str]) -> Result<(), String> {
    let suite = find(name)?;
    let folder = house.target.join("report");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let report = folder.join(format!("{suite}.json"));
    let program = house.target.join("release").join(format!("honeylink{}", std::env::consts::EXE_SUFFIX));
    house.hand_over(house.cargo(&["build", "--release", "--locked", "-p", "honeylink-cli"]))?;
    let mut command = house.cargo(&["run", "--release", "--locked", "-p", "honeylink-lab"]);
    command.args(["--bin", "honeylink-bench", "--", "--suite", suite, "--report"]).arg(report);
    command.arg("--program").arg(program).args(args);
    house.hand_over(command)
}

fn find(name: &str) -> Result<&'static str, String> {
    let known = SUITES.iter().copied().find(|suite| *suite == name);
    known.ok_or_else(|| format!("no such suite: `{name}`; there are: {}", SUITES.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_suite_is_an_error_that_lists_the_known() {
        let why = find("second-link").err().unwrap();
        assert!(why.starts_with("no such suite: `second-link`") && why.contains("first-link"), "{why}");
    }
}
