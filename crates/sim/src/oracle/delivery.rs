//! Promises about what reaches an application.

use super::Oracle;
use crate::clock::Moment;
use crate::device::{MessageId, NodeId, Step};
use crate::fault::Fault;
use crate::hostile::Lie;
use crate::message;
use crate::plan::{Message, Plan, Role};
use crate::trace::What;

/// How late a device may deliver because it does not know how long a frame was under way elsewhere, in microseconds:
/// nodes count a message's lifetime on their own clocks.
const LATE_US_MAX: u64 = 120_000_000;

pub(super) fn oracles(plan: &Plan) -> Vec<Box<dyn Oracle>> {
    let mut all: Vec<Box<dyn Oracle>> = vec![Box::new(Genuine::new(plan))];
    if plan.protocol.is_product() {
        all.push(Box::new(Once {
            delivered: vec![None; plan.traffic.len()],
            crashed: vec![None; plan.nodes.len()],
        }));
        all.push(Box::new(Confirmed { delivered: vec![false; plan.traffic.len()] }));
        // A liar that holds a frame back and sends it later cannot be told from a slow network: nothing on the air says when
        // a message was written.
        if plan.nodes.iter().all(|node| node.role != Role::Hostile(Lie::Replay)) {
            let sent = vec![None; plan.traffic.len()];
            all.push(Box::new(InTime { plan: plan.traffic.clone(), sent, off_us: longest_off_us(plan) }));
        }
    }
    all
}

/// Only what was sent is delivered, whole, to whom it was sent, from whom it came.
struct Genuine {
    seed: u64,
    traffic: Vec<Message>,
    sent: Vec<bool>,
    honest: Vec<bool>,
}

impl Genuine {
    fn new(plan: &Plan) -> Self {
        Self {
            seed: plan.seed,
            traffic: plan.traffic.clone(),
            sent: vec![false; plan.traffic.len()],
            honest: plan.nodes.iter().map(|node| node.role.is_honest()).collect(),
        }
    }
}

impl Oracle for Genuine {
    fn name(&self) -> &'static str {
        "genuine"
    }

    fn observe(&mut self, _at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        match *what {
            What::Send { id, .. } => self.sent[id.0 as usize] = true,
            What::Deliver { from, payload } if self.honest[node.index()] => {
                let id = message::number(payload).filter(|id| (id.0 as usize) < self.traffic.len());
                let Some(id) = id else {
                    return Err(format!("delivered {} bytes nobody sent", payload.len()));
                };
                let message = &self.traffic[id.0 as usize];
                if !self.sent[id.0 as usize] {
                    return Err(format!("delivered message {} before it was sent", id.0));
                }
                if payload != &message::payload(self.seed, id, message.bytes)[..] {
                    return Err(format!("message {} was changed on its way", id.0));
                }
                if message.to != node {
                    return Err(format!("message {} is for {}", id.0, message.to));
                }
                if from != Some(message.from) {
                    return Err(format!("message {} is from {}, not from {from:?}", id.0, message.from));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Nothing is delivered twice, unless a crash took the memory of the first time before it was on disk.
struct Once {
    delivered: Vec<Option<Moment>>,
    /// The last crash of each node.
    crashed: Vec<Option<Moment>>,
}

/// What was delivered this shortly before a crash may be forgotten by it, in microseconds: a device that waited for its
/// disk before every delivery would be slow, one that never wrote would be useless.
const FORGETS_US_MAX: u64 = 10_000_000;

impl Oracle for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn observe(&mut self, at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        match *what {
            What::Crash { .. } => self.crashed[node.index()] = Some(at),
            What::Deliver { payload, .. } => {
                let Some(id) = message::number(payload) else { return Ok(()) };
                let Some(slot) = self.delivered.get_mut(id.0 as usize) else { return Ok(()) };
                let before = slot.replace(at);
                let forgiven = |first: Moment| {
                    self.crashed[node.index()]
                        .is_some_and(|crash| crash >= first && crash.since_us(first) < FORGETS_US_MAX)
                };
                if let Some(first) = before.filter(|first| !forgiven(*first)) {
                    return Err(format!("message {} was delivered at {first} and again", id.0));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A sender hears "delivered" only after it was.
struct Confirmed {
    delivered: Vec<bool>,
}

impl Oracle for Confirmed {
    fn name(&self) -> &'static str {
        "confirmed"
    }

    fn observe(&mut self, _at: Moment, _node: NodeId, what: &What<'_>) -> Result<(), String> {
        match *what {
            What::Deliver { payload, .. } => {
                if let Some(slot) =
                    message::number(payload).and_then(|id| self.delivered.get_mut(id.0 as usize))
                {
                    *slot = true;
                }
            }
            What::Progress { id: MessageId(id), step: Step::Delivered } if !self.delivered[id as usize] => {
                return Err(format!("message {id} was confirmed and never delivered"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Nothing is delivered long after its lifetime.
struct InTime {
    plan: Vec<Message>,
    sent: Vec<Option<Moment>>,
    /// The longest time for which a node was off: who starts without a clock does not know how long that was, and what it
    /// has on disk may be that much older.
    off_us: u64,
}

pub(super) fn longest_off_us(plan: &Plan) -> u64 {
    let crashes = plan.faults.iter().filter(|timed| matches!(timed.fault, Fault::Crash { .. }));
    crashes.filter_map(|timed| timed.fault.for_ms()).max().unwrap_or(0).saturating_mul(1_000)
}

impl Oracle for InTime {
    fn name(&self) -> &'static str {
        "in-time"
    }

    fn observe(&mut self, at: Moment, _node: NodeId, what: &What<'_>) -> Result<(), String> {
        match *what {
            What::Send { id, .. } => self.sent[id.0 as usize] = Some(at),
            What::Deliver { payload, .. } => {
                let Some(id) = message::number(payload) else { return Ok(()) };
                let Some(Some(sent)) = self.sent.get(id.0 as usize) else { return Ok(()) };
                let lifetime_us = self.plan[id.0 as usize].lifetime_ms.saturating_mul(1_000);
                let late_us = at.since_us(sent.plus_us(lifetime_us));
                if late_us > LATE_US_MAX.max(lifetime_us / 10).saturating_add(self.off_us) {
                    return Err(format!("message {} was delivered {} s late", id.0, late_us / 1_000_000));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
