//! Asking two people whether their devices show the same short string.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "of each frame, exactly one kind is due and every other is not"
)]

use honeylink_core::limits::PAIRING_COMPARE_MAX;
use honeylink_core::pairing::frame::Frame;
use honeylink_core::pairing::sas::{GuestCommitted, HostReplied, Sas, SasContext, SasError};
use honeylink_core::rng::Rng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::wire::{Wire, out_of_turn};
use super::{Compare, DeviceCard, Here, PairingError, SasPrompt};

impl Compare {
    /// Whether somebody here can be asked.
    pub(super) const fn is_able(&self) -> bool {
        match self {
            Self::Unable => false,
            Self::IfAsked(_) | Self::Always(_) => true,
        }
    }

    /// Whether this side asks for a comparison of its own accord.
    pub(super) const fn is_wanted(&self) -> bool {
        match self {
            Self::Unable | Self::IfAsked(_) => false,
            Self::Always(_) => true,
        }
    }

    async fn ask(&self, prompt: SasPrompt) -> Result<(), PairingError> {
        match self {
            Self::Unable => Err(PairingError::NobodyToCompare),
            Self::IfAsked(prompts) | Self::Always(prompts) => {
                prompts.send(prompt).await.map_err(|_| PairingError::Cancelled)
            }
        }
    }
}

/// The guest's side: commit, hear the host's nonce, open, and ask.
pub(super) async fn as_guest<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<'_, S>,
    here: &Here,
    context: &SasContext,
    rng: &mut Rng,
) -> Result<(), PairingError> {
    let (committed, commitment) = GuestCommitted::start(context, rng).map_err(sas_error)?;
    wire.send(&Frame::SasCommit(commitment), "sas-reply").await?;
    let nonce = match wire.receive("sas-reply").await? {
        Frame::SasReply(nonce) => nonce,
        other => return Err(out_of_turn("sas-reply", &other)),
    };
    let (sas, opening) = committed.host_replied(&nonce);
    wire.send(&Frame::SasOpen(opening), "sas-agree").await?;
    agree(wire, here, sas, &context.host_card).await
}

/// The host's side: hear the commitment, answer, check the opening, and ask.
pub(super) async fn as_host<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<'_, S>,
    here: &Here,
    context: &SasContext,
    rng: &mut Rng,
) -> Result<(), PairingError> {
    let commitment = match wire.receive("sas-commit").await? {
        Frame::SasCommit(commitment) => commitment,
        other => return Err(out_of_turn("sas-commit", &other)),
    };
    let (replied, nonce) = HostReplied::start(context, commitment, rng).map_err(sas_error)?;
    wire.send(&Frame::SasReply(nonce), "sas-open").await?;
    let opening = match wire.receive("sas-open").await? {
        Frame::SasOpen(opening) => opening,
        other => return Err(out_of_turn("sas-open", &other)),
    };
    let sas = replied.guest_opened(&opening).map_err(sas_error)?;
    agree(wire, here, sas, &context.guest_card).await
}

/// Asks the person here and waits for the word of the person there; both must say yes. While one thinks, the other's no
/// is heard at once, and dropping the prompt's question tells the screen to forget it.
async fn agree<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<'_, S>,
    here: &Here,
    sas: Sas,
    card: &DeviceCard,
) -> Result<(), PairingError> {
    let (answer, mut answered) = oneshot::channel();
    let both = async {
        here.compare.ask(SasPrompt { sas, peer: here.peer, card: card.clone(), answer }).await?;
        let (mut ours, mut theirs) = (false, false);
        while !(ours && theirs) {
            tokio::select! {
                biased;
                answer = &mut answered, if !ours => match answer {
                    Ok(true) => {
                        ours = true;
                        wire.send(&Frame::SasAgree, "sas-agree").await?;
                    }
                    Ok(false) => return Err(PairingError::SasMismatch),
                    Err(_) => return Err(PairingError::Cancelled),
                },
                frame = wire.receive_unhurried("sas-agree"), if !theirs => match frame? {
                    Frame::SasAgree => theirs = true,
                    other => return Err(out_of_turn("sas-agree", &other)),
                },
            }
        }
        Ok(())
    };
    timeout(PAIRING_COMPARE_MAX, both).await.unwrap_or(Err(PairingError::TimedOut("sas-agree")))
}

fn sas_error(error: SasError) -> PairingError {
    match error {
        SasError::SelfPairing => PairingError::SelfPairing,
        SasError::BrokenCommitment => PairingError::BrokenCommitment,
    }
}
