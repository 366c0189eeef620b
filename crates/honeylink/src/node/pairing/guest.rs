//! The device where a code is typed: finding the one that shows it, and presenting it.

use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::pairing::code::NEARBY_NAMEPLATE_MAX;
use honeylink_core::rng::Rng;

use super::{FetchStream, Inner, JoinError};
use crate::carrier::{ALPN_PAIR, Conn, ConnLost, code};
use crate::discovery::{Device, PairingHint};
use crate::pairing::{Compare, Errand, Hint, Paired, PairingError, guest};

/// How long a guest looks for a device that shows the code. Whoever shows one announces it at once and again when asked,
/// so longer than this is for nobody but the person who waits.
const SHOWN_MAX: Duration = Duration::from_secs(5);
/// How long a guest looks for the addresses of a device it knows by name.
const SEARCH_MAX: Duration = Duration::from_secs(15);

impl Inner {
    /// Plays the guest: finds the device, connects, runs the ceremony.
    pub(super) async fn present(
        &self,
        errand: &Errand,
        device: Option<DeviceId>,
        compare: Compare,
    ) -> Result<(Paired, FetchStream), JoinError> {
        let peer = self.find_host(errand, device).await?;
        if peer == self.id {
            return Err(PairingError::SelfPairing.into());
        }
        let conn = self.dial_alpn(peer, ALPN_PAIR).await.map_err(JoinError::Unreachable)?;
        let outcome = self.present_on(&conn, errand, compare).await;
        if let Err(error) = &outcome {
            conn.close(code::DONE, "the ceremony failed");
            if let JoinError::Ceremony(error) = error {
                self.audit_pairing_failed(&conn, error);
            }
        }
        outcome
    }

    async fn present_on(
        &self,
        conn: &Conn,
        errand: &Errand,
        compare: Compare,
    ) -> Result<(Paired, FetchStream), JoinError> {
        let here = self.here(conn, compare)?;
        let (send, recv) = conn.open().await.map_err(turned_away)?;
        let mut stream = tokio::io::join(recv, send);
        let mut rng = Rng::from_seed(self.random());
        let paired = match guest(&mut stream, &here, errand, &mut rng).await {
            Ok(paired) => paired,
            // A closed connection says more than the stream that died with it.
            Err(error) => match conn.lost() {
                Some(lost @ ConnLost::ByPeer { .. }) => return Err(turned_away(lost)),
                Some(_) | None => return Err(error.into()),
            },
        };
        let (recv, send) = stream.into_inner();
        let stream =
            FetchStream { peer: paired.peer, name: paired.name.clone(), send, recv, conn: conn.clone() };
        Ok((paired, stream))
    }

    /// The device that shows what the person holds.
    async fn find_host(&self, errand: &Errand, device: Option<DeviceId>) -> Result<DeviceId, JoinError> {
        if let Errand::Invite(invite) = errand {
            self.add_addresses(invite.host(), invite.addresses());
            self.add_relays(invite.host(), invite.relay().map_or(&[], std::slice::from_ref));
            return Ok(invite.host());
        }
        if let Some(device) = device {
            self.await_addresses(&device).await;
            return Ok(device);
        }
        let hint = match errand {
            Errand::Code(code, _) => code.hint(),
            Errand::Invite(_) | Errand::Compare => Hint::Sas,
        };
        match hint {
            Hint::Words(number) if self.wide.is_on() => self.find_near_or_far(hint, number).await,
            Hint::Words(number) if number > NEARBY_NAMEPLATE_MAX => {
                let found = self.find_nearby(hint).await;
                if matches!(found, Err(JoinError::NobodyShowsIt)) { Err(JoinError::OnlyFar) } else { found }
            }
            Hint::Words(_) | Hint::Digits | Hint::Sas | Hint::Invite(_) => self.find_nearby(hint).await,
        }
    }

    /// Looks for the device that shows a code on the local networks and in the DHT at the same time.
    async fn find_near_or_far(&self, hint: Hint, number: u16) -> Result<DeviceId, JoinError> {
        let (mut near, mut far) = (Box::pin(self.find_nearby(hint)), Box::pin(self.find_code_note(number)));
        tokio::select! {
            biased;
            found = &mut near => match found {
                Err(JoinError::NobodyShowsIt) => far.await,
                found => found,
            },
            found = &mut far => match found {
                // Whoever is in the same room can do without the DHT.
                Err(error) => near.await.map_err(|_| error),
                found => found,
            },
        }
    }

    async fn find_nearby(&self, hint: Hint) -> Result<DeviceId, JoinError> {
        let Some(discovery) = &self.discovery else {
            return Err(JoinError::NobodyShowsIt);
        };
        let mut events = discovery.events();
        let search = async {
            loop {
                match matching(&discovery.snapshot(), hint).as_slice() {
                    [] => {}
                    [one] => return Ok(one.id),
                    several => {
                        let names: Vec<_> = several.iter().map(|d| d.name.as_str()).collect();
                        return Err(JoinError::Ambiguous(names.join(", ")));
                    }
                }
                if events.next().await.is_none() {
                    return Err(JoinError::NobodyShowsIt);
                }
            }
        };
        tokio::time::timeout(SHOWN_MAX, search).await.unwrap_or(Err(JoinError::NobodyShowsIt))
    }

    /// Waits until discovery knows where a device is, or until it should have: dialling says then what is missing.
    async fn await_addresses(&self, device: &DeviceId) {
        let Some(discovery) = &self.discovery else {
            return;
        };
        let mut events = discovery.events();
        let known = async { while self.addresses(device).is_empty() && events.next().await.is_some() {} };
        let _ = tokio::time::timeout(SEARCH_MAX, known).await;
    }
}

/// Why a device that could be reached did not begin a ceremony.
fn turned_away(lost: ConnLost) -> JoinError {
    let not_open =
        matches!(&lost, ConnLost::ByPeer { code: why, .. } if *why == u64::from(code::NOT_PAIRING));
    if not_open { JoinError::NotOpen } else { JoinError::Unreachable(lost) }
}

/// The devices whose announcement fits what the person holds.
fn matching(devices: &[Device], hint: Hint) -> Vec<&Device> {
    let fits = |device: &&Device| match hint {
        Hint::Words(number) => device.pairing == PairingHint::Nameplate(number),
        Hint::Digits | Hint::Sas | Hint::Invite(_) => device.pairing != PairingHint::Closed,
    };
    devices.iter().filter(fits).collect()
}
