//! The node's clock: turns the runtime's monotonic time into the machines' [`Time`].
//!
//! It reads tokio's clock, not the system's, so that a test that pauses or steps the runtime's time steers every
//! machine too.

use honeylink_core::time::Time;
use std::time::Duration;
use tokio::time::Instant;

/// Microseconds since the node started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(self) -> Time {
        Time::from_micros(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The runtime's instant for a machine's deadline.
    pub(crate) fn instant(self, at: Time) -> Instant {
        // A deadline too far to be represented never comes; a day from now is asked again then.
        let after = Duration::from_micros(at.as_micros());
        self.start.checked_add(after).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
    }
}

/// Milliseconds since 1970: wall time, as data for records and logs only.
pub(crate) fn unix_ms() -> u64 {
    #[cfg(feature = "testing")]
    if let Some(simulated) = crate::testing::virtual_time::unix_ms() {
        return simulated;
    }
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
