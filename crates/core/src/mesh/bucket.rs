//! How much of each kind of traffic a neighbour or a source may ask of this node: token buckets, within a bound.
//!
//! A bucket is one number, the moment at which it would be full again (the generic cell rate algorithm of ITU-T I.371): a
//! unit of traffic moves it by one interval, and traffic is refused while it lies more than a burst ahead. A bucket that
//! is full is exactly as good as none, so it needs no memory and is the first to be forgotten.
//!
//! # A crowd of sources
//!
//! New names cost nothing, so an attacker has as many as it likes. Forgetting used-up buckets to make room for its names
//! would hand everybody a fresh allowance, the attacker first. So only full buckets are ever forgotten; when there is
//! none, all newcomers of a kind share one common bucket. Whoever has a bucket keeps it as it is, and half of the room is
//! kept for parties the node knows (paired, or proved by an announce). The crowd's total cost is thus bounded by the
//! bound times one burst and rate, and a newcomer competes with the crowd, never somebody known.

use std::collections::BTreeMap;

use core::time::Duration;

use super::hint::{Far, Near};
use crate::limits::MESH_BUCKETS_MAX;
use crate::time::Time;

/// What a party may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// Data to forward or to take, with its receipts.
    Message,
    /// Announces and beacons.
    Announce,
    /// Route requests and replies.
    Request,
    /// Signed first contacts and key packages: each costs a signature check.
    KeyExchange,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// Whoever transmitted the frame on this port.
    Neighbour {
        /// The number of the port.
        port: u16,
        /// Its hint.
        near: Near,
    },
    /// Whoever the frame says it comes from.
    Source(Far),
}

/// An allowance: one unit per `every`, `burst` units at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time in which one unit comes back.
    pub every: Duration,
    /// Units in a full bucket.
    pub burst: u32,
}

/// The allowances of one party. The unit is one frame, or what the caller makes of it: airtime in tenths of a second
/// suits a radio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// For [`Traffic::Message`].
    pub messages: Rate,
    /// For [`Traffic::Announce`].
    pub announces: Rate,
    /// For [`Traffic::Request`].
    pub requests: Rate,
    /// For [`Traffic::KeyExchange`].
    pub keys: Rate,
}

impl Rates {
    /// What one source gets by default: a burst of fragments, an announce every two minutes where ten are usual.
    pub const SOURCE: Self = Self {
        messages: Rate { every: Duration::from_millis(500), burst: 256 },
        announces: Rate { every: Duration::from_secs(120), burst: 4 },
        requests: Rate { every: Duration::from_secs(10), burst: 12 },
        keys: Rate { every: Duration::from_secs(60), burst: 4 },
    };
    /// What one neighbour gets by default: it speaks for everybody behind it.
    pub const NEIGHBOUR: Self = Self {
        messages: Rate { every: Duration::from_millis(50), burst: 1024 },
        announces: Rate { every: Duration::from_secs(1), burst: 256 },
        requests: Rate { every: Duration::from_secs(1), burst: 64 },
        keys: Rate { every: Duration::from_secs(5), burst: 32 },
    };

    const fn of(&self, traffic: Traffic) -> Rate {
        match traffic {
            Traffic::Message => self.messages,
            Traffic::Announce => self.announces,
            Traffic::Request => self.requests,
            Traffic::KeyExchange => self.keys,
        }
    }
}

/// The party has used up its allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much at once; the next may come in {} ms", retry_after.as_millis())]
pub struct Throttled {
    /// When so much would be allowed again.
    pub retry_after: Duration,
    /// Whether it was the bucket that newcomers share.
    pub common: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When it is full again.
    full_at: Time,
    known: bool,
}

/// The buckets of all parties.
#[derive(Debug)]
pub struct Buckets {
    neighbour: Rates,
    source: Rates,
    buckets: BTreeMap<(Party, Traffic), Bucket>,
    /// Shared by newcomers for whom there is no room, for neighbours and sources apart.
    common: BTreeMap<(bool, Traffic), Time>,
    /// Before this no bucket becomes full: looking for one would be in vain.
    sweep_at: Time,
}

impl Default for Buckets {
    fn default() -> Self {
        Self::new(Rates::NEIGHBOUR, Rates::SOURCE)
    }
}

impl Buckets {
    /// Buckets with these allowances for each neighbour and each source.
    #[must_use]
    pub const fn new(neighbour: Rates, source: Rates) -> Self {
        Self { neighbour, source, buckets: BTreeMap::new(), common: BTreeMap::new(), sweep_at: Time::ZERO }
    }

    /// Takes `units` from the bucket of `party`, or says when they would be there. More units than a burst count as a
    /// burst. `known` parties are those the node has a reason to tell from a crowd.
    ///
    /// # Errors
    /// [`Throttled`]; nothing was taken then.
    pub fn take(
        &mut self,
        now: Time,
        party: Party,
        traffic: Traffic,
        units: u32,
        known: bool,
    ) -> Result<(), Throttled> {
        let neighbour = matches!(party, Party::Neighbour { .. });
        let rate = if neighbour { &self.neighbour } else { &self.source }.of(traffic);
        let key = (party, traffic);
        if !self.buckets.contains_key(&key) && self.has_room(now, known) {
            self.buckets.insert(key, Bucket { full_at: now, known });
        }
        if let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.known |= known;
            bucket.full_at = rate.spend(now, bucket.full_at, units, false)?;
            self.sweep_at = self.sweep_at.min(bucket.full_at);
        } else {
            let full_at = self.common.entry((neighbour, traffic)).or_insert(now);
            *full_at = rate.spend(now, *full_at, units, true)?;
        }
        Ok(())
    }

    /// How many buckets are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    fn has_room(&mut self, now: Time, known: bool) -> bool {
        let room = |buckets: &BTreeMap<_, Bucket>| {
            let strangers = || buckets.values().filter(|bucket| !bucket.known).count();
            buckets.len() < MESH_BUCKETS_MAX && (known || strangers() < MESH_BUCKETS_MAX / 2)
        };
        if self.buckets.len() < MESH_BUCKETS_MAX / 2 || room(&self.buckets) {
            return true;
        }
        if now < self.sweep_at {
            return false;
        }
        self.buckets.retain(|_, bucket| bucket.full_at > now);
        self.sweep_at = self.buckets.values().map(|bucket| bucket.full_at).min().unwrap_or(Time::MAX);
        room(&self.buckets)
    }
}

impl Rate {
    /// When the bucket is full again after `units` were taken from it.
    fn spend(&self, now: Time, full_at: Time, units: u32, common: bool) -> Result<Time, Throttled> {
        let after = full_at.max(now) + self.every.saturating_mul(units.min(self.burst));
        let most = now + self.every.saturating_mul(self.burst);
        if after > most {
            Err(Throttled { retry_after: after.saturating_since(most), common })
        } else {
            Ok(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    fn source(n: u32) -> Party {
        let [_, a, b, c] = n.to_be_bytes();
        Party::Source(Far([a, b, c]))
    }

    fn take(buckets: &mut Buckets, now: Time, n: u32, known: bool) -> bool {
        buckets.take(now, source(n), Traffic::KeyExchange, 1, known).is_ok()
    }

    #[test]
    fn a_burst_is_allowed_and_then_one_per_interval() {
        let mut buckets = Buckets::default();
        for _ in 0..4 {
            assert!(take(&mut buckets, at(0), 1, false));
        }
        let refused = buckets.take(at(15), source(1), Traffic::KeyExchange, 1, false);
        assert_eq!(refused, Err(Throttled { retry_after: Duration::from_secs(45), common: false }));
        assert!(take(&mut buckets, at(60), 1, false));
        assert!(!take(&mut buckets, at(61), 1, false));
        assert!(buckets.take(at(61), source(1), Traffic::Announce, 1, false).is_ok(), "kinds are apart");
        assert!(take(&mut buckets, at(61), 2, false), "sources are apart");
    }

    #[test]
    fn a_crowd_of_sources_neither_refills_nor_empties_anybody_elses_bucket() {
        let mut buckets = Buckets::default();
        for _ in 0..3 {
            assert!(take(&mut buckets, at(0), 1, true));
        }
        let mut passed = 0;
        for n in 0..100_000 {
            passed += u32::from(take(&mut buckets, at(1), 1000 + n, false));
            assert!(buckets.len() <= MESH_BUCKETS_MAX);
        }
        assert!(passed <= MESH_BUCKETS_MAX as u32 / 2 + 4, "{passed} of the crowd");
        assert!(take(&mut buckets, at(1), 1, true));
        assert!(!take(&mut buckets, at(1), 1, true), "used up as before");
        assert!(take(&mut buckets, at(1), 2, true), "somebody known finds room");
        assert!(take(&mut buckets, at(400), 3, false), "and a newcomer when the crowd is gone");
    }

    #[test]
    fn what_costs_more_than_a_burst_passes_when_the_bucket_is_full() {
        let mut buckets = Buckets::default();
        assert!(buckets.take(at(0), source(1), Traffic::KeyExchange, 1000, false).is_ok());
        assert!(!take(&mut buckets, at(1), 1, false));
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_a_burst_and_the_rate(
            steps in proptest::collection::vec((0..90_u64, 0..3_u32), 1..300),
        ) {
            let mut buckets = Buckets::default();
            let (mut now, mut given) = (0, [0_u64; 3]);
            for (wait, who) in steps {
                now += wait;
                given[who as usize] += u64::from(take(&mut buckets, at(now), who, false));
            }
            for units in given {
                prop_assert!(units <= 4 + now / 60);
            }
        }
    }
}
