//! Calling back: a device asks a paired one whether it can be reached from outside, and the other tries.
//!
//! Whoever sits behind a firewall sees only that nobody comes. So it asks a device it is connected to anyway, on a stream of
//! kind [`CallBack`](super::link::StreamKind::CallBack), to send a few packets from a socket that was never used before to the
//! addresses *that device sees it at*. Nobody names an address: the asker could name a third party's. An answer shows that new
//! packets get in. It also says what time it is there, since a clock that is wrong is found only by comparing.
//!
//! ```text
//! asker                                         caller
//!   | -- ask: version 1 | nonce [16] ------------> |    on the connection there is
//!   | <---- call: a QUIC packet of a version that does not exist, 1200 bytes, from a new socket
//!   | ----> answer: QUIC's version negotiation     |    by the asker's ordinary socket, without knowing of any of this
//!   | <- told: version 1 | refusal u8 | time u64   |
//!   |    | count u8 | count * called               |    called = family u8 | ip [4 or 16] | port u16 | outcome u8 [| rtt varint]
//! ```
//!
//! The call is answered by every QUIC server (RFC 9000 section 6.1) with both connection ids exchanged, so the nonce and the
//! caller's own random bytes show that it is the answer to this call. It is shorter than the call, and opens nothing that was
//! not open before.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;

use bytes::{BufMut as _, BytesMut};

use super::{Invalid, Reader, put_varint};
use crate::identity::DeviceId;
use crate::limits::{CALL_BACK_EVERY, CALL_BACK_PEERS_MAX, CALLED_ADDRESSES_MAX};
use crate::time::Time;

/// The version of this format.
const VERSION: u8 = 1;
/// A version that is never used, so that whoever supports any answers which (RFC 9000 section 15).
const NO_VERSION: u32 = 0x1a2a_3a4a;
/// A long header with the fixed bit (RFC 8999 section 5.1).
const LONG_HEADER: u8 = 0xc0;
/// Smaller datagrams need not be answered (RFC 9000 section 6.1).
const CALL_BYTES: usize = 1200;

/// A request to be called back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Chosen at random by the asker; in each call.
    pub nonce: [u8; 16],
}

impl Ask {
    /// Bytes of a request.
    pub const BYTES: usize = 17;

    /// The request's bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [VERSION; Self::BYTES];
        if let Some((_, nonce)) = out.split_first_chunk_mut::<1>() {
            nonce.copy_from_slice(&self.nonce);
        }
        out
    }

    /// Reads a request, the whole stream after its header.
    ///
    /// # Errors
    /// [`Invalid`], also if anything follows: there is no place for addresses.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(bytes);
        version(&mut reader)?;
        let nonce = reader.array("call back nonce")?;
        reader.finish("call back")?;
        Ok(Self { nonce })
    }
}

/// Why nobody called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It did so for this asker a moment ago, or does for too many others now.
    Busy,
    /// It never does, or cannot.
    Off,
}

/// What became of the calls to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One was answered, so long after it was sent.
    Answered(Duration),
    /// None was.
    Silent,
    /// They could not be sent.
    NotSent,
}

/// One address that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// Where the caller sees the asker.
    pub addr: SocketAddr,
    /// What came of it.
    pub outcome: Outcome,
}

/// What the caller tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Why it did not call, if it did not.
    pub refusal: Option<Refusal>,
    /// Its wall clock when it told this, milliseconds since 1970.
    pub unix_ms: u64,
    /// What it called; empty if it sees the asker through others only.
    pub called: Vec<Called>,
}

impl Told {
    /// The most bytes of one.
    pub const BYTES_MAX: usize = 11 + CALLED_ADDRESSES_MAX * (1 + 16 + 2 + 1 + 8);

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(Self::BYTES_MAX);
        out.put_u8(VERSION);
        out.put_u8(match self.refusal {
            None => 0,
            Some(Refusal::Busy) => 1,
            Some(Refusal::Off) => 2,
        });
        out.put_u64(self.unix_ms);
        let called = self.called.get(..CALLED_ADDRESSES_MAX).unwrap_or(&self.called);
        out.put_u8(called.len() as u8);
        for Called { addr, outcome } in called {
            match addr.ip() {
                IpAddr::V4(v4) => {
                    out.put_u8(4);
                    out.put_slice(&v4.octets());
                }
                IpAddr::V6(v6) => {
                    out.put_u8(6);
                    out.put_slice(&v6.octets());
                }
            }
            out.put_u16(addr.port());
            match outcome {
                Outcome::Answered(after) => {
                    out.put_u8(0);
                    put_varint(&mut out, u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
                }
                Outcome::Silent => out.put_u8(1),
                Outcome::NotSent => out.put_u8(2),
            }
        }
        out
    }

    /// Reads what a caller told, the whole stream.
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(bytes);
        version(&mut reader)?;
        let refusal = match reader.u8("call back refusal")? {
            0 => None,
            1 => Some(Refusal::Busy),
            2 => Some(Refusal::Off),
            _ => return Err(Invalid::Value { what: "call back refusal" }),
        };
        let unix_ms = u64::from_be_bytes(reader.array("call back time")?);
        let count = usize::from(reader.u8("call back count")?);
        if count > CALLED_ADDRESSES_MAX {
            let (size, max) = (count as u64, CALLED_ADDRESSES_MAX as u64);
            return Err(Invalid::TooLarge { what: "call back count", size, max });
        }
        let called = (0..count).map(|_| called(&mut reader)).collect::<Result<_, _>>()?;
        reader.finish("call back")?;
        Ok(Self { refusal, unix_ms, called })
    }
}

fn version(reader: &mut Reader<'_>) -> Result<(), Invalid> {
    match reader.u8("call back version")? {
        VERSION => Ok(()),
        _ => Err(Invalid::Value { what: "call back version" }),
    }
}

fn called(reader: &mut Reader<'_>) -> Result<Called, Invalid> {
    let ip = match reader.u8("address family")? {
        4 => IpAddr::from(reader.array::<4>("IPv4 address")?),
        6 => IpAddr::from(reader.array::<16>("IPv6 address")?),
        _ => return Err(Invalid::Value { what: "address family" }),
    };
    let addr = SocketAddr::new(ip, reader.u16("port")?);
    let outcome = match reader.u8("call outcome")? {
        0 => Outcome::Answered(Duration::from_micros(reader.varint("call round trip")?)),
        1 => Outcome::Silent,
        2 => Outcome::NotSent,
        _ => return Err(Invalid::Value { what: "call outcome" }),
    };
    Ok(Called { addr, outcome })
}

/// The packet that is sent for `nonce`; `own` are random bytes of the caller.
#[must_use]
pub fn call(nonce: &[u8; 16], own: &[u8; 16]) -> BytesMut {
    let mut out = BytesMut::with_capacity(CALL_BYTES);
    out.put_u8(LONG_HEADER);
    out.put_u32(NO_VERSION);
    for id in [nonce, own] {
        out.put_u8(id.len() as u8);
        out.put_slice(id);
    }
    out.resize(CALL_BYTES, 0);
    out
}

/// Whether `bytes` answer the [`call`] that was made of these two.
#[must_use]
pub fn is_answer(bytes: &[u8], nonce: &[u8; 16], own: &[u8; 16]) -> bool {
    let mut reader = Reader::new(bytes);
    let mut read = || {
        let form = reader.u8("form").ok()?;
        let version = reader.u32("version").ok()?;
        let to = reader.u8("length").ok().filter(|len| *len == 16).and(reader.array::<16>("id").ok())?;
        let from = reader.u8("length").ok().filter(|len| *len == 16).and(reader.array::<16>("id").ok())?;
        Some((form & 0x80 != 0 && version == 0, to, from))
    };
    read() == Some((true, *own, *nonce))
}

/// Who was called back lately.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    served: BTreeMap<DeviceId, Time>,
}

impl Desk {
    /// Whether `peer` is called back now; if so, it is not again for [`CALL_BACK_EVERY`].
    ///
    /// # Errors
    /// [`Refusal::Busy`] if that has not passed, or too many others were called meanwhile.
    pub fn admit(&mut self, now: Time, peer: DeviceId) -> Result<(), Refusal> {
        self.served.retain(|_, at| now.saturating_since(*at) < CALL_BACK_EVERY);
        if self.served.contains_key(&peer) || self.served.len() >= CALL_BACK_PEERS_MAX {
            return Err(Refusal::Busy);
        }
        self.served.insert(peer, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;
    use proptest::prelude::*;

    fn told() -> Told {
        let called = |addr: &str, outcome| Called { addr: addr.parse().unwrap(), outcome };
        Told {
            refusal: None,
            unix_ms: 0x0102_0304_0506_0708,
            called: vec![
                called("192.0.2.7:7843", Outcome::Answered(Duration::from_micros(300))),
                called("[2001:db8::7]:1", Outcome::Silent),
            ],
        }
    }

    #[test]
    fn golden_call_back_has_the_bytes_of_version_1() {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(hex(&Ask { nonce: [7; 16] }.to_bytes()), format!("01{}", "07".repeat(16)));
        let expected = "010001020304050607080204c00002071ea300412c0620010db80000000000000000000000070001 01";
        assert_eq!(hex(&told().to_bytes()), expected.replace(' ', ""));
        let call = call(&[7; 16], &[9; 16]);
        let head = format!("c01a2a3a4a10{}10{}", "07".repeat(16), "09".repeat(16));
        assert_eq!((hex(&call[..39]), call.len()), (head, 1200));
        assert!(call[39..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_request_has_no_place_for_an_address() {
        let mut bytes = Ask { nonce: [7; 16] }.to_bytes().to_vec();
        assert!(Ask::from_bytes(&bytes).is_ok());
        bytes.extend_from_slice(&[4, 192, 0, 2, 9, 0, 53]);
        assert_eq!(Ask::from_bytes(&bytes), Err(Invalid::Trailing { what: "call back", left: 7 }));
    }

    #[test]
    fn only_the_answer_to_this_call_counts() {
        let (nonce, own) = ([7; 16], [9; 16]);
        let answer = |to: &[u8; 16], from: &[u8; 16], version: u32| {
            let mut out = vec![0xc5];
            out.extend_from_slice(&version.to_be_bytes());
            for id in [to, from] {
                out.push(16);
                out.extend_from_slice(id);
            }
            out.extend_from_slice(&[0x0a, 0x1a, 0x2a, 0x3a, 0, 0, 0, 1]);
            out
        };
        assert!(is_answer(&answer(&own, &nonce, 0), &nonce, &own));
        assert!(!is_answer(&answer(&own, &[8; 16], 0), &nonce, &own), "another nonce");
        assert!(!is_answer(&answer(&[8; 16], &nonce, 0), &nonce, &own), "another caller");
        assert!(!is_answer(&answer(&own, &nonce, 1), &nonce, &own), "no version negotiation");
        assert!(!is_answer(&call(&own, &nonce), &nonce, &own), "a call is no answer");
    }

    #[test]
    fn a_device_that_asks_without_end_is_called_once_in_a_while() {
        let mut desk = Desk::default();
        let peer = SecretKey::from_u64(1).id();
        let at = |ms| Time::from_millis(ms);
        assert_eq!(desk.admit(at(0), peer), Ok(()));
        assert!((1..100).all(|ms| desk.admit(at(ms), peer) == Err(Refusal::Busy)));
        let others = (2..40).filter(|n| desk.admit(at(1), SecretKey::from_u64(*n).id()).is_ok()).count();
        assert_eq!(others, CALL_BACK_PEERS_MAX - 1);
        let later = u64::try_from(CALL_BACK_EVERY.as_millis()).unwrap();
        assert_eq!(desk.admit(at(later), peer), Ok(()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_and_what_is_read_is_written_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            if let Ok(ask) = Ask::from_bytes(&bytes) {
                prop_assert_eq!(&ask.to_bytes()[..], &bytes[..]);
            }
            if let Ok(told) = Told::from_bytes(&bytes) {
                prop_assert_eq!(&told.to_bytes()[..], &bytes[..]);
            }
            let _ = is_answer(&bytes, &[0; 16], &[0; 16]);
        }

        #[test]
        fn what_is_told_survives_the_wire(unix_ms: u64, rtt_us in 0..1_u64 << 40, silent: bool) {
            let mut said = told();
            said.unix_ms = unix_ms;
            said.called[0].outcome = if silent { Outcome::Silent } else { Outcome::Answered(Duration::from_micros(rtt_us)) };
            prop_assert_eq!(Told::from_bytes(&said.to_bytes()), Ok(said));
        }
    }
}
