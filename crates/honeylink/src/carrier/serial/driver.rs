//! The task that moves bytes between a serial port, the disk and a [`Station`], and opens the port again when it is lost.

use std::io;
use std::time::Duration;

use honeylink_core::radio::scheduler::{Input, Past};
use serial2_tokio::SerialPort;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ledger_file::LedgerFile;
use super::station::Station;
use super::{DownReason, Event, Order, SerialConfig, Status};
use crate::clock::{Clock, unix_ms};

/// How long to wait before a port is opened again: at first, and at most.
const REOPEN_MIN: Duration = Duration::from_millis(100);
const REOPEN_MAX: Duration = Duration::from_secs(5);
/// How long to leave a modem alone that cannot be used as it is.
const FAILED_WAIT: Duration = Duration::from_secs(10);
/// How long the goodbye to a modem may take at the end.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// Events that may wait here before nothing more is read: what one read can cause stays within it by little.
const PENDING_MAX: usize = 64;
/// Bytes taken from the line at a time.
const READ_BYTES: usize = 2048;
/// A wall clock before this (2025-01-01) was never set.
const WALL_MS_MIN: u64 = 1_735_689_600_000;

/// One radio's driver.
pub(super) struct Driver {
    config: SerialConfig,
    clock: Clock,
    station: Station,
    ledger: Option<LedgerFile>,
    line: Option<SerialPort>,
    reopen_at: Instant,
    reopen_after: Duration,
}

/// What the driver woke up for.
enum Woke {
    Order(Option<Order>),
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Saved(io::Result<u64>),
    Room,
    Time,
}

impl Driver {
    pub(super) fn new(config: SerialConfig, ledger: Option<LedgerFile>) -> Self {
        let clock = Clock::start();
        let past = match ledger.as_ref().map(LedgerFile::found) {
            Some(Some(bytes)) => Past::Saved { bytes, wall_ms: wall_ms() },
            Some(None) | None => Past::Silent,
        };
        let mut station = Station::new(clock.now(), &config, past);
        station.schedule(clock.now(), Input::Wall(wall_ms()));
        let reopen_at = Instant::now();
        Self { config, clock, station, ledger, line: None, reopen_at, reopen_after: REOPEN_MIN }
    }

    pub(super) fn status(&self) -> Status {
        self.station.status(self.clock.now())
    }

    pub(super) async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        events: mpsc::Sender<Event>,
        status: watch::Sender<Status>,
        closed: CancellationToken,
    ) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if self.line.is_none() && self.reopen_at <= Instant::now() {
                self.open();
            }
            self.hand_over(&events);
            status.send_if_modified(|known| {
                let new = self.status();
                let changed = *known != new;
                *known = new;
                changed
            });
            let woke = tokio::select! {
                woke = self.next(&mut orders, &events, &mut buffer) => woke,
                () = closed.cancelled() => break,
            };
            match woke {
                Woke::Order(None) => break,
                Woke::Order(Some(Order::Send(frame))) => self.station.send(self.clock.now(), frame),
                Woke::Order(Some(Order::Cancel(token))) => {
                    self.station.schedule(self.clock.now(), Input::Cancel(token));
                }
                Woke::Read(Ok(0)) => self.lost("the line was closed"),
                Woke::Read(Ok(count)) => self.read(&buffer[..count]),
                Woke::Wrote(Ok(count)) => drop(self.station.to_line.split_to(count)),
                Woke::Read(Err(error)) | Woke::Wrote(Err(error)) => self.lost(&error.to_string()),
                Woke::Saved(Ok(number)) => self.station.schedule(self.clock.now(), Input::Saved(number)),
                Woke::Saved(Err(error)) => {
                    self.station.events.push_back(Event::LedgerFailed(error.to_string()));
                }
                Woke::Room => {}
                Woke::Time => {
                    let now = self.clock.now();
                    self.station.schedule(now, Input::Wall(wall_ms()));
                    self.station.timeout(now);
                }
            }
            self.shut_if_failed();
        }
        // What was ordered and not looked at yet ends with the rest.
        orders.close();
        while let Ok(order) = orders.try_recv() {
            if let Order::Send(frame) = order {
                self.station.send(self.clock.now(), frame);
            }
        }
        self.close(&events).await;
    }

    /// Waits for anything to do. While events wait for a reader, neither orders nor the line are read.
    async fn next(
        &mut self,
        orders: &mut mpsc::Receiver<Order>,
        events: &mpsc::Sender<Event>,
        buffer: &mut [u8],
    ) -> Woke {
        let calm = self.station.events.len() < PENDING_MAX;
        let writes = self.line.is_some() && !self.station.to_line.is_empty();
        let deadline = self.deadline();
        let line = self.line.as_ref();
        tokio::select! {
            order = orders.recv(), if calm => Woke::Order(order),
            read = read(line, buffer), if calm && line.is_some() => Woke::Read(read),
            wrote = write(line, &self.station.to_line), if writes => Woke::Wrote(wrote),
            saved = written(&mut self.ledger) => Woke::Saved(saved),
            // If nobody reads any more, `hand_over` drops what waits.
            _ = events.reserve(), if !self.station.events.is_empty() => Woke::Room,
            () = tokio::time::sleep_until(deadline) => Woke::Time,
        }
    }

    /// The next moment something happens by itself.
    fn deadline(&self) -> Instant {
        let machines = self.station.deadline().map(|deadline| self.clock.instant(deadline.at));
        let reopen = self.line.is_none().then_some(self.reopen_at);
        // Without either, once an hour: it keeps the wall clock fresh.
        let idle = Instant::now() + Duration::from_secs(3600);
        [machines, reopen].into_iter().flatten().fold(idle, Instant::min)
    }

    /// Passes on what the machines put out: events to their reader, the ledger to its file.
    fn hand_over(&mut self, events: &mpsc::Sender<Event>) {
        if events.is_closed() {
            self.station.events.clear();
        }
        while let Ok(permit) = events.try_reserve() {
            let Some(event) = self.station.events.pop_front() else { break };
            permit.send(event);
        }
        if let Some((number, bytes)) = self.station.to_disk.take() {
            match &mut self.ledger {
                Some(ledger) => ledger.write(number, bytes),
                // Without a limit nothing has to be remembered.
                None => self.station.schedule(self.clock.now(), Input::Saved(number)),
            }
        }
    }

    fn open(&mut self) {
        match SerialPort::open(&self.config.path, self.config.baud) {
            Ok(port) => {
                tracing::debug!(path = %self.config.path.display(), "serial port open");
                // What the modem said to nobody, or to whoever had the port before, is no answer to us.
                if let Err(error) = port.discard_buffers() {
                    tracing::debug!(%error, "the serial port kept its buffers");
                }
                self.line = Some(port);
                self.station.attached(self.clock.now());
            }
            Err(error) => {
                self.station.detached(self.clock.now(), DownReason::NotThere(error.to_string()));
                self.wait_to_reopen();
            }
        }
    }

    fn wait_to_reopen(&mut self) {
        self.reopen_at = Instant::now() + self.reopen_after;
        self.reopen_after = (self.reopen_after * 2).min(REOPEN_MAX);
    }

    fn read(&mut self, bytes: &[u8]) {
        // It says something: whatever comes, the next loss is tried again at once.
        self.reopen_after = REOPEN_MIN;
        self.station.read(self.clock.now(), bytes);
    }

    fn lost(&mut self, why: &str) {
        self.line = None;
        self.station.detached(self.clock.now(), DownReason::Unplugged(why.to_owned()));
        self.wait_to_reopen();
    }

    /// A modem that cannot be used is left alone for a while and then tried again: somebody may have updated it.
    fn shut_if_failed(&mut self) {
        if let Some(error) = self.station.failed.take() {
            self.line = None;
            self.station.detached(self.clock.now(), error.into());
            self.reopen_at = Instant::now() + FAILED_WAIT;
        }
    }

    async fn close(mut self, events: &mpsc::Sender<Event>) {
        let now = self.clock.now();
        self.station.close(now);
        if let Some(line) = &self.line {
            let goodbye = line.write_all(&self.station.to_line);
            if !matches!(tokio::time::timeout(GOODBYE_MAX, goodbye).await, Ok(Ok(()))) {
                tracing::debug!("the modem was not told goodbye");
            }
        }
        // The ends of frames are told even to a reader that is behind, within reason.
        let last = std::mem::take(&mut self.station.events);
        let telling = async {
            for event in last {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(GOODBYE_MAX, telling).await.is_err() {
            tracing::debug!("nobody read the radio's last events");
        }
        if let Some(ledger) = self.ledger
            && let Err(error) = ledger.finish(self.station.finish(now)).await
        {
            // The state before holds more, not less: it has a reserve.
            tracing::warn!(%error, "the radio's ledger was not written at the end");
        }
    }
}

async fn read(line: Option<&SerialPort>, buffer: &mut [u8]) -> io::Result<usize> {
    match line {
        Some(line) => line.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn write(line: Option<&SerialPort>, bytes: &[u8]) -> io::Result<usize> {
    match line {
        Some(line) => line.write(bytes).await,
        None => std::future::pending().await,
    }
}

async fn written(ledger: &mut Option<LedgerFile>) -> io::Result<u64> {
    match ledger {
        Some(ledger) => ledger.written().await,
        None => std::future::pending().await,
    }
}

/// The wall clock, if it was ever set.
fn wall_ms() -> Option<u64> {
    Some(unix_ms()).filter(|ms| *ms >= WALL_MS_MIN)
}
