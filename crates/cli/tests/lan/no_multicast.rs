//! Networks that drop multicast, as many offices' and guests' do: devices find each other by broadcast; where that is dropped
//! too, by asking each address; and where nothing of it works, the QR's text has addresses, and a device once met is found
//! where it was.

use crate::host::Host;
use crate::net::Lan;
use crate::{PATIENCE, until};

/// mDNS neither comes nor goes.
const DROP_MDNS: &str = "table inet deaf {
    chain sent {
        type filter hook output priority 0; policy accept;
        ip daddr 224.0.0.251 drop
        ip6 daddr ff02::fb drop
    }
    chain arrived {
        type filter hook input priority 0; policy accept;
        ip daddr 224.0.0.251 drop
        ip6 daddr ff02::fb drop
    }
}";

/// Nor does a broadcast.
const DROP_BROADCASTS: &str = "table inet deafer {
    chain sent {
        type filter hook output priority 0; policy accept;
        ip daddr { 10.77.0.255, 255.255.255.255 } drop
    }
    chain arrived {
        type filter hook input priority 0; policy accept;
        meta pkttype broadcast drop
    }
}";

/// A tunnel that takes the default route, as most do.
fn join_vpn(lan: &Lan, name: &str) {
    lan.ip(name, "link add vpn0 type veth peer name vpn1");
    lan.ip(name, "link set vpn1 up");
    lan.ip(name, "addr add 198.51.100.1/24 dev vpn0");
    lan.ip(name, "link set vpn0 up");
    lan.ip(name, "route add default via 198.51.100.2");
}

/// Waits until each sees the other by this finder, pairs them by a code of words, and lets them talk.
fn meet(ann: &mut Host, bob: &mut Host, finders: &[&str]) {
    for (host, other) in [(&*ann, "bob"), (&*bob, "ann")] {
        until("they see each other", PATIENCE * 2, || {
            let nearby = host.json(&["nearby"]);
            let seen = nearby.as_array().unwrap().iter().find(|device| device["name"] == other)?;
            let by = seen["seen_by"].as_array().unwrap();
            assert!(by.iter().all(|finder| finders.contains(&finder.as_str().unwrap())), "{seen}");
            Some(())
        });
    }
    ann.pair(bob);
    assert_eq!(bob.json(&["chat", "ann", "no multicast here"])["state"], "delivered");
    assert_eq!(ann.json(&["ping", "bob", "--count", "1"])["path"]["rung"], "direct/lan");
}

#[test]
fn without_multicast_devices_find_each_other_by_broadcast_though_a_vpn_has_the_default_route() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    for host in [&mut ann, &mut bob] {
        lan.filter(host.name(), DROP_MDNS);
        join_vpn(&lan, host.name());
        host.up();
    }
    meet(&mut ann, &mut bob, &["broadcast", "remembered"]);
}

#[test]
fn without_multicast_and_broadcasts_a_small_subnet_is_walked_through() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    for host in [&mut ann, &mut bob] {
        lan.filter(host.name(), DROP_MDNS);
        lan.filter(host.name(), DROP_BROADCASTS);
        join_vpn(&lan, host.name());
        host.up();
    }
    meet(&mut ann, &mut bob, &["scan", "remembered"]);
}

#[test]
fn without_multicast_the_qr_pairs_and_a_known_device_is_found_where_it_was() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    for (host, port) in [(&mut ann, 7843), (&mut bob, 7844)] {
        lan.filter(host.name(), DROP_MDNS);
        host.set(&format!("node.port={port}"));
        host.set("discovery.broadcast=false");
        host.up();
    }
    assert_eq!(ann.json(&["nearby"]), serde_json::json!([]), "the network passes multicast on after all");

    let mut shown = ann.start(&["pair", "--json"]);
    let open = shown.event("open");
    // The code alone cannot work here, and says what can.
    let lonely = bob.run(&["pair", open["code"].as_str().unwrap(), "--yes", "--json"]);
    assert_eq!(lonely.code, Some(7), "{lonely:#?}");
    assert_eq!(lonely.last()["error"]["code"], "pairing_not_open", "{lonely:#?}");

    bob.run(&["pair", open["qr"].as_str().unwrap(), "--yes", "--json"]).ok();
    shown.end(PATIENCE).ok();
    assert_eq!(bob.json(&["chat", "ann", "no multicast here"])["state"], "delivered");
    assert_eq!(ann.json(&["ping", "bob", "--count", "1"])["path"]["rung"], "direct/lan");

    // Both start anew and remember: the one who scanned, and the one who was scanned.
    for host in [&mut ann, &mut bob] {
        let (_, ran) = host.terminate(PATIENCE);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        host.up();
    }
    bob.json(&["ping", "ann", "--count", "1"]);
    for host in [&mut ann, &mut bob] {
        host.terminate(PATIENCE);
        host.up();
    }
    ann.json(&["ping", "bob", "--count", "1"]);
}
