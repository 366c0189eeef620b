//! What must never happen, and what must happen in the end: one checker for each promise.
//!
//! Oracles see what an outsider with perfect sight would: frames in the air, deliveries, progress, crashes. They share no
//! state with the devices they judge. Safety is checked at every event; liveness after the plan has healed.
//!
//! | file | promises |
//! |---|---|
//! | `delivery.rs` | nothing twice, nothing forged, nothing late, receipts only after delivery |
//! | `airtime.rs` | duty cycle, the share of announces |
//! | `announces.rs` | announces are their device's own, and never go back |
//! | `custody.rs` | what somebody says it keeps is on its disk |
//! | `frames.rs` | hops end, nonces are used once, frames fit their port |
//! | `bounds.rs` | memory and queues have limits, nobody spins |
//! | `liveness.rs` | every message ends, what can be delivered is |

#![expect(clippy::wildcard_enum_match_arm, reason = "an oracle looks at the few events its promise is about")]

mod airtime;
mod announces;
mod bounds;
mod custody;
mod delivery;
mod frames;
mod liveness;

use crate::clock::Moment;
use crate::device::NodeId;
use crate::plan::Plan;
use crate::trace::What;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Violation {
    /// Which promise, by the name of its oracle.
    pub oracle: String,
    /// When, in microseconds.
    pub at_us: u64,
    /// At which node.
    pub node: u32,
    /// What happened.
    pub what: String,
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} at {} on n{}: {}", self.oracle, Moment(self.at_us), self.node, self.what)
    }
}

/// A checker of one promise.
pub trait Oracle {
    /// The promise, in a word.
    fn name(&self) -> &'static str;

    /// Looks at an event.
    ///
    /// # Errors
    /// What broke the promise.
    fn observe(&mut self, at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String>;

    /// Looks back at the end of the run.
    ///
    /// # Errors
    /// Everything that broke the promise, with the node it concerns.
    fn finish(&mut self, _at: Moment) -> Result<(), Vec<(NodeId, String)>> {
        Ok(())
    }
}

/// Violations kept of one oracle: the first tell the story, the rest repeat it.
const VIOLATIONS_PER_ORACLE_MAX: usize = 4;

/// All oracles of a run.
#[derive(Default)]
pub struct Judge {
    oracles: Vec<(Box<dyn Oracle>, usize)>,
    violations: Vec<Violation>,
    stops_at_first: bool,
}

impl Judge {
    /// A judge who looks away.
    #[must_use]
    pub fn blind() -> Self {
        Self::default()
    }

    /// A judge of the law and the bounds alone, for large runs: the others remember every frame.
    #[must_use]
    pub fn lawful(plan: &Plan) -> Self {
        let mut oracles: Vec<Box<dyn Oracle>> = Vec::new();
        oracles.extend(airtime::oracles(plan));
        oracles.extend(bounds::oracles(plan));
        Self { oracles: oracles.into_iter().map(|oracle| (oracle, 0)).collect(), ..Self::default() }
    }

    /// The judge for a plan: everybody keeps the law and the bounds; the product keeps all its promises.
    #[must_use]
    pub fn strict(plan: &Plan) -> Self {
        let mut oracles: Vec<Box<dyn Oracle>> = Vec::new();
        oracles.extend(delivery::oracles(plan));
        oracles.extend(airtime::oracles(plan));
        oracles.extend(frames::oracles(plan));
        oracles.extend(announces::oracles(plan));
        oracles.extend(custody::oracles(plan));
        oracles.extend(bounds::oracles(plan));
        oracles.extend(liveness::oracles(plan));
        Self { oracles: oracles.into_iter().map(|oracle| (oracle, 0)).collect(), ..Self::default() }
    }

    /// Ends the run at the first violation.
    #[must_use]
    pub fn stopping_at_first(mut self) -> Self {
        self.stops_at_first = true;
        self
    }

    /// Shows an event to every oracle.
    pub fn observe(&mut self, at: Moment, node: NodeId, what: &What<'_>) {
        for (oracle, found) in &mut self.oracles {
            let Err(why) = oracle.observe(at, node, what) else { continue };
            *found += 1;
            if *found <= VIOLATIONS_PER_ORACLE_MAX {
                self.violations.push(violation(oracle.name(), at, node, why));
            }
        }
    }

    /// Lets every oracle look back.
    pub fn finish(&mut self, at: Moment) {
        for (oracle, found) in &mut self.oracles {
            for (node, why) in oracle.finish(at).err().unwrap_or_default() {
                *found += 1;
                if *found <= VIOLATIONS_PER_ORACLE_MAX {
                    self.violations.push(violation(oracle.name(), at, node, why));
                }
            }
        }
    }

    /// Whether the run need not go on.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.stops_at_first && !self.violations.is_empty()
    }

    /// What was found.
    #[must_use]
    pub fn into_violations(self) -> Vec<Violation> {
        self.violations
    }
}

fn violation(oracle: &str, at: Moment, node: NodeId, what: String) -> Violation {
    Violation { oracle: oracle.to_owned(), at_us: at.as_micros(), node: node.0, what }
}
