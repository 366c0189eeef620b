//! Short authentication strings: six digits and four pictures that two people compare.
//!
//! The string depends on both keys, the channel, the greeting, both cards and a nonce from each side. Without more, a man
//! in the middle could try nonces until both his strings collide: a million tries take a second. So the guest first
//! commits to its nonce and reveals it only after the host has sent its own (the three-move commitment scheme of
//! Vaudenay, CRYPTO 2005). Now everybody's nonce is fixed before anybody can compute the string, and a man in the middle
//! is left with one chance in a million.
//!
//! People should *enter or pick*, not click OK: [`Sas::accepts`] takes what somebody typed.

use core::fmt;

use zeroize::Zeroizing;

pub use super::emoji::{EMOJI, Emoji, Language};

use super::card::DeviceCard;
use super::kdf::{self, Transcript};
use super::{ChannelBinding, Purpose, SessionKey, VERSION};
use crate::identity::DeviceId;
use crate::rng::Rng;

const LABEL_CONTEXT: &[u8] = b"honeylink/pair/1 sas context";
const LABEL_COMMIT: &[u8] = b"honeylink/pair/1 sas commit";
const LABEL_STRING: &[u8] = b"honeylink/pair/1 sas string";

/// What both sides know before the comparison. Any difference changes the string.
#[derive(Clone, Debug)]
pub struct SasContext {
    /// What the ceremony is for.
    pub purpose: Purpose,
    /// The device that began.
    pub guest: DeviceId,
    /// The device that was in pairing mode.
    pub host: DeviceId,
    /// The connection the ceremony runs on.
    pub binding: ChannelBinding,
    /// Digest of the greeting frames as they crossed the wire.
    pub greeting: [u8; 32],
    /// The guest's card: the comparison is what authenticates the names.
    pub guest_card: DeviceCard,
    /// The host's card.
    pub host_card: DeviceCard,
    /// The key of a code ceremony that came before on this connection, if one did.
    pub session_key: Option<SessionKey>,
}

/// The guest's promise: a hash of its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment(pub [u8; 32]);

/// One side's random contribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; 32]);

/// Why no string came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SasError {
    /// Both ends have the same identity.
    #[error("a device cannot pair with itself")]
    SelfPairing,
    /// The nonce that was opened is not the one committed to.
    #[error("the other device changed its mind about its nonce; this is what an attack looks like")]
    BrokenCommitment,
}

/// The guest, having committed.
#[derive(Debug)]
pub struct GuestCommitted {
    seed: Seed,
    nonce: Nonce,
}

/// The host, having sent its nonce and waiting for the guest's.
#[derive(Debug)]
pub struct HostReplied {
    seed: Seed,
    commitment: Commitment,
    nonce: Nonce,
}

impl GuestCommitted {
    /// Draws a nonce and commits to it.
    ///
    /// # Errors
    /// [`SasError::SelfPairing`].
    pub fn start(context: &SasContext, rng: &mut Rng) -> Result<(Self, Commitment), SasError> {
        let seed = Seed::new(context)?;
        let nonce = Nonce(rng.bytes());
        let commitment = seed.commitment(&nonce);
        Ok((Self { seed, nonce }, commitment))
    }

    /// Takes the host's nonce, and opens the commitment.
    #[must_use]
    pub fn host_replied(self, nonce: &Nonce) -> (Sas, Nonce) {
        (self.seed.string(&self.nonce, nonce), self.nonce)
    }
}

impl HostReplied {
    /// Answers a commitment with the host's nonce.
    ///
    /// # Errors
    /// [`SasError::SelfPairing`].
    pub fn start(
        context: &SasContext,
        commitment: Commitment,
        rng: &mut Rng,
    ) -> Result<(Self, Nonce), SasError> {
        let seed = Seed::new(context)?;
        let nonce = Nonce(rng.bytes());
        Ok((Self { seed, commitment, nonce }, nonce))
    }

    /// Checks the opened nonce against the commitment.
    ///
    /// # Errors
    /// [`SasError::BrokenCommitment`].
    pub fn guest_opened(self, nonce: &Nonce) -> Result<Sas, SasError> {
        if !kdf::equal(&self.seed.commitment(nonce).0, &self.commitment.0) {
            return Err(SasError::BrokenCommitment);
        }
        Ok(self.seed.string(nonce, &self.nonce))
    }
}

/// The context in the two forms the scheme needs: hashed, and the key apart.
#[derive(Debug)]
struct Seed {
    context: [u8; 32],
    session_key: Option<SessionKey>,
}

impl Seed {
    fn new(context: &SasContext) -> Result<Self, SasError> {
        if context.guest == context.host {
            return Err(SasError::SelfPairing);
        }
        let digest = Transcript::new(LABEL_CONTEXT)
            .field(&[VERSION])
            .field(&[context.purpose.to_byte()])
            .field(&context.greeting)
            .field(&context.binding.0)
            .field(context.guest.as_bytes())
            .field(context.host.as_bytes())
            .field(&context.guest_card.to_bytes())
            .field(&context.host_card.to_bytes())
            .finish();
        Ok(Self { context: digest, session_key: context.session_key.clone() })
    }

    fn commitment(&self, nonce: &Nonce) -> Commitment {
        Commitment(Transcript::new(LABEL_COMMIT).field(&self.context).field(&nonce.0).finish())
    }

    fn string(&self, guest: &Nonce, host: &Nonce) -> Sas {
        let mut secret = Zeroizing::new(Vec::with_capacity(96));
        secret.extend_from_slice(&guest.0);
        secret.extend_from_slice(&host.0);
        if let Some(key) = &self.session_key {
            secret.extend_from_slice(key.as_bytes());
        }
        let bytes = kdf::derive::<12>(LABEL_STRING, &secret, &[&self.context]);
        let [a, b, c, d, e, f, g, h, pictures @ ..] = *bytes;
        // 2^64 is so much larger than 10^6 that the remainder's bias is below 10^-13.
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % 1_000_000;
        Sas { number, pictures: pictures.map(|byte| byte & 63) }
    }
}

/// The string both people should see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sas {
    number: u64,
    pictures: [u8; 4],
}

impl Sas {
    /// Six digits.
    #[must_use]
    pub fn digits(&self) -> String {
        format!("{:06}", self.number)
    }

    /// Four pictures out of 64.
    #[must_use]
    pub fn emoji(&self) -> [Emoji; 4] {
        self.pictures.map(Emoji::at)
    }

    /// Whether somebody typed this string: the six digits, however grouped, or the four names in order in `language`.
    #[must_use]
    pub fn accepts(&self, typed: &str, language: Language) -> bool {
        let kept: String =
            typed.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        let names: String = self
            .emoji()
            .iter()
            .flat_map(|e| e.name(language).chars())
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect();
        kept == self.digits() || kept == names
    }
}

impl fmt::Display for Sas {
    /// `042 817  🐝 Bee, 🍯 Honey, 🔑 Key, ⚓ Anchor`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03} ", self.number / 1000, self.number % 1000)?;
        for (i, emoji) in self.emoji().iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma} {} {}", emoji.symbol(), emoji.name(Language::English))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Sas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{DeviceType, SecretKey};

    fn context() -> SasContext {
        SasContext {
            purpose: Purpose::Pair,
            guest: SecretKey::from_u64(1).id(),
            host: SecretKey::from_u64(2).id(),
            binding: ChannelBinding([3; 32]),
            greeting: [4; 32],
            guest_card: DeviceCard::new("guest", DeviceType::Laptop).unwrap(),
            host_card: DeviceCard::new("host", DeviceType::Phone).unwrap(),
            session_key: None,
        }
    }

    fn run(guest: &SasContext, host: &SasContext) -> Result<(Sas, Sas), SasError> {
        let (g, commitment) = GuestCommitted::start(guest, &mut Rng::from_u64(10))?;
        let (h, nonce) = HostReplied::start(host, commitment, &mut Rng::from_u64(20))?;
        let (at_guest, opened) = g.host_replied(&nonce);
        Ok((at_guest, h.guest_opened(&opened)?))
    }

    #[test]
    fn both_sides_of_one_connection_see_the_same_string() {
        let (guest, host) = run(&context(), &context()).unwrap();
        assert_eq!(guest, host);
        assert_eq!(
            guest.to_string(),
            "184 593  🎲 Dice, 🌵 Cactus, 🚜 Tractor, 👑 Crown",
            "version 1 is pinned"
        );
    }

    #[test]
    fn any_differing_belief_breaks_the_commitment() {
        let changes: [fn(&mut SasContext); 7] = [
            |c| c.purpose = Purpose::Fetch,
            |c| c.guest = SecretKey::from_u64(3).id(),
            |c| c.host = SecretKey::from_u64(3).id(),
            |c| c.binding.0[0] ^= 1,
            |c| c.greeting[0] ^= 1,
            |c| c.guest_card = DeviceCard::new("guesT", DeviceType::Laptop).unwrap(),
            |c| c.host_card = DeviceCard::new("host", DeviceType::Tablet).unwrap(),
        ];
        for change in changes {
            let mut other = context();
            change(&mut other);
            assert_eq!(run(&other, &context()), Err(SasError::BrokenCommitment));
        }
        let mut keyed = context();
        keyed.session_key = Some(SessionKey::new([9; 32]));
        let (guest, host) = run(&keyed, &context()).unwrap();
        assert_ne!(guest, host, "a different key is not in the commitment but changes the string");
    }

    /// He completes both halves honestly with his own key; the two people then see different strings.
    #[test]
    fn a_man_in_the_middle_makes_the_strings_differ() {
        let mallory = SecretKey::from_u64(66).id();
        let (mut left, mut right) = (context(), context());
        left.host = mallory;
        left.binding = ChannelBinding([0xaa; 32]);
        right.guest = mallory;
        right.binding = ChannelBinding([0xbb; 32]);
        let (_, at_guest) = run(&left, &left).unwrap();
        let (_, at_host) = run(&right, &right).unwrap();
        assert_ne!(at_guest, at_host);
    }

    #[test]
    fn another_nonce_than_the_committed_one_is_refused() {
        let (g, commitment) = GuestCommitted::start(&context(), &mut Rng::from_u64(10)).unwrap();
        let (h, nonce) = HostReplied::start(&context(), commitment, &mut Rng::from_u64(20)).unwrap();
        let (_, mut opened) = g.host_replied(&nonce);
        opened.0[0] ^= 1;
        assert_eq!(h.guest_opened(&opened), Err(SasError::BrokenCommitment));
    }

    #[test]
    fn a_device_cannot_compare_with_itself() {
        let mut own = context();
        own.host = own.guest;
        assert_eq!(run(&own, &own), Err(SasError::SelfPairing));
    }

    #[test]
    fn typing_the_digits_or_the_names_is_accepted_and_nothing_else() {
        let sas = Sas { number: 42_817, pictures: [0, 1, 2, 3] };
        assert_eq!(sas.digits(), "042817");
        assert!(sas.accepts("042 817", Language::English));
        let names: Vec<&str> = sas.emoji().iter().map(|e| e.name(Language::German)).collect();
        assert!(sas.accepts(&names.join(", ").to_uppercase(), Language::German));
        assert!(!sas.accepts("042818", Language::English) && !sas.accepts("", Language::English));
    }
}
