//! Invites: what a QR code or a link carries, so that scanning replaces typing and finding the device.
//!
//! The text `HONEYLINK:P/<base32>` uses only the alphanumeric set of QR codes (ISO/IEC 18004 section 7.4.4), which packs
//! 5.5 bits a character; with three IPv4 addresses it is 121 characters, a code that fits an 80x24 terminal. The link
//! form `honeylink:p#<base32>` keeps the secret in the fragment, which browsers never send to a server.
//!
//! Bytes of version 1: one byte with the version (high four bits) and the purpose (low four), the host's key (32), the
//! one-time secret (16), one byte with two bits for each of three addresses (0 none, 1 IPv4, 2 IPv6, lowest bits first)
//! and in its highest two bits the number of relays (0 or 1), then the addresses, each 4 or 16 bytes and a big-endian
//! port, then the relay ([`crate::wire::relay`]).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BytesMut;
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::{Hint, Purpose, Secret, kdf};
use crate::identity::DeviceId;
use crate::limits::{INVITE_ADDRESSES_MAX, INVITE_TEXT_BYTES_MAX};
use crate::rng::Rng;
use crate::wire::relay::RelayAddr;
use crate::wire::{Invalid, Reader};

const QR_PREFIX: &str = "HONEYLINK:P/";
const LINK_PREFIX: &str = "honeylink:p#";
/// A web page that hands invites on has this path, whatever its host.
const WEB_FRAGMENT: &str = "/p#";
/// Where the number of relays stands in the byte of the addresses' kinds.
const RELAYS_SHIFT: u8 = 6;

/// An invite from one host. The secret is wiped on drop and never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    purpose: Purpose,
    host: DeviceId,
    secret: Zeroizing<[u8; 16]>,
    addresses: Vec<SocketAddr>,
    relay: Option<RelayAddr>,
}

/// Why some text is not an invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInvite {
    /// Another kind of text.
    #[error("an invite starts with {QR_PREFIX}")]
    NotAnInvite,
    /// Longer than any invite.
    #[error("an invite has at most {INVITE_TEXT_BYTES_MAX} characters")]
    TooLong,
    /// A character base32 does not have; probably a scan or copy error.
    #[error("the invite holds characters it cannot have; scan or copy it again")]
    Encoding,
    /// Made by a newer HoneyLink.
    #[error("this invite is of version {0}, which this HoneyLink does not know; update it")]
    Version(u8),
    /// Cut short or damaged.
    #[error("the invite is damaged ({0}); scan or copy it again")]
    Damaged(Invalid),
}

impl Invite {
    /// A new invite with a fresh secret. Addresses beyond the first three are left out: they only speed things up.
    #[must_use]
    pub fn generate(rng: &mut Rng, purpose: Purpose, host: DeviceId, addresses: &[SocketAddr]) -> Self {
        Self::with_secret(purpose, host, Zeroizing::new(rng.bytes()), addresses)
    }

    pub(super) fn with_secret(
        purpose: Purpose,
        host: DeviceId,
        secret: Zeroizing<[u8; 16]>,
        addresses: &[SocketAddr],
    ) -> Self {
        // Scope ids and flow labels mean nothing on another machine, so addresses are kept without them.
        let addresses =
            addresses.iter().take(INVITE_ADDRESSES_MAX).map(|a| SocketAddr::new(a.ip(), a.port())).collect();
        Self { purpose, host, secret, addresses, relay: None }
    }

    /// The same invite for a host that is reached through a relay as well. It makes the text longer by some 30 to 60
    /// characters.
    #[must_use]
    pub fn with_relay(mut self, relay: Option<RelayAddr>) -> Self {
        self.relay = relay;
        self
    }

    /// The relay through which the host can be reached.
    #[must_use]
    pub const fn relay(&self) -> Option<&RelayAddr> {
        self.relay.as_ref()
    }

    /// What the invite is for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The device that made it. Whoever scanned the code from its screen may believe this.
    #[must_use]
    pub const fn host(&self) -> DeviceId {
        self.host
    }

    /// Where the host could be reached when it made the invite; at most three.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Which of the host's open invites this is: a hash of the secret. The secret has 128 bits, so the hash gives
    /// nothing to search.
    #[must_use]
    pub fn hint(&self) -> Hint {
        Hint::Invite(*kdf::derive::<4>(b"honeylink/pair/1 invite tag", &self.secret[..], &[]))
    }

    /// What the invite contributes to the exchange.
    #[must_use]
    pub fn secret(&self) -> Secret {
        Secret::new(self.hint(), &self.secret[..])
    }

    /// The text for a QR code. It holds the secret: for the screen of the device that made it.
    #[must_use]
    pub fn to_qr_text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{QR_PREFIX}{}", *self.encoded()))
    }

    /// The link form, with everything secret behind the `#`.
    #[must_use]
    pub fn to_link(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{LINK_PREFIX}{}", *self.encoded()))
    }

    /// Whether `text` claims to be an invite, so that a program can tell it from a code or a name.
    #[must_use]
    pub fn is_invite(text: &str) -> bool {
        payload(text.trim()).is_some()
    }

    /// Reads the QR text, the link, or a web link ending in `/p#...`. Case and embedded line breaks do not matter.
    ///
    /// # Errors
    /// [`InvalidInvite`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidInvite> {
        if text.len() > INVITE_TEXT_BYTES_MAX {
            return Err(InvalidInvite::TooLong);
        }
        let payload = payload(text.trim()).ok_or(InvalidInvite::NotAnInvite)?;
        let base32: Zeroizing<String> = Zeroizing::new(
            payload.chars().filter(|c| !c.is_ascii_whitespace()).map(|c| c.to_ascii_uppercase()).collect(),
        );
        let bytes = BASE32_NOPAD.decode(base32.as_bytes()).map_err(|_| InvalidInvite::Encoding)?;
        Self::decode(&Zeroizing::new(bytes))
    }

    fn encoded(&self) -> Zeroizing<String> {
        let mut out = Zeroizing::new(Vec::with_capacity(50 + 18 * self.addresses.len()));
        out.push(super::VERSION << 4 | self.purpose.to_byte());
        out.extend_from_slice(self.host.as_bytes());
        out.extend_from_slice(&self.secret[..]);
        let kinds =
            self.addresses.iter().rev().fold(0, |kinds, a| kinds << 2 | if a.is_ipv4() { 1 } else { 2 });
        out.push(kinds | u8::from(self.relay.is_some()) << RELAYS_SHIFT);
        for address in &self.addresses {
            match address.ip() {
                IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
            }
            out.extend_from_slice(&address.port().to_be_bytes());
        }
        if let Some(relay) = &self.relay {
            let mut bytes = BytesMut::new();
            relay.encode(&mut bytes);
            out.extend_from_slice(&bytes);
        }
        Zeroizing::new(BASE32_NOPAD.encode(&out))
    }

    fn decode(bytes: &[u8]) -> Result<Self, InvalidInvite> {
        let mut reader = Reader::new(bytes);
        let head = reader.u8("version").map_err(InvalidInvite::Damaged)?;
        if head >> 4 != super::VERSION {
            return Err(InvalidInvite::Version(head >> 4));
        }
        Self::read_body(head & 0xf, reader).map_err(InvalidInvite::Damaged)
    }

    fn read_body(purpose: u8, mut reader: Reader<'_>) -> Result<Self, Invalid> {
        let purpose = Purpose::from_byte(purpose).ok_or(Invalid::Value { what: "purpose" })?;
        let host = DeviceId::from_bytes(reader.array("device id")?)
            .map_err(|_| Invalid::Value { what: "device id" })?;
        let secret = Zeroizing::new(reader.array("secret")?);
        let kinds = reader.u8("address kinds")?;
        let relays = kinds >> RELAYS_SHIFT;
        let mut kinds = kinds & !(3 << RELAYS_SHIFT);
        let mut addresses = Vec::with_capacity(INVITE_ADDRESSES_MAX);
        while kinds != 0 {
            let ip = match kinds & 3 {
                1 => IpAddr::V4(Ipv4Addr::from(reader.array::<4>("address")?)),
                2 => IpAddr::V6(Ipv6Addr::from(reader.array::<16>("address")?)),
                _ => return Err(Invalid::Value { what: "address kinds" }),
            };
            addresses.push(SocketAddr::new(ip, reader.u16("port")?));
            kinds >>= 2;
        }
        let relay = match relays {
            0 => None,
            1 => Some(RelayAddr::decode(&mut reader)?),
            _ => return Err(Invalid::Value { what: "address kinds" }),
        };
        reader.finish("invite")?;
        Ok(Self { purpose, host, secret, addresses, relay })
    }
}

/// What follows the prefix, if `text` has one of ours.
fn payload(text: &str) -> Option<&str> {
    for prefix in [QR_PREFIX, LINK_PREFIX] {
        if let Some((head, rest)) = text.split_at_checked(prefix.len())
            && head.eq_ignore_ascii_case(prefix)
        {
            return Some(rest);
        }
    }
    let web = text.starts_with("https://") || text.starts_with("http://");
    let (_, rest) = text.split_once(WEB_FRAGMENT)?;
    web.then_some(rest)
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite")
            .field("purpose", &self.purpose)
            .field("host", &self.host)
            .field("addresses", &self.addresses)
            .field("relay", &self.relay)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;
    use crate::rng::Rng;
    use proptest::prelude::*;

    fn sample(addresses: &[&str]) -> Invite {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Invite::generate(&mut Rng::from_u64(1), Purpose::Pair, SecretKey::from_u64(2).id(), &addresses)
    }

    #[test]
    fn fits_the_alphanumeric_set_and_a_terminal_qr() {
        let text = sample(&["192.0.2.7:7843", "198.51.100.200:65535", "203.0.113.1:1"]).to_qr_text();
        assert!(text.len() <= 130, "{} characters", text.len());
        assert!(
            text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b" $%*+-./:".contains(&b))
        );
    }

    /// Version 1 to the byte; the value was made by an independent implementation.
    #[test]
    fn golden_text_of_version_one() {
        let invite = sample(&["192.0.2.7:7843", "[2001:db8::1]:443"]);
        let golden = concat!(
            "HONEYLINK:P/",
            "CE7OVEDTPJZNWIJXHICFGV5O26IZOKNPSG6DHNB33DBYSZSLAT4ZTROTBJ6OD3ARSN4MQT",
            "2IPV3VVBIJYAAAEBY6UMQACDNYAAAAAAAAAAAAAAAAAAAQDOY",
        );
        assert_eq!(invite.to_qr_text().as_str(), golden);
        assert_eq!(invite.hint(), Hint::Invite([0x43, 0x3d, 0x14, 0x86]));
    }

    #[test]
    fn the_link_keeps_the_secret_in_the_fragment() {
        let invite = sample(&["192.0.2.7:7843"]);
        let link = invite.to_link();
        let (before, fragment) = link.split_once('#').unwrap();
        assert_eq!(before, "honeylink:p");
        assert_eq!(Invite::parse(&format!("https://example.org/p#{fragment}")), Ok(invite.clone()));
        assert_eq!(Invite::parse(&link), Ok(invite));
    }

    #[test]
    fn wrapped_or_lower_case_text_still_reads() {
        let invite = sample(&["[2001:db8::1]:7843", "192.0.2.7:7843"]);
        let mut text = invite.to_qr_text().to_lowercase();
        text.insert(60, '\n');
        assert_eq!(Invite::parse(&format!("  {text} ")), Ok(invite));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        assert_eq!(Invite::parse("7-guitar-zebra"), Err(InvalidInvite::NotAnInvite));
        assert_eq!(Invite::parse("HONEYLINK:P/!!!"), Err(InvalidInvite::Encoding));
        assert_eq!(Invite::parse(&format!("HONEYLINK:P/{}", "A".repeat(800))), Err(InvalidInvite::TooLong));
        assert_eq!(Invite::parse("HONEYLINK:P/EA"), Err(InvalidInvite::Version(2)));
        let text = sample(&["192.0.2.7:7843"]).to_qr_text();
        assert!(matches!(Invite::parse(&text[..text.len() - 8]), Err(InvalidInvite::Damaged(_))));
    }

    #[test]
    fn a_relay_travels_in_the_invite_and_the_code_still_fits_a_terminal() {
        let relay: RelayAddr = "https://relay.example.org#000102030405060708090a0b0c0d0e0f".parse().unwrap();
        let invite = sample(&["192.0.2.7:7843", "198.51.100.200:65535", "203.0.113.1:1"])
            .with_relay(Some(relay.clone()));
        let text = invite.to_qr_text();
        // A QR code of version 7 takes 224 of these characters at its lowest level of error correction.
        assert!(text.len() <= 195, "{} characters", text.len());
        let read = Invite::parse(&text).unwrap();
        assert_eq!((read.relay(), &read), (Some(&relay), &invite));
        let cut = Invite::parse(&text[..text.len() - 8]);
        assert!(matches!(cut, Err(InvalidInvite::Damaged(_))), "{cut:?}");
    }

    #[test]
    fn debug_never_shows_the_secret() {
        let invite = sample(&[]);
        let shown = format!("{invite:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    proptest! {
        #[test]
        fn invites_round_trip(seed: u64, fetch: bool, v4 in proptest::collection::vec(any::<std::net::SocketAddrV4>(), 0..2),
                              v6 in proptest::collection::vec(any::<(u128, u16)>(), 0..2)) {
            let mut addresses: Vec<SocketAddr> = v4.into_iter().map(SocketAddr::V4).collect();
            addresses.extend(v6.into_iter().map(|(ip, port)| SocketAddr::new(IpAddr::V6(ip.into()), port)));
            let purpose = if fetch { Purpose::Fetch } else { Purpose::Pair };
            let invite = Invite::generate(&mut Rng::from_u64(seed), purpose, SecretKey::from_u64(seed).id(), &addresses);
            prop_assert_eq!(Invite::parse(&invite.to_qr_text()), Ok(invite.clone()));
            prop_assert_eq!(Invite::parse(&invite.to_link()), Ok(invite));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(HONEYLINK:P/)?[A-Z2-7]{0,200}", other in "\\PC{0,60}") {
            let _ = Invite::parse(&text);
            let _ = Invite::parse(&other);
        }
    }
}
