//! Builds the program as a user would, on a machine whose C compiler, C++ compiler and archiver always fail.
//!
//! It has a target folder of its own: everything in there was built that way, so a second run may be incremental
//! and still proves the claim.

use crate::check::plain;
use crate::house::House;
use crate::step::Verdict;

pub(crate) fn step(house: &House) -> Verdict {
    let mut command = house.cargo(&["build", "--quiet", "--locked"]);
    command.env("CARGO_TARGET_DIR", house.target.join("no-c"));
    for tool in ["CC", "CXX", "AR"] {
        command.env(tool, "/bin/false");
        // The more specific names would win over the plain ones.
        for prefix in ["HOST_", "TARGET_"] {
            command.env_remove(format!("{prefix}{tool}"));
        }
    }
    plain(house, command)
}
