//! Room for handshakes: so many at a time, and so many of one source, so that whoever connects and says nothing keeps out
//! nobody but himself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::source;

/// Handshakes under way.
const HANDSHAKES_MAX: usize = 64;
/// Handshakes under way of one source.
pub(super) const HANDSHAKES_PER_SOURCE_MAX: usize = 4;

type Counts = BTreeMap<IpAddr, usize>;

/// Who is shaking hands.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Arc<Mutex<Counts>>);

impl Slots {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for somebody from this address, until it is dropped.
    pub(super) fn take(&self, from: IpAddr) -> Option<Slot> {
        let from = source(from);
        let mut counts = self.counts();
        let own = counts.get(&from).copied().unwrap_or(0);
        if own >= HANDSHAKES_PER_SOURCE_MAX || counts.values().sum::<usize>() >= HANDSHAKES_MAX {
            return None;
        }
        counts.insert(from, own + 1);
        Some(Slot { slots: self.clone(), from })
    }
}

/// See [`Slots::take`].
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    from: IpAddr,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.slots.counts();
        let left = counts.get(&self.from).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            counts.remove(&self.from);
        } else {
            counts.insert(self.from, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_every_place_and_places_come_back() {
        let slots = Slots::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let held: Vec<_> = (0..10).filter_map(|_| slots.take(ip("192.0.2.1"))).collect();
        assert_eq!(held.len(), HANDSHAKES_PER_SOURCE_MAX);
        assert!(slots.take(ip("::ffff:192.0.2.1")).is_none(), "the same source");
        assert!(slots.take(ip("192.0.2.2")).is_some());
        drop(held);
        assert!(slots.take(ip("192.0.2.1")).is_some());
        assert!(slots.counts().is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_all_sources_together_have_a_limit() {
        let slots = Slots::default();
        let held: Vec<_> =
            (0..10_u16).filter_map(|n| slots.take(format!("2001:db8::{n}").parse().unwrap())).collect();
        assert_eq!(held.len(), HANDSHAKES_PER_SOURCE_MAX);
        let many: Vec<_> =
            (0..100_u16).filter_map(|n| slots.take(format!("2001:db8:0:{n}::1").parse().unwrap())).collect();
        assert_eq!(held.len() + many.len(), HANDSHAKES_MAX);
    }
}
