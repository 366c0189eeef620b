//! The golden bytes of every wire format and the published vectors of the primitives we wrap.
//!
//! By convention these are the tests of the core and of the library's store with one of [`NAMES`] in their path; a byte
//! that changes here is a new version of a protocol or a file. The step fails when it finds none: a rename must not
//! silence it.

use crate::house::House;
use crate::step::Verdict;
use crate::tests::tested;

/// What the name of a test over fixed bytes has in it.
const NAMES: &[&str] = &["golden", "vector", "bytes_of_version", "has_these_bytes"];

pub(crate) fn step(house: &House) -> Verdict {
    let mut command =
        house.cargo(&["test", "-p", "honeylink-core", "-p", "honeylink", "--lib", "--locked", "--"]);
    command.args(NAMES);
    let verdict = tested(house, command);
    if let Verdict::Tested(counts) = &verdict
        && counts.passed == 0
    {
        return Verdict::failed("no golden test ran");
    }
    verdict
}
