//! Why one paired device is not reached, or not directly.

use honeylink_api::client::Client;
use honeylink_api::{ErrorBody, ErrorCode, PathInfo, PathReport, Rung, routes};

use super::facts::Facts;
use super::judge::{Check, Finding};
use crate::output::text;

/// The name of the check.
const NAME: &str = "peer";
/// Most characters shown of a reason.
const REASON_MAX: usize = 400;

/// The device that was named, and what came of connecting to it.
#[derive(Clone, Debug)]
pub(super) struct PeerFacts {
    /// As it was named.
    pub(super) name: String,
    pub(super) way: Result<PathReport, ErrorBody>,
}

impl PeerFacts {
    pub(super) async fn ask(client: &Client, name: &str) -> Self {
        let way = client.get(&routes::below(routes::DEVICES, &[name, "path"])).await;
        Self { name: name.to_owned(), way: way.map_err(honeylink_api::client::ClientError::into_body) }
    }
}

/// What is wrong with the way to the device that was named, if one was.
pub(super) fn check(facts: &Facts) -> Option<Check> {
    let peer = facts.peer.as_ref()?;
    let name = text::name(&peer.name);
    Some(match &peer.way {
        Ok(PathReport { path: Some(path), .. }) => reached(&name, path),
        Ok(PathReport { path: None, .. }) => {
            Check::new(NAME, Finding::Fault, format!("no way to {name} works now"))
                .fix(format!("honeylink path {name}"))
        }
        Err(error) => not_reached(facts, &name, error),
    })
}

fn reached(name: &str, path: &PathInfo) -> Check {
    let why = text::clean(&path.why, REASON_MAX);
    match path.rung {
        Rung::Local | Rung::Lan | Rung::Direct | Rung::Punched => {
            Check::new(NAME, Finding::Fine, format!("{name} answers, {}", path.rung.as_str()))
        }
        Rung::Relayed => {
            let detail = format!("{name} is reached through a relay only: {why}");
            Check::new(NAME, Finding::Note, detail).fix(format!("honeylink path {name} --history"))
        }
        Rung::Mesh | Rung::Stored => {
            Check::new(NAME, Finding::Note, format!("{name} is reached over the mesh only: {why}"))
                .fix(format!("honeylink mesh trace {name}"))
        }
    }
}

fn not_reached(facts: &Facts, name: &str, error: &ErrorBody) -> Check {
    let why = text::clean(&error.message, REASON_MAX);
    let fault = |detail: String, fix: String| Check::new(NAME, Finding::Fault, detail).fix(fix);
    if error.code == ErrorCode::Policy {
        return fault(why, format!("honeylink pair {name}"));
    }
    if !matches!(error.code, ErrorCode::Unreachable | ErrorCode::Timeout) {
        return fault(why, "honeylink devices".to_owned());
    }
    let Ok(node) = &facts.node else { return fault(why, "honeylink up".to_owned()) };
    let here = node.nearby.iter().any(|device| device.name == name || device.id.starts_with(name));
    if here {
        let detail = format!(
            "{name} is seen on this network and does not answer: its firewall drops what comes in, or the network keeps its \
             clients apart; run `honeylink doctor` there too ({why})"
        );
        return fault(detail, "honeylink doctor".to_owned());
    }
    match node.status.reach.as_str() {
        "wide" if node.status.relays.is_empty() && node.status.dht.is_none() => {
            let detail = format!(
                "{name} is not on this network, and nothing tells where else it is: no relay (node.relays), no DHT \
                 (node.dht) ({why})"
            );
            fault(detail, "honeylink config set node.dht true".to_owned())
        }
        "wide" => fault(format!("{name} is not reached: {why}"), format!("honeylink path {name}")),
        reach => {
            let detail = format!(
                "{name} is not on this network, and this device does not look further (node.reach = {reach}) ({why})"
            );
            fault(detail, "honeylink config set node.reach wide".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::healthy;
    use super::*;

    fn way(rung: Rung) -> Result<PathReport, ErrorBody> {
        let path = PathInfo {
            rung,
            carrier: "iroh".into(),
            address: "192.0.2.7:1".into(),
            rtt_ms: None,
            why: "no observer answers".into(),
        };
        Ok(PathReport {
            id: "cd".into(),
            name: "studio".into(),
            path: Some(path),
            others: Vec::new(),
            history: Vec::new(),
            streams: None,
        })
    }

    fn told(way: Result<PathReport, ErrorBody>, change: impl FnOnce(&mut Facts)) -> Check {
        let mut facts = healthy();
        facts.peer = Some(PeerFacts { name: "studio".into(), way });
        change(&mut facts);
        check(&facts).unwrap()
    }

    fn silent() -> Result<PathReport, ErrorBody> {
        Err(ErrorBody::new(ErrorCode::Unreachable, "nothing answered"))
    }

    #[test]
    fn nothing_is_said_of_a_device_that_nobody_named() {
        assert_eq!(check(&healthy()), None);
    }

    #[test]
    fn a_device_that_answers_directly_is_fine_and_one_behind_a_relay_is_worth_knowing() {
        assert_eq!(told(way(Rung::Lan), |_| {}).finding, Finding::Fine);
        let relayed = told(way(Rung::Relayed), |_| {});
        assert!(
            relayed.finding == Finding::Note && relayed.detail.contains("no observer answers"),
            "{relayed:?}"
        );
        assert!(relayed.fix.unwrap().contains("path studio"));
    }

    #[test]
    fn why_a_device_is_not_reached_is_named_with_the_command_that_helps() {
        let node = |facts: &mut Facts, reach: &str| facts.node.as_mut().unwrap().status.reach = reach.into();
        let seen = |facts: &mut Facts| facts.node.as_mut().unwrap().nearby[0].name = "studio".into();
        for (check, detail, fix) in [
            (told(silent(), seen), "its firewall drops", "honeylink doctor"),
            (told(silent(), |_| {}), "node.reach = lan", "node.reach wide"),
            (told(silent(), |facts| node(facts, "wide")), "no DHT", "node.dht true"),
            (
                told(Err(ErrorBody::new(ErrorCode::Policy, "not paired with studio")), |_| {}),
                "not paired",
                "honeylink pair studio",
            ),
        ] {
            assert_eq!((check.name, check.finding), ("peer", Finding::Fault), "{check:?}");
            assert!(check.detail.contains(detail), "{check:?}");
            assert!(check.fix.as_deref().is_some_and(|said| said.contains(fix)), "{check:?}");
        }
    }
}
