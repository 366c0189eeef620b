//! What a person types. Reading stdin happens on a thread of its own, because a read of a terminal cannot be cancelled.

use std::io::{BufRead as _, IsTerminal as _};

use honeylink_api::ErrorCode;
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::output::Printer;

/// Lines read ahead of whoever takes them.
const LINES_AHEAD_MAX: usize = 64;

/// Whether a person can answer questions.
pub(crate) fn person() -> bool {
    std::io::stdin().is_terminal()
}

/// The lines of stdin as they come. The channel ends at the end of stdin.
pub(crate) fn lines() -> mpsc::Receiver<String> {
    let (to, lines) = mpsc::channel(LINES_AHEAD_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if to.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The code given on the command line, or, for `-`, asked for: the way that leaves nothing in the shell's history.
pub(crate) async fn code(out: Printer, given: &str) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given.trim().to_owned());
    }
    if person() {
        out.ask("Code:");
    }
    let line = lines().recv().await.unwrap_or_default();
    let line = line.trim();
    if line.is_empty() {
        return Err(Failure::new(ErrorCode::BadRequest, "no code was given on stdin"));
    }
    Ok(line.to_owned())
}

/// Asks a question whose answer is yes or no; anything but yes is no.
pub(crate) async fn yes(out: Printer, lines: &mut mpsc::Receiver<String>, question: &str) -> bool {
    out.ask(&format!("{question} [y/N]"));
    let answer = lines.recv().await.unwrap_or_default();
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}
