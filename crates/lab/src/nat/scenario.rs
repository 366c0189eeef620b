//! Scenario files of the NAT lab: who stands behind what, what the line is like, what happens, what is expected.
//!
//! The names of NATs are those of the simulator's scenarios and mean the same boxes.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What a network is to those behind it. The first five are also the simulator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Kind {
    /// No NAT: public addresses.
    Public,
    /// Endpoint-independent mapping and filtering.
    Open,
    /// A home router: endpoint-independent mapping, address-and-port-dependent filtering.
    Home,
    /// A home router behind a provider's NAT of the same manners.
    Cgnat,
    /// Another random port for every destination, and only that destination may answer.
    Corporate,
    /// A provider's NAT that turns packets to its own public address around.
    Hairpin,
    /// IPv6 only, with NAT64 for the rest of the world.
    Ipv6Only,
    /// `Home` with IPv6 beside IPv4, behind a firewall that lets nothing in unasked.
    DualStack,
    /// Lets out TCP to the ports 80 and 443, and no UDP.
    UdpBlocked,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Public => "Public",
            Self::Open => "Open",
            Self::Home => "Home",
            Self::Cgnat => "Cgnat",
            Self::Corporate => "Corporate",
            Self::Hairpin => "Hairpin",
            Self::Ipv6Only => "Ipv6Only",
            Self::DualStack => "DualStack",
            Self::UdpBlocked => "UdpBlocked",
        }
    }
}

/// A place on the ladder, as far as the lab tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rung {
    /// An address of the same network.
    Lan,
    /// Through NATs or over the internet.
    Direct,
    /// Through a relay.
    Relayed,
}

impl Rung {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Direct => "direct",
            Self::Relayed => "relayed",
        }
    }

    /// Whether no third machine carries the bytes.
    pub(crate) const fn is_direct(self) -> bool {
        matches!(self, Self::Lan | Self::Direct)
    }
}

/// What every router's line to the world is like, each way.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Line {
    /// Milliseconds that a packet takes through one router. Two devices behind a router each see four times this as a
    /// round trip, to each other and to a relay.
    pub(crate) delay_ms: u64,
    /// Percent of the packets that one router loses, each way.
    pub(crate) loss_percent: f64,
    /// Bits a second, in millions; no limit if absent.
    pub(crate) rate_mbit: Option<u32>,
}

/// A router with a name, where its kind alone does not say enough.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The network whose router it hangs on; the internet if absent.
    pub(crate) behind: Option<String>,
}

/// A device.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) name: String,
    /// A network's name, or a kind for a network of its own; in a matrix `row` or `column`.
    pub(crate) behind: String,
}

/// One thing that happens between the two devices, and what is to be measured of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Step {
    /// The first device starts sending; waits for the first answer.
    Connect {
        /// Where it may end; `direct` waits for it.
        #[serde(default = "patience")]
        within_s: u64,
    },
    /// Waits for a rung. A pair that stays below is a miss of the scenario unless `may` is set.
    Reach {
        rung: Rung,
        #[serde(default = "patience")]
        within_s: u64,
        /// Only note what came.
        #[serde(default)]
        may: bool,
    },
    /// Drops all UDP between the two devices but what goes to relays, without a word to anyone.
    CutDirect {
        #[serde(default = "outage")]
        within_s: u64,
    },
    /// Takes every cut back; waits for the direct path.
    Heal {
        #[serde(default = "patience")]
        within_s: u64,
    },
    /// Moves a device to another router.
    Replug {
        device: String,
        to: String,
        #[serde(default = "outage")]
        within_s: u64,
    },
    /// Ends the relay that the pair uses; starts it again when the pair has another.
    KillRelay {
        /// Its network goes, so that nobody is told; else it is killed and its connections end at once.
        #[serde(default)]
        silent: bool,
        #[serde(default = "outage")]
        within_s: u64,
    },
    /// Waits until the third device carries for the two.
    Ferried {
        #[serde(default = "patience")]
        within_s: u64,
    },
    /// Lets time go by.
    Wait { seconds: u64 },
}

const fn patience() -> u64 {
    20
}

const fn outage() -> u64 {
    40
}

/// A scenario, as its file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) about: String,
    /// Runs with every pair of these kinds in the places of `row` and `column`.
    #[serde(default)]
    pub(crate) matrix: Vec<Kind>,
    /// How often it is run in a full measurement.
    #[serde(default = "once")]
    pub(crate) runs: u32,
    /// The same for the pairs of the matrix that have to make a hole, if it differs.
    pub(crate) hard_runs: Option<u32>,
    /// Relays on the internet that both devices know.
    #[serde(default = "one_relay")]
    pub(crate) relays: usize,
    /// Devices on the internet that tell the two how their routers show them (`nat.observe`).
    #[serde(default)]
    pub(crate) observers: usize,
    /// The name of a device on the internet that is paired with both and relays for them (`node.relay_peers`).
    pub(crate) ferry: Option<String>,
    #[serde(default)]
    pub(crate) line: Line,
    #[serde(default)]
    pub(crate) networks: Vec<Network>,
    pub(crate) devices: Vec<Device>,
    pub(crate) steps: Vec<Step>,
}

const fn once() -> u32 {
    1
}

const fn one_relay() -> usize {
    1
}

/// Why a scenario file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    #[error("{file}: {error}")]
    File { file: String, error: std::io::Error },
    #[error("{file}: {why}")]
    Text { file: String, why: String },
    #[error("{file}: {why}")]
    Meaning { file: String, why: String },
}

/// Reads every scenario in `folder`, in the order of their names.
pub(crate) fn all(folder: &Path) -> Result<Vec<Scenario>, ScenarioError> {
    let failed = |error| ScenarioError::File { file: folder.display().to_string(), error };
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(failed)?;
    files.retain(|file| file.extension().is_some_and(|end| end == "toml"));
    files.sort();
    files.iter().map(|file| load(file)).collect()
}

fn load(file: &Path) -> Result<Scenario, ScenarioError> {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| ScenarioError::File { file: name.clone(), error })?;
    parse(&name, &text)
}

/// The scenario that `text` describes; `file` is what errors call it.
pub(crate) fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    let scenario = parse_any(file, text)?;
    scenario.check().map_err(|why| ScenarioError::Meaning { file: file.to_owned(), why })?;
    Ok(scenario)
}

/// The same for any number of devices and whatever they do.
pub(crate) fn parse_any(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
    toml::from_str(text).map_err(|error| ScenarioError::Text {
        file: file.to_owned(),
        why: error.to_string().trim_end().to_owned(),
    })
}

impl Scenario {
    fn check(&self) -> Result<(), String> {
        let [_, _] = self.devices.as_slice() else {
            return Err(format!("needs two devices and has {}", self.devices.len()));
        };
        if !matches!(self.steps.first(), Some(Step::Connect { .. })) {
            return Err("the first step must be `connect`".to_owned());
        }
        for (at, network) in self.networks.iter().enumerate() {
            if let Some(behind) = &network.behind
                && !self.networks[..at].iter().any(|before| before.name == *behind)
            {
                return Err(format!(
                    "network `{}` hangs on `{behind}`, which is not named before it",
                    network.name
                ));
            }
        }
        for device in &self.devices {
            self.check_place(&device.behind)?;
        }
        if self.ferry.is_none() && self.steps.iter().any(|step| matches!(step, Step::Ferried { .. })) {
            return Err("a step waits for a third device, and `ferry` names none".to_owned());
        }
        for step in &self.steps {
            if let Step::Replug { device, to, .. } = step {
                if !self.devices.iter().any(|known| known.name == *device) {
                    return Err(format!("no device is called `{device}`"));
                }
                if !self.networks.iter().any(|known| known.name == *to) {
                    return Err(format!("no network is called `{to}`"));
                }
            }
        }
        Ok(())
    }

    fn check_place(&self, place: &str) -> Result<(), String> {
        let named = self.networks.iter().any(|network| network.name == place);
        let varies = !self.matrix.is_empty() && matches!(place, "row" | "column");
        if named || varies || kind(place).is_some() {
            return Ok(());
        }
        Err(format!("`{place}` is no network of this scenario and no kind of network"))
    }

    /// The kinds of all networks.
    pub(crate) fn places(&self) -> impl Iterator<Item = Kind> {
        let own = self.devices.iter().filter_map(|device| kind(&device.behind));
        self.networks.iter().map(|network| network.kind).chain(own)
    }

    /// The scenarios to run: this one, or one for each pair of the matrix, with what tells them apart.
    pub(crate) fn variants(&self) -> Vec<(String, Self)> {
        if self.matrix.is_empty() {
            let places: Vec<_> = self.devices.iter().map(|device| device.behind.as_str()).collect();
            return vec![(places.join(" - "), self.clone())];
        }
        let mut variants = Vec::new();
        for row in &self.matrix {
            for column in &self.matrix {
                let mut one = self.clone();
                for device in &mut one.devices {
                    match device.behind.as_str() {
                        "row" => row.name().clone_into(&mut device.behind),
                        "column" => column.name().clone_into(&mut device.behind),
                        _ => {}
                    }
                }
                let variant = format!("{} - {}", row.name(), column.name());
                one.runs = one.hard_runs.filter(|_| is_hard(&variant)).unwrap_or(one.runs);
                variants.push((variant, one));
            }
        }
        variants
    }
}

/// Whether a pair of the matrix has to make a hole: one NAT maps by destination, the other filters by port.
pub(crate) fn is_hard(variant: &str) -> bool {
    matches!(variant, "Home - Corporate" | "Corporate - Home")
}

/// The kind with this name.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    Kind::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rest: &str) -> Result<Scenario, ScenarioError> {
        parse("x.toml", &format!("name = \"x\"\nabout = \"y\"\n{rest}"))
    }

    const DEVICES: &str = "
        [[devices]]\nname = \"ann\"\nbehind = \"Home\"\n
        [[devices]]\nname = \"bert\"\nbehind = \"Cgnat\"\n
        [[steps]]\ndo = \"connect\"\n";

    #[test]
    fn a_scenario_of_two_devices_is_read() {
        let read = file(DEVICES).unwrap();
        assert_eq!((read.relays, read.runs, read.steps.len()), (1, 1, 1));
        assert_eq!(read.variants()[0].0, "Home - Cgnat");
    }

    #[test]
    fn what_means_nothing_is_an_error_with_its_name() {
        let said = |rest: &str| file(rest).unwrap_err().to_string();
        assert!(said(&DEVICES.replace("Cgnat", "Moon")).contains("`Moon` is no network"));
        assert!(said(&DEVICES.replace("connect", "conect")).contains("conect"));
        assert!(said(&format!("speed = 1\n{DEVICES}")).contains("speed"));
        let lost = format!("{DEVICES}[[steps]]\ndo = \"replug\"\ndevice = \"carl\"\nto = \"cafe\"\n");
        assert!(said(&lost).contains("`carl`"));
        let alone = format!("{DEVICES}[[steps]]\ndo = \"ferried\"\n");
        assert!(said(&alone).contains("`ferry` names none"));
        let hung = format!("[[networks]]\nname = \"a\"\nkind = \"Home\"\nbehind = \"b\"\n{DEVICES}");
        assert!(said(&hung).contains("`b`"));
    }

    #[test]
    fn a_matrix_is_every_pair_both_ways() {
        let text = DEVICES.replace("Home", "row").replace("Cgnat", "column");
        let read = file(&format!("matrix = [\"Home\", \"Corporate\"]\nhard_runs = 7\n{text}")).unwrap();
        let names: Vec<_> = read.variants().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["Home - Home", "Home - Corporate", "Corporate - Home", "Corporate - Corporate"]);
        assert_eq!(
            read.variants().iter().map(|(_, one)| one.runs).collect::<Vec<_>>(),
            [1, 7, 7, 1],
            "those that have to make holes"
        );
    }

    #[test]
    fn every_scenario_of_the_repository_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/lab");
        assert!(all(&folder).unwrap().len() > 5);
    }

    #[test]
    fn the_simulators_names_mean_the_same_here() {
        for (_, name) in honeylink_sim::net::nat::NatKind::ALL {
            assert!(kind(name).is_some(), "{name}");
        }
    }
}
