//! What the mesh's pump shares with its handles and with the tasks that serve its ports.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use honeylink_core::identity::DeviceId;
use honeylink_core::mesh::frame::Caps;
use tokio::sync::{Notify, broadcast, mpsc};

use super::MeshEvent;
use super::inbox::Inbox;
use super::pump::{Order, PortEvent};

/// Orders of handles that wait for the pump; more wait with their callers.
pub(super) const ORDERS_MAX: usize = 64;
/// What ports say that waits for the pump; beyond, nothing more is read from them.
pub(super) const PORT_EVENTS_MAX: usize = 128;
/// Events a slow watcher may fall behind.
const EVENTS_MAX: usize = 1024;

/// See the module's doc.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) port_events: mpsc::Sender<PortEvent>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) events: broadcast::Sender<MeshEvent>,
    /// What this device offers.
    pub(crate) caps: Caps,
    /// The number its next message will have at least.
    pub(crate) next_number: AtomicU32,
    /// Connections ended because of what came over them.
    pub(super) violations: AtomicU64,
    /// Devices with a port.
    up: Mutex<BTreeSet<DeviceId>>,
    /// Devices that were just seen, and may be dialled at once.
    seen: Mutex<BTreeSet<DeviceId>>,
    /// Ports or peers changed: whoever dials looks again.
    pub(crate) changed: Notify,
}

/// The pump's ends of the channels.
#[derive(Debug)]
pub(super) struct Inlets {
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) port_events: mpsc::Receiver<PortEvent>,
}

impl Shared {
    pub(super) fn new(inbox: Inbox, caps: Caps) -> (Arc<Self>, Inlets) {
        let (orders, their_orders) = mpsc::channel(ORDERS_MAX);
        let (port_events, their_port_events) = mpsc::channel(PORT_EVENTS_MAX);
        let shared = Self {
            orders,
            port_events,
            inbox: Arc::new(inbox),
            events: broadcast::Sender::new(EVENTS_MAX),
            caps,
            next_number: AtomicU32::new(0),
            violations: AtomicU64::new(0),
            up: Mutex::default(),
            seen: Mutex::default(),
            changed: Notify::new(),
        };
        (Arc::new(shared), Inlets { orders: their_orders, port_events: their_port_events })
    }

    fn up(&self) -> MutexGuard<'_, BTreeSet<DeviceId>> {
        self.up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_up(&self, peers: impl Iterator<Item = DeviceId>) {
        *self.up() = peers.collect();
        self.changed.notify_one();
    }

    /// Whether the device has a port.
    pub(crate) fn is_up(&self, peer: &DeviceId) -> bool {
        self.up().contains(peer)
    }

    /// A paired device was seen: no reason to wait any longer before dialling it.
    pub(crate) fn seen(&self, peer: DeviceId) {
        if !self.is_up(&peer) {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(peer);
            self.changed.notify_one();
        }
    }

    /// Who was seen since the last call.
    pub(crate) fn take_seen(&self) -> BTreeSet<DeviceId> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A device is paired: its messages are taken.
    pub(crate) async fn know(&self, peer: DeviceId) {
        // A pump that stopped needs no peers.
        let _ = self.orders.send(Order::Know(peer)).await;
    }

    /// A device is not paired any more: its port ends now if the pump is not far behind, and in any case when whoever dials
    /// has looked at the list and says [`Shared::forget`].
    pub(crate) fn part(&self, peer: DeviceId) {
        let _ = self.orders.try_send(Order::Part(peer));
        self.changed.notify_one();
    }

    /// A device is not on the list of paired ones any more: what is shared with it is forgotten.
    pub(crate) async fn forget(&self, peer: DeviceId) {
        // A pump that stopped shares nothing; its records of strangers open nothing.
        let _ = self.orders.send(Order::Forget(peer)).await;
    }

    pub(super) fn tell(&self, event: MeshEvent) {
        // Nobody may be watching.
        let _ = self.events.send(event);
    }
}
