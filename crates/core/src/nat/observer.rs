//! The observer: tells devices where they are seen. Any node that can be reached may be one; a relay always is.
//!
//! It keeps no state for those who ask, but for how much they asked: an answer costs a signature.

use bytes::BytesMut;
use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use super::wire::{Ask, Echo, Seen, Stamp};
use crate::identity::SecretKey;
use crate::limits::NAT_ASKERS_MAX;
use crate::pairing::limiter::Source;
use crate::time::Time;

/// Questions one source may ask at once: two sockets, two families, a second port, and again.
const BURST: u32 = 16;
/// How soon one more is allowed.
const EVERY: Duration = Duration::from_millis(500);
/// The same for everybody together: a thousand signatures a second are about 3 % of a processor.
const BURST_ALL: u32 = 1000;
const EVERY_ALL: Duration = Duration::from_millis(1);

/// What an observer says to a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// From the port that was asked.
    pub bytes: BytesMut,
    /// From the other port, if that was wanted.
    pub second: Option<BytesMut>,
}

/// Why a datagram was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Silent {
    /// Not a question.
    #[error("not a question")]
    Malformed,
    /// Its source asks too often.
    #[error("this source asks too often")]
    Throttled,
    /// All together ask too often.
    #[error("too many ask at once")]
    Busy,
}

/// An observer.
#[derive(Debug)]
pub struct Observer {
    key: SecretKey,
    /// When the allowance of each source is full again (the generic cell rate algorithm, ITU-T I.371).
    full_at: BTreeMap<Source, Time>,
    all_full_at: Time,
}

impl Observer {
    /// An observer that signs with `key`.
    #[must_use]
    pub const fn new(key: SecretKey) -> Self {
        Self { key, full_at: BTreeMap::new(), all_full_at: Time::ZERO }
    }

    /// Answers a datagram that came from `from`. `wall_s` is in seconds since 1970.
    ///
    /// # Errors
    /// [`Silent`]: nothing is sent then.
    pub fn answer(
        &mut self,
        now: Time,
        wall_s: u64,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<Answer, Silent> {
        let ask = Ask::from_bytes(bytes).map_err(|_| Silent::Malformed)?;
        self.admit(now, Source::of(from.ip()))?;
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let stamp = Stamp::sign(&self.key, &ask.nonce, from, wall_s);
        let bytes = Seen { nonce: ask.nonce, stamp }.to_bytes();
        Ok(Answer { bytes, second: ask.second_port.then(|| Echo { nonce: ask.nonce }.to_bytes()) })
    }

    fn admit(&mut self, now: Time, source: Source) -> Result<(), Silent> {
        let mine = self.full_at.get(&source).copied().unwrap_or_default().max(now) + EVERY;
        if mine > now + EVERY * BURST {
            return Err(Silent::Throttled);
        }
        let all = self.all_full_at.max(now) + EVERY_ALL;
        if all > now + EVERY_ALL * BURST_ALL {
            return Err(Silent::Busy);
        }
        if self.full_at.len() >= NAT_ASKERS_MAX && !self.full_at.contains_key(&source) {
            // Who has its whole allowance again is as good as unknown.
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= NAT_ASKERS_MAX {
                return Err(Silent::Busy);
            }
        }
        self.full_at.insert(source, mine);
        self.all_full_at = all;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::wire::{ASK_BYTES, Ticket, nonce};

    fn ask() -> [u8; ASK_BYTES] {
        Ask { nonce: [1; 16], second_port: false }.to_bytes()
    }

    fn source(n: u32) -> SocketAddr {
        SocketAddr::from((n.to_be_bytes(), 7))
    }

    #[test]
    fn its_answer_is_a_ticket_for_who_asked() {
        let (key, who, salt) = (SecretKey::from_u64(1), SecretKey::from_u64(2).id(), [4; 16]);
        let mut observer = Observer::new(SecretKey::from_u64(1));
        let question = Ask { nonce: nonce(&who, &salt), second_port: true }.to_bytes();
        let from: SocketAddr = "[::ffff:203.0.113.9]:77".parse().unwrap();
        let answer = observer.answer(Time::ZERO, 50, from, &question).unwrap();
        let seen = Seen::from_bytes(&answer.bytes).unwrap();
        let ticket = Ticket { observer: key.id(), salt, stamp: seen.stamp };
        assert_eq!(ticket.check(&who, &[key.id()], 60), Ok("203.0.113.9:77".parse().unwrap()));
        assert_eq!(Echo::from_bytes(&answer.second.unwrap()).unwrap().nonce, seen.nonce);
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let mut observer = Observer::new(SecretKey::from_u64(1));
        let mut short = ask().to_vec();
        short.pop();
        for bytes in [&short[..], b"", &[0xff; ASK_BYTES]] {
            assert_eq!(observer.answer(Time::ZERO, 0, source(1), bytes), Err(Silent::Malformed));
        }
    }

    #[test]
    fn one_source_that_asks_without_end_is_throttled_and_others_are_not() {
        let mut observer = Observer::new(SecretKey::from_u64(1));
        for _ in 0..BURST {
            assert!(observer.answer(Time::ZERO, 0, source(1), &ask()).is_ok());
        }
        assert_eq!(observer.answer(Time::ZERO, 0, source(1), &ask()), Err(Silent::Throttled));
        assert!(observer.answer(Time::ZERO, 0, source(2), &ask()).is_ok());
        assert!(observer.answer(Time::ZERO + EVERY, 0, source(1), &ask()).is_ok());
    }

    #[test]
    fn many_sources_neither_grow_memory_nor_use_up_the_processor() {
        let mut observer = Observer::new(SecretKey::from_u64(1));
        let mut answered = 0;
        for n in 0..5_000 {
            let now = Time::from_micros(u64::from(n) * 10);
            answered += u32::from(observer.answer(now, 0, source(n), &ask()).is_ok());
        }
        // The burst, and one for each millisecond that passed.
        assert_eq!(answered, BURST_ALL + 49);
        assert!(observer.full_at.len() <= NAT_ASKERS_MAX);
    }
}
