//! The ports of this node's mesh: which are up, to whom, and what waits for each.
//!
//! A neighbour has one port. When both ends dial at the same moment, both keep the connection dialled by the smaller
//! device id; any other second connection replaces the first, because a device dials only when it has none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::limits::{MESH_FRAME_BYTES_MAX, MESH_PORTS_MAX};
use honeylink_core::mesh::control::Hello;
use honeylink_core::mesh::frame::{Caps, PortKind};
use honeylink_core::mesh::{PortId, PortInfo};
use honeylink_core::radio::{Class, Pace};
use tokio::time::Instant;

use super::queue::Queue;
use super::radio::RADIOS_MAX;
use crate::carrier::{Conn, Side, code};

/// Neighbours over connections; the other ports are for radios.
pub(super) const NEIGHBOURS_MAX: usize = MESH_PORTS_MAX - RADIOS_MAX;
/// Two connections made within this time, one by each side, count as made at the same moment.
const SIMULTANEOUS: Duration = Duration::from_secs(2);
/// What a connection is taken to carry, bits per second. The carrier paces itself; only the order of magnitude counts,
/// against radios.
const CONNECTION_BITS_PER_S: u64 = 10_000_000;
/// Added to half the round trip for the way through both processes, microseconds.
const PROCESS_US: u64 = 500;

/// Why a connection gets no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Declined {
    #[error("too many mesh connections")]
    TooMany,
    #[error("another connection serves the mesh")]
    Served,
    #[error("not paired with this device any more")]
    NotPaired,
}

/// What a port leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// To one neighbour, over a connection.
    Neighbour {
        /// Who.
        peer: DeviceId,
        /// The name it gives itself; empty if it gives none.
        name: String,
        /// What it offers the mesh.
        caps: Caps,
        /// Protocols it serves.
        services: Vec<String>,
    },
    /// Onto the air, by the radio with this place in the configuration.
    Air {
        /// Its place, from 0.
        radio: usize,
    },
}

/// A port, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Its name while it is up.
    pub id: PortId,
    /// Where it leads.
    pub leads: Leads,
    /// What it carries.
    pub info: PortInfo,
    /// How long it is up.
    pub age: Duration,
}

#[derive(Debug)]
struct Port {
    leads: Leads,
    info: PortInfo,
    since: Instant,
    /// The connection and what waits for it; a radio has neither.
    line: Option<(Conn, Arc<Queue>)>,
}

/// See the module's doc.
#[derive(Debug)]
pub(super) struct Ports {
    local: DeviceId,
    ports: BTreeMap<PortId, Port>,
    last: u16,
}

impl Ports {
    pub(super) const fn new(local: DeviceId) -> Self {
        Self { local, ports: BTreeMap::new(), last: 0 }
    }

    /// Gives a connection a port. The port it replaces, if any, is to be taken down first.
    pub(super) fn connected(
        &mut self,
        conn: Conn,
        hello: Hello,
    ) -> Result<(PortId, Option<PortId>, Arc<Queue>), Declined> {
        let peer = conn.peer();
        let known = self.of(&peer);
        if let Some((old, since)) = known.and_then(|id| self.line(id)) {
            let crossed = since.elapsed() < SIMULTANEOUS && self.dialler(old) != self.dialler(&conn);
            if crossed && old.lost().is_none() && self.dialler(old) < self.dialler(&conn) {
                return Err(Declined::Served);
            }
            old.close(code::DONE, "replaced by a newer connection");
        } else if self.peers().count() >= NEIGHBOURS_MAX {
            return Err(Declined::TooMany);
        }
        if let Some(id) = known {
            self.ports.remove(&id);
        }
        let id = self.free_id();
        let Hello { caps, services, name, .. } = hello;
        let leads = Leads::Neighbour { peer, name, caps, services };
        let queue = Arc::new(Queue::default());
        let info = info_of(&conn);
        let port = Port { leads, info, since: Instant::now(), line: Some((conn, queue.clone())) };
        self.ports.insert(id, port);
        Ok((id, known, queue))
    }

    /// Gives a radio a port.
    pub(super) fn on_air(&mut self, radio: usize, info: PortInfo) -> PortId {
        let id = self.free_id();
        let leads = Leads::Air { radio };
        self.ports.insert(id, Port { leads, info, since: Instant::now(), line: None });
        id
    }

    fn line(&self, id: PortId) -> Option<(&Conn, Instant)> {
        let port = self.ports.get(&id)?;
        port.line.as_ref().map(|(conn, _)| (conn, port.since))
    }

    /// Takes a port down; false if it was down already.
    pub(super) fn down(&mut self, id: PortId) -> bool {
        self.ports.remove(&id).is_some()
    }

    /// Ends the connection to a device; its port, if it had one.
    pub(super) fn part(&mut self, peer: &DeviceId) -> Option<PortId> {
        let id = self.of(peer)?;
        if let Some((conn, _)) = self.ports.remove(&id)?.line {
            conn.close(code::NOT_PAIRED, "not paired with this device any more");
        }
        Some(id)
    }

    /// Ends every connection.
    pub(super) fn close(&mut self) {
        for port in std::mem::take(&mut self.ports).into_values() {
            if let Some((conn, _)) = port.line {
                conn.close(code::SHUTDOWN, "shutting down");
            }
        }
    }

    pub(super) fn info(&self, id: PortId) -> Option<PortInfo> {
        self.ports.get(&id).map(|port| port.info)
    }

    pub(super) fn queue(&self, id: PortId) -> Option<&Queue> {
        self.ports.get(&id)?.line.as_ref().map(|(_, queue)| &**queue)
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = DeviceId> {
        self.ports.values().filter_map(|port| port.line.as_ref()).map(|(conn, _)| conn.peer())
    }

    pub(super) fn view(&self, id: PortId) -> Option<PortView> {
        let port = self.ports.get(&id)?;
        Some(PortView { id, leads: port.leads.clone(), info: port.info, age: port.since.elapsed() })
    }

    pub(super) fn views(&self) -> Vec<PortView> {
        self.ports.keys().filter_map(|id| self.view(*id)).collect()
    }

    fn of(&self, peer: &DeviceId) -> Option<PortId> {
        let is = |port: &Port| port.line.as_ref().is_some_and(|(conn, _)| conn.peer() == *peer);
        self.ports.iter().find(|(_, port)| is(port)).map(|(id, _)| *id)
    }

    fn dialler(&self, conn: &Conn) -> DeviceId {
        match conn.side() {
            Side::Dialer => self.local,
            Side::Acceptor => conn.peer(),
        }
    }

    /// A number no port has now, and none had lately.
    fn free_id(&mut self) -> PortId {
        // There are far fewer ports than numbers.
        loop {
            self.last = self.last.wrapping_add(1);
            if !self.ports.contains_key(&PortId(self.last)) {
                return PortId(self.last);
            }
        }
    }
}

/// How the mesh sees a connection.
fn info_of(conn: &Conn) -> PortInfo {
    let rtt = conn.paths().into_iter().find(|path| path.selected).map_or(Duration::ZERO, |path| path.rtt);
    let latency_us = u64::try_from(rtt.as_micros() / 2).unwrap_or(u64::MAX).saturating_add(PROCESS_US);
    let pace = Pace::Rate { bits_per_s: CONNECTION_BITS_PER_S, latency_us };
    PortInfo { kind: PortKind::PointToPoint, class: Class::Unconstrained, mtu: MESH_FRAME_BYTES_MAX, pace }
}
