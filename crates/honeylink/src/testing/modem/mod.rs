//! Emulated radio modems: N of them on pseudo-terminals, one channel between them, in real time.
//!
//! ```text
//!  driver ── pty ── [ firmware | CSMA ] ──┐
//!  driver ── pty ── [ firmware | CSMA ] ──┼── [ medium: airtime, half-duplex, collisions, capture, loss ]
//!  driver ── pty ── [ firmware | CSMA ] ──┘
//! ```
//!
//! The real serial driver speaks with them as with the hardware: RNode-compatible or plain KISS. They are written from
//! the table of commands and from the data sheet's formula, and share no code with the product, so that a mistake there
//! is not repeated here.
//!
//! What they do not have: fading, frequency error, a clock that drifts, bits that flip (a frame arrives whole or not at
//! all), and the reset that opening a port causes on many boards.

mod device;
mod firmware;
mod kiss;
mod medium;
mod phy;
mod pty;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::device::{Control, Device};
use self::medium::Medium;
pub use self::medium::{Counters, Transmission};
pub use self::phy::Modulation;

/// Frames on their way to one modem's firmware.
const INBOX_MAX: usize = 64;
/// Orders on their way to one modem.
const CONTROLS_MAX: usize = 16;

/// What the channel is like.
#[derive(Clone, Copy, Debug)]
pub struct AirConfig {
    /// Seed of every random choice: back-off and loss.
    pub seed: u64,
    /// How much faster than real time it runs. A driver that waits for a frame's airtime does so in real time all the
    /// same.
    pub speed: u32,
    /// Frames lost for no reason, per million and receiver.
    pub loss_ppm: u32,
    /// By how much a frame must be stronger than another to survive it, dB.
    pub capture_db: i16,
}

impl Default for AirConfig {
    fn default() -> Self {
        Self { seed: 1, speed: 1, loss_ppm: 0, capture_db: 6 }
    }
}

/// The channel that modems share. Clones are the same channel.
#[derive(Clone, Debug)]
pub struct Air {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    speed: u32,
    medium: Mutex<Medium>,
    /// Whoever was last to go on the air.
    changes: watch::Sender<usize>,
}

impl Air {
    /// A quiet channel. Must be made within a tokio runtime.
    #[must_use]
    pub fn new(config: AirConfig) -> Self {
        let medium = Mutex::new(Medium::new(config));
        let (started, speed) = (Instant::now(), config.speed.max(1));
        Self { shared: Arc::new(Shared { started, speed, medium, changes: watch::Sender::new(usize::MAX) }) }
    }

    /// How strongly `to` hears `from`, dBm; `None` not at all. Everybody hears everybody with -80 dBm at first.
    pub fn set_rssi(&self, from: &Modem, to: &Modem, dbm: Option<i16>) {
        self.medium(|medium| medium.set_rssi(from.number, to.number, dbm));
    }

    /// What became of frames at receivers so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.medium(|medium| medium.counters())
    }

    /// Everything that was put on the air so far, by its start.
    #[must_use]
    pub fn log(&self) -> Vec<Transmission> {
        self.medium(|medium| medium.log().to_vec())
    }

    /// Waits until `modem` is on the air.
    pub async fn on_air(&self, modem: &Modem) {
        let mut changes = self.shared.changes.subscribe();
        while !self.medium(|medium| medium.is_sending(modem.number, self.now_us())) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the log is as `wanted`; asked anew whenever somebody goes on the air.
    pub async fn until(&self, wanted: impl Fn(&[Transmission]) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        while !self.medium(|medium| wanted(medium.log())) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn medium<T>(&self, with: impl FnOnce(&mut Medium) -> T) -> T {
        with(&mut self.shared.medium.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The channel's own time, microseconds.
    fn now_us(&self) -> u64 {
        let real = u64::try_from(self.shared.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        real.saturating_mul(u64::from(self.shared.speed))
    }

    fn instant(&self, at_us: u64) -> Instant {
        self.shared.started + Duration::from_micros(at_us.div_ceil(u64::from(self.shared.speed)))
    }
}

/// What kind of modem.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// RNode-compatible, with this firmware version.
    Rnode {
        /// Major and minor.
        firmware: (u8, u8),
    },
    /// Plain KISS, set up by hand like this.
    Plain(Modulation),
}

impl Kind {
    /// An RNode-compatible modem with current firmware.
    #[must_use]
    pub const fn rnode() -> Self {
        Self::Rnode { firmware: (1, 80) }
    }
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The modem reports this error now.
    Error(u8),
    /// It does not send the next frame it is given and reports this error instead.
    RefuseNext(u8),
    /// It loses power for a moment: settings and queue are gone.
    Restart,
}

/// An emulated modem. Dropping it unplugs it.
#[derive(Debug)]
pub struct Modem {
    number: usize,
    path: PathBuf,
    control: mpsc::Sender<Control>,
    task: JoinHandle<()>,
}

impl Modem {
    /// A modem on `air`, plugged in as `folder/name`, a link to its terminal.
    ///
    /// # Errors
    /// The system's, if there are no pseudo-terminals or the folder cannot be written.
    pub fn plugged(air: &Air, folder: &Path, name: &str, kind: Kind) -> io::Result<Self> {
        let path = folder.join(name);
        let (heard, inbox) = mpsc::channel(INBOX_MAX);
        let (control, controls) = mpsc::channel(CONTROLS_MAX);
        let number = air.medium(|medium| medium.join(heard));
        let device = Device::plugged(air.clone(), number, path.clone(), kind)?;
        let task = tokio::spawn(device.run(inbox, controls));
        Ok(Self { number, path, control, task })
    }

    /// Where a driver opens it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number in [`Air::log`].
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Pulls the plug: the terminal hangs up and its name is gone when this returns. What is on the air stays there.
    pub async fn unplug(&self) {
        self.tell(Control::Unplug).await;
    }

    /// Plugs it in again: another terminal under the same name. It has booted and forgotten its settings.
    pub async fn plug_in(&self) {
        self.tell(Control::PlugIn).await;
    }

    /// Makes something go wrong.
    pub async fn inject(&self, fault: Fault) {
        self.tell(|done| Control::Inject(fault, done)).await;
    }

    async fn tell(&self, control: impl FnOnce(device::Done) -> Control) {
        let (done, when) = tokio::sync::oneshot::channel();
        if self.control.send(control(done)).await.is_ok() {
            let _ = when.await;
        }
    }
}

impl Drop for Modem {
    fn drop(&mut self) {
        self.task.abort();
    }
}
