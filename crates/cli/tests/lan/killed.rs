//! `kill -9`, again and again, in the middle of a transfer: nothing is lost, nothing half-done looks done, and little is
//! sent twice.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::Host;
use crate::net::Lan;
use crate::tree::{self, MIB, Random};

/// The whole story has to be over by then.
const STORY_MAX: Duration = Duration::from_secs(170);
/// Times the receiver is killed.
const KILLS: u64 = 10;
/// How long the file takes undisturbed; the link is as slow as that needs.
const TRANSFER_S: u64 = 20;

/// Size of the file.
const LARGE_MIB: u64 = 1024;

#[test]
fn a_receiver_killed_ten_times_ends_up_with_every_byte() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    let began = Instant::now();
    let mut random = Random::of_this_run();
    let file = lan.scratch().join("film.bin");
    tree::write_large(&file, LARGE_MIB);
    ann.up();
    bob.up();
    ann.pair(&bob);
    lan.limit_rate("ann", LARGE_MIB * 8 / TRANSFER_S);
    let sender = ann.json(&["status"])["pid"].clone();
    let received_before = lan.received_bytes("bob");

    let mut sending = ann.start(&["send", file.to_str().unwrap(), "--to", "bob", "--json"]);
    for kill in 0..KILLS {
        // One kill in each eleventh, so that none comes after the end.
        let slice = LARGE_MIB * MIB / (KILLS + 1);
        let threshold = kill * slice + random.below(slice);
        sending.event_where(STORY_MAX, "progress", |value| value["bytes"].as_u64() >= Some(threshold));
        // tidy: sleep because progress comes four times a second and the kill is to come at any moment between
        std::thread::sleep(Duration::from_millis(random.below(200)));
        bob.kill();
        println!("kill {kill} after {threshold} bytes, at {:?}: {:?}", began.elapsed(), bob.received());
        only_parts(&bob);
        bob.up();
    }
    let sent = sending.end(STORY_MAX).ok();
    let outcome = sent.last();
    assert_eq!((&outcome["ok"], &outcome["bytes"]), (&true.into(), &(LARGE_MIB * MIB).into()), "{outcome}");
    assert!(outcome["resumed_bytes"].as_u64() > Some(0), "{outcome}");
    assert_eq!(bob.received(), ["film.bin"], "nothing else is left there");
    assert!(tree::equal(&file, &bob.inbox().join("film.bin")), "the bytes differ");
    assert_eq!(ann.json(&["status"])["pid"], sender, "the sender was not disturbed");

    #[expect(clippy::cast_precision_loss, reason = "a ratio to print")]
    let ratio = (lan.received_bytes("bob") - received_before) as f64 / (LARGE_MIB * MIB) as f64;
    println!(
        "{KILLS} kills: {ratio:.3} bytes on the wire for each byte of the file, {:?} in all",
        began.elapsed()
    );
    // Headers and what the narrow link drops take 0.04; the rest is what was under way at each kill.
    assert!(ratio < 1.08, "{ratio:.3} bytes on the wire for each byte of the file");
    assert!(began.elapsed() < STORY_MAX, "{:?}", began.elapsed());
}

#[test]
fn a_sender_killed_twice_goes_on_when_told_to_send_again() {
    const SIZE_MIB: u64 = 64;
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    let mut random = Random::of_this_run();
    let file = lan.scratch().join("film.bin");
    tree::write_large(&file, SIZE_MIB);
    ann.up();
    bob.up();
    ann.pair(&bob);
    lan.limit_rate("ann", 64);
    let receiver = bob.json(&["status"])["pid"].clone();
    let command = ["send", file.to_str().unwrap(), "--to", "bob", "--json"];
    for kill in 1..=2 {
        let mut sending = ann.start(&command);
        let threshold = kill * SIZE_MIB * MIB / 4 + random.below(8 * MIB);
        sending.event_where(crate::PATIENCE, "progress", |value| value["bytes"].as_u64() >= Some(threshold));
        ann.kill();
        let cut = sending.end(crate::PATIENCE);
        assert_eq!(cut.code, Some(75), "the command says that it can be repeated: {cut:#?}");
        only_parts(&bob);
        ann.up();
    }
    let sent = ann.run(&command).ok();
    let outcome = sent.last();
    let resumed = outcome["resumed_bytes"].as_u64().unwrap();
    assert!(resumed >= SIZE_MIB * MIB / 2, "{outcome}");
    assert_eq!(bob.received(), ["film.bin"], "nothing else is left there");
    assert!(tree::equal(&file, &bob.inbox().join("film.bin")), "the bytes differ");
    assert_eq!(bob.json(&["status"])["pid"], receiver, "the receiver was not disturbed");
    let listed: Value = ann.json(&["transfers"]);
    assert!(listed.as_array().unwrap().iter().all(|transfer| transfer["state"] == "done"), "{listed}");
}

/// Before the end, nothing has its final name.
fn only_parts(receiver: &Host) {
    let names = receiver.received();
    assert!(names.iter().all(|name| name.ends_with(".part")), "{names:?}");
}
