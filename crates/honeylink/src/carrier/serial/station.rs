//! Scheduler and modem as one: what one puts out goes into the other, without a clock and without a port.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use honeylink_core::radio::modem::{self, SetupError};
use honeylink_core::radio::scheduler::{self, Past};
use honeylink_core::radio::{Frame, Modem, Scheduler};
use honeylink_core::time::{Deadline, Time};

use super::{DownReason, Event, ModemState, Outgoing, SerialConfig, Status};

/// The two machines and what they want of the world.
pub(super) struct Station {
    scheduler: Scheduler,
    modem: Modem,
    state: ModemState,
    /// Bytes for the line. One frame or one set-up at a time, so this stays small by itself.
    pub(super) to_line: BytesMut,
    /// The ledger's state to write.
    pub(super) to_disk: Option<(u64, Bytes)>,
    /// Events for whoever holds the radio.
    pub(super) events: VecDeque<Event>,
    /// The modem cannot be used: the line should be closed for a while.
    pub(super) failed: Option<SetupError>,
    /// The modem said that it stops; why is known at the end of the turn.
    stopped: bool,
}

impl Station {
    pub(super) fn new(now: Time, config: &SerialConfig, past: Past<'_>) -> Self {
        Self {
            scheduler: Scheduler::new(now, config.schedule(), past),
            modem: Modem::new(config.dialect()),
            state: ModemState::Down(DownReason::NotThere("not opened yet".to_owned())),
            to_line: BytesMut::new(),
            to_disk: None,
            events: VecDeque::new(),
            failed: None,
            stopped: false,
        }
    }

    pub(super) fn status(&self, now: Time) -> Status {
        Status {
            modem: self.state.clone(),
            load: self.scheduler.load(now),
            frames: self.scheduler.stats(),
            line: self.modem.stats(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        Deadline::earliest(self.scheduler.poll_timeout(), self.modem.poll_timeout())
    }

    pub(super) fn send(&mut self, now: Time, frame: Outgoing) {
        let Outgoing { token, bytes, priority, announce, lifetime } = frame;
        let expires_at = now + lifetime;
        self.schedule(now, scheduler::Input::Submit(Frame { token, bytes, priority, announce, expires_at }));
    }

    /// Something for the scheduler.
    pub(super) fn schedule(&mut self, now: Time, input: scheduler::Input) {
        self.scheduler.handle(now, input);
        self.settle(now);
    }

    /// Bytes from the line.
    pub(super) fn read(&mut self, now: Time, bytes: &[u8]) {
        self.modem.handle(now, modem::Input::Bytes(bytes));
        self.settle(now);
    }

    pub(super) fn timeout(&mut self, now: Time) {
        self.modem.handle(now, modem::Input::Timeout);
        self.scheduler.handle(now, scheduler::Input::Timeout);
        self.settle(now);
    }

    /// The port is open.
    pub(super) fn attached(&mut self, now: Time) {
        self.to_line.clear();
        self.failed = None;
        self.state = ModemState::SettingUp;
        self.modem.handle(now, modem::Input::Attached);
        self.settle(now);
    }

    /// The port is closed, or cannot be opened. The same reason twice is one event.
    pub(super) fn detached(&mut self, now: Time, reason: DownReason) {
        self.modem.handle(now, modem::Input::Detached);
        self.drain(now);
        self.stopped = false;
        self.to_line.clear();
        self.down(reason);
    }

    /// The radio is closed: nothing more is sent, and the modem is told.
    pub(super) fn close(&mut self, now: Time) {
        self.scheduler.handle(now, scheduler::Input::Down);
        self.scheduler.handle(now, scheduler::Input::CancelAll);
        self.modem.handle(now, modem::Input::Leave);
        self.drain(now);
    }

    /// The last state of the ledger.
    pub(super) fn finish(self, now: Time) -> Bytes {
        self.scheduler.finish(now)
    }

    fn down(&mut self, reason: DownReason) {
        let state = ModemState::Down(reason.clone());
        if self.state != state {
            self.state = state;
            self.events.push_back(Event::Down(reason));
        }
    }

    /// One turn. A modem that stopped in it without another reason has restarted.
    fn settle(&mut self, now: Time) {
        self.drain(now);
        if core::mem::take(&mut self.stopped) && matches!(self.state, ModemState::Up(_)) {
            self.down(DownReason::Restarted);
        }
    }

    /// Moves outputs between the machines until both are quiet. It ends: each input of one makes few of the other, and a
    /// frame that the modem gives back waits a second.
    fn drain(&mut self, now: Time) {
        loop {
            if let Some(output) = self.modem.poll_output() {
                self.of_modem(now, output);
            } else if let Some(output) = self.scheduler.poll_output() {
                self.of_scheduler(now, output);
            } else {
                return;
            }
        }
    }

    fn of_modem(&mut self, now: Time, output: modem::Output) {
        match output {
            modem::Output::Write(bytes) => self.to_line.extend_from_slice(&bytes),
            modem::Output::Up(identity) => {
                self.state = ModemState::Up(identity);
                self.events.push_back(Event::Up(identity));
                self.scheduler.handle(now, scheduler::Input::Up);
            }
            modem::Output::Down => {
                self.scheduler.handle(now, scheduler::Input::Down);
                self.stopped = true;
            }
            modem::Output::Failed(error) => {
                self.failed = Some(error);
                self.down(error.into());
            }
            modem::Output::Done { token, outcome } => {
                self.scheduler.handle(now, scheduler::Input::Done { token, outcome });
            }
            modem::Output::Heard(heard) => self.events.push_back(Event::Heard(heard)),
            modem::Output::Trouble(error) => self.events.push_back(Event::Trouble(error)),
        }
    }

    fn of_scheduler(&mut self, now: Time, output: scheduler::Output) {
        match output {
            scheduler::Output::Transmit { token, bytes, airtime_us } => {
                self.modem.handle(now, modem::Input::Send { token, bytes: &bytes, airtime_us });
            }
            scheduler::Output::Sent { token, fate } => self.events.push_back(Event::Sent { token, fate }),
            scheduler::Output::Save { number, bytes } => self.to_disk = Some((number, bytes)),
            scheduler::Output::Damaged(damage) => self.events.push_back(Event::LedgerDamaged(damage)),
        }
    }
}
