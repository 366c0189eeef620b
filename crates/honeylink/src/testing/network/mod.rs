//! A network for tests of applications: real [`Node`]s on simulated links, in virtual time, from one seed.
//!
//! A test gets a [`Network`], puts nodes into it and lets them do what the application does. Then it makes trouble. Ten
//! minutes of virtual time take about a second, because nothing waits for a real clock.
//!
//! ```
//! use honeylink::testing;
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<testing::Failure>> {
//! // Each seed is another run: other losses, other delays. The first that fails is named.
//! testing::check(0..3, |network| async move {
//!     let [alice, bob] = network.paired(["alice", "bob"]).await?;
//!     let mut visitors = bob.listen("hello/1")?;
//!     let link = alice.connect("bob", "hello/1").await?;
//!     let visitor = visitors.accept().await.ok_or("bob stopped")?;
//!
//!     network.partition(&[&[&alice], &[&bob]]);
//!     link.send("are you there?").await?;
//!     tokio::time::sleep(Duration::from_secs(60)).await;
//!     network.heal();
//!
//!     assert_eq!(visitor.recv().await?, "are you there?");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # What is real and what is not
//!
//! Nodes, links, sessions, stores, pairing and services are the product's own code. What lies between them depends on the
//! [`Stack`]:
//!
//! | | [`Stack::Quic`] | [`Stack::Memory`] |
//! |---|---|---|
//! | connections | the real QUIC stack, packet by packet over simulated UDP | a model of it: frames, retransmission, keep-alive, time-outs |
//! | where | Linux, in a test binary with [`virtual_time!`](crate::virtual_time) | everywhere |
//! | congestion control, MTU, TLS | real | none |
//!
//! Devices find each other without multicast packets: [`Node::nearby`] shows whoever can be heard, after the
//! [discovery delay](NetworkBuilder::discovery_delay). NAT boxes ([`Spot::behind`]) map and filter as RFC 4787 describes
//! them, and devices behind them are put in touch by a rendezvous that is not simulated; a pair that finds no way through
//! its NATs has no link, because no relay is simulated. Time passes in steps of a millisecond. Wall clocks show 2026-01-01
//! at the start of every run and are the same on all nodes.
//!
//! # What repeats
//!
//! **With [`Stack::Memory`]** a seed is a run: the same seed gives the same [`Network::trace`], packet for packet, in
//! another process and on another system, as long as the test's own code draws no other randomness, reads no system clock
//! and uses no other threads. (`tokio::select!` draws; write `biased;` in code under test, or use
//! [`virtual_time!`](crate::virtual_time).)
//!
//! **With [`Stack::Quic`]** the times and lengths of packets have repeated wherever we compared runs, in one process and
//! across processes, on an idle machine and a busy one; the bytes inside are ciphertext and not part of the trace. It is not
//! promised: iroh looks at the real machine's interfaces when an endpoint starts, and tokio seeds one generator per process,
//! from which the `select!`s of its users draw. Compare [`Network::fingerprint`]s before you rely on it; a property that
//! holds is to hold in every run anyway. The mesh's task draws from that generator too, on either stack.
//!
//! # Settings
//!
//! Defaults come from the environment; a value that cannot be is an error that names it.
//!
//! | variable | default | what |
//! |---|---|---|
//! | `SIMULATOR_DEFAULT_LATENCY_MS` | 50 | one way |
//! | `SIMULATOR_DEFAULT_PACKET_LOSS` | 0.01 | share of packets |
//! | `SIMULATOR_DISCOVERY_DELAY_MS` | 100 | until a device is noticed |
//! | `SIMULATOR_CONNECTION_TIMEOUT_SECS` | 30 | how long `connect` tries |
//! | `SIMULATOR_MAX_MESSAGE_SIZE` | 1048576 | bytes |
//! | `HONEYLINK_SEED` | | runs this seed instead of those in the test |

mod builder;
mod disk;
mod faults;
mod finder;
mod internet;
mod pipes;
mod place;
mod quic;
mod run;
mod settings;
mod spot;
mod trace;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_sim::chance::{Chance, Purpose};
use honeylink_sim::device::NodeId;
use tokio::task::JoinSet;

pub use honeylink_sim::net::lane::{Jitter, Lane, Loss};
pub use honeylink_sim::net::nat::NatKind;

pub use self::builder::NetworkBuilder;
pub use self::run::{BoxError, Failure, FailureReason, check};
pub use self::settings::InvalidSetting;
pub use self::spot::{ConnectedPeers, LinkUpError, Spot};

pub(crate) use self::disk::SimulatedDisk;
pub(crate) use self::internet::Internet;
pub(crate) use self::pipes::Wires;
pub(crate) use self::place::Place;
pub(crate) use self::quic::QuicWire;

use self::place::Way;
use self::quic::Inboxes;
use self::settings::Settings;
use self::spot::Configure;
use crate::carrier::memory::MemoryNetwork;
use crate::node::{BuildError, Node};

/// How long what is left of the nodes may take to end, in virtual time.
const END_MAX: Duration = Duration::from_secs(30);

/// Steps of a millisecond that a new QUIC endpoint gets before anything else happens.
const SETTLING_STEPS: u32 = 10;

/// How simulated nodes speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// Real QUIC over simulated UDP. Only where [`virtual_time!`](crate::virtual_time) works: elsewhere QUIC's clock would
    /// not be the simulation's.
    Quic,
    /// The memory carrier, with a model of what QUIC does about delay and loss.
    Memory,
}

/// A simulated network. Clones are the same network.
#[derive(Clone, Debug)]
pub struct Network {
    inner: Arc<Inner>,
}

/// Why something of a network could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Names are how tests and traces tell nodes apart.
    #[error("there is a node called {0} already")]
    NameTaken(String),
    /// No node has that name.
    #[error("there is no node called {0}")]
    Unknown(String),
    /// The node runs.
    #[error("{0} is running")]
    Running(String),
    /// The node does not run.
    #[error("{0} is not running")]
    NotRunning(String),
    /// The node could not start.
    #[error(transparent)]
    Build(#[from] BuildError),
}

struct Inner {
    internet: Internet,
    stack: Stack,
    settings: Settings,
    memory: MemoryNetwork,
    inboxes: Arc<Inboxes>,
    placed: Mutex<BTreeMap<NodeId, Placed>>,
    chance: Mutex<Chance>,
    /// What runs as long as the network.
    tasks: Mutex<JoinSet<()>>,
    /// What is left of nodes that crashed.
    ends: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("stack", &self.stack).finish_non_exhaustive()
    }
}

/// A node and what of it outlives a crash.
struct Placed {
    node: Option<Node>,
    life: u32,
    disk: SimulatedDisk,
    configure: Configure,
}

/// A node that runs, in one of its lives.
struct Running {
    at: NodeId,
    life: u32,
    node: Node,
}

impl Network {
    /// Describes a network. Unless it says otherwise, packets take 50 ms each way, one in a hundred is lost, links carry
    /// 20 Mbit/s, and devices notice each other after 100 ms; the environment may change that.
    #[must_use]
    pub fn builder() -> NetworkBuilder {
        NetworkBuilder::default()
    }

    fn new(internet: Internet, stack: Stack, settings: Settings) -> Self {
        let chance = Chance::new(internet.seed(), Purpose::Traffic, 0);
        let memory = MemoryNetwork::over(&internet);
        let delay = settings.discovery_delay;
        let inner = Arc::new(Inner {
            internet: internet.clone(),
            stack,
            settings,
            memory,
            inboxes: Arc::default(),
            placed: Mutex::default(),
            chance: Mutex::new(chance),
            tasks: Mutex::default(),
            ends: Mutex::default(),
        });
        inner.spawn(internet.clone().pump());
        inner.spawn(finder::run(Arc::downgrade(&inner), internet, delay));
        Self { inner }
    }

    /// A new node with this name. Await it, after saying what is special about it:
    ///
    /// ```no_run
    /// # use honeylink::testing::{BoxError, NatKind, Network};
    /// # async fn example(network: &Network) -> Result<(), BoxError> {
    /// let alice = network.node("alice").await?;
    /// let bob = network.node("bob").behind(&[NatKind::Home, NatKind::Cgnat]).await?;
    /// # Ok(()) }
    /// ```
    pub fn node(&self, name: impl Into<String>) -> Spot<'_> {
        Spot::new(self, name.into())
    }

    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.inner.internet.seed()
    }

    /// How nodes speak here.
    #[must_use]
    pub fn stack(&self) -> Stack {
        self.inner.stack
    }

    /// Virtual time since the start of the run.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.inner.internet.elapsed()
    }

    /// A number in `0..bound` that springs from the seed; zero when `bound` is. For what a test does at random.
    #[must_use]
    pub fn draw(&self, bound: u64) -> u64 {
        self.inner.chance.lock().unwrap_or_else(PoisonError::into_inner).below(bound)
    }

    /// Puts a line of the test's own into the trace.
    pub fn note(&self, what: &str) {
        self.inner.internet.note(what);
    }

    /// What happened so far: a line for every packet and every event, the last 65,536 of them. The time of each is in
    /// seconds since the start.
    #[must_use]
    pub fn trace(&self) -> String {
        self.inner.internet.with_trace(trace::Trace::text)
    }

    /// The hash of every line so far, in 16 hex digits: equal means the same run.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.inner.internet.with_trace(trace::Trace::fingerprint)
    }

    async fn add(
        &self,
        name: String,
        behind: Vec<NatKind>,
        configure: Configure,
    ) -> Result<Node, NetworkError> {
        let inner = &self.inner;
        if inner.internet.named(&name).is_some() {
            return Err(NetworkError::NameTaken(name));
        }
        let number = u32::try_from(inner.placed().len()).unwrap_or(u32::MAX);
        let id = place::key_of(self.seed(), number).id();
        let at = inner.internet.add(&name, id, &behind);
        let placed = Placed { node: None, life: 0, disk: SimulatedDisk::default(), configure };
        inner.placed().insert(at, placed);
        inner.start(at).await
    }

    fn at(&self, node: &Node) -> Option<NodeId> {
        self.inner.internet.find(&node.id())
    }

    /// Ends every node, without a goodbye. [`check`] and [`NetworkBuilder::run`] do so themselves.
    pub async fn end(&self) {
        self.inner.internet.end();
        let running: Vec<_> = self.inner.running().into_iter().map(|running| running.at).collect();
        // They are running.
        running.into_iter().for_each(|at| drop(self.inner.crash(at)));
        let mut ends = std::mem::take(&mut *self.inner.ends.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while ends.join_next().await.is_some() {} };
        // What is left after that ends with the runtime.
        let _ = tokio::time::timeout(END_MAX, ended).await;
        self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl Inner {
    fn placed(&self) -> MutexGuard<'_, BTreeMap<NodeId, Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }

    fn running(&self) -> Vec<Running> {
        let placed = self.placed();
        let running = placed.iter().filter_map(|(at, placed)| {
            let node = placed.node.clone().filter(|node| !node.over().is_cancelled())?;
            Some(Running { at: *at, life: placed.life, node })
        });
        running.collect()
    }

    /// Starts a node that does not run.
    async fn start(&self, at: NodeId) -> Result<Node, NetworkError> {
        let name = self.internet.name(at);
        let (place, configure) = {
            let mut placed = self.placed();
            let placed = placed.get_mut(&at).ok_or_else(|| NetworkError::Unknown(name.clone()))?;
            match placed.node.take() {
                Some(node) if !node.over().is_cancelled() => {
                    placed.node = Some(node);
                    return Err(NetworkError::Running(name));
                }
                // It shut down by itself; clones of it write no more.
                Some(_) => placed.disk = placed.disk.pass_on(),
                None => {}
            }
            placed.life += 1;
            let way = match self.stack {
                Stack::Memory => Way::Memory(self.memory.clone()),
                Stack::Quic => Way::Quic(QuicWire::new(&self.internet, &self.inboxes, at)),
            };
            let seed = place::seed_of(self.internet.seed(), at, placed.life);
            let key = place::key_of(self.internet.seed(), at.0);
            (Place::new(key, seed, placed.disk.clone(), way), placed.configure.clone())
        };
        self.internet.set_up(at, true);
        let builder = Node::builder()
            .message_bytes_max(self.settings.message_bytes_max)
            .connect_timeout(self.settings.connection_timeout);
        let built = configure(builder).name(name).place(place).build().await;
        let node = match built {
            Ok(node) => node,
            Err(error) => {
                self.internet.set_up(at, false);
                return Err(error.into());
            }
        };
        if let Some(placed) = self.placed().get_mut(&at) {
            placed.node = Some(node.clone());
        }
        if self.stack == Stack::Quic {
            // iroh looks at the real machine's interfaces on other threads. Until they are done the clock stands still, so
            // after these steps the order of what follows is the run's alone.
            for _ in 0..SETTLING_STEPS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        if let Some(discovery) = node.discovery() {
            self.spawn(finder::follow(self.internet.clone(), discovery.announced(), node.over()));
        }
        self.internet.hint_changed();
        Ok(node)
    }

    fn crash(&self, at: NodeId) -> Result<(), NetworkError> {
        let name = self.internet.name(at);
        let mut placed = self.placed();
        let placed = placed.get_mut(&at).ok_or_else(|| NetworkError::Unknown(name.clone()))?;
        let node = placed.node.take().ok_or(NetworkError::NotRunning(name))?;
        self.internet.set_up(at, false);
        let which = u64::from(at.0) << 32 | u64::from(placed.life);
        let (lost, disk) = placed.disk.crash(&mut Chance::new(self.internet.seed(), Purpose::Disks, which));
        placed.disk = disk;
        self.internet.note(&format!("{} crashes; {lost} writes are lost", node.name()));
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).spawn(node.crash());
        Ok(())
    }
}
