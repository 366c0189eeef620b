//! HoneyLink's protocols as pure state machines and bytes.
//!
//! Nothing in this crate opens a socket, reads a clock, draws entropy or knows an async runtime. Time and randomness
//! come in as arguments, bytes come in as slices, and what should happen next comes out as a value. That is what lets
//! the simulator replay a failure from a seed and the fuzzers reach every line that foreign bytes can reach.
//!
//! # The map, from the ground up
//!
//! | module | what it is |
//! |---|---|
//! | [`time`], [`rng`], [`limits`] | our own clock type, a seeded generator, every maximum by name |
//! | [`identity`] | [`DeviceId`](identity::DeviceId) and what is derived from it |
//! | [`wire`] | bounded readers and writers; the frames of a link |
//! | [`pairing`] | code, QR and short-authentication-string ceremonies, typestate by value |
//! | [`nearby`] | who is around: observations in, found/changed/lost out |
//! | [`mdns`] | multicast DNS: announces this device on the LAN and hears the others, without a cache |
//! | [`transfer`] | what a file offer may say, and which names a receiver accepts |
//! | [`radio`] | time on air, duty cycle, which frame goes next, talking to a modem |
//! | [`qos`] | which stream sends next, how much a link carries, reservations, policies, repair of losses |
//! | [`nat`] | getting through boxes that give every destination another port |
//! | [`ferry`] | a device that carries packets between two others |
//! | [`paths`] | which way bytes go, why, and what it was before |
//! | [`session`] | the protocol state under a link: order, acknowledgement, resume |
//! | [`mesh`] | messages over several hops, over radio, hours later |
//! | [`wide`] | notes in a public place, by which devices find each other across the internet |
//!
//! # The contract of every machine
//!
//! A machine has `handle(now, input)`, which never fails: bad input becomes an output event that the user and the tests
//! can see; `poll_output()`, drained to `None` after every `handle`; and `poll_timeout()`, a deadline with its reason.
//! Ceremonies that move strictly forward (pairing) are typestates instead: each step consumes the last.
#![forbid(unsafe_code)]

pub mod ferry;
pub mod identity;
pub mod knock;
pub mod limits;
pub mod mdns;
pub mod mesh;
pub mod nat;
pub mod nearby;
pub mod pairing;
pub mod paths;
#[doc(hidden)]
pub mod planted;
pub mod qos;
pub mod radio;
pub mod rng;
pub mod session;
pub mod time;
pub mod transfer;
pub mod wide;
pub mod wire;
