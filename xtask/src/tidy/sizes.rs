//! How long files and functions may get, counted in lines of code: no comments, no blank lines, no tests.
//!
//! What is over a limit stands in `xtask/tidy-ratchet.toml` with its exact size. An entry must be lowered when its
//! subject shrinks and go when it fits, so the list can only get shorter.

use std::collections::BTreeMap;

use super::mask::block_end;
use super::tree::{File, Tree};
use super::{Finding, Rule};

const FILE_LINES_MAX: usize = 500;
const TEST_FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 90;
const ARCHITECTURE_LINES_MAX: usize = 400;

const RATCHET: &str = "xtask/tidy-ratchet.toml";

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "size",
        check: sizes,
        canary: &[("xtask/tidy-ratchet.toml", "\"crates/core/src/gone.rs\" = 700"), ("a.rs", "fn a() {}")],
    },
    Rule { name: "short-architecture", check: architecture, canary: &[("ARCHITECTURE.md", LONG)] },
];

/// A text of 512 lines, for the canary.
const LONG: &str = {
    const BYTES: [u8; 512] = [b'\n'; 512];
    match std::str::from_utf8(&BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

fn sizes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut allowed = match ratchet(tree) {
        Ok(allowed) => allowed,
        Err(why) => return vec![Finding::new(RATCHET, 0, why)],
    };
    for file in tree.rust() {
        for Measured { name, line, size, max } in measure(file) {
            match allowed.remove(&name) {
                None if size > max => {
                    findings.push(Finding::new(
                        &file.path,
                        line,
                        format!("{size} lines of code, at most {max}: split it"),
                    ));
                }
                Some(bar) if size > bar => {
                    let what = format!("grew to {size} lines of code; the ratchet holds it at {bar}");
                    findings.push(Finding::new(&file.path, line, what));
                }
                Some(_) if size <= max => {
                    findings.push(Finding::new(RATCHET, 0, format!("`{name}` fits now: delete its entry")));
                }
                Some(bar) if size < bar => {
                    findings.push(Finding::new(
                        RATCHET,
                        0,
                        format!("`{name}` shrank: lower its entry to {size}"),
                    ));
                }
                _ => {}
            }
        }
    }
    let stale = allowed
        .into_keys()
        .map(|name| Finding::new(RATCHET, 0, format!("`{name}` is gone: delete its entry")));
    findings.extend(stale);
    findings
}

fn ratchet(tree: &Tree) -> Result<BTreeMap<String, usize>, String> {
    let Some(file) = tree.file(RATCHET) else { return Ok(BTreeMap::new()) };
    toml::from_str(&file.text).map_err(|error| error.to_string())
}

/// The size of a file, or of a function in it.
struct Measured {
    /// `path` for a file, `path::function` for a function: the key in the ratchet.
    name: String,
    line: usize,
    size: usize,
    max: usize,
}

fn measure(file: &File) -> Vec<Measured> {
    let is_test = file.product.is_empty();
    let (text, max) =
        if is_test { (&file.code, TEST_FILE_LINES_MAX) } else { (&file.product, FILE_LINES_MAX) };
    let mut all = vec![Measured { name: file.path.clone(), line: 0, size: lines_of_code(text), max }];
    all.extend(functions(&file.product).map(|(name, line, size)| Measured {
        name: format!("{}::{name}", file.path),
        line,
        size,
        max: FUNCTION_LINES_MAX,
    }));
    all
}

fn lines_of_code(masked: &str) -> usize {
    masked.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The functions with a body in masked `code`: name, line, lines of code from `fn` to the closing brace.
fn functions(code: &str) -> impl Iterator<Item = (&str, usize, usize)> {
    code.match_indices("fn ").filter_map(move |(at, word)| {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let rest = &code[at + word.len()..];
        let name = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_')?];
        let open = rest.find(['{', ';'])?;
        if name.is_empty() || rest.as_bytes()[open] == b';' {
            return None;
        }
        let end = at + word.len() + open + block_end(&rest[open..]);
        Some((name, 1 + code[..at].matches('\n').count(), lines_of_code(&code[at..end])))
    })
}

fn architecture(tree: &Tree) -> Vec<Finding> {
    let Some(file) = tree.file("ARCHITECTURE.md") else { return Vec::new() };
    let lines = file.text.lines().count();
    if lines < ARCHITECTURE_LINES_MAX {
        return Vec::new();
    }
    vec![Finding::new(
        &file.path,
        0,
        format!("{lines} lines; it is read in one sitting only below {ARCHITECTURE_LINES_MAX}"),
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(lines: usize) -> String {
        "let x = 1;\n".repeat(lines)
    }

    #[test]
    fn a_long_file_is_found_and_comments_and_tests_do_not_count() {
        let long = code(FILE_LINES_MAX + 1);
        let padded = format!(
            "{}{}#[cfg(test)]\nmod tests {{\n{}}}\n",
            code(FILE_LINES_MAX),
            "// why\n\n".repeat(300),
            code(300)
        );
        let found = sizes(&Tree::of(&[("a.rs", &long), ("b.rs", &padded)]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "a.rs");
    }

    #[test]
    fn a_long_function_is_found_at_its_line() {
        let text = format!("//! Doc.\nfn short() {{}}\nfn long() {{\n{}}}\n", code(FUNCTION_LINES_MAX));
        let found = sizes(&Tree::of(&[("a.rs", &text)]));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn the_ratchet_tolerates_the_exact_size_only() {
        let long = code(FILE_LINES_MAX + 10);
        let with = |bar: usize| {
            let entry = format!("\"a.rs\" = {bar}");
            sizes(&Tree::of(&[("a.rs", &long), (RATCHET, &entry)]))
        };
        assert_eq!(with(FILE_LINES_MAX + 10), []);
        assert!(with(FILE_LINES_MAX + 9)[0].what.contains("grew"));
        assert!(with(FILE_LINES_MAX + 11)[0].what.contains("lower"));
    }

    #[test]
    fn a_ratchet_entry_that_is_not_needed_must_go() {
        let found = sizes(&Tree::of(&[("a.rs", "fn a() {}"), (RATCHET, "\"a.rs\" = 600\n\"b.rs\" = 600")]));
        let words: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(words, ["`a.rs` fits now: delete its entry", "`b.rs` is gone: delete its entry"]);
    }
}
