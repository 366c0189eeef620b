//! Real QUIC over simulated links: a transport of iroh whose packets go into the [`Internet`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use honeylink_core::identity::DeviceId;
use honeylink_sim::device::NodeId;
use iroh::TransportAddr;
use iroh::endpoint::transports::{CustomEndpoint, CustomSender, CustomTransport, RecvInfo, Transmit};
use iroh_base::CustomAddr;

use super::internet::Internet;

/// Marks addresses of simulated networks; they never leave the process.
const TRANSPORT_ID: u64 = 0x484C_5349;
/// Packets that wait to be read; more are dropped, as a kernel does.
const INBOX_PACKETS_MAX: usize = 4_096;
/// Packets that QUIC may hand over at once.
const SEGMENTS_MAX: NonZeroUsize = NonZeroUsize::new(10).unwrap();

/// One node's place on the network, as QUIC sees it, for one of the node's lives.
#[derive(Clone, Debug)]
pub(crate) struct QuicWire {
    internet: Internet,
    node: NodeId,
    inboxes: Arc<Inboxes>,
    inbox: Arc<Inbox>,
    local: n0_watcher::Watchable<Vec<CustomAddr>>,
}

/// Where packets for each node wait now, by its number.
#[derive(Debug, Default)]
pub(super) struct Inboxes {
    current: Mutex<BTreeMap<NodeId, Arc<Inbox>>>,
}

#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<(NodeId, Bytes)>,
    reader: Option<Waker>,
}

impl Inboxes {
    /// A new life of the node begins: what came for the last one is not for it.
    fn renew(&self, node: NodeId) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        self.current.lock().unwrap_or_else(PoisonError::into_inner).insert(node, inbox.clone());
        inbox
    }

    fn put(&self, to: NodeId, from: NodeId, packet: Bytes) {
        let inbox = self.current.lock().unwrap_or_else(PoisonError::into_inner).get(&to).cloned();
        let reader = inbox.and_then(|inbox| {
            let mut waiting = inbox.state.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.packets.len() < INBOX_PACKETS_MAX {
                waiting.packets.push_back((from, packet));
            }
            waiting.reader.take()
        });
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

fn addr_of(node: NodeId) -> CustomAddr {
    CustomAddr::from_parts(TRANSPORT_ID, &node.0.to_be_bytes())
}

fn node_of(addr: &CustomAddr) -> io::Result<NodeId> {
    let bytes: Option<[u8; 4]> = addr.data().try_into().ok().filter(|_| addr.id() == TRANSPORT_ID);
    bytes.map(u32::from_be_bytes).map(NodeId).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

impl QuicWire {
    pub(super) fn new(internet: &Internet, inboxes: &Arc<Inboxes>, node: NodeId) -> Self {
        let local = n0_watcher::Watchable::new(vec![addr_of(node)]);
        let inbox = inboxes.renew(node);
        Self { internet: internet.clone(), node, inboxes: inboxes.clone(), inbox, local }
    }

    /// Where a device is on this network.
    pub(crate) fn target(&self, peer: &DeviceId) -> Option<TransportAddr> {
        self.internet.find(peer).map(|node| TransportAddr::Custom(addr_of(node)))
    }

    /// The address that this node shows.
    pub(crate) fn addr(&self) -> std::net::SocketAddr {
        Internet::addr(self.node)
    }

    /// The address that another node shows.
    pub(crate) fn shown(addr: &CustomAddr) -> Option<std::net::SocketAddr> {
        node_of(addr).ok().map(Internet::addr)
    }
}

impl CustomTransport for QuicWire {
    fn bind(&self) -> io::Result<Box<dyn CustomEndpoint>> {
        Ok(Box::new(self.clone()))
    }
}

impl CustomEndpoint for QuicWire {
    fn watch_local_addrs(&self) -> n0_watcher::Direct<Vec<CustomAddr>> {
        self.local.watch()
    }

    fn create_sender(&self) -> Arc<dyn CustomSender> {
        Arc::new(self.clone())
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        metas: &mut [noq_udp::RecvMeta],
        infos: &mut [RecvInfo],
    ) -> Poll<io::Result<usize>> {
        let mut waiting = self.inbox.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut filled = 0;
        for ((buf, meta), info) in bufs.iter_mut().zip(metas).zip(infos) {
            let Some((from, packet)) = waiting.packets.pop_front() else { break };
            // A packet larger than QUIC's own buffer cannot be one of QUIC's; an empty one ends nothing.
            let place = buf.get_mut(..packet.len());
            let length = place.as_ref().map_or(0, |place| place.len());
            if let Some(place) = place {
                place.copy_from_slice(&packet);
            }
            meta.len = length;
            meta.stride = length;
            *info = RecvInfo::new(addr_of(from), Some(addr_of(self.node)));
            filled += 1;
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        waiting.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn max_transmit_segments(&self) -> NonZeroUsize {
        SEGMENTS_MAX
    }
}

impl CustomSender for QuicWire {
    fn is_valid_send_addr(&self, addr: &CustomAddr) -> bool {
        node_of(addr).is_ok()
    }

    fn poll_send(
        &self,
        _: &mut Context<'_>,
        to: &CustomAddr,
        _: Option<&CustomAddr>,
        transmit: &Transmit<'_>,
    ) -> Poll<io::Result<()>> {
        let (from, to) = (self.node, node_of(to)?);
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for packet in transmit.contents.chunks(size) {
            let inboxes = self.inboxes.clone();
            let deliver = move |packet| inboxes.put(to, from, packet);
            self.internet.post(
                (from, to),
                (packet.len(), "packet"),
                &Bytes::copy_from_slice(packet),
                deliver,
            );
        }
        // What is lost on the way is nothing that a sender hears of.
        Poll::Ready(Ok(()))
    }
}
