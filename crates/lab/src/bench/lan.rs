//! Machines on a bridge, made of network namespaces, for the rows about a network. All of it goes when it is dropped.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Trouble;
use crate::report::Finding;

/// What a row says where namespaces cannot be made.
const NEEDS: &str = "needs root and network namespaces (run as root with iproute2)";

/// Machines `10.77.0.1`, `10.77.0.2`, .. with IPv6 link-local addresses, joined by a bridge in a namespace of its own.
pub(crate) struct Lan {
    prefix: String,
    namespaces: Vec<String>,
}

impl Lan {
    /// The machines of these names, or the row's finding where they cannot be made.
    pub(crate) fn build(hosts: &[&str]) -> Result<Result<Self, Finding>, Trouble> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("hlb{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut lan = Self { prefix, namespaces: Vec::new() };
        if !rustix::process::geteuid().is_root() || !lan.add_namespace("switch") {
            return Ok(Err(Finding::Skipped(NEEDS.into())));
        }
        lan.ip("switch", "link add br0 type bridge")?;
        lan.ip("switch", "link set br0 up")?;
        for (at, host) in hosts.iter().enumerate() {
            if !lan.add_namespace(host) {
                return Err(format!("the namespace of {host} could not be made").into());
            }
            let switch = lan.namespace("switch");
            lan.ip(host, &format!("link add eth0 type veth peer name {host} netns {switch}"))?;
            lan.ip("switch", &format!("link set {host} master br0"))?;
            lan.ip("switch", &format!("link set {host} up"))?;
            lan.ip(host, &format!("addr add 10.77.0.{}/24 dev eth0", at + 1))?;
            lan.ip(host, "link set lo up")?;
            lan.ip(host, "link set eth0 up")?;
        }
        Ok(Ok(lan))
    }

    /// The namespace of a machine.
    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// Lets a machine send no faster than this.
    pub(crate) fn limit_rate(&self, host: &str, mbit_per_s: u32) -> Result<(), Trouble> {
        let mut command = Command::new("tc");
        command.args(["-n", &self.namespace(host)]).args("qdisc add dev eth0 root tbf".split(' '));
        command.args(["rate", &format!("{mbit_per_s}mbit"), "burst", "256k", "latency", "50ms"]);
        finished(&mut command).map(drop)
    }

    /// Bytes that the interface of a machine has received: what an observer on the wire would count.
    pub(crate) fn received_bytes(&self, host: &str) -> Result<u64, Trouble> {
        let shown: serde_json::Value = serde_json::from_str(&self.ip(host, "-s -j link show eth0")?)?;
        Ok(shown[0]["stats64"]["rx"]["bytes"].as_u64().ok_or("`ip` shows no counters")?)
    }

    fn add_namespace(&mut self, host: &str) -> bool {
        let name = self.namespace(host);
        let added = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
        self.namespaces.push(name);
        added.is_ok_and(|status| status.success())
    }

    fn ip(&self, host: &str, arguments: &str) -> Result<String, Trouble> {
        let mut command = Command::new("ip");
        finished(command.args(["-n", &self.namespace(host)]).args(arguments.split(' ')))
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.namespaces {
            // One that was never made is gone already.
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

fn finished(command: &mut Command) -> Result<String, Trouble> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
