//! The packet filter of this machine: which one it is, whether it drops what comes for us, and how it is told not to.

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

/// The rules of nftables for what comes in, or goes out, by UDP on these ports.
pub(super) async fn rules(hook: &str, ports: &[u16]) -> Rules {
    let mut nft = tokio::process::Command::new("nft");
    nft.args(["-j", "list", "ruleset"]).kill_on_drop(true);
    match nft.output().await {
        Ok(output) if output.status.success() => {
            let listed = serde_json::from_slice(&output.stdout).unwrap_or_default();
            read(&listed, hook, ports)
        }
        // Not installed, or not allowed.
        Ok(_) | Err(_) => Rules::Unknown,
    }
}

/// A chain drops if that is its policy and none of its rules names our ports, or if a rule drops UDP as such or our ports.
fn read(listed: &Value, hook: &str, ports: &[u16]) -> Rules {
    let entries = listed["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    for chain in entries.iter().filter_map(|entry| entry.get("chain")).filter(|chain| chain["hook"] == hook) {
        let same = |rule: &&Value| {
            rule["family"] == chain["family"]
                && rule["table"] == chain["table"]
                && rule["chain"] == chain["name"]
        };
        let rules: Vec<&Value> = entries.iter().filter_map(|entry| entry.get("rule")).filter(same).collect();
        let drops = rules.iter().any(|rule| verdict(rule, "drop") && concerns(rule, ports));
        let lets_in = rules.iter().any(|rule| verdict(rule, "accept") && concerns(rule, ports));
        if drops || (chain["policy"] == "drop" && !lets_in) {
            let word = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
            return Rules::Drops { chain: format!("{} {} {}", word("family"), word("table"), word("name")) };
        }
    }
    Rules::Open
}

fn verdict(rule: &Value, word: &str) -> bool {
    rule["expr"].as_array().is_some_and(|parts| parts.iter().any(|part| part.get(word).is_some()))
}

/// Whether a rule is about UDP as such, or about one of these ports, and about no address or interface in particular.
fn concerns(rule: &Value, ports: &[u16]) -> bool {
    let parts = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    let matches: Vec<&Value> = parts.iter().filter_map(|part| part.get("match")).collect();
    let about = |of: &Value| {
        let (left, right) = (&of["left"], &of["right"]);
        let port = left["payload"]["field"] == "dport" && left["payload"]["protocol"] != "tcp";
        let udp = left["meta"]["key"] == "l4proto" || left["payload"]["field"] == "protocol";
        (port && ports.iter().any(|port| names(right, &Value::from(*port))))
            || (udp && names(right, &Value::from("udp")))
    };
    !matches.is_empty() && matches.iter().all(|of| about(of))
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
        ] {
            assert_eq!(read(&ruleset(policy, &rule), "input", &[7842]), expected, "{policy} {rule}");
        }
        assert_eq!(read(&ruleset("drop", PORT), "output", &[7842]), Rules::Open);
        assert_eq!(read(&Value::Null, "input", &[7842]), Rules::Open);
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
