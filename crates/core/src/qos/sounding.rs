//! What two busy ends of a link tell each other about the queues between them.
//!
//! A round trip passes the queues of both directions and does not say whose is long. The end where packets arrive can say
//! it: packets that take longer than the quickest one waited. So while both directions are busy each end now and then
//! tells what its clock shows, how long the other's last word waited on its way, and how many bytes have arrived.
//!
//! The clocks need not agree: what differs between them is in every difference alike, and the least difference of the last
//! ten seconds stands for a way without a queue, whatever it is. That is how LEDBAT measures (RFC 6817, section 3.4.2);
//! ten seconds, because clocks of which one runs a ten-thousandth faster are apart by a millisecond then. (What a receiver
//! reports in draft-holmer-rmcat-transport-wide-cc-extensions is the same for each packet; one word in twenty milliseconds
//! is enough to steer by and costs next to nothing.)
//!
//! ```text
//! sounding = 00 [16] | version u8 = 1 | sent varint | received varint | waited varint
//! ```
//!
//! It is a datagram of a connection with a label that no session and no flow has, so whoever does not know of it drops it,
//! and is asked again once a second only.

use core::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::time::Time;
use crate::wire::{Invalid, Reader, VARINT_MAX, put_varint};

/// In the place of a session's id or a flow's label.
const LABEL: [u8; 16] = [0; 16];
const VERSION: u8 = 1;
/// Between two words of one side while the other talks too: a few round trips of a near peer, as many as a queue needs to
/// change by what matters, and fifty small datagrams a second that mostly share a packet with other data.
const EVERY: Duration = Duration::from_millis(20);
/// The same until the other was heard: it may not know how.
const EVERY_UNHEARD: Duration = Duration::from_secs(1);
/// The other talks if it was heard within this time.
const HEARD_FOR: Duration = Duration::from_millis(500);
/// How long both directions count as busy after they were seen to be.
const BUSY_FOR: Duration = Duration::from_millis(200);
/// How long the quickest word is believed to have come by an empty way.
const LEAST_MEMORY: Duration = Duration::from_secs(10);

/// One word of an end to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sounding {
    /// What the sender's clock shows, microseconds since any moment.
    pub sent_us: u64,
    /// Bytes of packets that have arrived at the sender.
    pub received: u64,
    /// How long the receiver's words waited on their way lately, at least; `None` if none came since the last word.
    pub waited: Option<Duration>,
}

impl Sounding {
    /// The datagram.
    #[must_use]
    pub fn to_bytes(self) -> Bytes {
        let mut out = BytesMut::with_capacity(48);
        out.put_slice(&LABEL);
        out.put_u8(VERSION);
        let waited = self.waited.map_or(0, |waited| micros(waited).saturating_add(1));
        for value in [self.sent_us, self.received, waited] {
            put_varint(&mut out, value.min(VARINT_MAX));
        }
        out.freeze()
    }

    /// `None` if the datagram is something else.
    ///
    /// # Errors
    /// [`Invalid`] if it has the label and is not of this version.
    pub fn from_bytes(datagram: &[u8]) -> Option<Result<Self, Invalid>> {
        datagram.strip_prefix(&LABEL).map(Self::read)
    }

    fn read(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(bytes);
        if reader.u8("sounding version")? != VERSION {
            return Err(Invalid::Value { what: "sounding version" });
        }
        let sent_us = reader.varint("sounding clock")?;
        let received = reader.varint("sounding bytes")?;
        let waited = reader.varint("sounding wait")?.checked_sub(1).map(Duration::from_micros);
        reader.finish("sounding")?;
        Ok(Self { sent_us, received, waited })
    }
}

/// What the far end said about the packets of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// How long they waited on their way.
    pub waited: Duration,
    /// What the far end's clock showed, microseconds, and how many bytes had arrived there by then.
    pub at_us: u64,
    /// See [`Told::at_us`].
    pub received: u64,
}

/// One end of a connection: when to say something, and what is made of what is heard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Soundings {
    busy_until: Time,
    said: Option<Time>,
    heard: Option<Time>,
    /// The least difference of clocks among the words of the newer and of the older half of [`LEAST_MEMORY`].
    least_us: [Option<i64>; 2],
    half_began: Time,
    /// The least wait since this end last said something.
    waited_us: Option<u64>,
}

impl Soundings {
    /// Both directions are busy now. Nothing is said unless this is repeated.
    pub fn set_busy(&mut self, now: Time) {
        self.busy_until = now + BUSY_FOR;
    }

    /// When to say the next word, if there is nothing to wait for but time.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<Time> {
        let talks = self.heard.is_some_and(|heard| now.saturating_since(heard) < HEARD_FOR);
        let every = if talks { EVERY } else { EVERY_UNHEARD };
        let due = self.said.map_or(now, |said| (said + every).max(now));
        (now < self.busy_until).then_some(due)
    }

    /// The word to say now. `received` counts the bytes of packets that have arrived here.
    pub fn say(&mut self, now: Time, received: u64) -> Sounding {
        self.said = Some(now);
        let waited = self.waited_us.take().map(Duration::from_micros);
        Sounding { sent_us: now.as_micros(), received, waited }
    }

    /// A word of the far end; what it says about this end's packets.
    pub fn hear(&mut self, now: Time, word: Sounding) -> Option<Told> {
        self.heard = Some(now);
        // A difference of two clocks: any number, and only compared with its like.
        let apart_us = (now.as_micros() as i64).saturating_sub_unsigned(word.sent_us);
        if now.saturating_since(self.half_began) >= LEAST_MEMORY / 2 {
            (self.least_us, self.half_began) = ([None, self.least_us[0]], now);
        }
        self.least_us[0] = Some(self.least_us[0].map_or(apart_us, |least| least.min(apart_us)));
        let least_us = self.least_us.iter().flatten().min().copied().unwrap_or(apart_us);
        let waited_us = apart_us.abs_diff(least_us);
        self.waited_us = Some(self.waited_us.map_or(waited_us, |least| least.min(waited_us)));
        let Sounding { sent_us: at_us, received, waited } = word;
        waited.map(|waited| Told { waited, at_us, received })
    }

    /// The way is another one: what was the quickest on the last says nothing.
    pub fn forget_way(&mut self) {
        (self.least_us, self.waited_us) = ([None; 2], None);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn word(sent_us: u64) -> Sounding {
        Sounding { sent_us, received: 0, waited: None }
    }

    #[test]
    fn a_sounding_has_the_bytes_of_version_1() {
        let word = Sounding { sent_us: 1_000_000, received: 300, waited: Some(Duration::from_micros(1699)) };
        let mut expected = vec![0; 16];
        expected.extend([1, 0x80, 0x0f, 0x42, 0x40, 0x41, 0x2c, 0x46, 0xa4]);
        assert_eq!(word.to_bytes(), expected);
        assert_eq!(Sounding::from_bytes(&expected), Some(Ok(word)));
        let quiet = Sounding { waited: None, ..word };
        assert_eq!(Sounding::from_bytes(&quiet.to_bytes()), Some(Ok(quiet)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_sounding_an_error_or_something_else(bytes: Vec<u8>) {
            let labelled = [&LABEL[..], &bytes].concat();
            for datagram in [&bytes, &labelled] {
                if let Some(Ok(word)) = Sounding::from_bytes(datagram) {
                    prop_assert_eq!(&word.to_bytes()[..], &datagram[..]);
                }
            }
        }

        #[test]
        fn whatever_a_peer_says_is_survived(words: Vec<(u32, u64)>) {
            let mut end = Soundings::default();
            for (now, sent_us) in words {
                end.hear(Time::from_micros(now.into()), word(sent_us));
                end.say(Time::from_micros(now.into()), 0);
            }
        }
    }

    #[test]
    fn a_wait_is_what_a_word_took_longer_than_the_quickest_whatever_the_clocks_show() {
        for (here, there) in [(0, 5_000_000), (5_000_000, 0)] {
            let mut end = Soundings::default();
            for (sent_ms, took_ms, waited_ms) in [(0, 30, 0), (20, 34, 4), (40, 27, 0), (60, 30, 3)] {
                end.hear(Time::from_micros(here + (sent_ms + took_ms) * 1000), word(there + sent_ms * 1000));
                let said = end.say(Time::from_micros(here), 7);
                assert_eq!(said.waited, Some(Duration::from_millis(waited_ms)), "{sent_ms}");
            }
            assert_eq!(end.say(ms(100), 7).waited, None, "nothing came meanwhile");
        }
    }

    #[test]
    fn clocks_that_run_apart_do_not_become_a_wait() {
        let mut end = Soundings::default();
        let mut most = Duration::ZERO;
        for nth in 0..6000_u64 {
            let sent_us = nth * 20_000;
            // A ten-thousandth faster here.
            let now = Time::from_micros(sent_us + sent_us / 10_000 + 1_000_000);
            end.hear(now, word(sent_us));
            most = most.max(end.say(now, 0).waited.unwrap_or_default());
        }
        assert!(most <= Duration::from_millis(1), "{most:?}");
    }

    #[test]
    fn nothing_is_said_unless_both_directions_are_busy_and_little_to_who_does_not_answer() {
        let mut end = Soundings::default();
        assert_eq!(end.due(ms(1)), None);
        end.set_busy(ms(10));
        assert_eq!(end.due(ms(10)), Some(ms(10)));
        end.say(ms(10), 0);
        assert_eq!(end.due(ms(10)), Some(ms(1010)), "the peer may not know how");
        end.hear(ms(15), word(0));
        assert_eq!(end.due(ms(15)), Some(ms(30)));
        assert_eq!(end.due(ms(211)), None, "nobody said that it goes on");
        end.set_busy(ms(600));
        assert_eq!(end.due(ms(600)), Some(ms(1010)), "the peer stopped talking");
    }
}
