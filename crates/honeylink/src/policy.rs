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
use std::fmt::Write as _;
use std::time::Duration;

use honeylink_core::limits::POLICIES_MAX;
pub use honeylink_core::qos::policy::{Policy, PolicyError, Preset};
use honeylink_core::qos::{Class, Priority, StreamOptions, Weight};

use crate::FecChoice;

/// Why a text is no set of policies.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// Not TOML, a key that does not exist, or a value of the wrong kind.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// One of them cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A value outside of what is allowed.
    #[error("policy `{name}`: {key} is {value}; allowed: {allowed}")]
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
    preset: Option<String>,
    class: Option<String>,
    priority: Option<u8>,
    weight: Option<u8>,
    rate_min_bytes_per_s: Option<u64>,
    rate_max_bytes_per_s: Option<u64>,
    deadline_ms: Option<u64>,
    queue_bytes_max: Option<u64>,
    fec: Option<String>,
}

/// The policies of a text, by name.
///
/// # Errors
/// [`PolicyFileError`], naming the line or the policy and the key.
pub fn from_toml(text: &str) -> Result<Vec<Policy>, PolicyFileError> {
    let written: BTreeMap<String, Written> = toml::from_str(text)?;
    if written.len() > POLICIES_MAX {
        return Err(PolicyError::TooMany { max: POLICIES_MAX }.into());
    }
    written.into_iter().map(|(name, written)| policy(name, &written)).collect()
}

fn policy(name: String, written: &Written) -> Result<Policy, PolicyFileError> {
    let base = written.preset.as_deref().map(Preset::from_name).transpose()?.map(Preset::policy);
    let (mut options, mut fec) = base.map_or_else(Default::default, |preset| (preset.options, preset.fec));
    let wrong = |key, value: &dyn std::fmt::Display, allowed| PolicyFileError::Value {
        name: name.clone(),
        key,
        value: value.to_string(),
        allowed,
    };
    if let Some(class) = &written.class {
        options.priority =
            class_named(class).ok_or_else(|| wrong("class", class, "realtime, interactive, bulk"))?.into();
    }
    if let Some(number) = written.priority {
        options.priority = Priority::new(number).ok_or_else(|| wrong("priority", &number, "0 to 7"))?;
    }
    if let Some(number) = written.weight {
        options.weight = Weight::new(number).ok_or_else(|| wrong("weight", &number, "1 to 64"))?;
    }
    options.rate_min = written.rate_min_bytes_per_s.or(options.rate_min);
    options.rate_max = written.rate_max_bytes_per_s.or(options.rate_max);
    options.deadline = written.deadline_ms.map(Duration::from_millis).or(options.deadline);
    options.queue_bytes_max = written.queue_bytes_max.unwrap_or(options.queue_bytes_max);
    if let Some(choice) = &written.fec {
        fec = fec_named(choice).ok_or_else(|| wrong("fec", choice, "off, auto, at-least-light"))?;
    }
    let policy = Policy { name, options, fec };
    policy.check()?;
    Ok(policy)
}

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

/// A policy as [`from_toml`] reads it.
#[must_use]
pub fn to_toml(policy: &Policy) -> String {
    let StreamOptions { priority, weight, rate_min, rate_max, deadline, queue_bytes_max } = policy.options;
    let fec = match policy.fec {
        FecChoice::Off => "off",
        FecChoice::Auto => "auto",
        FecChoice::AtLeastLight => "at-least-light",
    };
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
    fn mistakes_name_the_policy_and_what_is_allowed() {
        for (text, part) in [
            ("[x]\nclass = \"fast\"", "realtime, interactive, bulk"),
            ("[x]\npriority = 8", "0 to 7"),
            ("[x]\nweight = 0", "1 to 64"),
            ("[x]\nfec = \"yes\"", "at-least-light"),
            ("[x]\npreset = \"gamimg\"", "gaming-input"),
            ("[x]\nspeed = 1", "unknown field `speed`"),
            ("[x]\nrate_max_bytes_per_s = 0", "rate_max is 0"),
            ("[\"a b\"]\nweight = 1", "no name for a policy"),
        ] {
            let why = from_toml(text).unwrap_err().to_string();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
