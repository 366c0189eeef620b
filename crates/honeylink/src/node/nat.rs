//! When holes are made: watches connections that go by a relay, arranges attempts with the other side, and moves the
//! connection over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::{NAT_ATTEMPT_EVERY, NAT_ATTEMPTS_MAX};
use honeylink_core::nat::plan::{NoPlan, Plan, Work};
use honeylink_core::nat::talk::{Refusal, Talk, View};
use honeylink_core::nat::wire::{Attempt, ProbeKeys};
use honeylink_core::nat::{Behavior, Punch, Side as Role};
use honeylink_core::paths::Hindrance;
use honeylink_core::rng::Rng;
use honeylink_core::wire::link::{Class, SessionId, StreamHeader, StreamKind};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Carriers, Inner, Node, Reach};
use crate::carrier::punched::{Hole, HoleAddr};
use crate::carrier::quic::QuicCarrier;
use crate::carrier::{ALPN_PUNCH, Conn, RecvStream, SendStream, Side, code};
use crate::clock::unix_ms;
use crate::nat::ask::{self, Depth, Look};
use crate::nat::attempt::{self, Won};
use crate::nat::observers::Observers;
use crate::nat::{AttemptReport, NatOptions, NatReport, NotPunched, ObserverSockets};

/// How many round trips over the relay ordinary hole punching gets before this one begins: the devices tell each other where
/// they are, and both try, twice.
const PATIENCE_ROUND_TRIPS: u32 = 4;
/// Within these bounds.
const PATIENCE_MIN: Duration = Duration::from_millis(300);
const PATIENCE_MAX: Duration = Duration::from_millis(1500);
/// Pause after an attempt that failed, or whose hole died soon; doubled each time.
const PAUSE_MIN: Duration = Duration::from_secs(6);
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// How often a side that does not lead looks whether it does now.
const LEADER_CHECK: Duration = Duration::from_secs(20);
/// A hole that was open for this long was a good one: the next attempt comes at once.
const GOOD_HOLE: Duration = Duration::from_secs(30);
/// How often the box is looked at while nothing else gives reason to.
const LOOK_EVERY: Duration = Duration::from_secs(300);
/// Each step of the arrangement.
const TALK_TIMEOUT: Duration = Duration::from_secs(8);
/// How long the connection has to appear at the hole.
const MOVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Dials through a new hole. The first packets of one may take the relay's way.
const DIALS_MAX: usize = 3;
/// A connection that is there only to bring a path with it ends after this at the latest.
const GUIDE_MAX: Duration = Duration::from_secs(30);
/// Devices whose latest attempt is remembered.
const REPORTS_MAX: usize = 64;
/// The conversation's name in stream headers.
const PROTOCOL: &str = "honeylink/nat/1";

/// What the node knows and does about NAT boxes.
#[derive(Debug)]
pub(crate) struct NatDesk {
    options: NatOptions,
    observers: Observers,
    observing: Option<ObserverSockets>,
    turns: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    report: NatReport,
    latest: BTreeMap<DeviceId, AttemptReport>,
    /// When each device was last let have an attempt.
    served: BTreeMap<DeviceId, Instant>,
}

/// What an attempt came to, for its report.
#[derive(Debug, Default)]
struct Told {
    theirs: Option<Behavior>,
    probes: u16,
}

/// An attempt that the other side asked for and that can begin.
struct Ready {
    punch: Punch,
    socket: Arc<tokio::net::UdpSocket>,
    /// One of those that may be under way.
    turn: OwnedSemaphorePermit,
}

impl NatDesk {
    /// Without `observers` nobody is asked and nothing is tried.
    pub(super) fn new(
        options: NatOptions,
        observers: Option<Observers>,
        observing: Option<ObserverSockets>,
    ) -> Self {
        let observers = observers.unwrap_or_else(|| Observers::new(Vec::new(), &[], None));
        let report = NatReport { punch: options.punch, ..NatReport::default() };
        let state = Mutex::new(State { report, ..State::default() });
        Self { options, observers, observing, turns: Arc::new(Semaphore::new(NAT_ATTEMPTS_MAX)), state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn punches(&self) -> bool {
        self.options.punch && !self.observers.is_empty()
    }

    /// Whether `peer` may have an attempt now; if so, it may not for a while.
    fn admit(&self, peer: DeviceId) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        state.served.retain(|_, at| now - *at < NAT_ATTEMPT_EVERY);
        if state.served.contains_key(&peer) || state.served.len() >= REPORTS_MAX {
            return false;
        }
        state.served.insert(peer, now);
        true
    }

    fn note(&self, report: AttemptReport) {
        let mut state = self.state();
        state.report.attempts += 1;
        state.report.punched += u64::from(report.result.is_ok());
        if state.latest.len() >= REPORTS_MAX && !state.latest.contains_key(&report.peer) {
            let oldest =
                state.latest.values().min_by_key(|report| report.at_unix_ms).map(|report| report.peer);
            oldest.and_then(|peer| state.latest.remove(&peer));
        }
        state.latest.insert(report.peer, report);
    }

    /// What keeps the way to `peer` from being direct, as far as attempts showed.
    pub(super) fn hindrance(&self, peer: &DeviceId) -> Option<Hindrance> {
        let state = self.state();
        let latest = state.latest.get(peer).filter(|report| report.result.is_err())?;
        let theirs = latest.theirs?;
        Some(Hindrance::Nats { ours: state.report.behavior, theirs })
    }
}

impl Node {
    /// What is known of the NAT box before this device and of attempts to get through others; `None` unless the node's reach
    /// is wide.
    #[must_use]
    pub fn nat(&self) -> Option<NatReport> {
        let quic = self.inner.wide()?;
        let state = self.inner.nat.state();
        let latest = state.latest.values().cloned().collect();
        let (dropped, observing) =
            (quic.holes().counts(), self.inner.nat.observing.as_ref().map(ObserverSockets::counts));
        let observers = self.inner.nat.observers.known().len();
        Some(NatReport { latest, dropped, observing, observers, ..state.report.clone() })
    }
}

#[cfg(feature = "testing")]
impl Node {
    pub(crate) fn add_forwarder(
        &self,
        peer: DeviceId,
        socket: Arc<tokio::net::UdpSocket>,
        by: SocketAddr,
    ) -> std::io::Result<()> {
        let quic = self.inner.wide().ok_or(std::io::ErrorKind::Unsupported)?;
        let addr = HoleAddr { kind: crate::carrier::punched::Kind::Forwarded, peer };
        let hole = Hole::new(socket, by, None)?;
        quic.holes().insert(addr, hole).map_err(std::io::Error::other)
    }
}

impl Inner {
    /// The carrier, if it may go anywhere and through real networks.
    fn wide(&self) -> Option<&QuicCarrier> {
        match &self.carriers {
            Carriers::Quic(quic) if self.reach == Reach::Wide && !quic.is_simulated() => Some(quic),
            Carriers::Quic(_) | Carriers::Memory(_) => None,
        }
    }

    /// Looks at the box now and then, so that `status` can tell how it behaves.
    pub(super) async fn watch_nat(self: Arc<Self>) {
        if self.wide().is_none() || self.nat.observers.is_empty() {
            return;
        }
        let watching = async {
            loop {
                // Its outcome is in the report.
                let _ = self.look(Depth::Thorough).await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        self.stop.run_until_cancelled(watching).await;
    }

    /// Answers those who ask where they are seen, until the node stops.
    pub(super) async fn observe(self: Arc<Self>) {
        if let Some(observing) = &self.nat.observing {
            self.stop.run_until_cancelled(observing.run()).await;
        }
    }

    async fn look(&self, depth: Depth) -> Result<Look, NotPunched> {
        self.nat.observers.learn(depth == Depth::Quick).await;
        let observers = ask::resolve(&self.nat.observers.known()).await;
        let mut rng = Rng::from_seed(self.random());
        let looked = ask::look(self.id, &observers, depth, &mut rng).await;
        let look = looked.map_err(|error| NotPunched::Arranging(error.to_string()))?;
        let answered: Vec<_> = look.tickets.iter().map(|ticket| ticket.observer).collect();
        self.nat.observers.answered(&answered);
        let mut state = self.nat.state();
        let report = &mut state.report;
        (report.asked, report.answered) = (observers.len(), look.tickets.len());
        if look.tickets.is_empty() {
            return Err(NotPunched::NoObserver);
        }
        report.seen = look.seen;
        let filtering = report.behavior.filtering;
        report.behavior = look.behavior;
        if depth == Depth::Quick {
            // It did not look at that.
            report.behavior.filtering = filtering;
        }
        Ok(look)
    }

    /// As long as the connection lives, gets it off relays. Only the side that dialled does.
    pub(super) async fn keep_punching(&self, conn: &Conn) {
        let dialled = conn.side() == Side::Dialer;
        if !dialled || self.wide().is_none() || !self.nat.punches() {
            return std::future::pending().await;
        }
        let mut events = conn.path_events();
        let mut pause = PAUSE_MIN;
        loop {
            if !is_passed_on(conn) || !self.is_leading(&conn.peer()) {
                // Which connection leads may change without an event of this one.
                let _ = tokio::time::timeout(LEADER_CHECK, events.next()).await;
                continue;
            }
            tokio::time::sleep(patience(conn)).await;
            if !is_passed_on(conn) {
                continue;
            }
            let punched = self.punch(conn).await.is_ok();
            let since = Instant::now();
            while punched && !is_passed_on(conn) {
                events.next().await;
            }
            if punched && since.elapsed() > GOOD_HOLE {
                pause = PAUSE_MIN;
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Whether this side dialled the connection that counts: when both dialled at once there are two, and both sides agree
    /// which one counts, so that only one of them asks for attempts.
    fn is_leading(&self, peer: &DeviceId) -> bool {
        self.pool.current(peer).is_some_and(|current| current.side() == Side::Dialer)
    }

    /// One attempt from the controlling side, to its end.
    async fn punch(&self, conn: &Conn) -> Result<(), NotPunched> {
        let began = Instant::now();
        let mut told = Told::default();
        let result = self.arrange(conn, &mut told).await;
        self.told(conn.peer(), began, &told, &result);
        result
    }

    fn told(&self, peer: DeviceId, began: Instant, told: &Told, result: &Result<(), NotPunched>) {
        let took = began.elapsed();
        match result {
            Ok(()) => tracing::info!(peer = %peer.short(), ?took, probes = told.probes, "made a hole"),
            Err(why) => tracing::info!(peer = %peer.short(), ?took, %why, "no hole was made"),
        }
        self.nat.note(AttemptReport {
            peer,
            at_unix_ms: unix_ms(),
            took,
            probes: told.probes,
            theirs: told.theirs,
            result: result.clone(),
        });
    }

    async fn arrange(&self, conn: &Conn, told: &mut Told) -> Result<(), NotPunched> {
        let _turn = self.nat.turns.try_acquire().map_err(|_| NotPunched::Busy)?;
        let look = self.look(Depth::Quick).await?;
        let attempt = ProbeKeys::name(&mut Rng::from_seed(self.random()));
        let view = View { behavior: look.behavior, tickets: look.tickets.clone() };
        let offering = async {
            let (mut send, mut recv) = conn.open().await.map_err(arranging)?;
            let header = StreamHeader {
                kind: StreamKind::Nat,
                session: SessionId([0; 16]),
                priority: Class::Interactive.into(),
                protocol: PROTOCOL.to_owned(),
            };
            let mut bytes = bytes::BytesMut::new();
            header.encode(&mut bytes);
            bytes.extend_from_slice(&Talk::Offer { attempt, view }.to_bytes());
            send.write_chunk(bytes.freeze()).await.map_err(arranging)?;
            send.finish().await.map_err(arranging)?;
            read_talk(&mut recv).await.map_err(arranging)
        };
        let answered = tokio::time::timeout(TALK_TIMEOUT, offering).await;
        match answered.map_err(arranging)?? {
            Ok(Talk::Answer { view }) => {
                told.theirs = Some(view.behavior);
                let (punch, socket) = self.begin(conn, Role::Controlling, attempt, look, &view)?;
                self.run_attempt(conn, Role::Controlling, punch, socket, told).await
            }
            Ok(Talk::Refusal(why)) => Err(NotPunched::Refused(why)),
            Ok(Talk::Offer { .. }) | Err(_) => Err(NotPunched::Arranging("it answered with nonsense".into())),
        }
    }

    /// Serves a conversation that the other side opened.
    pub(super) async fn serve_nat(&self, conn: &Conn, mut send: SendStream, mut recv: RecvStream) {
        let began = Instant::now();
        let reading = tokio::time::timeout(TALK_TIMEOUT, read_talk(&mut recv));
        let Ok(Ok(offer)) = reading.await else { return };
        let mut told = Told::default();
        let ready = match offer {
            Ok(Talk::Offer { attempt, view }) => {
                told.theirs = Some(view.behavior);
                self.consider(conn, attempt, &view).await
            }
            Err(why) => Err(why),
            Ok(Talk::Answer { .. } | Talk::Refusal(_)) => return,
        };
        let (answer, ready) = match ready {
            Ok((answer, ready)) => (answer, ready),
            Err(why) => {
                tracing::debug!(peer = %conn.peer().short(), ?why, "an attempt was refused");
                (Talk::Refusal(why), None)
            }
        };
        if send.write_chunk(answer.to_bytes().freeze()).await.is_err() || send.finish().await.is_err() {
            return;
        }
        if let Some(Ready { punch, socket, turn }) = ready {
            let result = self.run_attempt(conn, Role::Controlled, punch, socket, &mut told).await;
            self.told(conn.peer(), began, &told, &result);
            drop(turn);
        } else {
            // The answer is on its way; the stream must not be reset before it is there.
            let _ = tokio::time::timeout(TALK_TIMEOUT, send.finished()).await;
        }
    }

    /// Whether an offer is taken up, and with what. Where there is no plan, the answer tells the other side why.
    async fn consider(
        &self,
        conn: &Conn,
        attempt: Attempt,
        theirs: &View,
    ) -> Result<(Talk, Option<Ready>), Refusal> {
        if self.wide().is_none() || !self.nat.options.punch || conn.side() != Side::Acceptor {
            return Err(Refusal::Off);
        }
        if self.nat.observers.is_empty() {
            return Err(Refusal::NoObserver);
        }
        let turn = self.nat.turns.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
        if !self.nat.admit(conn.peer()) {
            return Err(Refusal::Busy);
        }
        let look = self.look(Depth::Quick).await.map_err(|_| Refusal::NoObserver)?;
        let answer = Talk::Answer { view: View { behavior: look.behavior, tickets: look.tickets.clone() } };
        match self.begin(conn, Role::Controlled, attempt, look, theirs) {
            Ok((punch, socket)) => Ok((answer, Some(Ready { punch, socket, turn }))),
            Err(NotPunched::NoPlan(_)) => Ok((answer, None)),
            Err(NotPunched::Nowhere(_)) => Err(Refusal::NoTrust),
            Err(_) => Err(Refusal::NoPlan),
        }
    }

    /// The attempt, ready to run, towards nowhere but where an observer of ours reached the other side.
    fn begin(
        &self,
        conn: &Conn,
        role: Role,
        attempt: Attempt,
        look: Look,
        theirs: &View,
    ) -> Result<(Punch, Arc<tokio::net::UdpSocket>), NotPunched> {
        let target = theirs.target(&conn.peer(), &self.nat.observers.ids(), unix_ms() / 1000)?;
        let work = work(&look.behavior, &theirs.behavior)?;
        let secret = conn.nat_secret().map_err(arranging)?;
        let keys = ProbeKeys::new(&secret, attempt, role == Role::Controlling);
        let rng = Rng::from_seed(self.random());
        Ok((Punch::new(role, work, target, keys, rng), look.socket))
    }

    async fn run_attempt(
        &self,
        conn: &Conn,
        role: Role,
        punch: Punch,
        socket: Arc<tokio::net::UdpSocket>,
        told: &mut Told,
    ) -> Result<(), NotPunched> {
        let Some(quic) = self.wide() else { return Err(NotPunched::NoObserver) };
        let peer = conn.peer();
        let mut hole: Option<SocketAddr> = None;
        let ran = attempt::run(punch, socket, self.clock, |won: Won| {
            told.probes = won.probes;
            tracing::debug!(peer = %peer.short(), remote = %won.remote, after = ?won.after, "got through");
            let made = Hole::new(won.socket, won.remote, Some(won.strays));
            if made.is_ok_and(|made| quic.holes().insert(HoleAddr::punched(peer), made).is_ok()) {
                hole = Some(won.remote);
                if role == Role::Controlled {
                    quic.holes().expect(peer);
                }
            }
        });
        ran.await.inspect_err(|why| {
            if let honeylink_core::nat::Failure::NoWay { probes } = why {
                told.probes = *probes;
            }
        })?;
        if hole.is_none() {
            return Err(NotPunched::NotTaken);
        }
        match role {
            Role::Controlling => self.move_over(quic, conn).await,
            // The other side dials.
            Role::Controlled => Ok(()),
        }
    }

    /// Brings the connection to the hole: dials a second one through it, whose path iroh then opens on the first.
    async fn move_over(&self, quic: &QuicCarrier, conn: &Conn) -> Result<(), NotPunched> {
        let mut events = conn.path_events();
        for _ in 0..DIALS_MAX {
            let dialling = tokio::time::timeout(MOVE_TIMEOUT, quic.connect_punched(conn.peer(), ALPN_PUNCH));
            let Ok(Ok(guide)) = dialling.await else { continue };
            let guide = Conn::Quic(guide);
            if is_passed_on(&guide) {
                guide.close(code::DONE, "not through the hole");
                continue;
            }
            let moved = async {
                while is_passed_on(conn) {
                    events.next().await;
                }
            };
            let moved = tokio::time::timeout(MOVE_TIMEOUT, moved).await;
            guide.close(code::DONE, "the path is known");
            return moved.map_err(|_| NotPunched::NotTaken);
        }
        Err(NotPunched::NotTaken)
    }

    /// A connection that brings a path with it and carries nothing.
    pub(super) fn guide_arrived(&self, conn: Conn) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let over = tokio::time::timeout(GUIDE_MAX, conn.closed());
            // Whichever comes first, it is over.
            let _ = stop.run_until_cancelled(over).await;
            conn.close(code::DONE, "the path is known");
        });
    }

    /// The last connection to a device is gone, and with it what its hole was for.
    pub(super) fn close_hole(&self, peer: &DeviceId) {
        if let Carriers::Quic(quic) = &self.carriers
            && self.pool.current(peer).is_none()
        {
            quic.holes().remove(&HoleAddr::punched(*peer));
        }
    }
}

/// Whether the connection's bytes are passed on by somebody else.
pub(super) fn is_passed_on(conn: &Conn) -> bool {
    conn.paths().first().is_some_and(|path| !path.rung.is_direct())
}

/// How long ordinary hole punching gets.
fn patience(conn: &Conn) -> Duration {
    let rtt = conn.paths().first().map_or(PATIENCE_MAX, |path| path.rtt * PATIENCE_ROUND_TRIPS);
    rtt.clamp(PATIENCE_MIN, PATIENCE_MAX)
}

/// What this side does. Two boxes that keep their ports need no guessing, but are tried all the same: whoever asks has been on
/// the relay for a while, so ordinary hole punching did not do it.
fn work(ours: &Behavior, theirs: &Behavior) -> Result<Work, NoPlan> {
    match Plan::new(ours, theirs) {
        Ok(plan) => Ok(plan.ours),
        Err(NoPlan::NotNeeded) => Ok(Work::Open { sockets: 1 }),
        Err(why) => Err(why),
    }
}

fn arranging(error: impl std::fmt::Display) -> NotPunched {
    NotPunched::Arranging(error.to_string())
}

/// The next frame; what a refusal says if it cannot be read.
async fn read_talk(recv: &mut RecvStream) -> std::io::Result<Result<Talk, Refusal>> {
    let mut field = [0; 2];
    recv.read_exact(&mut field).await?;
    let Ok(length) = Talk::body_len(field) else { return Ok(Err(Refusal::Version)) };
    let mut body = vec![0; length];
    recv.read_exact(&mut body).await?;
    match Talk::from_body(&body) {
        Ok(talk) => Ok(Ok(talk)),
        Err(_) if Talk::is_other_version(&body) => Ok(Err(Refusal::Version)),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::nat::Mapping;

    #[test]
    fn a_device_that_asks_without_end_gets_one_attempt_in_a_while() {
        let desk = NatDesk::new(NatOptions::default(), None, None);
        let peer = crate::testing::device_id(1);
        assert!(desk.admit(peer));
        assert!((0..1000).all(|_| !desk.admit(peer)));
        let admitted = (2..1000).filter(|n| desk.admit(crate::testing::device_id(*n))).count();
        assert_eq!(admitted, REPORTS_MAX - 1);
    }

    #[test]
    fn without_observers_nothing_is_tried() {
        assert!(!NatDesk::new(NatOptions::default(), None, None).punches());
    }

    #[test]
    fn boxes_that_keep_their_ports_are_tried_with_one_socket() {
        let keeps = Behavior { mapping: Mapping::EndpointIndependent, ..Behavior::default() };
        assert_eq!(work(&keeps, &keeps), Ok(Work::Open { sockets: 1 }));
        let unknown = Behavior::default();
        assert_eq!(work(&unknown, &keeps), Err(NoPlan::Unknown { ours: true }));
    }
}
