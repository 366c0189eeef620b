//! The house's own rules: what rustc, clippy and rustfmt cannot know.
//!
//! A rule is a pure function from the [`Tree`] of files to its findings. Each carries a canary, a tiny tree that
//! breaks it, and every run first shows each rule its canary: a rule that has gone blind fails the run.

mod arrows;
mod calls;
mod docs;
mod mask;
mod sizes;
mod tree;

use crate::house::House;
use crate::step::Verdict;
use tree::Tree;

/// One rule of the house.
struct Rule {
    name: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
    /// Files, as (path, text), that must make `check` find something.
    canary: &'static [(&'static str, &'static str)],
}

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1; 0 means the whole file.
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    [arrows::RULES, sizes::RULES, calls::RULES, docs::RULES].into_iter().flatten()
}

pub(crate) fn step(house: &House) -> Verdict {
    let tree = match Tree::read(&house.root) {
        Ok(tree) => tree,
        Err(why) => return Verdict::failed(why),
    };
    let mut report = String::new();
    for rule in rules() {
        if (rule.check)(&Tree::of(rule.canary)).is_empty() {
            report.push_str(&format!("rule `{}` no longer sees its own canary\n", rule.name));
        }
        for Finding { path, line, what } in (rule.check)(&tree) {
            let place = if line == 0 { path } else { format!("{path}:{line}") };
            report.push_str(&format!("{place}: {what} [{}]\n", rule.name));
        }
    }
    if report.is_empty() { Verdict::Passed } else { Verdict::failed(report) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_sees_its_canary() {
        for rule in rules() {
            assert!(!(rule.check)(&Tree::of(rule.canary)).is_empty(), "{}", rule.name);
        }
    }

    #[test]
    fn no_rule_fires_on_an_exemplary_crate() {
        let tree = Tree::of(&[
            ("Cargo.toml", "[workspace]\nmembers = [\"crates/core\"]\n"),
            (
                "crates/core/Cargo.toml",
                "[package]\nname = \"honeylink-core\"\n[dependencies]\nsha2 = \"1\"\n",
            ),
            ("crates/core/src/lib.rs", "//! The core.\n\npub mod time;\n"),
            (
                "crates/core/src/time.rs",
                "//! Time.\n\n/// Microseconds since start.\npub struct Time(u64);\n",
            ),
            ("README.md", "# Core\n\nSee [the core](crates/core/src/lib.rs).\n"),
        ]);
        for rule in rules() {
            assert_eq!((rule.check)(&tree), [], "{}", rule.name);
        }
    }

    #[test]
    fn rule_names_are_unique() {
        let mut names: Vec<&str> = rules().map(|rule| rule.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
