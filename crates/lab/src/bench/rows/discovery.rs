//! D1: how soon a device that was just switched on is seen by one that is there already.
//!
//! Two machines on a bridge. On the first a daemon runs and `nearby --watch` prints who comes; on the second a device that
//! never ran before is started, again and again. The clock runs from the moment that its daemon says it runs to the line
//! that names it at the other machine; a line that comes sooner counts as 0. The fact beside it is the other direction.

use std::time::Instant;

use super::Scale;
use crate::Trouble;
use crate::device::Device;
use crate::lan::Lan;
use crate::pairs::{median, quantile};
use crate::report::Finding;
use crate::shelf::Shelf;

/// Devices that are switched on.
const UPS: usize = 24;

pub(crate) fn measure(scale: &Scale) -> Result<Finding, Trouble> {
    let Some(program) = &scale.program else {
        return Ok(Finding::Skipped(super::NEEDS_PROGRAM.into()));
    };
    let lan = match Lan::build(&["ann", "bob"])? {
        Ok(lan) => lan,
        Err(skipped) => return Ok(skipped),
    };
    let shelf = Shelf::new()?;
    let mut ann = Device::new(program, "ann", &shelf.emptied("ann")?, Some(lan.namespace("ann")));
    ann.up()?;
    let mut watching = ann.start(&["nearby", "--watch", "--json"])?;
    let (mut seen, mut sees) = (Vec::new(), Vec::new());
    for n in 0..scale.samples(UPS) {
        let name = format!("bob {n}");
        let mut bob = Device::new(program, &name, &shelf.emptied("bob")?, Some(lan.namespace("bob")));
        let ready = bob.up()?;
        let mut looking = bob.start(&["nearby", "--watch", "--json"])?;
        let at_ann = watching.event_at("found", |event| event["name"] == name.as_str())?;
        let at_bob = looking.event_at("found", |event| event["name"] == "ann")?;
        let after = |at: Instant| at.saturating_duration_since(ready).as_secs_f64();
        seen.push(after(at_ann));
        sees.push(after(at_bob));
    }
    let facts = vec![
        ("p50_s", median(&seen)),
        ("max_s", quantile(&seen, 1.0)),
        ("newcomer_sees_p50_s", median(&sees)),
        ("newcomer_sees_p95_s", quantile(&sees, 0.95)),
    ];
    Ok(Finding::Measured { value: quantile(&seen, 0.95), samples: seen, facts })
}
