//! `cargo xtask`: the house's own commands, so that a laptop, CI and a newcomer run exactly the same checks.
//!
//! One file per step. A step never prints its own verdict: it returns one, and [`step::run_all`] reports it.

mod bench;
mod check;
mod counts;
mod deny;
mod fuzz;
mod house;
mod lab;
mod man;
mod no_c;
mod shows;
mod sim;
mod step;
mod tests;
mod tidy;
mod vectors;

use std::process::ExitCode;

use house::House;

const USAGE: &str = "\
usage: cargo xtask <command>

  check [--fast]               everything CI runs; --fast: fmt, tidy, clippy, core tests, vectors
  tidy                         the house's own rules: arrows, sizes, banned calls, links
  vectors                      the golden bytes of every wire format
  deny                         licences, bans and sources of dependencies (needs cargo-deny)
  no-c                         build the program with a C compiler that always fails
  fuzz [--seconds N] [TARGET]  each fuzz target for N seconds, 30 by default (needs nightly, cargo-fuzz)
  bench [ID]                   every benchmark suite, or one figure
  bench --suite NAME           a named benchmark suite; writes target/report/NAME.json
  bench --rivals               builds what it compares with and what brings C: Zenoh (needs a C compiler)
  sim [--from SEED]            scenarios, saved runs, 200 fresh seeds and planted mistakes in the simulator
  sim --seed SEED | --replay FILE  one run of it again
  sim --report [--minutes N] [NODES..]  the figures of docs/simulation.md
  lab [SCENARIO..]             the product behind real NATs, beside plain iroh; docs/nat-matrix.md
  lab soak [--minutes N]       fifty links, a fault every two seconds, no message lost; 10 minutes
  lab x1 [SEEDS]               the simulator beside emulated modems, three minutes; docs/simulation.md
  man                          man pages into target/man";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let house = House::open();
    match args.as_slice() {
        ["check"] => step::run_all(&house, check::FULL),
        ["check", "--fast"] => step::run_all(&house, check::FAST),
        ["tidy"] => step::run_all(&house, &[check::TIDY]),
        ["vectors"] => step::run_all(&house, &[check::VECTORS]),
        ["deny"] => step::run_all(&house, &[check::DENY]),
        ["no-c"] => step::run_all(&house, &[check::NO_C]),
        ["fuzz", rest @ ..] => answer(fuzz::run(&house, rest)),
        ["bench", "--rivals"] => answer(bench::rivals(&house)),
        ["bench"] => answer(bench::all(&house, None)),
        ["bench", id] if !id.starts_with('-') => answer(bench::all(&house, Some(id))),
        ["bench", "--suite", suite, rest @ ..] => answer(bench::run(&house, suite, rest)),
        ["sim", rest @ ..] => answer(sim::run(&house, rest)),
        ["lab", rest @ ..] => answer(lab::run(&house, rest)),
        ["man"] => answer(man::run(&house)),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The exit code of a command that is not a check: its own words on failure, nothing on success.
fn answer(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
