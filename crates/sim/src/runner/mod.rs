//! Runs of plans: one, many at once, again, and smaller.
//!
//! | file | what it does |
//! |---|---|
//! | `mod.rs` | one run, caught if it panics |
//! | `many.rs` | many runs on all processors, results in the order asked |
//! | `replay.rs` | a failing run as a file, and that file as a run |
//! | `shrink.rs` | the smallest plan that still fails |
//! | `scenarios.rs` | scenario files, and whether they came to what they expect |
//! | `lines.rs` | traces: where two part, what one amounts to |

pub mod lines;
pub mod many;
pub mod replay;
pub mod scenarios;
pub mod shrink;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::oracle::{Judge, Violation};
use crate::plan::Plan;
use crate::tally::Tally;
use crate::trace::Trace;
use crate::world::{BuildError, World};

/// How strictly a run is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judging {
    /// By every oracle, to the end.
    Strict,
    /// By every oracle, until one finds something.
    UntilFirst,
    /// By the law and the bounds alone.
    Lawful,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed of the plan.
    pub seed: u64,
    /// The hash of everything that happened.
    pub hash: u64,
    /// How many events were recorded.
    pub events: u64,
    /// What the oracles found.
    pub violations: Vec<Violation>,
    /// What was counted; nothing if the run panicked.
    pub tally: Option<Tally>,
}

/// The oracle that finds panics.
pub const PANIC: &str = "no-panic";

/// Runs `plan`.
///
/// # Errors
/// [`BuildError`] if the plan makes no sense.
pub fn run(plan: &Plan, judging: Judging) -> Result<Outcome, BuildError> {
    run_traced(plan, judging, Trace::default())
}

/// Runs `plan` and writes what happens to `lines`, after a line that says of which run they are.
///
/// # Errors
/// [`BuildError`] if the plan makes no sense.
pub fn run_writing(
    plan: &Plan,
    judging: Judging,
    lines: Box<dyn Write + Send>,
) -> Result<Outcome, BuildError> {
    let mut trace = Trace::writing(lines);
    trace.header(&lines::header(plan));
    run_traced(plan, judging, trace)
}

fn run_traced(plan: &Plan, judging: Judging, trace: Trace) -> Result<Outcome, BuildError> {
    let judge = match judging {
        Judging::Strict => Judge::strict(plan),
        Judging::UntilFirst => Judge::strict(plan).stopping_at_first(),
        Judging::Lawful => Judge::lawful(plan),
    };
    let mut world = World::new(plan.clone(), trace, judge)?;
    // A world that panicked is only asked how far it came.
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ran {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let what = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned();
        let violation = Violation { oracle: PANIC.to_owned(), at_us: world.now().as_micros(), node: 0, what };
        return Ok(Outcome { seed: plan.seed, hash: 0, events: 0, violations: vec![violation], tally: None });
    }
    let ended = world.finish();
    Ok(Outcome {
        seed: plan.seed,
        hash: ended.hash,
        events: ended.events,
        violations: ended.violations,
        tally: Some(ended.tally),
    })
}
