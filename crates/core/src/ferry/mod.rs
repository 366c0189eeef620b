//! Relay by a paired peer: a device carries packets between two others that cannot reach each other.
//!
//! Three devices: a *ferry* and two of its *guests*, which it has paired with and granted `relay`. Each guest keeps a
//! connection to the ferry. Packets of the guests' own QUIC connection go as datagrams on these two connections: the ferry
//! sees ciphertext, whose it is, and when.
//!
//! ```text
//!            A                          ferry                           B
//!            |  ask for B                 |                             |
//!            |--------------------------->|  call: A, as number 4       |
//!            |                            |---------------------------->|  is A paired with me?
//!            |  yes, as number 9          |                       here  |
//!            |<---------------------------|<----------------------------|
//!            |  9 | QUIC packet for B     |  4 | the same packet        |
//!            |===========================>|============================>|
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`talk`] | the bytes: what a guest and its ferry say, and what stands before a packet |
//! | [`desk`] | decides on the ferry: who is carried to whom, and how much |
//!
//! # What a ferry gives away
//!
//! A guest must name the device it wants to. Whether that one is not paired with the ferry, not connected, not granted
//! anything, or does not want, the answer is the same, and comes after the same time ([`NO_AFTER`]): nobody learns of the
//! ferry's other guests by asking.
//!
//! # Nobody is made a target
//!
//! A packet goes to a guest that agreed to hear from its sender, and to nobody else; one goes out for one that came in, two
//! bytes shorter or longer at most. A number is never given twice on one connection, so what is under way when a crossing ends
//! cannot reach somebody else.

pub mod desk;
pub mod talk;

use core::time::Duration;

pub use self::desk::{Desk, Dropped, Rates};
pub use self::talk::{Handle, Refusal, Talk};

/// How long a device that is called may take to answer.
pub const CALL_MAX: Duration = Duration::from_millis(1500);
/// How long after the question a ferry says no, also if the call took its whole time.
pub const NO_AFTER: Duration = Duration::from_secs(2);
/// The smallest packet that must fit through: what QUIC needs of every way (RFC 9000, section 14).
pub const PACKET_BYTES_MIN: usize = 1200;
