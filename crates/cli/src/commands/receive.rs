//! `honeylink receive`: take files from devices, or fetch what a one-time code stands for.

use std::path::PathBuf;

use clap::ValueEnum;
use honeylink_api::client::{Client, Lines};
use honeylink_api::{
    AcceptPolicy, ErrorCode, ReceiveEvent, ReceiveRequest, Transfer, TransferAnswer, routes,
};
use tokio::sync::mpsc;

use crate::app::{App, Outcome, absolute};
use crate::failure::Failure;
use crate::input;
use crate::output::progress::Progress;
use crate::output::{text, units};

const EXAMPLES: &str = "\
Examples:
  honeylink receive                            wait for offers, ask about each
  honeylink receive --accept paired --once     take one transfer from a paired device, then end
  honeylink receive --accept all --into ~/in   take everything
  honeylink receive 7-amber-falcon             fetch what `honeylink send FILE` showed this code for
  honeylink receive -                          the same, but ask for the code";

/// Receive files and folders
///
/// Waits for offers until Ctrl-C, or fetches what a one-time code stands for. Files appear under their final names only
/// when they are complete and verified; an existing file is never overwritten. While this runs, its --accept and --into
/// stand in for the configured ones.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A one-time code; `-` asks for it. Without it, wait for offers
    code: Option<String>,
    /// Who decides about offers [default: transfer.accept]
    #[arg(long, value_enum, conflicts_with = "code")]
    accept: Option<Accept>,
    /// Folder to write into; made if missing [default: transfer.into]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// End after one transfer
    #[arg(long)]
    once: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Accept {
    /// You, each time
    Ask,
    /// Everything from paired devices that have the grant `files`
    Paired,
    /// Everything from anyone who can connect
    All,
    /// Nothing
    Never,
}

impl From<Accept> for AcceptPolicy {
    fn from(accept: Accept) -> Self {
        match accept {
            Accept::Ask => Self::Ask,
            Accept::Paired => Self::Paired,
            Accept::All => Self::All,
            Accept::Never => Self::Never,
        }
    }
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let asks = match args.accept {
        Some(accept) => accept == Accept::Ask,
        None => app.config()?.config.transfer.accept == "ask",
    };
    if args.code.is_none() && asks && !input::person() {
        return Err(Failure::hint(
            ErrorCode::BadRequest,
            "nobody is there to ask about offers",
            "say who decides: --accept paired, --accept all or --accept never",
        ));
    }
    let code = match &args.code {
        Some(code) => Some(input::code(app.out, code).await?),
        None => None,
    };
    let into = match &args.into {
        Some(folder) => Some(absolute(folder)?.into_os_string().into_string().map_err(|folder| {
            Failure::new(ErrorCode::BadRequest, format!("{} is not UTF-8", PathBuf::from(folder).display()))
        })?),
        None => None,
    };
    let once = args.once || code.is_some();
    let request = ReceiveRequest { code, into, accept: args.accept.map(Into::into) };
    app.with_node(async |client| {
        let events = client.stream(routes::RECEIVE, &request).await?;
        follow(app, client, events, once).await
    })
    .await
}

async fn follow(app: &App, client: &Client, mut events: Lines<ReceiveEvent>, once: bool) -> Outcome {
    let mut progress = Progress::new(app.out);
    // Started with the first question only: reading stdin earlier would swallow what is meant for another command.
    let mut answers: Option<mpsc::Receiver<String>> = None;
    while let Some(event) = events.next().await? {
        if app.out.json {
            app.out.json(&event)?;
        }
        match event {
            ReceiveEvent::Ready { into } => {
                app.out.note(&format!("receiving into {}", text::clean(&into, 1_000)));
            }
            ReceiveEvent::Asked(transfer) => {
                let answers = answers.get_or_insert_with(input::lines);
                let accept = input::yes(app.out, answers, &question(&transfer)).await;
                let path = routes::below(routes::TRANSFERS, &[&transfer.id, "answer"]);
                client.post::<_, serde_json::Value>(&path, &TransferAnswer { accept }).await?;
            }
            ReceiveEvent::Progress(transfer) => progress.show(&transfer),
            ReceiveEvent::Outcome(outcome) => {
                progress.clear();
                let ended = super::send::finish(app, &outcome);
                if once {
                    return ended;
                }
                // One transfer that went wrong has been reported; the next sender is served all the same.
                progress = Progress::new(app.out);
            }
        }
    }
    Err(Failure::internal("the node stopped receiving"))
}

fn question(transfer: &Transfer) -> String {
    let who = text::name(transfer.peer_name.as_deref().unwrap_or("someone"));
    let names: Vec<String> = transfer.names.iter().map(|name| text::clean(name, 60)).collect();
    format!(
        "{who} offers {} ({}): {}. Take it?",
        units::count(transfer.files, "file"),
        units::bytes(transfer.total_bytes),
        names.join(", ")
    )
}
