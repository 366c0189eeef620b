//! Reservations: a part of a link's rate promised to a stream. What was promised is kept ([`Scheduler`](super::Scheduler)
//! serves `rate_min` before shares), so only so much may be promised as the link was seen to carry.

use std::collections::BTreeMap;

use super::level::StreamId;

/// The part of the link that may be reserved, in per cent: estimates move, and what nobody reserved must move too.
pub const RESERVED_PERCENT_MAX: u64 = 90;

/// Why a reservation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// The link does not carry that much beside what is reserved already.
    #[error("{asked} bytes/s do not fit: {left} bytes/s of this link can still be reserved")]
    InsufficientBandwidth {
        /// Bytes a second.
        asked: u64,
        /// Bytes a second.
        left: u64,
    },
    /// Too many streams hold one.
    #[error("{max} streams hold reservations already; release one first")]
    TooManyStreams {
        /// The most there may be.
        max: usize,
    },
}

/// More is promised than the link carries now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overcommitted {
    /// Bytes a second promised.
    pub reserved: u64,
    /// Bytes a second the link may promise now.
    pub allowed: u64,
}

/// What is reserved on one link.
#[derive(Clone, Debug)]
pub struct Reservations {
    streams_max: usize,
    /// Bytes a second the link carries; `None` until it was measured.
    capacity: Option<u64>,
    held: BTreeMap<StreamId, u64>,
    /// An overcommitment was reported and has not gone since.
    warned: bool,
}

impl Reservations {
    /// No reservations, for at most `streams_max` streams.
    #[must_use]
    pub const fn new(streams_max: usize) -> Self {
        Self { streams_max, capacity: None, held: BTreeMap::new(), warned: false }
    }

    /// Bytes a second that are reserved.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.held.values().fold(0, |sum, rate| sum.saturating_add(*rate))
    }

    /// Bytes a second that can still be reserved; `None` while the capacity is not known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        Some(allowed(self.capacity?).saturating_sub(self.reserved()))
    }

    /// Reserves `rate` bytes a second for a stream, in place of what it had. While the capacity is not known everything is
    /// promised: a link that was never full is not short of anything, and [`Reservations::measured`] says so when it turns
    /// out to be.
    ///
    /// # Errors
    /// [`ReserveError`]; the stream keeps what it had.
    pub fn reserve(&mut self, stream: StreamId, rate: u64) -> Result<(), ReserveError> {
        let had = self.held.get(&stream).copied();
        if had.is_none() && self.held.len() >= self.streams_max {
            return Err(ReserveError::TooManyStreams { max: self.streams_max });
        }
        let left = self.left().map(|left| left.saturating_add(had.unwrap_or(0)));
        if let Some(left) = left.filter(|left| rate > *left) {
            return Err(ReserveError::InsufficientBandwidth { asked: rate, left });
        }
        self.held.insert(stream, rate);
        Ok(())
    }

    /// Gives back what a stream reserved.
    pub fn release(&mut self, stream: StreamId) {
        self.held.remove(&stream);
        self.warned &= self.overcommitted().is_some();
    }

    /// The link carries `capacity` bytes a second now. What was promised stays promised; the answer says, once, that it
    /// cannot be kept.
    pub fn measured(&mut self, capacity: u64) -> Option<Overcommitted> {
        self.capacity = Some(capacity);
        let over = self.overcommitted();
        let news = over.filter(|_| !self.warned);
        self.warned = over.is_some();
        news
    }

    fn overcommitted(&self) -> Option<Overcommitted> {
        let (reserved, allowed) = (self.reserved(), allowed(self.capacity?));
        (reserved > allowed).then_some(Overcommitted { reserved, allowed })
    }
}

const fn allowed(capacity: u64) -> u64 {
    capacity / 100 * RESERVED_PERCENT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(2);

    #[test]
    fn a_refusal_says_what_was_asked_and_what_is_left() {
        let mut held = Reservations::new(8);
        assert_eq!(held.measured(1000), None);
        assert_eq!(held.reserve(A, 600), Ok(()));
        assert_eq!(held.reserve(B, 301), Err(ReserveError::InsufficientBandwidth { asked: 301, left: 300 }));
        assert_eq!(held.reserve(A, 900), Ok(()));
        held.release(A);
        assert_eq!(held.left(), Some(900));
    }

    #[test]
    fn what_was_promised_before_the_link_was_known_is_reported_when_it_does_not_fit() {
        let mut held = Reservations::new(8);
        assert_eq!(held.reserve(A, 5000), Ok(()));
        assert_eq!(held.measured(1000), Some(Overcommitted { reserved: 5000, allowed: 900 }));
        assert_eq!(held.reserve(B, 1), Err(ReserveError::InsufficientBandwidth { asked: 1, left: 0 }));
    }

    #[test]
    fn too_many_are_refused_with_the_limit() {
        let mut held = Reservations::new(1);
        held.measured(1000);
        held.reserve(A, 1).unwrap();
        assert_eq!(held.reserve(B, 1), Err(ReserveError::TooManyStreams { max: 1 }));
        assert_eq!(held.reserve(A, 2), Ok(()));
    }

    #[test]
    fn a_link_that_got_slower_is_told_once() {
        let mut held = Reservations::new(8);
        held.measured(1000);
        held.reserve(A, 800).unwrap();
        assert_eq!(held.measured(500), Some(Overcommitted { reserved: 800, allowed: 450 }));
        assert_eq!(held.measured(400), None);
        assert_eq!(held.measured(1000), None);
        assert!(held.measured(500).is_some());
    }

    proptest! {
        #[test]
        fn never_more_is_promised_than_the_link_carried_then(
            asks in proptest::collection::vec((0_u64..20, 0_u64..5000), 1..60)
        ) {
            let mut held = Reservations::new(10);
            held.measured(10_000);
            for (stream, rate) in asks {
                let _ = held.reserve(StreamId(stream), rate);
                prop_assert!(held.reserved() <= 9000);
                prop_assert_eq!(held.left(), Some(9000 - held.reserved()));
            }
        }
    }
}
