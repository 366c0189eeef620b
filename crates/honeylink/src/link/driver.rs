//! Moves the bytes of one link: finds it a session stream, pumps frames both ways, and when the stream dies finds it
//! another. It decides nothing that the session machine can decide.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::SESSION_SUSPENDED_MAX;
use honeylink_core::session::{Input, State};
use honeylink_core::wire::link::{Class, CloseCode, StreamHeader, StreamKind};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::inlet::Found;
use super::shared::LinkShared;
use crate::carrier::{Conn, ConnLost, RecvStream, SendStream, code};
use crate::clock::Clock;

/// How long the last frames of a closed session wait for a carrier that takes nothing.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long they may take in all. The peer waits no longer, and one that reads by the byte must not hold them for ever.
const FAREWELL_TOTAL: Duration = SESSION_SUSPENDED_MAX;
/// First wait before dialling again; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// A session stream is given up for another on the same connection at the earliest after this time: one death is told more
/// than once, and each new stream costs a round trip.
const RENEW_AFTER: Duration = Duration::from_millis(300);
/// Longest wait before dialling again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A session stream on a live connection.
pub(crate) struct Carriage {
    pub(crate) conn: Conn,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

/// Why dialling gave no connection.
#[derive(Debug)]
pub(crate) enum DialFailure {
    /// Trying again is pointless.
    Final(CloseCode, String),
    /// It may work later.
    Retry(String),
}

impl From<ConnLost> for DialFailure {
    /// A peer that answers "not paired" will not change its mind by being asked again.
    fn from(lost: ConnLost) -> Self {
        match lost {
            ConnLost::ByPeer { code, reason }
                if code == u64::from(code::NOT_PAIRED) || code == u64::from(code::REVOKED) =>
            {
                Self::Final(CloseCode::NotAllowed, reason)
            }
            ConnLost::ByPeer { .. } | ConnLost::ByUs | ConnLost::TimedOut | ConnLost::Transport(_) => {
                Self::Retry(lost.to_string())
            }
        }
    }
}

/// What the driver needs of the node: a connection to a peer.
pub(crate) trait Dial: Send + Sync + 'static {
    fn dial(&self, peer: DeviceId) -> impl Future<Output = Result<Conn, DialFailure>> + Send;
}

/// Drives a link that this node opened.
pub(crate) async fn drive_initiator<D: Dial>(shared: Arc<LinkShared>, node: D, clock: Clock) {
    let mut wait = RETRY_FIRST;
    while !shared.is_over() {
        let Some(dialled) = until_over(&shared, clock, node.dial(shared.peer())).await else {
            return;
        };
        let failure = match dialled {
            Ok(conn) => {
                // The peer may allow no more streams for now: that wait ends with the session too.
                let Some(opened) = until_over(&shared, clock, open_session(&conn, &shared)).await else {
                    return;
                };
                if let Ok(carriage) = opened {
                    if matches!(pump(&shared, carriage, None, clock).await, Ended::Renew) {
                        wait = RETRY_FIRST;
                        continue;
                    }
                    // A session that was agreed deserves a quick second try; one that was not, the back-off.
                    if *shared.watch_state().borrow() == State::Suspended {
                        wait = RETRY_FIRST;
                    }
                }
                conn.lost().map(DialFailure::from)
            }
            Err(failure) => Some(failure),
        };
        match failure {
            Some(DialFailure::Final(code, text)) => {
                shared.fail(code, text);
                return;
            }
            Some(DialFailure::Retry(why)) => {
                tracing::debug!(peer = %shared.peer().short(), %why, "connecting again");
                shared.note_failure(why);
            }
            None => {}
        }
        if until_over(&shared, clock, tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// Drives a link that the peer opened: each new session stream arrives through `carriages`.
pub(crate) async fn drive_responder(
    shared: Arc<LinkShared>,
    mut carriages: mpsc::Receiver<Carriage>,
    clock: Clock,
) {
    while !shared.is_over() {
        // The queue's other end is kept for as long as this driver runs, so the first `None` is the session's end.
        let Some(Some(carriage)) = until_over(&shared, clock, carriages.recv()).await else {
            return;
        };
        let mut next = carriage;
        while let Ended::Replaced(carriage) = pump(&shared, next, Some(&mut carriages), clock).await {
            next = *carriage;
        }
    }
}

/// Runs `work` while keeping the session's deadlines; `None` if the session ended first.
async fn until_over<T>(shared: &LinkShared, clock: Clock, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    loop {
        if shared.is_over() {
            return None;
        }
        let deadline = shared.deadline().map_or_else(far, |d| clock.instant(d.at));
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = shared.wake_writer.notified() => {}
            () = tokio::time::sleep_until(deadline) => shared.apply(Input::Timeout),
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

async fn open_session(conn: &Conn, shared: &LinkShared) -> std::io::Result<Carriage> {
    let (send, recv) = conn.open().await.map_err(std::io::Error::other)?;
    let mut send = send.gated(conn.gate(), Class::Interactive.into());
    let agreed = *shared.watch_state().borrow() == State::Suspended;
    let header = StreamHeader {
        kind: if agreed { StreamKind::Resume } else { StreamKind::Session },
        session: shared.id(),
        priority: Class::Interactive.into(),
        protocol: shared.protocol().to_owned(),
    };
    let mut bytes = BytesMut::new();
    header.encode(&mut bytes);
    send.write_chunk(bytes.freeze()).await?;
    Ok(Carriage { conn: conn.clone(), send, recv })
}

/// Why a session stream is not pumped any more.
enum Ended {
    /// It died, or the session is over.
    Over,
    /// The peer brought a newer one.
    Replaced(Box<Carriage>),
    /// Its path died, and this side is to bring a newer one.
    Renew,
}

/// Pumps until the stream dies, the session ends, the peer brings a newer stream, or this side shall.
async fn pump(
    shared: &LinkShared,
    carriage: Carriage,
    mut newer: Option<&mut mpsc::Receiver<Carriage>>,
    clock: Clock,
) -> Ended {
    let Carriage { conn, send, recv } = carriage;
    shared.attach(conn, send, recv);
    let mut ended = Ended::Over;
    let brings = newer.is_none();
    {
        let writing = write_frames(shared, clock);
        let reading = read_frames(shared);
        tokio::pin!(writing, reading);
        tokio::select! {
            biased;
            () = &mut writing => {}
            () = &mut reading => {
                if shared.is_over() {
                    // The answer to the peer's close is still on its way out.
                    writing.await;
                }
            }
            carriage = next_carriage(&mut newer) => {
                ended = carriage.map_or(Ended::Over, |newer| Ended::Replaced(Box::new(newer)));
            }
            () = renewal(shared), if brings => ended = Ended::Renew,
        }
    }
    shared.detach();
    ended
}

/// Waits until the stream attached just now shall be given up for another. Only the link's initiator brings streams.
async fn renewal(shared: &LinkShared) {
    let earliest = Instant::now() + RENEW_AFTER;
    loop {
        shared.renewal.notified().await;
        tokio::time::sleep_until(earliest).await;
        // What a session says last is not cut off.
        if !shared.is_over() {
            return;
        }
    }
}

async fn next_carriage(newer: &mut Option<&mut mpsc::Receiver<Carriage>>) -> Option<Carriage> {
    match newer {
        Some(carriages) => match carriages.recv().await {
            Some(carriage) => Some(carriage),
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Writes what senders did not write themselves and keeps the session's deadlines, also while the carrier takes nothing;
/// ends when the stream fails, or when the session is over and its last frames left or got stuck.
async fn write_frames(shared: &LinkShared, clock: Clock) {
    let mut farewell = None;
    loop {
        let due = if shared.is_over() {
            let farewell = farewell.get_or_insert_with(|| Farewell::begin(shared.written()));
            match farewell.due(shared.written()) {
                Some(due) => due,
                None => return,
            }
        } else {
            shared.deadline().map_or_else(far, |d| clock.instant(d.at))
        };
        let written = async {
            match poll_fn(|cx| shared.poll_write(cx)).await {
                // More comes later.
                Ok(false) => std::future::pending().await,
                done => done,
            }
        };
        tokio::select! {
            biased;
            done = written => {
                if done.is_ok() {
                    finish(shared).await;
                }
                return;
            }
            () = shared.wake_writer.notified() => {}
            () = tokio::time::sleep_until(due) => shared.apply(Input::Timeout),
        }
    }
}

/// Ends the session stream behind its last frame.
async fn finish(shared: &LinkShared) {
    if let Some(mut send) = shared.take_outlet() {
        let _ = tokio::time::timeout(FAREWELL, async {
            send.finish().await?;
            send.finished().await
        })
        .await;
    }
}

/// How long the last frames of a session are given: as long as the carrier still takes some, within [`FAREWELL_TOTAL`].
#[derive(Debug)]
struct Farewell {
    give_up: Instant,
    moved: Instant,
    written: u64,
}

impl Farewell {
    fn begin(written: u64) -> Self {
        let now = Instant::now();
        Self { give_up: now + FAREWELL_TOTAL, moved: now, written }
    }

    /// When to look again, given how much is written by now; `None` when there is no point.
    fn due(&mut self, written: u64) -> Option<Instant> {
        let now = Instant::now();
        if written != self.written {
            (self.moved, self.written) = (now, written);
        }
        Some((self.moved + FAREWELL).min(self.give_up)).filter(|due| *due > now)
    }
}

/// Reads what the application does not read itself, while there is room for it; ends when the stream does.
async fn read_frames(shared: &LinkShared) {
    loop {
        while !shared.may_read() {
            shared.wake_reader.notified().await;
        }
        match shared.read_next() {
            // A peer that never pauses must not keep this task from writing.
            Found::Bytes => tokio::task::coop::consume_budget().await,
            Found::Nothing => shared.inlet.drivers_turn().await,
            Found::End => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::memory::MemoryNetwork;
    use honeylink_core::session::{Config, Role};
    use honeylink_core::wire::link::{Frame, SessionId};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Waker};

    /// A connection on which the peer allows no stream.
    struct Full(Conn);

    impl Dial for Full {
        async fn dial(&self, _: DeviceId) -> Result<Conn, DialFailure> {
            Ok(self.0.clone())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_allows_no_stream_does_not_outlast_the_patience_of_a_connect() {
        let network = MemoryNetwork::new();
        let (a, b) = (crate::testing::device_id(1), crate::testing::device_id(2));
        let _hosts = network.attach(b);
        let conn = Conn::Memory(network.connect(a, b, b"x", [0; 32]).await.unwrap());
        let mut held = Vec::new();
        while let Ok(opened) = tokio::time::timeout(Duration::from_secs(1), conn.open()).await {
            held.push(opened.unwrap());
        }
        let clock = Clock::start();
        let (config, id) = (Config::default(), SessionId([1; 16]));
        let patience = config.pending_max + Duration::from_secs(1);
        let shared = Arc::new(LinkShared::new(b, "p/1".into(), id, Role::Initiator, config, clock));
        let driver = drive_initiator(shared.clone(), Full(conn), clock);
        tokio::time::timeout(patience, driver).await.unwrap();
        assert!(shared.is_over());
    }

    /// Ends what runs beside a test, however that ends.
    struct Over(Arc<AtomicBool>);

    impl Drop for Over {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_link_is_taken_up_again_while_its_application_looks_for_messages_without_a_pause() {
        let network = MemoryNetwork::new();
        let (a, b) = (crate::testing::device_id(1), crate::testing::device_id(2));
        let mut hosts = network.attach(b);
        let ours = Conn::Memory(network.connect(a, b, b"x", [0; 32]).await.unwrap());
        let theirs = Conn::Memory(hosts.recv().await.unwrap().conn);
        let (config, id) = (Config::default(), SessionId([1; 16]));
        let shared = Arc::new(LinkShared::new(a, "p/1".into(), id, Role::Responder, config, Clock::start()));
        let over = Over(Arc::default());
        let (looking, stop) = (shared.clone(), over.0.clone());
        let application = tokio::task::spawn_blocking(move || {
            let mut recv = std::pin::pin!(looking.recv());
            let mut cx = Context::from_waker(Waker::noop());
            while !stop.load(Ordering::Relaxed) && recv.as_mut().poll(&mut cx).is_pending() {}
        });
        for round in 0..300 {
            let (mut send, recv) = ours.open().await.unwrap();
            let mut hello = BytesMut::new();
            Frame::Hello { version_min: 1, version_max: 1, message_max: 1 << 20, next: 0 }.encode(&mut hello);
            send.write_chunk(hello.freeze()).await.unwrap();
            let (back, there) = theirs.accept().await.unwrap();
            shared.attach(theirs.clone(), back, there);
            let taken_up = async {
                // What the application does not read the driver does.
                while *shared.watch_state().borrow() != State::Active {
                    shared.read_next();
                    tokio::task::yield_now().await;
                }
            };
            let taken_up = tokio::time::timeout(Duration::from_secs(60), taken_up).await;
            assert!(taken_up.is_ok(), "in round {round}");
            shared.detach();
            drop((send, recv));
        }
        drop(over);
        application.await.unwrap();
    }
}
