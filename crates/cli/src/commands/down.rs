//! `honeylink down`: ends the node and waits until it has.

use std::time::Duration;

use honeylink_api::{ErrorCode, ExitCode, Phase, ShutdownEvent, ShutdownRequest, routes};

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::output::units;

const EXAMPLES: &str = "\
Examples:
  honeylink down
  honeylink down --drain 300    give running transfers five minutes
  honeylink down --drain 0      end now; transfers resume next time";

/// How long the process of a node that has finished may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(15);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

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
    released(app).await?;
    app.out.note("stopped");
    Ok(ExitCode::Ok)
}

/// Waits until the home is free for the next node: a process outlives its last word by a moment.
async fn released(app: &App) -> Result<(), Failure> {
    let free = async {
        while app.home.is_in_use() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(GONE_MAX, free).await.map_err(|_| {
        Failure::hint(
            ErrorCode::Timeout,
            "the node has finished, but its process is still there",
            "nothing it had accepted is lost; see why with: honeylink logs -n 20",
        )
    })
}
