//! What this node decides about other devices: every change of trust goes through here, so that the store, the audit
//! log, discovery and live connections agree.

use std::sync::PoisonError;
use std::time::Duration;

use honeylink_core::identity::DeviceId;
use honeylink_core::wire::link::CloseCode;
use tokio::time::Instant;

use super::{Inner, Node};
use crate::carrier::{Conn, code};
use crate::clock::unix_ms;
use crate::link::Link;
use crate::pairing::PairingError;
use crate::store::audit::AuditEvent;
use crate::store::grants::{GrantChange, Grants};
use crate::store::{
    ChangePeerError, Forgotten, NewPeer, OnNameTaken, PairError, PeerRecord, StateError, TrustStore,
};

/// Rejections are counted over this time.
const REJECTION_WINDOW: Duration = Duration::from_secs(60);
/// Rejections written to the audit log and the log per window.
const REJECTIONS_PER_WINDOW_MAX: u32 = 20;

/// How many devices were turned away lately.
#[derive(Debug)]
pub(super) struct RejectionWindow {
    since: Instant,
    count: u32,
}

impl RejectionWindow {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), count: 0 }
    }
}

impl Node {
    /// Gives a peer another name here.
    ///
    /// # Errors
    /// [`ChangePeerError`] if the device is unknown, the name unusable or taken.
    pub async fn rename_peer(&self, id: DeviceId, name: &str) -> Result<PeerRecord, ChangePeerError> {
        let wanted = name.to_owned();
        let record = self.inner.on_disk(move |trust| trust.rename(&id, &wanted)).await?;
        self.inner.audit(&AuditEvent::Renamed { peer: id, name: &record.name });
        self.inner.mark_known();
        Ok(record)
    }

    /// Forgets a peer: it has to pair again. Its connections end at once.
    ///
    /// # Errors
    /// [`StateError`] if the decision could not be written; then nothing changed.
    pub async fn forget_peer(&self, id: DeviceId) -> Result<Forgotten, StateError> {
        let outcome = self.inner.on_disk(move |trust| trust.forget(&id)).await?;
        self.inner.part_from(&id, code::NOT_PAIRED, "not paired with this device any more");
        self.inner.audit(&AuditEvent::PeerForgotten { peer: id });
        self.inner.mark_known();
        Ok(outcome)
    }

    /// Revokes a device for ever. Its connections end at once.
    ///
    /// # Errors
    /// [`StateError`] if the decision could not be written; then nothing changed.
    pub async fn revoke_peer(&self, id: DeviceId) -> Result<PeerRecord, StateError> {
        let record = self.inner.on_disk(move |trust| trust.revoke(&id, unix_ms())).await?;
        self.inner.part_from(&id, code::REVOKED, "this device was revoked here");
        self.inner.audit(&AuditEvent::PeerRevoked { peer: id });
        self.inner.mark_known();
        Ok(record)
    }

    /// Changes what a peer may do.
    ///
    /// # Errors
    /// [`ChangePeerError`] if the device is not paired.
    pub async fn change_grants(
        &self,
        id: DeviceId,
        changes: Vec<GrantChange>,
    ) -> Result<PeerRecord, ChangePeerError> {
        let record = self.inner.on_disk(move |trust| trust.change_grants(&id, &changes)).await?;
        self.inner.ferry_look(&id);
        self.inner.audit(&AuditEvent::GrantsChanged { peer: id, grants: &record.grants.to_string() });
        Ok(record)
    }

    /// What a peer may do: nothing if it is not paired.
    #[must_use]
    pub fn grants(&self, id: &DeviceId) -> Grants {
        self.inner.store.trust().grants(id)
    }
}

impl Inner {
    /// Ends what a device has open here, once it has lost its right to it. A link of its own would else wait, suspended,
    /// for a peer that may not come back.
    fn part_from(&self, id: &DeviceId, code: u32, reason: &str) {
        self.pool.close_peer(id, code, reason);
        self.way_book.forget(id);
        self.ferry_look(id);
        if let Some(mesh) = &self.mesh {
            mesh.part(*id);
        }
        for link in self.pool.links_of(id) {
            link.abandon(CloseCode::NotAllowed, reason);
        }
    }

    /// Runs a decision that waits for the disk where waiting is allowed.
    async fn on_disk<T: Send + 'static>(&self, decide: impl FnOnce(&TrustStore) -> T + Send + 'static) -> T {
        let store = self.store.clone();
        super::on_disk(move || decide(store.trust())).await
    }

    /// Records a device that finished a ceremony.
    pub(super) async fn record_new(&self, new: NewPeer, verified: bool) -> Result<PeerRecord, PairError> {
        let id = new.id;
        let method = new.method;
        let paired = self.on_disk(move |trust| trust.pair(&new, OnNameTaken::Refuse, unix_ms())).await;
        let mut record = match paired {
            Ok(record) => record,
            Err(error) => {
                if let PairError::NameTaken(taken) = &error {
                    self.audit_impostor(taken.existing, taken.offered, &taken.name);
                }
                return Err(error);
            }
        };
        self.audit(&AuditEvent::Paired { peer: id, name: &record.name, method });
        if verified && let Ok(raised) = self.on_disk(move |trust| trust.verify(&id)).await {
            self.audit(&AuditEvent::Verified { peer: id });
            record = raised;
        }
        Ok(record)
    }

    pub(super) fn audit_pairing_failed(&self, conn: &Conn, error: &PairingError) {
        let reason = error.to_string();
        let from = conn.remote_addr().map_or_else(String::new, |addr| addr.to_string());
        self.audit(&AuditEvent::PairingFailed { peer: Some(conn.peer()), from: &from, reason: &reason });
    }

    pub(super) fn audit_impostor(&self, known: DeviceId, offered: DeviceId, name: &str) {
        tracing::warn!(
            known = %known.short(), offered = %offered.short(),
            "a device shows a known name or address under another key; it is not trusted"
        );
        self.audit(&AuditEvent::KeyChanged { known, offered, name });
    }

    pub(super) fn audit_session(&self, link: &Link) {
        let path = link.path().map_or_else(String::new, |path| {
            format!("{} {} {}", path.rung.as_str(), path.carrier, path.remote)
        });
        self.audit(&AuditEvent::SessionEstablished { peer: link.peer(), path: &path });
    }

    /// Notes that a device was turned away. Strangers cause this, so only so many lines a minute are written: a flood
    /// must not push older lines out of the log.
    pub(super) fn audit_rejected(&self, peer: DeviceId, reason: &str) {
        let mut window = self.rejections.lock().unwrap_or_else(PoisonError::into_inner);
        if window.since.elapsed() >= REJECTION_WINDOW {
            *window = RejectionWindow::new();
        }
        window.count += 1;
        let write = window.count <= REJECTIONS_PER_WINDOW_MAX;
        drop(window);
        if write {
            tracing::info!(peer = %peer.short(), reason, "turned a device away");
            self.audit(&AuditEvent::SessionRejected { peer, reason });
        } else {
            tracing::debug!(peer = %peer.short(), reason, "turned a device away");
        }
    }

    /// Writes a line of the audit log, if this node keeps one.
    pub(super) fn audit(&self, event: &AuditEvent<'_>) {
        if let Some(audit) = &self.audit {
            audit.record(event, unix_ms());
        }
    }
}
