//! R4: what links cost on which nothing is said: 200 of them, from one node to as many others, beside as many connections of
//! plain iroh between as many endpoints.
//!
//! All ends are in this process, so the figures are of both ends of every link together. Nodes and endpoints that have no
//! link yet are measured first: what they use then is no cost of a link.

use std::time::{Duration, Instant};

use honeylink::paths::Power;
use honeylink::{Link, Node, Reach, testing};
use iroh::Endpoint;
use iroh::endpoint::Connection;

use super::Scale;
use crate::report::Finding;
use crate::rig::{self, PROTOCOL, Rig};
use crate::{Trouble, usage};

const LINKS: usize = 200;
/// After this long the bustle of connecting is over: probes for larger packets, first acknowledgements.
const SETTLED: Duration = Duration::from_secs(15);
/// What is measured: many times the pause between two packets of one link.
const WINDOW: Duration = Duration::from_secs(30);

/// What idle links cost, both ends together.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Of one core, for all of them.
    cpu_percent: f64,
    /// UDP datagrams of one link in a minute, both directions.
    packets: f64,
    /// Bytes of these, with what UDP carries but without its headers.
    bytes: f64,
    /// Memory of one link, KiB.
    kib: f64,
}

pub(crate) fn measure(scale: &Scale) -> Result<Finding, Trouble> {
    let links = scale.samples(LINKS);
    let raw = raw(links)?;
    let mains = ours(links, Power::Mains)?;
    let battery = ours(links, Power::Battery)?;
    let facts = vec![
        ("links", links as f64),
        ("packets_per_minute", mains.packets),
        ("bytes_per_minute", mains.bytes),
        ("kib", mains.kib),
        ("battery_percent", battery.cpu_percent),
        ("battery_packets_per_minute", battery.packets),
        ("battery_bytes_per_minute", battery.bytes),
        ("raw_percent", raw.cpu_percent),
        ("raw_packets_per_minute", raw.packets),
        ("raw_bytes_per_minute", raw.bytes),
        ("raw_kib", raw.kib),
    ];
    Ok(Finding::Measured { value: mains.cpu_percent, samples: vec![mains.cpu_percent], facts })
}

/// What has been used and sent so far.
struct Reading {
    at: Instant,
    cpu: Duration,
    packets: u64,
    bytes: u64,
}

impl Reading {
    fn now((packets, bytes): (u64, u64)) -> Self {
        Self { at: Instant::now(), cpu: usage::cpu(), packets, bytes }
    }

    /// Percent of one core since then.
    fn cpu_percent(&self) -> f64 {
        (usage::cpu() - self.cpu).as_secs_f64() / self.at.elapsed().as_secs_f64() * 100.0
    }

    /// What `links` links cost since then, beyond what was used without them.
    fn cost(&self, links: usize, sent: (u64, u64), without: (f64, f64)) -> Result<Cost, Trouble> {
        let each_minute = |count: u64| count as f64 / links as f64 / self.at.elapsed().as_secs_f64() * 60.0;
        Ok(Cost {
            cpu_percent: (self.cpu_percent() - without.0).max(0.0),
            packets: each_minute(sent.0 - self.packets),
            bytes: each_minute(sent.1 - self.bytes),
            kib: (usage::memory_mib("VmRSS")? - without.1).max(0.0) * 1024.0 / links as f64,
        })
    }
}

/// Percent of one core and memory in MiB that are used as things stand.
fn as_it_stands() -> Result<(f64, f64), Trouble> {
    std::thread::sleep(SETTLED);
    let reading = Reading::now((0, 0));
    std::thread::sleep(SETTLED);
    Ok((reading.cpu_percent(), usage::memory_mib("VmRSS")?))
}

fn ours(links: usize, power: Power) -> Result<Cost, Trouble> {
    let rig = Rig::new()?;
    let node = move |name: String| {
        Node::builder().name(name).reach(Reach::Loopback).discovery(false).power(power).build()
    };
    let hub = rig.there(async move { Ok(node("hub".to_owned()).await?) })?;
    let mut spokes = Vec::new();
    for number in 0..links {
        spokes.push(rig.here(async move { Ok(node(format!("spoke-{number}")).await?) })?);
    }
    for spoke in &spokes {
        testing::introduce(spoke, &hub)?;
    }
    let without = as_it_stands()?;
    let (to, mut listener) = (hub.id(), hub.listen(PROTOCOL)?);
    let mut held: Vec<(Link, Link)> = Vec::new();
    for spoke in &spokes {
        let dialler = spoke.clone();
        let accepting = async move {
            let end = listener.accept().await.ok_or("the node stopped")?;
            Ok((end, listener))
        };
        let dialled = async move { Ok(dialler.connect(to, PROTOCOL).await?) };
        let (ours, (theirs, again)) = rig.both(dialled, accepting)?;
        listener = again;
        held.push((ours, theirs));
    }
    let sent = || {
        let traffic = spokes.iter().chain([&hub]).map(|node| node.stats().traffic);
        traffic.fold((0, 0), |(packets, bytes), one| (packets + one.sent, bytes + one.sent_bytes))
    };
    std::thread::sleep(SETTLED);
    let reading = Reading::now(sent());
    std::thread::sleep(WINDOW);
    let cost = reading.cost(links, sent(), without)?;
    if held.iter().any(|(ours, theirs)| ours.stats().resumes + theirs.stats().resumes > 0) {
        return Err("an idle link lost its connection".into());
    }
    drop((held, listener));
    for spoke in spokes {
        rig.here(async move {
            spoke.shutdown().await;
            Ok(())
        })?;
    }
    rig.there(async move {
        hub.shutdown().await;
        Ok(())
    })?;
    Ok(cost)
}

fn raw(links: usize) -> Result<Cost, Trouble> {
    let rig = Rig::new()?;
    let hub = rig.there(rig::endpoint())?;
    let mut spokes: Vec<Endpoint> = Vec::new();
    for _ in 0..links {
        spokes.push(rig.here(rig::endpoint())?);
    }
    let without = as_it_stands()?;
    let mut held = Vec::new();
    for spoke in &spokes {
        let dialler = spoke.clone();
        let (to, answerer) = (rig::address(&hub), hub.clone());
        let (ours, theirs) =
            rig.both(
                async move { rig::dial(&dialler, to).await },
                async move { rig::answer(&answerer).await },
            )?;
        held.extend([ours, theirs]);
    }
    let sent = || {
        let ends = held.iter();
        let stats = ends.map(|(connection, _): &(Connection, _)| connection.stats().udp_tx);
        stats.fold((0, 0), |(packets, bytes), one| (packets + one.datagrams, bytes + one.bytes))
    };
    std::thread::sleep(SETTLED);
    let reading = Reading::now(sent());
    std::thread::sleep(WINDOW);
    let cost = reading.cost(links, sent(), without)?;
    drop(held);
    for spoke in spokes {
        rig.here(async move {
            spoke.close().await;
            Ok(())
        })?;
    }
    rig.there(async move {
        hub.close().await;
        Ok(())
    })?;
    Ok(cost)
}
