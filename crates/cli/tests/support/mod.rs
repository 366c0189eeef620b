//! Devices for the tests: the real program with a home of its own, on loopback, on a discovery port of the test's own.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// The last line of stdout as JSON.
    #[track_caller]
    pub(crate) fn last(&self) -> Value {
        let line = self.out.lines().last().unwrap_or_else(|| panic!("no output: {self:?}"));
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))
    }

    /// Asserts the exit code and gives the run back.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Asserts that the person was told `what` and gives the run back.
    #[track_caller]
    pub(crate) fn says(self, what: &str) -> Self {
        assert!(self.err.contains(what), "expected {what:?} in {self:?}");
        self
    }
}

/// A free UDP port, for the discovery of one test.
pub(crate) fn discovery_port() -> u16 {
    free_port()
}

/// A free UDP port.
pub(crate) fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One device. Its node, if it runs one, ends with it.
pub(crate) struct Device {
    pub(crate) name: &'static str,
    dir: tempfile::TempDir,
    port: u16,
}

impl Device {
    pub(crate) fn new(name: &'static str, port: u16) -> Self {
        // Short, because a socket's path is.
        Self { name, dir: tempfile::Builder::new().prefix("hl").tempdir_in("/tmp").unwrap(), port }
    }

    /// A device that is up.
    pub(crate) fn up(name: &'static str, port: u16) -> Self {
        let device = Self::new(name, port);
        device.run(&["up", "--quiet"]).exits(0);
        device
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Discovers on another port from its next start on.
    pub(crate) fn moves(&mut self, port: u16) {
        self.port = port;
    }

    /// A path beside the home, for files of the test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with this device's home and settings, not started.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_honeylink"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HONEYLINK_")) {
            command.env_remove(name);
        }
        command
            .env("HONEYLINK_HOME", self.home())
            .env("HONEYLINK_NODE_NAME", self.name)
            .env("HONEYLINK_NODE_REACH", "loopback")
            .env("HONEYLINK_DISCOVERY_PORT", self.port.to_string())
            .env("NO_COLOR", "1")
            .args(args)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        let output = self.command(args).output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts the program and gives its lines as they come.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        self.start_with(Stdio::null(), args)
    }

    /// The same with a person at its stdin.
    pub(crate) fn start_with(&self, stdin: Stdio, args: &[&str]) -> Started {
        let mut command = self.command(args);
        let mut process = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Started { process, lines }
    }

    /// Waits until this device sees the other one.
    pub(crate) fn sees(&self, other: &Self) {
        let mut watch = self.start(&["nearby", "--watch", "--json", "--timeout", "20"]);
        watch.until(|event| event["name"] == other.name && event["event"] != "lost");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let status = self.run(&["status", "--json"]);
        if status.code == 0 {
            self.run(&["down", "--drain", "0", "--quiet"]);
        }
    }
}

/// A run of the program that is under way. Killed when dropped.
pub(crate) struct Started {
    pub(crate) process: Child,
    lines: BufReader<ChildStdout>,
}

impl Started {
    /// The next line, as JSON.
    pub(crate) fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line:?}"))
    }

    /// The first line that fits; the program's own `--timeout` bounds the wait.
    pub(crate) fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.line();
            if fits(&line) {
                return line;
            }
            assert_ne!(line["ok"], false, "ended early: {line}");
        }
    }

    /// Types a line.
    pub(crate) fn says(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends a signal by its number's name, as `kill -TERM` does.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end; the exit code.
    pub(crate) fn code(&mut self) -> i32 {
        self.process.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two devices that are up and paired.
pub(crate) fn pair() -> (Device, Device) {
    let port = discovery_port();
    let (anna, bert) = (Device::up("anna", port), Device::up("bert", port));
    let mut host = anna.start(&["pair", "--json", "--timeout", "30"]);
    let first = host.line();
    let code = first["code"].as_str().unwrap().to_owned();
    bert.sees(&anna);
    bert.run(&["pair", &code, "--yes", "--quiet"]).exits(0);
    let outcome = host.until(|line| line.get("ok").is_some());
    assert_eq!(outcome["name"], "bert");
    assert_eq!(host.code(), 0);
    (anna, bert)
}
