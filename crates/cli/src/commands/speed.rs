//! `honeylink speed`: how much the way to a device carries, and what a full way costs whoever waits meanwhile.

use honeylink_api::{ExitCode, SpeedReport, SpeedRequest, routes};

use super::describe_path;
use crate::app::{App, Outcome};
use crate::cli::seconds;
use crate::output::units;

const EXAMPLES: &str = "\
Examples:
  honeylink speed studio
  honeylink speed studio --time 20
  honeylink speed studio --json | jq .grade";

/// Measure the rate to a device, and latency with and without load
///
/// Times small messages for half of the time, then fills the way with data and times them again. What a full way adds to
/// the 95th percentile gets a grade: A+ under 5 ms, A under 30, B under 60, C under 200, D under 400, F above. The data
/// is thrown away at the other end.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The device: name, id or unambiguous id prefix
    peer: String,
    /// Seconds in all, at most 60
    #[arg(long, short, default_value = "10", value_parser = seconds)]
    time: f64,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked by `seconds` to be in range"
    )]
    let request = SpeedRequest { peer: args.peer, time_ms: ((args.time * 1000.0) as u64).max(1) };
    app.with_node(async |client| {
        let report: SpeedReport = client.post(routes::SPEED, &request).await?;
        if app.out.json {
            app.out.json(&report)?;
            return Ok(ExitCode::Ok);
        }
        app.out.line(&format!(
            "{}, {}",
            units::rate(report.bytes_per_s),
            describe_path(report.path.as_ref())
        ))?;
        for (name, phase) in [("idle", &report.idle), ("loaded", &report.loaded)] {
            app.out.line(&format!(
                "{name}: median {}  p95 {}  p99 {}",
                units::millis(phase.p50_ms),
                units::millis(phase.p95_ms),
                units::millis(phase.p99_ms)
            ))?;
        }
        app.out.line(&format!(
            "grade {}: a full way adds {}",
            report.grade,
            units::millis(report.added_ms)
        ))?;
        Ok(ExitCode::Ok)
    })
    .await
}
