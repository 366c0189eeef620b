//! Going on through another relay when the one that carries a link dies.
//!
//! QUIC changes from one path of a connection to another by itself. A connection that is relayed has one path, and no other
//! can be added to it through a second relay. So when it falls silent, both devices dial each other anew at every relay
//! there is, beside the silent connection; the new one replaces it, and links resume on that without a loss. A connection on
//! which something is heard again meanwhile is kept: the other device was only busy.
//!
//! That has to be soon: what is sent to a relay that is gone waits inside iroh, and when 64 packets wait there, nothing
//! goes to any other relay either (see also [`honeylink_core::paths::Restraint`]).
//!
//! A device must be reachable at every relay it names, not only at the one it chose. iroh keeps a connection to
//! that one and to those it sends to; so this node sends something to each, often enough. It is addressed to a device that
//! does not exist, and ends at the relay.

use std::sync::Arc;
use std::time::Duration;

use honeylink_core::identity::{DeviceId, SecretKey};
use honeylink_core::paths::{Power, Silence};

use super::nat::is_passed_on;
use super::{Carriers, Inner};
use crate::carrier::{ALPN_LINK, Conn, ConnLost, code};

/// How often a connection is listened to; less than half of [`honeylink_core::paths::LOOK_LATE`].
const LISTEN_EVERY: Duration = Duration::from_millis(100);
/// Silence after which the peer is dialled anew: three times in a row it did not show that the way is alive.
const SILENT_MAX: Duration = Duration::from_millis(1100);
/// The same when the relay itself is known to be gone: long enough for one that was only started again.
const SILENT_AND_GONE_MAX: Duration = Duration::from_millis(300);
/// The device with the greater id leaves the first try to the other, which mostly makes its own needless.
const AFTER_YOU: Duration = Duration::from_millis(300);
/// Silence after which a connection is closed that keeps new ones from being tried elsewhere.
const CLOSED_AFTER: Duration = Duration::from_millis(1600);
/// Pause after a try that failed.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// iroh leaves a relay that it sent nothing to for a minute.
const CALL_EVERY: Duration = Duration::from_secs(40);

impl Inner {
    /// Replaces a connection that carries links and fell silent, if the peer may be at another relay; does nothing else, for
    /// as long as the connection lives.
    pub(super) async fn watch_silence(self: &Arc<Self>, conn: &Conn) {
        let quic = match &self.carriers {
            // Who asks seldom hears seldom: that silence says nothing.
            Carriers::Quic(quic) if quic.relays_matter() && quic.power() == Power::Mains => quic,
            Carriers::Quic(_) | Carriers::Memory(_) => return std::future::pending().await,
        };
        let peer = conn.peer();
        let politeness = if self.id < peer { Duration::ZERO } else { AFTER_YOU };
        let mut silence = Silence::default();
        loop {
            tokio::time::sleep(LISTEN_EVERY).await;
            let silent = silence.look(self.clock.now(), conn.heard());
            if silent < SILENT_AND_GONE_MAX || !self.has_a_detour(conn) {
                continue;
            }
            let gone = conn.lost_its_relay(quic);
            if silent < politeness + if gone { SILENT_AND_GONE_MAX } else { SILENT_MAX } {
                continue;
            }
            if conn.pins_a_relay() {
                // Whatever is dialled while it lives goes to the dead relay.
                if gone || silent >= CLOSED_AFTER {
                    tracing::info!(peer = %peer.short(), ?silent, "nothing is heard by the relay: closed");
                    conn.close(code::DONE, "nothing was heard");
                    self.pool.remove_lost(&peer);
                    let (stop, inner) = (self.stop.clone(), self.clone());
                    self.tasks
                        .spawn(async move { stop.run_until_cancelled(inner.dial_beside(None, peer)).await });
                    return std::future::pending().await;
                }
                continue;
            }
            tracing::info!(peer = %peer.short(), ?silent, "nothing is heard by the relay: trying all of them");
            tokio::select! {
                biased;
                () = until_heard(conn) => {}
                dialled = self.dial_beside(Some(conn), peer) => {
                    if let Err(why) = dialled {
                        tracing::debug!(peer = %peer.short(), %why, "no other relay has it");
                        tokio::time::sleep(AGAIN_AFTER).await;
                    }
                }
            }
        }
    }

    /// Whether links are on this connection, it is relayed, and the peer may be at another relay, or behind a paired device
    /// that relays.
    fn has_a_detour(&self, conn: &Conn) -> bool {
        let peer = conn.peer();
        is_passed_on(conn)
            && self.pool.is_current(conn)
            && (self.relays_of(&peer).len() > 1 || self.may_cross(&peer))
            && !self.pool.links_of(&peer).is_empty()
    }

    /// Dials a peer although there is a connection, `instead` of which the new one is to be used.
    async fn dial_beside(self: &Arc<Self>, instead: Option<&Conn>, peer: DeviceId) -> Result<(), ConnLost> {
        let one_at_a_time = self.pool.dialling(peer);
        let _turn = one_at_a_time.lock().await;
        let current = self.pool.current(&peer);
        if current.is_some() && !instead.is_some_and(|old| self.pool.is_current(old)) {
            return Ok(());
        }
        let conn = self.dial_alpn(peer, ALPN_LINK).await?;
        self.adopt(conn);
        Ok(())
    }

    /// Stays connected to every relay of this node, also to those that it did not choose.
    pub(super) async fn keep_relays(self: Arc<Self>) {
        let Carriers::Quic(quic) = &self.carriers else { return };
        if quic.own_relays().len() < 2 {
            return;
        }
        // A key that was drawn for this, of which nobody has the secret any more.
        let nobody = SecretKey::from_bytes(&self.random()).id();
        let calling = async {
            loop {
                quic.call_at_relays(nobody).await;
                tokio::time::sleep(CALL_EVERY).await;
            }
        };
        self.stop.run_until_cancelled(calling).await;
    }
}

/// Waits until a packet comes.
async fn until_heard(conn: &Conn) {
    let before = conn.heard();
    while conn.heard() == before {
        tokio::time::sleep(LISTEN_EVERY).await;
    }
}
