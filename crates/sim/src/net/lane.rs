//! One direction of a link: what happens to a frame between leaving and arriving.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::clock::Moment;
use crate::trace::Missed;

/// What one direction of a link is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lane {
    /// Shortest delay, in microseconds.
    pub latency_us: u64,
    /// What comes on top.
    pub jitter: Jitter,
    /// Which frames are lost.
    pub loss: Loss,
    /// Frames that arrive twice, in millionths.
    pub duplicate_ppm: u32,
    /// Frames that may overtake others, in millionths. All others keep their order.
    pub reorder_ppm: u32,
    /// Rate in bits per second.
    pub bits_per_s: u64,
    /// What waits at the sender at most, in bytes.
    pub queue_bytes_max: u64,
    /// Largest frame, in bytes.
    pub mtu: usize,
}

impl Default for Lane {
    /// A decent home connection.
    fn default() -> Self {
        Self {
            latency_us: 20_000,
            jitter: Jitter::default(),
            loss: Loss::default(),
            duplicate_ppm: 0,
            reorder_ppm: 0,
            bits_per_s: 20_000_000,
            queue_bytes_max: 256 << 10,
            mtu: 1_200,
        }
    }
}

/// How delay varies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Jitter {
    /// Not at all.
    #[default]
    None,
    /// Evenly up to so many microseconds.
    Uniform(u64),
    /// Like the positive half of a normal distribution of this deviation in microseconds.
    Normal(u64),
    /// Exponentially with this mean in microseconds: rarely very late.
    Exponential(u64),
}

/// Which frames are lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Each on its own, so many in a million.
    Independent(u32),
    /// In bursts (Gilbert 1960, Elliott 1963): a good and a bad state, with a chance per frame of going from one to the
    /// other and a loss rate in each, all in millionths.
    Bursts {
        /// From good to bad.
        enter: u32,
        /// From bad to good.
        leave: u32,
        /// Lost while good.
        good: u32,
        /// Lost while bad.
        bad: u32,
    },
}

impl Default for Loss {
    fn default() -> Self {
        Self::Independent(0)
    }
}

/// A direction at work.
#[derive(Clone, Debug)]
pub struct Flow {
    lane: Lane,
    chance: Chance,
    bad: bool,
    /// When the transmitter is done with what it has.
    busy_until: Moment,
    /// When the last frame that keeps its order arrives.
    last_arrival: Moment,
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It does not arrive.
    Lost(Missed),
    /// It leaves and arrives, perhaps twice.
    Arrives {
        /// When it has left the sender.
        departs: Moment,
        /// When it comes in.
        first: Moment,
        /// When its duplicate does.
        second: Option<Moment>,
    },
}

impl Flow {
    /// A direction like `lane`.
    #[must_use]
    pub fn new(lane: Lane, chance: Chance) -> Self {
        Self { lane, chance, bad: false, busy_until: Moment::START, last_arrival: Moment::START }
    }

    /// What the direction is like now.
    #[must_use]
    pub const fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The direction changes its nature; what is under way stays under way.
    pub fn set_lane(&mut self, lane: Lane) {
        self.lane = lane;
    }

    /// A frame of `bytes` is given to the transmitter.
    pub fn pass(&mut self, now: Moment, bytes: usize) -> Passage {
        let waiting_us = self.busy_until.since_us(now);
        let waiting_bytes = waiting_us.saturating_mul(self.lane.bits_per_s / 8) / 1_000_000;
        if bytes > self.lane.mtu || waiting_bytes + bytes as u64 > self.lane.queue_bytes_max {
            return Passage::Lost(Missed::QueueFull);
        }
        let serialise_us = (bytes as u64 * 8_000_000) / self.lane.bits_per_s.max(1);
        let departs = now.max(self.busy_until).plus_us(serialise_us);
        self.busy_until = departs;
        if self.is_lost() {
            return Passage::Lost(Missed::Loss);
        }
        let mut first = departs.plus_us(self.delay_us());
        if !self.chance.happens(self.lane.reorder_ppm) {
            first = first.max(self.last_arrival);
            self.last_arrival = first;
        }
        let twice = self.chance.happens(self.lane.duplicate_ppm);
        let second = twice.then(|| departs.plus_us(self.delay_us()).max(first));
        Passage::Arrives { departs, first, second }
    }

    fn is_lost(&mut self) -> bool {
        match self.lane.loss {
            Loss::Independent(ppm) => self.chance.happens(ppm),
            Loss::Bursts { enter, leave, good, bad } => {
                self.bad ^= self.chance.happens(if self.bad { leave } else { enter });
                self.chance.happens(if self.bad { bad } else { good })
            }
        }
    }

    fn delay_us(&mut self) -> u64 {
        let extra = match self.lane.jitter {
            Jitter::None => 0,
            Jitter::Uniform(most) => self.chance.below(most.saturating_add(1)),
            // Casts of floats saturate; none of these is negative.
            Jitter::Normal(deviation) => (self.chance.normal().abs() * deviation as f64) as u64,
            Jitter::Exponential(mean) => self.chance.exponential(mean as f64) as u64,
        };
        self.lane.latency_us.saturating_add(extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Purpose;

    fn flow(lane: Lane) -> Flow {
        Flow::new(lane, Chance::new(1, Purpose::Links, 0))
    }

    fn arrivals(flow: &mut Flow, count: u64, gap_us: u64) -> Vec<Option<Moment>> {
        (0..count)
            .map(|n| match flow.pass(Moment(n * gap_us), 1_000) {
                Passage::Arrives { first, .. } => Some(first),
                Passage::Lost(_) => None,
            })
            .collect()
    }

    #[test]
    fn rate_and_queue_bound_what_goes_through() {
        let mut slow = flow(Lane { bits_per_s: 8_000_000, queue_bytes_max: 3_000, ..Lane::default() });
        let got = arrivals(&mut slow, 5, 0);
        let expected = [Some(Moment(21_000)), Some(Moment(22_000)), Some(Moment(23_000)), None, None];
        assert_eq!(got, expected);
    }

    #[test]
    fn frames_keep_their_order_unless_they_may_overtake() {
        let lane = Lane { jitter: Jitter::Exponential(50_000), ..Lane::default() };
        let ordered: Vec<_> = arrivals(&mut flow(lane.clone()), 500, 1_000).into_iter().flatten().collect();
        assert!(ordered.is_sorted());
        let mut loose = flow(Lane { reorder_ppm: 500_000, ..lane });
        let mixed: Vec<_> = arrivals(&mut loose, 500, 1_000).into_iter().flatten().collect();
        assert!(!mixed.is_sorted());
    }

    #[test]
    fn bursts_lose_in_runs_and_single_losses_do_not() {
        let longest = |loss| {
            let got = arrivals(&mut flow(Lane { loss, ..Lane::default() }), 20_000, 1_000);
            let lost = got.iter().filter(|a| a.is_none()).count();
            let run = got.chunk_by(|a, b| a.is_none() == b.is_none()).filter(|run| run[0].is_none());
            (lost, run.map(<[_]>::len).max().unwrap_or(0))
        };
        // Both lose about a tenth.
        let (single, short) = longest(Loss::Independent(100_000));
        let bursts = Loss::Bursts { enter: 5_000, leave: 50_000, good: 10_000, bad: 1_000_000 };
        let (clustered, long) = longest(bursts);
        assert!(
            (1_700..2_300).contains(&single) && (1_300..2_700).contains(&clustered),
            "{single} {clustered}"
        );
        assert!(short < 10 && long > 30, "{short} {long}");
    }
}
