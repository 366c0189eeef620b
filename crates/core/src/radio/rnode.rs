//! The commands of RNode-compatible modem firmware inside KISS frames (docs/wire/radio.md, RA-M): typed, both ways.
//!
//! The host sets a value and the modem echoes it; the modem reports what it heard, how strongly, and what went wrong.
//! Numbers are big-endian. What a modem may send in addition, we keep as [`Report::Other`] and ignore.

use bytes::{Bytes, BytesMut};

use super::kiss;
use crate::wire::{Invalid, Reader};

/// Asked with detect.
const DETECT_ASK: u8 = 0x73;
/// The answer to detect.
const DETECT_ANSWER: u8 = 0x46;
/// Payload of the reset command.
const RESET_SURE: u8 = 0xf8;
/// Payload of the leave command.
const LEAVE_SURE: u8 = 0xff;
/// Payload that asks for a value instead of setting one.
const ASK: u8 = 0x00;
/// What a modem subtracts from a signal strength, dB.
const RSSI_OFFSET_DB: i16 = 157;

/// Command numbers.
pub mod code {
    #![expect(missing_docs, reason = "each is explained by the command or report of the same name")]
    pub const DATA: u8 = 0x00;
    pub const FREQUENCY: u8 = 0x01;
    pub const BANDWIDTH: u8 = 0x02;
    pub const TX_POWER: u8 = 0x03;
    pub const SPREADING_FACTOR: u8 = 0x04;
    pub const CODING_RATE: u8 = 0x05;
    pub const RADIO_STATE: u8 = 0x06;
    pub const DETECT: u8 = 0x08;
    pub const LEAVE: u8 = 0x0a;
    pub const SHORT_LIMIT: u8 = 0x0b;
    pub const LONG_LIMIT: u8 = 0x0c;
    pub const READY: u8 = 0x0f;
    pub const RX_COUNT: u8 = 0x21;
    pub const TX_COUNT: u8 = 0x22;
    pub const RSSI: u8 = 0x23;
    pub const SNR: u8 = 0x24;
    pub const CHANNEL_STATS: u8 = 0x25;
    pub const PHY_PARAMETERS: u8 = 0x26;
    pub const BATTERY: u8 = 0x27;
    pub const PLATFORM: u8 = 0x48;
    pub const MCU: u8 = 0x49;
    pub const FIRMWARE: u8 = 0x50;
    pub const RESET: u8 = 0x55;
    pub const ERROR: u8 = 0x90;
}

/// What the host tells the modem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send this packet.
    Data(Bytes),
    /// Centre frequency, Hz.
    Frequency(u32),
    /// Bandwidth, Hz.
    Bandwidth(u32),
    /// Transmitter power, dBm.
    TxPower(i8),
    /// Spreading factor.
    SpreadingFactor(u8),
    /// Denominator of the coding rate, 5 to 8.
    CodingRate(u8),
    /// Most airtime of a short period, hundredths of a percent; 0 none.
    ShortLimit(u16),
    /// Most airtime of a long period, hundredths of a percent; 0 none.
    LongLimit(u16),
    /// Turns the radio on or off.
    Radio(bool),
    /// Are you a modem of this kind?
    Detect,
    /// Which firmware?
    AskFirmware,
    /// Which platform?
    AskPlatform,
    /// Which processor?
    AskMcu,
    /// The host goes away.
    Leave,
    /// Start anew.
    Reset,
}

impl Command {
    /// Appends the command as a KISS frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Data(bytes) => kiss::encode(code::DATA, bytes, out),
            Self::Frequency(hz) => kiss::encode(code::FREQUENCY, &hz.to_be_bytes(), out),
            Self::Bandwidth(hz) => kiss::encode(code::BANDWIDTH, &hz.to_be_bytes(), out),
            Self::TxPower(dbm) => kiss::encode(code::TX_POWER, &dbm.to_be_bytes(), out),
            Self::SpreadingFactor(sf) => kiss::encode(code::SPREADING_FACTOR, &[*sf], out),
            Self::CodingRate(cr) => kiss::encode(code::CODING_RATE, &[*cr], out),
            Self::ShortLimit(limit) => kiss::encode(code::SHORT_LIMIT, &limit.to_be_bytes(), out),
            Self::LongLimit(limit) => kiss::encode(code::LONG_LIMIT, &limit.to_be_bytes(), out),
            Self::Radio(on) => kiss::encode(code::RADIO_STATE, &[u8::from(*on)], out),
            Self::Detect => kiss::encode(code::DETECT, &[DETECT_ASK], out),
            Self::AskFirmware => kiss::encode(code::FIRMWARE, &[ASK], out),
            Self::AskPlatform => kiss::encode(code::PLATFORM, &[ASK], out),
            Self::AskMcu => kiss::encode(code::MCU, &[ASK], out),
            Self::Leave => kiss::encode(code::LEAVE, &[LEAVE_SURE], out),
            Self::Reset => kiss::encode(code::RESET, &[RESET_SURE], out),
        }
    }

    /// All of them in one piece.
    #[must_use]
    pub fn encode_all(commands: &[Self]) -> Bytes {
        let mut out = BytesMut::new();
        for command in commands {
            command.encode(&mut out);
        }
        out.freeze()
    }
}

/// A firmware version. The order is that of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firmware {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
}

impl Firmware {
    /// The oldest version with all that is used here.
    pub const OLDEST: Self = Self { major: 1, minor: 52 };
}

impl core::fmt::Display for Firmware {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a modem says went wrong (command 90).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModemError {
    /// 1.
    #[error(
        "the modem cannot start its radio: is it provisioned for this frequency, and its antenna connected?"
    )]
    Init,
    /// 2.
    #[error("the modem failed to send a frame")]
    Transmit,
    /// 3.
    #[error("the modem's settings memory is locked or damaged: provision it again")]
    Eeprom,
    /// 4.
    #[error("the modem's queue is full")]
    QueueFull,
    /// 5.
    #[error("the modem is out of memory")]
    Memory,
    /// 6.
    #[error("the modem's radio did not answer in time")]
    Timeout,
    /// Any other.
    #[error("the modem reports error {0}")]
    Other(u8),
}

impl ModemError {
    /// The error with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Init,
            2 => Self::Transmit,
            3 => Self::Eeprom,
            4 => Self::QueueFull,
            5 => Self::Memory,
            6 => Self::Timeout,
            other => Self::Other(other),
        }
    }
}

/// What a modem tells the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A packet was heard.
    Data(Bytes),
    /// The frequency is, Hz.
    Frequency(u32),
    /// The bandwidth is, Hz.
    Bandwidth(u32),
    /// The power is, dBm.
    TxPower(i8),
    /// The spreading factor is.
    SpreadingFactor(u8),
    /// The denominator of the coding rate is.
    CodingRate(u8),
    /// The radio is on or off.
    Radio(bool),
    /// It is a modem of this kind.
    Detected,
    /// The short limit is, hundredths of a percent.
    ShortLimit(u16),
    /// The long limit is, hundredths of a percent.
    LongLimit(u16),
    /// The next frame may come.
    Ready,
    /// Packets heard since the radio was turned on.
    RxCount(u32),
    /// Packets sent since the radio was turned on.
    TxCount(u32),
    /// Strength of the packet that follows, dBm.
    Rssi(i16),
    /// Signal to noise of the packet that follows, quarters of a decibel.
    Snr(i8),
    /// The firmware's version.
    Firmware(Firmware),
    /// The platform's number.
    Platform(u8),
    /// The processor's number.
    Mcu(u8),
    /// The modem starts anew.
    Reset,
    /// Something went wrong.
    Error(ModemError),
    /// Something that is not used here.
    Other(u8),
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// [`Invalid`], naming the field, if the payload has not the command's length.
    pub fn decode(command: u8, payload: &Bytes) -> Result<Self, Invalid> {
        let mut r = Reader::new(payload);
        let report = match command {
            code::DATA => return Ok(Self::Data(payload.clone())),
            code::FREQUENCY => Self::Frequency(r.u32("modem frequency")?),
            code::BANDWIDTH => Self::Bandwidth(r.u32("modem bandwidth")?),
            code::TX_POWER => Self::TxPower(i8::from_be_bytes(r.array("modem power")?)),
            code::SPREADING_FACTOR => Self::SpreadingFactor(r.u8("modem spreading factor")?),
            code::CODING_RATE => Self::CodingRate(r.u8("modem coding rate")?),
            code::RADIO_STATE => Self::Radio(r.u8("modem radio state")? == 1),
            code::DETECT => match r.u8("modem detection")? {
                DETECT_ANSWER => Self::Detected,
                _ => return Err(Invalid::Value { what: "modem detection" }),
            },
            code::SHORT_LIMIT => Self::ShortLimit(r.u16("modem short limit")?),
            code::LONG_LIMIT => Self::LongLimit(r.u16("modem long limit")?),
            // Some firmware adds a byte that says nothing more.
            code::READY => return Ok(Self::Ready),
            code::RX_COUNT => Self::RxCount(r.u32("modem receive counter")?),
            code::TX_COUNT => Self::TxCount(r.u32("modem send counter")?),
            code::RSSI => Self::Rssi(i16::from(r.u8("modem signal strength")?) - RSSI_OFFSET_DB),
            code::SNR => Self::Snr(i8::from_be_bytes(r.array("modem signal to noise")?)),
            code::FIRMWARE => {
                let (major, minor) = (r.u8("modem firmware")?, r.u8("modem firmware")?);
                Self::Firmware(Firmware { major, minor })
            }
            code::PLATFORM => Self::Platform(r.u8("modem platform")?),
            code::MCU => Self::Mcu(r.u8("modem processor")?),
            code::RESET => match r.u8("modem reset")? {
                RESET_SURE => Self::Reset,
                _ => return Err(Invalid::Value { what: "modem reset" }),
            },
            code::ERROR => Self::Error(ModemError::from_code(r.u8("modem error")?)),
            other => return Ok(Self::Other(other)),
        };
        r.finish("modem report")?;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn modem_commands_have_their_golden_bytes() {
        let all = [
            (Command::Data(Bytes::from_static(&[0xc0])), "c000dbdcc0"),
            (Command::Frequency(868_100_000), "c00133be27a0c0"),
            (Command::Bandwidth(125_000), "c0020001e848c0"),
            (Command::TxPower(-3), "c003fdc0"),
            (Command::SpreadingFactor(8), "c00408c0"),
            (Command::CodingRate(5), "c00505c0"),
            (Command::Radio(true), "c00601c0"),
            (Command::Detect, "c00873c0"),
            (Command::Leave, "c00affc0"),
            (Command::ShortLimit(150), "c00b0096c0"),
            (Command::LongLimit(0), "c00c0000c0"),
            (Command::AskFirmware, "c05000c0"),
            (Command::AskPlatform, "c04800c0"),
            (Command::AskMcu, "c04900c0"),
            (Command::Reset, "c055f8c0"),
        ];
        for (command, bytes) in all {
            let encoded = Command::encode_all(core::slice::from_ref(&command));
            assert_eq!(data_encoding::HEXLOWER.encode(&encoded), bytes, "{command:?}");
        }
    }

    #[test]
    fn modem_reports_have_their_golden_bytes() {
        let all: [(u8, &[u8], Report); 13] = [
            (0x01, &[0x33, 0xbe, 0x27, 0xa0], Report::Frequency(868_100_000)),
            (0x03, &[0xfd], Report::TxPower(-3)),
            (0x06, &[0], Report::Radio(false)),
            (0x08, &[0x46], Report::Detected),
            (0x0f, &[], Report::Ready),
            (0x0f, &[1], Report::Ready),
            (0x22, &[0, 0, 1, 0], Report::TxCount(256)),
            (0x23, &[57], Report::Rssi(-100)),
            (0x24, &[0xf6], Report::Snr(-10)),
            (0x50, &[1, 74], Report::Firmware(Firmware { major: 1, minor: 74 })),
            (0x55, &[0xf8], Report::Reset),
            (0x90, &[4], Report::Error(ModemError::QueueFull)),
            (0x27, &[2, 80], Report::Other(0x27)),
        ];
        for (command, payload, report) in all {
            assert_eq!(Report::decode(command, &Bytes::copy_from_slice(payload)), Ok(report));
        }
    }

    #[test]
    fn a_report_of_the_wrong_length_is_named() {
        let short = Report::decode(code::FREQUENCY, &Bytes::from_static(&[1, 2, 3]));
        assert_eq!(short, Err(Invalid::Truncated { what: "modem frequency" }));
        let long = Report::decode(code::SNR, &Bytes::from_static(&[1, 2]));
        assert_eq!(long, Err(Invalid::Trailing { what: "modem report", left: 1 }));
    }

    proptest! {
        #[test]
        fn no_report_makes_the_parser_panic(command: u8, payload in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = Report::decode(command, &Bytes::from(payload));
        }
    }
}
