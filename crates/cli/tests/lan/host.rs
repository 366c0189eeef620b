//! One machine: a namespace, a home, a daemon, and the commands a person would type there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Line, Process, Ran};
use crate::{PATIENCE, until};

/// One machine. Its daemon dies with it.
pub(crate) struct Host {
    name: String,
    namespace: String,
    folder: PathBuf,
    settings: Vec<String>,
    /// What programs are started by from now on.
    starter: Vec<String>,
    daemon: Option<Process>,
}

impl Host {
    pub(crate) fn new(name: &str, namespace: String, folder: PathBuf) -> Self {
        std::fs::create_dir_all(folder.join("inbox")).unwrap();
        let mut host = Self {
            name: name.to_owned(),
            namespace,
            folder,
            settings: Vec::new(),
            starter: Vec::new(),
            daemon: None,
        };
        host.set(&format!("node.name={name}"));
        host.set(&format!("transfer.into={}", host.inbox().display()));
        host.set("transfer.accept=all");
        if let Ok(level) = std::env::var("HONEYLINK_TEST_LOG") {
            host.set(&format!("log.level={level}"));
        }
        host
    }

    /// Sets a configuration key for all nodes started here from now on.
    pub(crate) fn set(&mut self, assignment: &str) {
        self.settings.push(assignment.to_owned());
    }

    /// Has everything started here from now on be started by this program, as `env` is used.
    pub(crate) fn start_by(&mut self, starter: &[String]) {
        self.starter = starter.to_vec();
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where received files go.
    pub(crate) fn inbox(&self) -> PathBuf {
        self.folder.join("inbox")
    }

    /// Top-level names in the inbox.
    pub(crate) fn received(&self) -> Vec<String> {
        names_in(&self.inbox())
    }

    /// A running command.
    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        Process::start(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).args(&self.starter);
        command.arg(env!("CARGO_BIN_EXE_honeylink"));
        command.arg("--home").arg(self.folder.join("home"));
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        // What the person who runs the tests has set is not part of the story.
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HONEYLINK_"))
        {
            command.env_remove(name);
        }
        command.env_remove("RUST_LOG").args(arguments);
        command
    }

    /// A command that somebody else may start, again and again.
    pub(crate) fn commands(&self, arguments: &[&str]) -> impl Fn() -> Command + Send + use<> {
        let host = Self {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            folder: self.folder.clone(),
            settings: self.settings.clone(),
            starter: self.starter.clone(),
            daemon: None,
        };
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        move || host.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs a command to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.start(arguments).end(2 * PATIENCE)
    }

    /// The last line of a command that has to end well.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).ok().last().clone()
    }

    /// Starts the daemon and waits until it says that it runs.
    #[track_caller]
    pub(crate) fn up(&mut self) {
        let mut daemon = self.start(&["up", "--foreground"]);
        daemon.wait(PATIENCE, |line| match line {
            Line::Stderr(text) if text.starts_with("running;") => Some(()),
            Line::Stderr(_) | Line::Stdout(_) => None,
        });
        self.daemon = Some(daemon);
    }

    /// The process id of the daemon.
    pub(crate) fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().pid()
    }

    /// `kill -9` of the daemon.
    pub(crate) fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    /// SIGTERM to the daemon: how long it took, and how it ended.
    #[track_caller]
    pub(crate) fn terminate(&mut self, patience: Duration) -> (Duration, Ran) {
        let daemon = self.daemon.take().unwrap();
        daemon.terminate();
        let asked = Instant::now();
        let ran = daemon.end(patience);
        (asked.elapsed(), ran)
    }

    /// The device called `name` as `nearby` shows it now.
    #[track_caller]
    pub(crate) fn sees(&self, name: &str) -> Option<Value> {
        let nearby = self.json(&["nearby"]);
        nearby.as_array().unwrap().iter().find(|device| device["name"] == name).cloned()
    }

    /// The known device called `name`.
    #[track_caller]
    pub(crate) fn knows(&self, name: &str) -> Option<Value> {
        let known = self.json(&["devices"]);
        known.as_array().unwrap().iter().find(|device| device["name"] == name).cloned()
    }

    /// Pairs the two by code; what the one that typed it says at the end.
    #[track_caller]
    pub(crate) fn pair(&self, guest: &Self) -> Value {
        until("the guest sees the host", PATIENCE, || guest.sees(&self.name));
        let mut shown = self.start(&["pair", "--json"]);
        let code = shown.event("open")["code"].as_str().unwrap().to_owned();
        let joined = guest.run(&["pair", &code, "--yes", "--json"]).ok();
        shown.end(PATIENCE).ok();
        joined.last().clone()
    }
}

impl Drop for Host {
    /// What a daemon said is the first thing one wants to know about a story that went wrong.
    fn drop(&mut self) {
        if let (true, Some(daemon)) = (std::thread::panicking(), &mut self.daemon) {
            println!("the daemon of {} said last: {:#?}", self.name, daemon.heard_last());
        }
    }
}

/// Sorted names of what is in a folder.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
