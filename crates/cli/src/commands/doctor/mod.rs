//! `honeylink doctor`: why devices are not found or not reached, and the command that helps.
//!
//! | file | what it is |
//! |---|---|
//! | `back` | whether paired devices get through to this one, and what their clocks say |
//! | `facts` | what this machine and its node tell: asked, tried, read |
//! | `firewall` | which packet filter is here, what it lets in, and how it is told to |
//! | `judge` | what follows from the facts; nothing is asked there |
//! | `peer` | the same about one paired device |

mod back;
mod facts;
mod firewall;
mod judge;
mod peer;

use honeylink_api::{ErrorCode, ExitCode};
use serde::Serialize;

use self::facts::Facts;
use self::judge::{Check, Finding};
use crate::app::{App, Outcome};
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  honeylink doctor
  honeylink doctor studio                                   why it is not reached, and whether it gets in
  honeylink doctor --json | jq -r '.checks[] | select(.fix) | .fix'
  sudo honeylink --home ~/.local/share/honeylink doctor     also reads the rules of nftables";

/// Find out why devices are not found or not reached
///
/// Looks at the node, the clock, the networks, the packet filter and the devices that were here before, and says for each what is
/// wrong and which command puts it right. Asks the device that is named, or else paired ones that are around, to try the way back
/// and what time it is there. Sends a few small packets on the local networks, and to those devices, and nothing else. Ends with
/// exit code 0 if nothing is wrong, and 9 otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A paired device to connect to as well: name, id or unambiguous id prefix
    peer: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    checks: &'a [Check],
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let resolved = app.config()?;
    let facts = Facts::gather(&app.client(), &resolved.config, args.peer.as_deref()).await;
    let checks = judge::all(&facts);
    let ok = checks.iter().all(|check| check.finding != Finding::Fault);
    if app.out.json {
        app.out.json(&Report { ok, checks: &checks })?;
    } else {
        for check in &checks {
            app.out.line(&format!("{:<8} {:<10} {}", check.finding.word(), check.name, check.detail))?;
            if let Some(fix) = &check.fix {
                app.out.line(&format!("{:<19} {fix}", ""))?;
            }
        }
    }
    if ok { Ok(ExitCode::Ok) } else { Err(Failure::Reported(ErrorCode::Partial.exit())) }
}
