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
pub(crate) mod policy;
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

use honeylink_api::{OpenStream, PathInfo, StreamClass, Streams, Trust};

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
    lines.extend(describe_open(streams));
    if streams.datagrams_repaired + streams.datagrams_lost > 0 {
        let (repaired, lost) = (streams.datagrams_repaired, streams.datagrams_lost);
        lines.push(format!("{repaired} of {} lost datagrams repaired", repaired + lost));
    }
    lines
}

/// Streams shown of those that are open.
const OPEN_SHOWN: usize = 8;

/// What is being sent now and by which policy, busiest first, and the policies that are not in force:
/// `send to studio by media-8k (priority 5, weight 8, at least 6.2 MB/s), 12 MiB sent, 5.0 MB/s, waited 3.1 ms (p99 12 ms)`.
fn describe_open(streams: &Streams) -> Vec<String> {
    let worth = |stream: &&OpenStream| {
        let speaks = !stream.messages || stream.verb == "chat";
        let moves = stream.bytes_per_s > 0 || stream.queued_bytes > 0;
        stream.verb != "ping" && speaks && (moves || stream.policy.is_some())
    };
    let shown: Vec<&OpenStream> = streams.open.iter().filter(worth).collect();
    let mut lines: Vec<String> =
        shown.iter().take(OPEN_SHOWN).map(|stream| describe_stream(stream)).collect();
    if shown.len() > OPEN_SHOWN {
        lines.push(format!("and {} more", units::count((shown.len() - OPEN_SHOWN) as u64, "open stream")));
    }
    for back in &streams.taken_back {
        let to = back.peer.as_ref().map(|peer| format!(" to {}", text::name(peer))).unwrap_or_default();
        lines.push(format!(
            "{}{to} not by {}: {}",
            text::clean(&back.verb, 63),
            text::clean(&back.policy, 63),
            text::clean(&back.why, 300)
        ));
    }
    lines
}

fn describe_stream(stream: &OpenStream) -> String {
    let to = stream.peer.as_ref().map(|peer| format!(" to {}", text::name(peer))).unwrap_or_default();
    let by = stream
        .policy
        .as_ref()
        .map_or_else(|| "by no policy".to_owned(), |policy| format!("by {}", text::clean(policy, 63)));
    let rate = |rate: Option<u64>, word: &str| rate.map(|rate| format!(", {word} {}", units::rate(rate)));
    let mut line = format!(
        "{}{to} {by} (priority {}, weight {}{}{}), {} sent, {}",
        text::clean(&stream.verb, 63),
        stream.priority,
        stream.weight,
        rate(stream.rate_min_bytes_per_s, "at least").unwrap_or_default(),
        rate(stream.rate_max_bytes_per_s, "at most").unwrap_or_default(),
        units::bytes(stream.bytes_sent),
        units::rate(stream.bytes_per_s)
    );
    line += &waited(stream.wait_p50_ms, stream.wait_p99_ms);
    if stream.queued_bytes > 0 {
        line += &format!(", {} queued", units::bytes(stream.queued_bytes));
    }
    if stream.datagrams_late > 0 {
        line += &format!(", {} too late", stream.datagrams_late);
    }
    line
}

fn describe_class(class: &StreamClass) -> String {
    let mut line = format!(
        "{:<11}  {} open, {} sent, {}",
        text::clean(&class.class, 20),
        class.open,
        units::bytes(class.bytes_sent),
        units::rate(class.bytes_per_s)
    );
    line += &waited(class.wait_p50_ms, class.wait_p99_ms);
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

/// How long bytes waited for their turn, if any did.
fn waited(p50_ms: Option<f64>, p99_ms: Option<f64>) -> String {
    let (Some(p50), Some(p99)) = (p50_ms, p99_ms) else { return String::new() };
    format!(", waited {} (p99 {})", units::millis(p50), units::millis(p99))
}

const fn trust_word(trust: Trust) -> &'static str {
    match trust {
        Trust::Seen => "seen",
        Trust::Paired => "paired",
        Trust::Verified => "verified",
        Trust::Revoked => "revoked",
    }
}
