//! Holds the JSON in `docs/manual/scripting.md` to the types: each line of a block marked "json TYPE" must read as that
//! type and print as the same value, so that the manual never shows a field that is not there.

#![expect(clippy::unwrap_used, reason = "the helpers of this test are no #[test] themselves")]

use honeylink_api::{NearbyDevice, NearbyEvent, PairEvent, PingEvent, Status, TransferEvent};
use serde_json::Value;

/// Reads as `T`, then prints again.
fn through<T: serde::Serialize + serde::de::DeserializeOwned>(line: &str) -> Value {
    serde_json::to_value(serde_json::from_str::<T>(line).unwrap()).unwrap()
}

#[test]
fn every_example_is_a_value_of_its_type() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/manual/scripting.md");
    let manual = std::fs::read_to_string(path).unwrap();
    let mut checked = 0;
    let mut of_type = None;
    for line in manual.lines() {
        if line.starts_with("```") {
            of_type = line.strip_prefix("```json ");
            continue;
        }
        let Some(name) = of_type else { continue };
        let printed = match name {
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
    assert!(checked >= 8, "only {checked} examples found");
}
