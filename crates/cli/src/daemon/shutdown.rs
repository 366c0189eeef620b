//! The end of a node, in phases that are each bounded in time: draining, persisting, cleanup, complete.
//!
//! *Draining*: nothing new is taken; running transfers get the time the person gave. *Persisting*: what did not finish
//! is stopped where it can resume, watchers are told to go. *Cleanup*: the library says goodbye on its links and on the
//! network and closes its store; the socket is removed. A kill at any moment of this loses nothing that was
//! acknowledged: the phases make the end polite, not safe.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use honeylink_api::{Phase, ShutdownEvent, ShutdownRequest};

use super::answer;
use super::state::Daemon;

/// How long transfers may take to stop where they can resume.
const PERSIST_MAX: Duration = Duration::from_secs(5);
/// How long the library may take to close links, network and store. Its own phases are shorter.
const CLEANUP_MAX: Duration = Duration::from_secs(20);

/// `POST /v1/shutdown`
pub(super) async fn shutdown(
    State(daemon): State<Arc<Daemon>>,
    Json(request): Json<ShutdownRequest>,
) -> Response {
    let drain = request.drain_s.unwrap_or(daemon.config.daemon.drain_s);
    let mut phases = daemon.phase.subscribe();
    daemon.begin_shutdown(Duration::from_secs(drain));
    let (watched, files) = (daemon.clone(), daemon.clone());
    // Not through `answer::lines`, which ends with the phase this reports on.
    answer::last_lines(&watched, move |out| async move {
        loop {
            let phase = *phases.borrow_and_update();
            let sent = out.send(&ShutdownEvent { phase, transfers: files.transfers_running() }).await;
            if !sent || phase == Phase::Complete || phases.changed().await.is_err() {
                return;
            }
        }
    })
}

impl Daemon {
    /// Begins to end the node, unless that has begun already; a second request does not shorten the first.
    pub(super) fn begin_shutdown(self: &Arc<Self>, drain: Duration) {
        let begun = self.phase.send_if_modified(|phase| {
            let begin = *phase == Phase::Running;
            if begin {
                *phase = Phase::Draining;
            }
            begin
        });
        if begun {
            let daemon = self.clone();
            // Not tracked: it is what waits for the tracked ones.
            tokio::spawn(async move { daemon.wind_down(drain).await });
        }
    }

    async fn wind_down(&self, drain: Duration) {
        tracing::info!(drain_s = drain.as_secs(), transfers = self.transfers_running(), "draining");
        if tokio::time::timeout(drain, self.transfers_idle()).await.is_err() {
            tracing::info!(transfers = self.transfers_running(), "transfers are left to be resumed");
        }
        self.enter(Phase::Persisting);
        self.stop.cancel();
        if tokio::time::timeout(PERSIST_MAX, self.sending_idle()).await.is_err() {
            tracing::warn!("transfers did not stop in time; what they wrote is kept and will be resumed");
        }
        self.enter(Phase::Cleanup);
        match tokio::time::timeout(CLEANUP_MAX, self.node.shutdown()).await {
            Ok(report) => {
                for undelivered in &report.undelivered {
                    tracing::warn!(%undelivered, "a link closed early");
                }
                if let Some(error) = &report.not_persisted {
                    tracing::error!(%error, "the store could not write its last changes");
                }
            }
            Err(_) => tracing::warn!("the node did not close in time"),
        }
        match std::fs::remove_file(self.home.api_socket()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the socket of the local API could not be removed");
            }
            Ok(()) | Err(_) => {}
        }
        // Said first: the process may end the moment the last phase is entered.
        tracing::info!("stopped");
        self.enter(Phase::Complete);
        self.closing.cancel();
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}
