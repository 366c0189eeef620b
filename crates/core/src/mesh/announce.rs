//! Announces: a device says under its signature that it is there and what it offers (ME-A1 to ME-A6).
//!
//! There are two forms of the same size. The first brings the key, for those who never heard of the device. The second is for
//! those who have: it brings the anchor of a hash chain instead ([`super::chain`]), and from then on a beacon of a third
//! of the size says "still here". Forwarders sign nothing; hops, cost and sender of a copy are their word only.

use super::chain::{Chain, Head};
use super::frame::seq_caps_bytes;
use super::frame::{AnnounceAnchor, AnnounceKey, Caps, Cost, Seq20};
use super::hint::{Address, Near};
pub use super::signed::Unproved;
use super::signed::message;
use crate::identity::{DeviceId, SecretKey};

impl AnnounceKey {
    /// This device's announce number `seq`, as it sends it itself.
    #[must_use]
    pub fn new(own: &SecretKey, seq: Seq20, caps: Caps) -> Self {
        let id = own.id();
        let mut announce = Self {
            hops: 0,
            prev: Near::from(&id),
            cost: Cost::FREE,
            key: *id.as_bytes(),
            seq,
            caps,
            signature: [0; 64],
        };
        announce.signature = own.sign(&announce.signed_message());
        announce
    }

    /// Whose it is.
    ///
    /// # Errors
    /// [`Unproved::NotAKey`] or [`Unproved::Signature`].
    pub fn verify(&self) -> Result<DeviceId, Unproved> {
        let id = DeviceId::from_bytes(self.key).map_err(|_| Unproved::NotAKey)?;
        if id.verify(&self.signed_message(), &self.signature) { Ok(id) } else { Err(Unproved::Signature) }
    }

    fn signed_message(&self) -> Vec<u8> {
        let number = seq_caps_bytes(self.seq, self.caps);
        message(b"honeylink/mesh/1 announce key\0", &[&self.key, &number])
    }
}

impl AnnounceAnchor {
    /// This device's announce of `chain`, as it sends it itself.
    #[must_use]
    pub fn new(own: &SecretKey, chain: &Chain) -> Self {
        let id = own.id();
        let mut announce = Self {
            hops: 0,
            prev: Near::from(&id),
            cost: Cost::FREE,
            address: Address::of(&id),
            anchor: chain.anchor(),
            seq: chain.seq(),
            caps: chain.caps(),
            signature: [0; 64],
        };
        announce.signature = own.sign(&announce.signed_message());
        announce
    }

    /// Checks it against the key that is known for its address; the result checks the beacons to come.
    ///
    /// # Errors
    /// [`Unproved::OtherDevice`] if the address is not the key's, or [`Unproved::Signature`].
    pub fn verify(&self, id: &DeviceId) -> Result<Head, Unproved> {
        if self.address != Address::of(id) {
            return Err(Unproved::OtherDevice);
        }
        if !id.verify(&self.signed_message(), &self.signature) {
            return Err(Unproved::Signature);
        }
        Ok(Head { address: self.address, seq: self.seq, caps: self.caps, index: 0, value: self.anchor })
    }

    fn signed_message(&self) -> Vec<u8> {
        let number = seq_caps_bytes(self.seq, self.caps);
        message(b"honeylink/mesh/1 announce anchor\0", &[&self.address.0, &self.anchor, &number])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::frame::{Frame, PortKind, Rewrite, rewrite};
    use proptest::prelude::*;

    fn key() -> SecretKey {
        SecretKey::from_u64(1)
    }

    #[test]
    fn announces_prove_their_device_after_any_number_of_hops() {
        let announce = AnnounceKey::new(&key(), Seq20::new(5), Caps::RELAY);
        let mut bytes = Frame::AnnounceKey(announce).to_bytes();
        let onward = Rewrite { hops: 3, next: Near(9), prev: Near(8), cost: Cost(7), class: 1 };
        rewrite(&mut bytes, &onward).unwrap();
        let Ok(Frame::AnnounceKey(announce)) = Frame::decode(&bytes.freeze(), PortKind::Broadcast) else {
            unreachable!()
        };
        assert_eq!(announce.verify(), Ok(key().id()));
        assert_eq!((announce.hops, announce.prev), (3, Near(8)));
    }

    #[test]
    fn an_anchor_is_checked_against_the_key_of_its_address() {
        let chain = Chain::new(&key(), Seq20::new(5), Caps::STORE);
        let announce = AnnounceAnchor::new(&key(), &chain);
        assert_eq!(announce.verify(&key().id()).map(|head| head.value), Ok(chain.anchor()));
        let other = SecretKey::from_u64(2).id();
        assert_eq!(announce.verify(&other), Err(Unproved::OtherDevice));
        let forged = AnnounceAnchor { address: Address::of(&other), ..announce };
        assert_eq!(forged.verify(&other), Err(Unproved::Signature));
    }

    #[test]
    fn golden_announces_sign_their_label_and_what_the_device_fixed() {
        let (key, seq) = (key(), Seq20::new(0x1_2345));
        let announce = AnnounceKey::new(&key, seq, Caps::RELAY);
        let signed =
            [&b"honeylink/mesh/1 announce key\0"[..], key.id().as_bytes(), &[0x12, 0x34, 0x51]].concat();
        assert_eq!(announce.signature, key.sign(&signed));
        let chain = Chain::new(&key, seq, Caps::RELAY);
        let announce = AnnounceAnchor::new(&key, &chain);
        let label = &b"honeylink/mesh/1 announce anchor\0"[..];
        let signed = [label, &key.id().mesh_address(), &chain.anchor(), &[0x12, 0x34, 0x51]].concat();
        assert_eq!(announce.signature, key.sign(&signed));
    }

    proptest! {
        #[test]
        fn an_announce_with_one_bit_changed_is_refused(at in 4_usize..103, bit in 0_u8..8, anchor in any::<bool>()) {
            let chain = Chain::new(&key(), Seq20::new(5), Caps::STORE);
            let mut bytes = if anchor {
                Frame::AnnounceAnchor(AnnounceAnchor::new(&key(), &chain)).to_bytes()
            } else {
                Frame::AnnounceKey(AnnounceKey::new(&key(), Seq20::new(5), Caps::RELAY)).to_bytes()
            };
            bytes[at] ^= 1 << bit;
            match Frame::decode(&bytes.freeze(), PortKind::Broadcast) {
                Ok(Frame::AnnounceKey(announce)) => prop_assert!(announce.verify().is_err()),
                Ok(Frame::AnnounceAnchor(announce)) => prop_assert!(announce.verify(&key().id()).is_err()),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
