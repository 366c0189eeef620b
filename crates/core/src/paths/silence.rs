//! For how long nothing was heard on a connection: what tells that another way is needed.
//!
//! QUIC leaves a path on which nothing is heard for one on which something is. It cannot help where all paths of a
//! connection are silent at once, as when the one relay between two devices dies: it waits until the connection counts as
//! lost, though another relay stands by. So the shell asks here, a few times a second, with the number of packets heard so
//! far.

use core::time::Duration;

use crate::time::Time;

/// A look that comes later than this after the one before proves nothing: this machine slept, or was too busy to listen.
pub const LOOK_LATE: Duration = Duration::from_millis(700);

/// Watches one connection.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    heard: u64,
    /// When something was heard last, or the watching itself was interrupted.
    since: Option<Time>,
    looked: Option<Time>,
}

impl Silence {
    /// How long it has been silent. `heard` is the number of packets heard since the connection began.
    ///
    /// After a look that was late the silence counts anew: what was said meanwhile may still be read.
    pub fn look(&mut self, now: Time, heard: u64) -> Duration {
        let late = self.looked.is_none_or(|looked| now.saturating_since(looked) > LOOK_LATE);
        self.looked = Some(now);
        if late || heard != self.heard {
            self.heard = heard;
            self.since = Some(now);
        }
        self.since.map_or(Duration::ZERO, |since| now.saturating_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 200 ms from `from` on, `looks` times; the longest silence, in milliseconds.
    fn longest(silence: &mut Silence, from: u64, looks: u64, heard: impl Fn(u64) -> u64) -> u128 {
        let times = (0..looks).map(|look| from + 200 * look);
        times.map(|at| silence.look(Time::from_millis(at), heard(at)).as_millis()).max().unwrap()
    }

    #[test]
    fn silence_is_what_passed_since_the_last_packet_was_seen() {
        let mut silence = Silence::default();
        assert_eq!(longest(&mut silence, 0, 50, |at| at / 320), 200);
        // The last packet was heard at 9,600, and seen at the look after it.
        assert_eq!(longest(&mut silence, 10_000, 11, |_| 30), 2_000 + 400);
    }

    #[test]
    fn a_machine_that_slept_listens_before_it_calls_it_silence() {
        let mut silence = Silence::default();
        assert_eq!(longest(&mut silence, 0, 50, |at| at / 320), 200);
        // It wakes after an hour, and nothing was counted while it slept.
        assert_eq!(silence.look(Time::from_millis(3_600_000), 30), Duration::ZERO);
        assert_eq!(longest(&mut silence, 3_600_200, 5, |_| 30), 1_000);
    }

    #[test]
    fn a_machine_too_busy_to_look_calls_nothing_silent() {
        let mut silence = Silence::default();
        let late = (0..100).map(|look| silence.look(Time::from_millis(900 * look), 1));
        assert!(late.into_iter().all(|silent| silent == Duration::ZERO));
    }

    #[test]
    fn a_clock_that_goes_backwards_makes_no_silence() {
        let mut silence = Silence::default();
        silence.look(Time::from_millis(9_000), 1);
        assert_eq!(longest(&mut silence, 0, 20, |_| 1), 0);
    }
}
