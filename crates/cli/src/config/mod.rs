//! Configuration: what the keys are, where their values come from, and what is wrong with them.
//!
//! Four layers, later ones win: defaults (and the preset on top of them), `<home>/config.toml`, environment variables
//! `HONEYLINK_<SECTION>_<KEY>`, `--set section.key=value`. Every value remembers the layer it came from, down to the
//! line of the file, so `config show --origin` and every error can say it.
//!
//! [`schema`] is the one list of keys; the file, the environment, the help and the checks are all read from it. A key
//! outside the list is an error in every layer: a typo must never be a setting that silently does nothing.

mod edit;
mod file;
mod layers;
#[cfg(test)]
mod manual;
mod problem;
mod radio;
pub(crate) mod schema;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use honeylink::nat::{InvalidObserver, NatOptions, ObserverAt};
use honeylink::paths::Power;
use serde::{Deserialize, Serialize};

pub(crate) use edit::{EditError, set, unset};
pub(crate) use layers::{Origin, Resolved, Sources, resolve};
pub(crate) use problem::{Problem, ProblemKind, meant};
pub(crate) use radio::{Radio, band_name};

/// Every setting, with its default. See [`schema`] for what each means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) node: Node,
    pub(crate) discovery: Discovery,
    pub(crate) transfer: Transfer,
    pub(crate) policy: Policy,
    pub(crate) session: Session,
    pub(crate) nat: Nat,
    pub(crate) mesh: Mesh,
    pub(crate) metrics: Metrics,
    pub(crate) log: Log,
    pub(crate) daemon: Daemon,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Node {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) device_type: String,
    pub(crate) port: u16,
    pub(crate) reach: String,
    pub(crate) relays: Vec<String>,
    pub(crate) relay_only: bool,
    pub(crate) relay_peers: Vec<String>,
    pub(crate) power: String,
    pub(crate) dht: bool,
    pub(crate) dht_entries: Vec<String>,
    pub(crate) preset: String,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: String::new(),
            device_type: "desktop".to_owned(),
            port: 0,
            reach: "lan".to_owned(),
            relays: Vec::new(),
            relay_only: false,
            relay_peers: Vec::new(),
            power: Power::Mains.as_str().to_owned(),
            dht: false,
            dht_entries: Vec::new(),
            preset: "none".to_owned(),
        }
    }
}

impl Node {
    /// What the node is told; the schema knows no third word.
    pub(crate) fn power(&self) -> Power {
        if self.power == Power::Battery.as_str() { Power::Battery } else { Power::Mains }
    }
}

/// `[discovery]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Discovery {
    pub(crate) enabled: bool,
    pub(crate) port: u16,
    pub(crate) broadcast: bool,
    pub(crate) broadcast_port: u16,
    pub(crate) scan: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { enabled: true, port: 5353, broadcast: true, broadcast_port: 7842, scan: true }
    }
}

/// `[transfer]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transfer {
    pub(crate) into: PathBuf,
    pub(crate) accept: String,
}

impl Default for Transfer {
    fn default() -> Self {
        Self { into: PathBuf::new(), accept: "ask".to_owned() }
    }
}

/// `[policy]`: by which policy each verb sends unless told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) send: String,
    pub(crate) pipe: String,
    pub(crate) chat: String,
}

/// `[session]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    pub(crate) message_bytes_max: usize,
    pub(crate) suspended_max_s: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self { message_bytes_max: 1 << 20, suspended_max_s: 300 }
    }
}

/// `[nat]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nat {
    pub(crate) punch: String,
    pub(crate) observers: String,
    pub(crate) observe: u16,
}

impl Default for Nat {
    fn default() -> Self {
        Self { punch: "auto".to_owned(), observers: String::new(), observe: 0 }
    }
}

impl Nat {
    /// What the node is told.
    pub(crate) fn options(&self) -> NatOptions {
        // Checked when the setting was read.
        let observers = observers(&self.observers).unwrap_or_default();
        let options = NatOptions::default().punch(self.punch == "auto").observers(observers);
        if self.observe == 0 { options } else { options.observe(self.observe) }
    }
}

/// The observers in a list with commas between them.
pub(crate) fn observers(text: &str) -> Result<Vec<ObserverAt>, InvalidObserver> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::parse).collect()
}

/// `[mesh]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mesh {
    pub(crate) enabled: bool,
    pub(crate) relay: bool,
    pub(crate) store: bool,
    pub(crate) store_bytes_max: usize,
    pub(crate) announce_s: u64,
    pub(crate) tcp: bool,
    pub(crate) radios: Vec<Radio>,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            enabled: true,
            relay: true,
            store: true,
            store_bytes_max: 512 << 10,
            announce_s: 600,
            tcp: false,
            radios: Vec::new(),
        }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    pub(crate) listen: String,
    pub(crate) remote: bool,
}

impl Metrics {
    /// What is wrong with the two together, as the end of a sentence.
    fn refusal(&self) -> Option<String> {
        let address: std::net::SocketAddr = self.listen.parse().ok()?;
        let refused = !address.ip().to_canonical().is_loopback() && !self.remote;
        refused.then(|| {
            "everybody who reaches that address could read it: use 127.0.0.1, or allow it with metrics.remote = true"
                .to_owned()
        })
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) format: String,
    pub(crate) file_bytes_max: u64,
    pub(crate) files_max: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: "compact".to_owned(), file_bytes_max: 8 << 20, files_max: 4 }
    }
}

/// `[daemon]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Daemon {
    pub(crate) drain_s: u64,
}

impl Default for Daemon {
    fn default() -> Self {
        Self { drain_s: 10 }
    }
}

/// What is wrong with a key's name that is none.
pub(crate) fn unknown_key(name: &str) -> ProblemKind {
    match layers::find_key(name) {
        Err(kind) => kind,
        Ok(key) => ProblemKind::Key { section: key.section().to_owned(), leaf: key.leaf().to_owned() },
    }
}
