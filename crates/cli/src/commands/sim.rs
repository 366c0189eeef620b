//! `honeylink sim`: run scenarios of the mesh in the simulator, repeat runs that failed, compare and sum up traces. Needs
//! no node and no home.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use honeylink_api::{ErrorCode, ExitCode};
use honeylink_sim::oracle::Violation;
use honeylink_sim::plan::Plan;
use honeylink_sim::runner::replay::{Replay, ReplayError};
use honeylink_sim::runner::scenarios::{RunError, judge, load};
use honeylink_sim::runner::shrink::shrink;
use honeylink_sim::runner::{Judging, Outcome as Ended, lines, run as simulate, run_writing};
use honeylink_sim::scenario::Scenario;
use honeylink_sim::swarm;
use honeylink_sim::tally::{Summary, Tally};
use serde::Serialize;

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::output::Printer;

const EXAMPLES: &str = "\
Examples:
  honeylink sim run scenarios/valley.toml --seed 7           one run; the same seed gives the same run
  honeylink sim run --seed 7                                 a network and its misfortunes, drawn from the seed
  honeylink sim run scenarios/valley.toml --trace a.jsonl    write down what happens
  honeylink sim run scenarios/valley.toml --save run.json    keep the run, every choice written out
  honeylink sim run --replay run.json --shrink               again, made as small as still fails
  honeylink sim diff a.jsonl b.jsonl                         where two traces part
  honeylink sim stats a.jsonl                                what a trace amounts to";

/// Run the mesh in a simulator that repeats exactly from a seed
///
/// Simulates radios, links, NATs, disks and clocks around the mesh that this program runs, in virtual time, and checks what
/// it promises. One seed is one run, event for event. Scenarios are TOML files; docs/simulation.md says what is modelled.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Run a scenario, or a run that was saved
    Run(RunArgs),
    /// Show where two traces part
    Diff {
        /// The one trace
        left: PathBuf,
        /// The other
        right: PathBuf,
    },
    /// Sum up a trace
    Stats {
        /// The trace, as --trace wrote it
        trace: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The scenario file; without one, the run is drawn from the seed alone
    #[arg(conflicts_with = "replay")]
    scenario: Option<PathBuf>,
    /// The seed: one number is the whole run [default with a scenario: 1]
    #[arg(long, conflicts_with = "replay")]
    seed: Option<u64>,
    /// Run what --save wrote
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Write what happens to a file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write the run to a file, to replay it
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// If the run breaks a promise, make it as small as still does, and save that
    #[arg(long)]
    shrink: bool,
}

/// Runs spent on making a failing run smaller.
const SHRINK_RUNS_MAX: u32 = 500;

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let out = app.out;
    // Simulating is computing for seconds or minutes.
    let work = tokio::task::spawn_blocking(move || match args.what {
        What::Run(args) => run_one(&out, &args),
        What::Diff { left, right } => diff(&out, &left, &right),
        What::Stats { trace } => stats(&out, &trace),
    });
    tokio::select! {
        done = work => done.map_err(Failure::internal)?,
        () = crate::signals::asked_to_stop() => Err(Failure::new(ErrorCode::Interrupted, "stopped")),
    }
}

/// What a run came to, as `--json` prints it.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    seed: u64,
    /// Equal for equal runs.
    hash: String,
    events: u64,
    #[serde(flatten)]
    summary: Option<Summary>,
    violations: &'a [Violation],
    /// What the scenario expected and did not get.
    unmet: &'a [String],
    ok: bool,
}

fn run_one(out: &Printer, args: &RunArgs) -> Outcome {
    let (plan, scenario) = plan(args)?;
    let ended = simulate_traced(&plan, args.trace.as_deref())?;
    let unmet = scenario.map(|scenario| judge(&scenario, &ended)).unwrap_or_default();
    show(out, &plan, &ended, &unmet)?;
    let ok = ended.violations.is_empty() && unmet.is_empty();
    let found = ended.violations.first().cloned();
    let (kept, path) = match found.clone().filter(|_| args.shrink) {
        Some(found) => {
            out.note("making it smaller");
            let default = PathBuf::from(format!("sim-{}-{}.json", found.oracle, plan.seed));
            let small = shrink(plan, found, SHRINK_RUNS_MAX);
            out.note(&format!("after {} runs: {}", small.runs, small.found));
            let hash = simulate_traced(&small.plan, None)?.hash;
            (Replay::new(small.plan, hash, Some(small.found)), Some(args.save.clone().unwrap_or(default)))
        }
        None => (Replay::new(plan, ended.hash, found), args.save.clone()),
    };
    if let Some(path) = path {
        kept.save(&path).map_err(|error| unusable("write", &path, error))?;
        out.note(&format!("saved; again with: honeylink sim run --replay {}", path.display()));
    }
    if ok { Ok(ExitCode::Ok) } else { Err(Failure::Reported(ExitCode::Failed)) }
}

/// The run that was asked for, and the scenario it comes from, whose expectations it must meet.
fn plan(args: &RunArgs) -> Result<(Plan, Option<Scenario>), Failure> {
    if let Some(file) = &args.replay {
        let replay = Replay::load(file).map_err(|error| unusable("read", file, error))?;
        return Ok((replay.plan, None));
    }
    let Some(file) = &args.scenario else {
        return match args.seed {
            Some(seed) => Ok((swarm::plan(seed), None)),
            None => Err(Failure::hint(
                ErrorCode::Config,
                "nothing to run",
                "name a scenario file, or draw a run with --seed NUMBER, or repeat one with --replay FILE",
            )),
        };
    };
    let seed = args.seed.unwrap_or(1);
    let scenario = load(file).map_err(|error| match error {
        RunError::File { error, .. } => Failure::file("read", file, &error),
        RunError::Scenario(_) | RunError::Build { .. } => Failure::new(ErrorCode::Config, error.to_string()),
    })?;
    Ok((scenario.plan(seed), Some(scenario)))
}

fn unusable(action: &str, path: &Path, error: ReplayError) -> Failure {
    match error {
        ReplayError::File { error, .. } => Failure::file(action, path, &error),
        ReplayError::Format { .. } | ReplayError::Version { .. } => {
            Failure::new(ErrorCode::Config, error.to_string())
        }
    }
}

fn simulate_traced(plan: &Plan, trace: Option<&Path>) -> Result<Ended, Failure> {
    let ended = match trace {
        None => simulate(plan, Judging::Strict),
        Some(path) => {
            let file = File::create(path).map_err(|error| Failure::file("write", path, &error))?;
            run_writing(plan, Judging::Strict, Box::new(std::io::BufWriter::new(file)))
        }
    };
    ended.map_err(|error| Failure::new(ErrorCode::Config, error.to_string()))
}

fn show(out: &Printer, plan: &Plan, ended: &Ended, unmet: &[String]) -> Result<(), Failure> {
    let summary = ended.tally.as_ref().map(Tally::summary);
    let ok = ended.violations.is_empty() && unmet.is_empty();
    if out.json {
        return out.json(&Report {
            name: &plan.name,
            seed: ended.seed,
            hash: format!("{:016x}", ended.hash),
            events: ended.events,
            summary,
            violations: &ended.violations,
            unmet,
            ok,
        });
    }
    out.line(&format!(
        "{}, seed {}: {} events, hash {:016x}",
        plan.name, ended.seed, ended.events, ended.hash
    ))?;
    if let Some(sum) = summary {
        out.line(&format!(
            "  delivered {} of {}, confirmed {}; median {:.1} s, 95 % within {:.1} s",
            sum.delivered, sum.sent, sum.confirmed, sum.latency_p50_s, sum.latency_p95_s
        ))?;
        out.line(&format!(
            "  airtime {:.1} s, {:.2} s for each delivered; {:.0} % of it control",
            sum.airtime_s,
            sum.airtime_per_delivered_s,
            100.0 * sum.control_share
        ))?;
    }
    for violation in &ended.violations {
        out.line(&format!("  BROKEN {violation}"))?;
    }
    for wish in unmet {
        out.line(&format!("  UNMET {wish}"))?;
    }
    Ok(())
}

fn diff(out: &Printer, left: &Path, right: &Path) -> Outcome {
    let parting =
        lines::diff(open(left)?, open(right)?).map_err(|error| Failure::file("read", left, &error))?;
    let Some(parting) = parting else {
        if out.json {
            out.json(&serde_json::json!({ "same": true }))?;
        } else {
            out.line("the traces are the same")?;
        }
        return Ok(ExitCode::Ok);
    };
    if out.json {
        out.json(&parting)?;
    } else {
        out.line(&format!("the traces part at line {}", parting.line))?;
        for line in &parting.before {
            out.line(&format!("    {line}"))?;
        }
        for (mark, line) in [("-", &parting.left), ("+", &parting.right)] {
            out.line(&format!("{mark}   {}", line.as_deref().unwrap_or("(ends)")))?;
        }
    }
    Err(Failure::Reported(ExitCode::Failed))
}

fn stats(out: &Printer, trace: &Path) -> Outcome {
    let digest = lines::digest(open(trace)?).map_err(|error| {
        if error.kind() == std::io::ErrorKind::InvalidData {
            Failure::hint(
                ErrorCode::Config,
                format!("{} is no trace: {error}", trace.display()),
                "honeylink sim run SCENARIO --trace FILE writes one",
            )
        } else {
            Failure::file("read", trace, &error)
        }
    })?;
    if out.json {
        out.json(&digest)?;
        return Ok(ExitCode::Ok);
    }
    out.line(&format!("{}, seed {}", digest.name, digest.seed))?;
    out.line(&format!(
        "  delivered {} of {}, the slowest after {:.1} s",
        digest.delivered, digest.sent, digest.slowest_s
    ))?;
    for (class, seconds) in &digest.airtime_s {
        out.line(&format!("  {seconds:>10.1} s on the air for {class}"))?;
    }
    for (why, count) in &digest.unheard {
        out.line(&format!("  {count:>10} missed: {why}"))?;
    }
    for (seconds, node) in &digest.busiest {
        out.line(&format!("  {seconds:>10.1} s on the air by n{node}"))?;
    }
    Ok(ExitCode::Ok)
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    File::open(path).map(BufReader::new).map_err(|error| Failure::file("read", path, &error))
}
