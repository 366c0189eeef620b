//! What the two ends of one IP connection tell each other: deterministic CBOR (ME-C1 to ME-C4 of `docs/wire/mesh.md`).
//!
//! On IP a few dozen bytes cost nothing and formats grow, so here, unlike on radio, fields have names (small numbers)
//! and who does not know one skips it. Everything else is strict: RFC 8949 section 4.2.1 gives each value one encoding,
//! and any other is refused, also in what is skipped. Nothing nests deeper than
//! [`MESH_CONTROL_DEPTH_MAX`](crate::limits::MESH_CONTROL_DEPTH_MAX).

mod cbor;

use bytes::{Bytes, BytesMut};

use self::cbor::{Decoder, Fields, put_array, put_bytes, put_map, put_text, put_uint};
use super::frame::{Caps, IpControl};
use crate::limits::{MESH_CONTROL_BYTES_MAX, MESH_SERVICES_MAX, NAME_BYTES_MAX, PROTOCOL_BYTES_MAX};
use crate::wire::Invalid;
use crate::wire::link::is_protocol_name;

/// The version of the mesh this program speaks.
pub const MESH_VERSION: u16 = 1;

const KEY_TYPE: u64 = 0;
const TYPE_HELLO: u64 = 1;

/// One control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The first thing each end says.
    Hello(Hello),
    /// Something of a later version: ignored.
    Unknown {
        /// Its type.
        kind: u64,
    },
}

/// Who is at this end, and what it speaks and offers. The connection has proved the device already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest mesh version it speaks.
    pub version_min: u16,
    /// Highest mesh version it speaks.
    pub version_max: u16,
    /// What it offers the mesh.
    pub caps: Caps,
    /// Protocols it serves, at most [`MESH_SERVICES_MAX`], in bytewise order, each once.
    pub services: Vec<String>,
    /// Its name for people, at most [`NAME_BYTES_MAX`] bytes; empty if it says none.
    pub name: String,
    /// SHA-256 of its current key package for groups, if it has one.
    pub key_package: Option<[u8; 32]>,
    /// The next number of its messages: where a ratchet of this connection's secret begins to count.
    pub seq: u32,
}

impl Hello {
    /// The version both ends speak: the highest common one, if there is one.
    #[must_use]
    pub fn common_version(&self, other: &Self) -> Option<u16> {
        let version = self.version_max.min(other.version_max);
        (version >= self.version_min.max(other.version_min)).then_some(version)
    }

    /// The control frame that says it. Empty and absent values are left out.
    ///
    /// # Errors
    /// [`Invalid`] if a value is over its limit or out of order: this end's own mistake.
    pub fn encode(&self) -> Result<IpControl, Invalid> {
        let mut out = BytesMut::new();
        let fields = 4
            + u64::from(!self.services.is_empty())
            + u64::from(!self.name.is_empty())
            + u64::from(self.key_package.is_some());
        put_map(&mut out, fields);
        put_uint(&mut out, KEY_TYPE);
        put_uint(&mut out, TYPE_HELLO);
        put_uint(&mut out, 1);
        put_array(&mut out, 2);
        put_uint(&mut out, self.version_min.into());
        put_uint(&mut out, self.version_max.into());
        put_uint(&mut out, 2);
        put_uint(&mut out, self.caps.bits().into());
        if !self.services.is_empty() {
            put_uint(&mut out, 3);
            put_array(&mut out, self.services.len() as u64);
            for service in &self.services {
                put_text(&mut out, service);
            }
        }
        if !self.name.is_empty() {
            put_uint(&mut out, 4);
            put_text(&mut out, &self.name);
        }
        if let Some(hash) = &self.key_package {
            put_uint(&mut out, 5);
            put_bytes(&mut out, hash);
        }
        put_uint(&mut out, 6);
        put_uint(&mut out, self.seq.into());
        let body = out.freeze();
        // What we would refuse we must not say.
        Control::decode(&body)?;
        Ok(IpControl { body })
    }
}

impl Control {
    /// Reads the body of a control frame.
    ///
    /// # Errors
    /// [`Invalid`], naming the field: not deterministic CBOR of this profile, over a limit, or without a field that its
    /// type needs.
    pub fn decode(body: &Bytes) -> Result<Self, Invalid> {
        if body.len() > MESH_CONTROL_BYTES_MAX {
            let (size, max) = (body.len() as u64, MESH_CONTROL_BYTES_MAX as u64);
            return Err(Invalid::TooLarge { what: "IP control", size, max });
        }
        let mut d = Decoder::new(body);
        let mut fields = d.map("IP control")?;
        // Key 0 sorts before every other, so the type is known before anything else is read.
        if fields.next(&mut d)? != Some(KEY_TYPE) {
            return Err(Invalid::Value { what: "IP control type" });
        }
        let control = match d.uint("IP control type")? {
            TYPE_HELLO => Self::Hello(Self::decode_hello(&mut d, &mut fields)?),
            kind => {
                while fields.next(&mut d)?.is_some() {
                    d.skip()?;
                }
                Self::Unknown { kind }
            }
        };
        d.finish("IP control")?;
        Ok(control)
    }

    fn decode_hello(d: &mut Decoder<'_>, fields: &mut Fields) -> Result<Hello, Invalid> {
        let (mut versions, mut caps, mut seq) = (None, None, None);
        let (mut services, mut name, mut key_package) = (Vec::new(), String::new(), None);
        while let Some(key) = fields.next(d)? {
            match key {
                1 => versions = Some(decode_versions(d)?),
                2 => caps = Some(decode_caps(d)?),
                3 => services = decode_services(d)?,
                4 => name = decode_name(d)?,
                5 => {
                    let hash = d.bytes(32, "key package hash")?.try_into();
                    key_package = Some(hash.map_err(|_| Invalid::Value { what: "key package hash" })?);
                }
                6 => seq = Some(number(d, "hello number")?),
                _ => d.skip()?,
            }
        }
        let missing = Invalid::Truncated { what: "hello" };
        let (version_min, version_max) = versions.ok_or(missing)?;
        let (caps, seq) = (caps.ok_or(missing)?, seq.ok_or(missing)?);
        Ok(Hello { version_min, version_max, caps, services, name, key_package, seq })
    }
}

/// An unsigned integer that fits its type.
fn number<T: TryFrom<u64>>(d: &mut Decoder<'_>, what: &'static str) -> Result<T, Invalid> {
    T::try_from(d.uint(what)?).map_err(|_| Invalid::Value { what })
}

fn decode_versions(d: &mut Decoder<'_>) -> Result<(u16, u16), Invalid> {
    const WHAT: &str = "mesh versions";
    if d.array(2, WHAT)? != 2 {
        return Err(Invalid::Value { what: WHAT });
    }
    let (min, max) = (number(d, WHAT)?, number(d, WHAT)?);
    if min == 0 || min > max { Err(Invalid::Value { what: WHAT }) } else { Ok((min, max)) }
}

fn decode_caps(d: &mut Decoder<'_>) -> Result<Caps, Invalid> {
    const WHAT: &str = "capabilities";
    let bits: u8 = number(d, WHAT)?;
    let caps = Caps::from_bits(bits);
    if caps.bits() == bits { Ok(caps) } else { Err(Invalid::Value { what: WHAT }) }
}

fn decode_services(d: &mut Decoder<'_>) -> Result<Vec<String>, Invalid> {
    const WHAT: &str = "services";
    let mut services: Vec<String> = Vec::new();
    for _ in 0..d.array(MESH_SERVICES_MAX, WHAT)? {
        let service = d.text(PROTOCOL_BYTES_MAX, WHAT)?;
        let in_order = services.last().is_none_or(|last| last.as_str() < service);
        if !in_order || !is_protocol_name(service) {
            return Err(Invalid::Value { what: WHAT });
        }
        services.push(service.to_owned());
    }
    if services.is_empty() { Err(Invalid::Value { what: WHAT }) } else { Ok(services) }
}

fn decode_name(d: &mut Decoder<'_>) -> Result<String, Invalid> {
    const WHAT: &str = "hello name";
    let name = d.text(NAME_BYTES_MAX, WHAT)?;
    if name.is_empty() { Err(Invalid::Value { what: WHAT }) } else { Ok(name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER_PERMISSIVE;
    use proptest::prelude::*;

    fn hello() -> Hello {
        Hello {
            version_min: 1,
            version_max: 2,
            caps: Caps::RELAY.and(Caps::STORE),
            services: vec!["honeylink/chat/1".into(), "honeylink/files/1".into()],
            name: "Küche".into(),
            key_package: Some([0xab; 32]),
            seq: 1000,
        }
    }

    fn bytes(hex: &str) -> Bytes {
        HEXLOWER_PERMISSIVE.decode(hex.replace(' ', "").as_bytes()).unwrap().into()
    }

    #[test]
    fn golden_hello_has_the_bytes_of_version_1() {
        let golden = format!(
            "a7 00 01 01 82 01 02 02 03 03 82 70 {} 71 {} 04 66 {} 05 5820 {} 06 1903e8",
            "686f6e65796c696e6b2f636861742f31",
            "686f6e65796c696e6b2f66696c65732f31",
            "4bc3bc636865",
            "ab".repeat(32)
        );
        assert_eq!(hello().encode().unwrap().body, bytes(&golden));
        assert_eq!(Control::decode(&bytes(&golden)), Ok(Control::Hello(hello())));
        let least = Hello {
            version_max: 1,
            caps: Caps::NONE,
            services: vec![],
            name: String::new(),
            key_package: None,
            seq: 0,
            ..hello()
        };
        assert_eq!(least.encode().unwrap().body, bytes("a4 00 01 01 82 01 01 02 00 06 00"));
    }

    #[test]
    fn unknown_fields_and_types_are_skipped() {
        let more = "a7 00 01 01 82 01 01 02 00 06 00 07 f5 18 20 82 20 a1 01 40 18 21 63 616263";
        assert!(matches!(Control::decode(&bytes(more)), Ok(Control::Hello(_))));
        assert_eq!(Control::decode(&bytes("a2 00 18 63 01 f6")), Ok(Control::Unknown { kind: 99 }));
    }

    #[test]
    fn every_other_way_to_write_the_same_is_refused() {
        for (hex, why) in [
            ("a4 00 01 01 82 01 01 02 00 06 1800", "a longer integer than needed"),
            ("a4 00 01 01 82 01 01 06 00 02 00", "keys out of order"),
            ("a5 00 01 01 82 01 01 02 00 02 00 06 00", "a key twice"),
            ("bf 00 01 01 82 01 01 02 00 06 00 ff", "indefinite length"),
            ("a4 00 01 01 9f 01 01 ff 02 00 06 00", "indefinite array"),
            ("a5 00 01 01 82 01 01 02 00 03 80 06 00", "an empty list where none is meant"),
            ("a5 00 01 01 82 01 01 02 00 04 60 06 00", "an empty name where none is meant"),
            ("a5 00 01 01 82 01 01 02 00 06 00 07 f93c00", "a float"),
            ("a5 00 01 01 82 01 01 02 00 06 00 07 c101", "a tag"),
            ("a5 00 01 01 82 01 01 02 00 06 00 07 f818", "a simple value in two bytes"),
            ("a5 00 01 01 82 01 01 02 00 06 00 07 1817", "a longer integer in what is skipped"),
            ("a5 00 01 01 82 01 01 02 00 06 00 07 61ff", "no UTF-8 in what is skipped"),
            ("a5 00 01 01 82 01 01 02 00 06 00 07 a2 01 00 01 00", "a key twice in what is skipped"),
            ("a4 00 01 01 82 02 01 02 00 06 00", "versions the wrong way round"),
            ("a4 00 01 01 82 01 01 02 10 06 00", "a capability that is none"),
            ("a4 00 01 01 82 01 01 02 00 06 00 00", "something left over"),
            ("a3 00 01 01 82 01 01 06 00", "no capabilities"),
            ("a0", "no type"),
        ] {
            assert!(Control::decode(&bytes(hex)).is_err(), "{why}");
        }
    }

    #[test]
    fn depth_and_lengths_are_bounded() {
        let nested = |depth: usize| bytes(&format!("a2 00 18 63 01 {}00", "81".repeat(depth)));
        assert!(Control::decode(&nested(4)).is_ok());
        assert!(matches!(Control::decode(&nested(5)), Err(Invalid::TooLarge { .. })));
        assert!(Control::decode(&bytes("a2 00 18 63 01 9b ffffffffffffffff")).is_err());
        assert!(Control::decode(&bytes("bb ffffffffffffffff 00 01")).is_err());
        assert!(Control::decode(&bytes("a2 00 18 63 01 5b ffffffffffffffff 00")).is_err());
        assert!(Control::decode(&Bytes::from(vec![0; MESH_CONTROL_BYTES_MAX + 1])).is_err());
    }

    #[test]
    fn what_would_be_refused_is_not_said() {
        let long = Hello { name: "x".repeat(64), ..hello() };
        assert!(long.encode().is_err());
        let disordered = Hello { services: vec!["b".into(), "a".into()], ..hello() };
        assert!(disordered.encode().is_err());
    }

    #[test]
    fn two_ends_speak_the_highest_version_both_know() {
        let end = |version_min, version_max| Hello { version_min, version_max, ..hello() };
        assert_eq!(end(1, 3).common_version(&end(2, 5)), Some(3));
        assert_eq!(end(1, 2).common_version(&end(3, 4)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_control_frame_or_an_error(
            head in proptest::option::of(Just(b"\xa7\x00\x01\x01\x82\x01\x01\x02\x00".to_vec())),
            rest in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let body: Bytes = head.into_iter().flatten().chain(rest).collect::<Vec<u8>>().into();
            if let Ok(Control::Hello(hello)) = Control::decode(&body) {
                // Unknown fields are gone; without them the bytes are the same.
                let again = hello.encode().unwrap().body;
                prop_assert!(again.len() <= body.len());
                prop_assert_eq!(Control::decode(&again), Ok(Control::Hello(hello)));
            }
        }

        #[test]
        fn hellos_round_trip(
            versions in any::<[u16; 2]>(), caps in 0_u8..16, seq in any::<u32>(), name in "[a-zä ]{0,20}",
            services in proptest::collection::btree_set("[a-z]{1,20}/[0-9]", 0..8),
            key_package in any::<Option<[u8; 32]>>(),
        ) {
            let [a, b] = versions.map(|version| version.max(1));
            let hello = Hello {
                version_min: a.min(b), version_max: a.max(b), caps: Caps::from_bits(caps), seq, name, key_package,
                services: services.into_iter().collect(),
            };
            let frame = hello.encode().unwrap();
            prop_assert_eq!(Control::decode(&frame.body), Ok(Control::Hello(hello)));
        }
    }
}
