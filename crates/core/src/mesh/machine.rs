//! [`Mesh`]: the parts of the mesh put together in a fixed order. What they say to each other is in the modules
//! `receive` (frames heard), `pass` (frames on their way), `find` (ways looked for) and `own` (our messages).

use std::collections::VecDeque;

use bytes::Bytes;
use core::time::Duration;

use super::announcer::Announcer;
use super::bucket::Buckets;
use super::custody::{Custody, Quota};
use super::event::{Config, Dropped, Event, Failure, Input, Output, Snapshot, Stats, Step, Trace};
use super::forward::Forward;
use super::fragment::Assembly;
use super::frame::{Caps, FrameId};
use super::herald::ALLOWANCES;
use super::hint::{Address, Far, Near};
use super::inbox::Inbox;
use super::line::Line;
use super::meeting::Exchanges;
use super::memory::Memory;
use super::messages::Messages;
use super::neighbours::Neighbours;
use super::peers::Peers;
use super::port::{PortId, PortInfo, Ports};
use super::records::{Journal, Mark, Moment, Saved, Write};
use super::request::Requests;
use super::roll::Roll;
use super::routes::Routes;
use super::secrets::Secrets;
use super::spread::Spread;
use super::store::Offers;
use crate::identity::SecretKey;
use crate::limits::MESH_EVENTS_MAX;
use crate::rng::Rng;
use crate::time::{Deadline, Time};

/// The hop a search expects where no port says how long one takes.
const HOP_TIME_MIN: Duration = Duration::from_millis(50);
/// Ports that come up within this time after one that did hurry nobody.
const HURRY_PAUSE: Duration = Duration::from_secs(10);

/// This device's own names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) address: Address,
    pub(super) far: Far,
    pub(super) near: Near,
}

/// What came of the last input, until it is polled.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    queue: VecDeque<Output>,
    events: usize,
    pub(super) stats: Stats,
}

impl Outbound {
    pub(super) fn push(&mut self, output: Output) {
        if matches!(output, Output::Event(_)) {
            // A caller that does not poll loses events, nothing else.
            if self.events >= MESH_EVENTS_MAX {
                return;
            }
            self.events += 1;
        }
        self.queue.push_back(output);
    }

    /// Counts a drop, and tells it unless it is what happens all the time.
    pub(super) fn dropped(&mut self, port: Option<PortId>, why: Dropped) {
        self.stats.drop(why);
        if why != Dropped::Duplicate {
            self.push(Output::Event(Event::Dropped { port, why }));
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    fn pop(&mut self) -> Option<Output> {
        let output = self.queue.pop_front()?;
        self.events -= usize::from(matches!(output, Output::Event(_)));
        Some(output)
    }
}

/// The mesh of one device. See the [module](super) for its protocol and how to drive it.
#[derive(Debug)]
pub struct Mesh {
    pub(super) config: Config,
    pub(super) me: Names,
    pub(super) peers: Peers,
    pub(super) rng: Rng,
    pub(super) ports: Ports,
    pub(super) neighbours: Neighbours,
    pub(super) routes: Routes,
    pub(super) memory: Memory,
    pub(super) line: Line,
    pub(super) forward: Forward,
    pub(super) spread: Spread,
    pub(super) requests: Requests,
    pub(super) messages: Messages,
    pub(super) inbox: Inbox,
    pub(super) secrets: Secrets,
    pub(super) exchanges: Exchanges,
    pub(super) announcer: Announcer,
    pub(super) roll: Roll,
    /// What others may make this device do.
    pub(super) allowance: Buckets,
    pub(super) custody: Custody,
    pub(super) offers: Offers,
    pub(super) assembly: Assembly,
    pub(super) journal: Journal,
    pub(super) out: Outbound,
    /// What the wall clock showed last, and when.
    wall: Option<(Time, u64)>,
    /// Not before this, a port that comes up makes everything that waits try again.
    hurries_at: Time,
}

impl Mesh {
    /// The mesh of the device with this key, with what its disk holds.
    #[must_use]
    pub fn new(config: Config, key: SecretKey, mut rng: Rng, mut saved: Saved, now: Time) -> Self {
        let address = Address::of(&key.id());
        let mut journal = Journal::default();
        let mut out = Outbound::default();
        let (inbox, restored) = Inbox::restore(&mut saved, now, &mut journal);
        for peer in restored {
            out.event(Event::Sealed(peer));
        }
        let (secrets, unreadable) = Secrets::restore(&mut saved, &mut journal);
        for peer in unreadable {
            out.event(Event::RatchetLost(peer));
        }
        let announcer = Announcer::restore(&saved, &mut rng, &mut journal);
        let at = Moment { now, unix_ms: config.unix_ms };
        let (messages, damaged) = Messages::restore(&mut saved, at, &mut journal);
        if messages.numbers_lost() {
            out.event(Event::NumbersLost);
        }
        let quota = if config.caps.has(Caps::STORE) { config.quota } else { Quota::NONE };
        let (custody, lost) = Custody::restore(quota, &mut saved, at, &mut journal);
        if damaged + lost > 0 {
            out.event(Event::RecordsLost(damaged + lost));
        }
        let mut peers = Peers::new(key);
        for target in messages.targets() {
            peers.know(target, false);
        }
        let mut requests = Requests::default();
        let [a, b] = rng.bytes();
        requests.begin_at(u16::from_be_bytes([a, b]));
        Self {
            config,
            me: Names { address, far: address.far(), near: address.near() },
            peers,
            rng,
            ports: Ports::default(),
            neighbours: Neighbours::default(),
            routes: Routes::default(),
            memory: Memory::new(),
            line: Line::default(),
            forward: Forward::default(),
            spread: Spread::default(),
            requests,
            messages,
            inbox,
            secrets,
            exchanges: Exchanges::default(),
            announcer,
            roll: Roll::default(),
            allowance: Buckets::new(ALLOWANCES.0, ALLOWANCES.1),
            custody,
            offers: Offers::default(),
            assembly: Assembly::default(),
            journal,
            out,
            wall: config.unix_ms.map(|unix_ms| (now, unix_ms)),
            hurries_at: now,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::PortUp { port, info } => self.port_up(now, port, info),
            Input::PortDown { port } => self.port_down(now, port),
            Input::Frame { port, bytes, quality } => self.frame(now, port, bytes, quality),
            Input::Sent { port, token, aired } => self.sent(now, port, token, aired),
            Input::Send(message) => self.send(now, message),
            Input::Cancel(id) => self.finish(id, Step::Failed(Failure::Cancelled)),
            Input::Know(device) => self.know(device),
            Input::Synced(mark) => self.synced(now, Mark(mark)),
            Input::Forget(device) => self.forget(&device),
            Input::Root { peer, root, starts } => self.root(&peer, &root, starts),
            Input::AnnounceNow => self.announcer.hurry(now),
            Input::WallClock(unix_ms) => self.wall = Some((now, unix_ms)),
            Input::Timeout => {}
        }
        self.advance(now);
    }

    /// The next thing to do; drain to `None` after every [`Mesh::handle`].
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.out.pop() {
            return Some(output);
        }
        Some(match self.journal.poll()? {
            Write::Save(record) => Output::Save(record),
            Write::Erase(key) => Output::Erase(key),
            Write::Sync(Mark(mark)) => Output::Sync(mark),
        })
    }

    /// When to call [`Mesh::handle`] with [`Input::Timeout`], and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        [
            (self.line.next_at(), "a frame's turn to be sent"),
            (self.forward.next_at(), "a hop has not answered"),
            (self.requests.next_at(), "a search widens"),
            (self.messages.next_at(), "an own message is due"),
            (self.announcer.next_at().filter(|_| self.config.announces), "an announce is due"),
            (self.offers.next_at(), "nobody else took a frame"),
            (self.assembly.poll_timeout().map(|deadline| deadline.at), "pieces are missing"),
            (self.custody.poll_timeout().map(|deadline| deadline.at), "a frame kept for somebody is due"),
        ]
        .into_iter()
        .map(|(at, why)| at.map(|at| Deadline { at, why }))
        .fold(None, Deadline::earliest)
    }

    /// The device's address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.me.address
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { routes: self.routes.stats(), ..self.out.stats }
    }

    /// Everything worth showing.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> Snapshot {
        Snapshot {
            stats: self.stats(),
            routes: self.routes.iter(now).collect(),
            neighbours: self.neighbours.view(|port| self.ports.info(port).copied()),
            messages: self.messages.len(),
            waiting: self.line.len(),
            kept: self.custody.len(),
            kept_bytes: self.custody.bytes(),
            custody: self.custody.counts().clone(),
        }
    }

    /// What is known of the way to one device.
    #[must_use]
    pub fn trace(&self, now: Time, to: Address) -> Trace {
        Trace {
            to,
            ways: self.routes.ways(now, to.far()),
            searching: self.requests.is_searching(to.far()),
            forward_secret: self.secrets.is_sealing(&to),
            messages: self.messages.to(&to),
            keepers: self.messages.keepers(&to),
            passing: self.forward.toward(to.far()),
        }
    }

    /// The neighbour that answers for an own message that is stored, as far as it is known: since the last start.
    #[must_use]
    pub fn keeper(&self, id: u64) -> Option<crate::identity::DeviceId> {
        self.messages.keeper(id)
    }

    /// Roughly how many bytes of state there are.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        // Entries by their sizes, with what a B-tree that is two thirds full adds.
        let tree = |entries: usize, bytes: usize| entries * (bytes + bytes / 2);
        size_of::<Self>()
            + tree(self.neighbours.len(), 24)
            + tree(self.routes.len(), Routes::ENTRY_BYTES)
            + tree(self.memory.len(), Memory::ENTRY_BYTES)
            + tree(self.line.len(), 96)
            + tree(self.forward.len() + self.spread.len(), 256)
            + tree(self.requests.len(), 40)
            + tree(self.peers.len(), 136)
            + self.messages.bytes()
            + self.inbox.bytes()
            + self.secrets.bytes()
            + tree(self.exchanges.len(), 128)
            + self.announcer.bytes()
            + tree(self.roll.len(), Roll::ENTRY_BYTES)
            + tree(self.allowance.len(), 32)
            + tree(self.custody.len(), Custody::ENTRY_BYTES)
            + self.custody.bytes()
            + self.offers.bytes()
            + self.assembly.bytes()
    }

    /// Everything whose time has come, until nothing more has.
    fn advance(&mut self, now: Time) {
        self.advance_passages(now);
        self.advance_searches(now);
        self.advance_messages(now);
        self.advance_secrets(now);
        self.advance_announces(now);
        self.advance_kept(now);
        self.advance_pieces(now);
        self.transmit(now);
    }

    fn know(&mut self, device: crate::identity::DeviceId) {
        let address = Address::of(&device);
        if address != self.me.address && self.peers.know(device, true) {
            self.inbox.trust(&address);
            self.roll.pair(&address, true);
        }
    }

    fn port_up(&mut self, now: Time, port: PortId, info: PortInfo) {
        if !self.ports.up(port, info) {
            self.out.event(Event::PortRefused(port));
            return;
        }
        self.announcer.up(now, port, &info, &mut self.rng);
        // Whoever is behind it may be what waited for. A port that comes and goes all the time is no news each time.
        let at = now.max(self.hurries_at);
        self.hurries_at = at + HURRY_PAUSE;
        self.requests.end_rests(at);
        self.messages.wake_all(at);
        self.custody.hurry(at);
    }

    fn port_down(&mut self, now: Time, port: PortId) {
        if !self.ports.down(port) {
            return;
        }
        self.announcer.down(port);
        self.routes.forget_port(port);
        self.neighbours.forget_port(port);
        self.spread.forget_port(port);
        self.line.forget_port(port);
        for (id, passage) in self.forward.forget_port(port) {
            self.pass_again(now, id, passage);
        }
    }

    fn synced(&mut self, now: Time, mark: Mark) {
        self.announcer.synced(mark);
        self.secrets_synced(now, mark);
        let safe = self.messages.synced(now, mark);
        self.accepted(safe);
        for (frame, depositor) in self.custody.synced(mark) {
            self.say_kept(now, frame, depositor);
        }
        for owed in self.inbox.synced(mark) {
            self.send_receipt(now, owed);
        }
    }

    /// Now, with the wall clock as far as it is known.
    pub(super) fn moment(&self, now: Time) -> Moment {
        let passed = |since: Time| u64::try_from(now.saturating_since(since).as_millis()).unwrap_or(u64::MAX);
        let unix_ms = self.wall.map(|(since, unix_ms)| unix_ms.saturating_add(passed(since)));
        Moment { now, unix_ms }
    }

    /// How long one hop of a search takes on the slowest port: a frame's wait, its airtime, and the same for the answer.
    pub(super) fn hop_time(&self) -> Duration {
        let slowest =
            self.ports.iter().map(|(_, info)| info.airtime(24) * 4 + Duration::from_millis(200)).max();
        slowest.unwrap_or(HOP_TIME_MIN)
    }

    pub(super) const fn relays(&self) -> bool {
        self.config.caps.has(Caps::RELAY)
    }

    /// Takes a frame back wherever it waits.
    pub(super) fn withdraw(&mut self, purpose: &super::line::Purpose, on: Option<PortId>) {
        for (port, token) in self.line.withdraw(purpose, on) {
            self.out.push(Output::Withdraw { port, token });
        }
    }

    pub(super) fn once(&mut self, at: Time, port: PortId, frame: &super::frame::Frame) {
        let bytes: Bytes = frame.to_bytes().freeze();
        let priority = super::frame::Priority::Control;
        let len = bytes.len();
        let turn =
            super::line::Turn::new(port, super::line::Purpose::Once(bytes), frame.kind(), priority, len);
        self.queue(at, turn.at_once());
    }

    /// Names frames in a trace.
    pub(super) fn remember(&mut self, now: Time, id: FrameId, hops: u8) -> bool {
        self.memory.first(now, id, hops)
    }
}
