//! `honeylink transfers`: what is on its way.

use honeylink_api::client::Client;
use honeylink_api::{Direction, ErrorCode, ExitCode, Transfer, TransferAnswer, TransferState, routes};

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::output::progress::describe;
use crate::output::table::Table;
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  honeylink transfers
  honeylink transfers --accept 3f9a    take what is offered
  honeylink transfers --cancel 3f9a    give it up and delete its partial files";

/// List transfers, running and interrupted
///
/// Lists what waits for an answer here, what is being sent and received, and what stopped half-way and can continue. An
/// id may be shortened as long as it is unambiguous.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Give up a transfer and delete its partial files
    #[arg(long, value_name = "ID")]
    cancel: Option<String>,
    /// Take what is offered
    #[arg(long, value_name = "ID", conflicts_with = "cancel")]
    accept: Option<String>,
    /// Refuse what is offered
    #[arg(long, value_name = "ID", conflicts_with_all = ["cancel", "accept"])]
    decline: Option<String>,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    app.with_node(async |client| match (&args.cancel, &args.accept, &args.decline) {
        (Some(id), _, _) => {
            let id = meant(client, id).await?;
            client.delete::<serde_json::Value>(&routes::below(routes::TRANSFERS, &[&id])).await?;
            app.out.note("cancelled");
            Ok(ExitCode::Ok)
        }
        (None, Some(id), _) => answer(app, client, id, true).await,
        (None, None, Some(id)) => answer(app, client, id, false).await,
        (None, None, None) => list(app, client).await,
    })
    .await
}

async fn answer(app: &App, client: &Client, id: &str, accept: bool) -> Outcome {
    let path = routes::below(routes::TRANSFERS, &[&meant(client, id).await?, "answer"]);
    client.post::<_, serde_json::Value>(&path, &TransferAnswer { accept }).await?;
    app.out.note(if accept { "accepted" } else { "declined" });
    Ok(ExitCode::Ok)
}

/// The whole id of the transfer that `start` begins.
async fn meant(client: &Client, start: &str) -> Result<String, Failure> {
    let transfers: Vec<Transfer> = client.get(routes::TRANSFERS).await?;
    let mut fitting = transfers.iter().filter(|transfer| !start.is_empty() && transfer.id.starts_with(start));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.id.clone()),
        (Some(_), Some(_)) => Err(Failure::hint(
            ErrorCode::Ambiguous,
            format!("several transfers begin with `{start}`"),
            "use more digits; honeylink transfers lists them",
        )),
        (None, _) => Err(Failure::hint(
            ErrorCode::NotFound,
            format!("no transfer begins with `{start}`"),
            "honeylink transfers lists them",
        )),
    }
}

async fn list(app: &App, client: &Client) -> Outcome {
    let transfers: Vec<Transfer> = client.get(routes::TRANSFERS).await?;
    if app.out.json {
        app.out.json(&transfers)?;
        return Ok(ExitCode::Ok);
    }
    if transfers.is_empty() {
        app.out.note("no transfers");
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["ID", "WAY", "WITH", "WHAT"]);
    for transfer in &transfers {
        let way = match transfer.direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        table.row(vec![
            text::clean(&transfer.id, 32),
            way.to_owned(),
            text::name(transfer.peer_name.as_deref().unwrap_or("-")),
            describe(transfer),
        ]);
    }
    app.out.lines(&table.lines())?;
    let asks = |t: &&Transfer| t.direction == Direction::In && t.state == TransferState::Waiting;
    if let Some(waiting) = transfers.iter().find(asks) {
        let id = waiting.id.get(..8).unwrap_or(&waiting.id);
        app.out.note(&format!(
            "take it with: honeylink transfers --accept {id}   refuse it with: --decline {id}"
        ));
    }
    Ok(ExitCode::Ok)
}
