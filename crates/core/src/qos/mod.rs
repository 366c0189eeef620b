//! A hundred streams on one link, and each gets what it asked for: who sends next, how much the link carries, who may
//! reserve how much, what is agreed with the peer, and how datagrams survive losses.
//!
//! # The rules, told once
//!
//! A stream has a priority from 0 to 7 and a weight ([`StreamOptions`]); `realtime`, `interactive` and `bulk` are names
//! for 7, 4 and 1. When several streams have something to send, the [`Scheduler`] decides in this order:
//!
//! 1. **The floor.** A priority that has something to send and got less than 5 % of the link goes first for a chunk, and
//!    now and then a stream that got nothing for 10 s. On a link where everybody behaves this never happens.
//! 2. **Realtime** (7, then 6) goes before everything else, as long as it takes at most four fifths of a contended link.
//!    Above that it waits until the others had theirs: urgent must not mean that nothing else moves.
//! 3. **Guaranteed rates** (`rate_min`), longest owed first, up to seven eighths of the rest.
//! 4. **Shares.** Each priority gets twice the share of the one below. Within a priority streams take turns by weight
//!    (deficit round robin), and those that use less than their share go before those that use all of it, so that a
//!    stream nobody declared urgent is quick as long as it is modest.
//!
//! `rate_max` takes a stream out until it is allowed again; a datagram past its deadline is dropped and counted, never
//! sent late.
//!
//! # Why it pulls
//!
//! A queue that others empty keeps the order in which it was filled. So nothing is queued below: a carrier asks
//! [`Scheduler::next`] only when it can send, and the choice is made as late as it can be. How much a carrier may hold is
//! [`Capacity`]'s to say: it watches what is delivered and how long that takes, and keeps the bottleneck's own queue
//! short without being told how fast the link is.
//!
//! # Driving it
//!
//! Bytes stay with the caller; the scheduler sees counts. `enqueue` what waits, then while the carrier has room ask
//! `next`, send at most that much, and say so with `sent`. After `next` drain `poll_late`. Call again at `poll_timeout`.

mod admission;
mod cadence;
mod capacity;
mod class;
mod depth;
pub mod fec;
mod flow;
mod level;
pub mod policy;
mod policy_frame;
mod scheduler;
mod sounding;
mod stats;

pub use self::admission::{Overcommitted, RESERVED_PERCENT_MAX, Reservations, ReserveError};
pub use self::capacity::{Ack, Capacity, Config as CapacityConfig};
pub use self::class::{OptionsError, StreamOptions, Weight};
pub use self::level::StreamId;
pub use self::scheduler::{Late, OpenError, Room, Scheduler, Send};
pub use self::sounding::{Sounding, Soundings, Told};
pub use self::stats::{Sketch, StreamStats, Tally};
pub use crate::wire::link::{Class, Priority};
