//! What a run amounts to: messages delivered and how fast, airtime spent and on what.

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::device::{Class, NodeId, Step};
use crate::message;
use crate::plan::Plan;
use crate::trace::{Missed, What};

/// What became of one message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Story {
    /// When the application gave it to its device; never if that was off.
    pub sent: Option<Moment>,
    /// When it was first delivered.
    pub delivered: Option<Moment>,
    /// When its sender first knew.
    pub confirmed: Option<Moment>,
    /// How often it was delivered.
    pub copies: u32,
    /// How its sender's device ended it.
    pub ended: Option<Step>,
}

/// Counters of a run. Airtime and frames count from the end of the warm-up on.
#[derive(Clone, Debug)]
pub struct Tally {
    from: Moment,
    seed: u64,
    /// By [`crate::device::MessageId`].
    pub stories: Vec<Story>,
    lifetimes_us: Vec<u64>,
    in_warm_up: Vec<bool>,
    /// Airtime by class, in microseconds.
    pub airtime_us: [u64; Class::ALL.len()],
    /// Airtime in the warm-up, in microseconds.
    pub warm_up_airtime_us: u64,
    /// Transmissions by class.
    pub transmissions: [u64; Class::ALL.len()],
    /// Bytes on the air by class.
    pub air_bytes: [u64; Class::ALL.len()],
    /// Bytes on links.
    pub wire_bytes: u64,
    /// Receptions.
    pub heard: u64,
    /// Receptions that failed, by reason.
    pub missed: [u64; MISSED],
    /// The largest state of any device, in bytes.
    pub state_bytes_max: u64,
    /// The sum of all states at the last sample, in bytes, and of how many devices.
    pub state_last: (u64, u64),
    last_sample: Moment,
}

const MISSED: usize = Missed::Absent as usize + 1;

/// A run in a few numbers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Messages sent after the warm-up.
    pub sent: u64,
    /// Of these, delivered within their lifetime.
    pub delivered: u64,
    /// Of these, confirmed to their sender.
    pub confirmed: u64,
    /// Delivered of sent.
    pub delivery_ratio: f64,
    /// Median time to delivery, in seconds.
    pub latency_p50_s: f64,
    /// The time within which 95 of 100 delivered messages arrived, in seconds.
    pub latency_p95_s: f64,
    /// All airtime, in seconds.
    pub airtime_s: f64,
    /// Airtime in the warm-up, which counts for nothing else, in seconds.
    pub warm_up_airtime_s: f64,
    /// All airtime for each message delivered, in seconds.
    pub airtime_per_delivered_s: f64,
    /// Transmissions for each message delivered.
    pub transmissions_per_delivered: f64,
    /// Airtime of announces, routes and the rest that is neither data nor acknowledgement, of all airtime.
    pub control_share: f64,
    /// Receptions lost to collisions, of all receptions.
    pub collision_share: f64,
    /// Messages delivered more than once to the application.
    pub duplicates: u64,
}

impl Tally {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        Self {
            from: Moment::from_millis(plan.warm_up_ms),
            seed: plan.seed,
            stories: vec![Story::default(); plan.traffic.len()],
            lifetimes_us: plan.traffic.iter().map(|m| m.lifetime_ms.saturating_mul(1_000)).collect(),
            in_warm_up: plan.traffic.iter().map(|m| m.at_ms < plan.warm_up_ms).collect(),
            airtime_us: [0; Class::ALL.len()],
            warm_up_airtime_us: 0,
            transmissions: [0; Class::ALL.len()],
            air_bytes: [0; Class::ALL.len()],
            wire_bytes: 0,
            heard: 0,
            missed: [0; MISSED],
            state_bytes_max: 0,
            state_last: (0, 0),
            last_sample: Moment::START,
        }
    }

    /// Counts an event.
    pub fn observe(&mut self, at: Moment, _node: NodeId, what: &What<'_>) {
        match *what {
            What::Send { id, .. } => self.story(id.0, |story| story.sent = Some(at)),
            What::Deliver { payload, .. } => {
                if let Some(id) = message::number(payload) {
                    self.story(id.0, |story| {
                        story.delivered.get_or_insert(at);
                        story.copies += 1;
                    });
                }
            }
            What::Progress { id, step } => self.story(id.0, |story| {
                if step == Step::Delivered {
                    story.confirmed.get_or_insert(at);
                }
                if step.is_final() {
                    story.ended = Some(step);
                }
            }),
            What::State { bytes, .. } => {
                self.state_bytes_max = self.state_bytes_max.max(bytes);
                if at != self.last_sample {
                    self.last_sample = at;
                    self.state_last = (0, 0);
                }
                self.state_last = (self.state_last.0 + bytes, self.state_last.1 + 1);
            }
            What::Air { airtime_us, .. } if at < self.from => self.warm_up_airtime_us += airtime_us,
            _ if at < self.from => {}
            What::Air { airtime_us, class, bytes, .. } => {
                self.air_bytes[class as usize] += bytes.len() as u64;
                self.airtime_us[class as usize] += airtime_us;
                self.transmissions[class as usize] += 1;
            }
            What::Wire { bytes, .. } => self.wire_bytes += bytes.len() as u64,
            What::Heard { .. } => self.heard += 1,
            What::Unheard { why, .. } | What::Dropped { why, .. } => self.missed[why as usize] += 1,
            What::Boot
            | What::Crash { .. }
            | What::Sleep
            | What::Wake
            | What::Arrived { .. }
            | What::Unsent { .. }
            | What::Up { .. }
            | What::Down { .. }
            | What::Synced
            | What::Fault { .. }
            | What::Heal
            | What::Stuck { .. }
            | What::Note { .. } => {}
        }
    }

    fn story(&mut self, id: u32, tell: impl FnOnce(&mut Story)) {
        if let Some(story) = self.stories.get_mut(id as usize) {
            tell(story);
        }
    }

    /// The seed of the run.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// How many receptions failed for this reason.
    #[must_use]
    pub const fn missed(&self, why: Missed) -> u64 {
        self.missed[why as usize]
    }

    /// The messages sent after the warm-up, with the lifetime of each in microseconds.
    pub fn counted(&self) -> impl Iterator<Item = (&Story, u64)> {
        let all = self.stories.iter().zip(&self.lifetimes_us).zip(&self.in_warm_up);
        all.filter(|((story, _), early)| story.sent.is_some() && !**early)
            .map(|((story, life), _)| (story, *life))
    }

    /// The run in a few numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let (mut sent, mut confirmed, mut duplicates) = (0_u64, 0_u64, 0_u64);
        let mut waits: Vec<u64> = Vec::new();
        for (story, lifetime_us) in self.counted() {
            sent += 1;
            duplicates += u64::from(story.copies > 1);
            let wait = story.sent.zip(story.delivered).map(|(sent, delivered)| delivered.since_us(sent));
            let Some(wait) = wait.filter(|wait| *wait <= lifetime_us) else { continue };
            waits.push(wait);
            confirmed += u64::from(story.confirmed.is_some());
        }
        waits.sort_unstable();
        let delivered = waits.len() as u64;
        let airtime: u64 = self.airtime_us.iter().sum();
        let control: u64 =
            [Class::Announce, Class::Route, Class::Other].map(|c| self.airtime_us[c as usize]).iter().sum();
        let collisions = self.missed(Missed::Collision);
        let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        Summary {
            sent,
            delivered,
            confirmed,
            delivery_ratio: ratio(delivered, sent),
            latency_p50_s: quantile(&waits, 0.50) / 1e6,
            latency_p95_s: quantile(&waits, 0.95) / 1e6,
            airtime_s: airtime as f64 / 1e6,
            warm_up_airtime_s: self.warm_up_airtime_us as f64 / 1e6,
            airtime_per_delivered_s: ratio(airtime, delivered) / 1e6,
            transmissions_per_delivered: ratio(self.transmissions.iter().sum(), delivered),
            control_share: ratio(control, airtime),
            collision_share: ratio(collisions, collisions + self.heard),
            duplicates,
        }
    }
}

/// The value below which a share of `sorted` lies (nearest rank); 0 if there are none.
fn quantile(sorted: &[u64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |value| *value as f64)
}
