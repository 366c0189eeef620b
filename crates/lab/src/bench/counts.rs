//! The suite `instructions`: what hot paths cost in instructions, by callgrind, beside a committed count.
//!
//! The one suite that a busy machine does not disturb, and so the one that can fail for two per cent. A count belongs to a
//! compiler: another one's is shown, and judged by nobody.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::Trouble;
use crate::report::{Bar, Finding};
use crate::rows::{Figure, Scale};

/// More than this is a regression.
const GROWTH_MAX: f64 = 1.02;

pub(crate) const FIGURES: &[Figure] = &[
    figure("I1", "instructions of a 100 B message, both ends", |scale| count(scale, "message", 2000)),
    figure("I2", "instructions of a megabyte on a stream, both ends", |scale| count(scale, "megabyte", 4)),
    figure("I3", "instructions of two nodes that start, link and end", |scale| count(scale, "connect", 4)),
    figure("I4", "instructions of a decision among 100 streams", |scale| count(scale, "decision", 100_000)),
];

const fn figure(
    id: &'static str,
    what: &'static str,
    measure: fn(&Scale) -> Result<Finding, Trouble>,
) -> Figure {
    let peer = Some("the committed count");
    Figure { id, what, unit: "x", peer, bar: Bar::AtMost(GROWTH_MAX), measure }
}

/// What is committed: counts by the name of the work, and whose they are.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Baseline {
    compiler: String,
    counts: BTreeMap<String, u64>,
}

impl Baseline {
    fn read(file: &Path) -> Result<Self, Trouble> {
        match std::fs::read_to_string(file) {
            Ok(text) => Ok(serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{}: {error}", file.display()).into()),
        }
    }

    /// Keeps `count`; counts of another compiler go.
    fn keep(mut self, file: &Path, compiler: &str, work: &str, count: u64) -> Result<(), Trouble> {
        if self.compiler != compiler {
            self = Self { compiler: compiler.to_owned(), ..Self::default() };
        }
        self.counts.insert(work.to_owned(), count);
        let mut text = serde_json::to_string_pretty(&self)?;
        text.push('\n');
        std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()).into())
    }
}

/// Instructions of `work`, once: of twice as many times less those of so many times.
fn count(scale: &Scale, work: &str, times: u64) -> Result<Finding, Trouble> {
    let (Some(program), Some(file)) = (&scale.counted, &scale.baseline) else {
        return Ok(Finding::Skipped("needs --counted and --baseline".into()));
    };
    if said("valgrind", &["--version"]).is_none() {
        return Ok(Finding::Skipped("needs valgrind".into()));
    }
    let compiler = said("rustc", &["--version"]).unwrap_or_default();
    let (one, two) = (instructions(program, work, times)?, instructions(program, work, times * 2)?);
    let each = two.saturating_sub(one) / times;
    let baseline = Baseline::read(file)?;
    if scale.keep_baseline {
        baseline.keep(file, &compiler, work, each)?;
        return Ok(measured(each, each));
    }
    if baseline.compiler != compiler {
        let whose = if baseline.compiler.is_empty() { "nobody" } else { &baseline.compiler };
        return Ok(Finding::Skipped(format!(
            "{each} instructions by {compiler}; the count kept is of {whose}"
        )));
    }
    let kept = baseline.counts.get(work).copied();
    Ok(kept.map_or_else(
        || Finding::Skipped(format!("{each} instructions; none are kept to compare with")),
        |kept| measured(each, kept),
    ))
}

fn measured(each: u64, kept: u64) -> Finding {
    let facts = vec![("instructions", each as f64), ("kept_instructions", kept as f64)];
    Finding::Measured { value: each as f64 / kept as f64, samples: Vec::new(), facts }
}

/// All instructions of one run, of all threads.
fn instructions(program: &Path, work: &str, times: u64) -> Result<u64, Trouble> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("callgrind");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(program).args([work, &times.to_string()]).stdin(Stdio::null());
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{work}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    let text = std::fs::read_to_string(&out)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    Ok(total.ok_or("callgrind wrote no total")?)
}

/// The first line a program says, if it is there.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_beside_others_of_the_same_compiler_and_replace_those_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("baseline.json");
        let keep = |compiler, work, count| Baseline::read(&file).unwrap().keep(&file, compiler, work, count);
        keep("rustc 1", "message", 1).unwrap();
        keep("rustc 1", "connect", 2).unwrap();
        assert_eq!(Baseline::read(&file).unwrap().counts.len(), 2);
        keep("rustc 2", "connect", 3).unwrap();
        let kept = Baseline::read(&file).unwrap();
        assert_eq!((kept.compiler.as_str(), kept.counts.len()), ("rustc 2", 1));
    }
}
