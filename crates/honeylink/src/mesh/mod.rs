//! Messages over several hops, to devices that no link reaches: the shell around [`honeylink_core::mesh`].
//!
//! A node with [`NodeBuilder::mesh`](crate::NodeBuilder::mesh) keeps a connection to every paired device around and
//! passes frames on between them; [`Node::mesh`](crate::Node::mesh) gives the [`MeshHandle`].
//!
//! ```
//! use honeylink::mesh::{MeshOptions, SendOptions, Topic};
//! use honeylink::{MemoryNetwork, Node, testing};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = MemoryNetwork::new();
//! let node = |name| Node::builder().name(name).memory(&network).mesh(MeshOptions::default());
//! let (a, b) = (node("a").build().await?, node("b").build().await?);
//! testing::introduce(&a, &b)?;
//!
//! let mesh = a.mesh().ok_or("no mesh")?;
//! let mut sending = mesh.send("b", "hello", SendOptions::default()).await?;
//! let mut messages = b.mesh().ok_or("no mesh")?.messages(Topic::APPLICATION)?;
//! let message = messages.next().await.ok_or("node b stopped")?;
//! assert_eq!((message.from, &message.payload[..]), (a.id(), &b"hello"[..]));
//! sending.delivered().await?;
//! # a.shutdown().await; b.shutdown().await; Ok(()) }
//! ```
//!
//! # Who may take part
//!
//! Paired devices, and nobody else, get a port; what they send on goes to devices that only they know. A device forgotten
//! or revoked loses its port at once. [`MeshOptions::relay`] decides for all whether frames are passed on: a relay sees
//! neither who talks nor what, only hints of three bytes.
//!
//! # What is promised
//!
//! At least once, with sender and number to tell a message that comes twice after a crash; otherwise once. A message is on
//! disk at the target before its receipt is sent. What waits at the application waits in a bounded inbox; a receipt says
//! that the device has the message, not that somebody read it.
//!
//! | module | what it does |
//! |---|---|
//! | `pump` | owns the machine, its clock, its ports and its disk |
//! | `stream`, `queue`, `ports` | a port over a connection |
//! | `radio` | ports onto the air |
//! | `disk` | one transaction at a time |
//! | `inbox` | messages until they are taken |
//! | `handle` | what applications see |

mod disk;
mod handle;
mod inbox;
mod ports;
mod pump;
mod queue;
mod radio;
mod shared;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::mesh::custody::Quota;
pub use honeylink_core::mesh::custody::{Counts as StoreCounts, Refused as StoreRefused};
pub use honeylink_core::mesh::frame::{Caps, Kind, PortKind, Priority};
pub use honeylink_core::mesh::hint::{Address, Far, Near};
pub use honeylink_core::mesh::neighbours::NeighbourView;
use honeylink_core::mesh::records::Saved;
pub use honeylink_core::mesh::routes::Way;
use honeylink_core::mesh::{Config, Mesh};
pub use honeylink_core::mesh::{
    Dropped, Event, Failure, PortId, PortInfo, Present, Snapshot, Stats, Step, Trace, Trail,
};
use honeylink_core::rng::Rng;
use honeylink_core::time::Time;
use tokio_util::sync::CancellationToken;

pub use self::handle::{
    MeshHandle, MeshSendError, MeshStopped, NotDelivered, PAYLOAD_BYTES_MAX, SendOptions, Sending, TraceError,
};
use self::inbox::Inbox;
pub use self::inbox::{Message, Messages, Topic, TopicTaken};
pub use self::ports::{Leads, PortView};
use self::pump::Pump;
pub use self::radio::{RADIOS_MAX, RadioView};
pub(crate) use self::shared::Shared;
pub(crate) use self::stream::Line;
use crate::carrier::serial::{OpenError, SerialConfig};
use crate::clock::{Clock, unix_ms};
use crate::node::Durations;
use crate::store::home::HomeLayout;
use crate::store::{StateError, Store};

/// How a node takes part in the mesh. By default it passes frames on and announces itself every ten minutes.
#[derive(Clone, Debug)]
pub struct MeshOptions {
    config: Config,
    radios: Vec<SerialConfig>,
    tcp: bool,
}

impl Default for MeshOptions {
    fn default() -> Self {
        let caps = Caps::RELAY.and(Caps::STORE);
        Self { config: Config { caps, ..Config::default() }, radios: Vec::new(), tcp: false }
    }
}

impl MeshOptions {
    /// Whether frames of others are passed on. Default: yes. Without, messages reach this device and leave it, and no
    /// other gains by it.
    #[must_use]
    pub fn relay(self, yes: bool) -> Self {
        self.cap(Caps::RELAY, yes)
    }

    /// Whether messages for devices that are away are kept for them. Default: yes.
    #[must_use]
    pub fn store(self, yes: bool) -> Self {
        self.cap(Caps::STORE, yes)
    }

    /// How many bytes of them at most, a quarter of that from one neighbour and for one device. Default: 512 KiB.
    #[must_use]
    pub fn store_bytes_max(mut self, bytes: usize) -> Self {
        self.config.quota = Quota::of(bytes);
        self
    }

    /// Whether this device announces itself. Default: yes. Without, others find it by searching only.
    #[must_use]
    pub fn announces(mut self, yes: bool) -> Self {
        self.config.announces = yes;
        self
    }

    /// How often it does. Default: ten minutes. On radios the ration of announces may make it rarer.
    #[must_use]
    pub fn announce_every(mut self, every: Duration) -> Self {
        self.config.announce_every = every;
        self
    }

    /// Uses a radio too, of at most eight. Where its band limits the airtime and no ledger is named, the ledger is kept in
    /// the node's home.
    #[must_use]
    pub fn radio(mut self, radio: SerialConfig) -> Self {
        self.radios.push(radio);
        self
    }

    /// Whether paired devices may connect by TCP too, for places where UDP does not get through. The TCP port has the number
    /// of the node's UDP port ([`NodeBuilder::port`](crate::NodeBuilder::port)). Default: no. Whether it listens or not, a
    /// node dials by TCP whomever it cannot reach by QUIC.
    #[must_use]
    pub fn tcp(mut self, listen: bool) -> Self {
        self.tcp = listen;
        self
    }

    pub(crate) const fn listens_by_tcp(&self) -> bool {
        self.tcp
    }

    fn cap(mut self, cap: Caps, yes: bool) -> Self {
        let others = Caps::from_bits(self.config.caps.bits() & !cap.bits());
        self.config.caps = if yes { others.and(cap) } else { others };
        self
    }
}

/// Something that happened in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshEvent {
    /// A port came up.
    PortUp(PortView),
    /// A port went down.
    PortDown(PortId),
    /// An own message has come further; also one that was sent before the node was restarted.
    Progress {
        /// Its name.
        id: u64,
        /// How far.
        step: Step,
    },
    /// A message was lost, because too many wait to be taken.
    InboxFull {
        /// Its sender.
        from: DeviceId,
    },
    /// The disk refused. It is tried again; meanwhile the mesh promises nothing.
    DiskFailed(String),
    /// What the machine has to tell.
    Mesh(Event),
}

/// The mesh of a node as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSnapshot {
    /// The node's clock: ages of ways and neighbours count back from here.
    pub at: Time,
    /// This device's address.
    pub address: Address,
    /// What this device offers.
    pub caps: Caps,
    /// The machine: counters, routes, neighbours.
    pub mesh: Snapshot,
    /// Devices that announced themselves lately, paired or not, the nearest first.
    pub devices: Vec<Present>,
    /// The ports.
    pub ports: Vec<PortView>,
    /// The radios, whether up or not.
    pub radios: Vec<RadioView>,
    /// Messages that wait to be taken by the application.
    pub inbox: usize,
    /// Messages lost because too many waited.
    pub overflowed: u64,
    /// Connections ended because of what came over them.
    pub violations: u64,
    /// Own messages whose receipt came, and how long that took since they were sent. Those sent before the node was
    /// restarted are not among them.
    pub deliveries: Durations,
    /// Roughly what the machine holds in memory, bytes.
    pub state_bytes: usize,
    /// Why the disk refused, until it takes everything again: as [`MeshEvent::DiskFailed`].
    pub disk: Option<String>,
}

/// Why a radio cannot be used. A modem that is not plugged in is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum OpenRadioError {
    /// More than a node takes.
    #[error("a node takes {RADIOS_MAX} radios at most, and {given} are named")]
    TooMany {
        /// How many are named.
        given: usize,
    },
    /// Its airtime cannot be remembered.
    #[error(transparent)]
    Ledger(#[from] OpenError),
}

/// The mesh before it runs: everything the disk had is read.
pub(crate) struct Start {
    pump: Pump,
    inlets: shared::Inlets,
    pub(crate) shared: Arc<Shared>,
}

impl Start {
    /// Reads what the mesh remembers. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn load(
        options: &MeshOptions,
        key: SecretKey,
        rng: Rng,
        clock: Clock,
        store: Arc<Store>,
    ) -> Result<Self, StateError> {
        let loaded = store.mesh().loaded()?;
        let (local, config) = (key.id(), Config { unix_ms: Some(unix_ms()), ..options.config });
        let saved: Saved = loaded.records.into_iter().collect();
        let mesh = Mesh::new(config, key, rng, saved, clock.now());
        let (shared, inlets) = Shared::new(Inbox::new(loaded.inbox), config.caps);
        let pump = Pump::new(mesh, local, clock, store, shared.clone());
        Ok(Self { pump, inlets, shared })
    }

    /// Opens the radios. `home` is where their ledgers are, unless they name others.
    ///
    /// # Errors
    /// [`OpenRadioError`] names the radio.
    pub(crate) async fn open_radios(
        &mut self,
        options: &MeshOptions,
        home: Option<&HomeLayout>,
    ) -> Result<(), OpenRadioError> {
        if options.radios.len() > RADIOS_MAX {
            return Err(OpenRadioError::TooMany { given: options.radios.len() });
        }
        let with_ledger = |config: SerialConfig| match home {
            Some(home) => {
                let path = home.radio_ledger(config.path());
                config.ledger_or(|| path)
            }
            None => config,
        };
        let radios = options.radios.iter().cloned().map(with_ledger).collect();
        Ok(self.pump.open_radios(radios).await?)
    }

    /// Runs the mesh until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        self.pump.run(self.inlets, stop).await;
    }
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Start").finish_non_exhaustive()
    }
}
