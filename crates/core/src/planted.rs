//! Mistakes planted on purpose, to see whether the simulator finds them (requirement SI5).
//!
//! Each is one that somebody could make: a check left out, a limit off, a thing not kept. They exist only in builds with
//! the feature `bug-plant`, which nothing that is published turns on; in every other build [`is`] is the constant `false`
//! and the compiler takes the planted branch out. One build can run them all: which mistake is made is a setting of the
//! thread, because a simulated run is one thread's alone.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A received number is not remembered.
    ReplayForgotten,
    /// A hop's acknowledgement is taken for the target's receipt.
    HopAckIsReceipt,
    /// The numbers used so far are not read back after a restart.
    NumbersStartAgain,
    /// A relay passes a frame on with the hops it came with.
    HopsNotCounted,
    /// A receipt is believed whoever made it.
    ReceiptUnchecked,
    /// A message is opened whatever its MAC says.
    MacUnchecked,
    /// A message that a neighbour did not take is not tried again.
    OneTry,
    /// A message does not end with its lifetime.
    LivesForEver,
    /// A deadline lies where there is nothing to do yet.
    DeadlineTooEarly,
    /// A frame is charged with half of its airtime.
    DutyHalved,
    /// A radio's queue has no end.
    QueueUnbounded,
    /// A frame is believed to be as long as its kind says.
    LengthTrusted,
    /// Own messages are not read back after a restart.
    OutboxForgotten,
    /// An own message that is read back takes a new number.
    NumberAfresh,
    /// The announce numbers used so far are not read back after a restart.
    AnnouncesStartAgain,
    /// A beacon is believed whatever its value leads to.
    BeaconUnchecked,
    /// Custody is acknowledged before the disk has the frame.
    KeptUnsynced,
}

impl Bug {
    /// Every mistake, with its name in reports.
    pub const ALL: [(Self, &'static str); 17] = [
        (Self::ReplayForgotten, "bug-replay-forgotten"),
        (Self::HopAckIsReceipt, "bug-hop-ack-is-receipt"),
        (Self::NumbersStartAgain, "bug-numbers-start-again"),
        (Self::HopsNotCounted, "bug-hops-not-counted"),
        (Self::ReceiptUnchecked, "bug-receipt-unchecked"),
        (Self::MacUnchecked, "bug-mac-unchecked"),
        (Self::OneTry, "bug-one-try"),
        (Self::LivesForEver, "bug-lives-for-ever"),
        (Self::DeadlineTooEarly, "bug-deadline-too-early"),
        (Self::DutyHalved, "bug-duty-halved"),
        (Self::QueueUnbounded, "bug-queue-unbounded"),
        (Self::LengthTrusted, "bug-length-trusted"),
        (Self::OutboxForgotten, "bug-outbox-forgotten"),
        (Self::NumberAfresh, "bug-number-afresh"),
        (Self::AnnouncesStartAgain, "bug-announces-start-again"),
        (Self::BeaconUnchecked, "bug-beacon-unchecked"),
        (Self::KeptUnsynced, "bug-kept-unsynced"),
    ];
}

#[cfg(feature = "bug-plant")]
mod chosen {
    use super::Bug;
    use core::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// From now on this thread's machines make this mistake, or none.
    pub fn plant(bug: Option<Bug>) {
        CHOSEN.set(bug);
    }

    /// Whether this thread's machines make this mistake.
    #[must_use]
    pub fn is(bug: Bug) -> bool {
        CHOSEN.get() == Some(bug)
    }
}

#[cfg(feature = "bug-plant")]
pub use chosen::{is, plant};

/// No mistake is made.
#[cfg(not(feature = "bug-plant"))]
#[must_use]
pub const fn is(_: Bug) -> bool {
    false
}
