//! The HTTPS side of a relay: TLS, the few pages it has, and the upgrade to a WebSocket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::BASE64;
use honeylink_core::pairing::limiter::Source;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha1_smol::Sha1;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tokio_websockets::{Config, Limits, ServerBuilder};

use super::frame::MESSAGE_BYTES_MAX;
use super::guests::{Admission, count};
use super::{House, guest};

/// TLS and each request's head must be there within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that are not guests yet.
const NEWCOMERS_MAX: usize = 256;
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The versions of the relay protocol spoken, the best first. The first one has no status messages.
const PROTOCOLS: [&str; 2] = ["iroh-relay-v2", "iroh-relay-v1"];
/// RFC 6455 section 1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const ABOUT: &str = "This is a relay of HoneyLink. It passes on what it cannot read.\n";

type Answer = Response<Full<Bytes>>;

/// Takes connections until the relay stops.
pub(super) async fn run(house: Arc<House>, listener: TcpListener, tls: TlsAcceptor, tasks: TaskTracker) {
    let newcomers = Arc::new(Semaphore::new(NEWCOMERS_MAX));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // The connection failed already, or this process has no descriptor left for it.
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let admission = house.sources.admit(Source::of(from.ip().to_canonical()));
        let (Some(admission), Ok(permit)) = (admission, newcomers.clone().try_acquire_owned()) else {
            // Dropped without an answer: whoever opens so many costs as little as possible.
            count(&house.guests.counts.refused_busy);
            continue;
        };
        let (house, tls, stop, tracker) = (house.clone(), tls.clone(), house.stop.clone(), tasks.clone());
        tasks.spawn(async move {
            // Whoever becomes a guest takes it along, see `upgrade`.
            let admission = Mutex::new(Some(admission));
            let serving = async {
                if let Err(error) = receive(&house, stream, from, &admission, tls, &tracker).await {
                    count(&house.guests.counts.failed);
                    tracing::debug!(%from, %error, "a connection failed");
                }
            };
            stop.run_until_cancelled(serving).await;
            drop(permit);
        });
    }
}

async fn receive(
    house: &Arc<House>,
    stream: TcpStream,
    from: SocketAddr,
    admission: &Mutex<Option<Admission>>,
    tls: TlsAcceptor,
    tasks: &TaskTracker,
) -> std::io::Result<()> {
    // Packets of others are urgent in themselves.
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await??;
    let service = service_fn(|request| {
        let answer = answer(house, request, from, admission, tasks);
        async move { Ok::<_, Infallible>(answer) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
        .map_err(std::io::Error::other)
}

fn answer(
    house: &Arc<House>,
    request: Request<Incoming>,
    from: SocketAddr,
    admission: &Mutex<Option<Admission>>,
    tasks: &TaskTracker,
) -> Answer {
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    match request.uri().path() {
        "/relay" => upgrade(house, request, from, admission, tasks),
        // Guests measure by these how far the relay is, and whether somebody stands between.
        "/ping" => plain(StatusCode::OK, ""),
        "/observer" => match house.observer_page() {
            Some(page) => plain(StatusCode::OK, page),
            None => plain(StatusCode::NOT_FOUND, ""),
        },
        "/generate_204" => plain(StatusCode::NO_CONTENT, ""),
        "/" => plain(StatusCode::OK, ABOUT),
        _ => plain(StatusCode::NOT_FOUND, ""),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// Makes a guest of whoever asks for a WebSocket in the right way.
fn upgrade(
    house: &Arc<House>,
    mut request: Request<Incoming>,
    from: SocketAddr,
    admission: &Mutex<Option<Admission>>,
    tasks: &TaskTracker,
) -> Answer {
    let (protocol, accept) = match websocket(request.headers()) {
        Ok(agreed) => agreed,
        Err(why) => return plain(StatusCode::BAD_REQUEST, why),
    };
    let Some(admission) = admission.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return plain(StatusCode::BAD_REQUEST, "this connection is a WebSocket already\n");
    };
    let upgrading = hyper::upgrade::on(&mut request);
    let (house, stop) = (house.clone(), house.stop.clone());
    tasks.spawn(async move {
        let serving = async {
            let Ok(Ok(stream)) = tokio::time::timeout(HEAD_TIMEOUT, upgrading).await else { return };
            let socket = ServerBuilder::new()
                .limits(Limits::default().max_payload_len(Some(MESSAGE_BYTES_MAX)))
                // Flushed after each batch.
                .config(Config::default().flush_threshold(usize::MAX))
                .serve(TokioIo::new(stream));
            let left = guest::serve(&house, socket, protocol == PROTOCOLS[0]).await;
            tracing::debug!(%from, %left, "a guest left");
        };
        stop.run_until_cancelled(serving).await;
        drop(admission);
    });
    let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer
}

/// The protocol to speak and the proof that this is a WebSocket server (RFC 6455 section 4.2.2), or what is wrong.
fn websocket(headers: &HeaderMap) -> Result<(&'static str, HeaderValue), &'static str> {
    let is = |name, value: &str| {
        headers.get(name).is_some_and(|v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    if !is(UPGRADE, "websocket") || !is(SEC_WEBSOCKET_VERSION, "13") {
        return Err("this page is a WebSocket of version 13\n");
    }
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<&str> =
        offered.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim).collect();
    let protocol = PROTOCOLS.into_iter().find(|protocol| offered.contains(protocol));
    let protocol = protocol.ok_or("no version of the relay protocol in common\n")?;
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or("Sec-WebSocket-Key is missing\n")?;
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(WEBSOCKET_GUID);
    let accept = HeaderValue::try_from(BASE64.encode(&hash.digest().bytes())).map_err(|_| "not a key\n")?;
    Ok((protocol, accept))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocols: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocols));
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        headers
    }

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn the_upgrade_is_proved_as_the_standard_says() {
        let (protocol, accept) = websocket(&asked("iroh-relay-v1, iroh-relay-v2")).unwrap();
        assert_eq!((protocol, accept.to_str().unwrap()), ("iroh-relay-v2", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(websocket(&asked("iroh-relay-v1")).unwrap().0, "iroh-relay-v1");
        assert!(websocket(&asked("chat")).is_err());
        assert!(websocket(&HeaderMap::new()).is_err());
    }
}
