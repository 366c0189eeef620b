//! How a transfer is watched and steered from outside: progress, pause, cancel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Progress is published at most this often.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);
/// Time constant of the smoothed rate: long enough to read, short enough to follow a change of path.
const RATE_SMOOTHING_S: f64 = 3.0;

/// How far a transfer is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// Content bytes done, including those kept from an earlier attempt.
    pub bytes_done: u64,
    /// Content bytes of the whole transfer; 0 until the offer is known.
    pub bytes_total: u64,
    /// Files done.
    pub files_done: u64,
    /// Files of the whole transfer.
    pub files_total: u64,
    /// Relative path of the file in progress.
    pub current: String,
    /// Smoothed rate, in bytes per second, of what was really moved.
    pub rate: f64,
    /// Time left at that rate; `None` while it is unknown.
    pub eta: Option<Duration>,
    /// Whether it is paused from this side.
    pub paused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Run,
    Pause,
    Cancel,
}

/// Watches and steers one transfer. Clones steer the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    progress: watch::Sender<Progress>,
    wish: watch::Sender<Wish>,
}

impl Default for Handle {
    fn default() -> Self {
        Self::new()
    }
}

impl Handle {
    /// A handle for one call of [`send`](super::send()) or [`receive`](super::receive()).
    #[must_use]
    pub fn new() -> Self {
        let (progress, _) = watch::channel(Progress::default());
        let (wish, _) = watch::channel(Wish::Run);
        Self { shared: Arc::new(Shared { progress, wish }) }
    }

    /// Whether both steer the same transfer.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Follows the progress.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// Moves no more content until [`Handle::unpause`]. The stream stays open.
    pub fn pause(&self) {
        self.wish(Wish::Pause);
    }

    /// Goes on after [`Handle::pause`].
    pub fn unpause(&self) {
        self.wish(Wish::Run);
    }

    /// Ends the transfer and removes what was received. To end it and keep that, drop its future instead.
    pub fn cancel(&self) {
        self.wish(Wish::Cancel);
    }

    fn wish(&self, new: Wish) {
        // A cancelled transfer stays cancelled.
        self.shared.wish.send_if_modified(|wish| {
            let change = *wish != new && *wish != Wish::Cancel;
            if change {
                *wish = new;
            }
            change
        });
        self.shared.progress.send_modify(|progress| progress.paused = new == Wish::Pause);
    }

    /// Returns at once unless paused; then waits for the end of the pause.
    pub(super) async fn clearance(&self) {
        if *self.shared.wish.borrow() == Wish::Pause {
            // The sender lives in `self`, so waiting cannot fail.
            let _ = self.shared.wish.subscribe().wait_for(|wish| *wish != Wish::Pause).await;
        }
    }

    /// Returns when the transfer is cancelled.
    pub(crate) async fn cancelled(&self) {
        let _ = self.shared.wish.subscribe().wait_for(|wish| *wish == Wish::Cancel).await;
    }
}

/// Counts what was moved and publishes it.
#[derive(Debug)]
pub(super) struct Meter {
    handle: Handle,
    now: Progress,
    published: Instant,
    moved_since: u64,
}

impl Meter {
    pub(super) fn new(handle: &Handle, bytes_total: u64, files_total: u64) -> Self {
        let now = Progress { bytes_total, files_total, ..Progress::default() };
        let mut meter = Self { handle: handle.clone(), now, published: Instant::now(), moved_since: 0 };
        meter.publish();
        meter
    }

    /// `moved` bytes crossed the stream.
    pub(super) fn moved(&mut self, moved: u64) {
        self.moved_since += moved;
        self.now.bytes_done += moved;
        if self.published.elapsed() >= PUBLISH_EVERY {
            self.publish();
        }
    }

    /// `kept` bytes need not cross it again.
    pub(super) const fn kept(&mut self, kept: u64) {
        self.now.bytes_done += kept;
    }

    pub(super) fn files(&mut self, done: u64) {
        self.now.files_done += done;
    }

    pub(super) fn current(&mut self, path: &str) {
        path.clone_into(&mut self.now.current);
    }

    pub(super) fn publish(&mut self) {
        let passed = self.published.elapsed().as_secs_f64();
        if passed > 0.0 && self.moved_since > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a rate is for the eye")]
            let instant = self.moved_since as f64 / passed;
            let weight = if self.now.rate == 0.0 { 1.0 } else { 1.0 - (-passed / RATE_SMOOTHING_S).exp() };
            self.now.rate += (instant - self.now.rate) * weight;
        }
        let left = self.now.bytes_total.saturating_sub(self.now.bytes_done);
        #[expect(clippy::cast_precision_loss, reason = "an estimate is for the eye")]
        let seconds_left = left as f64 / self.now.rate;
        self.now.eta = Duration::try_from_secs_f64(seconds_left).ok();
        self.published = Instant::now();
        self.moved_since = 0;
        let now = self.now.clone();
        self.handle.shared.progress.send_modify(|shown| *shown = Progress { paused: shown.paused, ..now });
    }
}
