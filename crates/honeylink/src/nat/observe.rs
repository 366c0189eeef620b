//! The sockets of an observer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::nat::Observer;
use honeylink_core::nat::observer::Silent;
use tokio::net::UdpSocket;

use crate::clock::{Clock, unix_ms};

/// Tries to find two free ports in a row.
const PORT_TRIES: u32 = 16;
/// More than any question: what is cut off was none.
const READ_BYTES: usize = 512;

/// What an observer did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObserverCounts {
    /// Questions answered.
    pub answered: u64,
    /// Datagrams that were no questions.
    pub malformed: u64,
    /// Questions dropped because their source, or everybody together, asked too often.
    pub throttled: u64,
}

#[derive(Debug, Default)]
struct Counters {
    answered: AtomicU64,
    malformed: AtomicU64,
    throttled: AtomicU64,
}

/// Tells whoever asks where it is seen, signed with the key it was made with. It answers on two UDP ports, the second one
/// more than the first. It keeps nothing about who asks, and never sends more bytes than it was sent.
#[derive(Debug)]
pub struct ObserverSockets {
    id: DeviceId,
    first: UdpSocket,
    second: UdpSocket,
    observer: Mutex<Observer>,
    clock: Clock,
    counters: Arc<Counters>,
}

impl ObserverSockets {
    /// Opens the two ports. Port 0 takes any two free ones.
    ///
    /// # Errors
    /// If the operating system refuses one of them.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(addr: SocketAddr, key: SecretKey) -> io::Result<Self> {
        let mut tries = if addr.port() == 0 { PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            let first = udp(addr)?;
            let port = first.local_addr()?.port();
            let next = port.checked_add(1).ok_or(io::ErrorKind::AddrNotAvailable);
            let second = match next {
                Ok(next) => udp(SocketAddr::new(addr.ip(), next)),
                Err(none) => Err(none.into()),
            };
            match second {
                Ok(second) => {
                    let (id, clock, counters) = (key.id(), Clock::start(), Arc::default());
                    let observer = Mutex::new(Observer::new(key));
                    return Ok(Self { id, first, second, observer, clock, counters });
                }
                Err(_) if tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whose signature the answers have.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// The first of the two ports.
    ///
    /// # Errors
    /// If the operating system does not know any more.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.first.local_addr()
    }

    /// What it did so far.
    #[must_use]
    pub fn counts(&self) -> ObserverCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ObserverCounts {
            answered: of(&self.counters.answered),
            malformed: of(&self.counters.malformed),
            throttled: of(&self.counters.throttled),
        }
    }

    /// Answers until the future is dropped.
    pub async fn run(&self) {
        tokio::join!(self.serve(&self.first, &self.second), self.serve(&self.second, &self.first));
    }

    async fn serve(&self, asked: &UdpSocket, other: &UdpSocket) {
        let mut buffer = [0; READ_BYTES];
        loop {
            // An error is that of an earlier answer that nobody took; the next datagram is another matter.
            let Ok((length, from)) = asked.recv_from(&mut buffer).await else { continue };
            let bytes = buffer.get(..length).unwrap_or_default();
            let answer = {
                let mut observer = self.observer.lock().unwrap_or_else(PoisonError::into_inner);
                observer.answer(self.clock.now(), unix_ms() / 1000, from, bytes)
            };
            let counter = match answer {
                Ok(answer) => {
                    // Whoever does not get an answer asks again.
                    let _ = asked.try_send_to(&answer.bytes, from);
                    if let Some(second) = answer.second {
                        let _ = other.send_to(&second, from).await;
                    }
                    &self.counters.answered
                }
                Err(Silent::Malformed) => &self.counters.malformed,
                Err(Silent::Throttled | Silent::Busy) => &self.counters.throttled,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(addr)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
