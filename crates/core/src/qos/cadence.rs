//! How fast one direction of a link goes, learnt from what arrives at the other end of it.
//!
//! A round trip passes the queues of both directions, so it does not say which of them is long. The rate at which bytes
//! are delivered does not have this fault: it is that of one direction alone. So while both directions are full the
//! [estimator](super::Capacity) sends a little less than the most that came through lately, whatever the other side's
//! queue does, and both queues stay short. (That a rate measured as a maximum over some round trips can be sent at is the
//! idea of BBR, Cardwell et al., ACM Queue 14(5), 2016; here the delay decides as well.)
//!
//! - What was delivered is looked at over pieces of time long enough that acknowledgements in lumps do not count as speed.
//!   When a processor was busy elsewhere they come in larger lumps still: so nothing counts as faster than it was sent (the
//!   second half of the delivery rate of Cheng et al., draft-cheng-iccrg-delivery-rate-estimation).
//! - A maximum is believed for a second or two. In between somewhat more is sent for one look: a link that got faster shows
//!   itself by delivering it, and then the next looks try larger steps.
//! - Where a queue shows all the same, it is let drain: by everybody who feeds it in the same proportion.
//! - Where it gets far too long the link may be another one: what comes through then, slower than it was sent, counts alone.

use core::time::Duration;

use super::capacity::Ack;
use crate::time::Time;

/// How long deliveries are counted for a rate: several round trips where those are short.
const LOOK: Duration = Duration::from_millis(50);
/// The same while the queue is far too long, when there is no time to lose and always something to count.
const LOOK_LONG: Duration = Duration::from_millis(20);
/// Looks for which a maximum is kept at least; twice as many at most.
const KEPT_LOOKS: u32 = 20;
/// Looks from one try for more to the next; a look at queues that are next to empty counts for so many, because there a
/// try costs nobody anything.
const TRY_LOOKS: u32 = 10;
const TRY_EMPTY_COUNTS: u32 = 3;
/// The gap is up to so many looks longer, by chance. Two ends that try at the same time look to each other like a full link,
/// and would do so again each time.
const TRY_LOOKS_MORE: u64 = 5;
/// Parts of the maximum that are sent: mostly, as a try for more, and once that was delivered.
const GAIN: f64 = 0.95;
const GAIN_TRY: f64 = 1.1;
const GAIN_MORE: f64 = 1.25;
/// The same while the queues are longer than they should be, and than twice that.
const GAIN_LONG: f64 = 0.9;
const GAIN_LONGER: f64 = 0.75;
/// A delivery this much above the maximum is a faster link, and not chance.
const FASTER: f64 = 1.03;
/// Packets that arrive over so many times the time in which they were sent feed a queue.
const STRETCHED: f64 = 1.05;

/// How long packets wait, beside how long they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// Next to nothing.
    Empty,
    /// Not longer than they should.
    Short,
    /// Up to twice as long.
    Long,
    /// Longer.
    Longer,
    /// So long that the link may be another one.
    FarTooLong,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    /// When the look began, what was acknowledged since, and when the last packet before had been sent.
    looked: Time,
    acked: u64,
    sent: Time,
    /// The queue is far too long in this look.
    long: bool,
    /// Bytes a second of the last look.
    latest: f64,
    /// The most of the newer and of the older [`KEPT_LOOKS`].
    most: [f64; 2],
    looks: u32,
    /// Looks in a row for which more was sent, and how many there are until the next time.
    tries: u32,
    try_in: u32,
}

impl Cadence {
    pub(super) const fn new(now: Time) -> Self {
        Self {
            looked: now,
            acked: 0,
            sent: now,
            long: false,
            latest: 0.0,
            most: [0.0; 2],
            looks: 0,
            tries: 0,
            try_in: TRY_LOOKS,
        }
    }

    /// A packet arrived.
    pub(super) fn acked(&mut self, now: Time, ack: Ack, base: Duration, wait: Wait) {
        let long = wait == Wait::FarTooLong;
        if long && !self.long {
            // What the look has seen until now is of the time before.
            (self.looked, self.acked, self.sent) = (now, 0, ack.sent);
            (self.long, self.tries) = (true, 0);
            return;
        }
        self.long = long;
        self.acked += ack.bytes;
        let arriving = now.saturating_since(self.looked);
        if arriving < if long { LOOK_LONG } else { LOOK.max(base) } {
            return;
        }
        let sending = ack.sent.saturating_since(self.sent);
        self.latest = self.acked as f64 / arriving.max(sending).as_secs_f64();
        (self.looked, self.acked, self.sent) = (now, 0, ack.sent.max(self.sent));
        if !long {
            self.learn(wait);
        } else if self.latest < self.most() && arriving > sending.mul_f64(STRETCHED) {
            (self.most, self.looks, self.try_in) = ([self.latest, 0.0], 0, 0);
        }
    }

    /// The end of a look.
    fn learn(&mut self, wait: Wait) {
        let before = self.most();
        self.most[0] = self.most[0].max(self.latest);
        self.looks += 1;
        if self.looks >= KEPT_LOOKS {
            (self.most, self.looks) = ([self.latest, self.most[0]], 0);
        }
        if self.tries > 0 {
            let more = wait <= Wait::Short && self.latest > before * FASTER;
            self.tries = if more { self.tries + 1 } else { 0 };
            // Some digits of a measured rate are as good as a die.
            self.try_in = TRY_LOOKS + (self.latest as u64 % (TRY_LOOKS_MORE + 1)) as u32;
            return;
        }
        self.try_in = self.try_in.saturating_sub(if wait == Wait::Empty { TRY_EMPTY_COUNTS } else { 1 });
        self.tries = u32::from(self.try_in == 0);
    }

    /// The most that was delivered lately, bytes a second; 0 while nothing is known.
    pub(super) const fn most(&self) -> f64 {
        self.most[0].max(self.most[1])
    }

    /// Bytes a second that were delivered in the last look.
    pub(super) const fn latest(&self) -> f64 {
        self.latest
    }

    /// Bytes a second to send.
    pub(super) fn bytes_per_s(&self, wait: Wait) -> f64 {
        let gain = match (wait, self.tries) {
            (Wait::Longer | Wait::FarTooLong, _) => GAIN_LONGER,
            (Wait::Long, _) => GAIN_LONG,
            (Wait::Empty | Wait::Short, 0) => GAIN,
            (Wait::Empty | Wait::Short, 1) => GAIN_TRY,
            (Wait::Empty | Wait::Short, _) => GAIN_MORE,
        };
        self.most() * gain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1200;
    /// Bytes a second: a packet every millisecond.
    const RATE: f64 = 1_200_000.0;

    /// Packets sent one a millisecond, acknowledged `way_ms` later, or at `held_until_ms` if that is later still.
    fn deliver(cadence: &mut Cadence, sent_ms: std::ops::Range<u64>, held_until_ms: u64, wait: Wait) {
        for ms in sent_ms {
            let (now, sent) = (Time::from_millis((ms + 1).max(held_until_ms)), Time::from_millis(ms));
            cadence.acked(now, Ack { sent, bytes: PACKET }, Duration::from_millis(1), wait);
        }
    }

    fn assert_near(rate: f64, wanted: f64) {
        assert!((rate / wanted - 1.0).abs() < 0.05, "{rate} is not {wanted}");
    }

    #[test]
    fn acknowledgements_that_were_held_up_and_come_together_are_no_faster_link() {
        let mut cadence = Cadence::new(Time::ZERO);
        deliver(&mut cadence, 0..500, 0, Wait::Short);
        assert_near(cadence.most(), RATE);
        // For 90 ms the processor was busy elsewhere; then all that had arrived meanwhile is found at once.
        deliver(&mut cadence, 500..590, 590, Wait::Short);
        deliver(&mut cadence, 590..700, 0, Wait::Short);
        assert_near(cadence.most(), RATE);
    }

    #[test]
    fn a_stall_in_which_nothing_was_acknowledged_leaves_the_rate_as_it_was() {
        let mut cadence = Cadence::new(Time::ZERO);
        deliver(&mut cadence, 0..500, 0, Wait::Short);
        // The news of 120 ms comes in one lump, and says that all of it waited far too long.
        deliver(&mut cadence, 500..620, 620, Wait::FarTooLong);
        deliver(&mut cadence, 620..700, 0, Wait::Short);
        assert_near(cadence.most(), RATE);
    }

    #[test]
    fn a_queue_that_gets_far_too_long_shows_the_rate_of_a_slower_link_within_two_looks() {
        let mut cadence = Cadence::new(Time::ZERO);
        deliver(&mut cadence, 0..500, 0, Wait::Short);
        // As much is sent as before, and a fifth as fast arrives.
        for nth in 0..10 {
            let (now, sent) = (Time::from_millis(501 + 5 * nth), Time::from_millis(500 + nth));
            cadence.acked(now, Ack { sent, bytes: PACKET }, Duration::from_millis(1), Wait::FarTooLong);
        }
        assert_near(cadence.most(), RATE / 5.0);
    }

    #[test]
    fn a_faster_link_is_found_by_trying() {
        let mut cadence = Cadence::new(Time::ZERO);
        let mut sent = 0.0;
        // It delivers whatever is sent, at first a tenth of what it could.
        deliver(&mut cadence, 0..500, 0, Wait::Short);
        let mut at_ms = 500;
        while cadence.most() < 10.0 * RATE && at_ms < 3000 {
            sent += cadence.bytes_per_s(Wait::Short).min(10.0 * RATE) / 1000.0;
            let bytes = sent as u64;
            sent -= bytes as f64;
            let (now, before) = (Time::from_millis(at_ms + 1), Time::from_millis(at_ms));
            cadence.acked(now, Ack { sent: before, bytes }, Duration::from_millis(1), Wait::Short);
            at_ms += 1;
        }
        assert!(at_ms < 2000, "{at_ms} ms");
    }
}
