//! File transfer, as far as it is a matter of bytes and decisions: which names a receiver accepts, how the frames look,
//! and what either side may do next. The shell in the `honeylink` crate owns the files and the stream.
//!
//! # The protocol
//!
//! One bidirectional stream carries one transfer. The sender walks its sources in a fixed order (folders before what is
//! in them, siblings by bytes of their name) and never hashes ahead, so the first content leaves at once:
//!
//! ```text
//! sender                                   receiver
//! Offer{id, name, entries, bytes}  ------>
//!                                  <------  Accept{resume} or Decline{reason}
//! List{first, entries...}          ------>            names and sizes, at most a window ahead
//!                                  <------  Have{upto, claims...}    only if `resume`: "of entry 7 I hold 1 GiB
//!                                                                    whose BLAKE3 is ..."
//! Whole{index, hash, bytes}        ------>            a small file in one frame
//! Start{index, offset}             ------>            a large one: from zero or from an agreed offset,
//! Data ... Data, End{hash}         ------>            its BLAKE3 last, because it was made on the way
//! Finish{digest}                   ------>
//!                                  <------  Receipt{digest}          only when every file is in place
//! ```
//!
//! Either side may say `Stop{reason}` at any time. There is no round trip per file. Listing ahead by a window, instead
//! of all at once, keeps the memory of both sides independent of the number of files, and lets the receiver hash what
//! it kept from an earlier attempt while content of earlier files is still arriving.
//!
//! # What a resume trusts
//!
//! Nothing but content. The receiver hashes what it holds, the sender hashes the same prefix of its own file, and only
//! if both agree the file continues there; otherwise it starts again. No journal can be stale, no clock can be wrong.

pub mod frame;
pub mod intake;
pub mod names;
pub mod plan;
