//! The one door to stdout and stderr.

use std::io::{IsTerminal as _, Write as _};

use honeylink_api::ErrorBody;
use serde::Serialize;

use super::text;
use crate::failure::Failure;

/// How a command prints: decided once, from the flags and from what stdout and stderr are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// `--json`: data as JSON lines.
    pub(crate) json: bool,
    quiet: bool,
    stdout_colour: bool,
    stderr_live: bool,
}

impl Printer {
    /// Looks at the flags, at `NO_COLOR` and `TERM`, and at whether a person watches.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            json,
            quiet,
            stdout_colour: !plain && std::io::stdout().is_terminal(),
            stderr_live: !plain && std::io::stderr().is_terminal(),
        }
    }

    /// One line of data for a person or a pipe.
    pub(crate) fn line(&self, line: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|_| Failure::OutputClosed)
    }

    /// Several lines of data.
    pub(crate) fn lines<'a>(&self, lines: impl IntoIterator<Item = &'a String>) -> Result<(), Failure> {
        lines.into_iter().try_for_each(|line| self.line(line))
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        self.line(&serde_json::to_string(value).map_err(Failure::internal)?)
    }

    /// Something said to the person that is not data: stderr, and not with `--quiet`.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            self.say(line);
        }
    }

    /// Something the person has to know even with `--quiet`.
    pub(crate) fn warn(&self, line: &str) {
        self.say(line);
    }

    /// A question that waits for an answer on the same line.
    pub(crate) fn ask(&self, question: &str) {
        let mut err = std::io::stderr().lock();
        // Nobody is left to tell when stderr is closed; the same holds below.
        let _ = write!(err, "{question} ").and_then(|()| err.flush());
    }

    /// An error: for a person on stderr; with `--json` for a script as the last line of stdout as well.
    pub(crate) fn error(&self, error: &ErrorBody) {
        self.say(&format!("honeylink: {}", text::paragraph(&error.message)));
        for candidate in &error.candidates {
            self.say(&format!("  {}  {}", text::short(&candidate.id), text::name(&candidate.name)));
        }
        if let Some(hint) = &error.hint {
            self.say(&format!("  {}", text::paragraph(hint)));
        }
    }

    /// Whether progress may be redrawn in place; otherwise it comes as plain lines.
    pub(crate) const fn live(&self) -> bool {
        self.stderr_live && !self.quiet
    }

    /// Whether stdout takes colours.
    pub(crate) const fn stdout_colour(&self) -> bool {
        self.stdout_colour
    }

    /// Whether nothing but data and errors is wanted.
    pub(crate) const fn quiet(&self) -> bool {
        self.quiet
    }

    fn say(&self, line: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}
