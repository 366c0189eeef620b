//! What notes promise: to the two that share them, to everybody else, and about any bytes.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::limits::{RELAYS_PER_DEVICE_MAX, WIDE_ADDRESSES_MAX};
use crate::wire::relay::RelayAddr;

fn key(seed: u64) -> SecretKey {
    SecretKey::from_u64(seed)
}

fn pair(own: u64, peer: u64) -> Pair {
    Pair::new(&key(own), &key(peer).id()).unwrap()
}

fn somewhere() -> Whereabouts {
    Whereabouts {
        addrs: vec!["198.51.100.7:7843".parse().unwrap(), "[2001:db8::7]:7843".parse().unwrap()],
        relays: vec!["https://relay.example.org#00112233445566778899aabbccddeeff".parse().unwrap()],
    }
}

#[test]
fn a_note_is_read_by_the_device_it_is_for() {
    let (here, there) = (pair(1, 2), pair(2, 1));
    let note = somewhere().seal(&here.to_peer(20_000), 5);
    assert_eq!(note.len(), WIDE_NOTE_BYTES);
    assert_eq!(here.to_peer(20_000).key(), there.from_peer(20_000).key());
    assert_eq!(Whereabouts::open(&there.from_peer(20_000), 5, &note), Ok(somewhere()));
}

#[test]
fn nobody_else_finds_or_reads_it_and_no_two_days_share_a_key() {
    let note = somewhere().seal(&pair(1, 2).to_peer(20_000), 5);
    let others = [
        pair(1, 2).to_peer(20_001),
        pair(1, 2).from_peer(20_000),
        pair(1, 3).to_peer(20_000),
        pair(3, 2).to_peer(20_000),
        pair(3, 1).from_peer(20_000),
        of_code(7),
    ];
    for other in &others {
        assert_ne!(other.key(), pair(1, 2).to_peer(20_000).key());
        assert_eq!(Whereabouts::open(other, 5, &note), Err(NoteRefused::Forged));
    }
    for id in [key(1).id(), key(2).id()] {
        assert!(!note.windows(8).any(|part| part == &id.as_bytes()[..8]), "an id stands in it");
    }
}

#[test]
fn what_was_changed_or_moved_to_another_number_is_refused() {
    let place = pair(1, 2).to_peer(20_000);
    let note = somewhere().seal(&place, 5);
    assert_eq!(Whereabouts::open(&place, 6, &note), Err(NoteRefused::Forged));
    for at in 0..note.len() {
        let mut changed = note.clone();
        changed[at] ^= 1;
        assert_eq!(Whereabouts::open(&place, 5, &changed), Err(NoteRefused::Forged), "byte {at}");
    }
}

#[test]
fn a_note_of_any_other_length_is_refused() {
    let place = of_code(7);
    let note = CodeNote::Gone.seal(&place, 1);
    for len in [0, 1, MAC_BYTES, WIDE_NOTE_BYTES - 1, WIDE_NOTE_BYTES + 1, 1000, 100_000] {
        let mut other = note.clone();
        other.resize(len, 0);
        assert_eq!(CodeNote::open(&place, 1, &other), Err(NoteRefused::Length(len)));
    }
}

#[test]
fn the_note_of_a_code_says_who_shows_it_and_when_it_is_gone() {
    let open = CodeNote::Open(key(1).id(), somewhere());
    for (seq, said) in [(1, open), (2, CodeNote::Gone)] {
        let note = said.seal(&of_code(48_213), seq);
        assert_eq!(note.len(), WIDE_NOTE_BYTES);
        assert_eq!(CodeNote::open(&of_code(48_213), seq, &note), Ok(said));
    }
}

#[test]
fn what_does_not_fit_is_left_away_from_the_end() {
    let long = |n: usize| RelayAddr::new(&format!("{}.r{n}.org", "a".repeat(60)), 1, 2, None).unwrap();
    let many = Whereabouts {
        addrs: (1..=20).map(|n| format!("[2001:db8::{n}]:1").parse().unwrap()).collect(),
        relays: (0..20).map(long).collect(),
    };
    let fitted = many.fitted();
    assert_eq!(fitted.addrs, many.addrs[..WIDE_ADDRESSES_MAX]);
    assert!(!fitted.relays.is_empty() && fitted.relays.len() <= RELAYS_PER_DEVICE_MAX);
    assert_eq!(fitted.relays, many.relays[..fitted.relays.len()]);
    let place = of_code(1);
    let open = CodeNote::Open(key(1).id(), many);
    assert_eq!(CodeNote::open(&place, 1, &open.seal(&place, 1)), Ok(CodeNote::Open(key(1).id(), fitted)));
}

#[test]
fn an_honest_seal_around_nonsense_is_unreadable_and_no_more() {
    let place = pair(1, 2).to_peer(1);
    for body in [[0xff; BODY_BYTES], [1; BODY_BYTES], [4; BODY_BYTES]] {
        let note = place.seal(1, body);
        assert!(matches!(Whereabouts::open(&place, 1, &note), Err(NoteRefused::Unreadable(_))));
    }
    // Behind the last field there is nothing but zeros.
    let mut body = [0; BODY_BYTES];
    body[BODY_BYTES - 1] = 1;
    assert!(matches!(Whereabouts::open(&place, 1, &place.seal(1, body)), Err(NoteRefused::Unreadable(_))));
}

/// Computed by another implementation of the clauses.
#[test]
fn golden_notes() {
    let digest = |bytes: &[u8]| data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)[..8]);
    let [own, peer] = [1, 2].map(|byte| SecretKey::from_bytes(&[byte; 32]));
    let seq = 1_728_000_000_000;
    let place = Pair::new(&own, &peer.id()).unwrap().to_peer(day_of(seq));
    assert_eq!(day_of(seq), 20_000);
    assert_eq!(digest(&place.key()), "74d9a8eafc8cc42d");
    assert_eq!(digest(&somewhere().seal(&place, seq)), "60ae418a942afa6e");
    let place = of_code(48_213);
    assert_eq!(digest(&place.key()), "2b9edeae989a8759");
    let open = CodeNote::Open(own.id(), somewhere());
    assert_eq!(digest(&open.seal(&place, seq)), "7bebfc2dc2672edf");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(seq: u64, note in proptest::collection::vec(any::<u8>(), 0..1100), body: [u8; 32], at in 0..BODY_BYTES) {
        let place = of_code(7);
        let _ = CodeNote::open(&place, seq, &note);
        let _ = Whereabouts::open(&place, seq, &note);
        // The same behind an honest seal, where the fields are reached.
        let mut inner = [0; BODY_BYTES];
        let end = (at + body.len()).min(BODY_BYTES);
        inner[at..end].copy_from_slice(&body[..end - at]);
        inner[..8].copy_from_slice(&body[..8]);
        let sealed = place.seal(seq, inner);
        let _ = CodeNote::open(&place, seq, &sealed);
        let _ = Whereabouts::open(&place, seq, &sealed);
    }
}
