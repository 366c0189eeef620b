//! Who may depend on whom: between crates by their manifests, between the core's modules by their paths.

use super::tree::{File, Tree, numbered};
use super::{Finding, Rule};

/// Each crate of the house and the crates of the house it may name. Tests obey the same arrows.
const CRATES: &[(&str, &[&str])] = &[
    ("honeylink-core", &[]),
    ("honeylink-sim", &["honeylink-core"]),
    // Not the API: the daemon maps the node's events to API types.
    // The simulator only with the feature `testing`, see `IN_PRODUCT`.
    ("honeylink", &["honeylink-core", "honeylink-sim"]),
    ("honeylink-api", &[]),
    ("honeylink-cli", &["honeylink", "honeylink-api", "honeylink-sim"]),
    ("honeylink-lab", &["honeylink-core", "honeylink", "honeylink-sim"]),
    // Only tests, against implementations written in C: no product build reaches it.
    ("honeylink-interop", &["honeylink-core", "honeylink"]),
    ("honeylink-fuzz", &["honeylink-core", "honeylink"]),
    // What the product is measured against. It brings C.
    ("honeylink-rivals", &[]),
    ("xtask", &[]),
];

/// What the pure core must not see: runtimes, sockets, disks, clocks, entropy.
const NOT_IN_CORE: &[&str] = &[
    "tokio",
    "mio",
    "async-std",
    "smol",
    "socket2",
    "rustix",
    "libc",
    "nix",
    "iroh",
    "noq",
    "quinn",
    "redb",
    "getrandom",
    "rand",
    "chrono",
    "time",
    "tempfile",
    "tracing-subscriber",
];

/// What the API's types may need unconditionally; its client is behind a feature.
const IN_API: &[&str] = &["serde"];

/// What the node library may need unconditionally of the house: no product build reaches the simulator through it.
const IN_PRODUCT: &[&str] = &["honeylink-core"];

/// The core's modules from the ground up. A module may use those of lower floors only, except that the ground
/// floor's may use each other.
const FLOORS: &[&[&str]] = &[
    &["time", "rng", "limits", "planted"],
    &["identity"],
    &["wire"],
    &["pairing", "nearby", "transfer", "qos", "store", "radio"],
    // `mdns` speaks for `nearby`; `session` carries what the floor below agreed on.
    &["ferry", "mdns", "nat", "session", "wide"],
    // `knock` says what `mdns` announces.
    &["knock", "announce", "mesh", "groups", "slots", "paths"],
];

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "crate-arrow",
        check: crate_arrows,
        canary: &[(
            "crates/honeylink/Cargo.toml",
            "[package]\nname = \"honeylink\"\n[dependencies]\nhoneylink-api.workspace = true\n",
        )],
    },
    Rule {
        name: "module-arrow",
        check: module_arrows,
        canary: &[("crates/core/src/wire.rs", "//! Wire.\nuse crate::session::Session;\n")],
    },
];

fn crate_arrows(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.ending("Cargo.toml") {
        let manifest: toml::Table = match toml::from_str(&file.text) {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::new(&file.path, 0, error.to_string()));
                continue;
            }
        };
        let Some(name) = manifest.get("package").and_then(|package| package.get("name")?.as_str()) else {
            continue; // the workspace itself
        };
        let Some((_, may)) = CRATES.iter().find(|(known, _)| *known == name) else {
            findings.push(Finding::new(
                &file.path,
                0,
                format!("`{name}` has no row in xtask/src/tidy/arrows.rs"),
            ));
            continue;
        };
        for Dependency { name: other, optional, dev } in dependencies(&manifest) {
            let ours = CRATES.iter().any(|(known, _)| *known == other);
            let wrong = ours && other != name && !may.contains(&other.as_str());
            let impure = name == "honeylink-core" && !dev && NOT_IN_CORE.contains(&other.as_str());
            let heavy = name == "honeylink-api" && !dev && !optional && !IN_API.contains(&other.as_str());
            let simulated =
                name == "honeylink" && ours && !dev && !optional && !IN_PRODUCT.contains(&other.as_str());
            if wrong || impure || heavy || simulated {
                findings.push(Finding::new(&file.path, 0, format!("`{name}` must not depend on `{other}`")));
            }
        }
    }
    findings
}

struct Dependency {
    name: String,
    optional: bool,
    dev: bool,
}

/// The dependencies of a manifest, those of its `[target]` tables too.
fn dependencies(manifest: &toml::Table) -> Vec<Dependency> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let of_targets = targets.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
    let mut all = Vec::new();
    for table in std::iter::once(manifest).chain(of_targets) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(entries) = table.get(kind).and_then(toml::Value::as_table) else { continue };
            for (key, value) in entries {
                let name = value.get("package").and_then(toml::Value::as_str).unwrap_or(key).to_owned();
                let optional = value.get("optional").and_then(toml::Value::as_bool).unwrap_or(false);
                all.push(Dependency { name, optional, dev: kind == "dev-dependencies" });
            }
        }
    }
    all
}

fn module_arrows(tree: &Tree) -> Vec<Finding> {
    tree.rust().filter(|file| file.in_core() && !file.product.is_empty()).flat_map(arrows_of).collect()
}

fn arrows_of(file: &File) -> Vec<Finding> {
    let inside = file.path.trim_start_matches("crates/core/src/").trim_end_matches(".rs");
    let parts: Vec<&str> = inside.split('/').filter(|part| *part != "mod").collect();
    let Some(&module) = parts.first().filter(|module| **module != "lib") else { return Vec::new() };
    let Some(floor) = floor_of(module) else {
        return vec![Finding::new(
            &file.path,
            0,
            format!("`{module}` has no floor in xtask/src/tidy/arrows.rs"),
        )];
    };
    let to_root = "super::".repeat(parts.len());
    let mut findings = Vec::new();
    // Of the product only: a test may set a scene with whatever it likes.
    for (line, text) in numbered(&file.product) {
        for used in used_modules(text, &to_root) {
            let upward = floor_of(used).is_some_and(|other| other > floor || (other == floor && floor > 0));
            if used != module && upward {
                findings.push(Finding::new(&file.path, line, format!("`{module}` must not use `{used}`")));
            }
        }
    }
    findings
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The top-level modules that a line names, through `crate::` or through as many `super::` as lead to the root.
fn used_modules<'a>(line: &'a str, to_root: &str) -> Vec<&'a str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut used = Vec::new();
    for prefix in ["crate::", to_root] {
        for (at, _) in line.match_indices(prefix) {
            if line[..at].ends_with(is_word) {
                continue;
            }
            let rest = &line[at + prefix.len()..];
            // `crate::{a, b::C}`: any word of the group may be a module; one that is not has no floor.
            let end = if rest.starts_with('{') {
                rest.len()
            } else {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            };
            used.extend(rest[..end].split(|c| !is_word(c)).filter(|word| !word.is_empty()));
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> Vec<Finding> {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        crate_arrows(&Tree::of(&[("crates/x/Cargo.toml", &text)]))
    }

    #[test]
    fn the_core_sees_no_runtime_in_any_table() {
        assert_eq!(manifest("honeylink-core", "[dependencies]\nbytes = \"1\"\n"), []);
        assert_eq!(manifest("honeylink-core", "[dependencies]\ntokio = \"1\"\n").len(), 1);
        assert_eq!(manifest("honeylink-core", "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n").len(), 1);
        assert_eq!(
            manifest("honeylink-core", "[dependencies]\nr = { package = \"rand\", version = \"1\" }\n").len(),
            1
        );
    }

    #[test]
    fn the_api_needs_serde_only_unless_asked_for_more() {
        let optional = "[dependencies]\nserde = \"1\"\nhyper = { version = \"1\", optional = true }\n";
        assert_eq!(manifest("honeylink-api", optional), []);
        assert_eq!(manifest("honeylink-api", "[dependencies]\nhyper = \"1\"\n").len(), 1);
    }

    #[test]
    fn the_library_sees_the_simulator_only_when_asked() {
        let optional = "[dependencies]\nhoneylink-sim = { version = \"1\", optional = true }\n";
        assert_eq!(manifest("honeylink", optional), []);
        assert_eq!(manifest("honeylink", "[dependencies]\nhoneylink-sim = \"1\"\n").len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(manifest("honeylink-extra", "").len(), 1);
    }

    fn core_file(path: &str, text: &str) -> Vec<Finding> {
        module_arrows(&Tree::of(&[(&format!("crates/core/src/{path}"), text)]))
    }

    #[test]
    fn lower_floors_may_be_used_and_upper_ones_not() {
        assert_eq!(core_file("wire.rs", "use crate::{identity::DeviceId, limits};"), []);
        assert_eq!(core_file("wire.rs", "use crate::{identity::DeviceId, session};").len(), 1);
        assert_eq!(core_file("pairing/code.rs", "use crate::transfer::Offer;").len(), 1);
        assert_eq!(core_file("pairing/code.rs", "use crate::pairing::Sas;"), []);
    }

    #[test]
    fn the_way_up_through_super_is_seen() {
        assert_eq!(core_file("wire/frame.rs", "use super::super::session::Session;").len(), 1);
        assert_eq!(core_file("wire/frame.rs", "use super::session::Header;"), []);
    }

    #[test]
    fn tests_may_look_up() {
        assert_eq!(
            core_file("wire.rs", "#[cfg(test)]\nmod tests {\n    use crate::session::Session;\n}\n"),
            []
        );
    }

    #[test]
    fn a_module_without_a_floor_is_found() {
        assert_eq!(core_file("attic.rs", "struct Box;").len(), 1);
    }
}
