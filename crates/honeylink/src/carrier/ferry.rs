//! QUIC through a paired device that carries packets: a custom transport of iroh beside [`super::punched`].
//!
//! Who carries is a *ferry*, and this node keeps a connection to it ([`crate::node`], `node/ferry`). Packets of connections
//! to others go as datagrams on that connection, behind a number that this node and the ferry agreed on
//! ([`honeylink_core::ferry`]). To iroh a crossing is an address, made of [`TRANSPORT_ID`], the ferry and the device at the
//! other end.
//!
//! ```text
//!   iroh --- poll_send ---> Ferries --- by ferry and device ---> number | packet ---> datagram on the ferry's connection
//!        <-- poll_recv ---- Ear <------ at most FERRY_ARRIVED_MAX packets <----------- datagram on the ferry's connection
//! ```
//!
//! What does not fit is dropped and counted: QUIC above knows how to deal with that, and a queue would only make it late.
//!
//! A ferry is never itself reached by another ferry: two connections that carried each other's packets would wait for each
//! other for ever.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use honeylink_core::ferry::PACKET_BYTES_MIN;
use honeylink_core::ferry::talk::{HANDLE_BYTES, Handle};
use honeylink_core::identity::DeviceId;
use honeylink_core::limits::{FERRIES_MAX, FERRY_ARRIVED_MAX, FERRY_CROSSINGS_MAX, FERRY_QUEUE_BYTES_MAX};
use iroh::endpoint::transports::{CustomEndpoint, CustomSender, CustomTransport, RecvInfo, Transmit};
use iroh_base::CustomAddr;

use super::Conn;

/// "HLFY", as [`super::punched`] has one.
const TRANSPORT_ID: u64 = 0x484C_4659;
/// Packets that QUIC may hand over at once.
const SEGMENTS_MAX: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// A crossing, as iroh sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FerryAddr {
    /// Who carries.
    pub(crate) by: DeviceId,
    /// Who is at the other end.
    pub(crate) peer: DeviceId,
}

impl FerryAddr {
    pub(crate) fn to_custom(self) -> CustomAddr {
        let mut data = [0; 64];
        data[..32].copy_from_slice(self.by.as_bytes());
        data[32..].copy_from_slice(self.peer.as_bytes());
        CustomAddr::from_parts(TRANSPORT_ID, &data)
    }

    pub(crate) fn from_custom(addr: &CustomAddr) -> Option<Self> {
        let (by, peer) = addr.data().split_at_checked(32).filter(|_| addr.id() == TRANSPORT_ID)?;
        let id = |bytes: &[u8]| DeviceId::from_bytes(bytes.try_into().ok()?).ok();
        Some(Self { by: id(by)?, peer: id(peer)? })
    }
}

/// Why a crossing cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOpened {
    #[error("the connection to the device that relays is gone")]
    Gone,
    #[error("it relays itself for this device")]
    IsFerry,
    #[error("{FERRY_CROSSINGS_MAX} devices are reached through it already")]
    TooMany,
}

/// What was carried for this node, and dropped here, in packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FerriedCounts {
    /// Given to ferries.
    pub sent: u64,
    /// Come by ferries.
    pub received: u64,
    /// For a crossing that is not there.
    pub no_crossing: u64,
    /// The connection to the ferry was behind, or the packet too large for it.
    pub not_taken: u64,
    /// QUIC was behind with reading.
    pub not_read: u64,
    /// Came with a number that leads nowhere.
    pub foreign: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    no_crossing: AtomicU64,
    not_taken: AtomicU64,
    not_read: AtomicU64,
    foreign: AtomicU64,
}

/// Every ferry that this node is connected to, and the crossings over each. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Ferries {
    board: Arc<Mutex<Board>>,
    counters: Arc<Counters>,
    /// This side has no address that another could use.
    local: n0_watcher::Watchable<Vec<CustomAddr>>,
}

#[derive(Debug, Default)]
struct Board {
    ferries: BTreeMap<DeviceId, Ferry>,
    arrived: VecDeque<(FerryAddr, Bytes)>,
    /// Who reads, to be told that something arrived.
    reader: Option<Waker>,
}

#[derive(Debug)]
struct Ferry {
    conn: Conn,
    /// How people call it.
    name: String,
    numbers: BTreeMap<DeviceId, Handle>,
    devices: BTreeMap<Handle, DeviceId>,
}

impl Ferry {
    fn close(&mut self, handle: Handle) {
        if let Some(device) = self.devices.remove(&handle)
            && self.numbers.get(&device) == Some(&handle)
        {
            self.numbers.remove(&device);
        }
    }

    fn close_to(&mut self, device: &DeviceId) {
        self.numbers.remove(device);
        self.devices.retain(|_, other| other != device);
    }
}

/// A ferry is there for as long as this is.
#[derive(Debug)]
pub(crate) struct Attached {
    ferries: Ferries,
    conn: Conn,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let by = self.conn.peer();
        let mut board = self.ferries.board();
        if board.ferries.get(&by).is_some_and(|ferry| ferry.conn.is(&self.conn)) {
            board.ferries.remove(&by);
        }
    }
}

impl Default for Ferries {
    fn default() -> Self {
        Self {
            board: Arc::default(),
            counters: Arc::default(),
            local: n0_watcher::Watchable::new(Vec::new()),
        }
    }
}

/// Whether the smallest packet that QUIC needs fits into a datagram of the connection.
pub(crate) fn is_roomy(conn: &Conn) -> bool {
    conn.datagram_bytes_max() >= HANDLE_BYTES + PACKET_BYTES_MIN
}

/// Sends a datagram unless too much waits before it.
pub(crate) fn put(conn: &Conn, datagram: Bytes) -> bool {
    conn.datagrams_waiting_bytes() + datagram.len() <= FERRY_QUEUE_BYTES_MAX && conn.send_datagram(datagram)
}

impl Ferries {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses a connection to a ferry, in place of an older one; `None` if there are as many as may be.
    pub(crate) fn attach(&self, conn: &Conn, name: String) -> Option<Attached> {
        let by = conn.peer();
        let mut board = self.board();
        if board.ferries.len() >= FERRIES_MAX && !board.ferries.contains_key(&by) {
            return None;
        }
        board.ferries.values_mut().for_each(|other| other.close_to(&by));
        let ferry = Ferry { conn: conn.clone(), name, numbers: BTreeMap::new(), devices: BTreeMap::new() };
        board.ferries.insert(by, ferry);
        Some(Attached { ferries: self.clone(), conn: conn.clone() })
    }

    /// The connections to ferries that may carry to a device.
    pub(crate) fn conns_to(&self, peer: &DeviceId) -> Vec<Conn> {
        let board = self.board();
        if board.ferries.contains_key(peer) {
            return Vec::new();
        }
        board.ferries.values().map(|ferry| ferry.conn.clone()).collect()
    }

    /// Packets to and from a device have this number from now on, with the ferry at the other end of `conn`.
    pub(crate) fn open(&self, conn: &Conn, peer: DeviceId, handle: Handle) -> Result<(), NotOpened> {
        let mut board = self.board();
        if board.ferries.contains_key(&peer) {
            return Err(NotOpened::IsFerry);
        }
        let ferry = board.ferries.get_mut(&conn.peer()).filter(|ferry| ferry.conn.is(conn));
        let ferry = ferry.ok_or(NotOpened::Gone)?;
        ferry.close_to(&peer);
        // One that was somebody else's long ago.
        ferry.close(handle);
        if ferry.numbers.len() >= FERRY_CROSSINGS_MAX {
            return Err(NotOpened::TooMany);
        }
        ferry.numbers.insert(peer, handle);
        ferry.devices.insert(handle, peer);
        Ok(())
    }

    /// The crossings to a device.
    pub(crate) fn to(&self, peer: DeviceId) -> Vec<FerryAddr> {
        let board = self.board();
        let over = board.ferries.iter().filter(|(_, ferry)| ferry.numbers.contains_key(&peer));
        over.map(|(by, _)| FerryAddr { by: *by, peer }).collect()
    }

    /// How people call a ferry.
    pub(crate) fn name(&self, by: &DeviceId) -> String {
        self.board().ferries.get(by).map_or_else(|| by.short(), |ferry| ferry.name.clone())
    }

    /// How many crossings there are over a ferry.
    pub(crate) fn crossings(&self, by: &DeviceId) -> usize {
        self.board().ferries.get(by).map_or(0, |ferry| ferry.numbers.len())
    }

    /// A datagram came from the ferry at the other end of `conn`.
    pub(crate) fn arrived(&self, conn: &Conn, datagram: Bytes) {
        let count = |counter: &AtomicU64| {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let by = conn.peer();
        let mut board = self.board();
        let ferry = board.ferries.get_mut(&by).filter(|ferry| ferry.conn.is(conn));
        let Some((ferry, (handle, packet))) = ferry.zip(Handle::split(datagram)) else {
            return count(&self.counters.foreign);
        };
        if packet.is_empty() {
            return ferry.close(handle);
        }
        let Some(peer) = ferry.devices.get(&handle).copied() else {
            return count(&self.counters.foreign);
        };
        if board.arrived.len() >= FERRY_ARRIVED_MAX {
            return count(&self.counters.not_read);
        }
        board.arrived.push_back((FerryAddr { by, peer }, packet));
        count(&self.counters.received);
        let reader = board.reader.take();
        drop(board);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(crate) fn counts(&self) -> FerriedCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FerriedCounts {
            sent: of(&self.counters.sent),
            received: of(&self.counters.received),
            no_crossing: of(&self.counters.no_crossing),
            not_taken: of(&self.counters.not_taken),
            not_read: of(&self.counters.not_read),
            foreign: of(&self.counters.foreign),
        }
    }
}

impl CustomTransport for Ferries {
    fn bind(&self) -> io::Result<Box<dyn CustomEndpoint>> {
        Ok(Box::new(Ear(self.clone())))
    }
}

/// Reads what arrived.
#[derive(Debug)]
struct Ear(Ferries);

impl CustomEndpoint for Ear {
    fn watch_local_addrs(&self) -> n0_watcher::Direct<Vec<CustomAddr>> {
        self.0.local.watch()
    }

    fn create_sender(&self) -> Arc<dyn CustomSender> {
        Arc::new(self.0.clone())
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        metas: &mut [noq_udp::RecvMeta],
        infos: &mut [RecvInfo],
    ) -> Poll<io::Result<usize>> {
        let mut board = self.0.board();
        let mut filled = 0;
        for ((buf, meta), info) in bufs.iter_mut().zip(metas).zip(infos) {
            let Some((from, packet)) = board.arrived.pop_front() else { break };
            // One that is larger than QUIC's own buffer cannot be QUIC's; an empty one is skipped there.
            let place = buf.get_mut(..packet.len());
            let length = place.as_ref().map_or(0, |place| place.len());
            if let Some(place) = place {
                place.copy_from_slice(&packet);
            }
            *meta = noq_udp::RecvMeta::default();
            (meta.len, meta.stride) = (length, length);
            *info = RecvInfo::new(from.to_custom(), None);
            filled += 1;
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        board.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn max_transmit_segments(&self) -> NonZeroUsize {
        SEGMENTS_MAX
    }
}

impl CustomSender for Ferries {
    fn is_valid_send_addr(&self, addr: &CustomAddr) -> bool {
        addr.id() == TRANSPORT_ID
    }

    fn poll_send(
        &self,
        _: &mut Context<'_>,
        to: &CustomAddr,
        _: Option<&CustomAddr>,
        transmit: &Transmit<'_>,
    ) -> Poll<io::Result<()>> {
        let crossing = FerryAddr::from_custom(to).and_then(|addr| {
            let board = self.board();
            let ferry = board.ferries.get(&addr.by)?;
            Some((ferry.conn.clone(), *ferry.numbers.get(&addr.peer)?))
        });
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for packet in transmit.contents.chunks(size) {
            let counter = match &crossing {
                Some((conn, handle)) if put(conn, handle.before(packet)) => &self.counters.sent,
                Some(_) => &self.counters.not_taken,
                None => &self.counters.no_crossing,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        // To QUIC a way that is not there is one that loses everything, which is what it knows how to leave.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;

    #[test]
    fn a_crossing_has_one_address_and_other_addresses_are_no_crossings() {
        let addr = FerryAddr { by: SecretKey::from_u64(1).id(), peer: SecretKey::from_u64(2).id() };
        assert_eq!(FerryAddr::from_custom(&addr.to_custom()), Some(addr));
        for (id, data) in [(TRANSPORT_ID, &b"short"[..]), (7, addr.to_custom().data())] {
            assert_eq!(FerryAddr::from_custom(&CustomAddr::from_parts(id, data)), None);
        }
    }
}
