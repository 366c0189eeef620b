//! Where a relay is and how it is recognised: as a person writes it, and as devices tell each other.
//!
//! ```text
//! https://relay.example.org                                    a public certificate, TCP 443, address discovery on UDP 7842
//! https://192.0.2.7:8443?udp=8443#0f1e2d3c4b5a69788796a5b4c3d2e1f0      a key of its own
//! ```
//!
//! The pin is the first 16 bytes of the SHA-256 of the relay's public key (its SubjectPublicKeyInfo, RFC 5280 section
//! 4.1), in hex: what `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum` prints first. To pass
//! for a relay one needs another key with the same 128 bits, which nobody can find; that it is short keeps invites small.
//!
//! ```text
//! relay = flags u8 (1 port, 2 udp, 4 pin) | host text | [port u16] | [udp u16] | [pin 16]
//! ```

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use bytes::{BufMut as _, BytesMut};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest as _, Sha256};

use super::{Invalid, Reader, put_bytes, put_varint};
use crate::limits::{RELAY_HOST_BYTES_MAX, RELAYS_PER_DEVICE_MAX};

/// The TCP port of a relay that names none.
pub const PORT: u16 = 443;
/// The UDP port of address discovery of a relay that names none; iroh's relays have it.
pub const UDP_PORT: u16 = 7842;

const HAS_PORT: u8 = 1;
const HAS_UDP: u8 = 2;
const HAS_PIN: u8 = 4;

/// What a public key must hash to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPin(pub [u8; 16]);

impl KeyPin {
    /// The pin of a key, given as SubjectPublicKeyInfo (DER).
    #[must_use]
    pub fn of(spki: &[u8]) -> Self {
        let mut pin = [0; 16];
        pin.copy_from_slice(&Sha256::digest(spki)[..16]);
        Self(pin)
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPin({self})")
    }
}

/// A relay: where, and by what key it is recognised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayAddr {
    host: String,
    port: u16,
    udp: u16,
    pin: Option<KeyPin>,
}

/// Why a text names no relay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRelay {
    /// Another scheme, or none.
    #[error("a relay starts with https://")]
    Scheme,
    /// No usable host.
    #[error("`{0}` is neither a host name nor an IP address; an IPv6 address stands in brackets")]
    Host(String),
    /// No usable port.
    #[error("`{0}` is not a port from 1 to 65535")]
    Port(String),
    /// A path or a user name, which no relay has.
    #[error("a relay's address has no path and no user name: write https://host:port")]
    Extra,
    /// A parameter other than `udp`.
    #[error("`{0}` is not known after `?`: write ?udp=PORT, or ?udp=0 for a relay without address discovery")]
    Parameter(String),
    /// The pin is cut off or mistyped.
    #[error("what follows `#` must be the 32 hex digits that `honeylink relay` prints; this is `{0}`")]
    Pin(String),
}

impl RelayAddr {
    /// A relay at `host` (a name or an address, IPv6 without brackets) and a TCP port, with address discovery on a UDP
    /// port (0 for none).
    ///
    /// # Errors
    /// [`InvalidRelay`].
    pub fn new(host: &str, port: u16, udp: u16, pin: Option<KeyPin>) -> Result<Self, InvalidRelay> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        // One spelling of an address, as certificates are checked by it.
        let host = host.parse::<IpAddr>().map_or(host, |ip| ip.to_string());
        if !is_host(&host) {
            return Err(InvalidRelay::Host(host));
        }
        if port == 0 {
            return Err(InvalidRelay::Port("0".into()));
        }
        Ok(Self { host, port, udp, pin })
    }

    /// The host, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The UDP port of address discovery, if the relay has it.
    #[must_use]
    pub const fn udp(&self) -> Option<u16> {
        if self.udp == 0 { None } else { Some(self.udp) }
    }

    /// The key, if it is not vouched for by a public authority.
    #[must_use]
    pub const fn pin(&self) -> Option<KeyPin> {
        self.pin
    }

    /// `host:port`, brackets included: what people are shown.
    #[must_use]
    pub fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{open}{}{close}:{}", self.host, self.port)
    }

    /// Appends the bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        out.put_u8(
            flag(self.port != PORT, HAS_PORT)
                | flag(self.udp != UDP_PORT, HAS_UDP)
                | flag(self.pin.is_some(), HAS_PIN),
        );
        put_bytes(out, self.host.as_bytes());
        if self.port != PORT {
            out.put_u16(self.port);
        }
        if self.udp != UDP_PORT {
            out.put_u16(self.udp);
        }
        if let Some(pin) = &self.pin {
            out.put_slice(&pin.0);
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Invalid`], naming the field.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Invalid> {
        let value = |what| Invalid::Value { what };
        let flags = reader.u8("relay flags")?;
        if flags & !(HAS_PORT | HAS_UDP | HAS_PIN) != 0 {
            return Err(value("relay flags"));
        }
        let host = reader.text(RELAY_HOST_BYTES_MAX, "relay host")?.to_owned();
        let port = if flags & HAS_PORT == 0 { PORT } else { reader.u16("relay port")? };
        let udp = if flags & HAS_UDP == 0 { UDP_PORT } else { reader.u16("relay udp port")? };
        // One encoding per value.
        if (flags & HAS_PORT != 0 && port == PORT) || (flags & HAS_UDP != 0 && udp == UDP_PORT) {
            return Err(value("relay flags"));
        }
        let pin = if flags & HAS_PIN == 0 { None } else { Some(KeyPin(reader.array("relay pin")?)) };
        let relay = Self::new(&host, port, udp, pin).map_err(|_| value("relay host"))?;
        if relay.host == host { Ok(relay) } else { Err(value("relay host")) }
    }
}

/// Appends a counted list; relays beyond [`RELAYS_PER_DEVICE_MAX`] are left out.
pub fn put_relays(out: &mut BytesMut, relays: &[RelayAddr]) {
    let relays = relays.get(..RELAYS_PER_DEVICE_MAX).unwrap_or(relays);
    put_varint(out, relays.len() as u64);
    for relay in relays {
        relay.encode(out);
    }
}

/// Reads what [`put_relays`] wrote.
///
/// # Errors
/// [`Invalid`], naming the field.
pub fn read_relays(reader: &mut Reader<'_>) -> Result<Vec<RelayAddr>, Invalid> {
    let what = "relays";
    let size = reader.varint(what)?;
    let max = RELAYS_PER_DEVICE_MAX as u64;
    if size > max {
        return Err(Invalid::TooLarge { what, size, max });
    }
    (0..size).map(|_| RelayAddr::decode(reader)).collect()
}

fn is_host(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // A name of digits and dots only would be taken for an address by some and for a name by others.
    let named = host.bytes().any(|b| b.is_ascii_alphabetic());
    named && host.len() <= RELAY_HOST_BYTES_MAX && host.split('.').all(label)
}

impl fmt::Display for RelayAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.authority();
        let shown = if self.port == PORT { authority.strip_suffix(":443") } else { None };
        write!(f, "https://{}", shown.unwrap_or(&authority))?;
        if self.udp != UDP_PORT {
            write!(f, "?udp={}", self.udp)?;
        }
        self.pin.map_or(Ok(()), |pin| write!(f, "#{pin}"))
    }
}

impl FromStr for RelayAddr {
    type Err = InvalidRelay;

    fn from_str(text: &str) -> Result<Self, InvalidRelay> {
        const SCHEME: &str = "https://";
        let text = text.trim();
        let rest = match text.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            Some(_) | None => return Err(InvalidRelay::Scheme),
        };
        let (rest, pin) = match rest.split_once('#') {
            Some((rest, pin)) => (rest, Some(read_pin(pin)?)),
            None => (rest, None),
        };
        let (rest, udp) = match rest.split_once('?') {
            Some((rest, query)) => (rest, read_udp(query)?),
            None => (rest, UDP_PORT),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '@']) {
            return Err(InvalidRelay::Extra);
        }
        let (host, port) = read_authority(authority)?;
        Self::new(host, port, udp, pin)
    }
}

fn read_pin(text: &str) -> Result<KeyPin, InvalidRelay> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    let pin = bytes.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    pin.map(KeyPin).ok_or_else(|| InvalidRelay::Pin(text.chars().take(64).collect()))
}

fn read_udp(query: &str) -> Result<u16, InvalidRelay> {
    let unknown = || InvalidRelay::Parameter(query.chars().take(64).collect());
    let port = query.strip_prefix("udp=").ok_or_else(unknown)?;
    port.parse().map_err(|_| InvalidRelay::Port(port.chars().take(16).collect()))
}

fn read_authority(text: &str) -> Result<(&str, u16), InvalidRelay> {
    let host = || InvalidRelay::Host(text.chars().take(64).collect());
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']').ok_or_else(host)?;
            ip.parse::<Ipv6Addr>().map_err(|_| host())?;
            (ip, port.strip_prefix(':').or((port.is_empty()).then_some("")).ok_or_else(host)?)
        }
        None if text.matches(':').count() > 1 => return Err(host()),
        None => text.split_once(':').unwrap_or((text, "")),
    };
    if port.is_empty() {
        return Ok((name, PORT));
    }
    let port = port.parse().map_err(|_| InvalidRelay::Port(port.chars().take(16).collect()))?;
    Ok((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn relay(text: &str) -> RelayAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_in_another_way_is_the_same_relay() {
        let plain = relay("https://relay.example.org");
        assert_eq!((plain.host(), plain.port(), plain.udp()), ("relay.example.org", 443, Some(7842)));
        for text in [
            "HTTPS://Relay.Example.org/",
            "https://relay.example.org:443?udp=7842",
            " https://relay.example.org. ",
        ] {
            assert_eq!(relay(text), plain, "{text}");
        }
        let own = relay("https://[2001:db8::1]:8443/?udp=0#0F1E2d3c4b5a69788796a5b4c3d2e1f0");
        assert_eq!((own.authority().as_str(), own.udp()), ("[2001:db8::1]:8443", None));
        assert_eq!(own.to_string(), "https://[2001:db8::1]:8443?udp=0#0f1e2d3c4b5a69788796a5b4c3d2e1f0");
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let wrong = |text: &str| text.parse::<RelayAddr>().unwrap_err();
        assert_eq!(wrong("relay.example.org"), InvalidRelay::Scheme);
        assert_eq!(wrong("http://relay.example.org"), InvalidRelay::Scheme);
        assert_eq!(wrong("https://relay.example.org/relay"), InvalidRelay::Extra);
        assert_eq!(wrong("https://me@relay.example.org"), InvalidRelay::Extra);
        assert_eq!(wrong("https://r.org:0"), InvalidRelay::Port("0".into()));
        assert_eq!(wrong("https://r.org:https"), InvalidRelay::Port("https".into()));
        assert_eq!(wrong("https://r.org?quic=1"), InvalidRelay::Parameter("quic=1".into()));
        assert_eq!(wrong("https://r.org#0f1e"), InvalidRelay::Pin("0f1e".into()));
        for host in ["", "-a.org", "a..org", "1.2.3", "2001:db8::1", "[zz]", "[::1", "[::1]x", "a b"] {
            let error = wrong(&format!("https://{host}"));
            assert!(matches!(error, InvalidRelay::Host(_)), "{host}: {error}");
        }
    }

    /// The bytes are in invites, tickets and on disks: a change needs a new version of each.
    #[test]
    fn golden_bytes() {
        let mut out = BytesMut::new();
        put_relays(
            &mut out,
            &[relay("https://a.org"), relay("https://[::1]:8443?udp=8443#000102030405060708090a0b0c0d0e0f")],
        );
        let golden =
            "02 00 05612e6f7267 07 033a3a31 20fb 20fb 000102030405060708090a0b0c0d0e0f".replace(' ', "");
        assert_eq!(HEXLOWER.encode(&out), golden);
    }

    #[test]
    fn one_value_has_one_encoding() {
        for bytes in ["0105612e6f726701bb", "0205612e6f72671ea2", "0005412e6f7267", "0805612e6f7267"] {
            let bytes = HEXLOWER.decode(bytes.as_bytes()).unwrap();
            assert!(RelayAddr::decode(&mut Reader::new(&bytes)).is_err(), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn relays_come_back_as_they_were_written(
            host in prop_oneof![
                "[a-z][a-z0-9]{0,9}(\\.[a-z]{1,5}){0,3}",
                any::<IpAddr>().prop_map(|ip| ip.to_string()),
            ],
            port in 1..=u16::MAX, udp: u16, pin in proptest::option::of(any::<[u8; 16]>().prop_map(KeyPin)),
        ) {
            let relay = RelayAddr::new(&host, port, udp, pin).unwrap();
            prop_assert_eq!(relay.to_string().parse(), Ok(relay.clone()));
            let mut bytes = BytesMut::new();
            relay.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(RelayAddr::decode(&mut reader), Ok(relay));
            prop_assert_eq!(reader.remaining(), 0);
        }

        #[test]
        fn no_bytes_and_no_text_make_the_parsers_panic(bytes: Vec<u8>, text in "(https://)?\\PC{0,60}") {
            let _ = read_relays(&mut Reader::new(&bytes));
            let _ = text.parse::<RelayAddr>();
        }
    }
}
