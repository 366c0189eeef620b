//! [`Node`]: one device on the network. Owns the identity, the sockets, the trust store and every background task;
//! nothing of it outlives [`Node::shutdown`].

mod accept;
mod allowance;
mod builder;
mod callback;
mod candidates;
mod climb;
mod dial;
mod failover;
mod ferry;
mod listen;
mod mesh;
mod nat;
mod nearby;
mod pairing;
mod peers;
mod policies;
mod pool;
mod power;
mod reach;
mod relays;
mod stats;
mod target;
mod ways;
mod wide;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use honeylink_core::identity::{DeviceId, DeviceType};
use honeylink_core::rng::Rng;
use honeylink_core::session::{Config as SessionConfig, Role, State};
use honeylink_core::wire::link::{CloseCode, SessionId, is_protocol_name};
use honeylink_core::wire::relay::RelayAddr;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::allowance::Work;
pub use self::builder::{BuildError, NodeBuilder};
pub use self::callback::{CallBackCounts, CallBackError, Called, CalledBack, Outcome, Refusal};
pub use self::ferry::{FerryReport, RelayPeer};
pub use self::listen::Listener;
pub use self::pairing::{FetchStream, JoinError, PairingEvent, PairingOpening, PairingOptions};
pub use self::policies::{LinkPolicy, Steered};
use self::pool::Pool;
pub use self::reach::Reach;
pub use self::stats::{
    DURATION_EDGES_MS, Durations, HeldBack, LinkTotals, NodeStats, StreamTotals, TcpTraffic, Traffic,
};
pub use self::target::{ConnectError, InvalidTicket, ListenError, Target, Ticket};
pub use self::ways::{WayChanged, Ways};
pub use crate::carrier::ferry::FerriedCounts;
use crate::carrier::memory::MemoryNetwork;
use crate::carrier::quic::QuicCarrier;
use crate::carrier::tcp::TcpCarrier;
use crate::carrier::{Conn, PathReport, code};
use crate::clock::Clock;
use crate::discovery::{Device, Discovery, Subscription};
use crate::link::Link;
use crate::link::driver::drive_initiator;
use crate::link::shared::LinkShared;
use crate::store::Store;
use crate::store::audit::AuditLog;
use crate::store::home::{Home, HomeLayout};

/// A connection without links is closed after this long.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often idle connections are looked for and sightings are written to the store.
const HOUSEKEEPING: Duration = Duration::from_secs(20);
/// How long each phase of a shutdown may take.
const SHUTDOWN_PHASE_MAX: Duration = Duration::from_secs(5);

/// The ways this node moves bytes.
#[derive(Debug)]
enum Carriers {
    Quic(QuicCarrier),
    Memory(MemoryNetwork),
}

/// One device. Clones are the same node.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    id: DeviceId,
    name: Mutex<String>,
    device_type: DeviceType,
    reach: Reach,
    session: SessionConfig,
    clock: Clock,
    rng: Mutex<Rng>,
    carriers: Carriers,
    /// For the mesh, where QUIC does not get through.
    tcp: Option<TcpCarrier>,
    store: Arc<Store>,
    /// Holds the folder's lock for as long as the node lives.
    home: Option<Home>,
    audit: Option<AuditLog>,
    rejections: Mutex<peers::RejectionWindow>,
    pool: Pool,
    /// Which way the bytes to each peer go.
    way_book: ways::WayBook,
    nat: nat::NatDesk,
    call_backs: callback::CallBackDesk,
    /// Carries packets for others, and knows who carries for this node.
    ferry: ferry::FerryHub,
    /// Given by hand or by ticket.
    manual: Mutex<BTreeMap<DeviceId, Whereabouts>>,
    listeners: listen::Listeners,
    discovery: Option<Discovery>,
    pairing: Arc<pairing::PairingHub>,
    /// If this node takes part in the mesh.
    mesh: Option<Arc<crate::mesh::Shared>>,
    /// Room for connections of devices that are not paired.
    strangers: Arc<Semaphore>,
    meter: stats::Meter,
    allowances: allowance::Allowances,
    /// Its part in the DHT.
    wide: wide::WideDesk,
    tasks: TaskTracker,
    /// No new work.
    stop: CancellationToken,
    /// Links and sockets are closed: what still runs ends.
    over: CancellationToken,
}

/// Where a device may be, as somebody said.
#[derive(Debug, Default)]
struct Whereabouts {
    addrs: Vec<SocketAddr>,
    relays: Vec<RelayAddr>,
}

/// A peer that is connected now.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectedPeer {
    /// Its identity.
    pub id: DeviceId,
    /// The paths of its connection, the selected one first.
    pub paths: Vec<PathReport>,
}

/// How a shutdown went: what each phase could not finish in its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Links that closed without knowing that everything arrived, with the reason.
    pub undelivered: Vec<String>,
    /// Background tasks that did not end in time.
    pub stuck_tasks: usize,
    /// The store could not write its last changes.
    pub not_persisted: Option<String>,
}

impl Node {
    /// Starts to describe a node.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// This device's identity.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.inner.id
    }

    /// The name others see.
    #[must_use]
    pub fn name(&self) -> String {
        self.inner.own_name()
    }

    /// Changes the name others see, from now on.
    ///
    /// # Errors
    /// [`BuildError::InvalidSetting`] if the name cannot be used.
    pub fn set_name(&self, name: &str) -> Result<(), BuildError> {
        builder::check_name(name)?;
        self.inner.name.lock().unwrap_or_else(PoisonError::into_inner).replace_range(.., name);
        if let Some(discovery) = &self.inner.discovery {
            discovery.announce(|announcement| name.clone_into(&mut announcement.txt.name));
        }
        Ok(())
    }

    /// What kind of machine this device says it is.
    #[must_use]
    pub fn device_type(&self) -> DeviceType {
        self.inner.device_type
    }

    /// How far this node's packets may go.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.inner.reach
    }

    /// The addresses of this node's sockets, as bound.
    #[must_use]
    pub fn bound_addrs(&self) -> Vec<SocketAddr> {
        match &self.inner.carriers {
            Carriers::Quic(quic) => quic.bound(),
            Carriers::Memory(_) => Vec::new(),
        }
    }

    /// The trust store and everything else this node remembers.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    /// The folder that holds everything of this device, if it has one.
    #[must_use]
    pub fn home(&self) -> Option<&HomeLayout> {
        self.inner.home.as_ref().map(Home::layout)
    }

    /// A ticket with which another device finds this one: its id, addresses and relays. It grants nothing.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        let relays = self.inner.own_relays().to_vec();
        Ticket { id: self.id(), addrs: self.inner.own_addrs(), relays }
    }

    /// Who is around: a snapshot, then what changes. `None` if discovery is off or the carrier has none.
    #[must_use]
    pub fn nearby(&self) -> Option<Subscription> {
        self.inner.discovery.as_ref().map(Discovery::events)
    }

    /// Every device that is around now.
    #[must_use]
    pub fn nearby_now(&self) -> Vec<Device> {
        self.inner.discovery.as_ref().map(Discovery::snapshot).unwrap_or_default()
    }

    /// Remembers where a device can be reached, for as long as the node runs.
    pub fn add_address(&self, id: DeviceId, addr: SocketAddr) {
        self.inner.add_addresses(id, &[addr]);
    }

    /// Opens a link to a peer for `protocol` and waits until it is active.
    ///
    /// The peer may be named by id, by id prefix, by name or by ticket; it must be paired.
    ///
    /// # Errors
    /// [`ConnectError`] says which step failed and what would help.
    pub async fn connect(&self, target: impl Into<Target>, protocol: &str) -> Result<Link, ConnectError> {
        let inner = &self.inner;
        if !is_protocol_name(protocol) {
            return Err(ConnectError::InvalidProtocol(protocol.to_owned()));
        }
        let peer = inner.resolve(target.into())?;
        let id = SessionId(inner.random());
        let shared = Arc::new(LinkShared::new(
            peer,
            protocol.to_owned(),
            id,
            Role::Initiator,
            inner.session.clone(),
            inner.clock,
        ));
        inner.pool.insert_link(&shared, None).map_err(|_| ConnectError::TooManyLinks)?;
        // Asked after the link is in the pool: a shutdown that began in between finds it there.
        if inner.stop.is_cancelled() {
            inner.pool.remove_link(&peer, &id);
            return Err(ConnectError::Stopped);
        }
        let driver = drive_initiator(shared.clone(), inner.clone(), inner.clock);
        inner.spawn_link(shared.clone(), driver);
        // Held from here on: if the caller gives up waiting, the session closes with it.
        let link = Link::new(shared.clone());
        let mut state = shared.watch_state();
        // The sender lives in `shared`, so waiting cannot fail.
        let _ = state.wait_for(|s| matches!(s, State::Active | State::Closed)).await;
        if link.state() == State::Closed {
            return Err(ConnectError::from_closed(&shared));
        }
        inner.audit_session(&link);
        Ok(link)
    }

    /// Accepts links for `protocol` from paired peers, until the listener is dropped.
    ///
    /// # Errors
    /// [`ListenError`] if the name is unusable or somebody listens already.
    pub fn listen(&self, protocol: &str) -> Result<Listener, ListenError> {
        self.inner.listeners.register(protocol)
    }

    /// The paired device that is meant.
    ///
    /// # Errors
    /// [`ConnectError`] if the name fits no device or several, or the device is not paired.
    pub fn resolve(&self, target: impl Into<Target>) -> Result<DeviceId, ConnectError> {
        self.inner.resolve(target.into())
    }

    /// Runs a task that the node owns: it is cancelled when the node has shut down.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let over = self.inner.over.clone();
        self.inner.tasks.spawn(async move { over.run_until_cancelled(task).await });
    }

    /// Runs a short task that a shutdown waits for instead of cancelling it.
    pub(crate) fn spawn_to_its_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(task);
    }

    /// Writes a line of the audit log, if this node keeps one.
    pub(crate) fn audit(&self, event: &crate::store::audit::AuditEvent<'_>) {
        self.inner.audit(event);
    }

    /// Waits until a device may have more of this done here.
    pub(crate) async fn allow(&self, peer: DeviceId, work: Work) {
        self.inner.allowances.take(peer, work).await;
    }

    /// A random id for a message or a transfer.
    pub(crate) fn random_id(&self) -> [u8; 16] {
        self.inner.random()
    }

    /// Whether there is a live connection to a device.
    pub(crate) fn is_connected(&self, peer: &DeviceId) -> bool {
        self.inner.pool.current(peer).is_some()
    }

    /// A random name for a mesh message.
    pub(crate) fn random_name(&self) -> u64 {
        u64::from_be_bytes(self.inner.random())
    }

    /// Who is paired changed behind the node's back: tests do that.
    pub(crate) fn look_at_peers(&self) {
        self.inner.mesh_look();
        self.inner.wide.look();
    }

    /// What finds others for this node, if anything does.
    #[cfg(feature = "testing")]
    pub(crate) fn discovery(&self) -> Option<&Discovery> {
        self.inner.discovery.as_ref()
    }

    /// Cancelled when the node is over.
    #[cfg(feature = "testing")]
    pub(crate) fn over(&self) -> CancellationToken {
        self.inner.over.clone()
    }

    /// Ends the node as a power cut would: no goodbye, nothing flushed. What is left is waited for in the future returned.
    #[cfg(feature = "testing")]
    pub(crate) fn crash(&self) -> impl Future<Output = ()> + Send + 'static {
        let inner = self.inner.clone();
        inner.stop.cancel();
        inner.listeners.close();
        inner.over.cancel();
        inner.pool.close_all(code::SHUTDOWN, "crashed");
        inner.tasks.close();
        async move {
            match &inner.carriers {
                Carriers::Quic(quic) => quic.close().await,
                Carriers::Memory(network) => network.detach(inner.id),
            }
            inner.wide.close().await;
            inner.tasks.wait().await;
        }
    }

    /// The peers with a live connection.
    #[must_use]
    pub fn connected(&self) -> Vec<ConnectedPeer> {
        let connected = self.inner.pool.connected();
        connected.into_iter().map(|(id, conn)| ConnectedPeer { id, paths: conn.paths() }).collect()
    }

    /// Closes every connection to a device: what follows a `forget` or `revoke`.
    pub fn disconnect(&self, id: &DeviceId, reason: &str) {
        self.inner.pool.close_peer(id, code::NOT_PAIRED, reason);
    }

    /// Ends the node: links close and deliver what they hold, then sockets, then the store. Each phase is bounded in
    /// time; what did not finish is in the report.
    pub async fn shutdown(&self) -> ShutdownReport {
        self.inner.shutdown().await
    }
}

impl Inner {
    fn own_name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Random bytes from the node's generator, which the system seeded.
    fn random<const N: usize>(&self) -> [u8; N] {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).bytes()
    }

    fn add_addresses(&self, id: DeviceId, addrs: &[SocketAddr]) {
        let mut manual = self.manual.lock().unwrap_or_else(PoisonError::into_inner);
        let known = &mut manual.entry(id).or_default().addrs;
        for addr in addrs {
            if !known.contains(addr) && known.len() < honeylink_core::limits::ADDRESSES_PER_DEVICE_MAX {
                known.push(*addr);
            }
        }
        drop(manual);
        self.mesh_seen(&id);
    }

    /// Runs a link's driver until the node is over, and forgets the link when it ends.
    fn spawn_link(
        self: &Arc<Self>,
        shared: Arc<LinkShared>,
        driver: impl Future<Output = ()> + Send + 'static,
    ) {
        let inner = self.clone();
        self.tasks.spawn(async move {
            if inner.over.run_until_cancelled(driver).await.is_none() {
                shared.abandon(CloseCode::Shutdown, "shutting down");
            }
            inner.meter.link_ended(&shared.stats());
            inner.pool.remove_link(&shared.peer(), &shared.id());
        });
    }

    async fn shutdown(&self) -> ShutdownReport {
        let mut report = ShutdownReport::default();
        // Draining: no new work, and what was accepted goes out.
        self.stop.cancel();
        self.listeners.close();
        let links = self.pool.links();
        let closing = links.iter().map(|link| close_in_time(link));
        report.undelivered = futures_util::future::join_all(closing).await.into_iter().flatten().collect();
        if let Some(discovery) = &self.discovery {
            discovery.shutdown().await;
        }
        // Persisting.
        let store = self.store.clone();
        if let Err(error) = on_disk(move || store.trust().flush()).await {
            report.not_persisted = Some(error.to_string());
        }
        // Cleanup.
        self.pool.close_all(code::SHUTDOWN, "shutting down");
        match &self.carriers {
            Carriers::Quic(quic) => {
                // What is left after the time-out is packets nobody waits for.
                let _ = tokio::time::timeout(SHUTDOWN_PHASE_MAX, quic.close()).await;
            }
            Carriers::Memory(network) => network.detach(self.id),
        }
        self.over.cancel();
        self.tasks.close();
        if tokio::time::timeout(SHUTDOWN_PHASE_MAX, self.tasks.wait()).await.is_err() {
            report.stuck_tasks = self.tasks.len();
        }
        // Last, because a code that was open is taken back there.
        self.wide.close().await;
        report
    }

    /// Notes a live connection and serves what the peer opens on it.
    fn adopt(self: &Arc<Self>, conn: Conn) {
        self.pool.insert(conn.clone());
        // Asked once more: whoever forgets or revokes a device closes what is in the pool, and this connection was
        // still on its way into it when its peer was looked up.
        if !self.store.trust().is_trusted(&conn.peer()) {
            conn.close(code::NOT_PAIRED, "not paired with this device any more");
            self.pool.remove_lost(&conn.peer());
            return;
        }
        self.remember_address(&conn);
        self.mesh_seen(&conn.peer());
        let (inner, telling) = (self.clone(), conn.clone());
        self.tasks.spawn(async move {
            if let Err(lost) = inner.tell_relays(&telling).await {
                tracing::debug!(%lost, "the peer was not told where this device is reached");
            }
        });
        let inner = self.clone();
        self.tasks.spawn(async move { accept::serve(&inner, conn).await });
    }

    /// Notes where a paired device is: there it is looked for first when nothing announces it.
    fn remember_address(&self, conn: &Conn) {
        if let Some(addr) = conn.remote_addr() {
            self.store.trust().connected(&conn.peer(), addr, crate::clock::unix_ms());
        }
    }

    /// Looks after idle connections and unwritten sightings until the node stops.
    async fn housekeeping(self: Arc<Self>) {
        while tokio::time::timeout(HOUSEKEEPING, self.stop.cancelled()).await.is_err() {
            self.pool.close_idle(IDLE_MAX);
            let store = self.store.clone();
            if let Err(error) = on_disk(move || store.trust().flush()).await {
                tracing::warn!(%error, "sightings of peers could not be written; they stay in memory");
            }
        }
    }
}

/// Closes a link within a phase of the shutdown; what of it is not known to have arrived, if anything.
async fn close_in_time(link: &LinkShared) -> Option<String> {
    let closing = link.close(CloseCode::Shutdown, "shutting down");
    let closed = match tokio::time::timeout(SHUTDOWN_PHASE_MAX, closing).await {
        Ok(closed) => closed,
        Err(_) => {
            link.abandon(CloseCode::Shutdown, "shutting down");
            link.close(CloseCode::Shutdown, "shutting down").await
        }
    };
    closed.err().map(|error| error.to_string())
}

/// Runs what waits for the disk where waiting is allowed.
pub(crate) async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // A simulated disk needs no waiting, and which of two threads is first would not repeat.
    #[cfg(feature = "testing")]
    if crate::testing::virtual_time::is_running() {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // Blocking work is never cancelled, so it panicked, and its panic is ours.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
