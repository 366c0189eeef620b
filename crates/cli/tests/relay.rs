//! The program as a relay, and devices that reach each other through it only.
#![cfg(feature = "relay-server")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Device, Started, discovery_port, free_port};

const PATIENCE: Duration = Duration::from_secs(60);

/// A relay in a process of its own, on free ports of loopback, and its line.
fn relay(home: &Device, more: &[&str]) -> (Started, String) {
    let ports = ["--port", "0", "--udp", "0", "--observe", "0"];
    let args = [&["relay", "--host", "127.0.0.1", "--bind", "127.0.0.1", "--json"][..], &ports].concat();
    let mut relay = home.start(&[&args[..], more].concat());
    let line = relay.line()["relay"].as_str().unwrap().to_owned();
    (relay, line)
}

/// A device that speaks through relays and in no other way.
fn relayed(name: &'static str, line: &str) -> Device {
    let device = Device::new(name, discovery_port());
    for (key, value) in [("node.relays", line), ("node.relay_only", "true")] {
        device.run(&["config", "set", key, value, "--quiet"]).exits(0);
    }
    start(&device);
    device
}

fn start(device: &Device) {
    // The tests' variable for the reach would win over the file.
    let started = device.command(&["up", "--quiet"]).env("HONEYLINK_NODE_REACH", "wide").status().unwrap();
    assert!(started.success());
}

/// Waits until the device says of its relay what is wished.
fn until(device: &Device, fits: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let status = device.run(&["status", "--json"]).exits(0).last();
        let relay = status["relays"][0].clone();
        if fits(&relay) {
            return relay;
        }
        assert!(began.elapsed() < PATIENCE, "{status}");
        // tidy: sleep because another process is asked again
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn devices_pair_talk_and_send_files_through_a_relay_of_their_own() {
    let home = Device::new("relay", discovery_port());
    let metrics = format!("127.0.0.1:{}", free_port());
    let (mut server, line) = relay(&home, &["--metrics", &metrics]);
    let (anna, bert) = (relayed("anna", &line), relayed("bert", &line));
    for device in [&anna, &bert] {
        until(device, |relay| relay["connected"] == true);
    }
    // Nothing is announced, so the invite has to say where: it names the relay.
    let mut host = anna.start(&["pair", "--json", "--timeout", "60"]);
    let invite = host.line()["qr"].as_str().unwrap().to_owned();
    bert.run(&["pair", &invite, "--yes", "--quiet", "--timeout", "60"]).exits(0);
    assert_eq!(host.until(|line| line.get("ok").is_some())["name"], "bert");
    drop(host);

    anna.run(&["chat", "bert", "hello through the relay", "--timeout", "60"]).exits(0);
    let path = anna.run(&["path", "bert", "--json"]).exits(0).last();
    let used = path.to_string();
    assert!(used.contains("\"relayed\"") && used.contains("127.0.0.1:"), "{used}");

    let file = anna.file("photo.jpg");
    std::fs::write(&file, vec![7; 3 << 20]).unwrap();
    bert.run(&["config", "set", "transfer.accept", "paired", "--quiet"]).exits(0);
    bert.run(&["down", "--drain", "0", "--quiet"]).exits(0);
    start(&bert);
    until(&bert, |relay| relay["connected"] == true);
    anna.run(&["send", file.to_str().unwrap(), "--to", "bert", "--timeout", "90"]).exits(0);
    assert_eq!(std::fs::read(bert.home().join("inbox/photo.jpg")).unwrap(), vec![7; 3 << 20]);

    let counts = fetch(&metrics, "/metrics");
    assert!(counts.contains("honeylink_relay_guests 2"), "{counts}");
    assert!(fetch(&metrics, "/healthz").ends_with("ok\n"));
    server.signal("-TERM");
    assert_eq!(server.code(), 0);
    // Its key is what makes the line: started again it has the same one, but for the ports.
    let (_server, again) = relay(&home, &[]);
    assert_eq!(again.split('#').nth(1), line.split('#').nth(1));
}

#[test]
fn another_key_and_another_device_are_refused_with_the_reason() {
    let home = Device::new("relay", discovery_port());
    let list = home.file("guests");
    std::fs::write(&list, "# nobody yet\n").unwrap();
    let (_server, line) = relay(&home, &["--allow-file", list.to_str().unwrap()]);
    let anna = relayed("anna", &line);
    let problem = until(&anna, |relay| relay["problem"].is_string());
    assert!(problem["problem"].as_str().unwrap().contains("not on the relay's list"), "{problem}");
    let id = anna.run(&["status", "--json"]).exits(0).last()["id"].as_str().unwrap().to_owned();
    std::fs::write(&list, format!("{id} # anna\n")).unwrap();
    until(&anna, |relay| relay["connected"] == true);

    let (start, _pin) = line.split_once('#').unwrap();
    let bert = relayed("bert", &format!("{start}#{}", "00".repeat(16)));
    let problem = until(&bert, |relay| relay["problem"].is_string());
    assert!(problem["problem"].as_str().unwrap().contains("another key"), "{problem}");
    let shown = bert.run(&["status"]).exits(0).out;
    assert!(shown.contains("relay    127.0.0.1:") && shown.contains("another key"), "{shown}");
}

/// The answer of a plain HTTP server.
fn fetch(address: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
