//! The shortest scenario of the NAT lab with the real program: two homes come to speak by the relay, get a direct path, lose it
//! and get it back. What arrived and which way is looked at, not how soon: that is `cargo xtask lab`'s.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stdout, reason = "says why it is skipped")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const LAB: &str = env!("CARGO_BIN_EXE_honeylink-lab");
const RAW: &str = env!("CARGO_BIN_EXE_honeylink-lab-raw");

#[test]
fn two_homes_get_a_direct_path_lose_it_and_get_it_back_and_no_message_is_harmed() {
    // Built beside the lab's programs by every build of the workspace.
    let program = Path::new(LAB).with_file_name("honeylink");
    if !program.exists() {
        println!("skipped: there is no {}: cargo build -p honeylink-cli makes it", program.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("lab.json");
    let mut lab = Command::new(LAB);
    lab.arg("--scenarios").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../scenarios/lab"));
    lab.args(["--raw", RAW, "--honeylink"]).arg(&program).arg("--report").arg(&report);
    let ran = lab.args(["--runs", "1", "check"]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    if let Some(why) = said.lines().find(|line| line.starts_with("skipped:")) {
        println!("{why}");
        return;
    }
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let of = |figure: &str| {
        let mut samples = report["samples"].as_array().unwrap().iter();
        let mine = samples.find(|it| it["who"] == "honeylink" && it["figure"] == figure);
        mine.unwrap_or_else(|| panic!("{figure} was not measured"))["value"].as_f64()
    };
    assert_eq!(of("connected"), Some(1.0));
    assert_eq!(of("direct"), Some(1.0));
    assert_eq!(of("damage"), Some(0.0));
    assert!(of("silent_death_ms").is_some(), "messages went on by the relay");
    assert!(of("heal_ms").is_some(), "it was direct again");
    assert_eq!(report["scenarios"][0]["honeylink"][0], "direct");
}
