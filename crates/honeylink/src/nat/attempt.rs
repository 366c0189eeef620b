//! One attempt: gives the machine of [`honeylink_core::nat::punch`] its sockets and its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::nat::wire::PROBE_BYTES;
use honeylink_core::nat::{Failure, Input, Output, Punch};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::ask;
use crate::carrier::punched::Strays;
use crate::clock::Clock;

/// Datagrams that wait for the machine; more are dropped, as by a kernel whose buffer is full.
const HEARD_MAX: usize = 256;
/// Probes that arrive on a socket that is won already and wait to be answered.
const STRAYS_MAX: usize = 16;

/// A socket that got through.
#[derive(Debug)]
pub(crate) struct Won {
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) remote: SocketAddr,
    /// Since the sockets were there.
    pub(crate) after: Duration,
    /// Probes that this side sent until then.
    pub(crate) probes: u16,
    /// Where probes go that still arrive on the socket.
    pub(crate) strays: Strays,
}

/// A datagram on one of the sockets.
type Heard = (u16, SocketAddr, Bytes);

/// Sockets of an attempt, each read by a task of its own.
struct Sockets {
    open: Vec<(Arc<UdpSocket>, AbortHandle)>,
    /// All end with this.
    readers: JoinSet<()>,
    heard: mpsc::Sender<Heard>,
}

impl Sockets {
    fn add(&mut self, socket: Arc<UdpSocket>) {
        let Ok(number) = u16::try_from(self.open.len()) else { return };
        let (reading, heard) = (socket.clone(), self.heard.clone());
        let reader = self.readers.spawn(async move {
            // One byte more than a probe, so that what is longer is seen to be.
            let mut buffer = [0; PROBE_BYTES + 1];
            loop {
                // An error is about something sent before; the next read is another matter.
                let Ok((length, from)) = reading.recv_from(&mut buffer).await else { continue };
                let bytes = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                // Full: what did not fit is lost as on the way.
                let _ = heard.try_send((number, from, bytes));
            }
        });
        self.open.push((socket, reader));
    }

    /// Opens up to `count`; where the system allows fewer, it is fewer.
    async fn fill(&mut self, count: u16) -> u16 {
        while self.open.len() < usize::from(count) {
            let Ok(socket) = ask::open().await else { break };
            self.add(socket);
        }
        u16::try_from(self.open.len()).unwrap_or(u16::MAX)
    }

    fn send(&self, socket: u16, to: SocketAddr, bytes: &[u8]) {
        if let Some((socket, _)) = self.open.get(usize::from(socket)) {
            // Not by way of the runtime, which finds out only later that a new socket can be written to. What a full
            // buffer refuses is lost as on the way.
            let _ = SockRef::from(&**socket).send_to(bytes, &to.into());
        }
    }

    /// Whoever has it from now on reads it, and nobody else.
    fn give_away(&self, socket: u16) -> Option<Arc<UdpSocket>> {
        let (socket, reader) = self.open.get(usize::from(socket))?;
        reader.abort();
        Some(socket.clone())
    }
}

/// Runs an attempt to its end. `first` is the socket that has the tickets. `won` is called with a socket that got through;
/// on the controlled side perhaps again with another, which counts from then on.
///
/// # Errors
/// Why none did.
pub(crate) async fn run(
    mut punch: Punch,
    first: Arc<UdpSocket>,
    clock: Clock,
    mut won: impl FnMut(Won),
) -> Result<(), Failure> {
    let (heard_sender, mut heard) = mpsc::channel(HEARD_MAX);
    let (strays_sender, mut strays) = mpsc::channel(STRAYS_MAX);
    let mut sockets = Sockets { open: Vec::new(), readers: JoinSet::new(), heard: heard_sender };
    sockets.add(first);
    let mut through = None;
    let mut failure = None;
    loop {
        while let Some(output) = punch.poll_output() {
            match output {
                Output::Open { sockets: count } => {
                    let sockets = sockets.fill(count).await;
                    punch.handle(clock.now(), Input::Opened { sockets });
                }
                Output::Send { socket, to, bytes } => sockets.send(socket, to, &bytes),
                Output::Won { socket: number, remote, after, probes } => {
                    if let Some(socket) = sockets.give_away(number) {
                        through = Some(number);
                        won(Won { socket, remote, after, probes, strays: strays_sender.clone() });
                    }
                }
                Output::Failed(why) => failure = Some(why),
            }
        }
        if punch.is_over() {
            return failure.filter(|_| through.is_none()).map_or(Ok(()), Err);
        }
        let due = punch.poll_timeout().map(|deadline| clock.instant(deadline.at));
        let input = tokio::select! {
            biased;
            () = sleep_until(due) => Input::Timeout,
            Some((socket, from, bytes)) = heard.recv() => Input::Heard { socket, from, bytes },
            Some((from, bytes)) = strays.recv() => match through {
                Some(socket) => Input::Heard { socket, from, bytes },
                None => continue,
            },
        };
        punch.handle(clock.now(), input);
    }
}

async fn sleep_until(due: Option<tokio::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
