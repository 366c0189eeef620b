//! A plan in real time: real nodes on emulated modems.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use honeylink::carrier::serial::{Radio, SerialConfig};
use honeylink::mesh::{MeshHandle, MeshOptions, SendOptions, Topic};
use honeylink::radio::{CodingRate, Lora, Region, Tuning};
use honeylink::store::{NewPeer, OnNameTaken, PairingMethod};
use honeylink::testing::modem::{Air, AirConfig, Kind, Modem};
use honeylink::{DeviceType, MemoryNetwork, Node};
use honeylink_sim::device::NodeId;
use honeylink_sim::plan::{Air as PlannedAir, Message, Plan};
use honeylink_sim::product::key_of;
use honeylink_sim::radio::reach::Reach;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::report::Measured;

/// How long radios may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// Bytes of a payload that say which message it is; one more is its topic.
const NUMBER_BYTES: usize = 4;
/// Gain of the antennas that nobody has, in hundredths of dBi: a dipole's.
const ANTENNA_CDBI: i16 = 215;

/// Runs all plans at the same time, each on a channel of its own.
pub(crate) async fn all(plans: &[Plan]) -> Result<Vec<Measured>, String> {
    let mut runs = JoinSet::new();
    for (index, plan) in plans.iter().cloned().enumerate() {
        runs.spawn(async move { (index, one(&plan).await) });
    }
    let mut measured = vec![Measured::default(); plans.len()];
    while let Some(run) = runs.join_next().await {
        let (index, result) = run.map_err(|error| error.to_string())?;
        measured[index] = result?;
    }
    Ok(measured)
}

/// The numbers of messages that arrived.
type Arrived = Arc<Mutex<BTreeSet<u32>>>;

async fn one(plan: &Plan) -> Result<Measured, String> {
    let told = |error: &dyn std::error::Error| error.to_string();
    let folder = tempfile::tempdir().map_err(|e| told(&e))?;
    let planned = plan.air.ok_or("the scenario has no radios")?;
    let born = Instant::now();
    let air = Air::new(AirConfig { seed: plan.seed, ..AirConfig::default() });
    let (mut nodes, mut modems) = (Vec::new(), Vec::new());
    for index in 0..plan.nodes.len() {
        let modem = Modem::plugged(&air, folder.path(), &format!("m{index}"), Kind::rnode());
        let modem = modem.map_err(|e| told(&e))?;
        nodes.push(node(plan, index, radio(&planned, &modem, folder.path())?).await?);
        modems.push(modem);
    }
    place(plan, &planned, &air, &modems);
    acquaint(plan, &nodes)?;
    let arrived = Arrived::default();
    let mut listening = JoinSet::new();
    for node in &nodes {
        listening.spawn(listen(mesh(node)?, arrived.clone()));
    }
    tokio::time::timeout(READY_MAX, ready(&nodes)).await.map_err(|_| "the radios were not ready")??;
    let start = Instant::now();
    let from_us = start.duration_since(born) + Duration::from_millis(plan.warm_up_ms);
    say(plan, &nodes, start).await?;
    tokio::time::sleep_until(start + Duration::from_millis(plan.end_at_ms)).await;
    let counted = air.log().into_iter().filter(|frame| u128::from(frame.start_us) >= from_us.as_micros());
    let airtime_us: u64 = counted.map(|frame| frame.end_us - frame.start_us).sum();
    listening.shutdown().await;
    for node in nodes {
        node.shutdown().await;
    }
    let delivered = arrived.lock().unwrap_or_else(PoisonError::into_inner).len();
    Ok(Measured { sent: plan.traffic.len(), delivered, airtime_s: airtime_us as f64 / 1e6 })
}

fn radio(planned: &PlannedAir, modem: &Modem, folder: &Path) -> Result<SerialConfig, String> {
    let settings = planned.settings;
    let coding = CodingRate::from_denominator(settings.coding).map_err(|e| e.to_string())?;
    let lora = Lora::new(settings.spreading, settings.bandwidth_hz, coding).map_err(|e| e.to_string())?;
    let tuning = Tuning::new(&Region::EU868, settings.frequency_hz, lora, settings.tx_dbm, ANTENNA_CDBI);
    let tuning = tuning.map_err(|e| e.to_string())?;
    let ledger = folder.join(format!("ledger-{}", modem.number()));
    Ok(SerialConfig::new(modem.path(), Radio::Rnode(tuning)).ledger(ledger))
}

async fn node(plan: &Plan, index: usize, radio: SerialConfig) -> Result<Node, String> {
    // Alone on its network: the air is all there is between them.
    let network = MemoryNetwork::new();
    let builder = Node::builder().name(name(index)).key(key_of(plan.seed, id(index))).memory(&network);
    let options = MeshOptions::default().store(false).radio(radio);
    builder.mesh(options).build().await.map_err(|error| error.to_string())
}

fn name(index: usize) -> String {
    format!("n{index}")
}

fn id(index: usize) -> NodeId {
    NodeId(u32::try_from(index).unwrap_or(u32::MAX))
}

fn mesh(node: &Node) -> Result<MeshHandle, String> {
    node.mesh().ok_or_else(|| "a node without a mesh".to_owned())
}

/// Who hears whom is what the simulator computes from their places.
fn place(plan: &Plan, planned: &PlannedAir, air: &Air, modems: &[Modem]) {
    let reach = Reach::new(planned.settings, planned.terrain, plan.seed);
    let spot = |index: usize| (id(index), plan.nodes[index].x, plan.nodes[index].y);
    for (a, from) in modems.iter().enumerate() {
        for (b, to) in modems.iter().enumerate().filter(|(b, _)| *b != a) {
            let power_cdbm = reach.power_cdbm(spot(a), spot(b));
            let heard = (power_cdbm >= reach.limit_cdbm()).then_some(power_cdbm.div_euclid(100));
            air.set_rssi(from, to, heard.and_then(|dbm| i16::try_from(dbm).ok()));
        }
    }
}

/// Whoever writes to each other is paired, as in the simulator.
fn acquaint(plan: &Plan, nodes: &[Node]) -> Result<(), String> {
    let pairs: BTreeSet<(usize, usize)> = plan
        .traffic
        .iter()
        .flat_map(|m| [(m.from.index(), m.to.index()), (m.to.index(), m.from.index())])
        .collect();
    for (here, there) in pairs {
        let peer = NewPeer {
            id: nodes[there].id(),
            name: None,
            announced_name: name(there),
            device_type: DeviceType::Embedded,
            method: PairingMethod::Code,
        };
        let trust = nodes[here].store().trust();
        trust.pair(&peer, OnNameTaken::Refuse, 0).map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn listen(mesh: MeshHandle, arrived: Arrived) {
    let Ok(mut messages) = mesh.messages(Topic::APPLICATION) else { return };
    while let Some(message) = messages.next().await {
        if let Some(number) = message.payload.first_chunk::<NUMBER_BYTES>() {
            arrived.lock().unwrap_or_else(PoisonError::into_inner).insert(u32::from_be_bytes(*number));
        }
    }
}

/// Waits until every modem takes frames.
async fn ready(nodes: &[Node]) -> Result<(), String> {
    for node in nodes {
        let mesh = mesh(node)?;
        let mut events = mesh.events();
        while mesh.snapshot().await.map_err(|e| e.to_string())?.ports.is_empty() {
            events.recv().await.map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// Sends every message at its time.
async fn say(plan: &Plan, nodes: &[Node], start: Instant) -> Result<(), String> {
    for (number, message) in (0_u32..).zip(&plan.traffic) {
        let Message { at_ms, from, to, bytes, lifetime_ms, .. } = *message;
        tokio::time::sleep_until(start + Duration::from_millis(at_ms)).await;
        let mut payload = number.to_be_bytes().to_vec();
        // One byte of a message is its topic.
        payload.resize(bytes.saturating_sub(1).max(NUMBER_BYTES), 0);
        let options = SendOptions::default().lifetime(Duration::from_millis(lifetime_ms));
        let sending = mesh(&nodes[from.index()])?.send(nodes[to.index()].id(), payload, options).await;
        sending.map_err(|error| error.to_string())?;
    }
    Ok(())
}
