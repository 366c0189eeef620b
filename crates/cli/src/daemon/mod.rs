//! The node of this device and the API in front of it.

use std::time::Duration;

use honeylink_api::{ErrorCode, Mode};

use crate::config::Resolved;
use crate::failure::Failure;
use crate::home::Home;

/// A running node.
#[derive(Debug)]
pub(crate) struct Running;

/// Starts a node in this process.
pub(crate) async fn start(_: &Home, _: Resolved, _: Mode) -> Result<Running, Failure> {
    std::future::ready(()).await;
    Err(Failure::new(ErrorCode::Unsupported, "this build has no node yet"))
}

impl Running {
    pub(crate) fn guests(&self) -> usize {
        0
    }
    pub(crate) async fn no_guests(&self) {
        std::future::ready(()).await;
    }
    pub(crate) async fn shutdown(&self, _: Duration) {
        std::future::ready(()).await;
    }
    pub(crate) async fn ended(&self) {
        std::future::ready(()).await;
    }
}
