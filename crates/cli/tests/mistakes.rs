//! Mistakes in files, names and codes, each answered with its exit code and words that say what to do. Mistakes in the
//! command line itself are in `offline`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use support::{Device, discovery_port};

fn device() -> Device {
    Device::new("anna", discovery_port())
}

/// Writes the device's configuration file; its path as messages show it.
fn configure(device: &Device, text: &str) -> String {
    std::fs::create_dir_all(device.home()).unwrap();
    let path = device.home().join("config.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_mistyped_key_in_the_file_names_file_line_key_and_what_was_meant() {
    let anna = device();
    let file = configure(&anna, "[node]\nname = \"studio\"\nreech = \"lan\"\n");
    let check = anna.run(&["config", "check", "--json"]).exits(2);
    let check =
        check.says(&format!("{file}:3")).says("\"reech\"").says("did you mean \"reach\"?").says("port");
    assert_eq!(check.last()["error"]["code"], "config");
}

#[test]
fn all_bad_values_of_a_file_are_named_at_once_with_what_is_allowed() {
    let anna = device();
    let file = configure(&anna, "[node]\ntype = \"toaster\"\n\n[daemon]\ndrain_s = -1\n");
    let check = anna.run(&["config", "check"]).exits(2);
    let check = check.says(&format!("{file}:2")).says("node.type").says("toaster").says("laptop");
    check.says(&format!("{file}:5")).says("daemon.drain_s").says("3600");
    anna.run(&["up"]).exits(2).says("node.type");
    assert!(!anna.home().join("state.redb").exists(), "nothing was started");
}

#[test]
fn a_bad_value_in_a_variable_is_traced_to_the_variable() {
    let anna = device();
    let output = anna.command(&["config", "check"]).env("HONEYLINK_NODE_PORT", "many").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("HONEYLINK_NODE_PORT") && said.contains("65535"), "{said}");
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let anna = device();
    let secret = anna.file("secret");
    std::fs::write(&secret, "hush").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&secret).is_ok() {
        println!("root may read every file, so there is none to be refused");
        return;
    }
    let secret = secret.to_str().unwrap();
    anna.run(&["send", secret]).exits(1).says(secret);
}

#[test]
fn a_home_in_use_is_named_with_its_process_even_when_its_socket_is_gone() {
    let anna = device();
    let mut holder = anna.start(&["pair", "--json"]);
    holder.line();
    let process = holder.process.id().to_string();
    anna.run(&["--no-daemon", "devices"]).exits(10).says(&process);
    std::fs::remove_file(anna.home().join("api.sock")).unwrap();
    anna.run(&["devices"]).exits(10).says(&process).says(anna.home().to_str().unwrap());
}

#[test]
fn a_node_that_is_dying_is_waited_for_and_then_not_asked() {
    let anna = device();
    std::fs::create_dir_all(anna.home()).unwrap();
    std::fs::set_permissions(anna.home(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(anna.home().join("api.sock")).unwrap();
    // As a killed process does: it takes connections, answers none, and is gone. Not joined: how often it is asked is not the point.
    std::thread::spawn(move || socket.incoming().take(3).for_each(drop));
    anna.run(&["status"]).exits(3).says("went away");
    anna.run(&["devices", "--json"]).exits(0);
}

#[test]
fn an_unknown_device_is_answered_with_the_names_that_are_near() {
    let (anna, bert) = support::pair();
    let ping = bert.run(&["ping", "ana", "--json"]).exits(4).says("did you mean").says("anna");
    assert_eq!(ping.last()["error"]["code"], "not_found");
    bert.run(&["ping", "quite-another"]).exits(4).says("quite-another").says("honeylink devices");
    let file = bert.file("plan");
    std::fs::write(&file, "a").unwrap();
    bert.run(&["send", file.to_str().unwrap(), "--to", "annna"]).exits(4).says("anna");
    bert.run(&["send", "/", "--to", "anna"]).exits(2).says("name a folder in it");
    drop(anna);
}

#[test]
fn a_code_that_nobody_shows_or_that_is_none_pairs_nobody() {
    let anna = device();
    let began = std::time::Instant::now();
    let pair = anna.run(&["pair", "7-amber-anchor", "--yes", "--json"]).exits(7).says("code");
    assert!(began.elapsed() < std::time::Duration::from_secs(12), "a person waits: {:?}", began.elapsed());
    assert_eq!(pair.last()["error"]["code"], "pairing_not_open");
    anna.run(&["pair", "7-ambr-anchor", "--yes"]).exits(2).says("ambr").says("amber");
    anna.run(&["pair", "hello", "--yes"]).exits(4).says("no device nearby is called that");
}
