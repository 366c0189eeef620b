//! R2, R3: the program as it is released, started as a user would.

use std::time::{Duration, Instant};

use super::Scale;
use crate::device::Device;
use crate::lan::Lan;
use crate::pairs::quantile;
use crate::report::Finding;
use crate::shelf::Shelf;
use crate::{Trouble, usage};

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ`, which Linux has fixed for programs.
const TICKS_PER_S: f64 = 100.0;
/// After this long the bustle of a start is over.
const SETTLED: Duration = Duration::from_secs(5);
/// One sample: long enough that a tick of 10 ms is 0.1 % of it.
const WINDOW: Duration = Duration::from_secs(10);

/// R3: the size of the file.
pub(crate) fn binary(scale: &Scale) -> Result<Finding, Trouble> {
    let Some(program) = &scale.program else {
        return Ok(Finding::Skipped(super::NEEDS_PROGRAM.into()));
    };
    let size_mb = std::fs::metadata(program)?.len() as f64 / 1e6;
    Ok(Finding::Measured { value: size_mb, samples: vec![size_mb], facts: Vec::new() })
}

/// R2, memory: the resident set of a daemon that nobody uses.
pub(crate) fn idle_memory(scale: &Scale) -> Result<Finding, Trouble> {
    let Some(seen) = idle(scale)? else {
        return Ok(Finding::Skipped(super::NEEDS_PROGRAM.into()));
    };
    let facts = vec![("peak_mib", seen.peak_mib), ("neighbours", seen.neighbours)];
    Ok(Finding::Measured { value: quantile(&seen.mib, 1.0), samples: seen.mib, facts })
}

/// R2, processor: the share of one core that it uses over the whole time.
pub(crate) fn idle_cpu(scale: &Scale) -> Result<Finding, Trouble> {
    let Some(seen) = idle(scale)? else {
        return Ok(Finding::Skipped(super::NEEDS_PROGRAM.into()));
    };
    let mean = seen.cpu_percent.iter().sum::<f64>() / seen.cpu_percent.len() as f64;
    let facts = vec![("neighbours", seen.neighbours)];
    Ok(Finding::Measured { value: mean, samples: seen.cpu_percent, facts })
}

struct Idle {
    mib: Vec<f64>,
    peak_mib: f64,
    cpu_percent: Vec<f64>,
    /// Other devices that announced themselves meanwhile.
    neighbours: f64,
}

/// Watches a daemon that nobody uses: on a LAN where a paired device and a stranger announce themselves, or alone on
/// loopback where no LAN can be made.
fn idle(scale: &Scale) -> Result<Option<Idle>, Trouble> {
    let Some(program) = &scale.program else {
        return Ok(None);
    };
    let shelf = Shelf::new()?;
    let names = ["ann", "bob", "eve"];
    let lan = Lan::build(&names)?.ok();
    let mut devices = Vec::new();
    for name in if lan.is_some() { &names[..] } else { &names[..1] } {
        let namespace = lan.as_ref().map(|lan| lan.namespace(name));
        let mut device = Device::new(program, name, &shelf.emptied(name)?, namespace);
        device.up()?;
        devices.push(device);
    }
    if let [ann, bob, ..] = devices.as_slice() {
        ann.pair(bob)?;
    }
    let pid = devices.first().and_then(Device::pid).ok_or("no daemon")?.to_string();
    std::thread::sleep(SETTLED);
    let neighbours = devices.len() as f64 - 1.0;
    let mut seen = Idle { mib: Vec::new(), peak_mib: 0.0, cpu_percent: Vec::new(), neighbours };
    for _ in 0..scale.samples(6) {
        let (before, started) = (cpu_ticks(&pid)?, Instant::now());
        std::thread::sleep(WINDOW);
        let ticks = (cpu_ticks(&pid)? - before) as f64;
        seen.cpu_percent.push(ticks / TICKS_PER_S / started.elapsed().as_secs_f64() * 100.0);
        seen.mib.push(usage::memory_of_mib(&pid, "VmRSS")?);
    }
    seen.peak_mib = usage::memory_of_mib(&pid, "VmHWM")?;
    Ok(Some(seen))
}

/// User and system time so far: fields 14 and 15 of `/proc/PID/stat`, counted after the name in parentheses.
fn cpu_ticks(pid: &str) -> Result<u64, Trouble> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no such format")?;
    let mut ticks = fields.split_whitespace().skip(11);
    let mut next = || -> Result<u64, Trouble> { Ok(ticks.next().ok_or("no such field")?.parse()?) };
    Ok(next()? + next()?)
}
