//! Frames for those who share no key with the sender yet, or for everybody: signed, 110 bytes and a small body (ME-S1).
//!
//! A signature says who and for whom: the whole address of the target is under it, though the frame carries only a
//! hint, so that a frame for one device is never taken by another with the same hint. Its number is the sender's, from
//! the counter of its messages: who keeps a replay window takes it once.
//!
//! Relays can check what goes to everybody; of the rest they see only that it is well formed.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::frame::{Hop, Priority, Signed};
use super::hint::{Address, Far, Near};
use super::keys::KeyExchange;
use crate::identity::{DeviceId, SecretKey};
use crate::limits::MESH_SIGNED_BODY_BYTES_MAX;
use crate::wire::{Invalid, Reader};

/// What stands for the target's address in what is signed for everybody. No device has it.
const EVERYBODY: Address = Address([0xff; 16]);

/// What a signed frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Fresh keys, type 1: see [`KeyExchange`].
    KeyExchange(KeyExchange),
    /// Type 4: a short text in the open; not empty.
    Text(String),
    /// Type 5: the sender has the newest ratchet of its session with the target on disk ([`Root::proof`](super::keys::Root::proof)).
    Held {
        /// What proves it.
        proof: [u8; 16],
    },
    /// Type 6: a message to the sender was sealed with a ratchet whose keys it does not have any more.
    Lost {
        /// The message's number.
        number: u32,
    },
    /// Something of a later version: forwarded, not understood.
    Unknown {
        /// Its type.
        kind: u8,
        /// Its bytes.
        body: Bytes,
    },
}

/// Why a signed thing was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// The key in the frame is none.
    #[error("the key in the frame is not a proper key")]
    NotAKey,
    /// The frame is for another device, or speaks of another.
    #[error("the frame is for or about another device")]
    OtherDevice,
    /// The signature does not fit.
    #[error("the signature does not fit: the frame was forged or changed")]
    Signature,
}

impl Body {
    /// The type byte.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        match self {
            Self::KeyExchange(_) => 1,
            Self::Text(_) => 4,
            Self::Held { .. } => 5,
            Self::Lost { .. } => 6,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Reads the body of a signed frame.
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn decode(kind: u8, body: &Bytes) -> Result<Self, Invalid> {
        let mut r = Reader::new(body);
        let value = match kind {
            1 => {
                let ephemeral = r.array("ephemeral key")?;
                let answers: [u8; 16] = r.array("digest of the offer")?;
                Self::KeyExchange(KeyExchange { ephemeral, answers: (answers != [0; 16]).then_some(answers) })
            }
            4 => {
                let bytes = r.take(r.remaining(), "text")?;
                let text = core::str::from_utf8(bytes).map_err(|_| Invalid::NotText { what: "text" })?;
                if text.is_empty() {
                    return Err(Invalid::Truncated { what: "text" });
                }
                Self::Text(text.to_owned())
            }
            5 => Self::Held { proof: r.array("proof of a ratchet")? },
            6 => Self::Lost { number: r.u32("number of the message")? },
            _ => return Ok(Self::Unknown { kind, body: body.clone() }),
        };
        r.finish("signed body")?;
        Ok(value)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`] over [`MESH_SIGNED_BODY_BYTES_MAX`]: only texts and unknown bodies can be.
    pub fn encode(&self) -> Result<Bytes, Invalid> {
        let mut out = BytesMut::new();
        match self {
            Self::KeyExchange(exchange) => {
                out.put_slice(&exchange.ephemeral);
                out.put_slice(&exchange.answers.unwrap_or_default());
            }
            Self::Held { proof } => out.put_slice(proof),
            Self::Lost { number } => out.put_u32(*number),
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Unknown { body, .. } => out.put_slice(body),
        }
        if out.len() > MESH_SIGNED_BODY_BYTES_MAX {
            return Err(Invalid::TooLarge {
                what: "signed body",
                size: out.len() as u64,
                max: MESH_SIGNED_BODY_BYTES_MAX as u64,
            });
        }
        Ok(out.freeze())
    }
}

impl Signed {
    /// Signs `body` for `to`, or for everybody if that is `None`. `next` is anybody until the sender says otherwise.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`] as [`Body::encode`].
    pub fn new(
        own: &SecretKey,
        to: Option<&Address>,
        seq: u32,
        priority: Priority,
        body: &Body,
    ) -> Result<Self, Invalid> {
        let id = own.id();
        let mut frame = Self {
            hop: Hop::first(priority),
            next: Near::ANYBODY,
            prev: Near::from(&id),
            dst: to.map_or(Far::EVERYBODY, Address::far),
            key: *id.as_bytes(),
            seq,
            kind: body.kind(),
            body: body.encode()?,
            signature: [0; 64],
        };
        frame.signature = own.sign(&frame.signed_message(to.unwrap_or(&EVERYBODY)));
        Ok(frame)
    }

    /// Who signed it for the device with address `own`, or for everybody.
    ///
    /// # Errors
    /// [`Unproved`].
    pub fn verify(&self, own: &Address) -> Result<DeviceId, Unproved> {
        let to = if self.is_broadcast() { &EVERYBODY } else { own };
        if !self.is_broadcast() && self.dst != own.far() {
            return Err(Unproved::OtherDevice);
        }
        let id = DeviceId::from_bytes(self.key).map_err(|_| Unproved::NotAKey)?;
        if id.verify(&self.signed_message(to), &self.signature) { Ok(id) } else { Err(Unproved::Signature) }
    }

    /// Whether it is for everybody; then any relay can [`Signed::verify`] it.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        self.dst == Far::EVERYBODY
    }

    /// What it says.
    ///
    /// # Errors
    /// [`Invalid`] as [`Body::decode`].
    pub fn body(&self) -> Result<Body, Invalid> {
        Body::decode(self.kind, &self.body)
    }

    fn signed_message(&self, to: &Address) -> Vec<u8> {
        let (seq, kind) = (self.seq.to_be_bytes(), [self.kind]);
        message(b"honeylink/mesh/1 signed\0", &[&to.0, &self.key, &seq, &kind, &self.body])
    }
}

/// What is signed: a label that no other use of the key has, then fields of fixed length but the last.
pub(super) fn message(label: &'static [u8], fields: &[&[u8]]) -> Vec<u8> {
    let mut out = label.to_vec();
    for field in fields {
        out.extend_from_slice(field);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bodies() -> Vec<Body> {
        vec![
            Body::KeyExchange(KeyExchange { ephemeral: [7; 32], answers: None }),
            Body::KeyExchange(KeyExchange { ephemeral: [7; 32], answers: Some([8; 16]) }),
            Body::Text("help".into()),
            Body::Held { proof: [3; 16] },
            Body::Lost { number: 9 },
            Body::Unknown { kind: 200, body: Bytes::from_static(b"later") },
        ]
    }

    #[test]
    fn bodies_round_trip() {
        for body in bodies() {
            assert_eq!(Body::decode(body.kind(), &body.encode().unwrap()), Ok(body));
        }
    }

    #[test]
    fn bodies_over_the_limit_and_empty_texts_are_refused() {
        assert!(matches!(Body::Text("x".repeat(65)).encode(), Err(Invalid::TooLarge { max: 64, .. })));
        assert!(Body::decode(4, &Bytes::new()).is_err());
        assert!(Body::decode(4, &Bytes::from_static(&[0xff])).is_err());
        assert!(Body::decode(6, &Bytes::from_static(&[0; 5])).is_err());
    }

    #[test]
    fn a_frame_for_one_device_is_not_taken_by_another_with_the_same_hint() {
        let key = SecretKey::from_u64(1);
        let to = Address([0xaa; 16]);
        let mut twin = to;
        twin.0[15] ^= 1;
        let frame = Signed::new(&key, Some(&to), 5, Priority::Normal, &Body::Lost { number: 1 }).unwrap();
        assert_eq!(frame.verify(&to), Ok(key.id()));
        assert_eq!(frame.verify(&twin), Err(Unproved::Signature));
        assert_eq!(frame.verify(&Address([0xbb; 16])), Err(Unproved::OtherDevice));
    }

    #[test]
    fn what_is_said_to_one_is_not_said_to_everybody() {
        let key = SecretKey::from_u64(1);
        let to = Address([0xaa; 16]);
        let body = Body::Text("only for you".into());
        let mut frame = Signed::new(&key, Some(&to), 5, Priority::Normal, &body).unwrap();
        frame.dst = Far::EVERYBODY;
        assert_eq!(frame.verify(&to), Err(Unproved::Signature));
        let frame = Signed::new(&key, None, 5, Priority::Control, &body).unwrap();
        assert_eq!(frame.verify(&to), Ok(key.id()));
        assert_eq!(frame.body(), Ok(body));
    }

    /// The bytes that are signed for a text to everybody: the signature of RFC 8032's first test key over them is fixed,
    /// because Ed25519 is deterministic.
    #[test]
    fn golden_signed_text_to_everybody() {
        let key = SecretKey::from_bytes(&core::array::from_fn(|i| u8::try_from(i).unwrap()));
        let frame = Signed::new(&key, None, 6, Priority::Normal, &Body::Text("hey".into())).unwrap();
        let expected =
            [&b"honeylink/mesh/1 signed\0"[..], &[0xff; 16], key.id().as_bytes(), &[0, 0, 0, 6, 4], b"hey"]
                .concat();
        assert_eq!(frame.signature, key.sign(&expected));
        assert_eq!(crate::mesh::frame::Frame::Signed(frame).to_bytes().len(), 110 + 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_body_or_an_error(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let body = Bytes::from(body);
            if let Ok(value) = Body::decode(kind, &body) {
                prop_assert_eq!(value.kind(), kind);
                prop_assert_eq!(value.encode(), Ok(body));
            }
        }

        #[test]
        fn a_signed_frame_with_one_bit_changed_is_refused(at in 6_usize..6 + 3 + 32 + 4 + 1 + 4 + 64, bit in 0_u8..8) {
            use crate::mesh::frame::{Frame, PortKind};
            let (key, to) = (SecretKey::from_u64(1), Address([0xaa; 16]));
            let frame = Signed::new(&key, Some(&to), 5, Priority::Normal, &Body::Lost { number: 1 }).unwrap();
            let mut bytes = Frame::Signed(frame).to_bytes();
            bytes[at] ^= 1 << bit;
            if let Ok(Frame::Signed(frame)) = Frame::decode(&bytes.freeze(), PortKind::Broadcast) {
                prop_assert!(frame.verify(&to).is_err());
            }
        }
    }
}
