//! The mesh: messages over several hops, over radio, hours later.

pub mod bucket;
pub mod fragment;
pub mod frame;
pub mod hint;
pub mod raw;
pub mod records;
pub mod replay;
pub mod seen;
pub mod shed;
pub mod units;
