//! The socket of the local API: made for its owner alone, replaced when stale. And the connections that come in, here
//! and at the address of `metrics.listen`.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use honeylink_api::ErrorCode;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::routes;
use super::state::Daemon;
use crate::failure::Failure;

/// Longest path of a Unix socket, in bytes: `sun_path` has 108 on Linux and 104 on macOS, one of them for the NUL.
const SOCKET_PATH_BYTES_MAX: usize = 103;
/// Suffix of the name a socket is made under before it is moved to its own.
const NEW_SUFFIX: &str = ".new";
/// Connections at a time. A command takes one or two, the web page a few.
const CONNECTIONS_MAX: usize = 256;
/// A client must have sent its request's head within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before accepting again after the system could not (out of file descriptors, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Checks that a socket can be made at `path` at all.
pub(super) fn check_path(path: &Path) -> Result<(), Failure> {
    let bytes = path.as_os_str().len() + NEW_SUFFIX.len();
    if bytes <= SOCKET_PATH_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::hint(
        ErrorCode::Config,
        format!(
            "the home folder's path is {} bytes too long for a socket in it: {}",
            bytes - SOCKET_PATH_BYTES_MAX,
            path.display()
        ),
        "choose a shorter one with --home DIR",
    ))
}

/// Listens at `path`. The socket is made under another name, closed to others, and then moved into place: at no moment
/// can anybody else open it, and a stale one of a node that was killed is replaced. The caller holds the home's lock.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW_SUFFIX);
    let new = Path::new(&new);
    match std::fs::remove_file(new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(new)?;
    std::fs::set_permissions(new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(new, path)?;
    Ok(listener)
}

/// Where connections come in.
pub(super) enum Accept {
    /// The whole API, for its owner.
    Local(UnixListener),
    /// These routes, for whoever reaches the address.
    Tcp(TcpListener, Router),
}

/// A connection that came in.
enum Accepted {
    Local(UnixStream),
    Tcp(TcpStream, Router),
}

impl Accept {
    async fn next(&self) -> io::Result<Accepted> {
        match self {
            Self::Local(listener) => Ok(Accepted::Local(listener.accept().await?.0)),
            Self::Tcp(listener, router) => Ok(Accepted::Tcp(listener.accept().await?.0, router.clone())),
        }
    }
}

/// Serves connections until the daemon closes.
pub(super) fn serve(daemon: &Arc<Daemon>, listener: Accept) {
    let daemon = daemon.clone();
    daemon.clone().tasks.spawn(async move {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.next() => accepted,
                () = daemon.closing.cancelled() => return,
            };
            match accepted {
                Ok(accepted) => {
                    let connection = serve_one(daemon.clone(), accepted);
                    daemon.tasks.spawn(async move {
                        connection.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections to the local API");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}

async fn serve_one(daemon: Arc<Daemon>, accepted: Accepted) {
    let stream = match accepted {
        Accepted::Tcp(stream, router) => return talk(&daemon, stream, router).await,
        Accepted::Local(stream) => stream,
    };
    // The file's mode keeps others out; this keeps them out should the home have been opened up.
    let Ok(credentials) = stream.peer_cred() else { return };
    if credentials.uid() != rustix::process::geteuid().as_raw() && credentials.uid() != 0 {
        tracing::warn!(uid = credentials.uid(), "refused another user at the local API");
        return;
    }
    let own = i32::try_from(std::process::id()).is_ok_and(|own| credentials.pid() == Some(own));
    let _guest = (!own).then(|| Guest::new(&daemon));
    talk(&daemon, stream, routes::router(daemon.clone())).await;
}

/// Answers the requests of one connection.
async fn talk(daemon: &Daemon, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = daemon.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        // A command that was interrupted leaves like this; it is no news.
        tracing::trace!(%error, "a connection to the local API ended early");
    }
}

/// Counts a request of another process for as long as it lives.
struct Guest(Arc<Daemon>);

impl Guest {
    fn new(daemon: &Arc<Daemon>) -> Self {
        daemon.guests.send_modify(|guests| *guests += 1);
        Self(daemon.clone())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.guests.send_modify(|guests| *guests = guests.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_and_replaces_a_stale_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        drop(bind(&path).unwrap());
        assert!(path.exists(), "a killed node leaves its socket behind");
        let listener = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let (client, server) = tokio::join!(UnixStream::connect(&path), listener.accept());
        client.unwrap();
        server.unwrap();
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_said_so() {
        let Err(Failure::Error(error)) = check_path(Path::new(&format!("/{}/api.sock", "x".repeat(120))))
        else {
            panic!("accepted")
        };
        assert!(error.message.contains("too long"), "{}", error.message);
    }
}
