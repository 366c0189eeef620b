//! Both runs side by side: the row X1 of `target/report/mesh.json`, and the table of `docs/simulation.md`.

use std::fmt::Write as _;
use std::path::Path;

use honeylink_sim::plan::Plan;
use honeylink_sim::runner::{Judging, run};
use serde_json::{Value, json};

/// How far the two may be apart, percent.
const APART_MAX: f64 = 5.0;

/// What came of one run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    /// Messages sent.
    pub(crate) sent: usize,
    /// Of these, delivered.
    pub(crate) delivered: usize,
    /// What all modems together had on the air after the warm-up, seconds.
    pub(crate) airtime_s: f64,
}

/// The run in the simulator.
pub(crate) fn simulated(plan: &Plan) -> Result<Measured, String> {
    let outcome = run(plan, Judging::Strict).map_err(|error| error.to_string())?;
    if let Some(violation) = outcome.violations.first() {
        return Err(format!("seed {}: {violation}", plan.seed));
    }
    let summary = outcome.tally.map(|tally| tally.summary()).ok_or("a run panicked")?;
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Ok(Measured {
        sent: count(summary.sent),
        delivered: count(summary.delivered),
        airtime_s: summary.airtime_s,
    })
}

/// All runs of one kind together.
struct Sum {
    sent: usize,
    delivered: usize,
    airtime_s: f64,
}

impl Sum {
    fn of(runs: &[Measured]) -> Self {
        let zero = Self { sent: 0, delivered: 0, airtime_s: 0.0 };
        runs.iter().fold(zero, |sum, run| Self {
            sent: sum.sent + run.sent,
            delivered: sum.delivered + run.delivered,
            airtime_s: sum.airtime_s + run.airtime_s,
        })
    }

    fn ratio(&self) -> f64 {
        self.delivered as f64 / self.sent.max(1) as f64
    }
}

/// Shows, compares and writes down. An error if the two are further apart than they may be.
pub(crate) fn write(
    json: &Path,
    page: &Path,
    simulated: &[Measured],
    emulated: &[Measured],
) -> Result<(), String> {
    let (sim, emu) = (Sum::of(simulated), Sum::of(emulated));
    let airtime = 100.0 * (emu.airtime_s / sim.airtime_s - 1.0);
    let delivery = 100.0 * (emu.ratio() - sim.ratio());
    let apart = airtime.abs().max(delivery.abs());
    let ok = apart <= APART_MAX;
    let table = format!(
        "| {} seeds | simulator | emulated modems | apart |\n|---|---|---|---|\n\
         | delivered | {} of {} | {} of {} | {delivery:+.1} % |\n\
         | airtime, s | {:.1} | {:.1} | {airtime:+.1} % |\n",
        emulated.len(),
        sim.delivered,
        sim.sent,
        emu.delivered,
        emu.sent,
        sim.airtime_s,
        emu.airtime_s,
    );
    println!("{}\n{table}", by_seed(simulated, emulated));
    let row = json!({
        "id": "X1",
        "what": "emulated modems against the simulator: airtime or delivery, whichever is further apart",
        "value": apart,
        "unit": "%",
        "peer": ["simulator", 0.0],
        "bar": format!("<= {APART_MAX}"),
        "ok": ok,
        "samples": emulated.len(),
    });
    merge(json, row)?;
    splice(page, &table)?;
    if ok { Ok(()) } else { Err(format!("{apart:.1} % apart, and {APART_MAX} % is allowed")) }
}

fn by_seed(simulated: &[Measured], emulated: &[Measured]) -> String {
    let mut out = String::from(
        "| seed | sent | delivered, simulator | delivered, modems | airtime, simulator, s | airtime, modems, s |\n\
         |---|---|---|---|---|---|\n",
    );
    for (seed, (sim, emu)) in (1..).zip(simulated.iter().zip(emulated)) {
        let _ = writeln!(
            out,
            "| {seed} | {} | {} | {} | {:.2} | {:.2} |",
            sim.sent, sim.delivered, emu.delivered, sim.airtime_s, emu.airtime_s
        );
    }
    out
}

/// Puts the row in the place of the one with its id; rows of others stay.
fn merge(path: &Path, row: Value) -> Result<(), String> {
    let told = |error: &dyn std::error::Error| format!("{}: {error}", path.display());
    let old = std::fs::read_to_string(path).ok();
    let mut rows: Vec<Value> = old.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    rows.retain(|known| known["id"] != row["id"]);
    rows.push(row);
    rows.sort_by_key(|row| row["id"].as_str().unwrap_or_default().to_owned());
    let text = serde_json::to_string_pretty(&rows).map_err(|e| told(&e))?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| told(&e))?;
    }
    std::fs::write(path, text + "\n").map_err(|e| told(&e))
}

const BEGIN: &str = "<!-- twin:begin -->\n";
const END: &str = "<!-- twin:end -->";

fn splice(path: &Path, table: &str) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    let page = std::fs::read_to_string(path).map_err(told)?;
    let parts = page.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let Some((head, tail)) = parts else {
        return Err(format!("{} has no place for this table", path.display()));
    };
    std::fs::write(path, format!("{head}{BEGIN}{table}{END}{tail}")).map_err(told)
}
