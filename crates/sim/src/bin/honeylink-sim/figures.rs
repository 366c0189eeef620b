//! Figures of the product alone: bytes, airtime vectors, speed, memory, convergence, liars.

use honeylink_core::identity::SecretKey;
use honeylink_core::mesh::frame::{AnnounceKey, Beacon, Caps, Cost, Frame, Seq20};
use honeylink_core::mesh::hint::{Near, Tag};
use honeylink_core::radio::{CodingRate, Lora};
use honeylink_sim::clock::Moment;
use honeylink_sim::device::{Class, NodeId};
use honeylink_sim::fault::Fault;
use honeylink_sim::hostile::Lie;
use honeylink_sim::plan::{Plan, Role};
use honeylink_sim::runner::many::{each, processors};
use honeylink_sim::runner::{Judging, Outcome, run};
use honeylink_sim::scenario::{At, Churn, Nodes, Radio, Scenario, Traffic};
use honeylink_sim::topology::Shape;

use crate::rows::Row;
use crate::stats::Estimate;

/// Two announce intervals, in seconds.
const CONVERGED_S: f64 = 1_200.0;

/// Every figure but the comparison.
pub(crate) fn all(seeds: u64) -> Result<Vec<Row>, String> {
    let mut rows = vec![bytes_acknowledged()?, announce_bytes(), beacon_bytes(), airtime_vectors()?];
    rows.extend(large()?);
    rows.push(convergence(seeds)?);
    rows.push(liars(seeds)?);
    Ok(rows)
}

/// One of the figures that take long and depend on chance.
pub(crate) fn one(id: &str, seeds: u64) -> Result<Row, String> {
    match id {
        "S5" => convergence(seeds),
        "H1" => liars(seeds),
        _ => Err(format!("`{id}` is not asked for by itself; there are S5 and H1")),
    }
}

fn ran(plan: &Plan, judging: Judging) -> Result<Outcome, String> {
    run(plan, judging).map_err(|error| error.to_string())
}

/// A message of 20 bytes to a neighbour whose way is known, and its receipt: everything on the air for it.
fn bytes_acknowledged() -> Result<Row, String> {
    let scenario = Scenario {
        nodes: Nodes { count: 2, shape: Shape::Line, ..Nodes::default() },
        radio: Some(Radio::default()),
        duration_s: 10,
        settle_s: 300,
        traffic: Traffic { conversations: 1, messages_each: 2, bytes: 20, lifetime_s: 3_600, between: None },
        ..Scenario::default()
    };
    let mut plan = scenario.plan(1);
    for (message, at_s) in plan.traffic.iter_mut().zip([10, 200]) {
        message.at_ms = at_s * 1_000;
        (message.from, message.to) = (NodeId(0), NodeId(1));
    }
    plan.warm_up_ms = 199_000;
    plan.end_at_ms = 260_000;
    let outcome = ran(&plan, Judging::Strict)?;
    let tally = outcome.tally.ok_or("the run panicked")?;
    if tally.summary().confirmed != 1 {
        return Err("a message between two neighbours was not confirmed".to_owned());
    }
    let bytes = tally.air_bytes[Class::Data as usize] + tally.air_bytes[Class::Ack as usize];
    Ok(Row::at_most("W1", "a 20-byte message delivered and acknowledged", bytes as f64, "B", 73.0))
}

fn announce_bytes() -> Row {
    let announce = AnnounceKey::new(&SecretKey::from_u64(1), Seq20::new(1), Caps::RELAY);
    let bytes = Frame::AnnounceKey(announce).to_bytes().len();
    Row::at_most("W2", "an announce", bytes as f64, "B", 103.0)
}

fn beacon_bytes() -> Row {
    let beacon = Beacon {
        hops: 0,
        prev: Near(1),
        cost: Cost::FREE,
        tag: Tag([0; 8]),
        seq: Seq20::new(1),
        caps: Caps::RELAY,
        index: 1,
        value: [0; 16],
    };
    let bytes = Frame::Beacon(beacon).to_bytes().len();
    Row::at_most("W3", "a beacon", bytes as f64, "B", 36.0)
}

/// Microseconds at 125 kHz, 4/5, preamble 8, by spreading factor and bytes; two independent libraries agree on all.
const VECTORS: [(u8, [(usize, u64); 8]); 6] = [
    (
        7,
        [
            (10, 41_216),
            (20, 56_576),
            (51, 102_656),
            (64, 118_016),
            (100, 174_336),
            (167, 271_616),
            (222, 348_416),
            (255, 399_616),
        ],
    ),
    (
        8,
        [
            (10, 72_192),
            (20, 102_912),
            (51, 184_832),
            (64, 215_552),
            (100, 307_712),
            (167, 481_792),
            (222, 614_912),
            (255, 707_072),
        ],
    ),
    (
        9,
        [
            (10, 144_384),
            (20, 185_344),
            (51, 328_704),
            (64, 390_144),
            (100, 553_984),
            (167, 861_184),
            (222, 1_106_944),
            (255, 1_250_304),
        ],
    ),
    (
        10,
        [
            (10, 288_768),
            (20, 370_688),
            (51, 616_448),
            (64, 698_368),
            (100, 1_026_048),
            (167, 1_558_528),
            (222, 2_009_088),
            (255, 2_295_808),
        ],
    ),
    (
        11,
        [
            (10, 577_536),
            (20, 741_376),
            (51, 1_314_816),
            (64, 1_560_576),
            (100, 2_215_936),
            (167, 3_444_736),
            (222, 4_427_776),
            (255, 5_001_216),
        ],
    ),
    (
        12,
        [
            (10, 991_232),
            (20, 1_318_912),
            (51, 2_465_792),
            (64, 2_793_472),
            (100, 3_940_352),
            (167, 6_234_112),
            (222, 8_036_352),
            (255, 9_019_392),
        ],
    ),
];

fn airtime_vectors() -> Result<Row, String> {
    let mut wrong = 0;
    for (spreading, row) in VECTORS {
        let lora = Lora::new(spreading, 125_000, CodingRate::Cr45).map_err(|error| error.to_string())?;
        wrong += row.iter().filter(|(bytes, us)| lora.airtime_us(*bytes) != *us).count();
    }
    Ok(Row::at_most("A1", "airtimes that differ from the vectors", wrong as f64, "", 0.0).of(48))
}

/// An hour of a large network, with traffic and churn.
fn hour_of(count: usize) -> Plan {
    let scenario = Scenario {
        nodes: Nodes { count, ..Nodes::default() },
        radio: Some(Radio::default()),
        duration_s: 3_600,
        settle_s: 0,
        traffic: Traffic { conversations: count / 25, messages_each: 5, ..Traffic::default() },
        churn: Churn { crashes_per_hour_percent: 10, away_s: 300 },
        ..Scenario::default()
    };
    scenario.plan(1)
}

/// How long an hour of large networks takes, and what an idle node holds.
fn large() -> Result<Vec<Row>, String> {
    let plan = hour_of(1_000);
    let seconds = timed(|| ran(&plan, Judging::Lawful))?;
    let mut idle = plan;
    idle.traffic.clear();
    idle.faults.clear();
    let tally = ran(&idle, Judging::Lawful)?.tally.ok_or("the run panicked")?;
    let (bytes, nodes) = tally.state_last;
    let kib = bytes as f64 / nodes.max(1) as f64 / 1_024.0;
    Ok(vec![
        Row::at_most("S1", "an hour of 1,000 nodes with traffic and churn", seconds, "s", 60.0),
        Row::at_most("S2", "state of an idle node in a network of 1,000, mean", kib, "KiB", 20.0)
            .of(usize::try_from(nodes).unwrap_or(0)),
    ])
}

/// How long an hour of the largest network takes. That it runs is what is asked; an hour in an hour is the least that
/// could be called so.
pub(crate) fn largest() -> Result<Row, String> {
    let plan = hour_of(5_000);
    let seconds = timed(|| ran(&plan, Judging::Lawful))?;
    Ok(Row::at_most("S8", "an hour of 5,000 nodes with traffic and churn", seconds, "s", 3_600.0))
}

#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the speed of the simulator is what is measured"
)]
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T, String>) -> Result<f64, String> {
    let began = std::time::Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}

/// Half of a network is cut off from the other half for half an hour; what was written across meanwhile must arrive
/// within two announce intervals after it has healed.
fn convergence(seeds: u64) -> Result<Row, String> {
    let heal_s = 3_000;
    let each_seed: Vec<u64> = (1..=seeds).collect();
    let outcomes = each(&each_seed, processors(), |seed| {
        let scenario = Scenario {
            nodes: Nodes { count: 50, ..Nodes::default() },
            radio: Some(Radio::default()),
            duration_s: 1_800,
            warm_up_s: 1_200,
            settle_s: 3_600,
            traffic: Traffic {
                conversations: 5,
                messages_each: 4,
                bytes: 20,
                lifetime_s: 6 * 3_600,
                between: None,
            },
            ..Scenario::default()
        };
        let mut plan = scenario.plan(*seed);
        let middle = plan.nodes.iter().map(|node| node.x).sum::<f64>() / plan.nodes.len() as f64;
        let west = |id: NodeId| plan.nodes[id.index()].x < middle;
        let side: Vec<NodeId> = (0..).map(NodeId).take(plan.nodes.len()).filter(|id| west(*id)).collect();
        plan.traffic.retain(|message| side.contains(&message.from) != side.contains(&message.to));
        let fault = Fault::Partition { side, one_way: false, for_ms: (heal_s - 1_200) * 1_000 };
        plan.faults = vec![honeylink_sim::plan::Timed {
            at_ms: At { at_s: 1_200, fault: fault.clone() }.at_s * 1_000,
            fault,
        }];
        ran(&plan, Judging::Lawful)
    });
    let healed = Moment::from_secs(heal_s);
    let mut percents = Vec::new();
    for outcome in outcomes {
        let tally = outcome?.tally.ok_or("a run panicked")?;
        let in_time = tally.counted().filter(|(story, _)| {
            story.delivered.is_some_and(|at| at.since_us(healed) as f64 / 1e6 <= CONVERGED_S)
        });
        let (in_time, all) = (in_time.count(), tally.counted().count());
        if all > 0 {
            percents.push(100.0 * in_time as f64 / all as f64);
        }
    }
    let what = "messages written across a partition that arrive within two announce intervals after it heals";
    Ok(Row::mean_at_least("S5", what, Estimate::of(&percents), "%", 99.0))
}

/// A tenth of the nodes lie, all ways at once; the others' messages, beside those of the same network without them.
fn liars(seeds: u64) -> Result<Row, String> {
    let each_seed: Vec<u64> = (1..=seeds).collect();
    let ratios = each(&each_seed, processors(), |seed| {
        let hostile: Vec<Lie> = Lie::ALL.into_iter().cycle().take(10).collect();
        let scenario = Scenario {
            nodes: Nodes { count: 100, hostile, ..Nodes::default() },
            radio: Some(Radio::default()),
            settle_s: 1_800,
            traffic: Traffic { conversations: 10, messages_each: 5, ..Traffic::default() },
            ..Scenario::default()
        };
        let with = scenario.plan(*seed);
        let mut without = with.clone();
        for node in without.nodes.iter_mut().filter(|node| matches!(node.role, Role::Hostile(_))) {
            node.role = Role::Leaf;
            node.starts_at_ms = u64::MAX / 1_000_000;
        }
        let ratio = |plan: &Plan| -> Result<f64, String> {
            let tally = ran(plan, Judging::Strict)?.tally.ok_or("a run panicked")?;
            Ok(tally.summary().delivery_ratio)
        };
        Ok::<_, String>((ratio(&with)?, ratio(&without)?))
    });
    let ratios: Vec<(f64, f64)> = ratios.into_iter().collect::<Result<_, _>>()?;
    let kept: Vec<f64> = ratios.iter().map(|(with, without)| 100.0 * with / without.max(1e-9)).collect();
    let estimate = Estimate::of(&kept);
    let what = "delivery among honest nodes with a tenth of hostile ones, of its value without them";
    Ok(Row::mean_at_least("H1", what, estimate, "%", 90.0))
}
