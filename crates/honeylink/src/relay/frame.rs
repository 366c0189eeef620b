//! The bytes between a relay and its guests: iroh's relay protocol, versions 1 and 2, from the server's side.
//!
//! ```text
//! frame = kind u8 | body                  one WebSocket message each; kinds are varints, all below 64
//!   0 challenge  [16]                     relay -> guest, first
//!   1 answer     key [32] | 64 u8 | signature [64]
//!   2 welcome    -                        3 refusal   length u8, below 128 | text
//!   4 datagram   key [32] | ecn u8 | bytes              guest -> relay, the key says to whom
//!   5 datagrams  key [32] | ecn u8 | size u16 | bytes   several of one size; the last may be shorter
//!   6, 7         as 4, 5                                relay -> guest, the key says from whom
//!   8 gone       key [32]                 a device that this guest spoke to has left
//!   9 ping, 10 pong   [8]                 both ways
//!  13 status     1 another device has this key, 2 too fast: version 2 only
//! ```

use bytes::{BufMut as _, Bytes, BytesMut};
use honeylink_core::identity::DeviceId;
use honeylink_core::wire::{Invalid, Reader};

/// Bytes of a device's key.
const KEY: usize = 32;
/// What the guest signs is derived from the challenge, so that no relay can have anything else signed.
const CHALLENGE_CONTEXT: &str = "iroh-relay handshake v1 challenge signature";

/// Largest message taken from a guest, bytes: a batch as large as UDP takes, and its header.
pub(super) const MESSAGE_BYTES_MAX: usize = 128 << 10;
/// Longest text of a refusal, bytes.
const REFUSAL_BYTES_MAX: usize = 127;

/// What a guest says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// To be passed on, already in the form in which the other guest gets it.
    Forward {
        /// To whom.
        to: [u8; KEY],
        /// The whole message.
        frame: Bytes,
    },
    /// To be answered with this message.
    Ping(Bytes),
    /// It lives.
    Pong,
}

/// What a guest has to be told about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Another device showed the same key and gets its datagrams.
    Replaced,
    /// It sends faster than it may.
    TooFast,
}

/// Reads what a guest says. It is changed in place: only the kind and the key differ in what the other one gets.
pub(super) fn hear(from: &DeviceId, mut message: BytesMut) -> Result<Heard, Invalid> {
    let kind = *message.first().ok_or(Invalid::Truncated { what: "relay frame" })?;
    match kind {
        4 | 5 => {
            let head = 1 + KEY + if kind == 4 { 1 } else { 3 };
            if message.len() <= head {
                return Err(Invalid::Truncated { what: "datagram" });
            }
            let mut to = [0; KEY];
            let (kind, key) = message.split_at_mut(1);
            to.copy_from_slice(&key[..KEY]);
            key[..KEY].copy_from_slice(from.as_bytes());
            kind[0] += 2;
            Ok(Heard::Forward { to, frame: message.freeze() })
        }
        9 | 10 if message.len() != 9 => Err(Invalid::Value { what: "ping" }),
        9 => {
            message[0] = 10;
            Ok(Heard::Ping(message.freeze()))
        }
        10 => Ok(Heard::Pong),
        _ => Err(Invalid::Value { what: "relay frame" }),
    }
}

/// Asks a guest to prove its key.
pub(super) fn challenge(random: &[u8; 16]) -> Bytes {
    [&[0][..], random].concat().into()
}

/// Who a guest is, if its answer to the challenge proves it.
pub(super) fn proved(challenge: &[u8; 16], answer: &[u8]) -> Result<DeviceId, Invalid> {
    let mut reader = Reader::new(answer);
    if reader.u8("answer")? != 1 {
        return Err(Invalid::Value { what: "answer" });
    }
    let id = DeviceId::from_bytes(reader.array("key")?).map_err(|_| Invalid::Value { what: "key" })?;
    if reader.u8("signature")? != 64 {
        return Err(Invalid::Value { what: "signature" });
    }
    let signature: [u8; 64] = reader.array("signature")?;
    reader.finish("answer")?;
    let signed = blake3::derive_key(CHALLENGE_CONTEXT, challenge);
    if id.verify(&signed, &signature) { Ok(id) } else { Err(Invalid::Value { what: "signature" }) }
}

/// Lets a guest in.
pub(super) fn welcome() -> Bytes {
    Bytes::from_static(&[2])
}

/// Turns a guest away, with the reason it is shown.
pub(super) fn refusal(why: &str) -> Bytes {
    let mut out = BytesMut::from(&[3][..]);
    let why = &why.as_bytes()[..why.floor_char_boundary(REFUSAL_BYTES_MAX)];
    // Below 128 a length is one byte in every encoding of integers that is in use here.
    out.put_u8(why.len() as u8);
    out.put_slice(why);
    out.freeze()
}

/// Tells a guest that one it spoke to has left.
pub(super) fn gone(id: &[u8; KEY]) -> Bytes {
    [&[8][..], id].concat().into()
}

/// Asks a guest whether it lives.
pub(super) fn ping(number: u64) -> Bytes {
    let mut out = BytesMut::from(&[9][..]);
    out.put_u64(number);
    out.freeze()
}

/// Tells a guest of version 2 something about itself.
pub(super) fn status(status: Status) -> Bytes {
    match status {
        Status::Replaced => Bytes::from_static(&[13, 1]),
        Status::TooFast => Bytes::from_static(&[13, 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use honeylink_core::identity::SecretKey;
    use proptest::prelude::*;

    fn key(seed: u64) -> DeviceId {
        SecretKey::from_u64(seed).id()
    }

    #[test]
    fn a_datagram_is_passed_on_with_nothing_changed_but_kind_and_key() {
        for (kind, head) in [(4, &[1][..]), (5, &[1, 0, 3])] {
            let message = [&[kind][..], key(2).as_bytes(), head, b"abcdef"].concat();
            let passed_on = [&[kind + 2][..], key(1).as_bytes(), head, b"abcdef"].concat();
            let heard = hear(&key(1), BytesMut::from(&message[..])).unwrap();
            assert_eq!(heard, Heard::Forward { to: *key(2).as_bytes(), frame: passed_on.into() });
        }
    }

    #[test]
    fn only_who_holds_the_key_answers_a_challenge() {
        let secret = SecretKey::from_u64(7);
        let answer = |challenge: &[u8; 16]| {
            let signature = secret.sign(&blake3::derive_key(CHALLENGE_CONTEXT, challenge));
            [&[1][..], secret.id().as_bytes(), &[64], &signature].concat()
        };
        let good = answer(&[5; 16]);
        assert_eq!(proved(&[5; 16], &good), Ok(secret.id()));
        assert!(proved(&[6; 16], &good).is_err(), "another challenge");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(proved(&[5; 16], &bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_refusal_says_why_within_its_limit() {
        assert_eq!(&refusal("no")[..], [3, 2, b'n', b'o']);
        assert_eq!(refusal(&"é".repeat(500)).len(), 2 + 126);
    }

    proptest! {
        #[test]
        fn no_message_makes_the_parsers_panic(message: Vec<u8>, challenge: [u8; 16]) {
            let _ = hear(&key(1), BytesMut::from(&message[..]));
            let _ = proved(&challenge, &message);
        }
    }
}
