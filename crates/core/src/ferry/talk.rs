//! What a guest and its ferry say to each other, and what stands before a packet.
//!
//! Each question has a stream of its own, opened by who asks; the answer comes back on it.
//!
//! ```text
//! frame  = length u8 | version 1 | kind u8 | body
//! ask    = 1 | device [32]                    guest: carry between me and this device
//! yes    = 2 | handle u16                     ferry: packets to it have this number, and packets from it
//! call   = 3 | device [32] | handle u16       ferry: this device wants to you, and has this number
//! here   = 4                                  guest: let it
//! no     = 5 | why u8                         either
//!
//! datagram = handle u16 | QUIC packet
//! ```
//!
//! A datagram without a packet says, from the ferry, that the number leads nowhere (any more).

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::identity::DeviceId;
use crate::limits::FERRY_TALK_BYTES_MAX;
use crate::wire::{Invalid, Reader};

/// The version of this module's format.
pub const TALK_VERSION: u8 = 1;

/// The other end of a crossing, on the connection between one guest and the ferry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u16);

/// Bytes before a packet.
pub const HANDLE_BYTES: usize = 2;

impl Handle {
    /// The datagram that carries a packet.
    #[must_use]
    pub fn before(self, packet: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(HANDLE_BYTES + packet.len());
        out.put_u16(self.0);
        out.put_slice(packet);
        out.freeze()
    }

    /// The datagram that says that this number leads nowhere.
    #[must_use]
    pub fn nowhere(self) -> Bytes {
        self.before(&[])
    }

    /// A datagram's number and its packet, which is empty if the number leads nowhere; `None` if it is too short.
    #[must_use]
    pub fn split(mut datagram: Bytes) -> Option<(Self, Bytes)> {
        let number = datagram.first_chunk().map(|field| u16::from_be_bytes(*field))?;
        let packet = datagram.split_off(HANDLE_BYTES);
        Some((Self(number), packet))
    }
}

/// Why packets are not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// From the ferry: the device is not there for the asker. From a guest: it does not want.
    NotHere,
    /// The asker asks too often.
    TooOften,
    /// The asker has as many crossings as it may.
    TooMany,
    /// The asker is not granted `relay`.
    NotGranted,
    /// It does not speak this version.
    Version,
    /// A reason of a later version.
    Other(u8),
}

impl Refusal {
    const fn as_u8(self) -> u8 {
        match self {
            Self::NotHere => 1,
            Self::TooOften => 2,
            Self::TooMany => 3,
            Self::NotGranted => 4,
            Self::Version => 5,
            Self::Other(code) => code,
        }
    }

    const fn from_u8(code: u8) -> Self {
        match code {
            1 => Self::NotHere,
            2 => Self::TooOften,
            3 => Self::TooMany,
            4 => Self::NotGranted,
            5 => Self::Version,
            other => Self::Other(other),
        }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NotHere => {
                "it does not have the other device: that one must be connected to it too, and be granted relay by it"
            }
            Self::TooOften => "this device asked it too often",
            Self::TooMany => "it carries to as many devices for this one as it may",
            Self::NotGranted => "it does not relay for this device: there, `devices grant` has to give it relay=yes",
            Self::Version => "it speaks another version",
            Self::Other(code) => return write!(f, "it refused for a reason of a later version ({code})"),
        })
    }
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// A guest wants packets carried between it and a device.
    Ask {
        /// To whom.
        device: DeviceId,
    },
    /// They are.
    Yes {
        /// The device's number on this connection.
        handle: Handle,
    },
    /// A device wants packets carried between it and this guest.
    Call {
        /// Who.
        device: DeviceId,
        /// Its number on this connection.
        handle: Handle,
    },
    /// The guest agrees.
    Here,
    /// They are not.
    No(Refusal),
}

impl Talk {
    /// Its bytes, with the length before them.
    #[must_use]
    pub fn to_bytes(self) -> BytesMut {
        let mut out = BytesMut::with_capacity(1 + FERRY_TALK_BYTES_MAX);
        out.put_slice(&[0, TALK_VERSION]);
        match self {
            Self::Ask { device } => {
                out.put_u8(1);
                out.put_slice(device.as_bytes());
            }
            Self::Yes { handle } => {
                out.put_u8(2);
                out.put_u16(handle.0);
            }
            Self::Call { device, handle } => {
                out.put_u8(3);
                out.put_slice(device.as_bytes());
                out.put_u16(handle.0);
            }
            Self::Here => out.put_u8(4),
            Self::No(why) => out.put_slice(&[5, why.as_u8()]),
        }
        out[0] = u8::try_from(out.len() - 1).unwrap_or(u8::MAX);
        out
    }

    /// The body's length from the byte before it.
    ///
    /// # Errors
    /// [`Invalid::TooLarge`] over [`FERRY_TALK_BYTES_MAX`].
    pub fn body_len(field: u8) -> Result<usize, Invalid> {
        let size = usize::from(field);
        if size > FERRY_TALK_BYTES_MAX {
            let (size, max) = (size as u64, FERRY_TALK_BYTES_MAX as u64);
            return Err(Invalid::TooLarge { what: "ferry frame", size, max });
        }
        Ok(size)
    }

    /// Reads a body, without the length.
    ///
    /// # Errors
    /// [`Invalid`], naming the field; of another version: see [`Talk::is_other_version`].
    pub fn from_body(body: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(body);
        if reader.u8("version")? != TALK_VERSION {
            return Err(Invalid::Value { what: "version" });
        }
        let talk = match reader.u8("kind")? {
            1 => Self::Ask { device: device(&mut reader)? },
            2 => Self::Yes { handle: Handle(reader.u16("handle")?) },
            3 => Self::Call { device: device(&mut reader)?, handle: Handle(reader.u16("handle")?) },
            4 => Self::Here,
            5 => Self::No(Refusal::from_u8(reader.u8("why")?)),
            _ => return Err(Invalid::Value { what: "kind" }),
        };
        reader.finish("ferry frame")?;
        Ok(talk)
    }

    /// Whether a body is of a version that is not ours: to be answered with [`Refusal::Version`].
    #[must_use]
    pub fn is_other_version(body: &[u8]) -> bool {
        body.first().is_some_and(|version| *version != TALK_VERSION)
    }
}

fn device(reader: &mut Reader<'_>) -> Result<DeviceId, Invalid> {
    DeviceId::from_bytes(reader.array("device")?).map_err(|_| Invalid::Value { what: "device" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;
    use proptest::prelude::*;

    fn all() -> [Talk; 6] {
        let device = SecretKey::from_u64(9).id();
        [
            Talk::Ask { device },
            Talk::Yes { handle: Handle(0x0102) },
            Talk::Call { device, handle: Handle(7) },
            Talk::Here,
            Talk::No(Refusal::NotHere),
            Talk::No(Refusal::Other(77)),
        ]
    }

    #[test]
    fn every_frame_survives_the_wire_and_the_largest_fits() {
        let mut longest = 0;
        for talk in all() {
            let bytes = talk.to_bytes();
            assert_eq!(Talk::body_len(bytes[0]), Ok(bytes.len() - 1));
            assert_eq!(Talk::from_body(&bytes[1..]), Ok(talk));
            longest = longest.max(bytes.len() - 1);
        }
        assert_eq!(longest, FERRY_TALK_BYTES_MAX);
        assert!(Talk::body_len(u8::MAX).is_err());
    }

    #[test]
    fn every_refusal_keeps_its_number() {
        for code in 0..=u8::MAX {
            assert_eq!(Refusal::from_u8(code).as_u8(), code);
        }
    }

    #[test]
    fn golden_ferry_frames_have_the_bytes_of_version_1() {
        let hex = |talk: Talk| data_encoding::HEXLOWER.encode(&talk.to_bytes());
        let [ask, yes, call, here, no, _] = all();
        let device = data_encoding::HEXLOWER.encode(SecretKey::from_u64(9).id().as_bytes());
        assert_eq!(hex(ask), format!("220101{device}"));
        assert_eq!(hex(yes), "0401020102");
        assert_eq!(hex(call), format!("240103{device}0007"));
        assert_eq!(hex(here), "020104");
        assert_eq!(hex(no), "03010501");
        assert_eq!(&Handle(0x0102).before(b"packet")[..], b"\x01\x02packet");
        assert_eq!(&Handle(3).nowhere()[..], b"\x00\x03");
    }

    #[test]
    fn a_later_version_is_told_apart_from_nonsense() {
        assert!(Talk::is_other_version(&[2, 9, 9]));
        assert!(!Talk::is_other_version(&[1, 9, 9]) && !Talk::is_other_version(&[]));
        assert!(Talk::from_body(&[2, 4]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            if let Ok(talk) = Talk::from_body(&bytes) {
                prop_assert_eq!(&talk.to_bytes()[1..], &bytes[..]);
            }
            match Handle::split(Bytes::from(bytes.clone())) {
                Some((handle, packet)) => prop_assert_eq!(&handle.before(&packet)[..], &bytes[..]),
                None => prop_assert!(bytes.len() < HANDLE_BYTES),
            }
        }
    }
}
