//! The two directions of a session's message order: what was sent and may have to be sent again, and what was received
//! and still has to be acknowledged. Small machines that [`Session`](super::Session) composes.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::limits::{SESSION_WINDOW_BYTES_MAX, SESSION_WINDOW_MESSAGES_MAX};

/// Messages sent and not acknowledged yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct SendHalf {
    unacked: VecDeque<Bytes>,
    unacked_bytes: usize,
    /// Sequence number of the first entry of `unacked`.
    first: u64,
}

impl SendHalf {
    /// The number the next message will get.
    pub(super) fn next_seq(&self) -> u64 {
        self.first + self.unacked.len() as u64
    }

    /// The first message not known to have arrived.
    pub(super) fn first_unacked(&self) -> u64 {
        self.first
    }

    /// Whether everything sent is known to have arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Whether another message may be kept. The first one always may, or a message as large as the window never could.
    pub(super) fn has_room(&self) -> bool {
        self.unacked_bytes < SESSION_WINDOW_BYTES_MAX && self.unacked.len() < SESSION_WINDOW_MESSAGES_MAX
    }

    /// Keeps a message and gives it its number.
    pub(super) fn push(&mut self, payload: Bytes) -> u64 {
        let seq = self.next_seq();
        self.unacked_bytes += payload.len();
        self.unacked.push_back(payload);
        seq
    }

    /// Forgets everything below `next`. `None` if the other side claims what was never sent.
    pub(super) fn acknowledge(&mut self, next: u64) -> Option<usize> {
        if next > self.next_seq() {
            return None;
        }
        let mut forgotten = 0;
        while self.first < next {
            if let Some(payload) = self.unacked.pop_front() {
                self.unacked_bytes -= payload.len();
            }
            self.first += 1;
            forgotten += 1;
        }
        Some(forgotten)
    }

    /// Everything to send again after a resume, with its number.
    pub(super) fn pending(&self) -> impl Iterator<Item = (u64, Bytes)> + '_ {
        (self.first..).zip(self.unacked.iter().cloned())
    }
}

/// What to do with a message that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one: give it to the application.
    InOrder,
    /// It was delivered before; a resume sent it again. Drop it.
    Duplicate,
    /// Something before it is missing: on an ordered stream that is a lie.
    Gap,
}

/// What arrived, and how much of that was acknowledged.
#[derive(Debug, Default)]
pub(super) struct ReceiveHalf {
    next: u64,
    acknowledged: u64,
    bytes_since_ack: usize,
}

/// Acknowledge at the latest after this many messages, so that the sender's window never fills on a fast link.
const ACK_EVERY_MESSAGES: u64 = 1024;
/// Acknowledge at the latest after this many bytes.
const ACK_EVERY_BYTES: usize = 256 << 10;

impl ReceiveHalf {
    /// The sequence number expected next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn arrive(&mut self, seq: u64, len: usize) -> Arrival {
        match seq.cmp(&self.next) {
            core::cmp::Ordering::Equal => {
                self.next += 1;
                self.bytes_since_ack += len;
                Arrival::InOrder
            }
            core::cmp::Ordering::Less => Arrival::Duplicate,
            core::cmp::Ordering::Greater => Arrival::Gap,
        }
    }

    /// Whether something has arrived that no acknowledgement covers.
    pub(super) fn owes_ack(&self) -> bool {
        self.acknowledged < self.next
    }

    /// Whether the acknowledgement should go now rather than at the deadline.
    pub(super) fn ack_is_urgent(&self) -> bool {
        self.next - self.acknowledged >= ACK_EVERY_MESSAGES || self.bytes_since_ack >= ACK_EVERY_BYTES
    }

    /// The number to acknowledge; counts as acknowledged from here.
    pub(super) fn take_ack(&mut self) -> u64 {
        self.acknowledged = self.next;
        self.bytes_since_ack = 0;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_for_what_was_never_sent_is_refused_and_changes_nothing() {
        let mut half = SendHalf::default();
        half.push(Bytes::from_static(b"a"));
        assert_eq!(half.acknowledge(2), None);
        assert_eq!(half.first_unacked(), 0);
        assert_eq!(half.acknowledge(1), Some(1));
        assert_eq!(half.acknowledge(0), Some(0), "an old ack is harmless");
        assert!(half.is_empty());
    }

    #[test]
    fn the_window_ends_at_its_limit() {
        let mut half = SendHalf::default();
        half.push(Bytes::from(vec![0; SESSION_WINDOW_BYTES_MAX]));
        assert!(!half.has_room());
        half.acknowledge(1);
        assert!(half.has_room());
    }

    #[test]
    fn a_gap_is_told_apart_from_a_duplicate() {
        let mut half = ReceiveHalf::default();
        assert_eq!(half.arrive(0, 1), Arrival::InOrder);
        assert_eq!(half.arrive(0, 1), Arrival::Duplicate);
        assert_eq!(half.arrive(2, 1), Arrival::Gap);
        assert_eq!(half.next(), 1);
    }
}
