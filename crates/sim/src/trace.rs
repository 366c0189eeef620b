//! What happened, as values: hashed always, written as lines when asked, and shown to every oracle.
//!
//! The hash covers every field of every event in order, so two runs with equal hashes did the same things at the same
//! moments. The lines are JSON, one event each, with `t` in microseconds, `n` the node and `e` the event; the same seed
//! gives the same bytes.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::chance::scramble;
use crate::clock::Moment;
use crate::device::{Class, MessageId, NodeId, PortId, Step};

/// Why somebody in range did not get a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missed {
    /// Too weak this time: fading.
    Weak,
    /// Another frame came at the same time, and neither was strong enough to win.
    Collision,
    /// The receiver was transmitting.
    HalfDuplex,
    /// Lost on a link.
    Loss,
    /// The link's queue was full.
    QueueFull,
    /// A partition, a cut or a jammer is in the way.
    Blocked,
    /// A NAT box let it not in.
    Filtered,
    /// The receiver reads too slowly, and its buffer was full.
    SlowReader,
    /// Nobody is there: crashed or asleep.
    Absent,
}

impl Missed {
    /// The word in traces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::Collision => "collision",
            Self::HalfDuplex => "half-duplex",
            Self::Loss => "loss",
            Self::QueueFull => "queue-full",
            Self::Blocked => "blocked",
            Self::Filtered => "filtered",
            Self::SlowReader => "slow-reader",
            Self::Absent => "absent",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A node began to run, for the first time or again.
    Boot,
    /// A node died, and so many unsynced writes with it.
    Crash {
        /// How many.
        lost_writes: u64,
    },
    /// A node fell asleep.
    Sleep,
    /// A node woke up.
    Wake,
    /// An application gave its device a message.
    Send {
        /// Which.
        id: MessageId,
        /// To whom.
        to: NodeId,
    },
    /// A frame went on the air.
    Air {
        /// Counts transmissions from 1.
        tx: u64,
        /// For how long, in microseconds.
        airtime_us: u64,
        /// What it is for.
        class: Class,
        /// The frame.
        bytes: &'a [u8],
    },
    /// A frame went out on a link.
    Wire {
        /// The port it left by.
        port: PortId,
        /// What it is for.
        class: Class,
        /// The frame.
        bytes: &'a [u8],
    },
    /// A node received a transmission.
    Heard {
        /// Which.
        tx: u64,
        /// From whom.
        from: NodeId,
    },
    /// A node in range did not receive a transmission.
    Unheard {
        /// Which.
        tx: u64,
        /// Why.
        why: Missed,
    },
    /// A frame came in over a link.
    Arrived {
        /// The port it came in by.
        port: PortId,
        /// The frame.
        bytes: &'a [u8],
    },
    /// A frame on a link did not arrive.
    Dropped {
        /// The port it left by.
        port: PortId,
        /// Why.
        why: Missed,
    },
    /// A frame never left: it waited too long, was withdrawn, or found the queue full.
    Unsent {
        /// Where it should have left.
        port: PortId,
    },
    /// A link began to work.
    Up {
        /// Which.
        port: PortId,
    },
    /// A link stopped working.
    Down {
        /// Which.
        port: PortId,
    },
    /// A device gave its application a message.
    Deliver {
        /// Who sent it, as the device says.
        from: Option<NodeId>,
        /// The message.
        payload: &'a [u8],
    },
    /// A device told its application how far a message has come.
    Progress {
        /// Which.
        id: MessageId,
        /// How far.
        step: Step,
    },
    /// Everything saved so far is on disk.
    Synced,
    /// A fault begins.
    Fault {
        /// In a few words.
        what: &'a str,
    },
    /// All faults are over.
    Heal,
    /// How much memory a device holds.
    State {
        /// In bytes.
        bytes: u64,
        /// Frames waiting in its modem.
        queued: u64,
    },
    /// A device does not come to rest: it asks to be called again at once, or puts out without end.
    Stuck {
        /// What it was doing, in its own words.
        why: &'static str,
    },
    /// Something a device says about itself.
    Note {
        /// What.
        text: &'a str,
    },
}

/// The running hash, and the lines if somebody wants them.
pub struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Box<dyn Write + Send>>,
    text: String,
    failure: Option<io::Error>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { hash: 0x484F_4E45_594C_494E, events: 0, lines: None, text: String::new(), failure: None }
    }
}

impl Trace {
    /// A trace whose lines go to `lines` as well.
    #[must_use]
    pub fn writing(lines: Box<dyn Write + Send>) -> Self {
        Self { lines: Some(lines), ..Self::default() }
    }

    /// Writes a line that is not an event: what the trace is of.
    pub fn header(&mut self, json: &str) {
        if let Some(lines) = self.lines.as_mut() {
            let written = writeln!(lines, "{json}");
            self.failure = self.failure.take().or(written.err());
        }
    }

    /// Takes note of an event.
    pub fn record(&mut self, at: Moment, node: NodeId, what: &What<'_>) {
        self.events += 1;
        let mut sum = Sum(self.hash);
        sum.number(at.0);
        sum.number(u64::from(node.0));
        fold(&mut sum, what);
        self.hash = sum.0;
        if let Some(lines) = self.lines.as_mut() {
            self.text.clear();
            line(&mut self.text, at, node, what);
            let written = lines.write_all(self.text.as_bytes());
            self.failure = self.failure.take().or(written.err());
        }
    }

    /// The hash of everything recorded.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events were recorded.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Ends the trace.
    ///
    /// # Errors
    /// The first error of writing lines.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(lines) = self.lines.as_mut() {
            let flushed = lines.flush();
            self.failure = self.failure.take().or(flushed.err());
        }
        self.failure.take().map_or(Ok(()), Err)
    }
}

struct Sum(u64);

impl Sum {
    fn number(&mut self, n: u64) {
        self.0 = scramble(self.0.rotate_left(23) ^ n);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }
}

fn fold(sum: &mut Sum, what: &What<'_>) {
    let tag = |sum: &mut Sum, numbers: &[u64]| numbers.iter().for_each(|n| sum.number(*n));
    match *what {
        What::Boot => tag(sum, &[1]),
        What::Crash { lost_writes } => tag(sum, &[2, lost_writes]),
        What::Sleep => tag(sum, &[3]),
        What::Wake => tag(sum, &[4]),
        What::Send { id, to } => tag(sum, &[5, id.0.into(), to.0.into()]),
        What::Air { tx, airtime_us, class, bytes } => {
            tag(sum, &[6, tx, airtime_us, class as u64]);
            sum.bytes(bytes);
        }
        What::Wire { port, class, bytes } => {
            tag(sum, &[7, port.0.into(), class as u64]);
            sum.bytes(bytes);
        }
        What::Heard { tx, from } => tag(sum, &[8, tx, from.0.into()]),
        What::Unheard { tx, why } => tag(sum, &[9, tx, why as u64]),
        What::Arrived { port, bytes } => {
            tag(sum, &[10, port.0.into()]);
            sum.bytes(bytes);
        }
        What::Dropped { port, why } => tag(sum, &[11, port.0.into(), why as u64]),
        What::Unsent { port } => tag(sum, &[12, port.0.into()]),
        What::Up { port } => tag(sum, &[13, port.0.into()]),
        What::Down { port } => tag(sum, &[14, port.0.into()]),
        What::Deliver { from, payload } => {
            tag(sum, &[15, from.map_or(u64::MAX, |node| node.0.into())]);
            sum.bytes(payload);
        }
        What::Progress { id, step } => tag(sum, &[16, id.0.into(), step as u64]),
        What::Synced => tag(sum, &[17]),
        What::Fault { what } => {
            tag(sum, &[18]);
            sum.bytes(what.as_bytes());
        }
        What::Heal => tag(sum, &[19]),
        // How big a structure is depends on the machine and the compiler; it must not make two runs differ.
        What::State { queued, .. } => tag(sum, &[20, queued]),
        What::Stuck { why } => {
            tag(sum, &[22]);
            sum.bytes(why.as_bytes());
        }
        What::Note { text } => {
            tag(sum, &[21]);
            sum.bytes(text.as_bytes());
        }
    }
}

/// Appends the line of an event to `out`. Writing to a `String` cannot fail.
fn line(out: &mut String, at: Moment, node: NodeId, what: &What<'_>) {
    let _ = write!(out, "{{\"t\":{},\"n\":{}", at.0, node.0);
    let _ = match *what {
        What::Boot => write!(out, ",\"e\":\"boot\""),
        What::Crash { lost_writes } => write!(out, ",\"e\":\"crash\",\"lost_writes\":{lost_writes}"),
        What::Sleep => write!(out, ",\"e\":\"sleep\""),
        What::Wake => write!(out, ",\"e\":\"wake\""),
        What::Send { id, to } => write!(out, ",\"e\":\"send\",\"id\":{},\"to\":{}", id.0, to.0),
        What::Air { tx, airtime_us, class, bytes } => write!(
            out,
            ",\"e\":\"air\",\"tx\":{tx},\"us\":{airtime_us},\"class\":\"{}\",\"hex\":\"{}\"",
            class.as_str(),
            Hex(bytes)
        ),
        What::Wire { port, class, bytes } => write!(
            out,
            ",\"e\":\"wire\",\"port\":{},\"class\":\"{}\",\"hex\":\"{}\"",
            port.0,
            class.as_str(),
            Hex(bytes)
        ),
        What::Heard { tx, from } => write!(out, ",\"e\":\"heard\",\"tx\":{tx},\"from\":{}", from.0),
        What::Unheard { tx, why } => {
            write!(out, ",\"e\":\"unheard\",\"tx\":{tx},\"why\":\"{}\"", why.as_str())
        }
        What::Arrived { port, bytes } => {
            write!(out, ",\"e\":\"arrived\",\"port\":{},\"hex\":\"{}\"", port.0, Hex(bytes))
        }
        What::Dropped { port, why } => {
            write!(out, ",\"e\":\"dropped\",\"port\":{},\"why\":\"{}\"", port.0, why.as_str())
        }
        What::Unsent { port } => write!(out, ",\"e\":\"unsent\",\"port\":{}", port.0),
        What::Up { port } => write!(out, ",\"e\":\"up\",\"port\":{}", port.0),
        What::Down { port } => write!(out, ",\"e\":\"down\",\"port\":{}", port.0),
        What::Deliver { from, payload } => {
            let from = from.map_or_else(|| "null".to_owned(), |node| node.0.to_string());
            let id = crate::message::number(payload).map_or(-1, |id| i64::from(id.0));
            write!(out, ",\"e\":\"deliver\",\"id\":{id},\"from\":{from}")
        }
        What::Progress { id, step } => {
            write!(out, ",\"e\":\"progress\",\"id\":{},\"step\":\"{}\"", id.0, step.as_str())
        }
        What::Synced => write!(out, ",\"e\":\"synced\""),
        What::Fault { what } => write!(out, ",\"e\":\"fault\",\"what\":{}", quoted(what)),
        What::Heal => write!(out, ",\"e\":\"heal\""),
        // The bytes stay out for the same reason as from the hash.
        What::State { queued, .. } => write!(out, ",\"e\":\"state\",\"queued\":{queued}"),
        What::Stuck { why } => write!(out, ",\"e\":\"stuck\",\"why\":{}", quoted(why)),
        What::Note { text } => write!(out, ",\"e\":\"note\",\"text\":{}", quoted(text)),
    };
    out.push_str("}\n");
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

struct Hex<'a>(&'a [u8]);

impl core::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_a_line_of_json_and_changes_the_hash() {
        let events = [
            What::Boot,
            What::Crash { lost_writes: 3 },
            What::Air { tx: 1, airtime_us: 5, class: Class::Data, bytes: &[0, 255] },
            What::Deliver { from: None, payload: &[0, 0, 0, 9] },
            What::Note { text: "say \"no\"\n" },
        ];
        let mut hashes = vec![Trace::default().hash()];
        for what in &events {
            let mut trace = Trace::default();
            trace.record(Moment(4), NodeId(2), what);
            assert!(!hashes.contains(&trace.hash()), "{what:?}");
            hashes.push(trace.hash());
            let mut text = String::new();
            line(&mut text, Moment(4), NodeId(2), what);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["t"], 4);
        }
    }
}
