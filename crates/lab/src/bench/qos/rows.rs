//! The figures of the suite `qos`.
//!
//! The cable is `tc tbf` between two namespaces, so the rows need root. A ping is timed by a thread of its own; ninety-nine
//! streams that always have something to send share the cable with it unless the row says otherwise. What a raw iroh
//! connection does with the same load, in the same minutes, stands beside it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use honeylink::{Class, Priority, StreamOptions};

use super::load::{Counts, Outcome};
use super::net::Cable;
use super::peers::{Connected, Devices, Load};
use super::{line, tcp};
use crate::Trouble;
use crate::pairs::{PAIRS_MIN, alternate, median, quantile};
use crate::report::{Bar, Finding};
use crate::rows::{Figure, Scale};
use crate::usage;

/// Streams beside the ping.
const CROWD: usize = 99;
/// The cable's rate.
const MBIT_PER_S: u32 = 100;
/// Pings of one run, at 200 a second.
const PINGS: usize = 2000;
/// Runs of each side.
const RUNS: usize = 3;
/// How long goodput is counted for.
const GOODPUT_FOR: Duration = Duration::from_secs(3);
const NEEDS: &str = "needs root, network namespaces and tc";

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        id: "Q1",
        what: "realtime ping beside 99 streams, 100 Mbit/s, 10 ms buffer, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(12.0),
        measure: |scale| latency(scale, 10, CROWD, false),
    },
    Figure {
        id: "Q1b",
        what: "the same with 99 streams each way, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(12.0),
        measure: |scale| latency(scale, 10, CROWD, true),
    },
    Figure {
        id: "Q1k",
        what: "the same with 999 streams, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(12.0),
        measure: |scale| latency(scale, 10, 999, false),
    },
    Figure {
        id: "Q2",
        what: "realtime ping beside 99 streams, 100 ms buffer, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(15.0),
        measure: |scale| latency(scale, 100, CROWD, false),
    },
    Figure {
        id: "Q3",
        what: "fairness among 99 equal streams (Jain)",
        unit: "",
        peer: None,
        bar: Bar::AtLeast(0.99),
        measure: fairness,
    },
    Figure {
        id: "Q4",
        what: "error of the shares 4:2:1 of three priorities, 33 streams each",
        unit: "%",
        peer: None,
        bar: Bar::AtMost(5.0),
        measure: shares,
    },
    Figure {
        id: "Q5",
        what: "goodput of 99 streams, 10 ms buffer",
        unit: "x",
        peer: Some("one TCP stream on the same cable"),
        bar: Bar::AtLeast(0.95),
        measure: goodput,
    },
    Figure {
        id: "Q6",
        what: "100 to 20 and back to 100 Mbit/s: until p99 < 15 ms and goodput > 0.9",
        unit: "s",
        peer: None,
        bar: Bar::AtMost(1.0),
        measure: steps,
    },
    Figure {
        id: "T1",
        what: "rate of one stream, no limit",
        unit: "x",
        peer: Some("a raw iroh stream"),
        bar: Bar::AtLeast(0.95),
        measure: |scale| throughput(scale, |side| side.mbit_per_s),
    },
    Figure {
        id: "T2",
        what: "CPU time per byte of one stream, no limit",
        unit: "x",
        peer: Some("a raw iroh stream"),
        bar: Bar::AtMost(1.05),
        measure: |scale| throughput(scale, |side| side.cpu_s_per_gb),
    },
    Figure {
        id: "T3",
        what: "rate of 99 streams, no limit",
        unit: "x",
        peer: Some("Zenoh over QUIC"),
        bar: Bar::AtLeast(1.2),
        measure: |_| Ok(Finding::Skipped("Zenoh is not part of the lab yet".into())),
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
enum Who {
    Ours,
    Raw,
}

fn connect(who: Who, devices: &Devices) -> Result<Connected, Trouble> {
    match who {
        Who::Ours => Connected::ours(devices),
        Who::Raw => Connected::raw(devices),
    }
}

/// One connection, one load, one outcome.
fn once(
    who: Who,
    devices: &Devices,
    load: &Load,
    meanwhile: impl FnOnce(&Counts, Instant) -> Result<(), Trouble>,
) -> Result<Outcome, Trouble> {
    let connected = connect(who, devices)?;
    let outcome = connected.run(devices, load, meanwhile);
    connected.end(devices);
    outcome
}

/// Pairs of a ratio: as few as say something, because each takes ten seconds.
fn pairs(scale: &Scale) -> usize {
    scale.pairs().min(PAIRS_MIN)
}

fn may_not() -> Option<Finding> {
    (!Cable::possible()).then(|| Finding::Skipped(NEEDS.into()))
}

/// Q1, Q2: the ping of ours and of raw iroh, in turns, and of ours alone.
fn latency(scale: &Scale, buffer_ms: u32, crowd: usize, both_ways: bool) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(MBIT_PER_S, buffer_ms)?;
    let pings = scale.samples(PINGS);
    let load = Load { both_ways, ..Load::equals(crowd, pings) };
    let quiet = once(Who::Ours, &devices, &Load::equals(0, pings), |_, _| Ok(()))?;
    let (mut all, mut p99s, mut raw, mut rates, mut raw_rates) = (vec![], vec![], vec![], vec![], vec![]);
    let runs = if scale.quick { 1 } else { RUNS };
    alternate(
        runs,
        || {
            let run = once(Who::Ours, &devices, &load, |_, _| Ok(()))?;
            rates.push(run.goodput_mbit_per_s());
            p99s.push(quantile(&run.pings_ms, 0.99));
            all.extend(run.pings_ms);
            Ok(0.0)
        },
        || {
            let run = once(Who::Raw, &devices, &load, |_, _| Ok(()))?;
            raw_rates.push(run.goodput_mbit_per_s());
            raw.extend(run.pings_ms);
            Ok(0.0)
        },
    )?;
    let facts = vec![
        ("p50_ms", median(&all)),
        ("alone_p99_ms", quantile(&quiet.pings_ms, 0.99)),
        ("goodput_mbit_per_s", median(&rates)),
        ("raw_p50_ms", median(&raw)),
        ("raw_p99_ms", quantile(&raw, 0.99)),
        ("raw_goodput_mbit_per_s", median(&raw_rates)),
    ];
    Ok(Finding::Measured { value: quantile(&all, 0.99), samples: p99s, facts })
}

fn fairness(scale: &Scale) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(MBIT_PER_S, 10)?;
    let load = Load::equals(CROWD, scale.samples(PINGS));
    let index = |who| Ok::<_, Trouble>(once(who, &devices, &load, |_, _| Ok(()))?.jain(0..CROWD));
    let runs = if scale.quick { 1 } else { RUNS };
    let pairs = alternate(runs, || index(Who::Ours), || index(Who::Raw))?;
    let raw: Vec<f64> = pairs.iter().map(|pair| pair.peers).collect();
    Ok(Finding::median_of(pairs.iter().map(|pair| pair.ours).collect(), vec![("raw", median(&raw))]))
}

/// Streams of priorities 3, 2 and 1: each has twice the share of the next.
fn shares(scale: &Scale) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(MBIT_PER_S, 10)?;
    let bulk = [3, 2, 1].into_iter().flat_map(|priority| {
        let options = StreamOptions::from(Priority::new(priority).unwrap_or_default());
        std::iter::repeat_n(options, CROWD / 3)
    });
    let load = Load { bulk: bulk.collect(), ..Load::equals(0, scale.samples(PINGS)) };
    let (mut worst, mut got) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    for _ in 0..if scale.quick { 1 } else { RUNS } {
        let run = once(Who::Ours, &devices, &load, |_, _| Ok(()))?;
        let third = CROWD / 3;
        let mut error = 0.0_f64;
        for (nth, due) in [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0].into_iter().enumerate() {
            let share = run.share(nth * third..(nth + 1) * third);
            error = error.max((share / due - 1.0).abs() * 100.0);
            got[nth].push(share);
        }
        worst.push(error);
    }
    let [high, middle, low] = got.map(|shares| median(&shares));
    let facts = vec![("high_share", high), ("middle_share", middle), ("low_share", low)];
    Ok(Finding::median_of(worst, facts))
}

fn goodput(scale: &Scale) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(MBIT_PER_S, 10)?;
    let seconds = if scale.quick { Duration::from_secs(1) } else { GOODPUT_FOR };
    let load = Load { bulk: vec![StreamOptions::from(Class::Bulk); CROWD], ..Load::silent(seconds) };
    let rate = |who| Ok::<_, Trouble>(once(who, &devices, &load, |_, _| Ok(()))?.goodput_mbit_per_s());
    let pairs = alternate(pairs(scale), || rate(Who::Ours), || tcp::goodput_mbit_per_s(&devices, seconds))?;
    let raw = rate(Who::Raw)?;
    let facts = vec![
        ("mbit_per_s", median(&pairs.iter().map(|pair| pair.ours).collect::<Vec<_>>())),
        ("tcp_mbit_per_s", median(&pairs.iter().map(|pair| pair.peers).collect::<Vec<_>>())),
        ("raw_mbit_per_s", raw),
    ];
    Ok(Finding::median_of(pairs.iter().map(|pair| pair.ours / pair.peers).collect(), facts))
}

/// Until this long after a step the row looks for recovery; later counts as never.
const STEP_FOR: Duration = Duration::from_secs(4);
/// Recovery is judged over windows of this length.
const WINDOW: Duration = Duration::from_millis(250);

/// Q6: when, after each step, the first window begins from which on both promises hold.
fn steps(scale: &Scale) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(MBIT_PER_S, 10)?;
    let seconds = 2 + 2 * STEP_FOR.as_secs();
    let load = Load::equals(CROWD, usize::try_from(seconds)? * 200);
    let (mut down, mut up) = (Vec::new(), Vec::new());
    for _ in 0..if scale.quick { 1 } else { RUNS } {
        let mut arrived = Vec::new();
        let run = once(Who::Ours, &devices, &load, |counts, started| {
            for window in 0..seconds * 4 {
                let at = WINDOW * u32::try_from(window)?;
                std::thread::sleep((started + at).saturating_duration_since(Instant::now()));
                match at.as_millis() {
                    2000 => devices.cable.set_rate(20)?,
                    6000 => devices.cable.set_rate(MBIT_PER_S)?,
                    _ => {}
                }
                arrived.push(counts.iter().map(|count| count.load(Ordering::Relaxed)).sum());
            }
            Ok(())
        })?;
        down.push(recovered_s(&run.pings_ms, &arrived, 2, 20.0));
        up.push(recovered_s(&run.pings_ms, &arrived, 6, f64::from(MBIT_PER_S)));
    }
    devices.cable.set_rate(MBIT_PER_S)?;
    let facts = vec![("down_s", median(&down)), ("up_s", median(&up))];
    Ok(Finding::median_of(down.iter().zip(&up).map(|(down, up)| down.max(*up)).collect(), facts))
}

/// Seconds from a step at `second` until the 99th percentile of a window's pings is under 15 ms and its goodput over 0.9
/// of `mbit_per_s`.
fn recovered_s(pings_ms: &[f64], arrived: &[u64], second: usize, mbit_per_s: f64) -> f64 {
    let window_s = WINDOW.as_secs_f64();
    let windows = (STEP_FOR.as_secs_f64() / window_s) as usize - 1;
    for window in 0..windows {
        let from = second * 4 + window;
        let Some([before, after]) =
            arrived.get(from..from + 2).and_then(|pair| <[u64; 2]>::try_from(pair).ok())
        else {
            break;
        };
        let rate = (after - before) as f64 * 8e-6 / window_s;
        let pings = pings_ms.get(from * 50..(from + 1) * 50).unwrap_or_default();
        if quantile(pings, 0.99) < 15.0 && rate > 0.9 * mbit_per_s {
            return window as f64 * window_s;
        }
    }
    STEP_FOR.as_secs_f64()
}

/// What one run without a limit came to.
struct Side {
    mbit_per_s: f64,
    cpu_s_per_gb: f64,
}

/// T1, T2: one stream on a cable without a limit.
fn throughput(scale: &Scale, of: fn(&Side) -> f64) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(0, 0)?;
    let seconds = if scale.quick { Duration::from_secs(1) } else { GOODPUT_FOR };
    let load = Load { bulk: vec![StreamOptions::from(Class::Bulk)], ..Load::silent(seconds) };
    let side = |who| {
        let mut spent = Duration::ZERO;
        let run = once(who, &devices, &load, |_, _| {
            let before = usage::cpu();
            std::thread::sleep(seconds);
            spent = usage::cpu() - before;
            Ok(())
        })?;
        let bytes: u64 = run.bytes.iter().sum();
        let cpu_s_per_gb = spent.as_secs_f64() / (bytes as f64 * 1e-9);
        Ok::<_, Trouble>(Side { mbit_per_s: run.goodput_mbit_per_s(), cpu_s_per_gb })
    };
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    let pairs = alternate(
        pairs(scale),
        || {
            let side = side(Who::Ours)?;
            let figure = of(&side);
            ours.push(side);
            Ok(figure)
        },
        || {
            let side = side(Who::Raw)?;
            let figure = of(&side);
            raw.push(side);
            Ok(figure)
        },
    )?;
    let middle = |sides: &[Side], of: fn(&Side) -> f64| median(&sides.iter().map(of).collect::<Vec<_>>());
    let facts = vec![
        ("mbit_per_s", middle(&ours, |side| side.mbit_per_s)),
        ("cpu_s_per_gb", middle(&ours, |side| side.cpu_s_per_gb)),
        ("raw_mbit_per_s", middle(&raw, |side| side.mbit_per_s)),
        ("raw_cpu_s_per_gb", middle(&raw, |side| side.cpu_s_per_gb)),
    ];
    Ok(Finding::median_of(pairs.iter().map(|pair| pair.ours / pair.peers).collect(), facts))
}
