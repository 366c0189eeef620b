//! In place of the DHT where the library was built without it: nothing of this type exists.

use std::net::Ipv4Addr;

use super::{DhtError, DhtOptions, Item};
use crate::node::Reach;

#[derive(Debug)]
pub(crate) enum Dht {}

impl Dht {
    pub(crate) fn new(_: &DhtOptions, _: Reach) -> Result<Self, &'static str> {
        Err("this build has no DHT: it was made without the feature `dht`")
    }

    pub(crate) fn entries(&self) -> Vec<String> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as where there is a DHT")]
    pub(crate) async fn put(&self, _: &[u8; 32], _: u64, _: &[u8]) -> Result<(), DhtError> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as where there is a DHT")]
    pub(crate) async fn get(&self, _: &[u8; 32]) -> Result<Vec<Item>, DhtError> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as where there is a DHT")]
    pub(crate) async fn seen_at(&self) -> Option<Ipv4Addr> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as where there is a DHT")]
    pub(crate) async fn close(&self) {
        match *self {}
    }
}
