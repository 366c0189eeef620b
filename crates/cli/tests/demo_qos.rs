//! `honeylink demo --qos`: three classes on one narrow link, while it runs and at the end.

mod support;

use serde_json::Value;
use support::Device;

#[test]
fn every_class_is_shown_while_it_runs_and_the_verdict_has_figures() {
    let mut command = Device::new("demo", 1).command(&["demo", "--qos", "--time", "3", "--json"]);
    let output = command.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // A machine that is too busy for a verdict says so and does not call it a failure.
    assert!(output.status.success(), "{out}{said}");
    let (verdict, moments) = lines.split_last().unwrap();
    assert!(moments.iter().any(|line| line["phase"] == "without files"), "{out}");
    assert!(moments.iter().any(|line| line["phase"] == "with files"), "{out}");
    for moment in moments {
        let classes: Vec<&str> =
            moment["classes"].as_array().unwrap().iter().map(|of| of["class"].as_str().unwrap()).collect();
        assert_eq!(classes, ["input", "film", "files"]);
    }
    assert_eq!(verdict["ok"], true, "{verdict}");
    assert!(verdict["verdict"].as_str().unwrap_or_else(|| panic!("{verdict}")).len() > 20);
    assert!(verdict["machine_late_p99_ms"].is_number() && verdict["with_files"].is_array(), "{verdict}");
}
