//! The figures of the suite `qos`.
//!
//! The cable is `tc tbf` between two namespaces, so the rows need root. A ping is timed by a thread of its own; ninety-nine
//! streams that always have something to send share the cable with it unless the row says otherwise. What a raw iroh
//! connection and Zenoh over QUIC do with the same load, in the same minutes, stands beside it.

use std::time::Instant;

use super::latency::{Beside, beside};
use super::load::{Counts, Outcome};
use super::net::Cable;
use super::peers::{Connected, Devices, Load};
use super::speed::Side;
use super::{line, shares, speed, steps};
use crate::report::{Bar, Finding};
use crate::rows::{Figure, Scale};
use crate::{Trouble, usage};

/// Streams beside the ping.
pub(crate) const CROWD: usize = 99;
/// The cable's rate.
pub(crate) const MBIT_PER_S: u32 = 100;
/// Runs of each side.
const RUNS: usize = 3;
/// The share of the machine's processor time that may be stolen during a run before it is run again.
const STOLEN_MAX: f64 = 0.01;
/// Times that a run is run at most, to find one in which less was.
const ATTEMPTS: usize = 3;
const NEEDS: &str = "needs root, network namespaces and tc";

/// The cable most rows have: a buffer of 10 ms.
const SHORT: Beside = Beside { streams: CROWD, mbit_per_s: MBIT_PER_S, buffer_ms: 10, both_ways: false };

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        id: "Q1",
        what: "realtime ping beside 99 streams, 100 Mbit/s, 10 ms buffer, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(12.0),
        measure: |scale| beside(scale, SHORT),
    },
    Figure {
        id: "Q1b",
        what: "the same with 99 streams each way, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(12.0),
        measure: |scale| beside(scale, Beside { both_ways: true, ..SHORT }),
    },
    Figure {
        id: "Q1k",
        what: "the same with 999 streams, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(12.0),
        measure: |scale| beside(scale, Beside { streams: 999, ..SHORT }),
    },
    Figure {
        id: "Q1s",
        what: "the same at 10 Mbit/s with a buffer of 100 ms, p99",
        unit: "ms",
        peer: None,
        // A full packet takes 1.2 ms there.
        bar: Bar::AtMost(20.0),
        measure: |scale| beside(scale, Beside { mbit_per_s: 10, buffer_ms: 100, ..SHORT }),
    },
    Figure {
        id: "Q2",
        what: "realtime ping beside 99 streams, 100 ms buffer, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(15.0),
        measure: |scale| beside(scale, Beside { buffer_ms: 100, ..SHORT }),
    },
    Figure {
        id: "Q3",
        what: "fairness among 99 equal streams (Jain)",
        unit: "",
        peer: None,
        bar: Bar::AtLeast(0.99),
        measure: shares::fairness,
    },
    Figure {
        id: "Q4",
        what: "error of the shares 4:2:1 of three priorities, 33 streams each",
        unit: "%",
        peer: None,
        bar: Bar::AtMost(5.0),
        measure: shares::priorities,
    },
    Figure {
        id: "Q5",
        what: "goodput of 99 streams, 10 ms buffer",
        unit: "x",
        peer: Some("one TCP stream of iperf3 on the same cable"),
        bar: Bar::AtLeast(0.95),
        measure: speed::goodput,
    },
    Figure {
        id: "Q6",
        what: "100 to 20 and back to 100 Mbit/s: until p99 < 15 ms and goodput > 0.9",
        unit: "s",
        peer: None,
        bar: Bar::AtMost(1.0),
        measure: |scale| steps::steps(scale, false),
    },
    Figure {
        id: "Q6b",
        what: "the same with 99 streams each way, in both directions",
        unit: "s",
        peer: None,
        bar: Bar::AtMost(1.0),
        measure: |scale| steps::steps(scale, true),
    },
    Figure {
        id: "T1",
        what: "rate of one stream, no limit",
        unit: "x",
        peer: Some("a raw iroh stream"),
        bar: Bar::AtLeast(0.95),
        measure: |scale| speed::one(scale, Side::rate),
    },
    Figure {
        id: "T2",
        what: "CPU time per byte of one stream, no limit",
        unit: "x",
        peer: Some("a raw iroh stream"),
        bar: Bar::AtMost(1.05),
        measure: |scale| speed::one(scale, Side::cost),
    },
    Figure {
        id: "T3",
        what: "rate of one stream, no limit",
        unit: "x",
        peer: Some("Zenoh over QUIC, 64 KiB messages"),
        bar: Bar::AtLeast(1.2),
        measure: speed::by_zenoh,
    },
    Figure {
        id: "E1",
        what: "realtime datagrams lost with repair, 40 ms away, 2 % lost each way",
        unit: "%",
        peer: None,
        bar: Bar::AtMost(0.2),
        measure: line::repaired,
    },
];

/// Which side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Ours,
    Raw,
}

fn connect(who: Who, devices: &Devices) -> Result<Connected, Trouble> {
    match who {
        Who::Ours => Connected::ours(devices),
        Who::Raw => Connected::raw(devices),
    }
}

/// One connection, one load, one outcome. `meanwhile` is called again when the run is.
pub(crate) fn once(
    who: Who,
    devices: &Devices,
    load: &Load,
    mut meanwhile: impl FnMut(&[Counts; 2], Instant) -> Result<(), Trouble>,
) -> Result<Outcome, Trouble> {
    undisturbed(|| {
        let connected = connect(who, devices)?;
        let outcome = connected.run(devices, load, &mut meanwhile);
        connected.end(devices);
        outcome
    })
}

/// Runs until the machine was left alone meanwhile, or so often, and takes the run in which it was most. On a virtual machine
/// everything stands still together while others have its processors: that is in the round trips, and nobody's doing here.
/// What a run came to has no part in the choice.
pub(crate) fn undisturbed(mut run: impl FnMut() -> Result<Outcome, Trouble>) -> Result<Outcome, Trouble> {
    let processors = std::thread::available_parallelism()?.get() as f64;
    let mut best: Option<Outcome> = None;
    for _ in 0..ATTEMPTS {
        let (stolen, began) = (usage::stolen(), Instant::now());
        let mut outcome = run()?;
        outcome.stolen =
            (usage::stolen() - stolen).as_secs_f64() / began.elapsed().as_secs_f64() / processors;
        let alone = outcome.stolen <= STOLEN_MAX;
        if best.as_ref().is_none_or(|best| outcome.stolen < best.stolen) {
            best = Some(outcome);
        }
        if alone {
            break;
        }
    }
    Ok(best.ok_or("no run")?)
}

/// Runs of each side of a row.
pub(crate) fn runs(scale: &Scale) -> usize {
    if scale.quick { 1 } else { RUNS }
}

pub(crate) fn may_not() -> Option<Finding> {
    (!Cable::possible()).then(|| Finding::Skipped(NEEDS.into()))
}
