//! What a demonstration prints: a line per step.

use std::time::Duration;

use honeylink_api::PathInfo;
use serde::Serialize;

use crate::commands::describe_path;
use crate::failure::Failure;
use crate::output::{Printer, units};

/// A line per step, for a person or as JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report(Printer);

/// What there is to say about a step that worked.
#[derive(Debug, Default, Serialize)]
pub(super) struct Step {
    /// What it was.
    pub(super) step: &'static str,
    /// How long it took, in seconds.
    pub(super) seconds: f64,
    /// What happened.
    pub(super) detail: String,
    /// The path the bytes took.
    pub(super) path: Option<PathInfo>,
    /// Bytes per second.
    pub(super) rate_bytes_per_s: Option<u64>,
    /// What was on the air meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) air: Option<OnAir>,
    /// What each radio has used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) radios: Vec<Duty>,
}

/// Frames on the air, as the modems sent them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct OnAir {
    /// How many.
    pub(super) frames: u64,
    /// Their bytes, with what the modems put before them.
    pub(super) bytes: u64,
    /// How long they took.
    pub(super) airtime_ms: u64,
}

/// The airtime of a radio.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Duty {
    /// The device.
    pub(super) name: String,
    /// What its modem had on the air.
    pub(super) on_air_ms: u64,
    /// What it has counted itself.
    pub(super) used_ms: u64,
    /// What any hour may hold.
    pub(super) budget_ms: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    ok: bool,
    #[serde(flatten)]
    step: &'a Step,
}

#[derive(Serialize)]
struct Total {
    ok: bool,
    seconds: f64,
}

impl Report {
    pub(super) const fn new(out: Printer) -> Self {
        Self(out)
    }

    pub(super) fn step(&self, step: &Step) -> Result<(), Failure> {
        if self.0.json {
            return self.0.json(&Line { ok: true, step });
        }
        let rate = step.rate_bytes_per_s.map(|rate| format!("  {}", units::rate(rate))).unwrap_or_default();
        let took = units::span(Duration::from_secs_f64(step.seconds));
        self.0.line(&format!("{:<9} {took:>7}  {}{rate}", step.step, step.detail))?;
        match &step.path {
            Some(path) => self.0.line(&format!("{:<19}{}", "", describe_path(Some(path)))),
            None => Ok(()),
        }
    }

    pub(super) fn total(&self, took: Duration) -> Result<(), Failure> {
        if self.0.json {
            return self.0.json(&Total { ok: true, seconds: took.as_secs_f64() });
        }
        self.0.line(&format!("all steps worked, {}", units::span(took)))
    }
}
