//! The way into a link: the receiving half of its session stream, read by the application while it waits in `recv`, and
//! by the driver otherwise.
//!
//! An application that waits for a message reads it itself: a hop over the driver's task would cost a wake-up on each
//! side of a round trip. But a task that was woken need not look: it may hold its `recv` while it is busy elsewhere, and
//! acknowledgements, pings and closes wait behind the message. So the application reads on a lease:
//!
//! - Whoever reads, the carrier wakes the same [`Turn`]. It passes the wake-up to the application in `recv`, if there is
//!   one, and else to the driver.
//! - While wake-ups go to the application, the driver looks every [`LEASE`] whether something is left unread, and then
//!   reads itself. It stops looking when nothing arrives, so an idle link costs nothing.
//!
//! Invariant: if something may be unread, the driver has been told or is watching.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use honeylink_core::wire::link::FrameDecoder;
use tokio::sync::Notify;

use crate::carrier::RecvStream;

/// How long what arrived may wait for an application that was woken for it.
const LEASE: Duration = Duration::from_millis(10);
/// Bytes read at a time from a session stream.
const READ_BYTES: usize = 64 << 10;

/// What a look at the stream found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Frames: the decoder has new bytes.
    Bytes,
    /// Nothing now; the turn will be woken.
    Nothing,
    /// The stream's end, or its failure.
    End,
}

#[derive(Debug)]
struct Open {
    recv: RecvStream,
    decoder: FrameDecoder,
}

/// See the module's doc. Empty while no session stream is attached.
#[derive(Debug)]
pub(super) struct Inlet {
    open: Mutex<Option<Open>>,
    turn: Arc<Turn>,
    /// `turn` as the carriers take it.
    waker: Waker,
}

impl Inlet {
    pub(super) fn new() -> Self {
        let turn = Arc::new(Turn::default());
        Self { open: Mutex::new(None), waker: turn.clone().into(), turn }
    }

    /// Takes a stream; the driver reads first.
    pub(super) fn open(&self, recv: RecvStream, message_max: usize) {
        *self.locked() = Some(Open { recv, decoder: FrameDecoder::new(message_max) });
        self.turn.call_driver();
    }

    pub(super) fn close(&self) {
        *self.locked() = None;
    }

    /// Reads once and gives the decoder to `frames` if there is something new. `None` if somebody else is reading.
    pub(super) fn try_read(&self, frames: impl FnOnce(&mut FrameDecoder)) -> Option<Found> {
        let mut open = self.open.try_lock().ok()?;
        Some(self.read(&mut open, frames))
    }

    /// As [`Inlet::try_read`], after whoever is reading.
    pub(super) fn read_next(&self, frames: impl FnOnce(&mut FrameDecoder)) -> Found {
        self.read(&mut self.locked(), frames)
    }

    fn read(&self, open: &mut Option<Open>, frames: impl FnOnce(&mut FrameDecoder)) -> Found {
        let Some(Open { recv, decoder }) = open else {
            return Found::End;
        };
        // Before the look, or a wake-up between the two would be forgotten.
        self.turn.look();
        match recv.poll_read_chunk(&mut Context::from_waker(&self.waker), READ_BYTES) {
            Poll::Ready(Ok(Some(chunk))) => {
                self.turn.leave_unread();
                decoder.feed(&chunk);
                frames(decoder);
                Found::Bytes
            }
            Poll::Ready(Ok(None) | Err(_)) => Found::End,
            Poll::Pending => Found::Nothing,
        }
    }

    /// The application waits in `recv`: wake-ups go to it until the guard is dropped.
    pub(super) fn lease(&self) -> Lease<'_> {
        Lease { turn: &self.turn }
    }

    /// Tells the driver that there is something to do on the stream.
    pub(super) fn call_driver(&self) {
        self.turn.call_driver();
    }

    /// Waits until the driver has to read.
    pub(super) async fn drivers_turn(&self) {
        loop {
            if self.turn.watching() {
                // A wake-up needs no attention here: the end of the lease brings it up.
                let told = tokio::time::timeout(LEASE, self.turn.driver.notified()).await;
                if told.is_err() && !self.turn.lease_ended() {
                    continue;
                }
            } else {
                self.turn.driver.notified().await;
            }
            if self.turn.is_drivers() {
                return;
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, Option<Open>> {
        // A decoder left half-way by a panic reads nonsense next, and the session ends with a violation.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An application's wait in `recv`.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    turn: &'a Turn,
}

impl Lease<'_> {
    /// Wakes `waker` from now on when there is something to read.
    pub(super) fn renew(&self, waker: &Waker) {
        let mut state = self.turn.state();
        match &state.application {
            Some(known) if known.will_wake(waker) => {}
            _ => state.application = Some(waker.clone()),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.turn.state().application = None;
    }
}

/// Whose turn it is to read.
#[derive(Debug, Default)]
struct Turn {
    state: Mutex<TurnState>,
    /// The driver has to read, or to start watching.
    driver: Notify,
}

#[derive(Debug, Default)]
struct TurnState {
    /// Who waits in `recv`.
    application: Option<Waker>,
    /// Something may be there that nobody has read, and the carrier will not say so again.
    unread: bool,
    /// Nobody but the driver will read it.
    driver_reads: bool,
    /// The driver looks after what the application leaves.
    watching: bool,
    /// Something came since the driver last looked.
    fresh: bool,
}

impl Turn {
    fn state(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        self.state().unread = false;
    }

    fn leave_unread(&self) {
        self.state().unread = true;
    }

    fn call_driver(&self) {
        let mut state = self.state();
        (state.unread, state.driver_reads) = (true, true);
        drop(state);
        self.driver.notify_one();
    }

    fn watching(&self) -> bool {
        self.state().watching
    }

    /// The lease is over: whether something is left unread. Without news since the last time, watching ends.
    fn lease_ended(&self) -> bool {
        let mut state = self.state();
        state.watching = std::mem::take(&mut state.fresh) || state.unread;
        state.driver_reads |= state.unread;
        state.driver_reads
    }

    fn is_drivers(&self) -> bool {
        std::mem::take(&mut self.state().driver_reads)
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state();
        (state.unread, state.fresh) = (true, true);
        match state.application.take() {
            Some(application) => {
                let must_start = !std::mem::replace(&mut state.watching, true);
                drop(state);
                // The driver first: the runtime runs next what was woken last.
                if must_start {
                    self.driver.notify_one();
                }
                application.wake();
            }
            None => {
                state.driver_reads = true;
                drop(state);
                self.driver.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_busy_application_leaves_is_read_by_the_driver_when_its_lease_ends() {
        let inlet = Inlet::new();
        let application = Arc::new(Counted::default());
        let lease = inlet.lease();
        lease.renew(&application.clone().into());
        inlet.waker.wake_by_ref();
        assert_eq!(application.0.load(Ordering::Relaxed), 1);
        let started = tokio::time::Instant::now();
        inlet.drivers_turn().await;
        assert_eq!(started.elapsed(), LEASE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_reads_keeps_the_driver_out_and_an_idle_link_asleep() {
        let inlet = Inlet::new();
        let application = Arc::new(Counted::default());
        let lease = inlet.lease();
        lease.renew(&application.into());
        inlet.waker.wake_by_ref();
        inlet.turn.look();
        let waiting = tokio::time::timeout(Duration::from_secs(3600), inlet.drivers_turn());
        assert!(waiting.await.is_err(), "nothing was left to read");
        assert!(!inlet.turn.watching());
    }

    #[tokio::test]
    async fn without_an_application_the_driver_reads_at_once() {
        let inlet = Inlet::new();
        drop(inlet.lease());
        inlet.waker.wake_by_ref();
        inlet.drivers_turn().await;
    }
}
