//! The same load over Zenoh, by a program of its own (`rivals/src/zenoh.rs`) that is started at both ends of a cable. Zenoh
//! brings C, so it is no part of this workspace.
//!
//! ```text
//! PROGRAM serve ADDR:PORT FOLDER STREAMS
//!     puts a certificate into FOLDER and prints "ready"; answers each line on standard input with the bytes that arrived
//!     of each stream so far; ends with standard input
//! PROGRAM load ADDR:PORT FOLDER STREAMS,STREAMS,.. PINGS
//!     saturates with so many streams of each priority, high to low, for two seconds and prints "warm"; sends PINGS pings,
//!     200 a second, and prints the round trips in milliseconds on one line; goes on until standard input ends
//! ```

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use super::load::Outcome;
use super::net::THERE;
use super::peers::Devices;
use super::rows::undisturbed;
use crate::Trouble;

const PORT: u16 = 7447;
/// What a row says without the program.
pub(crate) const NEEDS: &str = "needs Zenoh: `cargo xtask bench --rivals` builds it, with a C compiler";
/// Nothing that works takes this long to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One end; ended when dropped.
struct End {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl End {
    fn start(mut command: Command) -> Result<Self, Trouble> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let (sender, lines) = sync_channel(1);
        std::thread::spawn(move || {
            let mut output = BufReader::new(stdout).lines();
            while let Some(Ok(line)) = output.next() {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, lines })
    }

    fn line(&self) -> Result<String, Trouble> {
        Ok(self.lines.recv_timeout(PATIENCE).map_err(|_| "the Zenoh side ended, or says nothing")?)
    }

    /// The bytes of each stream that arrived so far.
    fn arrived(&mut self) -> Result<Vec<u64>, Trouble> {
        let stdin = self.stdin.as_mut().ok_or("no input")?;
        stdin.write_all(b"\n")?;
        self.line()?.split_whitespace().map(|count| Ok(count.parse()?)).collect()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.stdin = None;
        // It may have ended by itself; nobody is left to be told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the load: for each priority, from high to low, so many streams. Without pings it lasts `seconds`.
pub(crate) fn run(
    program: &Path,
    devices: &Devices,
    streams: &[usize],
    pings: usize,
    seconds: Duration,
) -> Result<Outcome, Trouble> {
    undisturbed(|| once(program, devices, streams, pings, seconds))
}

fn once(
    program: &Path,
    devices: &Devices,
    streams: &[usize],
    pings: usize,
    seconds: Duration,
) -> Result<Outcome, Trouble> {
    let folder = tempfile::tempdir()?;
    let program = program.to_str().ok_or("the path of the Zenoh side is not UTF-8")?;
    let at = format!("{THERE}:{PORT}");
    let all: usize = streams.iter().sum();
    let mut serving = devices.cable.command("there", program);
    serving.args(["serve", &at]).arg(folder.path()).arg(all.to_string());
    let mut serving = End::start(serving)?;
    serving.line()?;
    let counts: Vec<String> = streams.iter().map(ToString::to_string).collect();
    let mut loading = devices.cable.command("here", program);
    loading.args(["load", &at]).arg(folder.path()).args([counts.join(","), pings.to_string()]);
    let loading = End::start(loading)?;
    loading.line()?;
    let (before, started) = (serving.arrived()?, Instant::now());
    let mut pings_ms = Vec::new();
    if pings > 0 {
        for ms in loading.line()?.split_whitespace() {
            pings_ms.push(ms.parse()?);
        }
    } else {
        std::thread::sleep(seconds);
    }
    let (after, seconds) = (serving.arrived()?, started.elapsed().as_secs_f64());
    let bytes = after.iter().zip(before).map(|(after, before)| after.saturating_sub(before)).collect();
    Ok(Outcome { pings_ms, bytes, seconds, stolen: 0.0 })
}
