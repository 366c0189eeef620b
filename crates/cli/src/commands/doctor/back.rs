//! What paired devices say of this one: whether they get through to it by themselves, and what time it is there.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::join_all;
use honeylink_api::client::Client;
use honeylink_api::{CallBack, ErrorBody, ErrorCode, Trust, routes};

use super::facts::{Facts, NodeFacts};
use super::judge::{Check, Finding};
use crate::output::text;

/// The name of the check.
const NAME: &str = "back";
/// Devices around that are asked if none was named.
const ASKED_MAX: usize = 3;
/// How long each of them has. One that was named has as long as it takes to connect.
const ASKED_FOR: Duration = Duration::from_secs(4);
/// Clocks that are no further apart do no harm.
const APART_MAX_MS: u64 = 60_000;
/// Most characters shown of a reason.
const REASON_MAX: usize = 200;

/// What one device said.
#[derive(Clone, Debug)]
pub(super) struct BackFacts {
    pub(super) name: String,
    pub(super) said: Result<CallBack, ErrorBody>,
    /// Whether it was named.
    pub(super) named: bool,
}

impl BackFacts {
    /// Asks the device that was named, or else a few paired ones that are around.
    pub(super) async fn ask(client: &Client, node: &NodeFacts, named: Option<&str>) -> Vec<Self> {
        if let Some(name) = named {
            return vec![Self { name: name.to_owned(), said: ask(client, name).await, named: true }];
        }
        let around = node.nearby.iter().filter(|device| device.trust == Trust::Paired).take(ASKED_MAX);
        let asking = around.map(|device| async {
            let said = tokio::time::timeout(ASKED_FOR, ask(client, &device.id)).await;
            let late = |_| Err(ErrorBody::new(ErrorCode::Timeout, "it did not answer in time"));
            Self { name: device.name.clone(), said: said.unwrap_or_else(late), named: false }
        });
        join_all(asking).await
    }
}

async fn ask(client: &Client, peer: &str) -> Result<CallBack, ErrorBody> {
    let path = routes::below(routes::DEVICES, &[peer, "call-back"]);
    let said = client.post(&path, &serde_json::json!({})).await;
    said.map_err(honeylink_api::client::ClientError::into_body)
}

/// Whether new packets get in, as those say who tried; `None` if nobody did.
pub(super) fn check(facts: &Facts) -> Option<Check> {
    let all: Vec<Check> = facts.backs.iter().filter_map(|back| one(facts, back)).collect();
    // One that gets in shows that the firewall lets it; what keeps another out is not here.
    let best = all.iter().find(|check| check.finding == Finding::Fine);
    best.or_else(|| all.iter().max_by_key(|check| check.finding)).cloned()
}

fn one(facts: &Facts, back: &BackFacts) -> Option<Check> {
    let name = text::name(&back.name);
    let said = match &back.said {
        Ok(said) => said,
        // That it is not reached at all is told elsewhere.
        Err(error) if back.named && error.code == ErrorCode::Unreachable => {
            let why = text::clean(&error.message, REASON_MAX);
            return Some(Check::new(NAME, Finding::Unknown, format!("{name} could not be asked: {why}")));
        }
        Err(_) => return None,
    };
    let unknown = |why: &str| Some(Check::new(NAME, Finding::Unknown, format!("{name} {why}")));
    match said.refused.as_deref() {
        None => {}
        Some("busy") => return unknown("tried a moment ago; ask again in a few seconds"),
        Some(_) => return unknown("does not try the way back"),
    }
    let with = |outcome: &str| said.called.iter().find(|called| called.outcome == outcome);
    if let Some(called) = with("answered") {
        let address = text::clean(&called.address, 60);
        let ms = called.rtt_us.unwrap_or_default() as f64 / 1000.0;
        let detail = format!("{name} gets through to this device at {address} by itself, {ms:.1} ms");
        return Some(Check::new(NAME, Finding::Fine, detail));
    }
    let Some(called) = with("silent") else {
        return unknown("sees this device through a relay only, so there is nothing to try");
    };
    let address = text::clean(&called.address, 60);
    Some(if is_ours(facts, &called.address) {
        let detail = format!(
            "{name} does not get through to this device at {address} by itself: a firewall here drops what comes in"
        );
        let fix = facts.filter.let_in(facts.incoming.chain(), &facts.ports);
        Check::new(NAME, Finding::Fault, detail).fix(fix)
    } else {
        let detail = format!(
            "{name} does not get through to {address} by itself, as is usual behind a router: the two get through by both \
             trying at once; forward the UDP port in the router where that is not enough"
        );
        Check::new(NAME, Finding::Note, detail).fix("honeylink config set node.port 7843")
    })
}

/// Whether packets for an address come to this machine and not to a router.
fn is_ours(facts: &Facts, address: &str) -> bool {
    let ip = address.parse().map(|addr: SocketAddr| addr.ip().to_canonical());
    ip.is_ok_and(|ip: IpAddr| facts.own.contains(&ip))
}

/// Whether somebody got in at an address of this machine.
pub(super) fn got_in(facts: &Facts) -> bool {
    let called = facts.backs.iter().flat_map(|back| &back.said).flat_map(|said| &said.called);
    let mut answered = called.filter(|called| called.outcome == "answered");
    answered.any(|called| is_ours(facts, &called.address))
}

/// What the clocks of others say of this one; `None` if nobody was asked, or all agree.
pub(super) fn clock(facts: &Facts) -> Option<Check> {
    let told =
        |back: &BackFacts| back.said.as_ref().ok().map(|said| (text::name(&back.name), said.clock_ahead_ms));
    let all: Vec<(String, i64)> = facts.backs.iter().filter_map(told).collect();
    let (off, right): (Vec<_>, Vec<_>) =
        all.iter().partition(|(_, ahead)| ahead.unsigned_abs() > APART_MAX_MS);
    let (name, ahead) = off.first()?;
    let (span, word) = (span(ahead.unsigned_abs()), if *ahead > 0 { "behind" } else { "ahead of" });
    let fix = "sudo timedatectl set-ntp true";
    if let Some((other, _)) = right.first() {
        let detail =
            format!("the clock of {name} is wrong: this one is {span} {word} it, and that of {other} is not");
        return Some(Check::new("clock", Finding::Note, detail));
    }
    let agree = off.iter().all(|(_, other)| other.abs_diff(*ahead) <= APART_MAX_MS);
    let detail = if off.len() > 1 && agree {
        format!("the clock is wrong: it is {span} {word} those of {} other devices", off.len())
    } else {
        format!(
            "the clock is {span} {word} that of {name}; one of the two is wrong, so this has to be run there too"
        )
    };
    Some(Check::new("clock", Finding::Fault, detail).fix(fix))
}

fn span(ms: u64) -> String {
    let rounded = |unit: u64| (ms + unit / 2) / unit;
    match rounded(60_000) {
        minutes @ 0..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", rounded(3_600_000)),
        _ => format!("{} days", rounded(86_400_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::healthy;
    use super::*;
    use honeylink_api::Called;

    fn said(name: &str, ahead_s: i64, address: &str, outcome: &str) -> BackFacts {
        let called = Called { address: address.into(), outcome: outcome.into(), rtt_us: Some(400) };
        let said = CallBack {
            id: "cd".into(),
            name: name.into(),
            clock_ahead_ms: ahead_s * 1000,
            refused: None,
            called: vec![called],
        };
        BackFacts { name: name.into(), said: Ok(said), named: true }
    }

    fn facts(backs: Vec<BackFacts>) -> Facts {
        Facts { backs, ..healthy() }
    }

    const OURS: &str = "10.0.0.1:7843";
    const ROUTER: &str = "192.0.2.1:5";

    #[test]
    fn nothing_is_said_where_nobody_was_asked() {
        assert_eq!((check(&healthy()), clock(&healthy())), (None, None));
    }

    #[test]
    fn whether_a_device_gets_in_is_said_with_what_lets_it() {
        let found =
            |address: &str, outcome: &str| check(&facts(vec![said("studio", 0, address, outcome)])).unwrap();
        let fine = found(OURS, "answered");
        assert_eq!((fine.finding, fine.fix.as_ref()), (Finding::Fine, None));
        assert!(fine.detail.contains("10.0.0.1:7843 by itself, 0.4 ms"), "{fine:?}");
        let dropped = found(OURS, "silent");
        assert_eq!(dropped.finding, Finding::Fault);
        assert!(dropped.detail.contains("a firewall here drops"), "{dropped:?}");
        assert!(dropped.fix.unwrap().contains("udp dport '{ 5353, 7842, 7843 }' accept"));
        let router = found(ROUTER, "silent");
        assert!(router.finding == Finding::Note && router.detail.contains("router"), "{router:?}");
        assert_eq!(found(ROUTER, "not_sent").finding, Finding::Unknown);
    }

    #[test]
    fn one_who_gets_in_is_enough() {
        let backs = vec![said("phone", 0, OURS, "silent"), said("studio", 0, OURS, "answered")];
        assert_eq!(check(&facts(backs)).unwrap().finding, Finding::Fine);
    }

    #[test]
    fn who_would_not_or_could_not_try_proves_nothing() {
        let mut busy = said("studio", 0, OURS, "silent");
        busy.said.as_mut().unwrap().refused = Some("busy".into());
        let old = BackFacts {
            said: Err(ErrorBody::new(ErrorCode::Unreachable, "it did not answer")),
            ..said("studio", 0, OURS, "silent")
        };
        for back in [busy, old] {
            assert_eq!(check(&facts(vec![back])).unwrap().finding, Finding::Unknown);
        }
    }

    #[test]
    fn a_clock_is_wrong_that_others_agree_is() {
        let told = |ahead: &[i64]| {
            clock(&facts(ahead.iter().map(|s| said("studio", *s, OURS, "answered")).collect()))
        };
        assert_eq!(told(&[0, 30, -30]), None);
        for (ahead, finding, words) in [
            (&[7200][..], Finding::Fault, "2 h behind that of studio"),
            (&[-7200], Finding::Fault, "2 h ahead of that of studio"),
            (&[86_400 * 30, 86_400 * 30 + 5], Finding::Fault, "30 days behind those of 2 other devices"),
            (&[300, 0], Finding::Note, "the clock of studio is wrong"),
        ] {
            let check = told(ahead).unwrap();
            assert_eq!(check.finding, finding, "{check:?}");
            assert!(check.detail.contains(words), "{check:?}");
            assert_eq!(check.fix.is_some(), finding == Finding::Fault);
        }
    }
}
