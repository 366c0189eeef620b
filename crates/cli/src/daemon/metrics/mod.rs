//! `/metrics` and `/healthz`: what operators and their programs read.
//!
//! Both are on the local API's socket. With `metrics.listen` they, and nothing else, are also on a TCP address, by
//! default a loopback one only: neither names a device, but both say that one runs here.
//!
//! | file | what it is |
//! |---|---|
//! | `families` | the closed list of what is measured |
//! | `text` | the text format |
//! | `server` | the TCP address |

mod families;
pub(super) mod server;
mod text;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use honeylink::carrier::serial::ModemState;
use honeylink::mesh::{Dropped, Kind, Leads, MeshSnapshot, RadioView};
use honeylink::node::{Durations, HeldBack, NodeStats, StreamTotals};
use honeylink::{Node, Rung};
use honeylink_api::{Health, SubsystemState};

use self::families::FAMILIES;
use self::text::{CONTENT_TYPE, Samples};
use super::health::Look;
use super::state::Daemon;
use crate::config;

/// What the daemon itself measures.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pairings: Mutex<Pairings>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Pairings {
    done: Durations,
    failed: u64,
}

impl Meter {
    fn pairings(&self) -> MutexGuard<'_, Pairings> {
        self.pairings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ceremony ended: how long it took, if it worked.
    pub(super) fn paired(&self, took: Option<Duration>) {
        let mut pairings = self.pairings();
        match took {
            Some(took) => pairings.done.add(took),
            None => pairings.failed += 1,
        }
    }
}

/// `GET /healthz`
pub(super) async fn healthz(State(daemon): State<Arc<Daemon>>) -> Response {
    let subsystems = Look::at(&daemon).await.subsystems(&daemon);
    let state = subsystems.iter().map(|part| part.state).max().unwrap_or(SubsystemState::Healthy);
    let status = match state {
        SubsystemState::Healthy | SubsystemState::Degraded => StatusCode::OK,
        SubsystemState::Draining | SubsystemState::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(Health { state, subsystems })).into_response()
}

/// `GET /metrics`
pub(super) async fn metrics(State(daemon): State<Arc<Daemon>>) -> Response {
    let text = samples(&daemon).await.print(FAMILIES);
    ([(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE))], text).into_response()
}

async fn samples(daemon: &Daemon) -> Samples {
    let look = Look::at(daemon).await;
    let mut out = Samples::default();
    node(&mut out, daemon, &look);
    carried(&mut out, daemon.node.stats());
    streams(&mut out, &daemon.node.streams());
    peer_relay(&mut out, &daemon.node);
    let pairings = *daemon.meter.pairings();
    out.durations("honeylink_pairing_seconds", &pairings.done);
    out.count("honeylink_pairings_failed_total", &[], pairings.failed);
    if let Some(mesh) = &look.mesh {
        self::mesh(&mut out, mesh);
        kept(&mut out, mesh);
        frames(&mut out, mesh);
        for (config, view) in daemon.config.mesh.radios.iter().zip(&mesh.radios) {
            radio(&mut out, config, view);
        }
    }
    out
}

fn peer_relay(out: &mut Samples, node: &Node) {
    let did = node.ferry();
    out.size("honeylink_peer_relay_guests", &[], did.guests);
    out.size("honeylink_peer_relay_pairs", &[], did.crossings);
    out.count("honeylink_peer_relay_packets_total", &[], did.packets);
    out.count("honeylink_peer_relay_bytes_total", &[], did.bytes);
    for (reason, packets) in
        [("nowhere", did.dropped_nowhere), ("rate", did.dropped_rate), ("full", did.dropped_full)]
    {
        out.count("honeylink_peer_relay_dropped_total", &[("reason", reason)], packets);
    }
    let connected = node.relay_peers().iter().filter(|peer| peer.connected).count();
    out.size("honeylink_peer_relay_peers_connected", &[], connected);
    for (direction, packets) in [("sent", did.ferried.sent), ("received", did.ferried.received)] {
        out.count("honeylink_peer_relay_own_packets_total", &[("direction", direction)], packets);
    }
}

fn node(out: &mut Samples, daemon: &Daemon, look: &Look) {
    let node = &daemon.node;
    out.count(
        "honeylink_info",
        &[("version", env!("CARGO_PKG_VERSION")), ("reach", node.reach().as_str())],
        1,
    );
    out.count("honeylink_uptime_seconds", &[], daemon.started.elapsed().as_secs());
    for part in look.subsystems(daemon) {
        let level = match part.state {
            SubsystemState::Healthy => 0,
            SubsystemState::Degraded => 1,
            SubsystemState::Draining => 2,
            SubsystemState::Unhealthy => 3,
        };
        out.count("honeylink_health", &[("part", &part.name)], level);
    }
    let paired = node.store().trust().list().into_iter().filter(|peer| peer.trust.is_trusted()).count();
    out.size("honeylink_devices_paired", &[], paired);
    out.size("honeylink_devices_nearby", &[], node.nearby_now().len());
    out.size("honeylink_transfers_running", &[], daemon.transfers_running());
    let connected = node.connected();
    for rung in [Rung::Local, Rung::Lan, Rung::Direct, Rung::Punched, Rung::Relayed] {
        let there = connected.iter().filter(|peer| peer.paths.first().is_some_and(|path| path.rung == rung));
        out.size("honeylink_connections", &[("rung", rung.as_str())], there.count());
    }
}

fn carried(out: &mut Samples, stats: NodeStats) {
    let NodeStats {
        traffic,
        accepted,
        accepts_failed,
        dials,
        dials_failed,
        discoveries,
        tcp,
        links,
        carried,
        held_back,
        candidates_refused,
    } = stats;
    for (direction, bytes, packets) in
        [("sent", traffic.sent_bytes, traffic.sent), ("received", traffic.received_bytes, traffic.received)]
    {
        let labels = [("carrier", "iroh"), ("direction", direction)];
        out.count("honeylink_carrier_bytes_total", &labels, bytes);
        out.count("honeylink_carrier_packets_total", &labels, packets);
    }
    for (direction, bytes) in [("sent", tcp.sent_bytes), ("received", tcp.received_bytes)] {
        out.count("honeylink_carrier_bytes_total", &[("carrier", "tcp"), ("direction", direction)], bytes);
    }
    out.count("honeylink_carrier_lost_total", &[("carrier", "iroh")], traffic.lost);
    out.count("honeylink_carrier_errors_total", &[("carrier", "iroh")], dials_failed + accepts_failed);
    out.count("honeylink_accepts_total", &[], accepted);
    out.count("honeylink_accepts_failed_total", &[], accepts_failed);
    out.durations("honeylink_dial_seconds", &dials);
    out.count("honeylink_dials_failed_total", &[], dials_failed);
    out.durations("honeylink_discovery_seconds", &discoveries);
    out.size("honeylink_links", &[], links);
    for (direction, messages, bytes) in [
        ("sent", carried.messages_sent, carried.bytes_sent),
        ("received", carried.messages_received, carried.bytes_received),
    ] {
        out.count("honeylink_link_messages_total", &[("direction", direction)], messages);
        out.count("honeylink_link_bytes_total", &[("direction", direction)], bytes);
    }
    out.count("honeylink_link_resent_total", &[], carried.resent);
    out.count("honeylink_link_failovers_total", &[], carried.resumes);
    out.count("honeylink_link_datagrams_dropped_total", &[], carried.datagrams_dropped);
    out.count("honeylink_candidates_refused_total", &[], candidates_refused);
    let HeldBack { messages, offers, links } = held_back;
    for (what, count) in [("message", messages), ("offer", offers), ("link", links)] {
        out.count("honeylink_held_back_total", &[("what", what)], count);
    }
}

fn streams(out: &mut Samples, totals: &StreamTotals) {
    for of in &totals.classes {
        let class = [("class", super::streams::name(of.class))];
        out.size("honeylink_streams_open", &class, of.open);
        out.count("honeylink_stream_bytes_total", &class, of.stats.bytes_sent);
        out.count("honeylink_stream_queued_bytes", &class, of.stats.queued_bytes);
        for (quantile, wait) in
            [("0.5", of.stats.wait_p50), ("0.9", of.stats.wait_p90), ("0.99", of.stats.wait_p99)]
        {
            if let Some(wait) = wait {
                let labels = [class[0], ("quantile", quantile)];
                out.value("honeylink_stream_wait_seconds", &labels, wait.as_secs_f64());
            }
        }
        out.count("honeylink_datagrams_late_total", &class, of.stats.datagrams_late);
        out.count("honeylink_fec_repair_sent_total", &class, of.repair_sent);
    }
    out.count("honeylink_stream_reserved_bytes_per_second", &[], totals.reserved_bytes_per_s);
    out.count("honeylink_fec_recovered_total", &[], totals.received.recovered);
    out.count("honeylink_fec_lost_total", &[], totals.received.lost);
}

fn mesh(out: &mut Samples, mesh: &MeshSnapshot) {
    let counted = &mesh.mesh.stats;
    let over_air = mesh.ports.iter().filter(|port| matches!(port.leads, Leads::Air { .. })).count();
    out.size("honeylink_mesh_ports", &[("kind", "connection")], mesh.ports.len() - over_air);
    out.size("honeylink_mesh_ports", &[("kind", "radio")], over_air);
    out.size("honeylink_mesh_neighbours", &[], mesh.mesh.neighbours.len());
    out.size("honeylink_mesh_destinations", &[], mesh.mesh.routes.len());
    out.count("honeylink_mesh_lookups_total", &[], counted.routes.lookups);
    out.count("honeylink_mesh_lookups_missed_total", &[], counted.routes.misses);
    out.count("honeylink_mesh_destinations_evicted_total", &[], counted.routes.evicted);
    out.count("honeylink_mesh_searches_failed_total", &[], counted.searches_failed);
    for (outcome, count) in [
        ("accepted", counted.accepted),
        ("delivered", counted.receipted),
        ("failed", counted.failed),
        ("received", counted.delivered),
        ("lost", mesh.overflowed),
    ] {
        out.count("honeylink_mesh_messages_total", &[("outcome", outcome)], count);
    }
    out.durations("honeylink_mesh_delivery_seconds", &mesh.deliveries);
    out.size("honeylink_mesh_messages_under_way", &[], mesh.mesh.messages);
    out.size("honeylink_mesh_messages_waiting", &[], mesh.inbox);
    out.size("honeylink_mesh_state_bytes", &[], mesh.state_bytes);
}

fn kept(out: &mut Samples, mesh: &MeshSnapshot) {
    out.size("honeylink_mesh_kept_frames", &[], mesh.mesh.kept);
    out.size("honeylink_mesh_kept_bytes", &[], mesh.mesh.kept_bytes);
    let custody = &mesh.mesh.custody;
    for (outcome, count) in [
        ("taken", custody.stored),
        ("delivered", custody.delivered),
        ("handed-on", custody.handed_on),
        ("expired", custody.expired),
        ("displaced", custody.displaced),
        ("refused", custody.refused.values().sum()),
    ] {
        out.count("honeylink_mesh_kept_total", &[("outcome", outcome)], count);
    }
}

fn frames(out: &mut Samples, mesh: &MeshSnapshot) {
    let counted = &mesh.mesh.stats;
    for kind in Kind::ALL {
        let of = |counters: &[u64; 16]| counters.get(kind as usize).copied().unwrap_or(0);
        let labels = |direction| [("kind", kind.as_str()), ("direction", direction)];
        out.count("honeylink_mesh_frames_total", &labels("sent"), of(&counted.sent));
        out.count("honeylink_mesh_frames_total", &labels("received"), of(&counted.heard));
        out.count("honeylink_mesh_sent_bytes_total", &[("kind", kind.as_str())], of(&counted.sent_bytes));
    }
    for why in Dropped::ALL {
        out.count("honeylink_mesh_dropped_total", &[("reason", why.as_str())], counted.dropped(why));
    }
    out.count("honeylink_mesh_forwarded_total", &[], counted.forwarded);
    out.count("honeylink_mesh_suppressed_total", &[], counted.suppressed);
    out.count("honeylink_mesh_unanswered_total", &[], counted.unanswered);
    out.count("honeylink_mesh_violations_total", &[], mesh.violations);
    out.size("honeylink_mesh_frames_waiting", &[], mesh.mesh.waiting);
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of an hour fit easily")]
fn radio(out: &mut Samples, config: &config::Radio, view: &RadioView) {
    let port = view.path.display().to_string();
    let on = [("radio", port.as_str())];
    let (load, frames, line) = (&view.status.load, &view.status.frames, &view.status.line);
    out.count("honeylink_radio_up", &on, u64::from(matches!(view.status.modem, ModemState::Up(_))));
    // It was made from the same values when the node started.
    let band =
        config.serial().ok().map(|serial| config::band_name(&serial.schedule().band)).unwrap_or_default();
    let in_band = [("radio", port.as_str()), ("band", band.as_str())];
    let seconds = |us: u64| us as f64 / 1e6;
    out.value("honeylink_radio_duty_used_seconds", &in_band, seconds(load.used_us));
    out.value("honeylink_radio_duty_budget_seconds", &in_band, seconds(load.budget_us));
    out.value("honeylink_radio_airtime_seconds_total", &on, seconds(frames.charged_us));
    out.value("honeylink_radio_announce_airtime_seconds_total", &on, seconds(frames.charged_announces_us));
    out.size("honeylink_radio_queued_frames", &on, load.queued_frames.iter().sum());
    for (outcome, count) in [
        ("aired", frames.aired),
        ("assumed", frames.assumed),
        ("lost", frames.lost),
        ("refused", frames.refused),
        ("expired", frames.expired),
        ("evicted", frames.evicted),
        ("queue-full", frames.queue_full),
        ("unsendable", frames.unsendable),
        ("cancelled", frames.cancelled),
    ] {
        out.count("honeylink_radio_frames_total", &[on[0], ("outcome", outcome)], count);
    }
    out.count("honeylink_radio_restarts_total", &on, line.restarts);
    out.count("honeylink_radio_malformed_total", &on, line.malformed);
}

#[cfg(test)]
mod tests {
    use super::families::FAMILIES;
    use super::text::Kind;

    fn exists(metric: &str) -> bool {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
        FAMILIES.iter().any(|family| {
            family.name == metric || (family.kind == Kind::Histogram && Some(family.name) == histogram)
        })
    }

    fn named_in(file: &str) -> Vec<String> {
        let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("honeylink_")).map(str::to_owned).collect()
    }

    #[test]
    fn every_metric_in_the_dashboard_the_alerts_and_the_manual_exists() {
        let files = [
            "packaging/grafana/honeylink.json",
            "packaging/prometheus/alerts.yml",
            "docs/manual/monitoring.md",
        ];
        for file in files {
            let named = named_in(file);
            assert!(named.len() >= 8, "{file} names {named:?}");
            for metric in named {
                assert!(exists(&metric), "{metric} in {file}");
            }
        }
    }

    #[test]
    fn the_dashboard_is_json() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/grafana/honeylink.json");
        let dashboard: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 6), "{dashboard}");
    }

    #[test]
    fn the_manual_lists_every_family() {
        let listed = named_in("docs/manual/monitoring.md");
        for family in FAMILIES {
            assert!(
                listed.iter().any(|name| name == family.name),
                "{} is missing in the manual",
                family.name
            );
        }
    }

    #[test]
    fn names_follow_the_conventions_of_their_kind_and_no_two_are_the_same() {
        for (at, family) in FAMILIES.iter().enumerate() {
            assert!(FAMILIES[..at].iter().all(|other| other.name != family.name), "{} twice", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(family.kind != Kind::Histogram || family.name.ends_with("_seconds"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\']), "{}", family.name);
        }
    }
}
