//! What the lab measures about the mesh: the simulator beside emulated modems.

use crate::house::House;

/// Seeds of the comparison; all run at the same time. One run's airtime is a matter of luck: a search more or less is a tenth
/// of it. The sum of so many is not.
const SEEDS: &str = "32";

/// `lab x1 [SEEDS]`: `scenarios/twin.toml` in the simulator and on emulated modems; the row X1 of the report and the table in
/// docs/simulation.md. Takes about three minutes, because modems live in real time.
pub(crate) fn run(house: &House, args: &[&str]) -> Result<(), String> {
    let seeds = match args {
        ["x1"] => SEEDS,
        ["x1", seeds] => seeds,
        _ => return Err("usage: cargo xtask lab x1 [SEEDS]".to_owned()),
    };
    let mut command =
        house.cargo(&["run", "--quiet", "--locked", "-p", "honeylink-lab", "--bin", "honeylink-twin", "--"]);
    command.arg(house.root.join("scenarios").join("twin.toml"));
    command.arg(house.target.join("report").join("mesh.json"));
    command.arg(house.root.join("docs").join("simulation.md")).arg(seeds);
    house.hand_over(command)
}
