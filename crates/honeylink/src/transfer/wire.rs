//! Frames on an async stream.

use std::io;

use bytes::BytesMut;
use honeylink_core::transfer::frame::{HEADER_BYTES, Header, Message};
use honeylink_core::wire::Invalid;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Why a frame could not be read; each side wraps it in its own error.
#[derive(Debug)]
pub(super) enum FrameError {
    Stream(io::Error),
    Invalid(Invalid),
}

pub(super) async fn read_header<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Header, FrameError> {
    let mut bytes = [0; HEADER_BYTES];
    reader.read_exact(&mut bytes).await.map_err(FrameError::Stream)?;
    Header::decode(bytes).map_err(FrameError::Invalid)
}

/// Reads the body of a control frame. Its length was checked against the kind's limit by the header's decoder.
pub(super) async fn read_body<R: AsyncRead + Unpin>(
    reader: &mut R,
    header: Header,
) -> Result<Message, FrameError> {
    let mut body = vec![0; header.len];
    reader.read_exact(&mut body).await.map_err(FrameError::Stream)?;
    Message::decode(header.kind, &body).map_err(FrameError::Invalid)
}

pub(super) async fn read_message<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Message, FrameError> {
    let header = read_header(reader).await?;
    read_body(reader, header).await
}

pub(super) fn encoded(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out
}
