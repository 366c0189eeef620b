//! Two devices make a fresh root over the mesh: one frame each way, both signed (ME-K7).
//!
//! The offer and the answer are bodies of [`Signed`](crate::mesh::frame::Signed) frames of type
//! [`KeyExchange`](crate::mesh::signed::Body::KeyExchange). Each names the signer's key and, under the signature, the
//! whole address of the one it is for; the answer also names the offer. The root mixes both ephemeral keys with the
//! static secret, so that it is lost only if both fail.
//!
//! The ratchet counts from the numbers of these two frames: the signed frames' own.
//!
//! After [`Offer::finish`] the offering side may seal with the new ratchet at once: the answer proved that the peer has
//! it. The answering side keeps what it had until a message opens under the new one: its answer may be lost, and an offer
//! may be an old one played back, which then costs a computation and no message.
//! When both offer at the same time, the offer of the smaller device id stands and the other is dropped.

use curve25519_dalek::montgomery::MontgomeryPoint;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Ratchet, Root, Starts, expand, extract};
use crate::identity::{DeviceId, SecretKey};
use crate::rng::Rng;

/// What one side says: its ephemeral key, and which offer it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyExchange {
    /// An X25519 public key, used once.
    pub ephemeral: [u8; 32],
    /// In an answer, the digest of the offer; `None` in an offer.
    pub answers: Option<[u8; 16]>,
}

/// Why an exchange came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeRefused {
    /// The answer is to another offer, or is none.
    #[error("the answer is not to the offer that was made")]
    OtherOffer,
    /// An offer was expected and this is an answer.
    #[error("this is an answer, not an offer")]
    NotAnOffer,
    /// The ephemeral key, or the peer's own, gives a secret that everybody knows.
    #[error("the peer's key is not a proper key")]
    WeakKey,
}

/// An offer that waits for its answer. Kept in memory only: after a restart a new one is made. Wiped on drop.
pub struct Offer {
    secret: Zeroizing<[u8; 32]>,
    exchange: KeyExchange,
    seq: u32,
}

impl Offer {
    /// Makes an offer that will be signed under number `seq`.
    #[must_use]
    pub fn new(rng: &mut Rng, seq: u32) -> Self {
        let (secret, ephemeral) = ephemeral(rng);
        Self { secret, exchange: KeyExchange { ephemeral, answers: None }, seq }
    }

    /// What to sign and send.
    #[must_use]
    pub const fn exchange(&self) -> KeyExchange {
        self.exchange
    }

    /// The number it is signed under.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.seq
    }

    /// Takes the answer of `peer`, which came signed under number `seq`.
    ///
    /// # Errors
    /// [`ExchangeRefused`].
    pub fn finish(
        self,
        own: &SecretKey,
        peer: &DeviceId,
        answer: &KeyExchange,
        seq: u32,
    ) -> Result<Ratchet, ExchangeRefused> {
        let digest = digest(&own.id(), &self.exchange.ephemeral, self.seq);
        if !answer.answers.is_some_and(|answers| answers.ct_eq(&digest).into()) {
            return Err(ExchangeRefused::OtherOffer);
        }
        let fresh = agree(&self.secret, &answer.ephemeral)?;
        let info = Info { offer: self.exchange.ephemeral, answer: answer.ephemeral, seqs: (self.seq, seq) };
        let root = root(own, peer, &fresh, &own.id(), peer, &info)?;
        Ok(Ratchet::new(&root, &own.id(), peer, Starts { ours: self.seq, theirs: seq }))
    }
}

impl core::fmt::Debug for Offer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Offer(seq {})", self.seq)
    }
}

impl KeyExchange {
    /// Answers an offer of `peer`, which came signed under number `theirs`, with a frame that will be signed under
    /// `ours`. The ratchet is what the peer will have when the answer arrives; see the module for when to use it.
    ///
    /// # Errors
    /// [`ExchangeRefused`].
    pub fn answer(
        &self,
        rng: &mut Rng,
        own: &SecretKey,
        peer: &DeviceId,
        starts: Starts,
    ) -> Result<(Self, Ratchet), ExchangeRefused> {
        if self.answers.is_some() {
            return Err(ExchangeRefused::NotAnOffer);
        }
        let (secret, ephemeral) = ephemeral(rng);
        let fresh = agree(&secret, &self.ephemeral)?;
        let info = Info { offer: self.ephemeral, answer: ephemeral, seqs: (starts.theirs, starts.ours) };
        let root = root(own, peer, &fresh, peer, &own.id(), &info)?;
        let answers = Some(digest(peer, &self.ephemeral, starts.theirs));
        Ok((Self { ephemeral, answers }, Ratchet::new(&root, &own.id(), peer, starts)))
    }
}

/// What both sides said, in the order offer, answer.
struct Info {
    offer: [u8; 32],
    answer: [u8; 32],
    seqs: (u32, u32),
}

fn root(
    own: &SecretKey,
    peer: &DeviceId,
    fresh: &[u8; 32],
    offerer: &DeviceId,
    answerer: &DeviceId,
    info: &Info,
) -> Result<Root, ExchangeRefused> {
    let fixed = own.agree(peer).ok_or(ExchangeRefused::WeakKey)?;
    let prk = extract(b"honeylink/mesh/1 exchange", &[fresh, &fixed[..]]);
    let (offer_seq, answer_seq) = (info.seqs.0.to_be_bytes(), info.seqs.1.to_be_bytes());
    Ok(Root::derived(*expand(
        &prk,
        &[
            b"root",
            offerer.as_bytes(),
            answerer.as_bytes(),
            &info.offer,
            &info.answer,
            &offer_seq,
            &answer_seq,
        ],
    )))
}

fn digest(offerer: &DeviceId, ephemeral: &[u8; 32], seq: u32) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(b"honeylink/mesh/1 offer")
        .chain_update(offerer.as_bytes())
        .chain_update(ephemeral)
        .chain_update(seq.to_be_bytes())
        .finalize();
    let mut out = [0; 16];
    out.copy_from_slice(&hash[..16]);
    out
}

fn ephemeral(rng: &mut Rng) -> (Zeroizing<[u8; 32]>, [u8; 32]) {
    let secret = Zeroizing::new(rng.bytes());
    let public = MontgomeryPoint::mul_base_clamped(*secret).to_bytes();
    (secret, public)
}

/// X25519 (RFC 7748 section 5), refusing keys of low order as section 6.1 allows.
fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, ExchangeRefused> {
    let shared = Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*secret).to_bytes());
    if bool::from(shared.ct_eq(&[0; 32])) { Err(ExchangeRefused::WeakKey) } else { Ok(shared) }
}
