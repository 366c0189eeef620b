//! What a stream asks for: its priority, its weight among equals, its rates, and when its datagrams are too old.

use core::time::Duration;

use crate::limits::QOS_QUEUE_BYTES_MAX;
use crate::wire::link::{Class, Priority};

/// A stream's share among the streams of its priority: 1 to 64, 4 unless said otherwise. A stream of weight 4 gets four
/// times the bytes of a stream of weight 1 while both have something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u8);

impl Weight {
    /// The largest weight. Beyond 64 a stream's turn would be so long that its neighbours notice.
    pub const MAX: u8 = 64;

    /// Weight `value`, or `None` for 0 and over [`Weight::MAX`].
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value >= 1 && value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// The number, 1 to 64.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(4)
    }
}

/// What a stream asks for. A [`Class`] or a [`Priority`] alone is a complete answer; the rest has defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// How urgent: 6 and 7 are served before everything else, up to a share of the link; below, each step down halves
    /// the share.
    pub priority: Priority,
    /// The share among streams of the same priority.
    pub weight: Weight,
    /// Bytes a second the stream gets whatever the others want, as long as it has that much to send. More than was
    /// reserved with it is not promised.
    pub rate_min: Option<u64>,
    /// Bytes a second the stream never exceeds.
    pub rate_max: Option<u64>,
    /// For datagrams: one that waited this long is dropped and counted instead of sent.
    pub deadline: Option<Duration>,
    /// Bytes that may wait in the queue before the sender has to.
    pub queue_bytes_max: u64,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Priority::default().into()
    }
}

impl From<Priority> for StreamOptions {
    fn from(priority: Priority) -> Self {
        Self {
            priority,
            weight: Weight::default(),
            rate_min: None,
            rate_max: None,
            deadline: None,
            queue_bytes_max: QOS_QUEUE_BYTES_MAX,
        }
    }
}

impl From<Class> for StreamOptions {
    fn from(class: Class) -> Self {
        Priority::from(class).into()
    }
}

/// Why options contradict themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A rate of nothing.
    #[error("{which} is 0; leave it out, or give bytes per second")]
    ZeroRate {
        /// `rate_min` or `rate_max`.
        which: &'static str,
    },
    /// The guarantee is above the cap.
    #[error("rate_min is {min} bytes/s, above rate_max of {max}")]
    MinAboveMax {
        /// Bytes a second.
        min: u64,
        /// Bytes a second.
        max: u64,
    },
    /// Everything would be late.
    #[error("deadline is 0: every datagram would be late")]
    ZeroDeadline,
    /// A queue without room, or beyond what any stream may have.
    #[error("queue_bytes_max is {asked}; it may be 1 to {max}")]
    QueueSize {
        /// What was asked for.
        asked: u64,
        /// The largest.
        max: u64,
    },
}

impl StreamOptions {
    /// Whether the parts agree with each other.
    ///
    /// # Errors
    /// [`OptionsError`], naming the part.
    pub fn check(&self) -> Result<(), OptionsError> {
        for (rate, which) in [(self.rate_min, "rate_min"), (self.rate_max, "rate_max")] {
            if rate == Some(0) {
                return Err(OptionsError::ZeroRate { which });
            }
        }
        if let (Some(min), Some(max)) = (self.rate_min, self.rate_max)
            && min > max
        {
            return Err(OptionsError::MinAboveMax { min, max });
        }
        if self.deadline == Some(Duration::ZERO) {
            return Err(OptionsError::ZeroDeadline);
        }
        if !(1..=QOS_QUEUE_BYTES_MAX).contains(&self.queue_bytes_max) {
            return Err(OptionsError::QueueSize { asked: self.queue_bytes_max, max: QOS_QUEUE_BYTES_MAX });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_a_complete_answer() {
        let options = StreamOptions::from(Class::Realtime);
        assert_eq!((options.priority.as_u8(), options.priority.class()), (7, Class::Realtime));
        assert_eq!(options.check(), Ok(()));
        assert_eq!(StreamOptions::default().priority.class(), Class::Interactive);
    }

    #[test]
    fn options_that_contradict_themselves_say_which_part() {
        let base = StreamOptions::default();
        let zero = StreamOptions { rate_max: Some(0), ..base };
        assert_eq!(zero.check(), Err(OptionsError::ZeroRate { which: "rate_max" }));
        let crossed = StreamOptions { rate_min: Some(9), rate_max: Some(8), ..base };
        assert_eq!(crossed.check(), Err(OptionsError::MinAboveMax { min: 9, max: 8 }));
        let late = StreamOptions { deadline: Some(Duration::ZERO), ..base };
        assert_eq!(late.check(), Err(OptionsError::ZeroDeadline));
        let endless = StreamOptions { queue_bytes_max: u64::MAX, ..base };
        assert!(matches!(endless.check(), Err(OptionsError::QueueSize { .. })));
        assert_eq!(Weight::new(0), None);
        assert_eq!(Weight::new(65), None);
    }
}
