//! QUIC over sockets that iroh did not open: holes that [`crate::nat`] made through NAT boxes.
//!
//! iroh carries packets over its own UDP socket, over relays, and over "custom transports". This is one of those. A hole
//! is a socket and the one far endpoint it works with; to iroh it is an address, made of [`TRANSPORT_ID`] and the device
//! at its other end, so a hole that was made again is the same address as before.
//!
//! ```text
//!   iroh --- poll_send ---> Holes --- by device ---> Hole --- sendmsg, several packets at once ---> socket
//!        <-- poll_recv ---- Ear   <-- in turns ----- Hole <-- recvmmsg ------------------------------ socket
//! ```
//!
//! Nothing is queued here: packets wait in the sockets' kernel buffers and in QUIC's own. A sender whose socket is full is
//! told to wait and woken; packets for a device without a hole, and datagrams of anybody but the far endpoint, are dropped
//! and counted.
//!
//! How iroh comes to use a hole for connections that exist: see [`preference`].

mod hole;
pub(super) mod preference;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::NAT_HOLES_MAX;
use iroh::endpoint::transports::{CustomEndpoint, CustomSender, CustomTransport, RecvInfo, Transmit};
use iroh_base::CustomAddr;
use tokio::time::Instant;

pub(crate) use self::hole::{Hole, Strays};

/// "HLNT". Ids of this size without a registry entry are private by iroh's convention.
const TRANSPORT_ID: u64 = 0x484C_4E54;
/// Packets that QUIC may hand over at once: what the kernel takes in one call.
const SEGMENTS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// How long a device that just won a hole is expected to dial through it.
const EXPECTED: Duration = Duration::from_millis(1500);

/// What leads through a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Straight to the other device.
    Punched,
    /// To somebody who passes packets on.
    Forwarded,
}

/// A socket's address, as iroh sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HoleAddr {
    pub(crate) kind: Kind,
    pub(crate) peer: DeviceId,
}

impl HoleAddr {
    pub(crate) const fn punched(peer: DeviceId) -> Self {
        Self { kind: Kind::Punched, peer }
    }

    pub(crate) fn to_custom(self) -> CustomAddr {
        let mut data = [0; 33];
        data[0] = self.kind as u8;
        data[1..].copy_from_slice(self.peer.as_bytes());
        CustomAddr::from_parts(TRANSPORT_ID, &data)
    }

    pub(crate) fn from_custom(addr: &CustomAddr) -> Option<Self> {
        let (kind, peer) = addr.data().split_first().filter(|_| addr.id() == TRANSPORT_ID)?;
        let kind = match kind {
            0 => Kind::Punched,
            1 => Kind::Forwarded,
            _ => return None,
        };
        Some(Self { kind, peer: DeviceId::from_bytes(peer.try_into().ok()?).ok()? })
    }
}

/// No room for another hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{NAT_HOLES_MAX} devices are reached through punched holes already")]
pub(crate) struct Full;

/// What was dropped so far, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoleCounts {
    /// For a device without a hole.
    pub no_hole: u64,
    /// Too many senders waited for one socket.
    pub queue_full: u64,
    /// The operating system refused them.
    pub refused: u64,
    /// Came from somebody else than the far endpoint.
    pub foreign: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    no_hole: AtomicU64,
    queue_full: AtomicU64,
    refused: AtomicU64,
    foreign: AtomicU64,
}

/// Every hole of a node. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Holes {
    board: Arc<Mutex<Board>>,
    counters: Arc<Counters>,
    /// This side has no address that another could use.
    local: n0_watcher::Watchable<Vec<CustomAddr>>,
}

#[derive(Debug, Default)]
struct Board {
    holes: BTreeMap<HoleAddr, Arc<Hole>>,
    /// Goes up with each change.
    generation: u64,
    /// Who reads, to be told of a new hole.
    reader: Option<Waker>,
    /// Who shall dial through a hole soon, until when.
    expected: BTreeMap<DeviceId, Instant>,
}

impl Default for Holes {
    fn default() -> Self {
        Self {
            board: Arc::default(),
            counters: Arc::default(),
            local: n0_watcher::Watchable::new(Vec::new()),
        }
    }
}

impl Holes {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a hole in, in place of the last one with this address.
    pub(crate) fn insert(&self, addr: HoleAddr, hole: Hole) -> Result<(), Full> {
        let mut board = self.board();
        if board.holes.len() >= NAT_HOLES_MAX && !board.holes.contains_key(&addr) {
            return Err(Full);
        }
        board.holes.insert(addr, Arc::new(hole));
        board.changed();
        Ok(())
    }

    /// Closes a hole.
    pub(crate) fn remove(&self, addr: &HoleAddr) {
        let mut board = self.board();
        if board.holes.remove(addr).is_some() {
            board.changed();
        }
    }

    /// Where a hole leads to.
    pub(crate) fn remote(&self, addr: &HoleAddr) -> Option<std::net::SocketAddr> {
        self.board().holes.get(addr).map(|hole| hole.remote())
    }

    /// The device will dial through its hole now: what it sends another way at the same time need not be answered.
    pub(crate) fn expect(&self, peer: DeviceId) {
        self.board().expected.insert(peer, Instant::now() + EXPECTED);
    }

    /// Whether the device is to dial through its hole.
    pub(crate) fn expects(&self, peer: &DeviceId) -> bool {
        let now = Instant::now();
        let mut board = self.board();
        board.expected.retain(|_, until| now < *until);
        board.expected.contains_key(peer)
    }

    /// It has.
    pub(crate) fn arrived(&self, peer: &DeviceId) {
        self.board().expected.remove(peer);
    }

    /// What was dropped so far.
    pub(crate) fn counts(&self) -> HoleCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HoleCounts {
            no_hole: of(&self.counters.no_hole),
            queue_full: of(&self.counters.queue_full),
            refused: of(&self.counters.refused),
            foreign: of(&self.counters.foreign),
        }
    }
}

impl Board {
    fn changed(&mut self) {
        self.generation += 1;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

impl CustomTransport for Holes {
    fn bind(&self) -> io::Result<Box<dyn CustomEndpoint>> {
        Ok(Box::new(Ear { holes: self.clone(), known: Vec::new(), generation: 0, next: 0 }))
    }
}

/// Reads from all holes in turns.
#[derive(Debug)]
struct Ear {
    holes: Holes,
    /// The holes as of `generation`.
    known: Vec<(HoleAddr, Arc<Hole>)>,
    generation: u64,
    /// Whose turn it is.
    next: usize,
}

impl Ear {
    /// Looks for new holes, and asks to be woken when there is another.
    fn refresh(&mut self, cx: &Context<'_>) {
        let mut board = self.holes.board();
        if !board.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            board.reader = Some(cx.waker().clone());
        }
        if board.generation != self.generation {
            self.generation = board.generation;
            self.known = board.holes.iter().map(|(addr, hole)| (*addr, hole.clone())).collect();
        }
    }
}

impl CustomEndpoint for Ear {
    fn watch_local_addrs(&self) -> n0_watcher::Direct<Vec<CustomAddr>> {
        self.holes.local.watch()
    }

    fn create_sender(&self) -> Arc<dyn CustomSender> {
        Arc::new(self.holes.clone())
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        metas: &mut [noq_udp::RecvMeta],
        infos: &mut [RecvInfo],
    ) -> Poll<io::Result<usize>> {
        self.refresh(cx);
        let count = self.known.len();
        for turn in self.next..self.next + count {
            let Some((addr, hole)) = self.known.get(turn % count) else { break };
            let Poll::Ready(read) = hole.poll_recv(cx, bufs, metas, &self.holes.counters) else { continue };
            infos.iter_mut().take(read).for_each(|info| *info = RecvInfo::new(addr.to_custom(), None));
            self.next = turn % count + 1;
            return Poll::Ready(Ok(read));
        }
        Poll::Pending
    }

    fn max_transmit_segments(&self) -> NonZeroUsize {
        SEGMENTS_MAX
    }
}

impl CustomSender for Holes {
    fn is_valid_send_addr(&self, addr: &CustomAddr) -> bool {
        addr.id() == TRANSPORT_ID
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        to: &CustomAddr,
        _: Option<&CustomAddr>,
        transmit: &Transmit<'_>,
    ) -> Poll<io::Result<()>> {
        let hole = HoleAddr::from_custom(to).and_then(|addr| self.board().holes.get(&addr).cloned());
        match hole {
            Some(hole) => {
                hole.poll_send(cx, transmit.contents, transmit.segment_size, &self.counters).map(Ok)
            }
            None => {
                // To QUIC it is a way that loses everything, which is what it knows how to leave.
                self.counters.no_hole.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(Ok(()))
            }
        }
    }
}
