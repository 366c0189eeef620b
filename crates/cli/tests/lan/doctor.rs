//! Broken set-ups, and what `honeylink doctor` says of each. A wrong clock cannot be had in a namespace; `judge` has its test.

use serde_json::Value;

use crate::host::Host;
use crate::net::Lan;
use crate::{PATIENCE, until};

const DROP_MULTICAST: &str = "table inet deaf {
    chain arrived {
        type filter hook input priority 0; policy accept;
        ip daddr 224.0.0.0/4 drop
    }
}";
const DROP_INCOMING: &str = "table inet wall {
    chain arrived {
        type filter hook input priority 0; policy drop;
        iifname lo accept
        ct state established,related accept
        ip protocol icmp accept
    }
}";
const DROP_UDP: &str = "table inet mute {
    chain sent {
        type filter hook output priority 0; policy accept;
        meta l4proto udp drop
    }
}";

/// What the doctor finds by this name.
fn check(host: &Host, name: &str) -> Value {
    let report = host.run(&["doctor", "--json"]).last().clone();
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{report}")).clone()
}

fn assert_fault(host: &Host, name: &str, said: &str, fix: &str) {
    let check = check(host, name);
    assert_eq!(check["finding"], "fault", "{check}");
    assert!(check["detail"].as_str().unwrap().contains(said), "{check}");
    assert!(check["fix"].as_str().unwrap().contains(fix), "{check}");
}

#[test]
fn the_doctor_names_what_the_machine_itself_drops() {
    let Some((lan, [mut ann, _bob])) = Lan::build(["ann", "bob"]) else { return };
    ann.up();
    assert_eq!(ann.run(&["doctor", "--json"]).code, Some(0), "a machine on which nothing is wrong");
    for (rules, table, name, said, fix) in [
        (DROP_MULTICAST, "deaf", "multicast", "this machine itself", "5353"),
        (
            DROP_INCOMING,
            "wall",
            "inbound",
            "inet wall arrived",
            "nft insert rule inet wall arrived udp dport",
        ),
        (DROP_UDP, "mute", "udp", "UDP is blocked", "nft insert rule inet mute sent meta l4proto udp accept"),
    ] {
        lan.filter("ann", rules);
        assert_fault(&ann, name, said, fix);
        assert_eq!(ann.run(&["doctor", "--json"]).code, Some(9));
        lan.exec("ann", &["nft", "delete", "table", "inet", table]);
    }
    assert_eq!(ann.run(&["doctor", "--json"]).code, Some(0), "healed");
}

#[test]
fn the_doctor_names_a_vpn_and_a_network_that_keeps_clients_apart() {
    let Some((lan, [mut ann, mut bob, _gate])) = Lan::build(["ann", "bob", "gate"]) else { return };
    for host in [&mut ann, &mut bob] {
        lan.ip(host.name(), "route add default via 10.77.0.3");
        host.up();
    }
    until("they see each other", PATIENCE, || ann.sees("bob").and(bob.sees("ann")));
    ann.pair(&bob);
    assert_eq!(ann.json(&["ping", "bob", "--count", "1"])["ok"], true);
    assert_eq!(check(&ann, "isolation")["finding"], "fine");

    // The ports of both are isolated; the gateway's is not.
    for name in ["ann", "bob"] {
        lan.exec("switch", &["bridge", "link", "set", "dev", name, "isolated", "on"]);
        lan.ip(name, "neigh flush dev eth0");
    }
    assert_fault(&ann, "isolation", "client isolation", "nmcli");

    lan.ip("ann", "link add wg0 type veth peer name wg1");
    lan.ip("ann", "link set wg1 up");
    lan.ip("ann", "addr add 198.51.100.1/24 dev wg0");
    lan.ip("ann", "link set wg0 up");
    lan.ip("ann", "route add 0.0.0.0/1 via 198.51.100.2");
    let vpn = check(&ann, "vpn");
    assert_eq!(vpn["finding"], "note", "{vpn}");
    assert!(vpn["detail"].as_str().unwrap().contains("wg0"), "{vpn}");
}
