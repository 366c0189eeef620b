//! Policies as people write them down: a table of TOML for each.
//!
//! ```toml
//! [film]
//! preset = "media-8k"                  # everything not said here is the preset's
//! rate_min_bytes_per_s = 3000000
//!
//! [readings]
//! class = "interactive"                # or `priority = 0` to 7
//! weight = 4                           # 1 to 64
//! rate_max_bytes_per_s = 64000
//! deadline_ms = 50                     # datagrams only
//! queue_bytes_max = 65536
//! fec = "auto"                         # off, auto, at-least-light
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use honeylink_core::limits::POLICIES_MAX;
pub use honeylink_core::qos::policy::{Policy, PolicyError, Preset};
use honeylink_core::qos::{Class, Priority, StreamOptions, Weight};
use toml::Spanned;

use crate::FecChoice;

/// Why a text is no set of policies, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct PolicyFileError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: PolicyFileProblem,
}

/// What is wrong in a text that should be a set of policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFileProblem {
    /// Not TOML, a key that does not exist, or a value of the wrong kind; the parser's words.
    #[error("{0}")]
    Toml(String),
    /// One of them cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A value outside of what is allowed.
    #[error("policy `{name}`: {key} = {value} is not allowed; it must be {allowed}")]
    Value {
        /// Which policy.
        name: String,
        /// Which key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        allowed: &'static str,
    },
}

/// One policy, as written.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    preset: Option<Spanned<String>>,
    class: Option<Spanned<String>>,
    priority: Option<Spanned<i64>>,
    weight: Option<Spanned<i64>>,
    rate_min_bytes_per_s: Option<Spanned<i64>>,
    rate_max_bytes_per_s: Option<Spanned<i64>>,
    deadline_ms: Option<Spanned<i64>>,
    queue_bytes_max: Option<Spanned<i64>>,
    fec: Option<Spanned<String>>,
}

/// What rates, deadlines and queues may be; whether they fit each other is the policy's own check.
const POSITIVE: &str = "a whole number from 1";

/// The policies of a text, by name.
///
/// # Errors
/// [`PolicyFileError`], naming the line, the policy, the key and what is allowed.
pub fn from_toml(text: &str) -> Result<Vec<Policy>, PolicyFileError> {
    let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    let written: BTreeMap<Spanned<String>, Written> =
        toml::from_str(text).map_err(|error| PolicyFileError {
            line: error.span().map_or(1, |span| line_at(span.start)),
            what: PolicyFileProblem::Toml(error.message().trim().replace('\n', "; ")),
        })?;
    if written.len() > POLICIES_MAX {
        return Err(PolicyFileError { line: 1, what: PolicyError::TooMany { max: POLICIES_MAX }.into() });
    }
    let read = written.iter().map(|(name, written)| {
        policy(name, written)
            .map_err(|Misplaced { offset, what }| PolicyFileError { line: line_at(offset), what })
    });
    read.collect()
}

/// A problem and where in the text it is, in bytes.
struct Misplaced {
    offset: usize,
    what: PolicyFileProblem,
}

/// Values of one policy, read one by one.
struct Reader<'a> {
    name: &'a str,
}

impl Reader<'_> {
    fn wrong<T: fmt::Debug>(&self, key: &'static str, at: &Spanned<T>, allowed: &'static str) -> Misplaced {
        let (name, value) = (self.name.to_owned(), format!("{:?}", at.get_ref()));
        let what = PolicyFileProblem::Value { name, key, value, allowed };
        Misplaced { offset: at.span().start, what }
    }

    fn number<T>(
        &self,
        key: &'static str,
        at: Option<&Spanned<i64>>,
        allowed: &'static str,
        take: impl Fn(u64) -> Option<T>,
    ) -> Result<Option<T>, Misplaced> {
        let read = |at: &Spanned<i64>| {
            let value = u64::try_from(*at.get_ref()).ok().and_then(&take);
            value.ok_or_else(|| self.wrong(key, at, allowed))
        };
        at.map(read).transpose()
    }

    fn positive(&self, key: &'static str, at: Option<&Spanned<i64>>) -> Result<Option<u64>, Misplaced> {
        self.number(key, at, POSITIVE, |number| Some(number).filter(|number| *number > 0))
    }

    fn word<T>(
        &self,
        key: &'static str,
        at: Option<&Spanned<String>>,
        allowed: &'static str,
        take: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Misplaced> {
        at.map(|at| take(at.get_ref()).ok_or_else(|| self.wrong(key, at, allowed))).transpose()
    }
}

fn policy(at: &Spanned<String>, written: &Written) -> Result<Policy, Misplaced> {
    let name = at.get_ref().clone();
    let read = Reader { name: &name };
    let preset = read.word("preset", written.preset.as_ref(), PRESETS, |name| {
        Preset::ALL.into_iter().find(|preset| preset.name() == name)
    })?;
    let base = preset.map(Preset::policy);
    let (mut options, mut fec) = base.map_or_else(Default::default, |preset| (preset.options, preset.fec));
    if let Some(class) =
        read.word("class", written.class.as_ref(), "realtime, interactive or bulk", class_named)?
    {
        options.priority = class.into();
    }
    let small = |number: u64| u8::try_from(number).ok();
    let priority = |number: u64| Priority::new(small(number)?);
    options.priority = read
        .number("priority", written.priority.as_ref(), "a whole number from 0 to 7", priority)?
        .unwrap_or(options.priority);
    let weight = |number: u64| Weight::new(small(number)?);
    options.weight = read
        .number("weight", written.weight.as_ref(), "a whole number from 1 to 64", weight)?
        .unwrap_or(options.weight);
    let rate_min = read.positive("rate_min_bytes_per_s", written.rate_min_bytes_per_s.as_ref())?;
    options.rate_min = rate_min.or(options.rate_min);
    let rate_max = read.positive("rate_max_bytes_per_s", written.rate_max_bytes_per_s.as_ref())?;
    options.rate_max = rate_max.or(options.rate_max);
    let deadline = read.positive("deadline_ms", written.deadline_ms.as_ref())?;
    options.deadline = deadline.map(Duration::from_millis).or(options.deadline);
    let queue = read.positive("queue_bytes_max", written.queue_bytes_max.as_ref())?;
    options.queue_bytes_max = queue.unwrap_or(options.queue_bytes_max);
    fec = read.word("fec", written.fec.as_ref(), "off, auto or at-least-light", fec_named)?.unwrap_or(fec);
    let policy = Policy { name, options, fec };
    policy.check().map_err(|why| Misplaced { offset: at.span().start, what: why.into() })?;
    Ok(policy)
}

/// The presets, for people.
const PRESETS: &str = "gaming-input, ar-vr, media-8k, file or iot";

fn class_named(name: &str) -> Option<Class> {
    match name {
        "realtime" => Some(Class::Realtime),
        "interactive" => Some(Class::Interactive),
        "bulk" => Some(Class::Bulk),
        _ => None,
    }
}

fn fec_named(name: &str) -> Option<FecChoice> {
    match name {
        "off" => Some(FecChoice::Off),
        "auto" => Some(FecChoice::Auto),
        "at-least-light" => Some(FecChoice::AtLeastLight),
        _ => None,
    }
}

/// How repair is called in a file.
#[must_use]
pub const fn fec_name(choice: FecChoice) -> &'static str {
    match choice {
        FecChoice::Off => "off",
        FecChoice::Auto => "auto",
        FecChoice::AtLeastLight => "at-least-light",
    }
}

/// A policy as [`from_toml`] reads it.
#[must_use]
pub fn to_toml(policy: &Policy) -> String {
    let StreamOptions { priority, weight, rate_min, rate_max, deadline, queue_bytes_max } = policy.options;
    let fec = fec_name(policy.fec);
    let mut text =
        format!("[{}]\npriority = {}\nweight = {}\n", policy.name, priority.as_u8(), weight.as_u8());
    let deadline_ms = deadline.map(|deadline| deadline.as_millis());
    let numbers = [
        ("rate_min_bytes_per_s", rate_min.map(u128::from)),
        ("rate_max_bytes_per_s", rate_max.map(u128::from)),
        ("deadline_ms", deadline_ms),
        ("queue_bytes_max", Some(queue_bytes_max.into())),
    ];
    for (key, number) in numbers {
        // Writing to a string cannot fail.
        let _ = number.map(|number| writeln!(text, "{key} = {number}"));
    }
    let _ = writeln!(text, "fec = \"{fec}\"");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_can_be_written_down_and_read_again() {
        for preset in Preset::ALL {
            let read = from_toml(&to_toml(&preset.policy())).unwrap();
            assert_eq!(read, [preset.policy()]);
        }
    }

    #[test]
    fn what_is_not_said_is_the_presets() {
        let read = from_toml("[film]\npreset = \"media-8k\"\nweight = 2\n").unwrap();
        let preset = Preset::Media8k.policy();
        assert_eq!(read[0].options, StreamOptions { weight: Weight::new(2).unwrap(), ..preset.options });
        assert_eq!(read[0].fec, preset.fec);
    }

    #[test]
    fn mistakes_name_the_line_the_policy_the_key_and_what_is_allowed() {
        for (text, parts) in [
            ("[x]\nclass = \"fast\"", ["class = \"fast\"", "realtime, interactive or bulk"]),
            ("[x]\npriority = 8", ["priority = 8", "from 0 to 7"]),
            ("[x]\nweight = 0", ["policy `x`", "from 1 to 64"]),
            ("[x]\nweight = -70000", ["weight = -70000", "from 1 to 64"]),
            ("[x]\nfec = \"yes\"", ["fec = \"yes\"", "at-least-light"]),
            ("[x]\npreset = \"gamimg\"", ["preset = \"gamimg\"", "gaming-input"]),
            ("[x]\nspeed = 1", ["unknown field `speed`", "rate_max_bytes_per_s"]),
            ("[x]\nweight = \"much\"", ["expected", "string"]),
            ("[x]\nrate_max_bytes_per_s = 0", ["rate_max_bytes_per_s = 0", "from 1"]),
            ("[y]\n[\"a b\"]\nweight = 1", ["no name for a policy", "1 to 63"]),
            ("[x]\n[", ["line 2", ""]),
        ] {
            let wrong = from_toml(text).unwrap_err();
            let said = wrong.to_string();
            assert!(parts.iter().all(|part| said.contains(part)), "{text}: {said}");
            assert_eq!(wrong.line, 2, "{text}: {said}");
            assert!(!said.contains('\n'), "{said:?}");
        }
    }

    #[test]
    fn the_presets_named_in_errors_are_those_there_are() {
        assert!(Preset::ALL.into_iter().all(|preset| PRESETS.contains(preset.name())));
    }
}
