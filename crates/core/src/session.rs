//! The protocol state under a link: order, acknowledgement, suspension and resume.
//!
//! # The protocol, told once
//!
//! A session belongs to one pair of devices and one application protocol. The side that starts it, the *initiator*,
//! opens a session stream on an authenticated connection and says `Hello`: the versions it speaks, the largest message
//! it accepts and the sequence number it expects next. The *responder* answers `Welcome` with the same facts, or
//! `Refuse`. From then on both send messages numbered from 0 and acknowledge what arrived; the sender keeps every
//! message until it is acknowledged.
//!
//! When the stream or its connection dies the session is *suspended*, not over. The initiator opens another stream, on
//! whatever connection and path there is now, and says `Hello` with the same session id. Each side learns from `next`
//! what the other has, drops that, and sends the rest again: every message arrives once and in order, and the
//! application notices nothing but time. A session suspended for too long closes, and the error names the first message
//! that is not known to have arrived.
//!
//! To close, a side sends `Close` with the number after its last message; the other answers `Closed` once it has them
//! all. So a clean close means that everything accepted before it was delivered.
//!
//! ```text
//!            carrier up           welcome               carrier lost
//!  Pending ------------> Paired ----------> Active <----------------> Suspended
//!     |                    |                  |      welcome again        |
//!     +----- 30 s ---------+--- refused ------+--- close, violation ------+---- 5 min ----> Closed
//! ```
//!
//! # Driving it
//!
//! Call [`Session::handle`] with the time and one [`Input`], then [`Session::poll_output`] until it gives `None`, then
//! arrange to call again with [`Input::Timeout`] at [`Session::poll_timeout`]. `handle` never fails.

mod deliver;
mod machine;

pub use machine::{CloseReason, Closer, Config, Input, Output, Role, Session, State, Stats};

/// The lowest session version this build speaks.
pub const VERSION_MIN: u8 = 1;
/// The highest session version this build speaks.
pub const VERSION_MAX: u8 = 1;
