//! The suite `first-link`: two devices that meet, speak and move files.

mod big_file;
mod connect;
mod discovery;
mod idle;
mod many_files;
mod messages;
mod program;
mod resume;
mod round_trip;
mod transfers;

use std::path::PathBuf;

use crate::Trouble;
use crate::pairs::PAIRS_MIN;
use crate::report::{Bar, Finding};

/// What a row about the program says without one.
const NEEDS_PROGRAM: &str = "needs --program";

/// How much to measure, and with what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
    /// The program, for rows about it.
    pub(crate) program: Option<PathBuf>,
    /// The program that carries the load over Zenoh, for rows that compare with it.
    pub(crate) zenoh: Option<PathBuf>,
    /// The program whose instructions are counted, the counts kept, and whether to keep this run's instead.
    pub(crate) counted: Option<PathBuf>,
    pub(crate) baseline: Option<PathBuf>,
    pub(crate) keep_baseline: bool,
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
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// What the value is a ratio to.
    pub(crate) peer: Option<&'static str>,
    pub(crate) bar: Bar,
    pub(crate) measure: fn(&Scale) -> Result<Finding, Trouble>,
}

/// Every figure of the suite, in the order it is measured: memory first, while the allocator has kept nothing yet.
pub(crate) const ALL: &[Figure] = &[
    Figure {
        id: "R1",
        what: "memory above idle, 1 GiB file",
        unit: "MiB",
        peer: None,
        bar: Bar::AtMost(64.0),
        measure: big_file::memory,
    },
    Figure {
        id: "D1",
        what: "discovery on a LAN bridge, p95",
        unit: "s",
        peer: None,
        bar: Bar::AtMost(2.0),
        measure: discovery::measure,
    },
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
    Figure {
        id: "F1",
        what: "rate of a 1 GiB file",
        unit: "x",
        peer: Some("a raw iroh stream, memory to nowhere"),
        bar: Bar::AtLeast(0.85),
        measure: big_file::measure,
    },
    Figure {
        id: "F1b",
        what: "first byte of a 1 GiB file, p99",
        unit: "ms",
        peer: None,
        bar: Bar::AtMost(100.0),
        measure: big_file::first_byte,
    },
    Figure {
        id: "F2",
        what: "time for 10,000 files of 4 KiB",
        unit: "x",
        peer: Some("tar through socat with TLS 1.3"),
        bar: Bar::AtMost(1.0),
        measure: many_files::measure,
    },
    Figure {
        id: "F3",
        what: "sent again after a kill -9, worst",
        unit: "%",
        peer: None,
        bar: Bar::AtMost(1.0),
        measure: resume::measure,
    },
    Figure {
        id: "R2",
        what: "idle daemon, memory",
        unit: "MiB",
        peer: None,
        bar: Bar::AtMost(40.0),
        measure: program::idle_memory,
    },
    Figure {
        id: "R2b",
        what: "idle daemon, one core",
        unit: "%",
        peer: None,
        bar: Bar::AtMost(0.5),
        measure: program::idle_cpu,
    },
    Figure {
        id: "R3",
        what: "size of the program",
        unit: "MB",
        peer: None,
        bar: Bar::AtMost(25.0),
        measure: program::binary,
    },
    Figure {
        id: "R4",
        what: "200 idle links, both ends, one core",
        unit: "%",
        peer: None,
        bar: Bar::AtMost(5.0),
        measure: idle::measure,
    },
];
