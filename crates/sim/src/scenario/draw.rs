//! Draws a plan from a scenario: every number the scenario leaves open comes from the seed.

use super::Scenario;
use crate::chance::{Chance, Purpose};
use crate::device::NodeId;
use crate::fault::Fault;
use crate::plan::{Air, Link, Message, Movement, Node, Plan, Role, Timed};
use crate::radio::reach::Reach;
use crate::topology;

pub(super) fn draw(scenario: &Scenario, seed: u64) -> Plan {
    let air: Option<Air> = scenario.radio.map(Air::from);
    // Shapes need a range to be scaled by; without radios they only decide how a picture looks.
    let like = air.unwrap_or_else(|| super::Radio::default().into());
    let reach = Reach::new(like.settings, like.terrain, seed);
    let count = scenario.nodes.count;
    let places = topology::places(scenario.nodes.shape, count, scenario.nodes.degree, seed, &reach);
    let together = match air {
        Some(_) => topology::largest(&reach.all(&places), reach.limit_cdbm()),
        None => (0..count).collect(),
    };
    let nodes = nodes(scenario, seed, &places, air.is_some());
    let traffic = traffic(scenario, seed, &together, &nodes);
    let mut faults = churn(scenario, seed);
    faults.extend(scenario.faults.iter().map(|at| Timed { at_ms: at.at_s * 1_000, fault: at.fault.clone() }));
    faults.sort_by_key(|timed| timed.at_ms);
    let last_fault_ms = faults.iter().map(|timed| timed.at_ms + timed.fault.for_ms().unwrap_or(0)).max();
    let busy_ms = (scenario.warm_up_s + scenario.duration_s) * 1_000;
    let heal_at_ms = busy_ms.max(last_fault_ms.unwrap_or(0));
    Plan {
        name: scenario.name.clone(),
        seed,
        protocol: scenario.protocol,
        movement: movement(scenario, seed, &places),
        air,
        links: links(scenario, seed),
        traffic,
        durable_duty: !faults.is_empty(),
        announces: true,
        exchange_after: 16,
        faults,
        demands_delivery: false,
        disk: scenario.disk,
        heal_at_ms,
        end_at_ms: heal_at_ms + scenario.settle_s * 1_000,
        warm_up_ms: scenario.warm_up_s * 1_000,
        nodes,
    }
}

fn nodes(scenario: &Scenario, seed: u64, places: &[(f64, f64)], radio: bool) -> Vec<Node> {
    let wanted = &scenario.nodes;
    let mut chance = Chance::new(seed, Purpose::Clocks, 0);
    let spread = i64::from(wanted.clock_ppm);
    let mut nodes: Vec<Node> = places
        .iter()
        .enumerate()
        .map(|(index, (x, y))| {
            let kind = chance.below(100);
            let named = wanted.store.iter().any(|store| *store as usize == index);
            let role = if named || kind < u64::from(wanted.store_percent) {
                Role::Store
            } else if kind < u64::from(wanted.store_percent + wanted.leaf_percent) {
                Role::Leaf
            } else {
                Role::Relay
            };
            let ppm = i64::try_from(chance.below(2 * wanted.clock_ppm as u64 + 1)).unwrap_or(0) - spread;
            let nat = wanted.nats.get(index % wanted.nats.len().max(1)).copied();
            Node {
                x: *x,
                y: *y,
                radio,
                role,
                clock_ppm: i32::try_from(ppm).unwrap_or(0),
                wall_offset_ms: 0,
                nats: nat.into_iter().collect(),
                starts_at_ms: 0,
            }
        })
        .collect();
    // Whoever lies stands anywhere.
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    Chance::new(seed, Purpose::Hostility, 0).shuffle(&mut order);
    for (lie, index) in wanted.hostile.iter().zip(order) {
        nodes[index].role = Role::Hostile(*lie);
    }
    nodes
}

fn traffic(scenario: &Scenario, seed: u64, together: &[usize], nodes: &[Node]) -> Vec<Message> {
    let wanted = scenario.traffic;
    let mut chance = Chance::new(seed, Purpose::Traffic, 0);
    let honest: Vec<usize> =
        together.iter().copied().filter(|index| nodes[*index].role.is_honest()).collect();
    let id = |index: usize| NodeId(u32::try_from(index).unwrap_or(u32::MAX));
    let mut all = Vec::with_capacity(wanted.conversations * wanted.messages_each);
    if honest.len() < 2 {
        return all;
    }
    for _ in 0..wanted.conversations {
        let (a, b) = match wanted.between {
            Some((a, b)) => (a as usize, b as usize),
            None => two_of(&honest, &mut chance),
        };
        for turn in 0..wanted.messages_each {
            let (from, to) = if turn % 2 == 0 { (a, b) } else { (b, a) };
            all.push(Message {
                at_ms: scenario.warm_up_s * 1_000 + chance.below((scenario.duration_s * 1_000).max(1)),
                from: id(from),
                to: id(to),
                bytes: wanted.bytes,
                priority: 1,
                lifetime_ms: wanted.lifetime_s * 1_000,
            });
        }
    }
    all.sort_by_key(|message| message.at_ms);
    all
}

/// Two different ones of at least two.
fn two_of(honest: &[usize], chance: &mut Chance) -> (usize, usize) {
    let a = honest[chance.index(honest.len())];
    loop {
        let b = honest[chance.index(honest.len())];
        if b != a {
            return (a, b);
        }
    }
}

fn churn(scenario: &Scenario, seed: u64) -> Vec<Timed> {
    let churn = scenario.churn;
    let mut chance = Chance::new(seed, Purpose::Faults, 0);
    let hours = scenario.duration_s as f64 / 3_600.0;
    let crashes = f64::from(churn.crashes_per_hour_percent) / 100.0 * scenario.nodes.count as f64 * hours;
    (0..crashes.round() as usize)
        .map(|_| {
            let at_ms = (scenario.warm_up_s * 1_000) + chance.below((scenario.duration_s * 1_000).max(1));
            let node = NodeId(u32::try_from(chance.index(scenario.nodes.count)).unwrap_or(0));
            let for_ms = (chance.exponential(churn.away_s as f64 * 1_000.0) as u64).max(1_000);
            Timed { at_ms, fault: Fault::Crash { node, for_ms } }
        })
        .collect()
}

fn links(scenario: &Scenario, seed: u64) -> Vec<Link> {
    let wanted = &scenario.links;
    let mut chance = Chance::new(seed, Purpose::Links, u64::MAX);
    let count = scenario.nodes.count as u64;
    let mut pairs = wanted.pairs.clone();
    if count > 1 {
        for a in 0..count {
            for _ in 0..wanted.random_per_node {
                let b = (a + 1 + chance.below(count - 1)) % count;
                let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                pairs.push((number(a.min(b)), number(a.max(b))));
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    let lane = &wanted.lane;
    pairs
        .into_iter()
        .map(|(a, b)| Link { a: NodeId(a), b: NodeId(b), there: lane.clone(), back: lane.clone() })
        .collect()
}

fn movement(scenario: &Scenario, seed: u64, places: &[(f64, f64)]) -> Option<Movement> {
    let wanted = &scenario.nodes;
    let count = places.len() * wanted.moving_percent as usize / 100;
    if count == 0 {
        return None;
    }
    let mut order: Vec<u32> = (0..).take(places.len()).collect();
    Chance::new(seed, Purpose::Movement, 1).shuffle(&mut order);
    order.truncate(count);
    order.sort_unstable();
    let edge = places.iter().map(|(x, y)| x.max(*y)).fold(1.0, f64::max);
    Some(Movement { nodes: order.into_iter().map(NodeId).collect(), speed: wanted.speed_m_s, edge })
}
