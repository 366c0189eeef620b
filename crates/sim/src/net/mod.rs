//! Everything between nodes that is not the air, and what they write on.
//!
//! | file | what it models |
//! |---|---|
//! | `lane.rs` | one direction of a link: rate, queue, delay, loss, duplication, disorder |
//! | `nat.rs` | NAT boxes in the words of RFC 4787 |
//! | `cable.rs` | a link between two nodes, through NAT boxes if there are any, kept open by probes |
//! | `disk.rs` | records that survive a crash only if they were synced |

pub mod cable;
pub mod disk;
pub mod lane;
pub mod nat;

pub use disk::{Disk, Tear};
pub use lane::{Lane, Loss};
