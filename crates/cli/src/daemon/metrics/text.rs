//! The Prometheus text format (version 0.0.4): families with help and type, samples with labels.
//!
//! The list of families is closed, and so are the values of most labels; the others come from the configuration. What a
//! stranger sends can make a counter grow, never a new time series.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use honeylink::node::{DURATION_EDGES_MS, Durations};

/// The content type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Grows only, until the node starts again.
    Counter,
    /// As it is now.
    Gauge,
    /// How long something took.
    Histogram,
}

/// A family of samples.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

/// Samples by family.
#[derive(Debug, Default)]
pub(super) struct Samples {
    lines: BTreeMap<&'static str, String>,
}

impl Samples {
    /// Adds a sample of the family `name`.
    #[expect(clippy::cast_precision_loss, reason = "the format knows 64-bit floats only")]
    pub(super) fn count(&mut self, name: &'static str, labels: &[(&str, &str)], value: u64) {
        self.add(name, name, labels, value as f64);
    }

    /// Adds a number of things there are now.
    pub(super) fn size(&mut self, name: &'static str, labels: &[(&str, &str)], value: usize) {
        self.count(name, labels, value as u64);
    }

    /// Adds a sample with decimals.
    pub(super) fn value(&mut self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        self.add(name, name, labels, value);
    }

    /// Adds all samples of a histogram.
    #[expect(clippy::cast_precision_loss, reason = "the format knows 64-bit floats only")]
    pub(super) fn durations(&mut self, name: &'static str, durations: &Durations) {
        let mut so_far = 0;
        let edges = DURATION_EDGES_MS.iter().map(|ms| (*ms as f64 / 1000.0).to_string());
        for (edge, count) in edges.chain(["+Inf".to_owned()]).zip(durations.buckets) {
            so_far += count;
            self.add(name, &format!("{name}_bucket"), &[("le", &edge)], so_far as f64);
        }
        self.add(name, &format!("{name}_sum"), &[], durations.sum.as_secs_f64());
        self.add(name, &format!("{name}_count"), &[], so_far as f64);
    }

    fn add(&mut self, family: &'static str, name: &str, labels: &[(&str, &str)], value: f64) {
        let line = self.lines.entry(family).or_default();
        line.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            line.push_str(if at == 0 { "{" } else { "," });
            line.push_str(label);
            line.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => line.push_str("\\\\"),
                    '"' => line.push_str("\\\""),
                    '\n' => line.push_str("\\n"),
                    other => line.push(other),
                }
            }
            line.push('"');
        }
        if !labels.is_empty() {
            line.push('}');
        }
        // Writing to a string cannot fail.
        let _ = writeln!(line, " {value}");
    }

    /// Everything in the text format: each family has its help and type, also where it has no sample now.
    pub(super) fn print(&self, families: &[Family]) -> String {
        let listed = |name: &&str| families.iter().any(|family| family.name == *name);
        debug_assert!(self.lines.keys().all(listed), "a sample of no family");
        let mut out = String::new();
        for Family { name, kind, help } in families {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let samples = self.lines.get(name).map_or("", String::as_str);
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn label_values_are_escaped_and_families_without_samples_are_announced() {
        let mut samples = Samples::default();
        samples.count("a_total", &[("port", "C:\\\"x\"\n"), ("on", "1")], 3);
        let families = [("a_total", Kind::Counter), ("b", Kind::Gauge)];
        let families = families.map(|(name, kind)| Family { name, kind, help: "Help." });
        assert_eq!(
            samples.print(&families),
            "# HELP a_total Help.\n# TYPE a_total counter\na_total{port=\"C:\\\\\\\"x\\\"\\n\",on=\"1\"} 3\n\
             # HELP b Help.\n# TYPE b gauge\n"
        );
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let mut durations = Durations::default();
        for ms in [1, 3, 60_000] {
            durations.add(Duration::from_millis(ms));
        }
        let mut samples = Samples::default();
        samples.durations("t_seconds", &durations);
        let text = samples.print(&[Family { name: "t_seconds", kind: Kind::Histogram, help: "H" }]);
        for line in [
            "t_seconds_bucket{le=\"0.001\"} 1",
            "t_seconds_bucket{le=\"0.005\"} 2",
            "t_seconds_bucket{le=\"30\"} 2",
            "t_seconds_bucket{le=\"+Inf\"} 3",
            "t_seconds_sum 60.004",
            "t_seconds_count 3",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} in {text}");
        }
    }
}
