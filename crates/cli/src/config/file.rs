//! Reads `config.toml` with the line of every key, so that errors and origins can name it.

use std::path::Path;

use serde_json::Value;
use toml_edit::{Document, Item, TableLike};

use super::{Origin, Problem, ProblemKind};
use super::{radio, schema};

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
                Some(key) => match plain(item)
                    .ok_or_else(|| key.kind.must())
                    .and_then(|value| key.kind.check(&value).map(|()| value))
                {
                    Ok(value) => entries.push((key, value, origin)),
                    Err(why) => {
                        let origin = place(item).map_or(origin, |span| at(Some(span)));
                        problems.push(Problem::value(origin, key, shown(item), why));
                    }
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

/// Where in a list of radios the mistake is: the field, or the table it is missing from.
fn place(item: &Item) -> Option<std::ops::Range<usize>> {
    let wrong = radio::check(&plain(item)?).err()?;
    let at = wrong.radio?;
    let tables = item.as_array_of_tables();
    let table: &dyn TableLike = match tables {
        Some(tables) => tables.get(at)?,
        None => item.as_array()?.get(at)?.as_inline_table()?,
    };
    let field = wrong.field.and_then(|field| span_of(table, &field));
    field.or_else(|| tables?.get(at)?.span())
}

/// A TOML value in the form the schema checks; `None` for kinds no key takes.
fn plain(item: &Item) -> Option<Value> {
    match item {
        Item::None => None,
        Item::Value(value) => plain_value(value),
        Item::Table(table) => plain_table(table),
        Item::ArrayOfTables(tables) => {
            tables.iter().map(|table| plain_table(table)).collect::<Option<Vec<_>>>().map(Value::from)
        }
    }
}

fn plain_value(value: &toml_edit::Value) -> Option<Value> {
    use toml_edit::Value as Toml;
    match value {
        Toml::String(text) => Some(Value::from(text.value().as_str())),
        Toml::Integer(number) => Some(Value::from(*number.value())),
        Toml::Float(number) => Some(Value::from(*number.value())),
        Toml::Boolean(flag) => Some(Value::from(*flag.value())),
        Toml::Datetime(_) => None,
        Toml::Array(values) => values.iter().map(plain_value).collect::<Option<Vec<_>>>().map(Value::from),
        Toml::InlineTable(table) => plain_table(table),
    }
}

fn plain_table(table: &dyn TableLike) -> Option<Value> {
    let fields = table.iter().map(|(name, item)| Some((name.to_owned(), plain(item)?)));
    fields.collect::<Option<serde_json::Map<_, _>>>().map(Value::Object)
}

/// A value written as in the file, without its key.
pub(super) fn value(text: &str) -> Option<Value> {
    plain_value(&text.trim().parse().ok()?)
}

fn shown(item: &Item) -> String {
    let mut text = item.to_string().trim().replace('\n', " ");
    if let Some((cut, _)) = text.char_indices().nth(60) {
        text.truncate(cut);
        text.push_str("...");
    }
    text
}
