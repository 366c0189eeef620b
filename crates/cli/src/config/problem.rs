//! What is wrong in the configuration, said so that a person can fix it: where, which key, what is allowed.

use std::fmt;

use super::Origin;
use super::schema::{self, Key, Kind};

/// One thing wrong in the configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) origin: Origin,
    pub(crate) kind: ProblemKind,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// Not TOML; the parser's words.
    Syntax(String),
    /// The file cannot be read; the operating system's words.
    Unreadable(String),
    /// A section that does not exist.
    Section { section: String },
    /// A key that does not exist in a section that does.
    Key { section: String, leaf: String },
    /// An environment variable of a section, with a key that does not exist.
    Variable { name: String },
    /// A `--set` that is not `section.key=value`.
    Assignment { text: String },
    /// A name that is not `section.key`.
    Name { name: String },
    /// A section's name used as a key.
    NotASection { section: String },
    /// A value the key does not take. `shown` is empty where the reason names what is wrong.
    Value { key: &'static str, shown: String, why: String },
}

impl Problem {
    pub(crate) fn value(origin: Origin, key: &Key, shown: impl Into<String>, why: String) -> Self {
        // A list is long, and its reason names the place in it.
        let shown = if matches!(key.kind, Kind::Radios) { String::new() } else { shown.into() };
        Self { origin, kind: ProblemKind::Value { key: key.name, shown, why } }
    }

    /// The problem without its place, for when the place is the command just typed.
    pub(crate) fn bare(&self) -> String {
        self.kind.to_string()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.kind)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(why) | Self::Unreadable(why) => f.write_str(why),
            Self::Section { section } => {
                let all = schema::sections();
                write!(
                    f,
                    "unknown section [{section}]{}; sections are {}",
                    meant(section, &all),
                    all.join(", ")
                )
            }
            Self::Key { section, leaf } => {
                let all = schema::keys_of(section);
                let elsewhere = schema::KEYS.iter().find(|key| key.leaf() == leaf);
                write!(f, "unknown key {leaf:?} in [{section}]")?;
                match elsewhere {
                    Some(key) if meant(leaf, &all).is_empty() => {
                        write!(f, "; it belongs in [{}]", key.section())?;
                    }
                    Some(_) | None => f.write_str(&meant(leaf, &all))?,
                }
                write!(f, "; keys there are {}", all.join(", "))
            }
            Self::Variable { name } => {
                let all: Vec<String> = schema::KEYS.iter().map(Key::variable).collect();
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                write!(
                    f,
                    "this variable sets nothing{}; `honeylink config show --origin` lists all keys",
                    meant(name, &all)
                )
            }
            Self::Assignment { text } => {
                write!(f, "{text:?} must be section.key=value, as in --set node.name=studio")
            }
            Self::Name { name } => {
                let key = schema::KEYS.iter().find(|key| key.leaf() == name);
                let meant = key.map(|key| format!("; did you mean {:?}?", key.name)).unwrap_or_default();
                write!(f, "{name:?} is no setting: name one as section.key, as in node.name{meant}")
            }
            Self::NotASection { section } => {
                write!(f, "{section} is a section: write [{section}] and its keys below")
            }
            Self::Value { key, shown, why } if shown.is_empty() => write!(f, "{key}: {why}"),
            Self::Value { key, shown, why } => write!(f, "{key} = {shown} is not allowed; {why}"),
        }
    }
}

/// `; did you mean "..."?` if one of the words is close enough to be a slip of the finger: one edit in a short word, two
/// in a longer one (optimal string alignment, so that swapped letters count once).
pub(crate) fn meant(written: &str, words: &[&str]) -> String {
    let slips_max = if written.len() < 6 { 1 } else { 2 };
    words
        .iter()
        .map(|word| (strsim::osa_distance(&written.to_lowercase(), &word.to_lowercase()), word))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| format!("; did you mean {word:?}?"))
        .unwrap_or_default()
}
