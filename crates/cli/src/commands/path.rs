//! `honeylink path`: which way bytes go to a device, and why.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use honeylink_api::{ErrorCode, ExitCode, PathChange, PathInfo, PathReport, routes};

use super::{describe_path, describe_streams};
use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::output::{text, units};

const EXAMPLES: &str = "\
Examples:
  honeylink path studio             the way now, the other ways, and what changed
  honeylink path studio --history   every change since the daemon started
  honeylink path studio --watch     print each change as it happens";

/// Changes shown unless all are asked for.
const LATEST: usize = 5;

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
    /// Show every change that is remembered, not only the latest
    #[arg(long, conflicts_with = "watch")]
    history: bool,
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
                    app.out.line(&describe_change(&change))?;
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
            for line in report.streams.iter().flat_map(describe_streams) {
                app.out.line(&format!("  streams  {line}"))?;
            }
            let skipped = if args.history { 0 } else { report.history.len().saturating_sub(LATEST) };
            for change in report.history.iter().skip(skipped) {
                app.out.line(&format!("  {}", describe_change(change)))?;
            }
            if skipped > 0 {
                app.out.line(&format!("  and {skipped} earlier changes: --history shows them"))?;
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

/// One line: when, what happened, from where to where, at what price.
fn describe_change(change: &PathChange) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago = units::span(now.saturating_sub(Duration::from_millis(change.at_unix_ms)));
    let short = |path: &PathInfo| {
        let rtt = path.rtt_ms.map(|ms| format!(" {}", units::millis(ms))).unwrap_or_default();
        format!("{} {}{rtt}", path.rung.as_str(), text::clean(&path.address, 80))
    };
    let what = match (&change.before, &change.path) {
        (Some(before), Some(now)) => format!("{} -> {}", short(before), short(now)),
        (None, Some(now)) => describe_path(Some(now)),
        (Some(before), None) => format!("{} -> no link", short(before)),
        (None, None) => "no link".to_owned(),
    };
    let gap = if change.gap_ms > 0 {
        format!(" after {} without", units::millis(change.gap_ms as f64))
    } else {
        String::new()
    };
    let cause = if change.cause.is_empty() { "now" } else { &change.cause };
    format!("{:<11}  {what}{gap}, {ago} ago", text::clean(cause, 20))
}
