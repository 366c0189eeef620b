//! Calls and names that the house does without.

use super::tree::{File, Tree, has_word, numbered};
use super::{Finding, Rule};

/// What would let the core see the world, and what to use instead. Clippy bans the same calls by type
/// (`crates/core/clippy.toml`); here also imports and signatures are found, on every platform.
const NOT_IN_CORE: &[(&str, &str)] = &[
    ("Instant", "take a `Time`"),
    ("SystemTime", "wall time enters as data"),
    ("UdpSocket", "carriers live in the honeylink crate"),
    ("TcpStream", "carriers live in the honeylink crate"),
    ("TcpListener", "carriers live in the honeylink crate"),
    ("UnixStream", "carriers live in the honeylink crate"),
    ("tokio", "machines are driven by the caller"),
    ("thread_rng", "take an `Rng`"),
    ("OsRng", "take an `Rng`"),
    ("getrandom", "take an `Rng`"),
    ("HashMap", "its order differs from run to run: use BTreeMap"),
    ("HashSet", "its order differs from run to run: use BTreeSet"),
    ("RandomState", "it differs from run to run"),
    ("std::fs", "the disk lives in the honeylink crate"),
    ("std::env", "settings are arguments"),
    ("std::thread", "machines are driven by the caller"),
    ("std::process", "machines are driven by the caller"),
];

const PRINTS: &[&str] = &["println!", "print!", "eprintln!", "eprint!"];

/// Said in a comment on the line of a test's sleep or the line before, with a reason, it allows that sleep.
const SLEEP_EXCUSE: &str = "// tidy: sleep because ";

/// Said in a comment on the line before, with a reason, it allows a `select!` that draws its order.
const FAIR_EXCUSE: &str = "// tidy: fair because ";

/// What of the library no simulation reaches, because it works with real sockets and lines.
const REAL_ONLY: &[&str] =
    &["carrier/serial", "carrier/tcp", "discovery/knock.rs", "discovery/mdns.rs", "testing/modem"];

/// Names that say nothing about what a thing does.
const EMPTY_TYPE_NAMES: &[&str] = &["Manager", "Helper"];
const EMPTY_MODULE_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "misc", "common"];

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "pure-core",
        check: pure_core,
        canary: &[("crates/core/src/time.rs", "//! Time.\nfn now() { std::time::Instant::now(); }\n")],
    },
    Rule {
        name: "silent-library",
        check: silent_library,
        canary: &[("crates/honeylink/src/node.rs", "//! Node.\nfn f() { println!(\"x\"); }\n")],
    },
    Rule {
        name: "no-sleeping-test",
        check: sleeping_tests,
        canary: &[("crates/cli/tests/up.rs", "//! Up.\nasync fn f() { tokio::time::sleep(D).await; }\n")],
    },
    Rule {
        name: "ordered-select",
        check: selects,
        canary: &[(
            "crates/honeylink/src/node.rs",
            "//! Node.\nasync fn f() {\n    tokio::select! {\n        () = a => {}\n    }\n}\n",
        )],
    },
    Rule {
        name: "name",
        check: names,
        canary: &[("crates/honeylink/src/node.rs", "//! Node.\nstruct LinkManager;\nfn get_link() {}\n")],
    },
];

fn pure_core(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| file.in_core()) {
        for (line, text) in numbered(&file.product) {
            for (word, instead) in NOT_IN_CORE.iter().filter(|(word, _)| has_word(text, word)) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("`{word}` in the pure core: {instead}"),
                ));
            }
        }
    }
    findings
}

fn silent_library(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| file.in_library()) {
        for (line, text) in numbered(&file.product) {
            if let Some(call) = PRINTS.iter().find(|call| has_macro(text, call)) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("`{call}` in a library: use tracing or an event"),
                ));
            }
        }
    }
    findings
}

fn has_macro(text: &str, call: &str) -> bool {
    has_word(text, call.trim_end_matches('!')) && text.contains(call)
}

fn sleeping_tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| file.path.starts_with("crates/")) {
        let lines: Vec<&str> = file.text.lines().collect();
        let excused = |line: usize| {
            let said = |number: usize| number.checked_sub(1).and_then(|index| lines.get(index));
            [line, line - 1].into_iter().filter_map(said).any(|text| text.contains(SLEEP_EXCUSE))
        };
        for (line, text) in file.test_lines().filter(|(_, text)| sleeps(text)) {
            if !excused(line) {
                let what = format!("`{}` in a test: await the event, or say `{SLEEP_EXCUSE}..`", text.trim());
                findings.push(Finding::new(&file.path, line, what));
            }
        }
    }
    findings
}

fn sleeps(text: &str) -> bool {
    text.contains("sleep(") && has_word(text, "sleep")
}

/// A `select!` without an order draws one from the runtime's generator, which no seed reaches: simulated runs would not
/// repeat.
fn selects(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let simulated = |file: &&File| {
        let inside = file.path.strip_prefix("crates/honeylink/src/");
        inside.is_some_and(|path| !REAL_ONLY.iter().any(|real| path.starts_with(real)))
    };
    for file in tree.rust().filter(simulated) {
        let lines: Vec<&str> = file.text.lines().collect();
        let line_at = |number: usize| number.checked_sub(1).and_then(|index| lines.get(index)).copied();
        for (line, _) in numbered(&file.product).filter(|(_, text)| text.contains("select! {")) {
            let ordered = line_at(line + 1).is_some_and(|next| next.trim() == "biased;");
            let excused = line_at(line - 1).is_some_and(|before| before.contains(FAIR_EXCUSE));
            if !ordered && !excused {
                let what = format!("`select!` without `biased;`: give it an order, or say `{FAIR_EXCUSE}..`");
                findings.push(Finding::new(&file.path, line, what));
            }
        }
    }
    findings
}

fn names(tree: &Tree) -> Vec<Finding> {
    tree.rust().flat_map(names_of).collect()
}

fn names_of(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let stem =
        file.path.trim_end_matches("/mod.rs").trim_end_matches(".rs").rsplit('/').next().unwrap_or_default();
    // Cargo itself asks for `tests/common/mod.rs` where test files share code.
    if EMPTY_MODULE_NAMES.contains(&stem) && !file.path.contains("/tests/common") {
        findings.push(Finding::new(
            &file.path,
            0,
            format!("a module called `{stem}` will collect anything: name its subject"),
        ));
    }
    for (line, text) in numbered(&file.code) {
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for pair in words.windows(2) {
            let what = match pair {
                ["fn", name] if name.starts_with("get_") => format!("`{name}`: drop the `get_`"),
                ["struct" | "enum" | "trait" | "type", name]
                    if EMPTY_TYPE_NAMES.iter().any(|part| name.contains(part)) =>
                {
                    format!("`{name}`: say what it does")
                }
                ["mod", name] if EMPTY_MODULE_NAMES.contains(name) && *name != "common" => {
                    format!("`mod {name}` will collect anything: name its subject")
                }
                _ => continue,
            };
            findings.push(Finding::new(&file.path, line, what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: &str = "crates/core/src/a.rs";
    const TEST: &str = "crates/cli/tests/a.rs";

    #[test]
    fn the_core_may_speak_of_clocks_but_not_read_one() {
        assert_eq!(pure_core(&Tree::of(&[(CORE, "//! No Instant here.\nlet s = \"HashMap\";\n")])), []);
        assert_eq!(
            pure_core(&Tree::of(&[(CORE, "use std::collections::HashMap;\nuse std::fs;\n")])).len(),
            2
        );
        assert_eq!(pure_core(&Tree::of(&[("crates/honeylink/src/a.rs", "use std::fs;\n")])), []);
    }

    #[test]
    fn the_program_may_print_and_a_library_may_not() {
        let text = "fn f() { eprintln!(\"x\"); }";
        assert_eq!(silent_library(&Tree::of(&[("crates/cli/src/a.rs", text)])), []);
        assert_eq!(silent_library(&Tree::of(&[("crates/api/src/a.rs", text)])).len(), 1);
    }

    #[test]
    fn a_test_sleeps_only_with_a_reason() {
        let bare = "std::thread::sleep(d);\n";
        assert_eq!(sleeping_tests(&Tree::of(&[(TEST, bare)])).len(), 1);
        let excused = format!("// a\n{SLEEP_EXCUSE}the kernel tells nobody\n{bare}");
        assert_eq!(sleeping_tests(&Tree::of(&[(TEST, &excused)])), []);
        assert_eq!(sleeping_tests(&Tree::of(&[("crates/cli/src/a.rs", bare)])), []);
        let tail = format!("#[cfg(test)]\nmod tests {{\n    fn f() {{\n        {bare}    }}\n}}\n");
        assert_eq!(sleeping_tests(&Tree::of(&[("crates/cli/src/a.rs", &tail)])).len(), 1);
    }

    #[test]
    fn a_select_has_an_order_or_a_reason() {
        let found = |select: &str| {
            let text = format!("async fn f() {{\n{select}        () = a => {{}}\n    }}\n}}\n");
            selects(&Tree::of(&[("crates/honeylink/src/a.rs", &text)])).len()
        };
        assert_eq!(found("    tokio::select! {\n"), 1);
        assert_eq!(found("    tokio::select! {\n        biased;\n"), 0);
        assert_eq!(found(&format!("    {FAIR_EXCUSE}it must\n    tokio::select! {{\n")), 0);
    }

    #[test]
    fn empty_names_are_found_where_they_are_defined() {
        assert_eq!(names(&Tree::of(&[("a.rs", "use tokio_util::sync; let m = TaskManager;")])), []);
        assert_eq!(
            names(&Tree::of(&[("a.rs", "pub struct TaskManager;\nmod utils;\nfn get_x() {}\n")])).len(),
            3
        );
        assert_eq!(names(&Tree::of(&[("crates/cli/src/helpers.rs", "")])).len(), 1);
    }
}
