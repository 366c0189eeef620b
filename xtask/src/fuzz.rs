//! Runs every target of `fuzz/` for a bounded time each. What a target is, and how to add one: CONTRIBUTING.md.

use std::fs;

use crate::house::House;

/// Seconds for each target when the command line names none.
const SECONDS_DEFAULT: u32 = 30;

pub(crate) fn run(house: &House, args: &[&str]) -> Result<(), String> {
    let (seconds, only) = read_args(args)?;
    let targets = targets(house)?;
    if let Some(name) = only
        && !targets.iter().any(|target| target == name)
    {
        return Err(format!("no fuzz target `{name}`; there are: {}", targets.join(", ")));
    }
    // Through rustup, not `cargo +nightly`: the cargo that runs us has already chosen the stable toolchain.
    if !house.has("rustup", &["run", "nightly", "cargo", "fuzz", "--version"]) {
        let why = "needs nightly and cargo-fuzz (rustup toolchain install nightly; cargo install cargo-fuzz --locked)";
        if house.strict {
            return Err(why.to_owned());
        }
        println!("skipped: {why}");
        return Ok(());
    }
    for target in targets.iter().filter(|target| only.is_none_or(|name| *target == name)) {
        println!("== fuzz {target} for {seconds} s");
        let mut command = house.command("rustup");
        command.args(["run", "nightly", "cargo", "fuzz", "run", target, "--"]);
        command.arg(format!("-max_total_time={seconds}"));
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        // Sanitizer builds share nothing with the others; apart, neither locks nor evicts the other.
        command.env("CARGO_TARGET_DIR", house.target.join("fuzz"));
        house.hand_over(command).map_err(|why| format!("{target}: {why}"))?;
    }
    Ok(())
}

fn read_args<'a>(args: &[&'a str]) -> Result<(u32, Option<&'a str>), String> {
    match args {
        [] => Ok((SECONDS_DEFAULT, None)),
        ["--seconds", value, rest @ ..] => {
            let seconds = value.parse().map_err(|_| format!("--seconds wants a number, not `{value}`"))?;
            Ok((seconds, read_args(rest)?.1))
        }
        [name] if !name.starts_with('-') => Ok((SECONDS_DEFAULT, Some(name))),
        other => Err(format!("fuzz does not know `{}`", other.join(" "))),
    }
}

/// The names of the targets: one file each.
fn targets(house: &House) -> Result<Vec<String>, String> {
    let folder = house.root.join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_a_target_are_both_optional() {
        assert_eq!(read_args(&[]), Ok((SECONDS_DEFAULT, None)));
        assert_eq!(read_args(&["--seconds", "5"]), Ok((5, None)));
        assert_eq!(read_args(&["--seconds", "5", "wire"]), Ok((5, Some("wire"))));
        assert_eq!(read_args(&["wire"]), Ok((SECONDS_DEFAULT, Some("wire"))));
    }

    #[test]
    fn a_wrong_flag_is_an_error_that_names_it() {
        assert!(read_args(&["--secs", "5"]).unwrap_err().contains("--secs"));
        assert!(read_args(&["--seconds", "soon"]).unwrap_err().contains("soon"));
    }
}
