//! SIGTERM in the middle of a transfer: the daemon ends soon and politely, and the transfer goes on when it is back.

use std::time::Duration;

use crate::PATIENCE;
use crate::host::Host;
use crate::net::Lan;
use crate::tree::{self, MIB};

const SIZE_MIB: u64 = 64;
/// What a daemon may take that was told to wait one second for its transfers.
const END_MAX: Duration = Duration::from_secs(10);

#[test]
fn a_receiver_asked_to_end_in_mid_transfer_ends_soon_and_the_sender_goes_on_by_itself() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    let file = ready(&lan, &mut ann, &mut bob);
    let mut sending = ann.start(&["send", &file, "--to", "bob", "--json"]);
    sending.event_where(PATIENCE, "progress", |value| value["bytes"].as_u64() >= Some(8 * MIB));
    ends_soon(&mut bob);
    assert!(bob.received().iter().all(|name| name.ends_with(".part")), "{:?}", bob.received());
    bob.up();
    let sent = sending.end(2 * PATIENCE).ok();
    arrived(sent.last(), &file, &bob);
}

#[test]
fn a_sender_asked_to_end_in_mid_transfer_says_how_to_go_on_and_does() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    let file = ready(&lan, &mut ann, &mut bob);
    let mut sending = ann.start(&["send", &file, "--to", "bob", "--json"]);
    sending.event_where(PATIENCE, "progress", |value| value["bytes"].as_u64() >= Some(8 * MIB));
    ends_soon(&mut ann);
    let cut = sending.end(PATIENCE);
    assert_eq!(cut.code, Some(75), "{cut:#?}");
    assert_eq!(cut.last()["error"]["code"], "resumable", "{cut:#?}");
    assert!(bob.received().iter().all(|name| name.ends_with(".part")), "{:?}", bob.received());
    ann.up();
    let sent = ann.run(&["send", &file, "--to", "bob", "--json"]).ok();
    arrived(sent.last(), &file, &bob);
}

/// Two paired machines and a file that takes eight seconds.
fn ready(lan: &Lan, ann: &mut Host, bob: &mut Host) -> String {
    for host in [&mut *ann, &mut *bob] {
        host.set("daemon.drain_s=1");
        host.up();
    }
    ann.pair(bob);
    lan.limit_rate("ann", SIZE_MIB);
    let file = lan.scratch().join("film.bin");
    tree::write_large(&file, SIZE_MIB);
    file.to_str().unwrap().to_owned()
}

fn ends_soon(host: &mut Host) {
    let (took, ran) = host.terminate(2 * END_MAX);
    println!("{} ended {took:?} after SIGTERM", host.name());
    assert!(took <= END_MAX, "{took:?}: {ran:#?}");
    assert_eq!(ran.code, Some(0), "{ran:#?}");
}

fn arrived(outcome: &serde_json::Value, file: &str, receiver: &Host) {
    assert_eq!((&outcome["ok"], &outcome["bytes"]), (&true.into(), &(SIZE_MIB * MIB).into()), "{outcome}");
    assert!(
        outcome["resumed_bytes"].as_u64() >= Some(4 * MIB),
        "what had arrived was not sent again: {outcome}"
    );
    assert_eq!(receiver.received(), ["film.bin"], "nothing else is left there");
    assert!(tree::equal(file.as_ref(), &receiver.inbox().join("film.bin")), "the bytes differ");
}
