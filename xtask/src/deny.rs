//! Licences, banned crates and sources of the dependency tree, by cargo-deny and `deny.toml`.
//!
//! Advisories need the network and change without our doing, so they run only where `HONEYLINK_ADVISORIES=1` asks
//! for them: weekly in CI.

use crate::check::plain;
use crate::house::House;
use crate::step::Verdict;

pub(crate) fn step(house: &House) -> Verdict {
    if !house.has("cargo-deny", &["--version"]) {
        return Verdict::Skipped("needs cargo-deny (cargo install cargo-deny --locked)".to_owned());
    }
    let mut args = vec!["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    if std::env::var("HONEYLINK_ADVISORIES").is_ok_and(|value| value == "1") {
        args.push("advisories");
    }
    let mut command = house.command("cargo-deny");
    command.args(args);
    plain(house, command)
}
