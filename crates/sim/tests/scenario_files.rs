//! The scenario files of the repository, and what a mistake in one is answered with.

use std::path::Path;

use honeylink_sim::runner::scenarios::files;
use honeylink_sim::scenario::parse;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")
}

#[test]
fn every_scenario_file_makes_a_plan() {
    let files = files(&folder()).unwrap();
    assert!(files.len() >= 8);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let scenario = parse(&file.display().to_string(), &text).unwrap();
        scenario.plan(1).check().unwrap();
        assert!(!scenario.about.is_empty(), "{} does not say what it shows", file.display());
    }
}

#[test]
fn a_mistake_is_answered_with_file_line_key_and_what_is_allowed() {
    let error = |text: &str| parse("x.toml", text).unwrap_err().to_string();
    let key = error("name = \"a\"\nduraton_s = 5\n");
    assert!(key.contains("x.toml") && key.contains("line 2") && key.contains("duraton_s"), "{key}");
    assert!(key.contains("duration_s"), "{key}");
    let value = error("[nodes]\nshape = \"circle\"\n");
    assert!(value.contains("line 2") && value.contains("circle") && value.contains("clustered"), "{value}");
    let nat = error("[nodes]\nnats = [\"Office\"]\n");
    assert!(nat.contains("Office") && nat.contains("Corporate"), "{nat}");
}
