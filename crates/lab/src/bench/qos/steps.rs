//! Q6, Q6b: a cable that gets slower and faster again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::peers::{Devices, Load};
use super::rows::{CROWD, MBIT_PER_S, Who, may_not, once, runs};
use crate::Trouble;
use crate::pairs::{median, quantile};
use crate::report::Finding;
use crate::rows::Scale;

/// Until this long after a step the row looks for recovery; later counts as never.
const STEP_FOR: Duration = Duration::from_secs(4);
/// Recovery is judged over windows of this length.
const WINDOW: Duration = Duration::from_millis(250);

/// When, after each step, the first window begins in which both promises hold, in every direction that is used.
pub(crate) fn steps(scale: &Scale, both_ways: bool) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(MBIT_PER_S, 10)?;
    let seconds = 2 + 2 * STEP_FOR.as_secs();
    let load = Load { both_ways, ..Load::equals(CROWD, usize::try_from(seconds)? * 200) };
    let (mut down, mut up) = (Vec::new(), Vec::new());
    let used = if both_ways { 2 } else { 1 };
    for _ in 0..runs(scale) {
        let mut arrived = Vec::new();
        let run = once(Who::Ours, &devices, &load, |counts, started| {
            arrived.clear();
            for window in 0..seconds * 4 {
                let at = WINDOW * u32::try_from(window)?;
                std::thread::sleep((started + at).saturating_duration_since(Instant::now()));
                match at.as_millis() {
                    2000 => devices.cable.set_rate(20)?,
                    6000 => devices.cable.set_rate(MBIT_PER_S)?,
                    _ => {}
                }
                arrived.push(
                    counts.each_ref().map(|way| way.iter().map(|count| count.load(Ordering::Relaxed)).sum()),
                );
            }
            Ok(())
        })?;
        down.push(recovered_s(&run.pings_ms, &arrived, used, 2, 20.0));
        up.push(recovered_s(&run.pings_ms, &arrived, used, 6, f64::from(MBIT_PER_S)));
    }
    devices.cable.set_rate(MBIT_PER_S)?;
    let facts = vec![("down_s", median(&down)), ("up_s", median(&up))];
    Ok(Finding::median_of(down.iter().zip(&up).map(|(down, up)| down.max(*up)).collect(), facts))
}

/// Seconds from a step at `second` until the 99th percentile of a window's pings is under 15 ms and its goodput over 0.9
/// of `mbit_per_s` in each of the first `used` directions.
fn recovered_s(pings_ms: &[f64], arrived: &[[u64; 2]], used: usize, second: usize, mbit_per_s: f64) -> f64 {
    let window_s = WINDOW.as_secs_f64();
    let windows = (STEP_FOR.as_secs_f64() / window_s) as usize - 1;
    for window in 0..windows {
        let from = second * 4 + window;
        let Some([before, after]) =
            arrived.get(from..from + 2).and_then(|pair| <[[u64; 2]; 2]>::try_from(pair).ok())
        else {
            break;
        };
        let mut ways = after.iter().zip(before).take(used);
        let enough = ways.all(|(after, before)| (after - before) as f64 * 8e-6 / window_s > 0.9 * mbit_per_s);
        let pings = pings_ms.get(from * 50..(from + 1) * 50).unwrap_or_default();
        if quantile(pings, 0.99) < 15.0 && enough {
            return window as f64 * window_s;
        }
    }
    STEP_FOR.as_secs_f64()
}
