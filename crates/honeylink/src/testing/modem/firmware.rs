//! What runs inside a modem: commands in, replies and frames to send out. No time and no terminal.

use super::phy::Modulation;

/// Bytes one packet holds, its header byte included.
const PACKET_BYTES: usize = 255;
/// Shortest preamble the firmware sends, symbols.
const PREAMBLE_SYMBOLS: u16 = 18;

/// What a command leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Tell the host.
    Reply(u8, Vec<u8>),
    /// Put this on the air.
    Send(Vec<u8>),
    /// The radio was turned on, off, or set differently.
    Tuned,
}

/// The settings of an RNode-compatible modem.
#[derive(Debug, Default)]
pub(super) struct Firmware {
    version: (u8, u8),
    frequency_hz: u32,
    bandwidth_hz: u32,
    power_dbm: u8,
    spreading_factor: u8,
    coding_rate: u8,
    on: bool,
}

impl Firmware {
    pub(super) fn new(version: (u8, u8)) -> Self {
        Self { version, ..Self::default() }
    }

    /// All settings are gone.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.version);
    }

    /// How it sends and listens, while its radio is on.
    pub(super) fn modulation(&self) -> Option<Modulation> {
        self.on.then_some(Modulation {
            frequency_hz: self.frequency_hz,
            bandwidth_hz: self.bandwidth_hz,
            spreading_factor: self.spreading_factor,
            coding_rate: self.coding_rate,
            preamble_symbols: PREAMBLE_SYMBOLS,
        })
    }

    /// Takes a command from the host.
    pub(super) fn take(&mut self, command: u8, payload: &[u8]) -> Vec<Action> {
        let echo = |payload: &[u8]| vec![Action::Reply(command, payload.to_vec())];
        match (command, payload) {
            (0x00, bytes) => vec![Action::Send(bytes.to_vec())],
            (0x01, &[a, b, c, d]) => {
                self.frequency_hz = u32::from_be_bytes([a, b, c, d]);
                echo(payload)
            }
            (0x02, &[a, b, c, d]) => {
                self.bandwidth_hz = u32::from_be_bytes([a, b, c, d]);
                echo(payload)
            }
            (0x03, &[power]) => {
                self.power_dbm = power;
                echo(payload)
            }
            (0x04, &[factor]) => {
                self.spreading_factor = factor;
                echo(payload)
            }
            (0x05, &[rate]) => {
                self.coding_rate = rate;
                echo(payload)
            }
            (0x06, &[state @ (0 | 1)]) => self.switch(state == 1),
            (0x06, _) => vec![Action::Reply(0x06, vec![u8::from(self.on)])],
            (0x08, &[0x73]) => vec![Action::Reply(0x08, vec![0x46])],
            (0x0a, &[0xff]) => self.switch(false),
            (0x0b | 0x0c, &[_, _]) => echo(payload),
            (0x48, _) => vec![Action::Reply(0x48, vec![0x80])],
            (0x49, _) => vec![Action::Reply(0x49, vec![0x81])],
            (0x50, _) => vec![Action::Reply(0x50, vec![self.version.0, self.version.1])],
            (0x55, &[0xf8]) => {
                self.restart();
                vec![Action::Reply(0x55, vec![0xf8]), Action::Tuned]
            }
            _ => Vec::new(),
        }
    }

    fn switch(&mut self, on: bool) -> Vec<Action> {
        let usable = self.frequency_hz > 0 && self.bandwidth_hz > 0 && self.spreading_factor > 0;
        if on && !usable {
            return vec![Action::Reply(0x90, vec![1])];
        }
        self.on = on;
        vec![Action::Tuned, Action::Reply(0x06, vec![u8::from(on)])]
    }
}

/// How long a frame is on the air: each packet with its header byte.
pub(super) fn rnode_airtime_us(modulation: &Modulation, bytes: usize) -> u64 {
    let room = PACKET_BYTES - 1;
    let (full, rest) = (bytes / room, bytes % room);
    let last = if rest > 0 || full == 0 { modulation.airtime_us(rest + 1) } else { 0 };
    full as u64 * modulation.airtime_us(PACKET_BYTES) + last
}
