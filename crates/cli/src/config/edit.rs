//! Changes one key of `config.toml` and nothing else: comments, order and spacing stay as the person left them.

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use toml_edit::{DocumentMut, InlineTable, Item, Table};

use super::layers::find_key;
use super::{Origin, Problem, ProblemKind, file};

/// Why the file was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// The key or the value is wrong.
    #[error("{0}")]
    Wrong(Problem),
    /// The file as it is has mistakes; changing it could hide them.
    #[error("{} has mistakes; correct them first:\n{}", file.display(), list(problems))]
    Broken {
        /// The file.
        file: PathBuf,
        /// What is wrong in it.
        problems: Vec<Problem>,
    },
    /// The file cannot be read or written.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("  {p}")).collect::<Vec<_>>().join("\n")
}

/// Sets `name` to the value written as `text`, making file and section if they are missing. Returns the value.
///
/// # Errors
/// [`EditError`]; the file is then as before.
pub(crate) fn set(path: &Path, name: &str, text: &str) -> Result<Value, EditError> {
    let key = find_key(name).map_err(wrong)?;
    let value = key
        .kind
        .read(text)
        .map_err(|why| EditError::Wrong(Problem::value(Origin::Flag, key, format!("{text:?}"), why)))?;
    let mut document = open(path)?;
    let section = document.entry(key.section()).or_insert_with(|| Item::Table(Table::new()));
    if let Some(table) = section.as_table_like_mut() {
        let mut new = toml_value(&value);
        // Replacing the item would drop a comment behind the old value: it belongs to the value in TOML's grammar.
        if let Some(old) = table.get(key.leaf()).and_then(Item::as_value) {
            *new.decor_mut() = old.decor().clone();
        }
        table.insert(key.leaf(), Item::Value(new));
    }
    write(path, &document.to_string())?;
    Ok(value)
}

/// Takes `name` out of the file, so that it has its default again. Returns whether it was there.
///
/// # Errors
/// [`EditError`]; the file is then as before.
pub(crate) fn unset(path: &Path, name: &str) -> Result<bool, EditError> {
    let key = find_key(name).map_err(wrong)?;
    let mut document = open(path)?;
    let removed = document
        .get_mut(key.section())
        .and_then(Item::as_table_like_mut)
        .and_then(|table| table.remove(key.leaf()))
        .is_some();
    if removed {
        write(path, &document.to_string())?;
    }
    Ok(removed)
}

fn wrong(kind: ProblemKind) -> EditError {
    EditError::Wrong(Problem { origin: Origin::Flag, kind })
}

fn open(path: &Path) -> Result<DocumentMut, EditError> {
    let failed = |source| EditError::Write { file: path.to_owned(), source };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(failed(e)),
    };
    let (_, problems) = file::parse(path, &text);
    if !problems.is_empty() {
        return Err(EditError::Broken { file: path.to_owned(), problems });
    }
    text.parse().map_err(|e: toml_edit::TomlError| failed(std::io::Error::other(e.message().to_owned())))
}

fn toml_value(value: &Value) -> toml_edit::Value {
    match value {
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => values.iter().map(toml_value).collect::<toml_edit::Array>().into(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name, toml_value(value))).collect::<InlineTable>().into()
        }
        // No key takes it.
        Value::Null => String::new().into(),
    }
}

/// Writes beside the file and renames over it, so that a crash leaves the old file or the new one.
fn write(path: &Path, text: &str) -> Result<(), EditError> {
    let attempt = || {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let beside = path.with_extension("toml.new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    attempt().map_err(|source| EditError::Write { file: path.to_owned(), source })
}
