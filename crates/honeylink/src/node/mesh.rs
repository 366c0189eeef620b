//! Connections of the mesh: to every paired device that is around, one each, dialled again when they end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::MESH_SERVICES_MAX;
use honeylink_core::mesh::control::{Hello, MESH_VERSION};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Inner, Node};
use crate::carrier::tcp::Driver;
use crate::carrier::{ALPN_MESH, Conn, ConnLost, code};
use crate::mesh::{Line, MeshHandle, Shared};

/// Devices dialled at the same time.
const DIALS_MAX: usize = 4;
/// The pause after a connection that failed, at first and at most; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// See [`PAUSE_MIN`].
const PAUSE_MAX: Duration = Duration::from_secs(120);
/// The pause after a device said that it does not want to be dialled.
const REFUSED_PAUSE: Duration = Duration::from_secs(600);
/// How often the list of paired devices is looked at when nobody says that it changed.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// When a device is dialled next.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    at: Instant,
    pause: Duration,
    dialling: bool,
}

/// Why a device could not be dialled, as far as it decides when it is dialled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    Refused,
    Otherwise,
}

impl Node {
    /// The mesh, if this node takes part in it.
    #[must_use]
    pub fn mesh(&self) -> Option<MeshHandle> {
        let shared = self.inner.mesh.clone()?;
        Some(MeshHandle::new(self.clone(), shared))
    }
}

impl Inner {
    /// What this end of a mesh connection says first.
    fn mesh_hello(&self, shared: &Shared) -> Hello {
        let mut services = self.listeners.names();
        services.truncate(MESH_SERVICES_MAX);
        Hello {
            version_min: MESH_VERSION,
            version_max: MESH_VERSION,
            caps: shared.caps,
            services,
            name: self.own_name(),
            key_package: None,
            seq: shared.next_number.load(Ordering::Relaxed),
        }
    }

    /// A paired device opened a mesh connection.
    pub(super) fn mesh_arrived(self: &Arc<Self>, conn: Conn) {
        let Some(shared) = self.mesh.clone() else {
            conn.close(code::MESH_OFF, "this device takes no part in the mesh");
            return;
        };
        self.remember_address(&conn);
        let hello = self.mesh_hello(&shared);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let served = async {
                match Line::open(&shared, conn, hello).await {
                    Ok(line) => line.run(&shared).await,
                    Err(error) => tracing::debug!(%error, "a mesh connection did not become a port"),
                }
            };
            stop.run_until_cancelled(served).await;
        });
    }

    /// A device was seen nearby or has a connection: the mesh need not wait any longer before it dials.
    pub(super) fn mesh_seen(&self, peer: &DeviceId) {
        if let Some(mesh) = self.mesh.as_ref().filter(|_| self.store.trust().is_trusted(peer)) {
            mesh.seen(*peer);
        }
    }

    /// Who is paired changed.
    pub(super) fn mesh_look(&self) {
        if let Some(mesh) = &self.mesh {
            mesh.changed.notify_one();
        }
    }

    /// Keeps the mesh's connections until the node stops.
    pub(super) async fn keep_mesh(self: Arc<Self>, shared: Arc<Shared>) {
        let mut attempts: BTreeMap<DeviceId, Attempt> = BTreeMap::new();
        let mut dials = JoinSet::new();
        loop {
            self.mesh_peers(&shared, &mut attempts).await;
            let now = Instant::now();
            for peer in shared.take_seen() {
                if let Some(attempt) = attempts.get_mut(&peer) {
                    attempt.at = now;
                }
            }
            let mut wake_at = now + LOOK_EVERY;
            for (peer, attempt) in &mut attempts {
                if attempt.dialling || shared.is_up(peer) {
                    continue;
                }
                if attempt.at <= now && dials.len() < DIALS_MAX {
                    attempt.dialling = true;
                    let (inner, shared, peer) = (self.clone(), shared.clone(), *peer);
                    dials.spawn(async move { (peer, inner.dial_mesh(peer, &shared).await) });
                } else if attempt.at > now {
                    wake_at = wake_at.min(attempt.at);
                }
            }
            tokio::select! {
                biased;
                Some(done) = dials.join_next() => {
                    if let Ok((peer, outcome)) = done
                        && let Some(attempt) = attempts.get_mut(&peer)
                    {
                        attempt.note(outcome);
                    }
                }
                () = shared.changed.notified() => {}
                () = tokio::time::sleep_until(wake_at) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Brings the list of devices up to date with the trust store, and tells the mesh.
    async fn mesh_peers(&self, shared: &Shared, attempts: &mut BTreeMap<DeviceId, Attempt>) {
        let peers = self.store.trust().list();
        let paired: BTreeSet<DeviceId> =
            peers.into_iter().filter(|peer| peer.trust.is_trusted()).map(|peer| peer.id).collect();
        let gone: Vec<DeviceId> = attempts.keys().filter(|known| !paired.contains(known)).copied().collect();
        for known in gone {
            attempts.remove(&known);
            shared.forget(known).await;
        }
        for peer in paired {
            if let std::collections::btree_map::Entry::Vacant(place) = attempts.entry(peer) {
                place.insert(Attempt { at: Instant::now(), pause: PAUSE_MIN, dialling: false });
                shared.know(peer).await;
            }
        }
    }

    /// Dials a device and makes the connection a port, which then serves itself.
    async fn dial_mesh(self: Arc<Self>, peer: DeviceId, shared: &Arc<Shared>) -> Result<(), Failed> {
        let conn = match self.dial_alpn(peer, ALPN_MESH).await {
            Ok(conn) => conn,
            Err(lost) => self.dial_tcp(peer, lost).await.map_err(|lost| failed(&lost))?,
        };
        let line = Line::open(shared, conn.clone(), self.mesh_hello(shared)).await;
        let line = line.map_err(|error| {
            tracing::debug!(peer = %peer.short(), %error, "no mesh connection");
            conn.lost().map_or(Failed::Otherwise, |lost| failed(&lost))
        })?;
        self.remember_address(&conn);
        let (shared, stop) = (shared.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            stop.run_until_cancelled(line.run(&shared)).await;
        });
        Ok(())
    }
}

impl Inner {
    /// Dials a device by TCP that QUIC did not get through to; if that does not work either, why QUIC did not.
    async fn dial_tcp(self: &Arc<Self>, peer: DeviceId, lost: ConnLost) -> Result<Conn, ConnLost> {
        let Some(tcp) = self.tcp.as_ref().filter(|_| failed(&lost) != Failed::Refused) else {
            return Err(lost);
        };
        match tcp.connect(peer, &self.addresses(&peer)).await {
            Ok((conn, driver)) => {
                self.drive(driver);
                Ok(Conn::Tcp(conn))
            }
            Err(error) => {
                tracing::debug!(peer = %peer.short(), %error, "no TCP connection either");
                Err(lost)
            }
        }
    }

    /// Moves the bytes of a TCP connection until it ends or the node is over.
    pub(super) fn drive(&self, driver: Driver) {
        let over = self.over.clone();
        self.tasks.spawn(async move { over.run_until_cancelled(driver.run()).await });
    }
}

impl Attempt {
    fn note(&mut self, outcome: Result<(), Failed>) {
        let now = Instant::now();
        self.dialling = false;
        match outcome {
            // When it ends, it is dialled again at once, and then with growing pauses.
            Ok(()) => (self.at, self.pause) = (now + PAUSE_MIN, PAUSE_MIN),
            Err(Failed::Refused) => self.at = now + REFUSED_PAUSE,
            Err(Failed::Otherwise) => {
                self.at = now + self.pause;
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

fn failed(lost: &ConnLost) -> Failed {
    match lost {
        ConnLost::ByPeer { code: said, .. }
            if [code::NOT_PAIRED, code::REVOKED, code::MESH_OFF].map(u64::from).contains(said) =>
        {
            Failed::Refused
        }
        ConnLost::ByPeer { .. } | ConnLost::ByUs | ConnLost::TimedOut | ConnLost::Transport(_) => {
            Failed::Otherwise
        }
    }
}
