//! `honeylink demo --qos`: what a hundred streams on one link do to each other.
//!
//! ```text
//!  console ── real QUIC ── emulated cable: 40 Mbit/s, 10 ms there and back, half a second of buffer ── tv
//!     1 input of a game   datagrams of 32 bytes, 125 a second   policy `gaming-input`
//!     1 film              60 frames of 25,000 bytes a second    policy `film`, which is `media-8k` for a narrower link
//!    98 files             all they can get                      policy `file`
//! ```
//!
//! First the files wait, then they come too. Everything carries the time it was made; the other side takes the difference,
//! which works because both are in this process. Nothing is bound and nothing leaves it.

mod meter;
mod report;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use honeylink::testing::{Jitter, Network, Stack};
use honeylink::{Link, Preset, policy};
use honeylink_api::{ErrorCode, ExitCode};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::meter::{Lateness, Meters};
use self::report::{Facts, Report};
use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::signals;

/// How many files share the link.
const FILES: u16 = 98;
/// What the cable carries each way.
const BITS_PER_S: u64 = 40_000_000;
/// One way, without a queue.
const LATENCY: Duration = Duration::from_millis(5);
/// What waits before the cable at most: what a home router has, and what files fill where nobody sees to it.
const BUFFER: Duration = Duration::from_millis(500);
/// How long the input and the film are alone.
const ALONE: Duration = Duration::from_secs(2);
/// Between two lines or two pictures.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the link may take to come about.
const LINK_MAX: Duration = Duration::from_secs(30);
const PROTOCOL: &str = "demo/1";
/// The film's wishes: an eighth more than its frames need, so that one that was late is made up for.
const FILM: &str = "[film]\npreset = \"media-8k\"\nrate_min_bytes_per_s = 1690000\n";

pub(super) async fn run(app: &App, loaded: Duration) -> Outcome {
    let network = Network::builder()
        .stack(Stack::Quic)
        .latency(LATENCY)
        .jitter(Jitter::None)
        .loss(0.0)
        .bandwidth(BITS_PER_S)
        .links(|lane| lane.queue_bytes_max = BITS_PER_S / 8 * BUFFER.as_millis() as u64 / 1000)
        .start()
        .map_err(|e| Failure::new(ErrorCode::Config, e.to_string()))?;
    let report = Report::new(app.out);
    let played = tokio::select! {
        played = play(&network, &report, loaded) => played,
        () = signals::asked_to_stop() => Err(Failure::new(ErrorCode::Interrupted, "stopped")),
    };
    network.end().await;
    report.verdict(&played?)?;
    Ok(ExitCode::Ok)
}

async fn play(network: &Network, report: &Report, loaded: Duration) -> Result<Facts, Failure> {
    let meters = Arc::new(Meters::new());
    let lateness = Lateness::watch();
    let linked = tokio::time::timeout(LINK_MAX, link(network)).await;
    let (ours, theirs) =
        linked.map_err(|_| Failure::new(ErrorCode::Timeout, "the two ends found no link"))??;
    report.setting(BITS_PER_S, LATENCY * 2, BUFFER, usize::from(FILES))?;
    let mut tasks = JoinSet::new();
    streams::receive(&mut tasks, &theirs, &meters);
    streams::input(&mut tasks, &ours, &meters).await?;
    streams::film(&mut tasks, &ours, &meters).await?;
    watch(report, &meters, "without files", ALONE).await?;
    let alone = meters.end_phase();
    lateness.begin();
    for nth in 0..FILES {
        streams::file(&mut tasks, &ours, &meters, nth).await?;
    }
    watch(report, &meters, "with files", loaded).await?;
    let crowded = meters.end_phase();
    tasks.shutdown().await;
    Ok(Facts {
        alone,
        crowded,
        files: usize::from(FILES),
        machine_late: lateness.p99(),
        buffer: BUFFER,
        cable_bytes_per_s: BITS_PER_S / 8,
    })
}

/// Two nodes on the cable, and both ends of a link on which the policies hold.
async fn link(network: &Network) -> Result<(Link, Link), Failure> {
    let [console, tv] = network.paired(["console", "tv"]).await.map_err(Failure::internal)?;
    let mut listener = tv.listen(PROTOCOL).map_err(Failure::internal)?;
    let ours = console.connect("tv", PROTOCOL).await.map_err(Failure::internal)?;
    let theirs = listener.accept().await.ok_or_else(|| Failure::internal("the tv stopped"))?;
    let mut policies = policy::from_toml(FILM).map_err(Failure::internal)?;
    policies.extend([Preset::GamingInput.policy(), Preset::File.policy()]);
    for policy in policies {
        ours.apply_policy(policy).await.map_err(Failure::internal)?;
    }
    Ok((ours, theirs))
}

/// Shows each class as time goes by.
async fn watch(report: &Report, meters: &Meters, phase: &'static str, time: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < time {
        tokio::time::sleep(LOOK_EVERY.min(time.saturating_sub(began.elapsed()))).await;
        report.moment(phase, &meters.end_window())?;
    }
    Ok(())
}
