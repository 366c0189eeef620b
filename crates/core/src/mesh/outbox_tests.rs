//! Tests of [`super`]: steps, pauses, displacement, and a crash at every moment.

use super::*;
use crate::identity::SecretKey;
use crate::mesh::disk_model::Disk;
use core::time::Duration;
use proptest::prelude::*;

fn to() -> DeviceId {
    SecretKey::from_u64(3).id()
}

fn at(s: u64) -> Moment {
    Moment::unclocked(Time::from_millis(s * 1000))
}

fn outgoing(id: u64, priority: Priority, len: usize) -> Outgoing {
    Outgoing {
        id,
        to: to(),
        payload: Bytes::from(vec![id as u8; len]),
        priority,
        lifetime: Duration::from_secs(3600),
        receipt: true,
    }
}

#[test]
fn a_message_is_found_by_any_of_its_numbers_and_by_its_target_only() {
    let (mut outbox, mut journal) = (Outbox::default(), Journal::default());
    outbox.accept(at(0), outgoing(1, Priority::Normal, 20), &mut journal).unwrap();
    let address = Address::of(&to());
    assert_eq!(outbox.numbered(&address, 0), None, "it has no number yet");
    outbox.number(at(0), 1, Numbers { first: 7, pieces: 2, piece_bytes: 10 }, &mut journal);
    outbox.number(at(0), 1, Numbers { first: 70, pieces: 2, piece_bytes: 10 }, &mut journal);
    assert_eq!([6, 7, 8, 9].map(|seq| outbox.numbered(&address, seq)), [None, Some(1), Some(1), None]);
    assert_eq!(outbox.numbered(&Address([4; 16]), 7), None);
    assert_eq!(outbox.hinted(address.far(), 8), Some(1));
    assert!(outbox.remove(1, &mut journal).is_some());
    assert!(outbox.is_empty() && outbox.bytes() == 0);
}

#[test]
fn a_message_that_would_be_over_before_the_node_is_up_again_is_not_written() {
    let (mut outbox, mut journal, mut disk) = (Outbox::default(), Journal::default(), Disk::default());
    let short = Outgoing { lifetime: MESH_VOLATILE_LIFETIME_MAX, ..outgoing(1, Priority::Normal, 5) };
    outbox.accept(at(0), short, &mut journal).unwrap();
    outbox.number(at(0), 1, Numbers { first: 7, pieces: 1, piece_bytes: 10 }, &mut journal);
    outbox.remove(1, &mut journal);
    assert_eq!(disk.sync(&mut journal), None);
    assert!(disk.durable.is_empty());
}

#[test]
fn that_a_store_node_has_it_is_told_once_and_survives() {
    let (mut outbox, mut journal, mut disk) = (Outbox::default(), Journal::default(), Disk::default());
    outbox.accept(at(0), outgoing(1, Priority::Normal, 1), &mut journal).unwrap();
    assert!(outbox.stored(at(0), 1, &mut journal));
    assert!(!outbox.stored(at(0), 1, &mut journal));
    journal.sync();
    disk.sync(&mut journal);
    let (outbox, _) = Outbox::restore(&mut disk.crash(&mut journal, 0), at(0), &mut journal);
    assert!(outbox.find(1).is_some_and(|message| message.stored));
}

#[test]
fn a_full_outbox_gives_up_the_less_urgent_and_says_which() {
    let (mut outbox, mut journal) = (Outbox::default(), Journal::default());
    for id in 0..MESH_OUTBOX_MESSAGES_MAX as u64 {
        let priority = if id == 9 { Priority::Bulk } else { Priority::Normal };
        outbox.accept(at(0), outgoing(id, priority, 10), &mut journal).unwrap();
    }
    assert_eq!(outbox.accept(at(0), outgoing(900, Priority::Bulk, 1), &mut journal), Err(Refused::Full));
    let displaced = outbox.accept(at(0), outgoing(901, Priority::Normal, 1), &mut journal);
    assert_eq!(displaced, Ok(vec![9]));
    assert_eq!(outbox.accept(at(0), outgoing(902, Priority::Normal, 1), &mut journal), Err(Refused::Full));
    assert!(outbox.accept(at(0), outgoing(903, Priority::Control, 1), &mut journal).is_ok());
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let (mut outbox, mut journal) = (Outbox::default(), Journal::default());
    let long = outgoing(1, Priority::Normal, MESH_MESSAGE_BYTES_MAX + 1);
    assert_eq!(outbox.accept(at(0), long, &mut journal), Err(Refused::TooLong));
    let dead = Outgoing { lifetime: Duration::ZERO, ..outgoing(1, Priority::Normal, 1) };
    assert_eq!(outbox.accept(at(0), dead, &mut journal), Err(Refused::NoLifetime));
    outbox.accept(at(0), outgoing(1, Priority::Normal, 1), &mut journal).unwrap();
    let again = outgoing(1, Priority::Normal, 1);
    assert_eq!(outbox.accept(at(0), again, &mut journal), Err(Refused::Known));
}

#[test]
fn restarts_without_a_clock_still_come_to_an_end() {
    let (mut outbox, mut journal, mut disk) = (Outbox::default(), Journal::default(), Disk::default());
    outbox.accept(at(0), outgoing(1, Priority::Normal, 1), &mut journal).unwrap();
    let mut restarts = 0;
    while !outbox.is_empty() {
        disk.sync(&mut journal);
        let mut saved = disk.crash(&mut journal, 0);
        outbox = Outbox::restore(&mut saved, at(0), &mut journal).0;
        let over: Vec<u64> =
            outbox.iter().filter(|(_, m)| m.ends_at <= at(0).now).map(|(id, _)| id).collect();
        for id in over {
            outbox.remove(id, &mut journal);
        }
        restarts += 1;
        assert!(restarts < 40, "for ever");
    }
    assert!(restarts > 10);
    disk.sync(&mut journal);
    assert!(disk.durable.is_empty());
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
            let mut name = vec![0, 0, 0, 0, 0, 0, 0, id];
            name.push(part);
            let record = super::super::records::Record { key: Key::new(Table::Outbox, &name), value: value.into() };
            saved.apply(&super::super::records::Write::Save(record));
        }
        let mut disk = Disk::holding(saved.clone());
        let mut journal = Journal::default();
        let (outbox, _) = Outbox::restore(&mut saved, at(5), &mut journal);
        disk.sync(&mut journal);
        prop_assert_eq!(disk.durable.len(), outbox.len() * 2);
        let (again, damaged) = Outbox::restore(&mut disk.durable, at(5), &mut journal);
        prop_assert_eq!((again.len(), damaged), (outbox.len(), 0));
    }

    /// Messages come, get numbers, end, and the node crashes losing any suffix of what was not synced.
    #[test]
    fn what_was_safe_and_did_not_end_is_there_after_any_crash(
        steps in proptest::collection::vec((0..6_u8, 0..8_u64, 0..8_usize), 1..120),
    ) {
        let (mut outbox, mut journal, mut disk) = (Outbox::default(), Journal::default(), Disk::default());
        let (mut safe, mut unsure) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let mut next = 0;
        for (what, pick, survive) in steps {
            match what {
                0 | 1 => {
                    let taken = outbox.accept(at(0), outgoing(next, Priority::Normal, 5), &mut journal);
                    prop_assert!(taken.is_ok());
                    unsure.insert(next);
                    next += 1;
                }
                2 => {
                    let numbers = Numbers { first: pick as u32 * 10, pieces: 3, piece_bytes: 2 };
                    outbox.number(at(0), pick, numbers, &mut journal);
                }
                3 => if outbox.remove(pick, &mut journal).is_some() {
                    safe.remove(&pick);
                    unsure.insert(pick);
                },
                4 => {
                    disk.sync(&mut journal);
                    let here = |id: &u64| outbox.find(*id).is_some();
                    safe.extend(unsure.iter().copied().filter(here));
                    unsure.clear();
                }
                _ => {
                    let mut saved = disk.crash(&mut journal, survive);
                    let clocked = Moment { now: Time::ZERO, unix_ms: None };
                    let (restored, damaged) = Outbox::restore(&mut saved, clocked, &mut journal);
                    prop_assert_eq!(damaged, 0);
                    outbox = restored;
                    for (id, message) in outbox.iter() {
                        prop_assert!(safe.contains(&id) || unsure.contains(&id), "{id} came back");
                        prop_assert_eq!(message.payload.len(), 5);
                    }
                    for id in &safe {
                        prop_assert!(outbox.find(*id).is_some(), "{id} was lost");
                    }
                    unsure.retain(|id| outbox.find(*id).is_some());
                }
            }
            let bytes: usize = outbox.iter().map(|(_, message)| message.payload.len()).sum();
            prop_assert_eq!(bytes, outbox.bytes());
        }
    }
}
