//! `honeylink status`: what the running node says about itself.

use std::time::Duration;

use honeylink_api::{ExitCode, Mode, Phase, Status, SubsystemState, routes};

use crate::app::{App, Outcome};
use crate::output::{text, units};

const EXAMPLES: &str = "\
Examples:
  honeylink status
  honeylink status --json | jq -r .id
  honeylink status -q && echo running      exit code 3 if nothing runs";

/// Show the running node: name, id, addresses, health
///
/// Shows what the node of this home says about itself. Never starts one: if none runs, that is the answer, with exit
/// code 3.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

pub(crate) async fn run(app: &App, _: Args) -> Outcome {
    let status: Status = app.client().get(routes::STATUS).await?;
    if app.out.json {
        app.out.json(&status)?;
    } else if !app.out.quiet() {
        for line in describe(&status) {
            app.out.line(&line)?;
        }
    }
    Ok(ExitCode::Ok)
}

pub(super) fn describe(status: &Status) -> Vec<String> {
    let mode = match status.mode {
        Mode::Daemon => "daemon",
        Mode::Command => "for one command",
    };
    let phase = match status.phase {
        Phase::Running => "running",
        Phase::Draining => "draining",
        Phase::Persisting => "persisting",
        Phase::Cleanup => "cleaning up",
        Phase::Complete => "stopped",
    };
    let up = units::span(Duration::from_secs(status.uptime_s));
    let mut lines = vec![
        format!(
            "{} ({}), {phase} {mode}, process {}, up {up}",
            text::name(&status.name),
            status.device_type,
            status.pid
        ),
        format!("id       {}", status.id),
        format!("version  {}", status.version),
        format!("listen   {} (reach: {})", status.listen.join(", "), status.reach),
        format!(
            "devices  {} paired, {} nearby; {} running",
            status.peers,
            status.nearby,
            units::count(status.transfers as u64, "transfer")
        ),
        format!("home     {}", status.home),
    ];
    for part in status.subsystems.iter().filter(|part| part.state != SubsystemState::Healthy) {
        let state = match part.state {
            SubsystemState::Healthy => "healthy",
            SubsystemState::Degraded => "degraded",
            SubsystemState::Draining => "draining",
            SubsystemState::Unhealthy => "unhealthy",
        };
        lines.push(format!("{state}: {} {}", part.name, part.detail.as_deref().unwrap_or_default()));
    }
    lines
}
