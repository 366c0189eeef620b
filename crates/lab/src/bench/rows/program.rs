//! R2, R3: the program as it is released, started as a user would.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Scale;
use crate::pairs::{median, quantile};
use crate::report::Finding;
use crate::rig::PATIENCE;
use crate::shelf::Shelf;
use crate::{Trouble, usage};

/// Clock ticks a second in `/proc/PID/stat`: `USER_HZ`, which Linux has fixed for programs.
const TICKS_PER_S: f64 = 100.0;

/// R3: the size of the file.
pub(crate) fn binary(scale: &Scale) -> Result<Finding, Trouble> {
    let Some(program) = &scale.program else {
        return Ok(Finding::Skipped("needs --program".into()));
    };
    let size_mb = std::fs::metadata(program)?.len() as f64 / 1e6;
    Ok(Finding::Measured { value: size_mb, samples: vec![size_mb], facts: Vec::new() })
}

/// R2, memory: the resident set of a daemon that nobody uses.
pub(crate) fn idle_memory(scale: &Scale) -> Result<Finding, Trouble> {
    Ok(match idle(scale)? {
        Some(seen) => {
            Finding::Measured { value: quantile(&seen.mib, 1.0), samples: seen.mib, facts: Vec::new() }
        }
        None => Finding::Skipped("needs --program".into()),
    })
}

/// R2, processor: the share of one core that it uses.
pub(crate) fn idle_cpu(scale: &Scale) -> Result<Finding, Trouble> {
    Ok(match idle(scale)? {
        Some(seen) => Finding::Measured {
            value: median(&seen.cpu_percent),
            samples: seen.cpu_percent,
            facts: Vec::new(),
        },
        None => Finding::Skipped("needs --program".into()),
    })
}

struct Idle {
    mib: Vec<f64>,
    cpu_percent: Vec<f64>,
}

/// Watches a daemon on loopback for a while, after the bustle of its start.
fn idle(scale: &Scale) -> Result<Option<Idle>, Trouble> {
    let Some(program) = &scale.program else {
        return Ok(None);
    };
    let shelf = Shelf::new()?;
    let home = shelf.emptied("home")?;
    let child = Command::new(program)
        .arg("--home")
        .arg(&home)
        .args(["up", "--foreground", "--set", "node.reach=loopback"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut daemon = Daemon(child);
    wait_until_up(&mut daemon, program, &home)?;
    std::thread::sleep(Duration::from_secs(3));
    let pid = daemon.0.id().to_string();
    let mut seen = Idle { mib: Vec::new(), cpu_percent: Vec::new() };
    for _ in 0..scale.samples(10).max(2) {
        let (before, started) = (cpu_ticks(&pid)?, Instant::now());
        std::thread::sleep(Duration::from_secs(3));
        let ticks = (cpu_ticks(&pid)? - before) as f64;
        seen.cpu_percent.push(ticks / TICKS_PER_S / started.elapsed().as_secs_f64() * 100.0);
        seen.mib.push(usage::memory_of_mib(&pid, "VmRSS")?);
    }
    Ok(Some(seen))
}

/// A daemon that does not outlive its measurement.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        // Gone already is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until_up(
    daemon: &mut Daemon,
    program: &std::path::Path,
    home: &std::path::Path,
) -> Result<(), Trouble> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(status) = daemon.0.try_wait()? {
            let mut words = String::new();
            if let Some(mut errors) = daemon.0.stderr.take() {
                errors.read_to_string(&mut words)?;
            }
            return Err(format!("the daemon ended with {status}: {}", words.trim()).into());
        }
        let answer = Command::new(program)
            .arg("--home")
            .arg(home)
            .args(["status", "--json"])
            .stderr(Stdio::null())
            .output()?;
        if answer.status.success() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("the daemon did not come up".into())
}

/// User and system time so far: fields 14 and 15 of `/proc/PID/stat`, counted after the name in parentheses.
fn cpu_ticks(pid: &str) -> Result<u64, Trouble> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no such format")?;
    let mut ticks = fields.split_whitespace().skip(11);
    let mut next = || -> Result<u64, Trouble> { Ok(ticks.next().ok_or("no such field")?.parse()?) };
    Ok(next()? + next()?)
}
