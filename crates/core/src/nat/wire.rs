//! The datagrams of NAT traversal (`docs/wire/nat.md`): asking an observer, its answer, and probes.
//!
//! All are of fixed length and start with four bytes that no QUIC packet starts with, so that a capture shows what they
//! are. The answers to a question are together never longer than it: an observer cannot be used to amplify.

use bytes::{BufMut, BytesMut};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::identity::{DeviceId, SecretKey};
use crate::rng::Rng;
use crate::wire::{Invalid, Reader};

/// NAT-W1: how every datagram starts. QUIC's fixed bit (0x40, RFC 9000 section 17.2) is not set.
const MAGIC: [u8; 4] = [0x08, b'h', b'n', 1];
/// NAT-W2: bytes of a question and of an answer.
pub const ASK_BYTES: usize = 136;
/// NAT-W5: bytes of a probe.
pub const PROBE_BYTES: usize = 32;
/// NAT-W9: how long a stamp is believed, in seconds by the wall clock: long enough to tell another device, too short to be
/// kept for later.
pub const STAMP_BELIEVED_S: u64 = 120;

/// What is asked of an observer, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Ties the answer, and its stamp, to who asked: see [`Ticket`].
    pub nonce: [u8; 16],
    /// Whether a second answer shall come from the observer's other port.
    pub second_port: bool,
}

/// Where an observer saw who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The question's.
    pub nonce: [u8; 16],
    /// What it signs.
    pub stamp: Stamp,
}

/// What comes from an observer's other port, if it comes: its coming is all it says. Nobody else knows the nonce, so it
/// needs no signature, and both answers together are still not longer than the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The question's.
    pub nonce: [u8; 16],
}

/// An observer's word that whoever holds a nonce was reached at an address. It reached nobody before it signs, but only
/// who was reached has the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Where.
    pub addr: SocketAddr,
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// By the observer, over nonce, address and time.
    pub signature: [u8; 64],
}

/// A stamp with what proves whose it is: what a peer shows before it is sent probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Who signed.
    pub observer: DeviceId,
    /// What the nonce was made of, besides the id of who asked.
    pub salt: [u8; 16],
    /// The word.
    pub stamp: Stamp,
}

/// Why a ticket is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Signed by a device that is not trusted to observe.
    #[error("the observer {} is not one of ours", .0.short())]
    Observer(DeviceId),
    /// The signature does not fit: it is of another device, address, or time.
    #[error("the observer did not sign that it reached this device there")]
    Signature,
    /// Too old, or of a future that clocks do not explain.
    #[error("the observer saw it {age_s} s ago; at most {STAMP_BELIEVED_S} s count")]
    Age {
        /// How old, in seconds.
        age_s: u64,
    },
}

/// NAT-W3: the nonce for a question of `who`: nobody else can show a stamp over it as its own.
#[must_use]
pub fn nonce(who: &DeviceId, salt: &[u8; 16]) -> [u8; 16] {
    let hash = Sha256::new().chain_update(b"honeylink/nat/1 nonce").chain_update(who.as_bytes());
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&hash.chain_update(salt).finalize()[..16]);
    nonce
}

impl Stamp {
    /// Signs that `nonce` was asked from `addr`.
    #[must_use]
    pub fn sign(observer: &SecretKey, nonce: &[u8; 16], addr: SocketAddr, at_s: u64) -> Self {
        Self { addr, at_s, signature: observer.sign(&signed(nonce, addr, at_s)) }
    }
}

impl Ticket {
    /// Where `peer` was reached, if one of `observers` says so.
    ///
    /// # Errors
    /// [`Doubt`].
    pub fn check(&self, peer: &DeviceId, observers: &[DeviceId], now_s: u64) -> Result<SocketAddr, Doubt> {
        if !observers.contains(&self.observer) {
            return Err(Doubt::Observer(self.observer));
        }
        let message = signed(&nonce(peer, &self.salt), self.stamp.addr, self.stamp.at_s);
        if !self.observer.verify(&message, &self.stamp.signature) {
            return Err(Doubt::Signature);
        }
        let age_s = now_s.abs_diff(self.stamp.at_s);
        if age_s > STAMP_BELIEVED_S {
            return Err(Doubt::Age { age_s });
        }
        Ok(self.stamp.addr)
    }
}

/// NAT-W4: what an observer signs.
fn signed(nonce: &[u8; 16], addr: SocketAddr, at_s: u64) -> BytesMut {
    let mut out = BytesMut::with_capacity(80);
    out.put_slice(b"honeylink/nat/1 stamp");
    out.put_slice(nonce);
    put_addr(&mut out, addr, &[0; 16]);
    out.put_u64(at_s);
    out
}

/// 19 bytes: family, port, address; port and address XORed, because some boxes rewrite addresses that they find in
/// datagrams (RFC 8489, section 14.2).
pub(super) fn put_addr(out: &mut BytesMut, addr: SocketAddr, mask: &[u8; 16]) {
    let (family, octets) = match addr.ip() {
        IpAddr::V4(ip) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&ip.octets());
            (4, octets)
        }
        IpAddr::V6(ip) => (6, ip.octets()),
    };
    out.put_u8(family);
    out.put_u16(addr.port() ^ u16::from_be_bytes([mask[0], mask[1]]));
    out.extend(octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
}

pub(super) fn take_addr(reader: &mut Reader<'_>, mask: &[u8; 16]) -> Result<SocketAddr, Invalid> {
    let family = reader.u8("address family")?;
    let port = reader.u16("port")? ^ u16::from_be_bytes([mask[0], mask[1]]);
    let mut octets = reader.array::<16>("address")?;
    for (octet, mask) in octets.iter_mut().zip(mask) {
        *octet ^= mask;
    }
    let [a, b, c, d, rest @ ..] = octets;
    let ip = match family {
        4 if rest == [0; 12] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        // An IPv4 address has one form here, or one stamp would be good for two addresses.
        6 if Ipv6Addr::from(octets).to_ipv4_mapped().is_none() => IpAddr::V6(octets.into()),
        _ => return Err(Invalid::Value { what: "address" }),
    };
    Ok(SocketAddr::new(ip, port))
}

/// The four steps by which two devices agree on a pair of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Is anybody there?
    Probe,
    /// Your probe came here.
    Answer,
    /// We shall use this pair (from the controlling side, in the word of RFC 8445).
    Choice,
    /// We do.
    Chosen,
}

impl Step {
    const ALL: [Self; 4] = [Self::Probe, Self::Answer, Self::Choice, Self::Chosen];
}

/// Names an attempt on the wire.
pub type Attempt = [u8; 8];

/// The keys of one attempt, one per direction. Wiped on drop.
#[derive(Clone, ZeroizeOnDrop)]
pub struct ProbeKeys {
    #[zeroize(skip)]
    attempt: Attempt,
    ours: [u8; 32],
    theirs: [u8; 32],
}

impl core::fmt::Debug for ProbeKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "ProbeKeys({:02x?})", self.attempt)
    }
}

impl ProbeKeys {
    /// NAT-W6: keys from a secret that both sides of a link have (its exporter), for one attempt. `controlling` is the side
    /// that chose the attempt's name.
    #[must_use]
    #[expect(clippy::expect_used, reason = "32 bytes are fewer than HKDF's maximum")]
    pub fn new(secret: &[u8; 32], attempt: Attempt, controlling: bool) -> Self {
        let key = |direction: &[u8]| {
            let mut out = Zeroizing::new([0; 32]);
            let info: [&[u8]; 3] = [b"honeylink/nat/1 probe", &attempt, direction];
            Hkdf::<Sha256>::new(None, secret)
                .expand_multi_info(&info, &mut out[..])
                .expect("32 bytes are fewer than HKDF's maximum");
            *out
        };
        let (first, second) = (key(b"controlling"), key(b"controlled"));
        let (ours, theirs) = if controlling { (first, second) } else { (second, first) };
        Self { attempt, ours, theirs }
    }

    /// A name for an attempt.
    #[must_use]
    pub fn name(rng: &mut Rng) -> Attempt {
        rng.bytes()
    }

    /// A probe of ours. `number` tells them apart in a capture.
    #[must_use]
    pub fn probe(&self, step: Step, number: u16) -> [u8; PROBE_BYTES] {
        let mut out = [0; PROBE_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = KIND_PROBE + step as u8;
        out[5..13].copy_from_slice(&self.attempt);
        out[13..15].copy_from_slice(&number.to_be_bytes());
        let tag = tag(&self.ours, &out[..TAGGED]);
        out[TAGGED..].copy_from_slice(&tag);
        out
    }

    /// The step of a probe from the other side; `None` for anything else.
    #[must_use]
    pub fn open(&self, bytes: &[u8]) -> Option<Step> {
        let bytes: &[u8; PROBE_BYTES] = bytes.try_into().ok()?;
        if bytes[..4] != MAGIC || bytes[5..13] != self.attempt {
            return None;
        }
        let step = *Step::ALL.get(usize::from(bytes[4].checked_sub(KIND_PROBE)?))?;
        let fits = tag(&self.theirs, &bytes[..TAGGED]).ct_eq(&bytes[TAGGED..]);
        bool::from(fits).then_some(step)
    }
}

/// Whether a datagram looks like a probe, of whatever attempt: only that attempt's keys tell.
#[must_use]
pub fn is_like_probe(bytes: &[u8]) -> bool {
    bytes.len() == PROBE_BYTES && bytes.starts_with(&MAGIC)
}

const KIND_ASK: u8 = 1;
const KIND_SEEN: u8 = 2;
const KIND_ECHO: u8 = 3;
const KIND_PROBE: u8 = 4;
/// Bytes of a probe under its tag.
const TAGGED: usize = 15;
const TAG_BYTES: usize = PROBE_BYTES - TAGGED;

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn tag(key: &[u8; 32], bytes: &[u8]) -> [u8; TAG_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(bytes);
    let mut out = [0; TAG_BYTES];
    out.copy_from_slice(&mac.finalize().into_bytes()[..TAG_BYTES]);
    out
}

impl Ask {
    /// Its bytes, filled up so that the answers are not longer.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ASK_BYTES] {
        let mut out = [0; ASK_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = KIND_ASK;
        out[5..21].copy_from_slice(&self.nonce);
        out[21] = u8::from(self.second_port);
        out
    }

    /// Reads a question.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut reader = start(bytes, KIND_ASK)?;
        let nonce = reader.array("nonce")?;
        let second_port = flag(&mut reader)?;
        let filling = reader.take(ASK_BYTES - 22, "filling")?;
        if filling.iter().any(|byte| *byte != 0) {
            return Err(Invalid::Value { what: "filling" });
        }
        reader.finish("question")?;
        Ok(Self { nonce, second_port })
    }
}

impl Seen {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(ASK_BYTES);
        out.put_slice(&MAGIC);
        out.put_u8(KIND_SEEN);
        out.put_slice(&self.nonce);
        put_addr(&mut out, self.stamp.addr, &self.nonce);
        out.put_u64(self.stamp.at_s);
        out.put_slice(&self.stamp.signature);
        out
    }

    /// Reads an answer. Whether it is signed by the observer that was asked is for [`Ticket::check`].
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut reader = start(bytes, KIND_SEEN)?;
        let nonce = reader.array("nonce")?;
        let addr = take_addr(&mut reader, &nonce)?;
        let at_s = u64::from_be_bytes(reader.array("time")?);
        let signature = reader.array("signature")?;
        reader.finish("answer")?;
        Ok(Self { nonce, stamp: Stamp { addr, at_s, signature } })
    }
}

impl Echo {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(ASK_BYTES);
        out.put_slice(&MAGIC);
        out.put_u8(KIND_ECHO);
        out.put_slice(&self.nonce);
        out
    }

    /// Reads an echo.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        let mut reader = start(bytes, KIND_ECHO)?;
        let nonce = reader.array("nonce")?;
        reader.finish("echo")?;
        Ok(Self { nonce })
    }
}

fn start(bytes: &[u8], kind: u8) -> Result<Reader<'_>, Invalid> {
    let mut reader = Reader::new(bytes);
    if reader.array("first bytes")? != MAGIC || reader.u8("kind")? != kind {
        return Err(Invalid::Value { what: "first bytes" });
    }
    Ok(reader)
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, Invalid> {
    match reader.u8("flag")? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Invalid::Value { what: "flag" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn questions_and_answers_survive_the_wire_and_answers_are_not_longer() {
        let ask = Ask { nonce: [7; 16], second_port: true };
        assert_eq!(Ask::from_bytes(&ask.to_bytes()), Ok(ask));
        for text in ["203.0.113.9:65535", "[2001:db8::1]:1"] {
            let stamp = Stamp::sign(&SecretKey::from_u64(1), &[7; 16], addr(text), 1_700_000_000);
            let (seen, echo) = (Seen { nonce: [7; 16], stamp }, Echo { nonce: [7; 16] });
            assert_eq!(Seen::from_bytes(&seen.to_bytes()), Ok(seen));
            assert_eq!(Echo::from_bytes(&echo.to_bytes()), Ok(echo));
            assert!(seen.to_bytes().len() + echo.to_bytes().len() <= ASK_BYTES);
        }
    }

    #[test]
    fn an_address_does_not_stand_in_an_answer_as_it_is() {
        let stamp = Stamp::sign(&SecretKey::from_u64(1), &[0xaa; 16], addr("203.0.113.9:4660"), 5);
        let bytes = Seen { nonce: [0xaa; 16], stamp }.to_bytes();
        assert!(!bytes.windows(4).any(|window| window == [203, 0, 113, 9]));
    }

    #[test]
    fn a_ticket_is_good_for_one_device_at_one_address_for_a_short_time() {
        let (observer, peer, other) =
            (SecretKey::from_u64(1), SecretKey::from_u64(2).id(), SecretKey::from_u64(3).id());
        let salt = [9; 16];
        let stamp = Stamp::sign(&observer, &nonce(&peer, &salt), addr("203.0.113.9:7"), 1000);
        let ticket = Ticket { observer: observer.id(), salt, stamp };
        let ours = [observer.id()];
        assert_eq!(ticket.check(&peer, &ours, 1000 + STAMP_BELIEVED_S), Ok(addr("203.0.113.9:7")));
        assert_eq!(ticket.check(&other, &ours, 1000), Err(Doubt::Signature));
        assert_eq!(ticket.check(&peer, &[other], 1000), Err(Doubt::Observer(observer.id())));
        assert_eq!(ticket.check(&peer, &ours, 1121), Err(Doubt::Age { age_s: 121 }));
        let moved = Ticket { stamp: Stamp { addr: addr("198.51.100.1:7"), ..stamp }, ..ticket };
        assert_eq!(moved.check(&peer, &ours, 1000), Err(Doubt::Signature));
    }

    #[test]
    fn a_probe_opens_only_at_the_other_side_of_the_same_attempt() {
        let (secret, name) = ([3; 32], [1; 8]);
        let (ours, theirs) = (ProbeKeys::new(&secret, name, true), ProbeKeys::new(&secret, name, false));
        for step in Step::ALL {
            let bytes = ours.probe(step, 7);
            assert_eq!(theirs.open(&bytes), Some(step));
            assert_eq!(ours.open(&bytes), None, "sent back to its sender");
            assert_eq!(ProbeKeys::new(&secret, [2; 8], false).open(&bytes), None);
            let mut changed = bytes;
            changed[14] ^= 1;
            assert_eq!(theirs.open(&changed), None);
        }
    }

    #[test]
    fn golden_nat_datagrams_have_the_bytes_of_version_1() {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        let probe = ProbeKeys::new(&[3; 32], *b"attempt!", true).probe(Step::Choice, 258);
        assert_eq!(hex(&probe), "08686e0106617474656d7074210102e018784bf16088fee05eb0966e9995e3be");
        let (salt, peer) = ([5; 16], SecretKey::from_u64(2).id());
        let stamp = Stamp::sign(&SecretKey::from_u64(1), &nonce(&peer, &salt), addr("203.0.113.9:7843"), 9);
        let seen = Seen { nonce: nonce(&peer, &salt), stamp };
        let want = concat!(
            "08686e0102c049eb4f677f2f08465e415abde0d7d704deea0b499a46677f2f08465e415abde0d7",
            "d70000000000000009e5dc5f2bb0e21f4a0a438c5ecad5feab6c83cabcc5a5c2f006ecfd1deae502",
            "4955a622b1b99221c339b6e47cba75fbf4804adc6dd804660a70641ec7ee555609",
        );
        assert_eq!(hex(&seen.to_bytes()), want);
        let echo = Echo { nonce: nonce(&peer, &salt) };
        assert_eq!(hex(&echo.to_bytes()), "08686e0103c049eb4f677f2f08465e415abde0d7d7");
        let ask = Ask { nonce: nonce(&peer, &salt), second_port: true }.to_bytes();
        assert_eq!(hex(&ask[..22]), "08686e0101c049eb4f677f2f08465e415abde0d7d701");
        assert!(ask[22..].iter().all(|byte| *byte == 0));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let keys = ProbeKeys::new(&[3; 32], [1; 8], false);
            prop_assert_eq!(keys.open(&bytes), None);
            if let Ok(ask) = Ask::from_bytes(&bytes) {
                prop_assert_eq!(&ask.to_bytes()[..], &bytes[..]);
            }
            if let Ok(seen) = Seen::from_bytes(&bytes) {
                prop_assert_eq!(&seen.to_bytes()[..], &bytes[..]);
            }
            if let Ok(echo) = Echo::from_bytes(&bytes) {
                prop_assert_eq!(&echo.to_bytes()[..], &bytes[..]);
            }
        }
    }
}
