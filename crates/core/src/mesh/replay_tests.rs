//! Tests of [`super`]: windows against a plain set, crashes at every moment, numbers that are never used twice.

use std::collections::BTreeSet;

use super::*;
use crate::mesh::disk_model::Disk;
use proptest::prelude::*;

const PEER: Address = Address([7; 16]);

#[test]
fn what_is_far_behind_is_judged_exactly_while_gaps_are_few() {
    let mut window = Window::starting(1_000_000);
    assert_eq!(window.judge(3), Verdict::Fresh, "a message stored for days");
    assert!(window.accept(3));
    assert_eq!(window.judge(3), Verdict::Seen);
    assert_eq!(window.judge(4), Verdict::Fresh);
    assert!(!window.accept(1_000_000));
    assert!(window.accept(u32::MAX));
    assert_eq!(window.judge(u32::MAX), Verdict::Seen);
}

#[test]
fn a_given_up_gap_is_too_old_and_not_seen() {
    let mut window = Window::starting(0);
    for nth in 1..=MESH_REPLAY_GAPS_MAX as u32 + 1 {
        window.accept(nth * 2);
    }
    assert_eq!(window.judge(1), Verdict::TooOld);
    assert_eq!(window.judge(3), Verdict::Fresh);
    assert_eq!(window.judge(2), Verdict::Seen);
    assert_eq!(window.judge(0), Verdict::TooOld, "below the floor nothing is known");
}

#[test]
fn a_damaged_record_seals_its_peer_instead_of_opening_it() {
    let record = super::super::records::Record {
        key: Key::new(Table::Replay, &PEER.0),
        value: Bytes::from_static(&[VERSION, 1, 2]),
    };
    let mut journal = Journal::default();
    let (mut replay, restored) =
        Replay::restore(&mut [record].into_iter().collect(), Time::ZERO, &mut journal);
    assert_eq!(restored.sealed, [PEER]);
    for seq in [0, 1, u32::MAX] {
        assert_eq!(replay.judge(&PEER, seq), Verdict::TooOld);
    }
    replay.forget(&PEER, &mut journal);
    assert_eq!(replay.judge(&PEER, 0), Verdict::Fresh);
}

#[test]
fn a_crowd_of_strangers_displaces_strangers_only() {
    let (mut replay, mut journal) = (Replay::default(), Journal::default());
    let name = |n: usize| Address([(n >> 8) as u8, n as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    replay.accept(Time::ZERO, name(0), 5, &mut journal).unwrap();
    replay.trust(&name(0), true);
    for n in 1..2000 {
        let evicted = replay.accept(Time::from_millis(n as u64), name(n), 0, &mut journal).unwrap();
        assert_ne!(evicted, Some(name(0)));
        assert!(replay.len() <= MESH_REPLAY_PEERS_MAX);
    }
    assert_eq!(replay.judge(&name(0), 5), Verdict::Seen);
    for n in 0..2000 {
        replay.trust(&name(n), true);
    }
    assert_eq!(replay.accept(Time::ZERO, name(5000), 1, &mut journal), Err(NoRoom));
}

#[test]
fn a_damaged_counter_is_an_error_and_not_a_new_counter() {
    let mut journal = Journal::default();
    assert!(SendSeq::restore(b"n", Some(&[9, 0, 0, 0, 0]), 8, 100, &mut journal).is_err());
    assert!(SendSeq::restore(b"n", Some(&[1, 0, 0]), 8, 100, &mut journal).is_err());
}

#[test]
fn the_last_number_is_given_out_and_none_after_it() {
    let (mut journal, mut disk) = (Journal::default(), Disk::default());
    let mut numbers = SendSeq::restore(b"n", None, 4, 10, &mut journal).unwrap();
    let mut given = Vec::new();
    loop {
        match numbers.take(&mut journal) {
            Ok(number) => given.push(number),
            Err(NoNumber::Wait) => {
                let mark = disk.sync(&mut journal).expect("a block is under way");
                numbers.synced(mark);
            }
            Err(NoNumber::Exhausted) => break,
        }
    }
    assert_eq!(given, (0..10).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn a_window_agrees_with_a_set_of_everything_received(
        seqs in proptest::collection::vec(prop_oneof![0..300_u32, 0..5000_u32, any::<u32>()], 1..300),
    ) {
        let mut window = Window::starting(seqs[0]);
        let mut received = BTreeSet::from([seqs[0]]);
        for seq in &seqs[1..] {
            match window.judge(*seq) {
                Verdict::Fresh => prop_assert!(received.insert(*seq), "{seq} accepted twice"),
                Verdict::Seen => prop_assert!(received.contains(seq), "{seq} was never received"),
                Verdict::TooOld => {
                    let highest = received.last().copied().unwrap_or(0);
                    prop_assert!(highest - seq >= 2 * MESH_REPLAY_GAPS_MAX as u32);
                    continue;
                }
            }
            window.accept(*seq);
            prop_assert_ne!(window.judge(*seq), Verdict::Fresh);
            prop_assert_eq!(Window::decode(&window.encode()), Ok(window.clone()));
        }
    }

    #[test]
    fn no_bytes_make_a_window_panic_and_what_parses_is_what_would_be_written(
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut value = vec![VERSION];
        value.extend(bytes);
        if let Ok(window) = Window::decode(&value) {
            prop_assert_eq!(&window.encode()[..], &value[..]);
            prop_assert_ne!(window.judge(window.highest), Verdict::Fresh);
        }
    }

    /// Numbers arrive in any order, repeatedly; receipts leave after a sync; crashes lose any suffix of what was not
    /// synced. What had its receipt is never delivered again.
    #[test]
    fn nothing_receipted_is_accepted_again_after_any_crash(
        steps in proptest::collection::vec((0..4_u8, 0..60_u32, 0..6_usize), 1..200),
    ) {
        let (mut disk, mut journal, mut replay) = (Disk::default(), Journal::default(), Replay::default());
        let (mut receipted, mut waiting) = (BTreeSet::new(), Vec::new());
        for (what, seq, survive) in steps {
            match what {
                0 | 1 => match replay.judge(&PEER, seq) {
                    Verdict::Fresh => {
                        prop_assert!(!receipted.contains(&seq), "{seq} was receipted and came again");
                        replay.accept(Time::ZERO, PEER, seq, &mut journal).unwrap();
                        waiting.push(seq);
                        journal.sync();
                    }
                    Verdict::Seen | Verdict::TooOld => {}
                },
                2 => {
                    disk.sync(&mut journal);
                    receipted.extend(waiting.drain(..));
                }
                _ => {
                    let mut saved = disk.crash(&mut journal, survive);
                    waiting.clear();
                    replay = Replay::restore(&mut saved, Time::ZERO, &mut journal).0;
                }
            }
        }
    }

    #[test]
    fn no_number_is_used_twice_whatever_a_crash_loses(
        steps in proptest::collection::vec((0..5_u8, 1..40_u8, 0..4_usize), 1..200),
        block in 1..20_u32,
    ) {
        let (mut disk, mut journal) = (Disk::default(), Journal::default());
        let mut numbers = SendSeq::restore(b"own", None, block, u32::MAX, &mut journal).unwrap();
        let mut used = BTreeSet::new();
        for (what, count, survive) in steps {
            match what {
                0..=2 => match numbers.take_run(count, &mut journal) {
                    Ok(first) => for seq in first..first + u32::from(count) {
                        prop_assert!(used.insert(seq), "{seq} was used twice");
                    },
                    Err(why) => prop_assert_eq!(why, NoNumber::Wait),
                },
                3 => if let Some(mark) = disk.sync(&mut journal) {
                    numbers.synced(mark);
                },
                _ => {
                    let mut saved = disk.crash(&mut journal, survive);
                    let value = saved.take(Table::Sequence).next().map(|(_, value)| value);
                    numbers = SendSeq::restore(b"own", value.as_deref(), block, u32::MAX, &mut journal).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_run_of_any_length_is_served_after_one_or_two_syncs(count in 1..=255_u8, block in 1..20_u32) {
        let (mut disk, mut journal) = (Disk::default(), Journal::default());
        let mut numbers = SendSeq::restore(b"own", None, block, u32::MAX, &mut journal).unwrap();
        let mut first = numbers.take_run(count, &mut journal);
        for _ in 0..2 {
            if first.is_err() {
                numbers.synced(disk.sync(&mut journal).expect("a block is under way"));
                first = numbers.take_run(count, &mut journal);
            }
        }
        prop_assert_eq!(first, Ok(0));
    }
}
