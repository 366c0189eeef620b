//! The smallest plan that still breaks the same promise: pieces are taken out, the largest first, as long as it does
//! (delta debugging: Zeller, Hildebrandt 2002, with halves only).

use super::{Judging, run};
use crate::device::NodeId;
use crate::oracle::Violation;
use crate::plan::Plan;

/// A plan that was made smaller.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// What it still breaks.
    pub found: Violation,
    /// How many runs it took.
    pub runs: u32,
}

/// Never switched on, in milliseconds.
const NEVER_MS: u64 = u64::MAX / 1_000_000;

struct Search {
    oracle: String,
    best: Plan,
    found: Violation,
    runs: u32,
    runs_max: u32,
}

/// Makes `plan`, which broke the promise of `found`, smaller, with at most `runs_max` runs.
#[must_use]
pub fn shrink(plan: Plan, found: Violation, runs_max: u32) -> Shrunk {
    let mut search = Search { oracle: found.oracle.clone(), best: plan, found, runs: 0, runs_max };
    search.cut_the_end();
    for _ in 0..2 {
        search.thin(|plan| plan.faults.len(), |plan, from, to| drop(plan.faults.drain(from..to)));
        search.thin(|plan| plan.traffic.len(), |plan, from, to| drop(plan.traffic.drain(from..to)));
        search.thin(|plan| plan.nodes.len(), switch_off);
        search.cut_the_end();
    }
    search.try_with(|plan| plan.movement = None);
    search.try_with(|plan| plan.nodes.iter_mut().for_each(|node| node.clock_ppm = 0));
    Shrunk { plan: search.best, found: search.found, runs: search.runs }
}

/// Nodes keep their numbers, because those decide what lies between them; they are just never switched on.
fn switch_off(plan: &mut Plan, from: usize, to: usize) {
    let off = |id: NodeId| (from..to).contains(&id.index());
    for node in &mut plan.nodes[from..to] {
        node.starts_at_ms = NEVER_MS;
    }
    plan.traffic.retain(|message| !off(message.from) && !off(message.to));
    plan.faults.retain(|timed| !timed.fault.nodes().iter().any(|id| off(*id)));
}

impl Search {
    /// Whether `plan` breaks the same promise; if so it is the best so far.
    fn accepts(&mut self, plan: Plan) -> bool {
        if self.runs >= self.runs_max {
            return false;
        }
        self.runs += 1;
        let Ok(outcome) = run(&plan, Judging::UntilFirst) else { return false };
        let Some(found) = outcome.violations.into_iter().find(|v| v.oracle == self.oracle) else {
            return false;
        };
        self.best = plan;
        self.found = found;
        true
    }

    fn try_with(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut plan = self.best.clone();
        change(&mut plan);
        plan != self.best && self.accepts(plan)
    }

    /// Nothing after the violation matters, unless it was found by looking back.
    fn cut_the_end(&mut self) {
        let end_ms = self.found.at_us / 1_000 + 1;
        self.try_with(|plan| {
            plan.end_at_ms = plan.end_at_ms.min(end_ms);
            plan.heal_at_ms = plan.heal_at_ms.min(plan.end_at_ms);
            plan.faults.retain(|timed| timed.at_ms <= end_ms);
        });
    }

    /// Takes pieces out of a list: first halves, then quarters, down to single elements.
    fn thin(&mut self, len: fn(&Plan) -> usize, remove: impl Fn(&mut Plan, usize, usize)) {
        let mut size = len(&self.best).div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < len(&self.best) {
                let to = (from + size).min(len(&self.best));
                let before = len(&self.best);
                let shrank = self.try_with(|plan| remove(plan, from, to));
                // What was removed is gone, and the next piece stands in its place; nodes stay where they are.
                if !shrank || len(&self.best) == before {
                    from = to;
                }
            }
            size /= 2;
        }
    }
}
