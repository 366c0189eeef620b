//! A chat room that survives crashes, a test on a simulated network that finds a mistake in it, and the run again.
//!
//! ```text
//! cargo run -p honeylink --example simulated_chat     shows the mistake being found and repeated
//! cargo test -p honeylink --example simulated_chat    what the application's own test looks like
//! ```

mod app;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use app::{Care, Log, Room, Writer};
use honeylink::testing::{BoxError, Failure, Network, NetworkBuilder};

// On Linux the nodes of this binary speak real QUIC, in virtual time.
honeylink::virtual_time!();

/// Lines that one run writes.
const LINES: u64 = 20;

/// One run: somebody writes to a room whose machine loses power at a bad moment. Every line must be in the room's log,
/// once and in order.
async fn no_line_is_lost(network: Network, care: Care) -> Result<(), BoxError> {
    let [ann, host] = network.paired(["ann", "host"]).await?;
    // The log is the room's disk: it is still there after a crash.
    let log = Arc::new(Log::default());
    let mut room = Room::open(&host, log.clone())?;
    let writer = Writer::start(ann, "host", care);
    let crash_at = network.draw(LINES);
    for number in 0..LINES {
        if number == crash_at {
            network.crash(&host)?;
            drop(room);
            let host = network.restart("host").await?;
            room = Room::open(&host, log.clone())?;
        }
        writer.write(&format!("line {number}")).await?;
        // tidy: sleep because people pause between lines, and here in virtual time
        tokio::time::sleep(Duration::from_millis(network.draw(400))).await;
    }
    writer.all_confirmed(Duration::from_secs(120)).await?;
    drop(room);
    let expected: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
    if log.lines() != expected {
        return Err(format!("the log has {:?}", log.lines()).into());
    }
    Ok(())
}

/// Runs the test under these seeds.
fn try_seeds(builder: &NetworkBuilder, seeds: Range<u64>, care: Care) -> Result<(), Box<Failure>> {
    builder.check(seeds, move |network| no_line_is_lost(network, care))
}

fn main() -> Result<(), Box<Failure>> {
    let builder = Network::builder();
    match try_seeds(&builder, 0..50, Care::UntilSent) {
        Ok(()) => println!("50 seeds found nothing: the mistake is well hidden"),
        Err(failure) => {
            println!(
                "a writer that forgets a line once it is sent: seed {}: {}",
                failure.seed, failure.reason
            );
            let again = try_seeds(&builder, failure.seed..failure.seed + 1, Care::UntilSent);
            let same = again.is_err_and(|again| again.fingerprint == failure.fingerprint);
            println!(
                "the same seed again: {}",
                if same { "packet for packet the same" } else { "another run" }
            );
        }
    }
    try_seeds(&builder, 0..10, Care::UntilConfirmed)?;
    println!("a writer that keeps a line until it is confirmed: no line lost in 10 runs");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink::testing::Stack;

    #[test]
    fn no_line_is_lost_when_the_room_crashes() {
        try_seeds(&Network::builder(), 0..20, Care::UntilConfirmed).unwrap();
    }

    /// The test above is worth something: it finds the mistake, and finds it again by its seed.
    #[test]
    fn a_writer_that_forgets_too_early_is_found_and_its_run_repeats() {
        // The stack of which it is promised that runs repeat packet for packet.
        let builder = Network::builder().stack(Stack::Memory);
        let found = try_seeds(&builder, 0..50, Care::UntilSent).unwrap_err();
        let again = try_seeds(&builder, found.seed..found.seed + 1, Care::UntilSent).unwrap_err();
        assert_eq!(again.fingerprint, found.fingerprint);
    }
}
