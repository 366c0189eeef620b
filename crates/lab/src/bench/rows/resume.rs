//! F3: how much is sent again after the receiver was killed.
//!
//! Two machines on a bridge of a gigabit, a daemon on each. One sends a file; somewhere on the way the receiver's daemon is
//! ended by SIGKILL and started again, and the transfer goes on by itself to its end. What was sent again is counted on the
//! wire, where nothing can be left out: bytes that the receiver's interface took, less those of a transfer that nobody
//! disturbed, by the size of the file. So it has also what was under way or in the receiver's memory at the kill.

use super::Scale;
use crate::Trouble;
use crate::device::Device;
use crate::lan::Lan;
use crate::pairs::{median, quantile};
use crate::report::Finding;
use crate::shelf::Shelf;

const MEBIBYTES: usize = 1024;
const RATE_MBIT_PER_S: u32 = 1000;
/// Where the receiver is killed, as shares of the file.
const KILLS: [f64; 7] = [0.1, 0.33, 0.5, 0.61, 0.75, 0.87, 0.92];
/// Transfers that nobody disturbs.
const CALM: usize = 3;

pub(crate) fn measure(scale: &Scale) -> Result<Finding, Trouble> {
    let Some(program) = &scale.program else {
        return Ok(Finding::Skipped(super::NEEDS_PROGRAM.into()));
    };
    let lan = match Lan::build(&["ann", "bob"])? {
        Ok(lan) => lan,
        Err(skipped) => return Ok(skipped),
    };
    let shelf = Shelf::new()?;
    let mebibytes = scale.samples(MEBIBYTES);
    let device = |name: &str| -> Result<Device, Trouble> {
        let mut device = Device::new(program, name, &shelf.emptied(name)?, Some(lan.namespace(name)));
        device.up()?;
        Ok(device)
    };
    let (ann, mut bob) = (device("ann")?, device("bob")?);
    ann.pair(&bob)?;
    lan.limit_rate("ann", RATE_MBIT_PER_S)?;
    let mut street = Street { lan, shelf, ann, total: (mebibytes << 20) as f64, sent: 0 };

    let mut calm = Vec::new();
    for _ in 0..CALM {
        calm.push(street.send(&mut bob, None)?.wire);
    }
    let undisturbed = median(&calm);
    let (mut samples, mut kept) = (Vec::new(), Vec::new());
    for kill in KILLS.into_iter().take(scale.pairs()) {
        let run = street.send(&mut bob, Some(kill))?;
        samples.push((run.wire - undisturbed).max(0.0) / street.total * 100.0);
        kept.push(run.kept / street.total * 100.0);
    }
    let facts = vec![
        ("p50_percent", median(&samples)),
        ("least_kept_percent", quantile(&kept, 0.0)),
        ("most_kept_percent", quantile(&kept, 1.0)),
        ("wire_bytes_per_byte", undisturbed / street.total),
        ("calm_spread_percent", (quantile(&calm, 1.0) - quantile(&calm, 0.0)) / street.total * 100.0),
    ];
    Ok(Finding::Measured { value: quantile(&samples, 1.0), samples, facts })
}

/// What lies between the two, and the one that sends.
struct Street {
    lan: Lan,
    shelf: Shelf,
    ann: Device,
    /// Bytes of the file.
    total: f64,
    /// Transfers so far; each file has a name of its own.
    sent: usize,
}

/// What one transfer took, in bytes.
struct Run {
    /// That the receiver's interface took.
    wire: f64,
    /// That the receiver still had from before the kill.
    kept: f64,
}

impl Street {
    fn send(&mut self, bob: &mut Device, kill: Option<f64>) -> Result<Run, Trouble> {
        self.sent += 1;
        let name = format!("film {}", self.sent);
        let file = self.shelf.file(&name, self.total as usize >> 20)?;
        let before = self.lan.received_bytes("bob")?;
        let path = file.to_str().ok_or("an odd path")?;
        let mut sending = self.ann.start(&["send", path, "--to", "bob", "--json"])?;
        if let Some(share) = kill {
            let bytes = self.total * share;
            sending.event("progress", |now| now["bytes"].as_f64() >= Some(bytes))?;
            bob.kill();
            bob.up()?;
        }
        let outcome = sending.end()?;
        let wire = (self.lan.received_bytes("bob")? - before) as f64;
        let kept = outcome["resumed_bytes"].as_f64().unwrap_or_default();
        if outcome["ok"] != true || (kill.is_some() && kept == 0.0) {
            return Err(format!("the transfer did not go on after the kill: {outcome}").into());
        }
        let arrived = self.shelf.path("bob").join("inbox").join(&name);
        if std::fs::read(&arrived)? != std::fs::read(&file)? {
            return Err("what arrived is not what was sent".into());
        }
        std::fs::remove_file(arrived)?;
        std::fs::remove_file(file)?;
        Ok(Run { wire, kept })
    }
}
