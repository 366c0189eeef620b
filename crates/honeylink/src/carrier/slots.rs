//! Room for handshakes: so many at a time, and so many of one source, so that whoever connects and says nothing keeps out
//! nobody but himself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use honeylink_core::identity::DeviceId;

/// Who takes a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// An address. An IPv6 network of 64 bits is one source, for whoever has one address of it has all.
    Network(IpAddr),
    /// A device that a relay has let in under this id.
    Relayed(DeviceId),
    /// A carrier whose addresses say nothing. Only the limit for all holds.
    Unnamed,
}

impl Source {
    pub(crate) fn network(ip: IpAddr) -> Self {
        Self::Network(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        })
    }
}

#[derive(Debug)]
struct Room {
    max: usize,
    per_source_max: usize,
    taken: Mutex<BTreeMap<Source, usize>>,
}

/// Who is shaking hands.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<Room>);

impl Slots {
    pub(crate) fn new(max: usize, per_source_max: usize) -> Self {
        Self(Arc::new(Room { max, per_source_max, taken: Mutex::default() }))
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<Source, usize>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a quarter of the places is taken: time to ask whether sources are where they say.
    pub(crate) fn is_crowded(&self) -> bool {
        self.taken().values().sum::<usize>() >= self.0.max / 4
    }

    /// A place for somebody from this source, until it is dropped.
    pub(crate) fn take(&self, from: Source) -> Option<Slot> {
        let mut taken = self.taken();
        let own = taken.get(&from).copied().unwrap_or(0);
        let limited = from != Source::Unnamed && own >= self.0.per_source_max;
        if limited || taken.values().sum::<usize>() >= self.0.max {
            return None;
        }
        taken.insert(from, own + 1);
        drop(taken);
        Some(Slot { slots: self.clone(), from })
    }
}

/// See [`Slots::take`].
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    from: Source,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        let left = taken.get(&self.from).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.from);
        } else {
            taken.insert(self.from, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 64;
    const PER_SOURCE_MAX: usize = 4;

    fn ip(text: &str) -> Source {
        Source::network(text.parse().unwrap())
    }

    #[test]
    fn one_source_cannot_take_every_place_and_places_come_back() {
        let slots = Slots::new(MAX, PER_SOURCE_MAX);
        let held: Vec<_> = (0..10).filter_map(|_| slots.take(ip("192.0.2.1"))).collect();
        assert_eq!(held.len(), PER_SOURCE_MAX);
        assert!(slots.take(ip("::ffff:192.0.2.1")).is_none(), "the same source");
        assert!(slots.take(ip("192.0.2.2")).is_some());
        drop(held);
        assert!(slots.take(ip("192.0.2.1")).is_some());
        assert!(slots.taken().is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_all_sources_together_have_a_limit() {
        let slots = Slots::new(MAX, PER_SOURCE_MAX);
        let held: Vec<_> = (0..10_u16).filter_map(|n| slots.take(ip(&format!("2001:db8::{n}")))).collect();
        assert_eq!(held.len(), PER_SOURCE_MAX);
        assert!(!slots.is_crowded());
        let many: Vec<_> =
            (0..100_u16).filter_map(|n| slots.take(ip(&format!("2001:db8:0:{n}::1")))).collect();
        assert_eq!(held.len() + many.len(), MAX);
        assert!(slots.is_crowded());
        assert!(slots.take(Source::Unnamed).is_none());
    }
}
