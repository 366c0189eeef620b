//! F3: how much of what had arrived is sent again after a cut.
//!
//! The sender's side of a 1 GiB transfer is dropped at a third, a half and so on, as a crash would; when the receiver has
//! noticed, what it holds is weighed, and the same file is sent again to its end.

use honeylink::transfer::Handle;

use super::Scale;
use super::transfers::Post;
use crate::Trouble;
use crate::pairs::quantile;
use crate::report::Finding;
use crate::rig::Rig;
use crate::shelf::{Shelf, stored};

const MEBIBYTES: usize = 1024;
/// Where the cuts are, as shares of the file.
const CUTS: [f64; 7] = [0.1, 0.33, 0.5, 0.61, 0.75, 0.87, 0.95];

pub(crate) fn measure(scale: &Scale) -> Result<Finding, Trouble> {
    let (rig, shelf) = (Rig::new()?, Shelf::new()?);
    let mebibytes = scale.samples(MEBIBYTES);
    let total = (mebibytes << 20) as f64;
    let file = shelf.file("film", mebibytes)?;
    let into = shelf.emptied("inbox")?;
    let post = Post::new(&rig, &into)?;
    let (mut samples, mut arrived) = (Vec::new(), Vec::new());
    for cut in CUTS.into_iter().take(scale.pairs()) {
        shelf.emptied("inbox")?;
        let (files, to, paths) = (post.from.clone(), post.to, [file.clone()]);
        let handle = Handle::new();
        let mut progress = handle.progress();
        let bytes = (total * cut) as u64;
        rig.here(async move {
            tokio::select! {
                ended = files.send(to, &paths, handle) => match ended?.result {
                    Ok(_) => Err("it was over before the cut".into()),
                    Err(error) => Err(Trouble::from(error)),
                },
                _ = progress.wait_for(|now| now.bytes_done >= bytes) => Ok(()),
            }
        })?;
        post.settled(&rig)?;
        let held = stored(&into) as f64;
        let (_, done) = post.send(&rig, &file)?;
        samples.push((held - done.bytes_kept as f64).max(0.0) / total * 100.0);
        arrived.push(held / total * 100.0);
    }
    post.end(&rig)?;
    let facts = vec![
        ("least_arrived_percent", quantile(&arrived, 0.0)),
        ("most_arrived_percent", quantile(&arrived, 1.0)),
    ];
    Ok(Finding::Measured { value: quantile(&samples, 1.0), samples, facts })
}
