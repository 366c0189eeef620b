//! The suite `qos`: many streams on one cable of known rate, and datagrams on a line that loses some.
//!
//! ```text
//! net     namespaces, and a cable of known rate between two of them
//! line    a line that is late and loses packets
//! load    streams that always send, one that pings, what came of it
//! peers   who carries the load: a link, or raw iroh
//! tcp     what TCP gets on the same cable
//! rows    the figures
//! ```

mod line;
mod load;
mod net;
mod peers;
pub(crate) mod rows;
mod tcp;
