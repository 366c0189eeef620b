//! What two devices do with each other, through the program alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod support;

use std::io::Write as _;
use std::process::Stdio;

use support::{Device, discovery_port, pair};

/// Bytes that repeat nowhere near.
fn content(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).to_le_bytes()[0]).collect()
}

#[test]
fn strangers_see_each_other_and_nothing_more() {
    let port = discovery_port();
    let (anna, bert) = (Device::up("anna", port), Device::up("bert", port));
    anna.sees(&bert);
    let nearby = anna.run(&["nearby", "--json"]).exits(0).last();
    let seen = &nearby.as_array().unwrap()[0];
    for field in ["id", "name", "type", "seen_by", "trust", "path"] {
        assert!(seen.get(field).is_some(), "{field} in {seen}");
    }
    assert_eq!((seen["name"].clone(), seen["trust"].clone()), ("bert".into(), "seen".into()));
    for verb in [
        &["chat", "bert", "hi"][..],
        &["ping", "bert"],
        &["path", "bert"],
        &["send", "/etc/hostname", "--to", "bert"],
    ] {
        let refused = anna.run(verb);
        assert!([4, 10].contains(&refused.code), "{refused:?}");
    }
}

#[test]
fn wrong_codes_fail_with_their_own_exit_code_and_then_lock() {
    let port = discovery_port();
    let (anna, bert) = (Device::up("anna", port), Device::up("bert", port));
    let mut host = anna.start(&["pair", "--json", "--timeout", "60"]);
    bert.sees(&anna);
    let open = host.line();
    let right = open["code"].as_str().unwrap();
    let number = right.split('-').next().unwrap();
    // The right one but for one in some millions of runs.
    let wrong = format!("{number}-apple-banana");
    for _ in 0..3 {
        assert_eq!(bert.run(&["pair", &wrong, "--json"]).exits(7).last()["error"]["code"], "wrong_code");
    }
    // Now not even the right one works, and the side that shows it learns why.
    assert_eq!(bert.run(&["pair", right, "--json"]).exits(7).last()["error"]["code"], "pairing_locked");
    assert_eq!(host.code(), 7);
    bert.run(&["pair", "7-guitar"]).exits(2);
}

#[test]
fn a_device_can_be_paired_by_its_name_when_two_people_compare() {
    let port = discovery_port();
    let (anna, bert) = (Device::up("anna", port), Device::up("bert", port));
    bert.sees(&anna);
    bert.run(&["pair", "nobody"]).exits(4).says("no device nearby is called that");
    // Its owner has not opened it for pairing.
    bert.run(&["pair", "anna"]).exits(7);
    for (answer, ok) in [("n", false), ("y", true)] {
        let mut host = anna.start_with(Stdio::piped(), &["pair", "--json", "--timeout", "60"]);
        assert_eq!(host.line()["event"], "open");
        let mut guest = bert.start_with(Stdio::piped(), &["pair", "anna", "--json", "--timeout", "60"]);
        let there = guest.until(|line| line["event"] == "compare");
        let here = host.until(|line| line["event"] == "compare");
        assert_eq!(there["digits"], here["digits"]);
        guest.says("y");
        host.says(answer);
        let outcome = |line: &serde_json::Value| line.get("ok").is_some();
        if ok {
            assert_eq!(guest.until(outcome)["trust"], "verified");
            assert_eq!(host.until(outcome)["name"], "bert");
        } else {
            assert_eq!(guest.code(), 7);
        }
    }
}

#[test]
fn an_offer_that_nobody_watched_for_waits_in_the_list() {
    let (anna, bert) = pair();
    let file = bert.file("photo.jpg");
    std::fs::write(&file, content(100_000)).unwrap();
    let path = file.to_str().unwrap();
    for (verdict, code) in [("--decline", 6), ("--accept", 0)] {
        let mut sending = bert.start(&["send", path, "--to", "anna", "--json", "--timeout", "60"]);
        let waits = || {
            let listed = anna.run(&["transfers", "--json"]).exits(0).last();
            listed.as_array()?.iter().find(|t| t["state"] == "waiting").cloned()
        };
        let waiting = (0..1000).find_map(|_| waits()).unwrap();
        assert_eq!((&waiting["names"][0], &waiting["total_bytes"]), (&"photo.jpg".into(), &100_000.into()));
        let id = &waiting["id"].as_str().unwrap()[..8];
        anna.run(&["transfers"]).exits(0).says(&format!("--accept {id}"));
        anna.run(&["transfers", verdict, id]).exits(0);
        assert_eq!(sending.code(), code);
    }
    anna.run(&["transfers", "--accept", "zz"]).exits(4).says("no transfer begins with");
}

#[test]
fn paired_devices_talk_measure_and_pipe() {
    let (anna, bert) = pair();
    let mut heard = anna.start(&["chat", "--json", "--timeout", "30"]);
    assert_eq!(heard.line()["event"], "ready");
    let sent = bert.run(&["chat", "anna", "grüße", "von", "bert", "--json"]).exits(0).last();
    assert_eq!(sent["state"], "delivered");
    let message = heard.until(|line| line["event"] == "message");
    assert_eq!((message["text"].clone(), message["name"].clone()), ("grüße von bert".into(), "bert".into()));

    let ping = anna.run(&["ping", "bert", "-c", "2", "-i", "0.01", "--json"]).exits(0).last();
    assert_eq!((ping["sent"].clone(), ping["received"].clone()), (2.into(), 2.into()));
    let path = anna.run(&["path", "bert", "--json"]).exits(0).last();
    assert_eq!(path["path"]["rung"], "local");

    let refused = bert.run(&["pipe", "anna"]).exits(10);
    assert!(refused.err.contains("pipe=yes"), "{refused:?}");
    anna.run(&["devices", "grant", "bert", "pipe=yes"]).exits(0);
    let listener =
        anna.command(&["pipe", "--listen", "--timeout", "30"]).stdout(Stdio::piped()).spawn().unwrap();
    // Read while it writes: the system holds no 300 kB between two processes.
    let output = std::thread::spawn(move || listener.wait_with_output().unwrap());
    let bytes = content(300_000);
    let mut code = -1;
    // Until the listener has registered, nobody waits there; that is an answer, not an accident.
    while code != 0 && !output.is_finished() {
        let mut sender = bert
            .command(&["pipe", "anna", "--timeout", "30"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A refused sender closes its stdin early.
        let _ = sender.stdin.take().unwrap().write_all(&bytes);
        code = sender.wait().unwrap().code().unwrap();
        assert!([0, 5, 10].contains(&code), "{code}");
    }
    let output = output.join().unwrap();
    assert_eq!(code, 0);
    assert!(output.status.success());
    assert!(output.stdout == bytes, "{} bytes came", output.stdout.len());
}

#[test]
fn a_folder_arrives_whole_and_is_never_written_over() {
    let (anna, bert) = pair();
    let folder = bert.file("holiday");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("a.bin"), content(3_000_000)).unwrap();
    std::fs::write(folder.join("sub/empty"), "").unwrap();
    let into = anna.file("in");
    let mut receiver = anna.start(&[
        "receive",
        "--accept",
        "all",
        "--into",
        into.to_str().unwrap(),
        "--json",
        "--timeout",
        "60",
    ]);
    assert_eq!(receiver.line()["event"], "ready");
    let sent = bert.run(&["send", folder.to_str().unwrap(), "--to", "anna", "--json"]).exits(0).last();
    assert_eq!((sent["ok"].clone(), sent["bytes"].clone()), (true.into(), 3_000_000.into()));
    assert_eq!(sent["blake3"].as_str().unwrap().len(), 64);
    let received = receiver.until(|line| line["event"] == "outcome");
    assert_eq!(received["blake3"], sent["blake3"]);
    assert_eq!(std::fs::read(into.join("holiday/a.bin")).unwrap(), content(3_000_000));
    assert!(into.join("holiday/sub/empty").exists());
    bert.run(&["send", folder.to_str().unwrap(), "--to", "anna", "-q"]).exits(0);
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 2);
    let listed = anna.run(&["transfers", "--json"]).exits(0).last();
    assert_eq!(listed.as_array().unwrap()[0]["state"], "done");
}

#[test]
fn a_device_that_takes_nothing_declines() {
    let (anna, bert) = pair();
    let mut receiver = anna.start(&["receive", "--accept", "never", "--json", "--timeout", "30"]);
    assert_eq!(receiver.line()["event"], "ready");
    let file = bert.file("x");
    std::fs::write(&file, "x").unwrap();
    let declined = bert.run(&["send", file.to_str().unwrap(), "--to", "anna", "--json"]).exits(6);
    assert_eq!(declined.last()["error"]["code"], "declined");
}

#[test]
fn wrong_codes_for_a_file_lock_it_and_its_sender_is_told_instead_of_waiting() {
    let port = discovery_port();
    let (anna, bert) = (Device::up("anna", port), Device::up("bert", port));
    let file = anna.file("letter");
    std::fs::write(&file, "for whoever has the code").unwrap();
    let mut sender = anna.start(&["send", file.to_str().unwrap(), "--json", "--timeout", "120"]);
    let code = sender.line()["code"].as_str().unwrap().to_owned();
    bert.sees(&anna);
    let number = code.split('-').next().unwrap();
    // The right one but for one in some millions of runs.
    let wrong = format!("{number}-apple-banana");
    for _ in 0..3 {
        assert_eq!(bert.run(&["receive", &wrong, "--json"]).exits(7).last()["error"]["code"], "wrong_code");
    }
    assert_eq!(bert.run(&["receive", &code, "--json"]).exits(7).last()["error"]["code"], "pairing_locked");
    assert_eq!(sender.until(|line| line["event"] == "outcome")["error"]["code"], "pairing_locked");
    assert_eq!(sender.code(), 7);
}

#[test]
fn a_one_time_code_fetches_a_file_without_pairing_or_daemons() {
    let port = discovery_port();
    let (anna, bert) = (Device::new("anna", port), Device::new("bert", port));
    let file = anna.file("slides.pdf");
    std::fs::write(&file, content(1_000_000)).unwrap();
    let mut sender = anna.start(&["send", file.to_str().unwrap(), "--json", "--timeout", "60"]);
    let offer = sender.line();
    let code = offer["code"].as_str().unwrap();
    let into = bert.file("in");
    bert.run(&["receive", code, "--into", into.to_str().unwrap(), "--timeout", "60"]).exits(0);
    assert_eq!(sender.until(|line| line["event"] == "outcome")["ok"], true);
    assert_eq!(std::fs::read(into.join("slides.pdf")).unwrap(), content(1_000_000));
    assert_eq!(bert.run(&["devices", "--json"]).exits(0).last(), serde_json::json!([]));
}

#[test]
fn names_prefixes_renames_and_the_end_of_trust() {
    let (anna, bert) = pair();
    let id =
        anna.run(&["devices", "show", "bert", "--json"]).exits(0).last()["id"].as_str().unwrap().to_owned();
    anna.run(&["devices", "show", &id[..8]]).exits(0);
    anna.run(&["devices", "rename", &id[..8], "studio/2"]).exits(2);
    anna.run(&["devices", "rename", &id[..8], "Ann's 50% laptop"]).exits(0);
    anna.run(&["ping", "Ann's 50% laptop", "-c", "1"]).exits(0);
    anna.run(&["devices", "show", "nobody"]).exits(4).says("nobody");
    anna.run(&["devices", "grant", "Ann's 50% laptop", "flies=auto"]).exits(2).says("flies");
    anna.run(&["devices", "revoke", &id]).exits(2).says("--yes");
    anna.run(&["devices", "revoke", &id, "--yes"]).exits(0);
    let refused = bert.run(&["chat", "anna", "still there?"]);
    assert!([5, 10].contains(&refused.code), "{refused:?}");
}
