//! The suite `qos`: many streams on one cable of known rate, and datagrams on a line that loses some.
//!
//! ```text
//! net      namespaces, and a cable of known rate between two of them
//! line     a line that is late and loses packets
//! load     streams that always send, one that pings, what came of it
//! peers    who carries the load: a link, or raw iroh
//! rival    the same load over Zenoh, by a program of its own
//! iperf    what TCP gets on the same cable
//! rows     the figures
//! latency  Q1, Q1b, Q1k, Q1s, Q2
//! shares   Q3, Q4
//! steps    Q6, Q6b
//! speed    Q5, T1, T2, T3
//! ```

mod iperf;
mod latency;
mod line;
mod load;
mod net;
mod peers;
mod rival;
pub(crate) mod rows;
mod shares;
mod speed;
mod steps;
