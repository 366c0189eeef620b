//! `honeylink path`: which way bytes go to a device, and why.

use honeylink_api::{ErrorCode, ExitCode, PathChange, PathReport, routes};

use super::describe_path;
use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  honeylink path studio             the way now, the other ways, and what changed
  honeylink path studio --watch     print each change";

/// Show which way bytes go to a device, and why
///
/// Shows the rung of the ladder (direct on the LAN, punched through NATs, relayed, mesh), the carrier, the address, the
/// round-trip time and the reason. Connects first if there is no link.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The device: name, id or unambiguous id prefix
    peer: String,
    /// Keep printing changes until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    app.with_node(async |client| {
        let at = routes::below(routes::DEVICES, &[&args.peer, "path"]);
        if args.watch {
            let mut changes = client.watch::<PathChange>(&routes::below(&at, &["watch"])).await?;
            while let Some(change) = changes.next().await? {
                if app.out.json {
                    app.out.json(&change)?;
                } else {
                    app.out.line(&describe_path(change.path.as_ref()))?;
                }
            }
            return Ok(ExitCode::Ok);
        }
        let report: PathReport = client.get(&at).await?;
        if app.out.json {
            app.out.json(&report)?;
        } else {
            app.out.line(&format!(
                "{}: {}",
                text::name(&report.name),
                describe_path(report.path.as_ref())
            ))?;
            for other in &report.others {
                app.out.line(&format!("  also     {}", describe_path(Some(other))))?;
            }
            for change in &report.history {
                app.out.line(&format!("  changed  {}", describe_path(change.path.as_ref())))?;
            }
        }
        match report.path {
            Some(_) => Ok(ExitCode::Ok),
            None if app.out.json => Err(Failure::Reported(ErrorCode::Unreachable.exit())),
            None => Err(Failure::new(ErrorCode::Unreachable, format!("no way to {} works now", args.peer))),
        }
    })
    .await
}
