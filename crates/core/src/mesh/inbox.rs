//! The receiving end: which messages are new, and which receipts are owed once the disk has them.

use std::collections::VecDeque;

use super::hint::{Address, Near};
use super::port::PortId;
use super::records::{Journal, Mark, Saved};
use super::replay::{Replay, Verdict};
use crate::limits::MESH_RECEIPTS_OWED_MAX;
use crate::planted::{self, Bug};
use crate::time::Time;

/// A receipt to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    /// To whom.
    pub(super) peer: Address,
    /// For which message.
    pub(super) seq: u32,
    /// Which way the message came.
    pub(super) from: (PortId, Near),
}

/// What a message from a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// To be delivered; its receipt follows when it is safe.
    New {
        /// A stranger whose window was given up for it: its keys must go too, or its old messages could come again.
        evicted: Option<Address>,
    },
    /// Delivered before: its receipt is owed now.
    Again(Owed),
    /// Delivered, and its receipt waits for the disk.
    Pending,
    /// Too old to know, or no window for its sender.
    Refused,
    /// Too many receipts wait for the disk: not now.
    Full,
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct Inbox {
    replay: Replay,
    /// In the order of the marks they wait for.
    owed: VecDeque<(Mark, Owed)>,
}

impl Inbox {
    /// The windows as the disk has them, and the peers whose window is damaged.
    pub(super) fn restore(saved: &mut Saved, now: Time, journal: &mut Journal) -> (Self, Vec<Address>) {
        let (replay, restored) = Replay::restore(saved, now, journal);
        (Self { replay, owed: VecDeque::new() }, restored.sealed)
    }

    /// Judges `count` numbers of one message, the first of which is in `owed`. Its MAC was found right.
    pub(super) fn arrive(
        &mut self,
        now: Time,
        owed: Owed,
        count: u8,
        (trusted, wants_receipt): (bool, bool),
        journal: &mut Journal,
    ) -> Arrival {
        if let Some(judged) = self.judge(owed, wants_receipt) {
            return judged;
        }
        let mut evicted = None;
        if !planted::is(Bug::ReplayForgotten) {
            match self.replay.accept_run(now, owed.peer, owed.seq, count, journal) {
                Ok(stranger) => evicted = stranger,
                Err(_) => return Arrival::Refused,
            }
        }
        self.replay.trust(&owed.peer, trusted);
        let mark = journal.sync();
        if wants_receipt {
            self.owed.push_back((mark, owed));
        }
        Arrival::New { evicted }
    }

    /// What a message is of which only a piece is here; `None` if it is new.
    pub(super) fn judge(&self, owed: Owed, wants_receipt: bool) -> Option<Arrival> {
        let pending = |(_, other): &(Mark, Owed)| (other.peer, other.seq) == (owed.peer, owed.seq);
        match self.replay.judge(&owed.peer, owed.seq) {
            Verdict::Seen if self.owed.iter().any(pending) => Some(Arrival::Pending),
            Verdict::Seen => Some(Arrival::Again(owed)),
            Verdict::TooOld => Some(Arrival::Refused),
            // Taken without a receipt it would come again and again: better once, later.
            Verdict::Fresh => {
                (wants_receipt && self.owed.len() >= MESH_RECEIPTS_OWED_MAX).then_some(Arrival::Full)
            }
        }
    }

    /// What the disk has now.
    pub(super) fn synced(&mut self, mark: Mark) -> Vec<Owed> {
        let safe = self.owed.iter().take_while(|(waits_for, _)| *waits_for <= mark).count();
        self.owed.drain(..safe).map(|(_, owed)| owed).collect()
    }

    pub(super) fn trust(&mut self, peer: &Address) {
        self.replay.trust(peer, true);
    }

    pub(super) fn distrust(&mut self, peer: &Address) {
        self.replay.trust(peer, false);
    }

    pub(super) fn bytes(&self) -> usize {
        // A window with a few gaps.
        self.replay.len() * 96 + self.owed.len() * size_of::<(Mark, Owed)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_waits_for_the_disk_and_a_repeat_for_nothing() {
        let mut journal = Journal::default();
        let (mut inbox, _) = Inbox::restore(&mut Saved::default(), Time::ZERO, &mut journal);
        let owed = Owed { peer: Address([1; 16]), seq: 5, from: (PortId(0), Near(1)) };
        let mut arrive = |inbox: &mut Inbox| inbox.arrive(Time::ZERO, owed, 1, (true, true), &mut journal);
        assert_eq!(arrive(&mut inbox), Arrival::New { evicted: None });
        assert_eq!(arrive(&mut inbox), Arrival::Pending);
        assert_eq!(inbox.synced(Mark(0)), []);
        assert_eq!(inbox.synced(Mark(1)), [owed]);
        assert_eq!(arrive(&mut inbox), Arrival::Again(owed));
    }

    #[test]
    fn a_message_whose_receipt_could_not_be_owed_is_not_taken_yet() {
        let mut journal = Journal::default();
        let (mut inbox, _) = Inbox::restore(&mut Saved::default(), Time::ZERO, &mut journal);
        let mut arrive = |inbox: &mut Inbox, seq| {
            let owed = Owed { peer: Address([1; 16]), seq, from: (PortId(0), Near(1)) };
            inbox.arrive(Time::ZERO, owed, 1, (true, true), &mut journal)
        };
        let max = u32::try_from(MESH_RECEIPTS_OWED_MAX).unwrap();
        for seq in 0..max {
            assert_eq!(arrive(&mut inbox, seq), Arrival::New { evicted: None });
        }
        assert_eq!(arrive(&mut inbox, max), Arrival::Full);
        assert_eq!(inbox.synced(Mark(u64::MAX)).len(), MESH_RECEIPTS_OWED_MAX);
        assert_eq!(arrive(&mut inbox, max), Arrival::New { evicted: None });
    }
}
