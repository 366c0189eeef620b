//! `honeylink policy`, and the verbs that send by policies.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use serde_json::Value;
use support::{Device, discovery_port, pair};

fn device() -> Device {
    Device::new("anna", discovery_port())
}

/// Puts a file into the folder of the device's own policies; its path as messages show it.
fn own(device: &Device, name: &str, text: &str) -> String {
    let folder = device.run(&["policy", "path"]).exits(0).out;
    let path = std::path::Path::new(folder.trim()).join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|policy| policy["name"] == name).unwrap()
}

#[test]
fn presets_and_own_policies_are_listed_and_a_preset_can_be_taken_as_a_pattern() {
    let anna = device();
    let pattern = anna.run(&["policy", "show", "media-8k"]).exits(0).out;
    let file = own(&anna, "film.toml", &pattern.replace("[media-8k]", "[film]"));
    let listed = anna.run(&["policy", "list", "--json", "--set", "policy.send=film"]).exits(0).last();
    let film = named(&listed, "film");
    assert_eq!((&film["from"], &film["default_of"][0]), (&file.as_str().into(), &"send".into()));
    assert_eq!(film["rate_min_bytes_per_s"], named(&listed, "media-8k")["rate_min_bytes_per_s"]);
    assert_eq!(named(&listed, "iot")["from"], "preset");
    assert!(anna.run(&["policy", "list"]).exits(0).out.contains("film"));
    anna.run(&["policy", "check", &file]).exits(0).says("fine: film");
    let taken = anna.file("taken.toml");
    std::fs::write(&taken, pattern).unwrap();
    let taken = taken.to_str().unwrap();
    anna.run(&["policy", "check", taken])
        .exits(2)
        .says("taken.toml: policy `media-8k`: a preset is called that");
    assert_eq!(anna.run(&["policy", "check", "--json"]).exits(0).last()["ok"], true);
    anna.run(&["policy", "show", "flim"]).exits(4).says("did you mean \"film\"").says("gaming-input");
}

#[test]
fn a_mistake_in_a_policy_is_told_with_file_line_key_and_what_is_allowed_before_anything_starts() {
    let anna = device();
    let file = own(&anna, "mine.toml", "[mine]\nclass = \"bulk\"\nweight = 65\n");
    let place = format!("{file}:3: policy `mine`: weight = 65");
    for verb in [&["policy", "check"][..], &["policy", "list"], &["config", "check"], &["up"]] {
        anna.run(verb).exits(2).says(&place).says("from 1 to 64").says("honeylink policy check");
    }
    assert_eq!(anna.run(&["policy", "check", &file, "--json"]).exits(2).last()["error"]["code"], "config");
    std::fs::write(&file, "[mine]\nspeed = 1\n").unwrap();
    anna.run(&["policy", "check"]).exits(2).says("mine.toml:2").says("unknown field `speed`").says("weight");
    std::fs::remove_file(&file).unwrap();
    anna.run(&["policy", "check", &file]).exits(2).says("No such file");
    anna.run(&["config", "set", "policy.pipe", "mine"]).exits(0);
    for verb in [&["policy", "check"][..], &["config", "check"], &["up"]] {
        anna.run(verb).exits(2).says("config.toml:2: policy.pipe = \"mine\"").says("media-8k");
    }
    anna.run(&["config", "set", "policy.pipe", "two words"]).exits(2).says("a policy's name");
}

/// A transfer that lasts, its policy shown and changed while it does.
#[test]
fn a_running_transfer_follows_a_policy_that_is_applied_and_path_and_status_say_so() {
    let (anna, bert) = pair();
    own(
        &bert,
        "own.toml",
        "[slow]\nclass = \"bulk\"\nrate_max_bytes_per_s = 100000\n[fast]\nclass = \"bulk\"\n",
    );
    bert.run(&["policy", "apply", "fast", "anna"]).exits(4).says("nothing is being sent to anna");
    let into = anna.file("in");
    let mut receiver = anna.start(&[
        "receive",
        "--accept",
        "all",
        "--into",
        into.to_str().unwrap(),
        "--json",
        "--timeout",
        "120",
    ]);
    assert_eq!(receiver.line()["event"], "ready");
    let film = bert.file("film");
    std::fs::write(&film, vec![7; 30_000_000]).unwrap();
    let film = film.to_str().unwrap();
    bert.run(&["send", film, "--to", "anna", "--policy", "flim"])
        .exits(4)
        .says("no policy is called \"flim\"");
    bert.run(&["send", film, "--policy", "slow"]).exits(2).says("--to");
    let mut sending =
        bert.start(&["send", film, "--to", "anna", "--policy", "slow", "--json", "--timeout", "120"]);
    // At 100 kB/s it would take five minutes.
    sending.until(|line| line["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    let streams = |from: &Value| from["streams"]["open"].as_array().unwrap().clone();
    let path = bert.run(&["path", "anna", "--json"]).exits(0).last();
    let sent = |stream: &&Value| stream["verb"] == "send" && stream["messages"].is_null();
    let stream = streams(&path).iter().find(sent).unwrap().clone();
    assert_eq!((&stream["policy"], &stream["rate_max_bytes_per_s"]), (&"slow".into(), &100_000.into()));
    let waits = ["wait_p50_ms", "wait_p90_ms", "wait_p99_ms"].map(|key| stream[key].as_f64().unwrap());
    assert!(waits.is_sorted(), "{stream}");
    assert_eq!(stream["datagrams_late"], 0);
    let status = bert.run(&["status", "--json"]).exits(0).last();
    assert!(streams(&status).iter().any(|s| s["policy"] == "slow" && s["peer"] == "anna"), "{status}");
    assert!(bert.run(&["path", "anna"]).exits(0).out.contains("send by slow (priority 1, weight 4, at most"));
    let applied = bert.run(&["policy", "apply", "fast", "anna", "--only", "send", "--json"]).exits(0).last();
    assert_eq!((&applied["ok"], &applied["links"][0]["verb"]), (&true.into(), &"send".into()));
    let outcome = sending.until(|line| line["event"] == "outcome");
    assert_eq!((&outcome["ok"], &outcome["policy"]), (&true.into(), &"fast".into()));
    assert_eq!(sending.code(), 0);
}

#[test]
fn a_message_goes_by_a_policy_or_is_not_said() {
    let (_anna, bert) = pair();
    bert.run(&["chat", "anna", "--policy", "nonsense", "hello"]).exits(4).says("no policy is called");
    bert.run(&["chat", "--policy", "iot"]).exits(2).says("PEER");
    let sent = bert.run(&["chat", "anna", "--policy", "iot", "--json", "hello"]).exits(0).last();
    assert_eq!(sent["state"], "delivered");
    let status = bert.run(&["status", "--json"]).exits(0).last();
    let open = status["streams"]["open"].as_array().unwrap();
    assert!(open.iter().any(|stream| stream["verb"] == "chat" && stream["policy"] == "iot"), "{status}");
}

#[test]
fn a_pipe_goes_by_a_policy_or_not_at_all() {
    let (_anna, bert) = pair();
    let refused = bert.run(&["pipe", "anna", "--policy", "iot"]).exits(10);
    assert!(refused.err.contains("pipe=yes"), "the reason is the right that is missing: {refused:?}");
    bert.run(&["pipe", "anna", "--policy", "nonsense"]).exits(4).says("no policy is called");
    bert.run(&["policy", "apply", "iot", "nobody"]).exits(4).says("nobody");
    bert.run(&["policy", "apply", "iot", "anna", "--only", "ping"]).exits(2).says("send");
}
