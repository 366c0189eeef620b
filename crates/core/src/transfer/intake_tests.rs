//! Each test is something a hostile sender tries.

use super::*;
use proptest::prelude::*;

fn file(path: &str, size: u64) -> Entry {
    let modified = Modified { seconds: 0, nanos: 0 };
    Entry { path: path.into(), body: Body::File { size, executable: false, modified } }
}

fn folder(path: &str) -> Entry {
    Entry { path: path.into(), body: Body::Folder }
}

fn intake(entries: u64, files: u64, bytes: u64) -> Intake {
    Intake::new(Offer { id: [0; 16], name: "x".into(), entries, files, bytes })
}

fn list(intake: &mut Intake, first: u64, entries: Vec<Entry>) -> Result<usize, Violation> {
    intake.list(first, entries).map(Iterator::count)
}

#[test]
fn an_honest_transfer_passes() {
    let mut intake = intake(4, 2, 105);
    assert_eq!(list(&mut intake, 0, vec![folder("d"), file("d/a", 5), file("d/b", 100), folder("e")]), Ok(4));
    assert_eq!(intake.next_folder(Some(1)).as_deref(), Some("d"));
    assert_eq!(intake.next_folder(Some(1)), None);
    assert_eq!(intake.whole(1, 5).map(|f| f.path).as_deref(), Ok("d/a"));
    assert_eq!(intake.start(2, 40).map(|f| f.size), Ok(100));
    assert_eq!(intake.data(60), Ok(()));
    assert_eq!(intake.end(), Ok(()));
    assert_eq!(intake.next_folder(None).as_deref(), Some("e"));
    assert_eq!(intake.finish(), Ok(()));
}

#[test]
fn more_than_was_offered_is_refused() {
    assert!(matches!(
        list(&mut intake(1, 1, 9), 0, vec![file("a", 10)]),
        Err(Violation::NotAsOffered { .. })
    ));
    assert!(matches!(
        list(&mut intake(1, 1, 9), 0, vec![file("a", 1), file("b", 1)]),
        Err(Violation::NotAsOffered { .. })
    ));
    assert!(matches!(list(&mut intake(2, 0, 9), 0, vec![file("a", 1)]), Err(Violation::NotAsOffered { .. })));
    let mut open = intake(1, 1, 9);
    list(&mut open, 0, vec![file("a", 9)]).unwrap();
    open.start(0, 0).unwrap();
    assert!(matches!(open.data(10), Err(Violation::NotAsOffered { .. })));
}

#[test]
fn a_path_twice_or_out_of_order_is_refused() {
    for paths in [["a", "a"], ["b", "a"], ["a/b", "a"]] {
        let entries = paths.iter().map(|p| file(p, 0)).collect();
        assert!(matches!(list(&mut intake(2, 2, 0), 0, entries), Err(Violation::Order { .. })), "{paths:?}");
    }
}

#[test]
fn an_escape_is_refused_when_it_is_listed() {
    let refused = list(&mut intake(1, 1, 0), 0, vec![file("../../.bashrc", 0)]);
    assert_eq!(refused, Err(Violation::Path { path: "../../.bashrc".into(), why: Refused::Escape }));
}

#[test]
fn an_endless_listing_is_refused_at_the_window() {
    let mut intake = intake(1_000_000, 1_000_000, 0);
    let entries = (0..=TRANSFER_WINDOW_ENTRIES_MAX).map(|i| file(&format!("{i:08}"), 0)).collect();
    assert_eq!(list(&mut intake, 0, entries), Err(Violation::Window));
}

#[test]
fn content_without_a_file_or_an_end_too_early_is_refused() {
    let mut intake = intake(2, 2, 20);
    list(&mut intake, 0, vec![file("a", 10), file("b", 10)]).unwrap();
    assert!(matches!(intake.data(1), Err(Violation::Unexpected { .. })));
    assert!(matches!(intake.end(), Err(Violation::Unexpected { .. })));
    assert!(intake.start(0, 0).is_ok());
    assert!(matches!(intake.start(1, 0), Err(Violation::Unexpected { .. })));
    assert!(matches!(intake.data(0), Err(Violation::Unexpected { .. })));
    assert_eq!(intake.data(9), Ok(()));
    assert!(matches!(intake.end(), Err(Violation::NotAsOffered { .. })));
    assert!(matches!(intake.finish(), Err(Violation::NotAsOffered { .. })));
}

proptest! {
    /// Whatever order the calls come in, no more bytes are let through than the offer allows.
    #[test]
    fn never_more_bytes_than_offered(
        sizes in proptest::collection::vec(0u64..2000, 1..6),
        calls in proptest::collection::vec((0u8..4, 0u64..8, 0usize..2000), 0..60),
    ) {
        let total = sizes.iter().sum::<u64>();
        let mut intake = intake(sizes.len() as u64, sizes.len() as u64, total);
        let entries = sizes.iter().enumerate().map(|(i, s)| file(&format!("{i}"), *s)).collect();
        list(&mut intake, 0, entries).unwrap();
        let mut passed = 0;
        for (call, index, len) in calls {
            match call {
                0 => drop(intake.start(index, 0)),
                1 => passed += if intake.data(len).is_ok() { len as u64 } else { 0 },
                2 => passed += if intake.whole(index, len).is_ok() { len as u64 } else { 0 },
                _ => drop(intake.end()),
            }
        }
        prop_assert!(passed <= total);
    }
}
