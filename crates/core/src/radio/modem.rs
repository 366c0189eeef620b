//! The modem at the other end of a serial line, as a machine: set up, checked, then sending and hearing.
//!
//! ```text
//!             attached        2 s            answers, new enough      all echoes right
//!  [absent] ──────────▶ [settling] ──▶ [detecting] ──▶ [configuring] ─────────────▶ [running]
//!      ▲                     ▲                 └─── Failed(SetupError) ◀──┘             │
//!      └── detached          └───────────────────── the modem restarted ◀──────────────┘
//! ```
//!
//! A modem that does not answer, is too old or took other values than it was told is not used: what it would send is not
//! what the ledger charges. A *plain* KISS modem has none of this; it is believed to be set up by hand, and is running as
//! soon as it is attached.
//!
//! One frame at a time is in the modem. It is done when the modem says that the next may come, but not before its airtime
//! is over; some modems say so on taking a frame, and some never do.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use core::time::Duration;

use super::RadioError;
use super::airtime::Lora;
use super::band::{Channel, Region};
use super::kiss::{self, Decoder, Discarded, KissFrame};
use super::rnode::{self, Command, Firmware, ModemError, Report};
use super::scheduler::Outcome;
use crate::limits::RADIO_FRAME_BYTES_MAX;
use crate::time::{Deadline, Time};

/// How long a modem boots after its line is opened: opening it resets many boards.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a modem may take to say what it is.
const DETECT_WAIT: Duration = Duration::from_millis(200);
/// How often it is asked.
const DETECT_TRIES: u8 = 5;
/// How long it may take to say its version and to echo every value.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long after a frame's airtime a modem that reports may take to say so: it waits for a free channel first.
const READY_WAIT: Duration = Duration::from_secs(10);
/// How long to leave a modem that never reports after a frame's airtime.
const SILENT_WAIT: Duration = Duration::from_millis(300);
/// How far an echoed frequency may be off, Hz: synthesizers have steps, 61 Hz on common chips.
const FREQUENCY_STEP_HZ: u32 = 100;

/// Where and how a radio sends: checked against a region, so that a [`Modem`] cannot be set up otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    channel: Channel,
    lora: Lora,
    power_dbm: i8,
}

impl Tuning {
    /// Checks the values together. `antenna_cdbi`: see [`Channel::check_power`].
    ///
    /// # Errors
    /// [`RadioError`], saying which value the region does not allow.
    pub fn new(
        region: &Region,
        centre_hz: u32,
        lora: Lora,
        power_dbm: i8,
        antenna_cdbi: i16,
    ) -> Result<Self, RadioError> {
        let channel = region.channel(centre_hz, lora.bandwidth_hz())?;
        channel.check_power(power_dbm, antenna_cdbi)?;
        Ok(Self { channel, lora, power_dbm })
    }

    /// The channel.
    #[must_use]
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    /// The modulation.
    #[must_use]
    pub const fn lora(&self) -> Lora {
        self.lora
    }

    /// The values to set, in the order a modem expects them. Its own airtime limits are turned off: a second ledger that
    /// counts differently would hold frames without saying so.
    fn commands(&self) -> [Command; 8] {
        [
            Command::Frequency(self.channel.centre_hz()),
            Command::Bandwidth(self.lora.bandwidth_hz()),
            Command::TxPower(self.power_dbm),
            Command::SpreadingFactor(self.lora.spreading_factor()),
            Command::CodingRate(self.lora.coding_rate().denominator()),
            Command::ShortLimit(0),
            Command::LongLimit(0),
            Command::Radio(true),
        ]
    }
}

/// What is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// RNode-compatible firmware, set up by us.
    Rnode(Tuning),
    /// A KISS modem that only takes and gives frames.
    Plain,
}

/// Why a modem cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Nothing answered.
    #[error("no modem answers: is it an RNode-compatible one, and is the speed right?")]
    NoAnswer,
    /// It did not say its version, or did not echo a value.
    #[error("the modem does not answer to `{what}`")]
    Silent {
        /// What was asked.
        what: &'static str,
    },
    /// Its firmware lacks what we need.
    #[error("the modem's firmware is {found}; {} or newer is needed: update it", Firmware::OLDEST)]
    TooOld {
        /// What it runs.
        found: Firmware,
    },
    /// It took another value than it was told.
    #[error("the modem set `{what}` to {took} instead of {told}: does it support that?")]
    Mismatch {
        /// Which value.
        what: &'static str,
        /// What it was told.
        told: i64,
        /// What it says it took.
        took: i64,
    },
    /// It reported an error.
    #[error("{0}")]
    Modem(#[from] ModemError),
}

/// What can happen to a modem.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The line is open.
    Attached,
    /// The line is gone.
    Detached,
    /// Bytes from the line.
    Bytes(&'a [u8]),
    /// Send this frame; only while running and with none in the modem.
    Send {
        /// The caller's name for it.
        token: u64,
        /// The frame.
        bytes: &'a [u8],
        /// How long it is on the air, microseconds.
        airtime_us: u64,
    },
    /// Turn the radio off and say goodbye; the line is closed next.
    Leave,
    /// A deadline passed.
    Timeout,
}

/// Who a modem says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its firmware, if it is not a plain one.
    pub firmware: Option<Firmware>,
    /// Its platform's number.
    pub platform: Option<u8>,
    /// Its processor's number.
    pub mcu: Option<u8>,
}

/// A frame from the air.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The frame.
    pub bytes: Bytes,
    /// Its strength, dBm, if the modem measures it.
    pub rssi_dbm: Option<i16>,
    /// Its signal to noise ratio, quarters of a decibel, if the modem measures it.
    pub snr_quarter_db: Option<i8>,
}

/// What a modem wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes to the line.
    Write(Bytes),
    /// It is set up and takes frames.
    Up(Identity),
    /// It takes no frames any more: detached, or starting anew.
    Down,
    /// It cannot be used. Attach it again to try again.
    Failed(SetupError),
    /// What became of the frame that was sent last.
    Done {
        /// Its token.
        token: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// A frame was heard.
    Heard(Heard),
    /// The modem reported an error while running.
    Trouble(ModemError),
}

/// Counters of a modem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// What the line carried that is no frame.
    pub discarded: Discarded,
    /// Frames that are no report we know the form of.
    pub malformed: u64,
    /// Times the modem started anew by itself.
    pub restarts: u64,
}

#[derive(Debug)]
enum Stage {
    Absent,
    Settling { until: Time },
    Detecting { tries: u8, until: Time, detected: bool },
    Configuring { until: Time, echoed: [bool; 8] },
    Running,
    Failed,
}

/// The frame in the modem.
#[derive(Clone, Copy, Debug)]
struct Sending {
    token: u64,
    ends_at: Time,
    ready: bool,
}

/// One modem. See the [module](self).
#[derive(Debug)]
pub struct Modem {
    dialect: Dialect,
    stage: Stage,
    decoder: Decoder,
    identity: Identity,
    sending: Option<Sending>,
    /// Whether it says when a frame was sent; believed until it once did not.
    reports: bool,
    rssi_dbm: Option<i16>,
    snr_quarter_db: Option<i8>,
    outputs: VecDeque<Output>,
    malformed: u64,
    restarts: u64,
}

impl Modem {
    /// A modem that is not attached.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            stage: Stage::Absent,
            decoder: Decoder::new(RADIO_FRAME_BYTES_MAX + 1),
            identity: Identity::default(),
            sending: None,
            reports: matches!(dialect, Dialect::Rnode(_)),
            rssi_dbm: None,
            snr_quarter_db: None,
            outputs: VecDeque::new(),
            malformed: 0,
            restarts: 0,
        }
    }

    /// Whether it takes frames.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running)
    }

    /// Counters so far.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        Stats { discarded: self.decoder.discarded(), malformed: self.malformed, restarts: self.restarts }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Attached => self.attached(now),
            Input::Detached => self.leave_stage(Stage::Absent),
            Input::Bytes(bytes) => {
                for byte in bytes {
                    if let Some(frame) = self.decoder.push(*byte) {
                        self.frame(now, &frame);
                    }
                }
            }
            Input::Send { token, bytes, airtime_us } => self.send(now, token, bytes, airtime_us),
            Input::Leave => {
                if matches!(self.dialect, Dialect::Rnode(_)) && self.is_running() {
                    self.write(&[Command::Radio(false), Command::Leave]);
                }
                self.leave_stage(Stage::Absent);
            }
            Input::Timeout => {}
        }
        self.keep_time(now);
    }

    /// The next thing to do; drain to `None` after every [`Modem::handle`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Modem::handle`] with [`Input::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        let deadline = |at, why| Some(Deadline { at, why });
        match &self.stage {
            Stage::Absent | Stage::Failed => None,
            Stage::Settling { until } => deadline(*until, "the modem boots"),
            Stage::Detecting { until, .. } => deadline(*until, "the modem should have answered"),
            Stage::Configuring { until, .. } => deadline(*until, "the modem should have echoed its settings"),
            Stage::Running => deadline(self.done_at()?, "the frame in the modem is done"),
        }
    }

    fn attached(&mut self, now: Time) {
        self.leave_stage(Stage::Absent);
        self.decoder.reset();
        self.identity = Identity::default();
        match self.dialect {
            Dialect::Plain => self.run(),
            Dialect::Rnode(_) => self.stage = Stage::Settling { until: now + SETTLE },
        }
    }

    fn run(&mut self) {
        self.stage = Stage::Running;
        self.outputs.push_back(Output::Up(self.identity));
    }

    fn fail(&mut self, error: SetupError) {
        self.leave_stage(Stage::Failed);
        self.outputs.push_back(Output::Failed(error));
    }

    /// Goes to a stage in which it does not run; what was in the modem has an unknown end. `Down` comes first, so that
    /// whoever hears of the end does not send the next frame.
    fn leave_stage(&mut self, stage: Stage) {
        if self.is_running() {
            self.outputs.push_back(Output::Down);
        }
        self.done(Outcome::Unknown);
        (self.rssi_dbm, self.snr_quarter_db) = (None, None);
        self.stage = stage;
    }

    fn write(&mut self, commands: &[Command]) {
        self.outputs.push_back(Output::Write(Command::encode_all(commands)));
    }

    /// What happens because of the time alone.
    fn keep_time(&mut self, now: Time) {
        match self.stage {
            Stage::Absent | Stage::Failed => {}
            Stage::Settling { until } if until <= now => self.detect(now, DETECT_TRIES),
            Stage::Detecting { tries, until, detected: false } if until <= now => {
                if tries > 1 {
                    self.detect(now, tries - 1);
                } else {
                    self.fail(SetupError::NoAnswer);
                }
            }
            Stage::Detecting { until, detected: true, .. } if until <= now => {
                self.fail(SetupError::Silent { what: "firmware version" });
            }
            Stage::Configuring { until, echoed } if until <= now => {
                let missing = echoed.iter().position(|echoed| !echoed).unwrap_or(0);
                self.fail(SetupError::Silent { what: SETTINGS[missing] });
            }
            Stage::Running if self.done_at().is_some_and(|at| at <= now) => {
                let said = self.sending.is_some_and(|sending| sending.ready);
                self.reports = said;
                self.done(if said { Outcome::Aired } else { Outcome::Assumed });
            }
            Stage::Settling { .. } | Stage::Detecting { .. } | Stage::Configuring { .. } | Stage::Running => {
            }
        }
    }

    /// When the frame in the modem counts as sent even if nothing more is said.
    fn done_at(&self) -> Option<Time> {
        let sending = self.sending?;
        let wait = match (sending.ready, self.reports) {
            (true, _) => Duration::ZERO,
            (false, true) => READY_WAIT,
            (false, false) => SILENT_WAIT,
        };
        Some(sending.ends_at + wait)
    }

    fn detect(&mut self, now: Time, tries: u8) {
        self.stage = Stage::Detecting { tries, until: now + DETECT_WAIT, detected: false };
        self.write(&[Command::Detect, Command::AskFirmware, Command::AskPlatform, Command::AskMcu]);
    }

    fn send(&mut self, now: Time, token: u64, bytes: &[u8], airtime_us: u64) {
        if !self.is_running() || self.sending.is_some() {
            self.outputs.push_back(Output::Done { token, outcome: Outcome::NotAired });
            return;
        }
        let mut framed = BytesMut::new();
        kiss::encode(rnode::code::DATA, bytes, &mut framed);
        self.outputs.push_back(Output::Write(framed.freeze()));
        let ends_at = now + Duration::from_micros(airtime_us);
        self.sending = Some(Sending { token, ends_at, ready: false });
    }

    fn done(&mut self, outcome: Outcome) {
        if let Some(Sending { token, .. }) = self.sending.take() {
            self.outputs.push_back(Output::Done { token, outcome });
        }
    }

    fn frame(&mut self, now: Time, frame: &KissFrame) {
        if self.dialect == Dialect::Plain {
            // Any port of the modem (upper half of the byte), data only (lower half).
            if frame.command & 0x0f == rnode::code::DATA {
                self.heard(frame.payload.clone());
            }
            return;
        }
        match Report::decode(frame.command, &frame.payload) {
            Ok(report) => self.report(now, report),
            Err(_) => self.malformed += 1,
        }
    }

    fn heard(&mut self, bytes: Bytes) {
        let (rssi_dbm, snr_quarter_db) = (self.rssi_dbm.take(), self.snr_quarter_db.take());
        if self.is_running() && !bytes.is_empty() {
            self.outputs.push_back(Output::Heard(Heard { bytes, rssi_dbm, snr_quarter_db }));
        }
    }

    fn report(&mut self, now: Time, report: Report) {
        match report {
            Report::Data(bytes) => self.heard(bytes),
            Report::Rssi(dbm) => self.rssi_dbm = Some(dbm),
            Report::Snr(quarters) => self.snr_quarter_db = Some(quarters),
            Report::Ready => {
                if let Some(sending) = &mut self.sending {
                    sending.ready = true;
                }
            }
            Report::Reset => self.restarted(now),
            Report::Error(error) => self.trouble(error),
            Report::Detected => {
                if let Stage::Detecting { until, detected, .. } = &mut self.stage {
                    (*detected, *until) = (true, now + ANSWER_WAIT);
                    self.configure(now);
                }
            }
            Report::Firmware(firmware) => {
                self.identity.firmware = Some(firmware);
                self.configure(now);
            }
            Report::Platform(platform) => self.identity.platform = Some(platform),
            Report::Mcu(mcu) => self.identity.mcu = Some(mcu),
            Report::Radio(false) if self.is_running() => self.restarted(now),
            Report::Frequency(_)
            | Report::Bandwidth(_)
            | Report::TxPower(_)
            | Report::SpreadingFactor(_)
            | Report::CodingRate(_)
            | Report::ShortLimit(_)
            | Report::LongLimit(_)
            | Report::Radio(_) => self.echo(&report),
            Report::RxCount(_) | Report::TxCount(_) | Report::Other(_) => {}
        }
    }

    /// The modem lost its settings while it was in use; it is set up again from the start.
    fn restarted(&mut self, now: Time) {
        if matches!(self.stage, Stage::Running | Stage::Configuring { .. } | Stage::Detecting { .. }) {
            self.restarts += 1;
            self.leave_stage(Stage::Settling { until: now + SETTLE });
        }
    }

    /// Once it is known what answers, and that it is new enough, it gets its settings.
    fn configure(&mut self, now: Time) {
        let (Stage::Detecting { detected: true, .. }, Some(firmware)) = (&self.stage, self.identity.firmware)
        else {
            return;
        };
        if firmware < Firmware::OLDEST {
            return self.fail(SetupError::TooOld { found: firmware });
        }
        if let Dialect::Rnode(tuning) = self.dialect {
            self.stage = Stage::Configuring { until: now + ANSWER_WAIT, echoed: [false; 8] };
            self.write(&tuning.commands());
        }
    }

    /// A value that the modem says it has. While running this is news of no use; while configuring it must be ours.
    fn echo(&mut self, report: &Report) {
        let (Dialect::Rnode(tuning), Stage::Configuring { echoed, .. }) = (self.dialect, &mut self.stage)
        else {
            return;
        };
        let Some((setting, took)) = setting_of(report) else { return };
        let told = told(&tuning, setting);
        let tolerance = if setting == 0 { u64::from(FREQUENCY_STEP_HZ) } else { 0 };
        if told.abs_diff(took) > tolerance {
            // The radio may first report that it is still off.
            if setting != RADIO_SETTING {
                return self.fail(SetupError::Mismatch { what: SETTINGS[setting], told, took });
            }
            return;
        }
        echoed[setting] = true;
        if echoed.iter().all(|echoed| *echoed) {
            self.run();
        }
    }

    fn trouble(&mut self, error: ModemError) {
        let unusable = matches!(error, ModemError::Init | ModemError::Eeprom);
        if unusable || matches!(self.stage, Stage::Configuring { .. }) {
            return self.fail(error.into());
        }
        if self.is_running() {
            self.outputs.push_back(Output::Trouble(error));
            let certainly_not_sent = error == ModemError::QueueFull;
            self.done(if certainly_not_sent { Outcome::NotAired } else { Outcome::Unknown });
        }
    }
}

/// What is set, in the order of [`Tuning::commands`].
const SETTINGS: [&str; 8] = [
    "frequency",
    "bandwidth",
    "power",
    "spreading factor",
    "coding rate",
    "short airtime limit",
    "long airtime limit",
    "radio on",
];
const RADIO_SETTING: usize = 7;

/// Which setting a report is about, and its value.
fn setting_of(report: &Report) -> Option<(usize, i64)> {
    match report {
        Report::Frequency(hz) => Some((0, i64::from(*hz))),
        Report::Bandwidth(hz) => Some((1, i64::from(*hz))),
        Report::TxPower(dbm) => Some((2, i64::from(*dbm))),
        Report::SpreadingFactor(sf) => Some((3, i64::from(*sf))),
        Report::CodingRate(cr) => Some((4, i64::from(*cr))),
        Report::ShortLimit(limit) => Some((5, i64::from(*limit))),
        Report::LongLimit(limit) => Some((6, i64::from(*limit))),
        Report::Radio(on) => Some((RADIO_SETTING, i64::from(*on))),
        Report::Data(_)
        | Report::Detected
        | Report::Ready
        | Report::RxCount(_)
        | Report::TxCount(_)
        | Report::Rssi(_)
        | Report::Snr(_)
        | Report::Firmware(_)
        | Report::Platform(_)
        | Report::Mcu(_)
        | Report::Reset
        | Report::Error(_)
        | Report::Other(_) => None,
    }
}

/// What the modem was told for a setting.
fn told(tuning: &Tuning, setting: usize) -> i64 {
    match tuning.commands()[setting] {
        Command::Frequency(hz) | Command::Bandwidth(hz) => i64::from(hz),
        Command::TxPower(dbm) => i64::from(dbm),
        Command::SpreadingFactor(value) | Command::CodingRate(value) => i64::from(value),
        Command::ShortLimit(limit) | Command::LongLimit(limit) => i64::from(limit),
        Command::Radio(on) => i64::from(on),
        Command::Data(_)
        | Command::Detect
        | Command::AskFirmware
        | Command::AskPlatform
        | Command::AskMcu
        | Command::Leave
        | Command::Reset => 0,
    }
}
