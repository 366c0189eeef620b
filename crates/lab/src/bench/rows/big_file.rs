//! F1, F1b, R1: one large file, from a file to a file, verified, under its final name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use honeylink::transfer::Handle;

use super::Scale;
use super::transfers::{Post, RawPost, anything_in};
use crate::pairs::{PAIRS_MIN, alternate, median, quantile};
use crate::report::Finding;
use crate::rig::{PATIENCE, Rig};
use crate::shelf::Shelf;
use crate::{Trouble, usage};

const MEBIBYTES: usize = 1024;

/// F1: the rate of the transfer by the rate of a raw stream that moves as many bytes from memory to nowhere.
pub(crate) fn measure(scale: &Scale) -> Result<Finding, Trouble> {
    let (rig, shelf) = (Rig::new()?, Shelf::new()?);
    let mebibytes = scale.samples(MEBIBYTES);
    let file = shelf.file("film", mebibytes)?;
    let into = shelf.emptied("inbox")?;
    let post = Post::new(&rig, &into)?;
    let raw = RawPost::new(&rig)?;
    let (mut cpu, mut raw_cpu) = (Vec::new(), Vec::new());
    let mut ours = || {
        shelf.emptied("inbox")?;
        let used = usage::cpu();
        let (seconds, _) = post.send(&rig, &file)?;
        cpu.push((usage::cpu() - used).as_secs_f64());
        Ok(mebibytes as f64 / seconds)
    };
    let mut raws = || {
        let used = usage::cpu();
        let seconds = raw.send(&rig, mebibytes << 20)?;
        raw_cpu.push((usage::cpu() - used).as_secs_f64());
        Ok(mebibytes as f64 / seconds)
    };
    let pairs = alternate(scale.pairs().min(PAIRS_MIN), &mut ours, &mut raws)?;
    post.end(&rig)?;
    let facts = vec![
        ("mib_per_s", median(&pairs.iter().map(|pair| pair.ours).collect::<Vec<_>>())),
        ("raw_mib_per_s", median(&pairs.iter().map(|pair| pair.peers).collect::<Vec<_>>())),
        ("cpu_s", median(&cpu)),
        ("raw_cpu_s", median(&raw_cpu)),
    ];
    Ok(Finding::median_of(pairs.iter().map(|pair| pair.ours / pair.peers).collect(), facts))
}

/// F1b: from the call to the first content byte in a file at the receiver.
pub(crate) fn first_byte(scale: &Scale) -> Result<Finding, Trouble> {
    let (rig, shelf) = (Rig::new()?, Shelf::new()?);
    let file = shelf.file("film", scale.samples(MEBIBYTES))?;
    let into = shelf.emptied("inbox")?;
    let post = Post::new(&rig, &into)?;
    let mut samples = Vec::new();
    for _ in 0..scale.samples(21) {
        shelf.emptied("inbox")?;
        let handle = Handle::new();
        let (files, to, paths, steer) = (post.from.clone(), post.to, [file.clone()], handle.clone());
        let started = Instant::now();
        let over = AtomicBool::new(false);
        let took = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && started.elapsed() < PATIENCE {
                    if anything_in(&into) {
                        handle.cancel();
                        return Some(started.elapsed());
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
                None
            });
            // Cancelled on purpose; if it failed for another reason, nothing arrived and there is no sample.
            let sent = rig.here(async move { Ok(files.send(to, &paths, steer).await?) });
            over.store(true, Ordering::Relaxed);
            let seen = watching.join().map_err(|_| "the watching thread panicked")?;
            sent.map(|_| seen)
        })?;
        post.settled(&rig)?;
        samples.push(took.ok_or("no byte arrived")?.as_secs_f64() * 1e3);
    }
    post.end(&rig)?;
    let facts = vec![("p50_ms", median(&samples)), ("max_ms", quantile(&samples, 1.0))];
    Ok(Finding::Measured { value: quantile(&samples, 0.99), samples, facts })
}

/// R1: the highest resident set of this process, which is both devices at once, above what it had before.
pub(crate) fn memory(scale: &Scale) -> Result<Finding, Trouble> {
    let (rig, shelf) = (Rig::new()?, Shelf::new()?);
    let file = shelf.file("film", scale.samples(MEBIBYTES))?;
    let into = shelf.emptied("inbox")?;
    let post = Post::new(&rig, &into)?;
    let mut samples = Vec::new();
    let mut idle_mib = 0.0;
    for run in 0..3 {
        shelf.emptied("inbox")?;
        // Idle is before the first: what the allocator keeps afterwards would flatter the rest.
        if run == 0 {
            idle_mib = usage::memory_mib("VmRSS")?;
        }
        usage::forget_peak()?;
        post.send(&rig, &file)?;
        samples.push(usage::memory_mib("VmHWM")? - idle_mib);
    }
    post.end(&rig)?;
    Ok(Finding::Measured { value: quantile(&samples, 1.0), samples, facts: vec![("idle_mib", idle_mib)] })
}
