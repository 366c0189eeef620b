//! The mesh: messages over several hops, over radio, hours later.

pub mod announce;
pub mod bucket;
pub mod chain;
pub mod control;
pub mod custody;
#[cfg(test)]
mod disk_model;
pub mod fragment;
pub mod frame;
pub mod hint;
pub mod keys;
pub mod outbox;
#[cfg(test)]
mod parts_tests;
pub mod raw;
pub mod records;
pub mod replay;
pub mod seen;
pub mod shed;
pub mod signed;
pub mod units;
