//! `/v1/speed`: the library's speed service, in the API's words.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use honeylink::services::speed::{self, SpeedError};
use honeylink_api::{ErrorBody, ErrorCode, RoundTrips, SpeedBack, SpeedReport, SpeedRequest};

use super::answer::ApiError;
use super::failures;
use super::path::describe;
use super::state::Daemon;

/// `POST /v1/speed`
pub(super) async fn measure(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<SpeedRequest>,
) -> Result<Json<SpeedReport>, ApiError> {
    let id = daemon.resolve(&request.peer)?;
    let measured = daemon.speed.measure(id, Duration::from_millis(request.time_ms)).await;
    let report = measured.map_err(failed)?;
    Ok(Json(SpeedReport {
        bytes_per_s: report.there.bytes_per_s,
        idle: round_trips(&report.idle),
        loaded: round_trips(&report.there.loaded),
        added_ms: millis(report.there.added),
        grade: report.there.grade().as_str().to_owned(),
        back: Some(SpeedBack {
            bytes_per_s: report.back.bytes_per_s,
            loaded: round_trips(&report.back.loaded),
            added_ms: millis(report.back.added),
            grade: report.back.grade().as_str().to_owned(),
        }),
        path: report.path.as_ref().and_then(|path| describe(std::slice::from_ref(path))),
    }))
}

fn round_trips(round_trips: &speed::RoundTrips) -> RoundTrips {
    let at = |per_mille| millis(round_trips.quantile(per_mille));
    RoundTrips { count: round_trips.count(), p50_ms: at(500), p95_ms: at(950), p99_ms: at(990) }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn failed(error: SpeedError) -> ErrorBody {
    match error {
        SpeedError::Connect(error) => failures::connect(error),
        SpeedError::Stream(error) => failures::stream(error),
        SpeedError::NoAnswer => ErrorBody::new(ErrorCode::Timeout, SpeedError::NoAnswer.to_string()),
    }
}
