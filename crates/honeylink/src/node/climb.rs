//! When to look again for a direct way to a peer that is reached through a relay.
//!
//! iroh tries when a connection is made and when addresses change, and then once a minute. A way that was cut and works
//! again changes no address, so a pair would stay on its relay for most of that minute; see
//! [`QuicCarrier::look_for_ways`](crate::carrier::quic::QuicCarrier::look_for_ways).

use std::time::Duration;

/// From one try to the next while there is hope: shorter than what a person waits for, and about what iroh allows.
const OFTEN: Duration = Duration::from_millis(3500);
/// So many tries, half a minute, before it is tried less often.
const OFTEN_TRIES: u32 = 9;
/// What the pauses grow to, doubling: some pairs of routers never let a direct way through.
const SELDOM: Duration = Duration::from_secs(60);

/// The tries for one connection.
#[derive(Debug, Default)]
pub(super) struct Climb {
    tries: u32,
}

impl Climb {
    /// The pause before the next try; `None` if there is nothing to climb to.
    pub(super) fn pause(&mut self, relayed: bool) -> Option<Duration> {
        if !relayed {
            self.tries = 0;
            return None;
        }
        let doublings = self.tries.saturating_sub(OFTEN_TRIES).min(6);
        Some((OFTEN * 2_u32.pow(doublings)).min(SELDOM))
    }

    /// A try was made.
    pub(super) fn tried(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_pair_tries_often_then_seldom_and_a_direct_one_never() {
        let mut climb = Climb::default();
        let mut pauses = Vec::new();
        for _ in 0..16 {
            pauses.push(climb.pause(true).unwrap());
            climb.tried();
        }
        assert!(pauses[..9].iter().all(|pause| *pause == OFTEN));
        assert_eq!(pauses.last(), Some(&SELDOM));
        assert_eq!(climb.pause(false), None);
        assert_eq!(climb.pause(true), Some(OFTEN));
    }
}
