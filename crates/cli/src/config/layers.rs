//! Lays the layers over one another and remembers which one each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::schema::{self, KEYS, Key};
use super::{Config, Problem, ProblemKind, file};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Built in.
    Default,
    /// A preset chosen with `node.preset`.
    Preset(String),
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// `--set` on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// What the layers are made of. Given as values, so that tests need no process environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    /// The configuration file; it need not exist.
    pub(crate) file: PathBuf,
    /// The environment: names and values.
    pub(crate) environment: Vec<(String, String)>,
    /// `--set` arguments, `section.key=value`.
    pub(crate) assignments: Vec<String>,
}

/// The outcome: the configuration, and every key with its value and origin.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) config: Config,
    values: BTreeMap<&'static str, (Value, Origin)>,
    /// The file it was read from, whether or not it exists.
    pub(crate) file: PathBuf,
}

impl Resolved {
    /// Every key with its value and where that came from, in the order of the schema.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'static Key, &Value, &Origin)> {
        KEYS.iter().filter_map(|key| self.values.get(key.name).map(|(value, origin)| (key, value, origin)))
    }
}

/// Reads all layers.
///
/// # Errors
/// Everything that is wrong, not just the first thing, so that a person fixes a file in one go.
pub(crate) fn resolve(sources: &Sources) -> Result<Resolved, Vec<Problem>> {
    let (mut given, mut problems) = file::read(&sources.file);
    for layer in [from_environment(&sources.environment), from_assignments(&sources.assignments)] {
        given.extend(layer.0);
        problems.extend(layer.1);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut values = defaults();
    let chosen = given.iter().rev().find(|(key, ..)| key.name == "node.preset");
    if let Some(name) = chosen.and_then(|(_, value, _)| value.as_str()) {
        for (key, value) in schema::preset(name) {
            values.insert(key, (value, Origin::Preset(name.to_owned())));
        }
    }
    for (key, value, origin) in given {
        values.insert(key.name, (value, origin));
    }
    let config = build(&values).map_err(|why| {
        vec![Problem { origin: Origin::Default, kind: ProblemKind::Syntax(why.to_string()) }]
    })?;
    if let Some(why) = config.metrics.refusal()
        && let (Ok(key), Some((value, origin))) = (find_key("metrics.listen"), values.get("metrics.listen"))
    {
        return Err(vec![Problem::value(origin.clone(), key, value.to_string(), why)]);
    }
    Ok(Resolved { config, values, file: sources.file.clone() })
}

fn defaults() -> BTreeMap<&'static str, (Value, Origin)> {
    let tree = serde_json::to_value(Config::default()).unwrap_or_default();
    KEYS.iter()
        .filter_map(|key| {
            let value = tree.get(key.section())?.get(key.leaf())?.clone();
            Some((key.name, (value, Origin::Default)))
        })
        .collect()
}

fn build(values: &BTreeMap<&'static str, (Value, Origin)>) -> serde_json::Result<Config> {
    let mut tree = Map::new();
    for key in KEYS {
        if let Some((value, _)) = values.get(key.name)
            && let Value::Object(section) =
                tree.entry(key.section()).or_insert_with(|| Value::Object(Map::new()))
        {
            section.insert(key.leaf().to_owned(), value.clone());
        }
    }
    serde_json::from_value(Value::Object(tree))
}

type Layer = (Vec<(&'static Key, Value, Origin)>, Vec<Problem>);

/// Variables of our sections must be keys of ours. Others that begin with `HONEYLINK_` (as `HONEYLINK_HOME`) are not
/// settings and are left alone.
fn from_environment(environment: &[(String, String)]) -> Layer {
    let mut layer = Layer::default();
    for (name, text) in environment {
        let Some(rest) = name.strip_prefix("HONEYLINK_") else { continue };
        let Some((section, _)) = rest.split_once('_') else { continue };
        if !schema::sections().contains(&section.to_lowercase().as_str()) {
            continue;
        }
        let origin = Origin::Variable(name.clone());
        match KEYS.iter().find(|key| key.variable() == *name) {
            None => layer.1.push(Problem { origin, kind: ProblemKind::Variable { name: name.clone() } }),
            Some(key) => match key.kind.read(text) {
                Ok(value) => layer.0.push((key, value, origin)),
                Err(why) => layer.1.push(Problem::value(origin, key, format!("{text:?}"), why)),
            },
        }
    }
    layer
}

fn from_assignments(assignments: &[String]) -> Layer {
    let mut layer = Layer::default();
    for text in assignments {
        let origin = Origin::Flag;
        let Some((name, written)) = text.split_once('=') else {
            layer.1.push(Problem { origin, kind: ProblemKind::Assignment { text: text.clone() } });
            continue;
        };
        match find_key(name) {
            Err(kind) => layer.1.push(Problem { origin, kind }),
            Ok(key) => match key.kind.read(written) {
                Ok(value) => layer.0.push((key, value, origin)),
                Err(why) => layer.1.push(Problem::value(origin, key, format!("{written:?}"), why)),
            },
        }
    }
    layer
}

/// The key a person named as `section.key`.
///
/// # Errors
/// Which part of the name does not exist.
pub(super) fn find_key(name: &str) -> Result<&'static Key, ProblemKind> {
    if let Some(key) = schema::key(name) {
        return Ok(key);
    }
    match name.split_once('.') {
        None => Err(ProblemKind::Name { name: name.to_owned() }),
        Some((section, leaf)) if schema::sections().contains(&section) => {
            Err(ProblemKind::Key { section: section.to_owned(), leaf: leaf.to_owned() })
        }
        Some((section, _)) => Err(ProblemKind::Section { section: section.to_owned() }),
    }
}
