//! `honeylink send`: files and folders to a device, or to whoever has the code.

use std::path::PathBuf;

use honeylink_api::client::{ClientError, Lines};
use honeylink_api::{ErrorCode, ExitCode, SendRequest, TransferEvent, TransferOutcome, routes};

use super::describe_path;
use crate::app::{App, Outcome, absolute};
use crate::failure::Failure;
use crate::output::progress::Progress;
use crate::output::{qr, text, units};

const EXAMPLES: &str = "\
Examples:
  honeylink send photo.jpg --to studio          to a paired device
  honeylink send ~/holiday notes.txt --to 3f2a  folders too; names and id prefixes work
  honeylink send film.mkv --to tv --policy media-8k
                                                ahead of other files, at a guaranteed rate
  honeylink send big.iso                        no pairing: shows a one-time code; on the other machine
                                                of the same network: honeylink receive CODE

If a transfer stops half-way (exit code 75 or 130), the same command continues it.";

/// Send files and folders
///
/// Sends to a paired device, or, without --to, to whoever is given the one-time code it shows. The receiver's copy gets
/// its final name only when every byte has arrived and its BLAKE3 hash is right.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to send
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The device: name, id or unambiguous id prefix
    #[arg(long, value_name = "PEER")]
    to: Option<String>,
    /// Send by this policy, which the other device must acknowledge; `honeylink policy list` shows them
    #[arg(long, value_name = "NAME", requires = "to")]
    policy: Option<String>,
    /// Do not draw the QR
    #[arg(long)]
    no_qr: bool,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let mut paths = Vec::with_capacity(args.paths.len());
    for path in &args.paths {
        std::fs::symlink_metadata(path).map_err(|e| Failure::file("send", path, &e))?;
        let path = absolute(path)?;
        paths.push(path.into_os_string().into_string().map_err(|path| {
            Failure::new(ErrorCode::BadRequest, format!("{} is not UTF-8", PathBuf::from(path).display()))
        })?);
    }
    let request = SendRequest { paths, to: args.to.clone(), policy: args.policy.clone() };
    app.with_node(async |client| follow(app, &args, client.stream(routes::SEND, &request).await?).await).await
}

async fn follow(app: &App, args: &Args, mut events: Lines<TransferEvent>) -> Outcome {
    let mut progress = Progress::new(app.out);
    while let Some(event) = events.next().await.map_err(interrupted)? {
        if app.out.json {
            app.out.json(&event)?;
        }
        match event {
            TransferEvent::Offer { code, qr, expires_s } if !app.out.json => {
                if !args.no_qr
                    && let Some(lines) = qr::draw(&qr, app.out.stdout_colour())
                {
                    app.out.lines(&lines)?;
                }
                let span = units::span(std::time::Duration::from_secs(expires_s));
                app.out.line(&format!(
                    "On the other machine: honeylink receive {code}      (works once, for {span})"
                ))?;
            }
            TransferEvent::Offer { .. } => {}
            TransferEvent::Progress(transfer) => progress.show(&transfer),
            TransferEvent::Outcome(outcome) => {
                progress.clear();
                return finish(app, &outcome);
            }
        }
    }
    Err(Failure::internal("the node ended the transfer without an outcome"))
}

/// A node that dies in the middle leaves a transfer that the next one continues. That is what a script has to know here,
/// rather than that no node runs.
fn interrupted(error: ClientError) -> Failure {
    if matches!(error, ClientError::Cut) {
        return Failure::hint(
            ErrorCode::Resumable,
            "the node ended in the middle of the transfer",
            "start it with: honeylink up; then the same command continues where this stopped",
        );
    }
    error.into()
}

/// Says how a transfer ended. With `--json` it has been printed already.
pub(super) fn finish(app: &App, outcome: &TransferOutcome) -> Outcome {
    if !outcome.ok {
        if let Some(error) = &outcome.error {
            app.out.error(error);
        }
        return Err(Failure::Reported(outcome.error.as_ref().map_or(ExitCode::Failed, |e| e.code.exit())));
    }
    if app.out.json {
        return Ok(ExitCode::Ok);
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate shown with three digits"
    )]
    let rate = if outcome.seconds > 0.0 { (outcome.bytes as f64 / outcome.seconds) as u64 } else { 0 };
    let resumed = match outcome.resumed_bytes {
        0 => String::new(),
        n => format!(", {} of it from before", units::bytes(n)),
    };
    app.out.line(&format!(
        "done: {} in {:.2} s ({}){resumed}",
        units::bytes(outcome.bytes),
        outcome.seconds,
        units::rate(rate)
    ))?;
    if let Some(hash) = &outcome.blake3 {
        app.out.line(&format!("blake3 {}", text::clean(hash, 64)))?;
    }
    app.out.line(&format!("path   {}", describe_path(outcome.path.as_ref())))?;
    if let Some(policy) = &outcome.policy {
        app.out.line(&format!("policy {}", text::clean(policy, 63)))?;
    }
    for note in &outcome.notes {
        app.out.note(&text::clean(note, 1_000));
    }
    for saved in &outcome.saved {
        app.out.line(&format!("saved  {}", text::clean(saved, 1_000)))?;
    }
    Ok(ExitCode::Ok)
}
