//! Machines on a bridge, made of network namespaces. All of it goes when it is dropped, after a panic too.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use crate::host::Host;

/// One LAN at a time: the stories have bounds on time, and the machine may be small.
static TURN: Mutex<()> = Mutex::new(());

/// Machines `10.77.0.1`, `10.77.0.2`, ... with IPv6 link-local addresses, joined by a bridge in a namespace of its own.
pub(crate) struct Lan {
    names: Vec<String>,
    prefix: String,
    scratch: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Lan {
    /// `None`, with a line that says why, where namespaces cannot be made.
    pub(crate) fn build<const N: usize>(hosts: [&str; N]) -> Option<(Self, [Host; N])> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("hl{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut lan = Self { names: Vec::new(), prefix, scratch: scratch(), _turn: turn };
        if !rustix::process::geteuid().is_root() || !lan.add_namespace("switch") {
            println!("skipped: needs root and network namespaces (run as root with iproute2)");
            return None;
        }
        if let Some(missing) = ["nft", "tc", "ss"].into_iter().find(|program| !is_installed(program)) {
            println!("skipped: needs `{missing}` (install nftables and iproute2)");
            return None;
        }
        lan.ip("switch", "link add br0 type bridge");
        lan.ip("switch", "link set br0 up");
        let mut at = 0;
        let hosts = hosts.map(|name| {
            at += 1;
            lan.add_host(name, at)
        });
        Some((lan, hosts))
    }

    fn add_namespace(&mut self, name: &str) -> bool {
        self.names.push(name.to_owned());
        let added =
            Command::new("ip").args(["netns", "add", &self.namespace(name)]).stderr(Stdio::null()).status();
        added.is_ok_and(|status| status.success())
    }

    fn add_host(&mut self, name: &str, at: u8) -> Host {
        assert!(self.add_namespace(name), "the namespace of {name} could not be made");
        let switch = self.namespace("switch");
        self.ip(name, &format!("link add eth0 type veth peer name {name} netns {switch}"));
        self.ip("switch", &format!("link set {name} master br0"));
        self.ip("switch", &format!("link set {name} up"));
        self.ip(name, &format!("addr add 10.77.0.{at}/24 dev eth0"));
        self.ip(name, "link set lo up");
        self.ip(name, "link set eth0 up");
        Host::new(name, self.namespace(name), self.scratch.path().join(name))
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A folder for the files of this test.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Runs `ip` in a machine's namespace.
    pub(crate) fn ip(&self, name: &str, arguments: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["-n", &self.namespace(name)]).args(arguments.split(' '));
        finished(&mut command)
    }

    /// Runs a program in a machine's namespace.
    pub(crate) fn exec(&self, name: &str, program: &[&str]) -> String {
        finished(Command::new("ip").args(["netns", "exec", &self.namespace(name)]).args(program))
    }

    /// Lets a machine send no faster than this, so that a transfer lasts long enough to be disturbed.
    pub(crate) fn limit_rate(&self, name: &str, mbit_per_s: u64) {
        let rate = format!("{mbit_per_s}mbit");
        let tbf = ["tc", "qdisc", "add", "dev", "eth0", "root", "tbf"];
        self.exec(name, &[&tbf[..], &["rate", &rate, "burst", "128k", "latency", "50ms"]].concat());
    }

    /// Bytes a machine's interface has received: what an observer on the wire would count.
    pub(crate) fn received_bytes(&self, name: &str) -> u64 {
        let shown: Value = serde_json::from_str(&self.ip(name, "-s -j link show eth0")).unwrap();
        shown[0]["stats64"]["rx"]["bytes"].as_u64().unwrap()
    }

    /// Loads rules of nftables in a machine's namespace.
    pub(crate) fn filter(&self, name: &str, rules: &str) {
        self.exec(name, &["nft", rules]);
    }

    /// Packets counted by the named counters of a machine's table `inet watch`, by name, in the order declared.
    pub(crate) fn counters(&self, name: &str) -> Vec<(String, u64)> {
        let text = self.exec(name, &["nft", "-j", "list", "counters", "table", "inet", "watch"]);
        let listed: Value = serde_json::from_str(&text).unwrap();
        let counters = listed["nftables"].as_array().unwrap().iter().filter_map(|entry| entry.get("counter"));
        counters
            .map(|counter| {
                (counter["name"].as_str().unwrap().to_owned(), counter["packets"].as_u64().unwrap())
            })
            .collect()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.namespace(name)])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// In memory where there is room: the stories are about the network and the processes, not about the disk.
fn scratch() -> TempDir {
    /// The largest file, its copy, and what databases and logs take.
    const ROOM_BYTES: u64 = 3 << 30;
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).is_ok_and(|at| at.f_bavail * at.f_frsize >= ROOM_BYTES);
    let within = if room { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("honeylink-lan-").tempdir_in(within).unwrap()
}

/// What starts programs to which libfaketime tells another date; `None`, with a line that says why, where that is missing. Only the
/// date: what runs out and what is due go by a clock that nobody sets.
pub(crate) fn by_another_date() -> Option<Vec<String>> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    let Some(library) = libraries.find(|library| library.exists()) else {
        println!("skipped: needs libfaketime (install faketime)");
        return None;
    };
    // Not by `faketime`, which stays in between and keeps signals to itself.
    let preload = format!("LD_PRELOAD={}", library.display());
    let settings = ["FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_DISABLE_SHM=1"].map(str::to_owned);
    Some(["env".to_owned(), preload].into_iter().chain(settings).collect())
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn finished(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
