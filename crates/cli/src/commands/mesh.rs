//! `honeylink mesh`: who is in reach, which ways lead where, what the radios may still send. The same inside `chat`, as
//! `/mesh ...`.

use std::time::Duration;

use honeylink_api::client::Client;
use honeylink_api::{
    ExitCode, MeshAnnounced, MeshDevice, MeshKept, MeshNeighbour, MeshRadio, MeshRoute, MeshStats, MeshTrace,
    MeshWay, RadioState, routes,
};
use serde::Serialize;
use serde_json::Value;

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::output::table::Table;
use crate::output::{text, units};

const EXAMPLES: &str = "\
Examples:
  honeylink mesh stats                neighbours, messages, frames, what was dropped and why
  honeylink mesh routes               every device a way leads to
  honeylink mesh trace studio         the ways to one device
  honeylink mesh devices              who announced itself, and what it offers
  honeylink mesh radios               each modem, and the airtime that is left
  honeylink mesh announce             say now that this device is there
  honeylink mesh routes --json | jq -r '.[] | select(.way.hops > 1) | .name'";

/// Show the mesh: neighbours, ways, airtime
///
/// Shows what the running node knows of the mesh, over which messages reach devices that no link reaches. Never starts a
/// node: a mesh lives from nodes that stay, so if none runs, that is the answer, with exit code 3.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

/// What to show or do.
#[derive(Debug, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum Action {
    /// Neighbours, ports, messages and frames in numbers
    Stats,
    /// Every device to which a way is known, with its best way
    Routes,
    /// The ways to one device, the best first
    Trace {
        /// The device: name, id or unambiguous id prefix
        #[arg(value_name = "PEER")]
        peer: String,
    },
    /// Devices that announced themselves lately, paired or not
    Devices,
    /// Each radio: its modem, its channel, the airtime used and left
    Radios,
    /// Announce this device now
    Announce,
}

/// What is asked for, as JSON and in words.
pub(super) struct Shown {
    json: Value,
    pub(super) lines: Vec<String>,
}

impl Shown {
    fn new(value: &impl Serialize, lines: Vec<String>) -> Result<Self, Failure> {
        Ok(Self { json: serde_json::to_value(value).map_err(Failure::internal)?, lines })
    }
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    app.config()?;
    let shown = args.action.ask(&app.client()).await?;
    if app.out.json {
        app.out.json(&shown.json)?;
    } else {
        app.out.lines(&shown.lines)?;
    }
    Ok(ExitCode::Ok)
}

impl Action {
    /// Words of this verb, for the help inside `chat`.
    pub(super) const WORDS: &'static str = "stats, routes, trace [DEVICE], devices, radios or announce";

    /// What somebody typed after `/mesh` while talking to `peer`; `None` if it is nothing of the kind.
    pub(super) fn typed(words: &str, peer: &str) -> Option<Self> {
        let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
        let action = match word {
            "" | "stats" => Self::Stats,
            "routes" => Self::Routes,
            "trace" => {
                let whom = rest.trim();
                return Some(Self::Trace { peer: if whom.is_empty() { peer } else { whom }.to_owned() });
            }
            "devices" => Self::Devices,
            "radios" => Self::Radios,
            "announce" => Self::Announce,
            _ => return None,
        };
        rest.trim().is_empty().then_some(action)
    }

    /// Asks the node.
    pub(super) async fn ask(&self, client: &Client) -> Result<Shown, Failure> {
        match self {
            Self::Stats => {
                let stats: MeshStats = client.get(routes::MESH_STATS).await?;
                Shown::new(&stats, describe_stats(&stats))
            }
            Self::Routes => {
                let all: Vec<MeshRoute> = client.get(routes::MESH_ROUTES).await?;
                Shown::new(&all, describe_routes(&all))
            }
            Self::Trace { peer } => {
                let trace: MeshTrace = client.get(&routes::below(routes::MESH_TRACE, &[peer])).await?;
                Shown::new(&trace, describe_trace(&trace))
            }
            Self::Devices => {
                let heard: Vec<MeshDevice> = client.get(routes::MESH_DEVICES).await?;
                Shown::new(&heard, describe_devices(&heard))
            }
            Self::Radios => {
                let radios: Vec<MeshRadio> = client.get(routes::MESH_RADIOS).await?;
                Shown::new(&radios, describe_radios(&radios))
            }
            Self::Announce => {
                let announced: MeshAnnounced =
                    client.post(routes::MESH_ANNOUNCE, &serde_json::json!({})).await?;
                let line = match announced.ports {
                    0 => "announced to nobody: no neighbour is connected and no radio is up".to_owned(),
                    ports => format!("announced on {}", units::count(ports as u64, "port")),
                };
                Shown::new(&announced, vec![line])
            }
        }
    }
}

fn describe_stats(stats: &MeshStats) -> Vec<String> {
    let role = |yes: bool, word: &str| if yes { word.to_owned() } else { format!("not {word}") };
    let (messages, frames, table) = (&stats.messages, &stats.frames, &stats.routes);
    let sent: u64 = frames.kinds.iter().map(|kind| kind.sent).sum();
    let sent_bytes: u64 = frames.kinds.iter().map(|kind| kind.sent_bytes).sum();
    let heard: u64 = frames.kinds.iter().map(|kind| kind.heard).sum();
    let dropped: Vec<String> =
        frames.dropped.iter().map(|drop| format!("{} {}", drop.count, drop.reason)).collect();
    let mut lines = vec![
        format!(
            "address   {}, {}, {}",
            stats.address,
            role(stats.relay, "passing on for others"),
            role(stats.store, "keeping messages for others")
        ),
        format!(
            "messages  {} sent: {} delivered, {} given up, {} under way; {} received",
            messages.accepted, messages.delivered, messages.failed, messages.under_way, messages.received
        ),
        format!(
            "frames    {sent} sent ({}), {heard} heard, {} passed on, {} spared, {} unanswered, {} waiting",
            units::bytes(sent_bytes),
            frames.forwarded,
            frames.suppressed,
            frames.unanswered,
            frames.waiting
        ),
        format!("dropped   {}", if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") }),
        format!(
            "ways      to {}; {} looked up, {} of them in vain, {} searched in vain",
            units::count(table.destinations as u64, "device"),
            table.lookups,
            table.misses,
            table.searches_failed
        ),
    ];
    if stats.store || stats.kept.taken > 0 {
        let MeshKept { frames, frame_bytes, taken, delivered, expired, displaced, .. } = stats.kept;
        lines.push(format!(
            "kept      {} ({}) for others now; {taken} taken, {delivered} delivered, {expired} expired, {displaced} given up",
            units::count(frames as u64, "frame"),
            units::bytes(frame_bytes as u64)
        ));
    }
    if messages.lost > 0 {
        lines.push(format!("lost      {} that nobody took", units::count(messages.lost, "message")));
    }
    if let Some(why) = &stats.disk {
        lines.push(format!("disk      refuses: {}", text::clean(why, 200)));
    }
    if stats.ports.is_empty() {
        lines.push("no neighbour is connected and no radio is up".to_owned());
    } else {
        lines.push(String::new());
        lines.extend(ports(stats).lines());
    }
    if !stats.radios.is_empty() {
        lines.push(String::new());
        lines.extend(describe_radios(&stats.radios));
    }
    lines
}

/// One row per neighbour and port; a port on which nobody was heard yet has a row too.
fn ports(stats: &MeshStats) -> Table {
    let mut table = Table::new(&["OVER", "CLASS", "UP", "NEIGHBOUR", "HEARD", "SIGNAL", "CHANCE", "OFFERS"]);
    for port in &stats.ports {
        let start = [
            text::name(&port.name),
            text::clean(&port.class, 20),
            units::span(Duration::from_secs(port.age_s)),
        ];
        let offers = text::clean(&port.offers.join(", "), 60);
        let heard: Vec<&MeshNeighbour> =
            stats.neighbours.iter().filter(|other| other.port == port.port).collect();
        for neighbour in &heard {
            let rest = [
                known_as(neighbour.name.as_deref(), &neighbour.hint),
                ago(neighbour.heard_s),
                neighbour.snr_db.map_or_else(|| "-".to_owned(), |snr| format!("{snr:.1} dB")),
                format!("{:.0} %", neighbour.chance * 100.0),
                offers.clone(),
            ];
            table.row(start.iter().cloned().chain(rest).collect());
        }
        if heard.is_empty() {
            let rest = ["nobody yet", "-", "-", "-", &offers].map(str::to_owned);
            table.row(start.into_iter().chain(rest).collect());
        }
    }
    table
}

fn describe_routes(all: &[MeshRoute]) -> Vec<String> {
    if all.is_empty() {
        return vec!["no way to any device is known; one is looked for when a message is sent".to_owned()];
    }
    let mut table = Table::new(&["TO", "THROUGH", "OVER", "HOPS", "COST", "FAILED", "HEARD"]);
    for MeshRoute { hint, name, way, .. } in all {
        let mut row = vec![known_as(name.as_deref(), hint)];
        row.extend(cells(way));
        table.row(row);
    }
    table.lines()
}

fn cells(way: &MeshWay) -> [String; 6] {
    [
        known_as(way.next_name.as_deref(), &way.next),
        text::name(&way.over),
        way.hops.to_string(),
        way.cost_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
        way.failures.to_string(),
        ago(way.age_s),
    ]
}

fn describe_trace(trace: &MeshTrace) -> Vec<String> {
    let mut lines =
        vec![format!("{}, mesh address {}", text::name(&trace.name), text::clean(&trace.address, 32))];
    if trace.ways.is_empty() {
        let search = if trace.searching { "; one is being looked for" } else { "" };
        lines.push(format!("no way is known{search}"));
    } else {
        let mut table = Table::new(&["THROUGH", "OVER", "HOPS", "COST", "FAILED", "HEARD"]);
        for way in &trace.ways {
            table.row(cells(way).into());
        }
        lines.extend(table.lines());
    }
    lines.push(if trace.forward_secret {
        "messages to it have forward secrecy".to_owned()
    } else {
        "messages to it have no forward secrecy yet".to_owned()
    });
    if !trace.keepers.is_empty() {
        let keepers: Vec<String> = trace.keepers.iter().map(|keeper| text::name(keeper)).collect();
        lines.push(format!("stored: {} answers for messages until it is in reach", keepers.join(", ")));
    }
    if trace.messages + trace.passing > 0 {
        lines.push(format!(
            "{} of this device under way there, {} for others",
            units::count(trace.messages as u64, "message"),
            units::count(trace.passing as u64, "frame")
        ));
    }
    lines
}

fn describe_devices(heard: &[MeshDevice]) -> Vec<String> {
    if heard.is_empty() {
        return vec!["no device announced itself lately".to_owned()];
    }
    let mut table = Table::new(&["DEVICE", "ID", "HOPS", "HEARD", "OFFERS"]);
    for device in heard {
        table.row(vec![
            device.name.as_deref().map_or_else(|| "(not paired)".to_owned(), text::name),
            text::short(&device.id),
            device.hops.to_string(),
            ago(device.heard_s),
            text::clean(&device.offers.join(", "), 60),
        ]);
    }
    table.lines()
}

fn describe_radios(radios: &[MeshRadio]) -> Vec<String> {
    if radios.is_empty() {
        return vec!["no radio is configured (mesh.radios)".to_owned()];
    }
    let mut table =
        Table::new(&["RADIO", "STATE", "CHANNEL", "USED", "LEFT", "OF", "QUEUED", "SENT", "UNSENT"]);
    for radio in radios {
        let airtime = |ms: u64| units::span(Duration::from_millis(ms));
        let state = match radio.state {
            RadioState::Up => "up",
            RadioState::SettingUp => "setting up",
            RadioState::Down => "down",
        };
        table.row(vec![
            text::name(&radio.port),
            state.to_owned(),
            format!("{} MHz", f64::from(radio.frequency_hz) / 1e6),
            airtime(radio.used_ms),
            airtime(radio.left_ms),
            format!("{} an hour", airtime(radio.budget_ms)),
            radio.queued.to_string(),
            radio.sent.to_string(),
            radio.unsent.to_string(),
        ]);
    }
    let mut lines = table.lines();
    let troubled = radios.iter().filter_map(|radio| Some((radio, radio.detail.as_ref()?)));
    lines.extend(
        troubled.map(|(radio, why)| format!("{}: {}", text::name(&radio.port), text::clean(why, 200))),
    );
    lines
}

/// A device's name, or the hint that may be anybody's.
fn known_as(name: Option<&str>, hint: &str) -> String {
    name.map_or_else(|| format!("?{}", text::clean(hint, 8)), text::name)
}

fn ago(seconds: u64) -> String {
    format!("{} ago", units::span(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_typed_in_a_chat_mean_the_peer_unless_they_name_another() {
        let trace = |peer: &str| Some(Action::Trace { peer: peer.to_owned() });
        assert_eq!(Action::typed("trace", "carl"), trace("carl"));
        assert_eq!(Action::typed("trace  Ann's laptop ", "carl"), trace("Ann's laptop"));
        assert_eq!(Action::typed("", "carl"), Some(Action::Stats));
        assert_eq!(Action::typed("routes", "carl"), Some(Action::Routes));
        for none in ["route", "stats now", "x"] {
            assert_eq!(Action::typed(none, "carl"), None, "{none}");
        }
    }

    #[test]
    fn foreign_names_cannot_reach_the_terminal_and_hints_are_marked() {
        let way = MeshWay {
            next: "ab12".to_owned(),
            next_name: Some("\u{1b}[31mbert".to_owned()),
            port: 1,
            over: "bert".to_owned(),
            hops: 2,
            cost_ms: Some(12),
            failures: 0,
            age_s: 3,
        };
        let route = MeshRoute { hint: "c0ffee".to_owned(), id: None, name: None, way };
        let lines = describe_routes(&[route]);
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>()[..2], ["?c0ffee", "�[31mbert"]);
    }
}
