//! Relay by a paired peer: this node as a ferry for others, and as a guest of ferries.
//!
//! Both ends are connections of ALPN [`ALPN_FERRY`](crate::carrier::ALPN_FERRY), apart from links: they carry packets of other
//! connections, and questions about them. What is said on them is in [`honeylink_core::ferry`]; how iroh comes to send packets
//! there, in [`crate::carrier::ferry`].
//!
//! A guest keeps such a connection to each device of its setting `node.relay_peers`, and asks there for a device that it
//! cannot reach otherwise, or not soon ([`guest`]). A ferry needs no setting: whoever has the grant `relay` is carried
//! ([`host`]).

mod guest;
mod host;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::ferry::talk::{Refusal, Talk};
use honeylink_core::ferry::{Desk, Rates};
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::FERRIES_MAX;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;

use super::{Carriers, Inner, Node, Reach};
use crate::carrier::ferry::{FerriedCounts, is_roomy};
use crate::carrier::quic::QuicCarrier;
use crate::carrier::{Conn, RecvStream, SendStream};

/// How often a new connection is asked whether packets fit by now: QUIC finds out in a few round trips.
const ROOM_EVERY: Duration = Duration::from_millis(50);

/// What a ferry does and did, since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FerryReport {
    /// Devices that may have packets carried and are connected for that.
    pub guests: usize,
    /// Pairs of them that packets are carried between.
    pub crossings: usize,
    /// Times a guest asked for another.
    pub asked: u64,
    /// Times both agreed.
    pub agreed: u64,
    /// Packets carried.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that were not carried: for nobody, or not agreed on.
    pub dropped_nowhere: u64,
    /// Packets beyond a guest's share, or beyond what this node carries.
    pub dropped_rate: u64,
    /// Packets that the connection to the other guest did not take.
    pub dropped_full: u64,
    /// What others carried for this node.
    pub ferried: FerriedCounts,
}

/// A device that is to carry packets for this one, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayPeer {
    /// As the setting names it.
    pub name: String,
    /// Which it is, if that is known.
    pub id: Option<DeviceId>,
    /// Whether it can be asked to carry.
    pub connected: bool,
    /// Devices reached through it now.
    pub crossings: usize,
    /// What is wrong, for people.
    pub problem: Option<String>,
}

/// The node's part in this.
#[derive(Debug)]
pub(crate) struct FerryHub {
    desk: Mutex<Desk>,
    /// The connections of those that this node carries for.
    guests: Mutex<BTreeMap<DeviceId, Conn>>,
    dropped_full: std::sync::atomic::AtomicU64,
    /// Those that are to carry for this node.
    relay_peers: Vec<String>,
    states: Mutex<BTreeMap<String, State>>,
    /// Something about them changed.
    changed: Notify,
}

/// How one of the relay peers does.
#[derive(Clone, Debug, Default)]
struct State {
    id: Option<DeviceId>,
    connected: bool,
    problem: Option<String>,
}

impl FerryHub {
    pub(super) fn new(relay_peers: Vec<String>) -> Self {
        Self {
            desk: Mutex::new(Desk::new(Rates::default())),
            guests: Mutex::default(),
            dropped_full: std::sync::atomic::AtomicU64::new(0),
            relay_peers,
            states: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guests(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Conn>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this node has not found out yet if each of those that are to carry for it can be asked.
    fn has_untried(&self) -> bool {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        self.relay_peers.iter().take(FERRIES_MAX).any(|name| !states.contains_key(name))
    }

    fn note(&self, name: &str, state: State) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(problem) = &state.problem
            && states.get(name).and_then(|before| before.problem.as_ref()) != Some(problem)
        {
            tracing::info!(peer = name, problem, "a paired device does not relay");
        }
        states.insert(name.to_owned(), state);
        drop(states);
        self.changed.notify_waiters();
    }
}

impl Node {
    /// The devices that are to carry packets for this one ([`NodeBuilder::relay_peers`](super::NodeBuilder::relay_peers)),
    /// and how each does.
    #[must_use]
    pub fn relay_peers(&self) -> Vec<RelayPeer> {
        let hub = &self.inner.ferry;
        let states = hub.states.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let peer = |name: &String| {
            let State { id, connected, problem } = states.get(name).cloned().unwrap_or_default();
            let quic = self.inner.carried();
            let crossings = quic.zip(id).map_or(0, |(quic, id)| quic.ferries().crossings(&id));
            RelayPeer { name: name.clone(), id, connected, crossings, problem }
        };
        hub.relay_peers.iter().map(peer).collect()
    }

    /// Waits until one of [`Node::relay_peers`] may do otherwise than before.
    pub async fn relay_peers_changed(&self) {
        self.inner.ferry.changed.notified().await;
    }

    /// What this node carries for others, and others for it.
    #[must_use]
    pub fn ferry(&self) -> FerryReport {
        let hub = &self.inner.ferry;
        let ferried = self.inner.carried().map(|quic| quic.ferries().counts()).unwrap_or_default();
        let desk = hub.desk();
        let counts = desk.counts();
        FerryReport {
            guests: desk.guests(),
            crossings: desk.crossings(),
            asked: counts.asked,
            agreed: counts.agreed,
            packets: counts.packets,
            bytes: counts.bytes,
            dropped_nowhere: counts.nowhere,
            dropped_rate: counts.over_guest + counts.over_all,
            dropped_full: hub.dropped_full.load(std::sync::atomic::Ordering::Relaxed),
            ferried,
        }
    }
}

impl Inner {
    /// The carrier, if packets may be carried by others on it.
    fn carried(&self) -> Option<&QuicCarrier> {
        match &self.carriers {
            Carriers::Quic(quic) if self.reach == Reach::Wide => Some(quic),
            Carriers::Quic(_) | Carriers::Memory(_) => None,
        }
    }
}

/// Waits until the smallest packet fits into a datagram of the connection, or for ever.
async fn until_roomy(conn: &Conn) {
    while !is_roomy(conn) {
        tokio::time::sleep(ROOM_EVERY).await;
    }
}

async fn say(send: &mut SendStream, talk: Talk) -> std::io::Result<()> {
    send.write_chunk(talk.to_bytes().freeze()).await?;
    send.finish().await
}

/// The next frame; what a refusal says if it cannot be read.
async fn hear(recv: &mut RecvStream) -> std::io::Result<Result<Talk, Refusal>> {
    let Ok(length) = Talk::body_len(recv.read_u8().await?) else { return Ok(Err(Refusal::Version)) };
    let mut body = vec![0; length];
    recv.read_exact(&mut body).await?;
    match Talk::from_body(&body) {
        Ok(talk) => Ok(Ok(talk)),
        Err(_) if Talk::is_other_version(&body) => Ok(Err(Refusal::Version)),
        Err(error) => Err(std::io::Error::other(error)),
    }
}
