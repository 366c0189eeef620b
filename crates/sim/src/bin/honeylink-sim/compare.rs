//! The comparison: every protocol on every network, many seeds, the same radios and the same traffic.

use honeylink_sim::plan::Plan;
use honeylink_sim::protocol::Protocol;
use honeylink_sim::radio::{Physics, Terrain};
use honeylink_sim::runner::many::{each, processors};
use honeylink_sim::runner::{Judging, run};
use honeylink_sim::scenario::{Nodes, Radio, Scenario, Traffic};
use honeylink_sim::tally::Summary;
use honeylink_sim::topology::Shape;

use crate::runs::{Ran, Runs};
use crate::stats::Estimate;

/// One place of the table: a protocol on a network.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) shape: Shape,
    pub(crate) count: usize,
    /// What the radios are like, and what that is called.
    pub(crate) radio: (&'static str, Radio),
    pub(crate) protocol: Protocol,
    /// One for each seed.
    pub(crate) runs: Vec<Summary>,
    /// Broken laws of all seeds together.
    pub(crate) violations: usize,
}

impl Cell {
    fn new(shape: Shape, count: usize, radio: (&'static str, Radio), protocol: Protocol) -> Self {
        Self { shape, count, radio, protocol, runs: Vec::new(), violations: 0 }
    }

    /// What its runs are filed under.
    fn name(&self) -> String {
        format!("{}/{}/{}/{}", self.shape.as_str(), self.count, self.radio.0, self.protocol.as_str())
    }

    /// The mean over seeds of one number of the summary.
    pub(crate) fn mean(&self, of: impl Fn(&Summary) -> f64) -> Estimate {
        Estimate::of(&self.runs.iter().map(of).collect::<Vec<_>>())
    }

    /// Airtime for each delivered message over all seeds; a run that delivers nothing has no figure of its own.
    pub(crate) fn airtime_per_delivered(&self) -> Estimate {
        let some: Vec<f64> =
            self.runs.iter().filter(|run| run.delivered > 0).map(|run| run.airtime_per_delivered_s).collect();
        Estimate::of(&some)
    }
}

/// Everything is simulated.
const ALL_PHYSICS: &str = "all";

/// The scenario of a cell. People write to each other in pairs, five messages in turn within the hour, after an hour in
/// which whoever wants to may announce itself.
fn scenario(cell: &Cell) -> Scenario {
    Scenario {
        name: format!("{} of {}", cell.shape.as_str(), cell.count),
        protocol: cell.protocol,
        duration_s: 3_600,
        warm_up_s: 3_600,
        settle_s: 600,
        nodes: Nodes { count: cell.count, shape: cell.shape, degree: 8.0, ..Nodes::default() },
        radio: Some(cell.radio.1),
        traffic: Traffic {
            conversations: (cell.count / 25).max(8),
            between: None,
            messages_each: 5,
            bytes: 20,
            lifetime_s: 3_600,
        },
        ..Scenario::default()
    }
}

/// The cells of the main table.
pub(crate) fn main_cells(counts: &[usize]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for count in counts {
        for shape in [Shape::Grid, Shape::Random, Shape::Clustered] {
            for (protocol, _) in Protocol::ALL {
                cells.push(Cell::new(shape, *count, (ALL_PHYSICS, Radio::default()), protocol));
            }
        }
    }
    cells
}

/// The cells that show what each physical effect is worth.
pub(crate) fn ablation_cells(count: usize) -> Vec<Cell> {
    let (all, terrain) = (Physics::default(), Terrain::default());
    let with = |physics, terrain| Radio { physics, terrain, ..Radio::default() };
    let variants = [
        (ALL_PHYSICS, with(all, terrain)),
        ("no half-duplex", with(Physics { half_duplex: false, ..all }, terrain)),
        ("no capture", with(Physics { capture_db: None, ..all }, terrain)),
        ("no carrier sense", with(Physics { carrier_sense: false, ..all }, terrain)),
        ("no fading", with(all, Terrain { fading_db: 0.0, ..terrain })),
        ("ideal", with(Physics::ideal(), terrain)),
    ];
    let one = |radio| Protocol::ALL.map(|(protocol, _)| Cell::new(Shape::Random, count, radio, protocol));
    variants.into_iter().flat_map(one).collect()
}

/// Runs what is missing of `seeds` seeds of every cell, as long as `may_go_on`, and puts what there is into the cells. All
/// cells get their first seed before any gets its second: whenever this stops, there is something to compare.
pub(crate) fn fill(
    cells: &mut [Cell],
    seeds: u64,
    runs: &Runs,
    may_go_on: &(impl Fn() -> bool + Sync),
) -> Result<(), String> {
    let made = |cell: &Cell, seed: u64| runs.known(&cell.name(), seed);
    let mut jobs: Vec<(usize, u64)> = Vec::new();
    for seed in 1..=seeds {
        jobs.extend((0..cells.len()).filter(|index| made(&cells[*index], seed).is_none()).map(|i| (i, seed)));
    }
    let total = jobs.len();
    let done = std::sync::atomic::AtomicUsize::new(0);
    let results = each(&jobs, processors(), |(index, seed)| -> Result<(), String> {
        if !may_go_on() {
            return Ok(());
        }
        let cell = &cells[*index];
        let plan: Plan = scenario(cell).plan(*seed);
        let outcome = run(&plan, Judging::Lawful).map_err(|error| error.to_string())?;
        let summary = outcome.tally.map(|tally| tally.summary());
        runs.append(&cell.name(), *seed, Ran { summary, violations: outcome.violations.len() })?;
        let count = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        if count.is_multiple_of(50) {
            eprintln!("  {count} of {total} runs");
        }
        Ok(())
    });
    results.into_iter().collect::<Result<(), String>>()?;
    for cell in cells.iter_mut() {
        let name = cell.name();
        (cell.runs, cell.violations) = (Vec::new(), 0);
        for ran in (1..=seeds).filter_map(|seed| runs.known(&name, seed)) {
            cell.violations += ran.violations;
            cell.runs.extend(ran.summary);
        }
    }
    Ok(())
}
