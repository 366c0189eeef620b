//! The mesh: messages over several hops, over radio, hours later.

pub mod announce;
mod announcer;
pub mod bucket;
pub mod chain;
pub mod control;
pub mod custody;
#[cfg(test)]
mod disk_model;
pub mod event;
mod find;
mod forward;
pub mod fragment;
pub mod frame;
mod herald;
pub mod hint;
mod inbox;
pub mod keys;
mod letter;
mod line;
mod machine;
mod meeting;
mod memory;
mod messages;
pub mod neighbours;
pub mod outbox;
mod own;
#[cfg(test)]
mod parts_tests;
mod pass;
mod peers;
mod pieces;
pub mod port;
pub mod raw;
mod receive;
pub mod records;
pub mod replay;
mod request;
mod roll;
pub mod routes;
pub mod secrets;
pub mod seen;
pub mod shed;
pub mod signed;
mod spread;
mod store;
pub mod units;

#[cfg(test)]
mod mesh_tests;
#[cfg(test)]
mod net;
#[cfg(test)]
mod pieces_tests;
#[cfg(test)]
mod presence_tests;
#[cfg(test)]
mod secrets_tests;
#[cfg(test)]
mod store_tests;

pub use self::event::{
    Config, Dropped, Event, Failure, Input, Outgoing, Output, Snapshot, Stats, Step, Trace, Trail,
};
pub use self::machine::Mesh;
pub use self::port::{PortId, PortInfo, Quality};
pub use self::roll::Present;
