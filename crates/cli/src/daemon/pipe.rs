//! `/v1/pipe`: the library's pipes on upgraded connections of the local API.
//!
//! A local connection that is cut looks like one that ended, so both ends are told how it was. Towards the listener
//! bytes come in blocks: length as four bytes, big-endian, then so many bytes; length 0 is the clean end. The opener
//! reads [`PIPE_RECEIPT`] once the other side has taken everything, or [`PIPE_BROKEN`] and the error as JSON.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use honeylink::Link;
use honeylink::link::{ApplyError, LinkClosed};
use honeylink::services::pipe::{Pipe, PipeError};
use honeylink_api::routes::{PIPE_BROKEN, PIPE_RECEIPT, PIPE_UPGRADE};
use honeylink_api::{ErrorBody, ErrorCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::answer::ApiError;
use super::failures;
use super::state::Daemon;

/// Bytes moved at a time.
const BLOCK_BYTES: usize = 64 << 10;
/// How long after a stream broke the end of its link may be heard of.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
pub(super) struct By {
    /// The policy to send by.
    policy: Option<String>,
}

/// `GET /v1/pipe/{peer}`
pub(super) async fn open(
    State(daemon): State<Arc<Daemon>>,
    Path(peer): Path<String>,
    Query(by): Query<By>,
    request: Request,
) -> Result<Response, ApiError> {
    let upgrade = upgrade_of(request)?;
    let id = daemon.resolve(&peer)?;
    let choice = daemon.choice("pipe", by.policy.as_deref()).await?;
    let pipe = daemon.pipes.open_under(id, choice).await.map_err(failed)?;
    Ok(upgraded(&daemon, upgrade, move |local| async move {
        let Pipe { link, mut stream } = pipe;
        let (from, mut to) = tokio::io::split(local);
        let moved = async {
            send_all(BufReader::with_capacity(BLOCK_BYTES, from), &mut stream.send).await?;
            // The other side ends when its program has everything; a reset is an error here.
            let mut rest = [0; 1];
            stream.recv.read(&mut rest).await
        };
        let outcome = tokio::select! {
            outcome = moved => outcome,
            why = over(&link) => Err(io::Error::other(why)),
        };
        // Only a pipe that is not wanted is closed with words, which may come before or after the first bytes are gone.
        let refused = async {
            let why = over(&link).await;
            why.words_of_peer().is_some().then(|| failures::closed(&why))
        };
        match outcome {
            Ok(_) => to.write_all(&[PIPE_RECEIPT]).await?,
            Err(error) => {
                // A stream that ends with its link is told a moment before the link's own end is.
                let refused = tokio::time::timeout(LAST_WORDS_MAX, refused).await.unwrap_or_default();
                let broke =
                    || ErrorBody::new(ErrorCode::Unreachable, format!("the pipe broke: {}", words(&error)));
                let body = refused.unwrap_or_else(broke);
                to.write_all(&[PIPE_BROKEN]).await?;
                to.write_all(&serde_json::to_vec(&body)?).await?;
            }
        }
        to.shutdown().await
    }))
}

/// What broke a pipe, for a person: a stream that the other side does not take any more says so in numbers.
fn words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionReset {
        return "the other side stopped before it had taken everything".to_owned();
    }
    error.to_string()
}

/// Copies everything and flushes whenever nothing more waits: a person may be typing.
async fn send_all(
    mut from: BufReader<impl tokio::io::AsyncRead + Unpin>,
    to: &mut honeylink::SendStream,
) -> io::Result<()> {
    loop {
        let block = from.fill_buf().await?;
        let length = block.len();
        if length == 0 {
            return to.finish().await;
        }
        to.write_all(block).await?;
        to.flush().await?;
        from.consume(length);
    }
}

/// Waits until a link is over and says why.
async fn over(link: &Link) -> LinkClosed {
    let mut state = link.watch_state();
    // The link holds the sender, so waiting cannot fail.
    let _ = state.wait_for(|state| *state == honeylink::State::Closed).await;
    link.why_closed()
}

#[derive(Debug, Deserialize)]
pub(super) struct From {
    /// Only from this device.
    peer: Option<String>,
}

/// `GET /v1/pipe-listen`
pub(super) async fn take(
    State(daemon): State<Arc<Daemon>>,
    Query(from): Query<From>,
    request: Request,
) -> Result<Response, ApiError> {
    let upgrade = upgrade_of(request)?;
    let only = match &from.peer {
        Some(peer) => Some(daemon.resolve(peer)?),
        None => None,
    };
    let mut arriving = daemon.pipes.take().map_err(failed)?;
    let pipe = loop {
        let pipe = tokio::select! {
            pipe = arriving.recv() => pipe.ok_or_else(super::shutting_down)?,
            () = daemon.stop.cancelled() => return Err(super::shutting_down().into()),
        };
        if only.is_none_or(|only| pipe.link.peer() == only) {
            break pipe;
        }
        // The reason reaches the other side with the close; nothing more can be done if it does not.
        let _ = pipe.link.close("a pipe from another device is waited for").await;
    };
    Ok(upgraded(&daemon, upgrade, move |local| async move {
        let Pipe { link: _link, mut stream } = pipe;
        let (mut from, mut to) = tokio::io::split(local);
        while let Some(block) = stream.recv.read_chunk(BLOCK_BYTES).await? {
            let length = u32::try_from(block.len()).map_err(io::Error::other)?;
            to.write_all(&length.to_be_bytes()).await?;
            to.write_all(&block).await?;
            to.flush().await?;
        }
        to.write_all(&0_u32.to_be_bytes()).await?;
        to.shutdown().await?;
        // The program says by one byte that it has written everything out; an end without it is a killed program.
        from.read_u8().await?;
        stream.send.finish().await?;
        stream.send.finished().await
    }))
}

fn failed(error: PipeError) -> ErrorBody {
    match error {
        PipeError::Connect(error) => failures::connect(error),
        PipeError::Stream(error) => failures::stream(error),
        PipeError::Policy(ApplyError::Closed(why)) => failures::closed(&why),
        PipeError::Policy(error) => ErrorBody::new(ErrorCode::Policy, error.to_string()),
        PipeError::Busy => ErrorBody::new(ErrorCode::Policy, error.to_string()),
    }
}

fn upgrade_of(mut request: Request) -> Result<OnUpgrade, ApiError> {
    let asked =
        request.headers().get(header::UPGRADE).is_some_and(|v| v.as_bytes() == PIPE_UPGRADE.as_bytes());
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    upgrade.filter(|_| asked).ok_or_else(|| {
        ErrorBody::new(ErrorCode::BadRequest, format!("this path needs the header Upgrade: {PIPE_UPGRADE}"))
            .into()
    })
}

/// Answers with the upgrade and runs `work` on the upgraded connection.
fn upgraded<W, F>(daemon: &Arc<Daemon>, upgrade: OnUpgrade, work: W) -> Response
where
    W: FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    daemon.spawn(async move {
        let Ok(local) = upgrade.await else { return };
        if let Err(error) = work(TokioIo::new(local)).await {
            tracing::debug!(%error, "a pipe broke");
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PIPE_UPGRADE));
    response
}
