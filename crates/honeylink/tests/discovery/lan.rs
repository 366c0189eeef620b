//! Machines on a bridge, made of network namespaces, and processes in them. All of it goes when it is dropped.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The environment variable that makes this binary play a role.
pub(crate) const ROLE: &str = "HONEYLINK_TEST_ROLE";

/// Hosts `10.77.0.1`, `10.77.0.2`, ... joined by a bridge that lives in a namespace of its own.
pub(crate) struct Lan {
    namespaces: Vec<String>,
}

impl Lan {
    /// `None`, with a line that says why, where namespaces cannot be made.
    pub(crate) fn build(hosts: usize) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("hl{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut lan = Self { namespaces: Vec::new() };
        for at in 0..=hosts {
            let name = if at == hosts { format!("{prefix}-sw") } else { format!("{prefix}-{at}") };
            let made = Command::new("ip").args(["netns", "add", &name]).stderr(Stdio::null()).status();
            if !rustix::process::geteuid().is_root() || !made.is_ok_and(|status| status.success()) {
                println!("skipped: needs root and network namespaces (run as root with iproute2)");
                return None;
            }
            lan.namespaces.push(name);
        }
        let switch = hosts;
        lan.ip(switch, "link add br0 type bridge");
        lan.ip(switch, "link set br0 up");
        for at in 0..hosts {
            let switch_name = lan.namespaces[switch].clone();
            lan.ip(at, &format!("link add eth0 type veth peer name port{at} netns {switch_name}"));
            lan.ip(switch, &format!("link set port{at} master br0"));
            lan.ip(switch, &format!("link set port{at} up"));
            lan.ip(at, &format!("addr add 10.77.0.{}/24 dev eth0", at + 1));
            lan.ip(at, "link set lo up");
            lan.ip(at, "link set eth0 up");
        }
        Some(lan)
    }

    /// The namespace of a host.
    pub(crate) fn host(&self, at: usize) -> &str {
        &self.namespaces[at]
    }

    /// Runs `ip` in a host's namespace.
    pub(crate) fn ip(&self, at: usize, arguments: &str) {
        let output = Command::new("ip")
            .args(["-n", &self.namespaces[at]])
            .args(arguments.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// This binary in another life, and the lines it prints. Closing its standard input asks it to end.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    pub(crate) fn start(namespace: Option<&str>, role: &str) -> Self {
        let this = std::env::current_exe().unwrap();
        let mut command = match namespace {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(this);
                command
            }
            None => Command::new(this),
        };
        command.args(["--exact", "role", "--nocapture", "--test-threads=1"]).env(ROLE, role);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// Waits for a line that begins with these words.
    pub(crate) fn line(&self, words: &str, patience: Duration) -> String {
        self.line_where(patience, |line| {
            line.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
    }

    /// Waits for a line that `wanted` accepts.
    pub(crate) fn line_where(&self, patience: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + patience;
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => heard.push(line),
                Err(why @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    panic!("the awaited line did not come ({why}); heard {heard:#?}")
                }
            }
        }
    }

    /// Asks the process to end and waits for it.
    pub(crate) fn finish(mut self) -> Self {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        self
    }

    /// The IPv4 groups joined in the process's namespace, as (interface, group in the kernel's hex).
    pub(crate) fn multicast_groups(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(format!("/proc/{}/net/igmp", self.child.id())).unwrap();
        let mut interface = String::new();
        let mut groups = Vec::new();
        for line in text.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            if line.starts_with('\t') {
                groups.push((interface.clone(), words[0].to_owned()));
            } else {
                words[1].clone_into(&mut interface);
            }
        }
        groups
    }

    /// Processor time used so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        // Time on the processor in nanoseconds, summed over the threads.
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanos = tasks.map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanos.sum())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
