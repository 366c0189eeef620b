//! What lies between simulated nodes: links with delay, loss and limits, NAT boxes, cuts, and the queue of what is on its
//! way. The models are those of `honeylink_sim`; here they meet tokio's clock.
//!
//! Everything happens under one lock, so a run on one thread has one order. Two nodes' packets take the link between
//! them; which draws its own random numbers, so traffic of others does not change its fate.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_sim::chance::{Chance, Purpose};
use honeylink_sim::clock::Moment;
use honeylink_sim::device::{NodeId, PortId};
use honeylink_sim::net::cable::{Cable, KEEPALIVE_US, SEEK_US, box_host};
use honeylink_sim::net::lane::{Lane, Passage};
use honeylink_sim::net::nat::{NatBox, NatKind};
use honeylink_sim::trace::Missed;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::trace::Trace;

/// Where a simulated device says it takes links. Nobody sends there; it is what people and tickets are shown.
const PORT: u16 = 7843;
/// Probes that two devices behind NATs exchange at once when they first look for each other.
const FIRST_PROBES: u32 = 3;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It comes in at this time, and perhaps a second time.
    Arrives(Instant, Option<Instant>),
    /// It does not.
    Lost,
}

/// The network between the nodes of one run. Clones are the same network.
#[derive(Clone)]
pub(crate) struct Internet {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Internet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Internet").finish_non_exhaustive()
    }
}

struct Shared {
    started: Instant,
    seed: u64,
    state: Mutex<State>,
    trace: Arc<Mutex<Trace>>,
    /// Something earlier than before is due.
    due: Notify,
    /// Who can hear whom may have changed.
    changed: Notify,
    /// The test is over; what follows is nobody's concern.
    ended: AtomicBool,
}

struct State {
    lane: Lane,
    hosts: Vec<Host>,
    nats: Vec<Vec<NatBox>>,
    links: BTreeMap<(NodeId, NodeId), Line>,
    /// Directions that a partition blocks, from and to.
    parted: BTreeSet<(NodeId, NodeId)>,
    queue: BinaryHeap<Reverse<Due>>,
    /// Numbers what is queued, so that of two things due at once the older one is first.
    queued: u64,
}

struct Host {
    name: String,
    id: DeviceId,
    up: bool,
}

/// The link of a pair, the smaller node first.
struct Line {
    cable: Cable,
    cut: bool,
}

struct Due {
    at: Instant,
    number: u64,
    what: What,
}

enum What {
    /// Something arrives at a node.
    Arrival { to: NodeId, deliver: Box<dyn FnOnce() + Send> },
    /// Both ends of a link look for each other through their NATs.
    Probe((NodeId, NodeId)),
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Internet {
    pub(super) fn new(seed: u64, lane: Lane, trace: Arc<Mutex<Trace>>) -> Self {
        let state = State {
            lane,
            hosts: Vec::new(),
            nats: Vec::new(),
            links: BTreeMap::new(),
            parted: BTreeSet::new(),
            queue: BinaryHeap::new(),
            queued: 0,
        };
        let shared = Shared {
            started: Instant::now(),
            seed,
            state: Mutex::new(state),
            trace,
            due: Notify::new(),
            changed: Notify::new(),
            ended: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seed(&self) -> u64 {
        self.shared.seed
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    fn now(&self) -> Moment {
        Moment::START.plus(self.elapsed())
    }

    fn instant(&self, at: Moment) -> Instant {
        self.shared.started + Duration::from_micros(at.as_micros())
    }

    pub(super) fn note(&self, what: &str) {
        if self.shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let at = self.now().as_micros();
        self.shared.trace.lock().unwrap_or_else(PoisonError::into_inner).note(at, what);
    }

    /// Nothing is noted from now on.
    pub(super) fn end(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }

    pub(super) fn with_trace<T>(&self, look: impl FnOnce(&Trace) -> T) -> T {
        look(&self.shared.trace.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until who hears whom may have changed.
    pub(super) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    pub(super) fn hint_changed(&self) {
        self.shared.changed.notify_one();
    }

    /// A new node behind these boxes, the nearest first. It is down at first.
    pub(super) fn add(&self, name: &str, id: DeviceId, behind: &[NatKind]) -> NodeId {
        let mut state = self.state();
        let node = NodeId(u32::try_from(state.hosts.len()).unwrap_or(u32::MAX));
        let nat = |(level, kind): (u32, &NatKind)| {
            let which = u64::from(node.0) * 8 + u64::from(level);
            let chance = Chance::new(self.shared.seed, Purpose::Nats, which);
            kind.rules().map(|rules| NatBox::new(rules, box_host(node, level), chance))
        };
        let boxes = (0..).zip(behind).filter_map(nat).collect();
        state.nats.push(boxes);
        state.hosts.push(Host { name: name.to_owned(), id, up: false });
        node
    }

    pub(super) fn set_up(&self, node: NodeId, up: bool) {
        let mut state = self.state();
        let host = &mut state.hosts[node.index()];
        host.up = up;
        let line = format!("{} {}", host.name, if up { "is up" } else { "is down" });
        drop(state);
        self.note(&line);
        self.hint_changed();
    }

    pub(crate) fn find(&self, id: &DeviceId) -> Option<NodeId> {
        let at = self.state().hosts.iter().position(|host| host.id == *id)?;
        u32::try_from(at).ok().map(NodeId)
    }

    pub(super) fn named(&self, name: &str) -> Option<NodeId> {
        let at = self.state().hosts.iter().position(|host| host.name == name)?;
        u32::try_from(at).ok().map(NodeId)
    }

    pub(crate) fn name(&self, node: NodeId) -> String {
        self.state().hosts[node.index()].name.clone()
    }

    /// The address that a node shows.
    pub(crate) fn addr(node: NodeId) -> SocketAddr {
        let [_, high, middle, low] = (node.0 + 1).to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(10, high, middle, low), PORT))
    }

    /// The shortest round trip between two nodes.
    pub(crate) fn rtt(&self, a: NodeId, b: NodeId) -> Duration {
        let mut state = self.state();
        let key = self.line(&mut state, a, b);
        let flows = state.links.get(&key).map(|line| &line.cable.flows);
        Duration::from_micros(flows.into_iter().flatten().map(|flow| flow.lane().latency_us).sum())
    }

    /// Whether `a` hears what `b` announces.
    pub(super) fn hears(&self, a: NodeId, b: NodeId) -> bool {
        let mut state = self.state();
        self.line(&mut state, a, b);
        state.passes((b, a))
    }

    /// The key of the link between two nodes, which is made when it is first asked for.
    fn line(&self, state: &mut State, a: NodeId, b: NodeId) -> (NodeId, NodeId) {
        let key = (a.min(b), a.max(b));
        if !state.links.contains_key(&key) {
            let number = key.0.index() * 4_096 + key.1.index();
            let ends = [(key.0, PortId(1)), (key.1, PortId(1))];
            let cable = Cable::new(self.shared.seed, number, ends, [state.lane.clone(), state.lane.clone()]);
            state.links.insert(key, Line { cable, cut: false });
            for _ in 0..FIRST_PROBES {
                self.probe(state, key);
            }
            self.probe_later(state, key);
        }
        key
    }

    /// Both ends of a link look for each other; without NATs they find each other for ever.
    fn probe(&self, state: &mut State, key: (NodeId, NodeId)) {
        let boxed = state.is_boxed(key);
        let passes = [(key.0, key.1), (key.1, key.0)].map(|way| !boxed || state.passes(way));
        let now = self.now();
        let State { links, nats, hosts, .. } = state;
        let Some(line) = links.get_mut(&key) else { return };
        let was = line.cable.open;
        let open = line.cable.probe(now, passes, nats);
        if open != was {
            let [a, b] = [key.0, key.1].map(|node| hosts[node.index()].name.clone());
            let what = if open { "found a way" } else { "lost the way" };
            self.note(&format!("{a} and {b} {what} through their NATs"));
        }
    }

    fn probe_later(&self, state: &mut State, key: (NodeId, NodeId)) {
        if !state.is_boxed(key) {
            return;
        }
        let open = state.links.get(&key).is_some_and(|line| line.cable.open);
        let at = self.instant(self.now().plus_us(if open { KEEPALIVE_US } else { SEEK_US }));
        self.push(state, at, What::Probe(key));
    }

    fn push(&self, state: &mut State, at: Instant, what: What) {
        state.queued += 1;
        let number = state.queued;
        state.queue.push(Reverse(Due { at, number, what }));
        if state.queue.peek().is_some_and(|first| first.0.number == number) {
            self.shared.due.notify_one();
        }
    }

    /// Sends `bytes` of a kind that the trace names, and says what becomes of them.
    pub(crate) fn send(&self, from: NodeId, to: NodeId, bytes: usize, kind: &str) -> Fate {
        let now = self.now();
        let mut state = self.state();
        let passage = self.pass(&mut state, now, from, to, bytes);
        let (fate, said) = match passage {
            Passage::Arrives { first, second, .. } => {
                let twice = second.map(|at| format!(" and {at}")).unwrap_or_default();
                let fate = Fate::Arrives(self.instant(first), second.map(|at| self.instant(at)));
                (fate, format!("arrives {first}{twice}"))
            }
            Passage::Lost(why) => (Fate::Lost, why.as_str().to_owned()),
        };
        let [from, to] = [from, to].map(|node| state.hosts[node.index()].name.as_str());
        let line = format!("{from} > {to} {kind} {bytes} B {said}");
        drop(state);
        self.note(&line);
        fate
    }

    fn pass(&self, state: &mut State, now: Moment, from: NodeId, to: NodeId, bytes: usize) -> Passage {
        let side = usize::from(from > to);
        let key = self.line(state, from, to);
        let reachable = state.passes((from, to));
        let State { links, nats, .. } = state;
        let Some(line) = links.get_mut(&key) else { return Passage::Lost(Missed::Absent) };
        // Drawn in any case, so that a cut changes nothing of what comes after it.
        let passage = line.cable.flows[side].pass(now, bytes);
        match passage {
            Passage::Lost(why) => Passage::Lost(why),
            Passage::Arrives { .. } if !reachable => Passage::Lost(Missed::Blocked),
            Passage::Arrives { .. } if !line.cable.open => Passage::Lost(Missed::Filtered),
            Passage::Arrives { .. } if !line.cable.carry(now, side, nats) => Passage::Lost(Missed::Filtered),
            Passage::Arrives { .. } => passage,
        }
    }

    /// Sends something that is handed over when it arrives, if somebody is there then.
    pub(crate) fn post<T: Clone + Send + 'static>(
        &self,
        (from, to): (NodeId, NodeId),
        (bytes, kind): (usize, &str),
        parcel: &T,
        deliver: impl Fn(T) + Clone + Send + 'static,
    ) {
        let Fate::Arrives(first, second) = self.send(from, to, bytes, kind) else { return };
        let mut state = self.state();
        for at in [Some(first), second].into_iter().flatten() {
            let (parcel, deliver) = (parcel.clone(), deliver.clone());
            self.push(&mut state, at, What::Arrival { to, deliver: Box::new(move || deliver(parcel)) });
        }
    }

    /// Delivers what is due, when it is, for as long as the run lasts.
    pub(super) async fn pump(self) {
        loop {
            let next = self.deliver_due();
            tokio::select! {
                biased;
                () = self.shared.due.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Delivers everything that is due now, and says when the next thing is.
    fn deliver_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state();
        loop {
            let next = state.queue.peek().map(|first| first.0.at)?;
            if next > now {
                return Some(next);
            }
            let Reverse(due) = state.queue.pop()?;
            match due.what {
                What::Arrival { to, deliver } if state.hosts[to.index()].up => {
                    // A delivery wakes tasks and may run code that sends.
                    drop(state);
                    deliver();
                    state = self.state();
                }
                What::Arrival { .. } => {}
                What::Probe(key) => {
                    self.probe(&mut state, key);
                    self.probe_later(&mut state, key);
                }
            }
        }
    }
}

/// What may be changed while the run goes on.
impl Internet {
    /// Changes the nature of every link, also of those that will be made.
    pub(super) fn shape_all(&self, change: impl Fn(&mut Lane)) {
        let mut state = self.state();
        change(&mut state.lane);
        for line in state.links.values_mut() {
            for flow in &mut line.cable.flows {
                let mut lane = flow.lane().clone();
                change(&mut lane);
                flow.set_lane(lane);
            }
        }
    }

    /// Changes the nature of one direction.
    pub(super) fn shape(&self, from: NodeId, to: NodeId, change: impl Fn(&mut Lane)) {
        let mut state = self.state();
        let key = self.line(&mut state, from, to);
        if let Some(line) = state.links.get_mut(&key) {
            let flow = &mut line.cable.flows[usize::from(from > to)];
            let mut lane = flow.lane().clone();
            change(&mut lane);
            flow.set_lane(lane);
        }
    }

    pub(super) fn part(&self, from: NodeId, to: NodeId) {
        self.state().parted.insert((from, to));
        self.hint_changed();
    }

    pub(super) fn heal(&self) {
        self.state().parted.clear();
        self.note("healed");
        self.hint_changed();
    }

    pub(super) fn cut(&self, a: NodeId, b: NodeId, cut: bool) {
        let mut state = self.state();
        let key = self.line(&mut state, a, b);
        if let Some(line) = state.links.get_mut(&key) {
            line.cut = cut;
        }
        let [a, b] = [a, b].map(|node| state.hosts[node.index()].name.as_str());
        let line = format!("link {a} - {b} {}", if cut { "is cut" } else { "is mended" });
        drop(state);
        self.note(&line);
        self.hint_changed();
    }

    /// A node's NAT boxes restart: every mapping is gone.
    pub(super) fn rebind(&self, node: NodeId) {
        let mut state = self.state();
        state.nats[node.index()].iter_mut().for_each(NatBox::rebind);
        let line = format!("the NAT of {} restarts", state.hosts[node.index()].name);
        drop(state);
        self.note(&line);
    }
}

impl State {
    /// Whether anything gets from one node to the other, NATs apart.
    fn passes(&self, (from, to): (NodeId, NodeId)) -> bool {
        let up = |node: NodeId| self.hosts[node.index()].up;
        let cut = self.links.get(&(from.min(to), from.max(to))).is_some_and(|line| line.cut);
        up(from) && up(to) && !cut && !self.parted.contains(&(from, to))
    }

    /// Whether a NAT box stands before either.
    fn is_boxed(&self, key: (NodeId, NodeId)) -> bool {
        [key.0, key.1].iter().any(|node| !self.nats[node.index()].is_empty())
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
