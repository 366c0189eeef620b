//! A network that drops multicast, as many offices' and guests' do: the QR's text has addresses, and a device once met is
//! found where it was.

use crate::PATIENCE;
use crate::net::Lan;

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

#[test]
fn without_multicast_the_qr_pairs_and_a_known_device_is_found_where_it_was() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    for (host, port) in [(&mut ann, 7843), (&mut bob, 7844)] {
        lan.filter(host.name(), DROP_MDNS);
        host.set(&format!("node.port={port}"));
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
