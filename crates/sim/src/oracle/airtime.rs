//! Promises about the air.

use super::Oracle;
use crate::clock::Moment;
use crate::device::{Class, NodeId};
use crate::fault::Fault;
use crate::plan::Plan;
use crate::radio::budget::{HOUR_US, Rolling, eu868_budget_us};
use crate::trace::What;

pub(super) fn oracles(plan: &Plan) -> Vec<Box<dyn Oracle>> {
    let Some(air) = plan.air else { return Vec::new() };
    let nodes = plan.nodes.len();
    // A node measures an hour on a clock that may be fast; the law is kept for the hour it can measure.
    let fastest_ppm =
        plan.nodes.iter().map(|node| node.clock_ppm.unsigned_abs()).chain(faulty_rates(plan)).max();
    let span_us = HOUR_US - HOUR_US / 1_000_000 * u64::from(fastest_ppm.unwrap_or(0));
    let leaps = plan.faults.iter().any(|timed| matches!(timed.fault, Fault::ClockLeap { .. }));
    let mut all: Vec<Box<dyn Oracle>> = Vec::new();
    if !leaps {
        all.push(Box::new(Duty {
            budget_us: eu868_budget_us(air.settings.frequency_hz).unwrap_or(0),
            span_us,
            sent: vec![Rolling::default(); nodes],
        }));
    }
    if plan.protocol.is_product() {
        all.push(Box::new(AnnounceShare { used_us: vec![0; nodes] }));
    }
    all
}

fn faulty_rates(plan: &Plan) -> impl Iterator<Item = u32> {
    plan.faults.iter().filter_map(|timed| match timed.fault {
        Fault::ClockRate { ppm, .. } => Some(ppm.unsigned_abs()),
        _ => None,
    })
}

/// No radio is on the air for longer than the law allows, in any hour.
struct Duty {
    budget_us: u64,
    span_us: u64,
    sent: Vec<Rolling>,
}

impl Oracle for Duty {
    fn name(&self) -> &'static str {
        "duty"
    }

    fn observe(&mut self, at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        let What::Air { airtime_us, .. } = *what else { return Ok(()) };
        let sent = &mut self.sent[node.index()];
        let end = at.plus_us(airtime_us);
        sent.add(at, end);
        let used_us = sent.used_us(end, self.span_us);
        if used_us > self.budget_us {
            return Err(format!("{used_us} us on the air within an hour, {} are allowed", self.budget_us));
        }
        Ok(())
    }
}

/// Announces and beacons take at most 2 % of a constrained port's airtime.
struct AnnounceShare {
    used_us: Vec<u64>,
}

/// In the first hour a share of nothing would forbid the first announce.
const MEASURED_OVER_US: u64 = 3_600_000_000;

impl Oracle for AnnounceShare {
    fn name(&self) -> &'static str {
        "announce-share"
    }

    fn observe(&mut self, at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        let What::Air { airtime_us, class: Class::Announce, .. } = *what else { return Ok(()) };
        let used = &mut self.used_us[node.index()];
        *used += airtime_us;
        let over_us = at.as_micros().max(MEASURED_OVER_US);
        // 2 % of the time, whatever the duty cycle leaves of it.
        if *used > over_us / 50 {
            return Err(format!("announces took {used} us of {over_us}"));
        }
        Ok(())
    }
}
