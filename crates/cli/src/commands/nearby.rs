//! `honeylink nearby`: who is around.

use honeylink_api::client::Client;
use honeylink_api::{ExitCode, NearbyDevice, NearbyEvent, routes};

use super::{describe_path, trust_word};
use crate::app::{App, Outcome};
use crate::output::table::Table;
use crate::output::text;

const EXAMPLES: &str = "\
Examples:
  honeylink nearby
  honeylink nearby --watch
  honeylink nearby --json | jq -r '.[] | select(.trust==\"paired\") | .name'";

/// List the devices around
///
/// Lists devices that announce themselves on the networks this one is connected to, whether or not they are paired. A
/// name alone proves nothing: TRUST says whether the device's key is one you have paired with.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Keep printing who comes, changes and goes, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
    /// Look around for at least so many seconds since the node started
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = wait, conflicts_with = "watch")]
    wait: f64,
}

/// A node waits no longer than a minute before it answers.
fn wait(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=60.0).contains(&seconds) => Ok(seconds),
        Ok(_) | Err(_) => Err("must be a number of seconds from 0 to 60".to_owned()),
    }
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    app.with_node(
        async |client| if args.watch { watch(app, client).await } else { list(app, client, args.wait).await },
    )
    .await
}

async fn list(app: &App, client: &Client, wait_s: f64) -> Outcome {
    let wait_ms = std::time::Duration::try_from_secs_f64(wait_s).unwrap_or_default().as_millis();
    let path = routes::with_query(routes::NEARBY, "wait_ms", &wait_ms.to_string());
    let devices: Vec<NearbyDevice> = client.get(&path).await?;
    if app.out.json {
        app.out.json(&devices)?;
        return Ok(ExitCode::Ok);
    }
    if devices.is_empty() {
        app.out.note("nobody is around (or their network does not pass multicast on)");
        return Ok(ExitCode::Ok);
    }
    let mut table = Table::new(&["NAME", "TYPE", "TRUST", "ID", "SEEN BY", "PATH"]);
    for device in &devices {
        table.row(vec![
            text::name(&device.name),
            text::clean(&device.device_type, 16),
            trust_word(device.trust).to_owned(),
            text::short(&device.id),
            text::clean(&device.seen_by.join(","), 40),
            device.path.as_ref().map_or_else(|| "-".to_owned(), |path| describe_path(Some(path))),
        ]);
    }
    app.out.lines(&table.lines())?;
    Ok(ExitCode::Ok)
}

async fn watch(app: &App, client: &Client) -> Outcome {
    let mut events = client.watch::<NearbyEvent>(routes::NEARBY_WATCH).await?;
    while let Some(event) = events.next().await? {
        if app.out.json {
            app.out.json(&event)?;
            continue;
        }
        if let NearbyEvent::Conflict { name, fingerprint, known_fingerprint, .. } = &event {
            app.out.warn(&format!(
                "WARNING: a device calls itself {} but its key is not the one you paired with\n  paired:  \
                 {known_fingerprint}\n  this:    {fingerprint}\nIt is not trusted. Do not pair with it unless you \
                 know why the key changed.",
                text::name(name)
            ));
            continue;
        }
        let line = match &event {
            NearbyEvent::Found(device) => format!("+ {}", describe(device)),
            NearbyEvent::Changed(device) => format!("~ {}", describe(device)),
            NearbyEvent::Conflict { .. } => continue,
            NearbyEvent::Lost { id, name } => format!("- {}  {}", text::name(name), text::short(id)),
        };
        app.out.line(&line)?;
    }
    Ok(ExitCode::Ok)
}

fn describe(device: &NearbyDevice) -> String {
    format!(
        "{}  {}  {}  {}  {}",
        text::name(&device.name),
        text::short(&device.id),
        text::clean(&device.device_type, 16),
        trust_word(device.trust),
        text::clean(&device.addresses.join(" "), 200)
    )
}
