//! `honeylink status`: what the running node says about itself.

use std::time::Duration;

use honeylink_api::{
    DhtSummary, ExitCode, HeldBack, MeshSummary, Mode, NatSummary, PeerRelay, Phase, RelayPeerStatus,
    RelayStatus, Status, SubsystemState, routes,
};

use super::describe_streams;
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
    ];
    lines.extend(status.relays.iter().map(relay));
    if let Some(relay) = &status.peer_relay {
        lines.extend(relay.by.iter().map(relay_peer).chain(relaying(relay)));
    }
    lines.extend([
        format!(
            "devices  {} paired, {} nearby; {} running",
            status.peers,
            status.nearby,
            units::count(status.transfers as u64, "transfer")
        ),
        format!("mesh     {}", status.mesh.as_ref().map_or_else(|| "off".to_owned(), mesh)),
        format!("home     {}", status.home),
    ]);
    if status.power == "battery" {
        let links = "links    kept for a battery: up to 15 s to notice a way that died (node.power)";
        lines.push(links.to_owned());
    }
    lines.extend(status.nat.as_ref().map(nat));
    lines.extend(status.dht.as_ref().map(dht));
    lines.extend(describe_streams(&status.streams).iter().map(|line| format!("streams  {line}")));
    lines.extend(status.held_back.as_ref().map(held_back));
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

/// The NAT in one line: `nat      no NAT; seen at 198.51.100.2:4711; 1 of 2 observers answered; 3 holes made in 4 attempts`.
fn nat(nat: &NatSummary) -> String {
    let seen = nat.seen.as_ref().map(|seen| format!("; seen at {seen}")).unwrap_or_default();
    let answered = format!(
        "; {} of {} answered",
        nat.observers_answered,
        units::count(nat.observers as u64, "observer")
    );
    let made = match (nat.punch, nat.attempts) {
        (false, _) => "; no holes are made (nat.punch)".to_owned(),
        (true, 0) => String::new(),
        (true, all) => format!("; {} in {}", units::count(nat.punched, "hole"), units::count(all, "attempt")),
    };
    format!("nat      {}{seen}{answered}{made}", nat.behavior)
}

/// What waited, in one line: `held     1204 messages, 0 offers, 3 links waited: a device asked for more than its share`.
fn held_back(held: &HeldBack) -> String {
    format!(
        "held     {}, {}, {} waited: a device asked for more than its share",
        units::count(held.messages, "message"),
        units::count(held.offers, "offer"),
        units::count(held.links, "link")
    )
}

/// The DHT in one line: `dht      2 paired devices can find this one there`.
fn dht(dht: &DhtSummary) -> String {
    match &dht.problem {
        Some(problem) => format!("dht      {}", text::paragraph(problem)),
        None => {
            format!("dht      {} can find this one there", units::count(dht.told as u64, "paired device"))
        }
    }
}

/// A relay in one line: `relay    relay.example.org:443: connected, reached through it first`.
fn relay(relay: &RelayStatus) -> String {
    let name = relay.relay.split(['#', '?']).next().unwrap_or_default();
    let name = name.strip_prefix("https://").unwrap_or(name);
    let state = match (relay.connected, relay.home, &relay.problem) {
        (true, _, _) => "connected, this device is reached through it".to_owned(),
        (false, _, Some(problem)) => format!("not connected: {}", text::paragraph(problem)),
        (false, true, None) => "connecting".to_owned(),
        (false, false, None) => "in reserve".to_owned(),
    };
    format!("relay    {name}: {state}")
}

/// A paired device that relays in one line: `relay    studio, paired: connected; 2 devices reached through it`.
fn relay_peer(peer: &RelayPeerStatus) -> String {
    let state = match (peer.connected, peer.devices, &peer.problem) {
        (true, 0, _) => "connected".to_owned(),
        (true, some, _) => format!("connected; {} reached through it", units::count(some as u64, "device")),
        (false, _, Some(problem)) => format!("not connected: {}", text::paragraph(problem)),
        (false, _, None) => "connecting".to_owned(),
    };
    format!("relay    {}, paired: {state}", text::name(&peer.peer))
}

/// What this device carries in one line: `relays   for 2 devices, between 1 pair; 12.3 MB carried, 0 packets dropped`.
fn relaying(relay: &PeerRelay) -> Option<String> {
    let does = relay.guests > 0 || relay.packets > 0 || relay.dropped > 0;
    does.then(|| {
        format!(
            "relays   for {}, between {}; {} carried, {} dropped",
            units::count(relay.guests as u64, "device"),
            units::count(relay.pairs as u64, "pair"),
            units::bytes(relay.bytes),
            units::count(relay.dropped, "packet")
        )
    })
}

/// The mesh in one line: `2 neighbours, a way to 3 devices, 1 of 2 radios up; 0 messages under way`.
fn mesh(mesh: &MeshSummary) -> String {
    let radios = match mesh.radios {
        0 => String::new(),
        all => format!(", {} of {} up", mesh.radios_up, units::count(all as u64, "radio")),
    };
    format!(
        "{}, a way to {}{radios}; {} under way",
        units::count(mesh.neighbours as u64, "neighbour"),
        units::count(mesh.destinations as u64, "device"),
        units::count(mesh.messages as u64, "message")
    )
}
