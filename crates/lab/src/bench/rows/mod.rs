//! The suite `first-link`: two devices that meet, speak and move files.

mod connect;
mod messages;
mod round_trip;

use std::path::PathBuf;

use crate::Trouble;
use crate::pairs::PAIRS_MIN;
use crate::report::{Bar, Finding};

/// The suite's name.
pub(crate) const FIRST_LINK: &str = "first-link";

/// How much to measure.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
    /// The program, for rows about it.
    pub(crate) program: Option<PathBuf>,
}

impl Scale {
    /// `full` samples, or a tenth of them.
    pub(crate) fn samples(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(10) } else { full }
    }

    /// Pairs for a ratio.
    pub(crate) fn pairs(&self) -> usize {
        if self.quick { 2 } else { PAIRS_MIN + 4 }
    }
}

/// A figure: what it is called, what it must keep to and how it is measured.
pub(crate) struct Figure {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// What the value is a ratio to.
    pub(crate) peer: Option<&'static str>,
    pub(crate) bar: Bar,
    pub(crate) measure: fn(&Scale) -> Result<Finding, Trouble>,
}

/// Every figure of the suite, in the order it is measured.
pub(crate) const ALL: &[Figure] = &[
    Figure {
        id: "C1",
        what: "connect on loopback, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(50.0),
        measure: connect::measure,
    },
    Figure {
        id: "L1",
        what: "64 B message round trip, p50",
        unit: "x",
        peer: Some("a raw iroh stream"),
        bar: Bar::AtMost(1.25),
        measure: round_trip::measure,
    },
    Figure {
        id: "M0",
        what: "100 B messages on one link",
        unit: "msg/s",
        peer: None,
        bar: Bar::AtLeast(1e6),
        measure: messages::measure,
    },
];
