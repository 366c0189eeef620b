//! Progress of a transfer on stderr: a bar that redraws itself for a person, a line now and then for a log.

use std::time::{Duration, Instant};

use honeylink_api::{Transfer, TransferState};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Printer, text, units};

/// Seconds between two lines when stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows one transfer.
pub(crate) struct Progress {
    printer: Printer,
    bar: Option<ProgressBar>,
    said: Option<(Instant, TransferState)>,
}

impl Progress {
    /// Nothing is drawn until the first [`show`](Self::show).
    pub(crate) fn new(printer: Printer) -> Self {
        let bar = printer.live().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            // The template is constant; should it ever be wrong, the plain default bar is good enough.
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3}%  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { printer, bar, said: None }
    }

    /// Shows where the transfer is.
    pub(crate) fn show(&mut self, transfer: &Transfer) {
        if let Some(bar) = &self.bar {
            bar.set_length(transfer.total_bytes);
            bar.set_position(transfer.bytes);
            bar.set_message(describe(transfer));
            return;
        }
        let due = self.said.is_none_or(|(at, state)| state != transfer.state || at.elapsed() >= LINE_EVERY);
        if due {
            self.said = Some((Instant::now(), transfer.state));
            self.printer.note(&describe(transfer));
        }
    }

    /// Removes the bar, so that what is printed next stands alone.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One line: what, how far, how fast, how long.
pub(crate) fn describe(transfer: &Transfer) -> String {
    let what = transfer.names.first().map(|n| text::clean(n, 40)).unwrap_or_default();
    let more =
        if transfer.names.len() > 1 { format!(" +{}", transfer.names.len() - 1) } else { String::new() };
    let state = match transfer.state {
        TransferState::Waiting => "waiting for an answer".to_owned(),
        TransferState::Preparing => "reading".to_owned(),
        TransferState::Running => {
            let eta = transfer.eta_s.map(|s| format!(", {} left", left(s)));
            format!(
                "{} of {}, {}{}",
                units::bytes(transfer.bytes),
                units::bytes(transfer.total_bytes),
                units::rate(transfer.rate_bytes_per_s),
                eta.unwrap_or_default()
            )
        }
        TransferState::Paused => format!("paused at {}{}", units::bytes(transfer.bytes), why(transfer)),
        TransferState::Done => format!("done, {}", units::bytes(transfer.total_bytes)),
        TransferState::Declined => format!("declined{}", why(transfer)),
        TransferState::Failed => format!("failed{}", why(transfer)),
    };
    format!("{what}{more}: {state}")
}

/// An estimate in seconds, as coarse as it is.
fn left(seconds: u64) -> String {
    if seconds < 60 { format!("{} s", seconds.max(1)) } else { units::span(Duration::from_secs(seconds)) }
}

/// Why it came to that, if it is known.
fn why(transfer: &Transfer) -> String {
    let words = transfer.error.as_ref().map(|error| text::clean(&error.message, 200));
    words.filter(|words| !words.is_empty()).map(|words| format!(": {words}")).unwrap_or_default()
}
