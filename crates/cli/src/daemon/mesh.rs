//! `/v1/mesh`: the library's mesh in the API's words, with names where hints fit one paired device.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use honeylink::DeviceId;
use honeylink::carrier::serial::ModemState;
use honeylink::mesh::{
    Address, Caps, Dropped, Far, Kind, Leads, MeshHandle, MeshOptions, MeshSnapshot, MeshStopped, Near,
    PortId, Present, RadioView, TraceError, Way,
};
use honeylink::store::Trust;
use honeylink_api::{
    ErrorBody, ErrorCode, MeshAnnounced, MeshBand, MeshDevice, MeshDrop, MeshFrames, MeshKept, MeshKind,
    MeshMessages, MeshNeighbour, MeshPort, MeshRadio, MeshRoute, MeshStats, MeshSummary, MeshTable,
    MeshTrace, MeshWay, RadioState,
};

use super::answer::Answer;
use super::failures;
use super::state::Daemon;
use crate::config;

/// How the node takes part in the mesh; `None` if it does not.
///
/// # Errors
/// A radio that the rules do not allow; the configuration was checked before, so this is a fault of ours.
pub(super) fn options(config: &config::Mesh) -> Result<Option<MeshOptions>, String> {
    if !config.enabled {
        return Ok(None);
    }
    let mut options = MeshOptions::default()
        .relay(config.relay)
        .store(config.store)
        .store_bytes_max(config.store_bytes_max)
        .tcp(config.tcp)
        .announces(config.announce_s > 0)
        .announce_every(Duration::from_secs(config.announce_s.max(1)));
    for radio in &config.radios {
        options = options.radio(radio.serial().map_err(|wrong| wrong.to_string())?);
    }
    Ok(Some(options))
}

/// `GET /v1/mesh/stats`
pub(super) async fn stats(State(daemon): State<Arc<Daemon>>) -> Answer<MeshStats> {
    let snapshot = look(&daemon).await?;
    let names = Names::of(&daemon);
    let counted = &snapshot.mesh.stats;
    Ok(Json(MeshStats {
        address: snapshot.address.to_string(),
        relay: snapshot.caps.has(Caps::RELAY),
        store: snapshot.caps.has(Caps::STORE),
        ports: ports(&daemon, &snapshot),
        neighbours: neighbours(&snapshot, &names),
        radios: radio_list(&daemon, &snapshot),
        messages: MeshMessages {
            accepted: counted.accepted,
            delivered: counted.receipted,
            failed: counted.failed,
            under_way: snapshot.mesh.messages,
            received: counted.delivered,
            waiting: snapshot.inbox,
            lost: snapshot.overflowed,
        },
        kept: kept(&snapshot),
        frames: frames(&snapshot),
        routes: MeshTable {
            destinations: snapshot.mesh.routes.len(),
            lookups: counted.routes.lookups,
            misses: counted.routes.misses,
            evicted: counted.routes.evicted,
            searches_failed: counted.searches_failed,
        },
        state_bytes: snapshot.state_bytes,
        disk: snapshot.disk,
    }))
}

/// `GET /v1/mesh/routes`
pub(super) async fn routes(State(daemon): State<Arc<Daemon>>) -> Answer<Vec<MeshRoute>> {
    let snapshot = look(&daemon).await?;
    let (names, over) = (Names::of(&daemon), PortNames::of(&daemon, &snapshot));
    let route = |(far, way): &(Far, Way)| {
        let known = names.far(far);
        MeshRoute {
            hint: far.to_string(),
            id: known.map(|(id, _)| id.to_string()),
            name: known.map(|(_, name)| name.clone()),
            way: describe(way, &snapshot, &names, &over),
        }
    };
    Ok(Json(snapshot.mesh.routes.iter().map(route).collect()))
}

/// `GET /v1/mesh/devices`
pub(super) async fn devices(State(daemon): State<Arc<Daemon>>) -> Answer<Vec<MeshDevice>> {
    let snapshot = look(&daemon).await?;
    let device = |present: &Present| {
        let paired = daemon.node.store().trust().trust(&present.device).is_some_and(Trust::is_trusted);
        MeshDevice {
            id: present.device.to_string(),
            name: paired.then(|| daemon.name_of(&present.device)),
            offers: offers(present.caps),
            hops: present.hops,
            heard_s: snapshot.at.saturating_since(present.heard_at).as_secs(),
        }
    };
    Ok(Json(snapshot.devices.iter().map(device).collect()))
}

/// `GET /v1/mesh/radios`
pub(super) async fn radios(State(daemon): State<Arc<Daemon>>) -> Answer<Vec<MeshRadio>> {
    let snapshot = look(&daemon).await?;
    Ok(Json(radio_list(&daemon, &snapshot)))
}

/// `GET /v1/mesh/trace/{peer}`
pub(super) async fn trace(State(daemon): State<Arc<Daemon>>, Path(peer): Path<String>) -> Answer<MeshTrace> {
    let mesh = handle(&daemon)?;
    let id = daemon.resolve(&peer)?;
    let trace = mesh.trace(id).await.map_err(|error| match error {
        TraceError::Target(error) => failures::connect(error),
        TraceError::Stopped(MeshStopped) => super::shutting_down(),
    })?;
    let snapshot = look(&daemon).await?;
    let (names, over) = (Names::of(&daemon), PortNames::of(&daemon, &snapshot));
    Ok(Json(MeshTrace {
        id: id.to_string(),
        name: daemon.name_of(&id),
        address: Address::of(&id).to_string(),
        ways: trace.ways.iter().map(|way| describe(way, &snapshot, &names, &over)).collect(),
        searching: trace.searching,
        forward_secret: trace.forward_secret,
        messages: trace.messages,
        keepers: trace.keepers.iter().map(|keeper| daemon.name_of(keeper)).collect(),
        passing: trace.passing.len(),
    }))
}

/// `POST /v1/mesh/announce`
pub(super) async fn announce(State(daemon): State<Arc<Daemon>>) -> Answer<MeshAnnounced> {
    let ports = look(&daemon).await?.ports.len();
    handle(&daemon)?.announce_now().await.map_err(|MeshStopped| super::shutting_down())?;
    Ok(Json(MeshAnnounced { ports }))
}

/// The mesh in one line; `None` without one.
pub(super) fn summary(snapshot: Option<&MeshSnapshot>) -> Option<MeshSummary> {
    snapshot.map(|snapshot| MeshSummary {
        neighbours: snapshot.mesh.neighbours.len(),
        destinations: snapshot.mesh.routes.len(),
        messages: snapshot.mesh.messages,
        radios: snapshot.radios.len(),
        radios_up: snapshot.radios.iter().filter(|radio| radio.port.is_some()).count(),
    })
}

fn handle(daemon: &Daemon) -> Result<MeshHandle, ErrorBody> {
    daemon.node.mesh().ok_or_else(|| {
        let why = "this node takes no part in the mesh";
        let hint = if daemon.config.mesh.enabled {
            "only a node that stays does: honeylink up"
        } else {
            "honeylink config set mesh.enabled true, then honeylink down && honeylink up"
        };
        ErrorBody::new(ErrorCode::Unsupported, why).with_hint(hint)
    })
}

async fn look(daemon: &Daemon) -> Result<MeshSnapshot, ErrorBody> {
    handle(daemon)?.snapshot().await.map_err(|MeshStopped| super::shutting_down())
}

/// Paired devices by what the mesh sees of them.
struct Names {
    far: BTreeMap<Far, Vec<(DeviceId, String)>>,
    near: BTreeMap<Near, Vec<(DeviceId, String)>>,
}

impl Names {
    fn of(daemon: &Daemon) -> Self {
        let (mut far, mut near) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        let paired = daemon.node.store().trust().list().into_iter().filter(|peer| peer.trust.is_trusted());
        for peer in paired {
            far.entry(Far::from(&peer.id)).or_default().push((peer.id, daemon.name_of(&peer.id)));
            near.entry(Near::from(&peer.id)).or_default().push((peer.id, daemon.name_of(&peer.id)));
        }
        Self { far, near }
    }

    fn far(&self, hint: &Far) -> Option<&(DeviceId, String)> {
        only(self.far.get(hint)?)
    }

    fn near(&self, hint: &Near) -> Option<&(DeviceId, String)> {
        only(self.near.get(hint)?)
    }
}

/// Two devices may share a hint; then it names neither.
fn only(known: &[(DeviceId, String)]) -> Option<&(DeviceId, String)> {
    if let [one] = known { Some(one) } else { None }
}

/// Ports by what they are called.
struct PortNames(BTreeMap<PortId, String>);

impl PortNames {
    fn of(daemon: &Daemon, snapshot: &MeshSnapshot) -> Self {
        Self(snapshot.ports.iter().map(|port| (port.id, port_name(daemon, snapshot, &port.leads))).collect())
    }

    fn name(&self, port: PortId) -> String {
        self.0.get(&port).cloned().unwrap_or_else(|| "a port that is down".to_owned())
    }
}

fn port_name(daemon: &Daemon, snapshot: &MeshSnapshot, leads: &Leads) -> String {
    match leads {
        Leads::Neighbour { peer, .. } => daemon.name_of(peer),
        Leads::Air { radio } => {
            let radio = snapshot.radios.get(*radio);
            radio.map_or_else(|| "a radio".to_owned(), |radio| radio.path.display().to_string())
        }
    }
}

fn ports(daemon: &Daemon, snapshot: &MeshSnapshot) -> Vec<MeshPort> {
    let port = |port: &honeylink::mesh::PortView| {
        let (id, offers) = match &port.leads {
            Leads::Neighbour { peer, caps, .. } => (Some(peer.to_string()), offers(*caps)),
            Leads::Air { .. } => (None, Vec::new()),
        };
        MeshPort {
            port: port.id.0,
            id,
            name: port_name(daemon, snapshot, &port.leads),
            offers,
            class: port.info.class.as_str().to_owned(),
            frame_bytes_max: port.info.mtu,
            age_s: port.age.as_secs(),
        }
    };
    snapshot.ports.iter().map(port).collect()
}

fn offers(caps: Caps) -> Vec<String> {
    let words = [
        (Caps::RELAY, "relay"),
        (Caps::STORE, "store"),
        (Caps::GATEWAY, "gateway"),
        (Caps::CONSTRAINED, "constrained"),
    ];
    words.into_iter().filter(|(cap, _)| caps.has(*cap)).map(|(_, word)| word.to_owned()).collect()
}

fn neighbours(snapshot: &MeshSnapshot, names: &Names) -> Vec<MeshNeighbour> {
    let neighbour = |view: &honeylink::mesh::NeighbourView| {
        let known = names.near(&view.near);
        MeshNeighbour {
            hint: view.near.to_string(),
            id: known.map(|(id, _)| id.to_string()),
            name: known.map(|(_, name)| name.clone()),
            port: view.port.0,
            heard_s: snapshot.at.saturating_since(view.heard_at).as_secs(),
            snr_db: view.snr_quarter_db.map(|quarters| f64::from(quarters) / 4.0),
            chance: f64::from(view.chance_permille) / 1000.0,
        }
    };
    snapshot.mesh.neighbours.iter().map(neighbour).collect()
}

fn describe(way: &Way, snapshot: &MeshSnapshot, names: &Names, over: &PortNames) -> MeshWay {
    MeshWay {
        next: way.next.to_string(),
        next_name: names.near(&way.next).map(|(_, name)| name.clone()),
        port: way.port.0,
        over: over.name(way.port),
        hops: way.hops,
        cost_ms: way.cost.ms(),
        failures: way.failures,
        age_s: way.age(snapshot.at).as_secs(),
    }
}

fn kept(snapshot: &MeshSnapshot) -> MeshKept {
    let custody = &snapshot.mesh.custody;
    MeshKept {
        frames: snapshot.mesh.kept,
        frame_bytes: snapshot.mesh.kept_bytes,
        taken: custody.stored,
        delivered: custody.delivered,
        handed_on: custody.handed_on,
        expired: custody.expired,
        displaced: custody.displaced,
        refused: custody.refused.values().sum(),
    }
}

fn frames(snapshot: &MeshSnapshot) -> MeshFrames {
    let counted = &snapshot.mesh.stats;
    let kind = |kind: Kind| {
        let of = |counters: &[u64; 16]| counters.get(kind as usize).copied().unwrap_or(0);
        MeshKind {
            kind: kind.as_str().to_owned(),
            sent: of(&counted.sent),
            sent_bytes: of(&counted.sent_bytes),
            heard: of(&counted.heard),
        }
    };
    let dropped = |why: Dropped| MeshDrop { reason: why.as_str().to_owned(), count: counted.dropped(why) };
    MeshFrames {
        waiting: snapshot.mesh.waiting,
        forwarded: counted.forwarded,
        suppressed: counted.suppressed,
        unanswered: counted.unanswered,
        kinds: Kind::ALL.into_iter().map(kind).filter(|kind| kind.sent + kind.heard > 0).collect(),
        dropped: Dropped::ALL.into_iter().map(dropped).filter(|dropped| dropped.count > 0).collect(),
    }
}

fn radio_list(daemon: &Daemon, snapshot: &MeshSnapshot) -> Vec<MeshRadio> {
    // The library keeps the order of the configuration.
    let configured = daemon.config.mesh.radios.iter().zip(&snapshot.radios);
    configured.filter_map(|(config, view)| radio(config, view)).collect()
}

fn radio(config: &config::Radio, view: &RadioView) -> Option<MeshRadio> {
    // It was made from the same values when the node started.
    let serial = config.serial().ok()?;
    let band = serial.schedule().band;
    let status = &view.status;
    let (state, detail, firmware) = match &status.modem {
        ModemState::SettingUp => (RadioState::SettingUp, None, None),
        ModemState::Up(identity) => {
            (RadioState::Up, None, identity.firmware.map(|version| version.to_string()))
        }
        ModemState::Down(reason) => (RadioState::Down, Some(reason.to_string()), None),
    };
    let (load, frames) = (&status.load, &status.frames);
    let lost =
        [frames.lost, frames.refused, frames.expired, frames.evicted, frames.queue_full, frames.unsendable];
    Some(MeshRadio {
        port: view.path.display().to_string(),
        state,
        detail,
        firmware,
        frequency_hz: config.frequency_hz,
        band: MeshBand { low_hz: band.low_hz, high_hz: band.high_hz, duty_ppm: band.duty_ppm },
        class: serial.class().as_str().to_owned(),
        used_ms: load.used_us / 1000,
        left_ms: load.budget_us.saturating_sub(load.used_us) / 1000,
        budget_ms: load.budget_us / 1000,
        frees_in_s: load.frees_in.as_secs(),
        queued: load.queued_frames.iter().sum(),
        queued_bytes: load.queued_bytes,
        sent: frames.aired + frames.assumed,
        unsent: lost.iter().sum(),
        malformed: status.line.malformed,
        restarts: status.line.restarts,
    })
}
