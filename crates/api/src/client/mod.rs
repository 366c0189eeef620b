//! The client of the local API: one connection per request over the node's Unix socket.
//!
//! A connection per request costs some tens of microseconds on a local socket and buys simplicity: dropping an answer
//! drops its connection, and the node takes that as "this command is gone".

mod error;
mod lines;
mod pipe;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

pub use error::ClientError;
pub use lines::Lines;
pub use pipe::Pipe;

use crate::{API_VERSION, ErrorBody, ErrorCode, REQUEST_BYTES_MAX, VERSION_HEADER};

/// How long the node may take to begin an answer. Only beginning: a stream may then last for days.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Speaks to the node whose socket is at a path. Cheap to clone; holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    answer_wait: Duration,
}

impl Client {
    /// A client for the node that listens at `socket`. Does not connect yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), answer_wait: ANSWER_WAIT }
    }

    /// The same client with another limit on the time until an answer begins (60 s unless set).
    #[must_use]
    pub const fn with_answer_wait(mut self, wait: Duration) -> Self {
        self.answer_wait = wait;
        self
    }

    /// The socket it speaks to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET path`, one JSON answer.
    ///
    /// # Errors
    /// [`ClientError`]: no node, not ours, another version, or what the node itself answered.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// `POST path` with a JSON body, one JSON answer.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// `PATCH path` with a JSON body, one JSON answer.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn patch<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// `DELETE path`, one JSON answer.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::DELETE, path, None::<&()>).await
    }

    /// `GET path`, an answer of many lines.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn watch<T: DeserializeOwned>(&self, path: &str) -> Result<Lines<T>, ClientError> {
        Ok(Lines::new(self.open(Method::GET, path, None::<&()>).await?))
    }

    /// `POST path` with a JSON body, an answer of many lines.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn stream<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Lines<T>, ClientError> {
        Ok(Lines::new(self.open(Method::POST, path, Some(body)).await?))
    }

    /// Turns the connection of `GET path` into a pipe of bytes both ways.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn pipe(&self, path: &str) -> Result<Pipe, ClientError> {
        let request = self
            .request(Method::GET, path)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, crate::routes::PIPE_UPGRADE)
            .body(Full::new(Bytes::new()))
            .map_err(|_| ClientError::BadPath(path.to_owned()))?;
        let response = self.exchange(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(failure(response).await);
        }
        Pipe::new(response).await
    }

    async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let response = self.open(method, path, body).await?;
        let body = Limited::new(response.into_body(), crate::LINE_BYTES_MAX);
        let bytes = body.collect().await.map_err(|_| ClientError::Cut)?.to_bytes();
        serde_json::from_slice(&bytes).map_err(ClientError::Unreadable)
    }

    /// Sends a request and gives back the answer if it is a good one.
    async fn open<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = self.request(method, path);
        let bytes = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(serde_json::to_vec(body).map_err(ClientError::Unreadable)?)
            }
        };
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(ErrorBody::new(ErrorCode::TooLarge, "the request is too large for the node").into());
        }
        let request = request.body(Full::new(bytes)).map_err(|_| ClientError::BadPath(path.to_owned()))?;
        let response = self.exchange(request).await?;
        if response.status().is_success() { Ok(response) } else { Err(failure(response).await) }
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            // HTTP/1.1 demands a host; there is only one behind a Unix socket.
            .header(header::HOST, "localhost")
            .header(VERSION_HEADER, API_VERSION)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|e| ClientError::from_connect(&self.socket, e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::from_http)?;
        // The connection ends by itself once the answer is read or dropped; it holds nothing else.
        tokio::spawn(connection.with_upgrades());
        let answer = tokio::time::timeout(self.answer_wait, sender.send_request(request))
            .await
            .map_err(|_| ClientError::Slow(self.answer_wait))?
            .map_err(ClientError::from_http)?;
        check_version(&answer)?;
        Ok(answer)
    }
}

fn check_version(answer: &Response<Incoming>) -> Result<(), ClientError> {
    let theirs = answer.headers().get(VERSION_HEADER).and_then(|v| v.to_str().ok()).map(str::to_owned);
    match theirs {
        Some(version) if version == API_VERSION.to_string() => Ok(()),
        theirs => Err(ClientError::OtherVersion { theirs }),
    }
}

async fn failure(response: Response<Incoming>) -> ClientError {
    let status = response.status();
    let body = Limited::new(response.into_body(), REQUEST_BYTES_MAX);
    let Ok(bytes) = body.collect().await else { return ClientError::Cut };
    match serde_json::from_slice::<ErrorBody>(&bytes.to_bytes()) {
        Ok(error) => error.into(),
        Err(_) => ClientError::Status(status.as_u16()),
    }
}
