//! Hash chains: how a beacon of 33 bytes proves who sent it (ME-A4, ME-A5).
//!
//! The owner draws a last value and hashes it down to the anchor, which an announce signs. Each beacon reveals the value
//! before the one revealed last: everybody can hash it down to what they know, nobody else can find it. A value also
//! depends on device, announce number and capabilities, so it means nothing under another announce.
//!
//! A beacon proves that the owner sent it some time after the one before; not when, and not over which way. Who hears one
//! may carry it elsewhere and be the first there. So it refreshes, and routes are judged by more than beacons.
//!
//! The last value comes from the identity key and the announce number. So nothing needs to be on disk but the number,
//! and after a restart there is a new number. The owner keeps every 32nd value, 528 bytes, and hashes at most 31 times
//! for a beacon.

use sha2::{Digest as _, Sha256};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::frame::seq_caps_bytes;
use super::frame::{Beacon, Caps, Cost, Seq20};
use super::hint::{Address, Near};
use super::keys::{expand, extract};
use crate::identity::SecretKey;
use crate::limits::{MESH_CHAIN_STEPS_MAX, MESH_CHAIN_VALUES_MAX};

/// One value of a chain.
pub type Value = [u8; 16];

const STRIDE: u16 = 32;
const KEPT: usize = (MESH_CHAIN_VALUES_MAX / STRIDE) as usize + 1;
const _: () = assert!(MESH_CHAIN_VALUES_MAX.is_multiple_of(STRIDE));

/// Which chain a value belongs to.
#[derive(Clone, Copy)]
struct Of {
    address: Address,
    number: [u8; 3],
}

impl Of {
    fn new(address: Address, seq: Seq20, caps: Caps) -> Self {
        Self { address, number: seq_caps_bytes(seq, caps) }
    }

    /// Value `index - 1` from value `index`. 46 bytes go in: one block of SHA-256.
    fn below(&self, index: u16, value: &Value) -> Value {
        let hash = Sha256::new()
            .chain_update(b"hl-chain1")
            .chain_update(self.address.0)
            .chain_update(self.number)
            .chain_update(index.to_be_bytes())
            .chain_update(value)
            .finalize();
        let mut out = Value::default();
        out.copy_from_slice(&hash[..16]);
        out
    }

    fn down(&self, from: u16, to: u16, value: &Value) -> Value {
        (to + 1..=from).rev().fold(*value, |value, index| self.below(index, &value))
    }
}

/// The owner's side. What it keeps is secret until revealed; wiped on drop.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Chain {
    #[zeroize(skip)]
    of: Of,
    #[zeroize(skip)]
    seq: Seq20,
    #[zeroize(skip)]
    caps: Caps,
    /// Values 0, 32, 64, ...
    kept: [Value; KEPT],
    #[zeroize(skip)]
    next: u16,
}

impl Chain {
    /// The chain of announce number `seq`. Hashes 1024 times: about 100 microseconds on a desktop computer.
    #[must_use]
    pub fn new(own: &SecretKey, seq: Seq20, caps: Caps) -> Self {
        let of = Of::new(Address::of(&own.id()), seq, caps);
        let root = extract(b"honeylink/mesh/1 chain", &[&own.to_bytes()[..]]);
        let secret = expand(&root, &[&of.number]);
        let mut value = Zeroizing::new(Value::default());
        value.copy_from_slice(&secret[..16]);
        let mut kept = [Value::default(); KEPT];
        let mut index = MESH_CHAIN_VALUES_MAX;
        for place in kept.iter_mut().rev() {
            *place = *value;
            let lower = index.saturating_sub(STRIDE);
            *value = of.down(index, lower, &value);
            index = lower;
        }
        Self { of, seq, caps, kept, next: 1 }
    }

    /// Value 0, for the announce to sign.
    #[must_use]
    pub const fn anchor(&self) -> Value {
        self.kept[0]
    }

    /// The number of its announce.
    #[must_use]
    pub const fn seq(&self) -> Seq20 {
        self.seq
    }

    /// The capabilities of its announce.
    #[must_use]
    pub const fn caps(&self) -> Caps {
        self.caps
    }

    /// Beacons left.
    #[must_use]
    pub const fn left(&self) -> u16 {
        MESH_CHAIN_VALUES_MAX + 1 - self.next
    }

    /// The next beacon, as the owner sends it itself; `None` when the chain is used up and a new announce is due.
    #[must_use]
    pub fn beacon(&mut self) -> Option<Beacon> {
        let index = self.next;
        let above = index.div_ceil(STRIDE);
        let kept = self.kept.get(usize::from(above))?;
        let value = self.of.down(above * STRIDE, index, kept);
        self.next += 1;
        Some(Beacon {
            hops: 0,
            prev: self.of.address.near(),
            cost: Cost::FREE,
            tag: self.of.address.tag(),
            seq: self.seq,
            caps: self.caps,
            index,
            value,
        })
    }
}

impl core::fmt::Debug for Chain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Chain(announce {}, next {})", self.seq.number(), self.next)
    }
}

/// What somebody else knows of a chain: the newest value proved so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose chain.
    pub address: Address,
    /// The announce it belongs to.
    pub seq: Seq20,
    /// The announce's capabilities.
    pub caps: Caps,
    /// The newest value's index; 0 is the anchor.
    pub index: u16,
    /// The newest value.
    pub value: Value,
}

/// Why a beacon was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeaconRefused {
    /// Of another device, another announce, or with other capabilities than were announced.
    #[error("the beacon does not belong to the announce that is known")]
    OtherChain,
    /// Not newer than what is known: a copy, or played back.
    #[error("the beacon is not newer than the last one")]
    NotNewer,
    /// So many were missed that checking would cost too much; the next announce helps.
    #[error("too many beacons were missed to check this one")]
    TooFarAhead,
    /// Its value does not lead to what is known.
    #[error("the beacon was not sent by its device")]
    Forged,
}

impl Head {
    /// Checks a beacon and moves on to it. Hashes at most [`MESH_CHAIN_STEPS_MAX`] times.
    ///
    /// # Errors
    /// [`BeaconRefused`]; the head is unchanged then.
    pub fn accept(&mut self, beacon: &Beacon) -> Result<(), BeaconRefused> {
        if (beacon.tag, beacon.seq, beacon.caps) != (self.address.tag(), self.seq, self.caps) {
            return Err(BeaconRefused::OtherChain);
        }
        let steps = beacon.index.checked_sub(self.index).filter(|steps| *steps > 0);
        let steps = steps.ok_or(BeaconRefused::NotNewer)?;
        if steps > MESH_CHAIN_STEPS_MAX {
            return Err(BeaconRefused::TooFarAhead);
        }
        let of = Of::new(self.address, self.seq, self.caps);
        // No secret here: the value is public once the beacon is on air.
        if of.down(beacon.index, self.index, &beacon.value) != self.value {
            return Err(BeaconRefused::Forged);
        }
        (self.index, self.value) = (beacon.index, beacon.value);
        Ok(())
    }

    /// The hint of the device, as its own transmissions carry it.
    #[must_use]
    pub const fn near(&self) -> Near {
        self.address.near()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::frame::{AnnounceAnchor, Frame, PortKind};
    use proptest::prelude::*;

    fn chain() -> (Chain, Head) {
        let key = SecretKey::from_u64(1);
        let chain = Chain::new(&key, Seq20::new(5), Caps::RELAY);
        let head = AnnounceAnchor::new(&key, &chain).verify(&key.id()).unwrap();
        (chain, head)
    }

    #[test]
    fn every_beacon_of_a_chain_is_believed_once_and_in_order() {
        let (mut chain, mut head) = chain();
        let mut count = 0;
        while let Some(beacon) = chain.beacon() {
            assert_eq!(head.accept(&beacon), Ok(()), "{}", beacon.index);
            assert_eq!(head.accept(&beacon), Err(BeaconRefused::NotNewer));
            count += 1;
        }
        assert_eq!(count, MESH_CHAIN_VALUES_MAX);
        assert_eq!(chain.left(), 0);
    }

    #[test]
    fn missed_beacons_cost_steps_up_to_a_bound() {
        let (mut chain, mut head) = chain();
        let beacons: Vec<Beacon> = core::iter::from_fn(|| chain.beacon()).collect();
        let max = usize::from(MESH_CHAIN_STEPS_MAX);
        assert_eq!(head.accept(&beacons[max]), Err(BeaconRefused::TooFarAhead));
        assert_eq!(head.accept(&beacons[max - 1]), Ok(()));
        assert_eq!(head.accept(&beacons[max + 3]), Ok(()));
        assert_eq!(head.accept(&beacons[max + 2]), Err(BeaconRefused::NotNewer));
    }

    #[test]
    fn a_beacon_means_nothing_under_another_announce_or_with_other_capabilities() {
        let (mut own, mut head) = chain();
        let beacon = own.beacon().unwrap();
        let other = Beacon { caps: Caps::NONE, ..beacon.clone() };
        assert_eq!(head.accept(&other), Err(BeaconRefused::OtherChain));
        let mut later = Head { seq: Seq20::new(6), ..head };
        assert_eq!(later.accept(&beacon), Err(BeaconRefused::OtherChain));
        let moved = Beacon { seq: Seq20::new(6), ..beacon };
        assert_eq!(later.accept(&moved), Err(BeaconRefused::Forged));
    }

    #[test]
    fn golden_chain_of_one_identity_and_number() {
        // Computed independently, from the text of ME-A4 alone.
        let mut chain = Chain::new(&SecretKey::from_bytes(&[0xa1; 32]), Seq20::new(5), Caps::RELAY);
        let hex = data_encoding::HEXLOWER.encode(&chain.anchor());
        assert_eq!(hex, "bd47ae5fff63635a88b3a297bf567273");
        let first = chain.beacon().unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&first.value), "6e2b5466c8f9e85281dcedc679e91149");
    }

    proptest! {
        #[test]
        fn a_beacon_with_one_bit_changed_is_refused(at in 4_usize..33, bit in 0_u8..8, skipped in 0_usize..40) {
            let (mut chain, mut head) = chain();
            for _ in 0..skipped {
                let _ = chain.beacon();
            }
            let mut bytes = Frame::Beacon(chain.beacon().unwrap()).to_bytes();
            bytes[at] ^= 1 << bit;
            if let Ok(Frame::Beacon(beacon)) = Frame::decode(&bytes.freeze(), PortKind::Broadcast) {
                prop_assert!(head.accept(&beacon).is_err());
            }
        }
    }
}
