//! Counts wrong codes: a code of 20 bits is only as strong as the number of guesses it allows.
//!
//! Wrong tries are counted over a sliding window, in total and per source. The total matters: limits per address alone
//! fall to anyone with a second address. The price is that a stranger on the network can lock pairing for the length of
//! the window, which is visible and passes; the other way round, a guess would go unnoticed.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;

use crate::limits::{PAIRING_FAILURE_WINDOW, PAIRING_FAILURES_MAX, PAIRING_FAILURES_PER_SOURCE_MAX};
use crate::time::Time;

/// Where an attempt came from, as far as limits are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source([u8; 16]);

impl Source {
    /// The network address. An IPv6 host owns at least a /64, so all of it counts as one source.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => {
                let mut octets = ip.octets();
                octets[8..].fill(0);
                Self(octets)
            }
        }
    }

    /// A source that has no network address (a radio, a relay): the first 16 bytes of whatever names it.
    #[must_use]
    pub fn named(name: &[u8]) -> Self {
        let mut octets = [0; 16];
        for (to, from) in octets.iter_mut().zip(name) {
            *to = *from;
        }
        Self(octets)
    }
}

/// Pairing is locked for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong codes; try again in {} s", retry_after.as_secs())]
pub struct Locked {
    /// How long until a try is allowed again.
    pub retry_after: Duration,
}

/// The wrong tries of the last window. Holds at most as many entries as wrong tries are allowed in total, so nobody can
/// make it grow.
#[derive(Debug, Default)]
pub struct Limiter {
    failures: VecDeque<(Time, Source)>,
}

impl Limiter {
    /// Whether `source` may try now.
    ///
    /// # Errors
    /// [`Locked`] with the time until the oldest wrong try in question leaves the window.
    pub fn admit(&mut self, now: Time, source: &Source) -> Result<(), Locked> {
        self.admit_anyone(now)?;
        let mine = || self.failures.iter().filter(|(_, from)| from == source);
        if mine().count() >= PAIRING_FAILURES_PER_SOURCE_MAX
            && let Some((oldest, _)) = mine().next()
        {
            return Err(Locked { retry_after: left(*oldest, now) });
        }
        Ok(())
    }

    /// Whether anybody at all may try now.
    ///
    /// # Errors
    /// [`Locked`] if the total is used up.
    pub fn admit_anyone(&mut self, now: Time) -> Result<(), Locked> {
        while let Some((at, _)) = self.failures.front()
            && *at + PAIRING_FAILURE_WINDOW <= now
        {
            self.failures.pop_front();
        }
        match self.failures.front() {
            Some((oldest, _)) if self.failures.len() >= PAIRING_FAILURES_MAX => {
                Err(Locked { retry_after: left(*oldest, now) })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Counts a wrong try.
    pub fn failed(&mut self, now: Time, source: Source) {
        if self.failures.len() >= PAIRING_FAILURES_MAX {
            self.failures.pop_front();
        }
        self.failures.push_back((now, source));
    }
}

fn left(failed_at: Time, now: Time) -> Duration {
    (failed_at + PAIRING_FAILURE_WINDOW).saturating_since(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    #[test]
    fn three_wrong_tries_lock_everybody_until_the_first_leaves_the_window() {
        let (a, b) = (Source::named(b"a"), Source::named(b"b"));
        let mut limiter = Limiter::default();
        for (when, source) in [(0, a), (10, b), (20, a)] {
            assert_eq!(limiter.admit(at(when), &source), Ok(()));
            limiter.failed(at(when), source);
        }
        let locked = Err(Locked { retry_after: Duration::from_secs(570) });
        assert_eq!(limiter.admit(at(30), &b), locked);
        assert_eq!(limiter.admit(at(30), &Source::named(b"a third address")), locked);
        assert!(limiter.admit(at(599), &a).is_err());
        assert_eq!(limiter.admit(at(600), &a), Ok(()));
        limiter.failed(at(600), a);
        assert_eq!(limiter.admit(at(601), &b), Err(Locked { retry_after: Duration::from_secs(9) }));
    }

    #[test]
    fn one_ipv6_network_or_mapped_address_is_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("192.0.2.7"), of("::ffff:192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let mut limiter = Limiter::default();
        for n in 0..10_000_u32 {
            limiter.failed(at(1), Source::named(&n.to_be_bytes()));
        }
        assert!(limiter.failures.len() <= PAIRING_FAILURES_MAX);
    }
}
