//! `GET /v1/nearby` and its watch.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::Response;
use honeylink::DeviceId;
use honeylink::discovery::{Device, Event};
use honeylink_api::{NearbyDevice, NearbyEvent, Trust};
use serde::Deserialize;

use super::answer::{self, Answer, Out};
use super::devices::trust;
use super::state::Daemon;

/// Longest time a list may be asked to wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Deserialize)]
pub(super) struct Wait {
    /// The node has to have looked around for so many milliseconds.
    #[serde(default)]
    wait_ms: u64,
}

/// `GET /v1/nearby`
pub(super) async fn list(
    State(daemon): State<Arc<Daemon>>,
    Query(wait): Query<Wait>,
) -> Answer<Vec<NearbyDevice>> {
    let wait = Duration::from_millis(wait.wait_ms).min(WAIT_MAX);
    tokio::time::sleep(wait.saturating_sub(daemon.started.elapsed())).await;
    Ok(Json(daemon.node.nearby_now().iter().map(|device| describe(&daemon, device)).collect()))
}

/// `GET /v1/nearby/watch`
pub(super) async fn watch(State(daemon): State<Arc<Daemon>>) -> Response {
    let on = daemon.clone();
    answer::lines(&daemon, move |out| async move { follow(&on, &out).await })
}

async fn follow(daemon: &Daemon, out: &Out<NearbyEvent>) {
    let Some(mut events) = daemon.node.nearby() else {
        // Discovery is off: nothing will ever come, and the client waits for it as it would anyway.
        return out.gone().await;
    };
    let mut seen: std::collections::BTreeMap<DeviceId, String> = std::collections::BTreeMap::new();
    while let Some(event) = events.next().await {
        let lines = match event {
            Event::Snapshot(devices) => snapshot(daemon, &mut seen, &devices),
            Event::Found(device) | Event::Changed(device) => {
                let known = seen.insert(device.id, device.name.clone()).is_some();
                let device = describe(daemon, &device);
                vec![if known { NearbyEvent::Changed(device) } else { NearbyEvent::Found(device) }]
            }
            Event::Lost(id) => seen.remove(&id).map(|name| lost(id, name)).into_iter().collect(),
            Event::Conflict { known, impostor, name, .. } => vec![NearbyEvent::Conflict {
                id: impostor.to_string(),
                name,
                fingerprint: impostor.fingerprint(),
                known_id: known.to_string(),
                known_fingerprint: known.fingerprint(),
            }],
            Event::FinderDown { .. } | Event::FinderUp(_) => Vec::new(),
        };
        for line in lines {
            if !out.send(&line).await {
                return;
            }
        }
    }
}

/// What a whole table means to somebody who knew `seen`: it comes first, and again after the watcher fell behind.
fn snapshot(
    daemon: &Daemon,
    seen: &mut std::collections::BTreeMap<DeviceId, String>,
    devices: &[Device],
) -> Vec<NearbyEvent> {
    let now = devices.iter().map(|device| (device.id, device.name.clone())).collect();
    let before = std::mem::replace(seen, now);
    let gone = before.iter().filter(|(id, _)| !seen.contains_key(id));
    let mut lines: Vec<NearbyEvent> = gone.map(|(id, name)| lost(*id, name.clone())).collect();
    for device in devices {
        let known = before.contains_key(&device.id);
        let device = describe(daemon, device);
        lines.push(if known { NearbyEvent::Changed(device) } else { NearbyEvent::Found(device) });
    }
    lines
}

fn lost(id: DeviceId, name: String) -> NearbyEvent {
    NearbyEvent::Lost { id: id.to_string(), name }
}

fn describe(daemon: &Daemon, device: &Device) -> NearbyDevice {
    let known = daemon.node.store().trust().find(&device.id);
    let trusted = known.as_ref().filter(|record| record.trust.is_trusted());
    NearbyDevice {
        id: device.id.to_string(),
        // The name a person gave wins over the one the device shouts.
        name: trusted.map_or_else(|| device.name.clone(), |record| record.name.clone()),
        device_type: device.device_type.to_string(),
        seen_by: device.seen_by.keys().map(|finder| finder.as_str().to_owned()).collect(),
        trust: known.map_or(Trust::Seen, |record| trust(record.trust)),
        path: daemon.path_to(&device.id),
        addresses: device.addresses.iter().map(ToString::to_string).collect(),
        version: (!device.version.is_empty()).then(|| device.version.clone()),
        rssi_dbm: device.rssi().map(i16::from),
    }
}
