//! How answers look: a JSON value, an error with its HTTP status, or lines that come as things happen.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use honeylink_api::{ErrorBody, ErrorCode};
use serde::Serialize;
use tokio::sync::mpsc;

use super::state::Daemon;

/// Lines an answer holds for a client that reads slowly; then whoever makes them waits.
const LINES_AHEAD_MAX: usize = 64;

/// An error as an answer.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) ErrorBody);

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        Self(body)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, axum::Json(self.0)).into_response()
    }
}

/// One JSON value, or an error.
pub(super) type Answer<T> = Result<axum::Json<T>, ApiError>;

/// The writing end of an answer of many lines.
pub(super) struct Out<T> {
    lines: mpsc::Sender<Bytes>,
    kind: std::marker::PhantomData<fn(T)>,
}

impl<T: Serialize> Out<T> {
    /// Sends a line; waits while the client is slow. `false`: the client is gone, stop.
    pub(super) async fn send(&self, value: &T) -> bool {
        match line(value) {
            Some(line) => self.lines.send(line).await.is_ok(),
            None => false,
        }
    }

    /// Returns when the client is gone.
    pub(super) async fn gone(&self) {
        self.lines.closed().await;
    }
}

fn line<T: Serialize>(value: &T) -> Option<Bytes> {
    let mut line = match serde_json::to_vec(value) {
        Ok(line) => line,
        Err(error) => {
            tracing::error!(%error, "a line of an answer cannot be written as JSON");
            return None;
        }
    };
    line.push(b'\n');
    Some(line.into())
}

/// An answer of many lines, written by `work`. When the client goes away or the daemon stops, `work` is dropped at its
/// next await: what it does has to be safe to stop there.
pub(super) fn lines<T, W, F>(daemon: &Arc<Daemon>, work: W) -> Response
where
    T: Serialize + Send + 'static,
    W: FnOnce(Out<T>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (out, response) = channel();
    let watcher = out.lines.clone();
    let work = work(out);
    daemon.spawn(async move {
        tokio::select! {
            () = work => {}
            () = watcher.closed() => {}
        }
    });
    response
}

fn channel<T>() -> (Out<T>, Response) {
    let (lines, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok::<_, Infallible>(line), receiver))
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    (Out { lines, kind: std::marker::PhantomData }, response)
}

/// As [`lines`], but goes on while the daemon stops: for what reports on the stopping.
pub(super) fn last_lines<T, W, F>(daemon: &Arc<Daemon>, work: W) -> Response
where
    T: Serialize + Send + 'static,
    W: FnOnce(Out<T>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let (out, response) = channel();
    daemon.tasks.spawn(work(out));
    response
}

/// A request whose body or query is not what the route takes.
pub(super) fn bad_request(why: impl std::fmt::Display) -> ApiError {
    ErrorBody::new(ErrorCode::BadRequest, why.to_string()).into()
}
