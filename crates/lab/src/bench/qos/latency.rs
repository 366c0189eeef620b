//! Q1, Q1b, Q1k, Q1s, Q2: one ping among streams that always send.

use std::time::Duration;

use super::peers::{Devices, Load};
use super::rival;
use super::rows::{Who, may_not, once};
use crate::Trouble;
use crate::pairs::{median, quantile};
use crate::report::Finding;
use crate::rows::Scale;

/// Runs of each side.
const RUNS: usize = 5;
/// Pings of one run, 200 a second.
const PINGS: usize = 2000;
/// Of the others, and of ours alone: enough for a 99th percentile.
const PINGS_OF_PEERS: usize = 1000;
/// Fewer samples say nothing about one in a thousand.
const PER_MILLE_FROM: usize = 10_000;

/// What is beside the ping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside {
    pub(crate) streams: usize,
    pub(crate) mbit_per_s: u32,
    pub(crate) buffer_ms: u32,
    pub(crate) both_ways: bool,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Ours,
    Raw,
    Zenoh,
}

/// What the runs of one side came to.
#[derive(Default)]
struct Side {
    pings_ms: Vec<f64>,
    p99s: Vec<f64>,
    rates: Vec<f64>,
    stolen: Vec<f64>,
}

impl Side {
    fn add(&mut self, run: super::load::Outcome) {
        self.rates.push(run.goodput_mbit_per_s());
        self.p99s.push(quantile(&run.pings_ms, 0.99));
        self.stolen.push(run.stolen * 100.0);
        self.pings_ms.extend(run.pings_ms);
    }

    fn p50(&self) -> f64 {
        median(&self.pings_ms)
    }

    /// Of the runs', so that one that was disturbed does not speak for all.
    fn p99(&self) -> f64 {
        median(&self.p99s)
    }
}

/// The ping of ours, of raw iroh and of Zenoh, in turns, and of ours alone.
pub(crate) fn beside(scale: &Scale, beside: Beside) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(beside.mbit_per_s, beside.buffer_ms)?;
    let (pings, of_peers) = (scale.samples(PINGS), scale.samples(PINGS_OF_PEERS));
    let load = |pings| Load { both_ways: beside.both_ways, ..Load::equals(beside.streams, pings) };
    let alone = once(Who::Ours, &devices, &Load::equals(0, of_peers), |_, _| Ok(()))?;
    let (mut ours, mut raw, mut zenoh) = (Side::default(), Side::default(), Side::default());
    let rival = scale.zenoh.as_ref().filter(|_| beside.fits_zenoh());
    for nth in 0..if scale.quick { 1 } else { RUNS } {
        let mut sides = [Turn::Ours, Turn::Raw, Turn::Zenoh];
        // There and back again: what drifts favours nobody.
        if nth % 2 == 1 {
            sides.reverse();
        }
        for side in sides {
            match (side, rival) {
                (Turn::Ours, _) => ours.add(once(Who::Ours, &devices, &load(pings), |_, _| Ok(()))?),
                (Turn::Raw, _) => raw.add(once(Who::Raw, &devices, &load(of_peers), |_, _| Ok(()))?),
                (Turn::Zenoh, None) => {}
                (Turn::Zenoh, Some(program)) => {
                    zenoh.add(rival::run(program, &devices, &[beside.streams], of_peers, Duration::ZERO)?);
                }
            }
        }
    }
    let mut facts = vec![
        ("p50_ms", ours.p50()),
        ("alone_p99_ms", quantile(&alone.pings_ms, 0.99)),
        ("goodput_mbit_per_s", median(&ours.rates)),
        ("raw_p50_ms", raw.p50()),
        ("raw_p99_ms", raw.p99()),
        ("raw_goodput_mbit_per_s", median(&raw.rates)),
        ("p99_of_all_ms", quantile(&ours.pings_ms, 0.99)),
        ("stolen_percent", median(&ours.stolen)),
    ];
    if ours.pings_ms.len() >= PER_MILLE_FROM {
        facts.push(("p999_ms", quantile(&ours.pings_ms, 0.999)));
    }
    if !zenoh.rates.is_empty() {
        facts.extend([
            ("zenoh_p50_ms", zenoh.p50()),
            ("zenoh_p99_ms", zenoh.p99()),
            ("zenoh_goodput_mbit_per_s", median(&zenoh.rates)),
            ("p99_by_zenoh", ours.p99() / zenoh.p99()),
        ]);
    }
    Ok(Finding::median_of(ours.p99s, facts))
}

impl Beside {
    /// Its side of the load has a thread for each stream and sends one way.
    fn fits_zenoh(self) -> bool {
        !self.both_ways && self.streams < 200 && self.mbit_per_s >= 100
    }
}
