//! `report`: the figures of `docs/simulation.md`, its charts, and the rows of `target/report/mesh.json`.

use std::fmt::Write as _;
use std::path::Path;

use honeylink_sim::protocol::Protocol;

use crate::chart::Chart;
use crate::compare::{Cell, ablation_cells, fill, main_cells};
use crate::rows::{self, Row};
use crate::runs::Runs;
use crate::stats::Estimate;
use crate::{figures, splice};

/// What a report is made with.
pub(crate) struct Options<'a> {
    pub(crate) counts: Vec<usize>,
    pub(crate) seeds: u64,
    /// No run of the comparison begins later than this.
    pub(crate) minutes: u64,
    /// The repository, whose `docs` are written into.
    pub(crate) root: &'a Path,
    pub(crate) json: &'a Path,
}

/// Networks of this size show what the physical effects are worth.
const ABLATION_NODES: usize = 200;
/// Seeds they get before anything larger is looked at.
const ABLATION_SEEDS_FIRST: u64 = 10;

/// Measures what is missing and writes the documents after each size of network, so that a report that is stopped has
/// something to show and the next one goes on from there.
#[expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "people wait for reports")]
pub(crate) fn report(options: &Options<'_>) -> Result<(), String> {
    let began = std::time::Instant::now();
    let may_go_on = || began.elapsed().as_secs() < 60 * options.minutes;
    let runs = Runs::open(&options.json.with_file_name("mesh-runs.jsonl"))?;
    let mut ablation = ablation_cells(ABLATION_NODES);
    let mut cells = Vec::new();
    for (index, count) in options.counts.iter().enumerate() {
        let mut fresh = main_cells(&[*count]);
        fill(&mut fresh, options.seeds, &runs, &may_go_on)?;
        cells.extend(fresh);
        // What was not run at all has no place in a table.
        cells.retain(|cell| !cell.runs.is_empty());
        if index == 0 {
            fill(&mut ablation, options.seeds.min(ABLATION_SEEDS_FIRST), &runs, &may_go_on)?;
            publish(options, &cells, &ablation)?;
            rows::write(options.json, &figures::all(options.seeds)?)?;
        }
        publish(options, &cells, &ablation)?;
    }
    if may_go_on() {
        fill(&mut ablation, options.seeds, &runs, &may_go_on)?;
        rows::write(options.json, &[figures::largest()?])?;
        publish(options, &cells, &ablation)?;
    }
    #[cfg(feature = "bug-plant")]
    splice::between(&options.root.join("docs/simulation.md"), "planted", &crate::bugs::table())?;
    Ok(())
}

/// Writes rows, tables and charts.
fn publish(options: &Options<'_>, cells: &[Cell], ablation: &[Cell]) -> Result<(), String> {
    let mut rows = comparison_rows(cells);
    let violations: usize = cells.iter().chain(ablation).map(|cell| cell.violations).sum();
    let runs: usize = cells.iter().chain(ablation).map(|cell| cell.runs.len()).sum();
    rows.push(
        Row::at_most("A2", "breaches of the duty cycle in all runs", violations as f64, "", 0.0).of(runs),
    );
    rows::write(options.json, &rows)?;
    let folder = options.root.join("docs/simulation");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, chart) in charts(cells, ablation) {
        let path = folder.join(name);
        std::fs::write(&path, chart.svg()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let page = options.root.join("docs/simulation.md");
    splice::between(&page, "comparison", &main_table(cells))?;
    splice::between(&page, "ablation", &ablation_table(ablation))?;
    splice::between(&page, "figures", &rows::table(options.json)?)
}

fn with_margin(estimate: Estimate, digits: usize) -> String {
    format!("{:.digits$} ± {:.digits$}", estimate.mean, estimate.margin)
}

pub(crate) fn main_table(cells: &[Cell]) -> String {
    let mut out = String::from(
        "| network | protocol | delivered | confirmed | airtime for each delivered, s | transmissions for each | \
         median, s | 95 %, s | control | hour before, s | seeds |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let _ = writeln!(
            out,
            "| {} of {} | {} | {} | {:.3} | {} | {:.0} | {:.1} | {:.0} | {:.0} % | {:.0} | {} |",
            cell.shape.as_str(),
            cell.count,
            cell.protocol.as_str(),
            with_margin(cell.mean(|run| run.delivery_ratio), 3),
            cell.mean(|run| run.confirmed as f64 / run.sent.max(1) as f64).mean,
            with_margin(cell.airtime_per_delivered(), 1),
            cell.mean(|run| run.transmissions_per_delivered).mean,
            cell.mean(|run| run.latency_p50_s).mean,
            cell.mean(|run| run.latency_p95_s).mean,
            100.0 * cell.mean(|run| run.control_share).mean,
            cell.mean(|run| run.warm_up_airtime_s).mean,
            cell.runs.len(),
        );
    }
    out
}

fn ablation_table(cells: &[Cell]) -> String {
    let mut out = String::from(
        "| physics | protocol | delivered | airtime for each delivered, s | receptions lost to collisions | seeds |\n\
         |---|---|---|---|---|---|\n",
    );
    for cell in cells {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {:.0} % | {} |",
            cell.radio.0,
            cell.protocol.as_str(),
            with_margin(cell.mean(|run| run.delivery_ratio), 3),
            with_margin(cell.airtime_per_delivered(), 1),
            100.0 * cell.mean(|run| run.collision_share).mean,
            cell.runs.len(),
        );
    }
    out
}

fn charts<'a>(cells: &'a [Cell], ablation: &'a [Cell]) -> Vec<(&'static str, Chart<'a>)> {
    let network = |cell: &Cell| format!("{} {}", cell.shape.as_str(), cell.count);
    let physics = |cell: &Cell| cell.radio.0.to_owned();
    let delivered = |cell: &Cell| cell.mean(|run| run.delivery_ratio);
    let airtime = Cell::airtime_per_delivered;
    vec![
        ("delivery.svg", chart("Delivered", "of messages sent", cells, network, delivered, false)),
        (
            "airtime.svg",
            chart("Airtime for each delivered message", "seconds", cells, network, airtime, true),
        ),
        (
            "ablation-delivery.svg",
            chart("Delivered, by physics", "200 nodes", ablation, physics, delivered, false),
        ),
        ("ablation-airtime.svg", chart("Airtime, by physics", "seconds", ablation, physics, airtime, true)),
    ]
}

fn chart<'a>(
    title: &'a str,
    unit: &'a str,
    cells: &'a [Cell],
    name: impl Fn(&Cell) -> String,
    value: impl Fn(&Cell) -> Estimate,
    logarithmic: bool,
) -> Chart<'a> {
    let series: Vec<&str> = Protocol::ALL.iter().map(|(_, name)| *name).collect();
    let groups = cells
        .chunks(series.len())
        .map(|group| (name(&group[0]), group.iter().map(&value).collect()))
        .collect();
    Chart { title, unit, series, groups, logarithmic }
}

/// Delivery and airtime of the product beside each rival's, on every network. A difference within both intervals is a tie.
fn comparison_rows(cells: &[Cell]) -> Vec<Row> {
    let mut rows = Vec::new();
    for group in cells.chunks(Protocol::ALL.len()) {
        let Some((ours, rivals)) = group.split_first() else { continue };
        let place = format!("{} of {}", ours.shape.as_str(), ours.count);
        let delivery = ours.mean(|run| run.delivery_ratio);
        let airtime = ours.airtime_per_delivered();
        for rival in rivals {
            let theirs = rival.mean(|run| run.delivery_ratio);
            rows.push(Row {
                id: "S3",
                what: format!("delivered, {place}"),
                value: delivery.mean,
                margin: Some(delivery.margin),
                unit: "of sent",
                peer: Some((rival.protocol.as_str().to_owned(), theirs.mean)),
                bar: ">= peer".to_owned(),
                ok: delivery.mean + delivery.margin >= theirs.mean - theirs.margin,
                samples: delivery.samples,
            });
            let theirs = rival.airtime_per_delivered();
            rows.push(Row {
                id: "S4",
                what: format!("airtime for each delivered message, {place}"),
                value: airtime.mean,
                margin: Some(airtime.margin),
                unit: "s",
                peer: Some((rival.protocol.as_str().to_owned(), theirs.mean)),
                bar: "<= peer".to_owned(),
                ok: theirs.samples == 0 || airtime.mean - airtime.margin <= theirs.mean + theirs.margin,
                samples: airtime.samples,
            });
        }
    }
    rows
}
