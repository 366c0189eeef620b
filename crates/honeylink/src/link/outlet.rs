//! The way out of a link: the sending half of its session stream, written to by whoever has bytes and finds it free.
//!
//! A message on its own is written by the task that sends it; handing it to the driver's task would cost a wake-up.
//! What the carrier does not take at once, and everything that follows too fast, the driver writes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;

use crate::carrier::SendStream;

/// What there is to write next.
pub(super) struct Next {
    /// Encoded frames; empty if there are none now.
    pub(super) bytes: Bytes,
    /// Nothing follows these bytes: end the stream after them.
    pub(super) last: bool,
}

#[derive(Debug)]
struct Open {
    send: SendStream,
    /// Taken from the queue, but not by the carrier yet.
    unsent: Bytes,
    /// Bytes the carrier took so far.
    written: u64,
    /// The driver waits for the carrier to take more. A carrier wakes only who asked last, so senders keep out then.
    driver_waits: bool,
}

/// See the module's doc. Empty while no session stream is attached.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    open: Mutex<Option<Open>>,
}

impl Outlet {
    pub(super) fn open(&self, send: SendStream) {
        *self.locked() = Some(Open { send, unsent: Bytes::new(), written: 0, driver_waits: false });
    }

    /// Takes the stream away from writers: to end it, or because it is dead.
    pub(super) fn take(&self) -> Option<SendStream> {
        self.locked().take().map(|open| open.send)
    }

    /// How many bytes the carrier took of this stream: whether a slow one still moves.
    pub(super) fn written(&self) -> u64 {
        self.locked().as_ref().map_or(0, |open| open.written)
    }

    /// Writes until `next` gives nothing. Ready with whether that was the last.
    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        next: impl FnMut() -> Next,
    ) -> Poll<std::io::Result<bool>> {
        let mut open = self.locked();
        let written = flush(&mut open, cx, next);
        if let Some(open) = open.as_mut() {
            open.driver_waits = written.is_pending();
        }
        written
    }

    /// Writes from a sender's task. `false`: the driver has to go on, because somebody else is writing, the carrier takes
    /// no more now, or the stream is dead or to be ended.
    pub(super) fn try_write(&self, next: impl FnMut() -> Next) -> bool {
        let Ok(mut open) = self.open.try_lock() else {
            return false;
        };
        if open.as_ref().is_some_and(|open| open.driver_waits) {
            return false;
        }
        // The waker may do nothing: where this is not enough, the driver asks again with its own.
        let written = flush(&mut open, &mut Context::from_waker(Waker::noop()), next);
        matches!(written, Poll::Ready(Ok(false)))
    }

    fn locked(&self) -> MutexGuard<'_, Option<Open>> {
        // A stream left half-way by a panic fails, and the session takes itself up on another.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn flush(
    open: &mut Option<Open>,
    cx: &mut Context<'_>,
    mut next: impl FnMut() -> Next,
) -> Poll<std::io::Result<bool>> {
    let Some(Open { send, unsent, written, .. }) = open else {
        return Poll::Ready(Err(std::io::ErrorKind::NotConnected.into()));
    };
    loop {
        if unsent.is_empty() {
            let Next { bytes, last } = next();
            if bytes.is_empty() {
                return Poll::Ready(Ok(last));
            }
            *unsent = bytes;
        }
        let before = unsent.len();
        let taken = send.poll_write_chunk(cx, unsent);
        *written += (before - unsent.len()) as u64;
        ready!(taken)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::carrier::Conn;
    use crate::carrier::memory::MemoryNetwork;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_sender_does_not_take_the_wake_up_of_a_driver_that_waits() {
        let network = MemoryNetwork::new();
        let (a, b) = (crate::testing::device_id(1), crate::testing::device_id(2));
        let mut hosts = network.attach(b);
        let ours = Conn::Memory(network.connect(a, b, b"x", [0; 32]).await.unwrap());
        let theirs = Conn::Memory(hosts.recv().await.unwrap().conn);
        let (send, _recv) = ours.open().await.unwrap();
        let (_send, mut recv) = theirs.accept().await.unwrap();
        let outlet = Outlet::default();
        outlet.open(send);

        let driver = Arc::new(Counted::default());
        let more = || Next { bytes: Bytes::from(vec![0; 1 << 20]), last: false };
        assert!(outlet.poll_write(&mut Context::from_waker(&driver.clone().into()), more).is_pending());
        assert!(!outlet.try_write(more), "the carrier is full");
        recv.read_chunk(1 << 20).await.unwrap();
        assert_eq!(driver.0.load(Ordering::Relaxed), 1);
    }
}
