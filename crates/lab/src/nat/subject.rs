//! Who is measured: the product as people run it, and beside it a plain iroh endpoint in the same namespaces.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use honeylink::{Node, Reach, testing};
use rustix::process::Signal;
use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;

use crate::Trouble;
use crate::ferry;
use crate::observers::Observers;
use crate::process::Process;
use crate::watch::Watch;
use crate::world::World;

/// Programs must be up within this time; long, because a loaded machine is no finding.
pub(crate) const START_MAX: Duration = Duration::from_secs(60);
/// A node must be at its relay within this time, or starts the scenario without.
const ONLINE_MAX: Duration = Duration::from_secs(15);
/// From one numbered message to the next, at least.
const EVERY_MS: u64 = 20;
/// After this time without an answer the product's application takes a message for lost: longer than any step waits.
const LOST_AFTER_S: u64 = 120;

/// The programs that the lab starts.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) honeylink: PathBuf,
    pub(crate) raw: PathBuf,
    /// `log.level` of the nodes.
    pub(crate) log: String,
}

/// Whose figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
    Honeylink,
    Iroh,
}

/// One of the two, on both devices of a scenario.
pub(crate) struct Subject {
    pub(crate) who: Who,
    program: PathBuf,
    /// Homes of the product, by device.
    homes: BTreeMap<String, PathBuf>,
    /// For the product what stands in its settings, for the control its arguments.
    relays: Vec<String>,
    /// What stands in the product's setting `nat.observers`.
    observers: String,
    /// Its setting `log.level`.
    log: String,
    running: BTreeMap<String, Process>,
    /// The devices in the scenario's order; the first one calls.
    names: Vec<String>,
    /// The third device, if it relays for the first two.
    third: Option<String>,
}

impl Subject {
    pub(crate) fn control(programs: &Programs, names: &[String], relays: &[RelayAt]) -> Self {
        let relays = relays.iter().flat_map(|relay| ["--relay".to_owned(), relay.url()]).collect();
        Self {
            who: Who::Iroh,
            program: programs.raw.clone(),
            homes: BTreeMap::new(),
            relays,
            observers: String::new(),
            log: String::new(),
            running: BTreeMap::new(),
            names: names.to_vec(),
            third: None,
        }
    }

    /// The product with a home below `folder` for each device. `pairs` of them, by place, are paired.
    pub(crate) async fn product(
        programs: &Programs,
        names: &[String],
        pairs: &[(usize, usize)],
        relays: &[RelayAt],
        observers: &Observers,
        folder: &Path,
    ) -> Result<Self, Trouble> {
        let home = |name: &String| folder.join(format!("{name}-home"));
        let devices: Vec<_> = names.iter().map(|name| (name.as_str(), home(name))).collect();
        pair(&devices, pairs).await?;
        let relays = relays.iter().map(|relay| relay.line.clone()).collect();
        Ok(Self {
            who: Who::Honeylink,
            program: programs.honeylink.clone(),
            homes: names.iter().map(|name| (name.clone(), home(name))).collect(),
            relays,
            observers: observers.setting.clone(),
            log: programs.log.clone(),
            running: BTreeMap::new(),
            names: names.to_vec(),
            third: None,
        })
    }

    /// Lets one device relay for all others, which know it at this address.
    pub(crate) async fn board(&mut self, third: &str, at: SocketAddr) -> Result<(), Trouble> {
        let guests = self.homes.iter().filter(|(name, _)| *name != third).map(|(_, home)| home.as_path());
        ferry::board(self.home(third)?, guests, at).await?;
        self.third = Some(third.to_owned());
        Ok(())
    }

    /// Starts what answers, and on the product's side also what calls.
    pub(crate) async fn start(&mut self, world: &World) -> Result<(), Trouble> {
        match self.who {
            Who::Iroh => {
                let name = self.names.get(1).ok_or("nobody to answer")?.clone();
                let mut answerer = Process::start(world.device(&name)?, self.raw(1))?;
                answerer.event("ready", START_MAX).await?;
                self.running.insert(name, answerer);
            }
            Who::Honeylink => {
                for name in self.names.clone() {
                    self.up(world, &name).await?;
                }
                for name in self.names.clone() {
                    self.online(world, &name).await?;
                }
            }
        }
        Ok(())
    }

    fn raw(&self, key: usize) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--key", &key.to_string()]);
        command.args(&self.relays);
        command
    }

    pub(crate) async fn up(&mut self, world: &World, name: &str) -> Result<(), Trouble> {
        let mut command = self.honeylink(name);
        let relays = serde_json::to_string(&self.relays)?;
        let mut settings = vec![
            format!("node.name={name}"),
            "node.reach=wide".to_owned(),
            format!("node.relays={relays}"),
            format!("nat.observers={}", self.observers),
            format!("log.level={}", self.log),
        ];
        match &self.third {
            Some(third) if third == name => settings.push(format!("node.port={}", ferry::PORT)),
            Some(third) => settings.push(format!("node.relay_peers={}", serde_json::to_string(&[third])?)),
            None => {}
        }
        for setting in settings {
            command.args(["--set", &setting]);
        }
        command.args(["up", "--foreground"]);
        let mut daemon = Process::start(world.device(name)?, command)?;
        daemon.wait(START_MAX, |line| line.starts_with("running;").then_some(())).await?;
        self.running.insert(name.to_owned(), daemon);
        Ok(())
    }

    /// Waits until a relay says that it has the node, if one can be reached.
    async fn online(&self, world: &World, name: &str) -> Result<(), Trouble> {
        let until = Instant::now() + ONLINE_MAX;
        while !self.relays.is_empty() && Instant::now() < until {
            let mut command = self.honeylink(name);
            command.args(["status", "--json"]);
            let status = Process::start(world.device(name)?, command)?.end(START_MAX).await?;
            let relays = status["relays"].as_array().cloned().unwrap_or_default();
            if relays.iter().any(|relay| relay["connected"] == true) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    pub(crate) fn honeylink(&self, name: &str) -> Command {
        honeylink(&self.program, self.homes.get(name).map(PathBuf::as_path))
    }

    /// The application on the first device: a numbered message, its answer, the next.
    pub(crate) fn watch(&self, world: &World) -> Result<Watch, Trouble> {
        let [from, to, ..] = self.names.as_slice() else { return Err("needs two devices".into()) };
        let device = world.device(from)?.clone();
        let mut args: Vec<String> = Vec::new();
        match self.who {
            Who::Iroh => {
                args.extend(["--key", "0", "--dial", "1", "--every-ms"].map(str::to_owned));
                args.push(EVERY_MS.to_string());
                args.extend(self.relays.iter().cloned());
            }
            Who::Honeylink => {
                let every = (EVERY_MS as f64 / 1000.0).to_string();
                let home = self.home(from)?.display().to_string();
                let lost = LOST_AFTER_S.to_string();
                args.extend(["--home", &home, "ping", to].map(str::to_owned));
                args.extend(["-c", "0", "-i", &every, "-W", &lost, "--json"].map(str::to_owned));
            }
        }
        let program = self.program.clone();
        Ok(Watch::new(move || {
            let mut command = Command::new(&program);
            command.args(&args);
            Process::start(&device, command)
        }))
    }

    pub(crate) fn home(&self, name: &str) -> Result<&Path, Trouble> {
        Ok(self.homes.get(name).ok_or_else(|| format!("{name} has no home"))?)
    }

    /// SIGKILL to one device's program.
    pub(crate) async fn kill(&mut self, name: &str) {
        if let Some(mut process) = self.running.remove(name) {
            process.kill().await;
        }
    }

    /// Resident memory of one device's program, bytes.
    pub(crate) fn memory_bytes(&self, name: &str) -> Option<u64> {
        let pid = self.running.get(name)?.pid()?.as_raw_nonzero();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) -> Result<(), Trouble> {
        self.running.get(name).ok_or("it does not run")?.signal(signal)
    }

    /// Ends every program.
    pub(crate) async fn stop(&mut self) {
        for process in self.running.values_mut() {
            process.kill().await;
        }
        self.running.clear();
    }
}

/// The program with a home, and without what the person who measures has set for it.
pub(crate) fn honeylink(program: &Path, home: Option<&Path>) -> Command {
    let mut command = Command::new(program);
    if let Some(home) = home {
        command.arg("--home").arg(home);
    }
    let set = std::env::vars_os().map(|(name, _)| name);
    for name in set.filter(|name| name.to_string_lossy().starts_with("HONEYLINK_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG");
    command
}

/// A running relay, as `honeylink relay` says it: address and key.
#[derive(Clone, Debug)]
pub(crate) struct RelayAt {
    line: String,
}

impl RelayAt {
    /// Without the key, as iroh wants it.
    fn url(&self) -> String {
        self.line.split(['#', '?']).next().unwrap_or_default().to_owned()
    }
}

/// The relays of a scenario; one that was killed keeps its key for when it comes back.
pub(crate) struct Relays {
    program: PathBuf,
    folder: PathBuf,
    running: Vec<Option<Process>>,
    pub(crate) at: Vec<RelayAt>,
}

impl Relays {
    pub(crate) async fn start(world: &World, programs: &Programs, folder: &Path) -> Result<Self, Trouble> {
        let (program, folder) = (programs.honeylink.clone(), folder.to_owned());
        let mut relays = Self { program, folder, running: Vec::new(), at: Vec::new() };
        for number in 0..world.relays() {
            relays.running.push(None);
            let line = relays.start_one(world, number).await?;
            relays.at.push(RelayAt { line });
        }
        Ok(relays)
    }

    async fn start_one(&mut self, world: &World, number: usize) -> Result<String, Trouble> {
        let mut command = Command::new(&self.program);
        command.arg("--home").arg(self.folder.join(format!("relay-{number}")));
        command.args(["relay", "--host", &world.relay_host(number)?, "--json"]);
        let mut relay = Process::start(world.relay(number)?, command)?;
        let said =
            |line: &str| serde_json::from_str::<Value>(line).ok()?["relay"].as_str().map(str::to_owned);
        let line = relay.wait(START_MAX, said).await?;
        if let Some(place) = self.running.get_mut(number) {
            *place = Some(relay);
        }
        Ok(line)
    }

    /// Starts those that do not run.
    pub(crate) async fn start_all(&mut self, world: &World) -> Result<(), Trouble> {
        for number in 0..self.running.len() {
            if self.running.get(number).is_some_and(Option::is_none) {
                self.start_one(world, number).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn kill(&mut self, number: usize) {
        if let Some(Some(mut relay)) = self.running.get_mut(number).map(Option::take) {
            relay.kill().await;
        }
    }
}

/// Makes a home for each device and lets the pairs trust each other, as a pairing would have.
async fn pair(devices: &[(&str, PathBuf)], pairs: &[(usize, usize)]) -> Result<(), Trouble> {
    let mut nodes = Vec::new();
    for (name, home) in devices {
        let node =
            Node::builder().home(home).name(*name).reach(Reach::Loopback).discovery(false).build().await?;
        nodes.push(node);
    }
    let introduced = pairs.iter().try_for_each(|(a, b)| match (nodes.get(*a), nodes.get(*b)) {
        (Some(a), Some(b)) => Ok(testing::introduce(a, b)?),
        _ => Err(Trouble::from("no such device")),
    });
    for node in nodes {
        node.shutdown().await;
    }
    introduced
}
