//! Promises about what must happen in the end.

use super::Oracle;
use super::delivery::longest_off_us;
use crate::clock::Moment;
use crate::device::{MessageId, NodeId, Step};
use crate::message;
use crate::plan::{Message, Plan};
use crate::trace::What;

/// How much later than its lifetime a sender's device may say how a message ended, in microseconds.
const LATE_US_MAX: u64 = 120_000_000;

pub(super) fn oracles(plan: &Plan) -> Vec<Box<dyn Oracle>> {
    if !plan.protocol.is_product() {
        return Vec::new();
    }
    let fates = vec![Fate::default(); plan.traffic.len()];
    let mut all: Vec<Box<dyn Oracle>> = vec![Box::new(Ends {
        traffic: plan.traffic.clone(),
        fates: fates.clone(),
        crashed: vec![false; plan.nodes.len()],
        off_us: longest_off_us(plan),
    })];
    if plan.demands_delivery {
        all.push(Box::new(Arrives { traffic: plan.traffic.clone(), fates, end_us: plan.end_at_ms * 1_000 }));
    }
    all
}

#[derive(Clone, Copy, Default)]
struct Fate {
    accepted: bool,
    sent: Option<Moment>,
    delivered: bool,
    ended: Option<Step>,
}

fn follow(fates: &mut [Fate], at: Moment, what: &What<'_>) {
    match *what {
        What::Send { id: MessageId(id), .. } => fates[id as usize].sent = Some(at),
        What::Progress { id: MessageId(id), step: Step::Accepted } => fates[id as usize].accepted = true,
        What::Progress { id: MessageId(id), step } if step.is_final() => {
            fates[id as usize].ended = Some(step);
        }
        What::Deliver { payload, .. } => {
            if let Some(fate) = message::number(payload).and_then(|id| fates.get_mut(id.0 as usize)) {
                fate.delivered = true;
            }
        }
        _ => {}
    }
}

/// Every message that was taken on comes to an end that its sender is told: delivered, failed or expired. A sender that
/// crashed may have forgotten it, but not once it said that it is accepted: then it is on its disk.
struct Ends {
    traffic: Vec<Message>,
    fates: Vec<Fate>,
    crashed: Vec<bool>,
    /// How much later a sender may say so that was off: it need not know for how long it was.
    off_us: u64,
}

/// A message that lives no longer than this need not be on disk to be accepted, in milliseconds.
const VOLATILE_MS_MAX: u64 = 60_000;

impl Oracle for Ends {
    fn name(&self) -> &'static str {
        "ends"
    }

    fn observe(&mut self, at: Moment, node: NodeId, what: &What<'_>) -> Result<(), String> {
        if let What::Crash { .. } = what {
            self.crashed[node.index()] = true;
        }
        follow(&mut self.fates, at, what);
        Ok(())
    }

    fn finish(&mut self, at: Moment) -> Result<(), Vec<(NodeId, String)>> {
        let mut wrong = Vec::new();
        for (id, (fate, message)) in self.fates.iter().zip(&self.traffic).enumerate() {
            let Some(sent) = fate.sent else { continue };
            let crashed = self.crashed[message.from.index()];
            let late_us = LATE_US_MAX + if crashed { self.off_us } else { 0 };
            let due = sent.plus_us(message.lifetime_ms.saturating_mul(1_000)).plus_us(late_us);
            let forgets = crashed && (!fate.accepted || message.lifetime_ms <= VOLATILE_MS_MAX);
            if at > due && fate.ended.is_none() && !forgets {
                wrong.push((message.from, format!("message {id} never came to an end")));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// After everything has healed, every message that still had time is delivered. Only plans whose nodes can all reach each
/// other in the end, and whose load fits the channel, ask for this.
struct Arrives {
    traffic: Vec<Message>,
    fates: Vec<Fate>,
    end_us: u64,
}

impl Oracle for Arrives {
    fn name(&self) -> &'static str {
        "arrives"
    }

    fn observe(&mut self, at: Moment, _node: NodeId, what: &What<'_>) -> Result<(), String> {
        follow(&mut self.fates, at, what);
        Ok(())
    }

    fn finish(&mut self, _at: Moment) -> Result<(), Vec<(NodeId, String)>> {
        let mut wrong = Vec::new();
        for (id, (fate, message)) in self.fates.iter().zip(&self.traffic).enumerate() {
            let lives =
                |sent: Moment| sent.as_micros() + message.lifetime_ms.saturating_mul(1_000) > self.end_us;
            if fate.sent.is_some_and(lives) && !fate.delivered {
                wrong.push((message.to, format!("message {id} from {} never arrived", message.from)));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}
