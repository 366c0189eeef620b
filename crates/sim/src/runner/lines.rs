//! Traces as files: the line that begins one, where two of them part, and what one amounts to.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use serde::Serialize;
use serde_json::{Value, json};

use crate::plan::Plan;

/// The line that begins a trace: of which run it is, and where its nodes stand.
#[must_use]
pub fn header(plan: &Plan) -> String {
    let nodes: Vec<Value> = plan
        .nodes
        .iter()
        .map(|node| json!({ "x": node.x.round(), "y": node.y.round(), "radio": node.radio, "role": node.role }))
        .collect();
    let links: Vec<[u32; 2]> = plan.links.iter().map(|link| [link.a.0, link.b.0]).collect();
    json!({
        "trace": 1,
        "name": plan.name,
        "seed": plan.seed,
        "protocol": plan.protocol,
        "end_us": plan.end_at_ms.saturating_mul(1_000),
        "nodes": nodes,
        "links": links,
    })
    .to_string()
}

/// Where two traces part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parting {
    /// The line, counted from 1.
    pub line: u64,
    /// The lines before it, which both have.
    pub before: Vec<String>,
    /// What the first goes on with; nothing if it ends.
    pub left: Option<String>,
    /// What the second goes on with.
    pub right: Option<String>,
}

/// Lines shown before the parting.
const CONTEXT_LINES: usize = 5;

/// Where two traces part; `None` if they are the same.
///
/// # Errors
/// The first error of reading.
pub fn diff(left: impl BufRead, right: impl BufRead) -> io::Result<Option<Parting>> {
    let (mut left, mut right) = (left.lines(), right.lines());
    let mut before: Vec<String> = Vec::new();
    for line in 1.. {
        match (left.next().transpose()?, right.next().transpose()?) {
            (None, None) => break,
            (Some(a), Some(b)) if a == b => {
                if before.len() == CONTEXT_LINES {
                    before.remove(0);
                }
                before.push(a);
            }
            (left, right) => return Ok(Some(Parting { line, before, left, right })),
        }
    }
    Ok(None)
}

/// What a trace amounts to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Digest {
    /// Of which run it is.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// Events by their word.
    pub events: BTreeMap<String, u64>,
    /// Airtime by class, in seconds.
    pub airtime_s: BTreeMap<String, f64>,
    /// Frames in range that were missed, by reason.
    pub unheard: BTreeMap<String, u64>,
    /// Messages given to devices.
    pub sent: u64,
    /// Messages delivered at least once.
    pub delivered: u64,
    /// The longest time to a delivery, in seconds.
    pub slowest_s: f64,
    /// The nodes that were on the air the most: seconds and number.
    pub busiest: Vec<(f64, u64)>,
}

/// Nodes named in a digest.
const BUSIEST: usize = 5;

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reads a trace.
///
/// # Errors
/// The first error of reading; a file that does not begin like a trace, or a line that is not JSON, is
/// [`io::ErrorKind::InvalidData`].
pub fn digest(trace: impl BufRead) -> io::Result<Digest> {
    let mut sum = Digest::default();
    let mut sent: BTreeMap<i64, u64> = BTreeMap::new();
    let mut waits: BTreeMap<i64, u64> = BTreeMap::new();
    let mut on_air: BTreeMap<u64, u64> = BTreeMap::new();
    let mut airtime_us: BTreeMap<String, u64> = BTreeMap::new();
    for (index, line) in trace.lines().enumerate() {
        let event: Value = serde_json::from_str(&line?)
            .map_err(|error| invalid(format!("line {} is not of a trace: {error}", index + 1)))?;
        if index == 0 && event.get("trace").is_none() {
            return Err(invalid("it does not begin as a trace does".to_owned()));
        }
        let number = |key: &str| event[key].as_u64().unwrap_or(0);
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        if event.get("trace").is_some() {
            sum.name = word("name");
            sum.seed = number("seed");
            continue;
        }
        *sum.events.entry(word("e")).or_default() += 1;
        let id = event["id"].as_i64().unwrap_or(-1);
        match event["e"].as_str().unwrap_or_default() {
            "air" => {
                *airtime_us.entry(word("class")).or_default() += number("us");
                *on_air.entry(number("n")).or_default() += number("us");
            }
            "unheard" | "dropped" => *sum.unheard.entry(word("why")).or_default() += 1,
            "send" => drop(sent.insert(id, number("t"))),
            "deliver" => {
                if let Some(at) = sent.get(&id) {
                    waits.entry(id).or_insert(number("t").saturating_sub(*at));
                }
            }
            _ => {}
        }
    }
    sum.sent = sent.len() as u64;
    sum.delivered = waits.len() as u64;
    sum.slowest_s = waits.values().max().map_or(0.0, |us| *us as f64 / 1e6);
    sum.airtime_s = airtime_us.into_iter().map(|(class, us)| (class, us as f64 / 1e6)).collect();
    let mut busiest: Vec<(u64, u64)> = on_air.into_iter().map(|(node, us)| (us, node)).collect();
    busiest.sort_unstable_by(|a, b| b.cmp(a));
    sum.busiest = busiest.into_iter().take(BUSIEST).map(|(us, node)| (us as f64 / 1e6, node)).collect();
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_shown_with_what_led_to_it() {
        let parting = diff(&b"a\nb\nc\n"[..], &b"a\nb\nd\n"[..]).unwrap().unwrap();
        assert_eq!((parting.line, parting.before.len()), (3, 2));
        assert_eq!((parting.left.as_deref(), parting.right.as_deref()), (Some("c"), Some("d")));
        assert_eq!(diff(&b"a\n"[..], &b"a\n"[..]).unwrap(), None);
        assert_eq!(diff(&b"a\n"[..], &b""[..]).unwrap().unwrap().right, None);
    }

    #[test]
    fn what_is_no_trace_is_not_summed_up() {
        let why = |text: &str| digest(text.as_bytes()).unwrap_err().to_string();
        assert!(why("{\"hello\":1}\n").contains("does not begin"));
        assert!(why("{\"trace\":1}\nhello\n").contains("line 2"));
        assert_eq!(digest(&b"{\"trace\":1,\"seed\":9}\n"[..]).unwrap().seed, 9);
    }
}
