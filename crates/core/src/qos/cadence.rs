//! How fast one direction of a link goes, learnt from what arrives at the other end of it.
//!
//! A round trip passes the queues of both directions, so it does not say which of them is long. The rate at which bytes
//! are delivered does not have this fault: it is that of one direction alone. So while both directions are full the
//! [estimator](super::Capacity) sends a little less than the most that came through lately, whatever the other side's
//! queue does, and both queues stay short. (That a rate measured as a maximum over some round trips can be sent at is the
//! idea of BBR, Cardwell et al., ACM Queue 14(5), 2016; here the delay decides as well.)
//!
//! - What was delivered is looked at over pieces of time long enough that acknowledgements in lumps do not count as speed.
//! - A maximum is believed for a second or two. In between somewhat more is sent for one look: a link that got faster shows
//!   itself by delivering it, and then the next looks try larger steps.
//! - Where a queue shows all the same, it is let drain: by everybody who feeds it in the same proportion.

use core::time::Duration;

use crate::time::Time;

/// How long deliveries are counted for a rate: several round trips where those are short.
const LOOK: Duration = Duration::from_millis(50);
/// Looks from one try for more to the next. A maximum is kept for two to four times as long.
const LOOKS: u32 = 10;
/// Parts of the maximum that are sent: mostly, as a try for more, and once that was delivered.
const GAIN: f64 = 0.95;
const GAIN_TRY: f64 = 1.1;
const GAIN_MORE: f64 = 1.25;
/// The same while the queues are longer than they should be, and than twice that.
const GAIN_LONG: f64 = 0.9;
const GAIN_LONGER: f64 = 0.75;
/// A delivery this much above the maximum is a faster link, and not chance.
const FASTER: f64 = 1.03;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cadence {
    looked: Time,
    acked: u64,
    /// Bytes a second of the last look.
    latest: f64,
    /// The most of the newer and of the older [`LOOKS`].
    most: [f64; 2],
    looks: u32,
    /// Looks in a row for which more was sent.
    tries: u32,
}

impl Cadence {
    pub(super) const fn new(now: Time) -> Self {
        Self { looked: now, acked: 0, latest: 0.0, most: [0.0; 2], looks: 0, tries: 0 }
    }

    /// Bytes arrived. `short`: the queues are not longer than they should be.
    pub(super) fn acked(&mut self, now: Time, bytes: u64, base: Duration, short: bool) {
        self.acked += bytes;
        let passed = now.saturating_since(self.looked);
        if passed < LOOK.max(base) {
            return;
        }
        let before = self.most();
        self.latest = self.acked as f64 / passed.as_secs_f64();
        (self.looked, self.acked) = (now, 0);
        self.most[0] = self.most[0].max(self.latest);
        self.looks += 1;
        if self.looks.is_multiple_of(2 * LOOKS) {
            self.most = [self.latest, self.most[0]];
        }
        if self.tries > 0 {
            self.tries = if short && self.latest > before * FASTER { self.tries + 1 } else { 0 };
        } else if self.looks.is_multiple_of(LOOKS) {
            self.tries = 1;
        }
    }

    /// The most that was delivered lately, bytes a second; 0 while nothing is known.
    pub(super) const fn most(&self) -> f64 {
        self.most[0].max(self.most[1])
    }

    /// Whether the sender kept it up in the last look: less than half of the most is a sender with little to say.
    pub(super) fn is_kept(&self) -> bool {
        self.latest * 2.0 >= self.most()
    }

    /// The link is another one now: only what it delivered last counts.
    pub(super) fn forget(&mut self, rate: f64) {
        self.most = [self.latest.min(rate), 0.0];
        self.tries = 0;
    }

    /// Bytes a second to send, with packets waiting `queue_us` where `target_us` is wanted.
    pub(super) fn bytes_per_s(&self, queue_us: f64, target_us: f64) -> f64 {
        let gain = match self.tries {
            _ if queue_us > 2.0 * target_us => GAIN_LONGER,
            _ if queue_us > target_us => GAIN_LONG,
            0 => GAIN,
            1 => GAIN_TRY,
            _ => GAIN_MORE,
        };
        self.most() * gain
    }
}
