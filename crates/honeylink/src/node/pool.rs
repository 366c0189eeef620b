//! The connections of a node, by peer: dialled once at a time, reused, collapsed when both sides dialled, closed when
//! idle.
//!
//! A peer has one connection that new streams go to. When both sides dial at the same moment there are two for a while;
//! both sides agree without a word that the one dialled by the smaller device id stays, and the other carries what it
//! already carries until that ends. Any other second connection replaces the first, which is closed: a device dials only
//! when it has none, so it knows earlier than we do that the old one is dead. A peer therefore holds two at most.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::LINKS_PER_PEER_MAX;
use honeylink_core::wire::link::SessionId;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::Instant;

use crate::carrier::{Conn, Side, code};
use crate::link::driver::Carriage;
use crate::link::shared::LinkShared;

/// Two connections made within this time, one by each side, count as made at the same moment.
const SIMULTANEOUS: Duration = Duration::from_secs(2);

/// A connection and since when it is there.
#[derive(Clone, Debug)]
struct Entry {
    conn: Conn,
    since: Instant,
}

/// A link that is open with a peer.
#[derive(Debug)]
struct OpenLink {
    shared: Weak<LinkShared>,
    /// Where a responder's new session streams go.
    carriages: Option<mpsc::Sender<Carriage>>,
}

#[derive(Debug, Default)]
struct Peer {
    /// The preferred connection last.
    conns: Vec<Entry>,
    links: BTreeMap<SessionId, OpenLink>,
    dialling: Arc<AsyncMutex<()>>,
    idle_since: Option<Instant>,
}

/// Every connection and link of the node.
#[derive(Debug)]
pub(crate) struct Pool {
    local: DeviceId,
    peers: Mutex<BTreeMap<DeviceId, Peer>>,
}

/// Why a link was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInserted {
    /// The peer has too many.
    TooMany,
    /// A link with this id is open.
    Known,
}

impl Pool {
    pub(crate) fn new(local: DeviceId) -> Self {
        Self { local, peers: Mutex::new(BTreeMap::new()) }
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that new streams to `peer` go to.
    pub(crate) fn current(&self, peer: &DeviceId) -> Option<Conn> {
        let peers = self.peers();
        let conns = &peers.get(peer)?.conns;
        conns.iter().rev().map(|e| &e.conn).find(|c| c.lost().is_none()).cloned()
    }

    /// Whether this is the connection that new streams to its peer go to.
    pub(crate) fn is_current(&self, conn: &Conn) -> bool {
        self.current(&conn.peer()).is_some_and(|current| current.is(conn))
    }

    /// The lock that lets one task dial `peer` at a time.
    pub(crate) fn dialling(&self, peer: DeviceId) -> Arc<AsyncMutex<()>> {
        self.peers().entry(peer).or_default().dialling.clone()
    }

    /// Takes a connection in.
    pub(crate) fn insert(&self, conn: Conn) {
        let mut peers = self.peers();
        let peer = peers.entry(conn.peer()).or_default();
        peer.conns.retain(|e| e.conn.lost().is_none());
        peer.idle_since = None;
        let now = Instant::now();
        // A device dials only when it has no live connection. So when the same side dials again, or dials later than
        // both could have at the same moment, the older connection is dead over there, whatever it looks like here:
        // the device was restarted, or moved. Ending it now is what lets links go on at once.
        let dialler = self.dialler(&conn);
        let local = self.local;
        let (crossed, dead): (Vec<_>, Vec<_>) = std::mem::take(&mut peer.conns)
            .into_iter()
            .partition(|e| now - e.since < SIMULTANEOUS && dialler_of(local, &e.conn) != dialler);
        for entry in dead {
            entry.conn.close(code::DONE, "replaced by a newer connection");
        }
        peer.conns = crossed;
        let at = match peer.conns.last() {
            Some(last) if self.dialler(&last.conn) < dialler => peer.conns.len() - 1,
            Some(_) | None => peer.conns.len(),
        };
        peer.conns.insert(at, Entry { conn, since: now });
    }

    fn dialler(&self, conn: &Conn) -> DeviceId {
        dialler_of(self.local, conn)
    }

    /// Forgets a connection that is gone.
    pub(crate) fn remove_lost(&self, peer: &DeviceId) {
        if let Some(peer) = self.peers().get_mut(peer) {
            peer.conns.retain(|e| e.conn.lost().is_none());
        }
    }

    /// Registers a link so that streams and datagrams find it.
    pub(crate) fn insert_link(
        &self,
        shared: &Arc<LinkShared>,
        carriages: Option<mpsc::Sender<Carriage>>,
    ) -> Result<(), NotInserted> {
        let mut peers = self.peers();
        let peer = peers.entry(shared.peer()).or_default();
        peer.links.retain(|_, link| link.shared.strong_count() > 0);
        if peer.links.len() >= LINKS_PER_PEER_MAX {
            return Err(NotInserted::TooMany);
        }
        if peer.links.contains_key(&shared.id()) {
            return Err(NotInserted::Known);
        }
        peer.links.insert(shared.id(), OpenLink { shared: Arc::downgrade(shared), carriages });
        peer.idle_since = None;
        Ok(())
    }

    pub(crate) fn remove_link(&self, peer: &DeviceId, id: &SessionId) {
        if let Some(peer) = self.peers().get_mut(peer) {
            peer.links.remove(id);
        }
    }

    /// The link with this id, and where its new session streams go.
    pub(crate) fn link(
        &self,
        peer: &DeviceId,
        id: &SessionId,
    ) -> Option<(Arc<LinkShared>, Option<mpsc::Sender<Carriage>>)> {
        let peers = self.peers();
        let link = peers.get(peer)?.links.get(id)?;
        Some((link.shared.upgrade()?, link.carriages.clone()))
    }

    /// Every open link with `peer`.
    pub(crate) fn links_of(&self, peer: &DeviceId) -> Vec<Arc<LinkShared>> {
        let peers = self.peers();
        let links = peers.get(peer).into_iter().flat_map(|p| p.links.values());
        links.filter_map(|l| l.shared.upgrade()).collect()
    }

    /// Every open link.
    pub(crate) fn links(&self) -> Vec<Arc<LinkShared>> {
        let peers = self.peers();
        peers.values().flat_map(|p| p.links.values()).filter_map(|l| l.shared.upgrade()).collect()
    }

    /// Every peer with a live connection, and that connection.
    pub(crate) fn connected(&self) -> Vec<(DeviceId, Conn)> {
        let peers = self.peers();
        peers
            .iter()
            .filter_map(|(id, peer)| {
                let entry = peer.conns.iter().rev().find(|e| e.conn.lost().is_none())?;
                Some((*id, entry.conn.clone()))
            })
            .collect()
    }

    /// Closes every connection to `peer`.
    pub(crate) fn close_peer(&self, peer: &DeviceId, code: u32, reason: &str) {
        if let Some(peer) = self.peers().get_mut(peer) {
            for entry in peer.conns.drain(..) {
                entry.conn.close(code, reason);
            }
        }
    }

    /// Closes every connection to anybody.
    pub(crate) fn close_all(&self, code: u32, reason: &str) {
        for peer in self.peers().values_mut() {
            for entry in peer.conns.drain(..) {
                entry.conn.close(code, reason);
            }
        }
    }

    /// Closes connections that carried no link for `idle_max`; call it now and then.
    pub(crate) fn close_idle(&self, idle_max: Duration) {
        let now = Instant::now();
        self.peers().retain(|_, peer| {
            peer.links.retain(|_, link| link.shared.strong_count() > 0);
            peer.conns.retain(|e| e.conn.lost().is_none());
            if !peer.links.is_empty() {
                peer.idle_since = None;
                return true;
            }
            let since = *peer.idle_since.get_or_insert(now);
            if now - since >= idle_max {
                for entry in peer.conns.drain(..) {
                    entry.conn.close(code::DONE, "idle");
                }
            }
            !peer.conns.is_empty() || Arc::strong_count(&peer.dialling) > 1
        });
    }
}

/// Which of the two ends opened a connection.
fn dialler_of(local: DeviceId, conn: &Conn) -> DeviceId {
    match conn.side() {
        Side::Dialer => local,
        Side::Acceptor => conn.peer(),
    }
}
