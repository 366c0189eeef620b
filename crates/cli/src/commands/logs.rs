//! `honeylink logs`: what the daemon wrote.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use honeylink_api::{ErrorCode, ExitCode};

use crate::app::{App, Outcome};
use crate::failure::Failure;
use crate::logging::{self, FILE_NAME};
use crate::output::text;
use crate::signals;

const EXAMPLES: &str = "\
Examples:
  honeylink logs              the last 50 lines
  honeylink logs -f           those, and new ones as they come
  honeylink logs -n 1000 | grep pairing";

/// How often a followed file is looked at. Portable file watching would cost a dependency per platform; this costs a
/// `stat` four times a second, and only while someone watches.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Show what the daemon logged
///
/// Prints the last lines of the daemon's log, oldest first, across rotated files. Commands that run without a daemon
/// log to stderr instead (`-v` for more).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Keep printing new lines until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// How many lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    lines: usize,
}

pub(crate) async fn run(app: &App, args: Args) -> Outcome {
    let path = app.home.logs().join(FILE_NAME);
    if !path.exists() && !args.follow {
        return Err(Failure::hint(
            ErrorCode::NotFound,
            format!("there is no log at {}", path.display()),
            "a daemon writes one: honeylink up",
        ));
    }
    for line in tail(&path, args.lines).map_err(|e| Failure::file("read", &path, &e))? {
        say(app, &line)?;
    }
    if args.follow {
        tokio::select! {
            outcome = follow(app, &path) => outcome?,
            () = signals::asked_to_stop() => return Err(Failure::Reported(ExitCode::Interrupted)),
        }
    }
    Ok(ExitCode::Ok)
}

/// Prints a line of the log; with `--json` as a value: the one it is with `log.format = "json"`, otherwise its text.
fn say(app: &App, line: &str) -> Result<(), Failure> {
    let is_value = || line.starts_with('{') && serde_json::from_str::<serde_json::Value>(line).is_ok();
    if app.out.json && !is_value() {
        return app.out.json(&serde_json::json!({ "line": line }));
    }
    app.out.line(line)
}

/// The last `count` lines of the current file and the rotated ones before it.
fn tail(path: &Path, count: usize) -> std::io::Result<VecDeque<String>> {
    let mut lines = VecDeque::new();
    for n in 0.. {
        let file = match File::open(logging::numbered(path, n)) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => break,
            Err(e) => return Err(e),
        };
        let mut of_file = VecDeque::new();
        for line in BufReader::new(file).split(b'\n') {
            of_file.push_back(text::clean(&String::from_utf8_lossy(&line?), 8_000));
            if of_file.len() + lines.len() > count {
                of_file.pop_front();
            }
        }
        of_file.append(&mut lines);
        lines = of_file;
        if lines.len() >= count {
            break;
        }
    }
    Ok(lines)
}

async fn follow(app: &App, path: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::file("read", path, &e);
    let mut open: Option<(File, u64)> = None;
    // What stood in the file before was printed by `tail`; what a later file begins with was not.
    let mut from_start = !path.exists();
    let mut partial = Vec::new();
    loop {
        let inode = std::fs::metadata(path).ok().map(|m| m.ino());
        if let Some((file, of)) = &mut open {
            let mut new = Vec::new();
            file.read_to_end(&mut new).map_err(failed)?;
            partial.extend_from_slice(&new);
            while let Some(end) = partial.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = partial.drain(..=end).collect();
                say(app, &text::clean(String::from_utf8_lossy(&line[..end]).as_ref(), 8_000))?;
            }
            if inode.is_some_and(|now| now != *of) {
                // Rotated: the rest of the old file has just been read.
                open = None;
                from_start = true;
            }
        }
        if open.is_none()
            && let Some(inode) = inode
        {
            let mut file = File::open(path).map_err(failed)?;
            if !from_start {
                file.seek(SeekFrom::End(0)).map_err(failed)?;
            }
            open = Some((file, inode));
        } else {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
