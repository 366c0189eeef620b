//! The mesh: messages over several hops, over radio, hours later.

pub mod hint;
pub mod records;
pub mod replay;
pub mod seen;
