//! The product's own mesh as a simulated device: [`Mesh`] with nothing added and nothing left out.
//!
//! What a shell does around it is here in its simplest form: it hands on inputs and outputs, tells the mesh which devices
//! its person has paired with (all the traffic of the plan names), and says of each frame what it is for.

use std::collections::BTreeMap;

use bytes::Bytes;
use core::time::Duration;
use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::mesh::frame::{Caps, Kind, PortKind as MeshPortKind, Priority};
use honeylink_core::mesh::records::{Key, Record as MeshRecord, Saved, Table};
use honeylink_core::mesh::{
    Config, Failure, Input as MeshInput, Mesh, Outgoing, Output as MeshOutput, PortId as MeshPort, PortInfo,
    Quality as MeshQuality, Step as MeshStep,
};
use honeylink_core::radio::airtime::PACKET_BYTES_MAX;
use honeylink_core::radio::{Class as PortClass, Pace};
use honeylink_core::rng::Rng;
use honeylink_core::time::{Deadline, Time};

use crate::chance::{Purpose, blend};
use crate::device::{
    Class, Device, Errand, Input, MessageId, NodeId, Output, PortId, PortKind, Record, Step,
};
use crate::plan::{Plan, Role};
use crate::radio::modem::scheduler_config;

/// Up to so many nodes everybody is paired with those who keep messages.
const STORES_KNOWN_MAX: usize = 40;

/// The key of a node in the run of `seed`: the same in every life.
#[must_use]
pub fn key_of(seed: u64, node: NodeId) -> SecretKey {
    SecretKey::from_u64(blend(&[seed, Purpose::Devices as u64, node.0.into(), 0x006B_6579]))
}

/// A node with the product's mesh.
pub struct Product {
    /// Made at boot, from what the disk holds.
    mesh: Option<Mesh>,
    config: Config,
    key: SecretKey,
    rng_seed: u64,
    /// Whom the person has paired with.
    contacts: BTreeMap<NodeId, DeviceId>,
    names: BTreeMap<DeviceId, NodeId>,
}

impl Product {
    /// The device of `node` in its `life`th life.
    #[must_use]
    pub fn new(plan: &Plan, node: NodeId, life: u32) -> Self {
        let mut contacts = BTreeMap::new();
        for message in &plan.traffic {
            let other = match node {
                _ if message.from == node => message.to,
                _ if message.to == node => message.from,
                _ => continue,
            };
            contacts.entry(other).or_insert_with(|| key_of(plan.seed, other).id());
        }
        // In a small mesh everybody knows whoever keeps messages; in a large one, those it heard announce themselves.
        if plan.nodes.len() <= STORES_KNOWN_MAX {
            let keeps = |(_, planned): &(NodeId, &crate::plan::Node)| planned.role == Role::Store;
            for (other, _) in
                (0..).map(NodeId).zip(&plan.nodes).filter(keeps).filter(|(other, _)| *other != node)
            {
                contacts.entry(other).or_insert_with(|| key_of(plan.seed, other).id());
            }
            if plan.nodes[node.index()].role == Role::Store {
                for other in (0..).map(NodeId).take(plan.nodes.len()).filter(|other| *other != node) {
                    contacts.entry(other).or_insert_with(|| key_of(plan.seed, other).id());
                }
            }
        }
        let caps = match plan.nodes[node.index()].role {
            Role::Relay | Role::Hostile(_) => Caps::RELAY,
            Role::Store => Caps::RELAY.and(Caps::STORE),
            Role::Leaf => Caps::NONE,
        };
        Self {
            mesh: None,
            config: Config {
                caps,
                announces: plan.announces,
                exchange_after: plan.exchange_after,
                ..Config::default()
            },
            key: key_of(plan.seed, node),
            rng_seed: blend(&[plan.seed, node.0.into(), life.into()]),
            names: contacts.iter().map(|(node, id)| (*id, *node)).collect(),
            contacts,
        }
    }

    fn boot(&mut self, now: Time, records: Vec<Record>) {
        let known = |record: Record| {
            let key = Key { table: Table::from_number(record.table)?, id: record.key };
            Some(MeshRecord { key, value: record.value })
        };
        let saved: Saved = records.into_iter().filter_map(known).collect();
        let rng = Rng::from_u64(self.rng_seed);
        let mut mesh = Mesh::new(self.config, self.key.clone(), rng, saved, now);
        for id in self.contacts.values() {
            mesh.handle(now, MeshInput::Know(*id));
        }
        self.mesh = Some(mesh);
    }

    fn translate(&self, input: Input) -> Option<MeshInput> {
        Some(match input {
            Input::Boot(_) => return None,
            Input::PortUp(port, kind) => {
                MeshInput::PortUp { port: MeshPort(port.0), info: port_info(&kind)? }
            }
            Input::PortDown(port) => MeshInput::PortDown { port: MeshPort(port.0) },
            Input::Frame { port, bytes, quality } => MeshInput::Frame {
                port: MeshPort(port.0),
                bytes,
                quality: quality
                    .map(|q| MeshQuality { rssi_dbm: q.rssi_dbm, snr_quarter_db: q.snr_quarter_db }),
            },
            Input::Sent { port, token, aired } => MeshInput::Sent { port: MeshPort(port.0), token, aired },
            Input::App(Errand { id, to, payload, priority, lifetime_us, receipt }) => {
                MeshInput::Send(Outgoing {
                    id: id.0.into(),
                    to: *self.contacts.get(&to)?,
                    payload,
                    priority: Priority::from_bits(priority),
                    lifetime: Duration::from_micros(lifetime_us),
                    receipt,
                })
            }
            Input::Synced(number) => MeshInput::Synced(number),
            Input::WallClock(unix_ms) => MeshInput::WallClock(unix_ms),
            Input::Timeout => MeshInput::Timeout,
        })
    }

    fn express(&self, output: MeshOutput) -> Output {
        match output {
            MeshOutput::Transmit { port, token, bytes, priority, expires_at, kind } => Output::Transmit {
                port: PortId(port.0),
                token,
                bytes,
                priority: priority as u8,
                expires_at: Some(expires_at),
                class: class_of(kind),
                length: None,
            },
            MeshOutput::Withdraw { port, token } => Output::Withdraw { port: PortId(port.0), token },
            MeshOutput::Deliver { from, payload, .. } => {
                Output::Deliver { from: self.names.get(&from).copied(), payload }
            }
            MeshOutput::Progress { id, step } => {
                let id = MessageId(u32::try_from(id).unwrap_or(u32::MAX));
                Output::Progress { id, step: step_of(step) }
            }
            MeshOutput::Save(MeshRecord { key: Key { table, id }, value }) => {
                Output::Save(Record { table: table as u8, key: id, value })
            }
            MeshOutput::Erase(Key { table, id }) => Output::Erase { table: table as u8, key: id },
            MeshOutput::Sync(number) => Output::Sync(number),
            MeshOutput::Event(event) => Output::Note(format!("{event:?}")),
        }
    }
}

fn port_info(kind: &PortKind) -> Option<PortInfo> {
    Some(match kind {
        PortKind::Radio(settings) => {
            let config = scheduler_config(settings, true).ok()?;
            PortInfo {
                kind: MeshPortKind::Broadcast,
                class: PortClass::of(&config.pace, config.band.duty_ppm),
                mtu: PACKET_BYTES_MAX,
                pace: config.pace,
            }
        }
        PortKind::Link { mtu, bits_per_s, latency_us } => {
            let pace = Pace::Rate { bits_per_s: *bits_per_s, latency_us: *latency_us };
            let class = PortClass::of(&pace, honeylink_core::radio::band::DUTY_UNLIMITED_PPM);
            PortInfo { kind: MeshPortKind::PointToPoint, class, mtu: *mtu, pace }
        }
    })
}

/// What a frame of the mesh is for.
#[must_use]
pub const fn class_of(kind: Kind) -> Class {
    match kind {
        Kind::AnnounceKey | Kind::AnnounceAnchor | Kind::Beacon => Class::Announce,
        Kind::Data | Kind::Signed => Class::Data,
        Kind::Receipt | Kind::FragmentStatus | Kind::CustodyAccepted | Kind::HopAck => Class::Ack,
        Kind::RouteRequest | Kind::RouteReply | Kind::RouteError | Kind::RoutedRequest => Class::Route,
        Kind::IpControl => Class::Other,
    }
}

const fn step_of(step: MeshStep) -> Step {
    match step {
        MeshStep::Accepted => Step::Accepted,
        MeshStep::Sent => Step::Sent,
        MeshStep::Stored => Step::Stored,
        MeshStep::Delivered => Step::Delivered,
        MeshStep::Failed(Failure::Expired) => Step::Expired,
        MeshStep::Failed(_) => Step::Failed,
    }
}

impl Device for Product {
    fn handle(&mut self, now: Time, input: Input) {
        if let Input::Boot(records) = input {
            return self.boot(now, records);
        }
        let Some(input) = self.translate(input) else { return };
        if let Some(mesh) = &mut self.mesh {
            mesh.handle(now, input);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        let output = self.mesh.as_mut()?.poll_output()?;
        Some(self.express(output))
    }

    fn poll_timeout(&mut self) -> Option<Deadline> {
        self.mesh.as_ref()?.poll_timeout()
    }

    fn state_bytes(&self) -> usize {
        self.mesh.as_ref().map_or(0, Mesh::state_bytes)
    }
}

/// A frame's bytes, if the origin of its fields may be read from outside: used by oracles.
#[must_use]
pub fn decode(bytes: &Bytes) -> Option<honeylink_core::mesh::frame::Frame> {
    honeylink_core::mesh::frame::Frame::decode(bytes, MeshPortKind::PointToPoint).ok()
}
