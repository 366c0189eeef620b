//! A message in pieces: cut by its sender ([`Split`]), put together by its target ([`Assembly`]), and only what was lost
//! is sent again.
//!
//! # The protocol
//!
//! A message longer than a frame takes is cut into at most 255 pieces of equal size, the last one shorter or equal. The
//! pieces use sequence numbers in a row, so the first number names the message. Every piece says its index and how many
//! there are. The sender sends pieces in order while at most a window of them is unacknowledged, and marks the last of
//! each burst: it asks for a status. The target answers with a bitmap of what it has: at once when asked, on its own when
//! pieces stopped coming for a hold-off, and again a few times with growing pauses while nothing comes. A piece that is
//! missing in a status although a later transmission is acknowledged by it was lost and is sent again; one sent after
//! that may still be under way and is left alone. When no status comes at all, one piece is sent again as a question,
//! with a growing pause each time, until the sender gives up. The message's receipt ends it all and needs no last status.
//!
//! # Time is airtime
//!
//! With a duty cycle a piece may wait in the scheduler for minutes before it is on air. So no timer runs while any piece
//! waits there: the caller reports when each has been aired or dropped ([`Split::sent`]), and the patience, how long to
//! wait for an answer from then on, is the caller's knowledge of the path ([`Pace`]). The target's hold-off comes from its
//! caller for the same reason.
//!
//! # Who may waste what
//!
//! Pieces reach an assembly only after their MAC was found right, so a liar lies about its own messages. A count or size
//! that contradicts the first piece is refused, and memory is charged for what is really there, a fixed overhead per piece
//! included, never for what a header claims. One peer holds at most [`MESH_ASSEMBLY_PEER_BYTES_MAX`]; strangers
//! together at most half of [`MESH_ASSEMBLY_BYTES_MAX`], so no crowd of them displaces a paired device's message. What
//! stops coming is forgotten. Nothing of this is kept on disk: until a message is complete its pieces are acceptable again
//! ([`super::replay`]).
//!
//! [`MESH_ASSEMBLY_PEER_BYTES_MAX`]: crate::limits::MESH_ASSEMBLY_PEER_BYTES_MAX
//! [`MESH_ASSEMBLY_BYTES_MAX`]: crate::limits::MESH_ASSEMBLY_BYTES_MAX

mod assembly;
mod split;

pub use assembly::{Arrival, Assembly, Incoming, Refused, Status};
pub use split::{Pace, Piece, Split, Step, TooLong};

/// Most pieces of one message: a count is one byte.
pub const PIECES_MAX: usize = crate::limits::MESH_FRAGMENTS_MAX as usize;

/// The bytes of a bitmap over `count` pieces. Piece 0 is the lowest bit of the first byte.
#[must_use]
pub const fn bitmap_bytes(count: u8) -> usize {
    (count as usize).div_ceil(8)
}

fn bit(bitmap: &[u8], index: u8) -> bool {
    bitmap.get(usize::from(index / 8)).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

#[cfg(test)]
mod tests;
