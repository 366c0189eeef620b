//! The two roles of a ceremony, step by step. Both read like the diagram in [`honeylink_core::pairing`].
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of each frame, exactly one kind is due and every other is not"
)]

use honeylink_core::pairing::desk::{Claim, TicketId};
use honeylink_core::pairing::frame::{Frame, Hello, Versions, Welcome, greeting_digest};
use honeylink_core::pairing::pake::{Agreed, Context, Guest, Host, PakeError};
use honeylink_core::pairing::sas::SasContext;
use honeylink_core::pairing::{Hint, Secret};
use honeylink_core::rng::Rng;
use honeylink_core::wire::Invalid;
use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::{Wire, out_of_turn};
use super::{
    DeviceCard, Errand, Here, Paired, PairingDesk, PairingError, Refusal, SessionKey, Source, compare,
};

/// Plays the host: lets the device at the other end present a code, or compare strings, at `desk`.
///
/// `source` is where the connection came from, for counting wrong codes.
///
/// # Errors
/// [`PairingError`]; the other device has been told why, if it was still listening.
pub async fn host<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    here: &Here,
    source: Source,
    desk: &PairingDesk,
) -> Result<Paired, PairingError> {
    let mut wire = Wire::new(stream);
    let outcome = HostRun { wire: &mut wire, here, source, desk }.run().await;
    if let Err(error) = &outcome {
        wire.part(error).await;
    }
    outcome
}

/// Plays the guest: presents what the person brought to the device at the other end.
///
/// `rng` must be seeded from the operating system.
///
/// # Errors
/// [`PairingError`]; the other device has been told why, if it was still listening.
pub async fn guest<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    here: &Here,
    errand: &Errand,
    rng: &mut Rng,
) -> Result<Paired, PairingError> {
    let mut wire = Wire::new(stream);
    let outcome = GuestRun { wire: &mut wire, here, errand, rng }.run().await;
    if let Err(error) = &outcome {
        wire.part(error).await;
    }
    outcome
}

struct HostRun<'a, 'w, S> {
    wire: &'a mut Wire<'w, S>,
    here: &'a Here,
    source: Source,
    desk: &'a PairingDesk,
}

impl<S: AsyncRead + AsyncWrite + Unpin> HostRun<'_, '_, S> {
    async fn run(mut self) -> Result<Paired, PairingError> {
        if self.here.local == self.here.peer {
            return Err(PairingError::SelfPairing);
        }
        let hello = match self.wire.receive("hello").await? {
            Frame::Hello(hello) => hello,
            other => return Err(out_of_turn("hello", &other)),
        };
        let ours = Versions::OURS;
        let version = ours
            .common(hello.versions)
            .ok_or(PairingError::TurnedAway(Refusal::Version { min: ours.min, max: ours.max }))?;
        if hello.hint == Hint::Sas && !self.here.compare.is_able() {
            return Err(PairingError::TurnedAway(Refusal::NotOpen));
        }
        let claim =
            self.desk.claim(&self.source, hello.purpose, hello.hint).map_err(PairingError::TurnedAway)?;
        let compare = self.here.compare.is_wanted() || hello.compare || hello.hint == Hint::Sas;
        let compare = compare && self.here.compare.is_able();
        let greeting = Greeting { hello, welcome: Welcome { version, compare } };
        match claim {
            Claim::Code(ticket, secret) => self.with_code(greeting, ticket, &secret).await,
            Claim::WalkIn => {
                // From here on the desk is busy with this guest until the visit ends, however it ends.
                let mut visit = Visit { desk: self.desk, source: self.source, agreed: None };
                let outcome = self.walk_in(greeting).await;
                visit.agreed = match &outcome {
                    Ok(_) => Some(true),
                    Err(error) => is_suspicious(error).then_some(false),
                };
                outcome
            }
        }
    }

    async fn with_code(
        &mut self,
        greeting: Greeting,
        ticket: TicketId,
        secret: &Secret,
    ) -> Result<Paired, PairingError> {
        let mut rng = self.desk.spawn_rng();
        self.wire.send(&Frame::Welcome(greeting.welcome), "pake").await?;
        let message = match self.wire.receive("pake").await? {
            Frame::Pake(message) => message,
            other => return Err(out_of_turn("pake", &other)),
        };
        let context = greeting.pake_context(self.here, Role::Host);
        let (host, reply) =
            Host::answer(context, secret, self.here.card.clone(), &message, &mut rng).map_err(pake_error)?;
        self.wire.send(&Frame::Pake(reply), "confirm").await?;
        let proof = match self.wire.receive("confirm").await? {
            Frame::Confirm(proof) => proof,
            other => return Err(out_of_turn("confirm", &other)),
        };
        let (agreed, proof) = self
            .desk
            .judge(self.source, (ticket, secret.hint()), host, &proof)
            .map_err(PairingError::TurnedAway)?;
        self.wire.send(&Frame::Confirm(proof), "done").await?;
        if greeting.welcome.compare {
            let context = greeting.sas_context(self.here, Role::Host, &agreed.peer_card, Some(&agreed));
            compare::as_host(self.wire, self.here, &context, &mut rng).await?;
        }
        self.finish().await?;
        Ok(greeting.paired(self.here, &agreed.peer_card, Some(agreed.session_key), Some(ticket)))
    }

    async fn walk_in(&mut self, greeting: Greeting) -> Result<Paired, PairingError> {
        self.wire.send(&Frame::Welcome(greeting.welcome), "card").await?;
        let card = match self.wire.receive("card").await? {
            Frame::Card(card) => card,
            other => return Err(out_of_turn("card", &other)),
        };
        self.wire.send(&Frame::Card(self.here.card.clone()), "sas-commit").await?;
        let context = greeting.sas_context(self.here, Role::Host, &card, None);
        compare::as_host(self.wire, self.here, &context, &mut self.desk.spawn_rng()).await?;
        self.finish().await?;
        Ok(greeting.paired(self.here, &card, None, None))
    }

    /// The guest says that it has everything, and hears the same: neither remembers a peer that may not remember it.
    async fn finish(&mut self) -> Result<(), PairingError> {
        match self.wire.receive("done").await? {
            Frame::Done => {}
            other => return Err(out_of_turn("done", &other)),
        }
        // The guest has all it needs; whether it hears this is its concern.
        let _ = self.wire.send(&Frame::Done, "goodbye").await;
        Ok(())
    }
}

struct GuestRun<'a, 'w, S> {
    wire: &'a mut Wire<'w, S>,
    here: &'a Here,
    errand: &'a Errand,
    rng: &'a mut Rng,
}

impl<S: AsyncRead + AsyncWrite + Unpin> GuestRun<'_, '_, S> {
    async fn run(mut self) -> Result<Paired, PairingError> {
        if self.here.local == self.here.peer {
            return Err(PairingError::SelfPairing);
        }
        if let Errand::Invite(invite) = self.errand
            && invite.host() != self.here.peer
        {
            return Err(PairingError::WrongDevice { expected: invite.host(), found: self.here.peer });
        }
        let compare = self.here.compare.is_wanted() || matches!(self.errand, Errand::Compare);
        let hello = Hello {
            versions: Versions::OURS,
            purpose: self.errand.purpose(),
            hint: self.errand.hint(),
            compare: compare && self.here.compare.is_able(),
        };
        self.wire.send(&Frame::Hello(hello), "welcome").await?;
        let welcome = match self.wire.receive("welcome").await? {
            Frame::Welcome(welcome) => welcome,
            Frame::Hello(_) => return Err(PairingError::BothEntering),
            other => return Err(out_of_turn("welcome", &other)),
        };
        if !(Versions::OURS.min..=Versions::OURS.max).contains(&welcome.version) {
            return Err(PairingError::VersionNotOffered(welcome.version));
        }
        if welcome.compare && !self.here.compare.is_able() {
            return Err(PairingError::NobodyToCompare);
        }
        let greeting = Greeting { hello, welcome };
        match self.errand {
            Errand::Code(code, _) => self.with_secret(greeting, &code.secret()).await,
            Errand::Invite(invite) => self.with_secret(greeting, &invite.secret()).await,
            Errand::Compare => self.walk_in(greeting).await,
        }
    }

    async fn with_secret(&mut self, greeting: Greeting, secret: &Secret) -> Result<Paired, PairingError> {
        let context = greeting.pake_context(self.here, Role::Guest);
        let (guest, message) =
            Guest::start(context, secret, self.here.card.clone(), self.rng).map_err(pake_error)?;
        self.wire.send(&Frame::Pake(message), "pake").await?;
        let reply = match self.wire.receive("pake").await? {
            Frame::Pake(reply) => reply,
            other => return Err(out_of_turn("pake", &other)),
        };
        let (guest, proof) = guest.host_replied(&reply).map_err(pake_error)?;
        self.wire.send(&Frame::Confirm(proof), "confirm").await?;
        let proof = match self.wire.receive("confirm").await? {
            Frame::Confirm(proof) => proof,
            other => return Err(out_of_turn("confirm", &other)),
        };
        let agreed = guest.host_confirmed(&proof).map_err(pake_error)?;
        if greeting.welcome.compare {
            let context = greeting.sas_context(self.here, Role::Guest, &agreed.peer_card, Some(&agreed));
            compare::as_guest(self.wire, self.here, &context, self.rng).await?;
        }
        self.finish().await?;
        Ok(greeting.paired(self.here, &agreed.peer_card, Some(agreed.session_key), None))
    }

    async fn walk_in(&mut self, greeting: Greeting) -> Result<Paired, PairingError> {
        // Without a code, the comparison is all there is: a host that would skip it proves nothing.
        if !greeting.welcome.compare {
            return Err(PairingError::NobodyToCompare);
        }
        self.wire.send(&Frame::Card(self.here.card.clone()), "card").await?;
        let card = match self.wire.receive("card").await? {
            Frame::Card(card) => card,
            other => return Err(out_of_turn("card", &other)),
        };
        let context = greeting.sas_context(self.here, Role::Guest, &card, None);
        compare::as_guest(self.wire, self.here, &context, self.rng).await?;
        self.finish().await?;
        Ok(greeting.paired(self.here, &card, None, None))
    }

    async fn finish(&mut self) -> Result<(), PairingError> {
        self.wire.send(&Frame::Done, "done").await?;
        match self.wire.receive("done").await? {
            Frame::Done => Ok(()),
            other => Err(out_of_turn("done", &other)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Guest,
    Host,
}

/// What was said in the open, and what follows from it.
#[derive(Clone, Copy)]
struct Greeting {
    hello: Hello,
    welcome: Welcome,
}

impl Greeting {
    fn pake_context(&self, here: &Here, role: Role) -> Context {
        let (guest, host) = match role {
            Role::Guest => (here.local, here.peer),
            Role::Host => (here.peer, here.local),
        };
        let greeting = greeting_digest(&self.hello, &self.welcome);
        Context { purpose: self.hello.purpose, guest, host, binding: here.binding, greeting }
    }

    fn sas_context(
        &self,
        here: &Here,
        role: Role,
        peer_card: &DeviceCard,
        agreed: Option<&Agreed>,
    ) -> SasContext {
        let Context { purpose, guest, host, binding, greeting } = self.pake_context(here, role);
        let (guest_card, host_card) = match role {
            Role::Guest => (here.card.clone(), peer_card.clone()),
            Role::Host => (peer_card.clone(), here.card.clone()),
        };
        let session_key = agreed.map(|agreed| agreed.session_key.clone());
        SasContext { purpose, guest, host, binding, greeting, guest_card, host_card, session_key }
    }

    fn paired(
        &self,
        here: &Here,
        card: &DeviceCard,
        session_key: Option<SessionKey>,
        ticket: Option<TicketId>,
    ) -> Paired {
        Paired {
            peer: here.peer,
            name: card.name().to_owned(),
            device_type: card.device_type(),
            purpose: self.hello.purpose,
            method: self.hello.hint.method(),
            verified: self.welcome.compare,
            session_key,
            ticket,
        }
    }
}

/// Tells the desk when a walk-in is over, even if the future is dropped halfway.
struct Visit<'a> {
    desk: &'a PairingDesk,
    source: Source,
    agreed: Option<bool>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.desk.walk_in_ended(self.source, self.agreed);
    }
}

/// Whether a comparison failed in a way that an attacker's failure would look like; those are counted.
fn is_suspicious(error: &PairingError) -> bool {
    matches!(
        error,
        PairingError::SasMismatch
            | PairingError::BrokenCommitment
            | PairingError::Refused(Refusal::SasMismatch)
    )
}

fn pake_error(error: PakeError) -> PairingError {
    match error {
        PakeError::SelfPairing => PairingError::SelfPairing,
        PakeError::Reflected => PairingError::Reflected,
        PakeError::NotAPoint => PairingError::Malformed(Invalid::Value { what: "pake message" }),
        PakeError::Mismatch => PairingError::HostUnproven,
    }
}
