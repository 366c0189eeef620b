//! Frames that wait for one port: the most urgent first, bounded, each with the moment after which it is of no use.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use honeylink_core::mesh::frame::Priority;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Frames that wait for one port.
pub(super) const PORT_FRAMES_MAX: usize = 64;

/// A frame that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The mesh's name for the transmission; later ones are larger.
    pub(super) token: u64,
    pub(super) bytes: Bytes,
    pub(super) priority: Priority,
    pub(super) expires_at: Instant,
}

/// The most urgent first, then the oldest.
type Place = (Reverse<Priority>, u64);

/// What one port has to send. The mesh puts in, the port's task takes out.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: Mutex<BTreeMap<Place, Waiting>>,
    filled: Notify,
}

impl Queue {
    fn frames(&self) -> MutexGuard<'_, BTreeMap<Place, Waiting>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame in. In a full queue the least urgent, of those the newest, makes room, perhaps the frame itself: its
    /// token is given back.
    pub(super) fn push(&self, frame: Waiting) -> Option<u64> {
        let mut frames = self.frames();
        frames.insert((Reverse(frame.priority), frame.token), frame);
        let evicted = if frames.len() > PORT_FRAMES_MAX { frames.pop_last() } else { None };
        drop(frames);
        self.filled.notify_one();
        evicted.map(|(_, frame)| frame.token)
    }

    /// Takes a frame back, if it still waits.
    pub(super) fn withdraw(&self, token: u64) {
        self.frames().retain(|(_, other), _| *other != token);
    }

    /// The next frame; waits for one. One task calls this.
    pub(super) async fn pop(&self) -> Waiting {
        loop {
            if let Some((_, frame)) = self.frames().pop_first() {
                return frame;
            }
            // A permit is kept if a frame came in between.
            self.filled.notified().await;
        }
    }

    /// The next frame, if one waits.
    pub(super) fn try_pop(&self) -> Option<Waiting> {
        self.frames().pop_first().map(|(_, frame)| frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(token: u64, priority: Priority) -> Waiting {
        Waiting { token, bytes: Bytes::new(), priority, expires_at: Instant::now() }
    }

    #[tokio::test]
    async fn the_most_urgent_goes_first_and_then_the_oldest() {
        let queue = Queue::default();
        for (token, priority) in
            [(1, Priority::Bulk), (2, Priority::Control), (3, Priority::Normal), (4, Priority::Control)]
        {
            assert_eq!(queue.push(frame(token, priority)), None);
        }
        queue.withdraw(3);
        let order = [queue.pop().await.token, queue.pop().await.token, queue.pop().await.token];
        assert_eq!(order, [2, 4, 1]);
        assert!(queue.try_pop().is_none());
    }

    #[test]
    fn in_a_full_queue_the_least_urgent_makes_room() {
        let queue = Queue::default();
        for token in 0..PORT_FRAMES_MAX as u64 {
            assert_eq!(queue.push(frame(token, Priority::Normal)), None);
        }
        assert_eq!(queue.push(frame(100, Priority::Bulk)), Some(100));
        assert_eq!(queue.push(frame(101, Priority::Control)), Some(PORT_FRAMES_MAX as u64 - 1));
    }
}
