//! `honeylink devices`: the devices this one knows, and what they may do.

use clap::Subcommand;
use honeylink_api::client::Client;
use honeylink_api::{ErrorCode, ExitCode, Grant, GrantsChange, Peer, PeerChange, routes};
use serde_json::json;

use super::{describe_path, trust_word};
use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::input;
use crate::output::table::Table;
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  honeylink devices                       list them
  honeylink devices show studio           all about one, with its fingerprint
  honeylink devices rename 3f2a studio    any unambiguous name, id or id prefix works
  honeylink devices grant studio files=auto pipe=yes    let it send files unasked, and pipe
  honeylink devices forget studio         it must pair again
  honeylink devices revoke studio         never again, even with a code";

/// List and manage the devices this one knows
///
/// A device becomes known by pairing. It may then do what its grants say: files, chat, pipe, clipboard and so on. To
/// forget a device makes it a stranger; to revoke it bars its key for ever.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List known devices (the default)
    List,
    /// Show all about one device
    Show {
        /// Name, id or unambiguous id prefix
        peer: String,
    },
    /// Give a device another name, here
    Rename {
        /// Name, id or unambiguous id prefix
        peer: String,
        /// The new name
        name: String,
    },
    /// Forget a device; it must pair again
    Forget {
        /// Name, id or unambiguous id prefix
        peer: String,
    },
    /// Bar a device for ever
    Revoke {
        /// Name, id or unambiguous id prefix
        peer: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Allow a device something, or take it back
    Grant {
        /// Name, id or unambiguous id prefix
        peer: String,
        /// Rights to change: files=no|ask|auto, and chat, pipe, clipboard, relay or tunnel:NAME =yes|no
        #[arg(required = true, value_name = "RIGHT=VALUE")]
        grants: Vec<String>,
    },
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    app.with_node(async |client| match args.action.unwrap_or(Action::List) {
        Action::List => list(app, client).await,
        Action::Show { peer } => show(app, &client.get(&at(&peer, &[])).await?),
        Action::Rename { peer, name } => {
            let change = PeerChange { name: Some(name), notes: None };
            changed(app, &client.patch(&at(&peer, &[]), &change).await?, "renamed")
        }
        Action::Forget { peer } => changed(app, &client.delete(&at(&peer, &[])).await?, "forgotten"),
        Action::Revoke { peer, yes } => revoke(app, client, &peer, yes).await,
        Action::Grant { peer, grants } => {
            let change = GrantsChange { changes: grants.into_iter().map(Grant).collect() };
            changed(app, &client.post(&at(&peer, &["grants"]), &change).await?, "changed")
        }
    })
    .await
}

fn at(peer: &str, rest: &[&str]) -> String {
    routes::below(&routes::below(routes::DEVICES, &[peer]), rest)
}

async fn list(app: &App, client: &Client) -> Outcome {
    let peers: Vec<Peer> = client.get(routes::DEVICES).await?;
    if app.out.json {
        app.out.json(&peers)?;
        return Ok(ExitCode::Ok);
    }
    if peers.is_empty() {
        app.out.note("no device is known yet; pair with one: honeylink pair");
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["NAME", "TYPE", "TRUST", "ID", "NEARBY", "GRANTS"]);
    for peer in &peers {
        table.row(vec![
            text::name(&peer.name),
            text::clean(&peer.device_type, 16),
            trust_word(peer.trust).to_owned(),
            text::short(&peer.id),
            if peer.nearby { "yes" } else { "no" }.to_owned(),
            grants(peer),
        ]);
    }
    app.out.lines(&table.lines())?;
    Ok(ExitCode::Ok)
}

fn grants(peer: &Peer) -> String {
    let words: Vec<&str> = peer.grants.iter().map(|grant| grant.0.as_str()).collect();
    text::clean(&words.join(","), 200)
}

fn show(app: &App, peer: &Peer) -> Outcome {
    if app.out.json {
        app.out.json(peer)?;
        return Ok(ExitCode::Ok);
    }
    let method = peer.method.as_deref().map(|m| format!(" by {}", text::clean(m, 20))).unwrap_or_default();
    let mut lines = vec![
        format!("{} ({})", text::name(&peer.name), text::clean(&peer.device_type, 16)),
        format!("id           {}", peer.id),
        format!("fingerprint  {}", peer.fingerprint),
        format!("trust        {}{method}", trust_word(peer.trust)),
        format!("grants       {}", grants(peer)),
        format!("nearby       {}", if peer.nearby { "yes" } else { "no" }),
        format!("path         {}", describe_path(peer.path.as_ref())),
    ];
    if !peer.notes.is_empty() {
        lines.push(format!("notes        {}", text::clean(&peer.notes, 400)));
    }
    app.out.lines(&lines)?;
    Ok(ExitCode::Ok)
}

fn changed(app: &App, peer: &Peer, what: &str) -> Outcome {
    if app.out.json {
        app.out.json(peer)?;
    } else {
        app.out.note(&format!("{} ({}): {what}", text::name(&peer.name), text::short(&peer.id)));
    }
    Ok(ExitCode::Ok)
}

async fn revoke(app: &App, client: &Client, peer: &str, yes: bool) -> Outcome {
    let known: Peer = client.get(&at(peer, &[])).await?;
    if !yes {
        if !input::person() {
            return Err(Failure::hint(
                ErrorCode::BadRequest,
                "revoking cannot be undone, and nobody is there to ask",
                "say --yes if you mean it",
            ));
        }
        let question = format!("Bar {} ({}) for ever?", text::name(&known.name), text::short(&known.id));
        if !input::yes(app.out, &mut input::lines(), &question).await {
            return Err(Failure::Reported(ExitCode::Interrupted));
        }
    }
    changed(app, &client.post(&at(&known.id, &["revoke"]), &json!({})).await?, "revoked")
}
