//! Tests of [`super`]: two ends over a path that loses, doubles and reorders; liars; floods.

use std::collections::BTreeMap;

use bytes::Bytes;
use core::time::Duration;
use proptest::prelude::*;

use super::*;
use crate::limits::{MESH_ASSEMBLY_BYTES_MAX, MESH_ASSEMBLY_PEER_BYTES_MAX};
use crate::mesh::hint::Address;
use crate::rng::Rng;
use crate::time::{Deadline, Time};

const PEER: Address = Address([1; 16]);
const HOLD: Duration = Duration::from_millis(400);

fn pace(window: u8) -> Pace {
    Pace { patience: Duration::from_secs(2), window }
}

fn piece(from: Address, first: u32, index: u8, count: u8, len: usize) -> Incoming {
    let body = Bytes::from(vec![index; len]);
    Incoming { from, trusted: false, first, index, count, ask: false, body }
}

/// What is under way between the two ends, by the time it arrives.
#[derive(Default)]
struct Air {
    pieces: BTreeMap<(Time, u64), Piece>,
    statuses: BTreeMap<(Time, u64), Bytes>,
    nth: u64,
}

struct Faults {
    lose: u64,
    double: u64,
    jitter_ms: u64,
}

impl Faults {
    /// When copies of something sent now arrive.
    fn arrivals(&self, rng: &mut Rng, now: Time) -> Vec<Time> {
        let copies = if rng.below(100) < self.lose { 0 } else { 1 + u64::from(rng.below(100) < self.double) };
        (0..copies).map(|_| now + Duration::from_millis(20 + rng.below(self.jitter_ms))).collect()
    }
}

/// Runs one message to its end. Returns what was delivered, the sender's last step and the pieces it sent.
fn run(
    body: &Bytes,
    piece_bytes: usize,
    window: u8,
    faults: &Faults,
    seed: u64,
) -> (Option<Bytes>, Step, usize) {
    let mut rng = Rng::from_u64(seed);
    let mut split = Split::new(body.clone(), piece_bytes, pace(window)).unwrap();
    let (mut assembly, mut air) = (Assembly::default(), Air::default());
    let (mut delivered, mut now, mut sent) = (None, Time::ZERO, 0);
    for _ in 0..50_000 {
        while let Some(piece) = split.next_piece() {
            sent += 1;
            now += Duration::from_millis(10);
            let aired = rng.below(20) > 0;
            if aired {
                for at in faults.arrivals(&mut rng, now) {
                    air.nth += 1;
                    air.pieces.insert((at, air.nth), piece.clone());
                }
            }
            split.sent(now, piece.index, aired);
        }
        while let Some(status) = assembly.poll_status(now) {
            for at in faults.arrivals(&mut rng, now) {
                air.nth += 1;
                air.statuses.insert((at, air.nth), status.bitmap.clone());
            }
        }
        if split.step() != Step::Going {
            break;
        }
        let events = [
            air.pieces.keys().next().map(|(at, _)| *at),
            air.statuses.keys().next().map(|(at, _)| *at),
            Deadline::earliest(split.poll_timeout(), assembly.poll_timeout()).map(|deadline| deadline.at),
        ];
        now = now.max(events.into_iter().flatten().min().expect("somebody always waits for something"));
        while let Some(first) = air.pieces.first_entry().filter(|entry| entry.key().0 <= now) {
            let Piece { index, body, ask } = first.remove();
            let incoming =
                Incoming { from: PEER, trusted: true, first: 9, index, count: split.count(), ask, body };
            match assembly.accept(now, &incoming, HOLD).unwrap() {
                Arrival::Complete(whole) => assert_eq!(delivered.replace(whole), None, "delivered twice"),
                // The receipt, which may be lost like everything else.
                Arrival::AlreadyDone if !faults.arrivals(&mut rng, now).is_empty() => split.receipt(),
                Arrival::AlreadyDone | Arrival::Kept | Arrival::Duplicate => {}
            }
        }
        while let Some(first) = air.statuses.first_entry().filter(|entry| entry.key().0 <= now) {
            split.status(now, &first.remove());
        }
        split.timeout(now);
        assembly.timeout(now);
    }
    (delivered, split.step(), sent)
}

#[test]
fn on_a_clean_path_every_piece_is_sent_once() {
    let body = Bytes::from(vec![7; 1000]);
    let mut split = Split::new(body, 100, pace(4)).unwrap();
    let (mut assembly, mut asks, mut sent) = (Assembly::default(), 0, 0);
    let mut now = Time::ZERO;
    while split.step() == Step::Going {
        while let Some(Piece { index, body, ask }) = split.next_piece() {
            sent += 1;
            asks += usize::from(ask);
            split.sent(now, index, true);
            let incoming = Incoming { from: PEER, trusted: true, first: 0, index, count: 10, ask, body };
            if let Arrival::Complete(_) = assembly.accept(now, &incoming, HOLD).unwrap() {
                split.receipt();
            }
        }
        now += Duration::from_millis(1);
        while let Some(status) = assembly.poll_status(now + HOLD) {
            split.status(now, &status.bitmap);
        }
        now += HOLD;
    }
    assert_eq!((sent, asks), (10, 3), "windows of 4, 4 and 2 pieces");
    assert!(assembly.is_empty() && assembly.bytes() == 0);
}

#[test]
fn only_what_was_lost_is_sent_again() {
    let mut split = Split::new(Bytes::from(vec![7; 500]), 100, pace(8)).unwrap();
    for _ in 0..5 {
        let piece = split.next_piece().unwrap();
        split.sent(Time::ZERO, piece.index, true);
    }
    split.status(Time::from_millis(1), &[0b1_0101]);
    let again: Vec<_> =
        core::iter::from_fn(|| split.next_piece()).map(|piece| (piece.index, piece.ask)).collect();
    assert_eq!(again, [(1, false), (3, true)]);
}

#[test]
fn a_late_status_brings_nothing_twice_and_a_target_that_forgot_gets_everything_again() {
    let mut split = Split::new(Bytes::from(vec![7; 300]), 100, pace(8)).unwrap();
    for index in 0..3 {
        split.next_piece().unwrap();
        split.sent(Time::ZERO, index, true);
    }
    split.status(Time::ZERO, &[0b011]);
    split.status(Time::ZERO, &[0b001]);
    assert_eq!(split.next_piece(), None, "the older status says nothing new");
    split.status(Time::ZERO, &[0b100]);
    assert_eq!(split.there(), 1);
    let again: Vec<_> = core::iter::from_fn(|| split.next_piece()).map(|piece| piece.index).collect();
    assert_eq!(again, [0, 1], "the target restarted and has only what came since");
}

#[test]
fn no_timer_runs_while_a_piece_waits_for_its_airtime() {
    let mut split = Split::new(Bytes::from(vec![7; 200]), 100, pace(8)).unwrap();
    split.next_piece().unwrap();
    split.next_piece().unwrap();
    split.sent(Time::ZERO, 0, true);
    assert_eq!(split.poll_timeout(), None);
    split.sent(Time::from_millis(900_000), 1, true);
    assert_eq!(split.poll_timeout().unwrap().at, Time::from_millis(902_000));
}

#[test]
fn a_silent_target_is_asked_with_growing_pauses_and_then_given_up() {
    let mut split = Split::new(Bytes::from(vec![7; 200]), 100, pace(8)).unwrap();
    let (mut now, mut pauses) = (Time::ZERO, Vec::new());
    while split.step() == Step::Going {
        while let Some(piece) = split.next_piece() {
            split.sent(now, piece.index, true);
        }
        if let Some(deadline) = split.poll_timeout() {
            pauses.push(deadline.at.saturating_since(now).as_secs());
            now = deadline.at;
        }
        split.timeout(now);
    }
    assert_eq!(split.step(), Step::GaveUp);
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128]);
}

#[test]
fn a_target_that_answers_but_never_gets_a_piece_is_given_up_too() {
    let mut split = Split::new(Bytes::from(vec![7; 200]), 100, pace(8)).unwrap();
    let mut rounds = 0;
    while split.step() == Step::Going {
        rounds += 1;
        assert!(rounds < 100, "for ever");
        while let Some(piece) = split.next_piece() {
            split.sent(Time::ZERO, piece.index, true);
        }
        split.status(Time::ZERO, &[0b10]);
        if let Some(deadline) = split.poll_timeout() {
            split.timeout(deadline.at);
        }
    }
    assert_eq!(split.step(), Step::GaveUp);
}

#[test]
fn headers_that_lie_are_refused_and_the_message_still_arrives() {
    let mut assembly = Assembly::default();
    let mut give = |index, count, len| assembly.accept(Time::ZERO, &piece(PEER, 0, index, count, len), HOLD);
    assert_eq!(give(3, 3, 10), Err(Refused::Impossible));
    assert_eq!(give(0, 0, 10), Err(Refused::Impossible));
    assert_eq!(give(0, 1, 10), Err(Refused::Impossible));
    assert_eq!(give(0, 3, 0), Err(Refused::Impossible));
    assert_eq!(give(0, 255, 200), Err(Refused::Impossible), "more than the longest message");
    assert_eq!(give(0, 3, 10), Ok(Arrival::Kept));
    assert_eq!(give(1, 4, 10), Err(Refused::Contradiction));
    assert_eq!(give(1, 3, 9), Err(Refused::Contradiction));
    assert_eq!(give(2, 3, 11), Err(Refused::Contradiction));
    assert_eq!(give(2, 3, 4), Ok(Arrival::Kept));
    assert_eq!(give(0, 3, 10), Ok(Arrival::Duplicate));
    let whole = [&[0; 10][..], &[1; 10], &[2; 4]].concat();
    assert_eq!(give(1, 3, 10), Ok(Arrival::Complete(Bytes::from(whole))));
    assert_eq!(give(1, 3, 10), Ok(Arrival::AlreadyDone));
}

#[test]
fn a_crowd_of_strangers_displaces_no_trusted_message_and_stays_in_its_bound() {
    let mut assembly = Assembly::default();
    let friend = Incoming { trusted: true, ..piece(PEER, 0, 0, 2, 1000) };
    assembly.accept(Time::ZERO, &friend, HOLD).unwrap();
    for n in 0..2000_u16 {
        let mut name = [9; 16];
        name[..2].copy_from_slice(&n.to_be_bytes());
        let stranger = piece(Address(name), 0, 0, 3, 4000);
        let _ = assembly.accept(Time::from_millis(1 + u64::from(n)), &stranger, HOLD);
        assert!(assembly.bytes() <= MESH_ASSEMBLY_BYTES_MAX / 2 + 1576);
    }
    let friend = Incoming { trusted: true, ..piece(PEER, 0, 1, 2, 1000) };
    assert!(matches!(assembly.accept(Time::from_millis(5000), &friend, HOLD), Ok(Arrival::Complete(_))));
}

#[test]
fn fragments_that_never_end_cost_one_peer_its_own_room_only() {
    let mut assembly = Assembly::default();
    for first in 0..1000 {
        let _ = assembly.accept(Time::from_millis(first), &piece(PEER, first as u32 * 10, 0, 5, 1000), HOLD);
        assert!(assembly.bytes() <= MESH_ASSEMBLY_PEER_BYTES_MAX);
    }
    let mut now = Time::from_millis(1000);
    let mut statuses = 0;
    while let Some(deadline) = assembly.poll_timeout() {
        now = now.max(deadline.at);
        assembly.timeout(now);
        while assembly.poll_status(now).is_some() {
            statuses += 1;
        }
        assert!(statuses < 1000, "statuses without end");
    }
    assert!(assembly.is_empty() && assembly.bytes() == 0);
}

#[test]
fn a_flood_of_questions_gets_one_answer_per_hold_off() {
    let mut assembly = Assembly::default();
    let mut statuses = 0;
    for ms in 0..4000 {
        let asking = Incoming { ask: true, ..piece(PEER, 0, 0, 5, 100) };
        assembly.accept(Time::from_millis(ms), &asking, HOLD).unwrap();
        while assembly.poll_status(Time::from_millis(ms)).is_some() {
            statuses += 1;
        }
    }
    assert!((8..=11).contains(&statuses), "{statuses} in ten hold-offs");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_message_arrives_once_and_whole_over_a_path_that_loses_doubles_and_reorders(
        len in 101..6000_usize, window in 1..40_u8, lose in 0..30_u64, double in 0..30_u64,
        jitter_ms in 1..3000_u64, seed in any::<u64>(),
    ) {
        let body: Bytes = (0..len).map(|n| ((n * 31) >> 3) as u8).collect();
        let (delivered, step, sent) = run(&body, 100, window, &Faults { lose, double, jitter_ms }, seed);
        prop_assert_eq!(delivered, Some(body));
        prop_assert_ne!(step, Step::Going);
        prop_assert!(sent <= len.div_ceil(100) * 12 + 12, "{} pieces sent", sent);
    }

    #[test]
    fn no_pieces_and_statuses_break_a_bound(
        steps in proptest::collection::vec(
            (0..6_u8, any::<bool>(), 0..3_u32, any::<u8>(), any::<u8>(), 0..3000_usize, any::<bool>(), 0..100_000_u64),
            1..150,
        ),
        bitmap in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut assembly = Assembly::default();
        let mut split = Split::new(Bytes::from(vec![1; 3000]), 100, pace(5)).unwrap();
        let mut now = Time::ZERO;
        for (peer, trusted, first, index, count, len, ask, wait) in steps {
            now += Duration::from_millis(wait);
            let incoming = Incoming { trusted, ask, ..piece(Address([peer; 16]), first, index, count, len) };
            let _ = assembly.accept(now, &incoming, HOLD);
            prop_assert!(assembly.bytes() <= MESH_ASSEMBLY_BYTES_MAX);
            prop_assert!(assembly.is_empty() == (assembly.bytes() == 0));
            while assembly.poll_status(now).is_some() {}
            assembly.timeout(now);
            split.status(now, &bitmap);
            split.sent(now, index, ask);
            split.next_piece();
            split.timeout(now);
        }
    }
}
