//! Two machines pair by code, talk, and say which way the words went.

use serde_json::Value;

use crate::PATIENCE;
use crate::host::Host;
use crate::net::Lan;

#[test]
fn a_code_pairs_both_sides_who_then_talk_over_the_lan() {
    let Some((_lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    ann.up();
    bob.up();
    let outcome = ann.pair(&bob);
    assert_eq!(
        (&outcome["ok"], &outcome["name"], &outcome["trust"]),
        (&true.into(), &"ann".into(), &"paired".into())
    );
    for (host, peer) in [(&ann, "bob"), (&bob, "ann")] {
        let known = host.knows(peer).unwrap();
        assert_eq!((&known["trust"], &known["method"]), (&"paired".into(), &"code".into()), "{known}");
        assert_eq!(host.sees(peer).unwrap()["trust"], "paired");
    }
    talks(&ann, &bob, "good morning, Bob");
    talks(&bob, &ann, "guten Morgen, Ann \u{1F44B}");

    let report = ann.json(&["path", "bob"]);
    goes_over_the_lan(&report["path"]);
    let pings = ann.run(&["ping", "bob", "--count", "3", "--interval", "0.1", "--json"]).ok();
    let summary = pings.last();
    assert_eq!((&summary["event"], &summary["received"]), (&"summary".into(), &3.into()), "{summary}");
    goes_over_the_lan(&summary["path"]);
    assert!(summary["p50_ms"].as_f64().unwrap() > 0.0, "{summary}");
}

#[test]
fn an_id_prefix_or_a_new_name_means_the_device_and_a_stranger_is_turned_away() {
    let Some((_lan, [mut ann, mut bob, mut eve])) = Lan::build(["ann", "bob", "eve"]) else { return };
    for host in [&mut ann, &mut bob, &mut eve] {
        host.up();
    }
    ann.pair(&bob);
    let id = bob.json(&["status"])["id"].as_str().unwrap().to_owned();
    ann.json(&["ping", &id[..10], "--count", "1"]);
    ann.json(&["devices", "rename", "bob", "the studio"]);
    ann.json(&["ping", "the studio", "--count", "1"]);

    let seen = crate::until("eve sees ann", PATIENCE, || eve.sees("ann"));
    let refused = eve.run(&["ping", seen["id"].as_str().unwrap(), "--count", "1", "--json"]);
    assert_eq!(refused.code, Some(10), "{refused:#?}");
    assert_eq!(refused.last()["error"]["code"], "policy", "{refused:#?}");
}

/// One says something; the other hears it once, from the right one.
fn talks(speaker: &Host, listener: &Host, words: &str) {
    let mut listening = listener.start(&["chat", "--json"]);
    listening.event("ready");
    let said = speaker.json(&["chat", listener.name(), words]);
    assert_eq!((&said["state"], &said["direction"]), (&"delivered".into(), &"out".into()), "{said}");
    let heard = listening.event("message");
    assert_eq!(
        (&heard["text"], &heard["name"], &heard["direction"]),
        (&words.into(), &speaker.name().into(), &"in".into())
    );
}

fn goes_over_the_lan(path: &Value) {
    assert_eq!(path["rung"], "direct/lan", "{path}");
    let address: std::net::SocketAddr = path["address"].as_str().unwrap().parse().unwrap();
    let on_the_bridge = match address.ip() {
        std::net::IpAddr::V4(v4) => v4.octets()[..3] == [10, 77, 0],
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    assert!(on_the_bridge, "{path}");
    assert!(path["rtt_ms"].as_f64().unwrap() > 0.0, "{path}");
}
