//! Holds `docs/manual/configuration.md` to the list of keys: a setting that the manual does not know, or describes with
//! another default, fails here and prints the table to paste.

use serde_json::Value;

use super::Config;
use super::radio::{FIELDS, Field, REQUIRED, Radio};
use super::schema::{KEYS, Key, preset};

fn manual() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/manual/configuration.md");
    std::fs::read_to_string(path).unwrap()
}

fn default_of(key: &Key) -> Value {
    let config = serde_json::to_value(Config::default()).unwrap();
    config[key.section()][key.leaf()].clone()
}

fn keys() -> String {
    let mut table = String::from("| key | values | default | meaning |\n|---|---|---|---|\n");
    for key in KEYS {
        let Key { name, kind, about } = key;
        table.push_str(&format!("| `{name}` | {} | `{}` | {about} |\n", kind.allowed(), default_of(key)));
    }
    table
}

fn radio_fields() -> String {
    let defaults = serde_json::to_value(Radio::default()).unwrap();
    let mut table = String::from("| field | values | default | meaning |\n|---|---|---|---|\n");
    for Field { name, kind, about } in FIELDS {
        let default = match *name {
            name if REQUIRED.contains(&name) => "none".to_owned(),
            _ => format!("`{}`", defaults[*name]),
        };
        table.push_str(&format!("| `{name}` | {} | {default} | {about} |\n", kind.allowed()));
    }
    table
}

fn constrained() -> String {
    let mut table = String::from("| key | value |\n|---|---|\n");
    for (name, value) in preset("constrained") {
        table.push_str(&format!("| `{name}` | `{value}` |\n"));
    }
    table
}

#[test]
fn the_manual_has_every_key_with_its_values_default_and_meaning() {
    assert!(manual().contains(&keys()), "docs/manual/configuration.md should hold:\n{}", keys());
}

#[test]
fn the_manual_has_every_field_of_a_radio() {
    assert!(
        manual().contains(&radio_fields()),
        "docs/manual/configuration.md should hold:\n{}",
        radio_fields()
    );
}

#[test]
fn the_manual_says_what_the_preset_changes() {
    assert!(
        manual().contains(&constrained()),
        "docs/manual/configuration.md should hold:\n{}",
        constrained()
    );
}
