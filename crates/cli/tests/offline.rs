//! What works, and what a person gets wrong, without any other device.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use support::{Device, discovery_port};

fn device() -> Device {
    Device::new("anna", discovery_port())
}

#[test]
fn status_and_down_say_that_nothing_runs_and_start_nothing() {
    let anna = device();
    let status = anna.run(&["status", "--json"]).exits(3).says("honeylink up");
    assert_eq!(status.last()["error"]["code"], "no_node");
    anna.run(&["down"]).exits(3).says("no node is running");
    assert!(!anna.home().join("api.sock").exists());
}

#[test]
fn a_mistyped_verb_option_or_number_is_a_usage_error_that_names_the_right_one() {
    let anna = device();
    anna.run(&["naerby"]).exits(2).says("nearby");
    anna.run(&["nearby", "--wacth"]).exits(2).says("--watch");
    anna.run(&["ping", "x", "--count", "many"]).exits(2).says("invalid value");
    anna.run(&["status", "--timeout", "-1"]).exits(2);
    anna.run(&["demo", "--nodes", "1"]).exits(2).says("2..=16");
    anna.run(&["speed", "x", "--time", "61"]).exits(2).says("at most 60");
    for wait in ["-1", "nan", "61"] {
        anna.run(&["nearby", &format!("--wait={wait}")]).exits(2).says("from 0 to 60");
    }
    #[cfg(feature = "relay-server")]
    for limit in ["--guests", "--per-address"] {
        anna.run(&["relay", limit, "0"]).exits(2).says(limit);
    }
}

#[test]
fn mistakes_of_send_receive_and_pipe_are_found_before_anything_starts() {
    let anna = device();
    anna.run(&["send"]).exits(2).says("<PATH>");
    anna.run(&["send", "/nowhere/file"]).exits(4).says("/nowhere/file");
    anna.run(&["receive"]).exits(2).says("--accept paired");
    anna.run(&["receive", "--accept", "everybody"]).exits(2).says("possible values");
    anna.run(&["receive", "-"]).exits(2).says("no code");
    anna.run(&["receive", "7-amber-falcon", "--accept", "never"]).exits(2).says("--accept");
    anna.run(&["pipe"]).exits(2).says("--listen");
    anna.run(&["pair", "-"]).exits(2).says("no code");
    assert!(!anna.home().exists());
}

#[test]
fn settings_can_be_seen_with_their_origin_set_read_and_unset() {
    let anna = device();
    anna.run(&["config", "set", "log.level", "debug"]).exits(0);
    let shown = anna.run(&["config", "show", "--origin", "--json"]).exits(0).last();
    let of = |key: &str| shown.as_array().unwrap().iter().find(|entry| entry["key"] == key).unwrap().clone();
    assert_eq!(of("log.level")["value"], "debug");
    assert_eq!(
        (of("log.level")["origin"].clone(), of("log.level")["line"].clone()),
        ("file".into(), 2.into())
    );
    assert_eq!(of("node.name")["origin"], "HONEYLINK_NODE_NAME");
    assert_eq!(of("transfer.accept")["origin"], "default");
    assert_eq!(anna.run(&["config", "get", "log.level"]).exits(0).out, "debug\n");
    anna.run(&["config", "unset", "log.level"]).exits(0);
    assert_eq!(anna.run(&["config", "get", "log.level"]).exits(0).out, "info\n");
}

#[test]
fn mistakes_in_settings_are_usage_errors_with_place_and_advice() {
    let anna = device();
    anna.run(&["config", "set", "node.prot", "1"]).exits(2).says("did you mean \"port\"?");
    anna.run(&["config", "set", "node.port", "70000"]).exits(2).says("from 0 to 65535");
    anna.run(&["config", "get", "prot"]).exits(2).says("section.key");
    anna.run(&["config", "get", "port"]).exits(2).says("did you mean \"node.port\"?");
    std::fs::create_dir_all(anna.home()).unwrap();
    std::fs::write(anna.home().join("config.toml"), "[node]\nreach = \"galaxy\"\n").unwrap();
    for verb in [&["config", "check"][..], &["up"], &["nearby"]] {
        anna.run(verb).exits(2).says("config.toml:2: node.reach = \"galaxy\"");
    }
    anna.run(&["up", "--set", "node.naem=x"]).exits(2).says("did you mean \"name\"?");
}

#[test]
fn man_pages_and_completions_cover_every_verb() {
    let anna = device();
    let folder = anna.file("man");
    anna.run(&["man", folder.to_str().unwrap()]).exits(0);
    for verb in ["up", "pair", "send", "demo"] {
        assert!(folder.join(format!("honeylink-{verb}.1")).exists(), "{verb}");
    }
    assert!(anna.run(&["man"]).exits(0).out.contains(".TH honeylink 1"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(anna.run(&["completions", shell]).exits(0).out.contains("transfers"), "{shell}");
    }
    anna.run(&["completions", "tcsh"]).exits(2);
}

#[test]
fn every_verb_has_help_that_fits_a_terminal() {
    let anna = device();
    for verb in [
        "up",
        "down",
        "status",
        "nearby",
        "pair",
        "devices",
        "send",
        "receive",
        "transfers",
        "chat",
        "pipe",
        "ping",
        "path",
        "policy",
        "speed",
        "doctor",
        "mesh",
        "config",
        "logs",
        #[cfg(feature = "sim")]
        "sim",
        "completions",
        "man",
        "demo",
    ] {
        let help = anna.run(&[verb, "--help"]).exits(0).out;
        assert!(help.contains("Examples:"), "{verb}");
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{verb}:\n{help}");
    }
}
