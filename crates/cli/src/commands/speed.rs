//! `honeylink speed`: how much the way to a device carries, and what a full way costs whoever waits meanwhile.

use std::time::Duration;

use honeylink_api::{ExitCode, RoundTrips, SpeedReport, SpeedRequest, routes};

use super::describe_path;
use crate::app::{App, Outcome};
use crate::cli::seconds;
use crate::output::units;

/// What connecting and saying goodbye may take beside the measurement.
const ANSWER_MARGIN: Duration = Duration::from_secs(60);
/// The longest measurement, seconds: what the other side serves.
const SECONDS_MAX: f64 = 60.0;

const EXAMPLES: &str = "\
Examples:
  honeylink speed studio
  honeylink speed studio --time 20
  honeylink speed studio --json | jq .grade";

/// Measure the rate to a device, and latency with and without load
///
/// Times small messages for a third of the time, then fills the way there with data and times them again, then the way back.
/// What a full way adds to the 95th percentile gets a grade: A+ under 5 ms, A under 30, B under 60, C under 200, D under
/// 400, F above. The data is thrown away at the other end.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The device: name, id or unambiguous id prefix
    peer: String,
    /// Seconds in all, at most 60
    #[arg(long, short, default_value = "10", value_parser = few_seconds)]
    time: f64,
}

fn few_seconds(text: &str) -> Result<f64, String> {
    let time = seconds(text)?;
    if time <= SECONDS_MAX { Ok(time) } else { Err(format!("must be at most {SECONDS_MAX} seconds")) }
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked by `few_seconds` to be in range"
    )]
    let request = SpeedRequest { peer: args.peer, time_ms: ((args.time * 1000.0) as u64).max(1) };
    // The answer comes when everything is measured.
    let wait = Duration::from_secs_f64(args.time) + ANSWER_MARGIN;
    app.with_node(async |client| {
        let client = client.clone().with_answer_wait(wait);
        let report: SpeedReport = client.post(routes::SPEED, &request).await?;
        if app.out.json {
            app.out.json(&report)?;
        } else {
            app.out.lines(&describe(&report))?;
        }
        Ok(ExitCode::Ok)
    })
    .await
}

fn describe(report: &SpeedReport) -> Vec<String> {
    let mut lines = vec![describe_path(report.path.as_ref()), format!("idle:  {}", times(&report.idle))];
    lines.extend(full("there", report.bytes_per_s, &report.loaded, &report.grade, report.added_ms));
    if let Some(back) = &report.back {
        lines.extend(full("back", back.bytes_per_s, &back.loaded, &back.grade, back.added_ms));
    }
    lines
}

fn full(way: &str, rate: u64, loaded: &RoundTrips, grade: &str, added_ms: f64) -> [String; 2] {
    [
        format!("{:<6} {}", format!("{way}:"), units::rate(rate)),
        format!("       {}; grade {grade}: full, it adds {}", times(loaded), units::millis(added_ms)),
    ]
}

fn times(times: &RoundTrips) -> String {
    format!(
        "median {}  p95 {}  p99 {}",
        units::millis(times.p50_ms),
        units::millis(times.p95_ms),
        units::millis(times.p99_ms)
    )
}
