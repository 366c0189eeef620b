//! What a paired device may make this node do in a time (requirement LK9), beside what it may hold open at once: chat
//! messages and offers of files, which cost writes to disk, and new links, which cost a line of the audit log each, or links that
//! it takes up again, which cost sending what it did not acknowledge.
//!
//! Who asks for more is neither refused nor loses anything: it waits at the place where it was read. Then nothing more of
//! it is read there, its window fills, and QUIC holds it back. A device has one allowance over all its links and
//! connections, so more of them gain it nothing. Messages of an application's own links need none: they wait until the
//! application takes them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::{
    CHAT_MESSAGES_BURST_MAX, CHAT_MESSAGES_PER_S_MAX, LINKS_OPENED_BURST_MAX, LINKS_OPENED_PER_S_MAX,
    OFFERS_BURST_MAX, OFFERS_PER_S_MAX,
};
use tokio::time::Instant;

use super::stats::HeldBack;

/// Allowances that are remembered. Whoever asks for nothing has a whole one soon, which is the same as none.
const KEPT_MAX: usize = 1024;
/// How often one device's impatience is logged.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What a device may make this node do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// Keep a message of chat.
    Message,
    /// Judge an offer of files.
    Offer,
    /// Begin a link, or take one up again.
    Link,
}

impl Work {
    /// How much of it a second in the long run, and at once after a pause.
    const fn limits(self) -> (u32, u32) {
        match self {
            Self::Message => (CHAT_MESSAGES_PER_S_MAX, CHAT_MESSAGES_BURST_MAX),
            Self::Offer => (OFFERS_PER_S_MAX, OFFERS_BURST_MAX),
            Self::Link => (LINKS_OPENED_PER_S_MAX, LINKS_OPENED_BURST_MAX),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "messages",
            Self::Offer => "offers",
            Self::Link => "links",
        }
    }
}

/// One device's share of one kind of work, by the generic cell rate algorithm (ITU-T I.371): each piece moves a time forward,
/// which may be ahead of the clock by the burst.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    due: Instant,
    told: Option<Instant>,
}

/// The allowances of all devices.
#[derive(Debug, Default)]
pub(crate) struct Allowances {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    of: BTreeMap<(DeviceId, Work), Allowance>,
    held: HeldBack,
}

impl Allowances {
    /// Waits until `peer` may have this done. Whoever gives up waiting has used the turn all the same.
    pub(crate) async fn take(&self, peer: DeviceId, work: Work) {
        let now = Instant::now();
        let at = self.book().turn(peer, work, now);
        if at > now {
            tokio::time::sleep_until(at).await;
        }
    }

    /// What had to wait so far.
    pub(super) fn held_back(&self) -> HeldBack {
        self.book().held
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Counts a piece of work: when it may be done.
    fn turn(&mut self, peer: DeviceId, work: Work, now: Instant) -> Instant {
        if self.of.len() >= KEPT_MAX && !self.of.contains_key(&(peer, work)) {
            self.of.retain(|_, allowance| allowance.due > now);
        }
        let (per_s, burst) = work.limits();
        let every = Duration::from_secs(1) / per_s;
        let allowance = self.of.entry((peer, work)).or_insert(Allowance { due: now, told: None });
        allowance.due = allowance.due.max(now) + every;
        let at = allowance.due.checked_sub(every * burst).map_or(now, |at| at.max(now));
        if at > now {
            match work {
                Work::Message => self.held.messages += 1,
                Work::Offer => self.held.offers += 1,
                Work::Link => self.held.links += 1,
            }
            if allowance.told.is_none_or(|told| now - told >= TELL_EVERY) {
                allowance.told = Some(now);
                tracing::warn!(
                    peer = %peer.short(), what = work.as_str(), per_s_max = per_s,
                    "a device asks for more than its share; the rest waits"
                );
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(nth: u64) -> DeviceId {
        honeylink_core::identity::SecretKey::from_u64(nth).id()
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate_holds_until_there_was_a_pause() {
        let (start, mut book) = (Instant::now(), Book::default());
        let (per_s, burst) = Work::Message.limits();
        let every = Duration::from_secs(1) / per_s;
        let mut turn = |now| book.turn(device(1), Work::Message, now);
        assert!((0..burst).all(|_| turn(start) == start));
        assert_eq!(turn(start), start + every);
        assert_eq!(turn(start), start + 2 * every);
        // After a pause there is a whole burst again, and no more than one.
        let later = start + Duration::from_secs(600);
        assert!((0..burst).all(|_| turn(later) == later));
        assert_eq!(turn(later), later + every);
        assert_eq!(book.held, HeldBack { messages: 3, ..HeldBack::default() });
    }

    #[test]
    fn what_one_device_uses_up_is_no_others_and_of_no_other_kind() {
        let (start, mut book) = (Instant::now(), Book::default());
        for _ in 0..10_000 {
            book.turn(device(1), Work::Link, start);
        }
        assert_eq!(book.turn(device(2), Work::Link, start), start);
        assert_eq!(book.turn(device(1), Work::Offer, start), start);
    }

    #[test]
    fn however_many_devices_there_were_only_those_that_owe_something_are_remembered() {
        let (start, mut book) = (Instant::now(), Book::default());
        for nth in 0..3_000 {
            book.turn(device(nth), Work::Offer, start + Duration::from_secs(nth));
            assert!(book.of.len() <= KEPT_MAX);
        }
        assert_eq!(book.held, HeldBack::default());
    }
}
