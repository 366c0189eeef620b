//! The protocols the product is compared with, each as its own documents describe it, over the same radios.
//!
//! All four use the product's duty-cycle scheduler and the simulator's modem: what differs is what they send and when.
//! Frames are as long as the real ones (see the constants in each file); what they carry here is not encrypted, because
//! nobody in a comparison listens. Each is given every benefit of the doubt that costs its authors nothing: nodes know
//! each other's keys from the start, hashes never collide, memory is ample.
//!
//! | file | modelled on | what a 20-byte message takes |
//! |---|---|---|
//! | `flood.rs` | flooding, with Meshtastic's frame | 52 B, acknowledgement 28 B |
//! | `managed.rs` | Meshtastic's managed flood | 52 B, acknowledgement 28 B |
//! | `source_route.rs` | MeshCore | 38 B and a byte for each hop of the path, acknowledgement 6 B and the path |
//! | `distance_vector.rs` | Reticulum | 131 B, 147 B relayed, proof 83 B, announce 167 B, 183 B relayed |

mod distance_vector;
mod flood;
mod managed;
mod packet;
mod source_route;
mod station;
#[cfg(test)]
mod trial;

pub use self::distance_vector::DistanceVector;
pub use self::flood::Flood;
pub use self::managed::{HOPS_MAX as MANAGED_HOPS_MAX, ManagedFlood};
pub use self::source_route::SourceRoute;
