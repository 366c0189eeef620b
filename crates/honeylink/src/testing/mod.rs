//! For tests of applications: what would otherwise need two people, or a network that misbehaves on request.
//!
//! [`introduce`] pairs two nodes without a ceremony. With the feature `testing`, a `Network` puts real nodes on simulated
//! links in virtual time, and `check` runs a test under many seeds.

mod introduce;
#[cfg(target_os = "linux")]
pub mod modem;
#[cfg(feature = "testing")]
pub mod network;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod virtual_time;

#[cfg(feature = "testing")]
pub use introduce::pass_on;
pub use introduce::{device_id, introduce, introduce_by_id, know};
#[cfg(feature = "testing")]
pub use network::{
    BoxError, ConnectedPeers, Failure, FailureReason, InvalidSetting, Jitter, Lane, LinkUpError, Loss,
    NatKind, Network, NetworkBuilder, NetworkError, Spot, Stack, check,
};
