//! How each part of the node does, for `status`, `/healthz` and `/metrics`.
//!
//! *Degraded*: works in part, and the rest of the node goes on; a person may want to know. *Unhealthy*: what was promised
//! cannot be kept. What a person has switched off is healthy.

use honeylink::carrier::serial::ModemState;
use honeylink::mesh::MeshSnapshot;
use honeylink::store::limits::MESH_INBOX_MESSAGES_MAX;
use honeylink_api::{Phase, Subsystem, SubsystemState};

use super::state::Daemon;

/// The node as it is now: what its parts say of themselves is asked once.
pub(super) struct Look {
    /// The mesh, if the node takes part in it.
    pub(super) mesh: Option<MeshSnapshot>,
}

impl Look {
    /// Asks every part that has to be asked.
    pub(super) async fn at(daemon: &Daemon) -> Self {
        let mesh = match daemon.node.mesh() {
            Some(mesh) => mesh.snapshot().await.ok(),
            None => None,
        };
        Self { mesh }
    }

    /// The parts of the node, each with how it does.
    pub(super) fn subsystems(&self, daemon: &Daemon) -> Vec<Subsystem> {
        let phase = *daemon.phase.borrow();
        if phase != Phase::Running {
            let draining = |name: &str| {
                part(name, SubsystemState::Draining, Some("the node is shutting down".to_owned()))
            };
            return ["node", "store", "carrier", "discovery", "mesh"].map(draining).into();
        }
        let mut parts = vec![
            part("node", SubsystemState::Healthy, None),
            self.store(daemon),
            part("carrier", SubsystemState::Healthy, None),
            discovery(daemon),
            self.mesh(daemon),
        ];
        parts.extend(relays(daemon));
        parts.extend(dht(daemon));
        parts.extend(self.mesh.iter().flat_map(|mesh| &mesh.radios).map(|radio| {
            let name = format!("radio {}", radio.path.display());
            match &radio.status.modem {
                ModemState::Up(_) => part(&name, SubsystemState::Healthy, None),
                ModemState::SettingUp => {
                    part(&name, SubsystemState::Degraded, Some("the modem is being set up".to_owned()))
                }
                ModemState::Down(reason) => part(&name, SubsystemState::Degraded, Some(reason.to_string())),
            }
        }));
        parts
    }

    fn store(&self, daemon: &Daemon) -> Subsystem {
        if let Some(why) = self.mesh.as_ref().and_then(|mesh| mesh.disk.clone()) {
            return part("store", SubsystemState::Unhealthy, Some(format!("cannot be written: {why}")));
        }
        let unreadable = daemon.node.store().unreadable();
        match unreadable.first() {
            None => part("store", SubsystemState::Healthy, None),
            Some(first) => {
                let why = format!("{first} ({} in all)", unreadable.len());
                part("store", SubsystemState::Degraded, Some(why))
            }
        }
    }

    fn mesh(&self, daemon: &Daemon) -> Subsystem {
        match (&self.mesh, daemon.node.mesh()) {
            (None, None) => {
                part("mesh", SubsystemState::Healthy, Some("switched off (mesh.enabled)".to_owned()))
            }
            (None, Some(_)) => part("mesh", SubsystemState::Unhealthy, Some("it does not answer".to_owned())),
            (Some(mesh), _) if mesh.disk.is_some() => {
                let why = "nothing is promised until the disk takes it".to_owned();
                part("mesh", SubsystemState::Unhealthy, Some(why))
            }
            (Some(mesh), _) if mesh.inbox >= MESH_INBOX_MESSAGES_MAX => {
                let why = format!("{} messages wait and nobody takes them; more are lost", mesh.inbox);
                part("mesh", SubsystemState::Degraded, Some(why))
            }
            (Some(_), _) => part("mesh", SubsystemState::Healthy, None),
        }
    }
}

/// The relays of the settings, if there are any: one that works is enough.
fn relays(daemon: &Daemon) -> Option<Subsystem> {
    if daemon.config.node.relays.is_empty() {
        return None;
    }
    let states = daemon.node.relays();
    if states.is_empty() {
        let why = "not used: relays need node.reach = \"wide\"".to_owned();
        return Some(part("relays", SubsystemState::Degraded, Some(why)));
    }
    if states.iter().any(|state| state.connected) {
        return Some(part("relays", SubsystemState::Healthy, None));
    }
    let problem = states.iter().find_map(|state| {
        state.problem.as_ref().map(|problem| format!("{}: {problem}", state.relay.authority()))
    });
    let why = problem.unwrap_or_else(|| "none of them answered yet".to_owned());
    Some(part("relays", SubsystemState::Degraded, Some(why)))
}

/// The DHT, if the settings name it.
fn dht(daemon: &Daemon) -> Option<Subsystem> {
    if !daemon.config.node.dht {
        return None;
    }
    let Some(state) = daemon.node.dht() else {
        let why = "not used: the DHT needs node.reach = \"wide\"".to_owned();
        return Some(part("dht", SubsystemState::Degraded, Some(why)));
    };
    let health = if state.problem.is_some() { SubsystemState::Degraded } else { SubsystemState::Healthy };
    Some(part("dht", health, state.problem))
}

fn discovery(daemon: &Daemon) -> Subsystem {
    let off = (!daemon.config.discovery.enabled).then(|| "switched off (discovery.enabled)".to_owned());
    part("discovery", SubsystemState::Healthy, off)
}

fn part(name: &str, state: SubsystemState, detail: Option<String>) -> Subsystem {
    Subsystem { name: name.to_owned(), state, detail }
}
