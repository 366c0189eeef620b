//! Documents that tell the truth: every file says what it is for, every link leads somewhere, nothing is put off.

use std::collections::BTreeSet;

use super::tree::{File, Tree, numbered};
use super::{Finding, Rule};

/// Words for work put off. In two halves, or this file would break its own rule.
const PUT_OFF: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Where a path in backquotes begins when it means a file of this repository.
const OUR_FOLDERS: &[&str] =
    &["crates/", "docs/", "xtask/", "fuzz/", "rivals/", "packaging/", "scenarios/", ".ci/", ".github/"];

const THREATS: &str = "docs/threat-model.md";

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "file-doc",
        check: file_docs,
        canary: &[("crates/core/src/time.rs", "pub struct Time(u64);\n")],
    },
    Rule { name: "live-link", check: links, canary: &[("docs/a.md", "See [b](b.md).\n")] },
    Rule {
        name: "live-path",
        check: paths,
        canary: &[("ARCHITECTURE.md", "It is in `crates/core/src/gone.rs`.\n")],
    },
    Rule {
        name: "threat-number",
        check: threat_numbers,
        canary: &[(THREATS, "| T1 | one | a | b |\n| T2 | two | a | b |\n| T1 | another | a | b |\n")],
    },
    Rule { name: "nothing-put-off", check: put_off, canary: &[("a.rs", concat!("// TO", "DO: later\n"))] },
];

fn file_docs(tree: &Tree) -> Vec<Finding> {
    let silent = tree.rust().filter(|file| !file.text.starts_with("//!"));
    silent
        .map(|file| Finding::new(&file.path, 1, "begin with `//!`: what the file is for and where it sits"))
        .collect()
}

fn put_off(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (line, text) in numbered(&file.text) {
            if let Some(word) = PUT_OFF.iter().find(|word| text.contains(**word)) {
                findings.push(Finding::new(&file.path, line, format!("{word}: do it, or open an issue")));
            }
        }
    }
    findings
}

/// Others speak of a threat by its number, so that stands for one threat.
fn threat_numbers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.ending(".md").filter(|file| file.path == THREATS) {
        let mut seen = BTreeSet::new();
        for (line, text) in prose(file) {
            let number = text.strip_prefix("| T").and_then(|rest| rest.split(' ').next());
            if let Some(number) = number.filter(|number| number.parse::<u32>().is_ok())
                && !seen.insert(number.to_owned())
            {
                findings.push(Finding::new(&file.path, line, format!("T{number} is another threat already")));
            }
        }
    }
    findings
}

fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.ending(".md") {
        for (line, text) in prose(file) {
            for target in link_targets(text) {
                let path = target.split('#').next().unwrap_or_default();
                let abroad = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
                if !abroad && !resolve(&file.path, path).is_some_and(|path| tree.has(&path)) {
                    findings.push(Finding::new(
                        &file.path,
                        line,
                        format!("link to `{target}`, which does not exist"),
                    ));
                }
            }
        }
    }
    findings
}

/// The targets of `[text](target)` in a line.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, open)| {
        let rest = &line[at + open.len()..];
        // A title may follow the target: `(path "title")`.
        rest[..rest.find(')')?].split_whitespace().next()
    })
}

/// `target` as seen from the folder of `from`; `None` if it leaves the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Paths in backquotes, and what they name in the file: `path/file.rs::name`. Not in the change log, which may speak of
/// files that are gone.
fn paths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.ending(".md").filter(|file| file.path != "CHANGELOG.md") {
        for (line, text) in prose(file) {
            for quoted in text.split('`').skip(1).step_by(2) {
                let ours = OUR_FOLDERS.iter().any(|folder| quoted.starts_with(folder));
                let pattern = quoted.contains(['*', '<', '{', ' ', '$']);
                if ours && !pattern && !exists(tree, quoted) {
                    findings.push(Finding::new(&file.path, line, format!("`{quoted}` does not exist")));
                }
            }
        }
    }
    findings
}

/// Whether `path`, or the item in it that `path::item` names, is there. A document that claims "this test shows it" is
/// held to the test's name.
fn exists(tree: &Tree, quoted: &str) -> bool {
    let Some((path, item)) = quoted.split_once("::") else {
        return tree.has(quoted);
    };
    let name = item.rsplit("::").next().unwrap_or(item);
    let defines = |text: &str| {
        ["fn", "struct", "enum", "const", "static", "mod"].iter().any(|kind| {
            text.match_indices(&format!("{kind} {name}")).any(|(at, found)| {
                !text[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
            })
        })
    };
    tree.files.iter().any(|file| file.path == path && defines(&file.text))
}

/// The lines of a document outside its fenced code.
fn prose(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    numbered(&file.text).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_resolve_from_their_own_folder() {
        let text = "[a](../README.md#top) [b](https://x.example/y) [c](wire.md \"Wire\") [d](#here)\n```\n[e](gone.md)\n```\n";
        let tree = Tree::of(&[("README.md", ""), ("docs/wire.md", ""), ("docs/a.md", text)]);
        assert_eq!(links(&tree), []);
        let up = Tree::of(&[("a.md", "[out](../other/file.md)")]);
        assert_eq!(links(&up).len(), 1);
    }

    #[test]
    fn quoted_paths_must_exist_unless_they_are_patterns() {
        let text = "`crates/core` and `crates/*/tests` and `docs/<name>.md`, `cargo xtask check`\n";
        assert_eq!(paths(&Tree::of(&[("crates/core/Cargo.toml", ""), ("A.md", text)])), []);
    }

    #[test]
    fn an_item_named_in_a_file_must_be_in_it() {
        let text =
            "`crates/a.rs::it_works`, `crates/a.rs::it_work`, `crates/a.rs::gone`, `crates/b.rs::it_works`\n";
        let tree = Tree::of(&[("crates/a.rs", "//! A.\nfn it_works() {}\n"), ("A.md", text)]);
        assert_eq!(paths(&tree).len(), 3);
    }

    #[test]
    fn a_file_may_not_begin_with_code() {
        assert_eq!(file_docs(&Tree::of(&[("a.rs", "//! A.\nfn a() {}"), ("b.rs", "// B.\n")])).len(), 1);
    }
}
