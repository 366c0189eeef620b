//! Where a file continues after an interrupted attempt: the decisions of both sides, without their files.

use super::frame::{Claim, Hash};
use crate::limits::TRANSFER_WHOLE_BYTES_MAX;

/// How much of a file of `size` bytes a receiver offers to keep when `held` bytes of it lie in its staging folder.
///
/// `None`: nothing worth a claim. More bytes than the file has now means the source changed. A part of a small file is
/// cheaper to send again than to agree about.
#[must_use]
pub const fn worth_claiming(size: u64, held: u64) -> Option<u64> {
    if held == size {
        return Some(size);
    }
    if held > size || size <= TRANSFER_WHOLE_BYTES_MAX as u64 || held < TRANSFER_WHOLE_BYTES_MAX as u64 {
        return None;
    }
    Some(held)
}

/// What a sender has to hash of its own file before it can answer a claim: the claimed length, or nothing if the claim
/// is about more than the file holds.
#[must_use]
pub const fn prefix_to_check(size: u64, claim: &Claim) -> Option<u64> {
    if claim.offset <= size { Some(claim.offset) } else { None }
}

/// The offset a sender continues from, given the hash of the same prefix of its own file. A difference means that one
/// side's bytes are not what they were: the file starts again, and nothing wrong can reach a final name.
#[must_use]
pub fn resume_offset(claim: &Claim, own_prefix: &Hash) -> u64 {
    if claim.prefix == *own_prefix { claim.offset } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: u64 = 10 << 20;

    #[test]
    fn a_complete_file_is_claimed_and_a_part_of_a_small_one_is_not() {
        assert_eq!(worth_claiming(0, 0), Some(0));
        assert_eq!(worth_claiming(4096, 4096), Some(4096));
        assert_eq!(worth_claiming(4096, 100), None);
        assert_eq!(worth_claiming(LARGE, LARGE / 2), Some(LARGE / 2));
        assert_eq!(worth_claiming(LARGE, 0), None);
    }

    #[test]
    fn more_bytes_than_the_file_has_are_not_claimed() {
        assert_eq!(worth_claiming(LARGE, LARGE + 1), None);
    }

    #[test]
    fn a_file_continues_only_where_both_sides_hold_the_same_bytes() {
        let claim = Claim { index: 3, offset: 1 << 20, prefix: [7; 32] };
        assert_eq!(prefix_to_check(LARGE, &claim), Some(1 << 20));
        assert_eq!(prefix_to_check(1000, &claim), None);
        assert_eq!(resume_offset(&claim, &[7; 32]), 1 << 20);
        assert_eq!(resume_offset(&claim, &[8; 32]), 0);
    }
}
