//! One device of the rows about the program: a home, a daemon, and the commands a person would type there.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use serde_json::Value;

use crate::Trouble;
use crate::rig::PATIENCE;

/// Last lines of a command that are told when it did not do what it had to.
const HEARD_SHOWN: usize = 8;

/// A device. Its daemon dies with it.
pub(crate) struct Device {
    program: PathBuf,
    home: PathBuf,
    namespace: Option<String>,
    settings: Vec<String>,
    daemon: Option<Running>,
}

impl Device {
    /// A device that has never run, on this machine or in a namespace of it.
    pub(crate) fn new(program: &Path, name: &str, folder: &Path, namespace: Option<String>) -> Self {
        let inbox = folder.join("inbox");
        let mut settings = vec![
            format!("node.name={name}"),
            format!("transfer.into={}", inbox.display()),
            "transfer.accept=all".to_owned(),
        ];
        if namespace.is_none() {
            settings.push("node.reach=loopback".to_owned());
        }
        Self { program: program.to_owned(), home: folder.join("home"), namespace, settings, daemon: None }
    }

    /// Starts a command here.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<Running, Trouble> {
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.arg("--home").arg(&self.home);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        // What the person who measures has set is not measured.
        let set = std::env::vars_os().map(|(name, _)| name);
        for name in set.filter(|name| name.to_string_lossy().starts_with("HONEYLINK_")) {
            command.env_remove(name);
        }
        Running::start(command.env_remove("RUST_LOG").args(arguments))
    }

    /// Runs a command to its end; its last line.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value, Trouble> {
        self.start(&[arguments, &["--json"]].concat())?.end()
    }

    /// Starts the daemon; the moment it said that it runs.
    pub(crate) fn up(&mut self) -> Result<Instant, Trouble> {
        let mut daemon = self.start(&["up", "--foreground"])?;
        daemon.wait(|line| match line {
            Line::Stderr(text) => text.starts_with("running;").then_some(Value::Null),
            Line::Stdout(_) => None,
        })?;
        let ready = daemon.came;
        self.daemon = Some(daemon);
        Ok(ready)
    }

    /// The process id of the daemon.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(|daemon| daemon.child.id())
    }

    /// SIGKILL to the daemon, and nothing before it.
    pub(crate) fn kill(&mut self) {
        self.daemon = None;
    }

    /// Pairs the two by code.
    pub(crate) fn pair(&self, guest: &Self) -> Result<(), Trouble> {
        let mut shown = self.start(&["pair", "--json"])?;
        let open = shown.event("open", |_| true)?;
        let code = open["code"].as_str().ok_or("no code was shown")?;
        guest.json(&["pair", code, "--yes"])?;
        shown.end().map(drop)
    }
}

/// One line, and where it was printed.
#[derive(Debug)]
pub(crate) enum Line {
    Stdout(String),
    Stderr(String),
}

/// A running command. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<(Instant, Line)>,
    /// When the last line came.
    came: Instant,
    heard: Vec<String>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self, Trouble> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let (sender, lines) = channel();
        forward(child.stdout.take().ok_or("no pipe")?, sender.clone(), Line::Stdout);
        forward(child.stderr.take().ok_or("no pipe")?, sender, Line::Stderr);
        Ok(Self { child, lines, came: Instant::now(), heard: Vec::new() })
    }

    /// Waits for a JSON line with this `event` that `wanted` accepts.
    pub(crate) fn event(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value, Trouble> {
        self.wait(|line| match line {
            Line::Stdout(text) => serde_json::from_str::<Value>(text)
                .ok()
                .filter(|value| value["event"] == name && wanted(value)),
            Line::Stderr(_) => None,
        })
    }

    /// The moment that such a line came.
    pub(crate) fn event_at(
        &mut self,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Instant, Trouble> {
        self.event(name, wanted)?;
        Ok(self.came)
    }

    fn wait(&mut self, pick: impl Fn(&Line) -> Option<Value>) -> Result<Value, Trouble> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((came, line)) => {
                    self.came = came;
                    if let Some(picked) = pick(&line) {
                        return Ok(picked);
                    }
                    let (Line::Stdout(text) | Line::Stderr(text)) = line;
                    self.heard.push(text);
                }
                Err(why @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    return Err(self.told(&format!("the awaited line did not come ({why})")));
                }
            }
        }
    }

    /// Waits until the command has ended well; its last line of JSON.
    pub(crate) fn end(mut self) -> Result<Value, Trouble> {
        let until = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((_, Line::Stdout(text))) => {
                    last = serde_json::from_str(&text)?;
                    self.heard.push(text);
                }
                Ok((_, Line::Stderr(text))) => self.heard.push(text),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return Err(self.told("the command did not end")),
            }
        }
        let status = self.child.wait()?;
        if status.success() { Ok(last) } else { Err(self.told(&status.to_string())) }
    }

    fn told(&self, what: &str) -> Trouble {
        let from = self.heard.len().saturating_sub(HEARD_SHOWN);
        format!("{what}; it said last: {}", self.heard[from..].join(" | ")).into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(from: impl Read + Send + 'static, to: Sender<(Instant, Line)>, tag: fn(String) -> Line) {
    std::thread::spawn(move || {
        let lines = BufReader::new(from).lines().map_while(Result::ok);
        lines.map(tag).try_for_each(|line| to.send((Instant::now(), line)))
    });
}
