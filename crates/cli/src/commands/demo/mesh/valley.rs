//! The radios of the mesh demonstration: two emulated modems and the air between them.

use std::io;
use std::path::Path;

use honeylink::testing::modem::{Air, AirConfig, Kind, Modem, Transmission};

use crate::commands::demo::report::OnAir;

/// The channel: 10 % of the time is allowed there.
const FREQUENCY_HZ: u32 = 869_525_000;
const SPREADING_FACTOR: u8 = 7;
/// Bytes that fit one packet of such a modem, and what it puts before them.
const PACKET_BYTES: usize = 254;

/// See the module's doc.
pub(super) struct Valley {
    air: Air,
    modems: [Modem; 2],
}

impl Valley {
    /// Two modems whose names lie in `folder`.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let air = Air::new(AirConfig::default());
        let plugged = |name: &str| Modem::plugged(&air, folder, name, Kind::rnode());
        let modems = [plugged("radio-0")?, plugged("radio-1")?];
        Ok(Self { air, modems })
    }

    /// The setting that gives a device this modem.
    pub(super) fn radio(&self, at: usize) -> String {
        let port = self.modems[at].path().display();
        format!(
            "mesh.radios=[{{ port = \"{port}\", frequency_hz = {FREQUENCY_HZ}, \
             spreading_factor = {SPREADING_FACTOR} }}]"
        )
    }

    /// Pulls the first modem's plug.
    pub(super) async fn unplug(&self) {
        self.modems[0].unplug().await;
    }

    /// Plugs it in again.
    pub(super) async fn plug_in(&self) {
        self.modems[0].plug_in().await;
    }

    /// Waits until the first modem begins to send its `nth` frame of at least so many bytes.
    pub(super) async fn pieces(&self, nth: usize, bytes_min: usize) {
        let is_piece =
            |frame: &&Transmission| frame.from == self.modems[0].number() && frame.bytes.len() >= bytes_min;
        self.air.until(|log| log.iter().filter(is_piece).count() >= nth).await;
    }

    /// Everything that was on the air so far.
    pub(super) fn on_air(&self) -> OnAir {
        let mut sum = OnAir::default();
        let mut airtime_us = 0;
        for Transmission { start_us, end_us, bytes, .. } in self.air.log() {
            sum.frames += 1;
            sum.bytes += (bytes.len() + bytes.len().div_ceil(PACKET_BYTES)) as u64;
            airtime_us += end_us - start_us;
        }
        sum.airtime_ms = airtime_us / 1000;
        sum
    }

    /// How long a modem was on the air so far.
    pub(super) fn airtime_ms(&self, at: usize) -> u64 {
        let own = |frame: &Transmission| frame.from == self.modems[at].number();
        let log = self.air.log();
        log.iter().filter(|frame| own(frame)).map(|frame| frame.end_us - frame.start_us).sum::<u64>() / 1000
    }
}

impl OnAir {
    /// What came on top of an earlier count.
    pub(super) const fn since(self, before: Self) -> Self {
        Self {
            frames: self.frames - before.frames,
            bytes: self.bytes - before.bytes,
            airtime_ms: self.airtime_ms - before.airtime_ms,
        }
    }
}
