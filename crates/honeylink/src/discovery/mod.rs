//! Finding devices: the finders' sockets around the pure table of [`honeylink_core::nearby`].
//!
//! ```no_run
//! # async fn example(announcement: honeylink::discovery::Announcement) -> Result<(), Box<dyn std::error::Error>> {
//! use honeylink::discovery::{Config, Discovery, Event};
//!
//! let discovery = Discovery::start(Config::new(announcement))?;
//! let mut events = discovery.events();
//! while let Some(event) = events.next().await {
//!     if let Event::Found(device) = event {
//!         println!("{} at {:?}", device.name, device.addresses);
//!     }
//! }
//! discovery.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! Multicast DNS is the first finder. Where a network drops multicast, devices are found by broadcast, at addresses where
//! they were before, and in small private subnets address by address ([`Config::broadcast`], [`Config::scan`]); this needs a
//! LAN, so it is off with [`Scope::Loopback`]. Others report through [`Discovery::observe`] and share its table, so a device
//! seen twice is one entry. A finder that cannot work (a blocked port, no interface) says so with
//! [`Event::FinderDown`], keeps trying, and never stops the node.

pub mod interfaces;
mod knock;
mod mdns;
mod socket;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::identity::{DeviceId, DeviceType};
use honeylink_core::knock::Knock;
use honeylink_core::limits::NEARBY_TTL_MAX;
use honeylink_core::mdns::Mdns;
use honeylink_core::nearby::{self, Input, Nearby};
use honeylink_core::rng::Rng;
use honeylink_core::time::Time;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use honeylink_core::mdns::Announcement;
pub use honeylink_core::nearby::{
    Capabilities, Device, Finder, Observation, PairingHint, Policy, Shared, Sighting, TxtRecord,
};

pub use self::interfaces::Scope;

/// Events a slow subscriber may fall behind before it is given a fresh snapshot instead.
const EVENT_QUEUE_MAX: usize = 256;
/// How long [`Discovery::shutdown`] waits for the goodbye before it ends the tasks by force.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// How to discover.
#[derive(Clone, Debug)]
pub struct Config {
    announcement: Announcement,
    scope: Scope,
    policy: Policy,
    mdns: bool,
    mdns_port: u16,
    broadcast: bool,
    broadcast_port: u16,
    scan: bool,
}

impl Config {
    /// Discovers on every LAN, with every finder, and announces this. With port 0 it only listens.
    #[must_use]
    pub const fn new(announcement: Announcement) -> Self {
        Self {
            announcement,
            scope: Scope::Lan,
            policy: Policy::All,
            mdns: true,
            mdns_port: honeylink_core::mdns::PORT,
            broadcast: true,
            broadcast_port: honeylink_core::knock::PORT,
            scan: true,
        }
    }

    /// Where to speak. [`Scope::Loopback`] keeps everything inside this machine.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Which finders count.
    #[must_use]
    pub const fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Whether to use multicast DNS. Without it nothing is multicast; other finders may still report.
    #[must_use]
    pub const fn mdns(mut self, on: bool) -> Self {
        self.mdns = on;
        self
    }

    /// Another UDP port than 5353, so that tests on one machine do not hear each other. Others' programs hear nothing then.
    #[must_use]
    pub const fn mdns_port(mut self, port: u16) -> Self {
        self.mdns_port = port;
        self
    }
}

impl Config {
    /// Whether to ask by broadcast, and at remembered addresses, who is there. Without it nothing is scanned either.
    #[must_use]
    pub const fn broadcast(mut self, on: bool) -> Self {
        self.broadcast = on;
        self
    }

    /// Another UDP port than 7842 for broadcasts and scans, as with [`Config::mdns_port`].
    #[must_use]
    pub const fn broadcast_port(mut self, port: u16) -> Self {
        self.broadcast_port = port;
        self
    }

    /// Whether private subnets of at most 1,024 addresses may be asked address by address where nobody answers otherwise.
    #[must_use]
    pub const fn scan(mut self, on: bool) -> Self {
        self.scan = on;
        self
    }
}

/// Why discovery could not start.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Not called inside a tokio runtime.
    #[error("discovery needs a running tokio runtime")]
    NoRuntime,
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Entropy(getrandom::Error),
}

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Everything in the table now. First, and again whenever the subscriber fell too far behind.
    Snapshot(Vec<Device>),
    /// A device that was not there before.
    Found(Box<Device>),
    /// Something a person would notice changed.
    Changed(Box<Device>),
    /// No finder sees it any more.
    Lost(DeviceId),
    /// A paired device's name or address under another key: show both fingerprints, and do not ask to go on.
    Conflict {
        /// The paired device.
        known: DeviceId,
        /// The key that is not it.
        impostor: DeviceId,
        /// The name the impostor shows.
        name: String,
        /// What the two have in common.
        shared: Shared,
    },
    /// A finder cannot work. It keeps trying.
    FinderDown {
        /// Which.
        finder: Finder,
        /// Why, for people.
        reason: String,
    },
    /// A finder that could not work does now.
    FinderUp(Finder),
}

impl From<nearby::Event> for Event {
    fn from(event: nearby::Event) -> Self {
        match event {
            nearby::Event::Found(device) => Self::Found(device),
            nearby::Event::Changed(device) => Self::Changed(device),
            nearby::Event::Lost(id) => Self::Lost(id),
            nearby::Event::Conflict { known, impostor, name, shared } => {
                Self::Conflict { known, impostor, name, shared }
            }
        }
    }
}

/// The running finders and what they found. Dropping it ends the finders without a goodbye; prefer
/// [`Discovery::shutdown`].
#[derive(Debug)]
pub struct Discovery {
    table: Arc<Table>,
    announcement: watch::Sender<Announcement>,
    /// Where devices were before.
    remembered: watch::Sender<Vec<IpAddr>>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl Discovery {
    /// Starts the finders. Returns at once; a finder that fails later says so in an event.
    ///
    /// # Errors
    /// [`DiscoveryError`], only if nothing at all could be started.
    pub fn start(config: Config) -> Result<Self, DiscoveryError> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(DiscoveryError::NoRuntime);
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(DiscoveryError::Entropy)?;
        let own = config.announcement.txt.id;
        let table = Arc::new(Table::new(own, config.policy));
        let stop = CancellationToken::new();
        let (announcement, announced) = watch::channel(config.announcement);
        let (remembered, where_they_were) = watch::channel(Vec::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(expire(Arc::clone(&table), stop.clone()));
        if config.mdns {
            let machine = Mdns::new(own, Rng::from_seed(seed));
            let place = (config.scope, config.mdns_port);
            let announced = announced.clone();
            tasks.spawn(mdns::run(Arc::clone(&table), machine, place, announced, stop.clone()));
        }
        if config.broadcast && config.scope == Scope::Lan {
            // Another seed than that of multicast DNS, whose timers would otherwise fall on the same moments.
            seed.reverse();
            let machine = Knock::new(own, Rng::from_seed(seed));
            let settings = knock::Settings { port: config.broadcast_port, scan: config.scan };
            let (table, stop) = (Arc::clone(&table), stop.clone());
            tasks.spawn(knock::run(table, machine, settings, announced, where_they_were, stop));
        }
        Ok(Self { table, announcement, remembered, stop, tasks: Mutex::new(tasks) })
    }

    /// Changes what is announced: name, pairing hint, port. Others hear of it at once.
    pub fn announce(&self, update: impl FnOnce(&mut Announcement)) {
        self.announcement.send_if_modified(|announcement| {
            let before = announcement.clone();
            update(announcement);
            // The identity is not up for change: the finders ignore their own by it.
            announcement.txt.id = before.txt.id;
            *announcement != before
        });
    }

    /// What is announced, as it changes.
    #[cfg(feature = "testing")]
    pub(crate) fn announced(&self) -> watch::Receiver<Announcement> {
        self.announcement.subscribe()
    }

    /// Everything that happens from now on, beginning with a snapshot.
    #[must_use]
    pub fn events(&self) -> Subscription {
        Subscription::new(Arc::clone(&self.table))
    }

    /// Every device in the table, in the order of their ids.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Device> {
        self.table.lock().nearby.snapshot()
    }

    /// One device.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<Device> {
        self.table.lock().nearby.device(id).cloned()
    }

    /// Every device that shows this name, paired ones first: more than one means the name is ambiguous.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<Device> {
        self.table.lock().nearby.named(name).into_iter().cloned().collect()
    }

    /// Where the device may be reached, best first; empty if it is not in the table.
    #[must_use]
    pub fn addresses_of(&self, id: &DeviceId) -> Vec<SocketAddr> {
        self.table.lock().nearby.device(id).map(|device| device.addresses.clone()).unwrap_or_default()
    }

    /// The paired devices with the names we know them by. Replaces the previous set. They keep their place in the table
    /// whatever strangers do, and their names and addresses under another key are reported.
    pub fn mark_known(&self, devices: impl IntoIterator<Item = (DeviceId, String)>) {
        self.table.feed(Input::Known(devices.into_iter().collect::<BTreeMap<_, _>>()));
    }

    /// Changes which finders count.
    pub fn set_policy(&self, policy: Policy) {
        self.table.feed(Input::Policy(policy));
    }

    /// Puts a device into the table by hand, for an hour: from a ticket, a QR code or the command line.
    pub fn add_manual(&self, id: DeviceId, name: &str, addresses: Vec<SocketAddr>) {
        self.observe(
            Finder::Manual,
            Observation {
                id,
                name: name.to_owned(),
                device_type: DeviceType::default(),
                version: String::new(),
                caps: Capabilities::NONE,
                pairing: PairingHint::Closed,
                addresses,
                interface: None,
                rssi: None,
                ttl: NEARBY_TTL_MAX,
            },
        );
    }

    /// Devices were at these addresses before: those on a LAN of this machine are asked who is there. Replaces the previous
    /// set, of which at most 64 count.
    pub fn remember(&self, addresses: Vec<IpAddr>) {
        self.remembered.send_if_modified(|before| {
            let changed = *before != addresses;
            *before = addresses;
            changed
        });
    }

    /// Reports what another finder saw.
    pub fn observe(&self, finder: Finder, observation: Observation) {
        self.table.feed(Input::Seen { finder, observation });
    }

    /// Reports that another finder lost a device.
    pub fn forget(&self, finder: Finder, id: DeviceId) {
        self.table.feed(Input::Gone { finder, id });
    }

    /// Says goodbye and ends everything this started, within a second. Subscriptions end. Calling it again does nothing.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_MAX, ended).await.is_err() {
            tracing::warn!("discovery did not end in time; ending it by force");
        }
        tasks.shutdown().await;
        self.table.close();
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.stop.cancel();
        self.table.close();
    }
}

/// A stream of [`Event`]s.
#[derive(Debug)]
pub struct Subscription {
    table: Arc<Table>,
    receiver: Option<broadcast::Receiver<Event>>,
    snapshot: Option<Vec<Device>>,
}

impl Subscription {
    fn new(table: Arc<Table>) -> Self {
        let (snapshot, receiver) = table.subscribe();
        Self { table, receiver, snapshot: Some(snapshot) }
    }

    /// The next event, or `None` when discovery has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(devices) = self.snapshot.take() {
            return Some(Event::Snapshot(devices));
        }
        match self.receiver.as_mut()?.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Closed) => None,
            Err(broadcast::error::RecvError::Lagged(_)) => {
                let (snapshot, receiver) = self.table.subscribe();
                self.receiver = receiver;
                Some(Event::Snapshot(snapshot))
            }
        }
    }
}

/// The table, its clock and its listeners. Every change happens under one lock, so events and snapshots agree.
#[derive(Debug)]
struct Table {
    started: Instant,
    inner: Mutex<Inner>,
    /// The first deadline may have moved.
    moved: Notify,
}

#[derive(Debug)]
struct Inner {
    nearby: Nearby,
    /// `None` after the end.
    events: Option<broadcast::Sender<Event>>,
}

impl Table {
    fn new(own: DeviceId, policy: Policy) -> Self {
        let inner =
            Inner { nearby: Nearby::new(own, policy), events: Some(broadcast::Sender::new(EVENT_QUEUE_MAX)) };
        Self { started: Instant::now(), inner: Mutex::new(inner), moved: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        Time::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    fn instant(&self, at: Time) -> Instant {
        self.started + Duration::from_micros(at.as_micros())
    }

    fn feed(&self, input: Input) {
        let mut inner = self.lock();
        let before = inner.nearby.poll_timeout();
        let now = self.now();
        inner.nearby.handle(now, input);
        while let Some(event) = inner.nearby.poll_output() {
            inner.publish(event.into());
        }
        if inner.nearby.poll_timeout() != before {
            self.moved.notify_one();
        }
    }

    fn publish(&self, event: Event) {
        self.lock().publish(event);
    }

    fn subscribe(&self) -> (Vec<Device>, Option<broadcast::Receiver<Event>>) {
        let inner = self.lock();
        (inner.nearby.snapshot(), inner.events.as_ref().map(broadcast::Sender::subscribe))
    }

    fn close(&self) {
        self.lock().events = None;
    }
}

impl Inner {
    fn publish(&self, event: Event) {
        if let Some(events) = &self.events {
            // Without listeners nobody needs to know.
            let _ = events.send(event);
        }
    }
}

/// Calls the table when something in it expires.
async fn expire(table: Arc<Table>, stop: CancellationToken) {
    loop {
        let deadline = table.lock().nearby.poll_timeout().map(|d| table.instant(d.at));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = table.moved.notified() => {}
            () = sleep_until(deadline) => table.feed(Input::Timeout),
        }
    }
}

/// Sleeps until the deadline, or forever without one.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
