//! `honeylink transfers`: what is on its way.

use honeylink_api::client::Client;
use honeylink_api::{Direction, ExitCode, Transfer, routes};

use crate::app::{App, Outcome};
use crate::output::progress::describe;
use crate::output::table::Table;
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  honeylink transfers
  honeylink transfers --cancel t12     give it up and delete its partial files";

/// List transfers, running and interrupted
///
/// Lists what is being sent and received, and what stopped half-way and can continue.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Give up a transfer and delete its partial files
    #[arg(long, value_name = "ID")]
    cancel: Option<String>,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    app.with_node(async |client| match &args.cancel {
        Some(id) => {
            client.delete::<serde_json::Value>(&routes::below(routes::TRANSFERS, &[id])).await?;
            app.out.note("cancelled");
            Ok(ExitCode::Ok)
        }
        None => list(app, client).await,
    })
    .await
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
    Ok(ExitCode::Ok)
}
