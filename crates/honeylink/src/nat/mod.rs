//! Getting through NAT boxes that ordinary hole punching leaves on a relay.
//!
//! [`honeylink_core::nat`] decides; here are the sockets.
//!
//! | part | what it does |
//! |---|---|
//! | [`ObserverSockets`] | tells others where they are seen: relays run it, and any node that can be reached may |
//! | `observers` | whom to ask: those of the settings, and those that relays name |
//! | `ask` | asks observers where this device is seen, and so how the box before it behaves |
//! | `attempt` | opens sockets and sends probes as the machine says, until a hole works or time is up |
//!
//! When a link goes by a relay, the side that dialled asks for an attempt on a stream of its own kind, both sides try at
//! the same time, and the socket that got through becomes a path of the connection (`carrier::punched`). When that path
//! dies the relay carries on, and there is another attempt, with growing pauses.

pub(crate) mod ask;
pub(crate) mod attempt;
mod observe;
pub(crate) mod observers;
mod options;
mod report;

pub use self::observe::{ObserverCounts, ObserverSockets};
pub use self::options::{InvalidObserver, NatOptions, ObserverAt};
pub use self::report::{AttemptReport, NatReport, NotPunched};
pub use crate::carrier::punched::HoleCounts;
pub use honeylink_core::nat::talk::{Nowhere, Refusal};
pub use honeylink_core::nat::{Allocation, Behavior, Failure, Filtering, Mapping};
