//! `honeylink ping`: round trips to a device, and which way they went.

use honeylink_api::{ErrorCode, ExitCode, PingEvent, PingRequest, PingSummary, routes};

use super::describe_path;
use crate::app::{App, Outcome};
use crate::cli::seconds;
use crate::failure::Failure;
use crate::output::units;

const EXAMPLES: &str = "\
Examples:
  honeylink ping studio
  honeylink ping studio -c 100 -i 0.1
  honeylink ping studio --json | tail -1 | jq .p50_ms";

/// Measure round trips to a device, application to application
///
/// Sends small messages over the link and times the answers: what an application on this link would see, encryption and
/// both programs included. Ends with exit code 5 if no answer came.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The device: name, id or unambiguous id prefix
    peer: String,
    /// How many; 0 goes on until Ctrl-C
    #[arg(long, short, default_value_t = 4)]
    count: u32,
    /// Seconds from one to the next
    #[arg(long, short, default_value = "1", value_parser = seconds)]
    interval: f64,
    /// Seconds after which one counts as lost
    #[arg(long, short = 'W', default_value = "5", value_parser = seconds)]
    wait: f64,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let request = PingRequest {
        peer: args.peer.clone(),
        count: args.count,
        interval_ms: millis(args.interval),
        timeout_ms: millis(args.wait),
    };
    app.with_node(async |client| {
        let mut events = client.stream::<_, PingEvent>(routes::PING, &request).await?;
        while let Some(event) = events.next().await? {
            if app.out.json {
                app.out.json(&event)?;
            }
            match event {
                PingEvent::Summary(summary) => return conclude(app, &summary),
                _ if app.out.json => {}
                PingEvent::Reply { seq, rtt_ms, path } => {
                    app.out.line(&format!(
                        "{seq}: {}, {}",
                        units::millis(rtt_ms),
                        describe_path(path.as_ref())
                    ))?;
                }
                PingEvent::Lost { seq } => app.out.line(&format!("{seq}: no answer"))?,
            }
        }
        Err(Failure::internal("the node ended without a summary"))
    })
    .await
}

/// Seconds, checked by [`seconds`] to be in range, as whole milliseconds, at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1e9 s in ms is far below 2^53")]
fn millis(seconds: f64) -> u64 {
    ((seconds * 1000.0) as u64).max(1)
}

fn conclude(app: &App, summary: &PingSummary) -> Outcome {
    if !app.out.json {
        app.out.line(&format!("{} sent, {} answered", summary.sent, summary.received))?;
        if let (Some(min), Some(p50), Some(max)) = (summary.min_ms, summary.p50_ms, summary.max_ms) {
            app.out.line(&format!(
                "min {}  median {}  max {}",
                units::millis(min),
                units::millis(p50),
                units::millis(max)
            ))?;
        }
    }
    if summary.ok {
        Ok(ExitCode::Ok)
    } else if app.out.json {
        Err(Failure::Reported(ErrorCode::Timeout.exit()))
    } else {
        Err(Failure::new(ErrorCode::Timeout, "no answer came"))
    }
}
