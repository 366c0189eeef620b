//! `honeylink pair`: makes two devices trust each other.

use honeylink_api::client::{Client, Lines};
use honeylink_api::{
    ExitCode, PairAnswer, PairEvent, PairJoin, PairOpen, PairOutcome, SasEmoji, Trust, routes,
};

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
  honeylink pair studio                 no code: compare what both screens show (`honeylink pair` there first)
  honeylink pair --verify               have both people compare a short string as well

A code works once, for five minutes. After three wrong ones pairing is locked for ten minutes.";

/// Pair with another device, by code or QR
///
/// One device shows a code, the other one is given it; then both trust each other's key for good. With --verify on
/// either side, both also show a short string for two people to compare, which raises the trust from paired to verified.
/// A device can be named instead of typing its code: then the comparison is all there is, and nobody can skip it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The code or the QR's text the other device shows, or its name; `-` asks for it. Without it, show a code
    code: Option<String>,
    /// Ask nothing: pair by the code alone
    #[arg(long, short)]
    yes: bool,
    /// Have both people compare a short string as well
    #[arg(long, conflicts_with = "yes")]
    verify: bool,
    /// Do not draw the QR
    #[arg(long)]
    no_qr: bool,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let code = match &args.code {
        Some(code) => Some(input::code(app.out, code).await?),
        None => None,
    };
    app.with_node(async |client| {
        let events = match &code {
            None => client.stream(routes::PAIR_OPEN, &PairOpen { verify: args.verify }).await?,
            Some(code) => {
                let join = PairJoin { code: code.clone(), verify: args.verify };
                client.stream(routes::PAIR_JOIN, &join).await?
            }
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
            PairEvent::Compare { digits, emoji } => {
                if args.yes {
                    app.out
                        .warn("two people have to compare what both screens show: not possible with --yes");
                }
                let same = if args.yes { None } else { compare(app, &digits, &emoji).await };
                client.post::<_, serde_json::Value>(routes::PAIR_ANSWER, &PairAnswer { same }).await?;
            }
            _ if app.out.json => {}
            PairEvent::Open { code, qr, expires_s } => show_code(app, args, &code, &qr, expires_s)?,
            PairEvent::Searching => app.out.note("looking for the other device ..."),
            PairEvent::Connected { id, name } => {
                app.out.note(&format!("{} ({}) answers", text::name(&name), text::short(&id)));
            }
            PairEvent::Failed { reason } => {
                app.out.warn(&format!("an attempt failed: {}", text::paragraph(&reason)));
            }
        }
    }
    Err(Failure::internal("the node ended the pairing without an outcome"))
}

/// Asks whether the other screen shows the same. A script reads the event and answers on stdin; at the end of stdin
/// nobody is there to tell.
async fn compare(app: &App, digits: &str, emoji: &[SasEmoji]) -> Option<bool> {
    let emoji: Vec<_> = emoji.iter().map(|e| format!("{} {}", e.symbol, e.name)).collect();
    app.out.warn(&format!("\n  {}\n  {}\n", text::clean(digits, 16), text::clean(&emoji.join("   "), 120)));
    app.out.ask("Does the other screen show the same? [y/n]");
    let answer = input::lines().recv().await?;
    Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
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
