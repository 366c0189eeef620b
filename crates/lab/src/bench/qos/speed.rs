//! Q5, T1, T2, T3: how much goes through.

use std::sync::OnceLock;
use std::time::Duration;

use honeylink::{Class, StreamOptions};

use super::peers::{Devices, Load};
use super::rows::{CROWD, MBIT_PER_S, Who, may_not, once};
use super::{iperf, rival};
use crate::pairs::{PAIRS_MIN, alternate, median};
use crate::report::Finding;
use crate::rows::Scale;
use crate::{Trouble, usage};

/// How long bytes are counted for.
const COUNT_FOR: Duration = Duration::from_secs(3);

fn seconds(scale: &Scale) -> Duration {
    if scale.quick { Duration::from_secs(1) } else { COUNT_FOR }
}

/// Pairs of a ratio: as few as say something, because each takes ten seconds.
fn pairs(scale: &Scale) -> usize {
    scale.pairs().min(PAIRS_MIN)
}

/// Q5: what the cable carries of ours, by what it carries of one TCP stream.
pub(crate) fn goodput(scale: &Scale) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    if !iperf::is_there() {
        return Ok(Finding::Skipped(iperf::NEEDS.into()));
    }
    let devices = Devices::new(MBIT_PER_S, 10)?;
    let seconds = seconds(scale);
    let load = Load { bulk: vec![StreamOptions::from(Class::Bulk); CROWD], ..Load::silent(seconds) };
    let rate = |who| Ok::<_, Trouble>(once(who, &devices, &load, |_, _| Ok(()))?.goodput_mbit_per_s());
    let tcp = || iperf::goodput_mbit_per_s(&devices.cable, seconds);
    let pairs = alternate(pairs(scale), || rate(Who::Ours), tcp)?;
    let raw = rate(Who::Raw)?;
    let facts = vec![
        ("mbit_per_s", median(&pairs.iter().map(|pair| pair.ours).collect::<Vec<_>>())),
        ("tcp_mbit_per_s", median(&pairs.iter().map(|pair| pair.peers).collect::<Vec<_>>())),
        ("raw_mbit_per_s", raw),
    ];
    Ok(Finding::median_of(pairs.iter().map(|pair| pair.ours / pair.peers).collect(), facts))
}

/// What one run without a limit came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side {
    mbit_per_s: f64,
    cpu_s_per_gb: f64,
}

impl Side {
    pub(crate) fn rate(&self) -> f64 {
        self.mbit_per_s
    }

    pub(crate) fn cost(&self) -> f64 {
        self.cpu_s_per_gb
    }
}

/// One stream on a cable without a limit, for `seconds`. The CPU time is that of both ends.
fn one_stream(who: Who, devices: &Devices, seconds: Duration) -> Result<Side, Trouble> {
    let load = Load { bulk: vec![StreamOptions::from(Class::Bulk)], ..Load::silent(seconds) };
    let mut spent = Duration::ZERO;
    let run = once(who, devices, &load, |_, _| {
        let before = usage::cpu();
        std::thread::sleep(seconds);
        spent = usage::cpu() - before;
        Ok(())
    })?;
    let bytes: u64 = run.bytes.iter().sum();
    let cpu_s_per_gb = spent.as_secs_f64() / (bytes as f64 * 1e-9);
    Ok(Side { mbit_per_s: run.goodput_mbit_per_s(), cpu_s_per_gb })
}

/// Ours and raw iroh in turns: a pair for each.
type Pairs = Vec<(Side, Side)>;

/// The runs of T1 and T2, which are two looks at the same ones.
fn against_raw(scale: &Scale) -> Result<&'static Pairs, Trouble> {
    static RUNS: OnceLock<Pairs> = OnceLock::new();
    if let Some(runs) = RUNS.get() {
        return Ok(runs);
    }
    let devices = Devices::new(0, 0)?;
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    let into = |who, sides: &mut Vec<Side>| {
        sides.push(one_stream(who, &devices, seconds(scale))?);
        Ok(0.0)
    };
    alternate(pairs(scale), || into(Who::Ours, &mut ours), || into(Who::Raw, &mut raw))?;
    Ok(RUNS.get_or_init(|| ours.into_iter().zip(raw).collect()))
}

/// T1, T2: one stream, by raw iroh's.
pub(crate) fn one(scale: &Scale, of: fn(&Side) -> f64) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let runs = against_raw(scale)?;
    let middle = |pick: fn(&(Side, Side)) -> f64| median(&runs.iter().map(pick).collect::<Vec<_>>());
    let facts = vec![
        ("mbit_per_s", middle(|(ours, _)| ours.mbit_per_s)),
        ("cpu_s_per_gb", middle(|(ours, _)| ours.cpu_s_per_gb)),
        ("raw_mbit_per_s", middle(|(_, raw)| raw.mbit_per_s)),
        ("raw_cpu_s_per_gb", middle(|(_, raw)| raw.cpu_s_per_gb)),
    ];
    Ok(Finding::median_of(runs.iter().map(|(ours, raw)| of(ours) / of(raw)).collect(), facts))
}

/// T3: one stream, by one Zenoh publisher of 64 KiB messages.
pub(crate) fn by_zenoh(scale: &Scale) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let Some(program) = &scale.zenoh else { return Ok(Finding::Skipped(rival::NEEDS.into())) };
    let devices = Devices::new(0, 0)?;
    let seconds = seconds(scale);
    let zenoh = || Ok(rival::run(program, &devices, &[1], 0, seconds)?.goodput_mbit_per_s());
    let ours = || Ok(one_stream(Who::Ours, &devices, seconds)?.mbit_per_s);
    let pairs = alternate(pairs(scale), ours, zenoh)?;
    let facts = vec![
        ("mbit_per_s", median(&pairs.iter().map(|pair| pair.ours).collect::<Vec<_>>())),
        ("zenoh_mbit_per_s", median(&pairs.iter().map(|pair| pair.peers).collect::<Vec<_>>())),
    ];
    Ok(Finding::median_of(pairs.iter().map(|pair| pair.ours / pair.peers).collect(), facts))
}
