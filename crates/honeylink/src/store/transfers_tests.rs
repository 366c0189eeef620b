//! What the list of transfers promises.

use std::path::PathBuf;

use bytes::BytesMut;
use honeylink_core::identity::SecretKey;
use honeylink_core::limits::TRANSFER_PATH_BYTES_MAX;
use proptest::prelude::*;

use super::*;
use crate::store::record;
use crate::store::transfer_record::{RECORD_VERSION, path_of};

fn record(n: u64) -> TransferRecord {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    TransferRecord {
        id: TransferId(id),
        direction: Direction::Incoming,
        peer: Some(SecretKey::from_u64(1).id()),
        files: 3,
        name: "photos".to_owned(),
        total_bytes: 1000,
        done_bytes: 0,
        state: TransferState::Queued,
        destination: Some("/home/a/inbox".into()),
        sources: Vec::new(),
        error: String::new(),
        created: n,
        updated: n,
    }
}

fn log() -> TransferLog {
    TransferLog::load(Arc::new(StateDb::in_memory().unwrap())).unwrap()
}

fn reopened(log: &TransferLog) -> TransferLog {
    TransferLog::load(log.db.clone()).unwrap()
}

/// These bytes are on people's disks. A change here needs a new record version and a reader for this one.
#[test]
fn record_version_1_has_these_bytes() {
    let mut record = record(7);
    record.sources = vec!["/a".into(), "/b".into()];
    record.done_bytes = 10;
    record.error = "disk full".to_owned();
    record.state = TransferState::Failed;
    assert_eq!(data_encoding::HEXLOWER.encode(&record.encode()), GOLDEN);
    assert_eq!(TransferRecord::decode(record.id.0, &record.encode()), Ok(record));
}

const GOLDEN: &str = concat!(
    "01",                                                                 // record version
    "0104",                                                               // incoming, failed
    "20cfe27ff4d51eb9379c66c282ebe9654aa3a49e467d73aec2f2d7f88f9675f9b4", // peer
    "0707",                                                               // created, updated
    "03",                                                                 // files
    "43e80a",                                                             // 1000 bytes, 10 done
    "0670686f746f73",                                                     // name
    "0d2f686f6d652f612f696e626f78",                                       // destination
    "096469736b2066756c6c",                                               // error
    "02022f61022f62",                                                     // two sources
    "3d9003a4014c6444",                                                   // check
);

#[test]
fn what_was_active_is_paused_after_a_restart_and_the_rest_is_as_it_was() {
    let log = log();
    for n in 0..3 {
        log.add(record(n)).unwrap();
    }
    log.set_state(&record(0).id, TransferState::Active, "", 5000).unwrap();
    log.progress(&record(0).id, 10, 5001).unwrap();
    log.progress(&record(0).id, 600, 5001 + PROGRESS_PERSIST_MS).unwrap();
    log.progress(&record(0).id, 700, 5002 + PROGRESS_PERSIST_MS).unwrap();
    assert_eq!(log.find(&record(0).id).unwrap().done_bytes, 700);
    log.set_state(&record(1).id, TransferState::Failed, "disk full", 6000).unwrap();

    let again = reopened(&log);
    let first = again.find(&record(0).id).unwrap();
    assert_eq!((first.state, first.done_bytes), (TransferState::Paused, 600));
    assert_eq!(again.find(&record(1).id).unwrap().error, "disk full");
    assert_eq!(again.list().iter().map(|r| r.created).collect::<Vec<_>>(), [2, 1, 0]);
}

#[test]
fn what_is_done_or_declined_stays_so() {
    let log = log();
    for (n, end) in [(0, TransferState::Done), (1, TransferState::Declined)] {
        log.add(record(n)).unwrap();
        log.set_state(&record(n).id, end, "", 1).unwrap();
        for next in [TransferState::Queued, TransferState::Active, TransferState::Failed] {
            assert!(matches!(
                log.set_state(&record(n).id, next, "", 2),
                Err(TransferLogError::Ended { from, .. }) if from == end
            ));
        }
    }
    log.add(record(2)).unwrap();
    log.set_state(&record(2).id, TransferState::Failed, "gone", 1).unwrap();
    log.set_state(&record(2).id, TransferState::Active, "", 2).unwrap();
}

#[test]
fn history_is_bounded_and_open_transfers_are_never_pushed_out() {
    let log = log();
    for n in 0..TRANSFERS_OPEN_MAX as u64 {
        log.add(record(n)).unwrap();
    }
    assert!(matches!(log.add(record(9999)), Err(TransferLogError::TooMany)));
    for n in 10_000..10_000 + (TRANSFERS_MAX - TRANSFERS_OPEN_MAX) as u64 + 5 {
        log.add(TransferRecord { state: TransferState::Done, ..record(n) }).unwrap();
    }
    assert_eq!(log.list().len(), TRANSFERS_MAX);
    assert!(log.find(&record(0).id).is_some());
    assert!(log.find(&record(10_004).id).is_none() && log.find(&record(10_005).id).is_some());
    assert_eq!(reopened(&log).list(), log.list());
}

#[test]
fn a_transfer_that_begins_again_takes_its_own_place_also_when_the_list_is_full() {
    let log = log();
    for n in 0..TRANSFERS_OPEN_MAX as u64 {
        log.add(record(n)).unwrap();
    }
    log.set_state(&record(0).id, TransferState::Paused, "", 1).unwrap();
    let again = TransferRecord { state: TransferState::Active, done_bytes: 0, ..record(0) };
    log.renew(again.clone()).unwrap();
    assert_eq!(log.find(&again.id), Some(again));
    assert_eq!(log.list().len(), TRANSFERS_OPEN_MAX);
    assert!(matches!(log.renew(record(9999)), Err(TransferLogError::TooMany)));
}

#[test]
fn a_removed_transfer_is_gone_and_late_progress_does_not_bring_it_back() {
    let log = log();
    log.add(record(1)).unwrap();
    assert!(matches!(log.add(record(1)), Err(TransferLogError::Exists { .. })));
    log.remove(&record(1).id).unwrap();
    log.progress(&record(1).id, 5, 99_999).unwrap();
    assert!(log.list().is_empty() && reopened(&log).list().is_empty());
}

#[test]
fn what_would_not_fit_its_record_is_refused_before_it_is_written() {
    let log = log();
    let long = TransferRecord { name: "x".repeat(TRANSFER_PATH_BYTES_MAX + 1), ..record(1) };
    assert!(matches!(log.add(long), Err(TransferLogError::TooLarge { .. })));
    log.add(record(2)).unwrap();
    let told = log.set_state(&record(2).id, TransferState::Failed, &"ü".repeat(5000), 3).unwrap();
    assert_eq!(told.error.len(), ERROR_BYTES_MAX, "a long error is cut, not lost");
    assert_eq!(reopened(&log).find(&record(2).id), Some(told));
}

#[test]
fn a_damaged_record_is_named_and_leaves_the_others_alone() {
    let log = log();
    log.add(record(1)).unwrap();
    log.add(record(2)).unwrap();
    log.db
        .write(|txn| Ok(txn.open_table(TRANSFERS)?.insert(record(1).id.0, &b"\x01bad"[..]).map(drop)?))
        .unwrap();
    let again = reopened(&log);
    assert_eq!(again.unreadable().len(), 1);
    assert!(again.unreadable()[0].to_string().contains("transfers"));
    assert_eq!(again.list(), [record(2)]);
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_text_comes_back_byte_for_byte() {
    let odd = path_of(b"/tmp/\xff\xfe").unwrap();
    let record = TransferRecord { sources: vec![odd], ..record(1) };
    assert_eq!(TransferRecord::decode(record.id.0, &record.encode()), Ok(record));
}

proptest! {
    #[test]
    fn every_record_comes_back_as_it_was_written(
        name in "\\PC{0,40}",
        sources in prop::collection::vec("\\PC{0,40}", 0..4),
        destination in prop::option::of("/\\PC{0,40}"),
        peer in prop::option::of(any::<u64>().prop_map(|seed| SecretKey::from_u64(seed).id())),
        numbers in prop::array::uniform4(0..1_u64 << 62),
        state in prop::sample::select(vec![TransferState::Queued, TransferState::Active, TransferState::Paused,
            TransferState::Done, TransferState::Failed, TransferState::Declined]),
    ) {
        let record = TransferRecord {
            peer,
            name,
            sources: sources.into_iter().map(PathBuf::from).collect(),
            destination: destination.map(PathBuf::from),
            created: numbers[0], updated: numbers[1], total_bytes: numbers[2], done_bytes: numbers[3],
            state,
            ..record(1)
        };
        prop_assert_eq!(TransferRecord::decode(record.id.0, &record.encode()), Ok(record));
    }

    #[test]
    fn no_body_makes_the_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let sealed = record::seal(TRANSFERS.name(), &[1; 16], RECORD_VERSION, &BytesMut::from(&body[..]));
        let _ = TransferRecord::decode([1; 16], &sealed);
    }
}
