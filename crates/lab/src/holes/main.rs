//! `honeylink-holes [RUNS]`: how often, and how soon, two devices get a hole where one is behind a NAT box with random ports
//! and the other behind one that filters by port: row N3. Linux, as root.
#![cfg_attr(not(target_os = "linux"), allow(unused))]

#[cfg(target_os = "linux")]
mod punch;
#[cfg(target_os = "linux")]
mod world;

use std::process::ExitCode;
use std::time::Duration;

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Runs without an argument; half of them with the hard box on either side.
const RUNS: usize = 20;
/// What counts as a success.
const SOON: Duration = Duration::from_secs(5);
/// Percent of the runs that shall be one.
const BAR_PERCENT: f64 = 95.0;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("skipped: NAT boxes are made with Linux network namespaces");
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let runs = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(RUNS);
    if let Err(why) = world::possible() {
        println!("skipped: {why}");
        return ExitCode::SUCCESS;
    }
    match measure(runs) {
        Ok(ok) => ExitCode::from(u8::from(!ok)),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
fn measure(runs: usize) -> Result<bool, Trouble> {
    use world::Kind;
    let (mut times_ms, mut probes) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let boxes = if run % 2 == 0 { [Kind::Random, Kind::Home] } else { [Kind::Home, Kind::Random] };
        let world = world::World::new(boxes)?;
        let pair = punch::Pair::link(&world)?;
        let took = pair.until(&world, honeylink::Rung::Punched, 2 * SOON)?;
        // Without the relay: it is the hole that carries.
        world.set_passing(took.is_none());
        let works = took.is_some() && pair.echo(&world, 20)?;
        let sent = pair.probes();
        println!(
            "run {run}: {boxes:?} {} with {sent} probes",
            took.map_or_else(|| "stayed on the relay".to_owned(), |took| format!("{} ms", took.as_millis())),
        );
        if let Some(took) = took.filter(|took| works && *took <= SOON) {
            times_ms.push(u64::try_from(took.as_millis())?);
        }
        probes.push(sent);
        pair.end(&world)?;
    }
    let percent = 100.0 * times_ms.len() as f64 / runs.max(1) as f64;
    times_ms.sort_unstable();
    probes.sort_unstable();
    let ok = percent >= BAR_PERCENT;
    let at = |sorted: &[u64], percent: usize| {
        let last = sorted.len().saturating_sub(1);
        sorted.get((sorted.len() * percent / 100).min(last)).copied()
    };
    println!(
        "{}",
        serde_json::json!({
            "id": "N3", "value": percent, "unit": "%", "peer": "honeylink", "bar": BAR_PERCENT, "ok": ok,
            "samples": times_ms, "p50_ms": at(&times_ms, 50), "p95_ms": at(&times_ms, 95), "probes": probes,
        })
    );
    forgotten()?;
    Ok(ok)
}

/// A box that forgets its mappings: how long until the relay carries on, and until there is another hole.
#[cfg(target_os = "linux")]
fn forgotten() -> Result<(), Trouble> {
    use world::Kind;
    const PATIENCE: Duration = Duration::from_secs(60);
    let world = world::World::new([Kind::Random, Kind::Home])?;
    let pair = punch::Pair::link(&world)?;
    pair.until(&world, honeylink::Rung::Punched, PATIENCE)?.ok_or("no hole at first")?;
    world.restart_box()?;
    let began = std::time::Instant::now();
    let echoed = pair.echo(&world, 20)?;
    let gap = began.elapsed();
    pair.until(&world, honeylink::Rung::Relayed, PATIENCE)?.ok_or("the relay did not carry on")?;
    pair.until(&world, honeylink::Rung::Punched, PATIENCE)?.ok_or("no other hole")?;
    let again = began.elapsed();
    println!(
        "box restarted: messages went on ({echoed}) after {} ms, by another hole after {} ms",
        gap.as_millis(),
        again.as_millis()
    );
    pair.end(&world)
}
