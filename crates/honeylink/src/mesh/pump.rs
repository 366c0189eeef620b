//! The task that owns the mesh: gives it what happens, does what it wants done, and decides nothing.
//!
//! ```text
//!  handles ──orders──▶ ┌────────┐ ──Transmit──▶ queue of a port ──▶ its task
//!  ports ───events───▶ │  Mesh  │ ──Save, Sync─▶ Disk (one transaction at a time)
//!  clock, disk ──────▶ └────────┘ ──Deliver───▶ Inbox (on disk before the receipt)
//! ```
//!
//! It never waits for a port or for the application: a full queue is an answer to the mesh.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use honeylink_core::mesh::control::Hello;
use honeylink_core::mesh::frame::Caps;
use honeylink_core::mesh::hint::Address;
use honeylink_core::mesh::keys::{Root, Starts};
use honeylink_core::mesh::{Event, Input, Mesh, Outgoing, Output, PortId, Quality, Step, Trace, Trail};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::disk::Disk;
use super::ports::{Declined, Ports};
use super::queue::{Queue, Waiting};
use super::radio::{self, Heard, Radios};
use super::shared::{Inlets, Shared};
use super::{MeshEvent, MeshSnapshot};
use crate::carrier::Conn;
use crate::carrier::serial::{self, OpenError, SerialConfig};
use crate::clock::{Clock, unix_ms};
use crate::node::Durations;
use crate::store::Store;
use crate::store::mesh::Kept;

/// How often the mesh is told the wall clock, so that what it writes knows how long the device was off.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(60);
/// Deadlines are kept no more often than this, whatever a machine asks for.
const TIMEOUT_EVERY: Duration = Duration::from_millis(1);
/// Sendings whose progress is followed. Beyond, those that nobody follows any more are forgotten.
const SENDINGS_MAX: usize = 1024;
/// Answers given to the mesh in one go before others get their turn.
const TURN_MAX: usize = 256;

/// What handles want.
#[derive(Debug)]
pub(super) enum Order {
    Send { outgoing: Outgoing, step: watch::Sender<Option<Step>> },
    Cancel(u64),
    Know(DeviceId),
    Part(DeviceId),
    Forget(DeviceId),
    Announce,
    Snapshot(oneshot::Sender<MeshSnapshot>),
    Trace(Address, oneshot::Sender<Trace>),
    Keeper(u64, oneshot::Sender<Option<DeviceId>>),
}

/// What a connection gets when it becomes a port.
pub(super) type Granted = (PortId, Arc<Queue>);

/// A connection to a paired device, whose ends have said hello.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) conn: Conn,
    /// The number in our hello.
    pub(super) ours: u32,
    pub(super) theirs: Hello,
    pub(super) root: Zeroizing<[u8; 32]>,
    pub(super) answer: oneshot::Sender<Result<Granted, Declined>>,
}

/// What ports say.
#[derive(Debug)]
pub(super) enum PortEvent {
    /// A connection is ready.
    Up(Box<Greeted>),
    Frame {
        port: PortId,
        bytes: Bytes,
        quality: Option<Quality>,
    },
    Sent {
        port: PortId,
        token: u64,
        aired: bool,
    },
    Down {
        port: PortId,
    },
    Radio {
        index: usize,
        event: Box<serial::Event>,
    },
}

/// What the pump woke up for.
enum Woke {
    Order(Option<Order>),
    Port(Option<PortEvent>),
    Written(Result<Option<u64>, String>),
    DealtWith,
    Time,
    Stop,
}

/// See the module's doc.
#[derive(Debug)]
pub(super) struct Pump {
    mesh: Mesh,
    clock: Clock,
    store: Arc<Store>,
    shared: Arc<Shared>,
    ports: Ports,
    disk: Disk,
    /// Who follows which message, and since when it is under way.
    sendings: BTreeMap<u64, (watch::Sender<Option<Step>>, Instant)>,
    /// How long messages took to their receipts.
    deliveries: Durations,
    /// Answers to what the mesh wanted, in order.
    answers: VecDeque<Input>,
    timeout_not_before: Instant,
    wall_clock_at: Instant,
    /// Messages lost because nobody took them.
    overflowed: u64,
    radios: Radios,
    /// Why the disk refused last, until it takes everything again.
    refusal: Option<String>,
}

impl Pump {
    pub(super) fn new(
        mesh: Mesh,
        local: DeviceId,
        clock: Clock,
        store: Arc<Store>,
        shared: Arc<Shared>,
    ) -> Self {
        let now = Instant::now();
        Self {
            mesh,
            clock,
            disk: Disk::new(store.clone()),
            store,
            shared,
            ports: Ports::new(local),
            sendings: BTreeMap::new(),
            deliveries: Durations::default(),
            answers: VecDeque::new(),
            timeout_not_before: now,
            wall_clock_at: now,
            overflowed: 0,
            radios: Radios::default(),
            refusal: None,
        }
    }

    /// Gives the mesh its radios.
    pub(super) async fn open_radios(&mut self, configs: Vec<SerialConfig>) -> Result<(), OpenError> {
        self.radios = Radios::open(configs, &self.shared.port_events).await?;
        Ok(())
    }

    /// Runs until the node stops; then everything the mesh must remember is on disk.
    pub(super) async fn run(mut self, mut inlets: Inlets, stop: CancellationToken) {
        loop {
            if self.wall_clock_at <= Instant::now() {
                self.wall_clock_at = Instant::now() + WALL_CLOCK_EVERY;
                self.give(Input::WallClock(unix_ms()));
            }
            self.settle();
            match self.next(&mut inlets, &stop).await {
                Woke::Order(Some(order)) => self.order(order),
                Woke::Port(Some(event)) => self.port(event),
                Woke::Written(Ok(mark)) => {
                    self.refusal = None;
                    mark.into_iter().for_each(|mark| self.give(Input::Synced(mark)));
                }
                Woke::Written(Err(why)) => self.disk_failed(why),
                Woke::DealtWith => {
                    for key in self.shared.inbox.done() {
                        self.disk.inbox(key, None);
                    }
                }
                Woke::Time => {
                    self.timeout_not_before = Instant::now() + TIMEOUT_EVERY;
                    self.give(Input::Timeout);
                }
                Woke::Order(None) | Woke::Port(None) | Woke::Stop => break,
            }
        }
        self.finish().await;
    }

    async fn next(&mut self, inlets: &mut Inlets, stop: &CancellationToken) -> Woke {
        let wake_at = self.wake_at();
        // tidy: fair because a neighbour that never pauses must not keep the application waiting, nor the other way round
        tokio::select! {
            order = inlets.orders.recv() => Woke::Order(order),
            event = inlets.port_events.recv() => Woke::Port(event),
            written = self.disk.written() => Woke::Written(written),
            () = self.shared.inbox.dealt_with.notified() => Woke::DealtWith,
            () = tokio::time::sleep_until(wake_at) => Woke::Time,
            () = stop.cancelled() => Woke::Stop,
        }
    }

    fn wake_at(&self) -> Instant {
        if !self.answers.is_empty() {
            return Instant::now();
        }
        let machine = self.mesh.poll_timeout().map(|deadline| self.clock.instant(deadline.at));
        let machine = machine.map(|at| at.max(self.timeout_not_before));
        [machine, self.disk.deadline()].into_iter().flatten().fold(self.wall_clock_at, Instant::min)
    }

    fn give(&mut self, input: Input) {
        self.mesh.handle(self.clock.now(), input);
    }

    /// Does what the mesh wants done, and tells it what came of it, within reason.
    fn settle(&mut self) {
        for _ in 0..TURN_MAX {
            while let Some(output) = self.mesh.poll_output() {
                self.act(output);
            }
            let Some(answer) = self.answers.pop_front() else { break };
            self.give(answer);
        }
        self.shared.next_number.store(self.mesh.next_number(), Ordering::Relaxed);
        self.disk.start();
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Transmit { port, token, bytes, priority, expires_at, kind } => {
                let expires_at = self.clock.instant(expires_at);
                let frame = Waiting { token, bytes, priority, expires_at };
                let unsent = match self.ports.queue(port) {
                    Some(queue) => queue.push(frame),
                    None => (!self.radios.send(port, frame, kind)).then_some(token),
                };
                self.answers.extend(unsent.map(|token| Input::Sent { port, token, aired: false }));
            }
            Output::Withdraw { port, token } => match self.ports.queue(port) {
                Some(queue) => queue.withdraw(token),
                None => self.radios.withdraw(port, token),
            },
            Output::Deliver { from, seq, payload, trail } => self.deliver(from, seq, payload, trail),
            Output::Progress { id, step } => self.progress(id, step),
            Output::Save(record) => self.disk.record(record.key, Some(record.value)),
            Output::Erase(key) => self.disk.record(key, None),
            Output::Sync(mark) => self.disk.sync(mark),
            Output::Event(event) => self.tell(event),
        }
    }

    fn deliver(&mut self, from: DeviceId, number: u32, payload: Bytes, trail: Trail) {
        // The mesh learns of a device that was forgotten only when the node starts again.
        if payload.is_empty() || !self.store.trust().is_trusted(&from) {
            tracing::debug!(from = %from.short(), "dropped a mesh message: not paired any more, or empty");
            return;
        }
        let kept = Kept { hops: trail.hops, kind: trail.kind, at: unix_ms(), payload };
        if self.shared.inbox.insert((from, number), kept.clone()) {
            self.disk.inbox((from, number), Some(kept));
        } else {
            self.overflowed += 1;
            tracing::warn!(from = %from.short(), "a mesh message was lost: too many wait to be taken");
            self.shared.tell(MeshEvent::InboxFull { from });
        }
    }

    fn progress(&mut self, id: u64, step: Step) {
        if let Some((sending, since)) = self.sendings.get(&id) {
            sending.send_replace(Some(step));
            if step == Step::Delivered {
                self.deliveries.add(since.elapsed());
            }
            if matches!(step, Step::Delivered | Step::Failed(_)) {
                self.sendings.remove(&id);
            }
        }
        self.shared.tell(MeshEvent::Progress { id, step });
    }

    fn tell(&self, event: Event) {
        tracing::trace!(?event, "mesh");
        self.shared.tell(MeshEvent::Mesh(event));
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Send { outgoing, step } => {
                if self.sendings.len() >= SENDINGS_MAX {
                    self.sendings.retain(|_, (sending, _)| !sending.is_closed());
                }
                if self.sendings.len() < SENDINGS_MAX {
                    self.sendings.insert(outgoing.id, (step, Instant::now()));
                }
                self.give(Input::Send(outgoing));
            }
            Order::Cancel(id) => self.give(Input::Cancel(id)),
            Order::Know(peer) => self.give(Input::Know(peer)),
            Order::Part(peer) => self.part(&peer),
            Order::Forget(peer) => {
                self.part(&peer);
                self.give(Input::Forget(peer));
            }
            Order::Announce => self.give(Input::AnnounceNow),
            Order::Snapshot(answer) => {
                // Whoever asked may have given up waiting.
                let _ = answer.send(self.snapshot());
            }
            Order::Trace(to, answer) => {
                let _ = answer.send(self.mesh.trace(self.clock.now(), to));
            }
            Order::Keeper(id, answer) => {
                let _ = answer.send(self.mesh.keeper(id));
            }
        }
    }

    fn part(&mut self, peer: &DeviceId) {
        if let Some(port) = self.ports.part(peer) {
            self.took_down(port);
        }
    }

    fn port(&mut self, event: PortEvent) {
        match event {
            PortEvent::Up(greeted) => {
                let Greeted { conn, ours, theirs, root, answer } = *greeted;
                // Whoever asked may have given up waiting; its port ends with its connection.
                let _ = answer.send(self.connected(conn, ours, theirs, &root));
            }
            PortEvent::Frame { port, bytes, quality } => self.give(Input::Frame { port, bytes, quality }),
            PortEvent::Sent { port, token, aired } => self.give(Input::Sent { port, token, aired }),
            PortEvent::Down { port } => {
                if self.ports.down(port) {
                    self.took_down(port);
                }
            }
            PortEvent::Radio { index, event } => self.radio(index, *event),
        }
    }

    fn radio(&mut self, index: usize, event: serial::Event) {
        let port = self.radios.port(index);
        match (radio::heard(index, event), port) {
            (Heard::Up, None) => {
                let Some(info) = self.radios.info(index) else { return };
                let port = self.ports.on_air(index, info);
                self.radios.set_port(index, Some(port));
                self.took_up(port);
            }
            (Heard::Down, Some(port)) => {
                self.radios.set_port(index, None);
                self.ports.down(port);
                self.took_down(port);
            }
            (Heard::Frame(bytes, quality), Some(port)) => self.give(Input::Frame { port, bytes, quality }),
            (Heard::Sent(token, aired), Some(port)) => self.give(Input::Sent { port, token, aired }),
            // Of a port that is gone the mesh wants to hear no more.
            (Heard::Up | Heard::Nothing, _) | (Heard::Down | Heard::Frame(..) | Heard::Sent(..), None) => {}
        }
    }

    fn connected(
        &mut self,
        conn: Conn,
        ours: u32,
        theirs: Hello,
        root: &[u8; 32],
    ) -> Result<Granted, Declined> {
        let peer = conn.peer();
        if !self.store.trust().is_trusted(&peer) {
            return Err(Declined::NotPaired);
        }
        let starts = Starts { ours, theirs: theirs.seq };
        let (port, replaced, queue) = self.ports.connected(conn, theirs)?;
        if let Some(old) = replaced {
            self.took_down(old);
        }
        self.give(Input::Know(peer));
        self.give(Input::Root { peer, root: Root::from_session(*root), starts });
        self.took_up(port);
        Ok((port, queue))
    }

    fn took_up(&mut self, port: PortId) {
        if let Some(info) = self.ports.info(port) {
            self.give(Input::PortUp { port, info });
        }
        if let Some(view) = self.ports.view(port) {
            self.shared.tell(MeshEvent::PortUp(view));
        }
        self.shared.set_up(self.ports.peers());
    }

    fn took_down(&mut self, port: PortId) {
        self.give(Input::PortDown { port });
        self.shared.tell(MeshEvent::PortDown(port));
        self.shared.set_up(self.ports.peers());
    }

    fn disk_failed(&mut self, why: String) {
        self.refusal = Some(why.clone());
        tracing::error!(%why, "the mesh cannot be written to disk; it promises nothing until it can");
        self.shared.tell(MeshEvent::DiskFailed(why));
    }

    fn snapshot(&self) -> MeshSnapshot {
        let at = self.clock.now();
        MeshSnapshot {
            at,
            address: self.mesh.address(),
            caps: self.shared.caps,
            mesh: self.mesh.snapshot(at),
            devices: self.mesh.devices(at, Caps::NONE),
            ports: self.ports.views(),
            radios: self.radios.views(),
            inbox: self.shared.inbox.len(),
            overflowed: self.overflowed,
            violations: self.shared.violations.load(Ordering::Relaxed),
            deliveries: self.deliveries,
            state_bytes: self.mesh.state_bytes(),
            disk: self.refusal.clone(),
        }
    }

    async fn finish(mut self) {
        self.settle();
        self.shared.inbox.close();
        self.ports.close();
        self.radios.close().await;
        for key in self.shared.inbox.done() {
            self.disk.inbox(key, None);
        }
        if let Err(why) = self.disk.finish().await {
            self.disk_failed(why);
        }
    }
}
