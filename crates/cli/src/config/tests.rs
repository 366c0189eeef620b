//! The promises of the configuration, with the words a person reads.

use std::path::{Path, PathBuf};

use super::*;

fn sources(dir: &Path, toml: &str) -> Sources {
    let file = dir.join("config.toml");
    std::fs::write(&file, toml).unwrap();
    Sources { file, ..Sources::default() }
}

fn problems(toml: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path(), toml);
    let prefix = format!("{}/", dir.path().display());
    resolve(&sources).unwrap_err().iter().map(|p| p.to_string().replace(&prefix, "")).collect()
}

fn origin<'a>(resolved: &'a Resolved, name: &str) -> &'a Origin {
    resolved.entries().find(|(key, ..)| key.name == name).unwrap().2
}

#[test]
fn no_file_at_all_gives_the_defaults() {
    let resolved =
        resolve(&Sources { file: PathBuf::from("/nowhere/config.toml"), ..Sources::default() }).unwrap();
    assert_eq!(resolved.config, Config::default());
    assert_eq!(*origin(&resolved, "node.reach"), Origin::Default);
}

#[test]
fn a_mistyped_key_is_an_error_with_file_line_and_the_right_word() {
    assert_eq!(
        problems("# mine\n[node]\nreach = \"lan\"\nnmae = \"x\"\n"),
        [
            "config.toml:4: unknown key \"nmae\" in [node]; did you mean \"name\"?; keys there are name, type, port, reach, relays, relay_only, relay_peers, power, dht, dht_entries, preset"
        ]
    );
}

#[test]
fn a_bad_value_is_an_error_with_file_line_key_and_what_is_allowed() {
    assert_eq!(
        problems("[node]\nreach = \"galaxy\"\nport = 70000\n[discovery]\nenabled = \"yes\"\n"),
        [
            "config.toml:2: node.reach = \"galaxy\" is not allowed; it must be one of loopback, lan, wide",
            "config.toml:3: node.port = 70000 is not allowed; it must be a whole number from 0 to 65535",
            "config.toml:5: discovery.enabled = \"yes\" is not allowed; it must be true or false",
        ]
    );
}

#[test]
fn unknown_sections_wrong_places_and_broken_toml_are_errors() {
    assert_eq!(
        problems("[nod]\nx = 1\n"),
        [
            "config.toml:1: unknown section [nod]; did you mean \"node\"?; sections are node, discovery, transfer, policy, session, nat, mesh, metrics, log, daemon"
        ]
    );
    assert_eq!(
        problems("[node]\nlevel = \"info\"\n"),
        [
            "config.toml:2: unknown key \"level\" in [node]; it belongs in [log]; keys there are name, type, port, reach, relays, relay_only, relay_peers, power, dht, dht_entries, preset"
        ]
    );
    assert_eq!(problems("node = 3\n"), ["config.toml:1: node is a section: write [node] and its keys below"]);
    let broken = problems("[node]\nname = \"x\n");
    assert!(broken[0].starts_with("config.toml:2: "), "{broken:?}");
}

#[test]
fn variables_win_over_the_file_and_flags_over_variables() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = sources(dir.path(), "[node]\nname = \"file\"\nport = 1\ntype = \"phone\"\n");
    sources.environment = vec![
        ("HONEYLINK_NODE_NAME".into(), "variable".into()),
        ("HONEYLINK_NODE_PORT".into(), "2".into()),
        ("HONEYLINK_DISCOVERY_ENABLED".into(), "false".into()),
        ("HONEYLINK_HOME".into(), "/not/a/setting".into()),
    ];
    sources.assignments = vec!["node.port=3".into()];
    let resolved = resolve(&sources).unwrap();
    assert_eq!(resolved.config.node.device_type, "phone");
    assert_eq!(resolved.config.node.name, "variable");
    assert_eq!(resolved.config.node.port, 3);
    assert!(!resolved.config.discovery.enabled);
    assert_eq!(*origin(&resolved, "node.type"), Origin::File { path: sources.file.clone(), line: 4 });
    assert_eq!(*origin(&resolved, "node.name"), Origin::Variable("HONEYLINK_NODE_NAME".into()));
    assert_eq!(*origin(&resolved, "node.port"), Origin::Flag);
}

#[test]
fn a_mistyped_variable_or_flag_is_an_error() {
    let sources = Sources {
        file: PathBuf::from("/nowhere/config.toml"),
        environment: vec![
            ("HONEYLINK_NODE_NAEM".into(), "x".into()),
            ("HONEYLINK_NODE_PORT".into(), "x".into()),
        ],
        assignments: vec!["node.prot=1".into(), "port".into()],
    };
    let problems: Vec<String> = resolve(&sources).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "HONEYLINK_NODE_NAEM: this variable sets nothing; did you mean \"HONEYLINK_NODE_NAME\"?; \
             `honeylink config show --origin` lists all keys",
            "HONEYLINK_NODE_PORT: node.port = \"x\" is not allowed; it must be a whole number from 0 to 65535",
            "--set: unknown key \"prot\" in [node]; did you mean \"port\"?; keys there are name, type, port, reach, relays, relay_only, relay_peers, power, dht, dht_entries, preset",
            "--set: \"port\" must be section.key=value, as in --set node.name=studio",
        ]
    );
}

#[test]
fn a_preset_changes_defaults_but_never_what_a_person_set() {
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(dir.path(), "[node]\npreset = \"constrained\"\n[log]\nlevel = \"debug\"\n");
    let resolved = resolve(&sources).unwrap();
    assert_eq!(resolved.config.session.message_bytes_max, 64 << 10);
    assert_eq!(*origin(&resolved, "session.message_bytes_max"), Origin::Preset("constrained".into()));
    assert_eq!(resolved.config.log.level, "debug");
}

#[test]
fn setting_a_key_keeps_comments_and_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "# my laptop\n[node]\nname = \"a\" # short\nport = 1\n").unwrap();
    set(&file, "node.name", "b").unwrap();
    set(&file, "log.level", "debug").unwrap();
    assert!(unset(&file, "node.port").unwrap());
    assert!(!unset(&file, "node.type").unwrap());
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "# my laptop\n[node]\nname = \"b\" # short\n\n[log]\nlevel = \"debug\"\n"
    );
}

#[test]
fn a_wrong_value_or_a_broken_file_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[node]\nnmae = \"a\"\n").unwrap();
    assert!(matches!(set(&file, "node.port", "x"), Err(EditError::Wrong(_))));
    assert!(matches!(set(&file, "node.port", "1"), Err(EditError::Broken { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "[node]\nnmae = \"a\"\n");
}

#[test]
fn a_radio_in_the_file_that_may_not_send_is_named_with_its_line_and_the_bands() {
    let toml = "[mesh]\nrelay = false\n\n[[mesh.radios]]\nport = \"/dev/ttyUSB0\"\nfrequency_hz = 869_525_000\n\n\
                [[mesh.radios]]\nport = \"/dev/ttyUSB1\"\nfrequency_hz = 868_650_000\n";
    let [problem] = &problems(toml)[..] else { panic!("one problem") };
    let start = "config.toml:10: mesh.radios: radio 2: 868650000 Hz is in no band of eu868";
    assert!(problem.starts_with(start) && problem.contains("869.4-869.65 MHz (10 %"), "{problem}");
    let missing = &problems("[[mesh.radios]]\nport = \"/dev/ttyUSB0\"\n")[0];
    assert_eq!(
        missing,
        "config.toml:1: mesh.radios: radio 1: frequency_hz is missing: Centre of the channel."
    );
}

#[test]
fn radios_can_be_set_in_every_layer() {
    let dir = tempfile::tempdir().unwrap();
    let radio = r#"[{port = "/dev/ttyUSB0", frequency_hz = 869_525_000, antenna_dbi = 3.5}]"#;
    let mut sources = sources(dir.path(), "");
    sources.environment = vec![("HONEYLINK_MESH_RADIOS".into(), radio.into())];
    let by_variable = resolve(&sources).unwrap().config.mesh.radios;
    set(&sources.file, "mesh.radios", radio).unwrap();
    sources.environment.clear();
    let by_file = resolve(&sources).unwrap().config.mesh.radios;
    sources.assignments = vec![format!("mesh.radios={radio}")];
    let by_flag = resolve(&sources).unwrap().config.mesh.radios;
    assert_eq!(by_variable[0].spreading_factor, 8);
    assert!(by_variable == by_file && by_file == by_flag && by_flag.len() == 1, "{by_file:?}");
    sources.assignments = vec!["mesh.radios=[1]".into()];
    assert_eq!(
        resolve(&sources).unwrap_err()[0].to_string(),
        "--set: mesh.radios: radio 1: it must be a table of its fields"
    );
}

#[test]
fn metrics_for_other_machines_must_be_allowed() {
    let open = "[metrics]\nlisten = \"0.0.0.0:9464\"\n";
    assert_eq!(
        problems(open),
        [
            "config.toml:2: metrics.listen = \"0.0.0.0:9464\" is not allowed; everybody who reaches that address could read it: use \
             127.0.0.1, or allow it with metrics.remote = true"
        ]
    );
    let dir = tempfile::tempdir().unwrap();
    for fine in [&format!("{open}remote = true\n"), "[metrics]\nlisten = \"[::1]:9464\"\n"] {
        assert!(resolve(&sources(dir.path(), fine)).is_ok(), "{fine}");
    }
    let nowhere = "[metrics]\nlisten = \"localhost\"\n";
    assert!(
        problems(nowhere)[0].ends_with("it must be an address as 127.0.0.1:9464 or [::1]:9464, or empty")
    );
}
