//! Getting through NAT boxes that iroh's hole punching leaves on a relay.
//!
//! A box that gives every destination another port cannot be told in advance where to send: the address that one
//! observer saw is of no use to anybody else. What helps is that the *other* side, or luck, is predictable:
//!
//! | module | what it does |
//! |---|---|
//! | [`behavior`] | from what observers saw: how the box before us maps, allocates and filters (RFC 4787) |
//! | [`wire`] | the datagrams: asking an observer, and probes that only the two devices can make |
//! | [`observer`] | answers those who ask where they are seen, with a stamp that others can check |
//! | [`plan`] | what each side does, from how both boxes behave; where ports are guessed |
//! | [`talk`] | what the two devices tell each other before an attempt |
//! | [`punch`] | one attempt: opens sockets, sends probes, agrees on the pair that works |
//!
//! # Nobody is made a target
//!
//! A peer says where its box is, and this device then sends hundreds of datagrams there. So that no peer can have a third
//! party flooded, probes go only to addresses with a [`Stamp`](wire::Stamp): an observer that this device trusts signs that
//! it *reached* the peer at that address. Addresses without one get nothing. And what is sent has a budget
//! ([`NAT_PROBES_MAX`](crate::limits::NAT_PROBES_MAX) for an attempt), however often it is asked for.

pub mod behavior;
pub mod observer;
pub mod plan;
pub mod punch;
pub mod talk;
pub mod wire;

pub use self::behavior::{Allocation, Behavior, Detector, Filtering, Mapping};
pub use self::observer::Observer;
pub use self::plan::{Plan, Ports, Work};
pub use self::punch::{Failure, Input, Output, Punch, Side};

#[cfg(test)]
mod punch_tests;
