//! The device that shows a code: opening it, taking in whoever knocks.

use std::sync::Arc;
use std::time::Duration;

use honeylink_core::limits::PAIRING_CODE_LIFETIME;
use tokio::sync::mpsc;

use super::{
    EVENT_QUEUE, FAREWELL, FetchStream, Inner, PairingEvent, PairingOpening, PairingOptions, Watcher, tell,
};
use crate::carrier::{Conn, code};
use crate::pairing::{Compare, Form, OpenError, Order, Purpose, SasPrompt, Source, host};

/// A stranger's ceremony stream must be opened within this time.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);

impl Inner {
    pub(super) fn open_code(
        self: &Arc<Self>,
        purpose: Purpose,
        options: PairingOptions,
    ) -> Result<PairingOpening, OpenError> {
        let order = Order {
            form: if options.digits { Form::Digits } else { Form::Words },
            wide: self.wide.is_on(),
            purpose,
            lifetime: PAIRING_CODE_LIFETIME,
            host: self.id,
            addresses: self.own_addrs(),
            relay: self.invite_relay(),
        };
        let opened = self.pairing.desk.open(&order)?;
        if purpose == Purpose::Pair {
            self.pairing.desk.open_walk_ins(PAIRING_CODE_LIFETIME);
        }
        if let Some(number) = opened.code.nameplate().filter(|_| self.wide.is_on()) {
            self.tasks.spawn(self.clone().keep_code_note(number));
        }
        let (sender, events) = mpsc::channel(EVENT_QUEUE);
        self.pairing.openings().insert(opened.ticket, Watcher { events: sender, options });
        Ok(PairingOpening {
            code: opened.code.reveal().to_string(),
            invite: opened.invite.to_qr_text().to_string(),
            link: opened.invite.to_link().to_string(),
            lifetime: opened.lifetime,
            ticket: opened.ticket,
            events,
            hub: self.pairing.clone(),
        })
    }

    /// A connection for pairing arrived.
    pub(in crate::node) fn pairing_arrived(self: &Arc<Self>, conn: Conn) {
        if !self.pairing.desk.is_open() {
            conn.close(code::NOT_PAIRING, "this device is not in pairing mode");
            return;
        }
        let Ok(permit) = self.strangers.clone().try_acquire_owned() else {
            conn.close(code::TOO_MANY, "too many devices are trying to pair");
            return;
        };
        let inner = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = inner.receive_guest(&conn) => {}
                () = inner.stop.cancelled() => conn.close(code::SHUTDOWN, "shutting down"),
            }
            drop(permit);
        });
    }

    async fn receive_guest(self: &Arc<Self>, conn: &Conn) {
        let peer = conn.peer();
        let Ok(Ok((send, recv))) = tokio::time::timeout(STREAM_TIMEOUT, conn.accept()).await else {
            conn.close(code::VIOLATION, "no ceremony was begun");
            return;
        };
        let watcher = self.pairing.newest();
        if let Some(watcher) = &watcher {
            // Not waited for: a screen that is busy must not keep guests at the door.
            let _ = watcher.events.try_send(PairingEvent::Knock(peer));
        }
        let compare = self.compare_here(watcher.as_ref());
        let here = match self.here(conn, compare) {
            Ok(here) => here,
            Err(error) => {
                tracing::warn!(%error, "cannot take part in pairing");
                return;
            }
        };
        let source =
            conn.remote_addr().map_or_else(|| Source::named(peer.as_bytes()), |a| Source::of(a.ip()));
        let mut stream = tokio::io::join(recv, send);
        let outcome = host(&mut stream, &here, source, &self.pairing.desk).await;
        let (recv, send) = stream.into_inner();
        let ticket = outcome.as_ref().ok().and_then(|paired| paired.ticket);
        let watcher = self.pairing.watcher(ticket);
        let event = match outcome {
            Err(error) => {
                self.audit_pairing_failed(conn, &error);
                PairingEvent::Failed(error)
            }
            Ok(paired) if paired.purpose == Purpose::Fetch => {
                let conn = conn.clone();
                PairingEvent::Fetch(Box::new(FetchStream { peer, name: paired.name, send, recv, conn }))
            }
            Ok(paired) => {
                let name = watcher.as_ref().and_then(|w| w.options.name.clone());
                let recorded = self.record(&paired, name).await;
                // The guest got the last frame and closes.
                let _ = tokio::time::timeout(FAREWELL, conn.closed()).await;
                match recorded {
                    Ok(record) => PairingEvent::Paired(Box::new(record)),
                    Err(error) => PairingEvent::NotRecorded(error),
                }
            }
        };
        match (watcher, event) {
            (Some(watcher), event) => tell(&watcher, event).await,
            (None, PairingEvent::Failed(error)) => {
                tracing::info!(peer = %peer.short(), %error, "pairing failed");
            }
            (None, _) => {}
        }
    }

    /// Forwards questions to whoever watches the opening.
    fn compare_here(self: &Arc<Self>, watcher: Option<&Watcher>) -> Compare {
        let Some(watcher) = watcher.cloned() else {
            return Compare::Unable;
        };
        let verify = watcher.options.verify;
        let (prompts, mut asked) = mpsc::channel::<SasPrompt>(1);
        self.tasks.spawn(async move {
            while let Some(prompt) = asked.recv().await {
                tell(&watcher, PairingEvent::Compare(prompt)).await;
            }
        });
        if verify { Compare::Always(prompts) } else { Compare::IfAsked(prompts) }
    }
}
