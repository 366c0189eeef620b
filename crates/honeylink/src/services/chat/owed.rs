//! What was said and not confirmed: said again on every link to the device it is for, as soon as there is one.
//!
//! A message that no link took is with the mesh, and that may leave it to another device for minutes. One that was under
//! way when its link ended, or when the node stopped, is with nobody. Both are owed.
//!
//! ```text
//! send, no link ──▶ mesh ──▶ keeper ─ ─ ─ ─ (later) ─ ─ ─ ─▶ receiver: known by its id, dropped
//!        │                                                      ▲
//!        └────▶ owed ── a connection, a port of the mesh ───────┤ say, once on each link
//!                 ▲                                             │
//!                 └── settled: off the list, off the mesh ◀── got
//! ```
//!
//! Which copy comes first does not matter: the receiver keeps a message under its id, on disk, before it confirms it. So
//! nothing is decided here about copies, and a message may be said once too often but is never shown twice. The list is
//! made from the log when the node starts; only what the log calls pending is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::wire::link::SessionId;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::Shared;
use super::carry::say;
use crate::State;
use crate::link::Link;
use crate::store::chat::MessageState;

/// Messages read from the log in one go.
const READ_AT_ONCE: usize = 64;
/// How long a link is tried to a device that has come into reach.
const APPROACH_MAX: Duration = Duration::from_secs(15);
/// How long a device that made the link which is broken has to take it up again: longer than the longest pause between its
/// tries.
const TAKEN_UP_MAX: Duration = Duration::from_secs(6);
/// Pauses between tries: what is heard first of a device may be a connection that dies again.
const APPROACH_AGAIN: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15)];

/// A message by its place in the log.
#[derive(Clone, Copy, Debug)]
struct Message {
    id: [u8; 16],
    /// The link on which it was said already.
    said_on: Option<SessionId>,
}

/// The messages that are owed, by device and in order. As many as the log has that are pending.
#[derive(Debug, Default)]
pub(super) struct Owed {
    peers: Mutex<BTreeMap<DeviceId, BTreeMap<u64, Message>>>,
    /// Devices to which a link is being made for this.
    approached: Mutex<BTreeSet<DeviceId>>,
    /// Changes when there is more.
    more: watch::Sender<u64>,
}

impl Owed {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<DeviceId, BTreeMap<u64, Message>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn approached(&self) -> MutexGuard<'_, BTreeSet<DeviceId>> {
        self.approached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message is owed to a device. It was said on that link and needs no second time there.
    pub(super) fn add(&self, peer: DeviceId, sequence: u64, id: [u8; 16], said_on: Option<SessionId>) {
        self.peers().entry(peer).or_default().entry(sequence).or_insert(Message { id, said_on });
        self.more.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A message is owed no longer; false if it was not.
    fn remove(&self, peer: &DeviceId, id: [u8; 16]) -> bool {
        let mut peers = self.peers();
        let Some(messages) = peers.get_mut(peer) else { return false };
        let before = messages.len();
        messages.retain(|_, message| message.id != id);
        let removed = messages.len() < before;
        if messages.is_empty() {
            peers.remove(peer);
        }
        removed
    }

    fn has(&self, peer: &DeviceId) -> bool {
        self.peers().contains_key(peer)
    }

    /// Leaves away what is owed no longer.
    fn only_owed(&self, peer: &DeviceId, said: &mut BTreeSet<u64>) {
        let peers = self.peers();
        let messages = peers.get(peer);
        said.retain(|sequence| messages.is_some_and(|messages| messages.contains_key(sequence)));
    }

    /// The oldest that were not said on a link yet, by their places in the log.
    fn unsaid(&self, peer: &DeviceId, on: SessionId, said: &BTreeSet<u64>) -> Vec<(u64, [u8; 16])> {
        let peers = self.peers();
        let messages = peers.get(peer).into_iter().flatten();
        let unsaid = messages.filter(|(sequence, m)| m.said_on != Some(on) && !said.contains(sequence));
        unsaid.map(|(sequence, message)| (*sequence, message.id)).take(READ_AT_ONCE).collect()
    }
}

/// Reads what is owed, and follows who comes into reach, until the node is over.
pub(super) fn start(shared: &Arc<Shared>) {
    let mut ways = shared.node.way_changes();
    let shared = shared.clone();
    shared.node.clone().spawn(async move {
        shared.read_owed().await;
        for connected in shared.node.connected() {
            shared.approach(connected.id);
        }
        loop {
            match ways.recv().await {
                Ok(changed) if changed.change.to.is_some() => shared.approach(changed.peer),
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => shared.approach_all(),
                Err(RecvError::Closed) => return,
            }
        }
    });
}

impl Shared {
    /// Finds in the log what was owed when the node ran last.
    async fn read_owed(&self) {
        let store = self.node.store().clone();
        let read = crate::node::on_disk(move || {
            let paired = store.trust().list().into_iter().filter(|peer| peer.trust.is_trusted());
            let pending = paired.map(|peer| (peer.id, store.chat().pending(&peer.id)));
            pending.collect::<Vec<_>>()
        });
        for (peer, pending) in read.await {
            let pending = pending.unwrap_or_else(|error| {
                tracing::warn!(peer = %peer.short(), %error, "messages that were not confirmed stay so");
                Vec::new()
            });
            for (sequence, id) in pending {
                self.owed.add(peer, sequence, id, None);
            }
        }
    }

    /// A device may be reached: if anything is owed to it, a link is made.
    pub(super) fn approach(self: &Arc<Self>, peer: DeviceId) {
        if !self.owed.has(&peer) {
            return;
        }
        self.in_reach(&peer);
        if self.sound_link(&peer).is_some() || !self.owed.approached().insert(peer) {
            return;
        }
        let shared = self.clone();
        self.node.spawn(async move {
            if let Some(broken) = shared.open_link(&peer) {
                let mut state = broken.watch_state();
                // Either way it is looked what there is by now.
                let _ = tokio::time::timeout(TAKEN_UP_MAX, state.wait_for(|s| *s != State::Suspended)).await;
            }
            let mut pauses = APPROACH_AGAIN.into_iter();
            while shared.sound_link(&peer).is_none()
                && !matches!(tokio::time::timeout(APPROACH_MAX, shared.new_link(peer)).await, Ok(Ok(_)))
            {
                let Some(pause) = pauses.next().filter(|_| shared.owed.has(&peer)) else { break };
                tokio::time::sleep(pause).await;
            }
            shared.owed.approached().remove(&peer);
        });
    }

    /// As [`Shared::approach`] for every device, when it was missed which of them came into reach.
    pub(super) fn approach_all(self: &Arc<Self>) {
        let peers: Vec<DeviceId> = self.owed.peers().keys().copied().collect();
        peers.into_iter().for_each(|peer| self.approach(peer));
    }

    /// Says on a link what is owed to its peer, now and whenever it is back or more is owed, until it is over.
    pub(super) async fn offer_owed(&self, link: &Link) {
        let (mut state, mut more) = (link.watch_state(), self.owed.more.subscribe());
        let mut said = BTreeSet::new();
        loop {
            let now = *state.borrow_and_update();
            more.borrow_and_update();
            self.owed.only_owed(&link.peer(), &mut said);
            match now {
                State::Active => self.say_owed(link, &mut said).await,
                State::Closed => return,
                State::Pending | State::Paired | State::Suspended => {}
            }
            tokio::select! {
                biased;
                // The link holds the sender, so waiting cannot fail.
                _ = state.changed() => {}
                _ = more.changed() => {}
            }
        }
    }

    /// Says what is owed and was not said on this link.
    async fn say_owed(&self, link: &Link, said: &mut BTreeSet<u64>) {
        let peer = link.peer();
        loop {
            let unsaid = self.owed.unsaid(&peer, link.id(), said);
            if unsaid.is_empty() {
                return;
            }
            for (sequence, id) in unsaid {
                let logged = match self.logged(peer, id).await {
                    Ok(logged) => logged,
                    Err(error) => {
                        tracing::warn!(peer = %peer.short(), %error, "a message could not be read again");
                        return;
                    }
                };
                // Settled otherwise, or too old to be in the log.
                let Some(message) = logged.filter(|logged| logged.state == MessageState::Pending) else {
                    self.settled(&peer, id).await;
                    continue;
                };
                said.insert(sequence);
                if link.send(say(&message)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Nothing more is to be done for a message: the mesh, if it still tries, gives it up. A copy that another device keeps
    /// is dropped where it arrives.
    pub(super) async fn settled(&self, peer: &DeviceId, id: [u8; 16]) {
        if !self.owed.remove(peer, id) {
            return;
        }
        if let Some(mesh) = self.node.mesh() {
            let [a, b, c, d, e, f, g, h, ..] = id;
            // The node stops, and whoever asks the mesh after that finds the message settled.
            let _ = mesh.cancel(u64::from_be_bytes([a, b, c, d, e, f, g, h])).await;
        }
    }
}
