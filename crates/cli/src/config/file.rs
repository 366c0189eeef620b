//! Reads `config.toml` with the line of every key, so that errors and origins can name it.

use std::path::Path;

use serde_json::Value;
use toml_edit::{Document, Item, TableLike};

use super::schema;
use super::{Origin, Problem, ProblemKind};

/// A value from the file: key, value, line.
pub(super) type Entry = (&'static schema::Key, Value, Origin);

/// Everything in the file: the good entries and what is wrong with the rest. A missing file is an empty one.
pub(super) fn read(path: &Path) -> (Vec<Entry>, Vec<Problem>) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return (Vec::new(), Vec::new()),
        Err(e) => {
            let origin = Origin::File { path: path.to_owned(), line: 1 };
            return (Vec::new(), vec![Problem { origin, kind: ProblemKind::Unreadable(e.to_string()) }]);
        }
    };
    parse(path, &text)
}

/// As [`read`], from text.
pub(super) fn parse(path: &Path, text: &str) -> (Vec<Entry>, Vec<Problem>) {
    let at = |span: Option<std::ops::Range<usize>>| Origin::File {
        path: path.to_owned(),
        line: span.map_or(1, |span| line_of(text, span.start)),
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(e) => {
            let why = e.message().trim().replace('\n', "; ");
            return (Vec::new(), vec![Problem { origin: at(e.span()), kind: ProblemKind::Syntax(why) }]);
        }
    };
    let mut entries = Vec::new();
    let mut problems = Vec::new();
    for (section, item) in document.as_table() {
        let origin = at(span_of(document.as_table(), section));
        if !schema::sections().contains(&section) {
            problems.push(Problem { origin, kind: ProblemKind::Section { section: section.to_owned() } });
            continue;
        }
        let Some(table) = item.as_table_like() else {
            problems.push(Problem { origin, kind: ProblemKind::NotASection { section: section.to_owned() } });
            continue;
        };
        for (leaf, item) in table.iter() {
            let origin = at(span_of(table, leaf));
            match schema::key(&format!("{section}.{leaf}")) {
                None => problems.push(Problem {
                    origin,
                    kind: ProblemKind::Key { section: section.to_owned(), leaf: leaf.to_owned() },
                }),
                Some(key) => match plain(item).filter(|value| key.kind.takes(value)) {
                    Some(value) => entries.push((key, value, origin)),
                    None => problems.push(Problem::value(origin, key, shown(item))),
                },
            }
        }
    }
    (entries, problems)
}

fn span_of(table: &dyn TableLike, key: &str) -> Option<std::ops::Range<usize>> {
    table.get_key_value(key).and_then(|(key, item)| key.span().or_else(|| item.span()))
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count()
}

/// A TOML value in the form the schema checks; `None` for kinds no key takes.
fn plain(item: &Item) -> Option<Value> {
    let value = item.as_value()?;
    value
        .as_str()
        .map(Value::from)
        .or_else(|| value.as_integer().map(Value::from))
        .or_else(|| value.as_bool().map(Value::from))
}

fn shown(item: &Item) -> String {
    let mut text = item.to_string().trim().replace('\n', " ");
    if let Some((cut, _)) = text.char_indices().nth(60) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}
