//! The files that the rules look at: read from disk for a run, written down inline for a canary or a test.

use std::fs;
use std::path::Path;

use super::mask::{mask, without_test_items};

/// Folders that hold nothing of ours to check. `node_modules` and `dist` belong to the web page's own tools.
const LEFT_OUT: &[&str] = &[
    "target",
    ".git",
    ".idea",
    ".vscode",
    "node_modules",
    "dist",
    "artifacts",
    "corpus",
    "proptest-regressions",
];
/// Files whose text some rule reads; of all others only the path counts.
const TEXT: &[&str] = &["rs", "toml", "md", "yml", "yaml", "sh", "service", "ts", "tsx"];

/// Every file of the repository, by path relative to its root, in order.
pub(super) struct Tree {
    pub(super) files: Vec<File>,
}

/// One file.
pub(super) struct File {
    /// Relative to the root, with `/` between parts.
    pub(super) path: String,
    /// Empty for binary and foreign files.
    pub(super) text: String,
    /// The text with comments and literals masked; empty unless it is Rust.
    pub(super) code: String,
    /// `code` without `#[cfg(test)]` items; empty for a test file.
    pub(super) product: String,
}

impl Tree {
    /// Reads the repository at `root`.
    pub(super) fn read(root: &Path) -> Result<Self, String> {
        let mut files = Vec::new();
        walk(root, "", &mut files).map_err(|error| format!("cannot read the tree: {error}"))?;
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Self { files })
    }

    /// A tree that exists only in memory.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(path, text)| File::new((*path).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.ending(".rs")
    }

    pub(super) fn ending(&self, end: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether `path` is a file, or a folder with something in it.
    pub(super) fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let inside = |file: &File| {
            file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        path.is_empty() || self.files.iter().any(inside)
    }
}

impl File {
    fn new(path: String, text: String) -> Self {
        let code = if path.ends_with(".rs") { mask(&text) } else { String::new() };
        let product = if is_test(&path) { String::new() } else { without_test_items(&code) };
        Self { path, text, code, product }
    }

    /// The code of this file that only tests run: all of a test file, the `#[cfg(test)]` items of any other.
    pub(super) fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let product: Vec<&str> = self.product.lines().collect();
        let of_test = move |index: usize, line: &str| product.get(index).is_none_or(|kept| *kept != line);
        numbered(&self.code).filter(move |(number, line)| of_test(number - 1, line))
    }

    /// Whether the file belongs to one of the crates that others build on.
    pub(super) fn in_library(&self) -> bool {
        ["crates/core/src/", "crates/honeylink/src/", "crates/api/src/"]
            .iter()
            .any(|home| self.path.starts_with(home))
    }

    pub(super) fn in_core(&self) -> bool {
        self.path.starts_with("crates/core/src/")
    }
}

/// The lines of `text` with their numbers, counted from 1.
pub(super) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether `word` occurs in `code` as a whole identifier.
pub(super) fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

fn is_test(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    // `xtask/src/tests.rs` is the test step; a module of tests has a folder of its own or sits beside its subject.
    let test_file = (name == "tests.rs" || name.ends_with("_tests.rs")) && path != "xtask/src/tests.rs";
    test_file || parts.iter().any(|part| ["tests", "benches", "examples"].contains(part))
}

fn walk(root: &Path, folder: &str, files: &mut Vec<File>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && !LEFT_OUT.contains(&name.as_str()) {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            let ours = TEXT.iter().any(|end| name.rsplit_once('.').is_some_and(|(_, found)| found == *end));
            let text = if ours { fs::read_to_string(entry.path())? } else { String::new() };
            files.push(File::new(path, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        assert!(has_word("a::Instant::now()", "Instant"));
        assert!(!has_word("Instantly MyInstant", "Instant"));
    }

    #[test]
    fn a_folder_exists_when_something_is_in_it() {
        let tree = Tree::of(&[("docs/wire.md", "")]);
        assert!(tree.has("docs") && tree.has("docs/") && tree.has("docs/wire.md"));
        assert!(!tree.has("doc") && !tree.has("docs/wire"));
    }

    #[test]
    fn test_code_is_told_from_product_code() {
        let tree = Tree::of(&[
            ("crates/core/src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n"),
            ("crates/core/tests/c.rs", "fn c() {}\n"),
        ]);
        let tests_of =
            |index: usize| tree.files[index].test_lines().map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!(tests_of(0), [2, 3, 4, 5]);
        assert_eq!(tests_of(1), [1]);
        assert!(tree.files[0].product.contains("fn a") && !tree.files[0].product.contains("fn b"));
    }
}
