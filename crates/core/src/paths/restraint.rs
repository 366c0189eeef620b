//! How much is sent into a silence.
//!
//! A sender whose window is open goes on while nothing is acknowledged, until the window is full: hundreds of packets, all
//! of which wait somewhere if the way is dead. Where they wait they are in the way of others: iroh queues 64 for each
//! relay, and when one relay that is gone has that many, nothing goes to any other. So a few are allowed, and for what
//! comes after them an acknowledgement is waited for that is overdue anyway. Probes of the loss detection (RFC 9002,
//! section 6.2.4) are not held back, and the first of them that is answered ends the restraint.

use core::time::Duration;

use crate::time::Time;

/// Packets that may go unanswered for longer than an answer takes. With the probes and signs of life of the second in which a
/// way still counts as alive, two connections over one relay stay below the 64 packets that may wait there; whoever sends
/// hundreds a second has some more under way before an answer is overdue.
pub const UNANSWERED_MAX: u32 = 20;
/// For how long a receiver may keep an acknowledgement back (RFC 9000, section 18.2).
const ACK_DELAY_MAX: Duration = Duration::from_millis(25);

/// Counts what one path was given since something came back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restraint {
    unanswered: u32,
    /// When the first of them was sent.
    since: Option<Time>,
}

impl Restraint {
    /// A packet was sent.
    pub fn sent(&mut self, now: Time) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.since.get_or_insert(now);
    }

    /// Something sent before was acknowledged, or is known to be lost, which only an acknowledgement tells.
    pub fn answered(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing but probes should be sent for now. `round_trip` is the smoothed one or the latest, whichever is longer.
    #[must_use]
    pub fn holds(&self, now: Time, round_trip: Duration) -> bool {
        let overdue =
            self.since.is_some_and(|since| now.saturating_since(since) > round_trip + ACK_DELAY_MAX);
        overdue && self.unanswered >= UNANSWERED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(40);

    /// How many of `packets` are let out, one every `every_us`, when each is answered after `answer_us` or never.
    fn let_out(packets: u64, every_us: u64, answer_us: Option<u64>) -> u64 {
        let (mut restraint, mut out) = (Restraint::default(), Vec::new());
        let mut answered = 0;
        for packet in 0..packets {
            let now = Time::from_micros(packet * every_us);
            while let (Some(after), Some(sent)) = (answer_us, out.get(answered)) {
                if Time::from_micros(sent + after) > now {
                    break;
                }
                restraint.answered();
                answered += 1;
            }
            if !restraint.holds(now, ROUND_TRIP) {
                restraint.sent(now);
                out.push(packet * every_us);
            }
        }
        out.len() as u64
    }

    #[test]
    fn a_way_that_answers_is_never_held_back() {
        for every_us in [1, 10, 1_000, 20_000] {
            assert_eq!(let_out(5_000, every_us, Some(40_000)), 5_000, "one every {every_us} us");
        }
    }

    #[test]
    fn a_silent_way_gets_a_few_or_what_is_under_way_before_an_answer_is_overdue() {
        assert_eq!(let_out(1_000, 20_000, None), u64::from(UNANSWERED_MAX));
        // At 400 a second there are more before the first answer is overdue.
        assert_eq!(let_out(1_000, 2_500, None), 27);
    }

    #[test]
    fn one_answer_opens_it_again() {
        let mut restraint = Restraint::default();
        let at = |ms| Time::from_millis(ms);
        (0..UNANSWERED_MAX).for_each(|_| restraint.sent(at(0)));
        assert!(!restraint.holds(at(65), ROUND_TRIP));
        assert!(restraint.holds(at(66), ROUND_TRIP));
        restraint.answered();
        assert!(!restraint.holds(at(67), ROUND_TRIP));
    }
}
