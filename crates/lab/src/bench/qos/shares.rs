//! Q3, Q4: who gets how much.

use std::time::Duration;

use honeylink::{Priority, StreamOptions};

use super::load::Outcome;
use super::peers::{Devices, Load};
use super::rival;
use super::rows::{CROWD, MBIT_PER_S, Who, may_not, once, runs};
use crate::Trouble;
use crate::pairs::median;
use crate::report::Finding;
use crate::rows::Scale;

/// How long bytes are counted for.
const COUNT_FOR: Duration = Duration::from_secs(5);
/// Streams of each of the three priorities.
const THIRD: usize = CROWD / 3;

fn seconds(scale: &Scale) -> Duration {
    if scale.quick { Duration::from_secs(1) } else { COUNT_FOR }
}

/// Q3: equal streams.
pub(crate) fn fairness(scale: &Scale) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(MBIT_PER_S, 10)?;
    let load = Load { seconds: seconds(scale), ..Load::equals(CROWD, 0) };
    let index = |run: Outcome| run.jain(0..CROWD);
    let (mut ours, mut raw, mut zenoh) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs(scale) {
        ours.push(index(once(Who::Ours, &devices, &load, |_, _| Ok(()))?));
        raw.push(index(once(Who::Raw, &devices, &load, |_, _| Ok(()))?));
        if let Some(program) = &scale.zenoh {
            zenoh.push(index(rival::run(program, &devices, &[CROWD], 0, seconds(scale))?));
        }
    }
    let mut facts = vec![("raw", median(&raw))];
    if !zenoh.is_empty() {
        facts.push(("zenoh", median(&zenoh)));
    }
    Ok(Finding::median_of(ours, facts))
}

/// Q4: streams of priorities 3, 2 and 1, of which each has twice the share of the next.
pub(crate) fn priorities(scale: &Scale) -> Result<Finding, Trouble> {
    if let Some(skipped) = may_not() {
        return Ok(skipped);
    }
    let devices = Devices::new(MBIT_PER_S, 10)?;
    let bulk = [3, 2, 1].into_iter().flat_map(|priority| {
        let options = StreamOptions::from(Priority::new(priority).unwrap_or_default());
        std::iter::repeat_n(options, THIRD)
    });
    let load = Load { bulk: bulk.collect(), seconds: seconds(scale), ..Load::equals(0, 0) };
    let (mut worst, mut ours, mut raw, mut zenoh) = (Vec::new(), [const { Vec::new() }; 3], None, None);
    for _ in 0..runs(scale) {
        let shares = thirds(&once(Who::Ours, &devices, &load, |_, _| Ok(()))?);
        let due = [4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0];
        let errors = shares.iter().zip(due).map(|(share, due)| (share / due - 1.0).abs() * 100.0);
        worst.push(errors.fold(0.0, f64::max));
        ours.iter_mut().zip(shares).for_each(|(all, share)| all.push(share));
    }
    raw.replace(thirds(&once(Who::Raw, &devices, &load, |_, _| Ok(()))?));
    if let Some(program) = &scale.zenoh {
        zenoh = Some(thirds(&rival::run(program, &devices, &[THIRD; 3], 0, seconds(scale))?));
    }
    let [high, middle, low] = ours.map(|shares| median(&shares));
    let mut facts = vec![("high_share", high), ("middle_share", middle), ("low_share", low)];
    let theirs = [("raw_high_share", "raw_low_share", raw), ("zenoh_high_share", "zenoh_low_share", zenoh)];
    for (high_name, low_name, shares) in theirs {
        if let Some([high, _, low]) = shares {
            facts.extend([(high_name, high), (low_name, low)]);
        }
    }
    Ok(Finding::median_of(worst, facts))
}

fn thirds(run: &Outcome) -> [f64; 3] {
    [0, 1, 2].map(|nth| run.share(nth * THIRD..(nth + 1) * THIRD))
}
