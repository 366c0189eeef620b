//! This node as a ferry: carries packets between paired devices that it has granted `relay`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use honeylink_core::ferry::desk::Asked;
use honeylink_core::ferry::talk::{Handle, Refusal, Talk};
use honeylink_core::ferry::{CALL_MAX, Dropped, NO_AFTER};
use honeylink_core::identity::DeviceId;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Inner, hear, say, until_roomy};
use crate::carrier::ferry::put;
use crate::carrier::{Conn, ConnLost, RecvStream, SendStream, code};

/// Questions of one guest that are being answered at a time.
const QUESTIONS_MAX: usize = 16;
/// A question must be there within this time, and its answer taken.
const SAYING_MAX: Duration = Duration::from_secs(10);

impl Inner {
    /// A paired device wants packets carried.
    pub(in crate::node) fn guest_arrived(self: &Arc<Self>, conn: Conn) {
        let guest = conn.peer();
        if !self.store.trust().grants(&guest).relay {
            conn.close(code::NOT_GRANTED, "it does not relay for this device: there, grant it relay=yes");
            return;
        }
        if conn.is_ferried() {
            conn.close(code::NOT_GRANTED, "a device that relays is not itself reached through another");
            return;
        }
        let inner = self.clone();
        self.tasks.spawn(async move {
            let lost = tokio::select! {
                biased;
                lost = conn.closed() => lost,
                lost = inner.serve_guest(&conn) => lost,
                // Not sooner: links that are carried here may have something left to say.
                () = inner.over.cancelled() => ConnLost::ByUs,
            };
            inner.let_go(&conn);
            tracing::debug!(guest = %guest.short(), %lost, "a guest's connection ended");
        });
    }

    async fn serve_guest(self: &Arc<Self>, conn: &Conn) -> ConnLost {
        until_roomy(conn).await;
        if !self.take_in(conn) {
            conn.close(code::TOO_MANY, "it relays for as many devices as it may");
            return ConnLost::ByUs;
        }
        let questions = async {
            let room = Arc::new(Semaphore::new(QUESTIONS_MAX));
            loop {
                let Ok(permit) = room.clone().acquire_owned().await else { return ConnLost::ByUs };
                let (send, recv) = match conn.accept().await {
                    Ok(halves) => halves,
                    Err(lost) => return lost,
                };
                let (inner, conn) = (self.clone(), conn.clone());
                self.tasks.spawn(async move {
                    let over = inner.over.clone();
                    over.run_until_cancelled(inner.serve_question(&conn, send, recv)).await;
                    drop(permit);
                });
            }
        };
        let packets = async {
            loop {
                match conn.read_datagram().await {
                    Ok(datagram) => self.carry(conn, datagram),
                    Err(lost) => return lost,
                }
            }
        };
        tokio::select! {
            biased;
            lost = questions => lost,
            lost = packets => lost,
        }
    }

    /// Makes a device a guest, on this connection instead of an older one. Asks for its right once more, with the place
    /// taken: whoever takes the right away looks for the guest afterwards.
    fn take_in(&self, conn: &Conn) -> bool {
        let guest = conn.peer();
        let mut guests = self.ferry.guests();
        if self.ferry.desk().welcome(guest).is_err() {
            return false;
        }
        if let Some(before) = guests.insert(guest, conn.clone()) {
            before.close(code::DONE, "replaced by a newer connection");
        }
        drop(guests);
        self.ferry_look(&guest);
        true
    }

    /// A connection of a guest is over.
    fn let_go(&self, conn: &Conn) {
        let guest = conn.peer();
        let mut guests = self.ferry.guests();
        if guests.get(&guest).is_some_and(|current| current.is(conn)) {
            guests.remove(&guest);
            self.ferry.desk().leave(&guest);
        }
    }

    /// What a device may do has changed: if packets are not to be carried for it any more, that ends now.
    pub(in crate::node) fn ferry_look(&self, guest: &DeviceId) {
        if self.store.trust().grants(guest).relay {
            return;
        }
        let mut guests = self.ferry.guests();
        if let Some(conn) = guests.remove(guest) {
            self.ferry.desk().leave(guest);
            conn.close(code::NOT_GRANTED, "it does not relay for this device any more");
        }
    }

    /// Carries one packet, or tells its sender that it leads nowhere.
    fn carry(&self, from: &Conn, datagram: Bytes) {
        let Some((handle, packet)) = Handle::split(datagram) else { return };
        let carried = self.ferry.desk().carry(self.clock.now(), &from.peer(), handle, packet.len());
        match carried {
            Ok((to, number)) => {
                let conn = self.ferry.guests().get(&to).cloned();
                if !conn.is_some_and(|conn| put(&conn, number.before(&packet))) {
                    self.ferry.dropped_full.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(Dropped::Nowhere) => {
                // It knows then that it has to ask again. Whether it hears that is not worth waiting for.
                put(from, handle.nowhere());
            }
            Err(Dropped::Guest | Dropped::Full) => {}
        }
    }

    async fn serve_question(&self, conn: &Conn, mut send: SendStream, mut recv: RecvStream) {
        let Ok(Ok(asked)) = tokio::time::timeout(SAYING_MAX, hear(&mut recv)).await else { return };
        let began = Instant::now();
        let answer = match asked {
            Ok(Talk::Ask { device }) => self.bring_together(&conn.peer(), &device).await,
            Ok(Talk::Yes { .. } | Talk::Call { .. } | Talk::Here | Talk::No(_)) => return,
            Err(why) => Err(why),
        };
        if answer == Err(Refusal::NotHere) {
            // However it was found out, and how long that took: it sounds the same.
            tokio::time::sleep_until(began + NO_AFTER).await;
        }
        let answer = answer.map_or_else(Talk::No, |handle| Talk::Yes { handle });
        let telling = async {
            say(&mut send, answer).await?;
            send.finished().await
        };
        // It may have gone away.
        let _ = tokio::time::timeout(SAYING_MAX, telling).await;
    }

    /// Has packets carried between two guests, if the one that is asked for wants that too.
    async fn bring_together(&self, from: &DeviceId, to: &DeviceId) -> Result<Handle, Refusal> {
        let asked = self.ferry.desk().ask(self.clock.now(), from, to)?;
        let called = match asked {
            Asked::Open(handle) => return Ok(handle),
            Asked::Call(called) => called,
        };
        let conn = self.ferry.guests().get(to).cloned();
        let agrees = match conn {
            Some(conn) => tokio::time::timeout(CALL_MAX, call(&conn, *from, called)).await,
            None => Ok(false),
        };
        self.ferry.desk().answered(self.clock.now(), to, called, agrees.unwrap_or(false))
    }
}

/// Whether a guest wants to hear from another.
async fn call(conn: &Conn, device: DeviceId, handle: Handle) -> bool {
    let calling = async {
        let (mut send, mut recv) = conn.open().await.ok()?;
        say(&mut send, Talk::Call { device, handle }).await.ok()?;
        hear(&mut recv).await.ok()?.ok()
    };
    calling.await == Some(Talk::Here)
}
