//! What is sent on streams, by class and one by one: the library's counters in the API's words.

use std::time::Duration;

use honeylink::Class;
use honeylink::link::{ClassTraffic, LinkTraffic, StreamReport};
use honeylink::node::LinkPolicy;
use honeylink::services::{chat, files, pipe, speed};
use honeylink_api::{OpenStream, PolicyTakenBack, StreamClass, Streams};

use super::state::Daemon;

/// Streams told of at most; with more the busiest are.
const OPEN_MAX: usize = 256;

/// To one device.
pub(super) fn of_link(traffic: &LinkTraffic, policies: &[LinkPolicy]) -> Streams {
    Streams {
        carries_bytes_per_s: traffic.carries_bytes_per_s,
        queue_delay_ms: Some(millis(traffic.queue_delay)),
        reserved_bytes_per_s: traffic.reserved_bytes_per_s,
        datagrams_repaired: traffic.received.recovered,
        datagrams_lost: traffic.received.lost,
        classes: traffic.classes.iter().map(class).collect(),
        open: busiest(open(traffic, None)),
        taken_back: taken_back(policies, None),
    }
}

/// To all devices.
pub(super) fn of_node(daemon: &Daemon) -> Streams {
    let totals = daemon.node.streams();
    let connected = daemon.node.traffic();
    let streams = connected.iter().flat_map(|(id, traffic)| open(traffic, Some(&daemon.name_of(id))));
    let back = connected
        .iter()
        .flat_map(|(id, _)| taken_back(&daemon.node.link_policies(id), Some(&daemon.name_of(id))));
    Streams {
        carries_bytes_per_s: None,
        queue_delay_ms: None,
        reserved_bytes_per_s: totals.reserved_bytes_per_s,
        datagrams_repaired: totals.received.recovered,
        datagrams_lost: totals.received.lost,
        classes: totals.classes.iter().map(class).collect(),
        open: busiest(streams.collect()),
        taken_back: back.take(OPEN_MAX).collect(),
    }
}

/// The verb that links of a protocol belong to, or the protocol.
pub(super) fn verb_of(protocol: &str) -> &str {
    match protocol {
        files::PROTOCOL => "send",
        pipe::PROTOCOL => "pipe",
        chat::PROTOCOL => "chat",
        speed::PROTOCOL => "speed",
        super::path::PROTOCOL => "ping",
        other => other,
    }
}

fn open(traffic: &LinkTraffic, peer: Option<&str>) -> Vec<OpenStream> {
    let used = traffic.streams.iter().filter(|stream| stream.stats.bytes_sent > 0);
    used.filter_map(|stream| one(stream, peer)).collect()
}

fn one(stream: &StreamReport, peer: Option<&str>) -> Option<OpenStream> {
    let options = stream.options;
    Some(OpenStream {
        peer: peer.map(str::to_owned),
        verb: verb_of(stream.protocol.as_deref()?).to_owned(),
        messages: stream.messages,
        policy: stream.policy.clone(),
        class: name(options.priority.class()).to_owned(),
        priority: options.priority.as_u8(),
        weight: options.weight.as_u8(),
        rate_min_bytes_per_s: options.rate_min,
        rate_max_bytes_per_s: options.rate_max,
        bytes_sent: stream.stats.bytes_sent,
        bytes_per_s: stream.stats.bytes_per_s,
        queued_bytes: stream.stats.queued_bytes,
        wait_p50_ms: stream.stats.wait_p50.map(millis),
        wait_p90_ms: stream.stats.wait_p90.map(millis),
        wait_p99_ms: stream.stats.wait_p99.map(millis),
        datagrams_late: stream.stats.datagrams_late,
    })
}

fn busiest(mut streams: Vec<OpenStream>) -> Vec<OpenStream> {
    streams.sort_by_key(|stream| std::cmp::Reverse((stream.bytes_per_s, stream.bytes_sent)));
    streams.truncate(OPEN_MAX);
    streams
}

fn taken_back(policies: &[LinkPolicy], peer: Option<&str>) -> Vec<PolicyTakenBack> {
    let told = policies.iter().filter_map(|link| {
        let back = link.taken_back.clone()?;
        let verb = verb_of(&link.protocol).to_owned();
        Some(PolicyTakenBack { peer: peer.map(str::to_owned), verb, policy: back.name, why: back.why })
    });
    told.collect()
}

fn class(of: &ClassTraffic) -> StreamClass {
    StreamClass {
        class: name(of.class).to_owned(),
        open: of.open,
        bytes_sent: of.stats.bytes_sent,
        bytes_per_s: of.stats.bytes_per_s,
        queued_bytes: of.stats.queued_bytes,
        wait_p50_ms: of.stats.wait_p50.map(millis),
        wait_p90_ms: of.stats.wait_p90.map(millis),
        wait_p99_ms: of.stats.wait_p99.map(millis),
        datagrams_late: of.stats.datagrams_late,
        repair_sent: of.repair_sent,
    }
}

pub(crate) const fn name(class: Class) -> &'static str {
    match class {
        Class::Realtime => "realtime",
        Class::Interactive => "interactive",
        Class::Bulk => "bulk",
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
