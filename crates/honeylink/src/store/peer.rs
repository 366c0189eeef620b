//! What is remembered of one peer, and its bytes on disk (record version 2).
//!
//! ```text
//! trust (1) type (1) method (1) first_seen (varint, unix ms) last_seen (varint, unix ms)
//! name (text) announced_name (text) notes (text) grants (bytes)
//! count (varint) { kind (1): 4 -> address (4) port (2)
//!                            6 -> address (16) port (2) scope (4) }
//! relays (see honeylink_core::wire::relay); version 1 ends before them
//! ```
//!
//! Integers are big-endian, `text` and `bytes` carry a varint length. The id is the key, not part of the record.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bytes::{BufMut as _, BytesMut};
use honeylink_core::identity::{DeviceId, DeviceType};
use honeylink_core::limits::{ADDRESSES_PER_DEVICE_MAX, NAME_BYTES_MAX, RELAYS_PER_DEVICE_MAX};
use honeylink_core::wire::relay::{RelayAddr, put_relays, read_relays};
use honeylink_core::wire::{Invalid, Reader, put_bytes, put_varint};

use super::grants::Grants;
use super::limits::NOTE_BYTES_MAX;
use super::names::Candidate;
use super::record::{self, RecordError};

/// Name of the table, part of every record's check.
pub(super) const TABLE: &str = "peers";
/// The record version written, and the newest read.
const RECORD_VERSION: u8 = 2;

/// How far a peer is trusted. The order is the order of the ladder; [`Trust::Revoked`] is off it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// Heard of; proves nothing and may do nothing.
    Seen,
    /// A pairing ceremony bound this key to a device the user chose.
    Paired,
    /// The user also compared the short authentication string.
    Verified,
    /// Never to be trusted again. There is no way back.
    Revoked,
}

impl Trust {
    /// The word used on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Paired => "paired",
            Self::Verified => "verified",
            Self::Revoked => "revoked",
        }
    }

    /// Whether links to and from the peer are allowed.
    #[must_use]
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Paired | Self::Verified)
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a peer was paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PairingMethod {
    /// A short code typed by a person.
    Code,
    /// A QR code or link that carried the key and a one-time secret.
    Qr,
    /// A short authentication string compared by two people.
    Sas,
    /// An NFC tag.
    Nfc,
}

impl PairingMethod {
    /// The word used on the command line, in the audit log and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Qr => "qr",
            Self::Sas => "sas",
            Self::Nfc => "nfc",
        }
    }
}

impl fmt::Display for PairingMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What this device remembers of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// Its id, which is its public key.
    pub id: DeviceId,
    /// The name the user knows it by. Unique among paired and revoked peers.
    pub name: String,
    /// The name it gives itself, cleaned. Empty if it never said.
    pub announced_name: String,
    /// What kind of machine it says it is.
    pub device_type: DeviceType,
    /// How far it is trusted.
    pub trust: Trust,
    /// When it was first seen, in milliseconds since 1970 (UTC).
    pub first_seen: u64,
    /// When it was last seen, in milliseconds since 1970 (UTC).
    pub last_seen: u64,
    /// How it was paired, if it ever was.
    pub method: Option<PairingMethod>,
    /// What the user wrote down about it.
    pub notes: String,
    /// What it may do.
    pub grants: Grants,
    /// Where an authenticated connection to it last worked, the latest first.
    pub addresses: Vec<SocketAddr>,
    /// The relays through which it said it is reached; at most [`RELAYS_PER_DEVICE_MAX`].
    pub relays: Vec<RelayAddr>,
}

impl PeerRecord {
    /// A device seen for the first time.
    #[must_use]
    pub fn seen(id: DeviceId, now_unix_ms: u64) -> Self {
        Self {
            id,
            name: id.short(),
            announced_name: String::new(),
            device_type: DeviceType::default(),
            trust: Trust::Seen,
            first_seen: now_unix_ms,
            last_seen: now_unix_ms,
            method: None,
            notes: String::new(),
            grants: Grants::none(),
            addresses: Vec::new(),
            relays: Vec::new(),
        }
    }

    pub(super) fn candidate(&self) -> Candidate {
        Candidate { id: self.id, name: self.name.clone(), trust: self.trust }
    }

    /// Puts an address that just worked first and drops the oldest beyond the limit.
    pub(super) fn remember_address(&mut self, address: SocketAddr) {
        self.addresses.retain(|known| *known != address);
        self.addresses.insert(0, address);
        self.addresses.truncate(ADDRESSES_PER_DEVICE_MAX);
    }

    /// Replaces the relays by those of a newer word; says whether that changed anything.
    pub(super) fn remember_relays(&mut self, relays: &[RelayAddr]) -> bool {
        let relays = relays.get(..RELAYS_PER_DEVICE_MAX).unwrap_or(relays);
        let changed = self.relays != relays;
        if changed {
            self.relays = relays.to_vec();
        }
        changed
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(match self.trust {
            Trust::Seen => 0,
            Trust::Paired => 1,
            Trust::Verified => 2,
            Trust::Revoked => 3,
        });
        out.put_u8(type_code(self.device_type));
        out.put_u8(match self.method {
            None => 0,
            Some(PairingMethod::Code) => 1,
            Some(PairingMethod::Qr) => 2,
            Some(PairingMethod::Sas) => 3,
            Some(PairingMethod::Nfc) => 4,
        });
        put_varint(&mut out, self.first_seen);
        put_varint(&mut out, self.last_seen);
        put_bytes(&mut out, self.name.as_bytes());
        put_bytes(&mut out, self.announced_name.as_bytes());
        put_bytes(&mut out, self.notes.as_bytes());
        out.put_slice(&self.grants.encode());
        put_varint(&mut out, self.addresses.len() as u64);
        for address in &self.addresses {
            put_address(&mut out, address);
        }
        put_relays(&mut out, &self.relays);
        record::seal(TABLE, self.id.as_bytes(), RECORD_VERSION, &out)
    }

    pub(super) fn decode(key: &[u8; 32], bytes: &[u8]) -> Result<Self, RecordError> {
        let (version, mut reader) = record::open(TABLE, key, RECORD_VERSION, bytes)?;
        let record = Self::decode_body(key, version, &mut reader)?;
        reader.finish("peer record")?;
        Ok(record)
    }

    fn decode_body(key: &[u8; 32], version: u8, reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        let id = DeviceId::from_bytes(*key).map_err(|_| Invalid::Value { what: "peer id" })?;
        let trust = match reader.u8("trust")? {
            0 => Trust::Seen,
            1 => Trust::Paired,
            2 => Trust::Verified,
            3 => Trust::Revoked,
            _ => return Err(Invalid::Value { what: "trust" }),
        };
        let device_type = type_of(reader.u8("device type")?)?;
        let method = match reader.u8("pairing method")? {
            0 => None,
            1 => Some(PairingMethod::Code),
            2 => Some(PairingMethod::Qr),
            3 => Some(PairingMethod::Sas),
            4 => Some(PairingMethod::Nfc),
            _ => return Err(Invalid::Value { what: "pairing method" }),
        };
        Ok(Self {
            id,
            trust,
            device_type,
            method,
            first_seen: reader.varint("first seen")?,
            last_seen: reader.varint("last seen")?,
            name: reader.text(NAME_BYTES_MAX, "name")?.to_owned(),
            announced_name: reader.text(NAME_BYTES_MAX, "announced name")?.to_owned(),
            notes: reader.text(NOTE_BYTES_MAX, "notes")?.to_owned(),
            grants: Grants::decode(reader)?,
            addresses: addresses(reader)?,
            relays: if version < 2 { Vec::new() } else { read_relays(reader)? },
        })
    }
}

fn addresses(reader: &mut Reader<'_>) -> Result<Vec<SocketAddr>, Invalid> {
    let what = "addresses";
    let size = reader.varint(what)?;
    let max = ADDRESSES_PER_DEVICE_MAX as u64;
    if size > max {
        return Err(Invalid::TooLarge { what, size, max });
    }
    (0..size).map(|_| address(reader)).collect()
}

fn address(reader: &mut Reader<'_>) -> Result<SocketAddr, Invalid> {
    let what = "address";
    match reader.u8(what)? {
        4 => {
            let ip = Ipv4Addr::from(reader.array::<4>(what)?);
            Ok(SocketAddr::from((ip, reader.u16(what)?)))
        }
        6 => {
            let ip = Ipv6Addr::from(reader.array::<16>(what)?);
            let port = reader.u16(what)?;
            // The flow label means nothing to a later connection; the scope names the interface of a link-local address.
            Ok(SocketAddrV6::new(ip, port, 0, reader.u32(what)?).into())
        }
        _ => Err(Invalid::Value { what }),
    }
}

fn put_address(out: &mut BytesMut, address: &SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            out.put_u8(4);
            out.put_slice(&v4.ip().octets());
            out.put_u16(v4.port());
        }
        SocketAddr::V6(v6) => {
            out.put_u8(6);
            out.put_slice(&v6.ip().octets());
            out.put_u16(v6.port());
            out.put_u32(v6.scope_id());
        }
    }
}

const fn type_code(device_type: DeviceType) -> u8 {
    match device_type {
        DeviceType::Desktop => 0,
        DeviceType::Laptop => 1,
        DeviceType::Phone => 2,
        DeviceType::Tablet => 3,
        DeviceType::Server => 4,
        DeviceType::Embedded => 5,
    }
}

fn type_of(code: u8) -> Result<DeviceType, Invalid> {
    DeviceType::ALL
        .into_iter()
        .find(|device_type| type_code(*device_type) == code)
        .ok_or(Invalid::Value { what: "device type" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::grants::GrantChange;
    use data_encoding::HEXLOWER;
    use honeylink_core::identity::SecretKey;
    use proptest::prelude::*;

    fn example() -> PeerRecord {
        let mut record = PeerRecord::seen(SecretKey::from_u64(1).id(), 1_700_000_000_000);
        record.last_seen = 1_700_000_100_000;
        record.name = "studio".to_owned();
        record.announced_name = "Studio Mac".to_owned();
        record.device_type = DeviceType::Laptop;
        record.trust = Trust::Verified;
        record.method = Some(PairingMethod::Qr);
        record.notes = "on the shelf".to_owned();
        record.grants = Grants::after_pairing();
        record.grants.apply(&"tunnel:web=yes".parse::<GrantChange>().unwrap()).unwrap();
        record.addresses = vec!["192.0.2.7:7843".parse().unwrap(), "[2001:db8::7]:7843".parse().unwrap()];
        record.relays = vec!["https://r.org:8443#000102030405060708090a0b0c0d0e0f".parse().unwrap()];
        record
    }

    /// These bytes are on people's disks. A change here needs a new record version and a reader for this one.
    #[test]
    fn record_version_2_has_these_bytes() {
        let bytes = example().encode();
        let (body, check) = bytes.split_at(GOLDEN_BODY.len() / 2 + GOLDEN_RELAYS.len() / 2);
        assert_eq!(HEXLOWER.encode(body), format!("{GOLDEN_BODY}{GOLDEN_RELAYS}"));
        assert_eq!(check.len(), 8);
        assert_eq!(PeerRecord::decode(example().id.as_bytes(), &example().encode()), Ok(example()));
    }

    #[test]
    fn a_record_of_version_1_is_still_read() {
        let bytes = HEXLOWER.decode(GOLDEN_1.as_bytes()).unwrap();
        let mut without = example();
        without.relays.clear();
        assert_eq!(PeerRecord::decode(example().id.as_bytes(), &bytes), Ok(without));
    }

    const GOLDEN_BODY: &str = concat!(
        "02",                                             // record version
        "020102",                                         // verified, laptop, by QR
        "c000018bcfe56800c000018bcfe6eea0",               // first and last seen
        "0673747564696f",                                 // name
        "0a53747564696f204d6163",                         // announced name
        "0c6f6e20746865207368656c66",                     // notes
        "14010101020101030100040100050100",               // files=ask chat=yes clipboard=no pipe=no relay=no
        "0603776562",                                     // tunnel:web
        "0204c00002071ea3",                               // two addresses: 192.0.2.7:7843
        "0620010db80000000000000000000000071ea300000000", // [2001:db8::7]:7843
    );
    /// One relay: `r.org` with a port and a pin.
    const GOLDEN_RELAYS: &str = "010505722e6f726720fb000102030405060708090a0b0c0d0e0f";

    const GOLDEN_1: &str = concat!(
        "01",                                             // record version
        "020102",                                         // verified, laptop, by QR
        "c000018bcfe56800c000018bcfe6eea0",               // first and last seen
        "0673747564696f",                                 // name
        "0a53747564696f204d6163",                         // announced name
        "0c6f6e20746865207368656c66",                     // notes
        "14010101020101030100040100050100",               // files=ask chat=yes clipboard=no pipe=no relay=no
        "0603776562",                                     // tunnel:web
        "0204c00002071ea3",                               // two addresses: 192.0.2.7:7843
        "0620010db80000000000000000000000071ea300000000", // [2001:db8::7]:7843
        "43194861b60f7d00",                               // check
    );

    #[test]
    fn an_address_that_works_again_moves_to_the_front_and_the_oldest_leaves() {
        let mut record = example();
        for port in 0..40 {
            record.remember_address(SocketAddr::from(([192, 0, 2, 1], port)));
        }
        record.remember_address(SocketAddr::from(([192, 0, 2, 1], 30)));
        assert_eq!(record.addresses.len(), ADDRESSES_PER_DEVICE_MAX);
        assert_eq!(record.addresses[0].port(), 30);
        assert_eq!(record.addresses[1].port(), 39);
    }

    fn any_address() -> impl Strategy<Value = SocketAddr> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
            (any::<[u8; 16]>(), any::<u16>(), any::<u32>()).prop_map(|(ip, port, scope)| SocketAddrV6::new(
                ip.into(),
                port,
                0,
                scope
            )
            .into()),
        ]
    }

    fn any_grants(rights: [bool; 4]) -> Grants {
        let mut grants = Grants::none();
        [grants.chat, grants.clipboard, grants.pipe, grants.relay] = rights;
        grants
    }

    prop_compose! {
        fn any_record()(
            seed: u64,
            texts in ("\\PC{0,15}", "\\PC{0,15}", "\\PC{0,200}"),
            times in (0..1_u64 << 62, 0..1_u64 << 62),
            kind in 0..DeviceType::ALL.len(),
            trust in prop::sample::select(vec![Trust::Seen, Trust::Paired, Trust::Verified, Trust::Revoked]),
            method in prop::sample::select(vec![None, Some(PairingMethod::Code), Some(PairingMethod::Qr),
                Some(PairingMethod::Sas), Some(PairingMethod::Nfc)]),
            addresses in prop::collection::vec(any_address(), 0..ADDRESSES_PER_DEVICE_MAX),
            rights in any::<[bool; 4]>(),
            relays in prop::collection::vec("https://[a-z]{1,9}\\.org(:[1-9]{3})?(#[0-9a-f]{32})?", 0..RELAYS_PER_DEVICE_MAX),
        ) -> PeerRecord {
            PeerRecord {
                id: SecretKey::from_u64(seed).id(),
                name: texts.0,
                announced_name: texts.1,
                notes: texts.2,
                first_seen: times.0,
                last_seen: times.1,
                device_type: DeviceType::ALL[kind],
                trust,
                method,
                addresses,
                relays: relays.iter().map(|text| text.parse().unwrap()).collect(),
                grants: any_grants(rights),
            }
        }
    }

    proptest! {
        #[test]
        fn every_record_comes_back_as_it_was_written(record in any_record()) {
            prop_assert_eq!(PeerRecord::decode(record.id.as_bytes(), &record.encode()), Ok(record));
        }

        /// Behind a correct checksum too, so that the body's parser is reached and not only the envelope's.
        #[test]
        fn no_body_makes_the_decoder_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let id = SecretKey::from_u64(1).id();
            let sealed = record::seal(TABLE, id.as_bytes(), RECORD_VERSION, &BytesMut::from(&body[..]));
            let _ = PeerRecord::decode(id.as_bytes(), &sealed);
        }

        #[test]
        fn a_changed_byte_in_a_body_decodes_or_is_refused(at: prop::sample::Index, to: u8) {
            let record = example();
            let sealed = record.encode();
            let mut body = BytesMut::from(&sealed[1..sealed.len() - 8]);
            let at = at.index(body.len());
            body[at] = to;
            let _ = PeerRecord::decode(
                record.id.as_bytes(),
                &record::seal(TABLE, record.id.as_bytes(), RECORD_VERSION, &body),
            );
        }
    }
}
