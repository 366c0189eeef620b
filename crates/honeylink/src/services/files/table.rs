//! What is under way: the transfers and questions of a file service by their ids, and the room each peer may take up.
//!
//! An id is chosen by its sender. Whoever takes an entry therefore says whose it is, and gives back only its own.

use std::sync::Arc;

use honeylink_core::identity::DeviceId;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::{Running, Shared, locked};
use crate::store::transfers::{Direction, TransferId};
use crate::transfer::Offer;

/// Offers of one peer that may wait for a person at the same time; more are declined.
pub(super) const QUESTIONS_PER_PEER_MAX: usize = 16;
/// Incoming streams of one peer that are looked at; more wait unread.
pub(super) const STREAMS_PER_PEER_MAX: usize = 32;
/// Incoming transfers of one peer that move bytes at the same time; more wait for their turn.
pub(super) const INCOMING_PER_PEER_MAX: usize = 4;
/// The same for all peers together. Each takes up to five threads and 4 MiB, and the runtime's pool of blocking threads
/// also serves everything else the node does on disk.
pub(super) const INCOMING_MAX: usize = 24;

/// Finished transfers that are remembered because their senders may not know it.
const UNHEARD_MAX: usize = 256;

/// A transfer under way, and how to tell it that a newer attempt took its place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) running: Running,
    pub(super) displaced: Arc<Notify>,
}

/// An offer that waits for a person.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) peer: DeviceId,
    pub(super) offer: Offer,
    pub(super) answer: oneshot::Sender<bool>,
}

/// What one peer may take up here. Only paired peers get as far as to have one.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) streams: Arc<Semaphore>,
    pub(super) moving: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn room(&self, peer: DeviceId) -> Arc<Room> {
        let room = || Room {
            streams: Arc::new(Semaphore::new(STREAMS_PER_PEER_MAX)),
            moving: Arc::new(Semaphore::new(INCOMING_PER_PEER_MAX)),
        };
        locked(&self.rooms).entry(peer).or_insert_with(|| Arc::new(room())).clone()
    }

    /// Notes whether the sender of a finished transfer knows that it is.
    pub(super) fn note_heard(&self, id: TransferId, heard: bool) {
        let mut unheard = locked(&self.unheard);
        unheard.remove(&id);
        if heard {
            return;
        }
        if unheard.len() >= UNHEARD_MAX {
            unheard.pop_first();
        }
        unheard.insert(id);
    }

    /// Notes a transfer as running; `None` if the same one is already. Only the peer that sends a transfer may take its
    /// place with a newer attempt: it knows best that the former one is dead, long before a silent connection shows it.
    pub(super) fn begin(self: &Arc<Self>, running: Running, displaced: Arc<Notify>) -> Option<RunningGuard> {
        let mut table = locked(&self.running);
        if let Some(Entry { running: former, displaced }) = table.get(&running.id) {
            let incoming =
                former.direction == Direction::Incoming && running.direction == Direction::Incoming;
            if !incoming || former.peer != running.peer {
                return None;
            }
            displaced.notify_one();
        }
        let id = running.id;
        table.insert(id, Entry { running, displaced: displaced.clone() });
        drop(table);
        Some(RunningGuard { shared: self.clone(), id, displaced })
    }
}

/// Takes a transfer off the list of running ones, however it ends.
#[derive(Debug)]
pub(super) struct RunningGuard {
    shared: Arc<Shared>,
    id: TransferId,
    displaced: Arc<Notify>,
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        let mut table = locked(&self.shared.running);
        // A newer attempt in our place stays.
        if table.get(&self.id).is_some_and(|entry| Arc::ptr_eq(&entry.displaced, &self.displaced)) {
            table.remove(&self.id);
        }
    }
}

/// A question to a person, taken back when it is dropped: a sender that gave up must not leave one behind.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) shared: Arc<Shared>,
    pub(super) id: TransferId,
    pub(super) answer: oneshot::Receiver<bool>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.answer.close();
        let mut asked = locked(&self.shared.asked);
        // One that took our place still listens.
        if asked.get(&self.id).is_some_and(|question| question.answer.is_closed()) {
            asked.remove(&self.id);
        }
    }
}
