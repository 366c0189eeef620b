//! Which way the bytes to each peer go: watches their connections and keeps what changed and why.
//!
//! What a change means is decided in [`honeylink_core::paths`]; this is where the carriers are asked and where wall time
//! is added for people.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::paths::{Cause, Change, Counts, Hindrance, Paths, Way};
use honeylink_core::time::Time;
use tokio::sync::broadcast;

use super::climb::Climb;
use super::{Carriers, Inner, Node, Reach};
use crate::carrier::{Conn, PathReport, Rung};
use crate::clock::unix_ms;

/// How long after its direct path failed a link that gets another may have something stuck on the relay.
const FAILED_LATELY: Duration = Duration::from_secs(10);
/// Changes that a slow listener may be behind before it is told that it missed some.
const BEHIND_MAX: usize = 64;

/// A change of the way to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WayChanged {
    /// To whom.
    pub peer: DeviceId,
    /// When, by the wall clock, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// What changed.
    pub change: Change,
    /// Why the way is the one from then on, as a clause for people; `None` if there is no way.
    pub reason: Option<String>,
}

/// The ways to a peer, as they are now and as they were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ways {
    /// The way in use.
    pub used: Option<Way>,
    /// Why it is the one, as a clause for people.
    pub reason: Option<String>,
    /// Other ways there are now, the best first.
    pub others: Vec<Way>,
    /// The latest changes, the oldest first.
    pub history: Vec<WayChanged>,
    /// How often each cause was, in the order of [`Cause::ALL`](honeylink_core::paths::Cause::ALL).
    pub counts: Counts,
}

/// The ways to every peer that was connected since the node started and is still paired.
#[derive(Debug)]
pub(crate) struct WayBook {
    peers: Mutex<BTreeMap<DeviceId, Paths>>,
    changes: broadcast::Sender<WayChanged>,
}

impl Default for WayBook {
    fn default() -> Self {
        Self { peers: Mutex::default(), changes: broadcast::Sender::new(BEHIND_MAX) }
    }
}

impl WayBook {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Paths>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a device that is not paired any more.
    pub(super) fn forget(&self, peer: &DeviceId) {
        self.peers().remove(peer);
    }
}

impl Node {
    /// The ways to a peer: the one in use and why, others, and what changed since the node started.
    #[must_use]
    pub fn ways(&self, peer: &DeviceId) -> Ways {
        self.inner.note_ways(peer);
        self.inner.ways(peer)
    }

    /// Every change of a way to any peer, from now on.
    #[must_use]
    pub fn way_changes(&self) -> broadcast::Receiver<WayChanged> {
        self.inner.way_book.changes.subscribe()
    }
}

impl Inner {
    /// Watches a connection until it is gone.
    pub(super) async fn watch_ways(self: &Arc<Self>, conn: &Conn) {
        let mut events = conn.path_events();
        let mut climb = Climb::default();
        loop {
            self.note_ways(&conn.peer());
            let (ways, used) = (conn.paths(), conn.far_end());
            let relayed = !ways.is_empty() && ways.iter().all(|way| way.rung == Rung::Relayed);
            let gone = match climb.pause(relayed) {
                None => events.next().await,
                Some(pause) => match tokio::time::timeout(pause, events.next()).await {
                    Ok(gone) => gone,
                    Err(_) => {
                        climb.tried();
                        if let Carriers::Quic(quic) = &self.carriers {
                            quic.look_for_ways().await;
                        }
                        None
                    }
                },
            };
            // Also when another path to the same address takes its place, which is no change of the way.
            if gone.is_some() && gone == used && conn.lost().is_none() {
                self.renew_links(&conn.peer());
            }
        }
    }

    /// Lets every link with a peer go on by another stream: what was under way on the path that is gone would else be sent
    /// again only when QUIC forgets that path.
    fn renew_links(&self, peer: &DeviceId) {
        for link in self.pool.links_of(peer) {
            link.renew();
        }
    }

    /// Looks which ways there are to a peer now.
    pub(super) fn note_ways(&self, peer: &DeviceId) {
        let conn = self.pool.current(peer);
        let mut paths = conn.as_ref().map(Conn::paths).unwrap_or_default();
        // A connection whose path is just being replaced has none that is selected: the one before it still counts.
        let in_transit = conn.is_some() && !paths.iter().any(|path| path.selected);
        let at = paths.iter().position(|path| path.selected);
        let used = at.map(|at| way(&paths.swap_remove(at)));
        let now = self.clock.now();
        let mut peers = self.way_book.peers();
        if used.is_none() && (in_transit || !peers.contains_key(peer)) {
            return;
        }
        if used.is_some() && !self.store.trust().is_trusted(peer) {
            return;
        }
        let known = peers.entry(*peer).or_default();
        let Some(change) = known.observe(now, used, paths.iter().map(way)).cloned() else { return };
        let reason = known.reason(self.hindrance(peer)).map(|reason| reason.to_string());
        let before = known.history().len().checked_sub(2).and_then(|at| known.history().nth(at));
        let stuck = leaves_stuck(&change, before);
        drop(peers);
        let to = change.to.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::info!(peer = %peer.short(), cause = change.cause.as_str(), to, "way changed");
        if stuck {
            self.renew_links(peer);
        }
        // Nobody listening is fine.
        let _ = self.way_book.changes.send(WayChanged { peer: *peer, at_unix_ms: unix_ms(), change, reason });
    }

    fn ways(&self, peer: &DeviceId) -> Ways {
        let (now, wall) = (self.clock.now(), unix_ms());
        let peers = self.way_book.peers();
        let Some(known) = peers.get(peer) else { return Ways::default() };
        let reason = |paths: &Paths| paths.reason(self.hindrance(peer)).map(|reason| reason.to_string());
        let last = known.history().len();
        let history = known.history().enumerate().map(|(at, change)| WayChanged {
            peer: *peer,
            at_unix_ms: wall_of(wall, now, change.at),
            change: change.clone(),
            // What else there was is known for the last one only.
            reason: (at + 1 == last).then(|| reason(known)).flatten(),
        });
        Ways {
            used: known.used().cloned(),
            reason: reason(known),
            others: known.others().to_vec(),
            history: history.collect(),
            counts: *known.counts(),
        }
    }

    /// What keeps this node from better ways, as far as its settings and attempts tell.
    fn hindrance(&self, peer: &DeviceId) -> Option<Hindrance> {
        match self.reach {
            Reach::Loopback | Reach::Lan => Some(Hindrance::KeepsToLan),
            Reach::Wide => self.nat.hindrance(peer).or_else(|| {
                let alone = self.own_relays().is_empty() && !self.may_cross(peer);
                alone.then_some(Hindrance::NoRelay)
            }),
        }
    }
}

/// Whether a change may have left something behind on a path that is gone, or on one that was not there yet: a device that
/// moves reaches its relay again some time after it lost the direct path, and QUIC waits twice as long after each try.
fn leaves_stuck(change: &Change, before: Option<&Change>) -> bool {
    // One of two equal ways that was closed for the other may look like one that died, to who looks late.
    let fell = |change: &Change| {
        let rungs = (change.from.as_ref().map(|way| way.rung), change.to.as_ref().map(|way| way.rung));
        change.cause == Cause::Failed && rungs.0 < rungs.1
    };
    let lately = |before: &Change| change.at.saturating_since(before.at) < FAILED_LATELY;
    fell(change)
        || change.cause == Cause::Climbed && before.is_some_and(|before| fell(before) && lately(before))
}

/// When something that happened at `at` was by the wall clock, which says `wall` now.
fn wall_of(wall: u64, now: Time, at: Time) -> u64 {
    let ago = u64::try_from(now.saturating_since(at).as_millis()).unwrap_or(u64::MAX);
    wall.saturating_sub(ago)
}

fn way(path: &PathReport) -> Way {
    Way {
        rung: path.rung,
        carrier: path.carrier,
        remote: path.remote.clone(),
        rtt: (path.rtt > Duration::ZERO).then_some(path.rtt),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    async fn node(name: &str) -> Node {
        Node::builder().name(name).reach(Reach::Loopback).discovery(false).build().await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_under_way_when_a_path_dies_arrives_once_and_in_order_by_another_stream() {
        let (a, b) = (node("a").await, node("b").await);
        crate::testing::introduce(&a, &b).unwrap();
        let mut listener = b.listen("count/1").unwrap();
        let link = a.connect(b.id(), "count/1").await.unwrap();
        let theirs = listener.accept().await.unwrap();
        let pings = async {
            while link.stats().resumes < 4 {
                link.ping(PATIENCE).await.unwrap();
            }
        };
        let says = async {
            let mut said = 0_u32;
            while link.stats().resumes < 4 {
                // As often as it is told, once in a while another stream is taken.
                a.inner.renew_links(&b.id());
                link.send(said.to_be_bytes().to_vec()).await.unwrap();
                said += 1;
            }
            link.send(b"end".to_vec()).await.unwrap();
            said
        };
        let hears = async {
            let mut heard = 0_u32;
            loop {
                let message = theirs.recv().await.unwrap();
                if message[..] == *b"end" {
                    return heard;
                }
                assert_eq!(message[..], heard.to_be_bytes());
                heard += 1;
            }
        };
        let all = async { tokio::join!(pings, says, hears) };
        let ((), said, heard) = tokio::time::timeout(PATIENCE, all).await.unwrap();
        assert_eq!(said, heard);
        a.shutdown().await;
        b.shutdown().await;
    }
}
