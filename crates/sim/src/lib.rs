//! Runs HoneyLink's protocols on simulated radios, links, disks and clocks, and repeats every run from its seed.
//!
//! The easy door: read a [`scenario`] file, give it a seed, get a [`plan::Plan`], make a [`world::World`] of it, run it.
//! The same plan gives the same events in the same order, in every process; [`trace`] has their hash and, if asked, their
//! lines. What the devices did wrong the [`oracle`]s say; what it amounts to is in the [`tally`].
//!
//! | module | what it is |
//! |---|---|
//! | [`scenario`], [`plan`], [`topology`] | what people write down; a run written out; where nodes stand |
//! | [`world`] | the engine: one queue of events in virtual time |
//! | [`device`], [`protocol`], [`product`], [`baseline`], [`hostile`] | what is simulated: the product, its rivals, liars |
//! | [`radio`] | the air: path loss, half-duplex, collisions, capture, carrier sensing, duty cycle |
//! | [`net`] | links, NAT boxes, disks |
//! | [`fault`] | what goes wrong |
//! | [`oracle`], [`tally`], [`trace`] | what must never happen; what was counted; what happened |
//! | [`swarm`], [`runner`] | a plan drawn from a seed alone; many seeds, replay, shrinking, comparing traces |
//! | [`chance`], [`clock`], [`queue`], [`message`] | named streams of randomness; two kinds of time; ties in order; payloads |
//!
//! Nothing here reads a clock or draws entropy, and only `runner::many` starts threads: `clippy.toml` bans it.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod chance;
pub mod clock;
pub mod device;
pub mod fault;
pub mod hostile;
pub mod message;
pub mod net;
pub mod oracle;
pub mod plan;
pub mod product;
pub mod protocol;
pub mod queue;
pub mod radio;
pub mod runner;
pub mod scenario;
pub mod swarm;
pub mod tally;
pub mod topology;
pub mod trace;
pub mod world;
