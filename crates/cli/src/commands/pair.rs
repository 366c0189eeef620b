//! `honeylink pair`: makes two devices trust each other.

use honeylink_api::client::{Client, Lines};
use honeylink_api::{ExitCode, PairAnswer, PairEvent, PairJoin, PairOpen, PairOutcome, Trust, routes};

use super::trust_word;
use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::input;
use crate::output::{qr, text, units};

const EXAMPLES: &str = "\
Examples:
  honeylink pair                        show a code and a QR, wait for the other device
  honeylink pair 7-amber-falcon         use the code the other device shows
  honeylink pair -                      the same, but ask for the code: nothing stays in the shell's history
  honeylink pair 7-amber-falcon --yes   no questions, for scripts

A code works once, for five minutes. After three wrong ones pairing is locked for ten minutes.";

/// Pair with another device, by code or QR
///
/// One device shows a code, the other one is given it; then both trust each other's key for good. With people at both
/// screens, compare the short string both show: that raises the trust from paired to verified, because then nobody can
/// have sat in the middle.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The code or the QR's text the other device shows; `-` asks for it. Without it, show one
    code: Option<String>,
    /// Ask nothing: pair by the code alone, do not compare the short string
    #[arg(long, short)]
    yes: bool,
    /// Do not draw the QR
    #[arg(long)]
    no_qr: bool,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let code = match &args.code {
        Some(code) => Some(input::code(app.out, code).await?),
        None => None,
    };
    // Comparing needs a person here; a script gets `paired`, which the code alone proves.
    let verify = !args.yes && !app.out.json && input::person();
    app.with_node(async |client| {
        let events = match &code {
            None => client.stream(routes::PAIR_OPEN, &PairOpen { verify }).await?,
            Some(code) => client.stream(routes::PAIR_JOIN, &PairJoin { code: code.clone(), verify }).await?,
        };
        ceremony(app, &args, client, events).await
    })
    .await
}

async fn ceremony(app: &App, args: &Args, client: &Client, mut events: Lines<PairEvent>) -> Outcome {
    while let Some(event) = events.next().await? {
        if app.out.json {
            app.out.json(&event)?;
        }
        match event {
            PairEvent::Outcome(outcome) => return finish(app, &outcome),
            PairEvent::Compare { .. } if app.out.json || args.yes => {}
            PairEvent::Compare { digits, emoji } => {
                let emoji: Vec<_> = emoji.iter().map(|e| format!("{} {}", e.symbol, e.name)).collect();
                app.out.warn(&format!(
                    "\n  {}\n  {}\n",
                    text::clean(&digits, 16),
                    text::clean(&emoji.join("   "), 120)
                ));
                let mut lines = input::lines();
                let same = input::yes(app.out, &mut lines, "Does the other screen show the same?").await;
                client.post::<_, serde_json::Value>(routes::PAIR_ANSWER, &PairAnswer { same }).await?;
            }
            _ if app.out.json => {}
            PairEvent::Open { code, qr, expires_s } => show_code(app, args, &code, &qr, expires_s)?,
            PairEvent::Searching => app.out.note("looking for the device that shows this code ..."),
            PairEvent::Connected { id, name } => {
                app.out.note(&format!("{} ({}) answers", text::name(&name), text::short(&id)));
            }
            PairEvent::WrongTry { left } => {
                app.out
                    .warn(&format!("somebody tried a wrong code; {} left", units::count(left.into(), "try")));
            }
        }
    }
    Err(Failure::internal("the node ended the pairing without an outcome"))
}

fn show_code(app: &App, args: &Args, code: &str, qr_text: &str, expires_s: u64) -> Result<(), Failure> {
    if !args.no_qr
        && let Some(lines) = qr::draw(qr_text, app.out.stdout_colour())
    {
        app.out.lines(&lines)?;
    }
    let span = units::span(std::time::Duration::from_secs(expires_s));
    app.out.line(&format!("On the other device: honeylink pair {code}      (works once, for {span})"))
}

fn finish(app: &App, outcome: &PairOutcome) -> Outcome {
    if outcome.ok {
        let name = text::name(outcome.name.as_deref().unwrap_or_default());
        let id = text::short(outcome.id.as_deref().unwrap_or_default());
        let trust = outcome.trust.unwrap_or(Trust::Paired);
        if !app.out.json {
            app.out.line(&format!("{} with {name} ({id}), {:.2} s", trust_word(trust), outcome.seconds))?;
        }
        return Ok(ExitCode::Ok);
    }
    let exit = outcome.error.as_ref().map_or(ExitCode::PairingFailed, |error| error.code.exit());
    if let Some(error) = &outcome.error {
        app.out.error(error);
    }
    Err(Failure::Reported(exit))
}
