//! The mesh's radios: each is a port while its modem takes frames.
//!
//! What goes when is decided in the radio, by priority within the duty cycle; here frames only change their clothes.

use std::path::PathBuf;
use std::time::Duration;

use honeylink_core::mesh::frame::{Kind, PortKind, Priority};
use honeylink_core::mesh::{PortId, PortInfo, Quality};
use honeylink_core::radio::Priority as RadioPriority;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::pump::PortEvent;
use super::queue::Waiting;
use crate::carrier::serial::{Event, OpenError, Outgoing, SerialConfig, SerialRadio, Status};

/// Radios of one node.
pub const RADIOS_MAX: usize = 8;
/// A frame that may wait longer than this waits no longer.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// A radio, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RadioView {
    /// The serial port of its modem.
    pub path: PathBuf,
    /// Its port, while the modem takes frames.
    pub port: Option<PortId>,
    /// Modem, queue and airtime budget.
    pub status: Status,
}

#[derive(Debug)]
struct Radio {
    path: PathBuf,
    info: PortInfo,
    radio: SerialRadio,
    port: Option<PortId>,
}

/// All radios of the node, by their place in the configuration.
#[derive(Debug, Default)]
pub(super) struct Radios {
    radios: Vec<Radio>,
    /// One per radio: passes its events on.
    listening: JoinSet<()>,
}

impl Radios {
    /// Opens the radios. A modem that is not there is waited for.
    pub(super) async fn open(
        configs: Vec<SerialConfig>,
        events: &mpsc::Sender<PortEvent>,
    ) -> Result<Self, OpenError> {
        let mut radios = Self::default();
        for (index, config) in configs.into_iter().enumerate() {
            let (path, info) = (config.path().to_owned(), info_of(&config));
            let (radio, mut heard) = SerialRadio::open(config).await?;
            let events = events.clone();
            radios.listening.spawn(async move {
                while let Some(event) = heard.recv().await {
                    if events.send(PortEvent::Radio { index, event: Box::new(event) }).await.is_err() {
                        return;
                    }
                }
            });
            radios.radios.push(Radio { path, info, radio, port: None });
        }
        Ok(radios)
    }

    /// The radio whose port this is.
    fn at(&self, port: PortId) -> Option<&Radio> {
        self.radios.iter().find(|radio| radio.port == Some(port))
    }

    /// Gives a frame to the radio of this port; false if it does not take it.
    pub(super) fn send(&self, port: PortId, frame: Waiting, kind: Kind) -> bool {
        let Waiting { token, bytes, priority, expires_at } = frame;
        let lifetime = expires_at.saturating_duration_since(tokio::time::Instant::now()).min(LIFETIME_MAX);
        let announce = matches!(kind, Kind::AnnounceKey | Kind::AnnounceAnchor | Kind::Beacon);
        let frame = Outgoing { token, bytes, priority: on_radio(priority), announce, lifetime };
        self.at(port).is_some_and(|radio| radio.radio.send(frame).is_ok())
    }

    /// Takes a frame back, if it still waits.
    pub(super) fn withdraw(&self, port: PortId, token: u64) {
        if let Some(radio) = self.at(port) {
            // A driver that is busy sends it in vain, which costs airtime and nothing else.
            let _ = radio.radio.cancel(token);
        }
    }

    /// The port of a radio, if it is up.
    pub(super) fn port(&self, index: usize) -> Option<PortId> {
        self.radios.get(index)?.port
    }

    pub(super) fn info(&self, index: usize) -> Option<PortInfo> {
        self.radios.get(index).map(|radio| radio.info)
    }

    pub(super) fn set_port(&mut self, index: usize, port: Option<PortId>) {
        if let Some(radio) = self.radios.get_mut(index) {
            radio.port = port;
        }
    }

    pub(super) fn views(&self) -> Vec<RadioView> {
        let view = |radio: &Radio| RadioView {
            path: radio.path.clone(),
            port: radio.port,
            status: radio.radio.status().borrow().clone(),
        };
        self.radios.iter().map(view).collect()
    }

    /// Turns the radios off and writes their ledgers.
    pub(super) async fn close(&mut self) {
        // Nobody reads their last events any more.
        self.listening.abort_all();
        for radio in self.radios.drain(..) {
            radio.radio.shutdown().await;
        }
    }
}

/// What an event means for the mesh, where it means anything.
pub(super) enum Heard {
    /// The modem takes frames.
    Up,
    /// It does not.
    Down,
    /// A frame from the air.
    Frame(bytes::Bytes, Option<Quality>),
    /// A frame of ours ended.
    Sent(u64, bool),
    /// For people only.
    Nothing,
}

pub(super) fn heard(path: usize, event: Event) -> Heard {
    match event {
        Event::Up(_) => Heard::Up,
        Event::Down(reason) => {
            tracing::info!(radio = path, %reason, "a radio is down");
            Heard::Down
        }
        Event::Heard(frame) => {
            let quality = frame
                .rssi_dbm
                .zip(frame.snr_quarter_db)
                .map(|(rssi_dbm, snr)| Quality { rssi_dbm, snr_quarter_db: snr.into() });
            Heard::Frame(frame.bytes, quality)
        }
        Event::Sent { token, fate } => Heard::Sent(token, fate.aired()),
        Event::Trouble(error) => {
            tracing::warn!(radio = path, %error, "a radio's modem has trouble");
            Heard::Nothing
        }
        Event::LedgerDamaged(damage) => {
            tracing::warn!(radio = path, %damage, "a radio's ledger was damaged; it is silent for an hour");
            Heard::Nothing
        }
        Event::LedgerFailed(why) => {
            tracing::error!(radio = path, %why, "a radio's ledger cannot be written; it sends nothing until it can");
            Heard::Nothing
        }
    }
}

fn on_radio(priority: Priority) -> RadioPriority {
    match priority {
        Priority::Bulk => RadioPriority::Bulk,
        Priority::Normal => RadioPriority::Normal,
        Priority::Urgent => RadioPriority::Urgent,
        Priority::Control => RadioPriority::Control,
    }
}

/// How the mesh sees a radio.
fn info_of(config: &SerialConfig) -> PortInfo {
    let (schedule, class) = (config.schedule(), config.class());
    let mtu = class.frame_bytes_max().min(schedule.frame_bytes_max);
    PortInfo { kind: PortKind::Broadcast, class, mtu, pace: schedule.pace }
}
