//! A running command of the program, and the lines it prints while it runs.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Lines shown of a process that did not do what it had to.
const HEARD_SHOWN: usize = 60;

/// One line, and where it was printed.
#[derive(Debug)]
pub(crate) enum Line {
    Stdout(String),
    Stderr(String),
}

/// A running command. Killed when dropped.
pub(crate) struct Process {
    what: String,
    child: Child,
    lines: Receiver<Line>,
    heard: Vec<Line>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// What it printed on stdout, line by line as JSON.
    pub(crate) values: Vec<Value>,
    /// What it said on stderr.
    pub(crate) said: String,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::spawned(command.stdin(Stdio::null())).0
    }

    /// One that is told things while it runs.
    pub(crate) fn fed(command: &mut Command) -> (Self, ChildStdin) {
        let (process, mouth) = Self::spawned(command.stdin(Stdio::piped()));
        (process, mouth.unwrap())
    }

    fn spawned(command: &mut Command) -> (Self, Option<ChildStdin>) {
        let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mouth = child.stdin.take();
        let (sender, lines) = channel();
        forward(child.stdout.take().unwrap(), sender.clone(), Line::Stdout);
        forward(child.stderr.take().unwrap(), sender, Line::Stderr);
        (Self { what, child, lines, heard: Vec::new() }, mouth)
    }

    /// Waits for a line like this, however long it takes; `false` if the process ended before.
    pub(crate) fn says(&mut self, wanted: impl Fn(&Line) -> bool) -> bool {
        self.lines.iter().any(|line| wanted(&line))
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line for which `pick` has an answer.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, patience: Duration, pick: impl Fn(&Line) -> Option<T>) -> T {
        let until = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let picked = pick(&line);
                    self.heard.push(line);
                    if let Some(picked) = picked {
                        return picked;
                    }
                }
                Err(why @ (RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) => {
                    panic!(
                        "{}: the awaited line did not come ({why}); heard {:#?}",
                        self.what,
                        self.last_heard()
                    );
                }
            }
        }
    }

    /// Waits for a JSON line on stdout with this `event` that `wanted` accepts.
    #[track_caller]
    pub(crate) fn event_where(
        &mut self,
        patience: Duration,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait(patience, |line| match line {
            Line::Stdout(text) => serde_json::from_str::<Value>(text)
                .ok()
                .filter(|value| value["event"] == name && wanted(value)),
            Line::Stderr(_) => None,
        })
    }

    /// Waits for a JSON line on stdout with this `event`.
    #[track_caller]
    pub(crate) fn event(&mut self, name: &str) -> Value {
        self.event_where(crate::PATIENCE, name, |_| true)
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub(crate) fn end(mut self, patience: Duration) -> Ran {
        let until = Instant::now() + patience;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} did not end within {patience:?}; heard {:#?}", self.what, self.last_heard());
                }
            }
        }
        let code = self.child.wait().unwrap().code();
        let (mut values, mut said) = (Vec::new(), String::new());
        for line in &self.heard {
            match line {
                Line::Stdout(text) => {
                    values.push(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())));
                }
                Line::Stderr(text) => said.extend([text, "\n"]),
            }
        }
        Ran { code, values, said }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, with SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// The end of what was heard so far, also of what nobody waited for.
    pub(crate) fn heard_last(&mut self) -> &[Line] {
        self.heard.extend(self.lines.try_iter());
        self.last_heard()
    }

    /// The end of what was heard: enough to see why, short enough to read.
    fn last_heard(&self) -> &[Line] {
        &self.heard[self.heard.len().saturating_sub(HEARD_SHOWN)..]
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// The same, if it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// The last line printed.
    #[track_caller]
    pub(crate) fn last(&self) -> &Value {
        self.values.last().unwrap_or_else(|| panic!("nothing was printed: {self:#?}"))
    }
}

fn forward(from: impl Read + Send + 'static, to: Sender<Line>, tag: fn(String) -> Line) {
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| to.send(tag(line)))
    });
}
