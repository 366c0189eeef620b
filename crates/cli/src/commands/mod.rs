//! The verbs, one file each: options, help, and what the person sees. What a verb *does* is on the other side of the
//! local API, in `daemon`.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod mesh;
pub(crate) mod nearby;
pub(crate) mod pair;
pub(crate) mod path;
pub(crate) mod ping;
pub(crate) mod pipe;
pub(crate) mod receive;
#[cfg(feature = "relay-server")]
pub(crate) mod relay;
pub(crate) mod send;
#[cfg(feature = "sim")]
pub(crate) mod sim;
pub(crate) mod speed;
pub(crate) mod status;
pub(crate) mod transfers;
pub(crate) mod up;

use honeylink_api::{PathInfo, StreamClass, Streams, Trust};

use crate::output::{text, units};

/// A path in one clause: `direct/lan iroh 192.0.2.7:7843, 0.41 ms, chosen over relay 41 ms`.
fn describe_path(path: Option<&PathInfo>) -> String {
    let Some(path) = path else { return "no link".to_owned() };
    let rtt = path.rtt_ms.map(|ms| format!(", {}", units::millis(ms))).unwrap_or_default();
    let why = if path.why.is_empty() { String::new() } else { format!(", {}", text::clean(&path.why, 120)) };
    format!(
        "{} {} {}{rtt}{why}",
        path.rung.as_str(),
        text::clean(&path.carrier, 20),
        text::clean(&path.address, 80)
    )
}

/// The streams of each class that has any: `realtime 1 open, 12 KiB/s, waited 0.21 ms (p99 0.80 ms)`.
fn describe_streams(streams: &Streams) -> Vec<String> {
    let mut lines: Vec<String> = streams
        .classes
        .iter()
        .filter(|class| class.open > 0 || class.bytes_sent > 0)
        .map(describe_class)
        .collect();
    if streams.reserved_bytes_per_s > 0 {
        let of =
            streams.carries_bytes_per_s.map(|rate| format!(" of {}", units::rate(rate))).unwrap_or_default();
        lines.push(format!("{}{of} reserved", units::rate(streams.reserved_bytes_per_s)));
    }
    if streams.datagrams_repaired + streams.datagrams_lost > 0 {
        let (repaired, lost) = (streams.datagrams_repaired, streams.datagrams_lost);
        lines.push(format!("{repaired} of {} lost datagrams repaired", repaired + lost));
    }
    lines
}

fn describe_class(class: &StreamClass) -> String {
    let mut line = format!(
        "{:<11}  {} open, {} sent, {}",
        text::clean(&class.class, 20),
        class.open,
        units::bytes(class.bytes_sent),
        units::rate(class.bytes_per_s)
    );
    if let (Some(p50), Some(p99)) = (class.wait_p50_ms, class.wait_p99_ms) {
        line += &format!(", waited {} (p99 {})", units::millis(p50), units::millis(p99));
    }
    if class.queued_bytes > 0 {
        line += &format!(", {} queued", units::bytes(class.queued_bytes));
    }
    for (count, what) in [(class.datagrams_late, "too late"), (class.repair_sent, "for repair")] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    line
}

const fn trust_word(trust: Trust) -> &'static str {
    match trust {
        Trust::Seen => "seen",
        Trust::Paired => "paired",
        Trust::Verified => "verified",
        Trust::Revoked => "revoked",
    }
}
