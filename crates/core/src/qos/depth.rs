//! How fast one direction of a link goes while the far end says how long its packets wait.
//!
//! With that ([`super::sounding`]) nothing has to be guessed from round trips: the depth of this direction's own queue is
//! known, and where there is a queue the bytes that arrive in a time are what the link carries. So the rate sent is that,
//! and more or less of it by what the queue lacks or has too much: a queue is the integral of what was sent too much, so
//! this is a proportional controller of it, which settles as long as it corrects over more time than the news takes. (The
//! proportional part is LEDBAT's, RFC 6817, section 2.4.2, on a rate instead of a window.)
//!
//! - The queue is kept shorter than by round trips, because those of both directions are in the way of who waits in both.
//! - A direction without a queue tells nothing about what it could carry: after a few such words more and more is sent.
//! - Much less arriving than is sent is another link, and counts at once.

use core::time::Duration;

use super::sounding::Told;
use crate::time::Time;

/// How long packets should wait in this direction, microseconds: some of them always, at 100 Mbit/s a dozen.
const WAIT_US: f64 = 1_700.0;
/// The time in which a queue that is longer or shorter is corrected. Somewhat more than from one word to the next and the
/// way of the news; half as much rings, twice as much is late after a step.
const CORRECT_US: f64 = 25_000.0;
/// Most that is sent less, and more, of the rate because of the queue.
const LESS_MOST: f64 = 0.6;
const MORE_MOST: f64 = 0.08;
/// Most that is sent more once there was no queue for so many words, and for longer.
const EMPTY_WORDS: u32 = 4;
const EMPTY_MORE: f64 = 0.15;
const EMPTIER_MORE: f64 = 0.3;
/// Part of the news in the rate: what arrives between two words depends on which packet was the last to count.
const NEWS: f64 = 0.3;
/// Less than this part of the rate is another link.
const SLOWER: f64 = 0.7;
/// So many words in a row before it is: an end whose processor was busy elsewhere shows the same for a moment.
const SLOWER_WORDS: u32 = 2;
/// Words are believed for this long.
const BELIEVED: Duration = Duration::from_millis(300);

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depth {
    told: Time,
    /// How long packets wait, microseconds.
    wait_us: f64,
    /// What the link carries, bytes a second.
    rate: f64,
    /// The far end's clock and its count of bytes in the last two words, newest first.
    arrived: [Option<(u64, u64)>; 2],
    /// Words in a row that found next to no queue, and that found much less arriving.
    empty: u32,
    slower: u32,
}

impl Depth {
    /// Starts from a rate, in bytes a second.
    pub(super) const fn new(now: Time, rate: f64) -> Self {
        Self { told: now, wait_us: WAIT_US, rate, arrived: [None; 2], empty: 0, slower: 0 }
    }

    /// News from the far end. A word that waits until a packet may leave does not wait in a queue of the link:
    /// `packet_bytes` at the rate sent are taken off.
    pub(super) fn told(&mut self, now: Time, told: Told, packet_bytes: u64) {
        let packet_us = packet_bytes as f64 * 1e6 / self.rate.max(1.0);
        self.wait_us = (told.waited.as_micros() as f64 - packet_us).max(0.0);
        if let Some(rate) = self.arrived_bytes_per_s(told) {
            if self.wait_us < WAIT_US / 2.0 {
                self.rate = self.rate.max(rate);
                self.slower = 0;
            } else if rate >= self.rate * SLOWER {
                self.rate += NEWS * (rate - self.rate);
                self.slower = 0;
            } else if self.slower < SLOWER_WORDS {
                self.slower += 1;
            } else {
                self.rate = rate;
            }
        }
        self.arrived = [Some((told.at_us, told.received)), self.arrived[0]];
        self.empty = if self.wait_us < WAIT_US / 2.0 {
            self.empty.saturating_add(1)
        } else if self.wait_us < WAIT_US {
            self.empty / 2
        } else {
            0
        };
        self.told = now;
    }

    /// What arrived in the time of the last two words.
    fn arrived_bytes_per_s(&self, told: Told) -> Option<f64> {
        let (at_us, received) = self.arrived[1]?;
        let took_us = told.at_us.checked_sub(at_us).filter(|took_us| *took_us > 0)?;
        Some(told.received.checked_sub(received)? as f64 * 1e6 / took_us as f64)
    }

    pub(super) fn is_old(&self, now: Time) -> bool {
        now.saturating_since(self.told) > BELIEVED
    }

    /// How long packets of this direction wait, microseconds.
    pub(super) const fn wait_us(&self) -> f64 {
        self.wait_us
    }

    /// What the link carries, bytes a second.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }

    /// Bytes a second to send.
    pub(super) fn bytes_per_s(&self) -> f64 {
        let more = match self.empty {
            empty if empty > EMPTY_WORDS => EMPTIER_MORE,
            EMPTY_WORDS => EMPTY_MORE,
            _ => ((WAIT_US - self.wait_us) / CORRECT_US).clamp(-LESS_MOST, MORE_MOST),
        };
        self.rate * (1.0 + more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1200;
    const RATE: f64 = 1_200_000.0;

    /// A word each 20 ms for a while, of a link that carries `rate` and packets that wait so long.
    fn tell(depth: &mut Depth, from_ms: u64, words: u64, rate: f64, waited_us: u64) {
        for nth in 0..words {
            let at_us = (from_ms + 20 * nth) * 1000;
            let received = (rate * 20e-3) as u64 * nth;
            let told = Told { waited: Duration::from_micros(waited_us), at_us, received };
            depth.told(Time::from_micros(at_us), told, PACKET);
        }
    }

    #[test]
    fn a_queue_that_is_as_long_as_it_should_be_is_fed_at_the_rate_that_arrives() {
        let mut depth = Depth::new(Time::ZERO, 2.0 * RATE);
        tell(&mut depth, 0, 50, RATE, WAIT_US as u64 + 1000);
        assert!((depth.bytes_per_s() / RATE - 1.0).abs() < 0.02, "{}", depth.bytes_per_s());
        tell(&mut depth, 1000, 3, RATE, 6000);
        assert!(depth.bytes_per_s() < 0.9 * RATE);
        tell(&mut depth, 1060, 3, RATE, 60_000);
        assert!(depth.bytes_per_s() < 0.5 * RATE && depth.bytes_per_s() > 0.3 * RATE);
    }

    #[test]
    fn a_slower_link_is_known_after_five_words_and_a_faster_one_is_looked_for() {
        let mut depth = Depth::new(Time::ZERO, RATE);
        tell(&mut depth, 0, 5, RATE / 5.0, 10_000);
        assert!(depth.rate() < RATE * 0.21, "{}", depth.rate());
        // As much arrives as is sent.
        let (mut at_us, mut received, mut words) = (1_000_000, 0, 0);
        while depth.rate() < RATE && words < 100 {
            received += (depth.bytes_per_s() * 20e-3) as u64;
            at_us += 20_000;
            words += 1;
            let told = Told { waited: Duration::ZERO, at_us, received };
            depth.told(Time::from_micros(at_us), told, PACKET);
        }
        assert!(words <= 25, "{words}");
    }

    #[test]
    fn a_clock_or_a_count_that_goes_backwards_is_no_rate() {
        let mut depth = Depth::new(Time::ZERO, RATE);
        for (at_us, received) in [(100, 100), (50, 200), (50, 0), (50, 0)] {
            depth.told(Time::ZERO, Told { waited: Duration::ZERO, at_us, received }, PACKET);
        }
        assert!((depth.rate() - RATE).abs() < 1.0, "{}", depth.rate());
    }
}
