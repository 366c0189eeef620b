//! What the command line asks for, and doing it: which scenarios, how often, where the results go.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::Trouble;
use crate::report::Report;
use crate::run::{self, Outcome};
use crate::scenario::{self, Scenario};
use crate::soak;
use crate::subject::{Programs, Who};

pub(crate) const USAGE: &str = "\
usage: honeylink-lab --scenarios FOLDER --raw FILE --honeylink FILE
                     [--report FILE] [--docs FILE] [--runs N] [--at-a-time N]
                     [--keep FOLDER] [NAME..]

  --scenarios FOLDER  the scenario files
  --raw FILE          the built honeylink-lab-raw, the control
  --honeylink FILE    the built program
  --report FILE       results as JSON
  --docs FILE         puts the tables between the markers of this Markdown file
  --runs N            runs of each scenario, instead of its own number
  --at-a-time N       runs that go on beside each other; 1 otherwise
  --keep FOLDER       homes and logs stay there
  --log LEVELS        of the nodes' logs; info,honeylink=debug otherwise
  --soak              instead of scenarios: fifty links and a fault every two seconds
  --minutes N         of the soak; 10 otherwise
  --links N           of the soak; 50 otherwise
  --seed N            of its faults; 1 otherwise
  NAME..              scenarios, or NAME=VARIANT for one pair of a matrix; all without";

/// A run of a scenario ends after this time: longer than all its steps may take.
const RUN_MAX: Duration = Duration::from_secs(600);
/// What the nodes write down unless somebody says otherwise.
const LOG: &str = "info,honeylink=debug";
/// How long the soak breaks things unless somebody says otherwise.
const SOAK_MINUTES: f64 = 10.0;
/// How many links it holds unless somebody says otherwise.
const SOAK_LINKS: usize = 50;

/// See [`USAGE`].
#[derive(Debug, Default)]
pub(crate) struct Wish {
    scenarios: PathBuf,
    raw: PathBuf,
    honeylink: PathBuf,
    report: Option<PathBuf>,
    docs: Option<PathBuf>,
    runs: Option<u32>,
    at_a_time: Option<NonZeroUsize>,
    keep: Option<PathBuf>,
    log: Option<String>,
    soak: bool,
    minutes: Option<f64>,
    links: Option<usize>,
    seed: Option<u64>,
    names: Vec<String>,
}

impl Wish {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut wish = Self::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--scenarios" => wish.scenarios = args.next()?.into(),
                "--raw" => wish.raw = args.next()?.into(),
                "--honeylink" => wish.honeylink = args.next()?.into(),
                "--report" => wish.report = Some(args.next()?.into()),
                "--docs" => wish.docs = Some(args.next()?.into()),
                "--runs" => wish.runs = Some(args.next()?.parse().ok()?),
                "--at-a-time" => wish.at_a_time = Some(args.next()?.parse().ok()?),
                "--keep" => wish.keep = Some(args.next()?.into()),
                "--log" => wish.log = Some(args.next()?),
                "--soak" => wish.soak = true,
                "--minutes" => wish.minutes = Some(args.next()?.parse().ok()?),
                "--links" => wish.links = Some(args.next()?.parse().ok()?),
                "--seed" => wish.seed = Some(args.next()?.parse().ok()?),
                flag if flag.starts_with('-') => return None,
                _ => wish.names.push(arg),
            }
        }
        let needed = [&wish.scenarios, &wish.raw, &wish.honeylink];
        needed.iter().all(|path| !path.as_os_str().is_empty()).then_some(wish)
    }

    fn wants(&self, scenario: &Scenario, variant: &str) -> bool {
        let one = format!("{}={}", scenario.name, variant.replace(' ', ""));
        self.names.is_empty() || self.names.iter().any(|name| *name == scenario.name || *name == one)
    }
}

/// Runs what is wished; whether everything expected of the product came.
pub(crate) async fn obey(wish: &Wish) -> Result<bool, Trouble> {
    // The first process of a namespace is not ended by a signal it does not ask for.
    let mut ended = signal(SignalKind::terminate())?;
    tokio::select! {
        done = all(wish) => done,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = ended.recv() => Err("told to end".into()),
    }
}

async fn all(wish: &Wish) -> Result<bool, Trouble> {
    let programs = Programs {
        honeylink: wish.honeylink.clone(),
        raw: wish.raw.clone(),
        log: wish.log.clone().unwrap_or_else(|| LOG.to_owned()),
    };
    if wish.soak {
        return long(wish, &programs).await;
    }
    let scenarios = scenario::all(&wish.scenarios)?;
    for name in &wish.names {
        let bare = name.split('=').next().unwrap_or_default();
        if !scenarios.iter().any(|scenario| scenario.name == bare) {
            let known: Vec<_> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
            return Err(format!("no scenario is called `{bare}`; there are {}", known.join(", ")).into());
        }
    }
    let wanted = scenarios.iter().flat_map(|scenario| {
        let variants = scenario.variants().into_iter();
        variants.filter(|(variant, _)| wish.wants(scenario, variant))
    });
    let runs = wanted.flat_map(|(variant, one)| {
        (0..wish.runs.unwrap_or(one.runs)).map(move |number| (variant.clone(), one.clone(), number))
    });
    // Each has a world of its own, and mostly waits. What is reported is in the order of the scenarios all the same.
    let mut outcomes = stream::iter(runs)
        .map(async |(variant, one, number)| {
            let outcome = timed(wish, &programs, &one, &variant, number).await;
            (variant, one, outcome)
        })
        .buffered(wish.at_a_time.map_or(1, NonZeroUsize::get));
    let mut report = Report::default();
    while let Some((variant, one, outcome)) = outcomes.next().await {
        report.take(&one, &variant, outcome);
    }
    report.print();
    if let Some(file) = &wish.report {
        report.write_json(file)?;
    }
    if let Some(file) = &wish.docs {
        report.write_docs(file)?;
    }
    Ok(report.is_good())
}

async fn long(wish: &Wish, programs: &Programs) -> Result<bool, Trouble> {
    let temporary = tempfile::tempdir()?;
    let folder = wish.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder)?;
    let minutes = wish.minutes.unwrap_or(SOAK_MINUTES);
    let found =
        soak::run(programs, minutes, wish.links.unwrap_or(SOAK_LINKS), wish.seed.unwrap_or(1), &folder)
            .await?;
    let json = serde_json::to_string_pretty(&found)?;
    println!("{json}");
    if let Some(file) = &wish.report {
        std::fs::write(file, format!("{json}\n"))?;
    }
    Ok(found.is_good())
}

async fn timed(wish: &Wish, programs: &Programs, scenario: &Scenario, variant: &str, number: u32) -> Outcome {
    let began = Instant::now();
    let outcome = match once(wish, programs, scenario, variant, number).await {
        Ok(outcome) => outcome,
        Err(trouble) => {
            let unmet = vec![format!("the run itself failed: {trouble}")];
            Outcome { unmet, ..Outcome::default() }
        }
    };
    let rung = |who: Who| {
        let ended = outcome.ended.iter().find(|(other, _)| *other == who);
        ended.and_then(|(_, rung)| *rung).map_or("-", scenario::Rung::name)
    };
    println!(
        "{} [{variant}] run {}: {:.1} s, ended {} (iroh {})",
        scenario.name,
        number + 1,
        began.elapsed().as_secs_f64(),
        rung(Who::Honeylink),
        rung(Who::Iroh)
    );
    for sample in &outcome.samples {
        println!("    {:?} {:?} {:?}", sample.who, sample.figure, sample.value.map(f64::round));
    }
    for unmet in &outcome.unmet {
        println!("    NOT MET: {unmet}");
    }
    outcome
}

async fn once(
    wish: &Wish,
    programs: &Programs,
    scenario: &Scenario,
    variant: &str,
    number: u32,
) -> Result<Outcome, Trouble> {
    let kept = wish
        .keep
        .as_ref()
        .map(|keep| keep.join(format!("{}-{}-{number}", scenario.name, variant.replace(' ', ""))));
    let temporary = tempfile::tempdir()?;
    let folder = kept.unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder)?;
    match tokio::time::timeout(RUN_MAX, run::run(programs, scenario, variant, &folder)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("not over after {} s", RUN_MAX.as_secs()).into()),
    }
}
