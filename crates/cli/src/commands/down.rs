//! `honeylink down`: ends the node and waits until it has.

use honeylink_api::{ErrorCode, ExitCode, Phase, ShutdownEvent, ShutdownRequest, routes};

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::output::units;

const EXAMPLES: &str = "\
Examples:
  honeylink down
  honeylink down --drain 300    give running transfers five minutes
  honeylink down --drain 0      end now; transfers resume next time";

/// End the node of this device
///
/// Asks the node to end and waits until it has: it takes nothing new, finishes or safely parks what it has accepted,
/// writes everything down, says goodbye on the network. A transfer that is not finished in time continues where it
/// stopped when both sides are back.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Seconds to wait for running transfers [default: daemon.drain_s]
    #[arg(long, value_name = "SECONDS")]
    drain: Option<u64>,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let request = ShutdownRequest { drain_s: args.drain };
    let mut phases = app.client().stream::<_, ShutdownEvent>(routes::SHUTDOWN, &request).await?;
    let mut last = None;
    // The stream ends with the node; a cut after the last phase is the node's end, not a fault.
    while let Ok(Some(event)) = phases.next().await {
        if app.out.json {
            app.out.json(&event)?;
        } else if event.phase == Phase::Draining && event.transfers > 0 {
            app.out.note(&format!("waiting for {}", units::count(event.transfers as u64, "transfer")));
        }
        last = Some(event.phase);
    }
    if last < Some(Phase::Cleanup) {
        return Err(Failure::hint(
            ErrorCode::Internal,
            "the node ended before it had finished shutting down",
            "nothing it had accepted is lost; see why with: honeylink logs -n 20",
        ));
    }
    app.out.note("stopped");
    Ok(ExitCode::Ok)
}
