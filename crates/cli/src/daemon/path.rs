//! Which way bytes go to a device and how long that takes: `path` and `ping`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use honeylink::node::{Outcome, Refusal};
use honeylink::paths::Way;
use honeylink::{Link, PathReport as Reported, Rung as Place, WayChanged};
use honeylink_api::{
    CallBack, Called, ErrorBody, ErrorCode, PathChange, PathInfo, PathReport, PingEvent, PingRequest,
    PingSummary, Rung,
};

use tokio::sync::broadcast::error::RecvError;

use super::answer::{self, Answer, ApiError};
use super::failures;
use super::state::{Daemon, unix_ms};
use super::streams;
use crate::failure::Failure;

/// The protocol of links that only measure.
pub(super) const PROTOCOL: &str = "ping/1";
/// Round trips kept for the median of one series; of longer ones the latest count.
const ROUND_TRIPS_MAX: usize = 10_000;

/// Answers other devices' measurements: the link itself does, as long as somebody holds it.
pub(super) fn serve(daemon: &Arc<Daemon>) -> Result<(), Failure> {
    let mut listener = daemon.node.listen(PROTOCOL).map_err(Failure::internal)?;
    let on = daemon.clone();
    daemon.spawn(async move {
        while let Some(link) = listener.accept().await {
            on.spawn(async move { while link.recv().await.is_ok() {} });
        }
    });
    Ok(())
}

async fn measuring_link(daemon: &Daemon, peer: &str) -> Result<Link, ApiError> {
    let id = daemon.resolve(peer)?;
    Ok(daemon.node.connect(id, PROTOCOL).await.map_err(failures::connect)?)
}

/// `GET /v1/devices/{peer}/path`
pub(super) async fn report(
    State(daemon): State<Arc<Daemon>>,
    Path(peer): Path<String>,
) -> Answer<PathReport> {
    let link = measuring_link(&daemon, &peer).await?;
    let id = link.peer();
    // One round trip makes the time shown a measured one.
    let _ = link.ping(Duration::from_secs(2)).await;
    let ways = daemon.node.ways(&id);
    let why = ways.reason.unwrap_or_default();
    Ok(Json(PathReport {
        id: id.to_string(),
        name: daemon.name_of(&id),
        path: ways.used.as_ref().map(|used| way(used, &why)),
        others: ways.others.iter().map(|other| way(other, "not in use")).collect(),
        history: ways.history.iter().map(change).collect(),
        streams: link.traffic().map(|traffic| streams::of_link(&traffic, &daemon.node.link_policies(&id))),
    }))
}

/// `GET /v1/devices/{peer}/path/watch`
pub(super) async fn watch(
    State(daemon): State<Arc<Daemon>>,
    Path(peer): Path<String>,
) -> Result<Response, ApiError> {
    let link = measuring_link(&daemon, &peer).await?;
    let peer = link.peer();
    // Subscribed before the way now is asked, so that no change falls between.
    let mut changes = daemon.node.way_changes();
    let node = daemon.node.clone();
    Ok(answer::lines(&daemon, move |out| async move {
        let now = node.ways(&peer);
        let path = now.used.as_ref().map(|used| way(used, now.reason.as_deref().unwrap_or_default()));
        let first = PathChange { at_unix_ms: unix_ms(), path, before: None, cause: String::new(), gap_ms: 0 };
        if !out.send(&first).await {
            return;
        }
        // Held as long as somebody watches: it is what keeps the connection.
        let _link = link;
        loop {
            let event = match changes.recv().await {
                Ok(event) if event.peer == peer => change(&event),
                // Another peer's, or some were missed: the next one says how it is then.
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            if !out.send(&event).await {
                return;
            }
        }
    }))
}

fn change(event: &WayChanged) -> PathChange {
    let words = event.reason.as_deref().unwrap_or_default();
    PathChange {
        at_unix_ms: event.at_unix_ms,
        path: event.change.to.as_ref().map(|to| way(to, words)),
        before: event.change.from.as_ref().map(|from| way(from, "")),
        cause: event.change.cause.as_str().to_owned(),
        gap_ms: u64::try_from(event.change.gap.as_millis()).unwrap_or(u64::MAX),
    }
}

fn way(way: &Way, why: &str) -> PathInfo {
    PathInfo {
        rung: rung(way.rung),
        carrier: way.carrier.to_owned(),
        address: way.remote.clone(),
        rtt_ms: way.rtt.map(millis),
        why: why.to_owned(),
    }
}

/// `POST /v1/devices/{peer}/call-back`
pub(super) async fn call_back(
    State(daemon): State<Arc<Daemon>>,
    Path(peer): Path<String>,
) -> Answer<CallBack> {
    let link = measuring_link(&daemon, &peer).await?;
    let id = link.peer();
    // One round trip makes the time on the way, and with it the comparison of clocks, a measured one.
    let _ = link.ping(Duration::from_secs(2)).await;
    let told = daemon.node.call_back(&id).await;
    let told = told.map_err(|error| ErrorBody::new(ErrorCode::Unreachable, error.to_string()))?;
    let called = told.called.iter().map(|one| {
        let (outcome, rtt) = match one.outcome {
            Outcome::Answered(after) => ("answered", Some(after)),
            Outcome::Silent => ("silent", None),
            Outcome::NotSent => ("not_sent", None),
        };
        Called {
            address: one.addr.to_string(),
            outcome: outcome.to_owned(),
            rtt_us: rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
        }
    });
    Ok(Json(CallBack {
        id: id.to_string(),
        name: daemon.name_of(&id),
        clock_ahead_ms: told.clock_ahead_ms,
        refused: told.refusal.map(|why| match why {
            Refusal::Busy => "busy".to_owned(),
            Refusal::Off => "off".to_owned(),
        }),
        called: called.collect(),
    }))
}

/// `POST /v1/ping`
pub(super) async fn ping(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<PingRequest>,
) -> Result<Response, ApiError> {
    let link = measuring_link(&daemon, &request.peer).await?;
    Ok(answer::lines(&daemon, move |out| async move {
        let timeout = Duration::from_millis(request.timeout_ms);
        let mut pace = tokio::time::interval(Duration::from_millis(request.interval_ms.max(1)));
        let mut series = Series::default();
        let endless = request.count == 0;
        for seq in 0..if endless { u32::MAX } else { request.count } {
            pace.tick().await;
            series.sent += 1;
            let event = match link.ping(timeout).await {
                Ok(rtt) => {
                    let rtt_ms = series.add(rtt);
                    PingEvent::Reply { seq, rtt_ms, path: describe(&link.paths()) }
                }
                Err(error) => {
                    let over = failures::ping(&error).is_some();
                    out.send(&PingEvent::Lost { seq }).await;
                    if over {
                        break;
                    }
                    continue;
                }
            };
            if !out.send(&event).await {
                return;
            }
        }
        out.send(&PingEvent::Summary(series.summary(describe(&link.paths())))).await;
    }))
}

/// What a series of pings came to so far.
#[derive(Default)]
struct Series {
    sent: u32,
    received: u32,
    round_trips_ms: std::collections::VecDeque<f64>,
}

impl Series {
    fn add(&mut self, rtt: Duration) -> f64 {
        let ms = rtt.as_secs_f64() * 1000.0;
        self.received += 1;
        if self.round_trips_ms.len() == ROUND_TRIPS_MAX {
            self.round_trips_ms.pop_front();
        }
        self.round_trips_ms.push_back(ms);
        ms
    }

    fn summary(&self, path: Option<PathInfo>) -> PingSummary {
        let mut sorted: Vec<f64> = self.round_trips_ms.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        PingSummary {
            ok: self.received > 0,
            sent: self.sent,
            received: self.received,
            min_ms: sorted.first().copied(),
            p50_ms: sorted.get(sorted.len() / 2).copied(),
            max_ms: sorted.last().copied(),
            path,
        }
    }
}

/// The path in use among `paths`, the selected one first, with why it is the one.
pub(super) fn describe(paths: &[Reported]) -> Option<PathInfo> {
    let (used, others) = paths.split_first()?;
    let next = others.iter().min_by_key(|path| (path.rung, path.rtt));
    let why = match next {
        None => "the only way known".to_owned(),
        Some(next) => {
            format!("chosen over {} {}", next.rung.as_str(), crate::output::units::millis(millis(next.rtt)))
        }
    };
    Some(one(used, &why))
}

pub(super) fn one(path: &Reported, why: &str) -> PathInfo {
    PathInfo {
        rung: rung(path.rung),
        carrier: path.carrier.to_owned(),
        address: path.remote.clone(),
        rtt_ms: (!path.rtt.is_zero()).then(|| millis(path.rtt)),
        why: why.to_owned(),
    }
}

const fn rung(place: Place) -> Rung {
    match place {
        Place::Local => Rung::Local,
        Place::Lan => Rung::Lan,
        Place::Direct => Rung::Direct,
        Place::Punched => Rung::Punched,
        Place::Relayed => Rung::Relayed,
        Place::Mesh => Rung::Mesh,
        Place::Stored => Rung::Stored,
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_without_answers_is_not_ok_and_has_no_times() {
        let summary = Series { sent: 3, ..Series::default() }.summary(None);
        assert!(!summary.ok);
        assert_eq!((summary.min_ms, summary.p50_ms, summary.max_ms), (None, None, None));
    }

    #[test]
    fn a_series_shows_its_shortest_middle_and_longest() {
        let mut series = Series::default();
        for ms in [3, 1, 2] {
            series.add(Duration::from_millis(ms));
        }
        let summary = series.summary(None);
        assert_eq!((summary.min_ms, summary.p50_ms, summary.max_ms), (Some(1.0), Some(2.0), Some(3.0)));
    }
}
