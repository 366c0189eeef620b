//! The golden bytes of every wire format and the published vectors of the primitives we wrap.
//!
//! By convention these are the core's tests with `golden`, `vector` or `bytes_of_version` in their path; a byte that
//! changes here is a new protocol version. The step fails when it finds none: a rename must not silence it.

use crate::house::House;
use crate::step::Verdict;
use crate::tests::tested;

pub(crate) fn step(house: &House) -> Verdict {
    let mut command = house.cargo(&["test", "-p", "honeylink-core", "--locked", "--"]);
    command.args(["golden", "vector", "bytes_of_version"]);
    let verdict = tested(house, command);
    if let Verdict::Tested(counts) = &verdict
        && counts.passed == 0
    {
        return Verdict::failed("no golden test ran in honeylink-core");
    }
    verdict
}
