//! `reach = lan`, the default, sends nothing off the LAN: watched on a machine that has a way out, by counters on every
//! packet it sends and at the gateway.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::PATIENCE;
use crate::host::Host;
use crate::net::Lan;
use crate::tree;

/// What a machine sends: past the LAN, to a DNS server anywhere, or to a group that is not mDNS's.
const AT_THE_MACHINE: &str = "table inet watch {
    counter off_lan { }
    counter dns { }
    counter other_group { }
    chain sent {
        type filter hook output priority 0; policy accept;
        meta l4proto { tcp, udp } th dport 53 counter name dns
        ip daddr != { 10.77.0.0/24, 127.0.0.0/8, 224.0.0.0/4 } counter name off_lan
        ip6 daddr != { fd77::/64, fe80::/10, ::1, ff00::/8 } counter name off_lan
        meta l4proto udp ip daddr 224.0.0.0/4 ip daddr != 224.0.0.251 counter name other_group
        meta l4proto udp ip6 daddr ff00::/8 ip6 daddr != ff02::fb counter name other_group
    }
}";

/// What reaches the gateway: to be passed on, or for itself (port mapping, DNS).
const AT_THE_GATEWAY: &str = "table inet watch {
    counter passed_on { }
    counter asked { }
    chain forwarded { type filter hook forward priority 0; policy accept; counter name passed_on; }
    chain arrived {
        type filter hook input priority 0; policy accept;
        iifname eth0 meta pkttype host meta l4proto { tcp, udp } th dport != 7842 counter name asked
    }
}";

const MACHINES: [&str; 2] = ["ann", "bob"];
const MDNS: u16 = 5353;
/// Broadcasts; where nobody answers them, each address of the LAN is asked here, the gateway's too.
const KNOCK: u16 = 7842;

#[test]
fn nothing_leaves_the_lan_and_no_port_is_open_but_those_of_quic_and_discovery() {
    let Some((lan, [mut ann, mut bob, _gate])) = Lan::build(["ann", "bob", "gate"]) else { return };
    give_a_way_out(&lan);
    for name in MACHINES {
        lan.filter(name, AT_THE_MACHINE);
    }
    lan.filter("gate", AT_THE_GATEWAY);

    ann.up();
    bob.up();
    ann.pair(&bob);
    let file = lan.scratch().join("film.bin");
    tree::write_large(&file, 8);
    ann.run(&["send", file.to_str().unwrap(), "--to", "bob", "--json"]).ok();
    ann.json(&["chat", "bob", "hello"]);
    bob.json(&["chat", "ann", "hello"]);
    ann.run(&["ping", "bob", "--count", "20", "--interval", "0.2"]).ok();
    for host in [&ann, &bob] {
        only_expected_sockets(&lan, host);
    }
    // Without each other: looking for a lost peer must not lead off the LAN either.
    bob.kill();
    let lost = ann.run(&["ping", "bob", "--count", "1", "--json"]);
    assert_ne!(lost.code, Some(0), "{lost:#?}");
    ann.terminate(PATIENCE);

    for name in ["ann", "bob", "gate"] {
        let counted = lan.counters(name);
        assert!(counted.iter().all(|(_, packets)| *packets == 0), "{name}: {counted:?}");
    }
    // The watchers do see: one packet of each kind, on purpose.
    for target in ["198.51.100.7/9", "10.77.0.3/53", "239.255.255.250/1900"] {
        lan.exec("ann", &["bash", "-c", &format!("echo probe > /dev/udp/{target}")]);
    }
    let seen = lan.counters("ann");
    assert!(seen.iter().all(|(_, packets)| *packets > 0), "a watcher is blind: {seen:?}");
    let seen = lan.counters("gate");
    assert!(seen.iter().all(|(_, packets)| *packets > 0), "a watcher is blind: {seen:?}");
}

/// Addresses and default routes as a home router hands them out; behind the gateway lies the documentation's internet.
fn give_a_way_out(lan: &Lan) {
    lan.ip("gate", "addr add fd77::3/64 dev eth0 nodad");
    lan.ip("gate", "link add up0 type veth peer name up1");
    lan.ip("gate", "link set up1 up");
    lan.ip("gate", "link set up0 up");
    lan.ip("gate", "addr add 198.51.100.1/24 dev up0");
    lan.ip("gate", "route add default dev up0");
    lan.ip("gate", "-6 route add default dev up0");
    lan.exec("gate", &["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
    for (at, name) in MACHINES.iter().enumerate() {
        lan.ip(name, &format!("addr add fd77::{}/64 dev eth0 nodad", at + 1));
        lan.ip(name, "route add default via 10.77.0.3");
        lan.ip(name, "-6 route add default via fd77::3");
    }
}

fn only_expected_sockets(lan: &Lan, host: &Host) {
    let status = host.json(&["status"]);
    let port_of = |address: &Value| address.as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    let mut expected: BTreeSet<u16> = status["listen"].as_array().unwrap().iter().map(port_of).collect();
    assert_eq!(expected.len(), 1, "one port of QUIC: {status}");
    expected.extend([MDNS, KNOCK]);
    let udp = lan.exec(host.name(), &["ss", "-H", "-u", "-a", "-n"]);
    let open: BTreeSet<u16> = udp
        .lines()
        .map(|line| line.split_whitespace().nth(3).unwrap().rsplit(':').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(open, expected, "{udp}");
    assert_eq!(lan.exec(host.name(), &["ss", "-H", "-t", "-a", "-n"]), "", "no TCP at all");
}
