//! For tests of applications: what would otherwise need two people.

mod introduce;
#[cfg(target_os = "linux")]
pub mod modem;

pub use introduce::{device_id, introduce};
