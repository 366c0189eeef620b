//! The frames of a transfer, version 1.
//!
//! A frame is a kind byte, a 24-bit big-endian body length and the body. Integers in a body are QUIC variable-length
//! integers unless said otherwise. File content ([`Kind::Data`], the tail of [`Kind::Whole`]) is never copied by the
//! codec: the shell reads it straight into the buffer it will write to disk.

use bytes::{BufMut, BytesMut};

use crate::limits::{
    REASON_BYTES_MAX, TRANSFER_CHUNK_BYTES_MAX, TRANSFER_ENTRIES_MAX, TRANSFER_FRAME_BYTES_MAX,
    TRANSFER_NAME_BYTES_MAX, TRANSFER_PATH_BYTES_MAX, TRANSFER_WHOLE_BYTES_MAX,
};
use crate::wire::{Invalid, Reader, put_bytes, put_varint};

/// The version this codec speaks: the first byte of an offer.
pub const VERSION: u8 = 1;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 4;
/// Bytes of a [`Kind::Whole`] body before the content, at most.
pub const WHOLE_PREFIX_BYTES_MAX: usize = 8 + 32;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];
/// Names one transfer across attempts; chosen by the sender.
pub type TransferId = [u8; 16];

/// What a frame is. The numbers are the wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Sender: what is to be sent.
    Offer = 1,
    /// Sender: a piece of the listing.
    List = 2,
    /// Sender: a small file with its hash.
    Whole = 3,
    /// Sender: content of a file follows.
    Start = 4,
    /// Sender: content.
    Data = 5,
    /// Sender: the file is complete; its hash.
    End = 6,
    /// Sender: everything was sent.
    Finish = 7,
    /// Either: the transfer ends here.
    Stop = 8,
    /// Receiver: go on.
    Accept = 16,
    /// Receiver: not wanted.
    Decline = 17,
    /// Receiver: what is held already.
    Have = 18,
    /// Receiver: everything is in place.
    Receipt = 19,
}

impl Kind {
    const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Offer,
            2 => Self::List,
            3 => Self::Whole,
            4 => Self::Start,
            5 => Self::Data,
            6 => Self::End,
            7 => Self::Finish,
            8 => Self::Stop,
            16 => Self::Accept,
            17 => Self::Decline,
            18 => Self::Have,
            19 => Self::Receipt,
            _ => return None,
        })
    }

    /// Largest body of this kind, in bytes.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Data => TRANSFER_CHUNK_BYTES_MAX,
            Self::Whole => TRANSFER_WHOLE_BYTES_MAX + WHOLE_PREFIX_BYTES_MAX,
            Self::List | Self::Have => TRANSFER_FRAME_BYTES_MAX,
            Self::Offer | Self::Start | Self::End | Self::Finish => 1024,
            Self::Stop | Self::Accept | Self::Decline | Self::Receipt => 1024,
        }
    }
}

/// A frame's first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: Kind,
    /// Bytes of the body; checked against [`Kind::bytes_max`].
    pub len: usize,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// [`Invalid`] for an unknown kind or a body over the kind's limit.
    pub fn decode(bytes: [u8; HEADER_BYTES]) -> Result<Self, Invalid> {
        let [kind, high, mid, low] = bytes;
        let kind = Kind::from_wire(kind).ok_or(Invalid::Value { what: "frame kind" })?;
        let size = u32::from_be_bytes([0, high, mid, low]);
        let max = kind.bytes_max();
        match usize::try_from(size) {
            Ok(len) if len <= max => Ok(Self { kind, len }),
            Ok(_) | Err(_) => {
                Err(Invalid::TooLarge { what: "frame", size: u64::from(size), max: max as u64 })
            }
        }
    }

    /// Writes a header. `len` is cut to 24 bits; every limit of [`Kind::bytes_max`] fits.
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER_BYTES] {
        let [_, high, mid, low] = (self.len as u32).to_be_bytes();
        [self.kind as u8, high, mid, low]
    }
}

/// What a sender wants to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The same for each attempt of the same transfer.
    pub id: TransferId,
    /// What a person is shown: the single file or folder, or a summary.
    pub name: String,
    /// Files and folders together.
    pub entries: u64,
    /// Files alone.
    pub files: u64,
    /// Content of all files, in bytes.
    pub bytes: u64,
}

/// When a file was last changed: seconds since 1970 (negative before) and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Modified {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// What a listed entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// A folder; what is in it is listed after it.
    Folder,
    /// A regular file.
    File {
        /// Its length in bytes.
        size: u64,
        /// Whether its owner may execute it.
        executable: bool,
        /// When it was last changed.
        modified: Modified,
    },
}

/// A file or folder of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, parts separated by `/`. Foreign: see [`super::names::clean`].
    pub path: String,
    /// What it is.
    pub body: Body,
}

/// What a receiver holds of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The entry's number in the listing.
    pub index: u64,
    /// How many bytes of it are held.
    pub offset: u64,
    /// BLAKE3 of those bytes.
    pub prefix: Hash,
}

/// Why a receiver does not want an offer, or why a side stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A person or a rule said no.
    Declined = 1,
    /// A person cancelled; what was received is discarded.
    Cancelled = 2,
    /// The receiver's disk is full.
    NoSpace = 3,
    /// The receiver's disk refuses (permission, read-only, ...).
    Disk = 4,
    /// A source changed or became unreadable while it was sent.
    Source = 5,
    /// Bytes arrived that do not match their hash.
    Corrupt = 6,
    /// The other side broke the protocol.
    Protocol = 7,
    /// The same transfer is already running.
    Busy = 8,
}

impl Reason {
    const fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Declined,
            2 => Self::Cancelled,
            3 => Self::NoSpace,
            4 => Self::Disk,
            5 => Self::Source,
            6 => Self::Corrupt,
            7 => Self::Protocol,
            8 => Self::Busy,
            _ => return None,
        })
    }
}

/// Every frame whose body is understood as a whole; content frames are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// See [`Kind::Offer`].
    Offer(Offer),
    /// Entries numbered from `first` on.
    List {
        /// The number of the first entry.
        first: u64,
        /// In the order of [`super::names::order`].
        entries: Vec<Entry>,
    },
    /// Content of a file follows.
    Start {
        /// Which file.
        index: u64,
        /// From where on; not zero only if the receiver claimed exactly this.
        offset: u64,
    },
    /// BLAKE3 of the whole file, including what was not sent.
    End {
        /// The hash.
        hash: Hash,
    },
    /// The digest over all files.
    Finish {
        /// See the shell's `Digest`.
        digest: Hash,
    },
    /// Go on.
    Accept {
        /// Whether [`Message::Have`] frames follow and must be waited for.
        resume: bool,
    },
    /// Not wanted.
    Decline {
        /// Why.
        reason: Reason,
        /// For a person; at most [`REASON_BYTES_MAX`] bytes.
        text: String,
    },
    /// Everything below `upto` was looked at, and `claims` is what of it is held.
    Have {
        /// The number of the first entry not looked at.
        upto: u64,
        /// In rising order of index.
        claims: Vec<Claim>,
    },
    /// Everything is under its final name.
    Receipt {
        /// What the receiver computed; equal to [`Message::Finish`].
        digest: Hash,
    },
    /// The transfer ends here.
    Stop {
        /// Why.
        reason: Reason,
        /// For a person; at most [`REASON_BYTES_MAX`] bytes.
        text: String,
    },
}

impl Message {
    /// Appends the frame, header and body.
    pub fn encode(&self, out: &mut BytesMut) {
        let at = out.len();
        out.put_slice(&[0; HEADER_BYTES]);
        let kind = self.put_body(out);
        let header = Header { kind, len: out.len() - at - HEADER_BYTES };
        out[at..at + HEADER_BYTES].copy_from_slice(&header.encode());
    }

    fn put_body(&self, out: &mut BytesMut) -> Kind {
        match self {
            Self::Offer(offer) => {
                out.put_u8(VERSION);
                out.put_slice(&offer.id);
                put_varint(out, offer.entries);
                put_varint(out, offer.files);
                put_varint(out, offer.bytes);
                put_text(out, &offer.name, TRANSFER_NAME_BYTES_MAX);
                Kind::Offer
            }
            Self::List { first, entries } => {
                put_varint(out, *first);
                for entry in entries {
                    put_entry(out, entry);
                }
                Kind::List
            }
            Self::Start { index, offset } => {
                put_varint(out, *index);
                put_varint(out, *offset);
                Kind::Start
            }
            Self::End { hash } => put_hash(out, hash, Kind::End),
            Self::Finish { digest } => put_hash(out, digest, Kind::Finish),
            Self::Receipt { digest } => put_hash(out, digest, Kind::Receipt),
            Self::Accept { resume } => {
                out.put_u8(u8::from(*resume));
                Kind::Accept
            }
            Self::Decline { reason, text } => put_reason(out, *reason, text, Kind::Decline),
            Self::Stop { reason, text } => put_reason(out, *reason, text, Kind::Stop),
            Self::Have { upto, claims } => {
                put_varint(out, *upto);
                for claim in claims {
                    put_varint(out, claim.index);
                    put_varint(out, claim.offset);
                    out.put_slice(&claim.prefix);
                }
                Kind::Have
            }
        }
    }

    /// Reads a body of the kind its header named.
    ///
    /// # Errors
    /// [`Invalid`] for anything this version does not define, including content frames.
    pub fn decode(kind: Kind, body: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(body);
        let message = match kind {
            Kind::Offer => Self::Offer(read_offer(&mut reader)?),
            Kind::List => {
                let first = reader.varint("first entry")?;
                let mut entries = Vec::new();
                while reader.remaining() > 0 {
                    entries.push(read_entry(&mut reader)?);
                }
                Self::List { first, entries }
            }
            Kind::Start => Self::Start { index: reader.varint("index")?, offset: reader.varint("offset")? },
            Kind::End => Self::End { hash: reader.array("hash")? },
            Kind::Finish => Self::Finish { digest: reader.array("digest")? },
            Kind::Receipt => Self::Receipt { digest: reader.array("digest")? },
            Kind::Accept => Self::Accept { resume: read_flag(&mut reader, "resume")? },
            Kind::Decline => {
                let (reason, text) = read_reason(&mut reader)?;
                Self::Decline { reason, text }
            }
            Kind::Stop => {
                let (reason, text) = read_reason(&mut reader)?;
                Self::Stop { reason, text }
            }
            Kind::Have => {
                let upto = reader.varint("upto")?;
                let mut claims = Vec::new();
                while reader.remaining() > 0 {
                    claims.push(Claim {
                        index: reader.varint("claim index")?,
                        offset: reader.varint("claim offset")?,
                        prefix: reader.array("claim hash")?,
                    });
                }
                Self::Have { upto, claims }
            }
            Kind::Data | Kind::Whole => return Err(Invalid::Value { what: "content frame" }),
        };
        reader.finish("frame")?;
        Ok(message)
    }
}

/// Appends the header and the fixed part of a [`Kind::Whole`] frame; `content_len` bytes of content must follow.
pub fn put_whole(out: &mut BytesMut, index: u64, hash: &Hash, content_len: usize) {
    let len = crate::wire::varint_len(index) + hash.len() + content_len;
    out.put_slice(&Header { kind: Kind::Whole, len }.encode());
    put_varint(out, index);
    out.put_slice(hash);
}

/// Splits a [`Kind::Whole`] body into entry number, hash and content.
///
/// # Errors
/// [`Invalid`] if the body is too short or the content over its limit.
pub fn split_whole(body: &[u8]) -> Result<(u64, Hash, &[u8]), Invalid> {
    let mut reader = Reader::new(body);
    let index = reader.varint("index")?;
    let hash = reader.array("hash")?;
    let len = reader.remaining();
    if len > TRANSFER_WHOLE_BYTES_MAX {
        let max = TRANSFER_WHOLE_BYTES_MAX as u64;
        return Err(Invalid::TooLarge { what: "whole file", size: len as u64, max });
    }
    Ok((index, hash, reader.take(len, "content")?))
}

/// Bytes [`Message::List`] will use for this entry: lets a sender cut its listing into frames.
#[must_use]
pub const fn entry_len_max(path_bytes: usize) -> usize {
    path_bytes + 2 + 1 + 8 + 8 + 4
}

fn put_hash(out: &mut BytesMut, hash: &Hash, kind: Kind) -> Kind {
    out.put_slice(hash);
    kind
}

fn put_text(out: &mut BytesMut, text: &str, max: usize) {
    put_bytes(out, &text.as_bytes()[..text.floor_char_boundary(max)]);
}

fn put_reason(out: &mut BytesMut, reason: Reason, text: &str, kind: Kind) -> Kind {
    out.put_u8(reason as u8);
    put_text(out, text, REASON_BYTES_MAX);
    kind
}

/// Flags of an entry on the wire.
const FLAG_FILE: u8 = 1;
const FLAG_EXECUTABLE: u8 = 2;

fn put_entry(out: &mut BytesMut, entry: &Entry) {
    match entry.body {
        Body::Folder => {
            out.put_u8(0);
            put_bytes(out, entry.path.as_bytes());
        }
        Body::File { size, executable, modified } => {
            out.put_u8(FLAG_FILE | if executable { FLAG_EXECUTABLE } else { 0 });
            put_bytes(out, entry.path.as_bytes());
            put_varint(out, size);
            out.put_i64(modified.seconds);
            out.put_u32(modified.nanos);
        }
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Result<Entry, Invalid> {
    let flags = reader.u8("entry flags")?;
    let path = reader.text(TRANSFER_PATH_BYTES_MAX, "entry path")?.to_owned();
    let executable = match flags {
        0 => return Ok(Entry { path, body: Body::Folder }),
        FLAG_FILE => false,
        _ if flags == FLAG_FILE | FLAG_EXECUTABLE => true,
        _ => return Err(Invalid::Value { what: "entry flags" }),
    };
    let size = reader.varint("file size")?;
    let seconds = i64::from_be_bytes(reader.array("modified")?);
    let nanos = reader.u32("modified")?;
    if nanos >= 1_000_000_000 {
        return Err(Invalid::Value { what: "modified nanoseconds" });
    }
    Ok(Entry { path, body: Body::File { size, executable, modified: Modified { seconds, nanos } } })
}

fn read_offer(reader: &mut Reader<'_>) -> Result<Offer, Invalid> {
    if reader.u8("version")? != VERSION {
        return Err(Invalid::Value { what: "transfer version" });
    }
    let id = reader.array("transfer id")?;
    let entries = reader.varint("entries")?;
    if entries > TRANSFER_ENTRIES_MAX as u64 {
        let max = TRANSFER_ENTRIES_MAX as u64;
        return Err(Invalid::TooLarge { what: "entries", size: entries, max });
    }
    let files = reader.varint("files")?;
    if files > entries {
        return Err(Invalid::TooLarge { what: "files", size: files, max: entries });
    }
    let bytes = reader.varint("bytes")?;
    let name = reader.text(TRANSFER_NAME_BYTES_MAX, "name")?.to_owned();
    Ok(Offer { id, name, entries, files, bytes })
}

fn read_reason(reader: &mut Reader<'_>) -> Result<(Reason, String), Invalid> {
    let reason = Reason::from_wire(reader.u8("reason")?).ok_or(Invalid::Value { what: "reason" })?;
    let text = reader.text(REASON_BYTES_MAX, "reason text")?;
    // It will be printed on a terminal: nothing in it may steer one.
    Ok((reason, text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()))
}

fn read_flag(reader: &mut Reader<'_>, what: &'static str) -> Result<bool, Invalid> {
    match reader.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Invalid::Value { what }),
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
