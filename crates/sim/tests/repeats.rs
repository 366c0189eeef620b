//! One seed is the whole run: the same in two processes, byte for byte, and the same as what is written down here.
#![expect(clippy::unwrap_used, reason = "a test that cannot start its processes has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn run_in_a_process_of_its_own(seed: u64, lines: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_honeylink-sim"))
        .args(["seed", &seed.to_string()])
        .arg(lines)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes_in_two_processes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    for seed in [1, 2, 3] {
        let first = run_in_a_process_of_its_own(seed, &path("a"));
        let second = run_in_a_process_of_its_own(seed, &path("b"));
        assert_eq!(first, second);
        assert!(first.contains("hash"), "{first}");
        let (a, b) = (std::fs::read(path("a")).unwrap(), std::fs::read(path("b")).unwrap());
        assert!(a.len() > 1_000, "a trace of seed {seed} has {} bytes", a.len());
        assert!(a == b, "seed {seed} gave two traces");
    }
}

#[test]
fn another_seed_gives_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let first = run_in_a_process_of_its_own(1, &folder.path().join("a"));
    assert_ne!(first, run_in_a_process_of_its_own(2, &folder.path().join("b")));
}
