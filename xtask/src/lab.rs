//! The lab: the product behind real NATs in network namespaces, and the simulator's radio beside emulated modems.

use std::process::Command;

use crate::house::House;

/// Seeds of the comparison; all run at the same time. One run's airtime is a matter of luck: a search more or less is a tenth
/// of it. The sum of so many is not.
const SEEDS: &str = "32";

/// Runs of scenarios beside each other: they mostly wait, and two processors carry this many without being late.
const AT_A_TIME: &str = "3";

/// `lab [SCENARIO..]`: the NAT lab, all scenarios or some; `lab soak [--minutes N]`; `lab x1`: the mesh on emulated modems.
pub(crate) fn run(house: &House, args: &[&str]) -> Result<(), String> {
    match args {
        ["x1", rest @ ..] => x1(house, rest),
        _ => nat(house, args),
    }
}

/// Everything, or the scenarios in `args`. The report is written in any case, the docs only when all were run.
fn nat(house: &House, args: &[&str]) -> Result<(), String> {
    house.hand_over(build(house))?;
    let mut command = program(house);
    let report = |name: &str| house.target.join("report").join(name);
    if let ["soak", rest @ ..] = args {
        command.arg("--soak").arg("--report").arg(report("lab-soak.json")).args(rest);
        return house.hand_over(command);
    }
    command.arg("--report").arg(report("lab.json")).args(["--at-a-time", AT_A_TIME]);
    let all = !args.iter().any(|arg| !arg.starts_with('-'));
    if all {
        command.arg("--docs").arg(house.root.join("docs").join("nat-matrix.md"));
    }
    command.args(args);
    house.hand_over(command)
}

/// Together, so that both share one build of the library.
fn build(house: &House) -> Command {
    let mut command =
        house.cargo(&["build", "--quiet", "--locked", "-p", "honeylink-lab", "-p", "honeylink-cli"]);
    command.args(["--bin", "honeylink-lab", "--bin", "honeylink-lab-raw", "--bin", "honeylink"]);
    command
}

/// The lab's program, told where everything is.
fn program(house: &House) -> Command {
    let built = house.target.join("debug");
    let mut command = house.command(&built.join("honeylink-lab").display().to_string());
    command.arg("--scenarios").arg(house.root.join("scenarios").join("lab"));
    command.arg("--raw").arg(built.join("honeylink-lab-raw"));
    command.arg("--honeylink").arg(built.join("honeylink"));
    command
}

/// `lab x1 [SEEDS]`: `scenarios/twin.toml` in the simulator and on emulated modems; the row X1 of the report and the table in
/// docs/simulation.md. Takes about three minutes, because modems live in real time.
fn x1(house: &House, args: &[&str]) -> Result<(), String> {
    let seeds = match args {
        [] => SEEDS,
        [seeds] => seeds,
        _ => return Err("usage: cargo xtask lab x1 [SEEDS]".to_owned()),
    };
    let mut command =
        house.cargo(&["run", "--quiet", "--locked", "-p", "honeylink-lab", "--bin", "honeylink-twin", "--"]);
    command.arg(house.root.join("scenarios").join("twin.toml"));
    command.arg(house.target.join("report").join("mesh.json"));
    command.arg(house.root.join("docs").join("simulation.md")).arg(seeds);
    house.hand_over(command)
}
