//! `honeylink demo`: devices on this machine find each other, pair, talk and send a file, before your eyes.
//!
//! Each device is this program in a process of its own with a home of its own, and everything goes over the local API,
//! as it would for a person with two terminals. Nothing leaves the machine and nothing is left behind.

mod device;
#[cfg(target_os = "linux")]
mod mesh;
#[cfg(feature = "sim")]
mod qos;
mod report;
mod steps;

use std::path::{Path, PathBuf};
use std::time::Instant;

use honeylink_api::{ErrorCode, ExitCode};

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::signals;
use device::Device;
use report::Report;

const EXAMPLES: &str = "\
Examples:
  honeylink demo                two devices, a 64 MiB file
  honeylink demo --nodes 5      five devices; the first pairs and talks with each
  honeylink demo --mesh         three devices, the first with a radio only (emulated; Linux)
  honeylink demo --qos          a hundred streams on one narrow link, and how long each class waits
  honeylink demo --json | tail -1 | jq .ok";

/// Watch two devices find each other, pair, talk and send a file
///
/// Starts devices in processes of their own on this machine, with temporary homes, reaching no further than loopback. They
/// discover each other by mDNS, pair by code, chat both ways and send a file; then one is killed in the middle of a
/// second file, started again, and the file is finished without sending again what had arrived. Each step is printed with
/// its time, path and rate. Ends with exit code 0 only if every step worked.
///
/// With --mesh, one device has a radio only, one a network only, and one both, and passes messages on between them. It is
/// killed in the middle of one and started again; then the first device's modem is pulled and plugged in again. Every message
/// must arrive, once. Modems and air are emulated, with the airtime and the duty cycle of real ones.
///
/// With --qos, one link of 40 Mbit/s carries the input of a game, a film and 98 files that take all they can get, first without
/// the files, then with them. The latency of each class is shown while it runs. Ends with exit code 0 only if the input still
/// came at once, the film on time and every file went on, or if this machine was too busy to tell. QUIC is real, the cable is
/// emulated; it needs no rights.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many devices
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=16))]
    nodes: u8,
    /// Size of the file in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=4096))]
    size: u64,
    /// Messages over radio and network instead of files
    #[arg(long, conflicts_with_all = ["nodes", "size"])]
    mesh: bool,
    /// A hundred streams of three classes on one link
    #[arg(long, conflicts_with_all = ["nodes", "size", "mesh"])]
    qos: bool,
    /// Seconds with all streams, with --qos
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "qos")]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=600))]
    time: u64,
}

/// The folder of a demonstration; it goes when this does, however the demonstration ends.
#[derive(Debug)]
struct Stage(PathBuf);

impl Stage {
    fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let name = format!("honeylink-demo-{}-{:x}", std::process::id(), since.subsec_nanos());
        let path = std::env::temp_dir().join(name);
        // Fails if somebody made it first, as anybody may in a shared temporary folder.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| Failure::file("make the folder", &path, &e))?;
        Ok(Self(path))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "the demonstration's folder could not be removed");
        }
    }
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    if args.qos {
        return play_qos(app, args.time).await;
    }
    let stage = Stage::new()?;
    let report = Report::new(app.out);
    let began = Instant::now();
    let mut devices = Vec::new();
    let played = tokio::select! {
        played = play(&args, &stage.0, &report, &mut devices) => played,
        () = signals::asked_to_stop() => Err(Failure::new(ErrorCode::Interrupted, "stopped")),
    };
    let played = match played {
        Ok(()) => steps::end(&report, &mut devices).await,
        Err(error) => Err(error),
    };
    // Devices that still run are killed by their drop, before their folder goes.
    drop(devices);
    drop(stage);
    played?;
    report.total(began.elapsed())?;
    Ok(ExitCode::Ok)
}

async fn play(args: &Args, stage: &Path, report: &Report, devices: &mut Vec<Device>) -> Result<(), Failure> {
    if args.mesh {
        return play_mesh(report, stage, devices).await;
    }
    steps::start(report, stage, args.nodes, devices).await?;
    steps::discover(report, devices).await?;
    steps::pair(report, devices).await?;
    steps::chat(report, devices).await?;
    let rate = steps::send(report, stage, devices, args.size << 20).await?;
    steps::resume(report, stage, devices, rate, args.size << 20).await
}

#[cfg(feature = "sim")]
async fn play_qos(app: &App, seconds: u64) -> Outcome {
    qos::run(app, std::time::Duration::from_secs(seconds)).await
}

#[cfg(not(feature = "sim"))]
#[expect(clippy::unused_async, reason = "its signature is that of the demonstration")]
async fn play_qos(_app: &App, _seconds: u64) -> Outcome {
    Err(Failure::new(ErrorCode::Unsupported, "emulated cables are in builds with the feature `sim` only"))
}

#[cfg(target_os = "linux")]
async fn play_mesh(report: &Report, stage: &Path, devices: &mut Vec<Device>) -> Result<(), Failure> {
    mesh::play(report, stage, devices).await
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unused_async, clippy::ptr_arg, reason = "its signature is that of the demonstration")]
async fn play_mesh(_report: &Report, _stage: &Path, _devices: &mut Vec<Device>) -> Result<(), Failure> {
    Err(Failure::new(ErrorCode::Unsupported, "emulated modems need the pseudo-terminals of Linux"))
}
