//! The packet filter of this machine: which one it is, whether it drops what comes for us, and how it is told not to.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::Value;

/// Who is asked to let something in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Filter {
    Ufw,
    Firewalld,
    #[default]
    Nftables,
}

/// The packets that are asked about: UDP to any of these ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packets<'a> {
    pub(super) ports: &'a [u16],
    /// The group they are for, if they are for one.
    pub(super) group: Option<Ipv4Addr>,
}

/// What the rules of nftables say, as far as this user may read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Rules {
    /// Only the administrator may, or there are none to be read.
    #[default]
    Unknown,
    /// Nothing that comes for these ports is dropped.
    Open,
    /// This chain drops what comes for them.
    Drops {
        /// Family, table and chain, as `nft` takes them.
        chain: String,
    },
}

impl Rules {
    /// The chain that drops.
    pub(super) fn chain(&self) -> Option<&str> {
        match self {
            Self::Drops { chain } => Some(chain),
            Self::Open | Self::Unknown => None,
        }
    }
}

impl Filter {
    /// The one that is here.
    pub(super) fn find() -> Self {
        let ufw = std::fs::read_to_string("/etc/ufw/ufw.conf").unwrap_or_default();
        if ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes")) {
            Self::Ufw
        } else if Path::new("/run/firewalld.pid").exists() || Path::new("/run/firewalld").exists() {
            Self::Firewalld
        } else {
            Self::Nftables
        }
    }

    /// The command that lets UDP in on these ports.
    pub(super) fn let_in(self, chain: Option<&str>, ports: &[u16]) -> String {
        let each = |one: &dyn Fn(u16) -> String| ports.iter().map(|port| one(*port)).collect::<Vec<_>>();
        match self {
            Self::Ufw => each(&|port| format!("sudo ufw allow {port}/udp")).join(" && "),
            Self::Firewalld => format!(
                "sudo firewall-cmd --permanent {} && sudo firewall-cmd --reload",
                each(&|port| format!("--add-port={port}/udp")).join(" ")
            ),
            Self::Nftables => format!(
                "sudo nft insert rule {} udp dport '{{ {} }}' accept",
                chain.unwrap_or("inet filter input"),
                each(&|port| port.to_string()).join(", ")
            ),
        }
    }

    /// The command that lets UDP out.
    pub(super) fn let_out(self, chain: Option<&str>) -> String {
        match self {
            Self::Ufw => "sudo ufw allow out proto udp to any".to_owned(),
            Self::Firewalld | Self::Nftables => {
                format!(
                    "sudo nft insert rule {} meta l4proto udp accept",
                    chain.unwrap_or("inet filter output")
                )
            }
        }
    }
}

/// All rules of nftables; `None` where they cannot be read.
pub(super) async fn listed() -> Option<Value> {
    let mut nft = tokio::process::Command::new("nft");
    nft.args(["-j", "list", "ruleset"]).kill_on_drop(true);
    match nft.output().await {
        Ok(output) if output.status.success() => {
            Some(serde_json::from_slice(&output.stdout).unwrap_or_default())
        }
        // Not installed, or not allowed.
        Ok(_) | Err(_) => None,
    }
}

/// What the rules say of these packets where they come in, or go out.
pub(super) fn rules(listed: Option<&Value>, hook: &str, packets: Packets<'_>) -> Rules {
    listed.map_or(Rules::Unknown, |listed| read(listed, hook, packets))
}

/// A chain drops if that is its policy and none of its rules names our packets, or if a rule drops UDP as such or our packets
/// and none before it lets them through.
fn read(listed: &Value, hook: &str, packets: Packets<'_>) -> Rules {
    let entries = listed["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    for chain in entries.iter().filter_map(|entry| entry.get("chain")).filter(|chain| chain["hook"] == hook) {
        let same = |rule: &&Value| {
            rule["family"] == chain["family"]
                && rule["table"] == chain["table"]
                && rule["chain"] == chain["name"]
        };
        let mut rules = entries.iter().filter_map(|entry| entry.get("rule")).filter(same);
        let first = rules.find(|rule| decides(rule) && concerns(rule, packets));
        let drops = first.map_or(chain["policy"] == "drop", |rule| !verdict(rule, "accept"));
        if drops {
            let word = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
            return Rules::Drops { chain: format!("{} {} {}", word("family"), word("table"), word("name")) };
        }
    }
    Rules::Open
}

fn decides(rule: &Value) -> bool {
    ["accept", "drop", "reject"].iter().any(|word| verdict(rule, word))
}

fn verdict(rule: &Value, word: &str) -> bool {
    rule["expr"].as_array().is_some_and(|parts| parts.iter().any(|part| part.get(word).is_some()))
}

/// Whether a rule is about these packets: about UDP as such, their ports or their group, and about no other address nor any
/// interface in particular. One without a condition is about everything.
fn concerns(rule: &Value, packets: Packets<'_>) -> bool {
    let parts = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    parts.iter().filter_map(|part| part.get("match")).all(|of| {
        let holds = is_about(&of["left"], &of["right"], packets);
        if of["op"] == "!=" { holds == Some(false) } else { holds == Some(true) }
    })
}

/// Whether a condition holds for these packets; `None` if it is about something else.
fn is_about(left: &Value, right: &Value, packets: Packets<'_>) -> Option<bool> {
    let (field, protocol) = (&left["payload"]["field"], &left["payload"]["protocol"]);
    if field == "dport" && protocol != "tcp" {
        return Some(packets.ports.iter().any(|port| names(right, &Value::from(*port))));
    }
    if left["meta"]["key"] == "l4proto" || field == "protocol" {
        return Some(names(right, &Value::from("udp")));
    }
    let group = packets.group?;
    if field == "daddr" && protocol == "ip" {
        return Some(covers(right, group));
    }
    (left["meta"]["key"] == "pkttype").then(|| names(right, &Value::from("multicast")))
}

/// Whether an address of a rule, a prefix or a set of them has this one.
fn covers(right: &Value, wanted: Ipv4Addr) -> bool {
    let set = right["set"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = match right["prefix"]["addr"].as_str() {
        Some(addr) => format!("{addr}/{}", right["prefix"]["len"]),
        None => format!("{}/32", right.as_str().unwrap_or_default()),
    };
    text.parse::<ipnet::Ipv4Net>().is_ok_and(|net| net.contains(&wanted))
        || set.iter().any(|one| covers(one, wanted))
}

/// Whether a value of a rule is this one, or a set that has it.
fn names(right: &Value, wanted: &Value) -> bool {
    let within = |range: &Value| {
        let bounds = range["range"].as_array().map(Vec::as_slice).unwrap_or_default();
        match (bounds, wanted.as_u64()) {
            ([low, high], Some(wanted)) => low.as_u64() <= Some(wanted) && Some(wanted) <= high.as_u64(),
            _ => false,
        }
    };
    right == wanted
        || within(right)
        || right["set"].as_array().is_some_and(|set| set.iter().any(|one| one == wanted || within(one)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(policy: &str, rule: &str) -> Value {
        let text = format!(
            r#"{{"nftables":[{{"chain":{{"family":"inet","table":"filter","name":"input","hook":"input","policy":"{policy}"}}}},
            {{"rule":{{"family":"inet","table":"filter","chain":"input","expr":[{rule}]}}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    const PORT: &str =
        r#"{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":7842}}"#;
    const SET: &str = r#"{"match":{"op":"==","left":{"payload":{"protocol":"th","field":"dport"}},"right":{"set":[53,{"range":[7800,7900]}]}}}"#;
    const UDP: &str = r#"{"match":{"op":"==","left":{"meta":{"key":"l4proto"}},"right":"udp"}}"#;
    const GROUPS: &str = r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"prefix":{"addr":"224.0.0.0","len":4}}}}"#;
    const OURS: Packets<'_> = Packets { ports: &[7842], group: None };
    const LOOPBACK: &str = r#"{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"lo"}}"#;

    #[test]
    fn a_chain_that_drops_our_ports_is_named_and_one_that_lets_them_in_is_not() {
        let chain = Rules::Drops { chain: "inet filter input".into() };
        for (policy, rule, expected) in [
            ("accept", format!("{PORT},{{\"accept\":null}}"), Rules::Open),
            ("accept", format!("{UDP},{{\"drop\":null}}"), chain.clone()),
            ("accept", format!("{SET},{{\"drop\":null}}"), chain.clone()),
            ("accept", format!("{LOOPBACK},{{\"drop\":null}}"), Rules::Open),
            ("drop", format!("{LOOPBACK},{{\"accept\":null}}"), chain.clone()),
            ("drop", format!("{UDP},{{\"accept\":null}}"), Rules::Open),
            ("drop", format!("{PORT},{{\"accept\":null}}"), Rules::Open),
            ("accept", "{\"drop\":null}".into(), chain.clone()),
            ("accept", format!("{},{{\"drop\":null}}", PORT.replace("==", "!=")), Rules::Open),
            (
                "accept",
                format!("{},{{\"drop\":null}}", PORT.replace("==", "!=").replace("7842", "53")),
                chain.clone(),
            ),
            ("accept", format!("{GROUPS},{{\"drop\":null}}"), Rules::Open),
        ] {
            assert_eq!(read(&ruleset(policy, &rule), "input", OURS), expected, "{policy} {rule}");
        }
        assert_eq!(read(&ruleset("drop", PORT), "output", OURS), Rules::Open);
        assert_eq!(read(&Value::Null, "input", OURS), Rules::Open);
    }

    #[test]
    fn a_chain_that_drops_a_group_is_named_for_what_goes_to_that_group() {
        let to_group = Packets { group: Some(Ipv4Addr::new(224, 0, 0, 251)), ..OURS };
        let chain = Rules::Drops { chain: "inet filter input".into() };
        let pkttype = r#"{"match":{"op":"==","left":{"meta":{"key":"pkttype"}},"right":"multicast"}}"#;
        for (rule, expected) in [
            (GROUPS.to_owned(), chain.clone()),
            (GROUPS.replace("224.0.0.0", "239.0.0.0").replace(":4}", ":8}"), Rules::Open),
            (pkttype.to_owned(), chain.clone()),
            (pkttype.replace("multicast", "broadcast"), Rules::Open),
        ] {
            let rule = format!("{rule},{{\"drop\":null}}");
            assert_eq!(read(&ruleset("accept", &rule), "input", to_group), expected, "{rule}");
        }
        // What stands before it decides.
        let mut rules = ruleset("accept", &format!("{PORT},{{\"accept\":null}}"));
        let drops = ruleset("accept", &format!("{GROUPS},{{\"drop\":null}}"));
        rules["nftables"].as_array_mut().unwrap().push(drops["nftables"][1].clone());
        assert_eq!(read(&rules, "input", to_group), Rules::Open);
    }

    #[test]
    fn every_filter_is_told_in_its_own_words() {
        let ports = [5353, 7842];
        assert_eq!(Filter::Ufw.let_in(None, &ports), "sudo ufw allow 5353/udp && sudo ufw allow 7842/udp");
        assert_eq!(
            Filter::Nftables.let_in(Some("ip a b"), &ports),
            "sudo nft insert rule ip a b udp dport '{ 5353, 7842 }' accept"
        );
        assert!(Filter::Firewalld.let_in(None, &ports).contains("--add-port=5353/udp --add-port=7842/udp"));
    }
}
