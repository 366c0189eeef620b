//! Placeholder.

pub mod crypto;
