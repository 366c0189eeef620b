//! `GET /v1/status`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use honeylink::nat::NatReport;
use honeylink::node::RelayPeer;
use honeylink::{DhtState, Node, RelayState};
use honeylink_api::{
    API_VERSION, DhtSummary, HeldBack, NatSummary, PeerRelay, RelayPeerStatus, RelayStatus, Status,
};

use super::answer::Answer;
use super::health::Look;
use super::mesh;
use super::state::Daemon;
use super::streams;

pub(super) async fn status(State(daemon): State<Arc<Daemon>>) -> Answer<Status> {
    let node = &daemon.node;
    let look = Look::at(&daemon).await;
    let trusted = node.store().trust().list().into_iter().filter(|peer| peer.trust.is_trusted());
    Ok(Json(Status {
        id: node.id().to_string(),
        name: node.name(),
        device_type: node.device_type().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: API_VERSION,
        listen: node.ticket().addrs.iter().map(ToString::to_string).collect(),
        mode: daemon.mode,
        phase: *daemon.phase.borrow(),
        pid: std::process::id(),
        uptime_s: daemon.started.elapsed().as_secs(),
        home: daemon.home.dir().display().to_string(),
        reach: node.reach().as_str().to_owned(),
        power: node.power().as_str().to_owned(),
        relays: node.relays().into_iter().map(relay).collect(),
        peer_relay: peer_relay(node),
        peers: trusted.count(),
        nearby: node.nearby_now().len(),
        transfers: daemon.transfers_running(),
        nat: node.nat().filter(|nat| nat.observers > 0).map(|nat| summary(&nat)),
        dht: node.dht().map(dht),
        mesh: mesh::summary(look.mesh.as_ref()),
        streams: streams::of_node(&daemon),
        held_back: held_back(node.stats().held_back),
        subsystems: look.subsystems(&daemon),
    }))
}

fn summary(nat: &NatReport) -> NatSummary {
    NatSummary {
        behavior: nat.behavior.to_string(),
        seen: nat.seen.map(|addr| addr.to_string()),
        observers: nat.observers,
        observers_asked: nat.asked,
        observers_answered: nat.answered,
        punch: nat.punch,
        attempts: nat.attempts,
        punched: nat.punched,
    }
}

/// Nothing where nothing had to wait.
fn held_back(held: honeylink::node::HeldBack) -> Option<HeldBack> {
    let honeylink::node::HeldBack { messages, offers, links } = held;
    (messages + offers + links > 0).then_some(HeldBack { messages, offers, links })
}

fn relay(state: RelayState) -> RelayStatus {
    RelayStatus {
        relay: state.relay.to_string(),
        home: state.home,
        connected: state.connected,
        problem: state.problem,
    }
}

fn peer_relay(node: &Node) -> Option<PeerRelay> {
    let by: Vec<_> = node.relay_peers().into_iter().map(relay_peer).collect();
    let did = node.ferry();
    let dropped = did.dropped_nowhere + did.dropped_rate + did.dropped_full;
    let relay = PeerRelay {
        by,
        guests: did.guests,
        pairs: did.crossings,
        packets: did.packets,
        bytes: did.bytes,
        dropped,
    };
    (relay != PeerRelay::default()).then_some(relay)
}

fn relay_peer(peer: RelayPeer) -> RelayPeerStatus {
    RelayPeerStatus {
        peer: peer.name,
        connected: peer.connected,
        devices: peer.crossings,
        problem: peer.problem,
    }
}

fn dht(state: DhtState) -> DhtSummary {
    DhtSummary { told: state.told, stored_unix_ms: state.stored_unix_ms, problem: state.problem }
}
