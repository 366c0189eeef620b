//! The messages of a ceremony as bytes, for the ALPN `honeylink/pair/1`.
//!
//! On the stream each frame is a two-byte big-endian length (of what follows, 1 to [`PAIRING_FRAME_BYTES_MAX`]) and a
//! body: one type byte and the fields. The layout of `Hello` and of `Refuse` is fixed for all versions, since they are
//! what devices of different versions say to each other; everything else belongs to version 1.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::card::DeviceCard;
use super::kdf::Transcript;
use super::pake::{Confirm, PakeMessage};
use super::refusal::Refusal;
use super::sas::{Commitment, Nonce};
use super::{Hint, Purpose, VERSION};
use crate::limits::PAIRING_FRAME_BYTES_MAX;
use crate::wire::{Invalid, Reader};

/// Bytes of the length before each frame.
pub const HEADER_BYTES: usize = 2;

/// Versions of the ceremony that a side speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Lowest.
    pub min: u8,
    /// Highest.
    pub max: u8,
}

impl Versions {
    /// What this code speaks.
    pub const OURS: Self = Self { min: VERSION, max: VERSION };

    /// The highest version both sides speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u8> {
        let version = self.max.min(other.max);
        (version >= self.min.max(other.min)).then_some(version)
    }
}

/// The guest's greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// What the guest speaks.
    pub versions: Versions,
    /// What it came for.
    pub purpose: Purpose,
    /// Which code it holds.
    pub hint: Hint,
    /// Whether its person wants to compare short strings after the code.
    pub compare: bool,
}

/// The host's greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The version both will speak.
    pub version: u8,
    /// Whether the host's person wants to compare short strings after the code.
    pub compare: bool,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Guest: what I speak, want and hold.
    Hello(Hello),
    /// Host: come in.
    Welcome(Welcome),
    /// Either: my half of the exchange.
    Pake(PakeMessage),
    /// Either: my proof and my card.
    Confirm(Confirm),
    /// Either, in a ceremony without a code: my card.
    Card(DeviceCard),
    /// Guest: my nonce will hash to this.
    SasCommit(Commitment),
    /// Host: my nonce.
    SasReply(Nonce),
    /// Guest: my nonce, as promised.
    SasOpen(Nonce),
    /// Either: my person says the strings are equal. (That they differ is a refusal.)
    SasAgree,
    /// Either: I go no further.
    Refuse(Refusal),
    /// Either: I have everything.
    Done,
}

impl Frame {
    /// What the frame is called in errors and logs; says nothing about its content.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Pake(_) => "pake",
            Self::Confirm(_) => "confirm",
            Self::Card(_) => "card",
            Self::SasCommit(_) => "sas-commit",
            Self::SasReply(_) => "sas-reply",
            Self::SasOpen(_) => "sas-open",
            Self::SasAgree => "sas-agree",
            Self::Refuse(_) => "refuse",
            Self::Done => "done",
        }
    }

    /// The frame with its length in front, ready for the stream.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HEADER_BYTES + 128);
        out.put_u16(0);
        self.write_body(&mut out);
        let len = u16::try_from(out.len() - HEADER_BYTES).unwrap_or(u16::MAX);
        if let Some(header) = out.first_chunk_mut() {
            *header = len.to_be_bytes();
        }
        out.freeze()
    }

    fn write_body(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => {
                out.put_slice(&[1, hello.versions.min, hello.versions.max, hello.purpose.to_byte()]);
                out.put_slice(&hello.hint.to_bytes());
                out.put_u8(hello.compare.into());
            }
            Self::Welcome(welcome) => out.put_slice(&[2, welcome.version, welcome.compare.into()]),
            Self::Pake(message) => put(out, 3, &message.0),
            Self::Confirm(confirm) => {
                put(out, 4, &confirm.mac);
                confirm.card.write(out);
            }
            Self::Card(card) => {
                out.put_u8(5);
                card.write(out);
            }
            Self::SasCommit(commitment) => put(out, 6, &commitment.0),
            Self::SasReply(nonce) => put(out, 7, &nonce.0),
            Self::SasOpen(nonce) => put(out, 8, &nonce.0),
            Self::SasAgree => out.put_u8(9),
            Self::Refuse(refusal) => {
                out.put_u8(10);
                refusal.write(out);
            }
            Self::Done => out.put_u8(11),
        }
    }

    /// The length a header announces.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`], or [`Invalid::Value`] for an empty frame.
    pub fn body_len(header: [u8; HEADER_BYTES]) -> Result<usize, Invalid> {
        let what = "pairing frame";
        match usize::from(u16::from_be_bytes(header)) {
            0 => Err(Invalid::Value { what }),
            len if len > PAIRING_FRAME_BYTES_MAX => {
                Err(Invalid::TooLarge { what, size: len as u64, max: PAIRING_FRAME_BYTES_MAX as u64 })
            }
            len => Ok(len),
        }
    }

    /// Reads a frame's body, without its length.
    ///
    /// # Errors
    /// [`Invalid`] says which field is wrong.
    pub fn decode(body: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(body);
        let frame = match reader.u8("pairing frame type")? {
            1 => Self::Hello(read_hello(&mut reader)?),
            2 => Self::Welcome(Welcome { version: reader.u8("version")?, compare: read_bool(&mut reader)? }),
            3 => Self::Pake(PakeMessage(reader.array("pake message")?)),
            4 => Self::Confirm(Confirm { mac: reader.array("proof")?, card: DeviceCard::read(&mut reader)? }),
            5 => Self::Card(DeviceCard::read(&mut reader)?),
            6 => Self::SasCommit(Commitment(reader.array("commitment")?)),
            7 => Self::SasReply(Nonce(reader.array("nonce")?)),
            8 => Self::SasOpen(Nonce(reader.array("nonce")?)),
            9 => Self::SasAgree,
            10 => Self::Refuse(Refusal::read(&mut reader)?),
            11 => Self::Done,
            _ => return Err(Invalid::Value { what: "pairing frame type" }),
        };
        reader.finish("pairing frame")?;
        Ok(frame)
    }
}

/// What both sides said before the exchange, hashed: enters every later derivation, so that nobody can lower a version
/// or drop a wish on the way.
#[must_use]
pub fn greeting_digest(hello: &Hello, welcome: &Welcome) -> [u8; 32] {
    Transcript::new(b"honeylink/pair greeting")
        .field(&Frame::Hello(*hello).encode())
        .field(&Frame::Welcome(*welcome).encode())
        .finish()
}

fn put(out: &mut BytesMut, kind: u8, bytes: &[u8; 32]) {
    out.put_u8(kind);
    out.put_slice(bytes);
}

fn read_hello(reader: &mut Reader<'_>) -> Result<Hello, Invalid> {
    let versions = Versions { min: reader.u8("version")?, max: reader.u8("version")? };
    if versions.min > versions.max {
        return Err(Invalid::Value { what: "version range" });
    }
    let purpose = Purpose::from_byte(reader.u8("purpose")?).ok_or(Invalid::Value { what: "purpose" })?;
    Ok(Hello { versions, purpose, hint: Hint::read(reader)?, compare: read_bool(reader)? })
}

fn read_bool(reader: &mut Reader<'_>) -> Result<bool, Invalid> {
    match reader.u8("flag")? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Invalid::Value { what: "flag" }),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::identity::DeviceType;

    fn samples() -> Vec<(Frame, String)> {
        let card = DeviceCard::new("Ana", DeviceType::Phone).unwrap();
        let hello = Hello {
            versions: Versions { min: 1, max: 2 },
            purpose: Purpose::Fetch,
            hint: Hint::Words(7),
            compare: true,
        };
        let retry_after = Duration::from_millis(500_001);
        vec![
            (Frame::Hello(hello), "000a0101020202000000070".to_owned() + "1"),
            (Frame::Welcome(Welcome { version: 1, compare: false }), "0003020100".to_owned()),
            (Frame::Pake(PakeMessage([0xab; 32])), format!("002103{}", "ab".repeat(32))),
            (
                Frame::Confirm(Confirm { mac: [0xcd; 32], card: card.clone() }),
                format!("002604{}0303416e61", "cd".repeat(32)),
            ),
            (Frame::Card(card), "0006050303416e61".to_owned()),
            (Frame::SasCommit(Commitment([1; 32])), format!("002106{}", "01".repeat(32))),
            (Frame::SasReply(Nonce([2; 32])), format!("002107{}", "02".repeat(32))),
            (Frame::SasOpen(Nonce([3; 32])), format!("002108{}", "03".repeat(32))),
            (Frame::SasAgree, "000109".to_owned()),
            (Frame::Refuse(Refusal::TooManyTries { retry_after }), "00060a08000001f5".to_owned()),
            (Frame::Refuse(Refusal::Version { min: 1, max: 3 }), "00060a0900000103".to_owned()),
            (Frame::Done, "00010b".to_owned()),
        ]
    }

    #[test]
    fn golden_bytes_of_version_one() {
        for (frame, hex) in samples() {
            assert_eq!(HEXLOWER.encode(&frame.encode()), hex, "{}", frame.name());
        }
    }

    #[test]
    fn frames_round_trip_and_every_cut_or_addition_is_refused() {
        for (frame, _) in samples() {
            let bytes = frame.encode();
            let body = &bytes[HEADER_BYTES..];
            assert_eq!(Frame::body_len([bytes[0], bytes[1]]), Ok(body.len()));
            let again = Frame::decode(body).unwrap();
            assert_eq!(again.encode(), bytes, "{}", frame.name());
            for cut in 0..body.len() {
                assert!(Frame::decode(&body[..cut]).is_err(), "{} cut to {cut}", frame.name());
            }
            assert!(Frame::decode(&[body, &[0]].concat()).is_err(), "{} with a byte more", frame.name());
        }
    }

    #[test]
    fn every_refusal_survives_the_wire() {
        for reason in 1..=16 {
            let body = [10, reason, 0, 0, 1, 1];
            let frame = Frame::decode(&body).unwrap();
            assert_eq!(frame.encode()[3], reason, "{frame:?}");
        }
        assert_eq!(Frame::decode(&[10, 200, 0, 0, 0, 0]), Ok(Frame::Refuse(Refusal::Cancelled)));
    }

    #[test]
    fn lengths_over_the_limit_are_refused_from_the_header() {
        assert!(Frame::body_len([0, 0]).is_err());
        assert!(Frame::body_len([2, 0]).is_ok());
        assert!(matches!(Frame::body_len([2, 1]), Err(Invalid::TooLarge { size: 513, max: 512, .. })));
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        let v = |min, max| Versions { min, max };
        assert_eq!(v(1, 3).common(v(2, 5)), Some(3));
        assert_eq!(v(1, 1).common(v(2, 3)), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(frame) = Frame::decode(&bytes) {
                // What was understood has exactly one encoding, except refusals of the future.
                if !matches!(frame, Frame::Refuse(_)) {
                    prop_assert_eq!(&frame.encode()[HEADER_BYTES..], &bytes[..]);
                }
            }
        }
    }
}
