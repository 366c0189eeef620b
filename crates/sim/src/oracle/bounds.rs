//! Promises about limits.

use honeylink_core::limits::RADIO_QUEUE_FRAMES_MAX;

use super::Oracle;
use crate::clock::Moment;
use crate::device::NodeId;
use crate::plan::Plan;
use crate::trace::What;

pub(super) fn oracles(plan: &Plan) -> Vec<Box<dyn Oracle>> {
    vec![Box::new(Bounded { state_bytes_max: plan.protocol.state_bytes_max() }), Box::new(Rests)]
}

/// No device holds more memory, and no modem more frames, than its limit.
struct Bounded {
    state_bytes_max: u64,
}

impl Oracle for Bounded {
    fn name(&self) -> &'static str {
        "bounded"
    }

    fn observe(&mut self, _at: Moment, _node: NodeId, what: &What<'_>) -> Result<(), String> {
        let What::State { bytes, queued } = *what else { return Ok(()) };
        if bytes > self.state_bytes_max {
            return Err(format!("{bytes} bytes of state, at most {} are allowed", self.state_bytes_max));
        }
        // One frame is in the modem, not in the queue.
        if queued > RADIO_QUEUE_FRAMES_MAX as u64 + 1 {
            return Err(format!("{queued} frames wait for the modem"));
        }
        Ok(())
    }
}

/// Every device comes to rest after every event.
struct Rests;

impl Oracle for Rests {
    fn name(&self) -> &'static str {
        "rests"
    }

    fn observe(&mut self, _at: Moment, _node: NodeId, what: &What<'_>) -> Result<(), String> {
        if let What::Stuck { why } = what { Err(format!("does not come to rest: {why}")) } else { Ok(()) }
    }
}
