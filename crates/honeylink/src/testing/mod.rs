//! For tests of applications: what would otherwise need two people.

mod introduce;

pub use introduce::{device_id, introduce};
