//! Which handler serves which path, and what every request has to pass first.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use honeylink_api::{
    API_VERSION, ErrorBody, ErrorCode, Phase, REQUEST_BYTES_MAX, VERSION_HEADER, routes as at,
};

use super::answer::ApiError;
use super::state::Daemon;
use super::{
    chat, devices, files, mesh, metrics, nearby, pairing, path, pipe, policy, shutdown, speed, status,
};

/// The whole API.
pub(super) fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route(at::STATUS, get(status::status))
        .route(at::SHUTDOWN, post(shutdown::shutdown))
        .route(at::NEARBY, get(nearby::list))
        .route(at::NEARBY_WATCH, get(nearby::watch))
        .route(at::DEVICES, get(devices::list))
        .route("/v1/devices/{peer}", get(devices::show).patch(devices::change).delete(devices::forget))
        .route("/v1/devices/{peer}/revoke", post(devices::revoke))
        .route("/v1/devices/{peer}/grants", post(devices::grants))
        .route("/v1/devices/{peer}/path", get(path::report))
        .route("/v1/devices/{peer}/path/watch", get(path::watch))
        .route("/v1/devices/{peer}/call-back", post(path::call_back))
        .route(at::PAIR_OPEN, post(pairing::open))
        .route(at::PAIR_JOIN, post(pairing::join))
        .route(at::PAIR_ANSWER, post(pairing::answer))
        .route(at::SEND, post(files::send))
        .route(at::RECEIVE, post(files::receive))
        .route(at::TRANSFERS, get(files::list))
        .route("/v1/transfers/{id}", delete(files::cancel))
        .route("/v1/transfers/{id}/answer", post(files::answer))
        .route(at::CHAT, post(chat::say))
        .route(at::CHAT_WATCH, get(chat::watch))
        .route(at::MESH_STATS, get(mesh::stats))
        .route(at::MESH_ROUTES, get(mesh::routes))
        .route(at::MESH_DEVICES, get(mesh::devices))
        .route(at::MESH_RADIOS, get(mesh::radios))
        .route("/v1/mesh/trace/{peer}", get(mesh::trace))
        .route(at::MESH_ANNOUNCE, post(mesh::announce))
        .route(at::HEALTHZ, get(metrics::healthz))
        .route(at::METRICS, get(metrics::metrics))
        .route(at::POLICIES, get(policy::list))
        .route(at::POLICIES_APPLY, post(policy::apply))
        .route(at::PING, post(path::ping))
        .route(at::SPEED, post(speed::measure))
        .route("/v1/pipe/{peer}", get(pipe::open))
        .route(at::PIPE_LISTEN, get(pipe::take))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(from_fn_with_state(daemon.clone(), admit))
        .with_state(daemon)
}

async fn unknown(request: Request) -> ApiError {
    let path = request.uri().path();
    ErrorBody::new(ErrorCode::NotFound, format!("the local API has no {} {path}", request.method())).into()
}

/// Refuses other versions of the API, and new work once the node is on its way out. Every answer names our version.
async fn admit(State(daemon): State<Arc<Daemon>>, request: Request, next: Next) -> Response {
    let theirs = request.headers().get(VERSION_HEADER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let ending = *daemon.phase.borrow() != Phase::Running;
    let refusal = match theirs {
        // `curl` and other people's scripts need not know the header.
        Some(theirs) if theirs != API_VERSION.to_string() => Some(ErrorBody::new(
            ErrorCode::ApiVersion,
            format!("this node speaks version {API_VERSION} of the local API, not {theirs}"),
        )),
        _ if ending && request.method() != Method::GET && request.uri().path() != at::SHUTDOWN => {
            Some(super::shutting_down())
        }
        Some(_) | None => None,
    };
    let mut response = match refusal {
        Some(error) => ApiError(error).into_response(),
        None => next.run(request).await,
    };
    response.headers_mut().insert(VERSION_HEADER, HeaderValue::from(API_VERSION));
    response
}
