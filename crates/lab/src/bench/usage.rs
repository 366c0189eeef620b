//! What this process has used so far.

use std::time::Duration;

use crate::Trouble;
use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process, user and system: what `getrusage` counts, in nanoseconds.
pub(crate) fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or_default())
}

/// Processor time that was taken from this machine so far by the one it is a guest of, of all its processors together
/// (`steal`, proc(5)). Nothing where it is nobody's guest, or the kernel does not tell.
pub(crate) fn stolen() -> Duration {
    const USER_HZ: u64 = 100;
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let field = stat.lines().next().and_then(|cpu| cpu.split_whitespace().nth(8)?.parse::<u64>().ok());
    Duration::from_millis(field.unwrap_or_default() * 1000 / USER_HZ)
}

/// A memory figure of this process in MiB, as the kernel calls it: `VmRSS` now, `VmHWM` the highest.
pub(crate) fn memory_mib(field: &str) -> Result<f64, Trouble> {
    memory_of_mib("self", field)
}

/// The same of the process `pid`.
pub(crate) fn memory_of_mib(pid: &str, field: &str) -> Result<f64, Trouble> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|rest| rest.split_whitespace().next()).ok_or("no such field")?.parse()?;
    Ok(kib / 1024.0)
}

/// Starts the highest memory figure afresh.
pub(crate) fn forget_peak() -> Result<(), Trouble> {
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}
