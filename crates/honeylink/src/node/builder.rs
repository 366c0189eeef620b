//! [`NodeBuilder`]: what a node is made with.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use honeylink_core::identity::{DeviceId, DeviceType, SecretKey};
use honeylink_core::limits::{
    FERRIES_MAX, MESSAGE_BYTES_CEILING, NAME_BYTES_MAX, RELAYS_PER_DEVICE_MAX, STRANGER_CONNECTIONS_MAX,
};
use honeylink_core::rng::Rng;
use honeylink_core::session::Config as SessionConfig;
use honeylink_core::wire::relay::RelayAddr;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ferry::FerryHub;
use super::listen::Listeners;
use super::nat::NatDesk;
use super::pairing::PairingHub;
use super::pool::Pool;
use super::wide::WideDesk;
use super::{Carriers, Inner, Node, Reach, accept};
use crate::carrier::memory::MemoryNetwork;
use crate::carrier::quic::{BindError, QuicCarrier, Sockets};
use crate::carrier::tcp::{self, TcpCarrier};
use crate::carrier::{ALPN_FERRY, ALPN_LINK, ALPN_MESH, ALPN_PAIR, ALPN_PUNCH};
use crate::clock::Clock;
use crate::discovery::{
    Announcement, Capabilities, Config, Discovery, DiscoveryError, PairingHint, Scope, TxtRecord,
};
use crate::mesh::{MeshOptions, OpenRadioError, Start};
use crate::nat::observers::Observers;
use crate::nat::{NatOptions, ObserverSockets};
use crate::store::audit::AuditLog;
use crate::store::home::{Home, HomeLayout};
use crate::store::{OpenStoreError, Store};
#[cfg(feature = "testing")]
use crate::testing::network::Place;
use crate::wide::DhtOptions;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A setting has a value that cannot work.
    #[error("{setting}: {reason}")]
    InvalidSetting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The home folder cannot be used.
    #[error(transparent)]
    Home(#[from] crate::store::home::OpenHomeError),
    /// The identity file cannot be used.
    #[error(transparent)]
    Key(#[from] crate::store::key::KeyError),
    /// The durable state cannot be used.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
    /// A radio of the mesh cannot be used.
    #[error(transparent)]
    Radio(#[from] OpenRadioError),
    /// The sockets could not be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Discovery could not start.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Entropy(String),
}

/// Describes a node. Every setting has a default that is safe on a shared network.
#[derive(Debug, Default)]
pub struct NodeBuilder {
    home: Option<PathBuf>,
    key: Option<SecretKey>,
    name: Option<String>,
    device_type: DeviceType,
    reach: Reach,
    port: u16,
    relays: Vec<RelayAddr>,
    relay_only: bool,
    relay_peers: Vec<String>,
    pub(super) power: honeylink_core::paths::Power,
    memory: Option<MemoryNetwork>,
    session: SessionConfig,
    discovery: DiscoverySetting,
    seek: Seek,
    mesh: Option<MeshOptions>,
    nat: NatOptions,
    dht: Option<DhtOptions>,
    #[cfg(feature = "testing")]
    place: Option<Place>,
}

/// Numbers tried until one is free for UDP and for TCP.
const FREE_PORT_TRIES: u32 = 8;

/// Whether and how a node discovers others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum DiscoverySetting {
    /// Within the node's reach, on the standard port.
    #[default]
    On,
    /// Not at all: peers are reached by ticket or remembered address only.
    Off,
    /// On another multicast DNS port.
    Port(u16),
}

#[derive(Clone, Copy, Debug)]
struct Seek {
    broadcast: bool,
    scan: bool,
    port: u16,
}

impl Default for Seek {
    fn default() -> Self {
        Self { broadcast: true, scan: true, port: honeylink_core::knock::PORT }
    }
}

impl NodeBuilder {
    /// Keeps identity, trust and state in this folder, which one node at a time may use. Without it the node has a fresh identity and forgets everything.
    #[must_use]
    pub fn home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Uses this identity and keeps everything in memory: for tests and simulation. Ignored with [`NodeBuilder::home`].
    #[must_use]
    pub fn key(mut self, key: SecretKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The name others see; default is the host name. At most 63 bytes.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What kind of machine this says it is.
    #[must_use]
    pub fn device_type(mut self, device_type: DeviceType) -> Self {
        self.device_type = device_type;
        self
    }

    /// How far packets may go. Default: [`Reach::Lan`].
    #[must_use]
    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// The UDP port to listen on. Default: 0, any free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The relays through which this node is reached, at most four. Used only with [`Reach::Wide`]: no other node is told of
    /// them and none is contacted otherwise. Default: none.
    #[must_use]
    pub fn relays(mut self, relays: impl IntoIterator<Item = RelayAddr>) -> Self {
        self.relays = relays.into_iter().collect();
        self
    }

    /// Paired devices, by name or id, that carry this node's packets to devices which it cannot reach otherwise, as they
    /// granted it with `relay`; at most [`FERRIES_MAX`]. A connection is kept to each, so that others are carried to this
    /// node too. Used only with [`Reach::Wide`]. Default: none.
    #[must_use]
    pub fn relay_peers(mut self, peers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.relay_peers = peers.into_iter().map(Into::into).collect();
        self
    }

    /// Speaks through relays alone: no UDP port, no announcements, no device learns an address. Needs [`Reach::Wide`] and a relay.
    #[must_use]
    pub fn relay_only(mut self, on: bool) -> Self {
        self.relay_only = on;
        self
    }

    /// Uses an in-process network instead of sockets.
    #[must_use]
    pub fn memory(mut self, network: &MemoryNetwork) -> Self {
        self.memory = Some(network.clone());
        self
    }

    /// Whether to announce this device and look for others by multicast DNS. Default: yes, within the node's reach.
    #[must_use]
    pub fn discovery(mut self, on: bool) -> Self {
        self.discovery = if on { DiscoverySetting::On } else { DiscoverySetting::Off };
        self
    }

    /// Whether devices are also looked for by broadcast and at remembered addresses, for networks that drop multicast, and
    /// whether small private subnets may be asked address by address where nobody answers that. Default: both. Only with a
    /// reach beyond this machine.
    #[must_use]
    pub fn discovery_without_multicast(mut self, broadcast: bool, scan: bool) -> Self {
        (self.seek.broadcast, self.seek.scan) = (broadcast, scan);
        self
    }

    /// The UDP port of broadcasts and scans, 7842 unless said otherwise; as [`NodeBuilder::discovery_port`].
    #[must_use]
    pub fn broadcast_port(mut self, port: u16) -> Self {
        self.seek.port = port;
        self
    }

    /// Discovers on another port than 5353, where only nodes with the same setting hear each other: for tests that must
    /// not meet others on the same machine.
    #[must_use]
    pub fn discovery_port(mut self, port: u16) -> Self {
        self.discovery = DiscoverySetting::Port(port);
        self
    }

    /// Largest message accepted, bytes. Default 1 MiB, at most 16 MiB. A larger limit costs that much memory per peer.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.session.message_max = bytes;
        self
    }

    /// Takes part in the mesh: connections to every paired device around, and messages over several hops. Default: no,
    /// because each such connection is kept alive.
    #[must_use]
    pub fn mesh(mut self, options: MeshOptions) -> Self {
        self.mesh = Some(options);
        self
    }

    /// How NAT boxes are dealt with. Used only with [`Reach::Wide`]. Default: nobody is asked, so nothing is tried.
    #[must_use]
    pub fn nat(mut self, options: NatOptions) -> Self {
        self.nat = options;
        self
    }

    /// Finds paired devices by the Mainline DHT of BitTorrent, and is found there: each gets a note that nobody else can read,
    /// with this node's addresses and relays. Used with [`Reach::Wide`]; with [`Reach::Loopback`] only by entry points on
    /// this machine. Needs the feature `dht`. Default: no.
    #[must_use]
    pub fn dht(mut self, options: DhtOptions) -> Self {
        self.dht = Some(options);
        self
    }

    /// How long a link waits for another connection before it gives up. Default 5 minutes.
    #[must_use]
    pub fn suspended_max(mut self, duration: Duration) -> Self {
        self.session.suspended_max = duration;
        self
    }

    /// How long `connect` tries before it gives up. Default 30 seconds.
    #[must_use]
    pub fn connect_timeout(mut self, duration: Duration) -> Self {
        self.session.pending_max = duration;
        self
    }

    /// Puts the node into a simulated network.
    #[cfg(feature = "testing")]
    pub(crate) fn place(mut self, place: Place) -> Self {
        self.memory = place.memory();
        self.key = Some(place.key());
        self.reach = Reach::Wide;
        self.place = Some(place);
        self
    }

    /// Whether other nodes are found without sockets.
    const fn is_simulated(&self) -> bool {
        #[cfg(feature = "testing")]
        let simulated = self.place.is_some();
        #[cfg(not(feature = "testing"))]
        let simulated = false;
        simulated
    }

    /// The seed of everything random in the node.
    fn seed(&self) -> Result<[u8; 32], BuildError> {
        #[cfg(feature = "testing")]
        if let Some(place) = &self.place {
            return Ok(place.seed());
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| BuildError::Entropy(e.to_string()))?;
        Ok(seed)
    }

    /// Starts the node.
    ///
    /// # Errors
    /// [`BuildError`], naming the file, setting or port that is in the way.
    pub async fn build(self) -> Result<Node, BuildError> {
        let name = self.checked_name()?;
        self.check_message_limit()?;
        self.check_relays()?;
        let mut rng = Rng::from_seed(self.seed()?);
        let (key, store, home) = self.open_state(&mut rng)?;
        let mut alpns = vec![ALPN_LINK, ALPN_PAIR];
        alpns.extend(self.mesh.is_some().then_some(ALPN_MESH));
        alpns.extend((self.reach == Reach::Wide && self.nat.punch).then_some(ALPN_PUNCH));
        alpns.extend((self.reach == Reach::Wide).then_some(ALPN_FERRY));
        let id = key.id();
        let (mut incoming, mut listeners) = (None, Vec::new());
        let carriers = match &self.memory {
            Some(network) => {
                incoming = Some(network.attach(id));
                Carriers::Memory(network.clone())
            }
            None => {
                let alpns = alpns.iter().map(|a| a.to_vec()).collect::<Vec<_>>();
                let (quic, listening) = self.bind(&key, alpns).await?;
                listeners = listening;
                Carriers::Quic(quic)
            }
        };
        let (nat, wide) = (self.nat_desk(&key, &carriers)?, self.wide(&key)?);
        let tcp = self.tcp(&key, &carriers)?;
        let discovery = self.start_discovery(id, &name, &carriers)?;
        let desk_rng = Rng::from_seed(rng.bytes());
        let (store, clock) = (Arc::new(store), Clock::start());
        let mesh = match &self.mesh {
            Some(options) => {
                let start = Start::load(options, key, Rng::from_seed(rng.bytes()), clock, store.clone());
                let mut start = start.map_err(OpenStoreError::from)?;
                start.open_radios(options, home.as_ref().map(Home::layout)).await?;
                Some(start)
            }
            None => None,
        };
        let inner = Arc::new(Inner {
            id,
            name: Mutex::new(name),
            device_type: self.device_type,
            reach: self.reach,
            session: self.session,
            clock,
            rng: Mutex::new(rng),
            carriers,
            tcp,
            store,
            rejections: Mutex::new(super::peers::RejectionWindow::new()),
            audit: home.as_ref().map(|home| AuditLog::new(home.layout().audit())),
            home,
            pool: Pool::new(id),
            way_book: super::ways::WayBook::default(),
            nat,
            call_backs: super::callback::CallBackDesk::default(),
            ferry: FerryHub::new(self.relay_peers),
            manual: Mutex::new(BTreeMap::new()),
            listeners: Listeners::default(),
            discovery,
            pairing: Arc::new(PairingHub::new(desk_rng)),
            mesh: mesh.as_ref().map(|mesh| mesh.shared.clone()),
            strangers: Arc::new(Semaphore::new(STRANGER_CONNECTIONS_MAX)),
            meter: super::stats::Meter::default(),
            allowances: super::allowance::Allowances::default(),
            wide,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            over: CancellationToken::new(),
        });
        inner.tasks.spawn(accept::run(inner.clone(), incoming));
        for listener in listeners {
            inner.tasks.spawn(accept::run_tcp(inner.clone(), listener));
        }
        inner.tasks.spawn(inner.clone().housekeeping());
        inner.mark_known();
        inner.tasks.spawn(inner.clone().announce_desk());
        inner.tasks.spawn(inner.clone().watch_nearby());
        inner.tasks.spawn(inner.clone().watch_nat());
        inner.tasks.spawn(inner.clone().keep_relays());
        inner.tasks.spawn(inner.clone().guard_candidates());
        inner.tasks.spawn(inner.clone().keep_ferries());
        inner.tasks.spawn(inner.clone().observe());
        inner.tasks.spawn(inner.clone().keep_notes());
        if let Some(mesh) = mesh {
            inner.tasks.spawn(inner.clone().keep_mesh(mesh.shared.clone()));
            inner.tasks.spawn(mesh.run(inner.stop.clone()));
        }
        Ok(Node { inner })
    }

    /// TCP, for the mesh, where UDP gets nowhere.
    fn tcp(&self, key: &SecretKey, carriers: &Carriers) -> Result<Option<TcpCarrier>, BuildError> {
        match (carriers, &self.mesh) {
            // Between simulated nodes there is nothing that TCP could go over.
            (Carriers::Quic(_), Some(_)) if !self.is_simulated() && !self.relay_only => {
                Ok(Some(TcpCarrier::new(key, self.reach)?))
            }
            (Carriers::Quic(_) | Carriers::Memory(_), _) => Ok(None),
        }
    }

    /// Opens the sockets: UDP, and TCP with the same number if the mesh listens there.
    async fn bind(
        &self,
        key: &SecretKey,
        alpns: Vec<Vec<u8>>,
    ) -> Result<(QuicCarrier, Vec<TcpListener>), BindError> {
        #[cfg(feature = "testing")]
        if let Some(wire) = self.place.as_ref().and_then(Place::wire) {
            return Ok((QuicCarrier::bind_simulated(key, wire, alpns).await?, Vec::new()));
        }
        let sockets = |port: u16| Sockets {
            reach: self.reach,
            port,
            alpns: alpns.clone(),
            relays: &self.relays,
            relay_only: self.relay_only,
            power: self.power,
        };
        if self.relay_only || !self.mesh.as_ref().is_some_and(MeshOptions::listens_by_tcp) {
            return Ok((QuicCarrier::bind(key, sockets(self.port)).await?, Vec::new()));
        }
        let mut tries = if self.port == 0 { FREE_PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            let listeners = tcp::listen(self.reach, self.port)?;
            let port = listeners.first().and_then(|listener| listener.local_addr().ok());
            let port = port.map_or(self.port, |addr| addr.port());
            match QuicCarrier::bind(key, sockets(port)).await {
                // A number that is free for TCP may be taken for UDP.
                Err(BindError::Socket { .. }) if tries > 0 => {}
                bound => return Ok((bound?, listeners)),
            }
        }
    }

    /// What deals with NATs: whom it asks, and the sockets of the observer, if the node is to be one.
    fn nat_desk(&self, key: &SecretKey, carriers: &Carriers) -> Result<NatDesk, BindError> {
        let wide = match carriers {
            Carriers::Quic(quic) if self.reach == Reach::Wide && !self.is_simulated() => quic,
            Carriers::Quic(_) | Carriers::Memory(_) => return Ok(NatDesk::new(self.nat.clone(), None, None)),
        };
        let observing = match self.nat.observe {
            Some(port) => {
                let bound = ObserverSockets::bind((Ipv4Addr::UNSPECIFIED, port).into(), key.clone());
                Some(bound.map_err(|error| BindError::Observer { port, reason: error.to_string() })?)
            }
            None => None,
        };
        if self.relay_only {
            // It has no socket that could be seen anywhere.
            return Ok(NatDesk::new(NatOptions::default().punch(false), None, observing));
        }
        let relays = Observers::new(self.nat.observers.clone(), wide.own_relays(), Some(wide.https()?));
        Ok(NatDesk::new(self.nat.clone(), Some(relays), observing))
    }

    fn start_discovery(
        &self,
        id: DeviceId,
        name: &str,
        carriers: &Carriers,
    ) -> Result<Option<Discovery>, BuildError> {
        let port = match carriers {
            Carriers::Quic(quic) => quic.bound().first().map_or(0, std::net::SocketAddr::port),
            Carriers::Memory(_) if self.is_simulated() => 0,
            Carriers::Memory(_) => return Ok(None),
        };
        if self.discovery == DiscoverySetting::Off || self.relay_only {
            return Ok(None);
        }
        let txt = TxtRecord {
            id,
            name: name.to_owned(),
            device_type: self.device_type,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            caps: Capabilities::NONE,
            pairing: PairingHint::Closed,
        };
        let scope = match self.reach {
            Reach::Loopback => Scope::Loopback,
            Reach::Lan | Reach::Wide => Scope::Lan,
        };
        // Simulated devices are found by the simulation.
        let mut config = Config::new(Announcement { txt, port }).scope(scope).mdns(!self.is_simulated());
        if let DiscoverySetting::Port(port) = self.discovery {
            config = config.mdns_port(port);
        }
        let Seek { broadcast, scan, port } = self.seek;
        config = config.broadcast(broadcast && !self.is_simulated()).scan(scan).broadcast_port(port);
        Ok(Some(Discovery::start(config)?))
    }

    /// The node's part in the DHT. Between simulated nodes there is none.
    fn wide(&self, key: &SecretKey) -> Result<WideDesk, BuildError> {
        let options = self.dht.as_ref().filter(|_| self.memory.is_none() && !self.is_simulated());
        WideDesk::new(options, self.reach, self.relay_only, key)
    }

    fn open_state(&self, rng: &mut Rng) -> Result<(SecretKey, Store, Option<Home>), BuildError> {
        match &self.home {
            Some(folder) => {
                let home = Home::open(HomeLayout::new(folder))?;
                let key = crate::store::key::load_or_create(&home)?;
                let store = Store::open(&home)?;
                Ok((key, store, Some(home)))
            }
            None => {
                let key = self.key.clone().unwrap_or_else(|| SecretKey::generate(rng));
                #[cfg(feature = "testing")]
                if let Some(place) = &self.place {
                    return Ok((key, Store::on(place.disk())?, None));
                }
                Ok((key, Store::in_memory()?, None))
            }
        }
    }

    fn checked_name(&self) -> Result<String, BuildError> {
        let name = self.name.clone().unwrap_or_else(host_name);
        check_name(&name).map(|()| name)
    }

    fn check_relays(&self) -> Result<(), BuildError> {
        let invalid = |setting, reason: String| Err(BuildError::InvalidSetting { setting, reason });
        let (relays, peers) = (self.relays.len(), self.relay_peers.len());
        if relays > RELAYS_PER_DEVICE_MAX {
            return invalid("relays", format!("at most {RELAYS_PER_DEVICE_MAX} relays; these are {relays}"));
        }
        if peers > FERRIES_MAX {
            return invalid("relay_peers", format!("at most {FERRIES_MAX} devices; these are {peers}"));
        }
        if self.relay_only && (self.reach != Reach::Wide || self.relays.is_empty()) {
            return invalid("relay_only", "it needs a wide reach and a relay to go through".into());
        }
        Ok(())
    }

    fn check_message_limit(&self) -> Result<(), BuildError> {
        let max = self.session.message_max;
        (1..=MESSAGE_BYTES_CEILING).contains(&max).then_some(()).ok_or_else(|| BuildError::InvalidSetting {
            setting: "message_bytes_max",
            reason: format!("{max} is not between 1 and {MESSAGE_BYTES_CEILING}"),
        })
    }
}

/// Whether a device may be called this.
pub(super) fn check_name(name: &str) -> Result<(), BuildError> {
    let invalid = |reason: String| Err(BuildError::InvalidSetting { setting: "name", reason });
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return invalid(format!("a name has 1 to {NAME_BYTES_MAX} bytes; this has {}", name.len()));
    }
    if name.chars().any(char::is_control) {
        return invalid("a name has no control characters".into());
    }
    Ok(())
}

/// The machine's name up to the first dot, or a plain word where it has none.
fn host_name() -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let first = host.split('.').next().unwrap_or_default().trim();
    let name: String = first.chars().filter(|c| !c.is_control()).collect();
    let cut = name.floor_char_boundary(NAME_BYTES_MAX);
    if cut == 0 { "device".into() } else { name[..cut].to_owned() }
}
