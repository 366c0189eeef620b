//! What happened in a run, as text: a line for every packet and every event of the network.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// Lines kept; the oldest make room. The fingerprint covers all that ever were.
const LINES_MAX: usize = 65_536;

/// The lines of a run and the hash of them all.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: VecDeque<String>,
    dropped: u64,
    hash: blake3::Hasher,
}

impl Trace {
    /// Adds what happened `at` so many microseconds after the start.
    pub(super) fn note(&mut self, at_us: u64, what: &str) {
        let mut line = String::with_capacity(what.len() + 20);
        // Writing to a string cannot fail.
        let _ = write!(line, "{:>5}.{:06} {what}", at_us / 1_000_000, at_us % 1_000_000);
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line);
    }

    /// The last `count` lines.
    pub(super) fn tail(&self, count: usize) -> String {
        let skipped = self.lines.len().saturating_sub(count);
        let mut text = String::new();
        if skipped as u64 + self.dropped > 0 {
            let _ = writeln!(text, "({} earlier lines)", skipped as u64 + self.dropped);
        }
        for line in self.lines.iter().skip(skipped) {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// Every line that is kept.
    pub(super) fn text(&self) -> String {
        self.tail(LINES_MAX)
    }

    /// The first 16 hex digits of the hash of every line there was.
    pub(super) fn fingerprint(&self) -> String {
        let hex = self.hash.finalize().to_hex();
        hex.as_str().chars().take(16).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_make_room_and_still_count() {
        let (mut long, mut short) = (Trace::default(), Trace::default());
        for n in 0..LINES_MAX as u64 + 5 {
            long.note(n, "x");
            if n >= 5 {
                short.note(n, "x");
            }
        }
        assert!(long.text().starts_with("(5 earlier lines)\n    0.000005 x\n"));
        assert_eq!(long.tail(1).lines().last(), short.tail(1).lines().last());
        assert_ne!(long.fingerprint(), short.fingerprint());
    }
}
