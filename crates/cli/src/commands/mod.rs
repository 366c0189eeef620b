//! The verbs, one file each: options, help, and what the person sees. What a verb *does* is on the other side of the
//! local API, in `daemon`.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod down;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod mesh;
pub(crate) mod nearby;
pub(crate) mod pair;
pub(crate) mod path;
pub(crate) mod ping;
pub(crate) mod pipe;
pub(crate) mod receive;
pub(crate) mod send;
#[cfg(feature = "sim")]
pub(crate) mod sim;
pub(crate) mod speed;
pub(crate) mod status;
pub(crate) mod transfers;
pub(crate) mod up;

use honeylink_api::{PathInfo, Trust};

use crate::output::{text, units};

/// A path in one clause: `direct/lan iroh 192.0.2.7:7843, 0.41 ms, chosen over relay 41 ms`.
fn describe_path(path: Option<&PathInfo>) -> String {
    let Some(path) = path else { return "no link".to_owned() };
    let rtt = path.rtt_ms.map(|ms| format!(", {}", units::millis(ms))).unwrap_or_default();
    let why = if path.why.is_empty() { String::new() } else { format!(", {}", text::clean(&path.why, 120)) };
    format!(
        "{} {} {}{rtt}{why}",
        path.rung.as_str(),
        text::clean(&path.carrier, 20),
        text::clean(&path.address, 80)
    )
}

const fn trust_word(trust: Trust) -> &'static str {
    match trust {
        Trust::Seen => "seen",
        Trust::Paired => "paired",
        Trust::Verified => "verified",
        Trust::Revoked => "revoked",
    }
}
