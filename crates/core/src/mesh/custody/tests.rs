//! Tests of [`super`]: the promise across crashes, quotas, displacement, letting go.

use std::collections::BTreeSet;

use super::*;
use crate::mesh::disk_model::Disk;
use crate::mesh::records::{Key, Record, Write};
use crate::rng::Rng;
use proptest::prelude::*;

const QUOTA: Quota = Quota { bytes: 1000, depositor_bytes: 500, target_bytes: 400 };

const RECEIPT: Bytes = Bytes::from_static(b"receipt");

fn at(s: u64) -> Moment {
    Moment::unclocked(Time::from_millis(s * 1000))
}

fn deposit(id: u8, depositor: u16, target: u8, priority: Priority, len: usize) -> Deposit {
    Deposit {
        id: [id; 8],
        depositor: (PortId(0), Near(depositor)),
        source: Far([9; 3]),
        target: Far([target; 3]),
        first: u32::from(id),
        seq: u32::from(id),
        priority,
        lifetime: Duration::from_secs(3600),
        frame: Bytes::from(vec![id; len]),
    }
}

#[test]
fn custody_is_acknowledged_only_when_it_is_safe_and_then_as_often_as_asked() {
    let (mut custody, mut journal, mut disk) = (Custody::new(QUOTA), Journal::default(), Disk::default());
    let frame = || deposit(1, 5, 1, Priority::Normal, 100);
    let pending = Ok(Taken::Pending { displaced: Vec::new() });
    assert_eq!(custody.accept(at(0), frame(), &mut journal), pending);
    assert_eq!(custody.accept(at(0), frame(), &mut journal), pending);
    assert!(custody.synced(Mark(0)).is_empty());
    let mark = disk.sync(&mut journal).unwrap();
    assert_eq!(custody.synced(mark), [([1; 8], (PortId(0), Near(5)))]);
    assert!(custody.synced(mark).is_empty());
    assert_eq!(custody.accept(at(0), frame(), &mut journal), Ok(Taken::Already));
    assert_eq!((custody.len(), custody.bytes()), (1, 100));
}

#[test]
fn a_frame_is_due_on_contact_again_after_a_pause_and_gone_after_its_receipt() {
    let (mut custody, mut journal, mut rng) = (Custody::new(QUOTA), Journal::default(), Rng::from_u64(1));
    custody.accept(at(0), deposit(1, 5, 1, Priority::Bulk, 10), &mut journal).unwrap();
    custody.accept(at(0), deposit(2, 5, 1, Priority::Urgent, 10), &mut journal).unwrap();
    custody.accept(at(0), deposit(3, 5, 2, Priority::Urgent, 10), &mut journal).unwrap();
    assert_eq!(custody.due(at(0).now), None);
    custody.contact(at(1).now, Far([1; 3]));
    assert_eq!(custody.due(at(1).now), Some([2; 8]), "the most urgent first");
    custody.tried(at(1).now, &[2; 8], Duration::from_secs(20), &mut rng);
    assert_eq!(custody.due(at(1).now), Some([1; 8]));
    custody.defer(&[1; 8], at(500).now);
    assert_eq!(custody.due(at(1).now), None);
    custody.contact(at(2).now, Far([1; 3]));
    assert_eq!(custody.due(at(2).now), Some([1; 8]), "the other one was sent a moment ago");
    assert_eq!(custody.receipt(at(3).now, Far([9; 3]), Far([1; 3]), 2, &RECEIPT, &mut journal), 1);
    let late = custody.accept(at(4), deposit(2, 5, 1, Priority::Urgent, 10), &mut journal);
    assert_eq!(late, Ok(Taken::Finished { receipt: RECEIPT }));
    assert!(custody.handed_on(&[1; 8], &mut journal));
    assert_eq!(custody.timeout(at(3600).now, &mut journal), 1);
    assert!(custody.is_empty() && custody.bytes() == 0);
    let counts = custody.counts();
    assert_eq!((counts.stored, counts.delivered, counts.handed_on, counts.expired), (3, 1, 1, 1));
}

#[test]
fn a_receipt_clears_all_pieces_of_its_message() {
    let (mut custody, mut journal) = (Custody::new(QUOTA), Journal::default());
    for id in 1..4 {
        let piece = Deposit { first: 70, seq: 70 + u32::from(id), ..deposit(id, 5, 1, Priority::Normal, 10) };
        custody.accept(at(0), piece, &mut journal).unwrap();
    }
    assert_eq!(custody.receipt(at(0).now, Far([9; 3]), Far([2; 3]), 70, &RECEIPT, &mut journal), 0);
    assert_eq!(custody.receipt(at(0).now, Far([9; 3]), Far([1; 3]), 70, &RECEIPT, &mut journal), 3);
}

#[test]
fn nobody_has_more_than_its_part_and_an_unwilling_node_takes_nothing() {
    let (mut custody, mut journal) = (Custody::new(QUOTA), Journal::default());
    let mut give = |custody: &mut Custody, id, depositor, target, len| {
        custody.accept(at(0), deposit(id, depositor, target, Priority::Normal, len), &mut journal)
    };
    assert!(give(&mut custody, 1, 1, 1, 300).is_ok());
    assert_eq!(give(&mut custody, 2, 2, 1, 200), Err(Refused::TargetFull));
    assert!(give(&mut custody, 3, 1, 2, 200).is_ok());
    assert_eq!(give(&mut custody, 4, 1, 3, 1), Err(Refused::DepositorFull));
    assert_eq!(give(&mut custody, 5, 2, 3, 450), Err(Refused::TooLong));
    assert_eq!(give(&mut Custody::new(Quota::NONE), 1, 1, 1, 1), Err(Refused::Unwilling));
    assert_eq!(custody.counts().refused.values().sum::<u64>(), 3);
}

#[test]
fn the_less_urgent_of_the_greediest_makes_room_and_equals_only_for_somebody_with_much_less() {
    let (mut custody, mut journal) = (Custody::new(QUOTA), Journal::default());
    for (id, depositor, priority, len) in [
        (1, 1, Priority::Bulk, 100),
        (2, 2, Priority::Bulk, 150),
        (3, 2, Priority::Normal, 350),
        (4, 3, Priority::Normal, 400),
    ] {
        custody.accept(at(0), deposit(id, depositor, id, priority, len), &mut journal).unwrap();
    }
    let mut give = |id, depositor, priority, len| {
        custody.accept(at(0), deposit(id, depositor, id, priority, len), &mut journal)
    };
    assert_eq!(give(5, 4, Priority::Bulk, 300), Err(Refused::Full));
    assert_eq!(give(6, 4, Priority::Normal, 100), Ok(Taken::Pending { displaced: vec![[2; 8]] }));
    assert_eq!(give(7, 5, Priority::Normal, 100), Ok(Taken::Pending { displaced: vec![[1; 8]] }));
    assert_eq!(give(8, 6, Priority::Normal, 100), Ok(Taken::Pending { displaced: vec![[4; 8]] }));
}

#[test]
fn a_quota_that_shrank_keeps_the_most_urgent() {
    let (mut custody, mut journal, mut disk) = (Custody::new(QUOTA), Journal::default(), Disk::default());
    for (id, priority) in [(1, Priority::Normal), (2, Priority::Urgent), (3, Priority::Bulk)] {
        custody.accept(at(0), deposit(id, 1, id, priority, 100), &mut journal).unwrap();
    }
    disk.sync(&mut journal);
    let mut saved = disk.crash(&mut journal, 0);
    let (custody, damaged) = Custody::restore(Quota::of(150), &mut saved, at(0), &mut journal);
    assert_eq!((custody.len(), damaged), (1, 0));
    assert!(custody.find(&[2; 8]).is_some());
    disk.sync(&mut journal);
    assert_eq!(disk.durable.len(), 2);
}

proptest! {
    #[test]
    fn records_of_any_bytes_are_restored_or_erased(
        records in proptest::collection::vec(
            (0..3_u8, 0..3_u8, proptest::collection::vec(any::<u8>(), 0..60)), 0..8),
    ) {
        let mut saved = Saved::default();
        for (id, part, mut value) in records {
            if let Some(version) = value.first_mut() {
                *version %= 3;
            }
            let mut name = vec![id; 8];
            name.push(part);
            saved.apply(&Write::Save(Record { key: Key::new(Table::Custody, &name), value: value.into() }));
        }
        let mut disk = Disk::holding(saved.clone());
        let mut journal = Journal::default();
        let (custody, _) = Custody::restore(QUOTA, &mut saved, at(5), &mut journal);
        disk.sync(&mut journal);
        prop_assert_eq!(disk.durable.len(), custody.len() * 2);
    }

    /// Deposits, receipts, time and crashes in any order: bounds hold, and what was acknowledged is held until it was let
    /// go for a reason.
    #[test]
    fn what_was_acknowledged_is_held_after_any_crash(
        steps in proptest::collection::vec(
            (0..8_u8, 0..30_u8, 0..4_u16, 0..4_u8, 0..4_u8, 1..300_usize, 0..8_usize), 1..150),
    ) {
        let (mut custody, mut journal, mut disk) = (Custody::new(QUOTA), Journal::default(), Disk::default());
        let (mut acknowledged, mut let_go) = (BTreeSet::new(), BTreeSet::new());
        for (what, id, depositor, target, priority, len, survive) in steps {
            match what {
                0..=3 => {
                    let deposit = deposit(id, depositor, target, Priority::from_bits(priority), len);
                    match custody.accept(at(0), deposit, &mut journal) {
                        Ok(Taken::Pending { displaced }) => {
                            // Held anew, whatever was promised for it before.
                            acknowledged.remove(&[id; 8]);
                            let_go.remove(&[id; 8]);
                            let_go.extend(displaced);
                        }
                        Ok(Taken::Already) => {
                            acknowledged.insert([id; 8]);
                            let_go.remove(&[id; 8]);
                        }
                        Ok(Taken::Finished { .. }) | Err(_) => {}
                    }
                }
                4 | 5 => if let Some(mark) = disk.sync(&mut journal) {
                    acknowledged.extend(custody.synced(mark).into_iter().map(|(id, _)| id));
                },
                6 => if custody.receipt(at(0).now, Far([9; 3]), Far([target; 3]), id.into(), &RECEIPT, &mut journal) > 0 {
                    let_go.insert([id; 8]);
                },
                _ => {
                    let mut saved = disk.crash(&mut journal, survive);
                    let clocked = Moment { now: Time::ZERO, unix_ms: None };
                    let (restored, damaged) = Custody::restore(QUOTA, &mut saved, clocked, &mut journal);
                    prop_assert_eq!(damaged, 0);
                    custody = restored;
                }
            }
            for id in acknowledged.difference(&let_go) {
                prop_assert!(custody.find(id).is_some(), "{id:?} was acknowledged and is not held");
            }
            prop_assert!(custody.bytes() <= QUOTA.bytes);
        }
    }
}
