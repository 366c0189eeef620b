//! `/v1/devices`: the trust store, seen and changed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use honeylink::store::grants::GrantChange;
use honeylink::store::{PeerRecord, Trust as Trusted};
use honeylink_api::{ErrorBody, ErrorCode, Grant, GrantsChange, Peer, PeerChange, Trust};

use super::answer::{Answer, ApiError, bad_request};
use super::failures;
use super::state::Daemon;

/// `GET /v1/devices`
pub(super) async fn list(State(daemon): State<Arc<Daemon>>) -> Answer<Vec<Peer>> {
    // Devices that were only seen are the business of `nearby`.
    let known = daemon.node.store().trust().list().into_iter().filter(|peer| peer.trust != Trusted::Seen);
    Ok(Json(known.map(|record| describe(&daemon, record)).collect()))
}

/// `GET /v1/devices/{peer}`
pub(super) async fn show(State(daemon): State<Arc<Daemon>>, Path(peer): Path<String>) -> Answer<Peer> {
    let record = find(&daemon, &peer)?;
    Ok(Json(describe(&daemon, record)))
}

/// `PATCH /v1/devices/{peer}`
pub(super) async fn change(
    State(daemon): State<Arc<Daemon>>,
    Path(peer): Path<String>,
    Json(change): Json<PeerChange>,
) -> Answer<Peer> {
    let id = daemon.resolve(&peer)?;
    let mut record = find(&daemon, &peer)?;
    if let Some(name) = change.name {
        record = daemon.node.rename_peer(id, &name).await.map_err(failures::change)?;
    }
    if let Some(notes) = change.notes {
        let store = daemon.node.store().clone();
        let written = tokio::task::spawn_blocking(move || store.trust().set_notes(&id, &notes)).await;
        record = written.map_err(internal)?.map_err(failures::change)?;
    }
    Ok(Json(describe(&daemon, record)))
}

/// `DELETE /v1/devices/{peer}`
pub(super) async fn forget(State(daemon): State<Arc<Daemon>>, Path(peer): Path<String>) -> Answer<Peer> {
    let record = find(&daemon, &peer)?;
    let shown = describe(&daemon, record);
    let id = daemon.resolve(&peer)?;
    daemon.node.forget_peer(id).await.map_err(internal)?;
    Ok(Json(shown))
}

/// `POST /v1/devices/{peer}/revoke`
pub(super) async fn revoke(State(daemon): State<Arc<Daemon>>, Path(peer): Path<String>) -> Answer<Peer> {
    let id = daemon.resolve(&peer)?;
    let record = daemon.node.revoke_peer(id).await.map_err(internal)?;
    Ok(Json(describe(&daemon, record)))
}

/// `POST /v1/devices/{peer}/grants`
pub(super) async fn grants(
    State(daemon): State<Arc<Daemon>>,
    Path(peer): Path<String>,
    Json(change): Json<GrantsChange>,
) -> Answer<Peer> {
    let id = daemon.resolve(&peer)?;
    let changes = change.changes.iter().map(|grant| grant.0.parse::<GrantChange>());
    let changes = changes.collect::<Result<Vec<_>, _>>().map_err(bad_request)?;
    let record = daemon.node.change_grants(id, changes).await.map_err(failures::change)?;
    Ok(Json(describe(&daemon, record)))
}

fn find(daemon: &Daemon, peer: &str) -> Result<PeerRecord, ErrorBody> {
    let id = daemon.resolve(peer)?;
    daemon.node.store().trust().find(&id).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("no device {} is known here", id.short()))
            .with_hint("honeylink devices lists the known ones")
    })
}

fn internal(error: impl std::fmt::Display) -> ApiError {
    ErrorBody::new(ErrorCode::Internal, error.to_string()).into()
}

/// The library's trust in the API's words.
pub(super) const fn trust(trust: Trusted) -> Trust {
    match trust {
        Trusted::Seen => Trust::Seen,
        Trusted::Paired => Trust::Paired,
        Trusted::Verified => Trust::Verified,
        Trusted::Revoked => Trust::Revoked,
    }
}

fn describe(daemon: &Daemon, record: PeerRecord) -> Peer {
    let grants = &record.grants;
    let yes = |right: &str, granted: bool| granted.then(|| Grant(format!("{right}=yes")));
    let mut shown = vec![Grant(format!("files={}", grants.files.as_str()))];
    shown.extend(yes("chat", grants.chat));
    shown.extend(yes("clipboard", grants.clipboard));
    shown.extend(yes("pipe", grants.pipe));
    shown.extend(yes("relay", grants.relay));
    shown.extend(grants.tunnels().map(|name| Grant(format!("tunnel:{name}=yes"))));
    Peer {
        id: record.id.to_string(),
        name: record.name,
        device_type: record.device_type.to_string(),
        trust: trust(record.trust),
        fingerprint: record.id.fingerprint(),
        method: record.method.map(|method| method.as_str().to_owned()),
        grants: if record.trust.is_trusted() { shown } else { Vec::new() },
        notes: record.notes,
        first_seen_unix_ms: record.first_seen,
        last_seen_unix_ms: record.last_seen,
        addresses: record.addresses.iter().map(ToString::to_string).collect(),
        nearby: daemon.node.nearby_now().iter().any(|device| device.id == record.id),
        path: daemon.path_to(&record.id),
    }
}
