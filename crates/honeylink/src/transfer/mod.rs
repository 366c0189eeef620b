//! Files and folders over one bidirectional stream: the shell around [`honeylink_core::transfer`].
//!
//! [`send()`] and [`receive()`] take any pair of reader and writer, so they can be tested in memory and do not care which
//! rung of the ladder carries them. The protocol itself is told in [`honeylink_core::transfer`].
//!
//! # How the bytes run
//!
//! ```text
//! sources --> producer thread --blocks--> async writer ==stream==> async reader --buffers--> store threads --> disk
//!             walk, read, hash            (paces)                  (checks, accounts)        write, hash, verify
//!                 ^---------- empty blocks ----'                        ^------ empty buffers -----'
//! ```
//!
//! Blocks and buffers are pooled and counted: a transfer holds at most 2 x 4 MiB of content, whatever the sizes of
//! files, and a slow disk slows the sender through the stream's own flow control.
//!
//! # Where the bytes lie
//!
//! Everything is received into `NAME.<16 hex digits>.part/` inside the destination and moved to its final name when all
//! hashes are verified: no partial file ever has a final name. The folder's name follows from the transfer's id and the
//! peer, so the next attempt finds it, and what it holds is claimed by content (see `resume` in the core's module doc).
//! A broken stream, a full disk or `kill -9` leave it in place; a cancel by a person removes it. If only the receipt was lost, the
//! next attempt brings everything once more, and what is in its place already is not placed twice ([`Decision::AcceptAgain`]).
//!
//! # The digest
//!
//! [`SendReport::digest`] and [`ReceiveReport::digest`] are the BLAKE3 of the file if exactly one file and nothing else
//! was sent, so it can be compared with `b3sum`. Otherwise it is the BLAKE3 of, for each file in listing order (sorted by
//! path, part by part): length of the path as two bytes big-endian, the path, the file's BLAKE3.

mod chunks;
mod claims;
mod digest;
mod disk;
mod error;
mod handle;
mod inflow;
mod pipe;
mod produce;
mod receive;
mod same;
mod send;
mod source;
mod staging;
mod store;
mod wire;

pub use chunks::ChunkWriter;
pub use error::{DiskError, ReceiveError, SendError};
pub use handle::{Handle, Progress};
pub use honeylink_core::transfer::frame::{Hash, Offer, Reason, TransferId};
pub use pipe::copy_pipe;
pub use receive::{Decision, Durability, ReceiveOptions, ReceiveReport, receive};
pub use send::{SendOptions, SendReport, send};
pub use source::{Note, Sources};
pub(crate) use staging::discard_part;

/// Content bytes in one block or buffer. Large enough that a wake-up per block costs nothing, small enough that the
/// block is still in the second-level cache when it is hashed after it was read.
const BLOCK_BYTES: usize = 256 << 10;
/// Blocks (sender) or buffers (receiver) of one transfer.
const BLOCKS_MAX: usize = 16;

#[cfg(test)]
mod tests;
