//! Changes, their causes and their words.

use super::*;
use crate::nat::{Allocation, Behavior, Filtering, Mapping};

fn way(rung: Rung, remote: &str, ms: u64) -> Way {
    let rtt = (ms > 0).then(|| Duration::from_millis(ms));
    Way { rung, carrier: "iroh", remote: remote.to_owned(), rtt }
}

fn at(s: u64) -> Time {
    Time::from_millis(s * 1000)
}

#[test]
fn a_link_that_starts_relayed_and_becomes_direct_says_what_it_gained() {
    let mut paths = Paths::default();
    let (relay, direct) = (way(Rung::Relayed, "https://r", 41), way(Rung::Direct, "203.0.113.9:7", 0));
    assert_eq!(paths.observe(at(1), Some(relay.clone()), []).unwrap().cause, Cause::First);
    let change = paths.observe(at(2), Some(direct), [relay.clone()]).unwrap().clone();
    assert_eq!((change.cause, change.gap), (Cause::Climbed, Duration::ZERO));
    // The time on the new way is measured a little later, and then belongs to the change.
    let measured = way(Rung::Direct, "203.0.113.9:7", 9);
    assert_eq!(paths.observe(at(3), Some(measured.clone()), [relay]), None);
    paths.observe(at(4), Some(way(Rung::Direct, "203.0.113.9:7", 15)), [way(Rung::Relayed, "https://r", 40)]);
    let last = paths.history().last().unwrap();
    assert_eq!(last.from.as_ref().unwrap().rtt, Some(Duration::from_millis(41)));
    assert_eq!(last.to, Some(measured));
    assert_eq!(paths.used().unwrap().rtt, Some(Duration::from_millis(15)));
    assert_eq!(paths.reason(None).unwrap().to_string(), "chosen over relayed 40 ms");
}

#[test]
fn a_way_that_died_is_told_from_one_that_was_left() {
    let mut paths = Paths::default();
    let (direct, relay) = (way(Rung::Direct, "a:1", 9), way(Rung::Relayed, "https://r", 41));
    paths.observe(at(1), Some(direct.clone()), [relay.clone()]);
    assert_eq!(paths.observe(at(2), Some(relay.clone()), []).unwrap().cause, Cause::Failed);
    let text = paths.reason(Some(Hindrance::NoAnswer)).unwrap().to_string();
    assert_eq!(
        text,
        "the only way there is, since the way before failed; not direct: none of its direct addresses answered"
    );
    assert_eq!(paths.observe(at(3), Some(direct.clone()), [relay]).unwrap().cause, Cause::Climbed);
    let other = way(Rung::Direct, "b:1", 2);
    assert_eq!(paths.observe(at(4), Some(other), [direct]).unwrap().cause, Cause::Preferred);
}

#[test]
fn the_time_without_any_way_is_counted() {
    let mut paths = Paths::default();
    let lan = way(Rung::Lan, "192.168.1.7:7", 1);
    paths.observe(at(1), Some(lan.clone()), []);
    assert_eq!(paths.observe(at(5), None, []).unwrap().cause, Cause::Lost);
    assert_eq!(paths.reason(None), None);
    let change = paths.observe(at(9), Some(lan), []).unwrap();
    assert_eq!((change.cause, change.gap), (Cause::Restored, Duration::from_secs(4)));
    assert_eq!(*paths.counts(), [1, 0, 0, 0, 1, 1]);
}

#[test]
fn what_hinders_a_direct_way_is_said_only_where_there_is_none() {
    let hard = Behavior {
        mapping: Mapping::AddressAndPortDependent,
        filtering: Filtering::AddressAndPortDependent,
        allocation: Allocation::Random,
    };
    let nats = Some(Hindrance::Nats { ours: hard, theirs: hard });
    let mut paths = Paths::default();
    paths.observe(at(1), Some(way(Rung::Relayed, "https://r", 41)), []);
    let text = paths.reason(nats).unwrap().to_string();
    assert!(text.contains("not direct: no hole could be made through the NATs"), "{text}");
    assert!(text.contains("random ports"), "{text}");
    paths.observe(at(2), Some(way(Rung::Lan, "192.168.1.7:7", 1)), []);
    assert_eq!(paths.reason(nats).unwrap().to_string(), "the only way there is");
}

#[test]
fn a_link_that_flaps_for_ever_does_not_grow_memory() {
    let mut paths = Paths::default();
    for second in 0..10_000 {
        let used = way(Rung::Direct, &format!("a:{}", second % 2), 5);
        let others = (0..100).map(|n| way(Rung::Direct, &format!("c:{n}"), 5));
        paths.observe(at(second), Some(used), others);
    }
    assert_eq!((paths.history().len(), paths.others().len()), (PATH_CHANGES_MAX, PATHS_MAX));
    assert_eq!(paths.counts().iter().sum::<u64>(), 10_000);
}
