//! What follows from the facts.

use honeylink_api::{NearbyDevice, SubsystemState};
use serde::Serialize;

use super::back;
use super::facts::{Facts, Sent, WayThere};
use super::firewall::Rules;
use super::peer;
use crate::output::text;

/// No clock that is right shows less: this program did not exist before 2026.
const BORN_UNIX_S: u64 = 1_767_225_600;
/// Nor more than this much later.
const OLD_S: u64 = 50 * 365 * 86_400;

/// A routing table that nobody else has a use for: named as our port.
const TABLE: u32 = 7843;

/// How a check came out, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Finding {
    /// Nothing is wrong.
    Fine,
    /// It could not be told from here.
    Unknown,
    /// Worth knowing; devices are found and reached all the same.
    Note,
    /// This is why something does not work.
    Fault,
}

impl Finding {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Unknown => "unknown",
            Self::Note => "note",
            Self::Fault => "FAULT",
        }
    }
}

/// One check, what it found, and the command that puts it right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) finding: Finding,
    pub(super) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fix: Option<String>,
}

impl Check {
    pub(super) fn new(name: &'static str, finding: Finding, detail: impl Into<String>) -> Self {
        Self { name, finding, detail: detail.into(), fix: None }
    }

    pub(super) fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }
}

/// Every check, from the ground up: what comes first may be the reason for what follows.
pub(super) fn all(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        node(facts),
        clock(facts),
        udp(facts),
        inbound(facts),
        multicast(facts),
        vpn(facts),
        isolation(facts),
    ];
    checks.extend(peer::check(facts));
    checks.extend(back::check(facts));
    checks
}

fn node(facts: &Facts) -> Check {
    let node = match &facts.node {
        Ok(node) => node,
        Err(why) => {
            return Check::new("node", Finding::Fault, format!("no node answers: {}", text::paragraph(why)))
                .fix("honeylink up");
        }
    };
    let ill = node.status.subsystems.iter().find(|part| part.state > SubsystemState::Healthy);
    match ill {
        Some(part) => {
            let why = text::clean(part.detail.as_deref().unwrap_or("does not work"), 200);
            Check::new("node", Finding::Fault, format!("{}: {why}", part.name)).fix("honeylink logs -f")
        }
        None if node.status.reach == "loopback" => {
            Check::new("node", Finding::Fault, "it keeps to this machine (node.reach = loopback)")
                .fix("honeylink config set node.reach lan")
        }
        None if node.status.power == "battery" => {
            let detail = "runs; idle links are kept for a battery, so it takes up to 15 s to notice a way that died (node.power)";
            Check::new("node", Finding::Fine, detail)
        }
        None => Check::new("node", Finding::Fine, "runs, and every part of it works"),
    }
}

fn clock(facts: &Facts) -> Check {
    if facts.unix_s < BORN_UNIX_S || facts.unix_s > BORN_UNIX_S + OLD_S {
        let detail = format!("the clock is wrong: it shows {} s since 1970", facts.unix_s);
        return Check::new("clock", Finding::Fault, detail).fix("sudo timedatectl set-ntp true");
    }
    if let Some(check) = back::clock(facts) {
        return check;
    }
    let detail = if facts.backs.iter().any(|back| back.said.is_ok()) {
        "agrees with those of other devices"
    } else {
        "shows a time that can be"
    };
    Check::new("clock", Finding::Fine, detail)
}

fn udp(facts: &Facts) -> Check {
    let chain = facts.outgoing.chain();
    if facts.lans.is_empty() {
        return Check::new("udp", Finding::Fault, "no local network with IPv4 is up")
            .fix("ip -brief address");
    }
    let refused = facts.lans.iter().filter(|lan| lan.broadcast == Sent::Refused).collect::<Vec<_>>();
    if let Some(lan) = refused.first() {
        let detail =
            format!("UDP is blocked: this machine does not let it out on {}", text::clean(&lan.name, 20));
        return Check::new("udp", Finding::Fault, detail).fix(facts.filter.let_out(chain));
    }
    if let Some(chain) = chain {
        return Check::new(
            "udp",
            Finding::Fault,
            format!("UDP is blocked: the chain `{chain}` drops what goes out"),
        )
        .fix(facts.filter.let_out(Some(chain)));
    }
    match kept_in(facts) {
        Some(detail) => Check::new("udp", Finding::Note, detail),
        None => Check::new("udp", Finding::Fine, "leaves on every local network"),
    }
}

/// Whether UDP ends somewhere on the way to the internet: those who would answer to it do not, while a relay is connected, which is
/// done over TCP.
fn kept_in(facts: &Facts) -> Option<String> {
    let status = &facts.node.as_ref().ok()?.status;
    let nat = status.nat.as_ref().filter(|nat| nat.observers_asked > 0 && nat.observers_answered == 0)?;
    let relay = status.relays.iter().find(|relay| relay.connected)?;
    // Without its key: it is long, and no secret worth reading.
    let relay = relay.relay.split('#').next().unwrap_or_default();
    Some(format!(
        "UDP is blocked on the way out of this network: {} over UDP, though the relay {} is reached over TCP; devices elsewhere \
         are reached through relays only, until the firewall of this network lets UDP out",
        match nat.observers_asked {
            1 => "the one observer does not answer".to_owned(),
            all => format!("none of {all} observers answers"),
        },
        text::clean(relay, 80)
    ))
}

fn inbound(facts: &Facts) -> Check {
    match &facts.incoming {
        Rules::Drops { chain } => Check::new(
            "inbound",
            Finding::Fault,
            format!("the firewall drops what comes in (chain `{chain}`)"),
        )
        .fix(facts.filter.let_in(Some(chain), &facts.ports)),
        Rules::Open => {
            Check::new("inbound", Finding::Fine, "no rule of nftables drops what comes for the node")
        }
        Rules::Unknown if back::got_in(facts) => {
            Check::new("inbound", Finding::Fine, "a paired device gets in")
        }
        // Somebody was heard without having been asked: it came in.
        Rules::Unknown if seen(facts).next().is_some() => {
            Check::new("inbound", Finding::Fine, "other devices are heard")
        }
        Rules::Unknown => Check::new(
            "inbound",
            Finding::Unknown,
            "nobody is heard, and only the administrator may read the rules",
        )
        .fix(facts.filter.let_in(None, &facts.ports)),
    }
}

fn seen(facts: &Facts) -> impl Iterator<Item = &NearbyDevice> {
    facts.node.iter().flat_map(|node| &node.nearby)
}

fn multicast(facts: &Facts) -> Check {
    let dropped = facts.lans.iter().find(|lan| lan.multicast != Sent::Fine);
    if let Some(lan) = dropped {
        let detail =
            format!("multicast is dropped by this machine itself, on {}", text::clean(&lan.name, 20));
        let fix = match lan.multicast {
            Sent::Refused => facts.filter.let_out(facts.outgoing.chain()),
            Sent::NoRoute => format!("sudo ip route add 224.0.0.0/4 dev {}", text::clean(&lan.name, 20)),
            Sent::Fine | Sent::Silent => {
                let chain = facts.multicast.chain();
                facts.filter.let_in(chain, facts.ports.get(..1).unwrap_or_default())
            }
        };
        return Check::new("multicast", Finding::Fault, detail).fix(fix);
    }
    let by = |finder: &str| seen(facts).filter(|device| device.seen_by.iter().any(|by| by == finder)).count();
    let otherwise = by("broadcast") + by("scan") + by("remembered");
    match (by("mdns"), otherwise) {
        (0, 0) => Check::new("multicast", Finding::Unknown, "it leaves, and nobody is heard"),
        (0, _) => Check::new(
            "multicast",
            Finding::Note,
            "the network drops it: devices are seen by broadcast or scan only; look for \"IGMP snooping\" in the access point",
        )
        .fix("honeylink config get discovery.broadcast"),
        _ => Check::new("multicast", Finding::Fine, "devices are seen by it"),
    }
}

fn vpn(facts: &Facts) -> Check {
    if let Some(lan) = facts.lans.iter().find(|lan| lan.way != WayThere::Straight) {
        let name = text::clean(&lan.name, 20);
        let detail = match (&lan.way, facts.tunnels.first()) {
            (WayThere::TakenBy(other), _) => {
                let other = text::clean(other, 20);
                format!("the VPN on {other} takes what is for the devices on {name}")
            }
            (WayThere::None | WayThere::Straight, Some(tunnel)) => {
                format!("the VPN on {} keeps this machine from {name}", text::clean(tunnel, 20))
            }
            (WayThere::None | WayThere::Straight, None) => {
                format!("this machine has no route to the devices on {name}, as when a VPN took it away")
            }
        };
        // A table of its own, asked before any that a VPN fills: the VPN stays, and keeps everything else.
        let fix = format!(
            "sudo ip route replace {net} dev {name} table {TABLE} && sudo ip rule add to {net} lookup {TABLE}",
            net = lan.net
        );
        return Check::new("vpn", Finding::Fault, detail).fix(fix);
    }
    match facts.tunnels.first() {
        Some(tunnel) => {
            let tunnel = text::clean(tunnel, 20);
            let detail =
                format!("the VPN on {tunnel} has the default route; devices here are reached beside it");
            Check::new("vpn", Finding::Note, detail).fix(format!("ip route show dev {tunnel}"))
        }
        None => Check::new("vpn", Finding::Fine, "no tunnel has the default route"),
    }
}

fn isolation(facts: &Facts) -> Check {
    let gateway = facts.neighbours.iter().any(|one| one.gateway && one.answers);
    let devices = facts.neighbours.iter().filter(|one| !one.gateway).collect::<Vec<_>>();
    let silent = devices.iter().filter(|one| !one.answers).collect::<Vec<_>>();
    match (silent.first(), devices.is_empty()) {
        (_, true) => Check::new("isolation", Finding::Unknown, "no paired device was on this network before"),
        (None, false) => Check::new("isolation", Finding::Fine, "paired devices on this network answer"),
        (Some(first), false) if gateway && silent.len() == devices.len() => {
            let name = text::name(&first.name);
            let detail = format!(
                "the gateway answers and {name} does not: it is off, or the network keeps its clients apart (\"client \
                 isolation\", \"AP isolation\": switch it off in the access point, or open a network of your own)"
            );
            Check::new("isolation", Finding::Fault, detail).fix("nmcli device wifi hotspot")
        }
        (Some(first), false) => {
            let detail = format!("{} does not answer: it is off or elsewhere", text::name(&first.name));
            Check::new("isolation", Finding::Note, detail)
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::facts::{LanFacts, Neighbour, NodeFacts};
    use super::super::firewall::Filter;
    use super::*;
    use honeylink_api::{Mode, NatSummary, Phase, RelayStatus, Status, Streams, Trust};

    /// A machine on which nothing is wrong, and one device beside it.
    pub(in super::super) fn healthy() -> Facts {
        let status = Status {
            id: "ab".into(),
            name: "studio".into(),
            device_type: "laptop".into(),
            version: "0.1.0".into(),
            api: 1,
            listen: vec!["10.0.0.1:7843".into()],
            mode: Mode::Daemon,
            phase: Phase::Running,
            pid: 7,
            uptime_s: 60,
            home: "/h".into(),
            reach: "lan".into(),
            power: "mains".into(),
            peers: 1,
            nearby: 1,
            transfers: 0,
            mesh: None,
            nat: None,
            relays: Vec::new(),
            peer_relay: None,
            dht: None,
            streams: Streams::default(),
            held_back: None,
            subsystems: Vec::new(),
        };
        let device = NearbyDevice {
            id: "cd".into(),
            name: "phone".into(),
            device_type: "phone".into(),
            seen_by: vec!["mdns".into()],
            trust: Trust::Seen,
            path: None,
            addresses: Vec::new(),
            version: None,
            rssi_dbm: None,
        };
        Facts {
            node: Ok(NodeFacts { status, nearby: vec![device], paired: Vec::new() }),
            unix_s: BORN_UNIX_S + 1,
            lans: vec![LanFacts {
                name: "eth0".into(),
                broadcast: Sent::Fine,
                multicast: Sent::Fine,
                net: "10.0.0.0/24".parse().unwrap(),
                way: WayThere::Straight,
            }],
            tunnels: Vec::new(),
            filter: Filter::Nftables,
            incoming: Rules::Open,
            outgoing: Rules::Open,
            multicast: Rules::Open,
            neighbours: vec![
                Neighbour { name: "the gateway".into(), gateway: true, answers: true },
                Neighbour { name: "phone".into(), gateway: false, answers: true },
            ],
            ports: vec![5353, 7842, 7843],
            peer: None,
            backs: Vec::new(),
            own: vec!["10.0.0.1".parse().unwrap()],
        }
    }

    /// The one check that is not fine after this went wrong.
    fn broken(wrong: impl FnOnce(&mut Facts)) -> Check {
        let mut facts = healthy();
        wrong(&mut facts);
        let mut bad = all(&facts).into_iter().filter(|check| check.finding > Finding::Unknown);
        bad.next().unwrap()
    }

    fn nearby(facts: &mut Facts) -> &mut NearbyDevice {
        &mut facts.node.as_mut().unwrap().nearby[0]
    }

    #[test]
    fn where_nothing_is_wrong_nothing_is_said_to_be() {
        assert!(all(&healthy()).iter().all(|check| check.finding == Finding::Fine && check.fix.is_none()));
    }

    #[test]
    fn each_fault_is_named_with_a_command() {
        let chain = || Rules::Drops { chain: "inet f in".into() };
        for (check, name, detail, fix) in [
            (broken(|f| f.node = Err("nobody".into())), "node", "no node answers", "honeylink up"),
            (broken(|f| f.unix_s = 60), "clock", "the clock is wrong", "set-ntp true"),
            (broken(|f| f.lans[0].broadcast = Sent::Refused), "udp", "UDP is blocked", "nft insert rule"),
            (
                broken(|f| f.outgoing = chain()),
                "udp",
                "`inet f in` drops",
                "rule inet f in meta l4proto udp accept",
            ),
            (
                broken(|f| f.incoming = chain()),
                "inbound",
                "firewall drops",
                "inet f in udp dport '{ 5353, 7842, 7843 }'",
            ),
            (
                broken(|f| f.lans[0].multicast = Sent::Silent),
                "multicast",
                "this machine itself",
                "'{ 5353 }' accept",
            ),
            (
                broken(|f| (f.lans[0].multicast, f.multicast) = (Sent::Silent, chain())),
                "multicast",
                "this machine itself",
                "rule inet f in udp dport '{ 5353 }' accept",
            ),
            (
                broken(|f| nearby(f).seen_by = vec!["scan".into()]),
                "multicast",
                "the network drops it",
                "honeylink config",
            ),
            (
                broken(|f| f.tunnels = vec!["wg0".into()]),
                "vpn",
                "the VPN on wg0 has",
                "ip route show dev wg0",
            ),
            (broken(|f| f.neighbours[1].answers = false), "isolation", "client isolation", "nmcli"),
        ] {
            assert_eq!(check.name, name, "{check:?}");
            assert!(check.detail.contains(detail), "{check:?}");
            assert!(check.fix.as_deref().is_some_and(|said| said.contains(fix)), "{check:?}");
        }
    }

    #[test]
    fn udp_ends_in_the_network_if_no_observer_answers_to_it_while_a_relay_is_reached() {
        let blocked = |asked, answered, connected| {
            let mut facts = healthy();
            let status = &mut facts.node.as_mut().unwrap().status;
            status.nat = Some(NatSummary {
                behavior: String::new(),
                seen: None,
                observers: 2,
                observers_asked: asked,
                observers_answered: answered,
                punch: true,
                attempts: 0,
                punched: 0,
            });
            let relay = "https://relay.example.org#0f1e2d3c4b5a6978".to_owned();
            status.relays = vec![RelayStatus { relay, home: true, connected, problem: None }];
            udp(&facts)
        };
        let note = blocked(2, 0, true);
        assert_eq!(note.finding, Finding::Note);
        assert!(note.detail.contains("none of 2 observers answers over UDP"), "{note:?}");
        assert!(note.detail.contains("the relay https://relay.example.org is reached"), "{note:?}");
        for (asked, answered, connected) in [(0, 0, true), (2, 1, true), (2, 0, false)] {
            assert_eq!(blocked(asked, answered, connected).finding, Finding::Fine);
        }
    }

    #[test]
    fn a_vpn_that_forbids_the_lan_is_a_fault_and_one_that_does_not_is_none() {
        let none = broken(|facts| facts.tunnels = vec!["wg0".into()]);
        assert_eq!(none.finding, Finding::Note);
        for (way, said) in [
            (WayThere::TakenBy("wg0".into()), "wg0 takes what is for the devices on eth0"),
            (WayThere::None, "wg0 keeps this machine from eth0"),
        ] {
            let forbids = broken(|facts| {
                facts.tunnels = vec!["wg0".into()];
                facts.lans[0].way = way;
            });
            assert_eq!((forbids.name, forbids.finding), ("vpn", Finding::Fault));
            assert!(forbids.detail.contains(said), "{forbids:?}");
            assert!(forbids.fix.unwrap().contains("ip rule add to 10.0.0.0/24"));
        }
    }
}
