//! Both ends over an in-memory stream, against each other and against hostile counterparts.

#[path = "tests/hostile.rs"]
mod hostile;
#[path = "tests/resume.rs"]
mod resume;
#[path = "tests/round_trip.rs"]
mod round_trip;

use std::collections::BTreeMap;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::*;
use tokio::io::{AsyncRead, AsyncReadExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::oneshot;

type Halves = (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>);

/// A stream in memory that holds `bytes` in each direction.
fn stream(bytes: usize) -> (Halves, Halves) {
    let (a, b) = tokio::io::duplex(bytes);
    (tokio::io::split(a), tokio::io::split(b))
}

fn options() -> ReceiveOptions {
    ReceiveOptions { durability: Durability::Lazy, file_threads: 2, ..ReceiveOptions::default() }
}

async fn accept(_: Offer) -> Decision {
    Decision::Accept
}

/// Sends `paths` into `into` and waits for both ends.
async fn transfer(
    paths: &[PathBuf],
    into: &Path,
) -> (Result<SendReport, SendError>, Result<ReceiveReport, ReceiveError>) {
    let ((sr, sw), (rr, rw)) = stream(64 << 10);
    let sources = Sources::new(paths).unwrap();
    let id = sources.id(b"test");
    let (handle_a, handle_b) = (Handle::new(), Handle::new());
    tokio::join!(
        send(sr, sw, sources, SendOptions { id }, &handle_a),
        receive(rr, rw, into, accept, options(), &handle_b),
    )
}

/// Lets so many bytes pass, tells that they have, and then waits to be opened.
struct Gate<R> {
    inner: tokio::io::Take<R>,
    reached: Option<oneshot::Sender<()>>,
    opened: oneshot::Receiver<()>,
}

impl<R: AsyncRead> Gate<R> {
    fn after(bytes: u64, inner: R) -> (Self, oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (reached, when_reached) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        (Self { inner: inner.take(bytes), reached: Some(reached), opened }, when_reached, open)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Gate<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.inner.limit() == 0 {
            if let Some(reached) = self.reached.take() {
                let _ = reached.send(());
            }
            // A gate whose opener was dropped stays shut.
            match Pin::new(&mut self.opened).poll(cx) {
                Poll::Ready(Ok(())) => self.inner.set_limit(u64::MAX),
                Poll::Ready(Err(_)) | Poll::Pending => return Poll::Pending,
            }
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

/// Bytes that differ everywhere, from a seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut out);
    out
}

fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Everything below a folder: content and executable bit of files, `None` for folders.
type Tree = BTreeMap<PathBuf, Option<(Vec<u8>, bool)>>;

fn tree(root: &Path) -> Tree {
    let mut out = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if meta.is_dir() {
                out.insert(relative, None);
                todo.push(path);
            } else {
                let executable = meta.permissions().mode() & 0o100 != 0;
                out.insert(relative, Some((std::fs::read(&path).unwrap(), executable)));
            }
        }
    }
    out
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
