//! Whether what was received is in its place already: a sender whose receipt was lost sends the same again.

use std::io::{self, Read as _};
use std::path::Path;

use super::{BLOCK_BYTES, disk};

/// Whether everything at `received` is at `there` too, byte by byte; in folders there may be more beside it. Follows no links.
/// Blocks.
pub(super) fn lies_in(received: &Path, there: &Path) -> io::Result<bool> {
    let (ours, theirs) = (received.symlink_metadata()?, there.symlink_metadata()?);
    if ours.is_dir() {
        if !theirs.is_dir() {
            return Ok(false);
        }
        for entry in std::fs::read_dir(received)? {
            let name = entry?.file_name();
            if !lies_in(&received.join(&name), &there.join(&name))? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    Ok(theirs.is_file() && ours.len() == theirs.len() && same_bytes(received, there, ours.len())?)
}

fn same_bytes(received: &Path, there: &Path, len: u64) -> io::Result<bool> {
    let (mut one, mut other) = (disk::open_source(received)?, disk::open_source(there)?);
    let room = usize::try_from(len).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
    let (mut ours, mut theirs) = (vec![0; room], vec![0; room]);
    let mut left = len;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(room).min(room);
        one.read_exact(&mut ours[..piece])?;
        other.read_exact(&mut theirs[..piece])?;
        if ours[..piece] != theirs[..piece] {
            return Ok(false);
        }
        left -= piece as u64;
    }
    Ok(true)
}
