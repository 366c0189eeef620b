//! `honeylink sim`: runs that repeat, traces that can be compared, and what a person gets wrong.
#![cfg(feature = "sim")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use support::{Device, discovery_port};

const SCENARIO: &str = "\
name = \"three in a row\"
duration_s = 600
settle_s = 120

[nodes]
count = 3
shape = \"line\"

[radio]

[traffic]
conversations = 1
messages_each = 2
";

fn device() -> Device {
    Device::new("anna", discovery_port())
}

/// A scenario file of the device; its path.
fn scenario(device: &Device, text: &str) -> String {
    let path = device.file("scenario.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_same_seed_is_the_same_run_and_another_seed_another() {
    let anna = device();
    let file = scenario(&anna, SCENARIO);
    let run = |seed: &str| anna.run(&["sim", "run", &file, "--seed", seed, "--json"]).exits(0).last();
    let (one, again, other) = (run("1"), run("1"), run("2"));
    assert_eq!(one, again);
    assert_ne!(one["hash"], other["hash"]);
    assert_eq!((one["delivered"].clone(), one["sent"].clone()), (2.into(), 2.into()));
    assert_eq!((one["ok"].clone(), one["name"].clone()), (true.into(), "three in a row".into()));
    assert!(!anna.home().exists(), "the simulator needs no home");
}

#[test]
fn a_saved_run_replays_and_its_trace_is_the_same_to_the_byte() {
    let anna = device();
    let file = scenario(&anna, SCENARIO);
    let path = |name| anna.file(name).to_str().unwrap().to_owned();
    let (saved, a, b, c) = (path("run.json"), path("a.jsonl"), path("b.jsonl"), path("c.jsonl"));
    anna.run(&["sim", "run", &file, "--save", &saved, "--trace", &a]).exits(0).says("--replay");
    anna.run(&["sim", "run", "--replay", &saved, "--trace", &b]).exits(0);
    assert_eq!(anna.run(&["sim", "diff", &a, &b]).exits(0).out, "the traces are the same\n");
    anna.run(&["sim", "run", &file, "--seed", "2", "--trace", &c]).exits(0);
    let parting = anna.run(&["sim", "diff", &a, &c, "--json"]).exits(1).last();
    assert_eq!(parting["line"], 1, "the seed stands in the first line");
    let stats = anna.run(&["sim", "stats", &a, "--json"]).exits(0).last();
    assert_eq!((stats["sent"].clone(), stats["delivered"].clone()), (2.into(), 2.into()));
    assert!(anna.run(&["sim", "stats", &a]).exits(0).out.contains("delivered 2 of 2"));
}

#[test]
fn an_expectation_that_is_not_met_fails_the_run_and_is_named() {
    let anna = device();
    let file = scenario(&anna, &format!("{SCENARIO}\n[expect]\nlatency_p50_s_max = 0.001\n"));
    let run = anna.run(&["sim", "run", &file]).exits(1);
    assert!(run.out.contains("UNMET") && run.out.contains("0.001"), "{run:?}");
}

#[test]
fn mistakes_name_the_file_the_line_and_what_is_allowed() {
    let anna = device();
    let missing = anna.run(&["sim", "run", "/nowhere/a.toml", "--json"]).exits(4).says("/nowhere/a.toml");
    assert_eq!(missing.last()["error"]["code"], "not_found");
    let broken = scenario(&anna, "name = \"a\"\nduration_s = \n");
    anna.run(&["sim", "run", &broken]).exits(2).says(&broken).says("line 2");
    let unknown = scenario(&anna, "name = \"a\"\n[nodes]\ncuont = 3\n");
    anna.run(&["sim", "run", &unknown]).exits(2).says("line 3").says("cuont").says("count");
    let wrong = scenario(&anna, "name = \"a\"\n[nodes]\nshape = \"ring\"\n");
    anna.run(&["sim", "run", &wrong]).exits(2).says("line 3").says("ring").says("clustered");
    anna.run(&["sim", "run"]).exits(2).says("--seed");
    anna.run(&["sim", "run", "--replay", &wrong]).exits(2).says("no replay file");
    anna.run(&["sim", "stats", &wrong]).exits(2).says("no trace").says("--trace");
    anna.run(&["sim", "diff", "/nowhere/a", &wrong]).exits(4).says("/nowhere/a");
}
