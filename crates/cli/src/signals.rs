//! The operating system's ways of asking a process to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C, SIGTERM or SIGHUP. If the handlers cannot be installed the default ones stay, which kill us: good
/// enough, because every store survives that.
pub(crate) async fn asked_to_stop() {
    let mut signals = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        match signal(kind) {
            Ok(signal) => signals.push(signal),
            Err(error) => tracing::warn!(%error, "cannot listen for a signal"),
        }
    }
    if signals.is_empty() {
        std::future::pending::<()>().await;
    }
    futures_util::future::select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
}
