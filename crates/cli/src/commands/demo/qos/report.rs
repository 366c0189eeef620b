//! What the demonstration shows: the classes while it runs, a table and a verdict at its end.

use std::io::IsTerminal as _;
use std::time::Duration;

use honeylink_api::ErrorCode;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::meter::{Kind, Phase, Tally};
use crate::failure::Failure;
use crate::output::{Printer, table::Table, units};

/// What the input may take, 99 of 100 times, on a machine that is never late: the way's 5 ms, a frame of the film, and some.
const INPUT_P99_MAX: Duration = Duration::from_millis(40);
/// A wake-up that is late may be late at the sender, on the cable and at the receiver.
const WAKE_UPS: u32 = 3;
/// What a frame may take: what players keep ahead.
const FRAME_P99_MAX: Duration = Duration::from_millis(250);
/// The least of the film's pace that has to arrive, per cent.
const FILM_PERCENT_MIN: u64 = 95;

/// A machine that wakes somebody later than this one time in a hundred tells more of itself than of the link.
const LATE_MAX: Duration = Duration::from_millis(15);
/// The least part of the cable that has to be full, per cent: where nothing is full nobody has to wait.
const FULL_PERCENT_MIN: u64 = 60;

/// What the verdict is about.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) alone: Phase,
    pub(super) crowded: Phase,
    pub(super) files: usize,
    /// The 99th percentile of how late this machine woke somebody.
    pub(super) machine_late: Duration,
    pub(super) buffer: Duration,
    pub(super) cable_bytes_per_s: u64,
}

/// Whether everybody got what was promised, in a sentence.
enum Judged {
    Kept(String),
    Broken(String),
    /// Not, but this machine was too slow for the question.
    Unfit(String),
}

impl Judged {
    fn text(&self) -> &str {
        match self {
            Self::Kept(text) | Self::Broken(text) | Self::Unfit(text) => text,
        }
    }
}

/// Prints as the person or the script wants it.
#[derive(Debug)]
pub(super) struct Report {
    out: Printer,
    picture: Option<ProgressBar>,
}

#[derive(Serialize)]
struct Moment<'a> {
    phase: &'a str,
    classes: Vec<Class>,
}

/// A class in JSON. Times are `null` where nothing came.
#[derive(Serialize)]
struct Class {
    class: &'static str,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    bytes_per_s: u64,
    lost: u64,
}

#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    /// Whether this machine was fast enough for a verdict.
    judged: bool,
    verdict: &'a str,
    input_p99_ms: Option<f64>,
    input_p99_max_ms: f64,
    machine_late_p99_ms: f64,
    files_moved: usize,
    without_files: Vec<Class>,
    with_files: Vec<Class>,
}

impl Class {
    fn of(kind: Kind, tally: &Tally) -> Self {
        let at = |per_mille| tally.quantile(per_mille).map(millis);
        Self {
            class: kind.name(),
            p50_ms: at(500),
            p99_ms: at(990),
            bytes_per_s: tally.bytes_per_s(),
            lost: tally.lost,
        }
    }

    fn all(tallies: &[Tally; 3]) -> Vec<Self> {
        Kind::ALL.into_iter().zip(tallies).map(|(kind, tally)| Self::of(kind, tally)).collect()
    }

    fn line(&self) -> String {
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), units::millis);
        format!(
            "{:<5} p50 {:>8}  p99 {:>8}  {:>11}",
            self.class,
            ms(self.p50_ms),
            ms(self.p99_ms),
            units::rate(self.bytes_per_s)
        )
    }
}

impl Report {
    pub(super) fn new(out: Printer) -> Self {
        let live = out.live() && !out.json && std::io::stdout().is_terminal();
        let picture = live.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
            // The template is constant; should it ever be wrong, the default shows the text too.
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { out, picture }
    }

    pub(super) fn setting(
        &self,
        bits_per_s: u64,
        round_trip: Duration,
        buffer: Duration,
        files: usize,
    ) -> Result<(), Failure> {
        if self.out.json {
            return Ok(());
        }
        self.out.line(&format!(
            "one link of {} Mbit/s, {} there and back, with a buffer of {}: the input of a game, a film, {files} files",
            bits_per_s / 1_000_000,
            units::millis(millis(round_trip)),
            units::millis(millis(buffer)),
        ))
    }

    /// How each class fares at the moment.
    pub(super) fn moment(&self, phase: &'static str, window: &[Tally; 3]) -> Result<(), Failure> {
        let classes = Class::all(window);
        if self.out.json {
            return self.out.json(&Moment { phase, classes });
        }
        let lines: Vec<String> = classes.iter().map(Class::line).collect();
        match &self.picture {
            Some(picture) => {
                picture.set_message(format!("{phase}\n{}", lines.join("\n")));
                picture.tick();
                Ok(())
            }
            None => self.out.line(&format!("{phase:<14} {}", lines.join("   "))),
        }
    }

    /// What it came to; an error if the promise was not kept.
    pub(super) fn verdict(&self, facts: &Facts) -> Result<(), Failure> {
        if let Some(picture) = &self.picture {
            picture.finish_and_clear();
        }
        let judged = facts.judge();
        let broken = matches!(judged, Judged::Broken(_));
        if self.out.json {
            self.out.json(&Verdict {
                ok: !broken,
                judged: !matches!(judged, Judged::Unfit(_)),
                verdict: judged.text(),
                input_p99_ms: facts.crowded.of(Kind::Input).quantile(990).map(millis),
                input_p99_max_ms: millis(facts.input_max()),
                machine_late_p99_ms: millis(facts.machine_late),
                files_moved: facts.crowded.files_moved,
                without_files: Class::all(&facts.alone.tallies),
                with_files: Class::all(&facts.crowded.tallies),
            })?;
            return if broken { Err(Failure::Reported(ErrorCode::Partial.exit())) } else { Ok(()) };
        }
        self.table(facts)?;
        if broken {
            return Err(Failure::new(ErrorCode::Partial, judged.text()));
        }
        self.out.line(judged.text())
    }

    fn table(&self, facts: &Facts) -> Result<(), Failure> {
        let mut table = Table::new(&["CLASS", "STREAMS", "FILES", "P50", "P99", "RATE", "LOST"]);
        let ms =
            |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), |time| units::millis(millis(time)));
        for (kind, streams) in Kind::ALL.into_iter().zip([1, 1, facts.files]) {
            for (phase, with) in [(&facts.alone, "no"), (&facts.crowded, "yes")] {
                let tally = phase.of(kind);
                if tally.bytes == 0 && tally.sent == 0 {
                    continue;
                }
                table.row(vec![
                    kind.name().to_owned(),
                    streams.to_string(),
                    with.to_owned(),
                    ms(tally.quantile(500)),
                    ms(tally.quantile(990)),
                    units::rate(tally.bytes_per_s()),
                    tally.lost.to_string(),
                ]);
            }
        }
        self.out.lines(&table.lines())
    }
}

impl Facts {
    fn input_max(&self) -> Duration {
        INPUT_P99_MAX + self.machine_late * WAKE_UPS
    }

    fn judge(&self) -> Judged {
        let why = match self.promises() {
            Ok(text) => return Judged::Kept(text),
            Err(why) => why,
        };
        let carried: u64 = self.crowded.tallies.iter().map(Tally::bytes_per_s).sum();
        if self.machine_late > LATE_MAX {
            let late = units::millis(millis(self.machine_late));
            return Judged::Unfit(format!(
                "no verdict: {why}; but this machine is busy, and was late by up to {late}"
            ));
        }
        if carried < self.cable_bytes_per_s * FULL_PERCENT_MIN / 100 {
            let carried = units::rate(carried);
            return Judged::Unfit(format!(
                "no verdict: {why}; but this machine is slow, and sent no more than {carried}"
            ));
        }
        Judged::Broken(why)
    }

    /// Whether everybody got what was promised.
    fn promises(&self) -> Result<String, String> {
        let input = self.crowded.of(Kind::Input).quantile(990);
        let (most, buffer) = (units::millis(millis(self.input_max())), units::millis(millis(self.buffer)));
        let Some(input) = input else {
            return Err(format!(
                "more than one input in a hundred was lost ({} of {})",
                self.crowded.of(Kind::Input).lost,
                self.crowded.of(Kind::Input).sent
            ));
        };
        let took = units::millis(millis(input));
        if input > self.input_max() {
            return Err(format!("the input's p99 was {took} beside {} files; promised: {most}", self.files));
        }
        let frame = self.crowded.of(Kind::Film).quantile(990).unwrap_or(Duration::MAX);
        let frame_max = FRAME_P99_MAX + self.machine_late * WAKE_UPS;
        let [before, with] = [&self.alone, &self.crowded].map(|phase| phase.of(Kind::Film).bytes_per_s());
        if frame > frame_max || with < before * FILM_PERCENT_MIN / 100 {
            return Err(format!(
                "the film was late: p99 of a frame {}, {} of {}",
                units::millis(millis(frame)),
                units::rate(with),
                units::rate(before)
            ));
        }
        if self.crowded.files_moved < self.files {
            return Err(format!("only {} of {} files went on", self.crowded.files_moved, self.files));
        }
        Ok(format!(
            "kept: the input's p99 is {took} beside {} files (at most {most}); in a full buffer it would wait {buffer}",
            self.files
        ))
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
