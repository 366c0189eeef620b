//! The memory carrier over simulated links: what QUIC does about delay and loss, in its outlines. Works on every system.
//!
//! A stream is cut into frames. A frame that is lost is sent again after a time-out, and what follows waits for it, so
//! bytes arrive late and never torn. A connection shows every 1.5 s that it lives and is given up after 6 s of silence,
//! as over QUIC. What is not modelled: congestion control, and acknowledgements that get lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use honeylink_sim::device::NodeId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::internet::{Fate, Internet};
use crate::carrier::memory::Ends;
use crate::carrier::{ConnLost, PathReport, Rung, Side};

/// Bytes of a stream in one frame: what a QUIC packet holds.
const FRAME_BYTES: usize = 1_150;
/// What a frame carries besides: numbers, keys, the IP and UDP headers a lane does not count.
const OVERHEAD_BYTES: usize = 40;
/// Bytes of one direction of a stream on their way at a time.
const WINDOW_BYTES: usize = 256 << 10;
/// Bytes that wait at either end of a stream.
const PIPE_BYTES: usize = 64 << 10;
/// A connection shows this often that it lives.
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(1_500);
/// After so much silence a connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(6);
/// Dialling takes at most this long.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// A sign of life is tried so often before the next is due.
const KEEP_ALIVE_TRIES: u32 = 3;
/// On top of a round trip, before something is sent again.
const PATIENCE: Duration = Duration::from_millis(50);

/// What lies between the two ends of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Wires {
    internet: Internet,
    /// Who dialled, and whom.
    nodes: [NodeId; 2],
    /// When each last heard the other.
    heard: Arc<Mutex<[Instant; 2]>>,
}

/// The two ends of a stream for the application, and what says that a direction arrived to its end.
pub(crate) struct Laid {
    pub(crate) ours: DuplexStream,
    pub(crate) theirs: DuplexStream,
    pub(crate) out_arrived: CancellationToken,
    pub(crate) in_arrived: CancellationToken,
}

impl Wires {
    /// Asks the other device for a connection: one round trip, and more when packets get lost.
    pub(crate) async fn dial(internet: &Internet, from: DeviceId, to: DeviceId) -> Result<Self, ConnLost> {
        let (Some(from), Some(to)) = (internet.find(&from), internet.find(&to)) else {
            return Err(ConnLost::Transport("no such device on this network".into()));
        };
        let asking = async {
            for (from, to) in [(from, to), (to, from)] {
                let mut wait = internet.rtt(from, to) + Duration::from_millis(200);
                let at = loop {
                    match internet.send(from, to, 1_200, "hello") {
                        Fate::Arrives(at, _) => break at,
                        Fate::Lost => sleep(wait).await,
                    }
                    wait *= 2;
                };
                sleep_until(at).await;
            }
        };
        timeout(DIAL_MAX, asking).await.map_err(|_| ConnLost::TimedOut)?;
        let heard = Arc::new(Mutex::new([Instant::now(); 2]));
        Ok(Self { internet: internet.clone(), nodes: [from, to], heard })
    }

    fn way(&self, side: Side) -> (NodeId, NodeId) {
        let [dialler, acceptor] = self.nodes;
        match side {
            Side::Dialer => (dialler, acceptor),
            Side::Acceptor => (acceptor, dialler),
        }
    }

    /// How long to wait before something is sent again.
    fn again_after(&self) -> Duration {
        self.internet.rtt(self.nodes[0], self.nodes[1]) + PATIENCE
    }

    fn hear(&self, sender: Side, at: Instant) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = &mut heard[sender.other().index()];
        *listener = at.max(*listener);
    }

    fn silent_since(&self, side: Side) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)[side.index()].elapsed()
    }

    /// A stream that `side` opens.
    pub(crate) fn stream(&self, side: Side, ends: &Ends) -> Laid {
        let (ours, our_far) = tokio::io::duplex(PIPE_BYTES);
        let (theirs, their_far) = tokio::io::duplex(PIPE_BYTES);
        let ((our_bytes, our_answers), (their_answers, their_bytes)) =
            (tokio::io::split(our_far), tokio::io::split(their_far));
        let [out_arrived, in_arrived] = [CancellationToken::new(), CancellationToken::new()];
        for (side, from, to, arrived) in [
            (side, our_bytes, their_bytes, &out_arrived),
            (side.other(), their_answers, our_answers, &in_arrived),
        ] {
            let courier = Courier {
                wires: self.clone(),
                side,
                from,
                to,
                flight: VecDeque::new(),
                arrived: arrived.clone(),
            };
            let gone = ends.gone(side.other());
            // It ends with the stream, with the far end of the connection, or with the run.
            tokio::spawn(async move { gone.run_until_cancelled_owned(courier.run()).await });
        }
        Laid { ours, theirs, out_arrived, in_arrived }
    }

    /// Sends a datagram, which `deliver` hands over if it arrives.
    pub(crate) fn datagram(
        &self,
        side: Side,
        payload: &Bytes,
        deliver: impl Fn(Bytes) + Clone + Send + 'static,
    ) {
        let size = payload.len() + OVERHEAD_BYTES;
        self.internet.post(self.way(side), (size, "datagram"), payload, deliver);
    }

    /// Tells the other side that this one has closed.
    pub(crate) fn say_closed(&self, side: Side, why: &ConnLost, ends: &Arc<Ends>) {
        let ends = ends.clone();
        let tell = move |why| ends.end(side.other(), why);
        self.internet.post(self.way(side), (OVERHEAD_BYTES, "close"), why, tell);
    }

    /// Shows each side that the other lives, and gives the connection up where nothing is heard, until both ends are over.
    pub(crate) async fn watch(self, ends: Arc<Ends>) {
        loop {
            let next = Instant::now() + KEEP_ALIVE_EVERY;
            for side in Side::BOTH {
                if ends.lost(side).is_none() {
                    self.show_life(side).await;
                } else if let Some(why) = ends.goodbye(side) {
                    // The first one may have been lost.
                    self.say_closed(side, &why, &ends);
                }
            }
            sleep_until(next).await;
            for side in Side::BOTH {
                if self.silent_since(side) >= SILENCE_MAX {
                    ends.end(side, ConnLost::TimedOut);
                }
            }
            if Side::BOTH.iter().all(|side| ends.lost(*side).is_some()) {
                return;
            }
        }
    }

    async fn show_life(&self, side: Side) {
        let (from, to) = self.way(side);
        for _ in 0..KEEP_ALIVE_TRIES {
            match self.internet.send(from, to, OVERHEAD_BYTES, "alive") {
                Fate::Arrives(at, _) => return self.hear(side, at),
                Fate::Lost => sleep(self.again_after().min(KEEP_ALIVE_EVERY / (2 * KEEP_ALIVE_TRIES))).await,
            }
        }
    }

    pub(crate) fn path(&self, side: Side) -> PathReport {
        let (from, to) = self.way(side);
        PathReport {
            rung: Rung::Direct,
            carrier: "simulated",
            remote: Internet::addr(to).to_string(),
            rtt: self.internet.rtt(from, to),
            mtu_bytes: 0,
            loss: 0.0,
            selected: true,
        }
    }
}

/// Carries one direction of a stream.
struct Courier {
    wires: Wires,
    side: Side,
    from: ReadHalf<DuplexStream>,
    to: WriteHalf<DuplexStream>,
    /// What was read and is not delivered, in order.
    flight: VecDeque<Frame>,
    arrived: CancellationToken,
}

struct Frame {
    /// Empty at the end of the stream.
    bytes: Bytes,
    way: Way,
}

#[derive(Clone, Copy)]
enum Way {
    /// It will be there then.
    Arrives(Instant),
    /// It was lost, and is sent again then.
    Again(Instant),
}

impl Courier {
    async fn run(mut self) {
        let mut buffer = vec![0; FRAME_BYTES];
        let mut ended = false;
        loop {
            self.resend();
            // A reader that is gone wants no more; the sender notices when its own pipe breaks.
            let Some(over) = self.deliver().await else { return };
            if over {
                self.arrived.cancel();
                return;
            }
            let waiting: usize = self.flight.iter().map(|frame| frame.bytes.len()).sum();
            let next = self.next();
            tokio::select! {
                biased;
                () = at(next) => {}
                read = self.from.read(&mut buffer), if !ended && waiting < WINDOW_BYTES => {
                    let read = read.unwrap_or(0);
                    ended = read == 0;
                    let bytes = Bytes::copy_from_slice(&buffer[..read]);
                    let way = self.send(bytes.len());
                    self.flight.push_back(Frame { bytes, way });
                }
            }
        }
    }

    fn send(&self, bytes: usize) -> Way {
        let (from, to) = self.wires.way(self.side);
        match self.wires.internet.send(from, to, bytes + OVERHEAD_BYTES, "stream") {
            Fate::Arrives(at, _) => {
                self.wires.hear(self.side, at);
                Way::Arrives(at)
            }
            Fate::Lost => Way::Again(Instant::now() + self.wires.again_after()),
        }
    }

    fn resend(&mut self) {
        let now = Instant::now();
        for at in 0..self.flight.len() {
            if matches!(self.flight[at].way, Way::Again(due) if due <= now) {
                self.flight[at].way = self.send(self.flight[at].bytes.len());
            }
        }
    }

    /// Hands over what is there, in order. Returns whether that was the end, and nothing if nobody reads any more.
    async fn deliver(&mut self) -> Option<bool> {
        let now = Instant::now();
        while self.flight.front().is_some_and(|frame| matches!(frame.way, Way::Arrives(at) if at <= now)) {
            let frame = self.flight.pop_front()?;
            if frame.bytes.is_empty() {
                // Whether it is a clean end says the flag of the stream.
                let _ = self.to.shutdown().await;
                return Some(true);
            }
            self.to.write_all(&frame.bytes).await.ok()?;
        }
        Some(false)
    }

    /// When there is something to do.
    fn next(&self) -> Option<Instant> {
        let first = self.flight.front().map(|frame| match frame.way {
            Way::Arrives(at) | Way::Again(at) => at,
        });
        let again = self.flight.iter().filter_map(|frame| match frame.way {
            Way::Again(at) => Some(at),
            Way::Arrives(_) => None,
        });
        again.chain(first).min()
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
