//! The comparison: every protocol on every network, many seeds, the same radios and the same traffic.

use honeylink_sim::plan::Plan;
use honeylink_sim::protocol::Protocol;
use honeylink_sim::radio::Physics;
use honeylink_sim::runner::many::{each, processors};
use honeylink_sim::runner::{Judging, run};
use honeylink_sim::scenario::{Nodes, Radio, Scenario, Traffic};
use honeylink_sim::tally::Summary;
use honeylink_sim::topology::Shape;

use crate::stats::Estimate;

/// One place of the table: a protocol on a network.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) shape: Shape,
    pub(crate) count: usize,
    pub(crate) physics: (&'static str, Physics),
    pub(crate) protocol: Protocol,
    /// One for each seed.
    pub(crate) runs: Vec<Summary>,
    /// Broken laws of all seeds together.
    pub(crate) violations: usize,
}

impl Cell {
    fn new(shape: Shape, count: usize, physics: (&'static str, Physics), protocol: Protocol) -> Self {
        Self { shape, count, physics, protocol, runs: Vec::new(), violations: 0 }
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

/// The scenario of a cell. People write to each other in pairs, five messages in turn within the hour, after half an hour
/// in which whoever wants to may announce itself.
pub(crate) fn scenario(shape: Shape, count: usize, physics: Physics, protocol: Protocol) -> Scenario {
    Scenario {
        name: format!("{} of {count}", shape.as_str()),
        protocol,
        duration_s: 3_600,
        warm_up_s: 1_800,
        settle_s: 600,
        nodes: Nodes { count, shape, degree: 8.0, ..Nodes::default() },
        radio: Some(Radio { physics, ..Radio::default() }),
        traffic: Traffic {
            conversations: (count / 25).max(8),
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
                cells.push(Cell::new(shape, *count, ("all", Physics::default()), protocol));
            }
        }
    }
    cells
}

/// The cells that show what each physical effect is worth.
pub(crate) fn ablation_cells(count: usize) -> Vec<Cell> {
    let all = Physics::default();
    let variants = [
        ("all", all),
        ("no half-duplex", Physics { half_duplex: false, ..all }),
        ("no capture", Physics { capture_db: None, ..all }),
        ("no carrier sense", Physics { carrier_sense: false, ..all }),
        ("ideal", Physics::ideal()),
    ];
    let one = |physics| Protocol::ALL.map(|(protocol, _)| Cell::new(Shape::Random, count, physics, protocol));
    variants.into_iter().flat_map(one).collect()
}

/// Runs every cell with `seeds` seeds.
pub(crate) fn fill(cells: &mut [Cell], seeds: u64) -> Result<(), String> {
    let mut jobs: Vec<(usize, u64)> = Vec::new();
    for index in 0..cells.len() {
        jobs.extend((1..=seeds).map(|seed| (index, seed)));
    }
    let total = jobs.len();
    let done = std::sync::atomic::AtomicUsize::new(0);
    let results = each(&jobs, processors(), |(index, seed)| {
        let cell = &cells[*index];
        let plan: Plan = scenario(cell.shape, cell.count, cell.physics.1, cell.protocol).plan(*seed);
        let outcome = run(&plan, Judging::Lawful);
        let count = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        if count.is_multiple_of(50) {
            eprintln!("  {count} of {total} runs");
        }
        outcome
    });
    for ((index, _), outcome) in jobs.into_iter().zip(results) {
        let outcome = outcome.map_err(|error| error.to_string())?;
        cells[index].violations += outcome.violations.len();
        cells[index].runs.extend(outcome.tally.map(|tally| tally.summary()));
    }
    Ok(())
}
