//! What discovery hears of this node, and what the node does with what discovery sees.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::Inner;
use crate::clock::unix_ms;
use crate::discovery::{Device, Event, PairingHint};
use crate::store::Sighting;

impl Inner {
    /// Announces nearby what the desk shows, until the node stops.
    pub(super) async fn announce_desk(self: Arc<Self>) {
        let mut watch = self.pairing.watch_desk();
        loop {
            let state = tokio::select! {
                biased;
                state = watch.changed() => state,
                () = self.stop.cancelled() => return,
            };
            let hint = match (state.open, state.nameplates.last()) {
                (false, _) => PairingHint::Closed,
                (true, Some(number)) => PairingHint::Nameplate(*number),
                (true, None) => PairingHint::Open,
            };
            if let Some(discovery) = &self.discovery {
                discovery.announce(|announcement| announcement.txt.pairing = hint);
            }
        }
    }

    /// Notes in the store whom discovery sees, and warns of impostors, until the node stops.
    pub(super) async fn watch_nearby(self: Arc<Self>) {
        let Some(discovery) = &self.discovery else {
            return;
        };
        let mut events = discovery.events();
        let (began, mut found) = (Instant::now(), BTreeSet::new());
        let mut seen = |device: &Device| {
            self.sighted(device);
            let paired = self.store.trust().is_trusted(&device.id);
            if paired && found.insert(device.id) {
                self.meter.discovered(began.elapsed());
            }
        };
        loop {
            let event = tokio::select! {
                biased;
                event = events.next() => event,
                () = self.stop.cancelled() => return,
            };
            match event {
                None => return,
                Some(Event::Snapshot(devices)) => devices.iter().for_each(&mut seen),
                Some(Event::Found(device) | Event::Changed(device)) => seen(&device),
                Some(Event::Conflict { known, impostor, name, .. }) => {
                    self.audit_impostor(known, impostor, &name);
                }
                Some(Event::FinderDown { finder, reason }) => {
                    tracing::warn!(?finder, %reason, "a way to find devices does not work now");
                }
                Some(Event::FinderUp(finder)) => tracing::info!(?finder, "works again"),
                Some(Event::Lost(_)) => {}
            }
        }
    }

    fn sighted(&self, device: &Device) {
        let sighting = Sighting { name: Some(&device.name), device_type: Some(device.device_type) };
        self.store.trust().touch(&device.id, &sighting, unix_ms());
        self.mesh_seen(&device.id);
    }

    /// Tells discovery which devices are ours, so that it keeps them and reports impostors.
    pub(super) fn mark_known(&self) {
        self.mesh_look();
        self.wide.look();
        if let Some(discovery) = &self.discovery {
            let peers = self.store.trust().list();
            let trusted = peers.iter().filter(|p| p.trust.is_trusted());
            let before: BTreeSet<_> = trusted.flat_map(|p| p.addresses.iter().map(SocketAddr::ip)).collect();
            discovery.remember(before.into_iter().collect());
            let known = peers.into_iter().filter(|p| p.trust.is_trusted()).map(|p| (p.id, p.name));
            discovery.mark_known(known);
        }
    }
}
