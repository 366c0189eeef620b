//! The serial carrier: a radio modem on a serial port (requirement RA2), RNode-compatible or a plain KISS one.
//!
//! ```text
//!  SerialRadio::send ──▶ orders ──▶ [ Station: Scheduler + Modem ] ◀──bytes──▶ serial port
//!  SerialEvents::recv ◀─ events ◀──       │           driver task
//!                                   ledger file
//! ```
//!
//! Every decision is made by the core's machines: which frame goes next and when by
//! [`Scheduler`](honeylink_core::radio::Scheduler), what is said to the modem by
//! [`Modem`](honeylink_core::radio::Modem). The driver here opens the port, moves bytes, writes the ledger, and opens the
//! port again when the modem was unplugged.
//!
//! A frame that [`SerialRadio::send`] took ends with exactly one [`Event::Sent`], as long as the events are read. The
//! radio carries bytes for whoever holds it; it knows nothing of who they are from.

mod driver;
mod ledger_file;
mod station;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::radio::modem::{Heard, Identity, SetupError, Stats as ModemStats};
use honeylink_core::radio::rnode::ModemError;
use honeylink_core::radio::scheduler::{self, Fate, Load, Stats};
use honeylink_core::radio::{Band, Class, Dialect, Pace, Priority, Tuning};
use honeylink_core::wire::Invalid;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::ledger_file::LedgerFile;

/// Speed of a serial port unless the configuration says otherwise, bits per second.
pub const BAUD_DEFAULT: u32 = 115_200;
/// Orders that wait for the driver; beyond, [`SerialRadio::send`] says so.
const ORDERS_MAX: usize = 64;
/// Events that wait for their reader; beyond, the driver reads neither the line nor orders.
const EVENTS_MAX: usize = 256;
/// Bytes an RNode-compatible modem puts before each packet on the air, and what a packet holds besides.
const RNODE_LEAD_BYTES: usize = 1;
const RNODE_PACKET_BYTES: usize = 254;
const RNODE_FRAME_BYTES: usize = 2 * RNODE_PACKET_BYTES;
/// Shortest preamble such a modem sends, symbols.
const RNODE_PREAMBLE_SYMBOLS: u16 = 18;

/// What is at the other end of a serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Radio {
    /// An RNode-compatible modem; it is set up with these values.
    Rnode(Tuning),
    /// A KISS modem that was set up by hand.
    Plain {
        /// How long frames take on its channel.
        pace: Pace,
        /// The rule it must keep; a band of [`Region::UNRESTRICTED`](honeylink_core::radio::Region::UNRESTRICTED) if it
        /// has none.
        band: Band,
        /// Largest frame it takes, bytes.
        frame_bytes_max: usize,
    },
}

/// What a radio is opened with.
#[derive(Clone, Debug)]
pub struct SerialConfig {
    path: PathBuf,
    baud: u32,
    radio: Radio,
    ledger: Option<PathBuf>,
}

impl SerialConfig {
    /// The radio behind the serial port at `path`, such as `/dev/ttyUSB0` or `COM3`; better a name that follows the
    /// device, such as those in `/dev/serial/by-id`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, radio: Radio) -> Self {
        Self { path: path.into(), baud: BAUD_DEFAULT, radio, ledger: None }
    }

    /// The port's speed, bits per second.
    #[must_use]
    pub const fn baud(mut self, baud: u32) -> Self {
        self.baud = baud;
        self
    }

    /// The file that remembers the airtime used. One per transmitter; needed wherever a duty cycle is limited.
    #[must_use]
    pub fn ledger(mut self, path: impl Into<PathBuf>) -> Self {
        self.ledger = Some(path.into());
        self
    }

    /// The serial port.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The same with this ledger, if its band has a limit and none is named.
    pub(crate) fn ledger_or(mut self, path: impl FnOnce() -> PathBuf) -> Self {
        if self.ledger.is_none() && !self.schedule().band.is_unlimited() {
            self.ledger = Some(path());
        }
        self
    }

    /// How the scheduler sees this radio.
    #[must_use]
    pub fn schedule(&self) -> scheduler::Config {
        match &self.radio {
            Radio::Rnode(tuning) => {
                let lora = tuning.lora();
                let preamble = lora.preamble_symbols().max(RNODE_PREAMBLE_SYMBOLS);
                let pace = Pace::Lora(lora.with_preamble(preamble).unwrap_or(lora));
                scheduler::Config {
                    lead_bytes: RNODE_LEAD_BYTES,
                    packet_bytes_max: RNODE_PACKET_BYTES,
                    ..scheduler::Config::new(pace, tuning.channel().band(), RNODE_FRAME_BYTES)
                }
            }
            Radio::Plain { pace, band, frame_bytes_max } => {
                scheduler::Config::new(*pace, *band, *frame_bytes_max)
            }
        }
    }

    /// What such a radio can carry.
    #[must_use]
    pub fn class(&self) -> Class {
        let schedule = self.schedule();
        Class::of(&schedule.pace, schedule.band.duty_ppm)
    }

    const fn dialect(&self) -> Dialect {
        match self.radio {
            Radio::Rnode(tuning) => Dialect::Rnode(tuning),
            Radio::Plain { .. } => Dialect::Plain,
        }
    }
}

/// Why a radio cannot be opened. A modem that is not there yet is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Without memory a restart would forget the airtime used.
    #[error(
        "a duty cycle of {duty_ppm} millionths must be remembered across restarts: name a ledger file for this radio"
    )]
    NoLedger {
        /// The band's duty cycle, millionths.
        duty_ppm: u32,
    },
    /// The ledger is there and cannot be read.
    #[error("cannot read the radio's ledger {}: {source}", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The driver has not caught up.
    #[error("the radio's driver is busy: try again in a moment")]
    Busy,
    /// The radio was closed.
    #[error("the radio is closed")]
    Closed,
}

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The caller's name for it; comes back in [`Event::Sent`].
    pub token: u64,
    /// What goes on the air.
    pub bytes: Bytes,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether it counts as announce traffic, which has a share of its own.
    pub announce: bool,
    /// How long it is worth sending.
    pub lifetime: Duration,
}

/// Why a modem takes no frames.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// The port cannot be opened: nothing is plugged in, or it belongs to somebody else.
    #[error("cannot open the port: {0}")]
    NotThere(String),
    /// The port was lost while in use.
    #[error("the modem was unplugged: {0}")]
    Unplugged(String),
    /// The modem started anew by itself.
    #[error("the modem restarted")]
    Restarted,
    /// It cannot be used as it is.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// What happens on a radio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The modem is set up and takes frames.
    Up(Identity),
    /// It does not, and why. It is tried again by itself.
    Down(DownReason),
    /// A frame was heard.
    Heard(Heard),
    /// A frame that was given to [`SerialRadio::send`] ended.
    Sent {
        /// Its token.
        token: u64,
        /// How.
        fate: Fate,
    },
    /// The modem reported an error and goes on.
    Trouble(ModemError),
    /// The ledger file was damaged; nothing is sent for an hour.
    LedgerDamaged(Invalid),
    /// The ledger cannot be written; nothing is sent until it can.
    LedgerFailed(String),
}

/// Where a modem is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModemState {
    /// The port is open and the modem is asked and told.
    SettingUp,
    /// It takes frames.
    Up(Identity),
    /// It does not.
    Down(DownReason),
}

/// A radio at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The modem.
    pub modem: ModemState,
    /// Queue and budget.
    pub load: Load,
    /// What became of frames so far.
    pub frames: Stats,
    /// What the line carried so far.
    pub line: ModemStats,
}

/// What the driver is told.
enum Order {
    Send(Outgoing),
    Cancel(u64),
}

/// A radio on a serial port. Dropping it closes it; [`SerialRadio::shutdown`] also waits until that is done.
#[derive(Debug)]
pub struct SerialRadio {
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<Status>,
    /// Apart from the orders, which a driver whose events nobody reads does not look at.
    open: DropGuard,
    task: JoinHandle<()>,
}

/// What happens on a [`SerialRadio`], in order.
#[derive(Debug)]
pub struct SerialEvents {
    events: mpsc::Receiver<Event>,
}

impl SerialRadio {
    /// Opens a radio, in the background: the modem may be plugged in later, and again. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`OpenError`] if the airtime used so far cannot be known.
    pub async fn open(config: SerialConfig) -> Result<(Self, SerialEvents), OpenError> {
        let band = config.schedule().band;
        let ledger = match (&config.ledger, band.is_unlimited()) {
            (None, false) => return Err(OpenError::NoLedger { duty_ppm: band.duty_ppm }),
            (None, true) => None,
            (Some(path), _) => Some(LedgerFile::open(path).await?),
        };
        let (orders, their_orders) = mpsc::channel(ORDERS_MAX);
        let (their_events, events) = mpsc::channel(EVENTS_MAX);
        let driver = driver::Driver::new(config, ledger);
        let (their_status, status) = watch::channel(driver.status());
        let closed = CancellationToken::new();
        let task = tokio::spawn(driver.run(their_orders, their_events, their_status, closed.clone()));
        Ok((Self { orders, status, open: closed.drop_guard(), task }, SerialEvents { events }))
    }

    /// Queues a frame. Whether, when and how it went is told by [`Event::Sent`].
    ///
    /// # Errors
    /// [`SendError`]; no event follows then.
    pub fn send(&self, frame: Outgoing) -> Result<(), SendError> {
        self.order(Order::Send(frame))
    }

    /// Takes a frame back that is still queued.
    ///
    /// # Errors
    /// [`SendError`]: the order was not taken.
    pub fn cancel(&self, token: u64) -> Result<(), SendError> {
        self.order(Order::Cancel(token))
    }

    /// Its state, and a way to wait for changes of it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Turns the modem's radio off, closes the port and writes the ledger. Queued frames end as cancelled.
    pub async fn shutdown(self) {
        let Self { orders, status, open, task } = self;
        drop((orders, status, open));
        if let Err(error) = task.await {
            tracing::error!(%error, "the radio's driver failed");
        }
    }

    fn order(&self, order: Order) -> Result<(), SendError> {
        self.orders.try_send(order).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => SendError::Busy,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }
}

impl SerialEvents {
    /// The next event; `None` when the radio was closed and all were read.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}
