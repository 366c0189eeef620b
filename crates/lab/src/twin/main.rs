//! `honeylink-twin`: one scenario twice, in the simulator and on emulated modems under the whole product, side by side.
//! Called by `cargo xtask lab x1`.
//!
//! The simulator drives the mesh alone, over its own model of modems, in virtual time. Here the same plan runs in real time:
//! nodes, pump, disk, serial driver, pseudo-terminals, and modems that share no code with the simulator's. What both agree on
//! is not owed to the way one of them is built.

#[cfg(target_os = "linux")]
mod emulated;
#[cfg(target_os = "linux")]
mod report;

use std::process::ExitCode;

const USAGE: &str = "usage: honeylink-twin SCENARIO REPORT.json PAGE.md SEEDS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match obey(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn obey(_args: &[String]) -> Result<(), String> {
    Err("emulated modems need the pseudo-terminals of Linux".to_owned())
}

#[cfg(target_os = "linux")]
fn obey(args: &[String]) -> Result<(), String> {
    use std::path::Path;

    let [scenario, json, page, seeds] = args else { return Err(USAGE.to_owned()) };
    let seeds: u64 = seeds.parse().map_err(|_| USAGE.to_owned())?;
    let scenario = honeylink_sim::runner::scenarios::load(Path::new(scenario)).map_err(|e| e.to_string())?;
    let plans: Vec<_> = (1..=seeds).map(|seed| scenario.plan(seed)).collect();
    let simulated = plans.iter().map(report::simulated).collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let emulated = runtime.map_err(|e| e.to_string())?.block_on(emulated::all(&plans))?;
    report::write(Path::new(json), Path::new(page), &simulated, &emulated)
}
