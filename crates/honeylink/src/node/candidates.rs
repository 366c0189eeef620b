//! Guards third devices: a peer that names addresses without end, to have this device send there, is disconnected.
//!
//! QUIC's hole punching tries each address that a peer names, by itself and before anybody asks us. It cannot be told to
//! leave one out, so what is limited is how many a device may name ([`Candidates`]), over all its connections, paired or
//! not. The connection that brought one too many is closed, which ends the trying. (What this library tries on its own,
//! [`super::nat`], goes only where an observer has seen the peer.)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::paths::Candidates;
use honeylink_core::time::Time;

use super::{Carriers, Inner};

/// How often is looked at what was named: what passes unseen meanwhile is small beside the allowance, unless somebody spends
/// more on it than he gets out of it.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Devices that are remembered. Whoever names nothing has his whole allowance again within a minute.
const KEPT_MAX: usize = 1024;

#[derive(Default)]
struct Book(BTreeMap<DeviceId, Candidates>);

impl Book {
    /// A device named this many more: whether that is still within its allowance.
    fn name(&mut self, peer: DeviceId, now: Time, more: u64) -> bool {
        if self.0.len() >= KEPT_MAX && !self.0.contains_key(&peer) {
            self.0.retain(|_, candidates| !candidates.owes_nothing(now));
        }
        if self.0.len() >= KEPT_MAX && !self.0.contains_key(&peer) {
            // So many strangers at once: each of them has the allowance of one connection, and is forgotten.
            return Candidates::default().name(now, more);
        }
        self.0.entry(peer).or_default().name(now, more)
    }
}

impl Inner {
    /// Looks at what peers name, as long as there are connections and the node runs.
    pub(super) async fn guard_candidates(self: Arc<Self>) {
        let Carriers::Quic(quic) = &self.carriers else { return };
        let guarding = async {
            let mut book = Book::default();
            loop {
                quic.until_connected().await;
                tokio::time::sleep(LOOK_EVERY).await;
                for naming in quic.newly_named() {
                    if !book.name(naming.peer, self.clock.now(), naming.count) {
                        naming.refuse();
                        self.meter.candidates_refused();
                        self.audit_rejected(naming.peer, "named too many addresses to try");
                    }
                }
            }
        };
        self.stop.run_until_cancelled(guarding).await;
    }
}

#[cfg(test)]
mod tests {
    use honeylink_core::identity::SecretKey;

    use super::*;

    #[test]
    fn however_many_devices_name_addresses_the_book_stays_small_and_each_has_an_allowance() {
        let mut book = Book::default();
        for nth in 0..3 * KEPT_MAX as u64 {
            assert!(book.name(SecretKey::from_u64(nth).id(), Time::from_millis(1), 32));
            assert!(book.0.len() <= KEPT_MAX);
        }
        // Those of then owe nothing any more, and make room.
        assert!(book.name(SecretKey::from_u64(1 << 40).id(), Time::from_millis(100_000), 32));
        assert_eq!(book.0.len(), 1);
    }
}
