//! What a device says about itself in a DNS-SD TXT record (RFC 6763 section 6), and the same fields for other finders.
//!
//! | key | value | may be missing |
//! |---|---|---|
//! | `id` | device id, 64 hex digits | no |
//! | `name` | name for people, UTF-8, at most [`NAME_BYTES_MAX`] bytes | yes: shown by its short id |
//! | `type` | one word of [`DeviceType`] | yes: `desktop` |
//! | `ver` | program version, visible ASCII, at most [`VERSION_BYTES_MAX`] bytes | yes |
//! | `caps` | [`Capabilities`], hex | yes: none |
//! | `pair` | `open`, or the number in front of a pairing code that waits here | yes: not pairing |
//!
//! Keys compare without case, the first of two equal keys counts, unknown keys are skipped: RFC 6763 asks for all three.
//! Nothing in the record is trusted. Only `id` can make a record invalid; a damaged decoration is dropped and the rest
//! is used, so that a newer program's word never hides a device from an older one.

use crate::identity::{DeviceId, DeviceType, InvalidId};
use crate::limits::{NAME_BYTES_MAX, VERSION_BYTES_MAX};

use super::name::displayable;

/// Pairs of a record that are looked at; ours has six.
const PAIRS_READ_MAX: usize = 32;

/// What a device offers, as a set of bits. A hint for symbols and sorting: what really works is settled on the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capabilities(u32);

impl Capabilities {
    /// Offers nothing in particular.
    pub const NONE: Self = Self(0);
    /// Receives files.
    pub const FILES: Self = Self(1);
    /// Receives messages.
    pub const CHAT: Self = Self(1 << 1);
    /// Shares a clipboard.
    pub const CLIPBOARD: Self = Self(1 << 2);
    /// Offers tunnels to services.
    pub const TUNNEL: Self = Self(1 << 3);
    /// Relays for paired peers.
    pub const RELAY: Self = Self(1 << 4);
    /// Takes part in the mesh.
    pub const MESH: Self = Self(1 << 5);

    /// The set with these bits; unknown bits are kept, they belong to newer versions.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every bit of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Whether a device waits for someone to pair with it just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PairingHint {
    /// Not pairing.
    #[default]
    Closed,
    /// Waiting, with a code that names no number, or by showing words to compare.
    Open,
    /// Waiting with a code that begins with this number: who types the code knows which device to ask.
    Nameplate(u16),
}

/// Everything a device says about itself; the value of a TXT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxtRecord {
    /// The identity it claims. Proved only by a handshake.
    pub id: DeviceId,
    /// Name for people, fit to be shown; empty if it gave none.
    pub name: String,
    /// What kind of machine.
    pub device_type: DeviceType,
    /// Program version; empty if it gave none.
    pub version: String,
    /// What it offers.
    pub caps: Capabilities,
    /// Whether it waits for pairing.
    pub pairing: PairingHint,
}

/// Why a TXT record names no device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTxt {
    /// No `id` key.
    #[error("the TXT record has no id")]
    NoId,
    /// The `id` is not a device id.
    #[error("the TXT record's id is not usable: {0}")]
    Id(#[from] InvalidId),
}

impl TxtRecord {
    /// Reads the key/value pairs of a TXT record.
    ///
    /// # Errors
    /// [`InvalidTxt`] if there is no usable `id`; any other damage only drops the damaged value.
    pub fn parse(pairs: &[(&str, &[u8])]) -> Result<Self, InvalidTxt> {
        let text = |wanted: &str| -> Option<&str> {
            let seen = pairs.iter().take(PAIRS_READ_MAX);
            let value =
                seen.filter(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value).next()?;
            core::str::from_utf8(value).ok()
        };
        let id = text("id").ok_or(InvalidTxt::NoId)?.parse()?;
        Ok(Self {
            id,
            name: text("name").map(displayable).unwrap_or_default(),
            device_type: text("type").and_then(|t| t.parse().ok()).unwrap_or_default(),
            version: text("ver").map(version_of).unwrap_or_default(),
            caps: text("caps")
                .and_then(|c| u32::from_str_radix(c, 16).ok())
                .map(Capabilities)
                .unwrap_or_default(),
            pairing: text("pair").map(pairing_of).unwrap_or_default(),
        })
    }

    /// The pairs to publish, in the order of the table above. Every value obeys its limit whatever the fields hold.
    #[must_use]
    pub fn encode(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![("id", self.id.to_string())];
        let name = displayable(&self.name);
        debug_assert!(name.len() <= NAME_BYTES_MAX);
        if !name.is_empty() {
            pairs.push(("name", name));
        }
        pairs.push(("type", self.device_type.as_str().to_owned()));
        let version = version_of(&self.version);
        if !version.is_empty() {
            pairs.push(("ver", version));
        }
        if self.caps != Capabilities::NONE {
            pairs.push(("caps", format!("{:x}", self.caps.bits())));
        }
        match self.pairing {
            PairingHint::Closed => {}
            PairingHint::Open => pairs.push(("pair", "open".to_owned())),
            PairingHint::Nameplate(number) => pairs.push(("pair", number.to_string())),
        }
        pairs
    }
}

fn version_of(text: &str) -> String {
    text.chars().take(VERSION_BYTES_MAX).take_while(char::is_ascii_graphic).collect()
}

fn pairing_of(text: &str) -> PairingHint {
    match text {
        "open" => PairingHint::Open,
        number => number.parse().map_or(PairingHint::Closed, PairingHint::Nameplate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;
    use proptest::prelude::*;

    fn studio() -> TxtRecord {
        TxtRecord {
            id: SecretKey::from_u64(1).id(),
            name: "studio".to_owned(),
            device_type: DeviceType::Laptop,
            version: "0.1.0".to_owned(),
            caps: Capabilities::FILES.with(Capabilities::CHAT).with(Capabilities::RELAY),
            pairing: PairingHint::Nameplate(7),
        }
    }

    fn borrow(pairs: &[(&'static str, String)]) -> Vec<(&'static str, Vec<u8>)> {
        pairs.iter().map(|(k, v)| (*k, v.as_bytes().to_vec())).collect()
    }

    fn parse_owned<K: AsRef<str>>(pairs: &[(K, Vec<u8>)]) -> Result<TxtRecord, InvalidTxt> {
        let borrowed: Vec<_> = pairs.iter().map(|(k, v)| (k.as_ref(), v.as_slice())).collect();
        TxtRecord::parse(&borrowed)
    }

    /// The published form: a change here is a change of what older versions see.
    #[test]
    fn golden_pairs() {
        let mut device = studio();
        device.id = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".parse().unwrap();
        let text: Vec<String> = device.encode().into_iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            text,
            [
                "id=d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "name=studio",
                "type=laptop",
                "ver=0.1.0",
                "caps=13",
                "pair=7",
            ]
        );
    }

    #[test]
    fn only_the_id_can_make_a_record_invalid() {
        assert_eq!(TxtRecord::parse(&[("name", b"x")]), Err(InvalidTxt::NoId));
        assert_eq!(TxtRecord::parse(&[("id", b"abc")]), Err(InvalidTxt::Id(InvalidId::Length(3))));
        let id = studio().id.to_string();
        let damaged = [
            ("ID", id.as_bytes()),
            ("name", &[0xff, 0xfe][..]),
            ("type", b"toaster"),
            ("ver", b"1.0\n\x1b[2J"),
            ("caps", b"-1"),
            ("pair", b"99999999"),
            ("future", b"\0"),
        ];
        let read = TxtRecord::parse(&damaged).unwrap();
        assert_eq!((read.name.as_str(), read.version.as_str()), ("", "1.0"));
        assert_eq!((read.device_type, read.caps), (DeviceType::Desktop, Capabilities::NONE));
        assert_eq!(read.pairing, PairingHint::Closed);
    }

    #[test]
    fn the_first_of_two_equal_keys_counts() {
        let (one, two) = (SecretKey::from_u64(1).id(), SecretKey::from_u64(2).id());
        let (first, second) = (one.to_string(), two.to_string());
        let read = TxtRecord::parse(&[("id", first.as_bytes()), ("id", second.as_bytes())]).unwrap();
        assert_eq!(read.id, one);
    }

    proptest! {
        #[test]
        fn what_is_published_is_what_is_read(
            seed in any::<u64>(), name in ".{0,80}", kind in 0..6_usize, caps in any::<u32>(),
            pairing in prop_oneof![
                Just(PairingHint::Closed), Just(PairingHint::Open), any::<u16>().prop_map(PairingHint::Nameplate)
            ],
        ) {
            let record = TxtRecord {
                id: SecretKey::from_u64(seed).id(),
                name: displayable(&name),
                device_type: DeviceType::ALL[kind],
                version: "1.2.3-beta".to_owned(),
                caps: Capabilities::from_bits(caps),
                pairing,
            };
            let pairs = record.encode();
            prop_assert!(pairs.iter().all(|(k, v)| k.len() + 1 + v.len() <= 255));
            prop_assert_eq!(parse_owned(&borrow(&pairs)), Ok(record));
        }

        #[test]
        fn no_pairs_make_the_reader_panic(
            mut pairs in proptest::collection::vec(
                ("id|name|type|ver|caps|pair|.{0,8}", proptest::collection::vec(any::<u8>(), 0..300)), 0..40)
        ) {
            let _ = parse_owned(&pairs);
            pairs.insert(0, ("id".to_owned(), studio().id.to_string().into_bytes()));
            let read = parse_owned(&pairs).unwrap();
            prop_assert!(read.name.len() <= NAME_BYTES_MAX && read.version.len() <= VERSION_BYTES_MAX);
        }
    }
}
