//! A relay: passes datagrams between devices that cannot reach each other, tells them which address they are seen at, and
//! can read nothing of it. It speaks iroh's relay protocol, so that iroh's own clients may use it too, and is written in
//! Rust to the last line like the rest.
//!
//! ```text
//! RelayServer::start      sockets, certificate, tasks
//!   web                   TLS, the few pages there are, the upgrade to a WebSocket
//!     guest               proves its key; reading, writing, silence, rate
//!       frame             the bytes
//!     guests              who is there; bounded queues; counts
//!   discovery             address discovery over QUIC
//!   (crate::nat)          an observer, for devices behind hard NATs
//!   certificate           its own, or one of a public authority
//! ```
//!
//! A guest is whoever proves a device key, or, with an [`Access::Listed`], one of those keys. Datagrams between guests are
//! dropped when the receiver's queue is full, as on any network; QUIC above repairs that. Nothing is stored.

mod certificate;
mod discovery;
mod frame;
mod guest;
mod guests;
mod web;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::certificate::Certificate;
use self::guests::{Guests, Sources};
use crate::nat::ObserverSockets;

/// How long a relay's tasks may take to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// Connections waiting to be accepted.
const BACKLOG: i32 = 1024;

/// Whom a relay lets in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Whoever proves a key.
    #[default]
    Everybody,
    /// These devices and no others.
    Listed(BTreeSet<DeviceId>),
}

impl Access {
    /// Whether this device is one of them.
    fn lets_in(&self, id: &DeviceId) -> bool {
        match self {
            Self::Everybody => true,
            Self::Listed(ids) => ids.contains(id),
        }
    }
}

/// What a relay is started with.
#[derive(Debug)]
pub struct RelayOptions {
    /// TCP addresses for HTTPS.
    pub listen: Vec<SocketAddr>,
    /// UDP addresses for address discovery; none is a relay without it, at which no holes can be made.
    pub discovery: Vec<SocketAddr>,
    /// UDP address of the observer, which tells devices behind hard NATs how these behave; it takes the next port too. Port 0
    /// takes two free ones. Guests learn of it by themselves. IPv4, for no box hands out ports for IPv6.
    pub observer: Option<SocketAddr>,
    /// What it shows.
    pub certificate: Certificate,
    /// Whom it lets in.
    pub access: Access,
    /// Most guests at a time. Each may hold up to 1 MiB in its queue.
    pub guests_max: usize,
    /// Most connections of one IPv4 address or IPv6 network of 64 bits: as many devices behind one NAT.
    pub guests_per_source_max: usize,
    /// How fast one guest may send, bytes a second; `None` is as fast as it can.
    pub rate_bytes_per_s: Option<u64>,
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The processor lacks what the pure-Rust cryptography needs.
    #[error(transparent)]
    Cpu(#[from] crate::crypto::CpuUnsupported),
    /// An address cannot be had.
    #[error("cannot listen on {protocol} {addr}: {reason}")]
    Listen {
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The system's words.
        reason: std::io::Error,
    },
    /// Certificate and key do not fit, or cannot be used.
    #[error("the certificate cannot be used: {0}")]
    Tls(String),
    /// Nothing to listen on.
    #[error("a relay needs an address to listen on")]
    NoAddress,
}

/// What a relay counted since it started, and how many guests it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// Guests now.
    pub guests: usize,
    /// Guests let in.
    pub accepted: u64,
    /// Turned away, not being on the list.
    pub refused_access: u64,
    /// Turned away because there were too many, in all or from one source.
    pub refused_busy: u64,
    /// Connections that failed before anything was asked: no TLS, or none of ours.
    pub failed: u64,
    /// Messages passed on.
    pub passed: u64,
    /// Their bytes.
    pub passed_bytes: u64,
    /// Messages for devices that were not there.
    pub absent: u64,
    /// Messages for which the receiver had no room.
    pub dropped: u64,
    /// Times a guest was made to wait.
    pub throttled: u64,
    /// Devices that asked for their address.
    pub discoveries: u64,
    /// Questions that the observer answered.
    pub observed: u64,
    /// Questions that the observer left, being too many or none.
    pub unobserved: u64,
}

/// What all tasks of a relay share.
#[derive(Debug)]
struct House {
    guests: Arc<Guests>,
    sources: Arc<Sources>,
    /// Address discovery has connections of its own, one or two of each guest.
    discoverers: Arc<Sources>,
    access: watch::Sender<Access>,
    observer: Option<ObserverSockets>,
    guests_max: usize,
    rate_bytes_per_s: Option<u64>,
    stop: CancellationToken,
}

impl House {
    /// NAT-R1: what guests are told of the observer.
    fn observer_page(&self) -> Option<String> {
        let observer = self.observer.as_ref()?;
        Some(format!("{} {}\n", observer.id(), observer.local_addr().ok()?.port()))
    }
}

/// A running relay. It ends with [`RelayServer::shutdown`], or when it is dropped.
#[derive(Debug)]
pub struct RelayServer {
    house: Arc<House>,
    listening: Vec<SocketAddr>,
    discovering: Vec<SocketAddr>,
    endpoints: Vec<noq::Endpoint>,
    tasks: TaskTracker,
}

impl RelayServer {
    /// Opens the sockets and starts to serve.
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime, which its tasks run on.
    pub fn start(options: RelayOptions) -> Result<Self, StartError> {
        if options.listen.is_empty() {
            return Err(StartError::NoAddress);
        }
        let mut tls = options.certificate.config()?;
        let mut endpoints = Vec::new();
        for addr in &options.discovery {
            let socket = udp(*addr).map_err(refused("UDP", *addr))?;
            endpoints.push(discovery::bind(socket, tls.clone())?);
        }
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(tls));
        let mut listeners = Vec::new();
        for addr in &options.listen {
            listeners.push(tcp(*addr).map_err(refused("TCP", *addr))?);
        }
        let observer = options.observer.map(|addr| {
            let bound = ObserverSockets::bind(addr, options.certificate.observer_key());
            bound.map_err(refused("UDP", addr))
        });
        let house = Arc::new(House {
            guests: Arc::default(),
            sources: Sources::new(options.guests_per_source_max),
            discoverers: Sources::new(options.guests_per_source_max.saturating_mul(2)),
            access: watch::Sender::new(options.access),
            observer: observer.transpose()?,
            guests_max: options.guests_max,
            rate_bytes_per_s: options.rate_bytes_per_s,
            stop: CancellationToken::new(),
        });
        let tasks = TaskTracker::new();
        let listening = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let discovering = endpoints.iter().filter_map(|endpoint| endpoint.local_addr().ok()).collect();
        for listener in listeners {
            let (stop, serving) =
                (house.stop.clone(), web::run(house.clone(), listener, tls.clone(), tasks.clone()));
            tasks.spawn(async move { stop.run_until_cancelled(serving).await });
        }
        if house.observer.is_some() {
            let house = house.clone();
            tasks.spawn(async move {
                if let Some(observer) = &house.observer {
                    house.stop.run_until_cancelled(observer.run()).await;
                }
            });
        }
        for endpoint in &endpoints {
            tasks.spawn(discovery::run(house.clone(), endpoint.clone(), tasks.clone()));
        }
        Ok(Self { house, listening, discovering, endpoints, tasks })
    }

    /// The TCP addresses, as bound.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// The UDP addresses of address discovery, as bound.
    #[must_use]
    pub fn discovering(&self) -> &[SocketAddr] {
        &self.discovering
    }

    /// The first of the observer's two UDP ports, as bound.
    #[must_use]
    pub fn observing(&self) -> Option<SocketAddr> {
        self.house.observer.as_ref()?.local_addr().ok()
    }

    /// Changes whom it lets in, from now on. Guests that it would not let in any more are sent away.
    pub fn set_access(&self, access: Access) {
        self.house.access.send_replace(access);
    }

    /// What it counted.
    #[must_use]
    pub fn stats(&self) -> RelayStats {
        let counts = &self.house.guests.counts;
        let observer = self.house.observer.as_ref().map(ObserverSockets::counts).unwrap_or_default();
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        RelayStats {
            guests: self.house.guests.len(),
            accepted: read(&counts.accepted),
            refused_access: read(&counts.refused_access),
            refused_busy: read(&counts.refused_busy),
            failed: read(&counts.failed),
            passed: read(&counts.passed),
            passed_bytes: read(&counts.passed_bytes),
            absent: read(&counts.absent),
            dropped: read(&counts.dropped),
            throttled: read(&counts.throttled),
            discoveries: read(&counts.discoveries),
            observed: observer.answered,
            unobserved: observer.malformed + observer.throttled,
        }
    }

    /// Ends every connection and waits until all tasks are over, at most five seconds.
    pub async fn shutdown(self) {
        self.stop();
        self.tasks.close();
        // What does not end by then ends with the process.
        let _ = tokio::time::timeout(SHUTDOWN_MAX, self.tasks.wait()).await;
    }

    fn stop(&self) {
        self.house.stop.cancel();
        self.endpoints.iter().for_each(discovery::close);
    }
}

impl Drop for RelayServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn refused(protocol: &'static str, addr: SocketAddr) -> impl FnOnce(std::io::Error) -> StartError {
    move |reason| StartError::Listen { protocol, addr, reason }
}

fn tcp(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // Each family is listened to on its own, so that `0.0.0.0` and `[::]` can be had side by side.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn udp(addr: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}
