//! One modem as a task: its terminal, its firmware, its place in the queue for the channel.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use super::firmware::{Action, Firmware, rnode_airtime_us};
use super::kiss::{Unframer, framed};
use super::medium::{Reception, Transmission};
use super::phy::Modulation;
use super::pty::Pty;
use super::{Air, Fault, Kind};

/// Frames the firmware queues; the next is refused with error 4.
const QUEUE_MAX: usize = 16;
/// Bytes for a host that does not read; what comes then is lost, as on a real line.
const OUT_BYTES_MAX: usize = 16 << 10;
/// Slots to choose from before a frame is sent.
const CONTENTION_SLOTS: u64 = 4;
const ERROR: u8 = 0x90;
const ERROR_QUEUE_FULL: u8 = 4;
const READY: u8 = 0x0f;

/// Told when an order was carried out.
pub(super) type Done = oneshot::Sender<()>;

/// Orders from the test.
pub(super) enum Control {
    Unplug(Done),
    PlugIn(Done),
    Inject(Fault, Done),
}

#[derive(Clone, Copy)]
enum Sending {
    Idle,
    /// Listening before the next try.
    Waiting {
        until_us: u64,
    },
    OnAir {
        id: u64,
        end_us: u64,
    },
}

enum Brain {
    Rnode(Firmware),
    Plain(Modulation),
}

/// A modem.
pub(super) struct Device {
    air: Air,
    number: usize,
    link: PathBuf,
    brain: Brain,
    line: Option<Pty>,
    unframer: Unframer,
    out: Vec<u8>,
    queue: VecDeque<Vec<u8>>,
    sending: Sending,
    refuse_next: Option<u8>,
    sent: u32,
}

enum Woke {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Heard(Option<Reception>),
    Told(Option<Control>),
    Time,
}

impl Device {
    pub(super) fn plugged(air: Air, number: usize, link: PathBuf, kind: Kind) -> io::Result<Self> {
        let brain = match kind {
            Kind::Rnode { firmware } => Brain::Rnode(Firmware::new(firmware)),
            Kind::Plain(modulation) => Brain::Plain(modulation),
        };
        let line = Some(Pty::plugged(&link)?);
        let device = Self {
            air,
            number,
            link,
            brain,
            line,
            unframer: Unframer::default(),
            out: Vec::new(),
            queue: VecDeque::new(),
            sending: Sending::Idle,
            refuse_next: None,
            sent: 0,
        };
        device.tune();
        Ok(device)
    }

    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Reception>,
        mut controls: mpsc::Receiver<Control>,
    ) {
        let mut buffer = [0; 1024];
        loop {
            let line = self.line.as_ref();
            let wakes = match self.sending {
                Sending::Idle => None,
                Sending::Waiting { until_us: at_us } | Sending::OnAir { end_us: at_us, .. } => Some(at_us),
            };
            let until = self.air.instant(wakes.unwrap_or(0));
            let woke = tokio::select! {
                read = read(line, &mut buffer) => Woke::Read(read),
                wrote = write(line, &self.out), if !self.out.is_empty() => Woke::Wrote(wrote),
                heard = inbox.recv() => Woke::Heard(heard),
                told = controls.recv() => Woke::Told(told),
                () = tokio::time::sleep_until(until), if wakes.is_some() => Woke::Time,
            };
            match woke {
                Woke::Read(Ok(count)) => self.host_said(&buffer[..count]),
                Woke::Wrote(Ok(count)) => drop(self.out.drain(..count)),
                // The terminal itself failed: as good as unplugged.
                Woke::Read(Err(_)) | Woke::Wrote(Err(_)) => self.hang_up(),
                Woke::Heard(Some(reception)) => self.heard(&reception),
                Woke::Told(Some(control)) => self.told(control),
                Woke::Heard(None) | Woke::Told(None) => return,
                Woke::Time => self.time(),
            }
            self.start();
        }
    }

    fn modulation(&self) -> Option<Modulation> {
        match &self.brain {
            Brain::Rnode(firmware) => firmware.modulation(),
            Brain::Plain(modulation) => Some(*modulation),
        }
    }

    fn tune(&self) {
        let tuned = self.modulation();
        self.air.medium(|medium| medium.tune(self.number, tuned));
    }

    fn say(&mut self, command: u8, payload: &[u8]) {
        if self.line.is_some() && self.out.len() < OUT_BYTES_MAX {
            self.out.extend(framed(command, payload));
        }
    }

    fn host_said(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some((command, payload)) = self.unframer.take(*byte) else { continue };
            let actions = match &mut self.brain {
                Brain::Rnode(firmware) => firmware.take(command, &payload),
                Brain::Plain(_) if command & 0x0f == 0 => vec![Action::Send(payload)],
                Brain::Plain(_) => Vec::new(),
            };
            for action in actions {
                match action {
                    Action::Reply(command, payload) => self.say(command, &payload),
                    Action::Tuned => self.tune(),
                    Action::Send(frame) => self.enqueue(frame),
                }
            }
        }
    }

    fn enqueue(&mut self, frame: Vec<u8>) {
        let refusal = self.refuse_next.take().or((self.queue.len() >= QUEUE_MAX).then_some(ERROR_QUEUE_FULL));
        match refusal {
            Some(error) => self.say(ERROR, &[error]),
            None => self.queue.push_back(frame),
        }
    }

    /// Begins to listen for a free channel if there is something to send.
    fn start(&mut self) {
        if matches!(self.sending, Sending::Idle)
            && !self.queue.is_empty()
            && let Some(modulation) = self.modulation()
        {
            self.back_off(&modulation);
        }
    }

    fn back_off(&mut self, modulation: &Modulation) {
        let slots = self.air.medium(|medium| medium.below(CONTENTION_SLOTS));
        self.sending = Sending::Waiting { until_us: self.air.now_us() + slots * modulation.slot_us() };
    }

    fn time(&mut self) {
        let now_us = self.air.now_us();
        match self.sending {
            Sending::Waiting { until_us } if until_us <= now_us => self.send(now_us),
            Sending::OnAir { id, end_us } if end_us <= now_us => {
                self.air.medium(|medium| medium.end(id));
                self.sending = Sending::Idle;
                self.sent += 1;
                if matches!(self.brain, Brain::Rnode(_)) {
                    let sent = self.sent.to_be_bytes();
                    self.say(0x22, &sent);
                    self.say(READY, &[]);
                }
            }
            Sending::Idle | Sending::Waiting { .. } | Sending::OnAir { .. } => {}
        }
    }

    fn send(&mut self, now_us: u64) {
        let Some(modulation) = self.modulation() else {
            // The radio was turned off meanwhile.
            self.queue.clear();
            self.sending = Sending::Idle;
            return;
        };
        if self.air.medium(|medium| medium.is_busy(self.number, now_us)) {
            return self.back_off_after_busy(&modulation);
        }
        let Some(bytes) = self.queue.pop_front() else { return self.sending = Sending::Idle };
        let airtime_us = match self.brain {
            Brain::Rnode(_) => rnode_airtime_us(&modulation, bytes.len()),
            Brain::Plain(_) => modulation.airtime_us(bytes.len()),
        };
        let end_us = now_us + airtime_us;
        let transmission = Transmission { from: self.number, start_us: now_us, end_us, bytes };
        let id = self.air.medium(|medium| medium.begin(modulation, transmission));
        self.sending = Sending::OnAir { id, end_us };
        self.air.shared.changes.send_replace(self.number);
    }

    /// At least one slot, or it would look again at once.
    fn back_off_after_busy(&mut self, modulation: &Modulation) {
        let slots = 1 + self.air.medium(|medium| medium.below(CONTENTION_SLOTS));
        self.sending = Sending::Waiting { until_us: self.air.now_us() + slots * modulation.slot_us() };
    }

    fn heard(&mut self, reception: &Reception) {
        if matches!(self.brain, Brain::Rnode(_)) {
            let rssi = u8::try_from(reception.rssi_dbm + 157).unwrap_or(0);
            let snr = i8::try_from(reception.snr_db * 4).unwrap_or(i8::MAX);
            self.say(0x23, &[rssi]);
            self.say(0x24, &snr.to_be_bytes());
        }
        self.say(0x00, &reception.bytes);
    }

    fn told(&mut self, control: Control) {
        let done = match control {
            Control::Unplug(done) => {
                self.hang_up();
                done
            }
            Control::PlugIn(done) => {
                self.restart();
                // Without a terminal it stays unplugged, and the test that waits for it says so.
                self.line = Pty::plugged(&self.link).ok();
                done
            }
            Control::Inject(Fault::Error(error), done) => {
                self.say(ERROR, &[error]);
                done
            }
            Control::Inject(Fault::RefuseNext(error), done) => {
                self.refuse_next = Some(error);
                done
            }
            Control::Inject(Fault::Restart, done) => {
                self.restart();
                self.say(0x55, &[0xf8]);
                done
            }
        };
        let _ = done.send(());
    }

    fn hang_up(&mut self) {
        self.line = None;
        self.out.clear();
    }

    fn restart(&mut self) {
        if let Brain::Rnode(firmware) = &mut self.brain {
            firmware.restart();
        }
        self.unframer = Unframer::default();
        self.queue.clear();
        self.tune();
    }
}

async fn read(line: Option<&Pty>, buffer: &mut [u8]) -> io::Result<usize> {
    match line {
        Some(line) => line.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn write(line: Option<&Pty>, bytes: &[u8]) -> io::Result<usize> {
    match line {
        Some(line) => line.write(bytes).await,
        None => std::future::pending().await,
    }
}
