//! An NDJSON answer, read line by line as it arrives.

use std::marker::PhantomData;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::ClientError;
use crate::LINE_BYTES_MAX;

/// An answer of many JSON values, one per line. Dropping it tells the node to stop.
#[derive(Debug)]
pub struct Lines<T> {
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of `buffer` already searched for a line end, so that a long line is not searched again for every chunk.
    searched: usize,
    ended: bool,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        Self {
            body: response.into_body(),
            buffer: BytesMut::new(),
            searched: 0,
            ended: false,
            kind: PhantomData,
        }
    }

    /// The next value; `None` after the last. Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    /// [`ClientError::Cut`] if the node went away, [`ClientError::Unreadable`] or [`ClientError::LineTooLong`] if it
    /// sent something else than promised.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(line) = self.buffered_line() {
                if line.is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line).map(Some).map_err(ClientError::Unreadable);
            }
            if self.ended {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ClientError::Cut) };
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(ClientError::LineTooLong);
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Err(_)) => return Err(ClientError::Cut),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn buffered_line(&mut self) -> Option<Bytes> {
        let Some(at) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + at).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}
