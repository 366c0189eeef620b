//! A node's life: up, found, killed, replaced, down.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use support::{Device, discovery_port};

#[test]
fn up_is_idempotent_status_has_the_promised_fields_and_down_ends_it() {
    let anna = Device::up("anna", discovery_port());
    let first = anna.run(&["status", "--json"]).exits(0).last();
    for field in ["id", "name", "version", "listen"] {
        assert!(!first[field].is_null(), "{field} in {first}");
    }
    assert_eq!(first["name"], "anna");
    assert_eq!(first["mode"], "daemon");
    assert_eq!(anna.run(&["up", "--json"]).exits(0).last()["pid"], first["pid"]);
    let mode = std::fs::metadata(anna.home().join("api.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let phases = anna.run(&["down", "--json"]).exits(0);
    assert_eq!(phases.last()["phase"], "complete");
    anna.run(&["status"]).exits(3);
    assert!(!anna.home().join("api.sock").exists());
}

#[test]
fn a_killed_node_leaves_a_stale_socket_that_the_next_one_replaces() {
    let anna = Device::up("anna", discovery_port());
    let before = anna.run(&["status", "--json"]).last();
    assert!(Command::new("kill").args(["-9", &before["pid"].to_string()]).status().unwrap().success());
    // The kernel closes the socket with the process; until then the old node may still answer.
    while anna.run(&["status"]).code != 3 {}
    assert!(anna.home().join("api.sock").exists());
    anna.run(&["up", "--quiet"]).exits(0);
    assert_eq!(anna.run(&["status", "--json"]).last()["id"], before["id"]);
}

#[test]
fn a_command_without_a_daemon_runs_a_node_for_itself_and_takes_it_along() {
    let anna = Device::new("anna", discovery_port());
    let devices = anna.run(&["devices", "--json"]).exits(0);
    assert_eq!(devices.last(), serde_json::json!([]));
    anna.run(&["status"]).exits(3);
}

#[test]
fn a_second_command_uses_the_first_ones_node_and_up_says_who_holds_the_home() {
    let anna = Device::new("anna", discovery_port());
    let mut watching = anna.start(&["chat", "--json", "--timeout", "30"]);
    assert_eq!(watching.line()["event"], "ready");
    let status = anna.run(&["status", "--json"]).exits(0).last();
    assert_eq!(status["mode"], "command");
    assert_eq!(status["pid"], watching.process.id());
    anna.run(&["up"]).exits(10).says("a command (process");
    anna.run(&["devices", "--no-daemon"]).exits(10).says("--no-daemon");
    watching.signal("-TERM");
    assert_eq!(watching.code(), 130);
}

#[test]
fn a_foreground_node_ends_cleanly_at_sigterm() {
    let anna = Device::new("anna", discovery_port());
    let mut node = anna.start(&["up", "--foreground"]);
    while anna.run(&["status"]).code != 0 {
        assert!(node.process.try_wait().unwrap().is_none(), "it ended");
    }
    node.signal("-TERM");
    assert_eq!(node.code(), 0);
    assert!(!anna.home().join("api.sock").exists());
    assert!(anna.run(&["logs"]).exits(0).out.contains("stopped"));
    let logged = anna.run(&["logs", "--json", "-n", "3"]).exits(0).last();
    assert!(logged["line"].is_string(), "{logged}");
}

#[test]
fn another_version_of_the_api_is_refused_with_a_clear_error() {
    let anna = Device::up("anna", discovery_port());
    let mut socket = UnixStream::connect(anna.home().join("api.sock")).unwrap();
    let request = "GET /v1/status HTTP/1.1\r\nhost: x\r\nhoneylink-api: 999\r\nconnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    assert!(answer.contains("\"api_version\""), "{answer}");
}

#[test]
fn a_command_stops_at_its_timeout() {
    let anna = Device::up("anna", discovery_port());
    let ended = anna.run(&["nearby", "--watch", "--json", "--timeout", "0.3"]).exits(5);
    assert_eq!(ended.last()["error"]["code"], "timeout");
}
