//! `honeylink demo --mesh`: three devices, a radio between two of them, a relay killed in the middle of a message, a modem
//! pulled. And whatever ends it, nothing is left behind.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use support::Device;

/// A demonstration in a temporary folder of its own, with the folder.
fn demo() -> (std::process::Command, tempfile::TempDir) {
    // Short, because a socket's path is.
    let folder = tempfile::Builder::new().prefix("hl").tempdir_in("/tmp").unwrap();
    let mut command = Device::new("demo", 1).command(&["demo", "--mesh", "--json"]);
    command.env("TMPDIR", folder.path());
    (command, folder)
}

/// Neither a file nor a process that was started with a home in this folder.
fn assert_nothing_left(folder: &Path) {
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    let mut left = processes_of(folder);
    // Whoever was killed a moment ago may still be on the way out.
    for _ in 0..50 {
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100)); // tidy: sleep because nobody tells of other processes' ends
        left = processes_of(folder);
    }
    panic!("still there: {left:?}");
}

fn processes_of(folder: &Path) -> Vec<String> {
    let name = folder.to_str().unwrap();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    // A process that ended meanwhile has no command line.
    let told = all.map(|process| std::fs::read(process.path().join("cmdline")).unwrap_or_default());
    let told = told.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    told.filter(|told| told.contains(name)).collect()
}

#[test]
fn every_message_arrives_once_though_the_relay_is_killed_and_the_modem_is_pulled() {
    let (mut command, folder) = demo();
    let output = command.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["ok"] == true), "{out}");
    for step in ["send", "answer", "kill", "unplug"] {
        let line =
            lines.iter().find(|line| line["step"] == step).unwrap_or_else(|| panic!("no {step}: {out}"));
        assert_eq!(line["path"]["rung"], "mesh", "{line}");
        assert!(line["air"]["bytes"].as_u64().unwrap() > 0, "{line}");
    }
    let duty = lines.iter().find(|line| line["step"] == "duty").unwrap();
    assert_eq!(duty["radios"].as_array().unwrap().len(), 2);
    assert_nothing_left(folder.path());
}

#[test]
fn interrupted_it_leaves_nothing_behind() {
    use std::io::BufRead as _;
    let (mut command, folder) = demo();
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
    // Three devices run, and the modems are plugged in.
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("\"part\"")));
    let pid = process.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(!process.wait().unwrap().success());
    assert_nothing_left(folder.path());
}
