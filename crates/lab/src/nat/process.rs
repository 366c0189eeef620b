//! Programs in the namespaces of a scenario: started, heard, frozen, killed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::Trouble;

/// Lines that may wait for somebody to read them.
const LINES_MAX: usize = 4096;
/// Last lines of a program that are told when it did not do what it had to.
const HEARD_SHOWN: usize = 8;

/// A running program. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<(Instant, String)>,
    heard: Vec<String>,
}

impl Process {
    /// Starts `command` in a device's namespace.
    pub(crate) fn start(device: &patchbay::Device, mut command: Command) -> Result<Self, Trouble> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = device.spawn_command(command)?;
        let (sender, lines) = channel(LINES_MAX);
        forward(child.stdout.take().ok_or("no pipe")?, sender.clone());
        forward(child.stderr.take().ok_or("no pipe")?, sender);
        Ok(Self { child, lines, heard: Vec::new() })
    }

    /// The next line, and when it came; `None` once the program is over.
    pub(crate) async fn line(&mut self) -> Option<(Instant, String)> {
        let (at, line) = self.lines.recv().await?;
        if self.heard.len() == HEARD_SHOWN {
            self.heard.remove(0);
        }
        self.heard.push(line.clone());
        Some((at, line))
    }

    /// Waits for a line that `pick` makes something of.
    pub(crate) async fn wait<T>(
        &mut self,
        within: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T, Trouble> {
        let until = tokio::time::Instant::now() + within;
        loop {
            match tokio::time::timeout_at(until, self.line()).await {
                Ok(Some((_, line))) => {
                    if let Some(picked) = pick(&line) {
                        return Ok(picked);
                    }
                }
                Ok(None) => return Err(self.told("it ended")),
                Err(_) => return Err(self.told("what was awaited did not come")),
            }
        }
    }

    /// Waits for a line of JSON with this `event`.
    pub(crate) async fn event(&mut self, name: &str, within: Duration) -> Result<Value, Trouble> {
        let json = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|it| it["event"] == name);
        self.wait(within, json).await
    }

    /// Waits until the program ended well; its last line of JSON.
    pub(crate) async fn end(mut self, within: Duration) -> Result<Value, Trouble> {
        let mut last = Value::Null;
        let heard = async {
            while let Some((_, line)) = self.line().await {
                if let Ok(json) = serde_json::from_str(&line) {
                    last = json;
                }
            }
        };
        if tokio::time::timeout(within, heard).await.is_err() {
            return Err(self.told("it did not end"));
        }
        let status = self.child.wait().await?;
        if status.success() { Ok(last) } else { Err(self.told(&status.to_string())) }
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Trouble> {
        let pid = self.pid().ok_or_else(|| self.told("it is over"))?;
        Ok(kill_process(pid, signal)?)
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.child.id()?).ok()?)
    }

    /// SIGKILL, and waits until the system has taken the program away.
    pub(crate) async fn kill(&mut self) {
        // Gone already is what is wanted.
        let _ = self.child.kill().await;
    }

    fn told(&self, what: &str) -> Trouble {
        format!("{what}; it said last: {}", self.heard.join(" | ")).into()
    }
}

fn forward(from: impl AsyncRead + Send + Unpin + 'static, to: Sender<(Instant, String)>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if to.send((Instant::now(), line)).await.is_err() {
                return;
            }
        }
    });
}
