//! What notes say, and their bytes.
//!
//! ```text
//! note        = MAC [16] | body [496], sealed
//! body        = whereabouts | zeros                                    for a paired device
//!             = 00 | zeros  or  01 | host id [32] | whereabouts | zeros    for a code
//! whereabouts = relays (a counted list, LK-R1) | count u8 | addresses
//! address     = 04 | IPv4 [4] | port u16  or  06 | IPv6 [16] | port u16
//! ```

use core::net::{IpAddr, SocketAddr};

use bytes::{BufMut as _, BytesMut};

use super::{BODY_BYTES, NoteRefused, Place};
use crate::identity::DeviceId;
use crate::limits::{RELAYS_PER_DEVICE_MAX, WIDE_ADDRESSES_MAX};
use crate::wire::relay::{RelayAddr, put_relays, read_relays};
use crate::wire::{Invalid, Reader};

/// A code that is not open any more.
const GONE: u8 = 0;
/// A code that is open.
const OPEN: u8 = 1;

/// Where a device can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Addresses, the best first.
    pub addrs: Vec<SocketAddr>,
    /// Relays, the best first.
    pub relays: Vec<RelayAddr>,
}

impl Whereabouts {
    /// The same without what the limits leave no room for: the last relays, then the last addresses (WA-N4).
    #[must_use]
    pub fn fitted(&self) -> Self {
        let most = |len: usize, max: usize| len.min(max);
        let mut relays = self.relays[..most(self.relays.len(), RELAYS_PER_DEVICE_MAX)].to_vec();
        let mut addrs = self.addrs[..most(self.addrs.len(), WIDE_ADDRESSES_MAX)].to_vec();
        // A code's note is the longer of the two.
        let room = BODY_BYTES - 1 - DeviceId::LEN;
        loop {
            let fitted = Self { addrs, relays };
            let mut bytes = BytesMut::new();
            fitted.put(&mut bytes);
            if bytes.len() <= room {
                return fitted;
            }
            Self { addrs, relays } = fitted;
            if relays.pop().is_none() {
                addrs.pop();
            }
        }
    }

    /// The note that says it to a paired device, for the place where that device looks. `seq` is the number under which it
    /// is stored; it counts upwards.
    #[must_use]
    pub fn seal(&self, place: &Place, seq: u64) -> Vec<u8> {
        let mut bytes = BytesMut::with_capacity(BODY_BYTES);
        self.fitted().put(&mut bytes);
        place.seal(seq, padded(&bytes))
    }

    /// Reads a note that a paired device left.
    ///
    /// # Errors
    /// [`NoteRefused`] says why it is not believed.
    pub fn open(place: &Place, seq: u64, note: &[u8]) -> Result<Self, NoteRefused> {
        Ok(Self::from_body(&place.open(seq, note)?)?)
    }

    /// Reads what stands in a note once its seal is off.
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn from_body(body: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(body);
        let said = Self::read(&mut reader)?;
        rest_is_zero(&mut reader)?;
        Ok(said)
    }

    fn put(&self, out: &mut BytesMut) {
        put_relays(out, &self.relays);
        out.put_u8(u8::try_from(self.addrs.len()).unwrap_or(u8::MAX));
        for addr in &self.addrs {
            match addr.ip() {
                IpAddr::V4(ip) => {
                    out.put_u8(4);
                    out.put_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.put_u8(6);
                    out.put_slice(&ip.octets());
                }
            }
            out.put_u16(addr.port());
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        let relays = read_relays(reader)?;
        let what = "addresses";
        let size = reader.u8(what)?;
        if usize::from(size) > WIDE_ADDRESSES_MAX {
            return Err(Invalid::TooLarge { what, size: size.into(), max: WIDE_ADDRESSES_MAX as u64 });
        }
        let addrs = (0..size).map(|_| read_addr(reader)).collect::<Result<_, _>>()?;
        Ok(Self { addrs, relays })
    }
}

/// What is said under the number of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeNote {
    /// The code is open, at this device, there.
    Open(DeviceId, Whereabouts),
    /// It was, and is not any more.
    Gone,
}

impl CodeNote {
    /// The note for [`super::of_code`].
    #[must_use]
    pub fn seal(&self, place: &Place, seq: u64) -> Vec<u8> {
        let mut bytes = BytesMut::with_capacity(BODY_BYTES);
        match self {
            Self::Gone => bytes.put_u8(GONE),
            Self::Open(host, at) => {
                bytes.put_u8(OPEN);
                bytes.put_slice(host.as_bytes());
                at.fitted().put(&mut bytes);
            }
        }
        place.seal(seq, padded(&bytes))
    }

    /// Reads such a note.
    ///
    /// # Errors
    /// [`NoteRefused`] says why it is not believed.
    pub fn open(place: &Place, seq: u64, note: &[u8]) -> Result<Self, NoteRefused> {
        Ok(Self::from_body(&place.open(seq, note)?)?)
    }

    /// Reads what stands in such a note once its seal is off, which anybody can take off.
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn from_body(body: &[u8]) -> Result<Self, Invalid> {
        let mut reader = Reader::new(body);
        let said = match reader.u8("code note")? {
            GONE => Self::Gone,
            OPEN => {
                let host = DeviceId::from_bytes(reader.array("device id")?)
                    .map_err(|_| Invalid::Value { what: "device id" })?;
                Self::Open(host, Whereabouts::read(&mut reader)?)
            }
            _ => return Err(Invalid::Value { what: "code note" }),
        };
        rest_is_zero(&mut reader)?;
        Ok(said)
    }
}

fn read_addr(reader: &mut Reader<'_>) -> Result<SocketAddr, Invalid> {
    let ip: IpAddr = match reader.u8("address family")? {
        4 => reader.array::<4>("address")?.into(),
        6 => reader.array::<16>("address")?.into(),
        _ => return Err(Invalid::Value { what: "address family" }),
    };
    let port = reader.u16("port")?;
    // Nothing can be sent there, so it is no address.
    if port == 0 || ip.is_unspecified() || ip.is_multicast() {
        return Err(Invalid::Value { what: "address" });
    }
    Ok(SocketAddr::new(ip, port))
}

/// What stands there, and zeros: a note's length says nothing (WA-N1).
fn padded(bytes: &[u8]) -> [u8; BODY_BYTES] {
    let mut body = [0; BODY_BYTES];
    let len = bytes.len().min(BODY_BYTES);
    body[..len].copy_from_slice(&bytes[..len]);
    body
}

fn rest_is_zero(reader: &mut Reader<'_>) -> Result<(), Invalid> {
    let rest = reader.take(reader.remaining(), "zeros")?;
    if rest.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(Invalid::Value { what: "zeros" }) }
}
