//! The messages of `honeylink/chat/1`, one per link message.
//!
//! ```text
//! say = 0x01 | id [16] | sent varint (ms since 1970) | text, UTF-8, to the end
//! got = 0x02 | id [16]                                  the receiver has it on disk
//! ```
//!
//! Over the mesh, where bytes cost airtime and the mesh itself confirms:
//!
//! ```text
//! say = id [8] | text, UTF-8, to the end
//! ```
//!
//! A message that is said twice, because a device was restarted before it heard `got`, has the same id; the receiver
//! answers again and shows it once. The id over the mesh is the first half of one whose second half is zero, so that a
//! message said both ways is one message.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Invalid, Reader, put_varint};
use crate::limits::CHAT_MESSAGE_BYTES_MAX;

/// One chat message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChatFrame {
    /// Somebody says something.
    Say {
        /// Chosen at random by the sender.
        id: [u8; 16],
        /// The sender's wall clock, milliseconds since 1970. Shown, never trusted.
        sent_unix_ms: u64,
        /// What is said.
        text: String,
    },
    /// The other side has it.
    Got {
        /// The message's id.
        id: [u8; 16],
    },
}

impl ChatFrame {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Say { id, sent_unix_ms, text } => {
                out.put_u8(0x01);
                out.put_slice(id);
                put_varint(&mut out, *sent_unix_ms);
                out.put_slice(text.as_bytes());
            }
            Self::Got { id } => {
                out.put_u8(0x02);
                out.put_slice(id);
            }
        }
        out.freeze()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Invalid`], naming the field; a text over [`CHAT_MESSAGE_BYTES_MAX`] is too large.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut r = Reader::new(bytes);
        let frame = match r.u8("chat frame type")? {
            0x01 => {
                let id = r.array("chat id")?;
                let sent_unix_ms = r.varint("chat time")?;
                Self::Say { id, sent_unix_ms, text: rest_as_text(&mut r)? }
            }
            0x02 => Self::Got { id: r.array("chat id")? },
            _ => return Err(Invalid::Value { what: "chat frame type" }),
        };
        r.finish("chat frame")?;
        Ok(frame)
    }
}

/// A chat message over the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSay {
    /// Chosen at random by the sender.
    pub id: [u8; 8],
    /// What is said.
    pub text: String,
}

impl MeshSay {
    /// The same message's id on a link.
    #[must_use]
    pub fn link_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.id);
        id
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(8 + self.text.len());
        out.put_slice(&self.id);
        out.put_slice(self.text.as_bytes());
        out.freeze()
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Invalid`], naming the field; a text over [`CHAT_MESSAGE_BYTES_MAX`] is too large.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut r = Reader::new(bytes);
        let id = r.array("chat id")?;
        Ok(Self { id, text: rest_as_text(&mut r)? })
    }
}

/// What is left, as a chat text.
fn rest_as_text(r: &mut Reader<'_>) -> Result<String, Invalid> {
    let size = r.remaining();
    if size > CHAT_MESSAGE_BYTES_MAX {
        let max = CHAT_MESSAGE_BYTES_MAX as u64;
        return Err(Invalid::TooLarge { what: "chat text", size: size as u64, max });
    }
    let text = core::str::from_utf8(r.take(size, "chat text")?)
        .map_err(|_| Invalid::NotText { what: "chat text" })?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chat_frames_have_the_bytes_of_version_1() {
        let say = ChatFrame::Say { id: [7; 16], sent_unix_ms: 300, text: "hé".into() };
        let mut expected = vec![0x01];
        expected.extend([7; 16]);
        expected.extend([0x41, 0x2c, b'h', 0xc3, 0xa9]);
        assert_eq!(say.encode(), expected);
        assert_eq!(ChatFrame::decode(&expected), Ok(say));
        let got = ChatFrame::Got { id: [9; 16] };
        assert_eq!(got.encode()[..], [&[0x02][..], &[9; 16]].concat());
        assert_eq!(ChatFrame::decode(&got.encode()), Ok(got));
    }

    #[test]
    fn golden_message_over_the_mesh_has_the_bytes_of_version_1() {
        let say = MeshSay { id: [7; 8], text: "hé".into() };
        let golden = [7, 7, 7, 7, 7, 7, 7, 7, b'h', 0xc3, 0xa9];
        assert_eq!(say.encode()[..], golden);
        assert_eq!(MeshSay::decode(&golden), Ok(say.clone()));
        assert_eq!(say.link_id(), [7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_text_over_the_limit_is_refused() {
        let say =
            ChatFrame::Say { id: [0; 16], sent_unix_ms: 0, text: "x".repeat(CHAT_MESSAGE_BYTES_MAX + 1) };
        assert!(matches!(ChatFrame::decode(&say.encode()), Err(Invalid::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_chat_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = ChatFrame::decode(&bytes);
            let _ = MeshSay::decode(&bytes);
        }
    }
}
