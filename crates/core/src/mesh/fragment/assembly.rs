//! The target's half of [`super`]: pieces in any order, doubled, late or contradicting, within a bound of memory.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use core::time::Duration;

use super::{bit, bitmap_bytes};
use crate::limits::{
    MESH_ASSEMBLY_BYTES_MAX, MESH_ASSEMBLY_DONE_MAX, MESH_ASSEMBLY_IDLE_MAX, MESH_ASSEMBLY_IDLE_MIN,
    MESH_ASSEMBLY_PEER_BYTES_MAX, MESH_FRAGMENT_STATUS_MAX, MESH_MESSAGE_BYTES_MAX,
};
use crate::mesh::hint::Address;
use crate::mesh::seen::Recent;
use crate::time::{Deadline, Time};

/// Charged for each piece besides its bytes: what keeping it costs.
const PIECE_OVERHEAD_BYTES: usize = 64;
/// Charged for each unfinished message besides its pieces.
const MESSAGE_OVERHEAD_BYTES: usize = 512;
/// A message that nothing came of for this many hold-offs is forgotten, within the limits named above.
const IDLE_HOLDS: u32 = 64;

/// A message: who sent it and the sequence number of its first piece.
type Name = (Address, u32);

/// What a piece did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was the last one missing: this is the message.
    Complete(Bytes),
    /// It is kept.
    Kept,
    /// It was here already.
    Duplicate,
    /// The message was complete before: say its receipt again.
    AlreadyDone,
}

/// Why a piece was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// An index beyond the count, fewer than two pieces, no bytes, or bytes beyond the longest message.
    #[error("a fragment that no message has")]
    Impossible,
    /// Count or size contradict the pieces that came before.
    #[error("a fragment that contradicts the ones before it")]
    Contradiction,
    /// The peer holds as much as one may.
    #[error("the peer has too many bytes in unfinished messages")]
    PeerFull,
    /// All memory for unfinished messages is taken by others with a better claim.
    #[error("no room for another unfinished message")]
    Full,
}

/// A status to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// To whom.
    pub to: Address,
    /// The sequence number of the message's first piece.
    pub first: u32,
    /// Which pieces are here; piece 0 is the lowest bit of the first byte.
    pub bitmap: Bytes,
}

/// One piece as it came, its MAC found right.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Who sent the message.
    pub from: Address,
    /// Whether it is a paired device.
    pub trusted: bool,
    /// The sequence number of the message's first piece: the piece's own minus its index.
    pub first: u32,
    /// Which piece this is.
    pub index: u8,
    /// How many there are.
    pub count: u8,
    /// Whether the sender wants to know what is here.
    pub ask: bool,
    /// The bytes.
    pub body: Bytes,
}

#[derive(Debug)]
struct Partial {
    trusted: bool,
    count: u8,
    /// The size of every piece but the last, once one of those came.
    piece_bytes: Option<usize>,
    pieces: BTreeMap<u8, Bytes>,
    charged: usize,
    hold: Duration,
    heard_at: Time,
    status_at: Option<Time>,
    said_at: Option<Time>,
    /// Statuses in a row that brought nothing.
    statuses: u8,
}

/// Messages that are not complete yet. See the [module](super).
#[derive(Debug)]
pub struct Assembly {
    partial: BTreeMap<Name, Partial>,
    done: Recent<Name, ()>,
    charged: usize,
    expired: u64,
    evicted: u64,
}

impl Default for Assembly {
    fn default() -> Self {
        Self {
            partial: BTreeMap::new(),
            done: Recent::new(MESH_ASSEMBLY_IDLE_MAX, MESH_ASSEMBLY_DONE_MAX),
            charged: 0,
            expired: 0,
            evicted: 0,
        }
    }
}

impl Assembly {
    /// Takes a piece. `hold` is how long to wait for more before saying what is missing: a few times the airtime of a piece
    /// with its expected wait for duty.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn accept(&mut self, now: Time, piece: &Incoming, hold: Duration) -> Result<Arrival, Refused> {
        let name = (piece.from, piece.first);
        if self.done.find(now, &name).is_some() {
            return Ok(Arrival::AlreadyDone);
        }
        let whole = usize::from(piece.count - u8::from(piece.count > 0)) * piece.body.len();
        let last = piece.index.saturating_add(1) == piece.count;
        if piece.count < 2
            || piece.index >= piece.count
            || piece.body.is_empty()
            || (!last && whole > MESH_MESSAGE_BYTES_MAX)
            || piece.body.len() > MESH_MESSAGE_BYTES_MAX
        {
            return Err(Refused::Impossible);
        }
        if let Some(known) = self.partial.get_mut(&name) {
            known.fits(piece, last)?;
            if known.pieces.contains_key(&piece.index) {
                known.asked(now, piece.ask, hold);
                return Ok(Arrival::Duplicate);
            }
        }
        let first_of_it = if self.partial.contains_key(&name) { 0 } else { MESSAGE_OVERHEAD_BYTES };
        let charge = piece.body.len() + PIECE_OVERHEAD_BYTES + first_of_it;
        self.make_room(name, piece.trusted, charge)?;
        self.charged += charge;
        let partial = self.partial.entry(name).or_insert_with(|| Partial::new(piece, now));
        partial.keep(now, piece, last, charge, hold);
        if partial.pieces.len() < usize::from(partial.count) {
            return Ok(Arrival::Kept);
        }
        let whole = partial.whole();
        self.forget(&name);
        self.done.insert(now, name, ());
        Ok(Arrival::Complete(whole))
    }

    /// The next status that is due.
    pub fn poll_status(&mut self, now: Time) -> Option<Status> {
        let (name, partial) =
            self.partial.iter_mut().find(|(_, p)| p.status_at.is_some_and(|at| at <= now))?;
        partial.said_at = Some(now);
        partial.statuses = partial.statuses.saturating_add(1);
        // Again later in case this one is lost, unless nothing came of several.
        partial.status_at = (partial.statuses < MESH_FRAGMENT_STATUS_MAX)
            .then(|| now + partial.hold.saturating_mul(2 << partial.statuses.min(16)));
        let mut bitmap = BytesMut::zeroed(bitmap_bytes(partial.count));
        for index in partial.pieces.keys() {
            if let Some(byte) = bitmap.get_mut(usize::from(index / 8)) {
                *byte |= 1 << (index % 8);
            }
        }
        debug_assert!(partial.pieces.keys().all(|index| bit(&bitmap, *index)));
        Some(Status { to: name.0, first: name.1, bitmap: bitmap.freeze() })
    }

    /// When to call [`Assembly::timeout`] and then [`Assembly::poll_status`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.partial.values().fold(None, |earliest, partial| {
            let status = partial.status_at.map(|at| Deadline { at, why: "fragment status due" });
            let idle = Deadline { at: partial.ends(), why: "unfinished message is forgotten" };
            Deadline::earliest(Deadline::earliest(earliest, status), Some(idle))
        })
    }

    /// Forgets messages that nothing came of for too long; says how many.
    pub fn timeout(&mut self, now: Time) -> usize {
        let over: Vec<_> = self.partial.iter().filter(|(_, p)| p.ends() <= now).map(|(n, _)| *n).collect();
        for name in &over {
            self.forget(name);
        }
        self.expired += over.len() as u64;
        over.len()
    }

    /// Bytes held, overhead included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.charged
    }

    /// How many messages are unfinished.
    #[must_use]
    pub fn len(&self) -> usize {
        self.partial.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty()
    }

    /// Messages forgotten because nothing came any more, since the start.
    #[must_use]
    pub const fn expired(&self) -> u64 {
        self.expired
    }

    /// Messages forgotten to make room for others, since the start.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Makes room for `charge` bytes of the message `name`, at the cost of stalled messages with a lesser claim.
    fn make_room(&mut self, name: Name, trusted: bool, charge: usize) -> Result<(), Refused> {
        // One step may free several messages, but a refusal must leave everything as it was: collect first.
        let mut victims: Vec<Name> = Vec::new();
        let held = |assembly: &Self, victims: &[Name], counts: &dyn Fn(&Name, &Partial) -> bool| -> usize {
            let kept = assembly.partial.iter().filter(|(n, p)| !victims.contains(n) && counts(n, p));
            kept.map(|(_, partial)| partial.charged).sum()
        };
        while held(self, &victims, &|n, _| n.0 == name.0) + charge > MESH_ASSEMBLY_PEER_BYTES_MAX {
            let own = |n: &Name, _: &Partial| n.0 == name.0 && *n != name;
            victims.push(self.stalest(&victims, &own).ok_or(Refused::PeerFull)?);
        }
        while !trusted && held(self, &victims, &|_, p| !p.trusted) + charge > MESH_ASSEMBLY_BYTES_MAX / 2 {
            let stranger = |n: &Name, p: &Partial| !p.trusted && *n != name;
            victims.push(self.stalest(&victims, &stranger).ok_or(Refused::Full)?);
        }
        while held(self, &victims, &|_, _| true) + charge > MESH_ASSEMBLY_BYTES_MAX {
            let stranger = |n: &Name, p: &Partial| !p.trusted && *n != name;
            let others = |n: &Name, p: &Partial| (trusted || !p.trusted) && *n != name;
            let victim = self.stalest(&victims, &stranger).or_else(|| self.stalest(&victims, &others));
            victims.push(victim.ok_or(Refused::Full)?);
        }
        self.evicted += victims.len() as u64;
        for victim in &victims {
            self.forget(victim);
        }
        Ok(())
    }

    fn stalest(&self, but: &[Name], may: &dyn Fn(&Name, &Partial) -> bool) -> Option<Name> {
        let those = self.partial.iter().filter(|(n, p)| !but.contains(n) && may(n, p));
        those.min_by_key(|(_, partial)| partial.heard_at).map(|(name, _)| *name)
    }

    fn forget(&mut self, name: &Name) {
        if let Some(partial) = self.partial.remove(name) {
            self.charged -= partial.charged;
        }
    }
}

impl Partial {
    fn new(piece: &Incoming, now: Time) -> Self {
        Self {
            trusted: piece.trusted,
            count: piece.count,
            piece_bytes: None,
            pieces: BTreeMap::new(),
            charged: 0,
            hold: Duration::ZERO,
            heard_at: now,
            status_at: None,
            said_at: None,
            statuses: 0,
        }
    }

    /// Whether a piece agrees with those that came before.
    fn fits(&self, piece: &Incoming, last: bool) -> Result<(), Refused> {
        let tail = self.pieces.get(&(self.count - 1)).map_or(0, Bytes::len);
        let agrees = match self.piece_bytes {
            Some(size) if last => piece.body.len() <= size,
            Some(size) => piece.body.len() == size,
            None => last || piece.body.len() >= tail,
        };
        if agrees && piece.count == self.count { Ok(()) } else { Err(Refused::Contradiction) }
    }

    fn keep(&mut self, now: Time, piece: &Incoming, last: bool, charge: usize, hold: Duration) {
        if !last {
            self.piece_bytes = Some(piece.body.len());
        }
        // A copy of its own: a slice would keep the whole frame, or a whole read buffer, alive.
        self.pieces.insert(piece.index, Bytes::copy_from_slice(&piece.body));
        self.charged += charge;
        self.heard_at = now;
        self.statuses = 0;
        self.hold = hold;
        self.status_at = Some(now + hold);
        self.asked(now, piece.ask, hold);
    }

    /// Says what is here at once, but not twice within a hold-off: questions may come faster than answers can be aired.
    fn asked(&mut self, now: Time, ask: bool, hold: Duration) {
        if ask {
            let earliest = self.said_at.map_or(now, |said| now.max(said + hold));
            self.statuses = self.statuses.min(MESH_FRAGMENT_STATUS_MAX - 1);
            self.status_at = Some(self.status_at.map_or(earliest, |at| at.min(earliest)));
        }
    }

    fn ends(&self) -> Time {
        let patience = self.hold.saturating_mul(IDLE_HOLDS);
        self.heard_at + patience.clamp(MESH_ASSEMBLY_IDLE_MIN, MESH_ASSEMBLY_IDLE_MAX)
    }

    fn whole(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.pieces.values().map(Bytes::len).sum());
        for piece in self.pieces.values() {
            whole.extend_from_slice(piece);
        }
        whole.freeze()
    }
}
