//! The one list of configuration keys: name, kind, meaning, and whether a change works without a restart.

use honeylink::{DHT_ENTRIES_MAX, DhtEntry, RELAY_PEERS_MAX, RELAYS_PER_DEVICE_MAX, RelayAddr};
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use super::{file, observers, radio};

/// One configuration key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Section and name, as in `node.port`.
    pub(crate) name: &'static str,
    /// What values it takes.
    pub(crate) kind: Kind,
    /// What it is for, in one sentence for the help and the generated file.
    pub(crate) about: &'static str,
}

/// What values a key takes.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Text of at most so many bytes.
    Text {
        /// Most bytes.
        max: usize,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Integer {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
        /// What it counts; empty if it counts nothing.
        unit: &'static str,
    },
    /// A number with decimals.
    Decimal {
        /// Least value.
        min: i32,
        /// Greatest value.
        max: i32,
        /// What it counts.
        unit: &'static str,
    },
    /// A folder.
    Folder,
    /// A log level, or a filter as in `RUST_LOG`.
    LogFilter,
    /// An IP address with a port, or nothing.
    Address,
    /// Observers with commas between them, or nothing.
    Observers,
    /// Relays, each as [`RelayAddr`] is written.
    Relays,
    /// The name of a policy, or nothing. Whether there is one is for [`crate::policies`] to say.
    Policy,
    /// Entry points of the DHT, each as [`DhtEntry`] is written.
    Entries,
    /// Paired devices, by name or id.
    Devices,
    /// Radio modems, each a table of [`radio::FIELDS`].
    Radios,
}

/// All keys, in the order shown.
pub(crate) const KEYS: &[Key] = &[
    Key {
        name: "node.name",
        kind: Kind::Text { max: 63 },
        about: "The name other devices see. Empty: the machine's name.",
    },
    Key {
        name: "node.type",
        kind: Kind::Choice(&["desktop", "laptop", "phone", "tablet", "server", "embedded"]),
        about: "What kind of machine this is; other devices show a symbol for it.",
    },
    Key {
        name: "node.port",
        kind: Kind::Integer { min: 0, max: 65_535, unit: "" },
        about: "UDP port to listen on. 0 takes any free one; set it if a firewall rule needs a fixed one.",
    },
    Key {
        name: "node.reach",
        kind: Kind::Choice(&["loopback", "lan", "wide"]),
        about: "How far packets may go: this machine only, the local networks only, or the internet as well.",
    },
    Key {
        name: "node.relays",
        kind: Kind::Relays,
        about: "Relays through which this device is reached from other networks, as `honeylink relay` prints them. Used \
                only with `node.reach = \"wide\"`.",
    },
    Key {
        name: "node.relay_only",
        kind: Kind::Flag,
        about: "Whether to speak through relays and in no other way, so that no device learns this one's addresses. \
                Needs a wide reach and a relay.",
    },
    Key {
        name: "node.relay_peers",
        kind: Kind::Devices,
        about: "Paired devices that carry this one's packets to devices which it cannot reach otherwise, if they granted it \
                `relay`. A connection is kept to each. Used only with `node.reach = \"wide\"`.",
    },
    Key {
        name: "node.power",
        kind: Kind::Choice(&["mains", "battery"]),
        about: "What idle links are kept for. `mains`: a way that dies is noticed in a second or a few. `battery`: a packet \
                in 4.5 seconds, and it takes up to 15 to notice. The device that asks more often decides for both.",
    },
    Key {
        name: "node.dht",
        kind: Kind::Flag,
        about: "Whether paired devices, and codes, are found across the internet by the DHT of BitTorrent, and this device \
                by them. Used only with `node.reach = \"wide\"`.",
    },
    Key {
        name: "node.dht_entries",
        kind: Kind::Entries,
        about: "By which of its nodes the DHT is entered. Empty: those that the makers of BitTorrent programs run for \
                everybody.",
    },
    Key {
        name: "node.preset",
        kind: Kind::Choice(&["none", "constrained"]),
        about: "Other defaults for a kind of machine. `constrained`: little memory, little disk. Your own settings win.",
    },
    Key {
        name: "discovery.enabled",
        kind: Kind::Flag,
        about: "Whether to announce this device and look for others (mDNS).",
    },
    Key {
        name: "discovery.port",
        kind: Kind::Integer { min: 1, max: 65_535, unit: "" },
        about: "UDP port of discovery. Only devices with the same one hear each other; 5353 is everyone's.",
    },
    Key {
        name: "discovery.broadcast",
        kind: Kind::Flag,
        about: "Whether to look for devices by broadcast, and where they were before: for networks that drop multicast.",
    },
    Key {
        name: "discovery.broadcast_port",
        kind: Kind::Integer { min: 1, max: 65_535, unit: "" },
        about: "UDP port of broadcasts and scans. Only devices with the same one hear each other.",
    },
    Key {
        name: "discovery.scan",
        kind: Kind::Flag,
        about: "Whether to ask a private subnet of at most 1,024 addresses one by one where nobody answers otherwise.",
    },
    Key {
        name: "transfer.into",
        kind: Kind::Folder,
        about: "Folder for received files. Empty: `inbox` in the home of this device.",
    },
    Key {
        name: "transfer.accept",
        kind: Kind::Choice(&["ask", "paired", "all", "never"]),
        about: "Who decides about offered files: you, each time; every paired device with the right `files`; \
                anyone who can connect; or nobody.",
    },
    Key {
        name: "policy.send",
        kind: Kind::Policy,
        about: "The policy that `send` sends by unless told otherwise. Empty: bulk, whatever is left over.",
    },
    Key {
        name: "policy.pipe",
        kind: Kind::Policy,
        about: "The policy that `pipe` sends by unless told otherwise. Empty: interactive.",
    },
    Key {
        name: "policy.chat",
        kind: Kind::Policy,
        about: "The policy that messages of `chat` go by. Empty: interactive.",
    },
    Key {
        name: "session.message_bytes_max",
        kind: Kind::Integer { min: 1024, max: 16 << 20, unit: "bytes" },
        about: "Largest message a link takes. Both sides check it before allocating.",
    },
    Key {
        name: "session.suspended_max_s",
        kind: Kind::Integer { min: 1, max: 86_400, unit: "seconds" },
        about: "How long a link whose path broke waits to resume before it is closed. Longer keeps more in memory.",
    },
    Key {
        name: "nat.punch",
        kind: Kind::Choice(&["auto", "off"]),
        about: "Whether to make a hole in hard NATs for links that go by a relay: up to 120 KB an attempt. `off` where that \
                counts.",
    },
    Key {
        name: "nat.observers",
        kind: Kind::Observers,
        about: "Who is asked where this device is seen, and whose word about other devices is believed, besides the observers \
                of its own relays; at most 4. Used only with `node.reach = \"wide\"`.",
    },
    Key {
        name: "nat.observe",
        kind: Kind::Integer { min: 0, max: 65_534, unit: "" },
        about: "UDP port on which this device, and on the next one too, tells others where they are seen: for devices that \
                anybody can reach. 0: it does not. Used only with `node.reach = \"wide\"`.",
    },
    Key {
        name: "mesh.enabled",
        kind: Kind::Flag,
        about: "Whether the daemon takes part in the mesh: a connection to each paired device around, and messages \
                over several hops.",
    },
    Key { name: "mesh.relay", kind: Kind::Flag, about: "Whether messages of others are passed on." },
    Key {
        name: "mesh.store",
        kind: Kind::Flag,
        about: "Whether messages for devices that are away are kept for them.",
    },
    Key {
        name: "mesh.store_bytes_max",
        kind: Kind::Integer { min: 16 << 10, max: 4 << 20, unit: "bytes" },
        about: "How much of that at most; a quarter of it for one device.",
    },
    Key {
        name: "mesh.announce_s",
        kind: Kind::Integer { min: 0, max: 86_400, unit: "seconds" },
        about: "How often this device announces itself in the mesh. 0: never; others then find it by searching.",
    },
    Key {
        name: "mesh.tcp",
        kind: Kind::Flag,
        about: "Whether the mesh may come in by TCP too, on the port with the number of `node.port`: for networks that let \
                no UDP through.",
    },
    Key {
        name: "mesh.radios",
        kind: Kind::Radios,
        about: "Radio modems on serial ports, each as a table `[[mesh.radios]]`; its fields are below.",
    },
    Key {
        name: "metrics.listen",
        kind: Kind::Address,
        about: "TCP address on which the daemon serves /metrics and /healthz, as 127.0.0.1:9464. Empty: none; both are \
                on the socket of the local API in any case.",
    },
    Key {
        name: "metrics.remote",
        kind: Kind::Flag,
        about: "Whether that address may be one that other machines reach. There is no password.",
    },
    Key {
        name: "log.level",
        kind: Kind::LogFilter,
        about: "Least severe level to log: error, warn, info, debug or trace; or a filter as in RUST_LOG, which wins.",
    },
    Key {
        name: "log.format",
        kind: Kind::Choice(&["compact", "pretty", "json"]),
        about: "How log lines look.",
    },
    Key {
        name: "log.file_bytes_max",
        kind: Kind::Integer { min: 16 << 10, max: 1 << 30, unit: "bytes" },
        about: "Size at which the daemon starts a new log file.",
    },
    Key {
        name: "log.files_max",
        kind: Kind::Integer { min: 1, max: 100, unit: "files" },
        about: "Log files kept; the oldest is deleted.",
    },
    Key {
        name: "daemon.drain_s",
        kind: Kind::Integer { min: 0, max: 3_600, unit: "seconds" },
        about: "How long shutdown waits for running transfers. What is not finished by then resumes later.",
    },
];

/// What the preset `name` changes: key and value.
pub(crate) fn preset(name: &str) -> Vec<(&'static str, Value)> {
    match name {
        "constrained" => vec![
            ("node.type", Value::from("embedded")),
            ("session.message_bytes_max", Value::from(64 << 10)),
            ("session.suspended_max_s", Value::from(60)),
            ("mesh.store", Value::from(false)),
            ("mesh.announce_s", Value::from(3_600)),
            ("log.level", Value::from("warn")),
            ("log.file_bytes_max", Value::from(256 << 10)),
            ("log.files_max", Value::from(2)),
        ],
        _ => Vec::new(),
    }
}

/// The key called `name`.
pub(crate) fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The sections, in the order shown.
pub(crate) fn sections() -> Vec<&'static str> {
    let mut out: Vec<&'static str> = Vec::new();
    for key in KEYS {
        if out.last() != Some(&key.section()) {
            out.push(key.section());
        }
    }
    out
}

/// The keys of one section, without the section's name.
pub(crate) fn keys_of(section: &str) -> Vec<&'static str> {
    KEYS.iter().filter(|key| key.section() == section).map(Key::leaf).collect()
}

impl Key {
    /// `node` of `node.port`.
    pub(crate) fn section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(section, _)| section)
    }

    /// `port` of `node.port`.
    pub(crate) fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }

    /// `HONEYLINK_NODE_PORT` of `node.port`.
    pub(crate) fn variable(&self) -> String {
        format!("HONEYLINK_{}", self.name.replace('.', "_").to_uppercase())
    }
}

impl Kind {
    /// What may be written, as the end of the sentence "must be ...".
    pub(crate) fn allowed(&self) -> String {
        match self {
            Self::Text { max } => format!("text of at most {max} bytes"),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Flag => "true or false".to_owned(),
            Self::Integer { min, max, unit: "" } => format!("a whole number from {min} to {max}"),
            Self::Integer { min, max, unit } => format!("a whole number from {min} to {max} ({unit})"),
            Self::Decimal { min, max, unit } => format!("a number from {min} to {max} ({unit})"),
            Self::Folder => "a folder's path".to_owned(),
            Self::Address => "an address as 127.0.0.1:9464 or [::1]:9464, or empty".to_owned(),
            Self::Relays => {
                format!("a list of at most {RELAYS_PER_DEVICE_MAX} relays, each as https://host:port#key")
            }
            Self::Entries => format!("a list of at most {DHT_ENTRIES_MAX} entry points, each as host:port"),
            Self::Devices => format!("a list of at most {RELAY_PEERS_MAX} devices, each by name or id"),
            Self::LogFilter => {
                "error, warn, info, debug, trace or a filter such as \"info,honeylink=debug\"".to_owned()
            }
            Self::Observers => {
                "observers as <device id>@<host>:<port> with commas between them, or empty".to_owned()
            }
            Self::Policy => "a policy's name as `honeylink policy list` prints it, or empty".to_owned(),
            Self::Radios => "a list of radios, each with port and frequency_hz at least".to_owned(),
        }
    }

    /// The value a person wrote without TOML's quotes, as in a variable or on the command line; a list as in TOML.
    ///
    /// # Errors
    /// What is wrong with it, as for [`Kind::check`].
    pub(crate) fn read(&self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Text { .. }
            | Self::Choice(_)
            | Self::Folder
            | Self::Address
            | Self::Observers
            | Self::Policy
            | Self::LogFilter => Some(Value::from(text)),
            Self::Flag => text.parse::<bool>().ok().map(Value::from),
            Self::Integer { .. } => text.replace('_', "").parse::<i64>().ok().map(Value::from),
            Self::Decimal { .. } => text.parse::<f64>().ok().map(Value::from),
            Self::Radios => file::value(text),
            Self::Relays | Self::Entries | Self::Devices => Some(list_of(text)),
        };
        let value = value.ok_or_else(|| self.must())?;
        self.check(&value).map(|()| value)
    }

    /// Whether the key takes this value.
    ///
    /// # Errors
    /// What is wrong with it and what is allowed, as the end of a sentence.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        let takes = match self {
            Self::Text { max } => value.as_str().is_some_and(|s| s.len() <= *max),
            Self::Choice(words) => value.as_str().is_some_and(|s| words.contains(&s)),
            Self::Flag => value.is_boolean(),
            Self::Integer { min, max, .. } => value.as_i64().is_some_and(|n| n >= *min && n <= *max),
            Self::Decimal { min, max, .. } => {
                value.as_f64().is_some_and(|n| n >= f64::from(*min) && n <= f64::from(*max))
            }
            Self::Folder => value.is_string(),
            Self::Address => {
                value.as_str().is_some_and(|s| s.is_empty() || s.parse::<std::net::SocketAddr>().is_ok())
            }
            Self::LogFilter => value.as_str().is_some_and(|s| !s.is_empty() && EnvFilter::try_new(s).is_ok()),
            Self::Observers => value.as_str().is_some_and(|s| observers(s).is_ok()),
            Self::Policy => value.as_str().is_some_and(is_policy_name),
            Self::Relays => return check_relays(value).map_err(|wrong| wrong.unwrap_or_else(|| self.must())),
            Self::Entries => value.as_array().is_some_and(|list| {
                let is_one = |one: &Value| one.as_str().is_some_and(|s| s.parse::<DhtEntry>().is_ok());
                list.len() <= DHT_ENTRIES_MAX && list.iter().all(is_one)
            }),
            Self::Devices => value.as_array().is_some_and(|list| {
                let is_one = |one: &Value| one.as_str().is_some_and(|s| !s.is_empty() && s.len() <= 64);
                list.len() <= RELAY_PEERS_MAX && list.iter().all(is_one)
            }),
            Self::Radios => return radio::check(value).map_err(|wrong| wrong.to_string()),
        };
        if takes { Ok(()) } else { Err(self.must()) }
    }

    pub(super) fn must(&self) -> String {
        format!("it must be {}", self.allowed())
    }
}

/// Whether a text may name a policy; empty is none.
fn is_policy_name(text: &str) -> bool {
    text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A list as in TOML, or one entry, or several with commas between them.
fn list_of(text: &str) -> Value {
    if text.trim_start().starts_with('[')
        && let Some(list) = file::value(text)
    {
        return list;
    }
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(Value::from).collect()
}

/// What is wrong with one of the relays, or `None` if it is no such list.
fn check_relays(value: &Value) -> Result<(), Option<String>> {
    let list = value.as_array().filter(|list| list.len() <= RELAYS_PER_DEVICE_MAX).ok_or(None)?;
    for relay in list {
        let text = relay.as_str().ok_or(None)?;
        text.parse::<RelayAddr>().map_err(|why| Some(format!("`{text}`: {why}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Leaves of the default configuration, as `section.key`.
    fn leaves() -> Vec<(String, Value)> {
        let Value::Object(sections) = serde_json::to_value(Config::default()).unwrap() else {
            panic!("a table")
        };
        let mut out = Vec::new();
        for (section, keys) in sections {
            for (leaf, value) in keys.as_object().unwrap() {
                out.push((format!("{section}.{leaf}"), value.clone()));
            }
        }
        out
    }

    #[test]
    fn every_field_has_a_key_and_every_key_a_field_whose_default_it_takes() {
        for (name, value) in leaves() {
            let key = key(&name).unwrap_or_else(|| panic!("{name} has no key"));
            assert_eq!(key.kind.check(&value), Ok(()), "{name} does not take its default {value}");
        }
        assert_eq!(leaves().len(), KEYS.len());
    }

    #[test]
    fn a_relay_that_is_none_is_refused_with_what_is_wrong_with_it() {
        let relays = &key("node.relays").unwrap().kind;
        let one = "https://relay.example.org:8443#00112233445566778899aabbccddeeff";
        assert_eq!(relays.read(one), Ok(Value::from(vec![one])));
        assert_eq!(
            relays.read(&format!("[\"{one}\", \"https://b.org\"]")),
            Ok(Value::from(vec![one, "https://b.org"]))
        );
        assert_eq!(relays.read(""), Ok(Value::from(Vec::<Value>::new())));
        let wrong = relays.read("https://relay.example.org#0011").unwrap_err();
        assert!(wrong.contains("32 hex digits"), "{wrong}");
        assert!(relays.read("http://relay.example.org").unwrap_err().contains("https://"));
        assert!(relays.read(&["https://a.org"; 5].join(",")).unwrap_err().contains("at most 4"));
        assert!(relays.check(&Value::from(7)).is_err());
    }

    #[test]
    fn an_entry_point_of_the_dht_is_a_host_and_a_port() {
        let entries = &key("node.dht_entries").unwrap().kind;
        let both = Value::from(vec!["router.example.org:6881", "127.0.0.1:7"]);
        assert_eq!(entries.read("router.example.org:6881, 127.0.0.1:7"), Ok(both));
        assert_eq!(entries.read(""), Ok(Value::from(Vec::<Value>::new())));
        for wrong in ["router.example.org", "router.example.org:0", &["a:1"; 9].join(",")] {
            assert!(entries.read(wrong).unwrap_err().contains("host:port"), "{wrong}");
        }
    }

    #[test]
    fn presets_set_existing_keys_to_values_they_take() {
        for (name, value) in preset("constrained") {
            assert_eq!(key(name).unwrap().kind.check(&value), Ok(()), "{name}");
        }
    }

    #[test]
    fn variables_of_different_keys_differ() {
        let mut all: Vec<_> = KEYS.iter().map(Key::variable).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), KEYS.len());
    }
}
