//! Two machines see each other, without anybody telling either one about the other, and after the cable was out as well.

use std::time::{Duration, Instant};

use crate::net::Lan;
use crate::{PATIENCE, until};

#[test]
fn two_machines_list_each_other_within_five_seconds_and_again_after_a_link_was_down() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    ann.up();
    bob.up();
    let began = Instant::now();
    let bob_there = until("ann lists bob", Duration::from_secs(5), || ann.sees("bob"));
    let ann_there = until("bob lists ann", Duration::from_secs(5), || bob.sees("ann"));
    println!("both listed after {:?}", began.elapsed());
    assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());

    assert_eq!(bob_there["id"], bob.json(&["status"])["id"]);
    assert_eq!(ann_there["id"], ann.json(&["status"])["id"]);
    assert_eq!(bob_there["trust"], "seen");
    assert_eq!(bob_there["seen_by"][0], "mdns");
    assert!(bob_there["path"].is_null(), "no link was asked for: {bob_there}");

    let mut watch = ann.start(&["nearby", "--watch", "--json"]);
    let is_bob = |value: &serde_json::Value| value["name"] == "bob";
    watch.event_where(PATIENCE, "found", is_bob);
    let before = (ann.daemon_pid(), ann.json(&["status"])["pid"].clone());
    lan.ip("ann", "link set eth0 down");
    watch.event_where(PATIENCE, "lost", is_bob);
    lan.ip("ann", "link set eth0 up");
    let up = Instant::now();
    watch.event_where(PATIENCE, "found", is_bob);
    println!("found again {:?} after the link came up", up.elapsed());
    assert!(up.elapsed() <= Duration::from_secs(5), "{:?}", up.elapsed());
    assert_eq!((ann.daemon_pid(), ann.json(&["status"])["pid"].clone()), before, "nothing was restarted");
    until("bob still lists ann", Duration::from_secs(5), || bob.sees("ann"));
}
