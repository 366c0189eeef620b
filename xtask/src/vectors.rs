//! The golden bytes of every wire format and the published vectors of the primitives we wrap.
//!
//! By convention these are the core's tests with `golden` or `vector` in their path; a byte that changes here is a
//! new protocol version. The step fails when it finds none, so that a renamed test cannot silence it.

use crate::house::House;
use crate::step::Verdict;
use crate::tests::tested;

pub(crate) fn step(house: &House) -> Verdict {
    let command = house.cargo(&["test", "-p", "honeylink-core", "--locked", "--", "golden", "vector"]);
    let verdict = tested(house, command);
    if let Verdict::Tested(counts) = &verdict
        && counts.passed == 0
    {
        return Verdict::failed("no test with `golden` or `vector` in its path ran in honeylink-core");
    }
    verdict
}
