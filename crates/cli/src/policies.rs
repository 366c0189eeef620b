//! The policies of this device: the presets, and its own ones in `policies/*.toml` of the home.
//!
//! Files are read when a policy is needed, so that a change of one counts from the next command on. What is wrong in any of
//! them is an error that names file, line and key: a policy that silently does nothing would be found out much too late.

use std::fmt;
use std::path::{Path, PathBuf};

use honeylink::policy::{self, Policy, Preset};
use honeylink::store::home::HomeLayout;
use honeylink_api::{ErrorBody, ErrorCode};
use serde_json::Value;

use crate::config::{Config, Origin, Problem, Resolved, meant};
use crate::failure::Failure;

/// Files that are read at most; somebody who has more has put something else there.
const FILES_MAX: usize = 64;
/// The largest file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A policy and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) policy: Policy,
    /// Its file; `None` for a preset.
    pub(crate) file: Option<PathBuf>,
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    file: PathBuf,
    line: Option<usize>,
    why: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.why)
    }
}

/// Every policy there is, by name: presets first.
#[derive(Clone, Debug)]
pub(crate) struct Book(Vec<Known>);

impl Book {
    /// Reads the policies of a home.
    ///
    /// # Errors
    /// Everything that is wrong in its files, not just the first thing.
    pub(crate) fn read(home: &HomeLayout) -> Result<Self, Vec<Wrong>> {
        let mut known = presets();
        let mut problems = Vec::new();
        for file in files(&home.policies()).map_err(|wrong| vec![wrong])? {
            match read_file(&file) {
                Err(wrong) => problems.push(wrong),
                Ok(policies) => {
                    for policy in policies {
                        match known.iter().find(|other| other.policy.name == policy.name) {
                            Some(other) => problems.push(taken(&file, &policy.name, other)),
                            None => known.push(Known { policy, file: Some(file.clone()) }),
                        }
                    }
                }
            }
        }
        if problems.is_empty() { Ok(Self(known)) } else { Err(problems) }
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Known] {
        &self.0
    }

    /// The policy of that name.
    ///
    /// # Errors
    /// A sentence that names those there are.
    pub(crate) fn find(&self, name: &str) -> Result<&Known, ErrorBody> {
        self.0.iter().find(|known| known.policy.name == name).ok_or_else(|| {
            ErrorBody::new(ErrorCode::NotFound, format!("no policy is called {name:?}{}", self.others(name)))
                .with_hint("honeylink policy list shows them; honeylink policy path says where own ones go")
        })
    }

    fn others(&self, name: &str) -> String {
        let names: Vec<&str> = self.0.iter().map(|known| known.policy.name.as_str()).collect();
        format!("{}; there are {}", meant(name, &names), names.join(", "))
    }

    /// The settings that name a policy which there is not.
    pub(crate) fn missing(&self, resolved: &Resolved) -> Vec<Problem> {
        let named = resolved.entries().filter(|(key, ..)| key.section() == "policy");
        let lost = named.filter_map(|(key, value, origin): (_, &Value, &Origin)| {
            let name = value.as_str().filter(|name| !name.is_empty())?;
            let unknown = self.find(name).is_err();
            let why = || format!("no policy is called that{}", self.others(name));
            unknown.then(|| Problem::value(origin.clone(), key, format!("{name:?}"), why()))
        });
        lost.collect()
    }
}

/// The policies of a home, if they and the settings that name them are in order.
pub(crate) fn ready(home: &HomeLayout, resolved: &Resolved) -> Result<Book, Failure> {
    let book = Book::read(home).map_err(|wrong| broken(&wrong))?;
    let missing = book.missing(resolved);
    if missing.is_empty() { Ok(book) } else { Err(crate::app::wrong_config(&missing)) }
}

fn presets() -> Vec<Known> {
    Preset::ALL.into_iter().map(|preset| Known { policy: preset.policy(), file: None }).collect()
}

/// What is wrong in files, as one error.
pub(crate) fn broken(wrong: &[Wrong]) -> ErrorBody {
    let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    ErrorBody::new(ErrorCode::Config, lines.join("\n")).with_hint("check again with: honeylink policy check")
}

/// The policy a verb sends by unless told otherwise; empty if none.
pub(crate) fn default_of<'a>(config: &'a Config, verb: &str) -> &'a str {
    match verb {
        "send" => &config.policy.send,
        "pipe" => &config.policy.pipe,
        "chat" => &config.policy.chat,
        _ => "",
    }
}

/// The verbs that send by policies.
pub(crate) const VERBS: [&str; 3] = ["send", "pipe", "chat"];

/// The policies of one file.
fn read_file(file: &Path) -> Result<Vec<Policy>, Wrong> {
    let wrong = |line, why: String| Wrong { file: file.to_owned(), line, why };
    let io = |error: std::io::Error| wrong(None, error.to_string());
    let size = std::fs::metadata(file).map_err(io)?.len();
    if size > FILE_BYTES_MAX {
        return Err(wrong(None, format!("{size} bytes; a file of policies has at most {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(file).map_err(io)?;
    policy::from_toml(&text).map_err(|error| wrong(Some(error.line), error.what.to_string()))
}

/// Everything that would be wrong with a file if it were one of this device's; the names of its policies if nothing is.
pub(crate) fn check_file(file: &Path) -> Result<Vec<String>, Vec<Wrong>> {
    let policies = read_file(file).map_err(|wrong| vec![wrong])?;
    let presets = presets();
    let mut problems = Vec::new();
    for policy in &policies {
        let other = presets.iter().find(|other| other.policy.name == policy.name);
        problems.extend(other.map(|other| taken(file, &policy.name, other)));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(policies.into_iter().map(|policy| policy.name).collect())
}

/// The files of policies in a folder, by name. A folder that is not there has none.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Wrong> {
    let wrong = |why: String| Wrong { file: folder.to_owned(), line: None, why };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| wrong(error.to_string()))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| wrong(error.to_string()))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(wrong(format!("more than {FILES_MAX} files of policies")));
        }
    }
    files.sort();
    Ok(files)
}

fn taken(file: &Path, name: &str, other: &Known) -> Wrong {
    let whose = other
        .file
        .as_ref()
        .map_or_else(|| "a preset".to_owned(), |other| format!("one in {}", other.display()));
    Wrong {
        file: file.to_owned(),
        line: None,
        why: format!("policy `{name}`: {whose} is called that already; give it another name"),
    }
}

/// A policy in the API's words.
pub(crate) fn describe(known: &Known, config: &Config) -> honeylink_api::Policy {
    let Known { policy, file } = known;
    let options = policy.options;
    let by_default = VERBS.into_iter().filter(|verb| default_of(config, verb) == policy.name);
    honeylink_api::Policy {
        name: policy.name.clone(),
        from: file.as_ref().map_or_else(|| "preset".to_owned(), |file| file.display().to_string()),
        class: crate::daemon::class_name(options.priority.class()).to_owned(),
        priority: options.priority.as_u8(),
        weight: options.weight.as_u8(),
        rate_min_bytes_per_s: options.rate_min,
        rate_max_bytes_per_s: options.rate_max,
        deadline_ms: options.deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        queue_bytes_max: options.queue_bytes_max,
        fec: policy::fec_name(policy.fec).to_owned(),
        default_of: by_default.map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_with(files: &[(&str, &str)]) -> (tempfile::TempDir, HomeLayout) {
        let dir = tempfile::tempdir().unwrap();
        let home = HomeLayout::new(dir.path());
        std::fs::create_dir_all(home.policies()).unwrap();
        for (name, text) in files {
            std::fs::write(home.policies().join(name), text).unwrap();
        }
        (dir, home)
    }

    #[test]
    fn presets_and_own_policies_are_found_by_name() {
        let (_dir, home) = home_with(&[
            ("film.toml", "[film]\npreset = \"media-8k\"\n"),
            (".swap.toml", "[[["),
            ("notes.txt", "none"),
        ]);
        let book = Book::read(&home).unwrap();
        assert_eq!(book.all().len(), Preset::ALL.len() + 1);
        assert_eq!(book.find("film").unwrap().file, Some(home.policies().join("film.toml")));
        assert!(book.find("gaming-input").unwrap().file.is_none());
        let unknown = book.find("flim").unwrap_err();
        assert_eq!(unknown.code, ErrorCode::NotFound);
        assert!(unknown.message.contains("did you mean \"film\"") && unknown.message.contains("iot"));
    }

    #[test]
    fn everything_wrong_in_all_files_is_named_at_once_with_file_and_line() {
        let (_dir, home) = home_with(&[
            ("a.toml", "[one]\nweight = 99\n"),
            ("b.toml", "[file]\n"),
            ("c.toml", "[two]\n"),
            ("d.toml", "[two]\n"),
        ]);
        let wrong = Book::read(&home).unwrap_err();
        let said: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains("a.toml:2: policy `one`: weight = 99") && said[0].contains("1 to 64"));
        assert!(said[1].contains("b.toml") && said[1].contains("a preset is called that"));
        assert!(said[2].contains("d.toml") && said[2].contains("c.toml"));
    }

    #[test]
    fn a_home_without_the_folder_has_the_presets() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Book::read(&HomeLayout::new(dir.path())).unwrap().all().len(), Preset::ALL.len());
    }
}
