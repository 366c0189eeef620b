//! The TCP address of `/metrics` and `/healthz`, for programs that cannot read a Unix socket.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use honeylink_api::{ErrorCode, routes as at};
use tokio::net::TcpListener;

use super::super::listen::{self, Accept};
use super::super::state::Daemon;
use super::{healthz, metrics};
use crate::config;
use crate::failure::Failure;

/// Opens the address of `metrics.listen`, if there is one.
///
/// # Errors
/// The address is in use, or not of this machine.
pub(in super::super) async fn bind(config: &config::Metrics) -> Result<Option<TcpListener>, Failure> {
    // The configuration was checked to hold an address or nothing.
    let Ok(address) = config.listen.parse::<SocketAddr>() else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => Err(Failure::hint(
            ErrorCode::Config,
            format!("metrics.listen: cannot listen on {address}: {error}"),
            "choose another port, or take the setting out: honeylink config unset metrics.listen",
        )),
    }
}

/// Serves the two paths until the daemon closes. Requests here do not keep a command's node alive.
pub(in super::super) fn serve(daemon: &Arc<Daemon>, listener: TcpListener) {
    let router = Router::new()
        .route(at::HEALTHZ, get(healthz))
        .route(at::METRICS, get(metrics))
        .with_state(daemon.clone());
    listen::serve(daemon, Accept::Tcp(listener, router));
}
