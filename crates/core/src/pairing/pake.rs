//! The exchange that turns a short code into a proof: SPAKE2 with key confirmation both ways.
//!
//! SPAKE2 (Abdalla and Pointcheval 2005; compare RFC 9382) over the Ed25519 group, from the `spake2` crate, gives both
//! sides a key that is equal only if the codes were. That crate stops there; here the key is bound to a transcript and
//! both sides prove they hold it:
//!
//! ```text
//! transcript = H(label, version, purpose, hint, greeting, binding, guest id, host id, guest message, host message)
//! keys       = HKDF(salt = label; SPAKE2 key; use || transcript)   use: "guest confirms ", "host confirms ", "session "
//! guest MAC  = HMAC(guest key; transcript, guest card)
//! host MAC   = HMAC(host key;  transcript, host card, guest MAC)
//! ```
//!
//! Fields of the hash and parts under a MAC are each preceded by their length in four bytes.
//!
//! The guest proves first. A host that hears a wrong proof stops, so a guesser never holds a value made with the right
//! code: each run of the ceremony tests one guess and the host counts it. The cards inside the MACs are how names get
//! from one device to the other without anybody in between changing them.
//!
//! Each step consumes the state before it, so that no message can be fed in twice or out of order. Both sides only
//! compute on what they have; time limits and counting belong to the caller ([`desk`](super::desk)).

use core::fmt;

use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

use super::card::DeviceCard;
use super::kdf::{self, Transcript};
use super::{ChannelBinding, Purpose, Secret, SessionKey, VERSION};
use crate::identity::DeviceId;
use crate::rng::Rng;

/// The label of every derivation here. A new version of the ceremony gets a new label.
const LABEL: &[u8] = b"honeylink/pair/1 code";
/// The crate puts the sender's side before the group element. Our frames already say who speaks, and so does the
/// transcript, so these bytes stay off the wire.
const SIDE_GUEST: u8 = b'A';
const SIDE_HOST: u8 = b'B';

/// A blinded group element: one side's half of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PakeMessage(pub [u8; 32]);

/// One side's proof that it holds the key, with the card it vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// HMAC-SHA256 as the module describes.
    pub mac: [u8; 32],
    /// Who the sender says it is.
    pub card: DeviceCard,
}

/// What both sides know about the run before the exchange begins. Any difference makes the confirmation fail.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// What the ceremony is for.
    pub purpose: Purpose,
    /// The device that types the code.
    pub guest: DeviceId,
    /// The device that shows it.
    pub host: DeviceId,
    /// The connection the ceremony runs on.
    pub binding: ChannelBinding,
    /// Digest of the greeting frames as they crossed the wire ([`frame::greeting_digest`](super::frame::greeting_digest)).
    pub greeting: [u8; 32],
}

/// Why an exchange ended without agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PakeError {
    /// Both ends have the same identity.
    #[error("a device cannot pair with itself")]
    SelfPairing,
    /// The peer sent our own half back.
    #[error("the other side only reflects what it is sent; something sits in between")]
    Reflected,
    /// The peer's half is no group element.
    #[error("the other device sent a pairing message that is no point on the curve")]
    NotAPoint,
    /// The proof does not match: other code, other connection, other identities, or altered messages.
    #[error("the codes differ, or somebody sits between the two devices")]
    Mismatch,
}

/// What a finished exchange gives each side.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// Known to the two devices only.
    pub session_key: SessionKey,
    /// The other device's card, authenticated.
    pub peer_card: DeviceCard,
}

/// The side that types the code, before it has heard from the host.
pub struct Guest(Half);

/// The guest has sent its proof and waits for the host's.
pub struct GuestAwaitingConfirm {
    keys: Keys,
    sent_mac: [u8; 32],
}

/// The side that shows the code, having answered and waiting for the guest's proof.
pub struct Host {
    keys: Keys,
    card: DeviceCard,
}

impl Guest {
    /// Begins the exchange.
    ///
    /// # Errors
    /// [`PakeError::SelfPairing`].
    pub fn start(
        context: Context,
        secret: &Secret,
        card: DeviceCard,
        rng: &mut Rng,
    ) -> Result<(Self, PakeMessage), PakeError> {
        if context.guest == context.host {
            return Err(PakeError::SelfPairing);
        }
        let half = Half::new(Role::Guest, context, secret, card, rng);
        let message = half.message;
        Ok((Self(half), message))
    }

    /// Takes the host's half and proves knowledge of the code.
    ///
    /// # Errors
    /// [`PakeError::Reflected`] or [`PakeError::NotAPoint`].
    pub fn host_replied(self, message: &PakeMessage) -> Result<(GuestAwaitingConfirm, Confirm), PakeError> {
        let (keys, card) = self.0.finish(message)?;
        let mac = kdf::mac(&keys.guest, &[&keys.transcript, &card.to_bytes()]);
        Ok((GuestAwaitingConfirm { keys, sent_mac: mac }, Confirm { mac, card }))
    }
}

impl GuestAwaitingConfirm {
    /// Checks the host's proof.
    ///
    /// # Errors
    /// [`PakeError::Mismatch`]: whoever sent it does not know the code.
    pub fn host_confirmed(self, confirm: &Confirm) -> Result<Agreed, PakeError> {
        let expected =
            kdf::mac(&self.keys.host, &[&self.keys.transcript, &confirm.card.to_bytes(), &self.sent_mac]);
        self.keys.agree(&expected, confirm)
    }
}

impl Host {
    /// Answers the guest's half with the host's.
    ///
    /// # Errors
    /// [`PakeError::SelfPairing`], [`PakeError::Reflected`] or [`PakeError::NotAPoint`].
    pub fn answer(
        context: Context,
        secret: &Secret,
        card: DeviceCard,
        message: &PakeMessage,
        rng: &mut Rng,
    ) -> Result<(Self, PakeMessage), PakeError> {
        if context.guest == context.host {
            return Err(PakeError::SelfPairing);
        }
        let half = Half::new(Role::Host, context, secret, card, rng);
        let reply = half.message;
        let (keys, card) = half.finish(message)?;
        Ok((Self { keys, card }, reply))
    }

    /// Judges the guest's proof; only a right one yields the host's own. Callers outside tests go through
    /// [`Desk::judge`](super::desk::Desk::judge), which counts the wrong ones.
    ///
    /// # Errors
    /// [`PakeError::Mismatch`]: the guest guessed wrong, or sits on another connection.
    pub fn guest_confirmed(self, confirm: &Confirm) -> Result<(Agreed, Confirm), PakeError> {
        let expected = kdf::mac(&self.keys.guest, &[&self.keys.transcript, &confirm.card.to_bytes()]);
        let agreed = self.keys.agree(&expected, confirm)?;
        let mac = kdf::mac(&self.keys.host, &[&self.keys.transcript, &self.card.to_bytes(), &confirm.mac]);
        Ok((agreed, Confirm { mac, card: self.card }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Guest,
    Host,
}

/// One side of SPAKE2 before the other's message has come.
struct Half {
    role: Role,
    context: Context,
    hint: [u8; 5],
    card: DeviceCard,
    message: PakeMessage,
    spake: Spake2<Ed25519Group>,
}

impl Half {
    fn new(role: Role, context: Context, secret: &Secret, card: DeviceCard, rng: &mut Rng) -> Self {
        let password = Password::new(secret.bytes());
        let guest = Identity::new(context.guest.as_bytes());
        let host = Identity::new(context.host.as_bytes());
        let (spake, sided) = match role {
            Role::Guest => Spake2::start_a_with_rng(&password, &guest, &host, Draw(rng)),
            Role::Host => Spake2::start_b_with_rng(&password, &guest, &host, Draw(rng)),
        };
        let mut message = PakeMessage([0; 32]);
        if let Some(element) = sided.last_chunk::<32>() {
            message.0 = *element;
        }
        Self { role, context, hint: secret.hint().to_bytes(), card, message, spake }
    }

    fn finish(self, theirs: &PakeMessage) -> Result<(Keys, DeviceCard), PakeError> {
        // Harmless to the mathematics, as the sides blind with different points, but a sure sign of a mirror.
        if theirs == &self.message {
            return Err(PakeError::Reflected);
        }
        let (their_side, guest, host) = match self.role {
            Role::Guest => (SIDE_HOST, &self.message, theirs),
            Role::Host => (SIDE_GUEST, theirs, &self.message),
        };
        let transcript = Transcript::new(LABEL)
            .field(&[VERSION])
            .field(&[self.context.purpose.to_byte()])
            .field(&self.hint)
            .field(&self.context.greeting)
            .field(&self.context.binding.0)
            .field(self.context.guest.as_bytes())
            .field(self.context.host.as_bytes())
            .field(&guest.0)
            .field(&host.0)
            .finish();
        let mut sided = [their_side; 33];
        sided[1..].copy_from_slice(&theirs.0);
        let shared = Zeroizing::new(self.spake.finish(&sided).map_err(|_| PakeError::NotAPoint)?);
        Ok((Keys::derive(&shared, transcript), self.card))
    }
}

/// Everything derived from the exchange.
struct Keys {
    transcript: [u8; 32],
    guest: Zeroizing<[u8; 32]>,
    host: Zeroizing<[u8; 32]>,
    session: SessionKey,
}

impl Keys {
    fn derive(shared: &[u8], transcript: [u8; 32]) -> Self {
        let key = |usage: &[u8]| kdf::derive::<32>(LABEL, shared, &[usage, &transcript]);
        Self {
            guest: key(b"guest confirms "),
            host: key(b"host confirms "),
            session: SessionKey::new(*key(b"session ")),
            transcript,
        }
    }

    fn agree(&self, expected: &[u8; 32], confirm: &Confirm) -> Result<Agreed, PakeError> {
        if kdf::equal(expected, &confirm.mac) {
            Ok(Agreed { session_key: self.session.clone(), peer_card: confirm.card.clone() })
        } else {
            Err(PakeError::Mismatch)
        }
    }
}

/// Lends our generator to the crate, which speaks an older `rand_core`.
struct Draw<'a>(&'a mut Rng);

impl rand_core_06::RngCore for Draw<'_> {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.0.bytes())
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core_06::Error> {
        self.0.fill(dest);
        Ok(())
    }
}

impl rand_core_06::CryptoRng for Draw<'_> {}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guest(..)")
    }
}

impl fmt::Debug for GuestAwaitingConfirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GuestAwaitingConfirm(..)")
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host(..)")
    }
}

#[cfg(test)]
#[path = "pake_tests.rs"]
mod tests;
