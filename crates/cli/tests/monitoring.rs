//! What operators' programs read: health with its HTTP status, and metrics in a format that a strict reader takes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use serde_json::Value;
use support::{Device, Run, discovery_port, pair};

/// An HTTP answer: status, head, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn get(mut stream: impl Read + Write, path: &str) -> Answer {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn ask(device: &Device, path: &str) -> Answer {
    get(UnixStream::connect(device.home().join("api.sock")).unwrap(), path)
}

/// Samples of a family: value by name and labels.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// Reads the text format as its description has it, and takes nothing else.
fn parse(text: &str) -> BTreeMap<String, (String, Samples)> {
    let mut families: BTreeMap<String, (String, Samples)> = BTreeMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let (family, _) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).unwrap();
        assert!(is_name(family), "{line}");
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {family} ")).unwrap();
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{family} {kind}");
        let mut samples = Samples::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let (name, labels, value) = sample(line);
            let end = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} among {family}"));
            assert!(end.is_empty() || kind == "histogram", "{line}");
            assert!(value >= 0.0, "{line}");
            assert!(samples.insert((name, labels), value).is_none(), "twice: {line}");
        }
        if kind == "histogram" {
            buckets_add_up(family, &samples);
        }
        assert!(families.insert(family.to_owned(), (kind.to_owned(), samples)).is_none(), "{family} twice");
    }
    families
}

fn is_name(text: &str) -> bool {
    text.starts_with("honeylink_")
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = after;
            match rest.chars().next() {
                Some(',') => rest = &rest[1..],
                Some('}') => break,
                other => panic!("{other:?} in {line}"),
            }
        }
        rest = &rest[1..];
    }
    (name.to_owned(), labels, rest.strip_prefix(' ').unwrap().parse().unwrap())
}

/// What stands before the closing quote, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().unwrap().1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    panic!("no closing quote in {text}")
}

fn buckets_add_up(family: &str, samples: &Samples) {
    let edge = |(name, labels): &(String, BTreeMap<String, String>)| {
        let edge = (name == &format!("{family}_bucket")).then(|| labels["le"].replace("+Inf", "inf"))?;
        edge.parse::<f64>().ok()
    };
    let mut buckets: Vec<(f64, f64)> =
        samples.iter().filter_map(|(key, count)| Some((edge(key)?, *count))).collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(buckets.len() > 2 && buckets.is_sorted_by(|a, b| a.1 <= b.1), "{family}: {buckets:?}");
    let (last, count) = *buckets.last().unwrap();
    assert!(last.is_infinite(), "{family}: {buckets:?}");
    assert_eq!(count, samples[&(format!("{family}_count"), BTreeMap::new())], "{family}");
    assert!(samples.contains_key(&(format!("{family}_sum"), BTreeMap::new())), "{family}");
}

/// The sum of a family's samples with this label.
fn total(families: &BTreeMap<String, (String, Samples)>, family: &str, label: Option<(&str, &str)>) -> f64 {
    let fits = |labels: &BTreeMap<String, String>| {
        label.is_none_or(|(name, value)| labels.get(name).is_some_and(|have| have == value))
    };
    families[family].1.iter().filter(|((_, labels), _)| fits(labels)).map(|(_, value)| value).sum()
}

#[test]
fn metrics_of_two_devices_that_talked_are_read_by_a_strict_reader() {
    let (anna, bert) = pair();
    bert.run(&["chat", "anna", "hello"]).exits(0);
    bert.run(&["ping", "anna", "-c", "1"]).exits(0);
    let answer = ask(&bert, "/metrics");
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{}",
        answer.head
    );
    let families = parse(&answer.body);
    assert!(families.len() > 40, "{}", families.len());
    for (family, label) in [
        ("honeylink_carrier_bytes_total", Some(("direction", "sent"))),
        ("honeylink_carrier_bytes_total", Some(("direction", "received"))),
        ("honeylink_link_messages_total", Some(("direction", "sent"))),
        ("honeylink_connections", Some(("rung", "local"))),
        ("honeylink_devices_paired", None),
        ("honeylink_stream_bytes_total", Some(("class", "interactive"))),
        ("honeylink_mesh_dropped_total", Some(("reason", "none of these"))),
    ] {
        assert_eq!(
            total(&families, family, label) > 0.0,
            label != Some(("reason", "none of these")),
            "{family}"
        );
    }
    let pairings = total(&families, "honeylink_pairing_seconds", None);
    assert!(pairings > 0.0, "the pairing was timed");
    for device in [anna.name, bert.name] {
        assert!(!answer.body.contains(device), "{device} is named");
    }
    let id = anna.run(&["status", "--json"]).last()["id"].as_str().unwrap().to_owned();
    assert!(!answer.body.contains(&id[..8]));
}

#[test]
fn health_names_the_part_and_the_reason() {
    let anna = Device::new("anna", discovery_port());
    let modem = anna.file("no-such-modem");
    let radio = format!("mesh.radios=[{{port = {:?}, frequency_hz = 869_525_000}}]", modem.to_str().unwrap());
    anna.run(&["up", "--quiet", "--set", &radio]).exits(0);
    // The port is tried once the node runs; each question is pause enough.
    let health = |_| {
        let answer = ask(&anna, "/healthz");
        assert_eq!(answer.status, 200, "degraded is no reason to take it out of service");
        let health: Value = serde_json::from_str(&answer.body).unwrap();
        health["subsystems"].to_string().contains("cannot open the port").then_some(health)
    };
    let health = (0..400).find_map(health).unwrap();
    assert_eq!(health["state"], "degraded");
    let parts: Vec<&str> =
        health["subsystems"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    for part in ["node", "store", "carrier", "discovery", "mesh"] {
        assert!(parts.contains(&part), "{parts:?}");
    }
    let families = parse(&ask(&anna, "/metrics").body);
    let port = modem.to_str().unwrap();
    assert_eq!(total(&families, "honeylink_radio_up", Some(("radio", port))), 0.0);
    assert_eq!(
        total(&families, "honeylink_radio_duty_budget_seconds", Some(("band", "869.4-869.65 MHz"))),
        360.0
    );
    assert_eq!(total(&families, "honeylink_health", Some(("part", &format!("radio {port}")))), 1.0);
}

#[test]
fn an_address_for_metrics_serves_these_two_paths_and_nothing_else() {
    let anna = Device::new("anna", discovery_port());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listen = format!("metrics.listen={free}");
    anna.run(&["up", "--quiet", "--set", &listen]).exits(0);
    let ask = |path: &str| get(TcpStream::connect(free).unwrap(), path);
    assert!(parse(&ask("/metrics").body).contains_key("honeylink_info"));
    assert_eq!(ask("/healthz").status, 200);
    for path in ["/v1/status", "/v1/devices", "/"] {
        assert_eq!(ask(path).status, 404, "{path}");
    }
    let bert = Device::new("bert", discovery_port());
    let in_use: Run = bert.run(&["up", "--set", &listen]).exits(2);
    in_use.says("metrics.listen: cannot listen on").says("unset metrics.listen");
    bert.run(&["up", "--set", "metrics.listen=0.0.0.0:9464"]).exits(2).says("metrics.remote = true");
    anna.run(&["down", "--quiet"]).exits(0);
    // The last phase is said just before the process ends.
    assert!((0..10_000).any(|_| TcpStream::connect(free).is_err()), "closed with the daemon");
}
