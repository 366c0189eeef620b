//! The sender's half of [`super`]: what goes out next, what was lost, and when to ask or give up.

use bytes::Bytes;
use core::time::Duration;

use super::{PIECES_MAX, bit, bitmap_bytes};
use crate::limits::{
    MESH_FRAGMENT_ASKS_MAX, MESH_FRAGMENT_TRIES_MAX, MESH_MESSAGE_BYTES_MAX, MESH_PAUSE_MAX,
};
use crate::time::{Deadline, Time};

/// The message cannot be sent in pieces of this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes do not fit into {PIECES_MAX} pieces of {piece_bytes} bytes; at most {max} do")]
pub struct TooLong {
    /// The message's length.
    pub len: usize,
    /// The size of a piece.
    pub piece_bytes: usize,
    /// The longest message that fits.
    pub max: usize,
}

/// What the path costs in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long to wait for a status after the last piece was aired: the way there and back with every hop's airtime and
    /// expected wait for duty, and the target's hold-off.
    pub patience: Duration,
    /// Pieces that may be under way without an acknowledgement; at least one.
    pub window: u8,
}

/// A piece to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which one; its sequence number is the message's first plus this.
    pub index: u8,
    /// Its bytes.
    pub body: Bytes,
    /// Whether the target should say at once what it has.
    pub ask: bool,
}

/// Where a message in pieces is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Pieces are missing at the target.
    Going,
    /// The target has them all.
    Done,
    /// The target does not answer, or a piece never gets through.
    GaveUp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent.
    Waiting,
    /// Given to the caller and not aired yet.
    Queued,
    /// Aired as the `nth` transmission of this message.
    Aired { nth: u32 },
    /// The target said that it has it; aired last as the `nth` transmission, 0 if never in this life of the node.
    There { nth: u32 },
}

#[derive(Clone, Copy, Debug)]
struct Track {
    state: State,
    tries: u8,
}

impl Track {
    const fn is_there(&self) -> bool {
        matches!(self.state, State::There { .. })
    }

    const fn nth(&self) -> u32 {
        match self.state {
            State::Aired { nth } | State::There { nth } => nth,
            State::Waiting | State::Queued => 0,
        }
    }
}

/// A message on its way in pieces. See the [module](super).
#[derive(Debug)]
pub struct Split {
    body: Bytes,
    piece_bytes: usize,
    pieces: Vec<Track>,
    pace: Pace,
    step: Step,
    /// Transmissions so far.
    aired: u32,
    /// Questions in a row that nobody answered.
    asks: u8,
    ask_at: Option<Time>,
}

impl Split {
    /// Cuts `body` into pieces of at most `piece_bytes`.
    ///
    /// # Errors
    /// [`TooLong`] if there would be more than 255, or the message is over [`MESH_MESSAGE_BYTES_MAX`].
    pub fn new(body: Bytes, piece_bytes: usize, pace: Pace) -> Result<Self, TooLong> {
        let max = (piece_bytes * PIECES_MAX).min(MESH_MESSAGE_BYTES_MAX);
        if body.len() > max {
            return Err(TooLong { len: body.len(), piece_bytes, max });
        }
        let count = body.len().div_ceil(piece_bytes.max(1)).max(1);
        let pieces = vec![Track { state: State::Waiting, tries: 0 }; count];
        Ok(Self { body, piece_bytes, pieces, pace, step: Step::Going, aired: 0, asks: 0, ask_at: None })
    }

    /// How many pieces there are.
    #[must_use]
    pub fn count(&self) -> u8 {
        u8::try_from(self.pieces.len()).unwrap_or(u8::MAX)
    }

    /// How many of them the target is known to have.
    #[must_use]
    pub fn there(&self) -> u8 {
        u8::try_from(self.pieces.iter().filter(|piece| piece.is_there()).count()).unwrap_or(u8::MAX)
    }

    /// Where it is.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
    }

    /// Takes what is known about the path now.
    pub const fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// The next piece to send now, if any. Report what became of it to [`Split::sent`].
    pub fn next_piece(&mut self) -> Option<Piece> {
        if self.step != Step::Going {
            return None;
        }
        let under_way = self
            .pieces
            .iter()
            .filter(|piece| matches!(piece.state, State::Queued | State::Aired { .. }))
            .count();
        let room = usize::from(self.pace.window.max(1)).saturating_sub(under_way);
        let mut waiting =
            (0..self.count()).zip(&self.pieces).filter(|(_, piece)| piece.state == State::Waiting);
        let index = waiting.next().filter(|_| room > 0)?.0;
        let ask = room == 1 || waiting.next().is_none();
        let body = self.body_of(index);
        let piece = self.pieces.get_mut(usize::from(index))?;
        piece.state = State::Queued;
        piece.tries = piece.tries.saturating_add(1);
        self.ask_at = None;
        Some(Piece { index, body, ask })
    }

    /// What became of a piece: it was `aired`, or dropped before that and is to be offered again.
    pub fn sent(&mut self, now: Time, index: u8, aired: bool) {
        let Some(piece) = self.pieces.get_mut(usize::from(index)) else { return };
        if piece.state != State::Queued {
            return; // acknowledged meanwhile, by a copy that another try had brought there
        }
        if aired {
            self.aired += 1;
            piece.state = State::Aired { nth: self.aired };
        } else {
            piece.state = State::Waiting;
            piece.tries = piece.tries.saturating_sub(1);
        }
        self.wait(now);
    }

    /// Takes the target's bitmap. One of the wrong length says nothing and is ignored.
    pub fn status(&mut self, now: Time, bitmap: &[u8]) {
        if self.step != Step::Going || bitmap.len() != bitmap_bytes(self.count()) {
            return;
        }
        self.asks = 0;
        let mut newest = 0;
        for (index, piece) in (0..=u8::MAX).zip(&mut self.pieces) {
            if bit(bitmap, index) {
                let nth = piece.nth();
                newest = newest.max(nth);
                piece.state = State::There { nth };
            }
        }
        for (index, piece) in (0..=u8::MAX).zip(&mut self.pieces) {
            // Lost, or forgotten by a target that restarted. In a status that comes late, what is missing was sent after
            // everything it knows of.
            let known = matches!(piece.state, State::Aired { .. } | State::There { .. });
            if known && !bit(bitmap, index) && piece.nth() < newest {
                piece.state = State::Waiting;
            }
        }
        if self.pieces.iter().all(Track::is_there) {
            self.finish(Step::Done);
        } else if self.out_of_tries() {
            self.finish(Step::GaveUp);
        } else {
            self.wait(now);
        }
    }

    /// The target confirmed the whole message.
    pub fn receipt(&mut self) {
        self.finish(Step::Done);
    }

    /// When to call [`Split::timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.ask_at.map(|at| Deadline { at, why: "no fragment status" })
    }

    /// Nobody answered in time: one piece goes again as a question, or the message is given up.
    pub fn timeout(&mut self, now: Time) {
        if self.ask_at.is_none_or(|at| now < at) {
            return;
        }
        self.ask_at = None;
        self.asks = self.asks.saturating_add(1);
        let last = self.pieces.iter_mut().filter(|piece| matches!(piece.state, State::Aired { .. }));
        if let Some(piece) = last.max_by_key(|piece| piece.nth()) {
            piece.state = State::Waiting;
        }
        if self.asks > MESH_FRAGMENT_ASKS_MAX || self.out_of_tries() {
            self.finish(Step::GaveUp);
        }
    }

    fn body_of(&self, index: u8) -> Bytes {
        let from = usize::from(index) * self.piece_bytes;
        self.body.slice(from..(from + self.piece_bytes).min(self.body.len()))
    }

    /// Starts waiting for a status if nothing can be sent meanwhile and nothing is still to be aired.
    fn wait(&mut self, now: Time) {
        let mut under_way = 0;
        let mut waiting = false;
        for piece in &self.pieces {
            match piece.state {
                State::Queued => {
                    self.ask_at = None;
                    return;
                }
                State::Aired { .. } => under_way += 1,
                State::Waiting => waiting = true,
                State::There { .. } => {}
            }
        }
        let window_open = waiting && under_way < self.pace.window.max(1);
        let patience = self.pace.patience.saturating_mul(1 << self.asks.min(16));
        self.ask_at = (under_way > 0 && !window_open)
            .then(|| now + patience.min(MESH_PAUSE_MAX.max(self.pace.patience)));
    }

    fn out_of_tries(&self) -> bool {
        let spent = |piece: &Track| piece.state == State::Waiting && piece.tries >= MESH_FRAGMENT_TRIES_MAX;
        self.pieces.iter().any(spent)
    }

    fn finish(&mut self, step: Step) {
        if self.step == Step::Going {
            self.step = step;
            self.ask_at = None;
        }
    }
}
