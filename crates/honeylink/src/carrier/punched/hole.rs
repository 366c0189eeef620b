//! One hole: a socket, the far endpoint it works with, and who waits to send.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use honeylink_core::nat::wire::{PROBE_BYTES, is_like_probe};
use noq_udp::{RecvMeta, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::Counters;
use crate::carrier::quic_conn::canonical;

/// Connections that may wait for one socket at a time. There are two to a device, so this is never reached.
const WAITING_MAX: usize = 32;
/// Tries of one packet before it counts as refused.
const TRIES_MAX: usize = 3;

/// Probes that arrive on a socket that carries QUIC already: the other side did not hear yet that it was won.
pub(crate) type Strays = mpsc::Sender<(SocketAddr, Bytes)>;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Hole {
    socket: Arc<UdpSocket>,
    state: UdpSocketState,
    remote: SocketAddr,
    strays: Option<Strays>,
    queue: Arc<Queue>,
    queue_waker: Waker,
}

/// Who waits until the socket takes more. The socket itself remembers one at most.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Vec<Waker>>,
}

impl Queue {
    /// Whether there was room.
    fn join(&self, waker: &Waker) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.iter().any(|other| other.will_wake(waker)) {
            return true;
        }
        if waiting.len() >= WAITING_MAX {
            return false;
        }
        waiting.push(waker.clone());
        true
    }
}

impl Wake for Queue {
    fn wake(self: Arc<Self>) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Hole {
    /// A hole towards `remote`.
    ///
    /// # Errors
    /// If the socket refuses what QUIC needs: that its packets are not cut in pieces on the way.
    pub(crate) fn new(
        socket: Arc<UdpSocket>,
        remote: SocketAddr,
        strays: Option<Strays>,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&*socket).into())?;
        let queue = Arc::new(Queue::default());
        let queue_waker = Waker::from(queue.clone());
        Ok(Self { socket, state, remote, strays, queue, queue_waker })
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Reads as many datagrams as there are. What is not for QUIC is left in the buffers with length 0, which QUIC skips.
    pub(super) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        metas: &mut [RecvMeta],
        counters: &Counters,
    ) -> Poll<usize> {
        for _ in 0..TRIES_MAX {
            match self.socket.poll_recv_ready(cx) {
                Poll::Ready(Ok(())) => {}
                // Only when the runtime is going away.
                Poll::Ready(Err(_)) | Poll::Pending => return Poll::Pending,
            }
            let read = self
                .socket
                .try_io(Interest::READABLE, || self.state.recv((&*self.socket).into(), bufs, metas));
            match read {
                Ok(count) => {
                    for (buf, meta) in bufs.iter().zip(metas).take(count) {
                        self.sort(buf, meta, counters);
                    }
                    return Poll::Ready(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An ICMP error of an earlier packet, say. It is taken off the socket by being read.
                Err(_) => {
                    counters.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        // Something is wrong with it again and again; others get their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Decides who gets a datagram.
    fn sort(&self, buf: &[u8], meta: &mut RecvMeta, counters: &Counters) {
        // Which of our addresses it came to does not matter: the socket sends from the right one.
        meta.dst_ip = None;
        let bytes = buf.get(..meta.len).unwrap_or_default();
        if meta.stride == PROBE_BYTES && is_like_probe(bytes.get(..PROBE_BYTES).unwrap_or_default()) {
            for probe in bytes.chunks(PROBE_BYTES) {
                if let Some(strays) = &self.strays {
                    // A full queue holds enough of them.
                    let _ = strays.try_send((canonical(meta.addr), Bytes::copy_from_slice(probe)));
                }
            }
        } else if canonical(meta.addr) == self.remote {
            return;
        } else {
            counters.foreign.fetch_add(1, Ordering::Relaxed);
        }
        (meta.len, meta.stride) = (0, 0);
    }

    /// Sends packets of one size, the last perhaps shorter, or waits until the socket takes them.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        contents: &[u8],
        segment_size: Option<usize>,
        counters: &Counters,
    ) -> Poll<()> {
        for _ in 0..TRIES_MAX {
            let sent = self.socket.try_io(Interest::WRITABLE, || self.send(contents, segment_size));
            match sent {
                Ok(()) => return Poll::Ready(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.queue.join(cx.waker()) {
                        counters.queue_full.fetch_add(1, Ordering::Relaxed);
                        return Poll::Ready(());
                    }
                    match self.socket.poll_send_ready(&mut Context::from_waker(&self.queue_waker)) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                // Larger than the way takes: that is how QUIC finds out.
                Err(error) if noq_udp::is_msg_size_err(&error) => return Poll::Ready(()),
                // Segmentation may just have been found to be missing: once more without.
                Err(_) => {}
            }
        }
        counters.refused.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(())
    }

    fn send(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let transmit = |contents, segment_size| noq_udp::Transmit {
            destination: self.remote,
            // iroh does not tell custom transports what QUIC wants here.
            ecn: None,
            contents,
            segment_size,
            src_ip: None,
        };
        let socket = || (&*self.socket).into();
        let most = self.state.max_gso_segments().get();
        match segment_size.filter(|size| *size > 0 && *size < contents.len()) {
            Some(size) if most < contents.len().div_ceil(size) => {
                contents.chunks(size * most).try_for_each(|part| {
                    let size = Some(size).filter(|size| *size < part.len());
                    self.state.try_send(socket(), &transmit(part, size))
                })
            }
            size => self.state.try_send(socket(), &transmit(contents, size)),
        }
    }
}
