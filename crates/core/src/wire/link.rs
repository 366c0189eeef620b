//! The bytes of `honeylink/link/1`: what opens a stream, and the frames of a session stream.
//!
//! Every bidirectional stream on a link connection starts with a [`StreamHeader`] from the side that opened it. A stream
//! of kind `session` or `resume` then carries [`Frame`]s both ways: `Hello` and `Welcome` (or `Refuse`) once, after that messages,
//! acknowledgements, pings and one `Close` each way. A stream of kind `bytes` carries the application's bytes and
//! nothing else; for kinds `policy` and `datagrams` see `docs/wire/qos.md`, for `relays` see [`super::relay`], for `nat` see `docs/wire/nat.md`, for
//! `call-back` see [`super::callback`]. Both formats carry a version in their first byte, and golden tests below pin version 1.
//!
//! ```text
//! header   = length u16 | version 1 | kind u8 | session [16] | class u8 | protocol text
//! frame    = type u8 | body
//! hello    = 0x01 | min u8 | max u8 | message_max varint | next varint      what I speak, accept and expect next
//! welcome  = 0x02 | version u8 | message_max varint | next varint
//! refuse   = 0x03 | code varint | reason text
//! message  = 0x10 | seq varint | length varint | payload
//! ack      = 0x11 | next varint                                             every seq below `next` has arrived
//! close    = 0x12 | code varint | next varint | reason text                 I sent every seq below `next`
//! closed   = 0x13                                                           I have all of it
//! ping     = 0x14 | nonce varint           pong = 0x15 | nonce varint
//! ```

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{Invalid, Reader, put_bytes, put_varint};
use crate::limits::{CONTROL_BYTES_MAX, PROTOCOL_BYTES_MAX, REASON_BYTES_MAX};

/// The version of both formats in this module.
pub const LINK_VERSION: u8 = 1;

/// Names one session of one pair of devices; chosen at random by the side that starts it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl core::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SessionId({})", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

/// What a stream asks for when several compete (sugar over priorities 0-7, 7 the most urgent).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// As much as is left over: files. Priority 1.
    Bulk,
    /// A person is waiting: messages, HTTP. Priority 4.
    #[default]
    Interactive,
    /// Late is worthless: input, voice. Priority 7.
    Realtime,
}

impl Class {
    /// The priority this class stands for, 0-7.
    #[must_use]
    pub const fn priority(self) -> u8 {
        match self {
            Self::Bulk => 1,
            Self::Interactive => 4,
            Self::Realtime => 7,
        }
    }
}

/// How urgent a stream is: 0 (whatever is left over) to 7 (late is worthless). A [`Class`] is a name for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// Priority `value`, or `None` over 7.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value < 8 { Some(Self(value)) } else { None }
    }

    /// The number, 0 to 7.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self.0
    }

    /// The name for this priority and its neighbours.
    #[must_use]
    pub const fn class(self) -> Class {
        match self.0 {
            0..=2 => Class::Bulk,
            3..=5 => Class::Interactive,
            _ => Class::Realtime,
        }
    }
}

impl Default for Priority {
    fn default() -> Self {
        Class::default().into()
    }
}

impl From<Class> for Priority {
    fn from(class: Class) -> Self {
        Self(class.priority())
    }
}

/// What the bytes after a stream's header are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// [`Frame`]s of a session that its opener does not know to be agreed yet.
    Session,
    /// Bytes of the application, for a session that is already open.
    Bytes,
    /// [`Frame`]s of a session that was agreed before and is taken up again after a loss. A side that does not know it
    /// any more must refuse it: as a new session it would give the application messages that it was given already.
    Resume,
    /// What the opener says about its policies, and the answers
    /// ([`PolicyFrame`](crate::qos::policy::PolicyFrame)).
    Policy,
    /// The opening of a flow of datagrams; the flow lasts as long as the stream.
    Datagrams,
    /// What two devices tell each other before they try to get through their NAT boxes
    /// ([`Talk`](crate::nat::talk::Talk)). It belongs to no session: the id is zero.
    Nat,
    /// The relays through which the opener is reached from now on ([`put_relays`](super::relay::put_relays)), and
    /// nothing else. It belongs to no session: the id is zero.
    Relays,
    /// Asks the other side to call back ([`super::callback`]). It belongs to no session: the id is zero.
    CallBack,
}

/// The first bytes of every stream, written by the side that opened it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    /// What follows.
    pub kind: StreamKind,
    /// The session the stream belongs to.
    pub session: SessionId,
    /// How urgent the stream is.
    pub priority: Priority,
    /// The application protocol, for example `honeylink/chat/1`.
    pub protocol: String,
}

impl StreamHeader {
    /// Bytes of the length field that comes first.
    pub const LENGTH_BYTES: usize = 2;

    /// Appends the header with its length field.
    pub fn encode(&self, out: &mut BytesMut) {
        let body = 1 + 1 + 16 + 1 + 1 + self.protocol.len();
        out.put_u16(u16::try_from(body).unwrap_or(u16::MAX));
        out.put_u8(LINK_VERSION);
        out.put_u8(match self.kind {
            StreamKind::Session => 0,
            StreamKind::Bytes => 1,
            StreamKind::Resume => 2,
            StreamKind::Policy => 3,
            StreamKind::Datagrams => 4,
            StreamKind::Nat => 6,
            StreamKind::Relays => 5,
            StreamKind::CallBack => 8,
        });
        out.put_slice(&self.session.0);
        out.put_u8(self.priority.as_u8());
        put_bytes(out, self.protocol.as_bytes());
    }

    /// The body's length from the two bytes of the length field.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`] if it is over [`CONTROL_BYTES_MAX`]: checked before anything is read or allocated.
    pub fn body_len(field: [u8; 2]) -> Result<usize, Invalid> {
        let size = usize::from(u16::from_be_bytes(field));
        if size > CONTROL_BYTES_MAX {
            return Err(Invalid::TooLarge {
                what: "stream header",
                size: size as u64,
                max: CONTROL_BYTES_MAX as u64,
            });
        }
        Ok(size)
    }

    /// Reads the body, without the length field.
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn decode(body: &[u8]) -> Result<Self, Invalid> {
        let mut r = Reader::new(body);
        if r.u8("stream header version")? != LINK_VERSION {
            return Err(Invalid::Value { what: "stream header version" });
        }
        let kind = match r.u8("stream kind")? {
            0 => StreamKind::Session,
            1 => StreamKind::Bytes,
            2 => StreamKind::Resume,
            3 => StreamKind::Policy,
            4 => StreamKind::Datagrams,
            6 => StreamKind::Nat,
            5 => StreamKind::Relays,
            8 => StreamKind::CallBack,
            _ => return Err(Invalid::Value { what: "stream kind" }),
        };
        let session = SessionId(r.array("session id")?);
        let priority = Priority::new(r.u8("stream class")?).ok_or(Invalid::Value { what: "stream class" })?;
        let protocol = r.text(PROTOCOL_BYTES_MAX, "protocol name")?;
        if !is_protocol_name(protocol) {
            return Err(Invalid::Value { what: "protocol name" });
        }
        let header = Self { kind, session, priority, protocol: protocol.to_owned() };
        r.finish("stream header")?;
        Ok(header)
    }
}

/// Whether `name` may name a protocol: 1 to 64 printable ASCII characters without spaces.
#[must_use]
pub fn is_protocol_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= PROTOCOL_BYTES_MAX && name.bytes().all(|b| b.is_ascii_graphic())
}

/// Why a side ends a session, as a number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// The application is done.
    Normal,
    /// The node is shutting down.
    Shutdown,
    /// The other side broke the protocol.
    ProtocolViolation,
    /// A message was larger than this side accepts.
    TooLarge,
    /// No protocol version in common.
    Version,
    /// Nobody listens for this protocol.
    NoListener,
    /// Too many links or streams are open.
    TooMany,
    /// The device does not allow this (not paired, revoked, or without the grant).
    NotAllowed,
    /// The session cannot be taken up again: this side no longer knows it.
    UnknownSession,
    /// A code of a later version.
    Other(u64),
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        match self {
            Self::Normal => 0,
            Self::Shutdown => 1,
            Self::ProtocolViolation => 2,
            Self::TooLarge => 3,
            Self::Version => 4,
            Self::NoListener => 5,
            Self::TooMany => 6,
            Self::NotAllowed => 7,
            Self::UnknownSession => 8,
            Self::Other(code) => code,
        }
    }

    /// The code for a number from the wire.
    #[must_use]
    pub const fn from_u64(code: u64) -> Self {
        match code {
            0 => Self::Normal,
            1 => Self::Shutdown,
            2 => Self::ProtocolViolation,
            3 => Self::TooLarge,
            4 => Self::Version,
            5 => Self::NoListener,
            6 => Self::TooMany,
            7 => Self::NotAllowed,
            8 => Self::UnknownSession,
            other => Self::Other(other),
        }
    }
}

impl core::fmt::Display for CloseCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Normal => "closed by the application",
            Self::Shutdown => "the device is shutting down",
            Self::ProtocolViolation => "the protocol was violated",
            Self::TooLarge => "a message was too large",
            Self::Version => "no protocol version in common",
            Self::NoListener => "nobody listens for this protocol there",
            Self::TooMany => "too many links are open",
            Self::NotAllowed => "the device does not allow it",
            Self::UnknownSession => "the session is not known there any more",
            Self::Other(code) => return write!(f, "close code {code}"),
        })
    }
}

/// One frame of a session stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The opener's first frame.
    Hello {
        /// Lowest session version it speaks.
        version_min: u8,
        /// Highest session version it speaks.
        version_max: u8,
        /// Largest message it accepts, bytes.
        message_max: u64,
        /// The sequence number it expects next: 0 in a new session.
        next: u64,
    },
    /// The answer to `Hello`.
    Welcome {
        /// The version both will speak.
        version: u8,
        /// Largest message the answering side accepts, bytes.
        message_max: u64,
        /// The sequence number it expects next.
        next: u64,
    },
    /// The other answer to `Hello`.
    Refuse {
        /// Why.
        code: CloseCode,
        /// For people; at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
    },
    /// One message.
    Message {
        /// Its place in the order, from 0.
        seq: u64,
        /// The application's bytes.
        payload: Bytes,
    },
    /// Everything below `next` has arrived.
    Ack {
        /// The first sequence number that has not.
        next: u64,
    },
    /// This side will send nothing after what it already sent.
    Close {
        /// Why.
        code: CloseCode,
        /// One past its last message.
        next: u64,
        /// For people.
        reason: String,
    },
    /// Everything up to the other side's `Close` has arrived.
    Closed,
    /// Asks for a `Pong` with the same nonce.
    Ping {
        /// Any number.
        nonce: u64,
    },
    /// Answers a `Ping`.
    Pong {
        /// The ping's number.
        nonce: u64,
    },
}

impl Frame {
    /// Appends the frame's bytes. Reasons longer than [`REASON_BYTES_MAX`] are cut at a character.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello { version_min, version_max, message_max, next } => {
                out.put_slice(&[0x01, *version_min, *version_max]);
                put_varint(out, *message_max);
                put_varint(out, *next);
            }
            Self::Welcome { version, message_max, next } => {
                out.put_slice(&[0x02, *version]);
                put_varint(out, *message_max);
                put_varint(out, *next);
            }
            Self::Refuse { code, reason } => {
                out.put_u8(0x03);
                put_varint(out, code.as_u64());
                put_bytes(out, clip(reason).as_bytes());
            }
            Self::Message { seq, payload } => encode_message(out, *seq, payload),
            Self::Ack { next } => {
                out.put_u8(0x11);
                put_varint(out, *next);
            }
            Self::Close { code, next, reason } => {
                out.put_u8(0x12);
                put_varint(out, code.as_u64());
                put_varint(out, *next);
                put_bytes(out, clip(reason).as_bytes());
            }
            Self::Closed => out.put_u8(0x13),
            Self::Ping { nonce } => {
                out.put_u8(0x14);
                put_varint(out, *nonce);
            }
            Self::Pong { nonce } => {
                out.put_u8(0x15);
                put_varint(out, *nonce);
            }
        }
    }
}

/// Appends a message frame without building a [`Frame`] first: the path every message takes.
pub fn encode_message(out: &mut BytesMut, seq: u64, payload: &[u8]) {
    out.put_u8(0x10);
    put_varint(out, seq);
    put_bytes(out, payload);
}

/// Cuts a reason to [`REASON_BYTES_MAX`] bytes at a character boundary.
fn clip(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

/// Turns the bytes of a session stream into frames, however they were cut into chunks.
///
/// Holds at most one incomplete frame plus the chunk last fed: a peer that claims a large message is refused before
/// its bytes are collected.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    message_max: usize,
}

/// More than any frame but a message can take: 1 type byte, three varints and a reason.
const HEAD_BYTES_MAX: usize = 1 + 3 * 8 + REASON_BYTES_MAX;

impl FrameDecoder {
    /// A decoder that refuses messages over `message_max` bytes.
    #[must_use]
    pub fn new(message_max: usize) -> Self {
        Self { buffer: BytesMut::new(), message_max }
    }

    /// Adds bytes from the network.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole frame, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// [`Invalid`]; the stream cannot be read any further then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Invalid> {
        let Some(&first) = self.buffer.first() else {
            return Ok(None);
        };
        if first == 0x10 {
            return self.next_message();
        }
        let head = &self.buffer[..self.buffer.len().min(HEAD_BYTES_MAX)];
        let mut r = Reader::new(head);
        match decode_control(&mut r) {
            Ok(frame) => {
                let used = head.len() - r.remaining();
                self.buffer.advance(used);
                Ok(Some(frame))
            }
            // Every control frame fits the head, so a truncation there only means that more is on its way.
            Err(Invalid::Truncated { .. }) if self.buffer.len() < HEAD_BYTES_MAX => Ok(None),
            Err(invalid) => Err(invalid),
        }
    }

    fn next_message(&mut self) -> Result<Option<Frame>, Invalid> {
        let mut r = Reader::new(&self.buffer[1..]);
        let head = |r: &mut Reader<'_>| -> Result<(u64, u64), Invalid> {
            Ok((r.varint("message sequence")?, r.varint("message length")?))
        };
        let (seq, size) = match head(&mut r) {
            Ok(values) => values,
            Err(Invalid::Truncated { .. }) => return Ok(None),
            Err(invalid) => return Err(invalid),
        };
        let max = self.message_max as u64;
        let len = match usize::try_from(size) {
            Ok(len) if size <= max => len,
            Ok(_) | Err(_) => return Err(Invalid::TooLarge { what: "message", size, max }),
        };
        if r.remaining() < len {
            return Ok(None);
        }
        let start = self.buffer.len() - r.remaining();
        self.buffer.advance(start);
        Ok(Some(Frame::Message { seq, payload: self.buffer.split_to(len).freeze() }))
    }
}

fn decode_control(r: &mut Reader<'_>) -> Result<Frame, Invalid> {
    Ok(match r.u8("frame type")? {
        0x01 => Frame::Hello {
            version_min: r.u8("hello version")?,
            version_max: r.u8("hello version")?,
            message_max: r.varint("hello message limit")?,
            next: r.varint("hello sequence")?,
        },
        0x02 => Frame::Welcome {
            version: r.u8("welcome version")?,
            message_max: r.varint("welcome message limit")?,
            next: r.varint("welcome sequence")?,
        },
        0x03 => Frame::Refuse {
            code: CloseCode::from_u64(r.varint("refuse code")?),
            reason: r.text(REASON_BYTES_MAX, "refuse reason")?.to_owned(),
        },
        0x11 => Frame::Ack { next: r.varint("ack sequence")? },
        0x12 => Frame::Close {
            code: CloseCode::from_u64(r.varint("close code")?),
            next: r.varint("close sequence")?,
            reason: r.text(REASON_BYTES_MAX, "close reason")?.to_owned(),
        },
        0x13 => Frame::Closed,
        0x14 => Frame::Ping { nonce: r.varint("ping nonce")? },
        0x15 => Frame::Pong { nonce: r.varint("pong nonce")? },
        _ => return Err(Invalid::Value { what: "frame type" }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    fn golden() -> Vec<(Frame, &'static str)> {
        vec![
            (
                Frame::Hello { version_min: 1, version_max: 1, message_max: 1 << 20, next: 0 },
                "0101018010000000",
            ),
            (Frame::Welcome { version: 1, message_max: 1 << 20, next: 300 }, "020180100000412c"),
            (Frame::Refuse { code: CloseCode::NoListener, reason: "no".into() }, "0305026e6f"),
            (Frame::Message { seq: 7, payload: Bytes::from_static(b"hey") }, "100703686579"),
            (Frame::Ack { next: 8 }, "1108"),
            (Frame::Close { code: CloseCode::Normal, next: 8, reason: String::new() }, "12000800"),
            (Frame::Closed, "13"),
            (Frame::Ping { nonce: 5 }, "1405"),
            (Frame::Pong { nonce: 5 }, "1505"),
        ]
    }

    /// Version 1 of the wire: changing these bytes means a new version, not a new expectation.
    #[test]
    fn frames_have_the_bytes_of_version_1() {
        for (frame, hex) in golden() {
            let mut out = BytesMut::new();
            frame.encode(&mut out);
            assert_eq!(HEXLOWER.encode(&out), hex, "{frame:?}");
            let mut decoder = FrameDecoder::new(100);
            decoder.feed(&out);
            assert_eq!(decoder.next_frame(), Ok(Some(frame)));
            assert_eq!(decoder.next_frame(), Ok(None));
        }
    }

    #[test]
    fn the_stream_header_has_the_bytes_of_version_1() {
        let header = StreamHeader {
            kind: StreamKind::Session,
            session: SessionId([0xab; 16]),
            priority: Class::Interactive.into(),
            protocol: "p/1".into(),
        };
        let mut out = BytesMut::new();
        header.encode(&mut out);
        assert_eq!(HEXLOWER.encode(&out), "00170100abababababababababababababababab0403702f31");
        assert_eq!(StreamHeader::body_len([out[0], out[1]]), Ok(out.len() - 2));
        assert_eq!(StreamHeader::decode(&out[2..]), Ok(header.clone()));
        for (kind, byte) in [(StreamKind::Bytes, 1), (StreamKind::Resume, 2)] {
            let header = StreamHeader { kind, ..header.clone() };
            out.clear();
            header.encode(&mut out);
            assert_eq!(out[3], byte);
            assert_eq!(StreamHeader::decode(&out[2..]), Ok(header));
        }
    }

    #[test]
    fn frames_survive_any_cut_into_chunks() {
        let mut all = BytesMut::new();
        for (frame, _) in golden() {
            frame.encode(&mut all);
        }
        for size in 1..all.len() {
            let mut decoder = FrameDecoder::new(100);
            let mut seen = Vec::new();
            for chunk in all.chunks(size) {
                decoder.feed(chunk);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, golden().into_iter().map(|(f, _)| f).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_its_bytes_arrive() {
        let mut head = BytesMut::new();
        head.put_u8(0x10);
        put_varint(&mut head, 0);
        put_varint(&mut head, 101);
        let mut decoder = FrameDecoder::new(100);
        decoder.feed(&head);
        assert_eq!(decoder.next_frame(), Err(Invalid::TooLarge { what: "message", size: 101, max: 100 }));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = Frame::Refuse { code: CloseCode::Normal, reason: "é".repeat(400) };
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        let mut decoder = FrameDecoder::new(100);
        decoder.feed(&out);
        let Ok(Some(Frame::Refuse { reason, .. })) = decoder.next_frame() else {
            unreachable!("a refuse frame was encoded")
        };
        assert_eq!(reason, "é".repeat(REASON_BYTES_MAX / 2));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic_or_hoard(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..20)
        ) {
            let mut decoder = FrameDecoder::new(64);
            'feeding: for chunk in chunks {
                decoder.feed(&chunk);
                loop {
                    match decoder.next_frame() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'feeding,
                    }
                }
                prop_assert!(decoder.buffer.len() <= HEAD_BYTES_MAX);
            }
        }

        #[test]
        fn no_bytes_make_the_header_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = StreamHeader::decode(&body);
        }
    }
}
