//! Holds the JSON in the manual's chapters on scripting and monitoring to the types: each line of a block marked "json
//! TYPE" must read as that type and print as the same value, so that the manual never shows a field that is not there.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of this test are no #[test] themselves")]

use honeylink_api::{
    ChatEvent, Health, MeshRoute, NearbyDevice, NearbyEvent, PairEvent, PingEvent, SpeedReport, Status,
    TransferEvent,
};
use serde_json::Value;

/// Reads as `T`, then prints again.
fn through<T: serde::Serialize + serde::de::DeserializeOwned>(line: &str) -> Value {
    serde_json::to_value(serde_json::from_str::<T>(line).unwrap()).unwrap()
}

#[test]
fn every_example_is_a_value_of_its_type() {
    let mut checked = 0;
    for chapter in ["scripting", "monitoring"] {
        let path = format!("{}/../../docs/manual/{chapter}.md", env!("CARGO_MANIFEST_DIR"));
        checked += check(&std::fs::read_to_string(path).unwrap());
    }
    assert!(checked >= 12, "only {checked} examples found");
}

/// Checks the examples of one chapter; how many there are.
fn check(manual: &str) -> usize {
    let mut checked = 0;
    let mut of_type = None;
    for line in manual.lines() {
        if line.starts_with("```") {
            of_type = line.strip_prefix("```json ");
            continue;
        }
        let Some(name) = of_type else { continue };
        let printed = match name {
            "ChatEvent" => through::<ChatEvent>(line),
            "MeshRoute" => through::<MeshRoute>(line),
            "Health" => through::<Health>(line),
            "SpeedReport" => through::<SpeedReport>(line),
            "Status" => through::<Status>(line),
            "NearbyDevice" => through::<NearbyDevice>(line),
            "NearbyEvent" => through::<NearbyEvent>(line),
            "PairEvent" => through::<PairEvent>(line),
            "TransferEvent" => through::<TransferEvent>(line),
            "PingEvent" => through::<PingEvent>(line),
            other => panic!("no row for {other} in this test"),
        };
        assert_eq!(printed, serde_json::from_str::<Value>(line).unwrap(), "{name}");
        checked += 1;
    }
    checked
}
