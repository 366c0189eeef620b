//! Who listens for which protocol.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use honeylink_core::limits::ACCEPT_QUEUE_MAX;
use honeylink_core::wire::link::is_protocol_name;
use tokio::sync::mpsc;

use super::ListenError;
use crate::link::Link;

type Table = Arc<Mutex<BTreeMap<String, mpsc::Sender<Link>>>>;

/// The node's listeners, by protocol.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    table: Table,
}

fn locked(table: &Table) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Link>>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listeners {
    pub(super) fn register(&self, protocol: &str) -> Result<Listener, ListenError> {
        if !is_protocol_name(protocol) {
            return Err(ListenError::InvalidProtocol(protocol.to_owned()));
        }
        let (sender, links) = mpsc::channel(ACCEPT_QUEUE_MAX);
        let mut table = locked(&self.table);
        if table.contains_key(protocol) {
            return Err(ListenError::AlreadyListening(protocol.to_owned()));
        }
        table.insert(protocol.to_owned(), sender);
        Ok(Listener { protocol: protocol.to_owned(), links, table: self.table.clone() })
    }

    /// Where links for `protocol` go, if anybody listens.
    pub(super) fn find(&self, protocol: &str) -> Option<mpsc::Sender<Link>> {
        locked(&self.table).get(protocol).cloned()
    }

    /// The protocols somebody listens for, in bytewise order.
    pub(super) fn names(&self) -> Vec<String> {
        locked(&self.table).keys().cloned().collect()
    }

    /// Ends every listener.
    pub(super) fn close(&self) {
        locked(&self.table).clear();
    }
}

/// Links that paired peers open for one protocol. Dropping it stops listening.
#[derive(Debug)]
pub struct Listener {
    protocol: String,
    links: mpsc::Receiver<Link>,
    table: Table,
}

impl Listener {
    /// The next link, active; `None` once the node shuts down.
    pub async fn accept(&mut self) -> Option<Link> {
        self.links.recv().await
    }

    /// The protocol.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        locked(&self.table).remove(&self.protocol);
    }
}
