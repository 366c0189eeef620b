//! Named benchmark suites. Each is a release-built example of the crate it measures, which writes its own report.

use crate::house::House;

/// A suite: its name on the command line, and the package and example that measure it.
struct Suite {
    name: &'static str,
    package: &'static str,
    example: &'static str,
}

const SUITES: &[Suite] = &[Suite { name: "first-link", package: "honeylink-cli", example: "bench" }];

/// Builds and runs suite `name`, handing it `args` and `--report <target>/report/<name>.json`.
pub(crate) fn run(house: &House, name: &str, args: &[&str]) -> Result<(), String> {
    let suite = find(name)?;
    let folder = house.target.join("report");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let report = folder.join(format!("{name}.json"));
    let mut command =
        house.cargo(&["run", "--release", "--locked", "-p", suite.package, "--example", suite.example]);
    command.args(["--", "--suite", name, "--report"]).arg(report).args(args);
    house.hand_over(command)
}

fn find(name: &str) -> Result<&'static Suite, String> {
    SUITES.iter().find(|suite| suite.name == name).ok_or_else(|| {
        let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
        format!("no such suite: `{name}`; there are: {}", names.join(", "))
    })
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
