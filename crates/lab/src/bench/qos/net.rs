//! Two devices on a cable of known rate: two network namespaces joined by a virtual one, with a token bucket and a buffer
//! in front of it on both ends.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;

use crate::Trouble;

/// Bytes the bucket lets through at once. As small as the rate allows, so that what arrives is spread evenly.
const BURST_BYTES: u32 = 16 << 10;

/// The addresses of the two devices.
const HERE: &str = "10.99.0.1";
pub(crate) const THERE: &str = "10.99.0.2";

/// Network namespaces. All of them go when this does.
pub(crate) struct Spaces {
    prefix: String,
    names: Vec<&'static str>,
}

impl Spaces {
    pub(crate) fn new(names: &[&'static str]) -> Result<Self, Trouble> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("hlq{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut spaces = Self { prefix, names: Vec::new() };
        for name in names {
            run(&format!("ip netns add {}", spaces.full(name)))?;
            spaces.names.push(name);
            run(&format!("ip -n {} link set lo up", spaces.full(name)))?;
        }
        Ok(spaces)
    }

    fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Joins two of them by a virtual cable, with these addresses at its ends. The interface is named after the other end.
    pub(crate) fn join(&self, one: (&str, &str), other: (&str, &str)) -> Result<(), Trouble> {
        let (here, there) = (self.full(one.0), self.full(other.0));
        let (to_there, to_here) = (other.0, one.0);
        run(&format!("ip -n {here} link add {to_there} type veth peer name {to_here} netns {there}"))?;
        for (space, interface, address) in [(&here, to_there, one.1), (&there, to_here, other.1)] {
            run(&format!("ip -n {space} addr add {address}/24 dev {interface}"))?;
            run(&format!("ip -n {space} link set {interface} up"))?;
        }
        Ok(())
    }

    /// A runtime whose threads, and the sockets they open, are in one of them.
    pub(crate) fn runtime(&self, name: &str) -> Result<Runtime, Trouble> {
        let space = Arc::new(File::open(format!("/run/netns/{}", self.full(name)))?);
        Ok(tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .on_thread_start(move || {
                // A thread that stayed outside would measure the wrong network: what it opens then cannot be reached.
                let _ = move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network));
            })
            .build()?)
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        for name in &self.names {
            // Nobody is left to be told; the next run makes others.
            let _ = run(&format!("ip netns del {}", self.full(name)));
        }
    }
}

/// A cable between two devices.
pub(crate) struct Cable {
    spaces: Spaces,
    buffer_ms: u32,
}

impl Cable {
    /// Whether cables can be made here.
    pub(crate) fn possible() -> bool {
        rustix::process::geteuid().is_root() && Self::new(10, 10).is_ok()
    }

    /// A rate of 0 is as fast as it goes.
    pub(crate) fn new(mbit_per_s: u32, buffer_ms: u32) -> Result<Self, Trouble> {
        let spaces = Spaces::new(&["here", "there"])?;
        spaces.join(("here", HERE), ("there", THERE))?;
        let cable = Self { spaces, buffer_ms };
        if mbit_per_s > 0 {
            cable.shape("add", mbit_per_s)?;
        }
        Ok(cable)
    }

    /// Another rate from now on.
    pub(crate) fn set_rate(&self, mbit_per_s: u32) -> Result<(), Trouble> {
        self.shape("change", mbit_per_s)
    }

    fn shape(&self, verb: &str, mbit_per_s: u32) -> Result<(), Trouble> {
        for (end, interface) in [("here", "there"), ("there", "here")] {
            run(&format!(
                "tc -n {} qdisc {verb} dev {interface} root tbf rate {mbit_per_s}mbit burst {BURST_BYTES} latency {}ms",
                self.spaces.full(end),
                self.buffer_ms
            ))?;
        }
        Ok(())
    }

    /// A program to be started at one end, `here` or `there`.
    pub(crate) fn command(&self, end: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.spaces.full(end), program]);
        command
    }

    /// A runtime at one end, `here` or `there`.
    pub(crate) fn runtime(&self, end: &str) -> Result<Runtime, Trouble> {
        self.spaces.runtime(end)
    }
}

fn run(line: &str) -> Result<(), Trouble> {
    let mut words = line.split_whitespace();
    let program = words.next().ok_or("an empty command")?;
    let output = Command::new(program).args(words).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("`{line}`: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
