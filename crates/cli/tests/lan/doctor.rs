//! Broken set-ups. For each, `honeylink doctor` names the cause and nothing else before it, prints a command, and where a
//! command can mend it, that very line is run and the doctor has nothing more to say.

use serde_json::Value;

use crate::host::Host;
use crate::net::{Lan, by_another_date};
#[cfg(feature = "relay-server")]
use crate::process::Line;
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
/// As Debian's example has it: this chain is what the doctor proposes where it may not read the rules.
const FILTER: &str = "table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        iifname lo accept
        ct state established,related accept
        ip protocol icmp accept
        ip daddr 224.0.0.0/4 accept
    }
}";
const DROP_UDP: &str = "table inet mute {
    chain sent {
        type filter hook output priority 0; policy accept;
        meta l4proto udp drop
    }
}";

/// What a firewall does whose office lets TCP out and nothing else; here it stands before the relay.
const KEEP_UDP_IN: &str = "table inet office {
    chain arrived {
        type filter hook input priority 0; policy accept;
        udp dport { 7842, 7844, 7845 } drop
    }
}";

/// What is said of a clock that could not be compared.
const ALONE: &str = "shows a time that can be";

/// What the doctor says at one time.
#[derive(Debug)]
struct Report {
    code: Option<i32>,
    checks: Vec<Value>,
}

impl Report {
    fn of(host: &Host) -> Self {
        Self::about(host, &[])
    }

    /// With the device that is named.
    fn about(host: &Host, device: &[&str]) -> Self {
        let ran = host.run(&[&["doctor", "--json"], device].concat());
        let checks = ran.last()["checks"].as_array().unwrap_or_else(|| panic!("{ran:#?}")).clone();
        Self { code: ran.code, checks }
    }

    fn check(&self, name: &str) -> &Value {
        self.checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{self:#?}"))
    }

    /// The command for the first fault, which has to be the one by this name and to say this.
    #[track_caller]
    fn fix_of(&self, name: &str, said: &str) -> String {
        let first = self.checks.iter().find(|check| check["finding"] == "fault");
        let first = first.unwrap_or_else(|| panic!("no fault is found: {self:#?}"));
        assert_eq!(first["name"], name, "{self:#?}");
        assert!(first["detail"].as_str().unwrap().contains(said), "{first}");
        assert_eq!(self.code, Some(9));
        first["fix"].as_str().unwrap_or_else(|| panic!("no command: {first}")).to_owned()
    }

    #[track_caller]
    fn nothing_is_wrong(&self) {
        assert!(self.checks.iter().all(|check| check["finding"] != "fault"), "{self:#?}");
        assert_eq!(self.code, Some(0));
    }
}

/// Runs a command as it was printed, in the machine's namespace and without asking for a password.
fn type_in(lan: &Lan, name: &str, command: &str) {
    let line = format!("sudo() {{ \"$@\"; }}; set -e; {command}");
    lan.exec(name, &["bash", "-c", &line]);
}

/// Two machines that see each other, and are paired.
fn acquainted(lan: &Lan, ann: &mut Host, bob: &mut Host) {
    for host in [&mut *ann, &mut *bob] {
        lan.ip(host.name(), "route add default via 10.77.0.3");
        host.up();
    }
    until("they see each other", PATIENCE, || ann.sees("bob").and(bob.sees("ann")));
    ann.pair(bob);
    assert_eq!(ann.json(&["ping", "bob", "--count", "1"])["ok"], true);
}

/// Breaks something with rules of nftables, and mends it with what the doctor says.
fn broken_by(rules: &str, name: &str, said: &str, expected: &str) {
    let Some((lan, [mut ann, _bob])) = Lan::build(["ann", "bob"]) else { return };
    ann.up();
    Report::of(&ann).nothing_is_wrong();
    lan.filter("ann", rules);
    let fix = Report::of(&ann).fix_of(name, said);
    assert!(fix.starts_with(expected), "{fix}");
    type_in(&lan, "ann", &fix);
    Report::of(&ann).nothing_is_wrong();
}

#[test]
fn a_machine_that_drops_multicast_is_told_so_and_how_it_stops() {
    broken_by(
        DROP_MULTICAST,
        "multicast",
        "dropped by this machine itself",
        "sudo nft insert rule inet deaf arrived udp dport '{ 5353 }' accept",
    );
}

#[test]
fn a_firewall_that_drops_what_comes_in_is_named_and_opened() {
    broken_by(
        DROP_INCOMING,
        "inbound",
        "(chain `inet wall arrived`)",
        "sudo nft insert rule inet wall arrived udp dport '{ 5353, 7842, ",
    );
}

#[test]
fn a_machine_that_lets_no_udp_out_is_told_so_and_how_it_does() {
    broken_by(
        DROP_UDP,
        "udp",
        "UDP is blocked",
        "sudo nft insert rule inet mute sent meta l4proto udp accept",
    );
}

#[cfg(feature = "relay-server")]
#[test]
fn a_network_that_lets_no_udp_out_is_named() {
    let Some((lan, [mut ann, gate])) = Lan::build(["ann", "gate"]) else { return };
    lan.filter("gate", KEEP_UDP_IN);
    let mut relay = gate.start(&["relay", "--host", "10.77.0.2", "--json"]);
    let line = relay.wait(PATIENCE, |line| match line {
        Line::Stdout(text) => Some(serde_json::from_str::<Value>(text).unwrap()),
        Line::Stderr(_) => None,
    });
    ann.set("node.reach=wide");
    ann.set(&format!("node.relays={}", line["relay"].as_str().unwrap()));
    ann.up();
    // Until the relay is connected, that it is not is what is wrong.
    let report = until("it is named", 2 * PATIENCE, || {
        Some(Report::of(&ann)).filter(|report| report.check("udp")["finding"] == "note")
    });
    report.nothing_is_wrong();
    let said = report.check("udp")["detail"].as_str().unwrap();
    assert!(said.contains("UDP is blocked on the way out of this network"), "{said}");
    assert!(said.contains("though the relay https://10.77.0.2 is reached over TCP"), "{said}");

    // The observers are asked when a node starts, and every few minutes after that.
    lan.exec("gate", &["nft", "delete", "table", "inet", "office"]);
    ann.terminate(PATIENCE);
    ann.up();
    until("the observer answers", 2 * PATIENCE, || {
        (ann.json(&["status"])["nat"]["observers_answered"] == 1).then_some(())
    });
    assert_eq!(Report::of(&ann).check("udp")["finding"], "fine");
}

#[test]
fn a_network_that_drops_multicast_is_named_though_devices_are_found_without() {
    let Some((lan, [mut ann, mut bob])) = Lan::build(["ann", "bob"]) else { return };
    for name in ["ann", "bob"] {
        lan.exec("switch", &["bridge", "link", "set", "dev", name, "mcast_flood", "off"]);
    }
    ann.up();
    bob.up();
    until("they see each other", PATIENCE, || ann.sees("bob"));
    let report = Report::of(&ann);
    report.nothing_is_wrong();
    let multicast = report.check("multicast");
    assert_eq!(multicast["finding"], "note", "{multicast}");
    assert!(multicast["detail"].as_str().unwrap().contains("the network drops it"), "{multicast}");
    for name in ["ann", "bob"] {
        lan.exec("switch", &["bridge", "link", "set", "dev", name, "mcast_flood", "on"]);
    }
    until("multicast is heard", 2 * PATIENCE, || {
        (Report::of(&ann).check("multicast")["finding"] == "fine").then_some(())
    });
}

#[test]
fn a_vpn_with_the_default_route_is_named_and_one_that_takes_the_lan_is_kept_from_it() {
    let Some((lan, [mut ann, mut bob, _gate])) = Lan::build(["ann", "bob", "gate"]) else { return };
    acquainted(&lan, &mut ann, &mut bob);
    assert_eq!(Report::of(&ann).check("vpn")["finding"], "fine");

    lan.ip("ann", "link add wg0 type veth peer name wg1");
    lan.ip("ann", "link set wg1 up");
    lan.ip("ann", "addr add 198.51.100.1/24 dev wg0");
    lan.ip("ann", "link set wg0 up");
    for half in ["0.0.0.0/1", "128.0.0.0/1"] {
        lan.ip("ann", &format!("route add {half} via 198.51.100.2"));
    }
    let report = Report::of(&ann);
    report.nothing_is_wrong();
    let vpn = report.check("vpn");
    assert_eq!(vpn["finding"], "note", "{vpn}");
    assert!(vpn["detail"].as_str().unwrap().contains("wg0 has the default route"), "{vpn}");
    assert_eq!(vpn["fix"], "ip route show dev wg0");

    for half in ["10.77.0.0/25", "10.77.0.128/25"] {
        lan.ip("ann", &format!("route add {half} via 198.51.100.2"));
    }
    let fix = Report::of(&ann).fix_of("vpn", "the VPN on wg0 takes what is for the devices on eth0");
    assert!(fix.contains("sudo ip rule add to 10.77.0.0/24"), "{fix}");
    type_in(&lan, "ann", &fix);
    until("nothing is wrong any more", 2 * PATIENCE, || (Report::of(&ann).code == Some(0)).then_some(()));
    assert_eq!(ann.json(&["ping", "bob", "--count", "1"])["path"]["rung"], "direct/lan");
}

#[test]
fn a_network_that_keeps_its_clients_apart_is_named() {
    let Some((lan, [mut ann, mut bob, _gate])) = Lan::build(["ann", "bob", "gate"]) else { return };
    acquainted(&lan, &mut ann, &mut bob);
    assert_eq!(Report::of(&ann).check("isolation")["finding"], "fine");
    // The ports of both are isolated; the gateway's is not.
    let isolate = |word: &str| {
        for name in ["ann", "bob"] {
            lan.exec("switch", &["bridge", "link", "set", "dev", name, "isolated", word]);
        }
        // After both, or what the nodes say in between is answered and remembered.
        for name in ["ann", "bob"] {
            lan.ip(name, "neigh flush dev eth0");
        }
    };
    isolate("on");
    assert_eq!(Report::of(&ann).fix_of("isolation", "client isolation"), "nmcli device wifi hotspot");
    isolate("off");
    until("nothing is wrong any more", PATIENCE, || (Report::of(&ann).code == Some(0)).then_some(()));
}

#[test]
fn a_firewall_whose_rules_may_not_be_read_is_found_from_outside() {
    let Some((lan, [mut ann, mut bob, _gate])) = Lan::build(["ann", "bob", "gate"]) else { return };
    acquainted(&lan, &mut ann, &mut bob);
    // Without `nft` nobody can read them, like an ordinary user.
    ann.start_by(&["env".to_owned(), "PATH=/nonexistent".to_owned()]);
    let report = Report::about(&ann, &["bob"]);
    report.nothing_is_wrong();
    let back = report.check("back");
    assert_eq!(back["finding"], "fine", "{back}");
    assert!(
        back["detail"].as_str().unwrap().contains("bob gets through to this device at 10.77.0.1:"),
        "{back}"
    );

    lan.filter("ann", FILTER);
    let fix = until("it is named", 2 * PATIENCE, || {
        let report = Report::about(&ann, &["bob"]);
        // Asked again within five seconds, bob does not try.
        (report.check("back")["finding"] != "unknown")
            .then(|| report.fix_of("back", "a firewall here drops what comes in"))
    });
    assert!(fix.starts_with("sudo nft insert rule inet filter input udp dport '{ 5353, 7842, "), "{fix}");
    type_in(&lan, "ann", &fix);
    let back = until("bob tries again", 2 * PATIENCE, || {
        let report = Report::about(&ann, &["bob"]);
        report.nothing_is_wrong();
        Some(report.check("back")["finding"].clone()).filter(|found| found != "unknown")
    });
    assert_eq!(back, "fine");
}

#[test]
fn a_clock_that_is_wrong_is_found_by_those_of_others() {
    let Some(starter) = by_another_date() else { return };
    let Some((lan, [mut ann, mut bob, _gate])) = Lan::build(["ann", "bob", "gate"]) else { return };
    ann.start_by(&[&starter[..], &["FAKETIME=-3h".to_owned()]].concat());
    acquainted(&lan, &mut ann, &mut bob);
    for (host, said) in [(&ann, "3 h behind that of bob"), (&bob, "3 h ahead of that of ann")] {
        let fix = until("they compare", 2 * PATIENCE, || {
            let report = Report::of(host);
            (report.check("clock")["detail"] != ALONE).then(|| report.fix_of("clock", said))
        });
        assert_eq!(fix, "sudo timedatectl set-ntp true");
    }

    // What the command does cannot be done to one namespace; the program is started with the right time instead.
    ann.terminate(PATIENCE);
    ann.start_by(&[]);
    ann.up();
    until("they agree", 2 * PATIENCE, || {
        let report = Report::of(&ann);
        (report.check("clock")["detail"] == "agrees with those of other devices")
            .then(|| report.nothing_is_wrong())
    });
}
